package connector

import (
	"fmt"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// TestAdministratorsRoleIsNoMapping: who was an administrator is none any more
// when that ends, whatever else his role was to be used for.
func TestAdministratorsRoleIsNoMapping(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann := r.user("ann")
		role := r.conn("ann")
		admin := servers + "pg1/administrators/" + ann
		mapping := fmt.Sprintf(`{"properties":{"roleName":%q,"principalId":%q,"database":%q,"access":"read"}}`, role, ann, r.f.db)
		r.must(boss, "PUT", admin, fmt.Sprintf(`{"properties":{"principalType":"User","principalName":%q}}`, role))
		r.refused(boss, "PUT", servers+"pg1/principals/"+role, mapping, 409, "RoleInUse")
		r.must(boss, "DELETE", admin, "")
		r.must(boss, "PUT", servers+"pg1/principals/"+role, mapping)
		r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		var makes bool
		if err := r.mustEnter(as(ann), role).QueryRow(t.Context(), `select rolcreaterole or rolcreatedb from pg_roles where rolname = current_user`).Scan(&makes); err != nil || makes {
			t.Errorf("an administrator of before makes roles or databases: %v %v", makes, err)
		}
	})
}

// TestRoleTakenUpAgain: a role that was to be dropped while its server was away
// has nothing of what it had when somebody uses it again.
func TestRoleTakenUpAgain(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		link, path := r.conn("back"), ""
		path = sites + "web" + linkers + link
		away := func(how string) { real().Exec(t, "postgres", "alter role "+r.f.Owner+" "+how) }
		r.must(boss, "PUT", path, r.linkBody("go", Write, ""))
		away("nologin")
		r.must(boss, "DELETE", path, "")
		away("login")
		r.must(boss, "PUT", path, r.linkBody("go", Read, ""))
		tries(t, r.mustEnter(r.identity("web"), "aad_"+link), map[string]bool{"select * from todo": true, "insert into todo (what) values ('x')": false})

		away("nologin")
		r.must(boss, "DELETE", path, "")
		away("login")
		ann, role := r.user("ann"), r.conn("ann")
		mapping := func(a Access) string {
			return fmt.Sprintf(`{"properties":{"roleName":%q,"principalId":%q,"database":%q,"access":%q}}`, role, ann, r.f.db, a)
		}
		id := az.MustParseID(servers + "pg1/principals/" + role)
		r.must(boss, "PUT", id.String(), mapping(Write))
		r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		r.write(func(tx *store.Tx) error { return r.releaseTx(tx, id, by(id)) }) // and the plane ends
		r.must(boss, "PUT", id.String(), mapping(Read))
		tries(t, r.mustEnter(as(ann), role), map[string]bool{"select * from todo": true, "insert into todo (what) values ('x')": false})
	})
}

// TestLoweredRoleIsNotUsed: what is taken from a role is taken from its commit
// on, though the plane that was to tell the server ended just then.
func TestLoweredRoleIsNotUsed(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		p := newMariaPlane(t, r, dbtest.MariaDB(t))
		ann, role := r.user("ann"), p.name("ann")
		p.mapRole(role, ann, Write)
		r.grantRole(guard.RoleMySQLLogin, ann, p.server)
		const change = "INSERT INTO todo (what) VALUES ('x')"
		open := p.mustComeIn(as(ann), role)
		open.attempts(t, true, change)
		if _, err := r.Recheck(t.Context(), as(ann), p.login(role)); err != nil {
			t.Fatal(err)
		}
		r.write(func(tx *store.Tx) error {
			row, err := r.principals.Read(tx, az.MustParseID(p.server+"/principals/"+role))
			if err != nil {
				return err
			}
			row.Properties.Uses[0].Access, row.Properties.Stale = Read, true
			return r.principals.Write(tx, row)
		})
		if _, err := r.Recheck(t.Context(), as(ann), p.login(role)); !az.Is(err, az.Forbidden) {
			t.Errorf("an open session goes on: %v", err)
		}
		p.mustComeIn(as(ann), role).attempts(t, false, change)
		open.attempts(t, false, "SELECT 1") // ended
	})
}

// TestMovedServerKeepsItsDatabases: what a resource made at one server it does
// not drop at another that has taken its place.
func TestMovedServerKeepsItsDatabases(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		p := newMariaPlane(t, r, dbtest.MariaDB(t))
		name := "moved_" + p.m.db
		p.m.s.Exec(t, fmt.Sprintf("GRANT ALL ON `%s`.* TO %s@'%%' WITH GRANT OPTION", mysqlPattern(name), p.m.Owner))
		r.must(boss, "PUT", p.server+"/databases/"+name, `{"properties":{}}`)
		p.m.Host = "localhost" // another place, as far as the plane can tell
		r.must(boss, "PUT", p.server, p.body(p.m.Owner, p.m.Password.Reveal(), "require", ""))
		r.must(boss, "DELETE", p.server+"/databases/"+name, "")
		if err := p.m.has(t.Context(), name); err != nil {
			t.Error(err)
		}

		q := r.withSQL("sql1")
		r.must(boss, "PUT", q.server+"/databases/moved", `{"location":"local","properties":{}}`)
		r.must(boss, "PUT", q.server, q.body("127.0.0.1"))
		r.must(boss, "DELETE", q.server+"/databases/moved", "")
		if !q.c.HasDatabase("moved") {
			t.Error("a database of another server was dropped")
		}
	})
}
