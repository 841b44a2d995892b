package authority

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// practice is the table of RFC 9700, which names the test of each line.
const practice = "docs/oauth-practice.md"

// sections are those of RFC 9700 that ask for something.
var sections = strings.Fields("2.1 2.1.1 2.1.2 2.2.1 2.2.2 2.3 2.4 2.5 2.6 4.1.3 4.2.4 4.3.1 4.3.2 4.4.2 4.5.3 4.6.1 4.7.1 4.8.2 4.9.1 4.9.2 4.10.1 4.10.2 4.11.1 4.11.2 4.12 4.13 4.14.2 4.15.1 4.16 4.17.2")

var (
	practiceTest = regexp.MustCompile("`(Test[A-Za-z0-9]+)` \\(([a-z]+)\\)")
	practiceName = regexp.MustCompile("`Test[A-Za-z0-9]+`")
)

// The table cannot rot: every section has its line, each line names a test or
// says that it is not followed, and each test is in the tree.
func TestPracticeTable(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(practice)))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{} // package → its tests' text
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		section := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(line, "|") || section == "§" || section == "What" || strings.HasPrefix(section, "-") {
			continue
		}
		// The second table has no column for what the RFC asks.
		if numbered := section[0] >= '0' && section[0] <= '9'; numbered && (len(cells) != 4 || !slices.Contains(sections, section)) || !numbered && len(cells) != 3 {
			t.Errorf("%s: no line of the table: %s", section, line)
			continue
		}
		seen[section] = true
		tests := practiceTest.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(tests) == 0 && !strings.Contains(line, "**Not followed") {
			t.Errorf("%s names no test, and does not say that it is not followed: %s", section, line)
		}
		if n := len(practiceName.FindAllString(line, -1)); n != len(tests) {
			t.Errorf("%s names %d tests, %d of them with their package", section, n, len(tests))
		}
		for _, m := range tests {
			if _, read := there[m[2]]; !read {
				there[m[2]] = testsOf(t, filepath.Join(root, "internal", m[2]))
			}
			if !strings.Contains(there[m[2]], "\nfunc "+m[1]+"(t *testing.T)") {
				t.Errorf("%s: internal/%s has no %s", section, m[2], m[1])
			}
		}
	}
	for _, s := range sections {
		if !seen[s] {
			t.Errorf("the table has no line for %s", s)
		}
	}
}

func testsOf(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files %v", dir, len(files), err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// raw sends one request and follows nothing.
func (b *browser) raw(t *testing.T, method, path string, form url.Values, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, loginOrigin+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res
}

// A redirect never makes a browser send a form once more, with a password in it,
// and tells nobody where it came from.
func TestRedirectsNeverRepeatAForm(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid"))
	path, query, _ := strings.Cut(p.authorizeURL(cli, loopback, "openid"), "?")
	form, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	post := b.raw(t, "POST", path, form, "Origin", "https://app.example")
	get := b.raw(t, "GET", path+"?"+query, nil)
	for what, res := range map[string]*http.Response{"the request as a form": post, "the answer": get} {
		if s := res.StatusCode; s != http.StatusSeeOther && s != http.StatusFound || res.Header.Get("Location") == "" || res.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %d %v", what, s, res.Header)
		}
	}
	if post.StatusCode != http.StatusSeeOther {
		t.Errorf("after a form: %d", post.StatusCode)
	}
	// After the forms with a person's answers there is no redirect at all.
	c := p.register(t, "web", web)
	p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"))
	v := b.get(t, p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read"))
	action, fields := v.form(t, "consent")
	fields.Set("answer", "accept")
	if res := b.raw(t, "POST", action, fields, "Origin", loginOrigin); res.StatusCode != http.StatusOK || res.Header.Get("Location") != "" {
		t.Errorf("after consent: %d", res.StatusCode)
	}
}

// No page that a person answers can be shown in another's frame.
func TestPagesCannotBeFramed(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", web)
	p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"))
	b := p.browser(t)
	start := p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read")
	pages := map[string]string{"sign-in": start, "device": "/device", "error": p.authorizeURL(c.AppID, "https://evil.example", "openid"),
		"account": "/account"}
	check := func(what, to string) {
		t.Helper()
		res := b.raw(t, "GET", to, nil)
		csp := res.Header.Get("Content-Security-Policy")
		if res.Header.Get("Location") != "" || !strings.Contains(csp, "frame-ancestors 'none'") || res.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(csp, "form-action 'self'") {
			t.Errorf("%s: %d %v", what, res.StatusCode, res.Header)
		}
	}
	for what, to := range pages {
		check(what, to)
	}
	b.signIn(t, b.get(t, start), u.UPN)
	check("consent", start)
	check("sign-out", "/"+p.names.Tenant+"/oauth2/v2.0/logout")
	check("account", "/account")
}

// Scripts of other origins reach the token endpoint where they are a client's,
// and never the one that people come to; no window is told anything.
func TestNoScriptTalksToTheAuthorizeEndpoint(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "spa", func(o *directory.Object) { o.SPAURIs = []string{"https://spa.example/"} })
	b := p.browser(t)
	p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid"))
	to := p.authorizeURL(c.AppID, "https://spa.example/", "openid", "prompt", "none")
	for _, path := range []string{to, "/device", "/account", "/" + p.names.Tenant + "/oauth2/v2.0/logout"} {
		for _, m := range []string{"GET", "OPTIONS"} {
			res := b.raw(t, m, path, nil, "Origin", "https://spa.example", "Access-Control-Request-Method", "GET")
			for name := range res.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s: %s", m, path, name)
				}
			}
		}
	}
	for _, mode := range []string{"web_message", "query.jwt", "jwt", "okta_post_message"} {
		if v := b.get(t, p.authorizeURL(c.AppID, "https://spa.example/", "openid", "response_mode", mode)); v.param("error") != "unsupported_response_mode" {
			t.Errorf("%s: %s", mode, v.url)
		}
	}
}

// What discovery says of PKCE and of the issuer in answers is how it is.
func TestMetadataSaysWhatIsEnforced(t *testing.T) {
	p := onSQLite(t)
	for _, path := range []string{"/v2.0", ""} {
		m := p.do(t, "GET", loginHost, "/"+p.names.Tenant+path+"/.well-known/openid-configuration", "").json
		texts := func(name string) (out []string) {
			list, _ := m[name].([]any)
			for _, v := range list {
				out = append(out, v.(string))
			}
			return out
		}
		if !slices.Equal(texts("code_challenge_methods_supported"), []string{"S256"}) || m["authorization_response_iss_parameter_supported"] != true || m["request_uri_parameter_supported"] != false {
			t.Errorf("%s: %v", path, m)
		}
		for _, kind := range texts("response_types_supported") {
			if slices.Contains(strings.Fields(kind), "token") {
				t.Errorf("%s: %s gives access tokens", path, kind)
			}
		}
		if !slices.Contains(texts("token_endpoint_auth_methods_supported"), "private_key_jwt") || !slices.Equal(texts("id_token_signing_alg_values_supported"), []string{"RS256"}) {
			t.Errorf("%s: %v", path, m)
		}
	}
}

// No client can be taken for a person, whatever it calls itself.
func TestClientIsNoPerson(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	// Even one whose application id is a person's object id.
	var sp *directory.Object
	var secret az.Secret
	p.write(t, func(tx *store.Tx) error {
		app, err := p.dir.AddApplication(tx, directory.Object{Name: "ann@hawser.localhost", AppID: u.ID, Facts: directory.Facts{IdentifierURIs: []string{"api://x"}}})
		if err != nil {
			return err
		}
		if sp, err = p.dir.AddServicePrincipal(tx, app.AppID); err != nil {
			return err
		}
		_, secret, err = p.dir.AddSecret(tx, app.ID, "s", 0, 0)
		return err
	})
	r := p.ask(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {sp.AppID}, "client_secret": {secret.Reveal()}, "scope": {"https://graph.microsoft.com/.default"}})
	if r.status != 200 {
		t.Fatal(r)
	}
	c := claimsOf(t, r.text("access_token"))
	if c["sub"] != sp.ID || c["oid"] != sp.ID || sp.ID == u.ID || c["idtyp"] != "app" || c["scp"] != nil || c["upn"] != nil || c["preferred_username"] != nil {
		t.Errorf("%v", c)
	}
	who, err := p.Verify(context.Background(), r.text("access_token"), rest.Graph)
	if err != nil || who.Kind != az.ServicePrincipal || who.ObjectID != sp.ID || len(who.Scopes) != 0 {
		t.Errorf("%+v %v", who, err)
	}
	if got := p.do(t, "GET", loginHost, "/oidc/userinfo", "", "Authorization", "Bearer "+r.text("access_token")); got.status != 403 {
		t.Errorf("userinfo of an application: %s", got)
	}
	// A token that says it is a person's is none of an application's object id,
	// and the other way round.
	for _, g := range []grant{
		{Client: p.clientOf(t, sp.AppID), Principal: sp, Proof: bySecret, Life: appLife(), Person: sp, By: signed{User: sp.ID, At: az.MicrosOf(p.clock.now())}, Scopes: []string{"User.Read"}},
		{Client: p.clientOf(t, p.appID), Principal: &directory.Object{ID: u.ID, AppID: p.appID}, Proof: bySecret, Life: appLife()},
	} {
		if g.Target, err = p.target(context.Background(), graphResource); err != nil {
			t.Fatal(err)
		}
		tok, err := p.issue(context.Background(), g)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := p.Verify(context.Background(), tok.text, rest.Graph); !az.Is(err, az.Unauthorized) {
			t.Errorf("%+v %v", who, err)
		}
	}
	// People's subjects are no object ids, so that none can be chosen for one.
	if s := p.pairwise(cli, u.ID); az.IsGUID(s) || s == p.pairwise(p.appID, u.ID) {
		t.Errorf("%s", s)
	}
}

func (p *plane) clientOf(t *testing.T, appID string) *directory.Client {
	t.Helper()
	c, ok, err := p.dir.Client(context.Background(), appID)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return c
}
