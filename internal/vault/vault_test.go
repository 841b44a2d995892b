package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
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
	tenant       = "11111111-1111-4111-8111-111111111111"
	subscription = "22222222-2222-4222-8222-222222222222"
	officer      = "00000000-0000-4000-8000-00000000000f"
	user         = "00000000-0000-4000-8000-00000000000a"
	reader       = "00000000-0000-4000-8000-00000000000b"
	stranger     = "00000000-0000-4000-8000-00000000000c"
	kvHost       = "kv1.vault.hawser.test:8443"
)

var kvID = az.MustParseID("/subscriptions/" + subscription + "/resourceGroups/hawser/providers/Microsoft.KeyVault/vaults/kv1")

// rig is a vault surface with everything real below it; only who a token
// belongs to is decided by the test.
type rig struct {
	*Vaults
	t   testing.TB
	st  *store.Store
	h   http.Handler
	now *testClock
}

type testClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) Add(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	c.mu.Unlock()
}

func newSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	kek, err := seal.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	sealer, _, err := seal.New(kek)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func newRig(t testing.TB, st *store.Store) *rig { return newRigWith(t, st, newSealer(t)) }

func newRigWith(t testing.TB, st *store.Store, sealer *seal.Sealer) *rig {
	t.Helper()
	log, err := guard.OpenLog(context.Background(), guard.LogConfig{Dir: t.TempDir(), Plane: "p1", Key: sealer.Derive("audit", 32),
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	r := &rig{t: t, st: st, now: &testClock{at: time.Now()}}
	r.Vaults = New(Config{Store: st, Guard: guard.New(st, log, slog.New(slog.DiscardHandler)), Sealer: sealer, Clock: r.now.Now,
		Log:   slog.New(slog.DiscardHandler),
		Names: az.Names{Domain: "hawser.test", Port: "8443", Tenant: tenant, Subscription: subscription, ChallengeTenant: az.AliasTenant}})
	s := r.Surface()
	s.Verify = func(ctx context.Context, req *http.Request, a rest.Audience) (az.Principal, error) {
		if len(req.Header["Authorization"]) == 0 {
			return az.Principal{}, az.Errorf(az.Unauthorized, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
		}
		oid, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		if !ok || a != rest.Vault || !az.IsGUID(oid) {
			return az.Principal{}, az.Errorf(az.Unauthorized, "Unauthorized", "AKV10022: the token is not good.")
		}
		return az.Principal{ObjectID: oid, AppID: oid, TenantID: tenant, Kind: az.ServicePrincipal}, st.Confirm(ctx)
	}
	r.h = s.Handler()
	return r
}

// withVault makes the vault kv1 and gives the cast their roles on it.
func (r *rig) withVault() *rig {
	r.t.Helper()
	r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, RBAC: true})
	r.grant(guard.RoleSecretsOfficer, officer, kvID)
	r.grant(guard.RoleSecretsUser, user, kvID)
	r.grant("21090545-7ca7-4776-b22c-e363652d74d2", reader, kvID)
	return r
}

func (r *rig) putVault(v store.Vault) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error { return tx.PutVault(v) })
}

func (r *rig) write(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.st.Write(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) grant(role, oid string, scope az.ID) {
	r.t.Helper()
	id := scope.Child("providers", "Microsoft.Authorization", "roleAssignments", az.NewGUID())
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":%q}}`, role, oid)
	r.write(func(tx *store.Tx) error {
		return tx.PutResource(store.Resource{ID: id, ETag: az.NewGUID(), Body: []byte(body)}, "")
	})
}

// reply is what came back, decoded as an SDK would.
type reply struct {
	Status int
	Header http.Header
	Raw    string
	Body   struct {
		Value       json.RawMessage   `json:"value"`
		ID          string            `json:"id"`
		ContentType string            `json:"contentType"`
		Tags        map[string]string `json:"tags"`
		Attributes  struct {
			Enabled         bool   `json:"enabled"`
			NotBefore       *int64 `json:"nbf"`
			Expires         *int64 `json:"exp"`
			Created         int64  `json:"created"`
			Updated         int64  `json:"updated"`
			RecoveryLevel   string `json:"recoveryLevel"`
			RecoverableDays int    `json:"recoverableDays"`
		} `json:"attributes"`
		RecoveryID  string  `json:"recoveryId"`
		DeletedDate int64   `json:"deletedDate"`
		PurgeDate   int64   `json:"scheduledPurgeDate"`
		NextLink    *string `json:"nextLink"`
		Error       struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
}

func (p *reply) text() string {
	var s string
	_ = json.Unmarshal(p.Body.Value, &s)
	return s
}

func (p *reply) version() string { return p.Body.ID[strings.LastIndexByte(p.Body.ID, '/')+1:] }

// do sends a request; path may hold a query, api-version is added if it has none.
func (r *rig) do(oid, method, path, body string) *reply {
	r.t.Helper()
	if !strings.Contains(path, "api-version") && !strings.Contains(path, "api%2Dversion") {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "api-version=7.4"
	}
	return r.send(oid, method, "https://"+kvHost+path, body)
}

func (r *rig) send(oid, method, url, body string) *reply {
	r.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, url, in)
	if oid != "" {
		req.Header.Set("Authorization", "Bearer "+oid)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, req)
	p := &reply{Status: w.Code, Header: w.Header(), Raw: w.Body.String()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &p.Body); err != nil {
			r.t.Fatalf("%s %s: %d, not JSON: %v: %s", method, url, w.Code, err, w.Body)
		}
	}
	return p
}

// must fails the test unless the status is the one expected.
func (r *rig) must(status int, p *reply) *reply {
	r.t.Helper()
	if p.Status != status {
		r.t.Fatalf("status %d, want %d: %s", p.Status, status, p.Raw)
	}
	return p
}

// refused fails the test unless the error is the one expected.
func (r *rig) refused(p *reply, status int, code, inner, text string) *reply {
	r.t.Helper()
	e := p.Body.Error
	if p.Status != status || e.Code != code || e.Inner.Code != inner || !strings.Contains(e.Message, text) {
		r.t.Fatalf("got %d %s/%s %q, want %d %s/%s …%s…", p.Status, e.Code, e.Inner.Code, e.Message, status, code, inner, text)
	}
	return p
}

func (r *rig) set(name, value string) *reply {
	r.t.Helper()
	b, _ := json.Marshal(map[string]any{"value": value, "attributes": map[string]any{}})
	return r.must(200, r.do(officer, "PUT", "/secrets/"+name, string(b)))
}

func TestSetAndGet(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		values := []string{"plain", "", "with \"quotes\", \\ and \n\t\x00\x1f", "ü€😀 </script>\u2028", strings.Repeat("x", maxValue)}
		for _, want := range values {
			put := r.set("S1", want)
			if got := put.text(); got != want {
				t.Fatalf("set shows %q, want %q", got, want)
			}
			for _, path := range []string{"/secrets/S1/", "/secrets/S1", "//secrets/s1", "/secrets/S1/" + put.version(), "/secrets/S1/?api%2Dversion=2025-07-01"} {
				got := r.must(200, r.do(user, "GET", path, ""))
				if got.text() != want || got.Body.ID != put.Body.ID {
					t.Fatalf("%s gives %q as %s, want %q as %s", path, got.text(), got.Body.ID, want, put.Body.ID)
				}
			}
		}
		got := r.do(user, "GET", "/secrets/S1/", "")
		if !strings.HasPrefix(got.Body.ID, "https://"+kvHost+"/secrets/S1/") || !got.Body.Attributes.Enabled ||
			got.Body.Attributes.RecoveryLevel != "Recoverable+Purgeable" || got.Body.Attributes.RecoverableDays != 90 || got.Body.Attributes.Created == 0 {
			t.Fatalf("unexpected bundle %s", got.Raw)
		}
	})
}

// TestSealedAtRest looks for a value in everything the store's tables hold.
func TestSealedAtRest(t *testing.T) {
	dir := t.TempDir()
	canary := "canary-" + rand.Text()
	r := newRig(t, storetest.Open(t, store.Config{Dir: dir})).withVault()
	r.set("s1", canary)
	r.do(officer, "POST", "/secrets/s1/backup", "")
	r.do(user, "GET", "/secrets/s1/", "")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(dir + "/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s holds the secret in clear", f.Name())
		}
	}
}
