package conformance

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// azure is Debian's az, unmodified, signed in to a plane. Its configuration is
// its own.
type azure struct {
	*world
	env []string
}

// newAzure starts a plane for az: two of them can't have the same names.
func newAzure(t *testing.T, domain string) *azure {
	t.Helper()
	w := newWorld(t, "--domain", domain, "--hosts", "auto")
	a := &azure{world: w}
	a.env = a.config(t)
	if r := execute(t, a.env, hawser, "az-setup", "--data", w.dir); r.code != 0 {
		t.Fatalf("az-setup: %s", r.stderr)
	}
	return a
}

// config is an environment for az with nobody signed in. The shim cures the
// fault that Debian's build has in `az role` (docs/operate.md).
func (a *azure) config(t *testing.T) []string {
	t.Helper()
	shim, err := filepath.Abs("../scripts/az-shim")
	if err != nil {
		t.Fatal(err)
	}
	return append(clean(t), "AZURE_CONFIG_DIR="+t.TempDir(), "REQUESTS_CA_BUNDLE="+a.world.env.CABundle,
		"AZURE_CORE_COLLECT_TELEMETRY=no", "PYTHONPATH="+shim)
}

// az runs a command that must succeed; words are separated by spaces, and ~
// stands for one inside of a word.
func (a *azure) az(t *testing.T, args string) string {
	t.Helper()
	r := a.try(t, args)
	if r.code != 0 {
		t.Fatalf("az %s: exit status %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

func (a *azure) try(t *testing.T, args string) result {
	t.Helper()
	argv := []string{"az"}
	for _, word := range strings.Fields(args) {
		argv = append(argv, strings.ReplaceAll(word, "~", " "))
	}
	if !strings.Contains(args, " -o ") && !strings.Contains(args, " --output ") {
		argv = append(argv, "--output", "tsv")
	}
	return execute(t, a.env, append(argv, "--only-show-errors")...)
}

// all runs commands in their order and compares what they print.
func (a *azure) all(t *testing.T, steps []step) {
	t.Helper()
	for _, c := range steps {
		r := a.try(t, c.args)
		if got := strings.TrimSpace(r.stdout); r.code != 0 || c.want != any_ && got != strings.ReplaceAll(c.want, "~", " ") {
			t.Errorf("az %s: exit status %d, %q, want %q\n%s", c.args, r.code, got, c.want, r.stderr)
		}
	}
}

// step is a command and what it prints; any_ stands for anything.
type step struct{ args, want string }

const any_ = "\x00"

// table fails the test unless a command prints a table with a row that has all
// the words.
func (a *azure) table(t *testing.T, args string, words ...string) {
	t.Helper()
	out := a.az(t, args+" -o table")
	for line := range strings.Lines(out) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			return
		}
	}
	t.Errorf("az %s has no row with %q:\n%s", args, words, out)
}

// TestAzVault: access policies beside roles, as az sets them, and a vault's life.
func TestAzVault(t *testing.T) {
	a := newAzure(t, "azv.localhost")
	secret := " --resource https://vault.azure.net --url " + a.vaultURL("kvp1") + "/secrets/s1?api-version=7.4 --query value"
	a.all(t, []step{
		{"group create -n rg1 -l westeurope --query name", "rg1"},
		// Without a word the vault goes by policies, and its maker has all of them.
		{"keyvault create -g rg1 -n kvp1 --query properties.enableRbacAuthorization", "false"},
		{"keyvault show -n kvp1 --query properties.accessPolicies[0].permissions.secrets[0]", "all"},
		{"rest --method put --body {\"value\":\"v1\"}" + secret, "v1"},
		{"keyvault list -g rg1 --query [].name", "kvp1"},
	})
	// A service principal without a policy reads nothing; with one, that alone.
	var sp struct{ AppID, Password, Tenant string }
	if err := json.Unmarshal([]byte(a.az(t, "ad sp create-for-rbac -n reader -o json")), &sp); err != nil {
		t.Fatal(err)
	}
	oid := a.az(t, "ad sp show --id "+sp.AppID+" --query id")
	other := &azure{world: a.world, env: a.config(t)}
	copyCloud(t, a, other)
	if r := other.try(t, "login --service-principal -u "+sp.AppID+" -p "+sp.Password+" --tenant "+sp.Tenant+" --allow-no-subscriptions"); r.code != 0 {
		t.Fatalf("az login: %s", r.stderr)
	}
	if r := other.try(t, "rest"+secret); r.code == 0 || !strings.Contains(r.stderr, "AccessDenied") {
		t.Errorf("without a policy: %s%s", r.stdout, r.stderr)
	}
	a.all(t, []step{
		{"keyvault set-policy -n kvp1 --object-id " + oid + " --secret-permissions get list --query properties.accessPolicies[1].permissions.secrets|sort(@)|[0]", "get"},
		{"keyvault set-policy -n kvp1 --spn " + sp.AppID + " --key-permissions get --query length(properties.accessPolicies)", "2"},
	})
	if got := other.az(t, "rest"+secret); got != "v1" {
		t.Errorf("with a policy: %s", got)
	}
	if r := other.try(t, "rest --method put --body {\"value\":\"v2\"}"+secret); r.code == 0 || !strings.Contains(r.stderr, "secrets set permission") {
		t.Errorf("get lets set: %s%s", r.stdout, r.stderr)
	}
	a.az(t, "keyvault delete-policy -n kvp1 --object-id "+oid)
	if r := other.try(t, "rest"+secret); r.code == 0 || !strings.Contains(r.stderr, "AccessDenied") {
		t.Errorf("after delete-policy: %s%s", r.stdout, r.stderr)
	}
	// The same by roles.
	a.all(t, []step{
		{"keyvault update -n kvp1 --enable-rbac-authorization true --query properties.enableRbacAuthorization", "true"},
		{"role assignment create --role Key~Vault~Secrets~User --assignee-object-id " + oid + " --assignee-principal-type ServicePrincipal --scope " + a.az(t, "keyvault show -n kvp1 --query id") + " --query principalId", oid},
	})
	if got := other.az(t, "rest"+secret); got != "v1" {
		t.Errorf("with a role: %s", got)
	}
	a.all(t, []step{
		{"keyvault network-rule list -n kvp1 --query defaultAction", "Allow"},
		{"keyvault update -n kvp1 --retention-days 90 --query properties.softDeleteRetentionInDays", any_},
		{"keyvault delete -n kvp1", ""},
		{"keyvault list-deleted --query [].name", "kvp1"},
		{"keyvault show-deleted -n kvp1 --query name", "kvp1"},
		{"keyvault recover -n kvp1 --query name", "kvp1"},
		{"rest" + secret, any_},
		{"keyvault delete -n kvp1", ""},
		{"keyvault purge -n kvp1", ""},
		{"keyvault list-deleted --query [].name", ""},
		{"keyvault create -g rg1 -n kvp1 --query name", "kvp1"},
	})
	a.table(t, "keyvault list", "kvp1", "rg1")
}

// copyCloud gives another configuration of az the cloud that a's has.
func copyCloud(t *testing.T, a, other *azure) {
	t.Helper()
	r := execute(t, a.env, "sh", "-c", `cat "$AZURE_CONFIG_DIR/clouds.config"; echo ---; cat "$AZURE_CONFIG_DIR/config"`)
	clouds, config, ok := strings.Cut(r.stdout, "---\n")
	if r.code != 0 || !ok {
		t.Fatalf("az has no cloud: %s%s", r.stdout, r.stderr)
	}
	r = execute(t, append(other.env, "CLOUDS="+clouds, "CONFIG="+config), "sh", "-c",
		`printf %s "$CLOUDS" >"$AZURE_CONFIG_DIR/clouds.config" && printf %s "$CONFIG" >"$AZURE_CONFIG_DIR/config"`)
	if r.code != 0 {
		t.Fatal(r.stderr)
	}
}
