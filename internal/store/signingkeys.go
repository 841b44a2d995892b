package store

import (
	"context"
	"database/sql"

	"github.com/hawser/hawser/internal/az"
)

// SigningKey is one key of the token authority. Sealed is its private half,
// sealed under Place{"signing_keys", KID, ""}.
type SigningKey struct {
	KID         string
	Algorithm   string
	Certificate []byte // DER, self-signed
	Sealed      []byte
	From        az.Micros // it signs from here
	Until       az.Micros // to here; 0: until a successor takes over
	Retired     az.Micros // what it signed is accepted until here; 0: always
}

const signingKeys = `select kid, alg, certificate, sealed, active_from, active_until, retired_at from signing_keys order by active_from, kid`

func signingKeyInto(out *[]SigningKey) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var k SigningKey
		err := r.Scan(&k.KID, &k.Algorithm, &k.Certificate, &k.Sealed, (*int64)(&k.From), (*int64)(&k.Until), (*int64)(&k.Retired))
		*out = append(*out, k)
		return err
	}
}

// SigningKeys lists the signing keys by the time from which they sign.
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	var out []SigningKey
	err := s.rows(ctx, signingKeys, nil, signingKeyInto(&out))
	return out, err
}

// SigningKeys is the same inside a transaction.
func (tx *Tx) SigningKeys() ([]SigningKey, error) {
	var out []SigningKey
	err := tx.rows(signingKeys, nil, signingKeyInto(&out))
	return out, err
}

// PutSigningKey adds a key or writes an existing one's times and sealed half.
func (tx *Tx) PutSigningKey(k SigningKey) error {
	tx.changed(TopicKeys, k.KID)
	_, err := tx.exec(`insert into signing_keys (kid, alg, certificate, sealed, active_from, active_until, retired_at)
		values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (kid) do update set sealed = excluded.sealed, active_from = excluded.active_from,
		active_until = excluded.active_until, retired_at = excluded.retired_at`,
		k.KID, k.Algorithm, k.Certificate, k.Sealed, int64(k.From), int64(k.Until), int64(k.Retired))
	return err
}

// DeleteSigningKey removes a key: nothing that it signed is accepted any more.
func (tx *Tx) DeleteSigningKey(kid string) error {
	tx.changed(TopicKeys, kid)
	_, err := tx.exec(`delete from signing_keys where kid = $1`, kid)
	return err
}
