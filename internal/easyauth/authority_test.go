package easyauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hawser/hawser/internal/az"
)

// authority stands in for the plane's: it signs real tokens, checks PKCE and
// the secret, and ends a family of refresh tokens when one comes twice. That
// the real one does so is shown where the real one runs.
type authority struct {
	t      testing.TB
	clock  func() time.Time
	mu     sync.Mutex
	codes  map[string]code
	fresh  map[string]*family
	burnt  atomic.Int32 // families that ended by reuse
	asked  atomic.Int32
	before func() // runs before a code is redeemed
}

type code struct {
	claims    map[string]any
	challenge string
	redirect  string
}

type family struct {
	claims map[string]any
	used   map[string]bool
	over   bool
}

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func (a *authority) sign(claims map[string]any) string {
	return signWith(a.t, testKey(), claims)
}

func signWith(t testing.TB, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(claims)
	j, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := j.CompactSerialize()
	return out
}

// verify is Config.Verify.
func (a *authority) verify(_ context.Context, token string, want Expect) (Token, error) {
	no := az.Errorf(az.Unauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
	j, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return Token{}, no
	}
	b, err := j.Verify(&testKey().PublicKey)
	if err != nil {
		return Token{}, no
	}
	c, err := decodeObject(b)
	if err != nil {
		return Token{}, no
	}
	aud, _ := c["aud"].(string)
	exp, _ := c["exp"].(json.Number).Int64()
	_, access := c["idtyp"]
	if want.Audiences != nil && !slices.Contains(want.Audiences, aud) || access == want.ID || a.clock().Unix() >= exp {
		return Token{}, no
	}
	p := az.Principal{ObjectID: c["oid"].(string), Kind: az.User, TenantID: tenant, Expires: time.Unix(exp, 0)}
	p.AppID, _ = c["azp"].(string)
	if c["idtyp"] == "app" {
		p.Kind = az.ServicePrincipal
	}
	return Token{p, c}, nil
}

// RoundTrip is Config.Login: the token endpoint.
func (a *authority) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked.Add(1)
	if a.before != nil {
		a.before()
	}
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	status, body := a.token(r.PostForm)
	b, _ := json.Marshal(body)
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, nil
}

func (a *authority) token(f url.Values) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	refuse := func(why string) (int, any) {
		return 400, map[string]string{"error": "invalid_grant", "error_description": "AADSTS70000: " + why + "\r\nTrace ID: x"}
	}
	if f.Get("client_id") != clientID || f.Get("client_secret") != secret1 {
		return 401, map[string]string{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."}
	}
	var fam *family
	switch f.Get("grant_type") {
	case "authorization_code":
		c, ok := a.codes[f.Get("code")]
		delete(a.codes, f.Get("code"))
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge || f.Get("redirect_uri") != c.redirect {
			return refuse("code")
		}
		fam = &family{claims: c.claims, used: map[string]bool{}}
	case "refresh_token":
		old := f.Get("refresh_token")
		fam = a.fresh[old]
		if fam == nil || fam.over {
			return refuse("refresh token")
		}
		if fam.used[old] {
			fam.over = true
			a.burnt.Add(1)
			return refuse("refresh token reused")
		}
		fam.used[old] = true
	default:
		return refuse("grant")
	}
	next := random()
	a.fresh[next] = fam
	fam.claims["iat"], fam.claims["exp"] = a.clock().Unix(), a.clock().Add(time.Hour).Unix()
	access := map[string]any{"aud": "api://backend", "oid": fam.claims["oid"], "idtyp": "user", "exp": a.clock().Add(time.Hour).Unix(), "jti": random()}
	return 200, map[string]any{"id_token": a.sign(fam.claims), "access_token": a.sign(access), "refresh_token": next, "expires_in": 3600}
}
