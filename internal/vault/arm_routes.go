package vault

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

var errNoRow = errors.New("vault: a vault's resource has no row in the data plane")

var (
	actListDeleted = guard.Control("Microsoft.KeyVault/deletedVaults/read")
	actReadDeleted = guard.Control("Microsoft.KeyVault/locations/deletedVaults/read")
	actPurgeVault  = guard.Control("Microsoft.KeyVault/locations/deletedVaults/purge/action")
	actCheckName   = guard.Control("Microsoft.KeyVault/checkNameAvailability/read")
)

// handleRoutes adds the addresses that belong to no one vault.
func (v *Vaults) handleRoutes(api *arm.API) {
	v.handleSecrets(api)
	const provider = "/subscriptions/{subscription}/providers/Microsoft.KeyVault/"
	const deleted = provider + "locations/{location}/deletedVaults/{name}"
	api.Handle(http.MethodPost, provider+"checkNameAvailability", actCheckName, v.checkAvailability)
	api.Handle(http.MethodGet, provider+"deletedVaults", actListDeleted, v.listDeletedVaults)
	api.Handle(http.MethodGet, deleted, actReadDeleted, v.getDeletedVault)
	api.Handle(http.MethodPost, deleted+"/purge", actPurgeVault, v.purgeVault)
	// "az keyvault list" asks for managed HSMs too; there are none to hide.
	for _, path := range []string{provider + "managedHSMs", provider + "deletedManagedHSMs",
		"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/managedHSMs"} {
		api.Handle(http.MethodGet, path, guard.Action{}, func(context.Context, *arm.Call) (any, error) {
			return arm.Page{Value: []any{}}, nil
		})
	}
}

func (v *Vaults) checkAvailability(ctx context.Context, c *arm.Call) (any, error) {
	var body struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	if !strings.EqualFold(body.Type, Type) {
		return nil, armInvalid("BadRequest", "The property 'type' must be '%s'.", Type)
	}
	answer := struct {
		Available bool   `json:"nameAvailable"`
		Reason    string `json:"reason,omitempty"`
		Message   string `json:"message,omitempty"`
	}{Available: true}
	if !validVaultName(body.Name) {
		answer.Available, answer.Reason, answer.Message = false, "AccountNameInvalid", invalidVaultName(body.Name).Message
		return answer, nil
	}
	row, there, err := v.store.Vault(ctx, body.Name)
	if err != nil {
		return nil, err
	}
	if there {
		answer.Available, answer.Reason, answer.Message = false, "AlreadyExists", vaultExists(body.Name).Message
		if row.Deleted != 0 {
			answer.Message = vaultHeld().Message
		}
	}
	return answer, nil
}

// deletedVault is a deleted vault on the wire.
type deletedVault struct {
	ID         string                 `json:"id"`
	Name       string                 `json:"name"`
	Type       string                 `json:"type"`
	Properties deletedVaultProperties `json:"properties"`
}

type deletedVaultProperties struct {
	VaultID         string            `json:"vaultId"`
	Location        string            `json:"location"`
	DeletionDate    string            `json:"deletionDate"`
	PurgeDate       string            `json:"scheduledPurgeDate"`
	Tags            map[string]string `json:"tags"`
	PurgeProtection bool              `json:"purgeProtectionEnabled,omitempty"`
}

func showDeletedVault(row *store.Vault) (deletedVault, error) {
	var b deletedBody
	if err := rest.DecodeJSON(row.Body, &b); err != nil {
		return deletedVault{}, az.Errorf(az.Internal, "", "").Because(err)
	}
	if b.Tags == nil {
		b.Tags = map[string]string{}
	}
	return deletedVault{
		ID:   "/subscriptions/" + row.ID.Subscription() + "/providers/Microsoft.KeyVault/locations/" + row.Location + "/deletedVaults/" + row.Name,
		Name: row.Name,
		Type: "Microsoft.KeyVault/deletedVaults",
		Properties: deletedVaultProperties{row.ID.String(), row.Location, row.Deleted.Time().Format(time.RFC3339),
			row.PurgeAt.Time().Format(time.RFC3339), b.Tags, row.PurgeProtection},
	}, nil
}

func (v *Vaults) listDeletedVaults(ctx context.Context, c *arm.Call) (any, error) {
	rows, err := v.store.Vaults(ctx, store.VaultQuery{Deleted: true})
	if err != nil {
		return nil, err
	}
	out := arm.Page{Value: []any{}}
	for i := range rows {
		if !strings.EqualFold(rows[i].ID.Subscription(), c.Param("subscription")) {
			continue
		}
		d, err := showDeletedVault(&rows[i])
		if err != nil {
			return nil, err
		}
		out.Value = append(out.Value, d)
	}
	return out, nil
}

// isAt reports whether a row is the deleted vault that an address names.
func isAt(c *arm.Call, row *store.Vault, there bool) bool {
	squeeze := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	return there && row.Deleted != 0 && strings.EqualFold(row.ID.Subscription(), c.Param("subscription")) &&
		squeeze(row.Location) == squeeze(c.Param("location"))
}

func (v *Vaults) getDeletedVault(ctx context.Context, c *arm.Call) (any, error) {
	row, there, err := v.store.Vault(ctx, c.Param("name"))
	if err != nil {
		return nil, err
	}
	if !isAt(c, &row, there) {
		return nil, deletedVaultNotFound(c.Param("name"))
	}
	return showDeletedVault(&row)
}

func (v *Vaults) purgeVault(ctx context.Context, c *arm.Call) (any, error) {
	err := v.store.Write(ctx, func(tx *store.Tx) error {
		row, there, err := tx.Vault(c.Param("name"))
		switch {
		case err != nil:
			return err
		case !isAt(c, &row, there):
			return deletedVaultNotFound(c.Param("name"))
		case row.PurgeProtection:
			return az.Errorf(az.Unsupported, "MethodNotAllowed", "Operation 'DeletedVaultPurge' is not allowed: purge protection is enabled for this vault, so it stays until %s.",
				row.PurgeAt.Time().Format(time.RFC3339))
		}
		return tx.PurgeVault(row)
	})
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Status: http.StatusOK}, nil
}
