package connector

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// administration is what the Entra administrator of a server is there: a role
// and the right to log in.
type administration struct {
	Holder     string           `json:"hawserPrincipalId,omitempty"`
	Kind       az.PrincipalKind `json:"hawserPrincipalType,omitempty"`
	Role       az.ID            `json:"hawserRole,omitzero"`
	Assignment az.ID            `json:"hawserAssignment,omitzero"`
}

// administrate makes the role of an administrator on a real server: an
// administrator's resource, by is its id, calls it in Check, and
// applyAdministration in Apply.
func (c *Connector) administrate(ctx context.Context, call *arm.Call, by az.ID, login, sid string) (administration, error) {
	server := by.Parent()
	if err := familyOf(server).checkRole(login); err != nil {
		return administration{}, err
	}
	oid, kind, err := c.principalOfSID(ctx, sid)
	if err != nil {
		return administration{}, err
	}
	if err := call.Linked(ctx, actionAssignRole, server); err != nil {
		return administration{}, err
	}
	srv, err := c.engine(ctx, server)
	if err != nil {
		return administration{}, err
	}
	want := claim{Server: server, By: by, Role: login, OID: oid, Kind: kind, Admin: true, Access: Owner}
	var prev []roleUse
	err = c.perform(ctx, []step{{
		name: "make the administrator's role",
		do:   func(ctx context.Context) error { return c.makeRole(ctx, srv, want, &prev) },
		undo: func(ctx context.Context) error { return c.dropClaim(ctx, want, prev) },
	}})
	return administration{oid, kind, principalID(server, login), assignmentID(by, server)}, err
}

// principalOfSID is principal for an administrator, whose sid may be the client
// id of an application; roles are mapped to object ids only.
func (c *Connector) principalOfSID(ctx context.Context, sid string) (string, az.PrincipalKind, error) {
	if o, there, err := c.cfg.Directory.ByAppID(ctx, sid); err != nil || there {
		if err != nil {
			return "", "", err
		}
		return o.ID, az.ServicePrincipal, nil
	}
	return c.principal(ctx, sid)
}

func (c *Connector) applyAdministration(tx *store.Tx, by az.ID, a *administration) error {
	if a.Role.IsRoot() {
		return nil
	}
	if err := c.commitUse(tx, a.Role, by, ""); err != nil {
		return err
	}
	return c.assign(tx, a.Assignment, a.Holder, a.Kind)
}

func (c *Connector) deleteAdministration(tx *store.Tx, by az.ID, a *administration) error {
	if a.Role.IsRoot() {
		return nil
	}
	if _, err := tx.DeleteResource(a.Assignment); err != nil {
		return err
	}
	return c.releaseTx(tx, a.Role, func(u roleUse) bool { return u.By.Equal(by) })
}
