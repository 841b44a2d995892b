package easyauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// endpoint answers what lies below the prefix. Nothing there reaches the app.
func (v *visit) endpoint(path string) {
	if !plainPath(v.r.URL) {
		v.page(http.StatusBadRequest, "The address cannot be read", "Write it without escapes and doubled slashes.")
		return
	}
	path = strings.ToLower(strings.TrimSuffix(path, "/"))
	switch {
	case path == "/me":
		v.me()
	case path == "/refresh":
		v.refresh()
	case path == "/logout":
		v.logout()
	case path == "/logout/complete", path == "/logout/done":
		v.loggedOut()
	case path == "/logout/frontchannel":
		v.leftElsewhere()
	case path == "/login/done":
		v.show(http.StatusOK, pageText{Title: "You are signed in", Text: "You may close this page or go on to the app.", Link: "/", LinkText: "To the app"})
	case path == "/login/aad/callback":
		v.callback()
	case strings.HasPrefix(path, "/login/") && strings.Count(path, "/") == 2:
		v.login(strings.TrimPrefix(path, "/login/"))
	default:
		v.page(http.StatusNotFound, "Nothing here", "The sign-in of this app has no such address.")
	}
}

// meEntry is what /.auth/me tells of one sign-in.
type meEntry struct {
	Access   string  `json:"access_token,omitempty"`
	Expires  string  `json:"expires_on,omitempty"`
	ID       string  `json:"id_token,omitempty"`
	Provider string  `json:"provider_name"`
	Refresh  string  `json:"refresh_token,omitempty"`
	Claims   []claim `json:"user_claims"`
	User     string  `json:"user_id"`
}

// me tells a signed-in person's page about them.
func (v *visit) me() {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		v.page(http.StatusMethodNotAllowed, "Method not allowed", "Ask by GET.")
		return
	}
	if !v.set.Store {
		v.page(http.StatusNotFound, "Nothing here", "The app's token store is switched off.")
		return
	}
	c, err := v.identify()
	if err == nil && c == nil {
		err = az.Errorf(az.Unauthorized, "Unauthorized", "Nobody is signed in.")
	}
	if err == nil {
		err = v.admit(c)
	}
	if err != nil {
		v.refuse(err)
		return
	}
	e := meEntry{Provider: provider, Claims: claimList(c.claims), User: c.name()}
	if s := c.session; s != nil {
		e.Access, e.ID, e.Refresh = s.secrets.AccessToken, s.secrets.IDToken, s.secrets.RefreshToken
		if e.Access != "" {
			e.Expires = expiresOn(s.secrets.TokenExpires.Time())
		}
	}
	v.json(http.StatusOK, []meEntry{e})
}

// A renewal of tokens by one request, and how long others wait for it.
const (
	refreshLease = tokenTimeout + 5*time.Second
	refreshPoll  = 25 * time.Millisecond
)

var errSomebodyElse = errors.New("the tokens are being renewed by another request")

// refresh renews a session and its tokens.
func (v *visit) refresh() {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodPost {
		v.page(http.StatusMethodNotAllowed, "Method not allowed", "Ask by GET or POST.")
		return
	}
	c, err := v.find(true)
	switch {
	case err != nil:
		v.fail(err)
		return
	case c == nil:
		v.page(http.StatusUnauthorized, "Sign-in needed", "There is no sign-in that could be renewed.")
		return
	}
	if c.cookie && !v.ownPage() {
		v.page(http.StatusForbidden, "Not from here", "A page of another site asked to renew this sign-in.")
		return
	}
	if err := v.admit(c); err != nil {
		v.refuse(err)
		return
	}
	if c.session.secrets.RefreshToken == "" || v.set.Secret == "" {
		v.page(http.StatusForbidden, "There is no refresh token", "Ask for the scope offline_access in the app's login parameters, keep its token store on, and sign in again.")
		return
	}
	s, err := v.renew(c.session)
	if err != nil {
		v.refuseLogin(c.principal, err)
		return
	}
	if c.cookie {
		v.setSession(c.ticket.id, c.ticket.binding, s.Gone) // the same, for longer
	}
	v.json(http.StatusOK, struct{}{})
}

// renew gets new tokens for a session, once however many ask at a time on
// however many planes: a refresh token that is sent twice ends its family.
func (v *visit) renew(s *session) (*session, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), refreshLease)
	defer cancel()
	until := az.MicrosOf(v.f.cfg.Clock().Add(refreshLease))
	for {
		var mine bool
		err := v.f.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
			mine, err = tx.BeginFrontRefresh(s.Key, s.Version, until)
			return err
		})
		if err != nil {
			return nil, err
		}
		if mine {
			return v.renewAlone(ctx, s)
		}
		select {
		case <-time.After(refreshPoll):
		case <-ctx.Done():
			return nil, az.Errorf(az.Unavailable, "ServiceUnavailable", "The tokens are being renewed. Try again.").Because(errSomebodyElse)
		}
		now, err := v.f.open(ctx, s.Key)
		switch {
		case err != nil:
			return nil, err
		case now == nil:
			return nil, az.Errorf(az.Unauthorized, "Unauthorized", "The sign-in has ended meanwhile.")
		case now.Version != s.Version:
			return now, nil // somebody else has done it
		}
	}
}

func (v *visit) renewAlone(ctx context.Context, s *session) (*session, error) {
	// Once the authority has taken the old token, its answer is kept even if the
	// browser has gone away.
	n, err := v.exchange(ctx, s)
	if err != nil {
		giveBack := v.f.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.EndFrontRefresh(s.Key) })
		return nil, errors.Join(err, giveBack)
	}
	var kept bool
	err = v.f.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		kept, err = tx.RenewFrontSession(n.FrontSession)
		return err
	})
	if err == nil && !kept {
		err = az.Errorf(az.Unauthorized, "Unauthorized", "The sign-in has ended meanwhile.")
	}
	return n, err
}

// exchange makes the next version of a session with what the authority gives
// for its refresh token.
func (v *visit) exchange(ctx context.Context, s *session) (*session, error) {
	t, err := v.ask(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.secrets.RefreshToken}, "scope": {v.parameters().Get("scope")}})
	if err != nil {
		return nil, err
	}
	n := *s
	n.Version++
	expires := t.Expires
	if t.ID == "" {
		t.ID = s.secrets.IDToken
	} else {
		who, err := v.f.cfg.Verify(ctx, t.ID, Expect{Audiences: []string{v.set.Client}, ID: true, Peer: v.r.RemoteAddr})
		if err != nil {
			return nil, err
		}
		if who.Principal.ObjectID != s.Person {
			return nil, az.Errorf(az.Forbidden, "person", "The tokens that came are another person's. Sign in again.")
		}
		if n.secrets.Claims, err = json.Marshal(who.Claims); err != nil {
			return nil, err
		}
		expires = who.Principal.Expires
	}
	n.secrets.take(t)
	v.ends(&n, expires)
	return &n, v.f.seal(&n)
}

// logout ends the session here, then the browser's at the authority.
func (v *visit) logout() {
	// A link or a form leads here from anywhere, but not a picture or a frame of
	// another app's page, with which a browser sends its cookies all the same.
	if site := v.r.Header.Get("Sec-Fetch-Site"); (site == "same-site" || site == "cross-site") && v.r.Header.Get("Sec-Fetch-Dest") != "document" {
		v.page(http.StatusForbidden, "Not from here", "A page of another site asked for this sign-out in the background.")
		return
	}
	to, ok := v.set.back(v.base(), v.r.URL.Query().Get("post_logout_redirect_uri"), "")
	if !ok {
		v.page(http.StatusBadRequest, "The address is not allowed", "post_logout_redirect_uri must be a path of this app, or an address that its settings allow.")
		return
	}
	c, err := v.find(true)
	if err == nil {
		err = v.dropSession()
	}
	if err == nil && c != nil {
		err = v.record(c.principal, "sign out of app", guard.Ended, "")
	}
	if err != nil {
		v.fail(err)
		return
	}
	if to != "" {
		v.setCookie(logoutCookie, url.QueryEscape(to), int(defaultLogin.Seconds()), http.SameSiteLaxMode)
	}
	if !v.set.AAD {
		v.redirect(v.set.Prefix + "/logout/complete")
		return
	}
	q := url.Values{"post_logout_redirect_uri": {v.base() + v.set.Prefix + "/logout/complete"}, "client_id": {v.set.Client}}
	if c != nil { // it shows that the person's own app asks, so the authority need not
		q.Set("id_token_hint", c.session.secrets.IDToken+c.session.secrets.Hint)
	}
	v.redirect(v.f.authorityURL("logout") + "?" + q.Encode())
}

// leftElsewhere ends the session of a browser that has signed out at the
// authority, whose page loads this in a frame. The sid must be the session's.
// Source: OpenID Connect Front-Channel Logout 1.0 §2.
func (v *visit) leftElsewhere() {
	c, err := v.find(true)
	if err != nil {
		v.fail(err)
		return
	}
	v.ownHeaders().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors "+v.f.cfg.Names.Origin(az.SurfaceLogin))
	sid := v.r.URL.Query().Get("sid")
	if have, _ := c.claim("sid"); sid != "" && have == sid {
		if err := v.dropSession(); err != nil {
			v.fail(err)
			return
		}
		if err := v.record(c.principal, "sign out of app", guard.Ended, "at the authority"); err != nil {
			v.fail(err)
			return
		}
	}
	v.w.WriteHeader(http.StatusNoContent)
}

// loggedOut is where the authority sends the browser back to.
func (v *visit) loggedOut() {
	if c, err := v.r.Cookie(logoutCookie); err == nil {
		v.setCookie(logoutCookie, "", -1, http.SameSiteLaxMode)
		target, err := url.QueryUnescape(c.Value)
		if to, ok := v.set.back(v.base(), target, ""); err == nil && ok && to != "" {
			v.redirect(to)
			return
		}
	}
	v.show(http.StatusOK, pageText{Title: "You are signed out", Text: "The sign-in to this app has ended in this browser.", Link: "/", LinkText: "To the app"})
}

// maxDirected bounds the body of a sign-in with tokens.
const maxDirected = 64 << 10

// loginWithToken opens a session for a client that has got its tokens itself.
// It sets no cookie: its authenticationToken comes back as X-ZUMO-AUTH, which
// no page of another site can send.
func (v *visit) loginWithToken() {
	if !v.set.AAD {
		v.page(http.StatusNotFound, "No such sign-in", "This app has no identity provider of that name.")
		return
	}
	var in struct {
		ID     string `json:"id_token"`
		Access string `json:"access_token"`
	}
	b, err := io.ReadAll(http.MaxBytesReader(v.w, v.r.Body, maxDirected))
	if err != nil || json.Unmarshal(b, &in) != nil || in.ID == "" && in.Access == "" {
		v.json(http.StatusBadRequest, map[string]any{"code": 400, "message": "Send a JSON object with id_token or access_token."})
		return
	}
	who, t, err := v.directed(in.ID, in.Access)
	if err == nil {
		err = v.admit(&caller{principal: who.Principal, claims: who.Claims})
	}
	var id string
	var s *session
	if err == nil {
		id, _, s, err = v.begin(who, t, false)
	}
	if err == nil {
		err = v.record(who.Principal, "sign in to app", guard.Allowed, "with a token")
	}
	if err != nil {
		v.refuseLogin(who.Principal, err)
		return
	}
	v.json(http.StatusOK, map[string]any{"authenticationToken": id, "user": map[string]string{"userId": "sid:" + s.Key[:32]}})
}

// directed checks what a client brought. The id token says who it is; an access
// token beside it must be the same person's.
func (v *visit) directed(id, access string) (Token, tokens, error) {
	var who Token
	var err error
	t := tokens{ID: id}
	if id != "" {
		if who, err = v.f.cfg.Verify(v.ctx, id, Expect{Audiences: []string{v.set.Client}, ID: true, Peer: v.r.RemoteAddr}); err != nil {
			return who, t, err
		}
	}
	if access != "" {
		want := Expect{Audiences: v.set.Audiences, Peer: v.r.RemoteAddr}
		if id != "" {
			want.Audiences = nil // it may be for what the app calls
		}
		a, err := v.f.cfg.Verify(v.ctx, access, want)
		if err != nil {
			return who, t, err
		}
		if id == "" {
			who = a
		}
		if a.Principal.ObjectID != who.Principal.ObjectID {
			return who, t, az.Errorf(az.Forbidden, "person", "The two tokens are not the same person's.")
		}
		t.Access, t.Expires = access, a.Principal.Expires
	}
	if who.Principal.Kind != az.User {
		return who, t, az.Errorf(az.Forbidden, "person", "Only people sign in here. An application sends its token as a bearer token with each request.")
	}
	return who, t, nil
}
