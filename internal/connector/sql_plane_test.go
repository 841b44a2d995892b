package connector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
	"github.com/hawser/hawser/internal/guard"
)

const sqlServers = group + "/providers/Microsoft.Sql/servers/"

// sqlRig is a plane and a SQL Server that is one of its servers.
type sqlRig struct {
	*rig
	*sqlFixture
	server string
}

func (r *rig) withSQL(name string) *sqlRig {
	r.t.Helper()
	out := &sqlRig{rig: r, sqlFixture: newSQLFixture(r.t), server: sqlServers + name}
	r.must(boss, "PUT", out.server, out.body("localhost"))
	return out
}

func (r *sqlRig) body(host string) string {
	return fmt.Sprintf(`{"location":"local","properties":{"hawser":{"url":"sqlserver://sa:%s@%s:%d?database=master&encrypt=strict","caCertificate":%q}}}`,
		"owner%27s%201st", host, r.Port, r.CACertificate)
}

// enter logs somebody in as the gateway does: he names no role.
func (r *sqlRig) enter(who az.Principal, database string) (*sqlConn, error) {
	b, err := r.Authorize(r.t.Context(), who, Login{Kind: SQLServer, Server: az.MustParseID(r.server).Name(), Database: database})
	if err != nil {
		return nil, err
	}
	if !b.TLS.Strict || b.TLS.Mode != sslVerifyFull {
		r.t.Errorf("the backend is reached by %+v", b.TLS)
	}
	m, err := r.open(r.t.Context(), b.User, b.Password, database)
	if err == nil {
		r.t.Cleanup(m.Close)
	}
	return m, err
}

func (r *sqlRig) mustEnter(who az.Principal, database string) *sqlConn {
	r.t.Helper()
	m, err := r.enter(who, database)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// TestSQLPlane: a server from its adoption to the end of its last role.
func TestSQLPlane(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *rig) {
		r := p.withSQL("sql1")
		shown := fmt.Sprint(p.must(reader, "GET", r.server, ""))
		if strings.Contains(shown, sqlOwnerPassword) || !strings.Contains(shown, "SQL Server 16") || !strings.Contains(shown, "strict") {
			t.Errorf("the server is %s", shown)
		}
		p.refused(boss, "PUT", r.server, strings.Replace(r.body("127.0.0.1"), "owner%27s%201st", "wrong", 1), 400, "ServerLoginFailed")
		p.refused(boss, "PUT", r.server, strings.Replace(r.body("127.0.0.1"), ":owner%27s%201st", "", 1), 400, "PasswordNeeded")

		databases := r.server + "/databases/"
		if r.c.HasDatabase("made") {
			t.Fatal("the database is there already")
		}
		p.must(boss, "PUT", databases+"made", `{"location":"local","properties":{}}`)
		if !r.c.HasDatabase("made") {
			t.Error("the database was not made")
		}
		p.refused(boss, "PUT", databases+"odd", `{"location":"local","properties":{"collation":"X'; DROP DATABASE shop"}}`, 400, "InvalidParameterValue")
		p.must(boss, "PUT", databases+"shop", `{"location":"local","properties":{}}`) // it was there

		ann := p.user("ann")
		mapping := func(database string, a Access) string {
			return fmt.Sprintf(`{"properties":{"roleName":"ann","principalId":%q,"database":%q,"access":%q}}`, ann, database, a)
		}
		p.must(boss, "PUT", r.server+"/principals/ann", mapping("shop", Write))
		if _, err := r.enter(as(ann), "shop"); !az.Is(err, az.Forbidden) {
			t.Errorf("a role without the right to log in: %v", err)
		}
		p.grantRole(guard.RoleSQLLogin, ann, r.server)
		sqlTries(t, r.mustEnter(as(ann), "shop"), true, true, true, false)
		if _, err := r.enter(as(boss), "shop"); !az.Is(err, az.Forbidden) {
			t.Errorf("somebody without a role: %v", err)
		}

		open := r.mustEnter(as(ann), "shop")
		p.offset.Add(int64(DefaultRotateAfter + time.Hour))
		before, _ := r.s.Login("ann")
		if err := p.RotateBackendPasswords(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after, _ := r.s.Login("ann"); after.Password == before.Password || gone(open) {
			t.Error("the password is the old one, or its change ended a session")
		}
		r.mustEnter(as(ann), "shop")
		r.s.SetLogin(tdstest.Login{Name: "ann", Password: "changed by somebody", SID: before.SID})
		if _, err := r.enter(as(ann), "shop"); codeOf(err) != "ServerLoginFailed" {
			t.Errorf("a changed password: %v", err)
		}
		if err := p.Repair(t.Context(), az.MustParseID(r.server), "ann"); err != nil {
			t.Fatal(err)
		}
		open = r.mustEnter(as(ann), "shop")

		p.must(boss, "PUT", r.server+"/principals/ann", mapping("shop", Read))
		if !gone(open) {
			t.Error("a session outlived what it could do")
		}
		sqlTries(t, r.mustEnter(as(ann), "shop"), true, false, false, false)
		p.must(boss, "DELETE", r.server+"/principals/ann", "")
		if _, there := r.s.Login("ann"); there {
			t.Error("a deleted role's login is still there")
		}
		inIt, err := r.connect(t.Context(), "made")
		if err != nil {
			t.Fatal(err)
		}
		defer inIt.Close()
		p.must(boss, "DELETE", databases+"made", "")
		p.must(boss, "DELETE", databases+"shop", "")
		if r.c.HasDatabase("made") || !r.c.HasDatabase("shop") {
			t.Error("a database went that was not the plane's, or the plane's stayed")
		}
	})
}

// TestSQLServerAdministrator: the Entra administrator has a role that owns the
// databases, those that come later too, until another takes his place.
func TestSQLServerAdministrator(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		r := p.withSQL("sql1")
		ann, bob := p.user("ann"), p.user("bob")
		admin := r.server + "/administrators/ActiveDirectory"
		body := func(login, oid string) string {
			return fmt.Sprintf(`{"properties":{"administratorType":"ActiveDirectory","login":%q,"sid":%q}}`, login, oid)
		}
		p.refused(boss, "PUT", admin, body("sa", ann), 400, "InvalidName")
		reply := p.must(boss, "PUT", admin, body("ann@hawser.test", ann))
		if text(reply, "properties", "login") != "ann@hawser.test" || strings.Contains(fmt.Sprint(reply), "hawser"+"Role") {
			t.Errorf("the administrator is %v", reply)
		}
		sqlTries(t, r.mustEnter(as(ann), "shop"), true, true, true, true)
		p.must(boss, "PUT", r.server+"/databases/later", `{"location":"local","properties":{}}`)
		sqlTries(t, r.mustEnter(as(ann), "later"), true, true, true, true)
		b, err := p.Authorize(t.Context(), as(ann), Login{Kind: SQLServer, Server: "sql1", Database: "shop"})
		if err != nil || !b.Admin || b.User != "ann@hawser.test" {
			t.Errorf("%+v, %v", b, err)
		}
		p.must(boss, "PUT", admin, body("bob@hawser.test", bob))
		if _, err := r.enter(as(ann), "shop"); !az.Is(err, az.Forbidden) {
			t.Errorf("an administrator of before: %v", err)
		}
		if _, there := r.s.Login("ann@hawser.test"); there {
			t.Error("the login of an administrator of before is still there")
		}
		r.mustEnter(as(bob), "shop")
		p.must(boss, "DELETE", admin, "")
		if _, err := r.enter(as(bob), "shop"); !az.Is(err, az.Forbidden) {
			t.Errorf("a deleted administrator: %v", err)
		}
	})
}
