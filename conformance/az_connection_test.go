package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newConnector is az beside a plane whose PostgreSQL and MySQL gateways are
// where az looks for them: the port cannot be said.
func newConnector(t *testing.T, domain string) *azure {
	t.Helper()
	a := &azure{world: newWorld(t, "--domain", domain, "--hosts", "auto", "--pg", "127.0.0.1:5432", "--mysql", "127.0.0.1:3306")}
	a.env = a.config(t)
	if r := execute(t, a.env, hawser, "az-setup", "--data", a.dir); r.code != 0 {
		t.Fatalf("az-setup: %s", r.stderr)
	}
	a.all(t, []step{
		{"group create -n rg1 -l westeurope --query name", "rg1"},
		{"appservice plan create -g rg1 -n p1 --is-linux --sku B1 --query name", "p1"},
		{"webapp create -g rg1 -p p1 -n cweb --runtime PYTHON:3.10 --query state", "Running"},
	})
	return a
}

func (a *azure) settings(t *testing.T) map[string]string {
	t.Helper()
	var all []struct{ Name, Value string }
	if err := json.Unmarshal([]byte(a.az(t, "webapp config appsettings list -g rg1 -n cweb -o json")), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range all {
		out[s.Name] = s.Value
	}
	return out
}

// slow is az for a command that runs a dozen others.
func (a *azure) slow(t *testing.T, args string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "az", append(strings.Fields(args), "--only-show-errors")...)
	var errs bytes.Buffer
	cmd.Env, cmd.Stderr = a.env, &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("az %s: %v\n%s%s", args, err, out, &errs)
	}
	return strings.TrimSpace(string(out))
}

// valid is what az webapp connection validate says of each check.
func (a *azure) valid(t *testing.T, name string) string {
	t.Helper()
	return strings.Join(strings.Fields(a.az(t, "webapp connection validate -g rg1 -n cweb --connection "+name+" --query [].result")), " ")
}

// TestAzConnectionPostgres: the tutorial's command, as Debian's az runs it: it
// makes itself an administrator, logs in to the database with a token and maps
// the app's identity there, then writes the connection.
func TestAzConnectionPostgres(t *testing.T) {
	a := newConnector(t, "azc.localhost")
	db := a.attach("pg1")
	name := db.connection()
	out := a.slow(t, "webapp connection create postgres-flexible -g rg1 -n cweb --connection "+name+" --tg hawser --server pg1 --database "+db.name+" --client-type python --system-identity -o json")
	// az shows the authType only of a PUT that names an operation: without one
	// its SDK reads the reply's JSON twice and loses the discriminator.
	var got struct {
		AuthInfo       struct{ AuthType string }
		Configurations []struct{ Name, Value string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Configurations) != 1 || got.AuthInfo.AuthType != "systemAssignedIdentity" {
		t.Fatalf("%v\n%s", err, out)
	}
	host := "pg1.postgres." + a.world.env.Domain
	if want := fmt.Sprintf("dbname=%s host=%s port=5432 sslmode=require user=%s", db.name, host, db.role()); got.Configurations[0].Value != want || a.settings(t)["AZURE_POSTGRESQL_CONNECTIONSTRING"] != want {
		t.Errorf("the setting is %q, want %q", got.Configurations[0].Value, want)
	}
	if v := a.valid(t, name); v == "" || strings.Contains(v, "failure") {
		t.Errorf("validate: %s\n%s", v, a.az(t, "webapp connection validate -g rg1 -n cweb --connection "+name+" -o json"))
	}
	// The app logs in with its identity's token and may write.
	token := a.cli("token", pgAudience, "--app", "/subscriptions/"+a.world.env.SubscriptionID+"/resourceGroups/rg1/providers/Microsoft.Web/sites/cweb")
	r := execute(t, append(clean(t), "PGPASSWORD="+token), psql("host="+host+" dbname="+db.name+" user="+db.role()+" sslmode=require", "insert into things values (1) returning current_user")...)
	if !strings.Contains(r.stdout, db.role()) {
		t.Errorf("the app: %s%s", r.stdout, r.stderr)
	}
	a.slow(t, "webapp connection update postgres-flexible --system-identity -g rg1 -n cweb --connection "+name+" --client-type nodejs")
	a.all(t, []step{
		{"webapp connection list -g rg1 -n cweb --query [].name", name},
		{"webapp connection show -g rg1 -n cweb --connection " + name + " --query [authInfo.authType,clientType]", "systemAssignedIdentity\nnodejs"},
		{"webapp connection list-configuration -g rg1 -n cweb --connection " + name + " --query configurations[0].name", "AZURE_POSTGRESQL_HOST"},
	})
	if s := a.settings(t); s["AZURE_POSTGRESQL_USER"] != db.role() || s["AZURE_POSTGRESQL_CONNECTIONSTRING"] != "" {
		t.Errorf("after update: %v", s)
	}
	a.az(t, "webapp connection delete -g rg1 -n cweb --connection "+name+" --yes")
	if s := a.settings(t); len(s) != 0 {
		t.Errorf("after delete: %v", s)
	}
	if r := execute(t, clean(t), psql(db.url, "select rolname from pg_roles where rolname = '"+db.role()+"'")...); strings.Contains(r.stdout, db.role()) {
		t.Error("the role outlived its connection")
	}
	a.table(t, "webapp connection list-support-types", "postgres-flexible", "secret")
}

// TestAzConnections: the other targets that az 2.45 offers, each with the ways
// it offers for them.
func TestAzConnections(t *testing.T) {
	a := newConnector(t, "azt.localhost")
	a.all(t, []step{
		{"storage account create -g rg1 -n azacct1 -l westeurope --sku Standard_LRS --query name", "azacct1"},
		{"cosmosdb create -g rg1 -n azcosmos1 --query name", "azcosmos1"},
		{"cosmosdb sql database create -g rg1 -a azcosmos1 -n db1 --query name", "db1"},
		{"redis create -g rg1 -n azcache1 -l westeurope --sku Basic --vm-size c0 --query name", "azcache1"},
		{"keyvault create -g rg1 -n azckv1 --query name", "azckv1"},
		{"identity create -g rg1 -n uid1 --query name", "uid1"},
	})
	client := a.az(t, "identity show -g rg1 -n uid1 --query clientId")
	a.az(t, "webapp identity assign -g rg1 -n cweb --identities "+a.az(t, "identity show -g rg1 -n uid1 --query id"))
	var sp struct{ AppID, Password string }
	if err := json.Unmarshal([]byte(a.az(t, "ad sp create-for-rbac -n own -o json")), &sp); err != nil {
		t.Fatal(err)
	}
	user := " --user-identity client-id=" + client + " subs-id=" + a.world.env.SubscriptionID
	own := " --service-principal client-id=" + sp.AppID + " secret=" + sp.Password
	for _, c := range []struct{ args, setting, want string }{
		{"storage-blob --tg rg1 --account azacct1 --system-identity --client-type python", "AZURE_STORAGEBLOB_RESOURCEENDPOINT", "https://azacct1.blob.azt.localhost"},
		{"storage-blob --tg rg1 --account azacct1 --client-type dotnet" + user, "AZURE_STORAGEBLOB_CLIENTID", client},
		{"storage-blob --tg rg1 --account azacct1 --client-type nodejs" + own, "AZURE_STORAGEBLOB_CLIENTSECRET", sp.Password},
		{"storage-blob --tg rg1 --account azacct1 --secret --client-type java", "AZURE_STORAGEBLOB_CONNECTIONSTRING", "AccountName=azacct1;AccountKey="},
		{"storage-file --tg rg1 --account azacct1 --secret --client-type springBoot", "azure.storage.file-endpoint", "https://azacct1.file."},
		{"keyvault --tg rg1 --vault azckv1 --system-identity --client-type python", "AZURE_KEYVAULT_RESOURCEENDPOINT", "https://azckv1.vault."},
		{"cosmos-sql --tg rg1 --account azcosmos1 --database db1 --system-identity --client-type dotnet", "AZURE_COSMOS_RESOURCEENDPOINT", "https://azcosmos1.documents."},
		{"redis --tg rg1 --server azcache1 --database 0 --secret --client-type python", "AZURE_REDIS_CONNECTIONSTRING", "rediss://:"},
	} {
		t.Run(strings.ReplaceAll(c.args[:strings.Index(c.args, " --client-type")], " --tg rg1", ""), func(t *testing.T) {
			a.az(t, "webapp connection create "+c.args+" -g rg1 -n cweb --connection c1")
			if got := a.settings(t)[c.setting]; !strings.Contains(got, c.want) {
				t.Errorf("%s is %q, want %q", c.setting, got, c.want)
			}
			if v := a.valid(t, "c1"); v == "" || strings.Contains(v, "failure") {
				t.Errorf("validate: %s", a.az(t, "webapp connection validate -g rg1 -n cweb --connection c1 -o json"))
			}
			a.az(t, "webapp connection delete -g rg1 -n cweb --connection c1 --yes")
			if s := a.settings(t); len(s) != 0 {
				t.Errorf("left behind: %v", s)
			}
		})
	}
	t.Run("secret in a vault", func(t *testing.T) {
		a.az(t, "webapp connection create storage-blob --tg rg1 --account azacct1 --secret --client-type python -g rg1 -n cweb --connection c2 --vault-id "+a.az(t, "keyvault show -n azckv1 --query id"))
		if got := a.settings(t)["AZURE_STORAGEBLOB_CONNECTIONSTRING"]; !strings.HasPrefix(got, "@Microsoft.KeyVault(SecretUri=https://azckv1.vault.") {
			t.Errorf("the setting is %q", got)
		}
		if v := a.valid(t, "c2"); v == "" || strings.Contains(v, "failure") {
			t.Errorf("validate: %s", a.az(t, "webapp connection validate -g rg1 -n cweb --connection c2 -o json"))
		}
		if n := len(strings.Fields(a.az(t, "webapp connection list -g rg1 -n cweb --query [].name"))); n != 2 {
			t.Errorf("%d connections, want this one and the one to the vault that az makes", n)
		}
	})
}

// TestTutorial runs scripts/tutorial.sh with the binary that is judged.
func TestTutorial(t *testing.T) {
	bin := t.TempDir()
	if err := os.Symlink(hawser, filepath.Join(bin, "hawser")); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../scripts/tutorial.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, script)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it started
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = append(clean(t), "HAWSER_BIN_DIR="+bin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
