package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway/mysql"
)

// TestProcessKillOfAnyLength: servers take the first four bytes of
// COM_PROCESS_KILL whatever follows, so a longer one is no way around the
// mapping of ids.
func TestProcessKillOfAnyLength(t *testing.T) {
	d := open(t)
	victim := d.login()
	id, err := strconv.ParseUint(ask(t, victim, "SELECT CONNECTION_ID()"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	w := d.under()
	w.write(packet(2, response(loginFlags, "app", []byte(colleague+"\x00"), "appdb", "mysql_clear_password")))
	if _, b := w.read(); b[0] != 0 {
		t.Fatalf("%q", b)
	}
	for more, want := range map[int]uint16{0: 1095, 1: 1095, 100: 1095, 200: 1047, 1<<24 - 6: 1047} {
		w.command(0x0c, string(append(binary.LittleEndian.AppendUint32(nil, uint32(id)), make([]byte, more)...)))
		if more > 1<<20 {
			w.write(packet(1, nil))
		}
		_, err := w.answer()
		var e rawError
		if !errors.As(err, &e) || e.errno != want {
			t.Errorf("with %d bytes more: %v, want %d", more, err, want)
		}
	}
	if got := ask(t, victim, "SELECT 'alive'"); got != "alive" {
		t.Error(got)
	}
}

// TestServerThatEndsAFileEarly answers before the client has sent all of it,
// and takes what follows for commands: so does the gateway.
func TestServerThatEndsAFileEarly(t *testing.T) {
	seen := make(chan []byte, 1)
	p := startPeer(t, &peer{plugin: "mysql_native_password", script: func(c *peerConn) {
		c.send(ok0)
		for _, reply := range []string{"\xfbx", string(ok0)} {
			if _, ok := c.read(); !ok {
				return
			}
			c.send([]byte(reply))
		}
		body, _ := c.read()
		seen <- body
		_, _ = io.Copy(io.Discard, c)
	}})
	d := open(t, func(_ *mysql.Config, d *door) { d.addrOf = p.addr })
	w := d.raw(capLocalFiles)
	w.command(3, "LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
	w.read()
	w.write(packet(2, []byte("a line\n")))
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	w.command(0x11, "root\x00\x00\x00")
	if got := <-seen; len(got) == 0 || got[0] != 3 {
		t.Errorf("the server was sent %q", got)
	}
}

// TestNamesAreThoseAuthorised: whatever character set a client states, the
// server opens the user and the database that the rules were asked about, and
// statements are in the set that the client wants, at a new connection and at
// a warm one.
func TestNamesAreThoseAuthorised(t *testing.T) {
	var repairs atomic.Int32
	d := open(t, func(c *mysql.Config, d *door) {
		c.Repair = func(context.Context, azID, string) error { repairs.Add(1); return nil }
		d.users["grüße"], d.users["a@b.c"] = secret("app secret"), secret("app secret")
	})
	d.target.Exec(t, "CREATE DATABASE `dö`", "CREATE DATABASE `dÃ¶`", "CREATE USER `grüße` IDENTIFIED BY 'app secret'", "CREATE USER `a@b.c` IDENTIFIED BY 'app secret'",
		"GRANT ALL ON `dö`.* TO `grüße`", "GRANT ALL ON `dÃ¶`.* TO `grüße`", "GRANT ALL ON `dö`.* TO `a@b.c`")
	t.Cleanup(func() {
		d.target.Exec(t, "DROP USER `grüße`, `a@b.c`", "DROP DATABASE `dö`", "DROP DATABASE `dÃ¶`")
	})
	const names = "SELECT HEX(CONCAT_WS(' ', CURRENT_USER(), DATABASE(), @@character_set_client, @@character_set_results, @@collation_connection))"
	for _, user := range []string{"grüße", "a@b.c"} {
		for charset, name := range map[byte]string{8: "latin1 latin1 latin1_swedish_ci", 28: "gbk gbk gbk_chinese_ci", 10: "swe7 swe7 swe7_swedish_ci",
			224: "utf8mb4 utf8mb4 utf8mb4_unicode_ci", 255: "latin1 latin1 latin1_swedish_ci"} { // the last is unknown to MariaDB
			for range 2 {
				w := d.under()
				r := response(loginFlags, user, []byte(appTok+"\x00"), "dö", "mysql_clear_password")
				r[8] = charset
				w.write(packet(2, r))
				if _, b := w.read(); b[0] != 0 {
					t.Fatalf("%s in character set %d: %q", user, charset, b)
				}
				w.command(3, names)
				w.read()
				w.read()
				w.read()
				_, row := w.read()
				w.read()
				if want := strings.ToUpper(hexOf(user + "@% dö " + name)); string(row[1:]) != want {
					t.Errorf("%s in character set %d:\n%s\n%s", user, charset, row[1:], want)
				}
				w.command(1, "")
				w.over()
			}
		}
	}
	for charset, want := range map[byte]uint16{35: 1231, 54: 1231} {
		w := d.under()
		r := response(loginFlags, "app", []byte(appTok+"\x00"), "appdb", "mysql_clear_password")
		r[8] = charset
		w.write(packet(2, r))
		w.wants(3, want)
	}
	w := d.under()
	w.write(packet(2, response(loginFlags, "gr\xfc\xdfe", []byte(appTok+"\x00"), "", "mysql_clear_password")))
	w.wants(3, 1043)
	if n := repairs.Load(); n != 0 {
		t.Errorf("%d passwords were set again that were right", n)
	}
}

// TestTokensInTheWrongPlace are in no log and no message.
func TestTokensInTheWrongPlace(t *testing.T) {
	var out safeBuffer
	d := open(t, func(c *mysql.Config, _ *door) {
		c.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	token := "eyJhbGciOiJSUzI1NiJ9.misplaced." + strings.Repeat("sig", 100)
	for _, change := range []func(*driver.Config){
		func(c *driver.Config) { c.User = token },
		func(c *driver.Config) { c.User = strings.Repeat("x", 600) + token },
		func(c *driver.Config) { c.DBName = token },
		func(c *driver.Config) { c.User, c.Passwd = token, "" },
	} {
		_, done, err := d.try(change)
		if err == nil {
			done()
			t.Fatal("let in")
		}
		if strings.Contains(err.Error(), "misplaced") {
			t.Error(err)
		}
	}
	w := d.under() // and one who leaves
	w.write(packet(2, response(loginFlags, token, nil, "", "")))
	w.read()
	w.Close()
	eventually(t, "all are told", func() bool { return strings.Count(out.String(), "level=") == 5 })
	if s := out.String(); strings.Contains(s, "misplaced") {
		t.Error(s)
	}
}

// TestRefusalsInAnyState: what is not served is refused in its place whatever
// the session has made of its server.
func TestRefusalsInAnyState(t *testing.T) {
	d := open(t)
	w := d.raw(capMultiStmts)
	for _, sql := range []string{"SET sql_mode = 'ORACLE'", "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET sql_mode = 'MAXDB,IGNORE_SPACE,STRICT_ALL_TABLES'",
		"SET NAMES gbk", "SET character_set_client = swe7", "SET NAMES utf8mb4", "SET max_statement_time = 0.000001", "SET max_error_count = 0, sql_notes = 0, sql_select_limit = 0",
		"SET SESSION TRANSACTION READ ONLY", "XA START 'x'", "XA END 'x'", "XA PREPARE 'x'", "XA ROLLBACK 'x'", "LOCK TABLES mysql.user READ", "DO 1"} {
		w.command(3, sql)
		if _, err := w.answer(); err != nil && !strings.Contains(sql, "LOCK TABLES") {
			t.Logf("%s: %v", sql, err)
		}
		w.command(0x11, "root\x00\x00\x00")
		w.wants(1, 1227)
		w.command(0x0d, "")
		w.wants(1, 1047)
	}
}

func hexOf(s string) string { return fmt.Sprintf("%x", s) }

// safeBuffer is written and read by several.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestPasswordsThatAreTooOld are set again as wrong ones are; what a server
// says of its accounts is not passed on.
func TestPasswordsThatAreTooOld(t *testing.T) {
	var repairs atomic.Int32
	p := startPeer(t, &peer{plugin: "mysql_native_password", script: func(c *peerConn) {
		switch {
		case c.p.saw("otherdb"):
			c.send([]byte("\xff\x14\x04#42000Access denied for user 'app'@'10.9.8.%' to database 'otherdb'"))
		case repairs.Load() == 0:
			c.send([]byte("\xff\x46\x07#HY000Your password has expired. To log in you must change it using a client that supports expired passwords."))
		default:
			c.send(ok0)
			c.serveCommands()
		}
	}})
	d := open(t, func(c *mysql.Config, d *door) {
		d.addrOf = p.addr
		c.Repair = func(context.Context, azID, string) error { repairs.Add(1); return nil }
	})
	d.visit(func(*sql.Conn) {})
	if n := repairs.Load(); n != 1 {
		t.Errorf("set again %d times", n)
	}
	d.warmed()
	_, _, err := d.try(func(c *driver.Config) { c.DBName = "otherdb" })
	if errno(err) != 1044 || strings.Contains(err.Error(), "10.9.8") {
		t.Error(err)
	}
}

// TestAllRolesOfALogin: MySQL can be set to activate more roles at a login than
// a reset does; then no connection is kept.
func TestAllRolesOfALogin(t *testing.T) {
	left := make(chan struct{})
	p := startPeer(t, &peer{plugin: "mysql_native_password", allRoles: true, script: func(c *peerConn) {
		c.send(ok0)
		c.serveCommands()
		close(left)
	}})
	d := open(t, func(_ *mysql.Config, d *door) { d.addrOf = p.addr })
	d.visit(func(*sql.Conn) {})
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the connection was kept")
	}
	if !p.saw("activate_all_roles_on_login") {
		t.Error("the server was not asked")
	}
}

// TestPreparedXA: a connection that MariaDB's reset does not make good, for a
// transaction that was prepared on it, is not given to the next session.
func TestPreparedXA(t *testing.T) {
	d := open(t)
	d.target.Exec(t, "CREATE OR REPLACE TABLE appdb.xa (v TEXT) ENGINE=InnoDB")
	d.visit(func(c *sql.Conn) {
		for _, sql := range []string{"XA START 'left'", "INSERT INTO xa VALUES ('prepared')", "XA END 'left'", "XA PREPARE 'left'"} {
			exec(t, c, sql)
		}
	})
	eventually(t, "the connection is kept or ended", func() bool { return d.Waiting() == 1 || len(d.threads(t)) == 0 })
	d.visit(func(c *sql.Conn) {
		exec(t, c, "INSERT INTO xa VALUES ('of the next')")
		exec(t, c, "XA ROLLBACK 'left'") // it is another's to finish, as after any lost connection
		if got := ask(t, c, "SELECT GROUP_CONCAT(v) FROM xa"); got != "of the next" {
			t.Error(got)
		}
		exec(t, c, "DROP TABLE xa")
	})
}
