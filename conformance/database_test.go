package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// TestDatabase: the tutorial's code in each language, against a real
// PostgreSQL, with the settings that `hawser connect` wrote and exactly the
// rights that it was asked for.
func TestDatabase(t *testing.T) {
	w := newWorld(t)
	hidden := start(t, "--domain", "nowhere.localhost")
	for _, at := range []struct {
		name string
		*plane
	}{{"names that resolve", w.plane}, {"names that do not resolve", hidden}} {
		db := at.attach("pg1")
		for _, e := range ecosystems {
			for access, want := range map[string][4]string{
				"read":  {"ok", "42501", "42501", "42501"},
				"write": {"ok", "ok", "42501", "42501"},
				"owner": {"ok", "ok", "ok", "42501"},
			} {
				t.Run(at.name+"/"+e.name+"/"+access, func(t *testing.T) {
					at.as(t)
					app := e.name + access + db.name
					at.make("app", app)
					at.cli("connect", app, "pg1", "--database", db.name, "--client", e.settings, "--access", access, "--name", app)
					r := at.run(app, nil, e.program("database", "default", "things")...)
					lines(t, r, fmt.Sprintf("who aad_%s %s\nselect %s\ninsert %s\ncreate %s\nbecome %s", app, db.name, want[0], want[1], want[2], want[3]))
					db.exec(t, "drop table if exists made_by_the_app")
				})
			}
		}
	}
}

// TestDatabaseFeatures: what drivers do besides plain queries passes the
// gateway untouched; here through a user-assigned identity's connection.
func TestDatabaseFeatures(t *testing.T) {
	w := newWorld(t)
	db := w.attach("pg1")
	w.make("identity", "shared")
	w.cli("connect", "web", "pg1", "--database", db.name, "--client", "go", "--access", "write", "--identity", "shared", "--name", db.connection())
	r := w.run("web", nil, ecosystems[0].program("features", "managed-client", "things")...)
	lines(t, r, `
copy-in 100000
copy-out 100000
pipeline 499500
notify hello
cancel 57014
large-row 104857600
large-object 3145728
prepared 42
error-then-go-on 22012 7`)
	t.Run("the system identity has no part in it", func(t *testing.T) {
		w.as(t)
		if r := w.run("web", nil, ecosystems[0].program("database", "managed", "things")...); r.code == 0 {
			t.Errorf("got in: %s", r.stdout)
		}
	})
}

// TestConnector: a connection can be tried, repeated, checked and undone.
func TestConnector(t *testing.T) {
	w := newWorld(t)
	db := w.attach("pg1")
	roles := func() string {
		r := execute(t, clean(t), psql(db.url, "select rolname from pg_roles where rolname = '"+db.role()+"'")...)
		return strings.TrimSpace(r.stdout)
	}
	connect := []string{"connect", "web", "pg1", "--database", db.name, "--client", "go", "--access", "read", "--name", db.connection()}
	plan := w.cli(append(connect, "--dry-run")...)
	if !strings.Contains(strings.ToUpper(plan), "GRANT") || roles() != "" {
		t.Fatalf("a dry run must print the SQL and do nothing; role %q, printed:\n%s", roles(), plan)
	}
	if strings.Contains(strings.ToUpper(plan), "ALL PRIVILEGES") {
		t.Errorf("nobody asked for all privileges:\n%s", plan)
	}
	w.cli(connect...)
	w.cli(connect...) // safe to repeat
	if roles() != db.role() {
		t.Fatal("no role was made in the database")
	}
	w.cli("connection", "validate", "web", db.connection())
	settings := w.cli("app", "settings", "web", "--reveal")
	if !strings.Contains(settings, "AZURE_POSTGRESQL_CONNECTIONSTRING") || strings.Contains(settings, "password=") {
		t.Errorf("settings:\n%s", settings)
	}
	w.cli("connection", "delete", "web", db.connection())
	if roles() != "" {
		t.Error("the role outlived its connection")
	}
	if s := w.cli("app", "settings", "web"); strings.Contains(s, "AZURE_POSTGRESQL") {
		t.Errorf("the settings outlived their connection:\n%s", s)
	}
	t.Run("a failed connection leaves nothing", func(t *testing.T) {
		w.as(t)
		r := w.try("connect", "web", "pg1", "--database", "there_is_no_such_database", "--client", "go", "--name", db.connection())
		if r.code != 1 || r.stderr == "" {
			t.Errorf("exit status %d, %q", r.code, r.stderr)
		}
		if s := w.cli("app", "settings", "web"); roles() != "" || strings.Contains(s, "AZURE_POSTGRESQL") {
			t.Errorf("left behind: role %q, settings %s", roles(), s)
		}
	})
}

// TestPsql: libpq at the gateway, with the checks it can be told to make.
func TestPsql(t *testing.T) {
	w := newWorld(t)
	db := w.attach("pg1")
	w.cli("connect", "web", "pg1", "--database", db.name, "--access", "read", "--name", db.connection())
	host, port, _ := strings.Cut(w.env.Gateways["pg"], ":")
	name := "pg1.postgres." + domain
	dsn := func(parts ...string) string {
		return strings.Join(append([]string{"port=" + port, "dbname=" + db.name}, parts...), " ")
	}
	ca := "sslrootcert=" + w.env.CAFile
	web, other := w.token(pgAudience, "web"), w.token(pgAudience, "other")
	for _, c := range []struct{ name, dsn, password, want string }{
		{"verify-full by name", dsn("host="+name, "user="+db.role(), "sslmode=verify-full", ca), web, db.role()},
		{"verify-full by address", dsn("host="+host, "user="+db.role(), "sslmode=verify-full", ca), web, db.role()},
		{"require", dsn("host="+host, "user="+db.role(), "sslmode=require"), web, db.role()},
		{"server named in options", dsn("host="+host, "user="+db.role(), "sslmode=require", "options='endpoint=pg1'"), web, db.role()},
		{"server named in the user", dsn("host="+host, "user="+db.role()+"@pg1", "sslmode=require"), web, db.role()},
		{"no TLS", dsn("host="+host, "user="+db.role(), "sslmode=disable"), web, "!"},
		{"somebody else's token", dsn("host="+host, "user="+db.role(), "sslmode=require"), other, "!"},
		{"token for another service", dsn("host="+host, "user="+db.role(), "sslmode=require"), w.token(vaultScope, "web"), "!does not have a valid audience claim"},
		{"no token", dsn("host="+host, "user="+db.role(), "sslmode=require"), "secret", "!has invalid format"},
		{"a role of the backend with its own password", dsn("host="+host, "user=postgres", "sslmode=require"), "it is only a test", "!has invalid format"},
		{"another role with a good token", dsn("host="+host, "user=postgres", "sslmode=require"), web, "!"},
		{"a database outside the connection", strings.Replace(dsn("host="+host, "user="+db.role(), "sslmode=require"), db.name, "postgres", 1), web, "!"},
		{"replication", dsn("host="+host, "user="+db.role(), "sslmode=require", "replication=true"), web, "!"},
		{"a role smuggled in as an option", dsn("host="+host, "user="+db.role(), "sslmode=require", "options='-c role=postgres'"), web, "!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := execute(t, append(clean(t), "PGPASSWORD="+c.password), psql(c.dsn, "select current_user")...)
			if want, no := strings.CutPrefix(c.want, "!"); no {
				if r.code == 0 || !strings.Contains(r.stderr, want) {
					t.Errorf("exit status %d, want a refusal with %q: %s%s", r.code, want, r.stdout, r.stderr)
				}
				if strings.Contains(r.stderr, c.password) && len(c.password) > 20 {
					t.Error("the refusal repeats the token")
				}
			} else if got := strings.TrimSpace(r.stdout); got != want {
				t.Errorf("got %q, want %q: %s", got, want, r.stderr)
			}
		})
	}
}
