package connector

import (
	"encoding/json"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// assignmentID is the role assignment that a linker or administrator makes at
// a scope. Each has its own, so that the end of one takes nothing from another
// and what people assigned themselves is never touched.
func assignmentID(by, scope az.ID) az.ID {
	return scope.Child("providers", "Microsoft.Authorization", "roleAssignments", az.NamedGUID("hawser/connection", by.Key(), scope.Key()))
}

// assign gives a principal the right to log in at a server or database of any
// kind, in the caller's transaction. It may be repeated.
func (c *Connector) assign(tx *store.Tx, id az.ID, oid string, kind az.PrincipalKind) error {
	return c.assignRole(tx, id, oid, kind, familyOf(id).role)
}

// assignRole is assign for any role.
func (c *Connector) assignRole(tx *store.Tx, id az.ID, oid string, kind az.PrincipalKind, role string) error {
	var body struct {
		Properties struct {
			RoleDefinitionID az.ID            `json:"roleDefinitionId"`
			PrincipalID      string           `json:"principalId"`
			PrincipalType    az.PrincipalKind `json:"principalType"`
			Scope            az.ID            `json:"scope"`
			Description      string           `json:"description"`
		} `json:"properties"`
	}
	p := &body.Properties
	p.RoleDefinitionID = az.Root.Child("subscriptions", c.cfg.Names.Subscription, "providers", "Microsoft.Authorization", "roleDefinitions", role)
	p.PrincipalID, p.PrincipalType, p.Scope, p.Description = oid, kind, id.Parent(), "Made by Service Connector."
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	old, there, err := tx.Resource(id)
	if err != nil || there && string(old.Body) == string(raw) {
		return err
	}
	return tx.PutResource(store.Resource{ID: id, ETag: az.NewGUID(), Body: raw}, old.ETag)
}
