package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway/mysql"
)

// warmed waits until a backend connection is ready for the next login.
func (d *door) warmed() {
	d.t.Helper()
	eventually(d.t, "a connection is warm", func() bool { return d.Waiting() == 1 })
}

// TestWarmConnectionsForgetEverything leaves all that a session can leave, and
// looks for it in the next session, which has the same backend connection.
func TestWarmConnectionsForgetEverything(t *testing.T) {
	d := open(t, parkAlways)
	var id, before string
	const state = "SELECT CONCAT_WS('|', DATABASE(), @@sql_mode, @@autocommit, @@character_set_client, @@character_set_results, @@collation_connection, @@time_zone, @@tx_isolation, @@wait_timeout, @@foreign_key_checks, COALESCE(CURRENT_ROLE(), 'none'), LAST_INSERT_ID(), @@in_transaction, @@max_allowed_packet)"
	d.visit(func(c *sql.Conn) {
		id, before = ask(t, c, "SELECT CONNECTION_ID()"), ask(t, c, state)
		exec(t, c, "CREATE OR REPLACE TABLE kept (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT) ENGINE=InnoDB")
	})
	d.warmed()
	for name, leave := range map[string][]string{
		"variables":      {"SET @v = 'secret'", "SET sql_mode = '', time_zone = '+05:00', wait_timeout = 77, foreign_key_checks = 0"},
		"a table":        {"CREATE TEMPORARY TABLE tmp (v TEXT)"},
		"a transaction":  {"SET autocommit = 0", "INSERT INTO kept (v) VALUES ('x')", "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"},
		"locks":          {"SELECT GET_LOCK('mine', 0)", "LOCK TABLES kept WRITE"},
		"a database":     {"USE otherdb"},
		"character sets": {"SET NAMES latin1", "SET character_set_results = NULL"},
		"statements":     {"PREPARE p FROM 'SELECT 1'"},
		"handlers":       {"HANDLER kept OPEN"},
		"global read":    {"START TRANSACTION READ ONLY"},
	} {
		d.visit(func(c *sql.Conn) {
			for _, sql := range leave {
				exec(t, c, sql)
			}
			if got := ask(t, c, "SELECT CONNECTION_ID()"); got != id {
				t.Errorf("%s: another connection", name)
			}
		})
		d.warmed()
		d.visit(func(c *sql.Conn) {
			if got := ask(t, c, "SELECT CONNECTION_ID()"); got != id {
				t.Errorf("after %s: another connection", name)
			}
			if got := ask(t, c, state); got != before {
				t.Errorf("after %s:\n%s\nbefore:\n%s", name, got, before)
			}
			if got := ask(t, c, "SELECT @v"); got != "NULL" {
				t.Errorf("after %s: @v is %s", name, got)
			}
			if got := ask(t, c, "SELECT COALESCE(IS_USED_LOCK('mine'), 'free')"); got != "free" {
				t.Errorf("after %s: the lock is held by %s", name, got)
			}
			if got := ask(t, c, "SELECT COUNT(*) FROM kept"); got != "0" {
				t.Errorf("after %s: %s rows were committed", name, got)
			}
			for sql, want := range map[string]uint16{"SELECT * FROM tmp": 1146, "EXECUTE p": 1243, "HANDLER kept READ FIRST": 1109} {
				if _, err := c.ExecContext(background(t), sql); errno(err) != want {
					t.Errorf("after %s: %s: %v", name, sql, err)
				}
			}
		})
		d.warmed()
	}
	d.visit(func(c *sql.Conn) { exec(t, c, "DROP TABLE kept") })
}

// TestStatementsDontSurvive prepares by the binary protocol and executes the
// same number in the next session.
func TestStatementsDontSurvive(t *testing.T) {
	d := open(t)
	w := d.raw(0)
	w.command(0x16, "SELECT 'a secret'")
	_, prepared := w.read()
	w.read()
	w.read()
	w.command(0x01, "")
	w.over()
	d.warmed()
	w = d.raw(0)
	if d.Waiting() != 0 {
		t.Fatal("the connection was not taken")
	}
	w.command(0x17, string(prepared[1:5])+"\x00\x01\x00\x00\x00")
	w.wants(1, 1243)
}

// TestWhatIsNotKept: connections that a reset does not make good, or that are
// for somebody else.
func TestWhatIsNotKept(t *testing.T) {
	d := open(t)
	gone := func(why string) {
		t.Helper()
		eventually(t, why+": the session ends", func() bool { return len(d.Sessions()) == 0 })
		eventually(t, why+": the connection ends", func() bool { return len(d.threads(t)) == 0 })
	}
	none := func(c *mysqldriver.Config) { c.DBName = "" }
	d.visit(func(c *sql.Conn) { exec(t, c, "SET ROLE extra") })
	gone("a role")
	d.visit(func(c *sql.Conn) { exec(t, c, "USE appdb") }, none)
	gone("a database where there was none")
	w := d.raw(0)
	w.command(0x1b, "\x00\x00") // COM_SET_OPTION: several statements at once
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	w.command(0x01, "")
	gone("an option")
	w = d.raw(1 << 10)
	w.command(0x01, "")
	gone("an interactive client")
	w = d.raw(0)
	w.Close()
	gone("no goodbye")
	w = d.raw(0)
	w.command(3, "SELECT SLEEP(0.3)")
	w.command(0x01, "")
	gone("a goodbye before the answer")
	d.target.Exec(t, "SET GLOBAL init_connect = 'SET @login = 1'")
	d.visit(func(*sql.Conn) {})
	gone("init_connect")
	d.target.Exec(t, "SET GLOBAL init_connect = ''")

	var first string
	d.visit(func(c *sql.Conn) { first = ask(t, c, "SELECT CONNECTION_ID()") }, none)
	d.warmed()
	for why, change := range map[string]func(*mysqldriver.Config){
		"another principal": func(c *mysqldriver.Config) { c.DBName, c.Passwd = "", colleague },
		"another database":  func(*mysqldriver.Config) {},
		"another character": func(c *mysqldriver.Config) { c.DBName, c.Collation = "", "latin1_swedish_ci" },
		"capabilities":      func(c *mysqldriver.Config) { c.DBName, c.ClientFoundRows = "", true },
	} {
		c, done, err := d.try(change)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, c, "SELECT CONNECTION_ID()"); got == first {
			t.Errorf("%s has the connection", why)
		}
		done()
	}
	d.Forget(d.grant().Server)
	c := d.login(none)
	if got := ask(t, c, "SELECT CONNECTION_ID()"); got == first {
		t.Error("it was not forgotten")
	}
}

// TestCharacterSetIsTheClients: a warm connection has the character set of the
// login, as a new one has, also where the server does not know it.
func TestCharacterSetIsTheClients(t *testing.T) {
	d := open(t)
	for _, id := range []byte{8, 33, 45, 63, 224, 255} {
		var seen []string
		for range 3 {
			w := d.under()
			r := response(loginFlags, "app", nil, "appdb", "")
			r[8] = id
			w.write(packet(2, r))
			w.read()
			w.write(packet(4, []byte(appTok)))
			if _, body := w.read(); body[0] != 0 {
				t.Fatalf("%q", body)
			}
			w.command(3, "SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_results, @@collation_connection)")
			for range 3 {
				w.read()
			}
			_, row := w.read()
			seen = append(seen, string(row[1:]))
			w.read()
			w.command(1, "")
			w.over()
			if id != 255 { // which MariaDB does not know: it is not kept
				d.warmed()
			}
		}
		if seen[0] != seen[1] || seen[1] != seen[2] {
			t.Errorf("collation %d: %q", id, seen)
		}
		d.Forget(d.grant().Server)
	}
}

// TestDeadWarmConnection: one that the server has ended is not given out.
func TestDeadWarmConnection(t *testing.T) {
	d := open(t)
	d.visit(func(*sql.Conn) {})
	d.warmed()
	for _, id := range d.threads(t) {
		d.target.Exec(t, fmt.Sprintf("KILL %d", id))
	}
	eventually(t, "it is dead", func() bool { return len(d.threads(t)) == 0 })
	if got := ask(t, d.login(), "SELECT 'alive'"); got != "alive" {
		t.Error(got)
	}
}

// TestFullServerMakesRoom fills the user's connections with our own warm ones
// and then asks for another kind.
func TestFullServerMakesRoom(t *testing.T) {
	d := open(t)
	d.target.Exec(t, "CREATE USER few IDENTIFIED BY 'few secret' WITH MAX_USER_CONNECTIONS 2", "GRANT ALL ON appdb.* TO few", "GRANT ALL ON otherdb.* TO few")
	d.mu.Lock()
	d.users["few"] = secret("few secret")
	d.mu.Unlock()
	few := func(database string) func(*mysqldriver.Config) {
		return func(c *mysqldriver.Config) { c.User, c.DBName = "few", database }
	}
	for i, db := range []string{"appdb", "otherdb"} {
		d.visit(func(*sql.Conn) {}, few(db))
		eventually(t, "it is warm", func() bool { return d.Waiting() == i+1 })
	}
	c := d.login(few(""))
	if got := ask(t, c, "SELECT 'in'"); got != "in" {
		t.Error(got)
	}
	d.login(few(""))
	if _, _, err := d.try(few("")); errno(err) != 1040 {
		t.Errorf("a full server: %v", err)
	}
}

// TestStatementHook: the plane has another statement in the place of some of
// an administrator's, and sees no other; in sessions without the hook nothing
// is looked at.
func TestStatementHook(t *testing.T) {
	var mu sync.Mutex // guards seen
	var seen []string
	d := open(t, parkAlways, func(_ *mysql.Config, d *door) {
		d.statement = func(_ context.Context, sql string) (string, bool) {
			mu.Lock()
			seen = append(seen, sql)
			mu.Unlock()
			if strings.HasPrefix(sql, "CREATE AADUSER") {
				return "SELECT 'made' AS done", true
			}
			return "", false
		}
	})
	c := d.login()
	if got := ask(t, c, "CREATE AADUSER 'x'"); got != "made" {
		t.Error(got)
	}
	st, err := c.PrepareContext(background(t), "CREATE AADUSER 'prepared'")
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := st.QueryRow().Scan(&got); err != nil || got != "made" {
		t.Error(got, err)
	}
	_ = st.Close()
	for _, sql := range []string{"SELECT 1", "SELECT '" + strings.Repeat("aaduser ", 2000) + "'", "SELECT 'Aad_Auth'"} {
		ask(t, c, sql)
	}
	want := []string{"CREATE AADUSER 'x'", "CREATE AADUSER 'prepared'", "SELECT 'Aad_Auth'"}
	mu.Lock()
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("asked about %q", seen)
	}
	mu.Unlock()
	w := d.raw(0) // in pieces, with others around it
	all := append(packet(0, []byte("\x03CREATE AADUSER 'y'")), packet(0, []byte{0x0e})...)
	for i := range all {
		w.write(all[i : i+1])
	}
	if n := w.rows(); n != 1 {
		t.Error(n)
	}
	if _, err := w.answer(); err != nil {
		t.Error(err)
	}
}
