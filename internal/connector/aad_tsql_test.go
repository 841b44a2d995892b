package connector

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/guard"
)

// grantFor is what the server makes of Authorize's answer.
func (r *rig) grantFor(kind Kind) gateway.Authorize {
	return func(ctx context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
		ask := r.Authorize
		if want.Again {
			ask = r.Recheck
		}
		b, err := ask(ctx, who, Login{kind, want.Server, want.Database, want.User})
		if err != nil {
			return gateway.Grant{}, err
		}
		conf, err := gateway.BackendTLS(b.TLS.Mode, b.TLS.Host, b.TLS.Roots)
		if err != nil {
			return gateway.Grant{}, err
		}
		g := gateway.Grant{Server: b.Server, Addr: b.Addr, TLS: conf, User: b.User, Password: b.Password, Database: b.Database}
		if b.Admin {
			g.Statement = func(ctx context.Context, sql string) (string, bool) { return r.Statement(ctx, who, b, sql) }
		}
		return g, nil
	}
}

// tsqlRig is a rig with a SQL Server attached as sq1, whose administrator is a
// person called ann.
type tsqlRig struct {
	*rig
	f      *sqlFixture
	server string
	ann    string
	addr   string // of the gateway
	gate   *tds.Gateway
}

func withTSQL(r *rig) *tsqlRig {
	r.t.Helper()
	m := &tsqlRig{rig: r, f: newSQLFixture(r.t), server: group + "/providers/Microsoft.Sql/servers/sq1", ann: r.user("ann")}
	r.must(boss, "PUT", m.server, fmt.Sprintf(`{"location":"local","properties":{"administratorLogin":%q,"administratorLoginPassword":%q,"hawser":{"host":%q,"port":%d,"sslMode":"verify-full","caCertificate":%q}}}`,
		m.f.Owner, m.f.Password.Reveal(), m.f.Host, m.f.Port, m.f.CACertificate))
	r.must(boss, "PUT", m.server+"/administrators/ActiveDirectory", fmt.Sprintf(`{"properties":{"administratorType":"ActiveDirectory","login":"ann@hawser.test","sid":%q}}`, m.ann))
	pair, err := tls.X509KeyPair(selfSigned(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	m.gate, err = tds.New(tds.Config{Rules: gateway.Rules{Verify: verifyPerson, Authorize: m.grantFor(SQLServer)}, Domain: "database.hawser.test", STSURL: "https://login.hawser.test/t",
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Terminate: m.Terminate, Repair: m.Repair, Log: slog.New(slog.DiscardHandler), Clock: m.now})
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	m.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- m.gate.Serve(l) }()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		m.gate.Shutdown(ctx)
		<-done
	})
	return m
}

// login opens one session with go-mssqldb and a token.
func (m *tsqlRig) login(oid, database string) (*sql.Conn, error) {
	_, port, _ := net.SplitHostPort(m.addr)
	conf, err := msdsn.Parse(fmt.Sprintf("server=127.0.0.1;port=%s;database=%s;encrypt=true;trustservercertificate=true;dial timeout=10", port, database))
	if err != nil {
		return nil, err
	}
	c, err := mssql.NewSecurityTokenConnector(conf, func(context.Context) (string, error) { return oid, nil })
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	m.t.Cleanup(func() { _ = db.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return db.Conn(ctx)
}

func (m *tsqlRig) enter(oid, database string) *sql.Conn {
	m.t.Helper()
	conn, err := m.login(oid, database)
	if err != nil {
		m.t.Fatalf("login to %s: %v", database, err)
	}
	return conn
}

// says runs a statement and checks the number of its error; 0 for none.
func (m *tsqlRig) says(conn *sql.Conn, want int32, query string) string {
	m.t.Helper()
	_, err := conn.ExecContext(m.t.Context(), query)
	var me mssql.Error
	switch {
	case errors.As(err, &me) && me.Number == want:
		return me.Message
	case err != nil || want != 0:
		m.t.Errorf("%s: %v, want %d", query, err, want)
	}
	return ""
}

// left reports what is left of a role.
func (m *tsqlRig) left(role string) string {
	m.t.Helper()
	id := principalID(az.MustParseID(m.server), role)
	_, mapped, err := m.st.Resource(context.Background(), id)
	_, right, err2 := m.st.Resource(context.Background(), assignmentID(id, id.Parent()))
	if err != nil || err2 != nil {
		m.t.Fatal(err, err2)
	}
	_, login := m.f.s.Login(role)
	return fmt.Sprintf("login=%t mapped=%t right=%t", login, mapped, right)
}

const sqlNothing, sqlWhole = "login=false mapped=false right=false", "login=true mapped=true right=true"

// TestTSQLStatements: users of the directory are made and dropped from inside a
// database, and get in with their tokens.
func TestTSQLStatements(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withTSQL(r)
		bob, eve := r.user("bob"), r.user("eve")
		team, twin := r.group("team", eve), r.group("twin")
		r.group("twin")
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
		app := r.identity("web")
		shop, other := m.enter(m.ann, "shop"), m.enter(m.ann, "other")

		m.says(shop, 0, `CREATE USER "web" FROM EXTERNAL PROVIDER;`)
		m.enter(app.ObjectID, "shop")
		if _, err := m.login(app.ObjectID, "other"); err == nil {
			t.Error("a user of one database opens another")
		}
		m.says(shop, 15023, `CREATE USER [web] FROM EXTERNAL PROVIDER`)
		m.says(other, 0, `CREATE USER [web] FROM EXTERNAL PROVIDER`)
		m.enter(app.ObjectID, "other")
		m.says(shop, 0, `DROP USER [WEB]`)
		if got := m.left("web"); got != sqlWhole {
			t.Errorf("a user of another database has %s", got)
		}
		m.enter(app.ObjectID, "other")
		m.says(other, 0, `DROP USER IF EXISTS [web]`)
		if got := m.left("web"); got != sqlNothing {
			t.Errorf("a dropped user has %s", got)
		}
		if _, err := m.login(app.ObjectID, "other"); err == nil {
			t.Error("a dropped user logs in")
		}

		m.says(shop, 0, `CREATE USER [bob@hawser.test] FROM EXTERNAL PROVIDER`)
		m.says(shop, 0, `CREATE USER [the team] FROM EXTERNAL PROVIDER WITH OBJECT_ID = '`+team+`'`)
		session := m.enter(bob, "shop")
		m.enter(eve, "shop")
		m.says(session, 102, `CREATE USER [eve@hawser.test] FROM EXTERNAL PROVIDER`) // no administrator: the server's to refuse
		m.says(session, 15247, `DROP USER [the team]`)
		for sql, number := range map[string]int32{`CREATE USER [nobody] FROM EXTERNAL PROVIDER`: 33130, `CREATE USER [twin] FROM EXTERNAL PROVIDER`: 33131,
			`CREATE USER [x] FROM EXTERNAL PROVIDER WITH OBJECT_ID='` + az.NewGUID() + `'`: 33130, `CREATE USER [x] WITH SID = ` + sidBytes + `, TYPE = E`: 33130,
			`CREATE USER [x] WITH SID = ` + sidOf(twin) + `, TYPE = E`: 33130, `CREATE USER [the team] WITH SID = ` + sidOf(bob) + `, TYPE = E`: 15023} {
			if msg := m.says(shop, number, sql); number == 33130 && !strings.HasPrefix(msg, "Principal '") {
				t.Error(msg)
			}
		}
		o, ok, err := r.dir.Get(t.Context(), app.ObjectID)
		if err != nil || !ok {
			t.Fatal(err)
		}
		m.says(shop, 0, `CREATE USER [an app] WITH SID = `+sidOf(o.AppID)+`, TYPE = E`)
		m.enter(app.ObjectID, "shop")
		m.says(shop, 0, `CREATE USER [two] WITH TYPE = X, SID = `+sidOf(twin))

		m.says(shop, 0, `CREATE LOGIN [eve@hawser.test] FROM EXTERNAL PROVIDER`)
		if got := m.left("eve@hawser.test"); got != sqlWhole {
			t.Errorf("a login has %s", got)
		}
		m.says(shop, 0, `DROP LOGIN [eve@hawser.test]`)
		m.says(shop, 0, `DROP USER [bob@hawser.test]`)
		for _, role := range []string{"eve@hawser.test", "bob@hawser.test"} {
			if got := m.left(role); got != sqlNothing {
				t.Errorf("%s has %s", role, got)
			}
		}
		m.gate.Recheck(context.Background(), m.grantFor(SQLServer).Still())
		if session.PingContext(t.Context()) == nil {
			t.Error("a session outlived its user")
		}
		n := 0
		for _, rec := range r.records(SQLServerType+"/principals/write", guard.Allowed) {
			if rec.Who == m.ann {
				n++
			}
		}
		if n != 3+1+2+2+1+1+1+1 {
			t.Errorf("%d records", n)
		}
	})
}

// sidOf is a GUID as T-SQL writes it.
func sidOf(guid string) string {
	g := strings.ReplaceAll(guid, "-", "")
	out := "0x"
	for _, i := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		out += g[2*i : 2*i+2]
	}
	return out
}

// TestTSQLInBatches: around the statements for the plane nothing of a batch is
// changed.
func TestTSQLInBatches(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withTSQL(r)
		bob := r.user("bob")
		at := Backend{Server: az.MustParseID(m.server), Database: "shop", User: "ann@hawser.test"}
		who := as(m.ann)
		batch := "SET XACT_ABORT ON; /* CREATE USER [a] FROM EXTERNAL PROVIDER */\nIF NOT EXISTS (SELECT 1 FROM sys.database_principals WHERE name = N'bob''s')\n%s\nELSE PRINT 'x'\nALTER ROLE db_datareader ADD MEMBER [bob's];%s"
		got, ok := r.Statement(t.Context(), who, at, fmt.Sprintf(batch, "CREATE USER [bob's] FROM EXTERNAL PROVIDER WITH OBJECT_ID='"+bob+"', DEFAULT_SCHEMA=[s]", "create user nobody from external provider"))
		want := fmt.Sprintf(batch, "CREATE USER [bob's] FOR LOGIN [bob's] WITH DEFAULT_SCHEMA = [s]", "RAISERROR(33130, 16, 1, N'nobody')")
		if !ok || got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := m.left("bob's"); got != sqlWhole {
			t.Error(got)
		}
		got, ok = r.Statement(t.Context(), who, at, "BEGIN TRAN DROP USER [other's] DROP USER IF EXISTS [bob's] DROP LOGIN [bob's] COMMIT")
		if want := "BEGIN TRAN DROP USER [other's] DROP USER IF EXISTS [bob's] DROP LOGIN [bob's] COMMIT"; !ok || got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := m.left("bob's"); got != sqlNothing {
			t.Error(got)
		}
		if got, ok := r.Statement(t.Context(), who, at, "DROP USER [other's]"); ok {
			t.Errorf("a user of the server's own: %q", got)
		}
		if got, ok := r.Statement(t.Context(), as(bob), at, "CREATE USER [x] FROM EXTERNAL PROVIDER"); !ok || got != "RAISERROR(15247, 16, 1)" {
			t.Errorf("who is no administrator gets %q", got)
		}
	})
}

// TestTSQLKeepsSecondFactors: a second factor that the plane's people asked for
// is not the database's to let go of.
func TestTSQLKeepsSecondFactors(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withTSQL(r)
		const role = "eve@hawser.test"
		id := principalID(az.MustParseID(m.server), role)
		r.must(boss, "PUT", id.String(), fmt.Sprintf(`{"properties":{"roleName":%q,"principalId":%q,"database":"shop","isMfa":true}}`, role, r.user("eve")))
		asked := func(when string) {
			t.Helper()
			if p, err := r.principals.Load(t.Context(), id); err != nil || p == nil || !p.Properties.MFA {
				t.Errorf("%s the role is for tokens without a second factor: %v", when, err)
			}
		}
		shop, other := m.enter(m.ann, "shop"), m.enter(m.ann, "other")
		m.says(other, 0, "CREATE USER ["+role+"] FROM EXTERNAL PROVIDER")
		asked("a user of one database more:")
		before := len(r.records(familyOf(id).writePrincipal().Name, guard.Allowed))
		m.says(shop, 15023, "CREATE USER ["+role+"] FROM EXTERNAL PROVIDER") // the server's, by the connection
		m.says(shop, 0, "DROP USER ["+role+"]")
		if n := len(r.records(familyOf(id).writePrincipal().Name, guard.Allowed)); n != before+2 {
			t.Errorf("%d records of two statements", n-before)
		}
		m.says(other, 0, "DROP USER ["+role+"]")
		asked("a user of no database but by the mapping:")
	})
}
