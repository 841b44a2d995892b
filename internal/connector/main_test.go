package connector

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store/storetest"
)

// real is the PostgreSQL server that the tests connect sites to, from the first
// that asks for it on: a worker of a fuzz test needs none. It logs every
// statement, so that a test can look for what must not be there.
var real = sync.OnceValue(func() *storetest.Postgres {
	pg, err := storetest.NewPostgres("log_statement=all", "shared_buffers=8MB")
	if err != nil {
		panic(err)
	}
	started.Store(pg)
	return pg
})

var started atomic.Pointer[storetest.Postgres]

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if pg := started.Load(); pg != nil {
		pg.Remove()
	}
	os.Exit(code)
}

var databaseNumber atomic.Int64

// fixture is a database of its own with one owner who is no superuser, some
// tables, and the way to reach it.
type fixture struct {
	*backend
	db string
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	n := databaseNumber.Add(1)
	f := &fixture{db: fmt.Sprintf("app%d", n)}
	owner := fmt.Sprintf("owner%d", n)
	real().Exec(t, "postgres", fmt.Sprintf(`create role %s login createrole createdb password 'owner''s own'`, owner))
	real().Exec(t, "postgres", fmt.Sprintf(`create database %s owner %s`, f.db, owner))
	f.backend = &backend{Host: real().Host, Port: real().Port, SSLMode: sslDisable, Owner: owner, Password: az.NewSecret("owner's own"), Database: "postgres"}
	f.asOwner(t, `create table todo (id serial primary key, what text)`, `insert into todo (what) values ('a'), ('b')`,
		`create schema "Other ""one"""`, `create table "Other ""one"""."T" (x int)`)
	return f
}

func (f *fixture) asOwner(t testing.TB, statements ...string) {
	t.Helper()
	conn, err := f.connect(t.Context(), f.db)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range append([]string{`set search_path = public`}, statements...) {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// as logs a role in as the gateway does, or fails the test.
func (f *fixture) as(t testing.TB, role string, password az.Secret) *pgx.Conn {
	t.Helper()
	conn, err := f.login(t, role, password)
	if err != nil {
		t.Fatalf("login as %q: %v", role, err)
	}
	return conn
}

func (f *fixture) login(t testing.TB, role string, password az.Secret) (*pgx.Conn, error) {
	cfg, err := f.config(role, password, f.db)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

// role makes a role with an access, as a linker does.
func (f *fixture) role(t testing.TB, name string, a Access, others ...use) (roleSpec, *pgx.Conn) {
	t.Helper()
	spec := roleSpec{Name: name, Marker: az.NewGUID(), Password: newPassword()}
	f.grant(t, spec, a, others...)
	return spec, f.as(t, name, spec.Password)
}

func (f *fixture) grant(t testing.TB, spec roleSpec, a Access, others ...use) {
	t.Helper()
	conn, err := f.connect(t.Context(), f.db)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := ensureRole(t.Context(), conn, spec); err != nil {
		t.Fatal(err)
	}
	if err := grantAccess(t.Context(), conn, use{spec.Name, a}, others); err != nil {
		t.Fatal(err)
	}
}

// tries runs each statement by itself and compares whether it was allowed.
func tries(t testing.TB, conn *pgx.Conn, statements map[string]bool) {
	t.Helper()
	for s, want := range statements {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(ctx, s)
		_ = tx.Rollback(ctx)
		cancel()
		if (err == nil) != want {
			t.Errorf("%s: allowed %v, want %v (%v)", s, err == nil, want, err)
		}
	}
}
