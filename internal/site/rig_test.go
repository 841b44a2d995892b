package site

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/authority"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
	"github.com/hawser/hawser/internal/vault"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// The cast: object ids with the roles that withCast gives them.
const (
	owner       = "00000000-0000-4000-8000-000000000001"
	contributor = "00000000-0000-4000-8000-000000000002"
	webmaster   = "00000000-0000-4000-8000-000000000003" // Website Contributor
	reader      = "00000000-0000-4000-8000-000000000004"
	stranger    = "00000000-0000-4000-8000-000000000005"
	officer     = "00000000-0000-4000-8000-000000000006" // Key Vault Secrets Officer

	roleWebsite     = "de139f84-1756-47ae-9be6-808fbbe84772"
	roleMIOperator  = "f1a07417-d97a-45cb-824c-7a7467783830"
	subscriptionID  = "/subscriptions/22222222-2222-4222-8222-222222222222"
	groupID         = subscriptionID + "/resourceGroups/hawser"
	vaultID         = groupID + "/providers/Microsoft.KeyVault/vaults/kv1"
	identityBase    = groupID + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
	siteBase        = groupID + "/providers/Microsoft.Web/sites/"
	app1            = siteBase + "app1"
	assignmentsPath = "/providers/Microsoft.Authorization/roleAssignments/"
)

// rig is the apps of a plane with everything real below them; only who a
// control-plane token belongs to is decided by the test.
type rig struct {
	*Sites
	t      testing.TB
	st     *store.Store
	guard  *guard.Guard
	dir    *directory.Directory
	vaults *vault.Vaults
	auth   *authority.Authority
	api    *arm.API
	sealer *seal.Sealer
	arm    http.Handler
	kv     http.Handler
	offset atomic.Int64 // of the rig's clock
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.offset.Load())) }

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

func newRig(t testing.TB, st *store.Store, sealer *seal.Sealer, change ...func(*Config)) *rig {
	t.Helper()
	ctx := context.Background()
	r := &rig{t: t, st: st, sealer: sealer}
	log := slog.New(slog.DiscardHandler)
	audit, err := guard.OpenLog(ctx, guard.LogConfig{Dir: t.TempDir(), Plane: az.NewGUID(), Key: sealer.Derive("audit", 32), Clock: r.now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	r.guard = guard.New(st, audit, log)
	r.dir = directory.New(directory.Config{Store: st, Guard: r.guard, Sealer: sealer, Names: testNames, Clock: r.now, Log: log, Unassign: arm.DeleteAssignmentsOf})
	r.vaults = vault.New(vault.Config{Store: st, Guard: r.guard, Sealer: sealer, Clock: r.now, Log: log, Names: testNames})
	r.auth = authority.New(authority.Config{Store: st, Directory: r.dir, Guard: r.guard, Sealer: sealer, Names: testNames, Clock: r.now, Log: log})
	cfg := Config{Store: st, Guard: r.guard, Sealer: sealer, Directory: r.dir, Vaults: r.vaults, Authority: r.auth, Names: testNames, Clock: r.now, Log: log}
	for _, f := range change {
		f(&cfg)
	}
	r.Sites = New(cfg)
	t.Cleanup(func() { _ = r.Close() })
	r.api = arm.New(arm.Config{Store: st, Guard: r.guard, Sealer: sealer, Clock: r.now, Log: log, Names: testNames,
		PrincipalKind: func(context.Context, string) (az.PrincipalKind, bool, error) { return az.ServicePrincipal, true, nil }})
	r.Register(r.api)
	s := r.api.Surface()
	s.Verify = r.verify
	r.arm = s.Handler()
	kv := r.vaults.Surface()
	kv.Verify = r.verify
	r.kv = kv.Handler()
	return r
}

// withTokens makes the authority ready. It makes signing keys, which takes a
// moment, so only tests that need tokens do it.
func (r *rig) withTokens() *rig {
	r.t.Helper()
	if err := r.auth.Start(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.auth.Close)
	return r
}

func (r *rig) verify(ctx context.Context, req *http.Request, _ rest.Audience) (az.Principal, error) {
	oid, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok || !az.IsGUID(oid) {
		return az.Principal{}, az.Errorf(az.Unauthorized, "InvalidAuthenticationToken", "No token.")
	}
	return as(oid), r.st.Confirm(ctx)
}

func as(oid string) az.Principal {
	return az.Principal{ObjectID: oid, AppID: oid, TenantID: testNames.Tenant, Kind: az.ServicePrincipal}
}

// newPlane is a rig with its cast, a resource group, a vault and no app.
func newPlane(t testing.TB, st *store.Store, change ...func(*Config)) *rig {
	t.Helper()
	r := newRig(t, st, newSealer(t), change...)
	r.withCast()
	return r
}

func (r *rig) withCast() {
	r.t.Helper()
	for _, a := range [][3]string{{guard.RoleOwner, owner, subscriptionID}, {guard.RoleContributor, contributor, groupID},
		{roleWebsite, webmaster, groupID}, {guard.RoleReader, reader, groupID}, {guard.RoleSecretsOfficer, officer, groupID}} {
		r.grant(a[0], a[1], a[2])
	}
	r.must(owner, "PUT", groupID, `{"location":"local"}`)
	r.putVault(vaultID, 7)
}

func (r *rig) putVault(id string, serial int64) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error {
		v := az.MustParseID(id)
		return tx.PutVault(store.Vault{Name: v.Name(), Serial: serial, ID: v, Location: "local", RetentionDays: 90, RBAC: true})
	})
}

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.st.Write(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// grant assigns a role as the plane's first start does, and returns the
// assignment's id.
func (r *rig) grant(role, oid, scope string) az.ID {
	r.t.Helper()
	id := az.MustParseID(scope + assignmentsPath + az.NewGUID())
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":%q}}`, role, oid)
	r.write(func(tx *store.Tx) error {
		return tx.PutResource(store.Resource{ID: id, ETag: az.NewGUID(), Body: []byte(body)}, "")
	})
	return id
}

func (r *rig) revoke(assignment az.ID) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error { _, err := tx.DeleteResource(assignment); return err })
}

// userIdentity makes a user-assigned identity as its own type does.
func (r *rig) userIdentity(name string) (id az.ID, oid, appID string) {
	r.t.Helper()
	id = az.MustParseID(identityBase + name)
	r.write(func(tx *store.Tx) (err error) {
		if oid, appID, err = r.dir.CreateIdentity(tx, id, name); err != nil {
			return err
		}
		body := fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"principalId":%q,"clientId":%q}}`, testNames.Tenant, oid, appID)
		return tx.PutResource(store.Resource{ID: id, ETag: az.NewGUID(), Body: []byte(body)}, "")
	})
	return id, oid, appID
}

func (r *rig) secret(name, value string) {
	r.t.Helper()
	body, _ := json.Marshal(map[string]string{"value": value})
	if status, out := r.send(r.kv, officer, "PUT", "https://kv1.vault.hawser.test:8443/secrets/"+name+"?api-version=7.4", string(body)); status != 200 {
		r.t.Fatalf("secret %s: %d %s", name, status, out)
	}
}

func (r *rig) send(h http.Handler, who, method, url, body string) (int, []byte) {
	req := httptest.NewRequest(method, url, strings.NewReader(body))
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	out, _ := io.ReadAll(w.Body)
	return w.Code, out
}

// call sends a control-plane request.
func (r *rig) call(who, method, path, body string) (int, string) {
	status, out := r.send(r.arm, who, method, "https://management.hawser.test:8443"+path+"?api-version=2022-03-01", body)
	return status, string(out)
}

// must is call that has to succeed; it returns the decoded reply.
func (r *rig) must(who, method, path, body string) map[string]any {
	r.t.Helper()
	status, out := r.call(who, method, path, body)
	if status > 299 {
		r.t.Fatalf("%s %s: %d %s", method, path, status, out)
	}
	m := map[string]any{}
	if len(out) > 0 && json.Unmarshal([]byte(out), &m) != nil {
		r.t.Fatalf("%s %s: %s", method, path, out)
	}
	return m
}

// refused is call that has to fail with a status and, if not empty, a code.
func (r *rig) refused(who, method, path, body string, status int, code string) string {
	r.t.Helper()
	got, out := r.call(who, method, path, body)
	if got != status || code != "" && !strings.Contains(out, `"code":"`+code+`"`) {
		r.t.Errorf("%s %s as %s: %d %s; want %d %s", method, path, who[len(who)-1:], got, out, status, code)
	}
	return out
}

// create makes app1 with settings; identity is the JSON of its identity.
func (r *rig) create(identity string, settings map[string]string) map[string]any {
	r.t.Helper()
	out := r.must(owner, "PUT", app1, `{"location":"local","identity":`+identity+`,"properties":{}}`)
	r.settings(settings)
	return out
}

func (r *rig) settings(all map[string]string) {
	r.t.Helper()
	if all == nil {
		return
	}
	body, _ := json.Marshal(map[string]any{"properties": all})
	r.must(owner, "PUT", app1+"/config/appsettings", string(body))
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

func text(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

const systemIdentity = `{"type":"SystemAssigned"}`

// environment asks for the environment as hawser run does.
func (r *rig) environment(who, etag string, wait int) *Environment {
	r.t.Helper()
	body := fmt.Sprintf(`{"etag":%q,"waitSeconds":%d}`, etag, wait)
	status, out := r.call(who, "POST", app1+"/runtimeEnvironment", body)
	if status != 200 {
		r.t.Fatalf("runtimeEnvironment: %d %s", status, out)
	}
	var env Environment
	if err := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(&env); err != nil {
		r.t.Fatal(err)
	}
	return &env
}

func (e *Environment) value(name string) string {
	for _, v := range e.Variables {
		if v.Name == name {
			return v.Value
		}
	}
	return "(none)"
}

func (e *Environment) status(name string) Status {
	for _, s := range e.References {
		if s.Name == name {
			return s.Status
		}
	}
	return "(none)"
}
