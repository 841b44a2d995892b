package directory

import (
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// ReviseUser lets fn change a person as they are inside the transaction, so
// that no other change is lost, and writes them.
func (d *Directory) ReviseUser(tx *store.Tx, id string, fn func(*Object) error) error {
	o, err := existing(tx, az.User, id)
	if err != nil {
		return err
	}
	if err := fn(o); err != nil {
		return err
	}
	return d.Update(tx, o)
}

// EndSessions ends everything that a person signed in for until now.
func (d *Directory) EndSessions(tx *store.Tx, id string) error {
	return d.ReviseUser(tx, id, func(o *Object) error {
		o.ValidFrom = tx.Now()
		return nil
	})
}
