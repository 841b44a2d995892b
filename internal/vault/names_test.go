package vault

import (
	"context"
	"net/http"
	"testing"
	"time"

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

// Who could read a secret that was purged cannot for that reason read another
// that somebody makes under its name.
func TestRightsAtASecretEndWithIt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		r.grant("00482a5a-887f-4fb3-b363-3b7fe8e74483", officer, kvID)
		for _, end := range []func(){
			func() { r.must(http.StatusNoContent, r.do(officer, "DELETE", "/deletedsecrets/s1", "")) },
			func() {
				r.now.Add(100 * 24 * time.Hour)
				if _, err := r.PurgeDue(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
		} {
			r.set("s1", "first")
			r.set("s10", "beside it")
			r.grant(guard.RoleSecretsUser, stranger, kvID.Child("secrets", "S1"))
			r.grant(guard.RoleSecretsUser, stranger, kvID.Child("secrets", "s10"))
			r.must(http.StatusOK, r.do(stranger, "GET", "/secrets/s1", ""))
			r.must(http.StatusOK, r.do(officer, "DELETE", "/secrets/s1", ""))
			end()
			r.set("s1", "second")
			r.must(http.StatusForbidden, r.do(stranger, "GET", "/secrets/s1", ""))
			r.must(http.StatusOK, r.do(stranger, "GET", "/secrets/s10", ""))
		}
	})
}
