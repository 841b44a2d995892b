package vault

import (
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// TestSecretsByARM: templates set secrets, and nobody reads a value there.
func TestSecretsByARM(t *testing.T) {
	d := newDoor(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	d.want(200, "PUT", inG1+"vaults/kv1", newVault)
	at := inG1 + "vaults/kv1/secrets/S1"
	d.refusal(404, "ResourceNotFound", "GET", at, "")
	p := d.want(200, "PUT", at, `{"tags":{"a":"b"},"properties":{"value":"hidden","contentType":"text","attributes":{"exp":2000000000}}}`)
	if p.Type != SecretsType || p.Tags["a"] != "b" || p.Properties["secretUri"] != "https://kv1.vault.hawser.test:8443/secrets/S1" || strings.Contains(p.raw, "hidden") {
		t.Errorf("put: %s", p.raw)
	}
	if p := d.want(200, "GET", at, ""); strings.Contains(p.raw, "hidden") || p.Properties["contentType"] != "text" {
		t.Errorf("get: %s", p.raw)
	}
	d.grant(guard.RoleSecretsUser, user, kvInG1)
	if got := d.must(200, d.send(user, "GET", "https://kv1.vault.hawser.test:8443/secrets/s1?api-version=7.4", "")); got.text() != "hidden" {
		t.Errorf("the data plane has %s", got.Raw)
	}
	// The right is that of the vault, not of its data, nor of the group.
	if p := d.ask(user, "PUT", at, `{"properties":{"value":"x"}}`); p.status != 403 || !strings.Contains(p.raw, "Microsoft.KeyVault/vaults/secrets/write") {
		t.Errorf("a secrets user sets by ARM: %s", p.raw)
	}
	d.grant(guard.RoleContributor, stranger, kvInG1)
	if p := d.ask(stranger, "PUT", at, `{"properties":{"value":"x"}}`); p.status != 200 {
		t.Errorf("a contributor of the vault: %s", p.raw)
	}
	for _, path := range []string{inG2 + "vaults/kv1/secrets/s1", inG1 + "vaults/kv9/secrets/s1"} {
		d.refusal(404, "ParentResourceNotFound", "PUT", path, `{"properties":{"value":"x"}}`)
	}
	d.refusal(400, "BadRequest", "PUT", at, `{"properties":{}}`)
	d.refusal(400, "BadParameter", "PUT", inG1+"vaults/kv1/secrets/a_b", `{"properties":{"value":"x"}}`)
	d.refusal(400, "BadParameter", "PUT", at, `{"properties":{"value":"`+strings.Repeat("x", maxValue+1)+`"}}`)

	tmpl := `{"properties":{"mode":"Incremental","template":{"$schema":"x","contentVersion":"1","parameters":{"v":{"type":"securestring"}},"resources":[
		{"type":"Microsoft.KeyVault/vaults/secrets","apiVersion":"2022-07-01","name":"kv1/fromTemplate","properties":{"value":"[parameters('v')]"}},
		{"type":"Microsoft.KeyVault/vaults/accessPolicies","apiVersion":"2022-07-01","name":"kv1/add","properties":{"accessPolicies":[` + policyJSON(user, "", `"secrets":["get"]`) + `]}}]},"parameters":{"v":{"value":"deployed"}}}}`
	if p := d.ask(owner, "PUT", inSub+"/resourceGroups/g1/providers/Microsoft.Resources/deployments/d", tmpl); p.status != 201 {
		t.Fatalf("the deployment: %s", p.raw)
	}
	for {
		p := d.want(200, "GET", inSub+"/resourceGroups/g1/providers/Microsoft.Resources/deployments/d", "")
		if state := p.Properties["provisioningState"]; state != "Running" {
			if state != "Succeeded" || strings.Contains(p.raw, "deployed") {
				t.Errorf("deployed: %s", p.raw)
			}
			break
		}
	}
	if got := d.must(200, d.send(user, "GET", "https://kv1.vault.hawser.test:8443/secrets/fromTemplate?api-version=7.4", "")); got.text() != "deployed" {
		t.Errorf("the data plane has %s", got.Raw)
	}
}

var kvInG1 = az.MustParseID(inG1 + "vaults/kv1")
