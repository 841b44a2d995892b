package directory

import (
	"github.com/hawser/hawser/internal/store"
)

// ReviseApplication lets fn change an application as it is inside the
// transaction, so that no other change is lost, and writes it if fn says that
// it did.
func (d *Directory) ReviseApplication(tx *store.Tx, id string, fn func(*Object) (changed bool, err error)) (*Object, error) {
	o, err := existing(tx, Application, id)
	if err != nil {
		return nil, err
	}
	changed, err := fn(o)
	if err != nil || !changed {
		return o, err
	}
	return o, d.Update(tx, o)
}
