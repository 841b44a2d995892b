package store

import (
	"context"
	"database/sql"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrate brings the schema up to date. The usual start finds nothing to do
// and costs one query; planes that start together on one PostgreSQL take turns
// behind goose's advisory lock.
func (s *Store) migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var newest int64
	err = db.QueryRowContext(ctx, `select max(version_id) from goose_db_version where is_applied`).Scan(&newest)
	if err == nil && newest == int64(len(files)) {
		return nil
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect, opts := goose.DialectSQLite3, []goose.ProviderOption{goose.WithVerbose(false)}
	if s.postgres {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 30))
		if err != nil {
			return err
		}
		dialect, opts = goose.DialectPostgres, append(opts, goose.WithSessionLocker(locker))
		// The locker needs a connection of its own beside the migrations'.
		db = s.db
	}
	p, err := goose.NewProvider(dialect, db, dir, opts...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	if err != nil && strings.Contains(err.Error(), "no migrations") {
		return nil
	}
	return err
}
