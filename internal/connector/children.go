package connector

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// databaseProperties is a database of a server. A PUT makes it if it is not
// there. Deleting the resource only forgets it: dropping data is not for a
// plane that adopts other people's servers (docs/divergences.md).
type databaseProperties struct {
	Charset   string `json:"charset,omitempty"`
	Collation string `json:"collation,omitempty"`
}

func (c *Connector) databaseType() *arm.Type[databaseProperties] {
	return arm.Define(DatabaseType, versions, arm.Hooks[databaseProperties]{Check: c.checkDatabase, Deleting: c.deletingDatabase})
}

func (c *Connector) checkDatabase(ctx context.Context, _ *arm.Call, r, _ *arm.Resource[databaseProperties]) error {
	p, name := &r.Properties, r.ID.Name()
	if err := checkName("database", name); err != nil {
		return err
	}
	srv, err := c.server(ctx, r.ID.Parent())
	if err != nil {
		return err
	}
	conn, err := srv.connect(ctx, "")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	there, err := databaseExists(ctx, conn, name)
	if err != nil {
		return err
	}
	if !there {
		statement := "CREATE DATABASE " + ident(name)
		if srv.local { // its administrators may work in its public schema
			statement += " OWNER " + adminGroup
		}
		var known bool // az asks for en_US.utf8 whatever the server has
		err := conn.QueryRow(ctx, `select exists (select 1 from pg_collation where collname = $1)`, p.Collation).Scan(&known)
		if err != nil {
			return sqlFault("look for the collation", err)
		}
		if known {
			statement += fmt.Sprintf(" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE %s LC_CTYPE %[1]s", ident(p.Collation))
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return sqlFault("create the database", err)
		}
	}
	err = conn.QueryRow(ctx, `select pg_encoding_to_char(encoding)::text, datcollate::text from pg_database where datname = $1`, name).Scan(&p.Charset, &p.Collation)
	if err != nil {
		return sqlFault("look at the database", err)
	}
	return nil
}

// deletingDatabase drops a database of a server that the plane runs itself.
func (c *Connector) deletingDatabase(ctx context.Context, call *arm.Call, r *arm.Resource[databaseProperties]) error {
	server, err := c.servers.Load(ctx, r.ID.Parent())
	if err != nil || !call.Direct() || server == nil || server.Properties.Hawser == nil || server.Properties.Hawser.Local == nil {
		return err
	}
	name := r.ID.Name()
	if name == "postgres" {
		return az.Errorf(az.Invalid, "CannotDelete", "The database postgres is the server's own and cannot be deleted.")
	}
	return c.withServer(ctx, server, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+ident(name)+" WITH (FORCE)"); err != nil {
			return sqlFault("drop the database", err)
		}
		return nil
	})
}

// firewallProperties are addresses that may connect. They are kept and have no
// effect: who gets in is decided by token and role (docs/divergences.md).
type firewallProperties struct {
	Start string `json:"startIpAddress"`
	End   string `json:"endIpAddress"`
}

func (c *Connector) firewallType() *arm.Type[firewallProperties] {
	return firewallTypeOf(ServerType, versions)
}

func firewallTypeOf(server string, versions []string) *arm.Type[firewallProperties] {
	return arm.Define(server+"/firewallRules", versions, arm.Hooks[firewallProperties]{
		Check: func(_ context.Context, _ *arm.Call, r, _ *arm.Resource[firewallProperties]) error {
			a, err := netip.ParseAddr(r.Properties.Start)
			b, err2 := netip.ParseAddr(r.Properties.End)
			if err != nil || err2 != nil || !a.Is4() || !b.Is4() || b.Less(a) {
				return az.Errorf(az.Invalid, "InvalidFirewallRule", "startIpAddress and endIpAddress must be IPv4 addresses, the first not above the second.")
			}
			return nil
		},
	})
}

// administratorProperties is an Entra administrator of a server; the resource's
// name is its object id.
type administratorProperties struct {
	PrincipalType string `json:"principalType,omitempty"`
	PrincipalName string `json:"principalName,omitempty"`
	ObjectID      string `json:"objectId,omitempty"`
	TenantID      string `json:"tenantId,omitempty"`
	Role          az.ID  `json:"hawserRole,omitzero"`
	Assignment    az.ID  `json:"hawserAssignment,omitzero"`
}

func (c *Connector) administratorType() *arm.Type[administratorProperties] {
	return arm.Define(AdministratorType, versions, arm.Hooks[administratorProperties]{
		Check: c.checkAdministrator, Apply: c.applyAdministrator, Delete: c.deleteAdministrator,
		Deleted: func(ctx context.Context, r *arm.Resource[administratorProperties]) { c.tidy(ctx, r.Properties.Role) },
	})
}

// checkAdministrator makes the login role of an administrator.
func (c *Connector) checkAdministrator(ctx context.Context, call *arm.Call, r, old *arm.Resource[administratorProperties]) error {
	p := &r.Properties
	oid, kind, err := c.principal(ctx, r.ID.Name())
	if err != nil {
		return err
	}
	if old != nil && (p.PrincipalName == "" || p.PrincipalName == old.Properties.PrincipalName) {
		*p = old.Properties
	} else if old != nil {
		return az.Errorf(az.Conflict, "AdministratorExists", "The principal is an administrator already, as %q; delete that first.", old.Properties.PrincipalName)
	}
	if err := checkRole(p.PrincipalName); err != nil {
		return err
	}
	server := r.ID.Parent()
	if err := call.Linked(ctx, actionAssignRole, server); err != nil {
		return err
	}
	if err := c.takesTokens(ctx, server); err != nil {
		return err
	}
	srv, err := c.server(ctx, server)
	if err != nil {
		return err
	}
	p.PrincipalType, p.ObjectID, p.TenantID = string(kind), oid, c.cfg.Names.Tenant
	p.Role, p.Assignment = principalID(server, p.PrincipalName), assignmentID(r.ID, server)
	want := claim{Server: server, By: r.ID, Role: p.PrincipalName, OID: oid, Kind: kind, Admin: true, Access: Owner}
	var prev []roleUse
	return c.perform(ctx, []step{{
		name: "make the administrator's role",
		do:   func(ctx context.Context) error { return c.makeRole(ctx, srv, want, &prev) },
		undo: func(ctx context.Context) error { return c.dropClaim(ctx, want, prev) },
	}})
}

// takesTokens refuses an administrator who could not come in: az makes servers
// without logins by token unless told otherwise.
func (c *Connector) takesTokens(ctx context.Context, server az.ID) error {
	r, err := c.servers.Load(ctx, server)
	if err != nil || r == nil || r.Properties.AuthConfig == nil || r.Properties.AuthConfig.ActiveDirectoryAuth != disabled {
		return err
	}
	return az.Errorf(az.Invalid, "AadAuthDisabled", "Logins by token are turned off for the server '%s', so nobody could be its administrator: turn them on first (az postgres flexible-server update --active-directory-auth Enabled).", r.ID.Name())
}

func (c *Connector) applyAdministrator(tx *store.Tx, r, _ *arm.Resource[administratorProperties]) error {
	p := &r.Properties
	if err := c.commitUse(tx, p.Role, r.ID, ""); err != nil {
		return err
	}
	return c.assign(tx, p.Assignment, p.ObjectID, az.PrincipalKind(p.PrincipalType))
}

func (c *Connector) deleteAdministrator(tx *store.Tx, r *arm.Resource[administratorProperties]) error {
	if _, err := tx.DeleteResource(r.Properties.Assignment); err != nil {
		return err
	}
	return c.releaseTx(tx, r.Properties.Role, by(r.ID))
}

// tidy brings roles on their servers into line after a commit. What fails now
// is done by Sweep later; nobody gets in meanwhile.
func (c *Connector) tidy(ctx context.Context, roles ...az.ID) {
	for _, role := range roles {
		if role.IsRoot() {
			continue
		}
		if err := c.finish(ctx, role); err != nil {
			c.cfg.Log.Warn("connector: a role on a server could not be brought into line yet; it will be tried again", "role", role.String(), "error", err)
		}
	}
}
