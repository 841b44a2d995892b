package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestAzConnectionMySQL: az's own flow for MySQL, as Debian's az runs it: it
// makes itself the server's administrator, logs in to the database with a token
// and PyMySQL, maps the app's identity there (CREATE AADUSER), and writes the
// connection.
func TestAzConnectionMySQL(t *testing.T) {
	a := newConnector(t, "azm.localhost")
	db := a.attachMySQL("my1")
	name, host := db.connection(), "my1.mysql."+a.world.env.Domain
	a.az(t, "identity create -g rg1 -n myid --query name")
	identity := a.az(t, "identity show -g rg1 -n myid --query id")
	out := a.slow(t, "webapp connection create mysql-flexible -g rg1 -n cweb --connection "+name+" --tg hawser --server my1 --database "+db.name+
		" --client-type python --system-identity mysql-identity-id="+identity+" -o json")
	var got struct {
		AuthInfo       struct{ AuthType, UserName string }
		Configurations []struct{ Name, Value string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Configurations) != 3 || got.AuthInfo.AuthType != "systemAssignedIdentity" {
		t.Fatalf("%v\n%s", err, out)
	}
	s := a.settings(t)
	if len(s) != 3 || s["AZURE_MYSQL_HOST"] != host || s["AZURE_MYSQL_USER"] != db.role() || s["AZURE_MYSQL_NAME"] != db.name {
		t.Errorf("the settings are %v", s)
	}
	if v := a.valid(t, name); v == "" || strings.Contains(v, "failure") {
		t.Errorf("validate: %s\n%s", v, a.az(t, "webapp connection validate -g rg1 -n cweb --connection "+name+" -o json"))
	}
	// What the tutorial's app does with them: it logs in with its identity's
	// token, and may write.
	token := a.cli("token", pgAudience, "--app", "/subscriptions/"+a.world.env.SubscriptionID+"/resourceGroups/rg1/providers/Microsoft.Web/sites/cweb")
	shell := func(sql string) result {
		return execute(t, append(clean(t), "MYSQL_PWD="+token), "mariadb", "--no-defaults", "--protocol=tcp", "-h", host, "-u", db.role(), "-D", db.name, "-N", "-B",
			"--ssl-ca="+a.world.env.CAFile, "--ssl-verify-server-cert", "-e", sql)
	}
	if r := shell("insert into things values (1); select substring_index(current_user(), '@', 1)"); strings.TrimSpace(r.stdout) != db.role() {
		t.Errorf("the app: %s%s", r.stdout, r.stderr)
	}
	a.all(t, []step{
		{"mysql flexible-server ad-admin list -g hawser -s my1 --query [].administratorType", "ActiveDirectory"},
		{"webapp connection show -g rg1 -n cweb --connection " + name + " --query [authInfo.authType,clientType]", "systemAssignedIdentity\npython"},
	})
	a.slow(t, "webapp connection update mysql-flexible --system-identity mysql-identity-id="+identity+" -g rg1 -n cweb --connection "+name+" --client-type nodejs")
	if s := a.settings(t); s["AZURE_MYSQL_DATABASE"] != db.name || s["AZURE_MYSQL_PORT"] != "3306" || s["AZURE_MYSQL_SSL"] != "true" || s["AZURE_MYSQL_NAME"] != "" {
		t.Errorf("after update: %v", s)
	}
	a.az(t, "webapp connection delete -g rg1 -n cweb --connection "+name+" --yes")
	if s := a.settings(t); len(s) != 0 {
		t.Errorf("after delete: %v", s)
	}
	if n := db.roles(t, db.role()); n != 0 {
		t.Error("the account outlived its connection")
	}
	if r := shell("select 1"); r.code == 0 {
		t.Error("the app still gets in")
	}
}

// TestAzAccessPolicies: Debian's az has no words yet for the data access
// policies of a cache, nor for an identity's connection to it; az rest has.
func TestAzAccessPolicies(t *testing.T) {
	a := newConnector(t, "azr.localhost")
	a.attachRedis("cache1")
	a.az(t, "webapp identity assign -g rg1 -n cweb --query principalId")
	oid := a.az(t, "webapp identity show -g rg1 -n cweb --query principalId")
	cache := a.az(t, "redis show -g hawser -n cache1 --query id")
	one := cache + "/accessPolicyAssignments/web?api-version=2024-11-01"
	get := func() string {
		host, port, _ := strings.Cut(a.world.env.Gateways["redis"], ":")
		token := a.cli("token", redisAudience, "--app", "/subscriptions/"+a.world.env.SubscriptionID+"/resourceGroups/rg1/providers/Microsoft.Web/sites/cweb")
		r := execute(t, append(clean(t), "REDISCLI_AUTH="+token), "redis-cli", "-h", host, "-p", port, "--tls", "--cacert", a.world.env.CAFile, "--user", oid, "GET", "thing")
		return strings.TrimSpace(r.stdout + r.stderr)
	}
	a.all(t, []step{
		{"rest --method get --url " + cache + "/accessPolicies?api-version=2024-11-01 --query sort(value[].name)", "Data Contributor\nData Owner\nData Reader"},
		{"rest --method put --url " + one + " --query properties.accessPolicyName --body " +
			fmt.Sprintf(`{"properties":{"accessPolicyName":"Data~Reader","objectId":"%s","objectIdAlias":"web"}}`, oid), "Data Reader"},
	})
	if got := get(); got != "real" {
		t.Errorf("with the policy: %q", got)
	}
	a.az(t, "rest --method delete --url "+one)
	if got := get(); got == "real" {
		t.Error("without the policy the app still gets in")
	}
}
