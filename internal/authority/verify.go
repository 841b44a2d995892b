package authority

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// maxToken bounds a token in bytes. Source: the largest real ones, of people
// in 200 groups, stay below 12 KiB; HTTP servers take headers of 16 KiB.
const maxToken = 16 << 10

// algorithms is what tokens may be signed with, whatever their header says.
var algorithms = []jose.SignatureAlgorithm{jose.RS256}

// refusal is why a token was refused: the class for the audit and the log. It
// never holds any of the token.
type refusal string

const (
	refuseMissing   refusal = "no token"
	refuseSize      refusal = "too large"
	refuseForm      refusal = "not a signed token"
	refuseAlgorithm refusal = "algorithm not allowed"
	refuseHeader    refusal = "header not of this authority"
	refuseKey       refusal = "key not of this authority"
	refuseSignature refusal = "signature wrong"
	refuseClaims    refusal = "claims unreadable"
	refuseIssuer    refusal = "issuer wrong"
	refuseTenant    refusal = "other tenant"
	refuseType      refusal = "not an access token"
	refuseObject    refusal = "no object id"
	refuseAudience  refusal = "other audience"
	refuseExpired   refusal = "expired"
	refuseEarly     refusal = "not yet valid"
	refuseGone      refusal = "principal deleted or disabled"
)

// verified is a token whose signature and fixed claims were found good.
type verified struct {
	principal az.Principal
	aud       rest.Audience
	nbf, exp  int64
	retired   az.Micros // of the key
	since     az.Micros // of people: when they signed in
}

// Verify says who a token speaks for. It accepts access tokens of this plane's
// own keys, for the given surface, whose principal exists and is enabled now.
// When it returns, this plane's caches have seen every change that was made
// before the call. Refusals are recorded.
func (a *Authority) Verify(ctx context.Context, token string, aud rest.Audience) (az.Principal, error) {
	return a.verify(ctx, token, aud, "")
}

// VerifyRequest is Verify for the bearer token of a request: a surface's
// rest.VerifyFunc.
func (a *Authority) VerifyRequest(ctx context.Context, r *http.Request, aud rest.Audience) (az.Principal, error) {
	h := r.Header["Authorization"]
	if len(h) != 1 || len(h[0]) < 7 || !strings.EqualFold(h[0][:7], "bearer ") {
		// Nothing was presented, so nothing is recorded: Key Vault's clients
		// begin with such a request.
		if len(h) == 0 {
			return az.Principal{}, tokenError(aud, refuseMissing)
		}
		return az.Principal{}, a.refuse(ctx, refuseForm, aud, az.Principal{}, r.RemoteAddr)
	}
	return a.verify(ctx, strings.TrimSpace(h[0][7:]), aud, r.RemoteAddr)
}

func (a *Authority) verify(ctx context.Context, token string, aud rest.Audience, peer string) (az.Principal, error) {
	if len(token) > maxToken {
		return az.Principal{}, a.refuse(ctx, refuseSize, aud, az.Principal{}, peer)
	}
	sum := a.verified.sum(token)
	// A change of keys that is first seen during the confirmation means that
	// the signature was checked with keys of before: once more, then.
	for range maxExaminations {
		v, gen := a.verified.get(sum)
		known := v != nil
		if !known {
			var why refusal
			var err error
			if v, why, err = a.examine(ctx, token); err != nil {
				return az.Principal{}, err
			}
			if why != "" {
				return az.Principal{}, a.refuse(ctx, why, aud, az.Principal{}, peer)
			}
		}
		if err := a.store.Confirm(ctx); err != nil {
			return az.Principal{}, err
		}
		if a.verified.generation() != gen {
			continue
		}
		why, err := a.stands(ctx, v, aud)
		if err != nil {
			return az.Principal{}, err
		}
		if why != "" {
			return az.Principal{}, a.refuse(ctx, why, aud, v.principal, peer)
		}
		if !known {
			a.verified.put(gen, sum, v)
		}
		return v.principal, nil
	}
	return az.Principal{}, az.Errorf(az.Unavailable, "ServiceUnavailable", "The signing keys are being changed; try again.")
}

// maxExaminations bounds how often a token is examined again because keys
// changed meanwhile; they change once in weeks.
const maxExaminations = 3

// stands checks what can change while a token lives.
func (a *Authority) stands(ctx context.Context, v *verified, aud rest.Audience) (refusal, error) {
	if why := a.timely(v); why != "" {
		return why, nil
	}
	if v.aud != aud || aud == "" {
		return refuseAudience, nil
	}
	live, err := a.live(ctx, v)
	if err != nil || live {
		return "", err
	}
	return refuseGone, nil
}

// timely checks the times. A token's end is the end; its beginning may lie a
// little ahead, since another plane's clock may.
func (a *Authority) timely(v *verified) refusal {
	now := a.clock()
	switch {
	case now.Unix() >= v.exp:
		return refuseExpired
	case now.Add(skew).Unix() < v.nbf:
		return refuseEarly
	case v.retired != 0 && az.MicrosOf(now) >= v.retired:
		return refuseKey
	}
	return ""
}

// live reports whether the principal is there, enabled, and still the one that
// the token was issued for.
func (a *Authority) live(ctx context.Context, v *verified) (bool, error) {
	o, ok, err := a.dir.Get(ctx, v.principal.ObjectID)
	if err != nil || !ok || !o.Enabled || o.Kind != v.principal.Kind {
		return false, err
	}
	if o.Kind == az.User {
		return v.since >= o.ValidFrom, nil
	}
	return o.AppID == v.principal.AppID, nil
}

// examine checks signature and fixed claims.
func (a *Authority) examine(ctx context.Context, token string) (*verified, refusal, error) {
	c, v, why, err := a.examineClaims(ctx, token)
	if why == "" && err == nil {
		why = a.checkClaims(c)
	}
	if why != "" || err != nil {
		return nil, why, err
	}
	return v, "", nil
}

// examineClaims checks the signature and returns what was signed, access token
// or id token. The header is compared before anything is parsed: ours are the
// same bytes for every token of a key, so nothing in a forged one (alg, jku,
// x5u, jwk, crit) is ever interpreted.
func (a *Authority) examineClaims(ctx context.Context, token string) (*claims, *verified, refusal, error) {
	c := new(claims)
	key, why, err := a.opened(ctx, token, c)
	if why != "" || err != nil {
		return nil, nil, why, err
	}
	v := &verified{principal: a.principal(c), aud: a.resources.class(c.Aud), nbf: c.Nbf, exp: c.Exp, retired: key.Retired}
	v.since, _ = stampOf(c.Aio)
	return c, v, "", nil
}

// opened checks the signature and reads what was signed into v.
func (a *Authority) opened(ctx context.Context, token string, v any) (*signingKey, refusal, error) {
	dot := strings.IndexByte(token, '.')
	if dot < 0 || strings.Count(token, ".") != 2 {
		return nil, refuseForm, nil
	}
	key, err := a.keyFor(ctx, token[:dot+1])
	if err != nil {
		return nil, "", err
	}
	if key == nil {
		return nil, a.classify(token[:dot]), nil
	}
	if !key.accepted(az.MicrosOf(a.clock())) {
		return nil, refuseKey, nil
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, refuseForm, nil
	}
	payload, err := jws.Verify(&key.private.PublicKey)
	if err != nil {
		return nil, refuseSignature, nil
	}
	if json.Unmarshal(payload, v) != nil {
		return nil, refuseClaims, nil
	}
	return key, "", nil
}

// keyFor finds the key whose header the token has. A header that is not known
// may be of a key that another plane has just made, so the feed is asked once.
func (a *Authority) keyFor(ctx context.Context, header string) (*signingKey, error) {
	r, err := a.keys.ring(ctx)
	if err != nil {
		return nil, err
	}
	if k := r.byHeader[header]; k != nil {
		return k, nil
	}
	if err := a.store.Confirm(ctx); err != nil {
		return nil, err
	}
	if r, err = a.keys.ring(ctx); err != nil {
		return nil, err
	}
	return r.byHeader[header], nil
}

// classify finds a word for a header that is not ours, for the audit only.
func (a *Authority) classify(header string) refusal {
	b, err := base64.RawURLEncoding.DecodeString(header)
	var h struct {
		Alg any `json:"alg"`
		Kid any `json:"kid"`
	}
	if err != nil || json.Unmarshal(b, &h) != nil {
		return refuseForm
	}
	if h.Alg != "RS256" {
		return refuseAlgorithm
	}
	if r := a.keys.now.Load(); r != nil {
		for _, k := range r.keys {
			if h.Kid == k.KID {
				return refuseHeader
			}
		}
	}
	return refuseKey
}

func (a *Authority) checkClaims(c *claims) refusal {
	switch {
	case !a.issuers[c.Iss]:
		return refuseIssuer
	case c.TID != a.names.Tenant:
		return refuseTenant
	case c.IdTyp != "app" && c.IdTyp != "user", c.IdTyp == "user" && c.Scp == "", c.IdTyp == "app" && c.Scp != "":
		return refuseType // id tokens have no idtyp; people's access tokens have scopes
	case !az.IsGUID(c.OID):
		return refuseObject
	case c.AppID == "" && c.Azp == "", c.Exp == 0 || c.Exp <= c.Nbf:
		return refuseClaims
	}
	return ""
}

func (a *Authority) principal(c *claims) az.Principal {
	p := az.Principal{ObjectID: c.OID, AppID: c.AppID, TenantID: c.TID, Kind: az.ServicePrincipal, Roles: c.Roles,
		TokenID: c.UTI, Expires: time.Unix(c.Exp, 0).UTC()}
	if p.AppID == "" {
		p.AppID = c.Azp
	}
	if c.MIRID != "" {
		p.Identity, _ = az.ParseID(c.MIRID) // ours: it was an ID when it was signed
	}
	if c.IdTyp == "user" {
		p.Kind, p.Scopes, p.Name = az.User, strings.Fields(c.Scp), c.UPN
		if p.Name == "" {
			p.Name = c.Preferred
		}
		for _, m := range c.AMR {
			p.MFA = p.MFA || m == "mfa"
		}
	}
	return p
}

// refuse records a refusal and words it. who is the zero Principal unless the
// token's signature was good.
func (a *Authority) refuse(ctx context.Context, why refusal, aud rest.Audience, who az.Principal, peer string) error {
	err := a.guard.Record(ctx, guard.Event{Kind: guard.EventToken, Caller: who, Action: "present token", Where: string(aud),
		Outcome: guard.Refused, Reason: string(why), Peer: peer})
	if err != nil {
		return err
	}
	return tokenError(aud, why)
}

// databaseCodes are the gateways' words for refusals of which their protocols
// have a text. Source: wire/databases.md §2.
var databaseCodes = map[refusal]string{refuseForm: gateway.InvalidFormat, refuseAudience: gateway.InvalidAudience,
	refuseExpired: gateway.ExpiredToken, refuseObject: gateway.MissingOid}

// tokenError words a refusal for a surface's clients. Source: wire/arm-graph.md
// §1 and wire/keyvault.md for the codes.
func tokenError(aud rest.Audience, why refusal) *az.Error {
	code, text := "InvalidAuthenticationToken", "The access token is invalid."
	switch why {
	case refuseMissing:
		code, text = "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
	case refuseExpired:
		code, text = "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than the current UTC time; get a new token."
	case refuseEarly:
		text = "The access token is not yet valid; compare the clocks."
	case refuseAudience:
		code, text = "InvalidAuthenticationTokenAudience", "The access token has been obtained for the wrong audience or resource; ask for one for this service."
	case refuseTenant, refuseIssuer:
		code, text = "InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer."
	case refuseGone:
		text = "The principal of the access token does not exist any more or is disabled."
	}
	if aud == rest.Vault {
		number := map[refusal]string{refuseMissing: "AKV10000: Request is missing a Bearer or PoP token.", refuseAudience: "AKV10022: Invalid audience. " + text,
			refuseIssuer: "AKV10032: Invalid issuer. " + text, refuseTenant: "AKV10032: Invalid issuer. " + text}
		code = "Unauthorized"
		if t, ok := number[why]; ok {
			text = t
		}
	}
	if aud == rest.Graph {
		code = "InvalidAuthenticationToken"
	}
	if c, ok := databaseCodes[why]; ok && (aud == rest.PostgreSQL || aud == rest.SQL || aud == rest.Redis) {
		code = c
	}
	return az.Errorf(az.Unauthorized, code, "%s", text).Because(errors.New(string(why)))
}
