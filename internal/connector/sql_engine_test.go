package connector

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// sqlFixture is a SQL Server of a test with two databases, and its owner.
type sqlFixture struct {
	*sqlBackend
	s *tdstest.Server
	c *tdstest.Catalog
}

const sqlOwnerPassword = "owner's 1st"

func newSQLFixture(t testing.TB, databases ...string) *sqlFixture {
	t.Helper()
	s, c := tdstest.StartCatalog(t, tdstest.Options{}, sqlOwnerPassword, append(databases, "shop", "other")...)
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return &sqlFixture{s: s, c: c, sqlBackend: &sqlBackend{Owner: "sa", Password: az.NewSecret(sqlOwnerPassword),
		realServer: realServer{Host: host, Port: n, SSLMode: sslVerifyFull, CACertificate: string(s.CA()), Database: sqlMaster}}}
}

func (f *sqlFixture) role(name string) roleSpec {
	return roleSpec{Name: name, Marker: az.NewGUID(), Password: newPassword()}
}

// as logs a role in, as the gateway does.
func (f *sqlFixture) as(t testing.TB, r roleSpec, database string) (*sqlConn, error) {
	m, err := f.open(t.Context(), r.Name, r.Password, database)
	if err == nil {
		t.Cleanup(m.Close)
	}
	return m, err
}

func (f *sqlFixture) mustAs(t testing.TB, r roleSpec, database string) *sqlConn {
	t.Helper()
	m, err := f.as(t, r, database)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sqlTries runs each statement and compares whether it was allowed.
func sqlTries(t testing.TB, m *sqlConn, read, write, run, own bool) {
	t.Helper()
	for statement, want := range map[string]bool{"SELECT * FROM things": read, "INSERT INTO things VALUES (1)": write, "EXEC things": run, "CREATE TABLE more (x int)": own} {
		if err := m.run(t.Context(), "try", statement); (err == nil) != want {
			t.Errorf("%s: allowed %v, want %v (%v)", statement, err == nil, want, err)
		}
	}
}

func gone(m *sqlConn) bool { return m.PingContext(context.Background()) != nil }

// TestSQLAccess: a role may what its access says, in its databases only.
func TestSQLAccess(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t, "odd ]'name")
	for _, a := range []Access{Read, Write, Owner} {
		for _, database := range []string{"shop", "odd ]'name"} {
			r := f.role(fmt.Sprintf("o'role] %s %s", a, database[:4]))
			made, err := f.realise(t.Context(), r, grant{Database: database, Access: a}, false)
			if err != nil || !made {
				t.Fatalf("%s: %v, %v", a, made, err)
			}
			m := f.mustAs(t, r, database)
			sqlTries(t, m, true, a != Read, a != Read, a == Owner)
			if _, err := f.as(t, r, "other"); !az.Is(err, az.NotFound) {
				t.Errorf("%s opens another database: %v", a, err)
			}
			if err := m.run(t.Context(), "try", "CREATE LOGIN [x] WITH PASSWORD = N'Passw0rd!', SID = 0x0123456789ABCDEF0123456789ABCDEF"); err == nil {
				t.Errorf("%s makes logins", a)
			}
			for _, more := range []Access{Read, Write, Owner} {
				if err := f.probe(t.Context(), r.Name, r.Password, database, more); (err == nil) != (more.rank() <= a.rank()) {
					t.Errorf("probe of %s for %s: %v", a, more, err)
				}
			}
			if made, err := f.realise(t.Context(), r, grant{Database: database, Access: a}, false); err != nil || made {
				t.Errorf("again: %v, %v", made, err)
			}
			if gone(m) {
				t.Error("a repetition ended a session")
			}
		}
	}
	if err := f.probe(t.Context(), "nobody", newPassword(), "shop", ""); codeOf(err) != "ServerLoginFailed" {
		t.Errorf("probe of nobody: %v", err)
	}
	if err := f.has(t.Context(), "shop"); err != nil {
		t.Error(err)
	}
	for _, missing := range []string{"nothing", "master", ""} {
		if err := f.has(t.Context(), missing); !az.Is(err, az.NotFound) {
			t.Errorf("%q: %v", missing, err)
		}
	}
}

// TestSQLLower: less access ends sessions and takes everything; what the role
// owned is dbo's.
func TestSQLLower(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	r := f.role("app")
	f.give(t, r, "shop", Owner)
	f.give(t, r, "other", Write)
	m := f.mustAs(t, r, "shop")
	if err := m.run(t.Context(), "make a schema", "CREATE SCHEMA [app's]"); err != nil {
		t.Fatal(err)
	}
	f.c.Change("shop", func(d *tdstest.Database) { d.Users["app"].Gave = []string{"guest"} })
	f.c.Change("other", func(d *tdstest.Database) { d.Owner = "app"; delete(d.Users, "app") }) // whoever may control a database may take it
	if made, err := f.realise(t.Context(), r, grant{Database: "shop", Access: Read}, true); err != nil || made {
		t.Fatal(made, err)
	}
	if !gone(m) {
		t.Error("a session outlived what it could do")
	}
	sqlTries(t, f.mustAs(t, r, "shop"), true, false, false, false)
	if _, err := f.as(t, r, "other"); err == nil {
		t.Error("the role still opens its other database")
	}
	f.c.Change("shop", func(d *tdstest.Database) {
		if d.Schemas["app's"] != "dbo" {
			t.Errorf("the schema is %s's", d.Schemas["app's"])
		}
	})
	if made, err := f.shrink(t.Context(), r); err != nil || made {
		t.Fatal(made, err)
	}
	if _, err := f.as(t, r, "shop"); err == nil {
		t.Error("a shrunk role still opens a database")
	}
	if _, err := f.as(t, r, "master"); err != nil {
		t.Errorf("a shrunk role cannot log in: %v", err)
	}
}

func (f *sqlFixture) give(t testing.TB, r roleSpec, database string, a Access) {
	t.Helper()
	if _, err := f.realise(t.Context(), r, grant{Database: database, Access: a}, false); err != nil {
		t.Fatal(err)
	}
}

// TestSQLDrop: a dropped role's sessions, users and login are gone; what is not
// ours stays.
func TestSQLDrop(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	r := f.role("app")
	f.give(t, r, "shop", Write)
	f.give(t, r, "other", Read)
	one, two := f.mustAs(t, r, "shop"), f.mustAs(t, r, "other")
	if err := f.drop(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if !gone(one) || !gone(two) {
		t.Error("a session outlived its role")
	}
	if _, err := f.as(t, r, "master"); codeOf(err) != "ServerLoginFailed" {
		t.Errorf("a dropped login: %v", err)
	}
	for _, d := range []string{"shop", "other"} {
		if _, there := f.c.User(d, "app"); there {
			t.Errorf("the user is still in %s", d)
		}
	}
	if err := f.drop(t.Context(), r); err != nil {
		t.Errorf("a second time: %v", err)
	}

	f.s.SetLogin(tdstest.Login{Name: "app", Password: "somebody's", SID: []byte("somebody's login")})
	other := f.role("app")
	if _, err := f.realise(t.Context(), other, grant{Database: "shop", Access: Read}, false); codeOf(err) != "RoleExists" {
		t.Errorf("another's login was taken over: %v", err)
	}
	if _, err := f.realise(t.Context(), other, grant{Database: "shop", Access: Read}, true); codeOf(err) != "RoleExists" {
		t.Errorf("another's login was lowered: %v", err)
	}
	if err := f.drop(t.Context(), other); err != nil {
		t.Error(err)
	}
	if l, there := f.s.Login("app"); !there || l.Disabled || l.Password != "somebody's" {
		t.Errorf("another's login is %+v", l)
	}
	f.c.Change("shop", func(d *tdstest.Database) {
		d.Users["web"] = &tdstest.User{Name: "web", SID: "0x00", Roles: map[string]bool{"db_owner": true}, Grants: map[string]bool{}}
	})
	if _, err := f.realise(t.Context(), f.role("web"), grant{Database: "shop", Access: Read}, false); codeOf(err) != "RoleExists" {
		t.Errorf("another's user was taken over: %v", err)
	}
}

// TestSQLPassword: a new password, and sessions that go on.
func TestSQLPassword(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	r := f.role("app")
	f.give(t, r, "shop", Read)
	open, old := f.mustAs(t, r, "shop"), r
	r.Password = newPassword()
	if made, err := f.setPassword(t.Context(), r); err != nil || made {
		t.Fatal(made, err)
	}
	if _, err := f.as(t, old, "shop"); err == nil {
		t.Error("the old password is good")
	}
	sqlTries(t, f.mustAs(t, r, "shop"), true, false, false, false)
	sqlTries(t, open, true, false, false, false)
	if err := f.master1(t).run(t.Context(), "close", sqlDisable("app")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.as(t, r, "shop"); err == nil {
		t.Fatal("a closed login is open")
	}
	if _, err := f.setPassword(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.mustAs(t, r, "shop")
	f.s.DropLogin("app")
	if made, err := f.setPassword(t.Context(), r); err != nil || !made {
		t.Errorf("a lost login: %v, %v", made, err)
	}
	sqlTries(t, f.mustAs(t, r, "shop"), true, false, false, false) // its user knew it by its SID
}

func (f *sqlFixture) master1(t testing.TB) *sqlConn {
	t.Helper()
	m, err := f.master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// TestSQLTerminate: one session of a role, and nobody else's.
func TestSQLTerminate(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	r, other := f.role("app"), f.role("web")
	f.give(t, r, "shop", Read)
	f.give(t, other, "shop", Read)
	mine, theirs := f.mustAs(t, r, "shop"), f.mustAs(t, other, "shop")
	id := func(m *sqlConn) uint64 {
		var n int64
		if err := m.QueryRowContext(t.Context(), "SELECT @@SPID").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return uint64(n)
	}
	spid := id(mine)
	if err := f.terminate(t.Context(), "app", id(theirs)); err != nil || gone(theirs) {
		t.Errorf("another's session was ended: %v", err)
	}
	if err := f.terminate(t.Context(), "app", spid); err != nil || !gone(mine) {
		t.Errorf("the session goes on: %v", err)
	}
	if err := f.terminate(t.Context(), "app", spid); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestSQLAdministrator: it owns every database, but those by which it could own
// the server.
func TestSQLAdministrator(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t, "trusted")
	f.c.Change("trusted", func(d *tdstest.Database) { d.Trustworthy = true })
	r := f.role("dba")
	r.Admin = true
	if made, err := f.realise(t.Context(), r, grant{}, false); err != nil || !made {
		t.Fatal(made, err)
	}
	for _, d := range []string{"shop", "other"} {
		sqlTries(t, f.mustAs(t, r, d), true, true, true, true)
	}
	if _, err := f.as(t, r, "trusted"); err == nil {
		t.Error("the administrator is in a trustworthy database")
	}
	if _, err := f.realise(t.Context(), f.role("app"), grant{Database: "trusted", Access: Owner}, false); codeOf(err) != "DatabaseTrusted" {
		t.Errorf("a trustworthy database was given away: %v", err)
	}
	f.give(t, f.role("app"), "trusted", Read)
	if err := f.drop(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, there := f.c.User("shop", "dba"); there {
		t.Error("the administrator's user is still there")
	}
}

// TestSQLAzure: Azure SQL Database knows SIDs of its own and no options.
func TestSQLAzure(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	f.c.Edition, f.c.Version = 5, 12
	r := f.role("app")
	f.give(t, r, "shop", Write)
	if l, _ := f.s.Login("app"); len(l.SID) != 32 {
		t.Errorf("the SID is %x", l.SID)
	}
	sqlTries(t, f.mustAs(t, r, "shop"), true, true, true, false)
	if _, err := f.setPassword(t.Context(), r); err != nil {
		t.Error(err)
	}
	if err := f.drop(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// TestSQLPreview: a dry run tells every statement, no secret, and changes
// nothing.
func TestSQLPreview(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	r := f.role("app")
	statements, _, err := f.preview(t.Context(), r, grant{Database: "shop", Access: Write})
	if err != nil || len(statements) != 5 || strings.Contains(strings.Join(statements, "\n"), r.Password.Reveal()) {
		t.Errorf("%q, %v", statements, err)
	}
	if _, there := f.s.Login("app"); there {
		t.Error("a dry run made the login")
	}
	f.give(t, r, "shop", Write)
	again, _, err := f.preview(t.Context(), r, grant{Database: "shop", Access: Write})
	if err != nil || !slices.Equal(again, statements[2:]) {
		t.Errorf("%q, %v", again, err)
	}
}

// TestSQLAdoption: what a server and its owner must be.
func TestSQLAdoption(t *testing.T) {
	t.Parallel()
	f := newSQLFixture(t)
	f.s.SetLogin(tdstest.Login{Name: "few", Password: "Passw0rd!", SID: []byte("few few few few ")})
	f.c.Rights = map[string][]string{"few": {"ALTER ANY LOGIN", "VIEW SERVER STATE"}}
	for _, tt := range []struct {
		change func(*sqlBackend)
		code   string
	}{
		{func(*sqlBackend) {}, ""},
		{func(b *sqlBackend) { b.SSLMode = sslRequire; b.CACertificate = "" }, ""},
		{func(b *sqlBackend) { b.SSLMode = sslPrefer; b.CACertificate = "" }, ""},
		{func(b *sqlBackend) { b.Encrypt = encryptStrict }, ""},
		{func(b *sqlBackend) { b.Password = az.NewSecret("wrong") }, "ServerLoginFailed"},
		{func(b *sqlBackend) { b.Database = "nothing" }, "DatabaseNotFound"},
		{func(b *sqlBackend) { b.CACertificate = "" }, "ServerCertificateNotTrusted"},
		{func(b *sqlBackend) { b.Host = "hawser.invalid" }, "ServerUnreachable"},
		{func(b *sqlBackend) { b.Owner, b.Password = "few", az.NewSecret("Passw0rd!") }, "OwnerLacksPrivilege"},
		{func(b *sqlBackend) { b.Port = 1 }, "ServerUnreachable"},
	} {
		b := *f.sqlBackend
		tt.change(&b)
		if err := b.adopt(t.Context()); codeOf(err) != tt.code && (err != nil || tt.code != "") {
			t.Errorf("want %q, got %q: %v", tt.code, codeOf(err), err)
		} else if err == nil && b.Version != "SQL Server 16" {
			t.Errorf("the version is %q", b.Version)
		}
	}
	plain, c := tdstest.StartCatalog(t, tdstest.Options{Encryption: tdstest.NotSupported}, sqlOwnerPassword)
	c.Version = 12
	b := *f.sqlBackend
	_, port, _ := net.SplitHostPort(plain.Addr())
	b.Port, _ = strconv.Atoi(port)
	if err := b.adopt(t.Context()); codeOf(err) != "ServerWithoutTLS" {
		t.Errorf("a server without TLS: %v", err)
	}
	b.SSLMode, b.CACertificate = sslPrefer, ""
	if err := b.adopt(t.Context()); codeOf(err) != "ServerTooOld" || b.SSLMode != sslDisable {
		t.Errorf("an old server without TLS: %s, %v", b.SSLMode, err)
	}
}
