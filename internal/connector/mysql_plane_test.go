package connector

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// mariaPlane is a plane with a real MariaDB attached as my-one.
type mariaPlane struct {
	*rig
	m      *mariaFixture
	server string
}

func newMariaPlane(t testing.TB, r *rig, s *dbtest.Server) *mariaPlane {
	t.Helper()
	p := &mariaPlane{r, newMaria(t, s), group + "/providers/Microsoft.DBforMySQL/flexibleServers/my-one"}
	r.must(boss, "PUT", p.server, p.body(p.m.Owner, p.m.Password.Reveal(), "prefer", ""))
	return p
}

func (p *mariaPlane) body(owner, password, mode, more string) string {
	return fmt.Sprintf(`{"location":"local","properties":{"administratorLogin":%q,"administratorLoginPassword":%q,"hawser":{"host":%q,"port":%d,"sslMode":%q%s}}}`,
		owner, password, p.m.Host, p.m.Port, mode, more)
}

func (p *mariaPlane) login(user string) Login { return Login{MySQL, "my-one", p.m.db, user} }

// name is that of a role: accounts are of the whole real server.
func (p *mariaPlane) name(s string) string { return s + "_" + p.m.db }

// mapRole maps a role to a principal, as a person does.
func (p *mariaPlane) mapRole(role, oid string, a Access) {
	p.t.Helper()
	p.must(boss, "PUT", p.server+"/principals/"+role, fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q,"access":%q}}`, oid, p.m.db, a))
}

// comeIn logs in at the real server with what Authorize gives.
func (p *mariaPlane) comeIn(who az.Principal, user string) (*mysqlConn, error) {
	b, err := p.Authorize(p.t.Context(), who, p.login(user))
	if err != nil {
		return nil, err
	}
	m, err := p.m.open(p.t.Context(), b.User, b.Password, b.Database)
	if err == nil {
		p.t.Cleanup(m.Close)
	}
	return m, err
}

func (p *mariaPlane) mustComeIn(who az.Principal, user string) *mysqlConn {
	p.t.Helper()
	m, err := p.comeIn(who, user)
	if err != nil {
		p.t.Fatalf("login as %q: %v", user, err)
	}
	return m
}

func TestMySQLWhoMayLogIn(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		p := newMariaPlane(t, r, dbtest.MariaDB(t))
		ann, bob, eve := r.user("ann"), r.user("bob"), r.user("eve")
		team := r.group("team", bob)
		mine, theirs := p.name("mine"), p.name("theirs")
		p.mapRole(mine, ann, Write)
		p.mapRole(theirs, team, Read)
		annMay := r.grantRole(guard.RoleMySQLLogin, ann, p.server)
		r.grantRole(guard.RoleMySQLLogin, team, p.server)
		r.grantRole(guard.RoleMySQLLogin, eve, subscription)
		r.grantRole(guard.RolePostgresLogin, r.user("dan"), subscription)
		person := func(oid string) az.Principal { q := as(oid); q.Kind = az.User; return q }

		p.mustComeIn(person(ann), mine).attempts(t, true, "INSERT INTO todo (what) VALUES ('x')")
		p.mustComeIn(person(bob), theirs).attempts(t, false, "INSERT INTO todo (what) VALUES ('x')")
		b, err := r.Authorize(t.Context(), person(ann), Login{MySQL, "MY-ONE", "", mine})
		if err != nil || b.Database != "" || b.TLS.Mode != sslRequire || b.Admin || b.User != mine {
			t.Errorf("no database named: %+v %v", b, err)
		}
		if b, err := r.Authorize(t.Context(), person(ann), Login{MySQL, "", "", mine}); err != nil || b.Server.Name() != "my-one" {
			t.Errorf("the only server of its kind, unnamed: %v", err)
		}
		refused := func(what string, who az.Principal, want Login, code string) {
			t.Helper()
			before := len(r.records(guard.ActionMySQLLogin, guard.Refused))
			_, err := r.Authorize(t.Context(), who, want)
			if code == "ServerNotFound" {
				if !az.Is(err, az.Invalid) {
					t.Errorf("%s: %v", what, err)
				}
				return
			}
			if !az.Is(err, az.Forbidden) || !strings.Contains(err.Error(), code) {
				t.Errorf("%s: %v", what, err)
			}
			if len(r.records(guard.ActionMySQLLogin, guard.Refused)) != before+1 {
				t.Errorf("%s: the refusal was not recorded", what)
			}
		}
		refused("somebody else's role", person(eve), p.login(mine), "RoleNotMapped")
		refused("a group's role", person(eve), p.login(theirs), "RoleNotMapped")
		refused("an app's token for a person's role", as(eve), p.login(mine), gateway.WrongTokenType)
		refused("the owner's own login", person(ann), p.login(p.m.Owner), "RoleNotMapped")
		refused("root", person(ann), p.login("root"), "RoleNotMapped")
		refused("another case", person(ann), p.login(strings.ToUpper(mine)), "RoleNotMapped")
		refused("nobody's", person(ann), p.login("nobody"), "RoleNotMapped")
		refused("no user at all", person(ann), p.login(""), "RoleNotMapped")
		refused("an odd one", person(ann), p.login("a'/*\x00"), "RoleNotMapped")
		refused("no such server", person(ann), Login{MySQL, "my2", "", mine}, "ServerNotFound")
		refused("a server of another kind", person(ann), Login{MySQL, "pg1", "", mine}, "ServerNotFound")
		refused("its name at another kind's gateway", person(ann), Login{PostgreSQL, "my-one", "", mine}, "ServerNotFound")
		refused("the mark of a role", person(ann), p.login(roleSpec{Marker: r.marker(az.MustParseID(p.server), mine)}.mysqlMark()), "RoleNotMapped")

		r.write(func(tx *store.Tx) error { _, err := tx.DeleteResource(annMay); return err })
		if _, err := r.Recheck(t.Context(), person(ann), p.login(mine)); !az.Is(err, az.Forbidden) {
			t.Errorf("an open session after the right was taken: %v", err)
		}
		refused("the right was taken", person(ann), p.login(mine), "AuthorizationFailed")
		r.grantRole(guard.RolePostgresLogin, ann, p.server)
		refused("the right to another kind's logins", person(ann), p.login(mine), "AuthorizationFailed")
		r.grantRole(guard.RoleMySQLLogin, ann, p.server)
		p.mustComeIn(person(ann), mine)
		r.write(func(tx *store.Tx) error {
			o, _, err := r.dir.Get(t.Context(), ann)
			if err != nil {
				return err
			}
			off := *o
			off.Enabled = false
			return r.dir.Update(tx, &off)
		})
		refused("disabled", person(ann), p.login(mine), "")
		r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(team, bob); return err })
		refused("no member any more", person(bob), p.login(theirs), "RoleNotMapped")
	})
}

func TestMySQLRolesLiveAndDie(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		p := newMariaPlane(t, r, dbtest.MariaDB(t))
		ann := as(r.user("ann"))
		r.grantRole(guard.RoleMySQLLogin, ann.ObjectID, p.server)
		user := p.name("ann")
		path := p.server + "/principals/" + user
		id := az.MustParseID(path)
		p.mapRole(user, ann.ObjectID, Write)
		session := p.mustComeIn(ann, user)
		before, err := r.principals.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}

		r.refused(reader, "POST", path+"/rotate", "", 403, "AuthorizationFailed")
		r.must(contributor, "POST", path+"/rotate", "")
		after, _ := r.principals.Load(t.Context(), id)
		if after.Secrets[passwordSecret].Reveal() == before.Secrets[passwordSecret].Reveal() {
			t.Error("rotate has changed nothing")
		}
		session.attempts(t, true, "INSERT INTO todo (what) VALUES ('goes on')")
		p.mustComeIn(ann, user)

		r.offset.Store(int64(DefaultRotateAfter) * 2)
		if err := r.RotateBackendPasswords(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now, _ := r.principals.Load(t.Context(), id); now.Secrets[passwordSecret].Reveal() == after.Secrets[passwordSecret].Reveal() {
			t.Error("the schedule has changed nothing")
		}
		session.attempts(t, true, "SET PASSWORD = PASSWORD('its own')")
		if _, err := p.comeIn(ann, user); err == nil {
			t.Fatal("the test proves nothing")
		}
		if err := r.Repair(t.Context(), az.MustParseID(p.server), user); err != nil {
			t.Fatal(err)
		}
		p.mustComeIn(ann, user)
		p.m.s.Exec(t, "DROP USER "+mysqlAccount(user))
		if err := r.Repair(t.Context(), az.MustParseID(p.server), user); err != nil {
			t.Fatal(err)
		}
		session = p.mustComeIn(ann, user)
		session.attempts(t, true, "INSERT INTO todo (what) VALUES ('again')")
		var number uint64
		if err := session.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&number); err != nil {
			t.Fatal(err)
		}
		if err := r.Terminate(t.Context(), az.MustParseID(p.server), user, number); err != nil || session.alive(t) {
			t.Errorf("Terminate: %v", err)
		}

		session = p.mustComeIn(ann, user)
		p.mapRole(user, ann.ObjectID, Read)
		if session.alive(t) {
			t.Error("a session with more than the role has goes on")
		}
		session = p.mustComeIn(ann, user)
		session.attempts(t, false, "INSERT INTO todo (what) VALUES ('no')")
		r.refused(boss, "PUT", path, fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q}}`, r.user("bob"), p.m.db), 409, "RoleOfAnotherPrincipal")
		r.refused(boss, "PUT", p.server+"/principals/x", fmt.Sprintf(`{"properties":{"principalId":%q,"database":"mysql"}}`, ann.ObjectID), 400, "InvalidName")
		r.refused(boss, "PUT", p.server+"/principals/root", fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q}}`, ann.ObjectID, p.m.db), 400, "InvalidName")
		r.refused(webmaster, "PUT", p.server+"/principals/x", fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q}}`, ann.ObjectID, p.m.db), 403, "AuthorizationFailed")
		r.refused(contributor, "PUT", p.server+"/principals/x", fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q}}`, ann.ObjectID, p.m.db), 403, "LinkedAuthorizationFailed")

		r.must(boss, "DELETE", path, "")
		if session.alive(t) || p.m.accounts(t, user) != 0 {
			t.Error("the role is still there")
		}
		if _, err := p.comeIn(ann, user); !az.Is(err, az.Forbidden) {
			t.Errorf("a login as a role that is gone: %v", err)
		}
	})
}

func TestMySQLSweepFinishesWhatWasCutOff(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		s := dbtest.StartMariaDB(t)
		p := newMariaPlane(t, r, s)
		ann := as(r.user("ann"))
		r.grantRole(guard.RoleMySQLLogin, ann.ObjectID, p.server)
		server, user := az.MustParseID(p.server), p.name("ann")
		srv, err := r.engine(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		p.mapRole(user, ann.ObjectID, Read)
		// A claim that nobody ever makes good.
		want := claim{Server: server, By: az.MustParseID(sites + "web" + linkers + "never"), Role: p.name("never"), OID: ann.ObjectID, Kind: az.User, Database: p.m.db, Access: Owner}
		var prev []roleUse
		if err := r.makeRole(t.Context(), srv, want, &prev); err != nil {
			t.Fatal(err)
		}
		// A rotation that the server heard of and the plane forgot.
		id := principalID(server, user)
		row, err := r.principals.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		row.Secrets[nextSecret], row.Properties.Rotating = newPassword(), true
		if err := r.save(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		spec := r.spec(row)
		spec.Password = row.Secrets[nextSecret]
		if _, err := srv.setPassword(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if _, err := p.comeIn(ann, user); err == nil {
			t.Fatal("the test proves nothing")
		}

		s.Kill() // the server is away
		r.offset.Store(int64(2 * pendingFor))
		if err := r.Sweep(t.Context()); !az.Is(err, az.Unavailable) {
			t.Errorf("a sweep without the server: %v", err)
		}
		r.refused(boss, "PUT", p.server+"/principals/"+p.name("bob"), fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q}}`, r.user("bob"), p.m.db), 503, "ServerUnreachable")
		r.must(boss, "PUT", p.server, fmt.Sprintf(`{"location":"local","tags":{"a":"b"},"properties":{"hawser":{"host":%q,"port":%d,"sslMode":"require"}}}`, p.m.Host, p.m.Port))
		s.Restart(t)
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.mustComeIn(ann, user).attempts(t, true, "SELECT * FROM todo")
		if n := p.m.accounts(t, want.Role); n != 0 {
			t.Error("the role of a claim that was never made good is still there")
		}
	})
}

// TestMySQLTwoPlanesAgree: what one plane takes away, another knows.
func TestMySQLTwoPlanesAgree(t *testing.T) {
	t.Parallel()
	a, b := storetest.Pair(t)
	one := newMariaPlane(t, newPlane(t, a), dbtest.MariaDB(t))
	two := *one
	two.rig = newRig(t, b, one.sealer, one.f)
	ann := as(one.user("ann"))
	one.grantRole(guard.RoleMySQLLogin, ann.ObjectID, one.server)
	user := one.name("ann")
	one.mapRole(user, ann.ObjectID, Read)
	confirm := func() {
		t.Helper()
		if err := b.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	confirm()
	two.mustComeIn(ann, user)
	one.must(boss, "POST", one.server+"/principals/"+user+"/rotate", "")
	confirm()
	two.mustComeIn(ann, user)
	one.must(boss, "DELETE", one.server+"/principals/"+user, "")
	confirm()
	if _, err := two.comeIn(ann, user); !az.Is(err, az.Forbidden) {
		t.Errorf("the other plane lets in after the end of the role: %v", err)
	}
	one.must(boss, "DELETE", one.server, "")
	confirm()
	if _, err := two.Authorize(t.Context(), ann, one.login(user)); !az.Is(err, az.Invalid) {
		t.Errorf("the other plane knows a server that is gone: %v", err)
	}
}

func TestMySQLServersAreAdopted(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		s := dbtest.MariaDB(t)
		p := newMariaPlane(t, r, s)
		now := r.must(boss, "GET", p.server, "")
		if text(now, "properties", "hawser", "sslMode") != sslRequire || !strings.HasPrefix(text(now, "properties", "hawser", "version"), "MariaDB 10.") || strings.Contains(fmt.Sprint(now), p.m.Password.Reveal()) {
			t.Errorf("the server: %v", now)
		}
		next := func(name string) string { return group + "/providers/Microsoft.DBforMySQL/flexibleServers/" + name }
		bare := "bare_" + p.m.db
		s.Exec(t, "CREATE USER "+bare+"@'%' IDENTIFIED BY 'a password'", "GRANT CREATE USER, PROCESS, SUPER ON *.* TO "+bare+"@'%'")
		ca, err := os.ReadFile(s.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		// An owner may have its rights by a role.
		ops, by := "ops_"+p.m.db, "by_"+p.m.db
		s.Exec(t, "CREATE ROLE "+ops, "GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO "+ops, "GRANT SELECT ON mysql.* TO "+ops,
			"CREATE USER "+by+"@'%' IDENTIFIED BY 'a password'", "GRANT "+ops+" TO "+by+"@'%'", "SET DEFAULT ROLE "+ops+" FOR "+by+"@'%'")
		r.must(boss, "PUT", next("by-role"), p.body(by, "a password", "prefer", ""))
		r.refused(boss, "PUT", next("my2"), p.body(p.m.Owner, "wrong", "prefer", ""), 400, "ServerLoginFailed")
		r.refused(boss, "PUT", next("my2"), p.body(bare, "a password", "prefer", ""), 400, "OwnerLacksPrivilege")
		r.refused(boss, "PUT", next("my2"), p.body(p.m.Owner, "x", "sometimes", ""), 400, "InvalidServer")
		r.refused(boss, "PUT", next("my2"), p.body(p.m.Owner, p.m.Password.Reveal(), "verify-full", ""), 400, "ServerCertificateNotTrusted")
		r.must(boss, "PUT", next("my2"), p.body(p.m.Owner, p.m.Password.Reveal(), "verify-full", fmt.Sprintf(`,"caCertificate":%q`, ca)))
		// The URL, with all in it, is taken apart and not kept.
		url := fmt.Sprintf("mysql://%s:owner%%27s%%20own@%s/%s?sslmode=require", p.m.Owner, net.JoinHostPort(p.m.Host, fmt.Sprint(p.m.Port)), p.m.db)
		r.must(boss, "PUT", next("my3"), fmt.Sprintf(`{"location":"local","properties":{"hawser":{"url":%q}}}`, url))
		if row, _, err := r.st.Resource(t.Context(), az.MustParseID(next("my3"))); err != nil || strings.Contains(string(row.Body), "own@") || strings.Contains(string(row.Body), "owner's own") {
			t.Errorf("%s %v", row.Body, err)
		}
		r.refused(boss, "PUT", next("my4"), `{"location":"local","properties":{"hawser":{"url":"postgres://u:p@h/d"}}}`, 400, "InvalidServerURL")
		// As az makes one, with a tag.
		tag := fmt.Sprintf(`{"location":"local","tags":{"hawser-backend":"mysql://%s"},"properties":{"administratorLogin":%q,"administratorLoginPassword":%q}}`,
			net.JoinHostPort(p.m.Host, fmt.Sprint(p.m.Port)), p.m.Owner, p.m.Password.Reveal())
		r.must(boss, "PUT", next("my5"), tag)
		r.must(boss, "PUT", next("my6"), strings.Replace(tag, `"hawser-backend":"mysql://`+net.JoinHostPort(p.m.Host, fmt.Sprint(p.m.Port)), `"hawser-backend":"my5`, 1))
		r.refused(boss, "PUT", next("my7"), strings.Replace(tag, "mysql://", "mysql://u:p@", 1), 400, "InvalidServerURL")
		// A kept password goes to no other server.
		r.refused(boss, "PUT", next("my5"), fmt.Sprintf(`{"location":"local","properties":{"hawser":{"host":"127.0.0.2","port":%d}}}`, p.m.Port), 400, "PasswordNeeded")
		// A description of a server lets nobody in.
		r.must(boss, "PUT", next("paper"), `{"location":"local","properties":{"administratorLogin":"o","administratorLoginPassword":"a long password"}}`)
		r.refused(boss, "PUT", next("paper")+"/principals/x", fmt.Sprintf(`{"properties":{"principalId":%q,"database":"d"}}`, r.user("zoe")), 400, "ServerHasNoBackend")
		if _, err := r.Authorize(t.Context(), as(boss), Login{MySQL, "paper", "", "x"}); !az.Is(err, az.Invalid) {
			t.Errorf("a login at a description: %v", err)
		}
	})
}

// TestMySQLThatAsksForNoPassword: one that lets in whoever comes as a user of
// this machine needs, to be attached, the right to everything.
func TestMySQLThatAsksForNoPassword(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		s := dbtest.StartMariaDB(t)
		account := mysqlText(me.Username) + "@localhost"
		s.Exec(t, "CREATE OR REPLACE USER "+account+" IDENTIFIED VIA unix_socket; GRANT ALL ON *.* TO "+account+" WITH GRANT OPTION")
		path := group + "/providers/Microsoft.DBforMySQL/flexibleServers/trusting"
		body := fmt.Sprintf(`{"location":"local","properties":{"administratorLogin":%q,"administratorLoginPassword":"anything","hawser":{"host":%q}}}`, me.Username, s.Socket)
		r.refused(boss, "PUT", path, body, 403, "AuthorizationFailed")
		almighty := r.user("almighty")
		r.grantRole(guard.RoleOwner, almighty, "")
		r.must(almighty, "PUT", path, body)
		if addr := text(r.must(boss, "GET", path, ""), "properties", "hawser", "host"); addr != s.Socket {
			t.Errorf("it is at %q", addr)
		}
	})
}

func TestMySQLDatabasesAreMadeAndDropped(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		s := dbtest.MariaDB(t)
		p := newMariaPlane(t, r, s)
		s.Exec(t, fmt.Sprintf("GRANT ALL ON `made\\_%s%%`.* TO %s@'%%' WITH GRANT OPTION", mysqlPattern(p.m.db), p.m.Owner))
		made := "made_" + p.m.db
		there := func(name string) (collation string) {
			t.Helper()
			_ = s.Open(t, "").QueryRow("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", name).Scan(&collation)
			return collation
		}
		r.must(boss, "PUT", p.server+"/databases/"+made, `{"properties":{"charset":"utf8mb4","collation":"utf8mb4_0900_ai_ci"}}`)
		if got := there(made); !strings.HasPrefix(got, "utf8mb4_uca1400_ai_ci") {
			t.Errorf("made with %q", got)
		}
		if got := text(r.must(boss, "GET", p.server+"/databases/"+made, ""), "properties", "collation"); got != "utf8mb4_0900_ai_ci" {
			t.Errorf("what was asked for is shown as %q", got) // else terraform would make it anew each time
		}
		r.must(boss, "PUT", p.server+"/databases/"+made+"2", `{"properties":{"charset":"latin1","collation":"latin1_bin"}}`)
		if got := there(made + "2"); got != "latin1_bin" {
			t.Errorf("made with %q", got)
		}
		r.refused(boss, "PUT", p.server+"/databases/"+made+"3", `{"properties":{"charset":"utf8mb4","collation":"latin1_bin"}}`, 400, "InvalidParameterValue")
		r.refused(boss, "PUT", p.server+"/databases/"+made+"3", `{"properties":{"charset":"utf8mb4; DROP DATABASE x"}}`, 400, "InvalidParameterValue")
		r.refused(boss, "PUT", p.server+"/databases/mysql", `{"properties":{}}`, 400, "InvalidDatabaseName")
		r.must(boss, "PUT", p.server+"/databases/"+p.m.db, fmt.Sprintf(`{"properties":{"hawserMade":%q}}`, p.m.addr(MySQL)))
		r.must(boss, "DELETE", p.server+"/databases/"+p.m.db, "")
		if there(p.m.db) == "" {
			t.Error("a database that was there before was dropped")
		}
		r.must(boss, "DELETE", p.server+"/databases/"+made+"2", "")
		if there(made+"2") != "" {
			t.Error("a database that was made was not dropped")
		}
		r.must(boss, "DELETE", p.server, "")
		if there(made) == "" {
			t.Error("forgetting a server dropped data")
		}
	})
}

func TestMySQLAdministratorHasARole(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		s := dbtest.MariaDB(t)
		p := newMariaPlane(t, r, s)
		s.Exec(t, fmt.Sprintf("GRANT ALL ON `later\\_%s`.* TO %s@'%%' WITH GRANT OPTION", mysqlPattern(p.m.db), p.m.Owner))
		identity := group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/uami"
		r.must(boss, "PUT", identity, `{"location":"local"}`)
		r.must(boss, "PATCH", p.server, fmt.Sprintf(`{"identity":{"type":"UserAssigned","userAssignedIdentities":{%q:{}}}}`, identity))
		ann := as(r.user("ann"))
		ann.Kind = az.User
		login := p.name("boss")
		body := func(login, sid string) string {
			return fmt.Sprintf(`{"properties":{"administratorType":"ActiveDirectory","login":%q,"sid":%q,"tenantId":%q,"identityResourceId":%q}}`, login, sid, rigNames.Tenant, identity)
		}
		path := p.server + "/administrators/ActiveDirectory"
		r.refused(boss, "PUT", path, body("root", ann.ObjectID), 400, "InvalidName")
		r.refused(contributor, "PUT", path, body(login, ann.ObjectID), 403, "LinkedAuthorizationFailed")
		made := r.must(boss, "PUT", path, body(login, ann.ObjectID))
		if strings.Contains(fmt.Sprint(made), "hawserRole") {
			t.Errorf("az is shown what is the plane's: %v", made)
		}
		b, err := r.Authorize(t.Context(), ann, Login{MySQL, "my-one", "", login})
		if err != nil || !b.Admin {
			t.Fatalf("%+v %v", b, err)
		}
		session := p.mustComeIn(ann, login)
		session.attempts(t, true, "CREATE TABLE admins (x int)")
		r.must(boss, "PUT", p.server+"/databases/later_"+p.m.db, `{"properties":{}}`)
		p.mustComeIn(ann, login).attempts(t, true, "CREATE TABLE later_"+p.m.db+".x (x int)")
		r.refused(boss, "PUT", p.server+"/principals/"+login, fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q}}`, r.user("bob"), p.m.db), 409, "RoleOfAnotherPrincipal")

		// Another administrator takes the first one's place.
		bob := as(r.user("bobby"))
		r.must(boss, "PUT", path, body(p.name("bob"), bob.ObjectID))
		if session.alive(t) || p.m.accounts(t, login) != 0 {
			t.Error("the first administrator's role is still there")
		}
		if _, err := p.comeIn(ann, login); !az.Is(err, az.Forbidden) {
			t.Errorf("the first administrator: %v", err)
		}
		p.mustComeIn(bob, p.name("bob"))
		// Made again by the same, and swept: nothing changes.
		r.must(boss, "PUT", path, body(p.name("bob"), bob.ObjectID))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Sweep(ctx); err != nil {
			t.Error(err)
		}
		p.mustComeIn(bob, p.name("bob"))
		r.must(boss, "DELETE", path, "")
		if p.m.accounts(t, p.name("bob")) != 0 {
			t.Error("the administrator's role is still there")
		}
		if n := len(r.records(guard.ActionMySQLLogin, guard.Allowed)); n == 0 {
			t.Error("no login was recorded")
		}
	})
}
