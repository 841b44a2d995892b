package connector

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// mysqlAdministratorProperties is the one Entra administrator of a server.
type mysqlAdministratorProperties struct {
	Type     string `json:"administratorType,omitempty"`
	Login    string `json:"login,omitempty"`
	SID      string `json:"sid,omitempty"`
	TenantID string `json:"tenantId,omitempty"`
	Identity string `json:"identityResourceId,omitempty"`
	administration
}

func (c *Connector) mysqlAdministratorType() *arm.Type[mysqlAdministratorProperties] {
	return arm.Define(MySQLServerType+"/administrators", mysqlVersions, arm.Hooks[mysqlAdministratorProperties]{
		NoState: true, Check: c.checkMySQLAdministrator,
		Apply: func(tx *store.Tx, r, old *arm.Resource[mysqlAdministratorProperties]) error {
			p := &r.Properties
			if old != nil && !old.Properties.Role.IsRoot() && !old.Properties.Role.Equal(p.Role) {
				if err := c.releaseTx(tx, old.Properties.Role, by(r.ID)); err != nil {
					return err
				}
			}
			return c.applyAdministration(tx, r.ID, &p.administration)
		},
		After: func(ctx context.Context, _, old *arm.Resource[mysqlAdministratorProperties]) {
			if old != nil {
				c.tidy(ctx, old.Properties.Role)
			}
		},
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[mysqlAdministratorProperties]) (any, error) {
			p := r.Properties
			p.administration = administration{}
			return p, nil
		},
		Delete: func(tx *store.Tx, r *arm.Resource[mysqlAdministratorProperties]) error {
			return c.deleteAdministration(tx, r.ID, &r.Properties.administration)
		},
		Deleted: func(ctx context.Context, r *arm.Resource[mysqlAdministratorProperties]) {
			c.tidy(ctx, r.Properties.Role)
		},
	})
}

func (c *Connector) checkMySQLAdministrator(ctx context.Context, call *arm.Call, r, _ *arm.Resource[mysqlAdministratorProperties]) error {
	p := &r.Properties
	if r.ID.Name() != activeDirectory {
		return az.Errorf(az.Invalid, "InvalidResourceName", "A server's administrator is called ActiveDirectory.")
	}
	a := sqlAdministrator{AdministratorType: p.Type, Login: p.Login, SID: p.SID, TenantID: p.TenantID}
	if err := c.checkSQLAdministrator(ctx, &a); err != nil {
		return err
	}
	p.Type, p.SID, p.TenantID, p.administration = a.AdministratorType, a.SID, a.TenantID, administration{}
	server, err := c.mysqlServers.Load(ctx, r.ID.Parent())
	if err != nil || server == nil {
		return err
	}
	has := false
	for id := range server.Identity.UserAssigned {
		has = has || server.Identity.User() && strings.EqualFold(id, p.Identity)
	}
	if has && server.Properties.Hawser == nil {
		return nil // a description of one
	}
	if has {
		p.administration, err = c.administrate(ctx, call, r.ID, p.Login, p.SID)
		return err
	}
	return az.Errorf(az.Invalid, "IdentityNotAssigned", "identityResourceId must be a user-assigned identity of the server: az mysql flexible-server identity assign.")
}
