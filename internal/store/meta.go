package store

import (
	"context"

	"github.com/hawser/hawser/internal/az"
)

// Meta returns the value under a key; ok is false if there is none.
func (s *Store) Meta(ctx context.Context, key string) (value []byte, ok bool, err error) {
	ok, err = s.row(ctx, `select value from meta where key = $1`, []any{key}, &value)
	return value, ok, err
}

// Meta reads inside a transaction.
func (tx *Tx) Meta(key string) (value []byte, ok bool, err error) {
	ok, err = tx.row(`select value from meta where key = $1`, []any{key}, &value)
	return value, ok, err
}

// PutMeta sets the value under a key.
func (tx *Tx) PutMeta(key string, value []byte) error {
	_, err := tx.exec(`insert into meta (key, value) values ($1, $2)
		on conflict (key) do update set value = excluded.value`, key, value)
	tx.changed(TopicMeta, key)
	return err
}

// TakeLease gives name to holder until a time, if nobody else holds it now.
func (s *Store) TakeLease(ctx context.Context, name, holder string, until az.Micros) (taken bool, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		n, err := tx.exec(`insert into leases (name, holder, until) values ($1, $2, $3)
			on conflict (name) do update set holder = excluded.holder, until = excluded.until
			where leases.holder = excluded.holder or leases.until < $4`, name, holder, int64(until), int64(tx.now))
		taken = n == 1
		return err
	})
	return taken, err
}

// DeleteMeta forgets a key.
func (tx *Tx) DeleteMeta(key string) error {
	tx.changed(TopicMeta, key)
	_, err := tx.exec(`delete from meta where key = $1`, key)
	return err
}
