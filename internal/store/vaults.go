package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Vault is what the Key Vault data plane knows of a vault. Its ARM resource
// stands in resources while it lives, and in Body after it was deleted.
type Vault struct {
	Name            string // as created; unique over the plane without regard to case
	Serial          int64  // drawn by the creator, never used twice; secrets hang on it
	ID              az.ID
	Location        string
	RetentionDays   int
	PurgeProtection bool
	RBAC            bool   // false: access policies
	Body            []byte // JSON: of a deleted vault its resource, of a live one its access policies
	Created         az.Micros
	Deleted         az.Micros // 0: it lives
	PurgeAt         az.Micros // 0: it lives
}

const vaultColumns = `serial, id, location, retention_days, purge_protection, rbac, body, created, deleted, purge_at`

func (v *Vault) dest() []any {
	return []any{&v.Serial, (*idColumn)(&v.ID), &v.Location, &v.RetentionDays, &v.PurgeProtection, &v.RBAC, &v.Body,
		(*int64)(&v.Created), (*int64)(&v.Deleted), (*int64)(&v.PurgeAt)}
}

const vaultByName = `select ` + vaultColumns + ` from vaults where name_key = $1`

// Vault reads a vault, live or deleted, by its name.
func (s *Store) Vault(ctx context.Context, name string) (v Vault, ok bool, err error) {
	ok, err = s.row(ctx, vaultByName, []any{strings.ToLower(name)}, v.dest()...)
	v.Name = v.ID.Name()
	return v, ok, err
}

// Vault reads a vault inside a transaction.
func (tx *Tx) Vault(name string) (v Vault, ok bool, err error) {
	ok, err = tx.row(vaultByName, []any{strings.ToLower(name)}, v.dest()...)
	v.Name = v.ID.Name()
	return v, ok, err
}

// VaultQuery selects vaults in the order of their folded names.
type VaultQuery struct {
	Deleted  bool      // the deleted ones instead of the live ones
	PurgeDue az.Micros // only those to be purged at this time or before, unless 0
	After    string    // folded name after which to continue
	Limit    int       // 0: all
}

// Vaults lists vaults.
func (s *Store) Vaults(ctx context.Context, q VaultQuery) ([]Vault, error) {
	text, args := `select `+vaultColumns+` from vaults where deleted = 0 and name_key > $1`, []any{q.After}
	if q.Deleted {
		text = `select ` + vaultColumns + ` from vaults where deleted > 0 and name_key > $1`
	}
	if q.PurgeDue != 0 {
		text, args = text+` and purge_at <= $2`, append(args, int64(q.PurgeDue))
	}
	text += ` order by name_key`
	if q.Limit > 0 {
		args = append(args, int64(q.Limit))
		text += ` limit $` + itoa(len(args))
	}
	var out []Vault
	err := s.rows(ctx, text, args, func(rs *sql.Rows) error {
		var v Vault
		if err := rs.Scan(v.dest()...); err != nil {
			return err
		}
		v.Name = v.ID.Name()
		out = append(out, v)
		return nil
	})
	return out, err
}

// PutVault writes a vault: a new one, or over the one with the same serial.
// It returns Conflict if the name belongs to another vault, live or deleted.
func (tx *Tx) PutVault(v Vault) error {
	tx.alive = 0
	tx.changed(TopicSecret, v.ID.Key())
	n, err := tx.exec(`update vaults set location = $1, retention_days = $2, purge_protection = $3, rbac = $4, body = $5,
		deleted = $6, purge_at = $7 where name_key = $8 and serial = $9`,
		v.Location, v.RetentionDays, v.PurgeProtection, v.RBAC, string(v.Body), int64(v.Deleted), int64(v.PurgeAt),
		strings.ToLower(v.ID.Name()), v.Serial)
	if err != nil || n > 0 {
		return err
	}
	_, err = tx.exec(`insert into vaults (name_key, serial, key, id, location, retention_days, purge_protection, rbac, body, created, deleted, purge_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		strings.ToLower(v.ID.Name()), v.Serial, v.ID.Key(), v.ID.String(), v.Location, v.RetentionDays, v.PurgeProtection, v.RBAC,
		string(v.Body), int64(tx.now), int64(v.Deleted), int64(v.PurgeAt))
	return err
}

// PurgeVault removes a vault and every secret in it from the tables.
func (tx *Tx) PurgeVault(v Vault) error {
	tx.alive = 0
	tx.changed(TopicSecret, v.ID.Key())
	for _, q := range [...]string{
		`delete from secret_versions where vault = $1`,
		`delete from secret_names where vault = $1`,
		`delete from vaults where serial = $1`,
	} {
		if _, err := tx.exec(q, v.Serial); err != nil {
			return err
		}
	}
	return nil
}

// liveVault answers NotFound if the vault was deleted since the caller read it:
// nothing may be written into it any more. No other plane writes during this
// transaction, so a batch of writes into one vault asks once.
func (tx *Tx) liveVault(v *Vault) error {
	if v.Serial != 0 && tx.alive == v.Serial {
		return nil
	}
	var one int64
	ok, err := tx.row(`select 1 from vaults where serial = $1 and deleted = 0`, []any{v.Serial}, &one)
	if err == nil && !ok {
		err = az.Errorf(az.NotFound, "VaultNotFound", "The vault was deleted by another request.")
	}
	if err == nil {
		tx.alive = v.Serial
	}
	return err
}
