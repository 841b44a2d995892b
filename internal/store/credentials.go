package store

import (
	"context"
	"database/sql"

	"github.com/hawser/hawser/internal/az"
)

// Credential is one way an object can prove who it is: the keyed hash of a
// client secret, a password's argon2id, a certificate, or a federated identity
// credential. Hash is empty for those that hold nothing secret.
type Credential struct {
	Owner   string // the object's id
	ID      string
	Kind    string
	Hash    []byte
	Body    []byte    // JSON
	Expires az.Micros // 0: never
	Created az.Micros
}

// Credentials lists an object's credentials, oldest first.
func (s *Store) Credentials(ctx context.Context, owner string) ([]Credential, error) {
	var out []Credential
	err := s.rows(ctx, credentialsOf, []any{owner}, credentialInto(&out))
	return out, err
}

// Credentials is the same inside a transaction.
func (tx *Tx) Credentials(owner string) ([]Credential, error) {
	var out []Credential
	err := tx.rows(credentialsOf, []any{owner}, credentialInto(&out))
	return out, err
}

const credentialsOf = `select owner, id, kind, hash, body, expires, created from credentials where owner = $1 order by created, id`

func credentialInto(out *[]Credential) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var c Credential
		err := r.Scan(&c.Owner, &c.ID, &c.Kind, &c.Hash, &c.Body, (*int64)(&c.Expires), (*int64)(&c.Created))
		if c.Expires == never {
			c.Expires = 0
		}
		*out = append(*out, c)
		return err
	}
}

// PutCredential adds a credential or replaces the one with its id.
func (tx *Tx) PutCredential(c Credential) error {
	tx.changed(TopicCredential, c.Owner+"/"+c.ID)
	expires := c.Expires
	if expires == 0 {
		expires = never
	}
	_, err := tx.exec(`insert into credentials (owner, id, kind, hash, body, expires, created) values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (owner, id) do update set kind = excluded.kind, hash = excluded.hash, body = excluded.body, expires = excluded.expires`,
		c.Owner, c.ID, c.Kind, c.Hash, string(c.Body), int64(expires), int64(tx.now))
	return err
}

// DeleteCredential removes one credential.
func (tx *Tx) DeleteCredential(owner, id string) (deleted bool, err error) {
	tx.changed(TopicCredential, owner+"/"+id)
	n, err := tx.exec(`delete from credentials where owner = $1 and id = $2`, owner, id)
	return n > 0, err
}

// Assertion returns the proof that an assertion was first used with; ok is
// false if it was not used, or if what was known of it has ended.
func (s *Store) Assertion(ctx context.Context, key string) (proof string, ok bool, err error) {
	ok, err = s.row(ctx, `select proof from assertions where key = $1 and until > $2`, []any{key, int64(az.MicrosOf(s.clock()))}, &proof)
	return proof, ok, err
}

// UseAssertion notes the first use of an assertion until it ends, and returns
// the proof it was first used with: the one given if this was the first use.
func (tx *Tx) UseAssertion(key, proof string, until az.Micros) (first string, err error) {
	if _, err := tx.exec(`delete from assertions where until < $1`, int64(tx.now)); err != nil {
		return "", err
	}
	if _, err := tx.exec(`insert into assertions (key, proof, until) values ($1, $2, $3) on conflict (key) do nothing`,
		key, proof, int64(until)); err != nil {
		return "", err
	}
	_, err = tx.row(`select proof from assertions where key = $1`, []any{key}, &first)
	return first, err
}
