package easyauth

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const (
	tenant   = "11111111-1111-4111-8111-111111111111"
	clientID = "22222222-2222-4222-8222-222222222222"
	otherID  = "33333333-3333-4333-8333-333333333333"
	caller1  = "44444444-4444-4444-8444-444444444444"
	siteID   = "/subscriptions/55555555-5555-4555-8555-555555555555/resourceGroups/hawser/providers/Microsoft.Web/sites/"
	secret1  = "the registration's secret"
	machine1 = "this machine"
)

// rig is a front with a plane's store, directory and guard below it.
type rig struct {
	*Front
	t        testing.TB
	st       *store.Store
	dir      *directory.Directory
	auth     *authority
	server   *httptest.Server
	port     string
	offset   *atomic.Int64
	auditDir string
	owner    func(net.Conn) error
	setting  func(context.Context, az.ID, string) (az.Secret, error)
	mu       *sync.Mutex
	sites    map[string]*Site
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.offset.Load())) }

func newRig(t testing.TB, st *store.Store, like *rig) *rig {
	t.Helper()
	r := &rig{t: t, st: st, offset: new(atomic.Int64), mu: new(sync.Mutex), sites: map[string]*Site{}, auditDir: t.TempDir()}
	var sealer *seal.Sealer
	if like != nil { // another plane of the same store
		sealer, r.offset, r.mu, r.sites, r.auth = like.cfg.Sealer, like.offset, like.mu, like.sites, like.auth
	} else {
		kek, err := seal.NewKEK()
		if err != nil {
			t.Fatal(err)
		}
		if sealer, _, err = seal.New(kek); err != nil {
			t.Fatal(err)
		}
		r.auth = &authority{t: t, clock: r.now, codes: map[string]code{}, fresh: map[string]*family{}}
	}
	log := slog.New(slog.DiscardHandler)
	audit, err := guard.OpenLog(context.Background(), guard.LogConfig{Dir: r.auditDir, Plane: az.NewGUID(), Key: sealer.Derive("audit", 32), Clock: r.now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	g := guard.New(st, audit, log)
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.Front.ServeHTTP(w, req) }))
	_, r.port, _ = net.SplitHostPort(r.server.Listener.Addr().String())
	port := r.port
	if like != nil {
		port = like.port
	}
	names := az.Names{Domain: "hawser.test", Port: port, Tenant: tenant}
	r.dir = directory.New(directory.Config{Store: st, Guard: g, Sealer: sealer, Names: names, Clock: r.now, Log: log})
	r.Front = New(Config{Store: st, Guard: g, Sealer: sealer, Directory: r.dir, Names: names, Clock: r.now, Log: log, Machine: machine1,
		Site: func(_ context.Context, name string) (*Site, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.sites[strings.ToLower(name)], nil
		},
		Setting: func(ctx context.Context, id az.ID, name string) (az.Secret, error) {
			if r.setting != nil {
				return r.setting(ctx, id, name)
			}
			return az.NewSecret(secret1), nil
		},
		Verify: r.auth.verify, Login: r.auth,
		Owner: func(c net.Conn) error {
			if r.owner == nil {
				return nil
			}
			return r.owner(c)
		}})
	r.server.EnableHTTP2 = true
	// As the plane's listener has them: the front must lift them.
	r.server.Config.ReadTimeout, r.server.Config.WriteTimeout = time.Second, time.Second
	r.server.StartTLS()
	t.Cleanup(func() { r.Front.Close(); r.server.Close() })
	return r
}

func (r *rig) host(app string) string { return app + ".sites.hawser.test:" + r.cfg.Names.Port }

// plane is a rig on SQLite with app1, whose authentication is on.
func plane(t testing.TB) *rig {
	t.Helper()
	var r *rig
	st := storetest.Open(t, store.Config{Dir: t.TempDir(), Clock: func() time.Time {
		if r == nil {
			return time.Now()
		}
		return r.now()
	}})
	r = newRig(t, st, nil)
	r.auths("app1", on(nil))
	return r
}

// on gives settings that are switched on, changed by f.
func on(f func(m map[string]any)) string {
	m := map[string]any{}
	_ = json.Unmarshal([]byte(`{"platform":{"enabled":true},"globalValidation":{"requireAuthentication":true,"unauthenticatedClientAction":"RedirectToLoginPage"},
		"identityProviders":{"azureActiveDirectory":{"registration":{"clientId":"`+clientID+`","clientSecretSettingName":"S"},
		"login":{"loginParameters":["scope=openid profile offline_access api://backend/user_impersonation"]},"validation":{"allowedAudiences":["api://`+clientID+`"]}}},
		"login":{"tokenStore":{"enabled":true}}}`), &m)
	if f != nil {
		f(m)
	}
	b, _ := json.Marshal(m)
	return string(b)
}

func at(m map[string]any, path ...string) map[string]any {
	for _, p := range path {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	return m
}

// auths sets an app's settings.
func (r *rig) auths(app, text string) {
	r.t.Helper()
	if err := Check(r.cfg.Names, []byte(text)); err != nil {
		r.t.Fatal(err)
	}
	r.site(app, &Site{ID: az.MustParseID(siteID + app), Auth: []byte(text)})
}

// site changes an app as the store's own would: the feed tells of it.
func (r *rig) site(app string, s *Site) {
	r.t.Helper()
	r.mu.Lock()
	r.sites[app] = s
	r.mu.Unlock()
	r.write(func(tx *store.Tx) error {
		if _, err := tx.DeleteResource(s.ID); err != nil {
			return err
		}
		return tx.PutResource(store.Resource{ID: s.ID, ETag: az.NewGUID(), Body: []byte("{}")}, "")
	})
}

// app starts a process of an app and announces it.
func (r *rig) app(name string, h http.HandlerFunc) *httptest.Server {
	r.t.Helper()
	s := httptest.NewServer(h)
	r.t.Cleanup(s.Close)
	r.announce(name, s.URL)
	return s
}

func (r *rig) announce(name, address string) {
	r.t.Helper()
	if err := r.Announce(context.Background(), az.MustParseID(siteID+name), Process{ID: az.NewGUID(), Address: address}, Announcer{Local: true}); err != nil {
		r.t.Fatal(err)
	}
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"host": r.Host, "uri": r.RequestURI, "header": r.Header, "trailer": r.Trailer, "method": r.Method})
}

// user makes a person.
func (r *rig) user(name string) string {
	r.t.Helper()
	var oid string
	r.write(func(tx *store.Tx) error {
		o, err := r.dir.AddUser(tx, directory.Object{Name: name, UPN: name + "@hawser.test", Enabled: true}, "")
		if err == nil {
			oid = o.ID
		}
		return err
	})
	return oid
}

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.st.Write(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// change changes a person.
func (r *rig) change(oid string, fn func(*directory.Object)) {
	r.t.Helper()
	o, ok, err := r.dir.Get(context.Background(), oid)
	if err != nil || !ok {
		r.t.Fatal("no such person", err)
	}
	c := *o
	fn(&c)
	r.write(func(tx *store.Tx) error { return r.dir.Update(tx, &c) })
}

// browser keeps cookies and follows nothing by itself.
type browser struct {
	r *rig
	*http.Client
	header http.Header
}

func (r *rig) browser() *browser { return r.browserAt(r) }

// browserAt is a browser whose names lead to a plane.
func (r *rig) browserAt(to *rig) *browser {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, to.server.Listener.Addr().String())
		}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &browser{r, &http.Client{Jar: jar, Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, http.Header{}}
}

// answer is a reply, read.
type answer struct {
	*http.Response
	text string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(a.text), &m); err != nil {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	return m
}

// seen is a header that the app got, "" for none.
func (a answer) seen(t testing.TB, name string) string {
	t.Helper()
	h, _ := a.json(t)["header"].(map[string]any)
	v, _ := h[http.CanonicalHeaderKey(name)].([]any)
	if len(v) == 0 {
		return ""
	}
	return fmt.Sprint(v...)
}

func (b *browser) do(method, address string, body io.Reader, header ...string) answer {
	b.r.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = "https://" + b.r.host("app1") + address
	}
	req, err := http.NewRequest(method, address, body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = append(req.Header[header[i]], header[i+1])
	}
	resp, err := b.Do(req)
	if err != nil {
		b.r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	return answer{resp, string(text)}
}

func (b *browser) get(address string, header ...string) answer {
	b.r.t.Helper()
	return b.do("GET", address, nil, header...)
}

// authorize plays the authority's pages for a person: it returns the form that
// comes back.
func (r *rig) authorize(location, oid string, change ...func(claims map[string]any)) url.Values {
	r.t.Helper()
	u, err := url.Parse(location)
	if err != nil || u.Host != "login.hawser.test:"+r.cfg.Names.Port || u.Path != "/"+tenant+"/oauth2/v2.0/authorize" {
		r.t.Fatalf("not sent to the authority: %s", location)
	}
	q := u.Query()
	claims := map[string]any{"aud": q.Get("client_id"), "iss": "https://login.hawser.test/" + tenant + "/v2.0", "oid": oid, "sub": "s-" + oid, "tid": tenant,
		"preferred_username": "alice@hawser.test", "nonce": q.Get("nonce"), "iat": r.now().Unix(), "exp": r.now().Add(time.Hour).Unix(), "roles": []string{"A", "B"}}
	for _, f := range change {
		f(claims)
	}
	id := random()
	r.auth.mu.Lock()
	r.auth.codes[id] = code{claims, q.Get("code_challenge"), q.Get("redirect_uri")}
	r.auth.mu.Unlock()
	return url.Values{"code": {id}, "state": {q.Get("state")}}
}

func (b *browser) callback(form url.Values) answer {
	b.r.t.Helper()
	return b.do("POST", "/.auth/login/aad/callback", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// signIn goes the whole way.
func (b *browser) signIn(oid string) answer {
	b.r.t.Helper()
	a := b.get("/.auth/login/aad?post_login_redirect_uri=/after")
	out := b.callback(b.r.authorize(a.Header.Get("Location"), oid))
	if out.StatusCode != 302 || out.Header.Get("Location") != "/after" {
		b.r.t.Fatalf("sign-in: %d %s %s", out.StatusCode, out.Header.Get("Location"), out.text)
	}
	return out
}

func (b *browser) cookie(name string) string {
	u, _ := url.Parse("https://" + b.r.host("app1") + "/")
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// audit is the whole audit log.
func (r *rig) audit() string {
	files, _ := filepath.Glob(filepath.Join(r.auditDir, "*"))
	var all []byte
	for _, f := range files {
		b, _ := os.ReadFile(f)
		all = append(all, b...)
	}
	return string(all)
}
