package directory

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// The ways in which people prove who they are, as Graph's authentication
// methods: to be seen, and taken away from who has lost the device. They are
// made by the person alone, on the sign-in pages.

// Kinds of people's second factors in the store; package signin makes them.
const (
	kindOneTimeCode = "totp"
	kindPasskey     = "passkey"
)

// passwordMethod is the id that Graph gives everybody's password.
const passwordMethod = "28c10230-6103-485e-b985-444c60001490" //nolint:gosec // no credential

func (d *Directory) methodOperations() []operation {
	return []operation{
		{method: "GET", path: "/users/{id}/authentication/methods", need: &needs.methods, handle: d.methods},
		{method: "DELETE", path: "/users/{id}/authentication/softwareOathMethods/{method}", need: &needs.methods, handle: d.deleteMethod(kindOneTimeCode)},
		{method: "DELETE", path: "/users/{id}/authentication/fido2Methods/{method}", need: &needs.methods, handle: d.deleteMethod(kindPasskey)},
	}
}

func (d *Directory) methods(ctx context.Context, c *call) (any, error) {
	rows, err := d.store.Credentials(ctx, c.target.ID)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, r := range rows {
		v := map[string]any{"id": r.ID, "createdDateTime": stamp(r.Created)}
		switch r.Kind {
		case string(password):
			v["@odata.type"], v["id"] = "#microsoft.graph.passwordAuthenticationMethod", passwordMethod
		case kindOneTimeCode:
			v["@odata.type"] = "#microsoft.graph.softwareOathAuthenticationMethod"
		case kindPasskey:
			var b struct {
				Label string `json:"label"`
			}
			_ = json.Unmarshal(r.Body, &b) // without a name it can still be taken away
			v["@odata.type"], v["displayName"] = "#microsoft.graph.fido2AuthenticationMethod", b.Label
		default:
			continue
		}
		out = append(out, v)
	}
	return map[string]any{"@odata.context": c.base + "/$metadata#users('" + c.target.ID + "')/authentication/methods", "value": out}, nil
}

// deleteMethod takes a second factor away, and ends what was signed in for with it.
func (d *Directory) deleteMethod(kind string) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		if err := d.guardPrivileged(ctx, c, c.target.ID); err != nil {
			return nil, err
		}
		id := c.vars["method"]
		return nil, d.store.Write(ctx, func(tx *store.Tx) error {
			o, err := existing(tx, az.User, c.target.ID)
			if err != nil {
				return err
			}
			rows, err := tx.Credentials(o.ID)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.Kind != kind || !strings.EqualFold(r.ID, id) {
					continue
				}
				if _, err := tx.DeleteCredential(o.ID, r.ID); err != nil {
					return err
				}
				o.ValidFrom = tx.Now()
				return d.Update(tx, o)
			}
			return notFound(id)
		})
	}
}
