package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestServers(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		got := r.must(boss, "GET", servers+"pg1", "")
		for path, want := range map[string]string{"fullyQualifiedDomainName": "pg1.postgres.hawser.test", "state": "Ready", "version": "15",
			"replicationRole": "Primary", "provisioningState": "Succeeded", "administratorLogin": r.f.Owner} {
			if v := text(got, "properties", path); v != want {
				t.Errorf("%s is %q, want %q", path, v, want)
			}
		}
		if text(got, "properties", "hawser", "sslMode") != "disable" {
			t.Errorf("prefer was not pinned to what the server does: %v", at(got, "properties", "hawser"))
		}
		raw, _ := json.Marshal(got)
		if bytes.Contains(raw, []byte(r.f.Password.Reveal())) {
			t.Error("the reply shows the owner's password")
		}

		bad := func(name, body, code string) {
			t.Helper()
			out := r.refused(boss, "PUT", servers+name, body, 400, code)
			if strings.Contains(out, "s3cr3t") {
				t.Errorf("the refusal shows the password: %s", out)
			}
			if status, _ := r.call(boss, "GET", servers+name, ""); status != 404 {
				t.Errorf("after %s something was stored", code)
			}
		}
		url := func(format string, args ...any) string {
			b, _ := json.Marshal(map[string]any{"location": "local", "properties": map[string]any{"hawser": map[string]any{"url": fmt.Sprintf(format, args...)}}})
			return string(b)
		}
		bad("pg2", url("postgres://%s:s3cr3t@%s/%s", r.f.Owner, r.f.addr(), r.f.db), "ServerLoginFailed")
		bad("pg2", url("postgres://postgres:s3cr3t@127.0.0.1:1/postgres"), "ServerUnreachable")
		bad("pg2", url("postgres://postgres:s3cr3t@%s/postgres?sslmode=require", r.f.addr()), "ServerWithoutTLS")
		bad("pg2", url("postgres://postgres:s3cr3t@%s/postgres?options=-crole%%3Dx", r.f.addr()), "InvalidServerURL")
		bad("pg2", url("mysql://postgres:s3cr3t@%s/postgres", r.f.addr()), "InvalidServerURL")
		bad("pg2", url("postgres://postgres:s3cr3t@a,b/postgres"), "InvalidServer")
		bad("pg2", url("postgres://postgres:s3cr3t@%s/postgres?sslmode=maybe", r.f.addr()), "InvalidServer")
		bad("PG_2", url("postgres://postgres:s3cr3t@%s/postgres", r.f.addr()), "InvalidServerName")
		real().Exec(t, "postgres", "create role weak_"+r.f.db+" login password 's3cr3t'")
		bad("pg2", url("postgres://weak_%s:s3cr3t@%s/postgres", r.f.db, r.f.addr()), "OwnerLacksPrivilege")
		r.must(boss, "PUT", servers+"pg2", url("postgres://postgres:%s@%s/postgres", strings.ReplaceAll(real().Password, " ", "%20"), r.f.addr()))

		// What az sends: a PATCH of authConfig alone, while the server is away.
		real().Exec(t, "postgres", "alter role "+r.f.Owner+" nologin")
		r.must(boss, "PATCH", servers+"pg1", `{"sku":{"name":"Standard_D2s_v3","tier":"GeneralPurpose"},"properties":{"storage":{"storageSizeGB":128},"authConfig":{"activeDirectoryAuth":"Disabled","passwordAuth":"Enabled","tenantId":""}}}`)
		real().Exec(t, "postgres", "alter role "+r.f.Owner+" login")
		r.refused(boss, "PUT", sites+"web"+linkers+"c", r.linkBody("go", Read, ""), 400, "EntraAuthDisabled")
		r.must(boss, "PATCH", servers+"pg1", `{"properties":{"authConfig":{"activeDirectoryAuth":"Enabled"}}}`)
		r.must(boss, "PUT", sites+"web"+linkers+r.conn("c"), r.linkBody("go", Read, ""))

		// A kept password is not sent to where somebody without it points.
		r.refused(contributor, "PATCH", servers+"pg1", `{"properties":{"hawser":{"host":"127.0.0.2"}}}`, 400, "PasswordNeeded")
		r.refused(contributor, "PATCH", servers+"pg1", `{"properties":{"administratorLogin":"postgres"}}`, 400, "PasswordNeeded")

		other := subscription + "/resourceGroups/second"
		r.must(boss, "PUT", other, `{"location":"local"}`)
		r.refused(boss, "PUT", other+"/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg1", r.serverBody(), 409, "ServerNameAlreadyExists")
		check := subscription + "/providers/Microsoft.DBforPostgreSQL/locations/local/checkNameAvailability"
		for name, want := range map[string]bool{"pg1": false, "fresh": true, "No_Good": false} {
			if got := r.must(reader, "POST", check, `{"name":"`+name+`","type":"Microsoft.DBforPostgreSQL/flexibleServers"}`); at(got, "nameAvailable") != want {
				t.Errorf("checkNameAvailability %s: %v", name, got)
			}
		}
		if v := at(r.must(reader, "GET", subscription+"/providers/Microsoft.DBforPostgreSQL/locations/local/capabilities", ""), "value"); len(v.([]any)) != 2 {
			t.Errorf("capabilities: %v", v)
		}
		r.must(boss, "DELETE", servers+"pg1", "")
		if r.roleExists("aad_" + r.conn("c")) {
			t.Error("the role of a detached server is left on it")
		}
		r.f.asOwner(t, `select * from todo`)
	})
}

func TestDatabasesAndFirewallRules(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		db := r.conn("made") + ` "it`
		base := servers + "pg1/databases/"
		if got := r.must(boss, "PUT", base+r.f.db, `{"properties":{}}`); text(got, "properties", "charset") != "UTF8" {
			t.Errorf("an adopted database: %v", got)
		}
		r.refused(boss, "PUT", base+db, `{"properties":{"charset":"utf8","collation":"en_US.utf8"}}`, 400, "InvalidResourceName") // a quote is no name in ARM
		db = r.conn("made it's")
		r.must(boss, "PUT", base+db, `{"properties":{"charset":"utf8","collation":"C"}}`)
		conn, err := r.f.connect(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close(context.Background())
		if all := at(r.must(boss, "GET", servers+"pg1/databases", ""), "value").([]any); len(all) != 2 {
			t.Errorf("list: %v", all)
		}
		r.must(boss, "DELETE", base+db, "")
		if conn, err = r.f.connect(t.Context(), db); err != nil {
			t.Fatalf("deleting the resource dropped data: %v", err)
		}
		conn.Close(context.Background())
		rule := servers + "pg1/firewallRules/all"
		r.must(boss, "PUT", rule, `{"properties":{"startIpAddress":"0.0.0.0","endIpAddress":"255.255.255.255"}}`)
		r.refused(boss, "PUT", rule, `{"properties":{"startIpAddress":"9.0.0.0","endIpAddress":"1.1.1.1"}}`, 400, "InvalidFirewallRule")
	})
}

func TestAdministrators(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann := r.user(r.conn("ann"))
		path, name := servers+"pg1/administrators/"+ann, "Ann O'Hara #EXT# "+r.f.db+"@hawser.test"
		body := `{"properties":{"principalType":"User","principalName":` + fmt.Sprintf("%q", name) + `,"tenantId":""}}`
		got := r.must(boss, "PUT", path, body)
		if text(got, "properties", "principalType") != "User" || text(got, "properties", "objectId") != ann {
			t.Errorf("shown as %v", got)
		}
		r.must(boss, "PUT", path, body)
		b, err := r.Authorize(t.Context(), as(ann), Login{PostgreSQL, "pg1", r.f.db, name})
		if err != nil {
			t.Fatal(err)
		}
		conn := r.f.as(t, b.User, b.Password)
		tries(t, conn, map[string]bool{`create role made_by_admin_` + r.f.db: true, `create role x superuser`: false, `select pg_reload_conf()`: false})
		var member bool
		if err := conn.QueryRow(t.Context(), `select pg_has_role(current_user, 'azure_pg_admin', 'member')`).Scan(&member); err != nil || !member {
			t.Errorf("member of azure_pg_admin: %v %v", member, err)
		}
		r.refused(boss, "PUT", servers+"pg1/administrators/"+az.NewGUID(), body, 400, "PrincipalNotFound")
		r.refused(contributor, "PUT", path, body, 403, "LinkedAuthorizationFailed")
		r.must(boss, "DELETE", path, "")
		if _, err := r.enter(as(ann), name); !az.Is(err, az.Forbidden) {
			t.Errorf("after the end: %v", err)
		}
		if r.roleExists(name) {
			t.Error("the administrator's role is still there")
		}
	})
}

// TestWhoMayConnect: a connection is no way around what somebody may not do by
// hand.
func TestWhoMayConnect(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		link := sites + "web" + linkers + r.conn("c")
		for who, want := range map[string]int{boss: 200, contributor: 403, webmaster: 403, reader: 403, stranger: 403} {
			if status, out := r.call(who, "POST", link+"/dryrun", r.linkBody("go", Read, "")); status != want {
				t.Errorf("dry run as %s: %d %s", who[35:], status, out)
			}
		}
		for _, who := range []string{contributor, webmaster, reader, stranger} {
			if status, out := r.call(who, "PUT", link, r.linkBody("go", Owner, "")); status != 403 {
				t.Errorf("PUT as %s: %d %s", who[35:], status, out)
			}
		}
		if p, _ := r.traces(); p != 0 || r.roleExists("aad_"+r.conn("c")) || text(r.must(boss, "GET", sites+"web", ""), "identity", "principalId") != "" {
			t.Error("a refused caller has changed something")
		}
		// Website Contributor on the app and User Access Administrator on the
		// server do not add up to making roles there; with the mapping right
		// they do.
		r.grantRole("18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", webmaster, servers+"pg1")
		r.refused(webmaster, "PUT", link, r.linkBody("go", Owner, ""), 403, "LinkedAuthorizationFailed")
		r.grantRole(guard.RoleContributor, webmaster, servers+"pg1")
		r.must(webmaster, "PUT", link, r.linkBody("go", Read, ""))
		for who, want := range map[string][4]int{boss: {200, 200, 200, 200}, contributor: {200, 200, 200, 200}, reader: {200, 403, 403, 403}, stranger: {403, 403, 403, 403}} {
			for i, act := range []string{"GET", "POST/listConfigurations", "POST/validateLinker"} {
				method, action, _ := strings.Cut(act, "/")
				if action != "" {
					action = "/" + action
				}
				if status, out := r.call(who, method, link+action, ""); status != want[i] {
					t.Errorf("%s as %s: %d %s", act, who[35:], status, out)
				}
			}
			if want[3] == 403 {
				if status, _ := r.call(who, "DELETE", link, ""); status != 403 {
					t.Errorf("DELETE as %s: %d", who[35:], status)
				}
			}
		}
		r.must(webmaster, "DELETE", link, "")
		for _, who := range []string{webmaster, reader, stranger} {
			for _, path := range []string{servers + "pg3", servers + "pg1/databases/x", servers + "pg1/firewallRules/x", servers + "pg1/principals/x", servers + "pg1/administrators/" + boss} {
				if who == webmaster && path != servers+"pg3" {
					continue // Contributor there by now
				}
				if status, out := r.call(who, "PUT", path, r.serverBody()); status != 403 {
					t.Errorf("PUT %s as %s: %d %s", path, who[35:], status, out)
				}
			}
		}
	})
}

func TestDryRuns(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		name := r.conn("c")
		link := sites + "web" + linkers + name
		got := r.must(boss, "POST", link+"/dryrun", r.linkBody("nodejs", Read, ""))
		raw, _ := json.Marshal(got)
		for _, want := range []string{"CREATE ROLE", "GRANT SELECT ON ALL TABLES IN SCHEMA", "ALTER DEFAULT PRIVILEGES", "AZURE_POSTGRESQL_USER=aad_" + name} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("the dry run does not say %s: %s", want, raw)
			}
		}
		if strings.Contains(string(raw), "ALL PRIVILEGES") || strings.Contains(string(raw), "INSERT") {
			t.Errorf("read is more than read: %s", raw)
		}
		body := strings.Replace(r.linkBody("nodejs", Read, ""), `{"properties":{`, `{"properties":{"parameters":{"actionName":"createOrUpdate",`, 1) + "}"
		got = r.must(boss, "PUT", sites+"web/providers/Microsoft.ServiceLinker/dryruns/"+name, body)
		if n := len(at(got, "properties", "operationPreviews").([]any)); n != 4 {
			t.Errorf("%d operations: %v", n, got)
		}
		got = r.must(contributor, "PUT", sites+"web/providers/Microsoft.ServiceLinker/dryruns/"+name, body)
		if v := at(got, "properties", "prerequisiteResults").([]any); len(v) != 1 || text(v[0], "type") != "permissionsMissing" {
			t.Errorf("a missing right: %v", got)
		}
		if p, _ := r.traces(); p != 0 || r.roleExists("aad_"+name) || len(r.settings("web")) != 0 || text(r.must(boss, "GET", sites+"web", ""), "identity", "principalId") != "" {
			t.Error("a dry run has changed something")
		}
	})
}

func TestOddRequests(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		link := sites + "web" + linkers + r.conn("c")
		id := servers + "pg1/databases/" + r.f.db
		body := func(target, auth, client string) string {
			return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":%q},"authInfo":%s,"clientType":%q}}`, target, auth, client)
		}
		system := `{"authType":"systemAssignedIdentity"}`
		for _, c := range []struct {
			name, path, body string
			status           int
			code             string
		}{
			{"no target", link, `{"properties":{"authInfo":` + system + `}}`, 400, "UnsupportedTarget"},
			{"an app", link, body(sites+"other", system, "go"), 400, "UnsupportedTarget"},
			{"a server", link, body(servers+"pg1", system, "go"), 400, "UnsupportedTarget"},
			{"no such server", link, body(servers+"nix/databases/x", system, "go"), 404, "ResourceNotFound"},
			{"no such database", link, body(servers+"pg1/databases/nix", system, "go"), 404, "DatabaseNotFound"},
			{"no auth", link, `{"properties":{"targetService":{"type":"AzureResource","id":"` + id + `"}}}`, 400, "MissingAuthInfo"},
			{"odd auth", link, body(id, `{"authType":"magic"}`, "go"), 400, "UnsupportedAuthType"},
			{"odd client", link, body(id, system, "cobol"), 400, "InvalidClientType"},
			{"a foreign identity", link, body(id, `{"authType":"userAssignedIdentity","clientId":"`+az.NewGUID()+`"}`, "go"), 400, "IdentityNotAssigned"},
			{"a reserved role", link, body(id, `{"authType":"systemAssignedIdentity","userName":"pg_read_all_data"}`, "go"), 400, "InvalidName"},
			{"the owner's role", link, body(id, `{"authType":"systemAssignedIdentity","userName":"`+r.f.Owner+`"}`, "go"), 409, "RoleExists"},
			{"a superuser's role", link, body(id, `{"authType":"systemAssignedIdentity","userName":"postgres"}`, "go"), 409, "RoleExists"},
			{"access", link, strings.Replace(r.linkBody("go", Read, ""), `"read"`, `"root"`, 1), 400, "InvalidAccess"},
			{"on a group", group + linkers + "c", r.linkBody("go", Read, ""), 400, "UnsupportedSource"},
			{"name", sites + "web" + linkers + strings.Repeat("x", 60), r.linkBody("go", Read, ""), 400, "InvalidLinkerName"},
			{"no secret", link, body(id, `{"authType":"secret"}`, "go"), 400, "InvalidName"},
			{"a reference in a string", link, body(id, `{"authType":"secret","name":"u","secretInfo":{"secretType":"keyVaultSecretUri","value":"https://kv1.vault.hawser.test/secrets/a"}}`, "go"), 400, "UnsupportedSecretType"},
		} {
			t.Run(c.name, func(t *testing.T) { r.refused(boss, "PUT", c.path, c.body, c.status, c.code) })
		}
		// Names that would be more than names if they were not quoted.
		evil := r.conn(`x"; drop table todo; --'`)
		r.must(boss, "PUT", link, r.linkBody("nodejs", Read, `,"userName":`+fmt.Sprintf("%q", evil)))
		who := r.identity("web")
		r.mustEnter(who, evil)
		r.must(boss, "DELETE", link, "")
		if r.roleExists(evil) {
			t.Error("the oddly named role is still there")
		}
		r.f.asOwner(t, `select * from todo`)
	})
}

func TestConnectionsWithASecret(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		link := sites + "web" + linkers + "c"
		real().Exec(t, "postgres", "create role plain_"+r.f.db+" login password 'pl4in s3cr3t'")
		body := func(client, info string) string {
			return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":"%spg1/databases/%s"},"authInfo":{"authType":"secret","name":"plain_%[2]s"%s},"clientType":%q}}`, servers, r.f.db, info, client)
		}
		raw := `,"secretInfo":{"secretType":"rawValue","value":"pl4in s3cr3t"}`
		got := r.must(boss, "PUT", link, body("nodejs", raw))
		s := r.settings("web")
		if s["AZURE_POSTGRESQL_PASSWORD"] != "pl4in s3cr3t" || s["AZURE_POSTGRESQL_HOST"] != r.f.Host || s["AZURE_POSTGRESQL_PORT"] != fmt.Sprint(r.f.Port) {
			t.Errorf("the settings are %v", s)
		}
		again := r.must(boss, "PUT", link, body("nodejs", `,"secretInfo":{"secretType":"rawValue"}`)) // as GET showed it
		for _, v := range []any{got, again, r.must(boss, "GET", link, "")} {
			if b, _ := json.Marshal(v); bytes.Contains(b, []byte("s3cr3t")) {
				t.Errorf("the secret is shown: %s", b)
			}
		}
		if r.settings("web")["AZURE_POSTGRESQL_PASSWORD"] != "pl4in s3cr3t" {
			t.Error("repeating without the value lost it")
		}
		if v := r.must(boss, "POST", link+"/validateLinker", ""); at(v, "properties", "isConnectionAvailable") != true {
			t.Errorf("validateLinker: %v", v)
		}
		if _, err := r.enter(as(boss), "plain_"+r.f.db); !az.Is(err, az.Forbidden) {
			t.Errorf("the gateway lets a password role in: %v", err)
		}
		uri := "https://kv1.vault.hawser.test:8443/secrets/a"
		r.must(boss, "PUT", link, body("django", `,"secretInfo":{"secretType":"keyVaultSecretUri","value":"`+uri+`"}`))
		if s := r.settings("web"); s["AZURE_POSTGRESQL_PASSWORD"] != "@Microsoft.KeyVault(SecretUri="+uri+")" {
			t.Errorf("the settings are %v", s)
		}
		r.must(boss, "DELETE", link, "")
		if n := len(r.settings("web")); n != 0 {
			t.Errorf("%d settings are left", n)
		}
		r.f.as(t, "plain_"+r.f.db, az.NewSecret("pl4in s3cr3t")) // not ours to take away
	})
}

// TestNothingSecretLiesInClear looks through every row the plane keeps.
func TestNothingSecretLiesInClear(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	r.must(boss, "PUT", sites+"web"+linkers+r.conn("c"), r.linkBody("go", Read, ""))
	id := principalID(az.MustParseID(servers+"pg1"), "aad_"+r.conn("c"))
	p, err := r.principals.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := r.st.Resources(t.Context(), store.ResourceQuery{Subscription: rigNames.Subscription})
	if err != nil || len(rows) < 5 {
		t.Fatal(len(rows), err)
	}
	for _, row := range rows {
		for _, secret := range []string{r.f.Password.Reveal(), p.Secrets[passwordSecret].Reveal()} {
			if bytes.Contains(row.Body, []byte(secret)) || bytes.Contains(row.Sealed, []byte(secret)) {
				t.Errorf("%s holds a secret in clear", row.ID)
			}
		}
	}
	if strings.Contains(real().Log(), p.Secrets[passwordSecret].Reveal()) {
		t.Error("the real server's log holds the backend password")
	}
	for _, rec := range r.records(guard.ActionPostgresLogin, guard.Allowed) {
		if strings.Contains(fmt.Sprint(rec), p.Secrets[passwordSecret].Reveal()) {
			t.Error("the audit log holds the backend password")
		}
	}
}

func FuzzServerURL(f *testing.F) {
	f.Add("postgres://u:s3cr3t-canary@h:5432/db?sslmode=require")
	f.Add("postgres://u:p%zz@h")
	f.Add("postgresql://[::1]:99999/x?host=/tmp")
	f.Fuzz(func(t *testing.T, url string) {
		h := realServer{URL: url}
		_, password, err := h.takeURL(PostgreSQL.family())
		if h.URL != "" {
			t.Fatal("the URL was kept")
		}
		if err != nil {
			if az.KindOf(err) != az.Invalid || password != "" {
				t.Fatalf("%v", err)
			}
			return
		}
		if h.Host == "" {
			t.Fatal("no host")
		}
		b := backend{Host: h.Host, Port: max(h.Port, 1), SSLMode: sslDisable, Owner: "o", Password: az.NewSecret("p"), Database: "d"}
		if b.check() == nil {
			if _, err := b.config("o", az.NewSecret("p"), "d"); err != nil {
				t.Fatal(err)
			}
		}
	})
}
