package vault

import (
	"context"
	"encoding/json"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// maxBackupVersions is Key Vault's limit of versions in a backup.
const maxBackupVersions = 500

// backupPurpose binds a blob to where it may be restored: any vault of the
// same tenant and subscription, as in Azure.
func (v *Vaults) backupPurpose() string {
	return "backup/1/" + v.names.Tenant + "/" + v.names.Subscription
}

type backupBlob struct {
	Name     string          `json:"name"`
	Versions []backupVersion `json:"versions"` // oldest first
}

type backupVersion struct {
	Version     string    `json:"version"`
	Value       []byte    `json:"value"`
	ContentType string    `json:"contentType,omitempty"`
	Tags        string    `json:"tags,omitempty"`
	Enabled     bool      `json:"enabled"`
	NotBefore   az.Micros `json:"nbf,omitempty"`
	Expires     az.Micros `json:"exp,omitempty"`
	Created     az.Micros `json:"created"`
	Updated     az.Micros `json:"updated"`
}

func (v *Vaults) backup(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actBackup, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	rows, err := v.store.SecretBackup(ctx, c.vault, name, maxBackupVersions+1)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, secretNotFound(name, "")
	case len(rows) > maxBackupVersions:
		return nil, badParameter("The secret has more than the %d versions that a backup can hold.", maxBackupVersions)
	}
	blob := backupBlob{Name: rows[0].Name, Versions: make([]backupVersion, len(rows))}
	defer blob.wipe()
	for i := range rows {
		r := &rows[i]
		value, err := v.open(nil, v.place(c.vault, r), r)
		if err != nil {
			return nil, err
		}
		blob.Versions[i] = backupVersion{r.Version, value, r.ContentType, r.Tags, r.Enabled, r.NotBefore, r.Expires, r.Created, r.Updated}
	}
	plain, err := json.Marshal(blob)
	if err != nil {
		return nil, err
	}
	defer seal.Wipe(plain)
	return append(appendString([]byte(`{"value":`), v.pack(v.backupPurpose(), plain)), '}'), nil
}

func (v *Vaults) place(vt *store.Vault, r *store.SecretVersion) seal.Place {
	return seal.Place{Table: sealedTable, ID: store.SecretKey(vt, r.Name), Version: r.Version}
}

func (b *backupBlob) wipe() {
	for i := range b.Versions {
		seal.Wipe(b.Versions[i].Value)
	}
}

func (v *Vaults) restore(ctx context.Context, c call) (any, error) {
	if err := v.allow(ctx, c.Caller, actRestore, c.live, c.vault.ID); err != nil {
		return nil, err
	}
	var body struct {
		Value string `json:"value"`
	}
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	blob, err := v.openBackup(body.Value)
	if err != nil {
		return nil, err
	}
	defer blob.wipe()
	rows := make([]store.SecretVersion, len(blob.Versions))
	for i, b := range blob.Versions {
		rows[i] = store.SecretVersion{Name: blob.Name, Version: b.Version, ContentType: b.ContentType, Tags: b.Tags, Enabled: b.Enabled,
			NotBefore: b.NotBefore, Expires: b.Expires, Created: b.Created, Updated: b.Updated}
		if rows[i].Sealed, err = v.sealer.Seal(v.place(c.vault, &rows[i]), b.Value); err != nil {
			return nil, err
		}
	}
	if err := v.restoreRows(ctx, c.vault, rows); err != nil {
		return nil, err
	}
	return c.show(&rows[len(rows)-1], nil), nil
}

func (v *Vaults) restoreRows(ctx context.Context, vt *store.Vault, rows []store.SecretVersion) error {
	name := rows[0].Name
	return v.store.Write(ctx, func(tx *store.Tx) error {
		n, there, err := tx.SecretName(vt, name)
		switch {
		case err != nil:
			return err
		case there && n.Deleted != 0:
			return deletedConflict(n.Name)
		case there:
			return conflict("", "A secret with the name %s already exists in this key vault; a backup can only be restored where its name is free.", n.Name)
		}
		for i := range rows {
			if err := tx.AddSecretVersion(vt, store.SecretName{Versions: int64(i)}, rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// openBackup opens and checks a blob. What opens was made by this plane's
// backup, but is not trusted further than a request is.
func (v *Vaults) openBackup(text string) (backupBlob, error) {
	var blob backupBlob
	bad := badParameter("The backup blob is damaged, or was made in another tenant or subscription.")
	plain, err := v.unpack(v.backupPurpose(), text)
	if err != nil {
		return blob, bad
	}
	defer seal.Wipe(plain)
	if json.Unmarshal(plain, &blob) != nil || !validName(blob.Name) || len(blob.Versions) == 0 || len(blob.Versions) > maxBackupVersions {
		return backupBlob{}, bad
	}
	for _, b := range blob.Versions {
		if !validVersion(b.Version) || len(b.Value) > maxValue {
			return backupBlob{}, bad
		}
	}
	return blob, nil
}
