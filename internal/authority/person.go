package authority

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/signin"
)

// signed is one act of signing in. Codes, refresh tokens and access tokens
// carry it, so that all that descends from it ends with it.
type signed struct {
	User     string    `json:"user"`
	Session  string    `json:"session,omitempty"`
	At       az.Micros `json:"at"`
	AMR      []string  `json:"amr,omitempty"`
	Provider string    `json:"provider,omitempty"`
	Peer     string    `json:"peer,omitempty"` // address of the browser
}

func signedBy(s signin.Session, peer string) signed {
	return signed{User: s.User, Session: s.ID, At: az.MicrosOf(s.AuthTime), AMR: s.AMR, Provider: s.Provider, Peer: peer}
}

func (s signed) mfa() bool { return slices.Contains(s.AMR, "mfa") }

// person returns who signed in, if what they signed in for still holds.
func (a *Authority) person(ctx context.Context, s signed) (*directory.Object, error) {
	o, ok, err := a.dir.Get(ctx, s.User)
	switch {
	case err != nil:
		return nil, err
	case !ok || o.Kind != az.User:
		return nil, oauthError(az.Invalid, "invalid_grant", 50034, "The user account does not exist in the directory '%s'. To sign into this application, the account must be added to the directory.", a.names.Tenant)
	case !o.Enabled:
		return nil, oauthError(az.Invalid, "invalid_grant", 50057, "The user account is disabled.")
	case s.At < o.ValidFrom:
		return nil, oauthError(az.Invalid, "invalid_grant", 50173, "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. Sign in again.")
	}
	return o, nil
}

// personal turns an application's claims into those of a person's token.
func (a *Authority) personal(c *claims, g grant) {
	u := g.Person
	c.IdTyp, c.OID, c.Sub, c.Scp = "user", u.ID, a.pairwise(resourceOf(g.Target), u.ID), strings.Join(g.Scopes, " ")
	c.Aio, c.SID, c.AMR, c.ACRS, c.groupClaim = stamp(g.By.At), g.By.Session, g.By.AMR, g.ACRS, g.Groups
	c.Idp, c.Name = "", u.Name
	if g.By.Provider != "" {
		c.Idp = g.By.Provider
	}
	if g.Target.Version == 2 {
		c.Preferred = u.UPN
	} else {
		c.ACR, c.UPN, c.Unique, c.Given, c.Family, c.IPAddr = "1", u.UPN, u.UPN, u.GivenName, u.Surname, g.By.Peer
	}
	optional(c, g.Target.facts().OptionalToken, g)
}

// resourceOf names a resource for pairwise subjects.
func resourceOf(t target) string {
	if t.SP != nil {
		return t.SP.AppID
	}
	return t.Aud
}

// optional adds claims that an application registered that it wants.
// Source: Entra, "Optional claims reference".
func optional(c *claims, list []directory.OptionalClaim, g grant) {
	u := g.Person
	for _, o := range list {
		switch strings.ToLower(o.Name) {
		case "upn":
			c.UPN = u.UPN
		case "email":
			c.Email = u.Mail
		case "family_name":
			c.Family = u.Surname
		case "given_name":
			c.Given = u.GivenName
		case "preferred_username":
			c.Preferred = u.UPN
		case "ipaddr":
			c.IPAddr = g.By.Peer
		case "auth_time":
			c.AuthTime = g.By.At.Time().Unix()
		case "sid":
			c.SID = g.By.Session
		case "login_hint":
			c.LoginHint = u.UPN
		}
	}
}

// pairwise is who a person is for one application: the same on every plane and
// at every sign-in, and nothing that two applications could compare.
// Source: OpenID Connect Core §8.1.
func (a *Authority) pairwise(app, user string) string {
	return base64.RawURLEncoding.EncodeToString(a.cfg.Sealer.Hash("authority/subject", []byte(app+"\x00"+user))[1:])
}

// stamp puts the moment of signing in into a claim that only its issuer reads:
// auth_time counts whole seconds, and a token must be known for older than a
// revocation of the same second.
func stamp(at az.Micros) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(at))) + opaque(15)
}

func stampOf(aio string) (az.Micros, bool) {
	const n = 11 // characters of eight bytes
	if len(aio) <= n {
		return 0, false
	}
	b, err := base64.RawURLEncoding.DecodeString(aio[:n])
	if err != nil || len(b) != 8 {
		return 0, false
	}
	return az.Micros(binary.BigEndian.Uint64(b)), true
}

// idToken signs the token that tells a client who signed in. access and code
// are what is given out with it, "" if nothing is.
func (a *Authority) idToken(ctx context.Context, g grant, ep endpoint, access, code string) (string, error) {
	u, now := g.Person, a.clock()
	c := claims{Aud: g.Client.AppID, Iat: now.Unix(), Nbf: now.Unix(), Exp: now.Add(idTokenLife).Unix(), OID: u.ID, TID: a.names.Tenant,
		Sub: a.pairwise(g.Client.AppID, u.ID), SID: g.By.Session, AuthTime: g.By.At.Time().Unix(), Nonce: g.Nonce, Roles: g.Roles,
		RH: "0." + opaque(16), UTI: opaque(16), Aio: stamp(g.By.At), groupClaim: g.Groups, Idp: g.By.Provider}
	if slices.Contains(g.Words, "profile") || ep == endpointV1 {
		c.Name, c.Preferred = u.Name, u.UPN
	}
	if slices.Contains(g.Words, "email") {
		c.Email = u.Mail
	}
	version := 2
	if ep == endpointV1 {
		version = 1
		c.Iss, c.Ver, c.AMR, c.IPAddr, c.UPN, c.Unique, c.Given, c.Family = a.issuerV1(), "1.0", g.By.AMR, g.By.Peer, u.UPN, u.UPN, u.GivenName, u.Surname
		c.Preferred = ""
	} else {
		c.Iss, c.Ver = a.issuerV2(g.Host), "2.0"
	}
	optional(&c, g.Client.Facts().OptionalID, g)
	c.AtHash, c.CHash = halfHash(access), halfHash(code)
	return a.signNow(ctx, version, c)
}

// idTokenLife is how long an id token holds. Source: Entra, one hour.
const idTokenLife = time.Hour

// halfHash is at_hash and c_hash. Source: OpenID Connect Core §3.1.3.6.
func halfHash(s string) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// Most groups that a token carries; who is in more asks Graph. Source: Entra,
// groups overage: 200 in JWTs, fewer in what travels in an address.
const (
	maxGroups         = 200
	maxGroupsImplicit = 150
)

// groupClaim is the groups of a person in a token, or where to ask for them.
type groupClaim struct {
	Groups    []string                 `json:"groups,omitempty"`
	HasGroups bool                     `json:"hasgroups,omitempty"`
	Names     map[string]string        `json:"_claim_names,omitempty"`
	Sources   map[string]groupEndpoint `json:"_claim_sources,omitempty"`
}

type groupEndpoint struct {
	Endpoint string `json:"endpoint"`
}

// groupsFor is the claim for an application that wants groups.
func (a *Authority) groupsFor(ctx context.Context, g *grant, f *directory.Facts, sp *directory.Object, groups []string, implicit bool) (groupClaim, error) {
	wants := ""
	for w := range strings.SplitSeq(f.GroupClaims, ",") {
		switch strings.TrimSpace(w) {
		case "SecurityGroup", "All":
			wants = "all"
		case "ApplicationGroup":
			if wants == "" {
				wants = "assigned"
			}
		}
	}
	if wants == "" || len(groups) == 0 {
		return groupClaim{}, nil
	}
	if wants == "assigned" {
		var some []string
		for _, id := range groups {
			_, is, err := a.dir.AppRoles(ctx, sp.ID, []string{id})
			if err != nil {
				return groupClaim{}, err
			}
			if is {
				some = append(some, id)
			}
		}
		groups = some
	}
	switch {
	case implicit && len(groups) > maxGroupsImplicit:
		return groupClaim{HasGroups: true}, nil
	case len(groups) > maxGroups:
		where := a.graphOrigin(g.Host) + "/v1.0/users/" + g.Person.ID + "/getMemberObjects"
		return groupClaim{Names: map[string]string{"groups": "src1"}, Sources: map[string]groupEndpoint{"src1": {where}}}, nil
	}
	return groupClaim{Groups: groups}, nil
}

// clientInfo is what MSALs find an account by. Source: wire/entra.md §2.
func (a *Authority) clientInfo(user string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"uid":"` + user + `","utid":"` + a.names.Tenant + `"}`))
}
