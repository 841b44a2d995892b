package arm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const (
	subID    = "11111111-1111-1111-1111-111111111111"
	tenantID = "22222222-2222-2222-2222-222222222222"
	owner    = "aaaaaaaa-0000-0000-0000-000000000001"
	viewer   = "aaaaaaaa-0000-0000-0000-000000000002"
	stranger = "aaaaaaaa-0000-0000-0000-000000000003"
	robot    = "aaaaaaaa-0000-0000-0000-000000000004"
	inGroup  = "/subscriptions/" + subID + "/resourceGroups/g1"
)

// plane is a front door with a real store, guard and sealer behind a real
// HTTP server. The token of a request is the caller's object id.
type plane struct {
	t     testing.TB
	api   *API
	store *store.Store
	audit *guard.Log
	url   string
}

func newSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	kek, err := seal.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := seal.New(kek)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// eachPlane runs fn with a plane on SQLite and one on PostgreSQL.
func eachPlane(t *testing.T, types func() []AnyType, fn func(t *testing.T, p *plane)) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var all []AnyType
		if types != nil {
			all = types()
		}
		fn(t, newPlane(t, st, newSealer(t), all...))
	})
}

func newPlane(t testing.TB, st *store.Store, sealer *seal.Sealer, types ...AnyType) *plane {
	t.Helper()
	ctx := context.Background()
	log, err := guard.OpenLog(ctx, guard.LogConfig{Dir: t.TempDir(), Plane: "p1", Key: []byte("0123456789abcdef0123456789abcdef"), Clock: time.Now,
		Logger: slog.New(slog.DiscardHandler), Checkpoint: guard.Checkpoint{
			Save: func(context.Context, []byte) error { return nil },
			Load: func(context.Context) ([]byte, bool, error) { return nil, false, nil },
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	names := az.Names{Domain: "hawser.localhost", Port: "8443", Tenant: tenantID, Subscription: subID}
	api := New(Config{Store: st, Guard: guard.New(st, log, slog.New(slog.DiscardHandler)), Sealer: sealer, Names: names,
		PrincipalKind: func(_ context.Context, oid string) (az.PrincipalKind, bool, error) {
			switch oid {
			case owner, viewer, stranger:
				return az.User, true, nil
			case robot:
				return az.ServicePrincipal, true, nil
			}
			return "", false, nil
		}})
	api.Register(types...)
	t.Cleanup(func() { _ = api.Close(context.Background()) })
	p := &plane{t: t, api: api, store: st, audit: log}
	err = st.Write(ctx, func(tx *store.Tx) error {
		if _, _, err := api.AssignRole(tx, az.Root, owner, az.User, guard.RoleOwner, ""); err != nil {
			return err
		}
		_, _, err := api.AssignRole(tx, api.subscription(), viewer, az.User, guard.RoleReader, "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := api.Surface()
	s.Verify = func(ctx context.Context, r *http.Request, a rest.Audience) (az.Principal, error) {
		oid, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || a != rest.ARM {
			return az.Principal{}, az.Errorf(az.Unauthorized, "InvalidAuthenticationToken", "The access token is missing.")
		}
		if err := st.Confirm(ctx); err != nil {
			return az.Principal{}, err
		}
		return az.Principal{ObjectID: oid, AppID: "app", TenantID: tenantID, Kind: az.User}, nil
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (a answer) code() string {
	e, _ := a.body["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

// at digs into a JSON answer: at("properties", "x").
func (a answer) at(path ...string) any {
	var v any = a.body
	for _, k := range path {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func (a answer) values() []any {
	v, _ := a.body["value"].([]any)
	return v
}

// do sends a request as somebody; body is JSON text or "".
func (p *plane) do(who, method, path, body string, headers ...string) answer {
	p.t.Helper()
	if !strings.Contains(strings.ToLower(path), "api-version") {
		if strings.Contains(path, "?") {
			path += "&api-version=2022-09-01"
		} else {
			path += "?api-version=2022-09-01"
		}
	}
	if !strings.HasPrefix(path, "http") {
		path = p.url + path
	}
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, path, rd)
	if err != nil {
		p.t.Fatal(err)
	}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Host = "management.hawser.localhost:8443"
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	if len(bytes.TrimSpace(a.raw)) > 0 && a.raw[0] == '{' {
		if err := json.Unmarshal(a.raw, &a.body); err != nil {
			p.t.Fatalf("%s %s: %v: %s", method, path, err, a.raw)
		}
	}
	return a
}

// must is do with an expected status.
func (p *plane) must(status int, who, method, path, body string, headers ...string) answer {
	p.t.Helper()
	a := p.do(who, method, path, body, headers...)
	if a.status != status {
		p.t.Fatalf("%s %s as %s: status %d, want %d: %s", method, path, who[len(who)-2:], a.status, status, a.raw)
	}
	return a
}
