package connector

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/dbtest"
)

// mariaFixture is a database of its own on a real MariaDB, with an owner who
// has what the plane needs and no more, and a sibling that a pattern of its
// name would match.
type mariaFixture struct {
	*mysqlBackend
	s           *dbtest.Server
	db, sibling string
}

var mariaNumber atomic.Int64

func newMaria(t testing.TB, s *dbtest.Server) *mariaFixture {
	t.Helper()
	n := mariaNumber.Add(1)
	f := &mariaFixture{s: s, db: fmt.Sprintf("eng_%d", n), sibling: fmt.Sprintf("engx%d", n)}
	owner := fmt.Sprintf("owner%d", n)
	s.Exec(t, "CREATE DATABASE "+f.db, "CREATE DATABASE "+f.sibling,
		fmt.Sprintf("CREATE TABLE %s.todo (id int auto_increment primary key, what varchar(20)); INSERT INTO %[1]s.todo (what) VALUES ('a'), ('b')", f.db),
		fmt.Sprintf("CREATE TABLE %s.todo (id int)", f.sibling),
		fmt.Sprintf("CREATE USER %s@'%%' IDENTIFIED BY 'owner''s own'", owner),
		fmt.Sprintf("GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO %s@'%%'", owner),
		fmt.Sprintf("GRANT SELECT ON mysql.* TO %s@'%%'", owner),
		fmt.Sprintf("GRANT ALL PRIVILEGES ON `%s`.* TO %s@'%%' WITH GRANT OPTION", mysqlPattern(f.db), owner))
	host, port, _ := net.SplitHostPort(s.Addr)
	number, _ := strconv.Atoi(port)
	f.mysqlBackend = &mysqlBackend{realServer: realServer{Host: host, Port: number, SSLMode: sslRequire}, Owner: owner, Password: az.NewSecret("owner's own")}
	return f
}

func (f *mariaFixture) spec(name string) roleSpec {
	return roleSpec{Name: name + "_" + f.db, Marker: az.NewGUID(), Password: newPassword()}
}

func (f *mariaFixture) make(t testing.TB, r roleSpec, a Access, lower bool) {
	t.Helper()
	if _, err := f.realise(t.Context(), r, grant{Database: f.db, Access: a}, lower); err != nil {
		t.Fatal(err)
	}
}

// as logs a role in, as the gateway does.
func (f *mariaFixture) as(t testing.TB, r roleSpec, database string) *mysqlConn {
	t.Helper()
	m, err := f.open(t.Context(), r.Name, r.Password, database)
	if err != nil {
		t.Fatalf("login as %q: %v", r.Name, err)
	}
	t.Cleanup(m.Close)
	return m
}

// attempts runs each statement and compares whether it was allowed.
func (m *mysqlConn) attempts(t testing.TB, want bool, statements ...string) {
	t.Helper()
	for _, s := range statements {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := m.ExecContext(ctx, s)
		cancel()
		if (err == nil) != want {
			t.Errorf("%s: allowed %v, want %v (%v)", s, err == nil, want, err)
		}
	}
}

func (m *mysqlConn) alive(t testing.TB) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var one int
	return m.QueryRowContext(ctx, "SELECT 1").Scan(&one) == nil
}

func (f *mariaFixture) accounts(t testing.TB, name string) (n int) {
	t.Helper()
	if err := f.s.Open(t, "").QueryRow("SELECT COUNT(*) FROM mysql.user WHERE user = ?", name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMySQLAccessIsWhatItSays(t *testing.T) {
	t.Parallel()
	f := newMaria(t, dbtest.MariaDB(t))
	f.s.Exec(t, fmt.Sprintf("CREATE PROCEDURE %s.p() SELECT 1", f.db), fmt.Sprintf("CREATE VIEW %s.v AS SELECT * FROM %[1]s.todo", f.db))
	look := []string{"SELECT * FROM todo", "SELECT * FROM v", "SHOW CREATE VIEW v"}
	change := []string{"INSERT INTO todo (what) VALUES ('x')", "UPDATE todo SET what = 'y'", "DELETE FROM todo WHERE id = 1", "CALL p()", "CREATE TEMPORARY TABLE tmp (x int)", "LOCK TABLES todo WRITE", "UNLOCK TABLES"}
	own := []string{"CREATE TABLE mine (x int)", "ALTER TABLE mine ADD y int", "CREATE INDEX i ON mine (x)", "CREATE VIEW w AS SELECT * FROM mine", "DROP VIEW w", "DROP TABLE mine",
		"CREATE PROCEDURE q() SELECT 1", "DROP PROCEDURE q", "CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO SELECT 1", "DROP EVENT e"}
	never := []string{"SELECT * FROM " + f.sibling + ".todo", "CREATE TABLE " + f.sibling + ".x (x int)", "SELECT * FROM mysql.global_priv", "CREATE DATABASE " + f.db + "zz",
		"CREATE USER x@'%' IDENTIFIED BY 'x'", "GRANT SELECT ON todo TO " + f.Owner + "@'%'", "SET PASSWORD FOR " + f.Owner + "@'%' = PASSWORD('x')", "GRANT PROXY ON root TO CURRENT_USER",
		"CREATE DEFINER = root@localhost PROCEDURE r() SELECT 1", "SELECT * FROM todo INTO OUTFILE '/tmp/x'", "LOAD DATA INFILE '/etc/passwd' INTO TABLE todo", "SET GLOBAL general_log = 1", "FLUSH PRIVILEGES", "KILL 1"}
	for _, c := range []struct {
		a        Access
		yes, not []string
	}{
		{Read, look, slices.Concat(change[:4], own[:1], never)},
		{Write, slices.Concat(look, change), slices.Concat(own[:1], never)},
		{Owner, slices.Concat(look, change, own), never},
	} {
		t.Run(string(c.a), func(t *testing.T) {
			r := f.spec(string(c.a))
			f.make(t, r, c.a, false)
			m := f.as(t, r, f.db)
			m.attempts(t, true, c.yes...)
			m.attempts(t, false, c.not...)
			if err := f.probe(t.Context(), r.Name, r.Password, f.db, c.a); err != nil {
				t.Error(err)
			}
			if c.a != Owner {
				if err := f.probe(t.Context(), r.Name, r.Password, f.db, Owner); err == nil {
					t.Error("the probe finds what the role may not do")
				}
			}
			sql, _, err := f.preview(t.Context(), r, grant{Database: f.db, Access: c.a})
			if err != nil || len(sql) != 1 || strings.Contains(fmt.Sprint(sql), nativeHash(r.Password)) {
				t.Errorf("preview of a role that is there: %q %v", sql, err)
			}
		})
	}
	if n := f.accounts(t, "x"); n != 0 {
		t.Error("a role made an account")
	}
}

func TestMySQLRotationAndLowering(t *testing.T) {
	t.Parallel()
	f := newMaria(t, dbtest.MariaDB(t))
	r := f.spec("r")
	f.make(t, r, Owner, false)
	session := f.as(t, r, f.db)
	session.attempts(t, true, "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (1)")

	old := r.Password
	r.Password = newPassword()
	if made, err := f.setPassword(t.Context(), r); err != nil || made {
		t.Fatal(made, err)
	}
	session.attempts(t, true, "INSERT INTO kept VALUES (2)")
	if _, err := f.open(t.Context(), r.Name, old, ""); !az.Is(err, az.Invalid) || strings.Contains(err.Error(), old.Reveal()) {
		t.Errorf("the old password: %v", err)
	}
	session.attempts(t, true, "SET PASSWORD = PASSWORD('its own')")
	if _, err := f.setPassword(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.as(t, r, f.db)

	f.make(t, r, Read, true)
	if session.alive(t) {
		t.Error("a session of the time before goes on")
	}
	now := f.as(t, r, f.db)
	now.attempts(t, true, "SELECT * FROM kept")
	now.attempts(t, false, "INSERT INTO kept VALUES (3)", "DROP TABLE kept")
	if _, err := f.shrink(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if now.alive(t) {
		t.Error("a session goes on when everything was taken")
	}
	f.as(t, r, "").attempts(t, false, "SELECT * FROM "+f.db+".kept")
	f.make(t, r, Write, false)
	f.as(t, r, f.db).attempts(t, true, "INSERT INTO kept VALUES (3)")

	session = f.as(t, r, f.db)
	var id uint64
	if err := session.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	if err := f.terminate(t.Context(), f.Owner, id); err != nil || !session.alive(t) {
		t.Errorf("a session was ended as somebody else's: %v", err)
	}
	if err := f.terminate(t.Context(), r.Name, id); err != nil || session.alive(t) {
		t.Errorf("the session was not ended: %v", err)
	}

	session = f.as(t, r, f.db)
	for range 2 { // the second finds nothing to do
		if err := f.drop(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if session.alive(t) || f.accounts(t, r.Name)+f.accounts(t, r.mysqlMark()) != 0 {
		t.Error("something is left of a dropped role")
	}
}

func TestMySQLForeignAccountsAreLeftAlone(t *testing.T) {
	t.Parallel()
	f := newMaria(t, dbtest.MariaDB(t))
	r := f.spec("theirs")
	f.s.Exec(t, "CREATE USER "+mysqlAccount(r.Name)+" IDENTIFIED BY 'theirs'")
	refused := func(what string, err error) {
		t.Helper()
		if !az.Is(err, az.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := f.realise(t.Context(), r, grant{Database: f.db, Access: Read}, false)
	refused("realise", err)
	_, err = f.shrink(t.Context(), r)
	refused("shrink", err)
	_, _, err = f.preview(t.Context(), r, grant{Database: f.db, Access: Read})
	refused("preview", err)
	if err := f.drop(t.Context(), r); err != nil {
		t.Error(err)
	}
	f.as(t, roleSpec{Name: r.Name, Password: az.NewSecret("theirs")}, "")

	// One that the server would take before ours.
	other := f.spec("local")
	f.s.Exec(t, "CREATE USER "+mysqlText(other.Name)+"@'127.0.0.1' IDENTIFIED BY 'x'")
	_, err = f.realise(t.Context(), other, grant{Database: f.db, Access: Read}, false)
	refused("an account for one host", err)

	// Made by us and dropped and made again by somebody: it is theirs.
	gone := f.spec("gone")
	f.make(t, gone, Read, false)
	f.s.Exec(t, "DROP USER "+mysqlAccount(gone.Name), "CREATE USER "+mysqlAccount(gone.Name)+" IDENTIFIED BY 'x'")
	_, err = f.setPassword(t.Context(), gone)
	refused("an account made again", err)

	// Ours, of which the plane was cut off before it was marked.
	cut := f.spec("cut")
	f.make(t, cut, Read, false)
	f.s.Exec(t, "DROP ROLE "+mysqlIdent(cut.mysqlMark()))
	if made, err := f.setPassword(t.Context(), cut); err != nil || made {
		t.Errorf("cut off before the mark: %v %v", made, err)
	}
	cut.Password = newPassword()
	if _, err := f.setPassword(t.Context(), cut); err != nil {
		t.Errorf("the mark was not set again: %v", err)
	}
	// Ours, and gone: it is made again.
	f.s.Exec(t, "DROP USER "+mysqlAccount(cut.Name))
	if made, err := f.setPassword(t.Context(), cut); err != nil || !made {
		t.Errorf("dropped by somebody: %v %v", made, err)
	}
}

func TestMySQLNamesAreQuoted(t *testing.T) {
	t.Parallel()
	f := newMaria(t, dbtest.MariaDB(t))
	db := f.db + "'%_x"
	f.s.Exec(t, "CREATE DATABASE "+mysqlIdent(db), fmt.Sprintf("GRANT ALL ON %s TO %s@'%%' WITH GRANT OPTION", mysqlDatabase(db), f.Owner))
	for _, name := range []string{`o'brien`, "back`tick", `back\slash`, `"quoted"`, `x'@'%' IDENTIFIED BY 'y`, "spaced out", "größe", "%"} {
		r := f.spec(name)
		if err := MySQL.family().checkRole(r.Name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := f.realise(t.Context(), r, grant{Database: db, Access: Owner}, false); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if err := f.probe(t.Context(), r.Name, r.Password, db, Owner); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		f.as(t, r, db).attempts(t, false, "SELECT * FROM "+f.db+".todo")
		if err := f.drop(t.Context(), r); err != nil || f.accounts(t, r.Name) != 0 {
			t.Errorf("%q is still there: %v", name, err)
		}
	}
	for _, name := range []string{"", "root", "mysql.sys", "Hawser_x", " x", "x ", "a\x00b", "\xff", strings.Repeat("x", 129), "😀", "none", "PUBLIC"} {
		if MySQL.family().checkRole(name) == nil {
			t.Errorf("the role name %q was taken", name)
		}
	}
	for _, name := range []string{"", "mysql", "MySQL", "sys", "information_schema", "performance_schema", "a`b", "a/b", "a.b", `a\b`, "a ", strings.Repeat("x", 65)} {
		if MySQL.family().checkDatabase(name) == nil {
			t.Errorf("the database name %q was taken", name)
		}
	}
	if err := f.has(t.Context(), f.db); err != nil {
		t.Error(err)
	}
	n := f.spec("n")
	for _, name := range []string{"mysql", "nothere", strings.ToUpper(f.db)} {
		if err := f.has(t.Context(), name); !az.Is(err, az.NotFound) {
			t.Errorf("has(%q): %v", name, err)
		}
		if _, err := f.realise(t.Context(), n, grant{Database: name, Access: Read}, false); !az.Is(err, az.NotFound) {
			t.Errorf("a grant on %q: %v", name, err)
		}
	}
}

// TestMySQLNoLegacies: what a dropped role defined does not become another's.
func TestMySQLNoLegacies(t *testing.T) {
	t.Parallel()
	f := newMaria(t, dbtest.MariaDB(t))
	r := f.spec("definer")
	for kind, statements := range map[string][2]string{
		"view":      {"CREATE VIEW left_v AS SELECT 1", "DROP VIEW left_v"},
		"procedure": {"CREATE PROCEDURE left_p() SELECT 1", "DROP PROCEDURE left_p"},
		"trigger":   {"CREATE TRIGGER left_t BEFORE INSERT ON todo FOR EACH ROW SET NEW.what = 'x'", "DROP TRIGGER left_t"},
		"event":     {"CREATE EVENT left_e ON SCHEDULE EVERY 1 YEAR DO SELECT 1", "DROP EVENT left_e"},
	} {
		f.make(t, r, Owner, false)
		f.as(t, r, f.db).attempts(t, true, statements[0])
		if _, err := f.setPassword(t.Context(), r); err != nil {
			t.Errorf("%s: the definer itself: %v", kind, err)
		}
		if err := f.drop(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		next := r
		next.Password = newPassword()
		_, err := f.realise(t.Context(), next, grant{Database: f.db, Access: Read}, false)
		if code, why := wordsOf(err); code != "DefinerExists" || !strings.Contains(why, kind) {
			t.Errorf("%s: %v", kind, err)
		}
		f.s.Exec(t, "USE "+f.db+"; "+statements[1])
	}
	f.make(t, r, Owner, false)
}

func TestMySQLAdministrators(t *testing.T) {
	t.Parallel()
	f := newMaria(t, dbtest.MariaDB(t))
	app, admin := f.spec("app"), f.spec("admin")
	admin.Admin = true
	f.make(t, app, Read, false)
	if _, err := f.realise(t.Context(), admin, grant{}, false); err != nil {
		t.Fatal(err)
	}
	m := f.as(t, admin, f.db)
	m.attempts(t, true, "CREATE TABLE x (x int)", fmt.Sprintf("GRANT INSERT ON %s TO %s", mysqlDatabase(f.db), mysqlAccount(app.Name)), "DROP TABLE x")
	f.as(t, app, f.db).attempts(t, true, "INSERT INTO todo (what) VALUES ('x')")
	other := mysqlAccount(f.Owner)
	m.attempts(t, false, "SELECT * FROM "+f.sibling+".todo", // the owner has no right to grant it
		"SELECT * FROM mysql.global_priv", "UPDATE mysql.global_priv SET Priv = '{}'", "CREATE TABLE mysql.x (x int)",
		"CREATE USER evil@'%' IDENTIFIED BY 'x'", "CREATE ROLE evil", "DROP USER "+other, "ALTER USER "+other+" IDENTIFIED BY 'x'", "SET PASSWORD FOR "+other+" = PASSWORD('x')",
		"RENAME USER "+other+" TO evil@'%'", "GRANT PROXY ON "+other+" TO CURRENT_USER", "GRANT SUPER ON *.* TO CURRENT_USER", "GRANT SELECT ON mysql.* TO CURRENT_USER",
		fmt.Sprintf("GRANT SELECT ON %s TO evil@'%%' IDENTIFIED BY 'x'", mysqlDatabase(f.db)),
		fmt.Sprintf("GRANT SELECT ON %s TO %s IDENTIFIED BY 'x'", mysqlDatabase(f.db), other),
		"CREATE DEFINER = "+other+" PROCEDURE evil() DROP USER "+other, "CREATE DEFINER = root@'%' SQL SECURITY DEFINER VIEW evil AS SELECT * FROM mysql.global_priv",
		"SET GLOBAL init_connect = 'x'", "INSTALL SONAME 'x'", "FLUSH PRIVILEGES", "SHUTDOWN", "SELECT 1 INTO OUTFILE '/tmp/x'")
	if c, err := f.connect(t.Context(), ""); err != nil {
		t.Errorf("the owner's login: %v", err)
	} else {
		c.Close()
	}
	if n := f.accounts(t, "evil"); n != 0 {
		t.Error("an administrator made an account past the plane")
	}
}

// TestMySQLClosesWithoutPassword: no rule of a server about passwords keeps the
// plane from closing a role, or from giving it one that it had.
func TestMySQLClosesWithoutPassword(t *testing.T) {
	r := roleSpec{Name: "r", Marker: az.NewGUID(), Password: newPassword()}
	m := &mysqlConn{}
	if got := m.passwordStatement(r, true); got != "ALTER USER 'r'@'%' ACCOUNT LOCK" {
		t.Error(got)
	}
	for _, s := range append(m.createStatements(r, false), m.passwordStatement(r, false)) {
		if !strings.Contains(s, "IDENTIFIED BY '"+r.Password.Reveal()+"' PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY A") {
			t.Error(strings.ReplaceAll(s, r.Password.Reveal(), "…"))
		}
	}
	maria := &mysqlConn{maria: true}
	if got := maria.passwordStatement(r, true); !strings.HasSuffix(got, nativeHash(r.Password)+"' ACCOUNT LOCK") {
		t.Error(got)
	}
}
