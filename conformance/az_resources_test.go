package conformance

import (
	"strings"
	"testing"
)

// azRun is one command of az and what it must print: want is all of it in tsv,
// or, with the mark ~, a word that the table holds. A command that begins with
// ! must be refused with the words of want.
type azRun struct{ args, want string }

// azWorld is a plane that az is signed in to as its administrator.
func azWorld(t *testing.T) (w *world, env []string) {
	t.Helper()
	w = newWorld(t, "--domain", "az.localhost", "--hosts", "auto")
	env = append(clean(t), "AZURE_CONFIG_DIR="+t.TempDir(), "REQUESTS_CA_BUNDLE="+w.env.CABundle, "AZURE_CORE_COLLECT_TELEMETRY=no")
	if r := execute(t, env, hawser, "az-setup", "--data", w.dir); r.code != 0 {
		t.Fatalf("az-setup: %s", r.stderr)
	}
	return w, env
}

func azRuns(t *testing.T, env []string, all []azRun) {
	t.Helper()
	for _, c := range all {
		args, refused := strings.CutPrefix(c.args, "!")
		want, table := strings.CutPrefix(c.want, "~")
		format := "tsv"
		if table {
			format = "table"
		}
		r := execute(t, env, append([]string{"az"}, append(strings.Fields(args), "--only-show-errors", "--output", format)...)...)
		got := strings.TrimSpace(r.stdout)
		switch {
		case refused && (r.code == 0 || !strings.Contains(r.stderr, want)):
			t.Errorf("az %s: exit status %d, want a refusal with %q\n%s%s", args, r.code, want, r.stdout, r.stderr)
		case refused:
		case r.code != 0:
			t.Errorf("az %s: exit status %d\n%s", args, r.code, r.stderr)
		case table && !tableHas(got, want):
			t.Errorf("az %s: no row of the table holds %q:\n%s", args, want, got)
		case !table && got != want:
			t.Errorf("az %s: %q, want %q\n%s", args, got, want, r.stderr)
		}
	}
}

// tableHas reports whether a table has a head, a rule and a row with the word.
func tableHas(table, word string) bool {
	lines := strings.Split(table, "\n")
	if len(lines) < 3 || !strings.HasPrefix(lines[1], "--") {
		return false
	}
	for _, l := range lines[2:] {
		for f := range strings.FieldsSeq(l) {
			if f == word {
				return true
			}
		}
	}
	return false
}

// TestAzResources: the things that an app connects to, as az makes them.
func TestAzResources(t *testing.T) {
	w, env := azWorld(t)
	oid := w.env.Admin.ObjectID
	azRuns(t, env, []azRun{
		{"group create -n rg1 -l eastus --tags env=test", "~rg1"},
		{"group list", "~rg1"},
		{"group update -n rg1 --set tags.a=b --query tags.env", "test"},
		{"account list-locations", "~westeurope"},
		{"provider list", "~Microsoft.Storage"},
		{"provider register -n Microsoft.Sql", ""},
		{"provider show -n Microsoft.Sql --query registrationState", "Registered"},
	})
	t.Run("storage", func(t *testing.T) {
		const in = " -g rg1 --storage-account stor1"
		azRuns(t, env, []azRun{
			{"storage account check-name -n stor1 --query nameAvailable", "true"},
			{"storage account create -g rg1 -n stor1 -l eastus --sku Standard_LRS", "~stor1"},
			{"!storage account create -g hawser -n stor1 -l local", "already taken"},
			{"storage account show -g rg1 -n stor1 --query primaryEndpoints.blob", "https://stor1.blob.az.localhost:" + w.port() + "/"},
			{"storage account list", "~stor1"},
			{"storage account keys list -g rg1 -n stor1", "~key2"},
			{"storage account keys renew -g rg1 -n stor1 --key primary", "~key1"},
			{"storage account update -g rg1 -n stor1 --tags a=b --query tags.a", "b"},
			{"storage container-rm create -n pictures" + in, "~pictures"},
			{"storage container-rm exists -n pictures" + in + " --query exists", "true"},
			{"storage container-rm show -n pictures" + in, "~pictures"},
			{"storage container-rm list" + in, "~pictures"},
			{"storage container-rm delete -n pictures --yes" + in, ""},
		})
		key := azText(t, env, "storage account keys list -g rg1 -n stor1 --query [0].value")
		if s := azText(t, env, "storage account show-connection-string -g rg1 -n stor1 --query connectionString"); !strings.Contains(s, ";AccountName=stor1;AccountKey="+key+";BlobEndpoint=https://stor1.blob.az.localhost:") {
			t.Errorf("the connection string is %s", s)
		}
		azRuns(t, env, []azRun{{"storage account delete -g rg1 -n stor1 --yes", ""}, {"storage account check-name -n stor1 --query nameAvailable", "true"}})
	})
	t.Run("cosmosdb", func(t *testing.T) {
		const in = " -g rg1 -a cos1"
		azRuns(t, env, []azRun{
			{"cosmosdb check-name-exists -n cos1", "false"},
			{"cosmosdb create -g rg1 -n cos1", "~cos1"},
			{"cosmosdb show -g rg1 -n cos1 --query documentEndpoint", "https://cos1.documents.az.localhost:" + w.port() + "/"},
			{"cosmosdb list -g rg1", "~cos1"},
			{"cosmosdb keys list -g rg1 -n cos1 --query length(primaryMasterKey)", "88"},
			{"cosmosdb keys list -g rg1 -n cos1 --type read-only-keys --query length(secondaryReadonlyMasterKey)", "88"},
			{"cosmosdb keys list -g rg1 -n cos1 --type connection-strings", "~PrimaryReadonly"},
			{"cosmosdb keys regenerate -g rg1 -n cos1 --key-kind secondaryReadonly", ""},
			{"cosmosdb sql database create -n shop" + in, "~shop"},
			{"cosmosdb sql database list" + in, "~shop"},
			{"cosmosdb sql container create -d shop -n orders --partition-key-path /id" + in, "~orders"},
			{"cosmosdb sql container show -d shop -n orders" + in, "~orders"},
			{"cosmosdb sql role definition list" + in, "~BuiltInRole"},
			{"cosmosdb sql role assignment create --role-definition-id 00000000-0000-0000-0000-000000000002 --scope / --principal-id " + oid + in, "~" + oid},
			{"cosmosdb sql role assignment list" + in, "~" + oid},
			{"cosmosdb delete -g rg1 -n cos1 --yes", ""},
		})
	})
	t.Run("redis and ai", func(t *testing.T) {
		azRuns(t, env, []azRun{
			{"redis create -g rg1 -n red1 -l eastus --sku Basic --vm-size c0", "~red1"},
			{"redis show -g rg1 -n red1 --query hostName", "red1.redis.az.localhost"},
			{"redis list -g rg1", "~red1"},
			{"redis list-keys -g rg1 -n red1 --query length(primaryKey)", "44"},
			{"redis regenerate-keys -g rg1 -n red1 --key-type Primary --query length(primaryKey)", "44"},
			{"cognitiveservices account create -g rg1 -n cog1 -l eastus --kind OpenAI --sku S0 --yes", "~cog1"},
			{"cognitiveservices account show -g rg1 -n cog1", "~cog1"},
			{"cognitiveservices account list -g rg1", "~cog1"},
			{"cognitiveservices account keys list -g rg1 -n cog1 --query length(key1)", "64"},
			{"cognitiveservices account keys regenerate -g rg1 -n cog1 --key-name Key1 --query length(key1)", "64"},
			{"resource list -g rg1", "~red1"},
			{"resource show -g rg1 -n red1 --resource-type Microsoft.Cache/redis", "~red1"},
			{"resource list --resource-type Microsoft.Cache/redis --query [].name", "red1"},
			{"resource delete -g rg1 -n red1 --resource-type Microsoft.Cache/redis", ""},
		})
	})
}

// TestAzSQL: the servers of SQL and MySQL, as az makes them.
func TestAzSQL(t *testing.T) {
	w, env := azWorld(t)
	oid := w.env.Admin.ObjectID
	azRuns(t, env, []azRun{{"group create -n rg1 -l eastus", "~rg1"}})
	t.Run("sql", func(t *testing.T) {
		azRuns(t, env, []azRun{
			{"sql server create -g rg1 -n sql1 -l eastus -u boss -p Secret.1234", "~sql1"},
			{"sql server show -g rg1 -n sql1 --query fullyQualifiedDomainName", "sql1.database.az.localhost"},
			{"sql server list -g rg1", "~sql1"},
			{"sql server ad-admin create -g rg1 -s sql1 -u ann -i " + oid, "~ann"},
			{"sql server ad-admin list -g rg1 -s sql1", "~ann"},
			{"sql server ad-only-auth enable -g rg1 -n sql1", "~Default"},
			{"!sql server ad-admin delete -g rg1 -s sql1", "takes tokens only"},
			{"sql db create -g rg1 -s sql1 -n shop", "~shop"},
			{"sql db show -g rg1 -s sql1 -n shop", "~Standard"},
			{"sql db list -g rg1 -s sql1", "~master"},
			{"sql server firewall-rule create -g rg1 -s sql1 -n all --start-ip-address 0.0.0.0 --end-ip-address 0.0.0.0", "~all"},
			{"sql server firewall-rule list -g rg1 -s sql1", "~all"},
			{"sql db delete -g rg1 -s sql1 -n shop --yes", ""},
			{"sql server delete -g rg1 -n sql1 --yes", ""},
		})
	})
	t.Run("mysql", func(t *testing.T) {
		azRuns(t, env, []azRun{
			{"mysql flexible-server create -g rg1 -n my1 -l eastus -u boss -p Secret.1234 --public-access None --yes --query host", "my1.mysql.az.localhost"},
			{"mysql flexible-server show -g rg1 -n my1", "~Ready"},
			{"mysql flexible-server list -g rg1", "~my1"},
			{"mysql flexible-server db create -g rg1 -s my1 -d shop", "~shop"},
			{"mysql flexible-server db list -g rg1 -s my1", "~flexibleserverdb"},
			{"mysql flexible-server firewall-rule create -g rg1 -n my1 -r office --start-ip-address 1.2.3.4 --end-ip-address 1.2.3.5", "~office"},
			{"identity create -g rg1 -n uid1", "~uid1"},
			{"mysql flexible-server identity assign -g rg1 -s my1 -n uid1 --query type", "UserAssigned"},
			{"mysql flexible-server ad-admin create -g rg1 -s my1 -u ann --identity uid1 -i " + oid, "~ann"},
			{"mysql flexible-server ad-admin list -g rg1 -s my1", "~ann"},
			{"mysql flexible-server parameter list -g rg1 -s my1", "~aad_auth_only"},
			{"mysql flexible-server parameter set -g rg1 -s my1 -n wait_timeout -v 100 --query value", "100"},
			{"mysql flexible-server update -g rg1 -n my1 --tags a=b --query tags.a", "b"},
			{"mysql flexible-server delete -g rg1 -n my1 --yes", ""},
		})
	})
}

// azText runs a command and returns what it prints.
func azText(t *testing.T, env []string, args string) string {
	t.Helper()
	r := execute(t, env, append([]string{"az"}, append(strings.Fields(args), "--only-show-errors", "--output", "tsv")...)...)
	if r.code != 0 {
		t.Fatalf("az %s: %s", args, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// TestAzPostgres: a server that az creates is real: whoever az made its
// administrator comes in through the gateway with a token, and finds what he
// left when the plane was stopped and started again.
func TestAzPostgres(t *testing.T) {
	w, env := azWorld(t)
	oid := w.env.Admin.ObjectID
	const server = " -g rg1 -s pgaz1"
	azRuns(t, env, []azRun{
		{"group create -n rg1 -l eastus", "~rg1"},
		{"postgres flexible-server create -g rg1 -n pgaz1 -l eastus -u boss -p Secret.1234 --public-access None --yes --query host", "pgaz1.postgres.az.localhost"},
		{"postgres flexible-server show -g rg1 -n pgaz1", "~Ready"},
		{"postgres flexible-server list -g rg1", "~pgaz1"},
		{"postgres flexible-server db list" + server, "~flexibleserverdb"},
		{"postgres flexible-server db create -d shop" + server, "~shop"},
		{"postgres flexible-server db show -d shop" + server, "~shop"},
		{"postgres flexible-server firewall-rule create -g rg1 -n pgaz1 -r all --start-ip-address 0.0.0.0 --end-ip-address 255.255.255.255", "~all"},
		{"postgres flexible-server firewall-rule list -g rg1 -n pgaz1", "~all"},
		{"!postgres flexible-server ad-admin create -u ann -t ServicePrincipal -i " + oid + server, "turn them on first"}, // az's default
		{"postgres flexible-server update -g rg1 -n pgaz1 --active-directory-auth Enabled --query authConfig.activeDirectoryAuth", "Enabled"},
		{"postgres flexible-server ad-admin create -u ann -t ServicePrincipal -i " + oid + server, "~ann"},
		{"postgres flexible-server ad-admin list" + server, "~ann"},
		{"postgres flexible-server ad-admin show -i " + oid + server, "~ann"},
		{"postgres flexible-server update -g rg1 -n pgaz1 --admin-password Another.1234 --tags a=b --query tags.a", "b"},
		{"postgres flexible-server parameter list" + server, "~max_connections"},
		{"postgres flexible-server parameter show -n max_connections --query value" + server, "200"},
		{"postgres flexible-server list-skus -l eastus", "~GeneralPurpose"},
		{"postgres flexible-server restart -g rg1 -n pgaz1", ""},
	})
	token := azText(t, env, "account get-access-token --resource https://ossrdbms-aad.database.windows.net --query accessToken")
	login := func(sql string) result {
		_, port, _ := strings.Cut(w.env.Gateways["pg"], ":")
		dsn := "host=pgaz1.postgres.az.localhost hostaddr=127.0.0.1 port=" + port + " dbname=shop user=ann sslmode=verify-full sslrootcert=" + w.env.CAFile
		return execute(t, append(env, "PGPASSWORD="+token), psql(dsn, sql)...)
	}
	if r := login("create table kept (a int); insert into kept values (7)"); r.code != 0 {
		t.Fatalf("the administrator cannot work: %s", r.stderr)
	}
	w.stop()
	w.boot()
	if r := login("select a from kept"); r.code != 0 || strings.TrimSpace(r.stdout) != "7" {
		t.Errorf("after the plane's restart: %q %s", r.stdout, r.stderr)
	}
	w.kill()
	w.boot()
	if r := login("select a from kept"); r.code != 0 || strings.TrimSpace(r.stdout) != "7" {
		t.Errorf("after the plane was killed: %q %s", r.stdout, r.stderr)
	}
	azRuns(t, env, []azRun{
		{"postgres flexible-server db delete -d shop --yes" + server, ""},
		{"postgres flexible-server ad-admin delete --yes -i " + oid + server, ""},
		{"postgres flexible-server delete -g rg1 -n pgaz1 --yes", ""},
		{"group delete -n rg1 --yes", ""},
	})
	if r := login("select 1"); r.code == 0 {
		t.Error("a deleted server lets in")
	}
}
