package connector

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

func TestGrantsAreExactlyWhatWasAskedFor(t *testing.T) {
	f := newFixture(t)
	n := f.db // role names are of the whole server
	_, read := f.role(t, "r_"+n, Read)
	_, write := f.role(t, "w_"+n, Write)
	_, own := f.role(t, "o_"+n, Owner, use{"r_" + n, Read}, use{"w_" + n, Write})
	// What comes later must be covered, in schemas that come later too.
	f.asOwner(t, `create table later (id serial primary key)`, `create schema new`, `create table new.t (id bigserial primary key)`)
	if _, err := own.Exec(t.Context(), `create table public.by_app (id serial primary key)`); err != nil {
		t.Fatal(err)
	}
	tries(t, read, map[string]bool{
		`select * from todo`:                                     true,
		`select * from "Other ""one"""."T"`:                      true,
		`select * from later`:                                    true,
		`select * from new.t`:                                    true,
		`select * from by_app`:                                   true,
		`select last_value from todo_id_seq`:                     true,
		`insert into todo (what) values ('x')`:                   false,
		`update todo set what = ''`:                              false,
		`delete from later`:                                      false,
		`delete from by_app`:                                     false,
		`truncate todo`:                                          false,
		`select nextval('todo_id_seq')`:                          false,
		`create table mine (x int)`:                              false,
		`create schema mine`:                                     false,
		`create role x`:                                          false,
		`alter role current_user createdb`:                       false,
		`set role ` + ident(f.Owner):                             false,
		`copy todo to program 'true'`:                            false,
		`alter default privileges grant all on tables to public`: true, // of its own, which it cannot make
	})
	tries(t, write, map[string]bool{
		`insert into todo (what) values ('x')`:          true,
		`update todo set what = ''`:                     true,
		`delete from later`:                             true,
		`insert into new.t default values`:              true,
		`insert into by_app default values`:             true,
		`select nextval('later_id_seq')`:                true,
		`select setval('later_id_seq', 9)`:              false,
		`truncate todo`:                                 false,
		`alter table todo add column y int`:             false,
		`create table mine (x int)`:                     false,
		`create table todo_ref (i int references todo)`: false,
	})
	tries(t, own, map[string]bool{
		`truncate todo`:                    true,
		`create table mine (x int)`:        true,
		`create schema mine`:               true,
		`create table new.mine (x int)`:    true,
		`select setval('later_id_seq', 9)`: true,
		`drop table by_app`:                true,
		`drop table todo`:                  false, // it is its owner's
		`create role x`:                    false,
		`create database x`:                false,
	})
}

func TestGrantsMayBeRepeated(t *testing.T) {
	f := newFixture(t)
	spec, _ := f.role(t, "again_"+f.db, Write)
	acl := func() (out string) {
		conn, err := f.connect(t.Context(), f.db)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		err = conn.QueryRow(t.Context(), `select (select string_agg(relname || relacl::text, ',' order by relname) from pg_class where relacl is not null and relnamespace > 16000 or relname like 'todo%')
			|| (select string_agg(defaclacl::text, ',' order by 1) from (select defaclacl from pg_default_acl order by oid) d) || (select datacl::text from pg_database where datname = current_database())`).Scan(&out)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := acl()
	f.grant(t, spec, Write)
	f.grant(t, spec, Write)
	if after := acl(); after != before {
		t.Errorf("repeating changed the grants:\n%s\n%s", before, after)
	}
}

func TestNamesThatTryToBreakOut(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{`a"; drop table todo; --` + f.db, `x' or '1'='1` + f.db, `$1 ` + f.db, `Ümläut ` + f.db, `back\slash` + f.db, `a.b` + f.db, `a@b#EXT#@c` + f.db} {
		if err := checkRole(name); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		spec, conn := f.role(t, name, Read)
		var who string
		if err := conn.QueryRow(t.Context(), `select current_user::text`).Scan(&who); err != nil || who != name {
			t.Errorf("got %q, %v; want %q", who, err, name)
		}
		if err := f.drop(t.Context(), spec); err != nil {
			t.Errorf("drop %q: %v", name, err)
		}
	}
	f.asOwner(t, `select * from todo`)
	for _, name := range []string{"", "pg_read_all_data", "PG_x", "public", "none", "azure_pg_admin", "a\x00b", "a\nb", "\xff", strings.Repeat("a", 64)} {
		if err := checkRole(name); !az.Is(err, az.Invalid) {
			t.Errorf("the role name %q was taken: %v", name, err)
		}
	}
}

func TestARoleOfSomebodyElseIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	name := "foreign_" + f.db
	f.asOwner(t, `create role `+name+` login password 'theirs'`)
	spec := roleSpec{Name: name, Marker: az.NewGUID(), Password: newPassword()}
	conn, err := f.connect(t.Context(), f.db)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := ensureRole(t.Context(), conn, spec); !az.Is(err, az.Conflict) {
		t.Fatalf("got %v, want Conflict", err)
	}
	if err := f.drop(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	f.as(t, name, az.NewSecret("theirs"))
}

func TestDroppingARoleKeepsItsData(t *testing.T) {
	for _, super := range []bool{false, true} {
		f := newFixture(t)
		if super {
			f.Owner, f.Password = real().SuperUser, az.NewSecret(real().Password)
		}
		spec, conn := f.role(t, "gone_"+f.db, Owner)
		if _, err := conn.Exec(t.Context(), `create schema s; create table s.kept as select 42 as v; create table kept2 as select 1 as v`, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		if err := f.drop(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("the role's session is still there")
		}
		if _, err := f.login(t, spec.Name, spec.Password); err == nil {
			t.Error("the role can still log in")
		}
		f.asOwner(t, `select v from s.kept`, `insert into kept2 values (2)`, `drop table kept2`)
		if err := f.drop(t.Context(), spec); err != nil {
			t.Errorf("dropping again: %v", err)
		}
	}
}

func TestTheBackendPasswordIsInNoLog(t *testing.T) {
	f := newFixture(t)
	spec, _ := f.role(t, "secret_"+f.db, Read)
	log := real().Log()
	if !strings.Contains(log, "secret_"+f.db) {
		t.Fatal("the server does not log statements, so this test proves nothing")
	}
	if strings.Contains(log, spec.Password.Reveal()) {
		t.Error("the password stands in the server's log")
	}
}

func TestOwnerErrorsHoldNoPassword(t *testing.T) {
	secret := "s3cr3t-of-the-owner"
	base := backend{Host: real().Host, Port: real().Port, SSLMode: sslDisable, Owner: real().SuperUser, Password: az.NewSecret(secret), Database: "postgres"}
	for name, change := range map[string]func(*backend){
		"wrong password": func(*backend) {},
		"no TLS":         func(b *backend) { b.SSLMode = sslRequire },
		"no server":      func(b *backend) { b.Port = 1 },
		"no name":        func(b *backend) { b.Host = "no.such.host.invalid" },
		"no database":    func(b *backend) { b.Password = az.NewSecret(real().Password); b.Database = "nix" },
	} {
		b := base
		change(&b)
		_, err := b.connect(t.Context(), "")
		if err == nil || strings.Contains(err.Error(), b.Password.Reveal()) {
			t.Errorf("%s: %v", name, err)
		}
		if az.KindOf(err) == az.Internal {
			t.Errorf("%s: an error without a sentence: %v", name, err)
		}
	}
}
