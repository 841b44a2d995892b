package conformance

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway/dbtest"
)

// mysqlDatabase is a database of a real MariaDB, known to the plane as a
// server.
type mysqlDatabase struct {
	name  string
	owner *sql.DB
}

var mysqlDatabases atomic.Int64

// attachMySQL makes a database with the table "things" and attaches it.
func (p *plane) attachMySQL(server string) mysqlDatabase {
	p.t.Helper()
	s := dbtest.MariaDB(p.t)
	d := mysqlDatabase{name: fmt.Sprintf("db%d", mysqlDatabases.Add(1))}
	conf := mysql.NewConfig()
	conf.Net, conf.Addr, conf.User, conf.Passwd, conf.MultiStatements = "tcp", s.Addr, s.User, s.Password, true
	connector, err := mysql.NewConnector(conf)
	if err != nil {
		p.t.Fatal(err)
	}
	d.owner = sql.OpenDB(connector)
	p.t.Cleanup(func() { _ = d.owner.Close() })
	d.exec(p.t, fmt.Sprintf("create database %[1]s; create table %[1]s.things (a int)", d.name))
	u := url.URL{Scheme: "mysql", User: url.UserPassword(s.User, s.Password), Host: s.Addr, Path: "/" + d.name}
	p.cli("attach", server, u.String())
	return d
}

func (d mysqlDatabase) exec(t testing.TB, statements string) {
	t.Helper()
	if _, err := d.owner.Exec(statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

func (d mysqlDatabase) connection() string { return "c_" + d.name }
func (d mysqlDatabase) role() string       { return "aad_" + d.connection() }

// roles lists the accounts of a name on the server.
func (d mysqlDatabase) roles(t testing.TB, name string) int {
	t.Helper()
	var n int
	if err := d.owner.QueryRow("select count(*) from mysql.global_priv where user = ?", name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMySQL: the tutorial's code in each language, against a real MariaDB, with
// the settings that `hawser connect` wrote and exactly the rights that it was
// asked for.
func TestMySQL(t *testing.T) {
	w := newWorld(t)
	hidden := start(t, "--domain", "nowhere.localhost")
	for _, at := range []struct {
		name string
		*plane
	}{{"names that resolve", w.plane}, {"names that do not resolve", hidden}} {
		db := at.attachMySQL("my1")
		for _, e := range ecosystems {
			for access, want := range map[string][4]string{
				"read":  {"ok", "1142", "1142", "1142"},
				"write": {"ok", "ok", "1142", "1142"},
				"owner": {"ok", "ok", "ok", "1142"},
			} {
				t.Run(at.name+"/"+e.name+"/"+access, func(t *testing.T) {
					at.as(t)
					app := e.name + access + db.name
					at.make("app", app)
					at.cli("connect", app, "my1", "--database", db.name, "--client", e.settings, "--access", access, "--name", app)
					r := at.run(app, nil, e.program("mysql", "default", "things")...)
					lines(t, r, fmt.Sprintf("who aad_%s %s\nselect %s\ninsert %s\ncreate %s\nbecome %s", app, db.name, want[0], want[1], want[2], want[3]))
					db.exec(t, "drop table if exists "+db.name+".made_by_the_app")
				})
			}
		}
	}
}

// TestMySQLConnector: a connection can be tried, repeated, checked and undone.
func TestMySQLConnector(t *testing.T) {
	w := newWorld(t)
	db := w.attachMySQL("my1")
	connect := []string{"connect", "web", "my1", "--database", db.name, "--client", "go", "--access", "read", "--name", db.connection()}
	plan := w.cli(append(connect, "--dry-run")...)
	if !strings.Contains(strings.ToUpper(plan), "GRANT") || db.roles(t, db.role()) != 0 {
		t.Fatalf("a dry run must print the statements and do nothing; it printed:\n%s", plan)
	}
	w.cli(connect...)
	w.cli(connect...) // safe to repeat
	if db.roles(t, db.role()) != 1 {
		t.Fatal("no account was made in the database")
	}
	w.cli("connection", "validate", "web", db.connection())
	w.cli("connection", "rotate", "web", db.connection())
	r := w.run("web", nil, ecosystems[0].program("mysql", "default", "things")...)
	if r.code != 0 {
		t.Errorf("after a rotation: %s", r.stderr)
	}
	settings := w.cli("app", "settings", "web", "--reveal")
	if !strings.Contains(settings, "AZURE_MYSQL_CONNECTIONSTRING") {
		t.Errorf("settings:\n%s", settings)
	}
	w.cli("connection", "delete", "web", db.connection())
	if db.roles(t, db.role()) != 0 {
		t.Error("the account outlived its connection")
	}
	if s := w.cli("app", "settings", "web"); strings.Contains(s, "AZURE_MYSQL") {
		t.Errorf("the settings outlived their connection:\n%s", s)
	}
}

// TestMariaDBShell: the mariadb shell at the gateway.
func TestMariaDBShell(t *testing.T) {
	w := newWorld(t)
	db := w.attachMySQL("my1")
	w.cli("connect", "web", "my1", "--database", db.name, "--access", "read", "--name", db.connection())
	_, port, _ := strings.Cut(w.env.Gateways["mysql"], ":")
	web, other := w.token(pgAudience, "web"), w.token(pgAudience, "other")
	shell := func(host, user, token string, more ...string) result {
		args := append([]string{"mariadb", "--no-defaults", "--protocol=tcp", "-h", host, "-P", port, "-u", user, "-D", db.name, "-N", "-B",
			"--ssl-ca=" + w.env.CAFile, "--ssl-verify-server-cert", "-e", "select substring_index(current_user(), '@', 1)"}, more...)
		return execute(t, append(clean(t), "MYSQL_PWD="+token), args...)
	}
	name := "my1.mysql." + domain
	if r := shell(name, db.role(), web); strings.TrimSpace(r.stdout) != db.role() {
		t.Errorf("by name: %s%s", r.stdout, r.stderr)
	}
	if r := shell("127.0.0.1", db.role()+"@my1", web); strings.TrimSpace(r.stdout) != db.role() {
		t.Errorf("by address: %s%s", r.stdout, r.stderr)
	}
	for what, r := range map[string]result{
		"somebody else's token": shell(name, db.role(), other),
		"no token":              shell(name, db.role(), ""),
		"no TLS":                shell(name, db.role(), web, "--skip-ssl"),
		"another role":          shell(name, "root", web),
	} {
		if r.code == 0 {
			t.Errorf("%s: let in: %s", what, r.stdout)
		}
		if strings.Contains(r.stderr, web) || !strings.Contains(r.stderr, "ERROR ") {
			t.Errorf("%s: the shell says %q", what, r.stderr)
		}
	}
}

// TestMySQLExamples: examples/mysql-node and examples/mysql-python, as they
// are, with a system-assigned and with a user-assigned identity.
func TestMySQLExamples(t *testing.T) {
	w := newWorld(t)
	db := w.attachMySQL("my1")
	w.make("identity", "shared")
	for i, e := range []struct {
		name, client string
		argv         []string
	}{
		{"node", "nodejs", []string{"node", "../examples/mysql-node/app.js"}},
		{"python", "python", []string{python, "../examples/mysql-python/app.py"}},
	} {
		for _, identity := range []string{"system", "shared"} {
			t.Run(e.name+"/"+identity, func(t *testing.T) {
				w.as(t)
				app := fmt.Sprintf("%s%s%d", e.name, identity, i)
				w.make("app", app)
				w.cli("connect", app, "my1", "--database", db.name, "--client", e.client, "--access", "read", "--identity", identity, "--name", app)
				r := w.run(app, nil, e.argv...)
				want := fmt.Sprintf("MySQL: connected to %s as aad_%s@", db.name, app)
				if r.code != 0 || !strings.HasPrefix(r.stdout, want) {
					t.Errorf("exit status %d, printed %q, want %q\n%s", r.code, r.stdout, want, r.stderr)
				}
			})
		}
	}
}
