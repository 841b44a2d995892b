package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAzDeployment: a template with an app, a vault, a secret and a role, by
// az; then the app reads the secret.
func TestAzDeployment(t *testing.T) {
	a := newAzure(t, "azd.localhost")
	params := filepath.Join(t.TempDir(), "params.json")
	if err := os.WriteFile(params, []byte(`{"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#","contentVersion":"1.0.0.0",
		"parameters":{"app":{"value":"azdapp"},"password":{"value":"from the template"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	with := " -g rgd --template-file testdata/app.json --parameters @" + params
	a.all(t, []step{
		{"group create -n rgd -l westeurope --query name", "rgd"},
		{"deployment group validate" + with + " --query properties.provisioningState", "Succeeded"},
		{"deployment group what-if" + with + " --no-pretty-print --query length(changes[?changeType=='Create'])", "7"},
		{"deployment group create -n d1" + with + " --query properties.provisioningState", "Succeeded"},
		{"deployment group create -n d1" + with + " --parameters settings={\"A\":\"2\"} --query properties.outputs.host.value", "azdapp.sites.azd.localhost:" + a.port()},
		{"deployment group show -g rgd -n d1 --query properties.parameters.password.type", "SecureString"},
		{"deployment group list -g rgd --query [].name", "d1"},
		{"deployment group export -g rgd -n d1 --query contentVersion", any_},
		{"deployment operation group list -g rgd -n d1 --query length([?properties.provisioningState=='Succeeded'])", "8"},
		{"webapp config appsettings list -g rgd -n azdapp --query [?name=='A'].value", "2"},
	})
	a.table(t, "deployment group list -g rgd", "d1", "Succeeded")
	if out := a.az(t, "deployment group show -g rgd -n d1 -o json"); strings.Contains(out, "from the template") {
		t.Errorf("the history shows a secure parameter: %s", out)
	}
	if out := a.az(t, "deployment group what-if"+with+" -o yaml"); !strings.Contains(out, "azdapp") {
		t.Errorf("what-if prints %s", out)
	}
	id := strings.TrimSpace(a.az(t, "webapp show -g rgd -n azdapp --query id"))
	if r := a.plane.run(id, nil, "sh", "-c", `printf %s "$SECRET"`); r.stdout != "from the template" {
		t.Errorf("the app sees %q: %s", r.stdout, r.stderr)
	}
	a.all(t, []step{
		{"deployment group create -n d2 -g rgd --mode Complete --template-file testdata/app.json --parameters app=azdapp2 password=x --query properties.provisioningState", "Succeeded"},
		{"webapp list -g rgd --query [].name", "azdapp2"},
		{"deployment group delete -g rgd -n d1", ""},
		{"deployment sub create -n s1 -l westeurope --template-file testdata/group.json --parameters group=rgs --query properties.provisioningState", "Succeeded"},
	})
	a.all(t, []step{
		{"deployment sub show -n s1 --query properties.outputs.principal.value", a.az(t, "identity show -g rgs -n idsub --query principalId")},
		{"deployment sub list --query [].name", "s1"},
		{"deployment sub delete -n s1", ""},
	})
	if r := a.try(t, "deployment group create -g rgd -n c --template-file testdata/circle.json"); r.code == 0 || !strings.Contains(r.stderr, "Circular dependency detected") {
		t.Errorf("a circle: %s%s", r.stdout, r.stderr)
	}
}
