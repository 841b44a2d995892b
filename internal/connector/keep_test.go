package connector

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

// TestADroppedRoleLeavesNoTrapWithTheOwnersRights: what a role has made is not
// to run as the owner login, who may be a superuser, once the role is gone or
// may less.
func TestADroppedRoleLeavesNoTrapWithTheOwnersRights(t *testing.T) {
	for _, super := range []bool{false, true} {
		f := newFixture(t)
		f.asOwner(t, `create table vault (secret text)`, `insert into vault values ('the owner''s own')`,
			`revoke all on vault from public`)
		if super {
			f.Owner, f.Password = real().SuperUser, az.NewSecret(real().Password)
		}
		spec, conn := f.role(t, "trapper_"+f.db, Owner)
		// Its own table, so that the trap stays the trapper's whatever it may read.
		if _, err := conn.Exec(t.Context(), `create schema trap; grant usage on schema trap to public;
			create function trap.who() returns text language plpgsql security definer as $$ begin return current_user; end $$;
			create function trap.steal() returns text language plpgsql security definer as $$ declare s text; begin select secret into s from public.vault; return s; end $$;
			create table trap.kept as select 42 as v;
			create view trap.look as select * from trap.kept; grant select on trap.look to public`, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		accomplice, friend := f.role(t, "accomplice_"+f.db, Read)
		if _, err := friend.Exec(t.Context(), `select trap.who()`); err != nil {
			t.Fatalf("the trap does not spring while its maker is there: %v", err)
		}
		if err := f.drop(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		var who string
		if err := friend.QueryRow(t.Context(), `select trap.who()`).Scan(&who); err == nil && who == f.Owner {
			t.Errorf("super %v: the dropped role's function runs as the owner login", super)
		}
		var secret string
		if err := friend.QueryRow(t.Context(), `select trap.steal()`).Scan(&secret); err == nil {
			t.Errorf("super %v: the dropped role's function reads %q", super, secret)
		}
		if err := friend.QueryRow(t.Context(), `select v::text from trap.look`).Scan(&secret); err != nil || secret != "42" {
			t.Errorf("super %v: what the role has made is no longer of use: %q, %v", super, secret, err)
		}
		if err := f.drop(t.Context(), accomplice); err != nil {
			t.Fatal(err)
		}
		f.asOwner(t, `alter table trap.kept add column w int`, `drop schema trap cascade`)
	}
}

// TestARoleIsRepaired: somebody changed the password of the role at the server.
func TestARoleIsRepaired(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		name := r.conn("fix")
		r.must(boss, "PUT", sites+"web"+linkers+name, r.linkBody("go", Read, ""))
		who, role := r.identity("web"), "aad_"+name
		if _, err := r.mustEnter(who, role).Exec(t.Context(), "alter role "+ident(role)+" password 'mine'"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.enter(who, role); err == nil {
			t.Fatal("the password was not changed, so this proves nothing")
		}
		if err := r.Repair(t.Context(), az.MustParseID(servers+"pg1"), role); err != nil {
			t.Fatal(err)
		}
		r.mustEnter(who, role)
		if _, err := r.f.login(t, role, az.NewSecret("mine")); err == nil {
			t.Error("the other password is still good")
		}
		if err := r.Repair(t.Context(), az.MustParseID(servers+"pg1"), r.f.Owner); err == nil {
			t.Error("a role that is not ours was repaired")
		}
	})
}
