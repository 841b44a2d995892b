package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/hawser/hawser/internal/az"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config says where the store lives.
type Config struct {
	// URL is "sqlite" (or empty) for a file in Dir, or postgres://….
	URL string
	// Dir is the plane's data directory, which is taken for this process alone;
	// SQLite keeps hawser.db there.
	Dir string
	// Clock is the plane's clock; nil means the real one.
	Clock az.Clock
	// Log receives what goes wrong in the background; nil discards it.
	Log *slog.Logger
}

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	postgres bool
	url      string
	file     string  // SQLite's
	db       *sql.DB // reads
	clock    az.Clock
	log      *slog.Logger
	writer   *writer
	feed     *feed
	stmts    sync.Map // SQL text → *sql.Stmt, prepared on db
	unlock   func()
	stop     context.CancelFunc
	done     sync.WaitGroup // the writer and feed goroutines; Close waits for them
}

// readTimeout bounds one read; a store slower than this is as good as away.
const readTimeout = 5 * time.Second

// Open opens the store, brings its schema up to date and starts its two
// goroutines (writer, feed), which Close stops.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{clock: cfg.Clock, log: cfg.Log, url: cfg.URL}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	writerDB, err := s.open(cfg)
	if err != nil {
		if s.unlock != nil {
			s.unlock()
		}
		return nil, fmt.Errorf("cannot open the store: %w", err)
	}
	if err := s.migrate(ctx, writerDB); err != nil {
		s.closeDBs(writerDB)
		return nil, fmt.Errorf("cannot bring the store's schema up to date: %w", redactURL(err, cfg.URL))
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.feed = newFeed(s)
	if err := s.feed.begin(ctx); err != nil {
		stop()
		s.closeDBs(writerDB)
		return nil, fmt.Errorf("cannot read the store's change feed: %w", redactURL(err, cfg.URL))
	}
	s.writer = newWriter(s, writerDB)
	s.done.Go(func() { s.writer.loop(run) })
	if s.postgres {
		s.done.Go(func() { s.feed.follow(run) })
	}
	return s, nil
}

// open takes the data directory for this process alone, wherever the data are
// (the audit log and the local socket are there in any case), and opens the
// database.
func (s *Store) open(cfg Config) (writerDB *sql.DB, err error) {
	if cfg.Dir != "" {
		if s.unlock, err = lockFile(filepath.Join(cfg.Dir, "hawser.lock")); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.URL == "" || cfg.URL == "sqlite":
		return s.openSQLite(cfg.Dir)
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		s.postgres = true
		return s.openPostgres(cfg.URL)
	}
	return nil, errors.New("the store must be sqlite or postgres://…")
}

// Close waits for the writes under way and closes the store.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	s.closeDBs(s.writer.db)
	return nil
}

func (s *Store) closeDBs(writerDB *sql.DB) {
	_ = writerDB.Close()
	_ = s.db.Close()
	if s.unlock != nil {
		s.unlock()
	}
}

func (s *Store) openSQLite(dir string) (*sql.DB, error) {
	if dir == "" {
		return nil, errors.New("no data directory was given")
	}
	path := filepath.Join(dir, "hawser.db")
	s.file = path
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	} else {
		_ = f.Close()
	}
	dsn := func(extra string) string {
		q := "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
			"&_pragma=secure_delete(ON)&_pragma=temp_store(MEMORY)" + extra
		return (&url.URL{Scheme: "file", Opaque: url.PathEscape(path)}).String() + q
	}
	w, err := sql.Open("sqlite", dsn("&_pragma=wal_autocheckpoint(4000)"))
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	s.db, err = sql.Open("sqlite", dsn("&_pragma=query_only(ON)"))
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	s.db.SetMaxOpenConns(4)
	s.db.SetMaxIdleConns(4)
	return w, nil
}

func (s *Store) openPostgres(raw string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(raw)
	if err != nil {
		return nil, errors.New("the postgres:// URL cannot be parsed")
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "hawser"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = readTimeout
	}
	wcfg := cfg.Copy()
	// A plane that hangs inside a transaction holds every plane's writes up.
	wcfg.RuntimeParams["idle_in_transaction_session_timeout"] = "5000"
	wcfg.RuntimeParams["lock_timeout"] = "5000"
	wcfg.RuntimeParams["statement_timeout"] = "10000"
	w := stdlib.OpenDB(*wcfg)
	w.SetMaxOpenConns(1)
	s.db = stdlib.OpenDB(*cfg)
	s.db.SetMaxOpenConns(16)
	s.db.SetMaxIdleConns(16)
	return w, nil
}

// prepared returns the statement for an SQL text, prepared once.
func (s *Store) prepared(ctx context.Context, q string) (*sql.Stmt, error) {
	if st, ok := s.stmts.Load(q); ok {
		return st.(*sql.Stmt), nil
	}
	st, err := s.db.PrepareContext(ctx, q)
	if err != nil {
		return nil, err
	}
	if old, raced := s.stmts.LoadOrStore(q, st); raced {
		_ = st.Close()
		return old.(*sql.Stmt), nil
	}
	return st, nil
}

// row reads one row outside a transaction; sql.ErrNoRows becomes ok == false.
func (s *Store) row(ctx context.Context, q string, args []any, dest ...any) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	st, err := s.prepared(ctx, q)
	if err != nil {
		return false, fault(err)
	}
	return scanned(st.QueryRowContext(ctx, args...).Scan(dest...))
}

// rows reads many rows outside a transaction.
func (s *Store) rows(ctx context.Context, q string, args []any, each func(*sql.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, 4*readTimeout)
	defer cancel()
	st, err := s.prepared(ctx, q)
	if err != nil {
		return fault(err)
	}
	rs, err := st.QueryContext(ctx, args...)
	return eachRow(rs, err, each)
}

func eachRow(rs *sql.Rows, err error, each func(*sql.Rows) error) error {
	if err != nil {
		return fault(err)
	}
	defer func() { _ = rs.Close() }()
	for rs.Next() {
		if err := each(rs); err != nil {
			return fault(err)
		}
	}
	return fault(rs.Err())
}

func scanned(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, fault(err)
}

// fault turns a driver's error into Unavailable (the store is away, full, or
// slow: try again) or Internal. An az.Error passes through.
func fault(err error) error {
	var known *az.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	// Source: PostgreSQL, appendix A, class 22 (data exception): a text that is
	// not Unicode, or holds a zero byte. To try again would not help.
	var pg *pgconn.PgError
	if errors.As(err, &pg) && strings.HasPrefix(pg.Code, "22") {
		return az.Errorf(az.Invalid, "BadRequest", "The request holds a text that cannot be stored: it must be Unicode, without zero bytes.").Because(err)
	}
	return az.Errorf(az.Unavailable, "ServiceUnavailable",
		"The store cannot be reached at the moment; nothing was changed. Try again.").Because(err)
}

// IsDuplicate reports whether err came from a unique constraint.
func IsDuplicate(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505" // unique_violation
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return lite.Code() == 2067 || lite.Code() == 1555 // SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY
	}
	return false
}

// redactURL keeps a store URL, which may hold a password, out of an error.
func redactURL(err error, raw string) error {
	if err == nil || raw == "" || !strings.Contains(err.Error(), raw) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), raw, "postgres://"+az.Redacted))
}

// Ping reports whether the store answers, for readiness.
func (s *Store) Ping(ctx context.Context) error {
	var n int64
	_, err := s.row(ctx, `select seq from feed where id = 1`, nil, &n)
	return err
}

// Postgres reports whether several planes may share this store.
func (s *Store) Postgres() bool { return s.postgres }
