package authority

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
)

// proof says how a client proved who it is; the values are those of appidacr.
type proof string

const (
	unproven      proof = "0" // a public client
	bySecret      proof = "1"
	byCertificate proof = "2" // and by federation and as a managed identity
)

// grant is what the earlier steps established; issue turns it into a token and
// asks nothing more.
type grant struct {
	Principal *directory.Object // the client's
	Client    *directory.Client // nil for managed identities
	Target    target
	Proof     proof
	Host      az.Host // by which the client knows the plane
	Life      time.Duration
	Roles     []string

	// Person is whom a token speaks for; nil for the client itself. What is
	// below stands only for people.
	Person *directory.Object
	By     signed
	Scopes []string // of the access token
	Words  []string // of OpenID Connect's scopes, those that it may have
	Groups groupClaim
	ACRS   []string
	Nonce  string // for the id token
}

// issued is a signed token and its times.
type issued struct {
	text         string
	from, expiry time.Time
}

// claims are those of access tokens. Source: wire/entra.md §5 and
// wire/managed-identity.md §11.
type claims struct {
	Aud       string   `json:"aud"`
	Iss       string   `json:"iss"`
	Iat       int64    `json:"iat"`
	Nbf       int64    `json:"nbf"`
	Exp       int64    `json:"exp"`
	ACR       string   `json:"acr,omitempty"`
	ACRS      []string `json:"acrs,omitempty"`
	Aio       string   `json:"aio,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	AppID     string   `json:"appid,omitempty"`
	AppIDACR  string   `json:"appidacr,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	Azp       string   `json:"azp,omitempty"`
	AzpACR    string   `json:"azpacr,omitempty"`
	Email     string   `json:"email,omitempty"`
	Family    string   `json:"family_name,omitempty"`
	Given     string   `json:"given_name,omitempty"`
	Idp       string   `json:"idp,omitempty"`
	IdTyp     string   `json:"idtyp,omitempty"`
	IPAddr    string   `json:"ipaddr,omitempty"`
	LoginHint string   `json:"login_hint,omitempty"`
	Name      string   `json:"name,omitempty"`
	OID       string   `json:"oid,omitempty"`
	Preferred string   `json:"preferred_username,omitempty"`
	RH        string   `json:"rh,omitempty"`
	Roles     []string `json:"roles,omitempty"`
	Scp       string   `json:"scp,omitempty"`
	SID       string   `json:"sid,omitempty"`
	Sub       string   `json:"sub,omitempty"`
	TID       string   `json:"tid,omitempty"`
	Unique    string   `json:"unique_name,omitempty"`
	UPN       string   `json:"upn,omitempty"`
	UTI       string   `json:"uti,omitempty"`
	Ver       string   `json:"ver,omitempty"`
	MIRID     string   `json:"xms_mirid,omitempty"`

	// Of id tokens only.
	AtHash string `json:"at_hash,omitempty"`
	CHash  string `json:"c_hash,omitempty"`
	Nonce  string `json:"nonce,omitempty"`

	groupClaim
}

// opaque returns n random bytes as text, for claims that only their issuer
// could read.
func opaque(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

func (a *Authority) claims(g grant, now time.Time) claims {
	p := g.Principal
	c := claims{Aud: g.Target.Aud, Iat: now.Unix(), Nbf: now.Add(-skew).Unix(), Exp: now.Add(g.Life).Unix(), Aio: opaque(24),
		IdTyp: "app", OID: p.ID, Sub: p.ID, TID: a.names.Tenant, RH: "0." + opaque(16), UTI: opaque(16), Roles: g.Roles}
	if g.Target.Version == 2 {
		c.Iss, c.Ver, c.Azp, c.AzpACR = a.issuerV2(g.Host), "2.0", p.AppID, string(g.Proof)
	} else {
		c.Iss, c.Ver, c.AppID, c.AppIDACR = a.issuerV1(), "1.0", p.AppID, string(g.Proof)
	}
	c.Idp = a.issuerV1()
	if p.IsManagedIdentity() {
		// Azure writes the group's segment in lower case here.
		c.MIRID = strings.Replace(p.Resource.String(), "/resourceGroups/", "/resourcegroups/", 1)
	}
	if g.Person != nil {
		a.personal(&c, g)
	}
	return c
}

// issue signs an access token.
func (a *Authority) issue(ctx context.Context, g grant) (issued, error) {
	c := a.claims(g, a.clock())
	text, err := a.signNow(ctx, g.Target.Version, c)
	if err != nil {
		return issued{}, err
	}
	return issued{text, time.Unix(c.Nbf, 0).UTC(), time.Unix(c.Exp, 0).UTC()}, nil
}

// signNow signs with the key of the moment. Every token passes here.
func (a *Authority) signNow(ctx context.Context, version int, c claims) (string, error) {
	ring, err := a.keys.ring(ctx)
	if err != nil {
		return "", err
	}
	key := ring.current(az.MicrosOf(a.clock()))
	if key == nil {
		return "", az.Errorf(az.Unavailable, "temporarily_unavailable", "The authority has no key to sign with at the moment; try again.")
	}
	return a.sign(ctx, key, version, c)
}

func (a *Authority) sign(ctx context.Context, key *signingKey, version int, c any) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", az.Errorf(az.Internal, "", "").Because(err)
	}
	head := key.header
	if version == 2 {
		head = key.header2
	}
	e := base64.RawURLEncoding
	// Room for header, payload, dot and an RSA-2048 signature.
	b := make([]byte, 0, len(head)+e.EncodedLen(len(payload))+1+e.EncodedLen(keyBits/8))
	b = append(b, head...)
	b = e.AppendEncode(b, payload)
	sig, err := a.signer.sign(ctx, key.private, b)
	if err != nil {
		return "", err
	}
	b = append(b, '.')
	return string(e.AppendEncode(b, sig)), nil
}

// appLife draws the life of an application's token.
func appLife() time.Duration {
	span := int64((appLifeMax - appLifeMin) / time.Second)
	n, err := rand.Int(rand.Reader, big.NewInt(span))
	if err != nil { // never: crypto/rand crashes the program instead
		return appLifeMin
	}
	return appLifeMin + time.Duration(n.Int64())*time.Second
}
