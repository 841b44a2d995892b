package conformance

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAz: Debian's az, unmodified, against the ARM front door, after hawser
// az-setup. Its az keyvault secret and az role commands lack modules in
// Debian's build, so secrets are read by az rest, and roles are left out.
func TestAz(t *testing.T) {
	w := newWorld(t, "--domain", "az.localhost", "--hosts", "auto")
	env := append(clean(t), "AZURE_CONFIG_DIR="+t.TempDir(), "REQUESTS_CA_BUNDLE="+w.env.CABundle, "AZURE_CORE_COLLECT_TELEMETRY=no")
	setup := func() {
		t.Helper()
		if r := execute(t, env, hawser, "az-setup", "--data", w.dir); r.code != 0 {
			t.Fatalf("az-setup: %s", r.stderr)
		}
	}
	setup()
	setup() // it may be repeated
	vault := w.vaultURL("kvaz1")
	for _, c := range []struct{ args, want string }{
		{"account show --query state", "Enabled"},
		{"account get-access-token --resource https://vault.azure.net --query tokenType", "Bearer"},
		{"group create -n rg1 -l eastus --query properties.provisioningState", "Succeeded"},
		{"group exists -n rg1", "true"},
		{"group exists -n rg2", "false"},
		{"identity create -g rg1 -n id1 --query name", "id1"},
		{"identity federated-credential create -g rg1 --identity-name id1 -n cluster --issuer https://issuer.example --subject s --audiences api://AzureADTokenExchange --query subject", "s"},
		{"appservice plan create -g rg1 -n p1 --is-linux --sku B1 --query name", "p1"},
		{"webapp create -g rg1 -p p1 -n azapp --runtime PYTHON:3.10 --query state", "Running"},
		{"webapp identity assign -g rg1 -n azapp --query type", "SystemAssigned"},
		{"webapp config appsettings set -g rg1 -n azapp --settings A=1 B=2 --query [?name=='A'].value", "1"},
		{"webapp config appsettings delete -g rg1 -n azapp --setting-names A --query [].name", "B"},
		{"webapp config connection-string set -g rg1 -n azapp -t PostgreSQL --settings db1=host=x", ""},
		{"webapp config connection-string list -g rg1 -n azapp --query [].name", "db1"},
		{"webapp list --query [?resourceGroup=='rg1'].name", "azapp"},
		{"keyvault create -g rg1 -n kvaz1 --enable-rbac-authorization true --query properties.vaultUri", vault + "/"},
		{"rest --method put --url " + vault + "/secrets/s1?api-version=7.4 --resource https://vault.azure.net --body {\"value\":\"v1\"} --query value", "v1"},
		{"rest --url " + vault + "/secrets/s1?api-version=7.4 --resource https://vault.azure.net --query value", "v1"},
		{"keyvault delete -n kvaz1", ""},
		{"keyvault list-deleted --query [].name", "kvaz1"},
		{"keyvault recover -n kvaz1 --query name", "kvaz1"},
		{"ad sp list --display-name azapp --query [].displayName", "azapp"},
		{"ad group create --display-name g1 --mail-nickname g1 --query displayName", "g1"},
		{"group delete -n rg1 --yes", ""},
		{"group exists -n rg1", "false"},
	} {
		r := execute(t, env, append([]string{"az"}, append(strings.Fields(c.args), "--only-show-errors", "--output", "tsv")...)...)
		if got := strings.TrimSpace(r.stdout); r.code != 0 || got != c.want {
			t.Errorf("az %s: %q, want %q\n%s", c.args, got, c.want, r.stderr)
		}
	}
	// What is refused is said in az's words.
	r := execute(t, env, "az", "webapp", "show", "-g", "rg1", "-n", "nobody", "--only-show-errors")
	if r.code == 0 || !strings.Contains(r.stderr, "could not be found") {
		t.Errorf("a missing app: exit status %d, %s", r.code, r.stderr)
	}
	var who struct{ User struct{ Type string } }
	r = execute(t, env, "az", "account", "show", "--output", "json")
	if err := json.Unmarshal([]byte(r.stdout), &who); err != nil || who.User.Type != "servicePrincipal" {
		t.Errorf("signed in as %+v: %v", who, err)
	}
}
