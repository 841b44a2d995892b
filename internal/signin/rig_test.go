package signin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const (
	loginHost = "login.hawser.localhost:8443"
	password  = "correct horse battery"
)

// clock is a clock that tests move; it starts at the real time.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// shared is what planes on one store have in common.
type shared struct {
	sealer *seal.Sealer
	names  az.Names
	clock  *clock
}

func newShared(t testing.TB) shared {
	t.Helper()
	kek, err := seal.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := seal.New(kek)
	if err != nil {
		t.Fatal(err)
	}
	return shared{s, az.Names{Domain: "hawser.localhost", Port: "8443", Tenant: az.NewGUID(), Subscription: az.NewGUID()}, &clock{}}
}

// plane is sign-in with everything real behind it, on a TLS listener, and an
// app on the same host that asks it for people.
type plane struct {
	*SignIn
	shared
	st  *store.Store
	dir *directory.Directory
	srv *httptest.Server
	t   testing.TB
}

func newPlane(t testing.TB, sh shared, cfg store.Config, change ...func(*Config)) *plane {
	t.Helper()
	cfg.Clock = sh.clock.now
	return onStore(t, sh, storetest.Open(t, cfg), change...)
}

func onSQLite(t testing.TB, change ...func(*Config)) *plane {
	t.Helper()
	return newPlane(t, newShared(t), store.Config{Dir: t.TempDir()}, change...)
}

// pair is two planes on one PostgreSQL database.
func pair(t testing.TB, change ...func(*Config)) (a, b *plane) {
	t.Helper()
	sh, db := newShared(t), storetest.Database(t)
	return newPlane(t, sh, store.Config{URL: db}, change...), newPlane(t, sh, store.Config{URL: db}, change...)
}

// each runs fn on both databases.
func each(t *testing.T, fn func(t *testing.T, p *plane), change ...func(*Config)) {
	t.Run("sqlite", func(t *testing.T) { fn(t, onSQLite(t, change...)) })
	t.Run("postgres", func(t *testing.T) {
		fn(t, newPlane(t, newShared(t), store.Config{URL: storetest.Database(t)}, change...))
	})
}

func onStore(t testing.TB, sh shared, st *store.Store, change ...func(*Config)) *plane {
	t.Helper()
	ctx := context.Background()
	p := &plane{shared: sh, st: st, t: t}
	log := slog.New(slog.DiscardHandler)
	audit, err := guard.OpenLog(ctx, guard.LogConfig{Dir: t.TempDir(), Plane: az.NewGUID(), Key: []byte(strings.Repeat("a", 32)), Clock: sh.clock.now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	g := guard.New(st, audit, log)
	p.dir = directory.New(directory.Config{Store: st, Guard: g, Sealer: sh.sealer, Names: sh.names, Clock: sh.clock.now, Log: log})
	cfg := Config{Store: st, Directory: p.dir, Guard: g, Sealer: sh.sealer, Names: sh.names, Clock: sh.clock.now, Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, f := range change {
		f(&cfg)
	}
	if p.SignIn, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	surface := &rest.Surface{Name: "login", Form: rest.FormOAuth, Routes: append(p.Routes(), p.appRoutes()...), Log: log, Clock: sh.clock.now}
	p.srv = httptest.NewUnstartedServer(surface.Handler())
	p.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	p.srv.StartTLS()
	t.Cleanup(p.srv.Close)
	return p
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// appRoutes stand for authority: /app asks for somebody by what its query says
// and shows the session that it got.
func (p *plane) appRoutes() []rest.Route {
	open := rest.Nobody("test")
	return []rest.Route{
		{Method: http.MethodGet, Path: "/app", Access: open, Handle: p.errorPages(func(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
			q := r.URL.Query()
			ret := "/app?" + withoutTicket(r.URL.RawQuery)
			if t := q.Get("ticket"); t != "" {
				one, err := p.Redeem(ctx, r, t, ret)
				if err != nil {
					return nil, err
				}
				return &rest.Reply{Body: one}, nil
			}
			return p.Start(ctx, r, Ask{Return: ret, App: "Test App", Hint: q.Get("hint"), DomainHint: q.Get("domain"), Select: q.Has("select"), Fresh: q.Has("fresh"), MFA: q.Has("mfa")})
		})},
		{Method: http.MethodGet, Path: "/sessions", Access: open, Handle: func(ctx context.Context, r *rest.Request) (any, error) { return p.Sessions(ctx, r) }},
		{Method: http.MethodGet, Path: "/out", Access: open, Handle: func(ctx context.Context, r *rest.Request) (any, error) {
			ended, h, err := p.SignOut(ctx, r, r.URL.Query().Get("user"))
			return &rest.Reply{Header: h, Body: ended}, err
		}},
	}
}

func withoutTicket(q string) string {
	q, _, _ = strings.Cut(q, "&ticket=")
	return q
}

func (p *plane) write(fn func(*store.Tx) error) {
	p.t.Helper()
	if err := p.st.Write(context.Background(), fn); err != nil {
		p.t.Fatal(err)
	}
}

// hashed is the hash of password, made once: hashing is slow on purpose.
var hashed = directory.HashPassword(az.NewSecret(password))

func (p *plane) person(name string) *directory.Object {
	p.t.Helper()
	var made *directory.Object
	p.write(func(tx *store.Tx) (err error) {
		made, err = p.dir.AddUser(tx, directory.Object{Name: strings.ToUpper(name[:1]) + name[1:] + " Example", UPN: name + "@hawser.localhost", Enabled: true}, hashed)
		return err
	})
	return made
}

// withCodes gives a person a secret for one-time codes.
func (p *plane) withCodes(o *directory.Object) (secret string) {
	p.t.Helper()
	secret, err := p.newCodeSecret(o)
	if err != nil {
		p.t.Fatal(err)
	}
	sealed, err := p.SignIn.sealer.Seal(codePlace(o.ID), []byte(secret))
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(func(tx *store.Tx) error {
		return tx.PutCredential(store.Credential{Owner: o.ID, ID: totpID, Kind: kindTOTP, Hash: sealed, Body: []byte("{}")})
	})
	return secret
}

func (p *plane) code(secret string) string {
	p.t.Helper()
	c, err := totp.GenerateCode(secret, p.shared.clock.now())
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// browser is a real HTTP client that keeps cookies, reads forms and follows
// what a browser follows.
type browser struct {
	t      testing.TB
	p      *plane
	client *http.Client
	jar    *cookiejar.Jar
	page   page
}

type page struct {
	status int
	body   string
	header http.Header
	url    *url.URL
}

func (p *plane) browser() *browser { return p.browserFrom("127.0.0.1") }

// browserFrom comes from another address of this machine.
func (p *plane) browserFrom(ip string) *browser {
	jar, _ := cookiejar.New(nil)
	b := &browser{t: p.t, jar: jar}
	b.client = &http.Client{Jar: jar, Timeout: 20 * time.Second}
	b.at(p)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test's own server
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, b.p.srv.Listener.Addr().String())
		}}
	b.client.Transport = tr
	p.t.Cleanup(tr.CloseIdleConnections)
	return b
}

// at sends the browser to another plane of the same name.
func (b *browser) at(p *plane) {
	b.p = p
	if tr, ok := b.client.Transport.(*http.Transport); ok {
		tr.CloseIdleConnections()
	}
}

func (b *browser) do(method, to string, form url.Values, change ...func(*http.Request)) page {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	if !strings.HasPrefix(to, "https://") {
		to = "https://" + loginHost + to
	}
	r, err := http.NewRequest(method, to, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://"+loginHost)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, f := range change {
		f(r)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.page = page{resp.StatusCode, string(text), resp.Header, resp.Request.URL}
	if to, ok := strings.CutPrefix(resp.Header.Get("Refresh"), "0; url="); ok && strings.HasPrefix(to, "/") {
		return b.do(http.MethodGet, to, nil)
	}
	return b.page
}

func (b *browser) get(to string) page { b.t.Helper(); return b.do(http.MethodGet, to, nil) }

var (
	formRE   = regexp.MustCompile(`(?s)<form([^>]*)>(.*?)</form>`)
	hiddenRE = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	h1RE     = regexp.MustCompile(`<h1>([^<]*)</h1>`)
	alertRE  = regexp.MustCompile(`role="alert">([^<]*)<`)
)

func attribute(tag, name string) string {
	m := regexp.MustCompile(name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// form returns a form's action, attributes and hidden fields.
func (pg page) form(id string) (action, tag string, fields url.Values) {
	for _, m := range formRE.FindAllStringSubmatch(pg.body, -1) {
		if attribute(m[1], "id") != id {
			continue
		}
		fields = url.Values{}
		for _, h := range hiddenRE.FindAllStringSubmatch(m[2], -1) {
			fields.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
		}
		return attribute(m[1], "action"), m[1], fields
	}
	return "", "", nil
}

func (pg page) title() string {
	if m := h1RE.FindStringSubmatch(pg.body); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

func (pg page) alert() string {
	if m := alertRE.FindStringSubmatch(pg.body); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// submit fills in a form of the present page and sends it.
func (b *browser) submit(id string, values ...string) page {
	b.t.Helper()
	action, _, fields := b.page.form(id)
	if action == "" {
		b.t.Fatalf("the page %q has no form %s:\n%s", b.page.title(), id, b.page.body)
	}
	for i := 0; i+1 < len(values); i += 2 {
		fields.Set(values[i], values[i+1])
	}
	return b.do(http.MethodPost, action, fields)
}

// signIn goes from the app to the end of the password.
func (b *browser) signIn(name, password string) page {
	b.t.Helper()
	b.get("/app?x=1&fresh=1")
	b.submit("signin-name", "loginfmt", name)
	return b.submit("signin-password", "passwd", password)
}

// session reads the session that the app shows.
func (pg page) session(t testing.TB) Session {
	t.Helper()
	var s Session
	if pg.status != 200 || json.Unmarshal([]byte(pg.body), &s) != nil || s.ID == "" {
		t.Fatalf("no session: %d %q %q\n%s", pg.status, pg.title(), pg.alert(), pg.body)
	}
	return s
}

func (b *browser) sessions() []Session {
	b.t.Helper()
	var list []Session
	if pg := b.get("/sessions"); pg.status != 204 && json.Unmarshal([]byte(pg.body), &list) != nil {
		b.t.Fatalf("sessions: %d %s", pg.status, pg.body)
	}
	return list
}

func (b *browser) cookie(name string) string {
	u, _ := url.Parse("https://" + loginHost + "/")
	for _, c := range b.jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func (b *browser) setCookie(name, value string) {
	u, _ := url.Parse("https://" + loginHost + "/")
	b.jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// records are the sign-in records of the plane's audit log.
func (p *plane) records() []guard.Record {
	p.t.Helper()
	var out []guard.Record
	err := p.guard.Audit().Each(context.Background(), 0, func(_ []byte, r guard.Record) bool {
		if r.Kind == guard.EventSignIn {
			out = append(out, r)
		}
		return true
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}
