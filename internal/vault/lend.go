package vault

import (
	"context"
	"crypto/subtle"
	"slices"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// What a connection of Service Connector does to a vault. The functions with a
// transaction ask for nobody's right: the caller's own check came before.

// ByPolicies reports whether a vault goes by access policies, not by roles; ok
// is false if there is no such vault.
func (v *Vaults) ByPolicies(ctx context.Context, id az.ID) (policies, ok bool, err error) {
	row, there, err := v.store.Vault(ctx, fold(id.Name()))
	if err != nil || !there || row.Deleted != 0 || !row.ID.Equal(id) {
		return false, false, err
	}
	return !row.RBAC, true, nil
}

// lent are the permissions that a connection needs: those of the role Key
// Vault Secrets User.
var lent = []string{"get", "list"}

// LendSecrets lets an object read the secrets of a vault that goes by access
// policies. It returns the words that were added to the object's policy.
func (v *Vaults) LendSecrets(tx *store.Tx, id az.ID, oid string) (added []string, err error) {
	err = v.editPolicies(tx, id, func(list []accessPolicy) ([]accessPolicy, error) {
		given := accessPolicy{TenantID: v.names.Tenant, ObjectID: fold(oid), Permissions: permissions{Secrets: slices.Clone(lent)}}
		added = slices.Clone(lent)
		if i := find(list, &given); i >= 0 {
			has := bitsOf(list[i].Permissions.Secrets)
			added = slices.DeleteFunc(added, func(word string) bool { return has&bitsOf([]string{word}) != 0 })
		}
		if len(added) == 0 {
			return list, nil
		}
		given.Permissions.Secrets = added
		list = addPolicy(list, given)
		return list, checkPolicies(list, v.names.Tenant)
	})
	return added, err
}

// ReturnSecrets takes back what LendSecrets added. It is no error if the vault
// or the policy is gone.
func (v *Vaults) ReturnSecrets(tx *store.Tx, id az.ID, oid string, words []string) error {
	if len(words) == 0 {
		return nil
	}
	return v.editPolicies(tx, id, func(list []accessPolicy) ([]accessPolicy, error) {
		i := find(list, &accessPolicy{ObjectID: fold(oid)})
		if i < 0 {
			return list, nil
		}
		p := list[i]
		p.Permissions.Secrets = slices.DeleteFunc(slices.Clone(p.Permissions.Secrets), func(w string) bool { return slices.Contains(words, w) })
		list[i] = p
		if len(p.Permissions.Secrets)+len(p.Permissions.Keys)+len(p.Permissions.Certificates)+len(p.Permissions.Storage) == 0 {
			list = slices.Delete(list, i, i+1)
		}
		return list, nil
	})
}

// editPolicies changes a vault's list, in its resource and in the row that
// decisions are made by.
func (v *Vaults) editPolicies(tx *store.Tx, id az.ID, fn func([]accessPolicy) ([]accessPolicy, error)) error {
	r, err := v.resources.Read(tx, id)
	if err != nil || r == nil {
		return err
	}
	row, there, err := tx.Vault(r.ID.Name())
	if err != nil || !there || row.Deleted != 0 || !row.ID.Equal(r.ID) {
		return err
	}
	list, err := fn(slices.Clone(r.Properties.AccessPolicies))
	if err != nil {
		return err
	}
	r.Properties.AccessPolicies = list
	if row.Body, err = storedPolicies(&r.Properties); err != nil {
		return err
	}
	if err := tx.PutVault(row); err != nil {
		return err
	}
	return v.resources.Write(tx, r)
}

// MayRead reports, without making it anybody's decision, whether an object may
// read the secrets of a vault.
func (v *Vaults) MayRead(ctx context.Context, oid, app string, id az.ID) (bool, error) {
	if err := v.store.Fresh(ctx); err != nil {
		return false, err
	}
	vt, err := v.vault(ctx, id.Name())
	if err != nil {
		return false, err
	}
	if vt.RBAC {
		d, err := v.guard.Explain(ctx, oid, actGet.Action, vt.ID)
		return d.Allowed, err
	}
	groups, err := v.guard.Groups(ctx, oid)
	if err != nil {
		return false, err
	}
	for _, holder := range append([]string{fold(oid)}, groups...) {
		if _, ok := vt.policies.holds(holder, app, mayGet); ok {
			return true, nil
		}
	}
	return false, nil
}

// Put sets a secret for a caller, who must have the right to, and returns its
// address. A value that is there already makes no new version.
func (v *Vaults) Put(ctx context.Context, caller az.Principal, vaultName, secret string, value az.Secret) (uri string, err error) {
	if err := v.store.Fresh(ctx); err != nil {
		return "", err
	}
	vt, err := v.vault(ctx, vaultName)
	if err != nil {
		return "", err
	}
	if err := checkName(secret, ""); err != nil {
		return "", err
	}
	if err := v.allow(ctx, caller, actSet, vt, vt.ID.Child("secrets", secret)); err != nil {
		return "", err
	}
	uri = v.names.VaultURL(vt.Name) + "secrets/" + secret
	plain := []byte(value.Reveal())
	defer seal.Wipe(plain)
	if len(plain) > maxValue {
		return "", badParameter("The secret's value is longer than the %d bytes allowed.", maxValue)
	}
	if old, err := v.load(ctx, &vt.Vault, secret, "", nil); err == nil {
		was, err := v.open(nil, v.place(&vt.Vault, &old), &old)
		if err != nil {
			return "", err
		}
		same := subtle.ConstantTimeCompare(was, plain) == 1
		seal.Wipe(was)
		if same {
			return uri, nil
		}
	} else if !az.Is(err, az.NotFound) {
		return "", err
	}
	return uri, v.add(ctx, &vt.Vault, &store.SecretVersion{Name: secret, Version: newVersion(), Enabled: true}, plain)
}

// Drop deletes a secret that Put made; it stays recoverable as any other. It
// is no error if it is gone.
func (v *Vaults) Drop(tx *store.Tx, vaultName, secret string) error {
	row, there, err := tx.Vault(fold(vaultName))
	if err != nil || !there || row.Deleted != 0 {
		return err
	}
	r, ok, err := tx.Secret(&row, secret, "")
	if err != nil || !ok || r.Deleted != 0 {
		return err
	}
	return tx.MarkSecretDeleted(&row, secret, tx.Now(), after(tx.Now(), row.RetentionDays))
}
