package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAzWeb: apps, plans, identities, groups, roles and accounts, as az has them.
func TestAzWeb(t *testing.T) {
	a := newAzure(t, "azw.localhost")
	sub := a.world.env.SubscriptionID
	group := "/subscriptions/" + sub + "/resourceGroups/rgw"
	a.all(t, []step{
		{"group create -n rgw -l eastus --tags a=b --query tags.a", "b"},
		{"group show -n rgw --query location", "eastus"},
		{"group update -n rgw --set tags.c=d --query tags.c", "d"},
		{"group exists -n rgw", "true"},
		{"appservice plan create -g rgw -n p1 --is-linux --sku B1 --query sku.name", "B1"},
		{"appservice plan show -g rgw -n p1 --query name", "p1"},
		{"appservice plan list -g rgw --query [].name", "p1"},
		{"webapp create -g rgw -p p1 -n azw1 --runtime PYTHON:3.11 --query defaultHostName", any_},
		{"webapp show -g rgw -n azw1 --query state", "Running"},
		{"webapp stop -g rgw -n azw1", ""},
		{"webapp show -g rgw -n azw1 --query state", "Stopped"},
		{"webapp start -g rgw -n azw1", ""},
		{"webapp restart -g rgw -n azw1", ""},
		{"webapp config show -g rgw -n azw1 --query linuxFxVersion", "PYTHON|3.11"},
		{"webapp config set -g rgw -n azw1 --startup-file run.sh --always-on true --query appCommandLine", "run.sh"},
		{"webapp config show -g rgw -n azw1 --query alwaysOn", "true"},
		{"identity create -g rgw -n id1 --query name", "id1"},
		{"webapp identity assign -g rgw -n azw1 --query type", "SystemAssigned"},
		{"webapp identity assign -g rgw -n azw1 --identities " + group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1 --query type", "SystemAssigned,~UserAssigned"},
		{"webapp identity show -g rgw -n azw1 --query length(userAssignedIdentities)", "1"},
		{"webapp identity remove -g rgw -n azw1 --identities [system]", any_},
		{"webapp identity show -g rgw -n azw1 --query type", "UserAssigned"},
		{"webapp identity remove -g rgw -n azw1 --identities " + group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1", any_},
		{"webapp config appsettings set -g rgw -n azw1 --settings A=1 B=2 --slot-settings C=3 --query [?name=='C'].slotSetting", "true"},
		{"webapp config appsettings delete -g rgw -n azw1 --setting-names A", any_},
		{"webapp config appsettings list -g rgw -n azw1 --query length(@)", "2"},
		{"webapp config connection-string set -g rgw -n azw1 -t PostgreSQL --settings db1=host=x", any_},
		{"webapp config connection-string list -g rgw -n azw1 --query [].name", "db1"},
		{"webapp config connection-string delete -g rgw -n azw1 --setting-names db1", any_},
		{"webapp config connection-string list -g rgw -n azw1 --query length(@)", "0"},
		{"webapp list-runtimes --os linux --query contains(@,'PYTHON:3.11')", "true"},
		{"identity federated-credential create -g rgw --identity-name id1 -n fed1 --issuer https://i.example --subject s --audiences api://AzureADTokenExchange --query subject", "s"},
		{"identity federated-credential list -g rgw --identity-name id1 --query [].name", "fed1"},
		{"identity federated-credential update -g rgw --identity-name id1 -n fed1 --issuer https://i.example --subject s2 --audiences api://AzureADTokenExchange --query subject", "s2"},
		{"identity federated-credential show -g rgw --identity-name id1 -n fed1 --query issuer", "https://i.example"},
		{"identity federated-credential delete -g rgw --identity-name id1 -n fed1 -y", ""},
		{"identity show -g rgw -n id1 --query type", "Microsoft.ManagedIdentity/userAssignedIdentities"},
		{"identity list -g rgw --query [].name", "id1"},
		{"account list-locations --query [?name=='westeurope'].name", "westeurope"},
		{"account set -s " + sub, ""},
		{"account list --query [].id", sub},
		{"account show --query id", sub},
		{"account get-access-token --query tokenType", "Bearer"},
		{"rest --url " + a.world.env.ResourceManager + group + "?api-version=2021-04-01 --query name", "rgw"},
	})
	a.table(t, "group list", "rgw", "eastus", "Succeeded")
	a.table(t, "webapp list -g rgw", "azw1", "Running", "rgw")
	a.table(t, "appservice plan list -g rgw", "p1", "rgw")
	a.table(t, "identity list -g rgw", "id1", "rgw")
	a.table(t, "webapp config appsettings list -g rgw -n azw1", "B", "False")
	a.table(t, "account list", sub)
	a.roles(t, group)
	a.all(t, []step{
		{"webapp delete -g rgw -n azw1", ""},
		{"webapp list -g rgw --query length(@)", "0"},
		{"identity delete -g rgw -n id1", ""},
		{"group delete -n rgw -y", ""},
		{"group exists -n rgw", "false"},
	})
}

// roles makes and changes roles and assignments.
func (a *azure) roles(t *testing.T, group string) {
	t.Helper()
	oid := a.az(t, "identity show -g rgw -n id1 --query principalId")
	role := filepath.Join(t.TempDir(), "role.json")
	write := func(actions string) {
		text, err := json.Marshal(map[string]any{"Name": "Plan reader", "Description": "reads plans", "Actions": strings.Fields(actions), "AssignableScopes": []string{group}})
		if err == nil {
			err = os.WriteFile(role, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("Microsoft.Web/serverfarms/read")
	a.all(t, []step{
		{"role definition create --role-definition @" + role + " --query roleName", "Plan~reader"},
		{"role definition list -n Plan~reader --scope " + group + " --query [].description", "reads~plans"},
		{"role definition list -n Reader --query [].roleType", "BuiltInRole"},
		{"role assignment create --role Plan~reader --assignee-object-id " + oid + " --assignee-principal-type ServicePrincipal --scope " + group + " --query principalId", oid},
		{"role assignment list --scope " + group + " --query [?principalId=='" + oid + "'].roleDefinitionName", "Plan~reader"},
		{"role assignment list --assignee " + oid + " --all --query length(@)", "1"},
	})
	a.table(t, "role assignment list --scope "+group, "Plan reader")
	write("Microsoft.Web/serverfarms/read Microsoft.Web/sites/read")
	a.all(t, []step{
		{"role definition update --role-definition @" + role + " --query permissions[0].actions[1]", "Microsoft.Web/sites/read"},
		{"role assignment delete --assignee " + oid + " --role Plan~reader --scope " + group, ""},
		{"role assignment list --assignee " + oid + " --all --query length(@)", "0"},
		{"role definition delete -n Plan~reader --scope " + group, ""},
		{"role definition list -n Plan~reader --query length(@)", "0"},
	})
}

// TestAzLogin: the ways in that need no person.
func TestAzLogin(t *testing.T) {
	a := newAzure(t, "azl.localhost")
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(a.az(t, "ad sp create-for-rbac -n robot -o json")), &sp); err != nil {
		t.Fatal(err)
	}
	other := &azure{world: a.world, env: a.config(t)}
	copyCloud(t, a, other)
	login := "login --service-principal -u " + sp.AppID + " --tenant " + sp.Tenant
	if r := other.try(t, login+" -p "+sp.Password); r.code == 0 || !strings.Contains(r.stderr, "No subscriptions found") {
		t.Errorf("without a role: %s%s", r.stdout, r.stderr)
	}
	if r := other.try(t, login+" -p wrong --allow-no-subscriptions"); r.code == 0 || !strings.Contains(r.stderr, "AADSTS7000215") {
		t.Errorf("a wrong secret: %s%s", r.stdout, r.stderr)
	}
	other.all(t, []step{
		{login + " -p " + sp.Password + " --allow-no-subscriptions --query [].user.name", sp.AppID},
		{"account show --query user.type", "servicePrincipal"},
		{"logout", ""},
	})
	var made struct{ FileWithCertAndPrivateKey string }
	if err := json.Unmarshal([]byte(a.az(t, "ad app credential reset --id "+sp.AppID+" --create-cert -o json")), &made); err != nil || made.FileWithCertAndPrivateKey == "" {
		t.Fatalf("no certificate: %v", err)
	}
	a.az(t, "role assignment create --role Reader --assignee "+sp.AppID+" --scope /subscriptions/"+a.world.env.SubscriptionID)
	other.all(t, []step{
		{login + " -p " + made.FileWithCertAndPrivateKey + " --query [].user.type", "servicePrincipal"},
		{"group list --query [].name", any_},
	})
	// Under hawser run, az is the app.
	r := a.plane.run("web", nil, "env", "AZURE_CONFIG_DIR="+dirOf(other), "az", "login", "--identity", "--allow-no-subscriptions", "--output", "tsv", "--query", "[].user.type", "--only-show-errors")
	if r.code != 0 || strings.TrimSpace(r.stdout) != "servicePrincipal" {
		t.Errorf("az login --identity: %s%s", r.stdout, r.stderr)
	}
}

// dirOf is where a configuration of az lies.
func dirOf(a *azure) string {
	for _, v := range a.env {
		if dir, ok := strings.CutPrefix(v, "AZURE_CONFIG_DIR="); ok {
			return dir
		}
	}
	return ""
}
