package authority

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// browser is what a browser without scripts does: cookies, redirects, forms.
type browser struct {
	p *plane
	c *http.Client
}

// view is where a browser stands: a page of the plane, or an address
// elsewhere that it was sent to and did not go to.
type view struct {
	status int
	body   string
	url    *url.URL
	left   bool // url is elsewhere
}

const loginOrigin = "https://" + loginHost

func (p *plane) browser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := p.srv.Listener.Addr().String()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the name is the test's own
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}
	t.Cleanup(tr.CloseIdleConnections)
	return &browser{p, &http.Client{Jar: jar, Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) get(t testing.TB, to string) view {
	t.Helper()
	if strings.HasPrefix(to, "/") {
		to = loginOrigin + to
	}
	req, err := http.NewRequest("GET", to, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.send(t, req)
}

func (b *browser) send(t testing.TB, req *http.Request) view {
	t.Helper()
	for range 20 {
		res, err := b.c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		next := res.Header.Get("Location")
		if _, to, ok := strings.Cut(res.Header.Get("Refresh"), "url="); ok {
			next = to
		}
		if next == "" {
			return view{status: res.StatusCode, body: string(body), url: req.URL}
		}
		u, err := req.URL.Parse(next)
		if err != nil {
			t.Fatalf("%q: %v", next, err)
		}
		if u.Host != loginHost {
			return view{status: res.StatusCode, url: u, left: true}
		}
		if req, err = http.NewRequest("GET", u.String(), nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the browser goes round in circles")
	return view{}
}

var (
	formRE  = regexp.MustCompile(`(?s)<form id="([^"]*)"[^>]* action="([^"]*)"[^>]*>(.*?)</form>`)
	inputRE = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// form is one form of a page, with its hidden fields.
func (v view) form(t testing.TB, id string) (action string, fields url.Values) {
	t.Helper()
	for _, m := range formRE.FindAllStringSubmatch(v.body, -1) {
		if m[1] != id {
			continue
		}
		fields = url.Values{}
		for _, in := range inputRE.FindAllStringSubmatch(m[3], -1) {
			fields.Set(html.UnescapeString(in[1]), html.UnescapeString(in[2]))
		}
		return html.UnescapeString(m[2]), fields
	}
	t.Fatalf("no form %s at %s:\n%s", id, v.url, v.body)
	return "", nil
}

func (v view) has(id string) bool { return strings.Contains(v.body, `<form id="`+id+`"`) }

// submit fills a form in and sends it, as its page would.
func (b *browser) submit(t testing.TB, v view, id string, pairs ...string) view {
	t.Helper()
	action, fields := v.form(t, id)
	for i := 0; i+1 < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	return b.post(t, action, fields, loginOrigin, "same-origin")
}

func (b *browser) post(t testing.TB, path string, fields url.Values, origin, site string) view {
	t.Helper()
	req, err := http.NewRequest("POST", loginOrigin+path, strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", origin)
	req.Header.Set("Sec-Fetch-Site", site)
	return b.send(t, req)
}

const testPassword = "correct horse battery"

// signIn goes through the pages until they end or ask for something else.
func (b *browser) signIn(t testing.TB, v view, upn string) view {
	t.Helper()
	for range 6 {
		switch {
		case v.left:
			return v
		case v.has("signin-pick"):
			v = b.submit(t, v, "signin-pick", "account", "")
		case v.has("signin-name"):
			v = b.submit(t, v, "signin-name", "loginfmt", upn)
		case v.has("signin-password"):
			v = b.submit(t, v, "signin-password", "passwd", testPassword)
		default:
			return v
		}
	}
	t.Fatalf("signing in does not end: %s\n%s", v.url, v.body)
	return v
}

// person makes somebody who can sign in.
func (p *plane) person(t testing.TB, upn string, change ...func(*directory.Object)) *directory.Object {
	t.Helper()
	o := directory.Object{Name: strings.ToUpper(upn[:1]) + strings.Split(upn[1:], "@")[0], UPN: upn, Enabled: true,
		Facts: directory.Facts{GivenName: "Given", Surname: "Family", Mail: upn}}
	for _, f := range change {
		f(&o)
	}
	var made *directory.Object
	p.write(t, func(tx *store.Tx) (err error) {
		made, err = p.dir.AddUser(tx, o, passwordHash())
		return err
	})
	return made
}

// passwordHash is made once: each takes as long as a sign-in.
var passwordHash = sync.OnceValue(func() string { return directory.HashPassword(az.NewSecret(testPassword)) })

// registered is an application with its service principal and secret.
type registered struct {
	*directory.Client
	secret string
}

// register makes an application.
func (p *plane) register(t testing.TB, name string, change func(*directory.Object)) registered {
	t.Helper()
	o := directory.Object{Name: name}
	if change != nil {
		change(&o)
	}
	var out registered
	p.write(t, func(tx *store.Tx) error {
		app, err := p.dir.AddApplication(tx, o)
		if err != nil {
			return err
		}
		sp, err := p.dir.AddServicePrincipal(tx, app.AppID)
		if err != nil {
			return err
		}
		_, secret, err := p.dir.AddSecret(tx, app.ID, "s", 0, 0)
		out = registered{&directory.Client{AppID: app.AppID, Application: app, Principal: sp}, secret.Reveal()}
		return err
	})
	return out
}

// grantFor consents beforehand.
func (p *plane) grantFor(t testing.TB, c registered, user, resourceApp string, scopes ...string) {
	t.Helper()
	r, ok, err := p.dir.Client(context.Background(), resourceApp)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	p.write(t, func(tx *store.Tx) error { return p.dir.AddGrant(tx, c.Principal.ID, user, r.Principal.ID, scopes) })
}

// owner makes somebody an administrator.
func (p *plane) owner(t testing.TB, oid string) {
	t.Helper()
	api := arm.New(arm.Config{Store: p.st, Guard: p.guard, Sealer: p.sealer, Clock: p.clock.now, Log: slog.New(slog.DiscardHandler), Names: p.names,
		PrincipalKind:  func(context.Context, string) (az.PrincipalKind, bool, error) { return az.User, true, nil },
		PrincipalThere: directory.PrincipalThere})
	t.Cleanup(func() { _ = api.Close(context.Background()) })
	p.write(t, func(tx *store.Tx) error {
		_, _, err := api.AssignRole(tx, az.Root, oid, az.User, guard.RoleOwner, "")
		return err
	})
}

const testVerifier = "a-verifier-of-at-least-forty-three-characters-0123456789"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeURL is a request for a code with PKCE.
func (p *plane) authorizeURL(client, redirect, scope string, more ...string) string {
	q := url.Values{"client_id": {client}, "redirect_uri": {redirect}, "scope": {scope}, "response_type": {"code"}, "state": {"st&1"},
		"nonce": {"n1"}, "code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] == "" {
			q.Del(more[i])
		} else {
			q.Set(more[i], more[i+1])
		}
	}
	return "/" + p.names.Tenant + "/oauth2/v2.0/authorize?" + q.Encode()
}

func (v view) param(name string) string {
	if v.url.Fragment != "" {
		q, _ := url.ParseQuery(v.url.EscapedFragment())
		return q.Get(name)
	}
	return v.url.Query().Get(name)
}

// redeem posts a code.
func (p *plane) redeem(t testing.TB, client, redirect, code string, more ...string) reply {
	t.Helper()
	f := url.Values{"grant_type": {"authorization_code"}, "client_id": {client}, "redirect_uri": {redirect}, "code": {code}, "code_verifier": {testVerifier}}
	return p.ask(t, with(f, more...))
}

func with(f url.Values, more ...string) url.Values {
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] == "" {
			f.Del(more[i])
		} else {
			f.Set(more[i], more[i+1])
		}
	}
	return f
}

func (r reply) text(name string) string {
	s, _ := r.json[name].(string)
	return s
}

// claimsOf reads a token's claims without looking at its signature.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", token)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	cli      = directory.AppAzureCLI
	loopback = "http://localhost:41234"
)
