package authority

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/signin"
	"github.com/hawser/hawser/internal/store"
)

const logoutPurpose = "authority logout"

// leave is a request to sign out, and travels sealed in the page that asks.
type leave struct {
	User  string `json:"user,omitempty"` // "" for everybody in the browser
	After string `json:"after,omitempty"`
}

// logout serves the endpoint where sessions end. Without a token of the
// person's own (id_token_hint) it asks first, since any page could send a
// browser here. Source: OpenID Connect RP-Initiated Logout 1.0 §2, §6.
func (a *Authority) logout(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
	query := r.URL.RawQuery
	if r.Method == http.MethodPost {
		query = string(r.Body)
	}
	if len(query) > maxAuthorize+maxToken {
		return nil, malformed("The request's parameters are too long.")
	}
	form, err := parseForm(query)
	if err != nil {
		return nil, err
	}
	if _, err := a.tenantOf(r.PathValue("tenant")); err != nil {
		return nil, requestTenant(err)
	}
	if err := a.store.Confirm(ctx); err != nil {
		return nil, err
	}
	if r.Method == http.MethodPost && form["state"] != "" && form["answer"] != "" {
		return a.confirmedLogout(ctx, r, form)
	}
	sessions, err := a.signin.Sessions(ctx, r)
	if err != nil {
		return nil, err
	}
	l, sure, err := a.readLeave(ctx, sessions, form)
	if err != nil {
		return nil, err
	}
	if sure || len(sessions) == 0 {
		return a.leave(ctx, r, l)
	}
	text, header, err := a.signin.Hide(r, logoutPurpose, l)
	if err != nil {
		return nil, err
	}
	return withHeader(a.signin.Page(r, http.StatusOK, signin.LeavePage{State: text, Action: r.URL.Path}), header), nil
}

func (a *Authority) confirmedLogout(ctx context.Context, r *rest.Request, form map[string]string) (*rest.Reply, error) {
	var l leave
	if err := a.signin.Reveal(r, logoutPurpose, form["state"], &l); err != nil {
		return nil, err
	}
	if form["answer"] != "accept" {
		return a.signin.Page(r, http.StatusOK, signin.ContinuePage{URL: "/account"}), nil
	}
	return a.leave(ctx, r, l)
}

// readLeave finds who leaves and where the browser goes then. sure says that
// the request showed a token of somebody who is signed in here.
func (a *Authority) readLeave(ctx context.Context, sessions []signin.Session, form map[string]string) (l leave, sure bool, err error) {
	clientID := form["client_id"]
	if hint := form["id_token_hint"]; hint != "" && len(hint) <= maxToken {
		c := new(claims)
		_, why, err := a.opened(ctx, hint, c)
		if err != nil {
			return l, false, err
		}
		// A token that has ended says as well as another who was signed in.
		if why == "" && c.TID == a.names.Tenant && c.IdTyp == "" && az.IsGUID(c.Aud) && (clientID == "" || strings.EqualFold(clientID, c.Aud)) {
			clientID = c.Aud
			for _, s := range sessions {
				sure = sure || s.ID == c.SID && s.User == c.OID
			}
			l.User = among(sessions, c.OID)
		}
	}
	if l.User == "" && form["logout_hint"] != "" {
		if o, ok, err := a.dir.UserByUPN(ctx, form["logout_hint"]); err != nil {
			return l, false, err
		} else if ok {
			l.User = among(sessions, o.ID)
		}
	}
	l.After, err = a.afterLogout(ctx, clientID, form["post_logout_redirect_uri"], form["state"])
	return l, sure, err
}

// among returns a person who is signed in in the browser, "" for anybody else:
// to end nobody's session and say "you are signed out" would be a lie.
func among(sessions []signin.Session, user string) string {
	if slices.ContainsFunc(sessions, func(s signin.Session) bool { return s.User == user }) {
		return user
	}
	return ""
}

// afterLogout is where the browser goes: only to an address that the client
// registered.
func (a *Authority) afterLogout(ctx context.Context, clientID, uri, state string) (string, error) {
	if uri == "" || !az.IsGUID(clientID) {
		return "", nil
	}
	c, ok, err := a.dir.Client(ctx, clientID)
	if err != nil || !ok || c.Principal == nil || !c.Principal.Enabled {
		return "", err
	}
	f := c.Facts()
	if _, ok := matchRedirect(f, uri); !ok && (uri != f.LogoutURL || !safeRedirect(uri)) {
		return "", nil
	}
	if state == "" {
		return uri, nil
	}
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	return uri + sep + "state=" + url.QueryEscape(state), nil
}

// leave ends sessions, what is bound to them, and tells their clients.
func (a *Authority) leave(ctx context.Context, r *rest.Request, l leave) (*rest.Reply, error) {
	ended, header, err := a.signin.SignOut(ctx, r, l.User)
	if err != nil {
		return nil, err
	}
	frames, err := a.framesOf(ctx, r, ended)
	if err != nil {
		return nil, err
	}
	if len(frames) > 0 || l.After == "" || r.Method == http.MethodPost {
		return withHeader(a.signin.Page(r, http.StatusOK, signin.SignedOutPage{Frames: frames, Continue: l.After}), header), nil
	}
	reply := seeOther(l.After)
	return withHeader(reply, header), nil
}

// framesOf lists the addresses by which the clients of sessions are told.
// The refresh tokens that are bound to the sessions ended with them; those of
// native clients stay, as at Entra: signing out of a browser does not sign out
// the command line.
func (a *Authority) framesOf(ctx context.Context, r *rest.Request, ended []signin.Session) (frames []string, err error) {
	issuer := a.issuerV2(a.names.Classify(r.Host))
	for _, s := range ended {
		clients, err := a.store.SessionClients(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		for _, id := range clients {
			c, ok, err := a.dir.Client(ctx, id)
			if err != nil {
				return nil, err
			}
			if ok {
				frames = appendFrame(frames, c.Facts(), issuer, s.ID)
			}
		}
	}
	return frames, nil
}

// maxFrames bounds the clients that one page tells.
const maxFrames = 50

// appendFrame adds a client's front-channel logout address. Source: OpenID
// Connect Front-Channel Logout 1.0 §2.
func appendFrame(frames []string, f *directory.Facts, issuer, sid string) []string {
	u, err := url.Parse(f.LogoutURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(frames) >= maxFrames {
		return frames
	}
	q := u.Query()
	q.Set("iss", issuer)
	q.Set("sid", sid)
	u.RawQuery = q.Encode()
	return append(frames, u.String())
}

// noteClient remembers that a client was signed in to with a session.
func (a *Authority) noteClient(ctx context.Context, by signed, client string) error {
	if by.Session == "" {
		return nil
	}
	return a.store.Write(ctx, func(tx *store.Tx) error {
		return tx.NoteSessionClient(by.Session, client, az.MicrosOf(a.clock().Add(sessionClientLife)))
	})
}
