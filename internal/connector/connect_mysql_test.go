package connector

import (
	"context"
	"crypto/x509"
	"database/sql"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/guard"
)

const mysqlServers = group + "/providers/Microsoft.DBforMySQL/flexibleServers/"

// mysqlRig is a rig with a real MariaDB attached as my1, and a database of the
// test's own with one table.
type mysqlRig struct {
	*rig
	db     *dbtest.Server
	f      *mariaFixture
	name   string
	server string
}

func withMySQL(r *rig) *mysqlRig {
	r.t.Helper()
	m := &mysqlRig{rig: r, db: dbtest.MariaDB(r.t), server: mysqlServers + "my1"}
	m.f = newMaria(r.t, m.db)
	m.name = m.f.db
	ca, err := os.ReadFile(m.db.CAFile)
	if err != nil {
		r.t.Fatal(err)
	}
	r.must(boss, "PUT", m.server, fmt.Sprintf(`{"location":"local","properties":{"administratorLogin":%q,"administratorLoginPassword":%q,"hawser":{"host":%q,"port":%d,"sslMode":"verify-full","caCertificate":%q}}}`,
		m.f.Owner, m.f.Password.Reveal(), m.f.Host, m.f.Port, ca))
	r.must(boss, "PUT", m.server+"/databases/"+m.name, `{"properties":{}}`)
	return m
}

// body is that of a connection to the rig's database.
func (m *mysqlRig) body(auth, client string, a Access, more string) string {
	return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":"%s/databases/%s"},"authInfo":{"authType":%q%s},"clientType":%q,"hawser":{"access":%q}}}`,
		m.server, m.name, auth, more, client, a)
}

func (m *mysqlRig) conn(name string) string { return name + "_" + m.name }

// login logs in at the real server with what Authorize gives, as a gateway
// does: refused, it has the role repaired and asks once more.
func (m *mysqlRig) login(ctx context.Context, who az.Principal, user string) (*sql.DB, error) {
	for try := 0; ; try++ {
		b, err := m.Authorize(ctx, who, Login{MySQL, "my1", m.name, user})
		if err != nil {
			return nil, err
		}
		db, err := m.dial(b.User, b.Password, b.TLS.Roots)
		if err == nil {
			if err = db.PingContext(ctx); err == nil {
				return db, nil
			}
			_ = db.Close()
		}
		if try > 0 {
			return nil, err
		}
		if rerr := m.Repair(ctx, b.Server, b.User); rerr != nil {
			return nil, rerr
		}
	}
}

func (m *mysqlRig) dial(user string, password az.Secret, roots *x509.CertPool) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, password.Reveal(), "tcp", m.db.Addr, m.name
	var err error
	if cfg.TLS, err = gateway.BackendTLS("verify-full", "127.0.0.1", roots); err != nil {
		return nil, err
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

func (m *mysqlRig) enter(who az.Principal, user string) *sql.DB {
	m.t.Helper()
	db, err := m.login(m.t.Context(), who, user)
	if err != nil {
		m.t.Fatalf("login as %q: %v", user, err)
	}
	m.t.Cleanup(func() { _ = db.Close() })
	return db
}

// may runs each statement in a transaction that is not kept, and compares
// whether it was allowed.
func (m *mysqlRig) may(db *sql.DB, statements map[string]bool) {
	m.t.Helper()
	for s, want := range statements {
		if _, err := db.ExecContext(m.t.Context(), s); (err == nil) != want {
			m.t.Errorf("%s: allowed %v, want %v (%v)", s, err == nil, want, err)
		}
	}
}

func (m *mysqlRig) there(user string) bool {
	m.t.Helper()
	var n int
	if err := m.db.Open(m.t, "").QueryRow("SELECT count(*) FROM mysql.user WHERE User = ?", user).Scan(&n); err != nil {
		m.t.Fatal(err)
	}
	return n > 0
}

var (
	mayRead  = map[string]bool{"SELECT * FROM todo": true, "INSERT INTO todo (what) VALUES ('x')": false, "CREATE TABLE made (i int)": false}
	mayWrite = map[string]bool{"SELECT * FROM todo": true, "INSERT INTO todo (what) VALUES ('x')": true, "CREATE TABLE made (i int)": false, "SELECT * FROM mysql.user": false}
	mayOwn   = map[string]bool{"INSERT INTO todo (what) VALUES ('x')": true, "CREATE OR REPLACE TABLE made (i int)": true, "CREATE USER other": false}
)

func TestMySQLConnectionFromBeginningToEnd(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		link, user := sites+"web"+linkers+m.conn("c"), "aad_"+m.conn("c")
		before, assigned := r.traces()
		plan := fmt.Sprint(at(r.must(boss, "POST", link+"/dryrun", m.body(authSystem, "python", Write, "")), "steps"))
		if !strings.Contains(plan, "GRANT") || !strings.Contains(plan, m.name) || !strings.Contains(plan, "MySQL Login") || strings.Contains(plan, m.f.Password.Reveal()) {
			t.Errorf("the dry run says %s", plan)
		}
		if p, a := r.traces(); p != before || a != assigned || m.there(user) {
			t.Errorf("the dry run left %d roles and %d assignments", p-before, a-assigned)
		}
		r.must(boss, "PUT", link, m.body(authSystem, "python", Write, ""))
		who := r.identity("web")
		m.may(m.enter(who, user), mayWrite)
		s := r.settings("web")
		if len(s) != 4 || s["AZURE_MYSQL_HOST"] != "my1.mysql.hawser.test" || s["AZURE_MYSQL_USER"] != user || s["AZURE_MYSQL_NAME"] != m.name || s["AZURE_MYSQL_PORT"] != "13306" {
			t.Errorf("the settings are %v", s)
		}
		r.must(boss, "PUT", link, m.body(authSystem, "python", Write, "")) // safe to repeat
		m.enter(who, user)
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		if d, err := r.cfg.Guard.Explain(t.Context(), who.ObjectID, guard.Data(guard.ActionMySQLLogin), az.MustParseID(m.server)); err != nil || !d.Allowed {
			t.Errorf("the identity may not log in at the server: %v, %v", d, err)
		}

		// A second connection of the app has names of its own and a role of its
		// own, whose rights are not the first's.
		second := sites + "web" + linkers + m.conn("d")
		r.must(boss, "PUT", second, m.body(authSystem, "go", Owner, ""))
		want := fmt.Sprintf("aad_%s@tcp(my1.mysql.hawser.test:13306)/%s?tls=true", m.conn("d"), m.name)
		if got := r.settings("web")["AZURE_MYSQL_"+strings.ToUpper(m.conn("d"))+"_CONNECTIONSTRING"]; got != want {
			t.Errorf("the second connection's setting is %q, want %q", got, want)
		}
		m.may(m.enter(who, "aad_"+m.conn("d")), mayOwn)
		m.may(m.enter(who, user), mayWrite)
		r.must(boss, "DELETE", second, "")

		r.must(boss, "PUT", link, m.body(authSystem, "python", Read, "")) // less is less at once
		m.may(m.enter(who, user), mayRead)
		if _, err := m.login(t.Context(), r.made("other"), user); !az.Is(err, az.Forbidden) {
			t.Errorf("another app's identity gets in: %v", err)
		}

		r.must(boss, "DELETE", link, "")
		if _, err := m.login(t.Context(), who, user); !az.Is(err, az.Forbidden) {
			t.Errorf("after the end of the connection: %v", err)
		}
		if m.there(user) || m.there("aad_"+m.conn("d")) {
			t.Error("a role outlived its connection")
		}
		if s := r.settings("web"); len(s) != 0 {
			t.Errorf("left behind: %v", s)
		}
		if p, a := r.traces(); p != before || a != assigned {
			t.Errorf("%d roles and %d assignments are left", p-before, a-assigned)
		}
	})
}

// TestMySQLConnectionsOfOtherIdentities: a user-assigned identity, a service
// principal, and a login of the server's own, with its password in a vault.
func TestMySQLConnectionsOfOtherIdentities(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		const uid = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/shared"
		one := r.must(boss, "PUT", uid, `{"location":"local"}`)
		r.must(boss, "PATCH", sites+"web", fmt.Sprintf(`{"identity":{"type":"UserAssigned","userAssignedIdentities":{%q:{}}}}`, uid))
		link := sites + "web" + linkers + m.conn("u")
		r.must(boss, "PUT", link, m.body(authUser, "nodejs", Read, fmt.Sprintf(`,"clientId":%q`, text(one, "properties", "clientId"))))
		if s := r.settings("web"); s["AZURE_MYSQL_CLIENTID"] != text(one, "properties", "clientId") || !r.valid(link) {
			t.Errorf("settings %v; %v", s, r.must(boss, "POST", link+"/validateLinker", ""))
		}
		m.may(m.enter(as(text(one, "properties", "principalId")), "aad_"+m.conn("u")), mayRead)
		r.must(boss, "DELETE", link, "")

		app, sp := r.ownApplication(m.conn("own"))
		r.must(boss, "PUT", link, m.body(authPrincipal, "springBoot", Write, fmt.Sprintf(`,"clientId":%q,"secret":"topsecret1"`, app)))
		if s := r.settings("web"); s["spring.cloud.azure.credential.client-secret"] != "topsecret1" || s["spring.datasource.url"] != "jdbc:mysql://my1.mysql.hawser.test:13306/"+m.name+"?sslmode=required" || !r.valid(link) {
			t.Errorf("settings %v; %v", s, r.must(boss, "POST", link+"/validateLinker", ""))
		}
		m.may(m.enter(as(sp), "aad_"+m.conn("u")), mayWrite)
		r.must(boss, "DELETE", link, "")
		if m.there("aad_" + m.conn("u")) {
			t.Error("a role was left")
		}
	})
}

// TestMySQLConnectionsByPassword lead to the server itself.
func TestMySQLConnectionsByPassword(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		r.furnishVault()
		user := m.conn("theirs")
		m.db.Exec(t, "CREATE USER "+user+" IDENTIFIED BY 'pass word'", "GRANT SELECT ON "+m.name+".* TO "+user)
		r.must(boss, "PUT", sites+"web"+linkers+"kv", linkTo("Microsoft.KeyVault/vaults/bypolicy", authSystem, "go", ""))
		link := sites + "web" + linkers + m.conn("s")
		body := func(password string) string {
			return strings.TrimSuffix(m.body(authSecret, "nodejs", Read, fmt.Sprintf(`,"name":%q,"secretInfo":{"secretType":"rawValue","value":%q}`, user, password)), "}}") + `,"secretStore":{"keyVaultId":"` + vaultsPath + `bypolicy"}}}`
		}
		r.must(boss, "PUT", link, body("pass word"))
		host, port, _ := net.SplitHostPort(m.db.Addr)
		s := r.settings("web")
		if s["AZURE_MYSQL_HOST"] != host || s["AZURE_MYSQL_PORT"] != port || s["AZURE_MYSQL_USER"] != user || !strings.HasPrefix(fmt.Sprint(s["AZURE_MYSQL_PASSWORD"]), "@Microsoft.KeyVault(SecretUri=https://bypolicy.vault.") {
			t.Errorf("the settings are %v", s)
		}
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.must(boss, "PUT", link, body("another"))
		if r.valid(link) {
			t.Error("a connection with the wrong password is valid")
		}
		r.must(boss, "DELETE", link, "")
		if !m.there(user) {
			t.Error("the end of the connection took somebody's own login away")
		}
	})
}

// TestMySQLFailuresLeaveNothing makes each step fail for a real reason.
func TestMySQLFailuresLeaveNothing(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		r.furnishVault()
		app, _ := r.ownApplication(m.conn("own"))
		own := fmt.Sprintf(`,"clientId":%q,"secret":"topsecret1"`, app)
		for i, c := range []struct {
			name          string
			body          string
			spoil, repair func(user string)
			status        int
			code          string
		}{
			{"the role is somebody else's", m.body(authSystem, "go", Write, ""), func(user string) { m.db.Exec(t, "CREATE USER "+user+" IDENTIFIED BY 'theirs'") },
				func(user string) { m.db.Exec(t, "DROP USER "+user) }, 409, "RoleExists"},
			{"the settings are another connection's", m.body(authPrincipal, "springBoot", Write, own), func(string) {
				r.must(boss, "PUT", sites+"web"+linkers+"first", m.body(authSecret, "springBoot", Write, `,"name":"u","secretInfo":{"secretType":"rawValue","value":"p"}`))
			}, func(string) { r.must(boss, "DELETE", sites+"web"+linkers+"first", "") }, 409, ""},
			{"there is no such vault", strings.TrimSuffix(m.body(authPrincipal, "nodejs", Write, own), "}}") + `,"secretStore":{"keyVaultId":"` + vaultsPath + `nowhere"}}}`,
				func(string) {}, func(string) {}, 404, "ResourceNotFound"},
			{"there is no such database", strings.Replace(m.body(authSystem, "go", Write, ""), "/databases/"+m.name, "/databases/nowhere", 1),
				func(string) {}, func(string) {}, 404, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				name := m.conn(fmt.Sprint("u", i))
				link, user := sites+"web"+linkers+name, "aad_"+name
				c.spoil(user)
				p, a := r.traces()
				status, out := r.call(boss, "PUT", link, c.body)
				if status != c.status || !strings.Contains(out, `"code":"`+c.code) || strings.Contains(out, m.f.Password.Reveal()) {
					t.Errorf("got %d %s, want %d %s", status, out, c.status, c.code)
				}
				if p2, a2 := r.traces(); p2 != p || a2 != a {
					t.Errorf("%d roles and %d assignments, before %d and %d", p2, a2, p, a)
				}
				if status, _ := r.call(boss, "GET", link, ""); status != 404 {
					t.Errorf("the connection is there: %d", status)
				}
				c.repair(user)
				if m.there(user) {
					t.Error("the role was left on the server")
				}
			})
		}
	})
}
