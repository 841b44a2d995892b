package authority

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

const (
	// maxAssertion bounds an assertion in bytes: real ones with a certificate
	// chain stay below 12 KiB.
	maxAssertion = 16 << 10
	// maxAssertionLife bounds what a client signs for itself. MSALs use ten
	// minutes, Entra allows a day.
	maxAssertionLife = 24 * time.Hour
)

// What assertions may be signed with. Source: wire/entra.md §3; RFC 7518 §3.1.
var (
	certificateAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}
	outsideAlgorithms     = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.ES256, jose.ES384}
)

// assertion is a client assertion, parsed and not yet believed. Its claims are
// read case-sensitively and without duplicates (go-jose's JSON): an outside
// issuer may let others choose the names of some.
type assertion struct {
	text   string
	jws    *jose.JSONWebSignature
	header jose.Header
	claims jwt.Claims
}

func parseAssertion(text string) (*assertion, error) {
	if len(text) > maxAssertion {
		return nil, badAssertion("it is too large")
	}
	jws, err := jose.ParseSignedCompact(text, outsideAlgorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, badAssertion("it is not a JWT signed with an algorithm that is allowed")
	}
	a := &assertion{text: text, jws: jws, header: jws.Signatures[0].Protected}
	tok, err := jwt.ParseSigned(text, outsideAlgorithms)
	if err != nil || tok.UnsafeClaimsWithoutVerification(&a.claims) != nil {
		return nil, badAssertion("its claims cannot be read")
	}
	return a, nil
}

func badAssertion(why string) error {
	return oauthError(az.Unauthorized, "invalid_client", 50027, "JWT token is invalid or malformed: %s.", why)
}

// byAssertion proves a client by a signed assertion: one it signed with a
// certificate's key, or one from an issuer that it trusts.
func (a *Authority) byAssertion(ctx context.Context, t *tokenRequest, c *directory.Client) error {
	as, err := parseAssertion(t.Assertion.Reveal())
	if err != nil || c == nil {
		return err
	}
	if strings.EqualFold(as.claims.Issuer, c.AppID) {
		return a.byCertificate(ctx, t, c, as)
	}
	return a.byFederation(ctx, c, as)
}

// times checks when an assertion holds.
func (as *assertion) times(now time.Time) error {
	c := as.claims
	outside := func(why string) error {
		return oauthError(az.Unauthorized, "invalid_client", 700024, "Client assertion is not within its valid time range: %s. Compare the clocks.", why)
	}
	switch {
	case c.Expiry == nil:
		return outside("it has no end")
	case !now.Before(c.Expiry.Time().Add(skew)):
		return outside("it has ended")
	case c.NotBefore != nil && now.Add(skew).Before(c.NotBefore.Time()):
		return outside("it has not begun")
	case c.IssuedAt != nil && now.Add(skew).Before(c.IssuedAt.Time()):
		return outside("it was issued in the future")
	}
	return nil
}

// life is how long the assertion claims to hold.
func (as *assertion) life(now time.Time) time.Duration {
	from := now
	if as.claims.NotBefore != nil {
		from = as.claims.NotBefore.Time()
	} else if as.claims.IssuedAt != nil {
		from = as.claims.IssuedAt.Time()
	}
	return as.claims.Expiry.Time().Sub(from)
}

func (a *Authority) byCertificate(ctx context.Context, t *tokenRequest, c *directory.Client, as *assertion) error {
	unknown := oauthError(az.Unauthorized, "invalid_client", 700027,
		"Client assertion failed signature validation: the certificate that it names is not registered on the application, has ended, or did not sign it.")
	now := a.clock()
	var cert *directory.Credential
	for _, cr := range c.Credentials {
		if cr.Kind == directory.Certificate && as.names(cr) {
			cert = cr
		}
	}
	if cert == nil || now.Before(cert.X509.NotBefore.Add(-skew)) || !now.Before(cert.X509.NotAfter) {
		return unknown
	}
	allowed := false
	for _, alg := range certificateAlgorithms {
		allowed = allowed || as.header.Algorithm == string(alg)
	}
	if _, err := as.jws.Verify(cert.X509.PublicKey); err != nil || !allowed {
		return unknown
	}
	if !strings.EqualFold(as.claims.Subject, c.AppID) {
		return badAssertion("its subject is not the client")
	}
	if len(as.claims.Audience) != 1 || !a.isAudience(as.claims.Audience[0]) {
		return oauthError(az.Unauthorized, "invalid_client", 700023, "Client assertion audience claim does not match this authority; it must be the token endpoint.")
	}
	if err := as.times(now); err != nil {
		return err
	}
	if as.life(now) > maxAssertionLife+skew {
		return oauthError(az.Unauthorized, "invalid_client", 700024, "Client assertion is not within its valid time range: it claims to hold for more than %s.", maxAssertionLife)
	}
	return a.useOnce(ctx, t, c, as)
}

// names reports whether the assertion's header names a certificate: by x5t,
// x5t#S256 or, as some libraries do, by either as kid. All that are there must.
func (as *assertion) names(cr *directory.Credential) bool {
	x5t, has1 := as.header.ExtraHeaders["x5t"].(string)
	x5t256, has256 := as.header.ExtraHeaders["x5t#S256"].(string)
	if !has1 && !has256 {
		return sameThumbprint(as.header.KeyID, cr.SHA1) || sameThumbprint(as.header.KeyID, cr.SHA256)
	}
	return (!has1 || sameThumbprint(x5t, cr.SHA1)) && (!has256 || sameThumbprint(x5t256, cr.SHA256))
}

// sameThumbprint compares a thumbprint in base64 of either alphabet, padded or
// not, or in hex. Thumbprints are public: this needs no constant time.
func sameThumbprint(text string, sum []byte) bool {
	if len(text) > 2*sha256.Size || text == "" {
		return false
	}
	if strings.EqualFold(text, hex.EncodeToString(sum)) {
		return true
	}
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	return text == base64.RawURLEncoding.EncodeToString(sum)
}

// isAudience reports whether an assertion's audience is this authority: its
// issuers, or a token endpoint under any name and tenant spelling that is ours.
func (a *Authority) isAudience(aud string) bool {
	if a.issuers[aud] || len(aud) > 512 {
		return len(aud) <= 512
	}
	u, err := url.Parse(aud)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	if _, ok := a.isLogin(u); !ok {
		return false
	}
	word, path, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if several, err := a.tenantOf(word); err != nil || several {
		return false
	}
	switch path {
	case "", "v2.0", "oauth2/token", "oauth2/v2.0/token":
		return true
	}
	return false
}

// useOnce keeps a stolen assertion from being used by somebody else, on any
// plane: an assertion's id stands for one assertion, and that may come again
// only from where it came first. MSALs send the same one for ten minutes, for
// each resource that the app asks for; see docs/decisions/0007-assertion-reuse.md.
func (a *Authority) useOnce(ctx context.Context, t *tokenRequest, c *directory.Client, as *assertion) error {
	id := as.claims.ID
	if id == "" {
		id = as.text
	}
	key, proof := digest(c.AppID, id), digest(as.text, t.Peer)
	first, used, err := a.store.Assertion(ctx, key)
	if err != nil {
		return err
	}
	if !used {
		until := az.MicrosOf(as.claims.Expiry.Time().Add(skew))
		err := a.store.Write(ctx, func(tx *store.Tx) error {
			first, err = tx.UseAssertion(key, proof, until)
			return err
		})
		if err != nil {
			return err
		}
	}
	if first != proof {
		return oauthError(az.Unauthorized, "invalid_client", 50013, "The client assertion's id was used before, by another assertion or from elsewhere; sign a new one.")
	}
	return nil
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
