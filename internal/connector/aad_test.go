package connector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// tells runs one statement of a session and gives what it answers.
func tells(conn *pgx.Conn, mode pgx.QueryExecMode, sql string) (string, error) {
	rows, err := conn.Query(context.Background(), sql, mode)
	if err != nil {
		return "", err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		v, err := row.Values()
		return fmt.Sprint(v...), err
	})
	return strings.Join(all, "\n"), err
}

// fails checks that a statement is refused with an SQLSTATE.
func fails(t testing.TB, conn *pgx.Conn, mode pgx.QueryExecMode, sql, state string) string {
	t.Helper()
	var pe *pgconn.PgError
	got, err := tells(conn, mode, sql)
	if !errors.As(err, &pe) || pe.Code != state {
		t.Errorf("%s: %q %v, want %s", sql, got, err, state)
		return ""
	}
	return pe.Message
}

// says checks what a statement answers.
func says(t testing.TB, conn *pgx.Conn, mode pgx.QueryExecMode, sql, want string) {
	t.Helper()
	if got, err := tells(conn, mode, sql); err != nil || got != want {
		t.Errorf("%s: %q %v, want %q", sql, got, err, want)
	}
}

// administrator makes a person an administrator of pg1 and logs in.
func (r *rig) administrator(f *front, name string) (oid string, conn *pgx.Conn) {
	r.t.Helper()
	oid = r.user(r.conn(name))
	r.must(boss, "PUT", servers+"pg1/administrators/"+oid, fmt.Sprintf(`{"properties":{"principalName":%q,"principalType":"User"}}`, r.upn(name)))
	return oid, f.enter(oid, r.upn(name))
}

// assigned reports whether a statement's assignment for a role is there.
func (r *rig) assigned(role string) bool {
	r.t.Helper()
	id := principalID(az.MustParseID(servers+"pg1"), role)
	_, there, err := r.st.Resource(context.Background(), assignmentID(id, id.Parent()))
	if err != nil {
		r.t.Fatal(err)
	}
	return there
}

const simple, extended, cached = pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement

// TestStatementsOfAz: what az 2.45 sends to the database when it makes a
// connection does what it means, and is the connection's from then on.
func TestStatementsOfAz(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		ann, conn := r.administrator(f, "ann")
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
		app := r.identity("web")
		role := "aad_" + r.conn("c")
		create := fmt.Sprintf(`select * from pgaadauth_create_principal_with_oid('%s', '%s', 'service', false, false);`, role, app.ObjectID)
		says(t, conn, simple, create, `Created role for "`+role+`"`)
		fails(t, conn, simple, create, "42710")
		says(t, conn, simple, `GRANT ALL PRIVILEGES ON ALL SEQUENCES IN SCHEMA pg_catalog TO `+ident(role), "")
		if got, err := tells(conn, simple, `select * from pgaadauth_list_principals(false)`); err != nil || !strings.Contains(got, role) || !strings.Contains(got, app.ObjectID) {
			t.Errorf("%q %v", got, err)
		}
		tries(t, r.mustEnter(app, role), map[string]bool{`select 1`: true, `select * from todo`: false, `create table mine (x int)`: false, `create role x`: false})
		link := sites + "web" + linkers + r.conn("c")
		r.must(boss, "PUT", link, r.linkBody("python", Write, fmt.Sprintf(`,"username":%q`, role)))
		tries(t, r.mustEnter(app, role), map[string]bool{`insert into todo (what) values ('x')`: true})
		if r.assigned(role) {
			t.Error("the statement's right to log in outlived its mapping")
		}
		fails(t, conn, simple, `drop role `+ident(role), "2BP01")
		r.must(boss, "DELETE", link, "")
		if r.roleExists(role) {
			t.Error("the role outlived the connection that az made it for")
		}
		says(t, conn, simple, create, `Created role for "`+role+`"`)
		says(t, conn, simple, `select pgaadauth_drop_principal('`+role+`')`, `Dropped role "`+role+`"`)
		if _, err := r.enter(app, role); err == nil || r.roleExists(role) || r.assigned(role) {
			t.Errorf("something is left of a dropped role: %v", err)
		}
		all := r.records(PrincipalType+"/write", guard.Allowed)
		all = slices.DeleteFunc(all, func(rec guard.Record) bool { return rec.Who != ann })
		if len(all) != 3 || !strings.Contains(all[0].Detail, app.ObjectID) || !strings.Contains(all[2].Detail, "dropped") {
			t.Errorf("%+v", all)
		}
	})
}

// TestStatementsRefused: what an administrator cannot have, in PostgreSQL's codes
// and Azure's words.
func TestStatementsRefused(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		_, conn := r.administrator(f, "ann")
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
		app, nobody := r.identity("web").ObjectID, az.NewGUID()
		twin := r.conn("twin")
		r.group(twin)
		r.group(twin)
		for sql, code := range map[string]string{
			`select * from pgaadauth_create_principal_with_oid('x', '` + app + `', 'user', false, false)`:                    "22023",
			`select * from pgaadauth_create_principal_with_oid('x', '` + app + `', 'service', maybe, false)`:                 "42703",
			`select * from pgaadauth_create_principal_with_oid('x', '` + app + `', 'service', 'maybe', false)`:               "22023",
			`select * from pgaadauth_create_principal_with_oid('pg_x', '` + app + `', 'service', false, false)`:              "22023",
			`select * from pgaadauth_create_principal_with_oid('` + r.f.Owner + `', '` + app + `', 'service', false, false)`: "42710",
			`select * from pgaadauth_update_principal_with_oid('x', '` + app + `', 'service', false, false)`:                 "42704",
			`select * from pgaadauth_drop_principal('` + r.upn("ann") + `')`:                                                 "42704",
			`drop role "` + r.upn("ann") + `"`:                                                                 "2BP01",
			`drop role "` + r.upn("ann") + `", ` + r.f.Owner:                                                   "2BP01",
			`security label for pgaadauth on role ` + r.f.Owner + ` is 'aadauth,oid=` + app + `,type=service'`: "0A000",
			`security label for pgaadauth on role ` + r.f.Owner + ` is null`:                                   "42704",
			`security label for pgaadauth on role x is 'x'`:                                                    "22023",
			`select pgaadauth_x('a')`:                                                                          "0A000",
			`select pgaadauth_x('a', 'b"`:                                                                      "42601",
			`drop role nosuchrole`:                                                                             "42704",
			`select pgaadauth_create_principal('x')`:                                                           "0A000",
		} {
			fails(t, conn, simple, sql, code)
		}
		for sql, want := range map[string]string{
			`select * from pgaadauth_create_principal_with_oid('x', '` + nobody + `', 'service', false, false)`: "Could not validate AAD user " + nobody + " because its name is not found in the tenant.",
			`select * from pgaadauth_create_principal('no$$body''s $hawser$', false, false)`:                    "Could not validate AAD user no$$body's $hawser$ because its name is not found in the tenant.",
			`select * from pgaadauth_create_principal('` + twin + `', false, false)`:                            "Could not validate AAD user " + twin + " because its name is not unique in the tenant; name the object id.",
		} {
			for _, mode := range []pgx.QueryExecMode{simple, extended, cached} {
				if got := fails(t, conn, mode, sql, "22023"); got != want {
					t.Errorf("%s: %s", sql, got)
				}
			}
		}
		if n := len(r.records(PrincipalType+"/write", guard.Allowed)); n != 0 {
			t.Errorf("%d refused statements were recorded as done", n)
		}
	})
}

// TestStatementsByName: users by their user principal name, groups and
// applications by their display names; members of a group log in.
func TestStatementsByName(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		_, conn := r.administrator(f, "ann")
		bob, eve := r.user(r.conn("bob")), r.user(r.conn("eve"))
		team := r.conn("The 'team'")
		r.group(team, bob)
		says(t, conn, extended, `select * from pg_catalog.pgaadauth_create_principal(roleName => `+literal(team)+`::text, isAdmin => false, isMfa => 'off'::bool) -- a comment`,
			`Created role for "`+team+`"`)
		says(t, conn, cached, `select pgaadauth_create_principal($x$`+r.upn("eve")+`$x$, false, false)`, `Created role for "`+r.upn("eve")+`"`)
		for _, oid := range []string{bob, eve} {
			c, err := f.login(oid, team, r.f.db)
			if (err == nil) != (oid == bob) {
				t.Errorf("login as the group: %v", err)
			}
			if err == nil {
				if got := see(t, c, whoami); got != team+" "+team {
					t.Error(got)
				}
			}
		}
		if got := see(t, f.enter(eve, r.upn("eve")), whoami); got != r.upn("eve")+" "+r.upn("eve") {
			t.Error(got)
		}
		if got := see(t, f.enter(bob, r.upn("bob")), whoami); got != r.upn("bob")+" "+r.upn("bob") {
			t.Error(got)
		}
		gil := r.user(r.conn("gil"))
		careful := r.conn("careful")
		careOID := r.group(careful, gil)
		says(t, conn, simple, `select pgaadauth_create_principal('`+careful+`', false, true)`, `Created role for "`+careful+`"`)
		for _, user := range []string{careful, r.upn("gil")} { // as the group, and as himself through it
			for _, factor := range []bool{false, true} {
				who := as(gil)
				who.Kind, who.MFA = az.User, factor
				if _, err := r.enter(who, user); (err == nil) != factor {
					t.Errorf("%q with a second factor %v: %v", user, factor, err)
				}
			}
		}
		says(t, conn, simple, `security label for "pgaadauth" on role `+ident(careful)+` is 'aadauth,oid=`+careOID+`,type=group'`, "")
		if _, err := r.enter(as(gil), r.upn("gil")); err != nil {
			t.Error(err)
		}
		says(t, conn, extended, `DROP ROLE IF EXISTS `+ident(team)+`, `+ident(r.upn("eve")), "")
		f.recheck()
		for oid, user := range map[string]string{bob: team, eve: r.upn("eve")} {
			if _, err := f.login(oid, user, r.f.db); err == nil || r.roleExists(user) || r.assigned(user) {
				t.Errorf("%q is still there: %v", user, err)
			}
		}
	})
}

// TestPreparedOnce: a driver that keeps its statements prepared is told when a
// call would not be done again.
func TestPreparedOnce(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		_, conn := r.administrator(f, "ann")
		bob := r.upn("bob")
		r.user(r.conn("bob"))
		create, drop := `select pgaadauth_create_principal('`+bob+`', false, false)`, `select pgaadauth_drop_principal('`+bob+`')`
		says(t, conn, cached, create, `Created role for "`+bob+`"`)
		says(t, conn, cached, drop, `Dropped role "`+bob+`"`)
		if msg := fails(t, conn, cached, create, "26000"); !strings.Contains(msg, "prepare it again") {
			t.Error(msg)
		}
		says(t, conn, cached, create, `Created role for "`+bob+`"`) // pgx has dropped it from its cache
		if !r.roleExists(bob) {
			t.Error("the role is not there")
		}
	})
}

// TestStatementsOfPsql: the real psql as an administrator.
func TestStatementsOfPsql(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		ann, _ := r.administrator(f, "ann")
		r.user(r.conn("bob"))
		psql := func(sql ...string) string {
			args := []string{"-XAtq", "-w", fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=require options=endpoint=pg1", f.port, r.upn("ann"), r.f.db)}
			for _, one := range sql {
				args = append(args, "-c", one)
			}
			cmd := exec.Command("psql", args...)
			cmd.Env = append(os.Environ(), "PGPASSWORD="+ann)
			out, _ := cmd.CombinedOutput()
			return string(out)
		}
		create := `select * from pgaadauth_create_principal('` + r.upn("bob") + `', false, true);`
		got := psql(create, `select rolename, ismfa from pgaadauth_list_principals(false) where isadmin = 0;`, `select count(*) from pg_roles r join pg_catalog.pgaadauth_list_principals('f') as p on r.rolname = p.rolename`, create, `drop role "`+r.upn("bob")+`"`)
		want := `Created role for "` + r.upn("bob") + "\"\n" + r.upn("bob") + "|1\n2\nERROR:  role \"" + r.upn("bob") + "\" already exists\n"
		if !strings.HasPrefix(got, want) || r.roleExists(r.upn("bob")) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestStatementsMakeAdministrators: isAdmin makes one like the management API's,
// who may do the same, and isMfa keeps tokens without a second factor out.
func TestStatementsMakeAdministrators(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		_, conn := r.administrator(f, "ann")
		bob, eve := r.user(r.conn("bob")), r.user(r.conn("eve"))
		says(t, conn, simple, `select pgaadauth_create_principal('`+r.upn("bob")+`', true, false)`, `Created role for "`+r.upn("bob")+`"`)
		second := f.enter(bob, r.upn("bob"))
		if got := see(t, second, `select string_agg(concat(rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls), '') from pg_roles where rolname = current_user`); got != "fttff" {
			t.Errorf("the administrator's attributes are %s", got)
		}
		if got := see(t, second, `select string_agg(g.rolname, ' ') from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member where r.rolname = current_user`); got != adminGroup {
			t.Errorf("the administrator is a member of %s", got)
		}
		says(t, second, simple, `select pgaadauth_create_principal('`+r.upn("eve")+`', false, true)`, `Created role for "`+r.upn("eve")+`"`)
		var pe *pgconn.PgError
		if _, err := f.login(eve, r.upn("eve"), r.f.db); !errors.As(err, &pe) || pe.Code != "28000" || !strings.Contains(pe.Message, "mfa claim for role["+r.upn("eve")) {
			t.Errorf("without a second factor: %v", err)
		}
		if _, err := f.login(bob, r.upn("eve"), r.f.db); !errors.As(err, &pe) || pe.Code != "28P01" {
			t.Errorf("somebody else learns that a role needs a second factor: %v", err)
		}
		strong := as(eve)
		strong.Kind, strong.MFA = az.User, true
		if _, err := r.enter(strong, r.upn("eve")); err != nil {
			t.Error(err)
		}
		says(t, conn, simple, `security label for pgaadauth on role `+ident(r.upn("eve"))+` is 'aadauth,oid=`+eve+`,type=user'`, "")
		f.enter(eve, r.upn("eve"))
		fails(t, conn, simple, `security label for pgaadauth on role `+ident(r.upn("eve"))+` is 'aadauth,oid=`+eve+`,type=user,admin'`, "0A000")
		says(t, conn, simple, `drop role `+ident(r.upn("bob")), "")
		f.recheck()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := second.Exec(ctx, `select 1`); err == nil || r.roleExists(r.upn("bob")) {
			t.Error("an administrator's session outlived the role")
		}
	})
}

// TestStatementsRemap: a role goes to another principal with what it has.
func TestStatementsRemap(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		f := r.front()
		_, conn := r.administrator(f, "ann")
		bob, eve := r.user(r.conn("bob")), r.user(r.conn("eve"))
		role := r.conn("shared")
		says(t, conn, simple, `select pgaadauth_create_principal_with_oid('`+role+`', '`+bob+`', 'user', false, false)`, `Created role for "`+role+`"`)
		r.f.asOwner(t, `grant select on todo to `+ident(role))
		old := f.enter(bob, role)
		before, err := r.Authorize(t.Context(), as(bob), Login{PostgreSQL, "pg1", r.f.db, role})
		if err != nil {
			t.Fatal(err)
		}
		says(t, conn, extended, `select * from pgaadauth_update_principal_with_oid('`+role+`', '`+eve+`', 'user', false, false)`, `Updated role for "`+role+`"`)
		f.recheck()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := old.Exec(ctx, `select 1`); err == nil {
			t.Error("the first principal's session goes on")
		}
		if _, err := f.login(bob, role, r.f.db); err == nil {
			t.Error("the first principal still logs in")
		}
		if _, err := r.f.login(t, role, before.Password); err == nil {
			t.Error("the role's password is the old one")
		}
		tries(t, f.enter(eve, role), map[string]bool{`select * from todo`: true})
	})
}

// TestStatementsTogether: of many who make the same role one does, and of
// create and drop at once something whole is left.
func TestStatementsTogether(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		ann, bob := r.user(r.conn("ann")), r.user(r.conn("bob"))
		r.must(boss, "PUT", servers+"pg1/administrators/"+ann, fmt.Sprintf(`{"properties":{"principalName":%q,"principalType":"User"}}`, r.upn("ann")))
		at := Backend{Server: az.MustParseID(servers + "pg1"), Database: r.f.db, User: r.upn("ann")}
		role := r.conn("one")
		create := `select pgaadauth_create_principal_with_oid('` + role + `', '` + bob + `', 'user', false, false)`
		together := func(all ...string) (done int) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			for _, sql := range all {
				wg.Go(func() {
					instead, ok := r.Statement(t.Context(), as(ann), at, sql)
					mu.Lock()
					defer mu.Unlock()
					if ok && strings.HasPrefix(instead, "SELECT E'") {
						done++
					}
				})
			}
			wg.Wait()
			return done
		}
		if n := together(create, create, create, create); n != 1 {
			t.Errorf("%d of four made the same role", n)
		}
		together(create, `select pgaadauth_drop_principal('`+role+`')`, create, `drop role `+role)
		there := r.roleExists(role)
		if _, err := r.enter(as(bob), role); (err == nil) != there || r.assigned(role) != there {
			t.Errorf("the role is there: %v, the right: %v, the login: %v", there, r.assigned(role), err)
		}
	})
}

// TestStatementsHalfDone: a mapping that cannot be written down, or that was cut
// off before it was, leaves nothing.
func TestStatementsHalfDone(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann, bob := r.user(r.conn("ann")), r.user(r.conn("bob"))
		r.must(boss, "PUT", servers+"pg1/administrators/"+ann, fmt.Sprintf(`{"properties":{"principalName":%q,"principalType":"User"}}`, r.upn("ann")))
		server := az.MustParseID(servers + "pg1")
		at := Backend{Server: server, Database: r.f.db, User: r.upn("ann")}
		role := r.conn("half")
		create := `select pgaadauth_create_principal_with_oid('` + role + `', '` + bob + `', 'user', true, false)`

		srv, err := r.engine(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		id := principalID(server, role)
		var prev []roleUse
		want := claim{Server: server, By: id, Role: role, OID: bob, Kind: az.User, Admin: true, Access: Owner}
		if err := r.makeRole(t.Context(), srv, want, &prev); err != nil { // and here the plane is killed
			t.Fatal(err)
		}
		if _, err := r.enter(as(bob), role); err == nil || !r.roleExists(role) {
			t.Errorf("a mapping that is not written down lets in: %v", err)
		}
		r.offset.Store(int64(2 * pendingFor))
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.roleExists(role) {
			t.Error("the sweep left the role")
		}
		super := func(sql string) { real().Exec(t, "postgres", "alter role "+r.f.Owner+" "+sql) }
		super("nocreaterole")
		if instead, ok := r.Statement(t.Context(), as(ann), at, create); !ok || !strings.HasPrefix(instead, "DO ") {
			t.Errorf("%q", instead)
		}
		super("createrole")
		if p, err := r.principals.Load(t.Context(), id); err != nil || p != nil || r.roleExists(role) || r.assigned(role) {
			t.Errorf("a refused statement left something: %v", err)
		}
		s := &stating{c: r.Connector, who: as(ann), at: at}
		m := mapping{role: role, oid: bob, kind: az.User, again: true}
		if err := s.create(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		r.write(func(tx *store.Tx) error { // so that the next one cannot be written down
			p, err := r.principals.Read(tx, id)
			if err != nil {
				return err
			}
			for n := range maxStatedIn {
				p.Properties.StatedIn = append(p.Properties.StatedIn, fmt.Sprint(n))
			}
			return r.principals.Write(tx, p)
		})
		m.in = "one more"
		if err := s.create(t.Context(), m); !az.Is(err, az.TooMany) {
			t.Errorf("one database more than a login may have: %v", err)
		}
		r.offset.Add(int64(2 * pendingFor))
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.enter(as(bob), role); err != nil {
			t.Errorf("a statement that failed took what was there before it: %v", err)
		}
	})
}

// TestStatementsEndWithPrincipal: a principal's resource takes the right that a
// statement gave with it.
func TestStatementsEndWithPrincipal(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann, bob := r.user(r.conn("ann")), r.user(r.conn("bob"))
		r.must(boss, "PUT", servers+"pg1/administrators/"+ann, fmt.Sprintf(`{"properties":{"principalName":%q,"principalType":"User"}}`, r.upn("ann")))
		at := Backend{Server: az.MustParseID(servers + "pg1"), Database: r.f.db, User: r.upn("ann")}
		role := r.conn("r")
		if instead, ok := r.Statement(t.Context(), as(ann), at, `select pgaadauth_create_principal_with_oid('`+role+`', '`+bob+`', 'user', false, true)`); !ok || !r.assigned(role) {
			t.Fatalf("%q", instead)
		}
		r.mapTo(role, bob, Read) // the same role by the management API: the statement's mapping stays
		if _, err := r.enter(as(bob), role); !az.Is(err, az.Forbidden) {
			t.Errorf("a PUT took the second factor away: %v", err)
		}
		r.must(boss, "DELETE", servers+"pg1/principals/"+role, "")
		if r.assigned(role) || r.roleExists(role) {
			t.Error("something is left of a deleted principal")
		}
	})
}

// TestStatementsOfOthers: nobody but an administrator is listened to.
func TestStatementsOfOthers(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann := r.user(r.conn("ann"))
		r.mapTo(r.conn("ann"), ann, Owner)
		r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		conn := r.front().enter(ann, r.conn("ann"))
		for _, mode := range []pgx.QueryExecMode{simple, extended} {
			fails(t, conn, mode, `select * from pgaadauth_list_principals(false)`, "42883") // the server's own word for what is not there
			fails(t, conn, mode, `drop role `+ident(r.conn("ann")), "42501")
		}
		at := Backend{Server: az.MustParseID(servers + "pg1"), Database: r.f.db, User: r.conn("ann")}
		for _, sql := range []string{`select pgaadauth_list_principals(false)`, `select 1 from pgaadauth_list_principals(false) where true`, `drop role ` + ident(r.conn("ann"))} {
			if instead, ok := r.Statement(t.Context(), as(ann), at, sql); !ok || !strings.Contains(instead, "ERRCODE = '42501'") {
				t.Errorf("who is no administrator gets %q", instead)
			}
		}
	})
}
