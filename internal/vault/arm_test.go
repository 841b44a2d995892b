package vault

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

const (
	owner = "00000000-0000-4000-8000-000000000001"
	inSub = "/subscriptions/" + subscription
	inG1  = inSub + "/resourceGroups/g1/providers/Microsoft.KeyVault/"
	inG2  = inSub + "/resourceGroups/g2/providers/Microsoft.KeyVault/"
)

// door is a rig with the resource front door before it.
type door struct {
	*rig
	arm http.Handler
}

func newDoor(t *testing.T, st *store.Store) *door {
	t.Helper()
	r := newRig(t, st)
	api := arm.New(arm.Config{Store: st, Guard: r.guard, Sealer: r.sealer, Names: r.names,
		PrincipalKind: func(context.Context, string) (az.PrincipalKind, bool, error) { return az.ServicePrincipal, true, nil }})
	r.Register(api)
	t.Cleanup(func() { _ = api.Close(context.Background()) })
	s := api.Surface()
	s.Verify = func(ctx context.Context, req *http.Request, _ rest.Audience) (az.Principal, error) {
		return az.Principal{ObjectID: req.Header.Get("Authorization"), TenantID: tenant, Kind: az.User}, st.Confirm(ctx)
	}
	d := &door{r, s.Handler()}
	d.grant(guard.RoleOwner, owner, az.Root)
	d.grant(guard.RoleReader, reader, az.Root)
	for _, g := range []string{"g1", "g2"} {
		d.want(201, "PUT", inSub+"/resourceGroups/"+g, `{"location":"westeurope"}`)
	}
	return d
}

type armReply struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Tags       map[string]string `json:"tags"`
	Properties map[string]any    `json:"properties"`
	Value      []armReply        `json:"value"`
	Available  bool              `json:"nameAvailable"`
	Reason     string            `json:"reason"`
	Error      struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	status int
	raw    string
}

func (d *door) ask(oid, method, path, body string) armReply {
	return d.askAt("management.hawser.test:8443", oid, method, path, body)
}

func (d *door) askAt(host, oid, method, path, body string, version ...string) armReply {
	d.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, "https://"+host+path+"?api-version="+append(version, "2023-07-01")[0], in)
	req.Header.Set("Authorization", oid)
	w := httptest.NewRecorder()
	d.arm.ServeHTTP(w, req)
	p := armReply{status: w.Code, raw: w.Body.String()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			d.t.Fatalf("%s %s: not JSON: %s", method, path, w.Body)
		}
	}
	return p
}

func (d *door) want(status int, method, path, body string) armReply {
	d.t.Helper()
	p := d.ask(owner, method, path, body)
	if p.status != status {
		d.t.Fatalf("%s %s: %d, want %d: %s", method, path, p.status, status, p.raw)
	}
	return p
}

func (d *door) refusal(status int, code, method, path, body string) {
	d.t.Helper()
	p := d.want(status, method, path, body)
	if p.Error.Code != code {
		d.t.Fatalf("%s %s: code %s, want %s: %s", method, path, p.Error.Code, code, p.raw)
	}
}

const newVault = `{"location":"westeurope","properties":{"tenantId":"` + tenant + `","sku":{"family":"A","name":"standard"},"enableRbacAuthorization":true,"accessPolicies":[]}}`

func TestVaultLife(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		d := newDoor(t, st)
		const deleted = inSub + "/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/KV1"
		p := d.want(200, "PUT", inG1+"vaults/KV1", strings.Replace(newVault, `{"location"`, `{"tags":{"a":"b"},"location"`, 1))
		if p.Type != Type || p.Properties["vaultUri"] != "https://kv1.vault.hawser.test:8443/" || p.Properties["enableSoftDelete"] != true ||
			p.Properties["softDeleteRetentionInDays"] != 90.0 || p.Properties["provisioningState"] != "Succeeded" || p.Properties["enablePurgeProtection"] != nil {
			t.Errorf("the vault shows %s", p.raw)
		}
		if p := d.askAt("management.azure.com", owner, "GET", inG1+"vaults/kv1", ""); p.Properties["vaultUri"] != "https://kv1.vault.azure.net/" {
			t.Errorf("under Azure's names it shows %s", p.raw)
		}
		scope := az.MustParseID(inG1 + "vaults/KV1")
		d.grant(guard.RoleSecretsOfficer, officer, scope)
		d.set("s1", "kept")
		// The name is taken on the whole plane, whatever its case or group.
		d.refusal(409, "VaultAlreadyExists", "PUT", inG2+"vaults/kv1", newVault)
		if p := d.want(200, "POST", inSub+"/providers/Microsoft.KeyVault/checkNameAvailability", `{"name":"kv1","type":"Microsoft.KeyVault/vaults"}`); p.Available || p.Reason != "AlreadyExists" {
			t.Errorf("checkNameAvailability says %s", p.raw)
		}

		d.want(200, "DELETE", inG1+"vaults/kv1", "")
		d.refused(d.do(officer, "GET", "/secrets/s1/", ""), 404, "VaultNotFound", "", "")
		d.refusal(409, "ConflictError", "PUT", inG1+"vaults/kv1", newVault)
		d.refusal(409, "ConflictError", "PUT", inG2+"vaults/kv1", newVault)
		d.refusal(404, "DeletedVaultNotFound", "PUT", inG2+"vaults/kv1", `{"location":"westeurope","properties":{"createMode":"recover"}}`)
		if p := d.want(200, "GET", inSub+"/providers/Microsoft.KeyVault/deletedVaults", ""); len(p.Value) != 1 || p.Value[0].Name != "KV1" || p.Value[0].Properties["vaultId"] != scope.String() {
			t.Errorf("deleted vaults: %s", p.raw)
		}
		p = d.want(200, "GET", deleted, "")
		from, _ := time.Parse(time.RFC3339, p.Properties["deletionDate"].(string))
		to, _ := time.Parse(time.RFC3339, p.Properties["scheduledPurgeDate"].(string))
		if p.Type != "Microsoft.KeyVault/deletedVaults" || to.Sub(from) != 90*24*time.Hour || !strings.EqualFold(p.ID, deleted) {
			t.Errorf("the deleted vault shows %s", p.raw)
		}
		d.want(404, "GET", strings.Replace(deleted, "westeurope", "eastus", 1), "")
		// Roles on it went with it: recovering gives nobody's right back.
		p = d.want(200, "PUT", inG1+"vaults/kv1", `{"location":"westeurope","properties":{"tenantId":"`+tenant+`","createMode":"recover"}}`)
		if p.Tags["a"] != "b" || p.Properties["enableRbacAuthorization"] != true || p.Properties["createMode"] != nil {
			t.Errorf("the recovered vault shows %s", p.raw)
		}
		d.refused(d.do(officer, "GET", "/secrets/s1/", ""), 403, "Forbidden", "ForbiddenByRbac", "")
		d.grant(guard.RoleSecretsOfficer, officer, scope)
		if got := d.must(200, d.do(officer, "GET", "/secrets/s1/", "")).text(); got != "kept" {
			t.Errorf("recovered %q", got)
		}

		d.want(200, "DELETE", inG1+"vaults/kv1", "")
		if p := d.ask(reader, "POST", deleted+"/purge", ""); p.status != 403 {
			t.Errorf("a reader purges: %d", p.status)
		}
		d.want(200, "POST", deleted+"/purge", "")
		d.want(404, "GET", deleted, "")
		d.want(404, "POST", deleted+"/purge", "")
		d.gone("s1")
		d.want(200, "PUT", inG2+"vaults/kv1", newVault)
		d.grant(guard.RoleSecretsOfficer, officer, az.MustParseID(inG2+"vaults/kv1"))
		d.refused(d.do(officer, "GET", "/secrets/s1/", ""), 404, "SecretNotFound", "", "")
		d.want(200, "DELETE", inSub+"/resourceGroups/g2", "")
		d.refused(d.do(officer, "GET", "/secrets/s1/", ""), 404, "VaultNotFound", "", "")
	})
}

func TestVaultRules(t *testing.T) {
	d := newDoor(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	for _, name := range []string{"ab", "1abc", "a--b", "abc-", "a_b", strings.Repeat("a", 25)} {
		d.refusal(400, "VaultNameNotValid", "PUT", inG1+"vaults/"+name, newVault)
		if p := d.want(200, "POST", inSub+"/providers/Microsoft.KeyVault/checkNameAvailability", `{"name":"`+name+`","type":"Microsoft.KeyVault/vaults"}`); p.Available || p.Reason != "AccountNameInvalid" {
			t.Errorf("%s: %s", name, p.raw)
		}
	}
	with := func(props string) string { return `{"location":"westeurope","properties":{` + props + `}}` }
	for _, props := range []string{
		`"tenantId":"` + subscription + `"`, `"sku":{"family":"B","name":"standard"}`, `"enableSoftDelete":false`,
		`"softDeleteRetentionInDays":6`, `"softDeleteRetentionInDays":91`, `"createMode":"other"`,
		`"networkAcls":{"defaultAction":"Deny"}`, `"publicNetworkAccess":"Disabled"`, `"accessPolicies":[{"objectId":"x","permissions":{}}]`,
	} {
		d.refusal(400, "BadRequest", "PUT", inG1+"vaults/kv1", with(props))
	}
	d.refusal(400, "LocationRequired", "PUT", inG1+"vaults/kv1", `{"properties":{}}`)
	d.refusal(404, "DeletedVaultNotFound", "PUT", inG1+"vaults/kv1", with(`"createMode":"recover"`))

	// Neither roles nor policies asked for: policies, as in Azure, but roles
	// from the api-version on that has them as its default.
	if p := d.want(200, "PUT", inG1+"vaults/kv1", with(`"softDeleteRetentionInDays":7`)); p.Properties["enableRbacAuthorization"] != false {
		t.Errorf("without a word: %s", p.raw)
	}
	if p := d.askAt("management.hawser.test:8443", owner, "PUT", inG2+"vaults/kv4", with(``), "2026-02-01"); p.status != 200 || p.Properties["enableRbacAuthorization"] != true {
		t.Errorf("without a word, newest version: %s", p.raw)
	}
	d.want(200, "DELETE", inG2+"vaults/kv4", "")
	p := d.want(200, "PUT", inG1+"vaults/kv2", with(`"accessPolicies":[{"tenantId":"`+tenant+`","objectId":"`+stranger+`","permissions":{"secrets":["all"]}}]`))
	if p.Properties["enableRbacAuthorization"] != false || len(p.Properties["accessPolicies"].([]any)) != 1 {
		t.Errorf("with policies: %s", p.raw)
	}
	d.refused(d.send(officer, "GET", "https://kv2.vault.hawser.test/secrets/s1/?api-version=7.4", ""), 403, "Forbidden", "AccessDenied", "")
	d.must(404, d.send(stranger, "GET", "https://kv2.vault.hawser.test/secrets/s1/?api-version=7.4", ""))
	// Changing between the two takes the right to assign roles.
	d.grant(guard.RoleContributor, user, az.Root)
	if p := d.ask(user, "PATCH", inG1+"vaults/kv2", `{"properties":{"enableRbacAuthorization":true}}`); p.status != 403 {
		t.Errorf("a contributor changes the permission model: %s", p.raw)
	}
	if p := d.ask(user, "PATCH", inG1+"vaults/kv2", `{"tags":{"a":"b"}}`); p.status != 200 {
		t.Errorf("a contributor cannot tag: %s", p.raw)
	}
	d.want(200, "PATCH", inG1+"vaults/kv2", `{"properties":{"enableRbacAuthorization":true}}`)
	d.refused(d.send(officer, "GET", "https://kv2.vault.hawser.test/secrets/s1/?api-version=7.4", ""), 403, "Forbidden", "ForbiddenByRbac", "")

	d.refusal(400, "BadRequest", "PATCH", inG1+"vaults/kv1", `{"properties":{"softDeleteRetentionInDays":8}}`)
	d.want(200, "PATCH", inG1+"vaults/kv1", `{"properties":{"enablePurgeProtection":true}}`)
	d.refusal(400, "BadRequest", "PATCH", inG1+"vaults/kv1", `{"properties":{"enablePurgeProtection":false}}`)
	if p := d.want(200, "PUT", inG1+"vaults/kv1", with(``)); p.Properties["enablePurgeProtection"] != true || p.Properties["softDeleteRetentionInDays"] != 7.0 {
		t.Errorf("a bare PUT took protection away: %s", p.raw)
	}
	d.want(200, "DELETE", inG1+"vaults/kv1", "")
	d.refusal(405, "MethodNotAllowed", "POST", inSub+"/providers/Microsoft.KeyVault/locations/WestEurope/deletedVaults/kv1/purge", "")
	d.now.Add(8 * 24 * time.Hour)
	if n, err := d.PurgeDue(context.Background()); n != 1 || err != nil {
		t.Errorf("purged %d: %v", n, err)
	}
	if p := d.ask(reader, "PUT", inG1+"vaults/kv3", newVault); p.status != 403 {
		t.Errorf("a reader creates a vault: %s", p.raw)
	}
	for _, path := range []string{inSub + "/providers/Microsoft.KeyVault/managedHSMs", inSub + "/providers/Microsoft.KeyVault/deletedManagedHSMs", inG1 + "managedHSMs"} {
		if p := d.want(200, "GET", path, ""); p.raw != `{"value":[]}` {
			t.Errorf("%s: %s", path, p.raw)
		}
	}
	if p := d.want(200, "GET", inSub+"/providers/Microsoft.KeyVault/vaults", ""); len(p.Value) != 1 {
		t.Errorf("listed %s", p.raw)
	}
}
