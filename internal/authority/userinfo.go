package authority

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// userInfo is what a client may know of who signed in. Source: OpenID Connect
// Core §5.3; Entra's has no more.
type userInfo struct {
	Sub     string `json:"sub"`
	Name    string `json:"name,omitempty"`
	Family  string `json:"family_name,omitempty"`
	Given   string `json:"given_name,omitempty"`
	Email   string `json:"email,omitempty"`
	Picture string `json:"picture,omitempty"`
}

// UserInfo are the routes of the userinfo endpoint, which is the Graph host's.
func (a *Authority) UserInfo() []rest.Route {
	out := make([]rest.Route, 0, 2)
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		out = append(out, rest.Route{Method: m, Path: "/oidc/userinfo", Access: rest.Token(rest.Graph), Handle: a.userInfo})
	}
	return out
}

func (a *Authority) userInfo(ctx context.Context, r *rest.Request) (any, error) {
	who := r.Caller
	if who.Kind != az.User || !slices.Contains(who.Scopes, "openid") {
		err := a.guard.Record(ctx, guard.Event{Kind: guard.EventToken, Caller: who, Action: "userinfo", Outcome: guard.Refused, Reason: "no scope openid", Peer: peerOf(r.RemoteAddr)})
		if err != nil {
			return nil, err
		}
		return nil, az.Errorf(az.Forbidden, "insufficient_scope", "The access token is not one of a person who signed in with the scope openid.")
	}
	u, ok, err := a.dir.Get(ctx, who.ObjectID)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, tokenError(rest.Graph, refuseGone)
	}
	out := userInfo{Sub: a.pairwise(who.AppID, u.ID)}
	if slices.Contains(who.Scopes, "profile") {
		out.Name, out.Family, out.Given = u.Name, u.Surname, u.GivenName
	}
	if slices.Contains(who.Scopes, "email") {
		out.Email = u.Mail
	}
	return out, nil
}

// Claims are what a token of this authority says: an access token or an id
// token of an application's own.
type Claims struct {
	Principal az.Principal
	Audience  string
	ID        bool           // it is an id token
	All       map[string]any // every claim, as JSON decodes it; shared, not to be changed
	Expires   time.Time
}

// VerifyFor says who a token speaks for that was issued to, or for, an
// application whose audiences the caller names: an access token, or an id
// token. As with Verify, the principal exists and is enabled now, and what it
// signed in for still holds. Refusals are recorded.
func (a *Authority) VerifyFor(ctx context.Context, token string, audiences []string, peer string) (Claims, error) {
	why, out, err := a.verifyFor(ctx, token, audiences)
	if err != nil {
		return Claims{}, err
	}
	if why == "" {
		return out, nil
	}
	where := ""
	if len(audiences) > 0 {
		where = audiences[0]
	}
	return Claims{}, a.refuse(ctx, why, rest.Audience(where), out.Principal, peer)
}

// claimed is a token whose signature was good, with all that it says.
type claimed struct {
	verified
	Claims
}

// readClaims reads a token of an application's own.
func (a *Authority) readClaims(ctx context.Context, token string) (*claimed, refusal, error) {
	var raw json.RawMessage
	key, why, err := a.opened(ctx, token, &raw)
	if why != "" || err != nil {
		return nil, why, err
	}
	c := new(claims)
	out := &claimed{Claims: Claims{All: map[string]any{}}}
	if json.Unmarshal(raw, c) != nil || json.Unmarshal(raw, &out.All) != nil {
		return nil, refuseClaims, nil
	}
	// What has no idtyp and is no access token otherwise is an id token: its
	// audience is the application that the person signed in to.
	if out.ID = c.IdTyp == ""; out.ID {
		if c.Scp != "" || c.AppID != "" || c.Azp != "" {
			return nil, refuseType, nil
		}
		c.IdTyp, c.Scp, c.AppID = "user", "openid", c.Aud
	}
	if why := a.checkClaims(c); why != "" {
		return nil, why, nil
	}
	out.verified = verified{principal: a.principal(c), nbf: c.Nbf, exp: c.Exp, retired: key.Retired}
	out.since, _ = stampOf(c.Aio)
	if out.ID {
		out.principal.Scopes = nil
	}
	out.Principal, out.Audience, out.Expires = out.principal, c.Aud, out.principal.Expires
	return out, "", nil
}

func (a *Authority) verifyFor(ctx context.Context, token string, audiences []string) (refusal, Claims, error) {
	if len(token) > maxToken {
		return refuseSize, Claims{}, nil
	}
	if err := a.store.Confirm(ctx); err != nil {
		return "", Claims{}, err
	}
	sum := a.claimed.sum(token)
	c, gen := a.claimed.get(sum)
	if c == nil {
		why, err := refusal(""), error(nil)
		if c, why, err = a.readClaims(ctx, token); why != "" || err != nil {
			return why, Claims{}, err
		}
		a.claimed.put(gen, sum, c)
	}
	v, out := &c.verified, c.Claims
	if !slices.Contains(audiences, out.Audience) {
		return refuseAudience, out, nil
	}
	if why := a.timely(v); why != "" {
		return why, out, nil
	}
	live, err := a.live(ctx, v)
	if err != nil {
		return "", out, err
	}
	if !live {
		return refuseGone, out, nil
	}
	return "", out, nil
}
