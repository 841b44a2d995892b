package signin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

// company is a small OpenID Connect provider: one person at a time.
type company struct {
	srv *httptest.Server
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	claims map[string]any // of the next token, beside the usual ones
	codes  map[string]url.Values
	asked  url.Values // the last authorization request
	sign   *ecdsa.PrivateKey
	says   bool // it says that it names itself in answers
}

func newCompany(t testing.TB) *company {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &company{key: key, sign: key, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	c.srv = httptest.NewTLSServer(mux)
	t.Cleanup(c.srv.Close)
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		u := c.srv.URL
		reply(w, map[string]any{"issuer": u, "authorization_endpoint": u + "/authorize", "token_endpoint": u + "/token", "jwks_uri": u + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
			"authorization_response_iss_parameter_supported": c.says})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/token", c.token(t, reply))
	return c
}

func (c *company) token(t testing.TB, reply func(http.ResponseWriter, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = r.ParseForm()
		id, secret, _ := r.BasicAuth()
		secret, _ = url.QueryUnescape(secret) // RFC 6749 §2.3.1
		asked, ok := c.codes[r.PostForm.Get("code")]
		delete(c.codes, r.PostForm.Get("code"))
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if !ok || id != "hawser" || secret != "company secret" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") ||
			r.PostForm.Get("redirect_uri") != asked.Get("redirect_uri") {
			w.WriteHeader(http.StatusBadRequest)
			reply(w, map[string]string{"error": "invalid_grant"})
			return
		}
		claims := map[string]any{"iss": c.srv.URL, "aud": "hawser", "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		maps.Copy(claims, c.claims)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: c.sign, KeyID: "k"}}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		b, _ := json.Marshal(claims)
		jws, err := signer.Sign(b)
		if err != nil {
			t.Error(err)
			return
		}
		text, _ := jws.CompactSerialize()
		reply(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": text})
	}
}

// person says who signs in next.
func (c *company) person(claims map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = claims
}

// answer is what the provider's own pages end with: the address that it sends
// the browser back to.
func (c *company) answer(t testing.TB, b *browser, change ...func(url.Values)) string {
	t.Helper()
	to := strings.TrimPrefix(b.page.header.Get("Refresh"), "0; url=")
	if to == "" {
		to = b.page.header.Get("Location")
	}
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, c.srv.URL+"/authorize?") {
		t.Fatalf("the browser goes to %q: %d %s %s", to, b.page.status, b.page.title(), b.page.alert())
	}
	q := u.Query()
	code := randomSecret()
	c.mu.Lock()
	c.codes[code], c.asked = q, q
	c.mu.Unlock()
	back := url.Values{"code": {code}, "state": {q.Get("state")}}
	for _, f := range change {
		f(back)
	}
	return q.Get("redirect_uri") + "?" + back.Encode()
}

// through goes from the app through the provider.
func (c *company) through(t testing.TB, b *browser, change ...func(url.Values)) page {
	t.Helper()
	b.toCompany("/app?x=1&fresh=1")
	return b.get(c.answer(t, b, change...))
}

// toCompany goes to the provider's door.
func (b *browser) toCompany(to string) {
	b.t.Helper()
	b.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Host != loginHost {
			return http.ErrUseLastResponse
		}
		return nil
	}
	b.get(to)
	if b.page.title() == "Sign in" {
		b.submit("signin-provider")
	}
}

func withCompany(t testing.TB, change ...func(*Provider)) (*plane, *company) {
	t.Helper()
	c := newCompany(t)
	prov := &Provider{Issuer: c.srv.URL, ClientID: "hawser", ClientSecret: az.NewSecret("company secret"), Name: "Example Corp", Domains: []string{"corp.example"}, Create: true}
	for _, f := range change {
		f(prov)
	}
	return onSQLite(t, func(cfg *Config) { cfg.Provider, cfg.HTTP = prov, c.srv.Client() }), c
}

func ann(more ...any) map[string]any {
	m := map[string]any{"sub": "s-ann", "email": "ann@corp.example", "email_verified": true, "name": "Ann Corp", "given_name": "Ann", "family_name": "Corp"}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func TestOutsideProvider(t *testing.T) {
	p, c := withCompany(t)
	c.person(ann())
	b := p.browser()
	one := c.through(t, b).session(t)
	if !cmp.Equal(one.AMR, []string{"fed"}) || one.Provider != c.srv.URL {
		t.Errorf("%+v", one)
	}
	o, _, _ := p.dir.Get(t.Context(), one.User)
	if o.UPN != "ann@corp.example" || o.Name != "Ann Corp" || o.GivenName != "Ann" || o.From != c.srv.URL+" s-ann" {
		t.Errorf("made %+v", o)
	}
	if c.asked.Get("code_challenge_method") != "S256" || c.asked.Get("prompt") != "login" || !strings.Contains(c.asked.Get("scope"), "openid") {
		t.Errorf("asked %v", c.asked)
	}
	// She comes back under another name: it is the subject who she is.
	c.person(ann("email", "ann.married@corp.example", "amr", []string{"pwd", "mfa"}))
	again := c.through(t, p.browser()).session(t)
	if again.User != one.User || !cmp.Equal(again.AMR, []string{"fed", "mfa"}) {
		t.Errorf("%+v", again)
	}
	// Somebody else under her name is not her.
	c.person(ann("sub", "s-eve"))
	if pg := c.through(t, p.browser()); !strings.Contains(pg.body, "NameTaken") {
		t.Errorf("another subject: %d %s", pg.status, pg.body)
	}
	// Her domain's names go there from the account page.
	d := p.browser()
	d.get("/app?x=1")
	d.toCompany("/app?x=1&domain=corp.example")
	c.person(ann())
	if got := d.get(c.answer(t, d)).session(t); got.User != one.User {
		t.Errorf("%+v", got)
	}
	e := p.browser()
	e.get("/app?x=1")
	e.submit("signin-name", "loginfmt", "ann@corp.example")
	if e.get(c.answer(t, e)).session(t).User != one.User || c.asked.Get("login_hint") != "ann@corp.example" {
		t.Errorf("asked %v", c.asked)
	}
	// A factor of this plane is needed although she came from outside.
	secret := p.withCodes(o)
	f := p.browser()
	if pg := c.through(t, f); pg.title() != "Prove that it is you" {
		t.Errorf("%s", pg.title())
	}
	if got := f.submit("signin-code", "otc", p.code(secret)).session(t); !cmp.Equal(got.AMR, []string{"fed", "otp", "mfa"}) {
		t.Errorf("%+v", got)
	}
	// Deleted here and made again at the next sign-in, as somebody new.
	p.write(func(tx *store.Tx) error { return p.dir.Remove(tx, one.User) })
	if got := c.through(t, p.browser()).session(t); got.User == one.User {
		t.Error("a deleted account is back")
	}
}

func TestOutsidersTakeNobodysAccount(t *testing.T) {
	p, c := withCompany(t, func(pr *Provider) { pr.TrustNames, pr.Domains = true, []string{"corp.example", "hawser.localhost"} })
	admin := p.person("admin") // has a password
	var made *directory.Object
	p.write(func(tx *store.Tx) (err error) {
		made, err = p.dir.AddUser(tx, directory.Object{Name: "Ann", UPN: "ann@corp.example", Enabled: true}, "")
		return err
	})
	for what, claims := range map[string]map[string]any{
		"an account with a password":    {"sub": "s-1", "email": admin.UPN, "email_verified": true},
		"its name in another case":      {"sub": "s-2", "email": strings.ToUpper(admin.UPN), "email_verified": true},
		"an address nobody verified":    {"sub": "s-3", "email": "new@corp.example"},
		"an address verified with 'no'": {"sub": "s-4", "email": "new@corp.example", "email_verified": "false"},
		"a domain that is not theirs":   {"sub": "s-5", "email": "ann@other.example", "email_verified": true},
		"no name":                       {"sub": "s-6"},
		"a name that is none":           {"sub": "s-7", "email": "corp.example", "email_verified": true},
		"a subject with a space":        {"sub": "s 8", "email": "new@corp.example", "email_verified": true},
	} {
		c.person(claims)
		if pg := c.through(t, p.browser()); pg.status != 403 {
			t.Errorf("%s: %d %s", what, pg.status, pg.body)
		}
	}
	// The account that was made for her is hers at the first sign-in, once.
	c.person(ann())
	if one := c.through(t, p.browser()).session(t); one.User != made.ID {
		t.Errorf("%+v", one)
	}
	c.person(ann("sub", "s-eve"))
	if pg := c.through(t, p.browser()); pg.status != 403 {
		t.Errorf("a second subject of her name: %d", pg.status)
	}
	// Every refusal is recorded, without what strangers claim.
	refused := 0
	for _, r := range p.records() {
		if r.Action == actionOutside && r.Outcome == "refused" {
			refused++
			if strings.Contains(r.Name+r.Detail+r.Reason, "@") {
				t.Errorf("%+v", r)
			}
		}
	}
	if refused != 9 {
		t.Errorf("%d refusals are recorded", refused)
	}
}

func TestOutsideWithoutTrust(t *testing.T) {
	p, c := withCompany(t, func(pr *Provider) { pr.Create, pr.Domains = false, nil })
	c.person(ann())
	if pg := c.through(t, p.browser()); !strings.Contains(pg.body, "AccountUnknown") {
		t.Errorf("%d %s", pg.status, pg.body)
	}
	p2, c2 := withCompany(t, func(pr *Provider) { pr.Domains = nil })
	c2.person(ann("email", "root@hawser.localhost"))
	if pg := c2.through(t, p2.browser()); !strings.Contains(pg.body, "NameNotTrusted") {
		t.Errorf("the plane's own domain: %d", pg.status)
	}
	p3, c3 := withCompany(t, func(pr *Provider) { pr.UserClaim, pr.Only = "upn", true })
	bob := p3.person("bob")
	c3.person(map[string]any{"sub": "s", "upn": "ann@corp.example"})
	b := p3.browser()
	b.toCompany("/app?x=1") // straight there: there is no other way in
	b.get(c3.answer(t, b)).session(t)
	if _, _, err := p3.Password(t.Context(), bob.UPN, az.NewSecret(password), "192.0.2.1"); !az.Is(err, az.Forbidden) {
		t.Errorf("passwords are off: %v", err)
	}
	for what, change := range map[string]func(*Provider){"plain HTTP": func(p *Provider) { p.Issuer = "http://x" }, "no client": func(p *Provider) { p.ClientID = "" },
		"names without domains": func(p *Provider) { p.TrustNames, p.Domains = true, nil }, "a strange claim": func(p *Provider) { p.UserClaim = "nickname" }, "a strange domain": func(p *Provider) { p.Domains = []string{"@x"} }} {
		pr := Provider{Issuer: "https://x.example", ClientID: "a"}
		change(&pr)
		if _, err := newOutside(Config{Provider: &pr}); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestOutsideAttacks(t *testing.T) {
	p, c := withCompany(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	failed := func(what string, pg page) {
		t.Helper()
		if pg.status < 400 || pg.status >= 500 || pg.title() != "That did not work" {
			t.Errorf("%s: %d %s %s", what, pg.status, pg.title(), pg.body)
		}
	}
	for what, claims := range map[string]map[string]any{"another nonce": ann("nonce", "x"), "no nonce": ann("nonce", ""), "another audience": ann("aud", "other"), "another issuer": ann("iss", "https://evil.example"),
		"expired": ann("exp", time.Now().Add(-time.Hour).Unix()), "an old sign-in though a fresh one was asked for": ann("auth_time", time.Now().Add(-time.Hour).Unix())} {
		c.person(claims)
		failed(what, c.through(t, p.browser()))
	}
	c.person(ann())
	c.sign = other
	failed("another key", c.through(t, p.browser()))
	c.sign = c.key
	failed("mix-up", c.through(t, p.browser(), func(q url.Values) { q.Set("iss", "https://evil.example") }))
	failed("an error", c.through(t, p.browser(), func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }))
	failed("another code", c.through(t, p.browser(), func(q url.Values) { q.Set("code", "x") }))
	failed("no state", c.through(t, p.browser(), func(q url.Values) { q.Del("state") }))
	failed("rubbish", c.through(t, p.browser(), func(q url.Values) { q.Set("state", "x") }))
	c.through(t, p.browser(), func(q url.Values) { q.Set("iss", c.srv.URL) }).session(t)

	// The answer belongs to the browser that asked: another's cannot be planted.
	victim, attacker := p.browser(), p.browser()
	attacker.toCompany("/app?x=1")
	planted := c.answer(t, attacker)
	victim.get("/app?x=1")
	failed("a planted answer", victim.get(planted))
	if len(victim.sessions()) != 0 {
		t.Error("the victim is signed in as the attacker")
	}
	// And it is good once.
	b := p.browser()
	b.toCompany("/app?x=1")
	address := c.answer(t, b)
	bound := b.cookie(browserCookie)
	b.get(address).session(t)
	failed("replayed", b.get(address))
	b.setCookie(browserCookie, bound)
	failed("replayed with the older cookie", b.get(address))
	u, _ := url.Parse(address)
	c.codes[u.Query().Get("code")] = c.asked // as if the provider took a code twice
	failed("replayed at a careless provider", b.get(address))

	strict, sc := withCompany(t)
	sc.says = true
	sc.person(ann())
	failed("an answer that does not name its issuer", sc.through(t, strict.browser()))
	sc.through(t, strict.browser(), func(q url.Values) { q.Set("iss", sc.srv.URL) }).session(t)
	sc.srv.Close()
	down, _ := withCompany(t)
	down.outside.cfg.Issuer = sc.srv.URL
	d := down.browser()
	d.get("/app?x=1")
	if pg := d.submit("signin-provider"); pg.status != 503 || !strings.Contains(pg.alert(), "Example Corp cannot be reached") {
		t.Errorf("a provider that is away: %d %s", pg.status, pg.alert())
	}
}

func TestOutsideGroups(t *testing.T) {
	c := newCompany(t)
	groups := map[string]string{"eng": "Engineers", "ops": "Operators", "both": "Operators", "gone": "No such group"}
	p := onSQLite(t, func(cfg *Config) {
		cfg.Provider, cfg.HTTP = &Provider{Issuer: c.srv.URL, ClientID: "hawser", ClientSecret: az.NewSecret("company secret"), Name: "Corp", Create: true,
			Domains: []string{"corp.example"}, GroupsClaim: "groups", Groups: groups}, c.srv.Client()
	})
	ids := map[string]string{}
	p.write(func(tx *store.Tx) error {
		for _, name := range []string{"Engineers", "Operators", "Choir"} {
			g, err := p.dir.AddGroup(tx, directory.Object{Name: name})
			if err != nil {
				return err
			}
			ids[name] = g.ID
		}
		return nil
	})
	in := func(user string) (names []string) {
		have, err := p.st.GroupsOf(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		for name, id := range ids {
			if slices.Contains(have, id) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	sign := func(claim any) string {
		c.person(ann("groups", claim))
		return c.through(t, p.browser()).session(t).User
	}
	user := sign([]string{"eng", "unknown"})
	if got := in(user); !cmp.Equal(got, []string{"Engineers"}) {
		t.Errorf("%v", got)
	}
	p.write(func(tx *store.Tx) error { return p.dir.AddMember(tx, ids["Choir"], user) })
	sign("both") // one text instead of a list
	if got := in(user); !cmp.Equal(got, []string{"Choir", "Operators"}) {
		t.Errorf("%v", got)
	}
	sign([]string{})
	if got := in(user); !cmp.Equal(got, []string{"Choir"}) {
		t.Errorf("%v", got)
	}
}
