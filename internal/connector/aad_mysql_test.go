package connector

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/mysql"
	"github.com/hawser/hawser/internal/guard"
)

// mysqlFront is a real MySQL gateway before the rig's connector. A person's
// token is the person's object id.
type mysqlFront struct {
	*mysql.Gateway
	m    *mysqlRig
	addr string
}

func (m *mysqlRig) front() *mysqlFront {
	m.t.Helper()
	pair, err := tls.X509KeyPair(selfSigned(m.t))
	if err != nil {
		m.t.Fatal(err)
	}
	g, err := mysql.New(mysql.Config{Rules: gateway.Rules{Verify: verifyPerson, Authorize: m.grantFor(MySQL)}, Domain: "mysql.hawser.test",
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Terminate: m.Terminate, Repair: m.Repair, Log: slog.New(slog.DiscardHandler), Clock: m.now})
	if err != nil {
		m.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	m.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		g.Shutdown(ctx)
		<-done
	})
	return &mysqlFront{Gateway: g, m: m, addr: l.Addr().String()}
}

// login opens one session with go-sql-driver.
func (f *mysqlFront) login(oid, user string) (*sql.Conn, error) {
	cfg := driver.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, oid, "tcp", f.addr, f.m.name
	cfg.AllowCleartextPasswords, cfg.MultiStatements = true, true
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	c, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	f.m.t.Cleanup(func() { _ = db.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return db.Conn(ctx)
}

func (f *mysqlFront) enter(oid, user string) *sql.Conn {
	f.m.t.Helper()
	conn, err := f.login(oid, user)
	if err != nil {
		f.m.t.Fatalf("login as %q: %v", user, err)
	}
	return conn
}

// administrator makes a person the server's administrator.
func (m *mysqlRig) administrator(oid, login string) {
	m.t.Helper()
	identity := group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/my1"
	m.must(boss, "PUT", identity, `{"location":"local"}`)
	m.must(boss, "PATCH", m.server, fmt.Sprintf(`{"identity":{"type":"UserAssigned","userAssignedIdentities":{%q:{}}}}`, identity))
	m.must(boss, "PUT", m.server+"/administrators/ActiveDirectory",
		fmt.Sprintf(`{"properties":{"administratorType":"ActiveDirectory","login":%q,"sid":%q,"identityResourceId":%q}}`, login, oid, identity))
}

// says runs a statement and checks the number of its error; 0 for none.
func (m *mysqlRig) says(conn *sql.Conn, want uint16, query string, args ...any) {
	m.t.Helper()
	_, err := conn.ExecContext(m.t.Context(), query, args...)
	var me *driver.MySQLError
	if errors.As(err, &me) && me.Number == want || err == nil && want == 0 {
		return
	}
	m.t.Errorf("%s: %v, want %d", query, err, want)
}

func (m *mysqlRig) assignedTo(role string) bool {
	m.t.Helper()
	id := principalID(az.MustParseID(m.server), role)
	_, there, err := m.st.Resource(context.Background(), assignmentID(id, id.Parent()))
	if err != nil {
		m.t.Fatal(err)
	}
	return there
}

// TestMySQLStatementsOfAz: what az 2.45 says to a MySQL server when it makes a
// connection, one by one and at once, and what it cannot have.
func TestMySQLStatementsOfAz(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		ann, bob, eve := r.user(m.conn("ann")), r.user(m.conn("bob")), r.user(m.conn("eve"))
		upn := func(name string) string { return m.conn(name) + "@hawser.test" }
		m.administrator(ann, m.conn("ann"))
		f := m.front()
		conn := f.enter(ann, m.conn("ann"))
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
		app := r.identity("web")
		o, ok, err := r.dir.Get(t.Context(), app.ObjectID)
		if err != nil || !ok {
			t.Fatal(err)
		}
		role := "aad_" + m.conn("c")
		all := []string{"SET aad_auth_validate_oids_in_tenant = OFF;", "DROP USER IF EXISTS '" + role + "'@'%';", "CREATE AADUSER '" + role + "' IDENTIFIED BY '" + o.AppID + "';",
			"GRANT ALL PRIVILEGES ON `" + m.name + "`.* TO '" + role + "'@'%';", "FLUSH privileges;"}
		for _, together := range []bool{false, true, true} {
			if together {
				m.says(conn, 0, strings.Join(all, " "))
			} else {
				for _, one := range all[:1] {
					m.says(conn, 0, one)
				}
				for _, one := range all[2:] {
					m.says(conn, 0, one)
				}
			}
			m.may(m.enter(app, role), map[string]bool{"INSERT INTO todo (what) VALUES ('x')": true, "SELECT * FROM mysql.user": false, "CREATE USER x": false})
		}
		m.says(conn, 1396, all[2])
		m.says(conn, 0, "CREATE AADUSER IF NOT EXISTS '"+role+"' IDENTIFIED BY '"+o.AppID+"'")
		m.says(conn, 1396, "CREATE AADUSER IF NOT EXISTS '"+role+"' IDENTIFIED BY '"+bob+"'")
		m.says(conn, 1396, "CREATE AADUSER 'nobody'")
		m.says(conn, 1396, "CREATE AADUSER 'x' IDENTIFIED BY '"+az.NewGUID()+"'; FLUSH PRIVILEGES")
		m.says(conn, 1470, "CREATE AADUSER '"+upn("bob")+"' AS 'root'")
		m.says(conn, 1064, "CREATE AADUSER '"+upn("bob")+"' AS 'x'; SELECT 1")
		m.says(conn, 1227, "DROP USER '"+m.f.Owner+"'@'%'")
		m.says(conn, 1396, "DROP USER '"+m.conn("ann")+"'")

		m.says(conn, 0, "CREATE AADUSER '"+upn("bob")+"' AS '"+m.conn("b")+"'")
		m.says(conn, 0, "GRANT SELECT ON `"+m.name+"`.* TO '"+m.conn("b")+"'@'%'")
		session := f.enter(bob, m.conn("b"))
		m.says(session, 0, "SELECT * FROM todo")
		if _, err := f.login(eve, m.conn("b")); err == nil {
			t.Error("somebody else logs in")
		}
		r.group(m.conn("team"), eve)
		stmt, err := conn.PrepareContext(t.Context(), "CREATE AADUSER '"+m.conn("team")+"'")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stmt.ExecContext(t.Context()); err != nil {
			t.Error(err)
		}
		m.says(conn, 0, "GRANT SELECT ON "+m.name+".* TO '"+m.conn("team")+"'@'%'")
		f.enter(eve, m.conn("team"))
		m.says(conn, 0, "DROP USER '"+m.conn("b")+"'@'%', '"+m.conn("team")+"'")
		f.Recheck(context.Background(), m.grantFor(MySQL).Still())
		for _, user := range []string{m.conn("b"), m.conn("team")} {
			if m.there(user) || m.assignedTo(user) {
				t.Errorf("%s is still there", user)
			}
		}
		if err := session.PingContext(t.Context()); err == nil {
			t.Error("a session outlived its user")
		}
		recs := slices.DeleteFunc(r.records(MySQLServerType+"/principals/write", guard.Allowed), func(rec guard.Record) bool { return rec.Who != ann })
		if len(recs) != 1+2*2+1+1+2 {
			t.Errorf("%d records", len(recs))
		}
	})
}

// TestMySQLStatementsOfOthers: who is no administrator says it to the server.
func TestMySQLStatementsOfOthers(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		ann, bob := r.user(m.conn("ann")), r.user(m.conn("bob"))
		m.administrator(ann, m.conn("ann"))
		f := m.front()
		m.says(f.enter(ann, m.conn("ann")), 0, "CREATE AADUSER '"+m.conn("bob")+"@hawser.test' AS '"+m.conn("bob")+"'")
		m.says(f.enter(ann, m.conn("ann")), 0, "GRANT ALL ON `"+m.name+"`.* TO '"+m.conn("bob")+"'@'%'")
		conn := f.enter(bob, m.conn("bob"))
		m.says(conn, 1064, "CREATE AADUSER '"+m.conn("bob")+"@hawser.test' AS 'z'")
		m.says(conn, 1193, "SET aad_auth_validate_oids_in_tenant = OFF")
		m.says(conn, 1227, "FLUSH PRIVILEGES")
		m.says(conn, 1227, "DROP USER '"+m.conn("bob")+"'@'%'")
		b, err := r.Authorize(t.Context(), as(bob), Login{MySQL, "my1", m.name, m.conn("bob")})
		if err != nil || b.Admin {
			t.Fatal(err)
		}
		if instead, ok := r.Statement(t.Context(), as(bob), b, "CREATE AADUSER 'x' IDENTIFIED BY '"+bob+"'"); !ok || !strings.Contains(instead, "MYSQL_ERRNO = 1227") {
			t.Errorf("%q", instead)
		}
	})
}

// TestMySQLStatementsOfTheShell: the real mariadb shell as the administrator.
func TestMySQLStatementsOfTheShell(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		ann := r.user(m.conn("ann"))
		r.user(m.conn("bob"))
		m.administrator(ann, m.conn("ann"))
		f := m.front()
		host, port, _ := net.SplitHostPort(f.addr)
		shell := func(sql string) string {
			cmd := exec.Command("mariadb", "--no-defaults", "-h", host, "-P", port, "-u", m.conn("ann"), "--ssl", "-N", "-e", sql, m.name)
			cmd.Env = append(os.Environ(), "MYSQL_PWD="+ann)
			out, _ := cmd.CombinedOutput()
			return string(out)
		}
		if got := shell("CREATE AADUSER '" + m.conn("bob") + "@hawser.test' AS '" + m.conn("b") + "'; GRANT SELECT ON `" + m.name + "`.* TO '" + m.conn("b") + "'@'%'; FLUSH PRIVILEGES; SELECT 42"); strings.TrimSpace(got) != "42" || !m.there(m.conn("b")) {
			t.Error(got)
		}
		if got := shell("CREATE AADUSER 'no\"body'"); !strings.Contains(got, "ERROR 1396 (HY000)") || !strings.Contains(got, "is not found in the tenant") {
			t.Error(got)
		}
	})
}
