package easyauth

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// identify says who sent a request; nil without an error is nobody. A bearer
// token counts alone: beside one that is not good, no cookie makes a request
// somebody's, for the app would read the token.
func (v *visit) identify() (*caller, error) {
	if !v.set.AAD {
		return nil, nil
	}
	if h := v.r.Header["Authorization"]; len(h) > 0 {
		if len(h) != 1 {
			return nil, az.Errorf(az.Unauthorized, "invalid_request", "The request has several Authorization headers.")
		}
		scheme, token := h[0], ""
		if i := strings.IndexAny(scheme, " \t"); i >= 0 {
			scheme, token = scheme[:i], strings.TrimSpace(scheme[i:])
		}
		if strings.EqualFold(scheme, "bearer") {
			return v.bearer(token)
		}
	}
	return v.find(false)
}

// bearer checks the token of an API's caller.
func (v *visit) bearer(token string) (*caller, error) {
	t, err := v.f.cfg.Verify(v.ctx, token, Expect{Audiences: v.set.Audiences, Peer: v.r.RemoteAddr})
	if err != nil {
		return nil, err
	}
	return &caller{principal: t.Principal, claims: t.Claims}, nil
}

// admit applies the app's policy to a caller, and records a refusal.
func (v *visit) admit(c *caller) error {
	why, text, err := v.judge(c)
	if err != nil || why == "" {
		return err
	}
	return v.no(c, why, text)
}

// admitted is admit for a request that was let in before. Without an answer it
// stays.
func (v *visit) admitted(ctx context.Context, c *caller) bool {
	n := *c
	n.cookie = false
	v.ctx = ctx
	why, _, err := v.judge(&n)
	return err != nil || why == ""
}

// judge says why a caller may not come in; why is "" for one who may. Groups
// are looked up now, not read from the token: who leaves one is out at once.
func (v *visit) judge(c *caller) (why, text string, err error) {
	if c.cookie && !v.sameOrigin() {
		return "a page of another site made the request", "This request came from a page of another site, so the sign-in of this browser was not used for it.", nil
	}
	if app, token := c.application(); token {
		for _, list := range [][]string{v.set.Clients, v.set.Applications} {
			if len(list) > 0 && !slices.Contains(list, app) {
				return "client application not allowed", "The application that got this token may not call this app. An administrator of the app can allow it in its authentication settings.", nil
			}
		}
	}
	if len(v.set.Groups) == 0 && len(v.set.AnyOfGroups) == 0 && len(v.set.Identities) == 0 {
		return "", "", nil
	}
	groups, err := v.f.cfg.Guard.Groups(v.ctx, c.principal.ObjectID)
	if err != nil {
		return "", "", err
	}
	in := func(list []string) bool {
		return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(list, g) })
	}
	if len(v.set.Groups) > 0 && !in(v.set.Groups) ||
		len(v.set.AnyOfGroups)+len(v.set.Identities) > 0 && !in(v.set.AnyOfGroups) && !slices.Contains(v.set.Identities, c.principal.ObjectID) {
		return "not among the allowed groups and identities", "You are signed in, but not among those who may use this app. Its administrator can let you in.", nil
	}
	return "", "", nil
}

// no records a refusal and words it.
func (v *visit) no(c *caller, why, text string) error {
	err := v.f.cfg.Guard.Record(v.ctx, guard.Event{Kind: guard.EventDecision, Caller: c.principal, Action: "use app", Where: v.site.ID.String(),
		Outcome: guard.Refused, Reason: why, Peer: v.r.RemoteAddr})
	if err != nil {
		return err
	}
	return az.Errorf(az.Forbidden, "Forbidden", "%s", text)
}

// sameOrigin reports whether a request that a cookie signs may have been meant
// by the person: one that changes something, or opens a WebSocket, must not
// come from a page of another origin. Other apps of the plane are the same
// site to a browser, so SameSite alone does not keep them out. What is no
// browser sends neither header.
func (v *visit) sameOrigin() bool {
	switch v.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if v.r.Header.Get("Upgrade") == "" {
			return true
		}
	}
	return v.ownPage()
}

// ownPage reports whether no page of another origin made a request.
func (v *visit) ownPage() bool {
	switch v.r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
	default:
		return false
	}
	origin := v.r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "https" || !v.secure()) && (strings.EqualFold(u.Host, v.host) || strings.EqualFold(u.Host, v.r.Host))
}

// refuse answers a request that was not let in: 401 for who is not known, 403
// for who may not.
func (v *visit) refuse(err error) {
	if az.Is(err, az.Unauthorized) {
		v.challenge("invalid_token")
		v.page(http.StatusUnauthorized, "Sign-in needed", "The token of the request is not valid for this app.")
		return
	}
	v.fail(err)
}

// unauthenticated answers who has not signed in, as the settings say.
func (v *visit) unauthenticated() {
	switch {
	case v.set.Action == Return403:
		v.page(http.StatusForbidden, "You may not see this", "This app is for those who are signed in.")
	case v.set.Action == Redirect && v.navigates():
		v.startLogin(requestURI(v.r.URL))
	default:
		v.challenge("")
		v.page(http.StatusUnauthorized, "Sign-in needed", "This app is for those who are signed in.")
	}
}

// navigates reports whether a browser shows what comes back: only then can a
// person sign in.
func (v *visit) navigates() bool {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead || v.r.Header.Get("Upgrade") != "" ||
		strings.EqualFold(v.r.Header.Get("X-Requested-With"), "XMLHttpRequest") {
		return false
	}
	mode := v.r.Header.Get("Sec-Fetch-Mode")
	return mode == "" || mode == "navigate"
}

// challenge tells an API's caller where to get a token.
func (v *visit) challenge(problem string) {
	if v.set.NoChallenge {
		return
	}
	text := `Bearer realm="` + v.host + `", authorization_uri="` + v.f.authorityURL("authorize") + `", resource_id="` + v.set.Client + `"`
	if problem != "" {
		text += `, error="` + problem + `"`
	}
	v.w.Header().Set("WWW-Authenticate", text)
}
