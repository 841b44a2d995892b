package directory

import (
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// existing reads an object of a kind inside a transaction; it is the caller's
// to change.
func existing(tx *store.Tx, kind az.PrincipalKind, id string) (*Object, error) {
	if !az.IsGUID(id) {
		return nil, notFound(id)
	}
	r, ok, err := tx.Object(id)
	if err != nil {
		return nil, err
	}
	if !ok || r.Kind != string(kind) {
		return nil, notFound(id)
	}
	return fromRow(r)
}
