package connector

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// TestEveryFailureLeavesNothingBehind makes each step of a connection fail for
// a real reason and looks for what is left of those before it.
func TestEveryFailureLeavesNothingBehind(t *testing.T) {
	super := func(r *rig, sql string) { real().Exec(r.t, "postgres", sql) }
	cases := []struct {
		name          string
		spoil, repair func(r *rig, role string)
		status        int
		code          string
	}{
		{"the owner's login is refused",
			func(r *rig, _ string) { super(r, "alter role "+r.f.Owner+" nologin") },
			func(r *rig, _ string) { super(r, "alter role "+r.f.Owner+" login") }, 400, "ServerLoginFailed"},
		{"the role is somebody else's",
			func(r *rig, role string) { super(r, "create role "+ident(role)+" login password 'theirs'") },
			func(r *rig, role string) { super(r, "drop role "+ident(role)) }, 409, "RoleExists"},
		{"the role cannot be made",
			func(r *rig, _ string) { super(r, "alter role "+r.f.Owner+" nocreaterole") },
			func(r *rig, _ string) { super(r, "alter role "+r.f.Owner+" createrole") }, 400, "OwnerLacksPrivilege"},
		{"access cannot be granted",
			func(r *rig, _ string) {
				super(r, fmt.Sprintf("alter database %s owner to postgres; revoke connect on database %[1]s from public; grant connect on database %[1]s to %s", r.f.db, r.f.Owner))
			},
			func(r *rig, _ string) {
				super(r, fmt.Sprintf("alter database %s owner to %s", r.f.db, r.f.Owner))
			}, 400, "OwnerLacksPrivilege"},
		{"the settings are another connection's",
			func(r *rig, _ string) {
				r.must(boss, "PUT", sites+"web"+linkers+"first", `{"properties":{"targetService":{"type":"AzureResource","id":"`+servers+`pg1/databases/`+r.f.db+`"},
					"authInfo":{"authType":"secret","name":"u","secretInfo":{"secretType":"rawValue","value":"p"}},"clientType":"springBoot"}}`)
			},
			func(r *rig, _ string) { r.must(boss, "DELETE", sites+"web"+linkers+"first", "") }, 409, ""},
	}
	eachPlane(t, func(t *testing.T, r *rig) {
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				name := r.conn(fmt.Sprint("u", i))
				link, role := sites+"web"+linkers+name, "aad_"+name
				c.spoil(r, role)
				p, a := r.traces()
				s := fmt.Sprint(r.settings("web"))
				status, out := r.call(boss, "PUT", link, r.linkBody("springBoot", Write, ""))
				if status != c.status || !strings.Contains(out, `"code":"`+c.code) {
					t.Errorf("got %d %s, want %d %s", status, out, c.status, c.code)
				}
				if strings.Contains(out, r.f.Password.Reveal()) {
					t.Error("the error holds the owner's password")
				}
				if p2, a2 := r.traces(); p2 != p || a2 != a {
					t.Errorf("%d roles and %d assignments, before %d and %d", p2, a2, p, a)
				}
				if s2 := fmt.Sprint(r.settings("web")); s2 != s {
					t.Errorf("settings %s, before %s", s2, s)
				}
				if oid := text(r.must(boss, "GET", sites+"web", ""), "identity", "principalId"); oid != "" {
					t.Error("the app has kept the identity")
				}
				if status, _ := r.call(boss, "GET", link, ""); status != 404 {
					t.Errorf("the connection is there: %d", status)
				}
				c.repair(r, role)
				if r.roleExists(role) {
					t.Error("the role was left on the server")
				}
				r.must(boss, "PUT", link, r.linkBody("springBoot", Write, ""))
				r.mustEnter(r.identity("web"), role)
				r.must(boss, "DELETE", link, "")
				r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"None"}}`)
			})
		}
	})
}

// TestSweepEndsWhatACrashLeft takes a connection away between its role and its
// row, and a server away while its role should be dropped.
func TestSweepEndsWhatACrashLeft(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		server := az.MustParseID(servers + "pg1")
		srv, err := r.server(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		crashed := claim{Server: server, By: az.MustParseID(sites + "web" + linkers + "never"), Role: r.conn("crashed"), OID: r.user(r.conn("u")), Kind: az.User, Database: r.f.db, Access: Read}
		var prev []roleUse
		if err := r.makeRole(t.Context(), srv, crashed, &prev); err != nil {
			t.Fatal(err)
		}
		if _, err := r.enter(as(crashed.OID), crashed.Role); !az.Is(err, az.Forbidden) {
			t.Errorf("a pending role lets its principal in: %v", err)
		}
		if err := r.Sweep(t.Context()); err != nil || !r.roleExists(crashed.Role) {
			t.Errorf("a young claim was swept away: %v", err)
		}
		r.offset.Store(int64(3 * time.Minute))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }() // ends by stop
		for end := time.Now().Add(20 * time.Second); r.roleExists(crashed.Role); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("Run leaves an old claim")
			}
		}
		stop()
		<-done

		name := r.conn("away")
		link := sites + "web" + linkers + name
		r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
		real().Exec(t, "postgres", "alter role "+r.f.Owner+" nologin")
		r.must(boss, "DELETE", link, "")
		real().Exec(t, "postgres", "alter role "+r.f.Owner+" login")
		if !r.roleExists("aad_" + name) {
			t.Fatal("the test proves nothing")
		}
		if err := r.Sweep(t.Context()); err != nil || r.roleExists("aad_"+name) {
			t.Errorf("the role of a deleted connection was left: %v", err)
		}
		if p, _ := r.traces(); p != 0 {
			t.Errorf("%d roles are left in the plane", p)
		}
	})
}

func TestConnectionsThatShare(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		one, two, user := sites+"web"+linkers+r.conn("one"), sites+"web"+linkers+r.conn("two"), r.conn("shared")
		r.must(boss, "PUT", one, r.linkBody("nodejs", Write, `,"username":"`+user+`"`))
		r.must(boss, "PUT", two, r.linkBody("nodejs", Read, `,"username":"`+user+`"`))
		who := r.identity("web")
		write := map[string]bool{`insert into todo (what) values ('x')`: true}
		readOnly := map[string]bool{`insert into todo (what) values ('x')`: false, `select * from todo`: true}
		tries(t, r.mustEnter(who, user), write)
		if s := r.settings("web"); s["AZURE_POSTGRESQL_USER"] != user || s["AZURE_POSTGRESQL_"+strings.ToUpper(r.conn("two"))+"_USER"] != user {
			t.Errorf("the settings are %v", s)
		}
		r.must(boss, "DELETE", one, "")
		tries(t, r.mustEnter(who, user), readOnly)
		// The same name on another app is another principal's: its role gets
		// another name, and an explicit name is refused.
		third := sites + "other" + linkers + r.conn("two")
		r.refused(boss, "PUT", third, r.linkBody("nodejs", Read, `,"username":"`+user+`"`), 409, "RoleOfAnotherPrincipal")
		r.must(boss, "PUT", sites+"web"+linkers+r.conn("same"), r.linkBody("nodejs", Read, ""))
		r.must(boss, "PUT", sites+"other"+linkers+r.conn("same"), r.linkBody("nodejs", Owner, ""))
		other := r.identity("other")
		theirs, _ := r.settings("other")["AZURE_POSTGRESQL_USER"].(string)
		if !strings.HasPrefix(theirs, "aad_"+r.conn("same")+"_") {
			t.Errorf("the role is called %q", theirs)
		}
		tries(t, r.mustEnter(other, theirs), map[string]bool{`create table z (i int)`: true})
		for _, x := range []struct {
			who  az.Principal
			role string
		}{{who, theirs}, {other, "aad_" + r.conn("same")}, {other, user}} {
			if _, err := r.enter(x.who, x.role); !az.Is(err, az.Forbidden) {
				t.Errorf("somebody else's role %q lets in: %v", x.role, err)
			}
		}
		r.must(boss, "DELETE", sites+"web", "") // its connections go with it
		if r.roleExists(user) || r.roleExists("aad_"+r.conn("same")) {
			t.Error("the deleted app's roles are still there")
		}
		r.mustEnter(other, theirs)
	})
}

func TestUpdatingAConnectionMovesIt(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		link := sites + "web" + linkers + r.conn("m")
		r.must(boss, "PUT", link, r.linkBody("nodejs", Owner, ""))
		who := r.identity("web")
		r.must(boss, "PUT", link, r.linkBody("python", Read, `,"userName":"`+r.conn("renamed")+`"`))
		if r.roleExists("aad_" + r.conn("m")) {
			t.Error("the old role is still there")
		}
		tries(t, r.mustEnter(who, r.conn("renamed")), map[string]bool{`select * from todo`: true, `create table x (i int)`: false})
		s := r.settings("web")
		if len(s) != 1 || s["AZURE_POSTGRESQL_CONNECTIONSTRING"] != "dbname="+r.f.db+" host=pg1.postgres.hawser.test port=15432 sslmode=require user="+r.conn("renamed") {
			t.Errorf("the settings are %v", s)
		}
		// To another database: nothing is left in the first.
		second := r.f.db + "_2"
		r.must(boss, "PUT", servers+"pg1/databases/"+second, `{"properties":{"charset":"utf8","collation":"en_US.utf8"}}`)
		first := r.f.db
		r.f.db = second
		body := r.linkBody("python", Read, `,"userName":"`+strings.TrimSuffix(r.conn("renamed"), "_2")+`"`)
		r.f.db = first
		r.must(boss, "PUT", link, body)
		if _, err := r.enter(who, r.conn("renamed")); !az.Is(err, az.Forbidden) {
			t.Errorf("the first database still lets in: %v", err)
		}
		if b, err := r.Authorize(t.Context(), who, Login{PostgreSQL, "pg1", second, r.conn("renamed")}); err != nil || b.Database != second {
			t.Errorf("the second database: %v", err)
		}
		conn, err := r.f.connect(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var may bool
		if err := conn.QueryRow(t.Context(), `select has_table_privilege($1::name, 'public.todo'::regclass, 'select')`, r.conn("renamed")).Scan(&may); err != nil || may {
			t.Errorf("the role may still read the first database: %v", err)
		}
		_, n := r.traces()
		rows, _ := r.st.Resources(t.Context(), store.ResourceQuery{Type: "Microsoft.Authorization/roleAssignments", Parent: databaseScope(az.MustParseID(servers+"pg1"), first)})
		if len(rows) != 0 {
			t.Errorf("an assignment at the first database is left of %d", n)
		}
	})
}

// TestRepeatingHeals spoils a role on the server in two ways.
func TestRepeatingHeals(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		link, user := sites+"web"+linkers+r.conn("h"), "aad_"+r.conn("h")
		r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
		who := r.identity("web")
		spoil := map[string]func(){
			"the session changes its password": func() {
				if _, err := r.mustEnter(who, user).Exec(t.Context(), "alter role current_user password 'known'"); err != nil {
					t.Fatal(err)
				}
			},
			"the role is dropped": func() {
				r.f.asOwner(t, "drop owned by "+ident(user), "drop role "+ident(user))
			},
		}
		for name, fn := range spoil {
			fn()
			if _, err := r.enter(who, user); err == nil {
				t.Fatalf("%s: the test proves nothing", name)
			}
			if v := r.must(boss, "POST", link+"/validateLinker", ""); at(v, "properties", "isConnectionAvailable") != false {
				t.Errorf("%s: validateLinker does not see it", name)
			}
			r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
			tries(t, r.mustEnter(who, user), map[string]bool{"select * from todo": true, "delete from todo": false})
			if _, err := r.f.login(t, user, az.NewSecret("known")); err == nil {
				t.Errorf("%s: the session's password still works", name)
			}
		}
	})
}
