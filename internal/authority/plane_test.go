package authority

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/signin"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// clock is a clock that tests move; it starts at the real time.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// plane is an authority with everything real behind it, on a TLS listener.
type plane struct {
	*Authority
	st     *store.Store
	dir    *directory.Directory
	guard  *guard.Guard
	sealer *seal.Sealer
	clock  *clock
	srv    *httptest.Server

	admin  *directory.Object // an application's service principal
	appID  string
	app    *directory.Object
	secret az.Secret
}

// shared is what planes on one store have in common.
type shared struct {
	sealer *seal.Sealer
	tenant string
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
	return shared{s, az.NewGUID()}
}

func newPlane(t testing.TB, st *store.Store, sh shared, change ...func(*Config)) *plane {
	t.Helper()
	ctx := context.Background()
	p := &plane{st: st, sealer: sh.sealer, clock: &clock{}}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	names := az.Names{Domain: "hawser.localhost", Port: "8443", Tenant: sh.tenant, Subscription: az.NewGUID()}
	audit, err := guard.OpenLog(ctx, guard.LogConfig{Dir: t.TempDir(), Plane: az.NewGUID(), Key: []byte(strings.Repeat("a", 32)), Clock: p.clock.now, Logger: log,
		Checkpoint: guard.Checkpoint{Save: func(context.Context, []byte) error { return nil }, Load: func(context.Context) ([]byte, bool, error) { return nil, false, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	p.guard = guard.New(st, audit, log)
	p.dir = directory.New(directory.Config{Store: st, Guard: p.guard, Sealer: sh.sealer, Names: names, Clock: p.clock.now, Log: log})
	people, err := signin.New(signin.Config{Store: st, Directory: p.dir, Guard: p.guard, Sealer: sh.sealer, Names: names, Clock: p.clock.now, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Write(ctx, p.dir.EnsureFirstParty); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: st, Directory: p.dir, Guard: p.guard, Sealer: sh.sealer, Names: names, Clock: p.clock.now, Log: log, SignIn: people}
	for _, f := range change {
		f(&cfg)
	}
	p.Authority = New(cfg)
	p.seedKeys(t)
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.srv = httptest.NewUnstartedServer(p.Surface().Handler())
	p.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	p.srv.StartTLS()
	t.Cleanup(p.srv.Close)
	return p
}

// testKeys are made once: each plane would take half a second for its own.
var testKeys = sync.OnceValue(func() (out [2]*rsa.PrivateKey) {
	for i := range out {
		var err error
		if out[i], err = rsa.GenerateKey(rand.Reader, keyBits); err != nil {
			panic(err)
		}
	}
	return out
})

// seedKeys gives a new store the keys of all tests, as begin would make them.
func (p *plane) seedKeys(t testing.TB) {
	t.Helper()
	var rows [2]store.SigningKey
	for i, key := range testKeys() {
		var err error
		if rows[i], err = p.keys.certify(key); err != nil {
			t.Fatal(err)
		}
	}
	p.write(t, func(tx *store.Tx) error {
		old, err := tx.SigningKeys()
		if err != nil || len(old) > 0 {
			return err
		}
		rows[0].From = tx.Now()
		rows[1].From = az.MicrosOf(tx.Now().Time().Add(p.cfg.RotateEvery))
		end(&rows[0], rows[1].From)
		for _, r := range rows {
			if err := tx.PutSigningKey(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// onSQLite is a plane of its own with an application.
func onSQLite(t testing.TB, change ...func(*Config)) *plane {
	t.Helper()
	p := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), newShared(t), change...)
	p.addApp(t)
	return p
}

func (p *plane) write(t testing.TB, fn func(*store.Tx) error) {
	t.Helper()
	if err := p.st.Write(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (p *plane) addApp(t testing.TB) {
	t.Helper()
	p.write(t, func(tx *store.Tx) (err error) {
		if p.app, err = p.dir.AddApplication(tx, directory.Object{Name: "app"}); err != nil {
			return err
		}
		if p.admin, err = p.dir.AddServicePrincipal(tx, p.app.AppID); err != nil {
			return err
		}
		_, p.secret, err = p.dir.AddSecret(tx, p.app.ID, "s", 0, 0)
		return err
	})
	p.appID = p.app.AppID
}

// reply is an HTTP reply read whole.
type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

// do sends a request to the plane under a host name.
func (p *plane) do(t testing.TB, method, host, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, p.srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := p.srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{status: res.StatusCode, header: res.Header, body: string(b)}
	_ = json.Unmarshal(b, &r.json)
	return r
}

const loginHost = "login.hawser.localhost:8443"

// ask posts a token request to the v2 endpoint under the plane's own name.
func (p *plane) ask(t testing.TB, form url.Values) reply {
	t.Helper()
	return p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/v2.0/token", form.Encode())
}

func (p *plane) secretForm(scope string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {p.appID}, "client_secret": {p.secret.Reveal()}, "scope": {scope}}
}

// code returns the AADSTS number of a refusal.
func (r reply) code() int {
	list, _ := r.json["error_codes"].([]any)
	if len(list) != 1 {
		return 0
	}
	n, _ := list[0].(float64)
	return int(n)
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }
