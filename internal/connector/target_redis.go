package connector

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// A connection to a cache gives its identity a data access policy. A principal
// has one policy of a cache, so the connections of one identity share an
// assignment: it has the most that any of them asks for, and goes with the
// last of them.

// cacheAssignment is the assignment of the connections of an identity.
func cacheAssignment(cache az.ID, oid string) az.ID {
	return cache.Child("accessPolicyAssignments", "connection-"+oid)
}

// policyStep finds the assignment; grantTx writes it.
func (p *plan) policyStep() step {
	return step{name: "find the identity's access policy", do: p.findPolicy}
}

func (p *plan) findPolicy(ctx context.Context) error {
	m := p.linker.Properties.Made
	m.PrincipalID, m.Policies = p.who.PrincipalID, false
	if m.PrincipalID == "" {
		return nil // a dry run, before there is an identity
	}
	m.CachePolicy = cacheAssignment(p.server, m.PrincipalID)
	all, err := p.c.redisAssigns.LoadIn(ctx, p.server)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Properties.Object != m.PrincipalID || a.ID.Equal(m.CachePolicy) {
			continue
		}
		if a.Properties.Policy != redisPolicyOf(m.Access) {
			return az.Errorf(az.Conflict, "AccessPolicyAssignmentExists", "The identity has the access policy '%s' of the cache by the assignment '%s', which is no connection's, and can have one: delete that, or change it to '%s'.",
				a.Properties.Policy, a.ID.Name(), redisPolicyOf(m.Access))
		}
		m.CachePolicy = az.ID{} // somebody gave what is needed, and takes it
	}
	return nil
}

// writePolicyTx gives the shared assignment what the connections ask for that
// still need it, or ends it. now is the connection that is being written, nil
// if it goes.
func (c *Connector) writePolicyTx(tx *store.Tx, linker, id az.ID, now *made) error {
	most := Access("")
	if now != nil && now.CachePolicy.Equal(id) {
		most = now.Access
	}
	oid := ""
	if now != nil {
		oid = now.PrincipalID
	}
	rows, err := tx.Resources(store.ResourceQuery{Type: LinkerType})
	if err != nil {
		return err
	}
	for _, row := range rows {
		r, err := c.linkers.Read(tx, row.ID)
		if err != nil {
			return err
		}
		if r == nil || r.ID.Equal(linker) || r.Properties.Made == nil || !r.Properties.Made.CachePolicy.Equal(id) {
			continue
		}
		if m := r.Properties.Made; m.Access.rank() > most.rank() {
			most, oid = m.Access, m.PrincipalID
		}
	}
	if most == "" {
		return c.unassignPolicyTx(tx, id)
	}
	return c.assignPolicyTx(tx, id, oid, redisPolicyOf(most))
}

func (c *Connector) unassignPolicyTx(tx *store.Tx, id az.ID) error {
	r, err := c.redisAssigns.Read(tx, id)
	if err != nil || r == nil {
		return err
	}
	if err := c.releaseTx(tx, redisRole(r), by(id)); err != nil {
		return err
	}
	_, err = tx.DeleteResource(id)
	return err
}

// cacheRole is the user of a connection's identity in a cache.
func (m *made) cacheRole() az.ID {
	if m.CachePolicy.IsRoot() {
		return az.ID{}
	}
	return principalID(m.Server, redisUser(m.PrincipalID))
}

func (c *Connector) assignPolicyTx(tx *store.Tx, id az.ID, oid, policy string) error {
	r, err := c.redisAssigns.Read(tx, id)
	if err != nil {
		return err
	}
	if r == nil {
		r = &arm.Resource[redisAssignmentProperties]{ID: id}
	}
	want := redisAssignmentProperties{Policy: policy, Object: oid, Alias: orText(r.Properties.Alias, oid), Kind: az.ServicePrincipal}
	if r.Properties == want {
		return nil
	}
	r.Properties = want
	if err := c.applyRedisAssignment(tx, r, nil); err != nil {
		return err
	}
	return c.redisAssigns.Write(tx, r)
}

// previewPolicy says what the identity would be given.
func (p *plan) previewPolicy(ctx context.Context, caller az.Principal, out *dryRunProperties) error {
	if err := p.identity(ctx, caller); err != nil {
		return err
	}
	p.previewIdentity(out)
	if err := p.findPolicy(ctx); err != nil {
		return err
	}
	m := p.linker.Properties.Made
	sql, notes, err := p.real.preview(ctx, roleSpec{Name: redisUser(orText(m.PrincipalID, "<object id>"))}, grant{Database: m.Database, Access: m.Access})
	if err != nil {
		return err
	}
	out.Notes = append(out.Notes, notes...)
	out.Operations = append(out.Operations, operation{Name: "accessPolicyAssignment", Type: "configAuth", Scope: p.server.String(), Action: actionAssignPolicy.Name,
		Description: "Assign the data access policy '" + redisPolicyOf(m.Access) + "' to the identity", SQL: sql})
	return nil
}

// checkPolicy is checkRole for a cache.
func (c *Connector) checkPolicy(ctx context.Context, srv engine, r *arm.Resource[linkerProperties]) error {
	m := r.Properties.Made
	all, err := c.redisAssigns.LoadIn(ctx, m.Server)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Properties.Object != m.PrincipalID {
			continue
		}
		u, err := c.principals.Load(ctx, principalID(m.Server, redisUser(m.PrincipalID)))
		if err != nil {
			return err
		}
		if u == nil || u.Properties.Status != roleReady {
			return failed("UserMissing", "The identity's user is not in the cache yet, or was taken away: create the connection again.")
		}
		return srv.probe(ctx, u.Properties.RoleName, u.Secrets[passwordSecret], m.Database, m.Access)
	}
	return failed("AccessPolicyMissing", "The identity has no data access policy of the cache '%s': create the connection again.", m.Server.Name())
}
