package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// token gets a token by secret.
func (p *plane) token(t testing.TB, scope string) string {
	t.Helper()
	r := p.ask(t, p.secretForm(scope))
	if r.status != 200 {
		t.Fatal(r)
	}
	return r.json["access_token"].(string)
}

func b64(v any) string {
	b, ok := v.([]byte)
	if !ok {
		b, _ = json.Marshal(v)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func part(t testing.TB, token string, i int) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// rs256 signs header and claims with a key, as a forger would with his own and
// as nobody but the plane can with its own.
func rs256(t testing.TB, key *rsa.PrivateKey, header, claims any) string {
	t.Helper()
	text := b64(header) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

// lastRecord returns the newest audit record of a kind.
func (p *plane) lastRecord(t testing.TB, kind string) guard.Record {
	t.Helper()
	var last guard.Record
	err := p.guard.Audit().Each(context.Background(), 0, func(_ []byte, r guard.Record) bool {
		if r.Kind == kind {
			last = r
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func TestForgedTokensAreRefusedAndRecorded(t *testing.T) {
	p := onSQLite(t)
	ctx := context.Background()
	good := p.token(t, "https://vault.azure.net/.default")
	if _, err := p.Verify(ctx, good, rest.Vault); err != nil {
		t.Fatal(err)
	}
	ring, err := p.keys.ring(ctx)
	if err != nil {
		t.Fatal(err)
	}
	own := ring.current(az.MicrosOf(p.clock.now()))
	forger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	segs := strings.Split(good, ".")
	header := map[string]any{"typ": "JWT", "alg": "RS256", "x5t": own.KID, "kid": own.KID}
	// with returns the good claims with changes; nil removes one.
	with := func(kv ...any) map[string]any {
		m := part(t, good, 1)
		for i := 0; i < len(kv); i += 2 {
			if kv[i+1] == nil {
				delete(m, kv[i].(string))
			} else {
				m[kv[i].(string)] = kv[i+1]
			}
		}
		return m
	}
	// ours signs with the plane's own key, under its own header.
	ours := func(claims any) string {
		text, err := p.sign(ctx, own, 1, claims)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	hs256 := func(key []byte) string {
		text := b64(map[string]any{"typ": "JWT", "alg": "HS256", "kid": own.KID}) + "." + segs[1]
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return text + "." + b64(m.Sum(nil))
	}
	pub, err := x509.MarshalPKIXPublicKey(&own.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	withHeader := func(k string, v any) map[string]any {
		m := map[string]any{"typ": "JWT", "alg": "RS256", "kid": own.KID}
		m[k] = v
		return m
	}
	forgerJWK := map[string]any{"kty": "RSA", "n": b64(forger.N.Bytes()), "e": "AQAB", "kid": own.KID}
	now := p.clock.now().Unix()
	other := az.NewGUID()
	flipped := []byte(segs[1])
	flipped[len(flipped)/2] ^= 1

	for _, c := range []struct {
		name, token string
		why         refusal
	}{
		{"alg none", b64(map[string]any{"typ": "JWT", "alg": "none"}) + "." + segs[1] + ".", refuseAlgorithm},
		{"alg none with our kid", b64(withHeader("alg", "none")) + "." + segs[1] + "." + segs[2], refuseAlgorithm},
		{"alg NoNe", b64(withHeader("alg", "NoNe")) + "." + segs[1] + ".", refuseAlgorithm},
		{"HS256 with the public key as PEM", hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})), refuseAlgorithm},
		{"HS256 with the public key as DER", hs256(pub), refuseAlgorithm},
		{"HS256 with the certificate", hs256(own.Certificate), refuseAlgorithm},
		{"PS256", b64(withHeader("alg", "PS256")) + "." + segs[1] + "." + segs[2], refuseAlgorithm},
		{"unknown kid", rs256(t, forger, withHeader("kid", "nobody"), with()), refuseKey},
		{"no kid", rs256(t, forger, map[string]any{"alg": "RS256"}, with()), refuseKey},
		{"kid as path", rs256(t, forger, withHeader("kid", "../../etc/passwd"), with()), refuseKey},
		{"our header, forger's key", rs256(t, forger, json.RawMessage(`{"typ":"JWT","alg":"RS256","x5t":"`+own.KID+`","kid":"`+own.KID+`"}`), with()), refuseSignature},
		{"our kid, other header", rs256(t, own.private, header, with()), refuseHeader},
		{"jwk", rs256(t, forger, withHeader("jwk", forgerJWK), with()), refuseHeader},
		{"jku", rs256(t, forger, withHeader("jku", "https://forger.example/keys"), with()), refuseHeader},
		{"x5u", rs256(t, forger, withHeader("x5u", "https://forger.example/cert"), with()), refuseHeader},
		{"x5c", rs256(t, forger, withHeader("x5c", []string{"AAAA"}), with()), refuseHeader},
		{"crit", rs256(t, forger, withHeader("crit", []string{"exp"}), with()), refuseHeader},
		{"tampered payload", segs[0] + "." + b64(with("oid", other)) + "." + segs[2], refuseSignature},
		{"a flipped bit", segs[0] + "." + string(flipped) + "." + segs[2], refuseSignature},
		{"no signature", segs[0] + "." + segs[1] + ".", refuseSignature},
		{"truncated signature", good[:len(good)-4], refuseSignature},
		{"two parts", segs[0] + "." + segs[1], refuseForm},
		{"four parts", good + ".x", refuseForm},
		{"five parts, as JWE", "a.b.c.d.e", refuseForm},
		{"JSON serialisation", `{"payload":"` + segs[1] + `","protected":"` + segs[0] + `","signature":"` + segs[2] + `"}`, refuseForm},
		{"empty", "", refuseForm},
		{"dots", "..", refuseForm},
		{"a text", "hello", refuseForm},
		{"too large", segs[0] + "." + strings.Repeat("A", maxToken) + "." + segs[2], refuseSize},

		{"other tenant", ours(with("tid", other)), refuseTenant},
		{"other tenant's issuer", ours(with("iss", "https://sts.windows.net/"+other+"/")), refuseIssuer},
		{"issuer without slash", ours(with("iss", "https://sts.windows.net/"+p.names.Tenant)), refuseIssuer},
		{"no issuer", ours(with("iss", nil)), refuseIssuer},
		{"expired", ours(with("exp", now-1, "nbf", now-3600)), refuseExpired},
		{"ends now", ours(with("exp", now, "nbf", now-3600)), refuseExpired},
		{"no end", ours(with("exp", nil)), refuseClaims},
		{"not yet valid", ours(with("nbf", now+3600, "exp", now+7200)), refuseEarly},
		{"no oid", ours(with("oid", nil)), refuseObject},
		{"oid no GUID", ours(with("oid", "admin")), refuseObject},
		{"oid of another client", ours(with("appid", other)), refuseGone},
		{"oid of nobody", ours(with("oid", other)), refuseGone},
		{"oid of the registration", ours(with("oid", p.app.ID)), refuseGone},
		{"other audience", ours(with("aud", "https://management.azure.com/")), refuseAudience},
		{"audience of an app", ours(with("aud", other)), refuseAudience},
		{"audience as prefix", ours(with("aud", "https://vault.azure.net.forger.example")), refuseAudience},
		{"no audience", ours(with("aud", nil)), refuseAudience},
		{"several audiences", ours(with("aud", []string{"https://vault.azure.net"})), refuseClaims},
		{"id token", ours(map[string]any{"aud": p.appID, "iss": p.issuerV2(az.Host{}), "tid": p.names.Tenant, "oid": p.admin.ID, "sub": p.admin.ID, "ver": "2.0",
			"iat": now, "nbf": now, "exp": now + 3600, "preferred_username": "a@b", "nonce": "x"}), refuseType},
		{"id token for the vault", ours(with("idtyp", nil, "preferred_username", "a@b")), refuseType},
		{"a person's token without scopes", ours(with("idtyp", "user")), refuseType},
		{"an app's token with scopes", ours(with("scp", "user_impersonation")), refuseType},
		{"payload no JSON", ours(json.RawMessage(`"text"`)), refuseClaims},
		{"times as text", ours(with("exp", "soon")), refuseClaims},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := p.Verify(ctx, c.token, rest.Vault)
			if !az.Is(err, az.Unauthorized) || !who.IsZero() {
				t.Fatalf("got %+v, %v", who, err)
			}
			rec := p.lastRecord(t, guard.EventToken)
			if rec.Outcome != guard.Refused || rec.Reason != string(c.why) {
				t.Errorf("recorded %q, want %q", rec.Reason, c.why)
			}
			if sigless := c.why == refuseSignature || c.why == refuseKey || c.why == refuseHeader; sigless && rec.Who != "" {
				t.Errorf("the record names %s on an unproven token's word", rec.Who)
			}
			var e *az.Error
			if errors.As(err, &e); len(c.token) > 8 && strings.Contains(e.Error(), c.token) {
				t.Error("the error holds the token")
			}
		})
	}
	if _, err := p.Verify(ctx, good, rest.Vault); err != nil {
		t.Errorf("the good token does not stand any more: %v", err)
	}
}

func TestVerifySeesChangesAtOnce(t *testing.T) {
	ctx := context.Background()
	refused := func(t *testing.T, p *plane, token string) {
		t.Helper()
		if _, err := p.Verify(ctx, token, rest.ARM); !az.Is(err, az.Unauthorized) {
			t.Errorf("got %v", err)
		}
	}
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		p := newPlane(t, st, newShared(t))
		p.addApp(t)
		token := p.token(t, "https://management.azure.com//.default")
		if _, err := p.Verify(ctx, token, rest.ARM); err != nil {
			t.Fatal(err)
		}
		disabled := *p.admin
		disabled.Enabled = false
		p.write(t, func(tx *store.Tx) error { return p.dir.Update(tx, &disabled) })
		refused(t, p, token)
		p.write(t, func(tx *store.Tx) error { return p.dir.Update(tx, p.admin) })
		if _, err := p.Verify(ctx, token, rest.ARM); err != nil {
			t.Fatal(err)
		}
		p.write(t, func(tx *store.Tx) error { return p.dir.Remove(tx, p.app.ID) })
		refused(t, p, token)
	})
}

func TestVerifyOnAnotherPlane(t *testing.T) {
	ctx := context.Background()
	sa, sb := storetest.Pair(t)
	sh := newShared(t)
	a, b := newPlane(t, sa, sh), newPlane(t, sb, sh)
	a.addApp(t)
	token := a.token(t, "https://management.azure.com/.default")
	if _, err := b.Verify(ctx, token, rest.ARM); err != nil {
		t.Fatalf("one plane's token at the other: %v", err)
	}
	if err := b.RotateKeys(ctx, true); err != nil {
		t.Fatal(err)
	}
	fresh := a.token(t, "https://management.azure.com/.default")
	if part(t, fresh, 0)["kid"] == part(t, token, 0)["kid"] {
		t.Error("the other plane signs with the old key")
	}
	for _, tok := range []string{token, fresh} {
		if _, err := b.Verify(ctx, tok, rest.ARM); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
	}
	for range 5 {
		revoked := a.token(t, "https://management.azure.com/.default")
		if _, err := b.Verify(ctx, revoked, rest.ARM); err != nil {
			t.Fatal(err)
		}
		if err := a.RevokeKeys(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Verify(ctx, revoked, rest.ARM); !az.Is(err, az.Unauthorized) {
			t.Errorf("a key revoked at one plane is accepted at the other, where the token was remembered: %v", err)
		}
	}
	fresh = a.token(t, "https://management.azure.com/.default")
	if _, err := b.Verify(ctx, fresh, rest.ARM); err != nil {
		t.Fatal(err)
	}
	a.write(t, func(tx *store.Tx) error { return a.dir.Remove(tx, a.app.ID) })
	if _, err := b.Verify(ctx, fresh, rest.ARM); !az.Is(err, az.Unauthorized) {
		t.Errorf("a principal deleted at one plane is accepted at the other: %v", err)
	}
}

func TestVerifyTimes(t *testing.T) {
	p := onSQLite(t)
	ctx := context.Background()
	token := p.token(t, "https://management.azure.com/.default")
	exp := time.Unix(int64(part(t, token, 1)["exp"].(float64)), 0)
	if _, err := p.Verify(ctx, token, rest.ARM); err != nil {
		t.Fatal(err)
	}
	p.clock.advance(exp.Sub(p.clock.now()) - 2*time.Second)
	if _, err := p.Verify(ctx, token, rest.ARM); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	p.clock.advance(3 * time.Second)
	_, err := p.Verify(ctx, token, rest.ARM)
	var e *az.Error
	if !errors.As(err, &e) || e.Code != "ExpiredAuthenticationToken" {
		t.Errorf("a remembered token after its end: %v", err)
	}
}

func TestAudiences(t *testing.T) {
	p := onSQLite(t)
	ctx := context.Background()
	for aud, names := range map[rest.Audience][]string{
		rest.ARM: {"https://management.core.windows.net/", "https://management.azure.com", "https://management.azure.com/", "https://management.chinacloudapi.cn",
			"https://management.usgovcloudapi.net/", "https://management.hawser.localhost:8443", "https://management.hawser.localhost:8443/",
			"https://management.hawser.localhost", "797f4846-ba00-4fd7-ba43-dac1f8f63013", "HTTPS://Management.Azure.com"},
		rest.Vault: {"https://vault.azure.net", "https://vault.azure.net/", "https://vault.azure.cn", "https://vault.usgovcloudapi.net",
			"https://vault.hawser.localhost:8443", "https://vault.hawser.localhost", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"},
		rest.Graph:      {"https://graph.microsoft.com/", "https://graph.microsoft.us", "https://graph.hawser.localhost:8443/", "00000003-0000-0000-c000-000000000000"},
		rest.PostgreSQL: {"https://ossrdbms-aad.database.windows.net", "https://ossrdbms-aad.database.chinacloudapi.cn/", "https://postgres.hawser.localhost", "123cd850-d9df-40bd-94d5-c9f07b7fa203"},
	} {
		for _, name := range names {
			token := p.token(t, name+"/.default")
			if got := part(t, token, 1)["aud"]; got != name {
				t.Errorf("asked for %s, got aud %v", name, got)
			}
			for _, at := range []rest.Audience{rest.ARM, rest.Vault, rest.Graph, rest.PostgreSQL} {
				_, err := p.Verify(ctx, token, at)
				if ok := err == nil; ok != (at == aud) {
					t.Errorf("%s at %s: %v", name, at, err)
				}
			}
		}
	}
	// Tokens for services of Azure that have no door here open none.
	for _, name := range []string{"https://storage.azure.com", "https://acct.blob.core.windows.net", "https://acct.documents.azure.com:443", "https://redis.azure.com", "https://database.windows.net/"} {
		token := p.token(t, name+"/.default")
		if _, err := p.Verify(ctx, token, rest.ARM); !az.Is(err, az.Unauthorized) {
			t.Errorf("%s at ARM: %v", name, err)
		}
	}
	for _, name := range []string{"https://kv1.vault.azure.net", "https://vault.azure.net.evil.example", "https://vault.azure.net//", "http://vault.azure.net", "https://vault.azure.net:444",
		"https://vault.hawser.localhost:9", "vault.azure.net", "https://a.b.blob.core.windows.net", "https://evil.example", az.NewGUID(), "api://" + az.NewGUID(), "https://x@vault.azure.net"} {
		if r := p.ask(t, p.secretForm(name+"/.default")); r.code() != 500011 || r.json["error"] != "invalid_resource" {
			t.Errorf("%s: %s", name, r)
		}
	}
}

func TestRegisteredAudience(t *testing.T) {
	p := onSQLite(t)
	ctx := context.Background()
	var api *directory.Object
	p.write(t, func(tx *store.Tx) (err error) {
		api, err = p.dir.AddApplication(tx, directory.Object{Name: "api", Facts: directory.Facts{IdentifierURIs: []string{"api://orders"}, TokenVersion: 2}})
		return err
	})
	if r := p.ask(t, p.secretForm("api://orders/.default")); r.code() != 500011 {
		t.Errorf("without a service principal: %s", r)
	}
	p.write(t, func(tx *store.Tx) error { _, err := p.dir.AddServicePrincipal(tx, api.AppID); return err })
	for _, name := range []string{"api://orders", "api://" + api.AppID, api.AppID} {
		c := part(t, p.token(t, name+"/.default"), 1)
		if c["aud"] != api.AppID || c["ver"] != "2.0" || c["azp"] != p.appID || c["appid"] != nil || c["iss"] != "https://login.hawser.localhost:8443/"+p.names.Tenant+"/v2.0" {
			t.Errorf("%s: %v", name, c)
		}
	}
	token := p.token(t, "api://orders/.default")
	for _, at := range []rest.Audience{rest.ARM, rest.Vault, rest.Graph, rest.PostgreSQL, ""} {
		if _, err := p.Verify(ctx, token, at); !az.Is(err, az.Unauthorized) {
			t.Errorf("an app's token at %q: %v", at, err)
		}
	}
}

func TestVerifyRequest(t *testing.T) {
	p := onSQLite(t)
	token := p.token(t, "https://management.azure.com/.default")
	for _, c := range []struct {
		name   string
		header []string
		ok     bool
		code   string
	}{
		{"bearer", []string{"Bearer " + token}, true, ""},
		{"lower case", []string{"bearer " + token}, true, ""},
		{"none", nil, false, "AuthenticationFailed"},
		{"basic", []string{"Basic YTpi"}, false, "InvalidAuthenticationToken"},
		{"bare", []string{token}, false, "InvalidAuthenticationToken"},
		{"twice", []string{"Bearer " + token, "Bearer " + token}, false, "InvalidAuthenticationToken"},
		{"empty", []string{"Bearer "}, false, "InvalidAuthenticationToken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &http.Request{Header: http.Header{}, RemoteAddr: "192.0.2.1:5"}
			if c.header != nil {
				r.Header["Authorization"] = c.header
			}
			_, err := p.VerifyRequest(context.Background(), r, rest.ARM)
			var e *az.Error
			if ok := err == nil; ok != c.ok || !ok && (!errors.As(err, &e) || e.Code != c.code) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNothingOfATokenIsWrittenDown(t *testing.T) {
	p := onSQLite(t)
	token := p.token(t, "https://management.azure.com/.default")
	_, _ = p.Verify(context.Background(), token, rest.Vault)
	_, _ = p.Verify(context.Background(), token+"x", rest.ARM)
	p.ask(t, p.secretForm("https://nowhere.example/.default"))
	segs := strings.Split(token, ".")
	_ = p.guard.Audit().Each(context.Background(), 0, func(line []byte, _ guard.Record) bool {
		for _, s := range append(segs[1:], p.secret.Reveal()) {
			if bytes.Contains(line, []byte(s)) {
				t.Errorf("the audit holds a part of a token or a secret: %s", line)
			}
		}
		return true
	})
	if s := fmt.Sprintf("%v %+v %#v", p.secret, p.secret, p.secret); strings.Contains(s, p.secret.Reveal()) {
		t.Error("a secret prints")
	}
}
