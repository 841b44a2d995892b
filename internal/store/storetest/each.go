package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/store"
)

// shared is the one PostgreSQL server of a test program; each test gets a
// database of its own in it.
var shared struct {
	once sync.Once
	pg   *Postgres
	err  error
	next atomic.Int64
}

// Main runs a package's tests and removes the shared PostgreSQL server after
// them: func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.pg != nil {
		shared.pg.Remove()
	}
	return code
}

// Each runs fn once with a new store in SQLite and once with a new store in
// PostgreSQL. The test fails where PostgreSQL is not installed: a store that
// was tried on one database only has not been tried.
func Each(t *testing.T, fn func(t *testing.T, st *store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, Open(t, store.Config{Dir: t.TempDir()})) })
	t.Run("postgres", func(t *testing.T) { fn(t, Open(t, store.Config{URL: Database(t)})) })
}

// Pair opens two stores on one PostgreSQL database, as two planes do.
func Pair(t testing.TB) (a, b *store.Store) {
	t.Helper()
	url := Database(t)
	return Open(t, store.Config{URL: url}), Open(t, store.Config{URL: url})
}

// Open opens a store that closes with the test.
func Open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// Database makes an empty database in the shared server and returns its URL.
// The package's TestMain must be Main, or the server outlives the tests.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.pg, shared.err = NewPostgres() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	name := fmt.Sprintf("t%d", shared.next.Add(1))
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, shared.pg.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "create database "+name); err != nil {
		t.Fatal(err)
	}
	return shared.pg.URL(name)
}
