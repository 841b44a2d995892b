package store

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// backupTimeout bounds a copy: SQLite writes some 100 MB a second.
const backupTimeout = 10 * time.Minute

// Backup writes a consistent copy of a SQLite store to a new file, while others
// read and write. What is sealed stays sealed. PostgreSQL has tools of its own.
func (s *Store) Backup(ctx context.Context, path string) error {
	if s.postgres {
		return az.Errorf(az.Unsupported, "BackupElsewhere", "This plane keeps its data in PostgreSQL: back that up with pg_dump or with its own snapshots.")
	}
	if !filepath.IsAbs(path) {
		return az.Errorf(az.Invalid, "InvalidParameter", "The backup's file must be named by its whole path.")
	}
	// Made first, so that nobody else can read it at any moment; SQLite writes
	// into an empty file.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return az.Errorf(az.Invalid, "InvalidParameter", "The backup's file cannot be made: it is there already, or its directory is not the plane's to write.").Because(err)
	}
	_ = f.Close()
	ctx, cancel := context.WithTimeout(ctx, backupTimeout)
	defer cancel()
	if err := s.copyTo(ctx, path); err != nil {
		return errors.Join(az.Errorf(az.Unavailable, "BackupFailed", "The backup could not be written; look at the space on its disk.").Because(err), os.Remove(path))
	}
	return nil
}

func (s *Store) copyTo(ctx context.Context, path string) error {
	// A connection of its own: the readers' are query_only, the writer's is busy.
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(s.file)}).String()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, `vacuum into $1`, path)
	return err
}

// Restore puts a backup into an empty data directory. The plane must not run;
// it will need the KEK that it had when the backup was made.
func Restore(path, dir string) error {
	unlock, err := lockFile(filepath.Join(dir, "hawser.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	target := filepath.Join(dir, "hawser.db")
	for _, there := range []string{target, target + "-wal"} {
		if _, err := os.Stat(there); err == nil {
			return errors.New("the data directory holds a store already; restore into an empty one")
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Source: SQLite file format, §1.3: the first 16 bytes of every database.
	if len(b) < 100 || string(b[:16]) != "SQLite format 3\x00" {
		return errors.New("the file is no backup of a plane")
	}
	tmp := target + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, target)
}
