package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// certified is a key with its certificate, as a client holds it.
type certified struct {
	key crypto.Signer
	der []byte
}

func newCertified(t testing.TB, key crypto.Signer, life time.Duration) certified {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return certified{key, der}
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (c certified) sha1() []byte   { s := sha1.Sum(c.der); return s[:] }
func (c certified) sha256() []byte { s := sha256.Sum256(c.der); return s[:] }

// sign makes an assertion with an independent library.
func (c certified) sign(t testing.TB, alg jose.SignatureAlgorithm, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	opts := &jose.SignerOptions{ExtraHeaders: header}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: c.key}, opts.WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p *plane) addCertificate(t testing.TB, c certified) {
	t.Helper()
	p.write(t, func(tx *store.Tx) error { _, err := p.dir.AddCertificate(tx, p.app.ID, "", c.der); return err })
}

func (p *plane) assertionForm(text string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {p.appID}, "scope": {"https://vault.azure.net/.default openid offline_access profile"},
		"client_assertion_type": {assertionType}, "client_assertion": {text}}
}

// own are the claims that MSALs put into an assertion, with changes.
func (p *plane) own(kv ...any) map[string]any {
	now := p.clock.now().Unix()
	m := map[string]any{"aud": "https://" + loginHost + "/" + p.names.Tenant + "/oauth2/v2.0/token", "iss": p.appID, "sub": p.appID, "jti": az.NewGUID(), "nbf": now, "exp": now + 600}
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == nil {
			delete(m, kv[i].(string))
		} else {
			m[kv[i].(string)] = kv[i+1]
		}
	}
	return m
}

func TestCertificateAssertions(t *testing.T) {
	p := onSQLite(t)
	rsaCert := newCertified(t, rsaKey(t), time.Hour)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecCert := newCertified(t, ecKey, time.Hour)
	stranger := newCertified(t, rsaKey(t), time.Hour)
	p.addCertificate(t, rsaCert)
	p.addCertificate(t, ecCert)
	std, rawURL := base64.StdEncoding, base64.RawURLEncoding
	s256 := func(c certified) map[jose.HeaderKey]any {
		return map[jose.HeaderKey]any{"x5t#S256": std.EncodeToString(c.sha256())}
	}
	s1 := func(c certified) map[jose.HeaderKey]any {
		return map[jose.HeaderKey]any{"x5t": rawURL.EncodeToString(c.sha1())}
	}
	now := p.clock.now().Unix()
	other := newCertified(t, rsaKey(t), time.Hour)
	for _, c := range []struct {
		name, text string
		code       int // 0: accepted
	}{
		{"msal-go", rsaCert.sign(t, jose.PS256, s256(rsaCert), p.own()), 0},
		{"msal-node", rsaCert.sign(t, jose.PS256, map[jose.HeaderKey]any{"x5t#S256": rawURL.EncodeToString(rsaCert.sha256())}, p.own()), 0},
		{"msal-py", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own()), 0},
		{"x5t padded, standard alphabet", rsaCert.sign(t, jose.RS256, map[jose.HeaderKey]any{"x5t": std.EncodeToString(rsaCert.sha1())}, p.own()), 0},
		{"with x5c", rsaCert.sign(t, jose.RS256, map[jose.HeaderKey]any{"x5t": rawURL.EncodeToString(rsaCert.sha1()), "x5c": []string{std.EncodeToString(rsaCert.der)}}, p.own()), 0},
		{"ES256", ecCert.sign(t, jose.ES256, s256(ecCert), p.own()), 0},
		{"aud: issuer v2", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", p.issuerV2(az.Host{}))), 0},
		{"aud: Azure's endpoint", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", "https://login.microsoftonline.com/"+p.names.Tenant+"/oauth2/v2.0/token")), 0},
		{"aud: alias", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", "https://"+loginHost+"/adfs/oauth2/token")), 0},
		{"client id in upper case", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("iss", strings.ToUpper(p.appID), "sub", strings.ToUpper(p.appID))), 0},
		{"no jti", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("jti", nil)), 0},

		{"stranger's key, our thumbprint", stranger.sign(t, jose.RS256, s1(rsaCert), p.own()), 700027},
		{"stranger's certificate", stranger.sign(t, jose.RS256, s1(stranger), p.own()), 700027},
		{"stranger's certificate in x5c", stranger.sign(t, jose.RS256, map[jose.HeaderKey]any{"x5t": rawURL.EncodeToString(rsaCert.sha1()), "x5c": []string{std.EncodeToString(stranger.der)}}, p.own()), 700027},
		{"no thumbprint", rsaCert.sign(t, jose.RS256, nil, p.own()), 700027},
		{"thumbprints of two", rsaCert.sign(t, jose.RS256, map[jose.HeaderKey]any{"x5t": rawURL.EncodeToString(rsaCert.sha1()), "x5t#S256": rawURL.EncodeToString(other.sha256())}, p.own()), 700027},
		{"RS512", rsaCert.sign(t, jose.RS512, s1(rsaCert), p.own()), 700027},
		{"HS256 with the certificate", certified{}.hs256(t, rsaCert.der, p.own()), 50027},
		{"aud: elsewhere", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", "https://login.example/oauth2/token")), 700023},
		{"aud: other tenant", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", "https://"+loginHost+"/"+az.NewGUID()+"/oauth2/v2.0/token")), 700023},
		{"aud: two", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", []string{p.issuerV1(), "https://other.example"})), 700023},
		{"aud: none", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("aud", nil)), 700023},
		{"sub: another", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("sub", az.NewGUID())), 50027},
		{"ended", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("nbf", now-1200, "exp", now-400)), 700024},
		{"not begun", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("nbf", now+400, "exp", now+900)), 700024},
		{"no end", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("exp", nil)), 700024},
		{"for a week", rsaCert.sign(t, jose.RS256, s1(rsaCert), p.own("exp", now+7*86400)), 700024},
		{"a text", "hello", 50027},
		{"too large", strings.Repeat("a", maxAssertion+1), 50027},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.ask(t, p.assertionForm(c.text))
			if c.code == 0 {
				if r.status != 200 {
					t.Fatal(r)
				}
				if got := part(t, r.json["access_token"].(string), 1)["appidacr"]; got != "2" {
					t.Errorf("appidacr %v", got)
				}
			} else if r.status != 401 || r.code() != c.code || r.json["error"] != "invalid_client" {
				t.Fatalf("want %d, got %s", c.code, r)
			}
		})
		p.failures = newThrottle(p.clock.now, maxFailures, maxPeerFailures)
	}
}

func (certified) hs256(t testing.TB, key []byte, claims any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCertificateEnds(t *testing.T) {
	p := onSQLite(t)
	c := newCertified(t, rsaKey(t), time.Hour)
	p.addCertificate(t, c)
	p.clock.advance(2 * time.Hour)
	h := map[jose.HeaderKey]any{"x5t": base64.RawURLEncoding.EncodeToString(c.sha1())}
	if r := p.ask(t, p.assertionForm(c.sign(t, jose.RS256, h, p.own()))); r.code() != 700027 {
		t.Error(r)
	}
}

func TestAssertionReuse(t *testing.T) {
	p := onSQLite(t)
	c := newCertified(t, rsaKey(t), time.Hour)
	p.addCertificate(t, c)
	h := map[jose.HeaderKey]any{"x5t": base64.RawURLEncoding.EncodeToString(c.sha1())}
	claims := p.own()
	text := c.sign(t, jose.RS256, h, claims)
	ctx := context.Background()
	try := func(text, peer string) error {
		client, _, err := p.dir.Client(ctx, p.appID)
		if err != nil {
			t.Fatal(err)
		}
		return p.byAssertion(ctx, &tokenRequest{ClientID: p.appID, Peer: peer, Assertion: az.NewSecret(text)}, client)
	}
	if err := try(text, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if err := try(text, "192.0.2.1"); err != nil {
		t.Errorf("MSAL sends one assertion for several resources: %v", err)
	}
	if err := try(text, "192.0.2.2"); !az.Is(err, az.Unauthorized) {
		t.Errorf("from elsewhere: %v", err)
	}
	claims["exp"] = claims["exp"].(int64) + 1
	if err := try(c.sign(t, jose.RS256, h, claims), "192.0.2.1"); !az.Is(err, az.Unauthorized) {
		t.Errorf("another assertion with its id: %v", err)
	}
	claims["jti"] = "new"
	if err := try(c.sign(t, jose.RS256, h, claims), "192.0.2.2"); err != nil {
		t.Errorf("a new one: %v", err)
	}
}

// outsideServer is an OpenID Connect issuer on loopback, as a cluster has.
type outsideServer struct {
	*httptest.Server
	keys   atomic.Pointer[jose.JSONWebKeySet]
	visits atomic.Int64
	doc    atomic.Pointer[map[string]any]
	down   atomic.Bool
}

func newOutside(t testing.TB) *outsideServer {
	t.Helper()
	o := &outsideServer{}
	o.keys.Store(&jose.JSONWebKeySet{})
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		o.visits.Add(1)
		if o.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(o.doc.Load())
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(o.keys.Load()) })
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(" ", maxDocument) + `]}`))
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	})
	o.Server = httptest.NewTLSServer(mux)
	t.Cleanup(o.Close)
	o.name("issuer", o.URL, "jwks_uri", o.URL+"/keys")
	return o
}

func (o *outsideServer) name(kv ...any) {
	m := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	o.doc.Store(&m)
}

func (o *outsideServer) add(kid string, key crypto.Signer) {
	set := *o.keys.Load()
	set.Keys = append(append([]jose.JSONWebKey(nil), set.Keys...), jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"})
	o.keys.Store(&set)
}

func (o *outsideServer) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(o.Certificate())
	return pool
}

func (o *outsideServer) claims(p *plane, kv ...any) map[string]any {
	return p.own(append([]any{"iss", o.URL, "sub", "system:serviceaccount:shop:web", "aud", []string{"api://AzureADTokenExchange"}}, kv...)...)
}

func TestFederatedAssertions(t *testing.T) {
	o := newOutside(t)
	p := onSQLite(t, func(c *Config) { c.FederationRoots = o.roots() })
	p.write(t, func(tx *store.Tx) error {
		_, err := p.dir.AddFederated(tx, p.app.ID, directory.CredentialFacts{Name: "k8s", Issuer: o.URL, Subject: "system:serviceaccount:shop:web", Audiences: []string{"api://AzureADTokenExchange"}})
		return err
	})
	signer := certified{key: rsaKey(t)}
	o.add("one", signer.key)
	kid := func(k string) map[jose.HeaderKey]any { return map[jose.HeaderKey]any{"kid": k} }
	forger := certified{key: rsaKey(t)}
	now := p.clock.now().Unix()
	for _, c := range []struct {
		name, text string
		code       int
	}{
		{"good", signer.sign(t, jose.RS256, kid("one"), o.claims(p)), 0},
		{"the same again", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "jti", "x")), 0},
		{"once more", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "jti", "x")), 0},
		{"no kid, one key", signer.sign(t, jose.RS256, nil, o.claims(p)), 0},
		{"forger's key", forger.sign(t, jose.RS256, kid("one"), o.claims(p)), 700027},
		{"unknown kid", forger.sign(t, jose.RS256, kid("two"), o.claims(p)), 700027},
		{"issuer with slash", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "iss", o.URL+"/")), 700211},
		{"other issuer", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "iss", "https://other.example")), 700211},
		{"other subject", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "sub", "system:serviceaccount:shop:WEB")), 700213},
		{"subject as prefix", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "sub", "system:serviceaccount:shop:web2")), 700213},
		{"subject by another case of the name", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "sub", "x", "Sub", "system:serviceaccount:shop:web")), 700213},
		{"other audience", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "aud", "api://azureadtokenexchange")), 700212},
		{"ended", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "nbf", now-7200, "exp", now-3600)), 700024},
		{"not begun", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "nbf", now+3600, "exp", now+7200)), 700024},
		{"no end", signer.sign(t, jose.RS256, kid("one"), o.claims(p, "exp", nil)), 700024},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.ask(t, p.assertionForm(c.text))
			if c.code == 0 && r.status != 200 || c.code != 0 && (r.status != 401 || r.code() != c.code) {
				t.Fatalf("want %d, got %s", c.code, r)
			}
		})
	}
}

func TestFederationOnUserAssignedIdentity(t *testing.T) {
	o := newOutside(t)
	p := onSQLite(t, func(c *Config) { c.FederationRoots = o.roots() })
	id := az.MustParseID("/subscriptions/" + p.names.Subscription + "/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web")
	var oid, appID string
	p.write(t, func(tx *store.Tx) (err error) {
		if oid, appID, err = p.dir.CreateIdentity(tx, id, "web"); err != nil {
			return err
		}
		body, _ := json.Marshal(map[string]any{"properties": trust{o.URL, "s", []string{"api://AzureADTokenExchange"}}})
		return tx.PutResource(store.Resource{ID: id.Child("federatedIdentityCredentials", "k8s"), ETag: "1", Body: body}, "")
	})
	key := certified{key: rsaKey(t)}
	o.add("k", key.key)
	form := p.assertionForm(key.sign(t, jose.RS256, map[jose.HeaderKey]any{"kid": "k"}, o.claims(p, "sub", "s")))
	form.Set("client_id", appID)
	r := p.ask(t, form)
	if r.status != 200 {
		t.Fatal(r)
	}
	who, err := p.Verify(context.Background(), r.json["access_token"].(string), rest.Vault)
	if err != nil || who.ObjectID != oid || !who.Identity.Equal(id) {
		t.Errorf("%+v %v", who, err)
	}
	p.write(t, func(tx *store.Tx) error {
		_, err := tx.DeleteResource(id.Child("federatedIdentityCredentials", "k8s"))
		return err
	})
	if r := p.ask(t, form); r.code() != 70021 {
		t.Errorf("after the credential was deleted: %s", r)
	}
	form.Del("client_assertion")
	form.Set("client_secret", "x")
	if r := p.ask(t, form); r.code() != 7000215 {
		t.Errorf("an identity with a secret: %s", r)
	}
}

func TestOutsideKeysAreRemembered(t *testing.T) {
	o := newOutside(t)
	clk := &clock{}
	c := newIssuerCache(o.roots(), clk.now)
	ctx := context.Background()
	first, second := rsaKey(t), rsaKey(t)
	o.add("one", first)
	want := func(kid string, ok bool, visits int64) {
		t.Helper()
		keys, err := c.keys(ctx, o.URL, kid)
		if got := err == nil && len(keys) == 1; got != ok {
			t.Errorf("%s: %v %v", kid, keys, err)
		}
		if n := o.visits.Load(); n != visits {
			t.Errorf("%s: %d visits, want %d", kid, n, visits)
		}
	}
	want("one", true, 1)
	want("one", true, 1)
	want("two", false, 2) // an unknown kid: one visit
	want("two", false, 2)
	o.add("three", second)
	want("three", true, 3) // rotated: found at once
	for _, kid := range []string{"a", "b", "c", "d", "e"} {
		_, _ = c.keys(ctx, o.URL, kid)
	}
	if n := o.visits.Load(); n > 3+maxUnknown {
		t.Errorf("strangers' kids caused %d visits", n)
	}
	before := o.visits.Load()
	clk.advance(keysFresh + time.Minute)
	o.down.Store(true)
	want("one", true, before+1) // the issuer is away: the keys stand for a while
	want("one", true, before+1) // and it is left alone
	clk.advance(failedEvery)
	want("one", true, before+2)
	clk.advance(keysStale)
	want("one", false, before+3)
	o.down.Store(false)
	clk.advance(failedEvery)
	want("one", true, before+4)
}

func TestOutsideIssuersAreBounded(t *testing.T) {
	ctx := context.Background()
	o := newOutside(t)
	o.add("k", rsaKey(t))
	elsewhere := newOutside(t)
	elsewhere.add("k", rsaKey(t))
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"names another issuer": func() { o.name("issuer", "https://other.example", "jwks_uri", o.URL+"/keys") },
		"keys over http":       func() { o.name("issuer", o.URL, "jwks_uri", strings.Replace(o.URL, "https", "http", 1)+"/keys") },
		"keys in a file":       func() { o.name("issuer", o.URL, "jwks_uri", "file:///etc/passwd") },
		"redirects away":       func() { o.name("issuer", o.URL, "jwks_uri", o.URL+"/away?to="+url.QueryEscape(elsewhere.URL+"/keys")) },
		"too large":            func() { o.name("issuer", o.URL, "jwks_uri", o.URL+"/huge") },
		"metadata address":     func() { o.name("issuer", o.URL, "jwks_uri", "https://169.254.169.254/latest") },
		"weak key": func() {
			o.name("issuer", o.URL, "jwks_uri", o.URL+"/keys")
			o.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: weak.Public(), KeyID: "k"}}})
		},
		"secret key": func() {
			o.name("issuer", o.URL, "jwks_uri", o.URL+"/keys")
			o.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "k"}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			change()
			if keys, err := newIssuerCache(o.roots(), time.Now).keys(ctx, o.URL, "k"); err == nil {
				t.Errorf("got %v", keys)
			}
		})
	}
	o.name("issuer", o.URL, "jwks_uri", o.URL+"/away?to=/keys")
	o.keys.Store(elsewhere.keys.Load())
	if _, err := newIssuerCache(o.roots(), time.Now).keys(ctx, o.URL, "k"); err != nil {
		t.Errorf("a redirect within the issuer's host: %v", err)
	}
	o.name("issuer", o.URL, "jwks_uri", elsewhere.URL+"/keys")
	if _, err := newIssuerCache(o.roots(), time.Now).keys(ctx, o.URL, "k"); err != nil {
		t.Errorf("keys at another host, as Google's: %v", err)
	}
	if keys, err := newIssuerCache(x509.NewCertPool(), time.Now).keys(ctx, o.URL, "k"); err == nil {
		t.Errorf("an issuer without a trusted certificate: %v", keys)
	}
}

func TestAddressesThatNoIssuerMayHave(t *testing.T) {
	for addr, ok := range map[string]bool{"127.0.0.1:443": true, "10.0.0.1:443": true, "[fd12::1]:443": true, "8.8.8.8:443": true,
		"169.254.169.254:443": false, "[fe80::1]:443": false, "[::ffff:169.254.169.254]:443": false, "0.0.0.0:443": false, "[::]:443": false,
		"224.0.0.1:443": false, "[fd00:ec2::254]:443": false, "100.100.100.200:443": false, "x": false} {
		if err := refuseLocalServices("tcp", addr, nil); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
