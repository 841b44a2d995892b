package vault

import (
	"net/http"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// A vault's key must not be taken for a secret's, whatever the resource group
// is called: a deleted vault would go on giving its secrets away.
func TestVaultInGroupCalledSecretsIsForgottenWhenDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st)
		id := az.MustParseID("/subscriptions/" + subscription + "/resourceGroups/secrets/providers/Microsoft.KeyVault/vaults/kv1")
		vt := store.Vault{Name: "kv1", Serial: 7, ID: id, Location: "local", RetentionDays: 90, RBAC: true}
		r.putVault(vt)
		r.grant(guard.RoleSecretsOfficer, officer, id)
		r.set("s1", "v")
		r.must(http.StatusOK, r.do(officer, "GET", "/secrets/s1", ""))
		vt.Deleted, vt.PurgeAt = 1, 2
		r.putVault(vt)
		r.must(http.StatusNotFound, r.do(officer, "GET", "/secrets/s1", ""))
	})
}
