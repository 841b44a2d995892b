package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// SecretVersion is one version of a secret of a vault. The value is sealed by
// package vault; Tags is a JSON object or empty.
type SecretVersion struct {
	Name        string // of the secret, as created
	Version     string
	Sealed      []byte
	ContentType string
	Tags        string
	Enabled     bool
	NotBefore   az.Micros // 0: none
	Expires     az.Micros // 0: none
	Created     az.Micros
	Updated     az.Micros

	Number  int64     // 1 for the first version; orders them
	Deleted az.Micros // of the secret; 0: it lives
	PurgeAt az.Micros // of the secret; 0: it lives
}

// SecretName is a secret apart from its versions.
type SecretName struct {
	Name     string
	Latest   string // version
	Versions int64
	Deleted  az.Micros
	PurgeAt  az.Micros
}

const secretColumns = `n.name, s.version, s.content_type, s.tags, s.enabled, s.not_before, s.expires, s.created, s.updated, s.number, n.deleted, n.purge_at`

func (r *SecretVersion) dest(more ...any) []any {
	return append([]any{&r.Name, &r.Version, &r.ContentType, &r.Tags, &r.Enabled, (*int64)(&r.NotBefore), (*int64)(&r.Expires),
		(*int64)(&r.Created), (*int64)(&r.Updated), &r.Number, (*int64)(&r.Deleted), (*int64)(&r.PurgeAt)}, more...)
}

const (
	secretLatest = `select ` + secretColumns + `, s.sealed from secret_names n
		join secret_versions s on s.vault = n.vault and s.name_key = n.name_key and s.version = n.latest
		where n.vault = $1 and n.name_key = $2`
	secretOfVersion = `select ` + secretColumns + `, s.sealed from secret_names n
		join secret_versions s on s.vault = n.vault and s.name_key = n.name_key
		where n.vault = $1 and n.name_key = $2 and s.version = $3`
)

func secretQuery(v *Vault, name, version string) (string, []any) {
	if version == "" {
		return secretLatest, []any{v.Serial, strings.ToLower(name)}
	}
	return secretOfVersion, []any{v.Serial, strings.ToLower(name), version}
}

// Secret reads a version of a secret, the latest if version is empty, of a
// live or deleted secret.
func (s *Store) Secret(ctx context.Context, v *Vault, name, version string) (r SecretVersion, ok bool, err error) {
	q, args := secretQuery(v, name, version)
	ok, err = s.row(ctx, q, args, r.dest(&r.Sealed)...)
	return r, ok, err
}

// Secret reads a version inside a transaction.
func (tx *Tx) Secret(v *Vault, name, version string) (r SecretVersion, ok bool, err error) {
	q, args := secretQuery(v, name, version)
	ok, err = tx.row(q, args, r.dest(&r.Sealed)...)
	return r, ok, err
}

const secretName = `select name, latest, versions, deleted, purge_at from secret_names where vault = $1 and name_key = $2`

// SecretName reads what stands for a secret as a whole, live or deleted.
func (s *Store) SecretName(ctx context.Context, v *Vault, name string) (n SecretName, ok bool, err error) {
	ok, err = s.row(ctx, secretName, []any{v.Serial, strings.ToLower(name)}, n.dest()...)
	return n, ok, err
}

const secretNameAndVault = `select coalesce(n.name, ''), coalesce(n.latest, ''), coalesce(n.versions, 0), coalesce(n.deleted, 0),
	coalesce(n.purge_at, 0), v.deleted from vaults v left join secret_names n on n.vault = v.serial and n.name_key = $2 where v.serial = $1`

// SecretName reads inside a transaction, and notes whether the vault is alive:
// what follows will ask.
func (tx *Tx) SecretName(v *Vault, name string) (n SecretName, ok bool, err error) {
	var vaultDeleted int64
	ok, err = tx.row(secretNameAndVault, []any{v.Serial, strings.ToLower(name)}, append(n.dest(), &vaultDeleted)...)
	if err == nil && ok && vaultDeleted == 0 {
		tx.alive = v.Serial
	}
	return n, ok && n.Name != "", err
}

func (n *SecretName) dest() []any {
	return []any{&n.Name, &n.Latest, &n.Versions, (*int64)(&n.Deleted), (*int64)(&n.PurgeAt)}
}

// Secrets lists the latest versions of a vault's secrets, live or deleted,
// without their values, in the order of their folded names after one.
func (s *Store) Secrets(ctx context.Context, v *Vault, deleted bool, after string, limit int) ([]SecretVersion, error) {
	q := `select ` + secretColumns + ` from secret_names n
		join secret_versions s on s.vault = n.vault and s.name_key = n.name_key and s.version = n.latest
		where n.vault = $1 and n.name_key > $2 and n.deleted = 0 order by n.name_key limit $3`
	if deleted {
		q = strings.Replace(q, "n.deleted = 0", "n.deleted > 0", 1)
	}
	return s.secretRows(ctx, q, []any{v.Serial, after, int64(limit)}, false)
}

// SecretVersions lists the versions of a live secret without their values,
// oldest first, after the version with a number.
func (s *Store) SecretVersions(ctx context.Context, v *Vault, name string, after int64, limit int) ([]SecretVersion, error) {
	return s.secretRows(ctx, `select `+secretColumns+` from secret_names n
		join secret_versions s on s.vault = n.vault and s.name_key = n.name_key
		where n.vault = $1 and n.name_key = $2 and n.deleted = 0 and s.number > $3 order by s.number limit $4`,
		[]any{v.Serial, strings.ToLower(name), after, int64(limit)}, false)
}

// SecretBackup reads the versions of a live secret with their values, oldest
// first.
func (s *Store) SecretBackup(ctx context.Context, v *Vault, name string, limit int) ([]SecretVersion, error) {
	return s.secretRows(ctx, `select `+secretColumns+`, s.sealed from secret_names n
		join secret_versions s on s.vault = n.vault and s.name_key = n.name_key
		where n.vault = $1 and n.name_key = $2 and n.deleted = 0 order by s.number limit $3`,
		[]any{v.Serial, strings.ToLower(name), int64(limit)}, true)
}

func (s *Store) secretRows(ctx context.Context, q string, args []any, sealed bool) ([]SecretVersion, error) {
	var out []SecretVersion
	err := s.rows(ctx, q, args, func(rs *sql.Rows) error {
		var r SecretVersion
		dest := r.dest()
		if sealed {
			dest = r.dest(&r.Sealed)
		}
		err := rs.Scan(dest...)
		out = append(out, r)
		return err
	})
	return out, err
}

// SecretKey is the folded id of a secret: its row's key in the change feed and
// the place its values are sealed for.
func SecretKey(v *Vault, name string) string { return v.ID.Key() + "/secrets/" + strings.ToLower(name) }

// AddSecretVersion makes r the latest version of its secret. n is the secret as
// the caller read it in this transaction, its zero value if it is a new one;
// it must not be deleted.
func (tx *Tx) AddSecretVersion(v *Vault, n SecretName, r SecretVersion) error {
	if err := tx.liveVault(v); err != nil {
		return err
	}
	tx.changed(TopicSecret, SecretKey(v, r.Name))
	key := strings.ToLower(r.Name)
	name := statement{`insert into secret_names (vault, name_key, name, latest, versions, deleted, purge_at)
		values ($1, $2, $3, $4, 1, 0, 0)`, []any{v.Serial, key, r.Name, r.Version}}
	if n.Versions > 0 {
		name = statement{`update secret_names set latest = $1, versions = $2 where vault = $3 and name_key = $4`,
			[]any{r.Version, n.Versions + 1, v.Serial, key}}
	}
	return tx.execAll(name, statement{`insert into secret_versions
		(vault, name_key, version, number, sealed, content_type, tags, enabled, not_before, expires, created, updated)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		[]any{v.Serial, key, r.Version, n.Versions + 1, r.Sealed, r.ContentType, r.Tags, r.Enabled,
			int64(r.NotBefore), int64(r.Expires), int64(r.Created), int64(r.Updated)}})
}

// UpdateSecretVersion writes all of a version but its value.
func (tx *Tx) UpdateSecretVersion(v *Vault, r SecretVersion) error {
	if err := tx.liveVault(v); err != nil {
		return err
	}
	tx.changed(TopicSecret, SecretKey(v, r.Name))
	_, err := tx.exec(`update secret_versions set content_type = $1, tags = $2, enabled = $3, not_before = $4, expires = $5, updated = $6
		where vault = $7 and name_key = $8 and version = $9`,
		r.ContentType, r.Tags, r.Enabled, int64(r.NotBefore), int64(r.Expires), int64(r.Updated), v.Serial, strings.ToLower(r.Name), r.Version)
	return err
}

// MarkSecretDeleted deletes a secret softly, or recovers it when both times
// are zero.
func (tx *Tx) MarkSecretDeleted(v *Vault, name string, deleted, purgeAt az.Micros) error {
	if err := tx.liveVault(v); err != nil {
		return err
	}
	tx.changed(TopicSecret, SecretKey(v, name))
	_, err := tx.exec(`update secret_names set deleted = $1, purge_at = $2 where vault = $3 and name_key = $4`,
		int64(deleted), int64(purgeAt), v.Serial, strings.ToLower(name))
	return err
}

// PurgeSecret removes every version of a secret from the tables.
func (tx *Tx) PurgeSecret(v *Vault, name string) error {
	tx.changed(TopicSecret, SecretKey(v, name))
	for _, q := range [...]string{
		`delete from secret_versions where vault = $1 and name_key = $2`,
		`delete from secret_names where vault = $1 and name_key = $2`,
	} {
		if _, err := tx.exec(q, v.Serial, strings.ToLower(name)); err != nil {
			return err
		}
	}
	return nil
}

// DueSecret is a deleted secret whose time has come.
type DueSecret struct {
	Vault Vault
	Name  string
}

// DueSecrets lists deleted secrets that are to be purged at a time or before,
// those of deleted vaults too.
func (s *Store) DueSecrets(ctx context.Context, at az.Micros, limit int) ([]DueSecret, error) {
	var out []DueSecret
	err := s.rows(ctx, `select n.name, v.serial, v.id from secret_names n join vaults v on v.serial = n.vault
		where n.purge_at > 0 and n.purge_at <= $1 order by n.purge_at limit $2`, []any{int64(at), int64(limit)},
		func(rs *sql.Rows) error {
			var d DueSecret
			err := rs.Scan(&d.Name, &d.Vault.Serial, (*idColumn)(&d.Vault.ID))
			d.Vault.Name = d.Vault.ID.Name()
			out = append(out, d)
			return err
		})
	return out, err
}

// SealedSecret is a sealed value with its place, for sealing it anew.
type SealedSecret struct {
	Vault   Vault // Serial, ID and Name only
	Name    string
	Version string
	Sealed  []byte
}

// SealedSecrets lists sealed values after the one given, in the order of
// their rows; start with the zero SealedSecret.
func (s *Store) SealedSecrets(ctx context.Context, after SealedSecret, limit int) ([]SealedSecret, error) {
	var out []SealedSecret
	err := s.rows(ctx, `select v.serial, v.id, s.name_key, s.version, s.sealed from secret_versions s join vaults v on v.serial = s.vault
		where s.vault > $1 or (s.vault = $1 and (s.name_key > $2 or (s.name_key = $2 and s.version > $3)))
		order by s.vault, s.name_key, s.version limit $4`,
		[]any{after.Vault.Serial, strings.ToLower(after.Name), after.Version, int64(limit)}, func(rs *sql.Rows) error {
			var r SealedSecret
			err := rs.Scan(&r.Vault.Serial, (*idColumn)(&r.Vault.ID), &r.Name, &r.Version, &r.Sealed)
			r.Vault.Name = r.Vault.ID.Name()
			out = append(out, r)
			return err
		})
	return out, err
}

// Reseal replaces a sealed value by the same value sealed anew; one that is
// gone is no error.
func (tx *Tx) Reseal(r SealedSecret, sealed []byte) error {
	tx.changed(TopicSecret, SecretKey(&r.Vault, r.Name))
	_, err := tx.exec(`update secret_versions set sealed = $1 where vault = $2 and name_key = $3 and version = $4`,
		sealed, r.Vault.Serial, strings.ToLower(r.Name), r.Version)
	return err
}
