package tdstest_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlserver", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func number(t *testing.T, err error) int32 {
	t.Helper()
	var e mssql.Error
	if !errors.As(err, &e) {
		t.Fatalf("no error of the server: %v", err)
	}
	return e.Number
}

// TestRealDriver: go-mssqldb finds a server that it can live with, in the
// three ways to encrypt.
func TestRealDriver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    tdstest.Options
		more []string
	}{
		"TLS in PRELOGIN":     {},
		"client wants it off": {more: []string{"encrypt=false"}},
		"strict":              {more: []string{"encrypt=strict", "hostnameincertificate=localhost"}},
		"no TLS":              {o: tdstest.Options{Encryption: tdstest.NotSupported}, more: []string{"encrypt=disable"}},
		"large packets":       {more: []string{"packet size=16000"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := tdstest.Start(t, c.o)
			s.SetLogin(tdstest.Login{Name: "app", Password: "p}w;ä"})
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, s.CA(), 0o600); err != nil {
				t.Fatal(err)
			}
			db := open(t, s.DSN("app", "p}w;ä", append(c.more, "certificate="+ca)...))
			ctx := background(t)
			var who, base, text string
			var n int64
			if err := db.QueryRowContext(ctx, "SELECT SUSER_SNAME(), DB_NAME(), 7, N'it''s, ä'").Scan(&who, &base, &n, &text); err != nil {
				t.Fatal(err)
			}
			if who != "app" || base != "master" || n != 7 || text != "it's, ä" {
				t.Error(who, base, n, text)
			}
			if err := db.QueryRowContext(ctx, "SELECT @p1, @p2", 42, "wörter").Scan(&n, &text); err != nil || n != 42 || text != "wörter" {
				t.Error(n, text, err)
			}
			rows, err := db.QueryContext(ctx, "SELECT value, REPLICATE('x', 1000) FROM GENERATE_SERIES(1, 500)")
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for rows.Next() {
				if err := rows.Scan(&n, &text); err != nil || len(text) != 1000 {
					t.Fatal(err)
				}
				sum += n
			}
			if sum != 500*501/2 || rows.Err() != nil {
				t.Error(sum, rows.Err())
			}
		})
	}
}

func TestErrorsTransactionsAttention(t *testing.T) {
	t.Parallel()
	s := tdstest.Start(t, tdstest.Options{Databases: []string{"appdb"}})
	s.SetLogin(tdstest.Login{Name: "app", Password: "pw"})
	db := open(t, s.DSN("app", "pw", "database=appdb"))
	db.SetMaxOpenConns(1)
	ctx := background(t)
	if _, err := db.ExecContext(ctx, "RAISERROR('no', 16, 1)"); number(t, err) != 50000 {
		t.Error(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if err := tx.QueryRow("SELECT @@TRANCOUNT").Scan(&n); err != nil || n != 1 {
		t.Error(n, err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(short, "WAITFOR DELAY '00:00:30'"); err == nil {
		t.Error("an attention did not end a WAITFOR")
	}
	if _, err := db.ExecContext(ctx, "CREATE TABLE #t (n int)"); err != nil {
		t.Fatal(err)
	}
	// The driver resets a connection that comes from its pool.
	var id sql.NullInt64
	if err := db.QueryRowContext(ctx, "SELECT OBJECT_ID('tempdb..#t')").Scan(&id); err != nil || id.Valid {
		t.Error("a reset left a table", err)
	}
	if all := s.Sessions(); len(all) != 1 || all[0].Login != "app" {
		t.Errorf("%+v", all)
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	s := tdstest.Start(t, tdstest.Options{})
	s.SetLogin(tdstest.Login{Name: "app", Password: "pw", MustChange: true})
	s.SetLogin(tdstest.Login{Name: "old", Password: "pw", Expired: true})
	s.SetLogin(tdstest.Login{Name: "off", Password: "pw", Disabled: true})
	for dsn, want := range map[string]int32{s.DSN("app", "pw"): 18488, s.DSN("old", "pw"): 18487, s.DSN("off", "pw"): 18470,
		s.DSN("app", "wrong"): 18456, s.DSN("nobody", "pw"): 18456} {
		if got := number(t, open(t, dsn).PingContext(background(t))); got != want {
			t.Errorf("%s: %d, want %d", dsn, got, want)
		}
	}
	if err := open(t, s.DSN("app", "pw", "change password=new")).PingContext(background(t)); err != nil {
		t.Error(err)
	}
	if err := open(t, s.DSN("app", "new")).PingContext(background(t)); err != nil {
		t.Error(err)
	}
	if got := number(t, open(t, s.DSN("app", "new", "database=none")).PingContext(background(t))); got != 18456 && got != 4060 {
		t.Error(got)
	}
}
