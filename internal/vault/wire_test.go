package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func sqliteRig(t testing.TB) *rig {
	t.Helper()
	return newRig(t, storetest.Open(t, store.Config{Dir: t.TempDir()})).withVault()
}

func TestChallenge(t *testing.T) {
	r := sqliteRig(t)
	for _, c := range []struct{ url, want string }{
		{"https://kv1.vault.hawser.test:8443", `Bearer authorization="https://login.hawser.test:8443/adfs", resource="https://vault.hawser.test:8443"`},
		{"https://KV1.vault.hawser.test", `Bearer authorization="https://login.hawser.test:8443/adfs", resource="https://vault.hawser.test"`},
		{"https://nobody.vault.hawser.test:9", `Bearer authorization="https://login.hawser.test:8443/adfs", resource="https://vault.hawser.test:9"`},
		{"https://kv1.vault.azure.net", `Bearer authorization="https://login.microsoftonline.com/` + tenant + `", resource="https://vault.azure.net"`},
		{"https://kv1.vault.azure.net:8443", `Bearer authorization="https://login.microsoftonline.com/` + tenant + `", resource="https://vault.azure.net:8443"`},
		{"https://kv1.vault.azure.cn", `Bearer authorization="https://login.chinacloudapi.cn/` + tenant + `", resource="https://vault.azure.cn"`},
		{"https://kv1.vault.usgovcloudapi.net", `Bearer authorization="https://login.microsoftonline.us/` + tenant + `", resource="https://vault.usgovcloudapi.net"`},
	} {
		for _, req := range []struct{ method, path, body string }{
			{"GET", "/secrets/s1/?api-version=7.4", ""}, {"PUT", "/secrets/s1?api-version=7.4", ""}, {"PUT", "/secrets/s1", "{broken"},
			{"GET", "/secrets", ""}, {"GET", "/nothing/here", ""}, {"POST", "/secrets/restore", "{}"},
		} {
			p := r.send("", req.method, c.url+req.path, req.body)
			r.refused(p, 401, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.")
			if got := p.Header.Get("WWW-Authenticate"); got != c.want {
				t.Errorf("%s %s%s: challenge %s, want %s", req.method, c.url, req.path, got, c.want)
			}
		}
		if got := r.send("bad", "GET", c.url+"/secrets/s1/?api-version=7.4", "").Header.Get("WWW-Authenticate"); got != c.want {
			t.Errorf("a bad token is answered with %q", got)
		}
	}
}

func TestHeaders(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "v")
	for _, p := range []*reply{r.do(user, "GET", "/secrets/s1/", ""), r.do("", "GET", "/secrets/s1/", ""), r.do(user, "GET", "/secrets/none/", "")} {
		for name, want := range map[string]string{"Content-Type": "application/json; charset=utf-8", "X-Ms-Keyvault-Region": "local",
			"X-Ms-Keyvault-Network-Info": "conn_type=Ipv4;addr=192.0.2.1;act_addr_fam=InterNetwork;", "Cache-Control": "no-cache, no-store",
			"Pragma": "no-cache", "Expires": "-1", "Strict-Transport-Security": "max-age=31536000;includeSubDomains", "X-Content-Type-Options": "nosniff"} {
			if got := p.Header.Get(name); got != want {
				t.Errorf("%d: %s is %q, want %q", p.Status, name, got, want)
			}
		}
		if p.Header.Get("X-Ms-Request-Id") == "" || p.Header.Get("X-Ms-Keyvault-Service-Version") == "" {
			t.Errorf("headers are missing: %v", p.Header)
		}
	}
}

// TestBadRequests: every refusal has Key Vault's code, and none of them needs
// the secret to exist.
func TestBadRequests(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "v")
	long := strings.Repeat("x", maxValue+1)
	tags := map[string]string{}
	for i := range maxTags + 1 {
		tags[fmt.Sprint(i)] = "x"
	}
	many, _ := json.Marshal(map[string]any{"value": "v", "tags": tags})
	for _, c := range []struct {
		name, method, path, body, code string
		status                         int
	}{
		{"no api-version", "GET", "/secrets/s1/?api-version=", "", "BadParameter", 400},
		{"name", "GET", "/secrets/a_b/", "", "BadParameter", 400},
		{"long name", "GET", "/secrets/" + strings.Repeat("a", 128) + "/", "", "BadParameter", 400},
		{"slash in name", "GET", "/secrets/a%2Fb/", "", "BadParameter", 400},
		{"dots", "GET", "/secrets/%2e%2e/", "", "BadParameter", 400},
		{"version", "GET", "/secrets/s1/latest", "", "BadParameter", 400},
		{"no body", "PUT", "/secrets/s1", "", "BadParameter", 400},
		{"not JSON", "PUT", "/secrets/s1", `{"value":`, "BadParameter", 400},
		{"two values", "PUT", "/secrets/s1", `{"value":"a"}{"value":"b"}`, "BadParameter", 400},
		{"wrong type", "PUT", "/secrets/s1", `{"value":7}`, "BadParameter", 400},
		{"not UTF-8", "PUT", "/secrets/s1", "{\"value\":\"\xff\"}", "BadParameter", 400},
		{"half a pair", "PUT", "/secrets/s1", `{"value":"\ud83d\u0041"}`, "BadParameter", 400},
		{"other half", "PUT", "/secrets/s1", `{"value":"\ude00"}`, "BadParameter", 400},
		{"half at the end", "PUT", "/secrets/s1", `{"value":"\ud83d`, "BadParameter", 400},
		{"no value", "PUT", "/secrets/s1", `{"contentType":"x"}`, "BadParameter", 400},
		{"long value", "PUT", "/secrets/s1", `{"value":"` + long + `"}`, "BadParameter", 400},
		{"content type", "PUT", "/secrets/s1", `{"value":"v","contentType":"` + strings.Repeat("x", 256) + `"}`, "BadParameter", 400},
		{"control character", "PUT", "/secrets/s1", `{"value":"v","contentType":"\u0000"}`, "BadParameter", 400},
		{"tags", "PUT", "/secrets/s1", string(many), "BadParameter", 400},
		{"tag value", "PUT", "/secrets/s1", `{"value":"v","tags":{"a":"` + strings.Repeat("x", 257) + `"}}`, "BadParameter", 400},
		{"exp before nbf", "PUT", "/secrets/s1", `{"value":"v","attributes":{"nbf":20,"exp":10}}`, "BadParameter", 400},
		{"exp not a number", "PUT", "/secrets/s1", `{"value":"v","attributes":{"exp":"soon"}}`, "BadParameter", 400},
		{"exp negative", "PUT", "/secrets/s1", `{"value":"v","attributes":{"exp":-1}}`, "BadParameter", 400},
		{"huge body", "PUT", "/secrets/s1", `{"value":"` + strings.Repeat("x", maxSetBody) + `"}`, "RequestEntityTooLarge", 413},
		{"update with value", "PATCH", "/secrets/s1/", `{"value":"x"}`, "BadParameter", 400},
		{"maxresults", "GET", "/secrets?maxresults=26", "", "BadParameter", 400},
		{"maxresults 0", "GET", "/secrets?maxresults=0", "", "BadParameter", 400},
		{"skiptoken", "GET", "/secrets?$skiptoken=abc", "", "BadParameter", 400},
		{"restore", "POST", "/secrets/restore", `{"value":"AAAA"}`, "BadParameter", 400},
		{"method", "POST", "/secrets/s1", `{}`, "MethodNotAllowed", 405},
		{"keys", "GET", "/keys/k1/", "", "NotFound", 404},
		{"path", "GET", "/x", "", "NotFound", 404},
		{"missing", "GET", "/secrets/none/", "", "SecretNotFound", 404},
		{"missing version", "GET", "/secrets/s1/" + strings.Repeat("0", 32), "", "SecretNotFound", 404},
		{"missing versions", "GET", "/secrets/none/versions", "", "SecretNotFound", 404},
		{"missing update", "PATCH", "/secrets/none/", `{}`, "SecretNotFound", 404},
		{"missing delete", "DELETE", "/secrets/none", "", "SecretNotFound", 404},
		{"missing backup", "POST", "/secrets/none/backup", "", "SecretNotFound", 404},
		{"not deleted", "GET", "/deletedsecrets/s1", "", "SecretNotFound", 404},
		{"recover not deleted", "POST", "/deletedsecrets/s1/recover", "", "SecretNotFound", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.refused(r.do(officer, c.method, c.path, c.body), c.status, c.code, "", "")
		})
	}
	r.t = t
	r.must(415, func() *reply {
		req := httptest.NewRequest("PUT", "https://"+kvHost+"/secrets/s1?api-version=7.4", strings.NewReader("value=v"))
		req.Header.Set("Authorization", "Bearer "+officer)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		r.h.ServeHTTP(w, req)
		return &reply{Status: w.Code}
	}())
	if got := r.must(200, r.do(officer, "PUT", "/secrets/pair", `{"value":"\\ud83d \ud83d\ude00"}`)).text(); got != "\\ud83d \U0001f600" {
		t.Errorf("a pair came back as %q", got)
	}
	// An escaped value may take six bytes for each of its own.
	full := `{"value":"` + strings.Repeat(`\u0001`, maxValue) + `"}`
	if got := r.must(200, r.do(officer, "PUT", "/secrets/full", full)).text(); got != strings.Repeat("\x01", maxValue) {
		t.Error("a full value did not come back")
	}
}

func TestUnknownVault(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "v")
	r.putVault(store.Vault{Name: "gone", Serial: 8, ID: az.MustParseID(strings.Replace(kvID.String(), "kv1", "gone", 1)), Location: "local",
		RetentionDays: 90, RBAC: true, Deleted: 1, PurgeAt: 2})
	var bodies []string
	for _, host := range []string{"nobody.vault.hawser.test", "gone.vault.hawser.test", "nobody.vault.azure.net", "kv1.vault.hawser.test:x", "login.hawser.test", strings.Repeat("a", 300) + ".vault.hawser.test"} {
		req := httptest.NewRequest("GET", "https://kv1.vault.hawser.test/secrets/s1/?api-version=7.4", nil)
		req.Host = host
		req.Header.Set("Authorization", "Bearer "+officer)
		w := httptest.NewRecorder()
		r.h.ServeHTTP(w, req)
		if w.Code != 404 {
			t.Errorf("%s: %d", host, w.Code)
		}
		bodies = append(bodies, w.Body.String())
	}
	for _, b := range bodies {
		if b != bodies[0] || !strings.Contains(b, "VaultNotFound") {
			t.Errorf("vaults can be told apart: %s and %s", b, bodies[0])
		}
	}
}

func TestForbiddenText(t *testing.T) {
	r := sqliteRig(t)
	p := r.refused(r.do(reader, "GET", "/secrets/s1/", ""), 403, "Forbidden", "ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\n")
	for _, want := range []string{
		"Caller: appid=" + reader + ";oid=" + reader + ";iss=https://sts.windows.net/" + tenant + "/\r\n",
		"Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n", "Resource: '" + kvID.String() + "/secrets/s1'\r\n",
		"Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: kv1;location=local\r\n",
		"Missing: an assignment to " + reader + " of a role that allows it, such as 'Key Vault Secrets User', at this scope or above.",
	} {
		if !strings.Contains(p.Body.Error.Message, want) {
			t.Errorf("the message lacks %q: %q", want, p.Body.Error.Message)
		}
	}
}

// TestAuthorization asks every route as everybody, for a secret that is there
// and one that is not. Who may not, gets 403 in both cases: never 404.
func TestAuthorization(t *testing.T) {
	r := sqliteRig(t)
	all := []string{stranger, reader, user, officer}
	may := func(oids ...string) map[string]bool {
		m := map[string]bool{}
		for _, o := range oids {
			m[o] = true
		}
		return m
	}
	look, read, full := may(reader, user, officer), may(user, officer), may(officer)
	v := r.set("there", "v").version()
	asked := map[string]bool{}
	for _, c := range []struct {
		route, method, path, body string
		may                       map[string]bool
	}{
		{"/secrets/{name}", "GET", "/secrets/NAME", "", read},
		{"/secrets/{name}/{$}", "GET", "/secrets/NAME/", "", read},
		{"/secrets/{name}/{version}", "GET", "/secrets/NAME/" + v, "", read},
		{"/secrets/{name}/versions", "GET", "/secrets/NAME/versions", "", look},
		{"/secrets/{name}", "PATCH", "/secrets/NAME", "{}", full},
		{"/secrets/{name}/{$}", "PATCH", "/secrets/NAME/", "{}", full},
		{"/secrets/{name}/{version}", "PATCH", "/secrets/NAME/" + v, "{}", full},
		{"/secrets/{name}/backup", "POST", "/secrets/NAME/backup", "", full},
		{"/secrets/restore", "POST", "/secrets/restore", `{"value":"x"}`, full},
		{"/secrets", "GET", "/secrets", "", look},
		{"/secrets/{$}", "GET", "/secrets/", "", look},
		{"/deletedsecrets", "GET", "/deletedsecrets", "", look},
		{"/deletedsecrets/{$}", "GET", "/deletedsecrets/", "", look},
		{"/deletedsecrets/{name}", "GET", "/deletedsecrets/NAME", "", look},
		{"/deletedsecrets/{name}/recover", "POST", "/deletedsecrets/NAME/recover", "", full},
		{"/deletedsecrets/{name}", "DELETE", "/deletedsecrets/NAME", "", full},
		{"/secrets/{name}", "DELETE", "/secrets/NAME", "", full},
		{"/secrets/{name}/{$}", "DELETE", "/secrets/NAME/", "", full},
		{"/secrets/{name}", "PUT", "/secrets/NAME", `{"value":"v"}`, full},
		{"/secrets/{name}/{$}", "PUT", "/secrets/NAME/", `{"value":"v"}`, full},
	} {
		asked[c.method+" "+c.route] = true
		for _, oid := range all {
			for _, name := range []string{"there", "missing"} {
				p := r.do(oid, c.method, strings.Replace(c.path, "NAME", name, 1), c.body)
				switch {
				case !c.may[oid]:
					r.refused(p, 403, "Forbidden", "ForbiddenByRbac", "Assignment: (not found)")
				case p.Status == 403 || p.Status == 401:
					t.Errorf("%s %s as %s: %s", c.method, c.path, oid, p.Raw)
				}
			}
		}
	}
	for _, rt := range r.routes() {
		if rt.Path != "/" && !asked[rt.Method+" "+rt.Path] {
			t.Errorf("nobody asked %s %s", rt.Method, rt.Path)
		}
	}
}

// TestScopeOfOneSecret: a role on one secret opens that one only, and no list.
func TestScopeOfOneSecret(t *testing.T) {
	r := sqliteRig(t)
	r.set("mine", "v1")
	r.set("other", "v2")
	r.grant(guard.RoleSecretsUser, stranger, kvID.Child("secrets", "Mine"))
	r.must(200, r.do(stranger, "GET", "/secrets/MINE/", ""))
	r.must(403, r.do(stranger, "GET", "/secrets/other/", ""))
	r.must(403, r.do(stranger, "GET", "/secrets", ""))
}

func TestGetForReferences(t *testing.T) {
	r := sqliteRig(t)
	ctx := context.Background()
	who := func(oid string) az.Principal { return az.Principal{ObjectID: oid, TenantID: tenant} }
	v := r.set("S1", "v").version()
	got, err := r.Get(ctx, who(user), "KV1", "s1", "")
	if err != nil || got.Value.Reveal() != "v" || got.Version != v || got.Name != "S1" {
		t.Fatalf("%+v %v", got, err)
	}
	if got, err = r.Get(ctx, who(user), "kv1", "s1", strings.ToUpper(v)); err != nil || got.Version != v {
		t.Fatalf("%+v %v", got, err)
	}
	r.set("off", "v")
	r.must(200, r.do(officer, "PATCH", "/secrets/off/", `{"attributes":{"enabled":false}}`))
	r.set("del", "v")
	r.must(200, r.do(officer, "DELETE", "/secrets/del", ""))
	for _, c := range []struct{ oid, vault, name, version, code string }{
		{user, "nobody", "s1", "", CodeVaultNotFound},
		{user, "kv1", "none", "", CodeSecretNotFound},
		{user, "kv1", "none", v, CodeSecretNotFound},
		{user, "kv1", "del", "", CodeSecretNotFound},
		{user, "kv1", "s1", strings.Repeat("0", 32), CodeSecretVersionNotFound},
		{reader, "kv1", "s1", "", CodeForbidden},
		{reader, "kv1", "none", "", CodeForbidden},
		{user, "kv1", "off", "", CodeDisabled},
		{user, "kv1", "a/b", "", codeBadParameter},
	} {
		_, err := r.Get(ctx, who(c.oid), c.vault, c.name, c.version)
		e, ok := err.(*az.Error)
		if !ok || e.Code != c.code {
			t.Errorf("%+v: %v", c, err)
		}
		if _, denied := guard.AsDenied(err); denied != (c.code == CodeForbidden) {
			t.Errorf("%+v: denied is %v", c, denied)
		}
	}
}

// TestMovedRowDoesNotOpen: what was sealed for one secret is no other's value.
func TestMovedRowDoesNotOpen(t *testing.T) {
	r := sqliteRig(t)
	r.set("rich", "gold")
	poor := r.set("poor", "tin").version()
	vt := &store.Vault{Serial: 7, ID: kvID}
	rich, ok, err := r.st.Secret(context.Background(), vt, "rich", "")
	if err != nil || !ok {
		t.Fatal(err)
	}
	r.write(func(tx *store.Tx) error {
		return tx.Reseal(store.SealedSecret{Vault: *vt, Name: "poor", Version: poor}, rich.Sealed)
	})
	p := r.refused(r.do(user, "GET", "/secrets/poor/", ""), 500, "InternalServerError", "", "")
	if strings.Contains(p.Raw, "gold") {
		t.Error("a moved value was opened")
	}
}

func TestReseal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		kek, err := seal.NewKEK()
		if err != nil {
			t.Fatal(err)
		}
		sealer, _, err := seal.New(kek)
		if err != nil {
			t.Fatal(err)
		}
		r := newRigWith(t, st, sealer).withVault()
		for i := range 130 {
			r.set(fmt.Sprintf("s%d", i%65), fmt.Sprint(i))
		}
		wrapped, err := sealer.Rotate()
		if err == nil {
			err = sealer.Reload(wrapped)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Reseal(context.Background()); err != nil || n != 130 {
			t.Fatalf("resealed %d: %v", n, err)
		}
		if n, err := r.Reseal(context.Background()); err != nil || n != 0 {
			t.Fatalf("resealed %d again: %v", n, err)
		}
		if wrapped, err = sealer.Prune(); err == nil {
			err = sealer.Reload(wrapped)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range 65 {
			if got := r.must(200, r.do(user, "GET", fmt.Sprintf("/secrets/s%d/", i), "")).text(); got != fmt.Sprint(i+65) {
				t.Fatalf("s%d is %q after the rotation", i, got)
			}
		}
	})
}
