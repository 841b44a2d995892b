package store

import (
	"context"
	"database/sql"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
)

// within selects what lies below a scope. The prefix is compared by characters,
// since no range of a text column means the same under every collation.
func within(scope az.ID) (cond string, args []any) {
	if scope.IsRoot() {
		return `1 = 1`, nil
	}
	prefix := scope.Key() + "/"
	args = []any{int64(utf8.RuneCountInString(prefix)), prefix}
	cond = `substr(key, 1, cast($1 as integer)) = $2`
	if g := groupKey(scope); g != "" {
		cond += ` and group_key = $3`
		args = append(args, g)
	}
	return cond, args
}

// ResourcesWithin lists every resource below a scope, at any depth, in the
// order of folded ids.
func (s *Store) ResourcesWithin(ctx context.Context, scope az.ID) ([]Resource, error) {
	cond, args := within(scope)
	var out []Resource
	err := s.rows(ctx, `select `+resourceColumns+` from resources where `+cond+` order by key`, args, func(rs *sql.Rows) error {
		r, err := scanResource(rs.Scan)
		out = append(out, r)
		return err
	})
	return out, err
}

// AnyWithin reports whether there is a resource below a scope.
func (tx *Tx) AnyWithin(scope az.ID) (bool, error) {
	cond, args := within(scope)
	var one int64
	return tx.row(`select 1 from resources where `+cond+` limit 1`, args, &one)
}

// ResourcesWithin lists every resource below a scope inside a transaction.
func (tx *Tx) ResourcesWithin(scope az.ID) ([]Resource, error) {
	cond, args := within(scope)
	var out []Resource
	err := tx.rows(`select `+resourceColumns+` from resources where `+cond+` order by key`, args, func(rs *sql.Rows) error {
		r, err := scanResource(rs.Scan)
		out = append(out, r)
		return err
	})
	return out, err
}
