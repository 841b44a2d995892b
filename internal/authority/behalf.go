package authority

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// behalfGrant lets an interface act for the person who called it: the access
// token that it was called with shows who that is. Source: Entra, "OAuth 2.0
// On-Behalf-Of flow".
func (a *Authority) behalfGrant(ctx context.Context, t *tokenRequest, g *grant) (*evidence, error) {
	if g.Proof == unproven {
		return nil, noProof()
	}
	if t.RequestedUse != "on_behalf_of" {
		return nil, malformed("The parameter 'requested_token_use' must be 'on_behalf_of'.")
	}
	if t.OnBehalf.IsZero() {
		return nil, missing("assertion")
	}
	c, err := a.behalfOf(ctx, g, t.OnBehalf.Reveal())
	if err != nil {
		return nil, err
	}
	at, _ := stampOf(c.Aio)
	by := signed{User: c.OID, Session: c.SID, At: at, AMR: c.AMR, Provider: c.Idp, Peer: c.IPAddr}
	return &evidence{By: by, settle: func(ctx context.Context, g *grant, offline bool) (string, error) {
		if !offline {
			return "", nil
		}
		return a.beginFamily(ctx, g, familyFacts{By: by, Scope: t.Scope, Resource: t.Resource}, true)
	}}, nil
}

// behalfOf checks an assertion as a resource would, and that the resource is
// the client itself: a token for another interface is not its to use.
func (a *Authority) behalfOf(ctx context.Context, g *grant, token string) (*claims, error) {
	if len(token) > maxToken {
		return nil, badAssertionGrant("it is too large")
	}
	c, v, why, err := a.examineClaims(ctx, token)
	if err != nil {
		return nil, err
	}
	if why == "" {
		why = a.checkClaims(c)
	}
	switch why {
	case "":
	case refuseType:
		return nil, badAssertionGrant("it is not an access token of a person")
	default:
		return nil, badAssertionGrant(string(why))
	}
	if !a.isOwnAudience(g, c.Aud) {
		return nil, badGrant(500131, "Assertion audience does not match the Client app presenting the assertion. The audience in the assertion was '%s' and the expected audience is '%s' or one of the Application Uris of this application.",
			printable(c.Aud), g.Client.AppID).Because(incident("a token for another application was presented on behalf of its person"))
	}
	switch a.timely(v) {
	case "":
	case refuseExpired:
		return nil, badGrant(500133, "Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user assertion, or request a new token.")
	default:
		return nil, badAssertionGrant("it does not hold at this time")
	}
	if c.IdTyp != "user" {
		return nil, badGrant(7000114, "Application '%s' is not allowed to make application on-behalf-of calls: the assertion is an application's own token, and no person's.", g.Client.AppID)
	}
	if _, ok := stampOf(c.Aio); !ok {
		return nil, badAssertionGrant("its claims cannot be read")
	}
	return c, nil
}

func badAssertionGrant(why string) error {
	return badGrant(50013, "Assertion failed validation: %s.", why)
}

// isOwnAudience reports whether a token's audience is the client: its id,
// api:// and its id, or one of its identifier URIs.
func (a *Authority) isOwnAudience(g *grant, aud string) bool {
	// What names a resource of the platform is the platform's, whatever an
	// application says of itself.
	if g.Client.Application == nil || a.resources.class(aud) != "" {
		return false
	}
	own := append([]string{g.Client.AppID, "api://" + g.Client.AppID}, g.Client.Application.IdentifierURIs...)
	aud = strings.TrimSuffix(aud, "/")
	return slices.ContainsFunc(own, func(o string) bool { return strings.EqualFold(strings.TrimSuffix(o, "/"), aud) })
}

// strength says whether a sign-in is strong enough for a claims request, and
// which authentication contexts the token may name. Source: Entra, "Claims
// challenges, claims requests"; OpenID Connect Core §5.5.
func (a *Authority) strength(t *tokenRequest, by signed) ([]string, error) {
	want, err := parseClaims(t.Claims)
	if err != nil || !want.mfa() {
		return nil, err
	}
	if !by.mfa() {
		return nil, a.tooWeak(t.Claims)
	}
	return want.acrs, nil
}

func (a *Authority) tooWeak(claims string) error {
	e := oauthError(az.Invalid, "interaction_required", 50076,
		"Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.")
	e.Inner = "basic_action"
	if claims == "" {
		claims = mfaClaims
	}
	return &challengeError{e, claims}
}

// mfaClaims is what a client must ask for so that a second factor is used.
const mfaClaims = `{"id_token":{"amr":{"essential":true,"values":["mfa"]}}}`

// challengeError is an error that tells the client what to ask the person for.
type challengeError struct {
	err    *az.Error
	claims string
}

func (e *challengeError) Error() string { return e.err.Error() }
func (e *challengeError) Unwrap() error { return e.err }

// claimsRequest is what the plane understands of a claims parameter.
type claimsRequest struct {
	acrs []string // authentication contexts: each means a second factor here
	amr  bool     // amr with mfa among its values
}

func (c claimsRequest) mfa() bool { return len(c.acrs) > 0 || c.amr }

const (
	// maxClaims bounds a claims request; real ones stay below 1 KiB.
	maxClaims = 8 << 10
	maxACRS   = 10
)

// parseClaims reads a claims parameter. What it does not know it ignores, as
// clients announce what they can do here (xms_cc).
func parseClaims(text string) (claimsRequest, error) {
	var out claimsRequest
	if text == "" {
		return out, nil
	}
	type wish struct {
		Value  any   `json:"value"`
		Values []any `json:"values"`
	}
	var members map[string]map[string]*wish
	if len(text) > maxClaims || json.Unmarshal([]byte(text), &members) != nil {
		return out, oauthError(az.Invalid, "invalid_request", 9002313, "Invalid request. The parameter 'claims' is not a JSON object of claims.")
	}
	for _, m := range []string{"access_token", "id_token", "userinfo"} {
		for name, w := range members[m] {
			if w == nil {
				continue
			}
			for _, v := range append(w.Values, w.Value) {
				text, _ := v.(string)
				switch {
				case name == "acrs" && isACRS(text) && len(out.acrs) < maxACRS && !slices.Contains(out.acrs, text):
					out.acrs = append(out.acrs, text)
				case (name == "amr" || name == "acr") && text == "mfa":
					out.amr = true
				}
			}
		}
	}
	slices.Sort(out.acrs)
	return out, nil
}

// isACRS admits Entra's names of authentication contexts, c1 to c99.
func isACRS(s string) bool {
	return len(s) >= 2 && len(s) <= 3 && s[0] == 'c' && strings.Trim(s[1:], "0123456789") == ""
}
