package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/authority"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/site"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
	"github.com/hawser/hawser/internal/vault"
)

var rigNames = az.Names{Domain: "hawser.test", Port: "8443", Tenant: "11111111-1111-4111-8111-111111111111",
	Subscription: "22222222-2222-4222-8222-222222222222"}

// The callers, by what they hold.
const (
	boss        = "00000000-0000-4000-8000-000000000001" // Owner
	contributor = "00000000-0000-4000-8000-000000000002"
	webmaster   = "00000000-0000-4000-8000-000000000003" // Website Contributor
	reader      = "00000000-0000-4000-8000-000000000004"
	stranger    = "00000000-0000-4000-8000-000000000005"

	roleWebsite = "de139f84-1756-47ae-9be6-808fbbe84772"

	subscription = "/subscriptions/22222222-2222-4222-8222-222222222222"
	group        = subscription + "/resourceGroups/hawser"
	servers      = group + "/providers/Microsoft.DBforPostgreSQL/flexibleServers/"
	sites        = group + "/providers/Microsoft.Web/sites/"
	linkers      = "/providers/Microsoft.ServiceLinker/linkers/"
	vaultsPath   = group + "/providers/Microsoft.KeyVault/vaults/"
)

// rig is a plane with everything real in it but the question whose a
// control-plane token is.
type rig struct {
	*Connector
	t      testing.TB
	st     *store.Store
	dir    *directory.Directory
	audit  *guard.Log
	sealer *seal.Sealer
	arm    http.Handler
	f      *fixture
	offset atomic.Int64 // of the clock
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.offset.Load())) }

func newRig(t testing.TB, st *store.Store, sealer *seal.Sealer, f *fixture) *rig {
	t.Helper()
	r := &rig{t: t, st: st, f: f, sealer: sealer}
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	r.audit, err = guard.OpenLog(ctx, guard.LogConfig{Dir: t.TempDir(), Plane: az.NewGUID(), Key: sealer.Derive("audit", 32), Clock: r.now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.audit.Close() })
	g := guard.New(st, r.audit, log)
	r.dir = directory.New(directory.Config{Store: st, Guard: g, Sealer: sealer, Names: rigNames, Clock: r.now, Log: log, Unassign: arm.DeleteAssignmentsOf})
	vaults := vault.New(vault.Config{Store: st, Guard: g, Sealer: sealer, Clock: r.now, Log: log, Names: rigNames})
	// No token is issued here, so the authority is not started: it would make keys.
	auth := authority.New(authority.Config{Store: st, Directory: r.dir, Guard: g, Sealer: sealer, Names: rigNames, Clock: r.now, Log: log})
	all := site.New(site.Config{Store: st, Guard: g, Sealer: sealer, Directory: r.dir, Vaults: vaults, Authority: auth, Names: rigNames, Clock: r.now, Log: log})
	t.Cleanup(func() { _ = all.Close() })
	api := arm.New(arm.Config{Store: st, Guard: g, Sealer: sealer, Clock: r.now, Log: log, Names: rigNames,
		PrincipalKind: func(context.Context, string) (az.PrincipalKind, bool, error) { return az.ServicePrincipal, true, nil }})
	r.Connector = New(Config{Store: st, Guard: g, API: api, Directory: r.dir, Sites: all, Vaults: vaults, Names: rigNames, Clock: r.now, Log: log,
		Endpoint: func(k Kind, server string) (string, int) {
			return rigNames.Of(k.family().surface, server), map[Kind]int{PostgreSQL: 15432, MySQL: 13306, SQLServer: 11433, Redis: 16380}[k]
		}})
	api.Register(auth.Types()...)
	vaults.Register(api)
	all.Register(api)
	r.Register(api)
	s := api.Surface()
	s.Verify = func(ctx context.Context, req *http.Request, _ rest.Audience) (az.Principal, error) {
		oid := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		return as(oid), st.Confirm(ctx)
	}
	r.arm = s.Handler()
	return r
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("log: %s", b)
	return len(b), nil
}

func as(oid string) az.Principal {
	return az.Principal{ObjectID: oid, AppID: oid, TenantID: rigNames.Tenant, Kind: az.ServicePrincipal}
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

// newPlane is a rig with its callers, a group, two apps and the real server
// attached as pg1.
func newPlane(t testing.TB, st *store.Store) *rig {
	t.Helper()
	r := newRig(t, st, newSealer(t), newFixture(t))
	for _, a := range [][3]string{{guard.RoleOwner, boss, subscription}, {guard.RoleContributor, contributor, group},
		{roleWebsite, webmaster, group}, {guard.RoleReader, reader, group}} {
		r.grantRole(a[0], a[1], a[2])
	}
	r.must(boss, "PUT", group, `{"location":"local"}`)
	r.must(boss, "PUT", sites+"web", `{"location":"local","properties":{}}`)
	r.must(boss, "PUT", sites+"other", `{"location":"local","properties":{}}`)
	r.attach("pg1")
	return r
}

func eachPlane(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		t.Parallel()
		fn(t, newPlane(t, st))
	})
}

// onePlane is eachPlane for what does not differ between stores.
func onePlane(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Parallel()
	fn(t, newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()})))
}

func (r *rig) serverBody() string {
	return fmt.Sprintf(`{"location":"local","properties":{"administratorLogin":%q,"administratorLoginPassword":%q,"hawser":{"host":%q,"port":%d,"sslMode":"prefer"}}}`,
		r.f.Owner, r.f.Password.Reveal(), r.f.Host, r.f.Port)
}

func (r *rig) attach(name string) { r.t.Helper(); r.must(boss, "PUT", servers+name, r.serverBody()) }

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.st.Write(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) grantRole(role, oid, scope string) az.ID {
	r.t.Helper()
	id := az.MustParseID(scope + "/providers/Microsoft.Authorization/roleAssignments/" + az.NewGUID())
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":%q}}`, role, oid)
	r.write(func(tx *store.Tx) error {
		return tx.PutResource(store.Resource{ID: id, ETag: az.NewGUID(), Body: []byte(body)}, "")
	})
	return id
}

func (r *rig) user(name string) (oid string) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		o, err := r.dir.AddUser(tx, directory.Object{Name: name, UPN: name + "@hawser.test", Enabled: true}, "")
		if err == nil {
			oid = o.ID
		}
		return err
	})
	return oid
}

func (r *rig) group(name string, members ...string) (oid string) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		o, err := r.dir.AddGroup(tx, directory.Object{Name: name, Enabled: true})
		if err != nil {
			return err
		}
		oid = o.ID
		for _, m := range members {
			if err := r.dir.AddMember(tx, oid, m); err != nil {
				return err
			}
		}
		return nil
	})
	return oid
}

func (r *rig) call(who, method, path, body string) (int, string) {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	u := url.URL{Path: path}
	req := httptest.NewRequest(method, "https://management.hawser.test:8443"+u.EscapedPath()+sep+"api-version=2022-11-01-preview", strings.NewReader(body))
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+who)
	w := httptest.NewRecorder()
	r.arm.ServeHTTP(w, req)
	out, _ := io.ReadAll(w.Body)
	return w.Code, string(out)
}

func (r *rig) must(who, method, path, body string) map[string]any {
	r.t.Helper()
	status, out := r.call(who, method, path, body)
	if status != 200 && (status != 204 || method != "DELETE") && status != 201 {
		r.t.Fatalf("%s %s: %d %s", method, path, status, out)
	}
	m := map[string]any{}
	if len(out) > 0 && json.Unmarshal([]byte(out), &m) != nil {
		r.t.Fatalf("%s %s: %s", method, path, out)
	}
	return m
}

func (r *rig) refused(who, method, path, body string, status int, code string) string {
	r.t.Helper()
	got, out := r.call(who, method, path, body)
	if got != status || !strings.Contains(out, `"code":"`+code+`"`) {
		r.t.Errorf("%s %s: %d %s; want %d %s", method, path, got, out, status, code)
	}
	return out
}

// at follows a path through decoded JSON.
func at(v any, path ...string) any {
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func text(v any, path ...string) string { s, _ := at(v, path...).(string); return s }

// linkBody is the body of a connection to the fixture's database on pg1.
func (r *rig) linkBody(client string, a Access, more string) string {
	return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":"%spg1/databases/%s"},"authInfo":{"authType":"systemAssignedIdentity"%s},"clientType":%q,"hawser":{"access":%q}}}`,
		servers, r.f.db, more, client, a)
}

// conn is a unique name for a connection: roles are of the whole real server.
func (r *rig) conn(name string) string { return name + "_" + r.f.db }

func (r *rig) identity(app string) az.Principal {
	r.t.Helper()
	oid := text(r.must(boss, "GET", sites+app, ""), "identity", "principalId")
	if oid == "" {
		r.t.Fatalf("the app %s has no identity", app)
	}
	return as(oid)
}

func (r *rig) settings(app string) map[string]any {
	r.t.Helper()
	m, _ := at(r.must(boss, "POST", sites+app+"/config/appsettings/list", ""), "properties").(map[string]any)
	return m
}

// enter logs in at the real server with what Authorize gives.
func (r *rig) enter(who az.Principal, user string) (*pgx.Conn, error) {
	b, err := r.Authorize(r.t.Context(), who, Login{PostgreSQL, "pg1", r.f.db, user})
	if err != nil {
		return nil, err
	}
	return r.f.login(r.t, b.User, b.Password)
}

func (r *rig) mustEnter(who az.Principal, user string) *pgx.Conn {
	r.t.Helper()
	conn, err := r.enter(who, user)
	if err != nil {
		r.t.Fatalf("login as %q: %v", user, err)
	}
	return conn
}

// roleExists asks the real server.
func (r *rig) roleExists(name string) bool {
	r.t.Helper()
	conn, err := r.f.connect(r.t.Context(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var there bool
	if err := conn.QueryRow(r.t.Context(), `select exists (select 1 from pg_roles where rolname = $1)`, name).Scan(&there); err != nil {
		r.t.Fatal(err)
	}
	return there
}

// traces counts what connections have left in the plane.
func (r *rig) traces() (principals, assignments int) {
	r.t.Helper()
	count := func(typ string, n *int) {
		rows, err := r.st.Resources(context.Background(), store.ResourceQuery{Type: typ})
		if err != nil {
			r.t.Fatal(err)
		}
		*n += len(rows)
	}
	for _, f := range families {
		count(f.principals(), &principals)
	}
	count(guard.RoleAssignmentType, &assignments)
	count(RedisAssignmentType, &assignments)
	return principals, assignments
}

// records lists the audit's records of an action.
func (r *rig) records(action, outcome string) (out []guard.Record) {
	r.t.Helper()
	err := r.audit.Each(context.Background(), 0, func(_ []byte, rec guard.Record) bool {
		if rec.Action == action && rec.Outcome == outcome {
			out = append(out, rec)
		}
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// made turns an app's identity on.
func (r *rig) made(app string) az.Principal {
	r.t.Helper()
	r.must(boss, "PATCH", sites+app, `{"identity":{"type":"SystemAssigned"}}`)
	return r.identity(app)
}

// ownApplication makes an application with a principal.
func (r *rig) ownApplication(name string) (app, sp string) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		a, err := r.dir.AddApplication(tx, directory.Object{Name: name})
		if err != nil {
			return err
		}
		s, err := r.dir.AddServicePrincipal(tx, a.AppID)
		app, sp = a.AppID, s.ID
		return err
	})
	return app, sp
}

// furnishVault makes the vault bypolicy.
func (r *rig) furnishVault() {
	r.t.Helper()
	r.must(boss, "PUT", vaultsPath+"bypolicy", fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},"accessPolicies":[{"tenantId":%[1]q,"objectId":%q,"permissions":{"secrets":["all"]}}]}}`, rigNames.Tenant, boss))
}
