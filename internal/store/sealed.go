package store

import (
	"context"
	"database/sql"
)

// SealedResources lists resources that have something sealed, in the order of
// their folded ids, after one of them ("" from the start).
func (s *Store) SealedResources(ctx context.Context, after string, limit int) ([]Resource, error) {
	var out []Resource
	err := s.rows(ctx, `select `+resourceColumns+` from resources where sealed is not null and key > $1 order by key limit $2`,
		[]any{after, int64(limit)}, func(rs *sql.Rows) error {
			r, err := scanResource(rs.Scan)
			out = append(out, r)
			return err
		})
	return out, err
}

// ResealResource replaces what is sealed in a version of a resource by the
// same thing sealed anew. To everybody else nothing has changed: the version
// stays, and no change is told. A version that is gone is no error.
func (tx *Tx) ResealResource(r Resource, sealed []byte) error {
	_, err := tx.exec(`update resources set sealed = $1 where key = $2 and etag = $3`, sealed, r.ID.Key(), r.ETag)
	return err
}
