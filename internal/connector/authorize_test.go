package connector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// mapTo maps a role on pg1 to a principal, as a person does.
func (r *rig) mapTo(role, oid string, a Access) {
	r.t.Helper()
	r.must(boss, "PUT", servers+"pg1/principals/"+role, fmt.Sprintf(`{"properties":{"principalId":%q,"database":%q,"access":%q}}`, oid, r.f.db, a))
}

func TestWhoMayLogIn(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		ann, bob, eve := r.user(r.conn("ann")), r.user(r.conn("bob")), r.user(r.conn("eve"))
		inner := r.group(r.conn("inner"), bob)
		outer := r.group(r.conn("outer"), inner)
		mine, theirs := r.conn("mine"), r.conn("team")
		r.mapTo(mine, ann, Write)
		r.mapTo(theirs, outer, Read)
		database := servers + "pg1/databases/" + r.f.db
		annMay := r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		r.grantRole(guard.RolePostgresLogin, outer, database)
		r.grantRole(guard.RolePostgresLogin, eve, subscription)
		person := func(oid string) az.Principal { p := as(oid); p.Kind = az.User; return p }

		tries(t, r.mustEnter(person(ann), mine), map[string]bool{`insert into todo (what) values ('x')`: true})
		tries(t, r.mustEnter(person(bob), theirs), map[string]bool{`select * from todo`: true, `insert into todo (what) values ('x')`: false})

		refused := func(what string, who az.Principal, server, database, user, code string) {
			t.Helper()
			before := len(r.records(guard.ActionPostgresLogin, guard.Refused))
			_, err := r.Authorize(t.Context(), who, Login{PostgreSQL, server, database, user})
			var want = az.Forbidden
			if code == "ServerNotFound" {
				want = az.Invalid
			}
			if !az.Is(err, want) || code != "" && !strings.Contains(err.Error(), code) {
				t.Errorf("%s: %v", what, err)
			}
			if want == az.Forbidden && len(r.records(guard.ActionPostgresLogin, guard.Refused)) != before+1 {
				t.Errorf("%s: the refusal was not recorded", what)
			}
		}
		refused("somebody else's role", person(eve), "pg1", r.f.db, mine, "RoleNotMapped")
		refused("a role of a group she is not in", person(eve), "pg1", r.f.db, theirs, "RoleNotMapped")
		refused("an app's token for a person's role", as(eve), "pg1", r.f.db, mine, gateway.WrongTokenType)
		refused("the owner's own login", person(ann), "pg1", r.f.db, r.f.Owner, "RoleNotMapped")
		refused("a superuser", person(ann), "pg1", r.f.db, "postgres", "RoleNotMapped")
		refused("another database", person(ann), "pg1", "postgres", mine, "RoleNotMapped")
		refused("another case of the role", person(ann), "pg1", r.f.db, strings.ToUpper(mine), "RoleNotMapped")
		refused("another case of the database", person(ann), "pg1", strings.ToUpper(r.f.db), mine, "RoleNotMapped")
		refused("no such role", person(ann), "pg1", r.f.db, "nobody", "RoleNotMapped")
		refused("an odd role", person(ann), "pg1", r.f.db, "a/b\x00'; drop table todo", "RoleNotMapped")
		refused("a path for a database", person(ann), "pg1", r.f.db+"/../postgres", mine, "RoleNotMapped")
		refused("no such server", person(ann), "pg2", r.f.db, mine, "ServerNotFound")
		if _, err := r.Authorize(t.Context(), az.Principal{}, Login{PostgreSQL, "pg1", r.f.db, mine}); !az.Is(err, az.Unauthorized) {
			t.Errorf("nobody: %v", err)
		}
		if b, err := r.Authorize(t.Context(), person(ann), Login{PostgreSQL, "", r.f.db, mine}); err != nil || b.Server.Name() != "pg1" {
			t.Errorf("the only server, unnamed: %v", err)
		}

		// A look at an open session is recorded only when it ends it.
		n := len(r.records(guard.ActionPostgresLogin, guard.Allowed))
		if _, err := r.Recheck(t.Context(), person(ann), Login{PostgreSQL, "pg1", r.f.db, mine}); err != nil {
			t.Error(err)
		}
		if got := len(r.records(guard.ActionPostgresLogin, guard.Allowed)); got != n {
			t.Errorf("Recheck wrote %d records of what has not changed", got-n)
		}
		r.write(func(tx *store.Tx) error { _, err := tx.DeleteResource(annMay); return err })
		if _, err := r.Recheck(t.Context(), person(ann), Login{PostgreSQL, "pg1", r.f.db, mine}); !az.Is(err, az.Forbidden) {
			t.Errorf("after the assignment was revoked: %v", err)
		}
		refused("after the assignment was revoked", person(ann), "pg1", r.f.db, mine, "AuthorizationFailed")
		r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(outer, inner); return err })
		refused("after the group lost its member", person(bob), "pg1", r.f.db, theirs, "RoleNotMapped")
	})
}

// TestARecreatedPrincipalIsAnother: names mean nothing, object ids do.
func TestARecreatedPrincipalIsAnother(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		link, user := sites+"web"+linkers+r.conn("c"), "aad_"+r.conn("c")
		r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
		old := r.identity("web")
		r.mustEnter(old, user)
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"None"}}`)
		if _, err := r.enter(old, user); !az.Is(err, az.Forbidden) {
			t.Errorf("a deleted identity's token still lets in: %v", err)
		}
		if _, err := r.Recheck(t.Context(), old, Login{PostgreSQL, "pg1", r.f.db, user}); !az.Is(err, az.Forbidden) {
			t.Errorf("a deleted identity's session goes on: %v", err)
		}
		r.must(boss, "PATCH", sites+"web", `{"identity":{"type":"SystemAssigned"}}`)
		again := r.identity("web")
		if again.ObjectID == old.ObjectID {
			t.Fatal("the test proves nothing")
		}
		if _, err := r.enter(again, user); !az.Is(err, az.Forbidden) {
			t.Errorf("a recreated identity took the old one's role: %v", err)
		}
		report := r.must(boss, "POST", link+"/validateLinker", "")
		if at(report, "properties", "isConnectionAvailable") != false {
			t.Errorf("validateLinker does not see it: %v", report)
		}
		// Making the connection again gives the new identity a role of its own
		// and takes the old one's away.
		r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
		now := strings.Split(r.settings("web")["AZURE_POSTGRESQL_CONNECTIONSTRING"].(string), "user=")[1]
		now, _, _ = strings.Cut(now, " ")
		r.mustEnter(again, now)
		if now != user && r.roleExists(user) {
			t.Error("the old identity's role is still there")
		}
	})
}

func TestADisabledUserIsOut(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	ann := r.user("ann")
	r.mapTo(r.conn("ann"), ann, Read)
	r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
	r.mustEnter(as(ann), r.conn("ann"))
	r.write(func(tx *store.Tx) error {
		o, ok, err := r.dir.Get(t.Context(), ann)
		if err != nil || !ok {
			return err
		}
		off := *o
		off.Enabled = false
		return r.dir.Update(tx, &off)
	})
	if _, err := r.enter(as(ann), r.conn("ann")); !az.Is(err, az.Forbidden) {
		t.Errorf("disabled: %v", err)
	}
}

// TestTwoPlanesAgreeAtOnce: what one plane takes away, another knows.
func TestTwoPlanesAgreeAtOnce(t *testing.T) {
	a, b := storetest.Pair(t)
	one := newPlane(t, a)
	two := newRig(t, b, one.sealer, one.f)
	link, user := sites+"web"+linkers+one.conn("c"), "aad_"+one.conn("c")
	one.must(boss, "PUT", link, one.linkBody("go", Read, ""))
	who := one.identity("web")
	if err := b.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.mustEnter(who, user)
	old, err := two.Authorize(t.Context(), who, Login{PostgreSQL, "pg1", one.f.db, user})
	if err != nil {
		t.Fatal(err)
	}
	one.offset.Store(int64(DefaultRotateAfter) * 2)
	if err := one.RotateBackendPasswords(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := two.f.login(t, user, old.Password); err == nil {
		t.Error("the old password still works after the rotation")
	}
	if err := b.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.mustEnter(who, user)
	one.must(boss, "DELETE", link, "")
	if err := b.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := two.enter(who, user); !az.Is(err, az.Forbidden) {
		t.Errorf("the other plane lets in after the end of the connection: %v", err)
	}
}

// TestARotationCutOffIsFinished leaves a rotation after the server was told.
func TestARotationCutOffIsFinished(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		link, user := sites+"web"+linkers+r.conn("c"), "aad_"+r.conn("c")
		r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
		who := r.identity("web")
		id := principalID(az.MustParseID(servers+"pg1"), user)
		p, err := r.principals.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		p.Secrets[nextSecret], p.Properties.Rotating = newPassword(), true
		if err := r.save(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		spec := r.spec(p)
		spec.Password = p.Secrets[nextSecret]
		conn, err := r.f.connect(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := ensureRole(t.Context(), conn, spec); err != nil {
			t.Fatal(err)
		}
		if _, err := r.enter(who, user); err == nil {
			t.Fatal("the test proves nothing")
		}
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.mustEnter(who, user)
	})
}

func TestServersWithoutANameAreFoundByTheRole(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	link, user := sites+"web"+linkers+r.conn("c"), "aad_"+r.conn("c")
	r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
	who := r.identity("web")
	r.attach("pg2")
	b, err := r.Authorize(t.Context(), who, Login{PostgreSQL, "", r.f.db, user})
	if err != nil || b.Server.Name() != "pg1" {
		t.Errorf("got %v, %v", b.Server, err)
	}
	if _, err := r.Authorize(t.Context(), as(r.user("eve")), Login{PostgreSQL, "", r.f.db, user}); !az.Is(err, az.Invalid) || strings.Contains(err.Error(), "pg1") {
		t.Errorf("a stranger learns: %v", err)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	r := newPlane(b, storetest.Open(b, store.Config{Dir: b.TempDir()}))
	r.must(boss, "PUT", sites+"web"+linkers+r.conn("bench"), r.linkBody("go", Read, ""))
	who, user := r.identity("web"), "aad_"+r.conn("bench")
	for _, v := range []struct {
		name string
		ask  func() error
	}{
		{"login", func() error {
			_, err := r.Authorize(b.Context(), who, Login{PostgreSQL, "pg1", r.f.db, user})
			return err
		}},
		{"recheck", func() error {
			_, err := r.Recheck(b.Context(), who, Login{PostgreSQL, "pg1", r.f.db, user})
			return err
		}},
	} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
