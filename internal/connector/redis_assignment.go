package connector

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

func (c *Connector) redisAssignmentType() *arm.Type[redisAssignmentProperties] {
	return arm.Define(RedisAssignmentType, redisVersions, arm.Hooks[redisAssignmentProperties]{
		Check: c.checkRedisAssignment, Apply: c.applyRedisAssignment,
		After: func(ctx context.Context, r, _ *arm.Resource[redisAssignmentProperties]) { c.tidy(ctx, redisRole(r)) },
		Delete: func(tx *store.Tx, r *arm.Resource[redisAssignmentProperties]) error {
			return c.releaseTx(tx, redisRole(r), by(r.ID))
		},
		Deleted: func(ctx context.Context, r *arm.Resource[redisAssignmentProperties]) { c.tidy(ctx, redisRole(r)) },
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[redisAssignmentProperties]) (any, error) {
			p := r.Properties
			p.Kind = ""
			return p, nil
		},
	})
}

func (c *Connector) checkRedisAssignment(ctx context.Context, _ *arm.Call, r, old *arm.Resource[redisAssignmentProperties]) error {
	p := &r.Properties
	if !redisPolicyName(r.ID.Name()) {
		return az.Errorf(az.Invalid, "InvalidParameter", "An access policy assignment's name must have 3 to 63 letters, digits, dashes and blanks, with a letter or digit at both ends.")
	}
	oid, kind, err := c.principal(ctx, p.Object)
	if err != nil {
		return err
	}
	if p.Object, p.Kind = oid, kind; old != nil && old.Properties.Object != oid {
		return az.Errorf(az.Conflict, "ObjectIdCannotBeChanged", "The assignment '%s' is another principal's: delete it, or choose another name.", r.ID.Name())
	}
	if p.Alias = orText(p.Alias, oid); len(p.Alias) > 256 {
		return az.Errorf(az.Invalid, "InvalidParameter", "objectIdAlias may have 256 characters.")
	}
	if name := redisBuiltInName(p.Policy); name != "" {
		p.Policy = name
		return nil
	}
	if !redisPolicyName(p.Policy) {
		return az.Errorf(az.Invalid, "InvalidParameter", "accessPolicyName must name an access policy of the cache, such as Data Reader.")
	}
	policy, err := c.redisPolicies.Load(ctx, r.ID.Parent().Child("accessPolicies", p.Policy))
	if err != nil {
		return err
	}
	if policy == nil {
		return az.Errorf(az.NotFound, "AccessPolicyNotFound", "The cache '%s' has no access policy '%s'.", r.ID.Parent().Name(), p.Policy)
	}
	p.Policy = policy.ID.Name()
	return nil
}

// applyRedisAssignment holds each principal to one policy of a cache, as Azure
// does: its user at the server can have but one.
func (c *Connector) applyRedisAssignment(tx *store.Tx, r, _ *arm.Resource[redisAssignmentProperties]) error {
	if redisBuiltInName(r.Properties.Policy) == "" {
		policy, err := c.redisPolicies.Read(tx, r.ID.Parent().Child("accessPolicies", r.Properties.Policy))
		if err != nil {
			return err
		}
		if policy == nil {
			return az.Errorf(az.Conflict, "AccessPolicyNotFound", "The access policy '%s' was deleted meanwhile.", r.Properties.Policy)
		}
	}
	all, err := c.redisAssignmentsTx(tx, r.ID.Parent())
	if err != nil {
		return err
	}
	cache, err := c.redis.Read(tx, r.ID.Parent())
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Properties.Object == r.Properties.Object && !a.ID.Equal(r.ID) {
			return az.Errorf(az.Conflict, "AccessPolicyAssignmentExists", "The principal %s has the access policy '%s' by the assignment '%s' already: it can have one. Change that, or delete it.", a.Properties.Object, a.Properties.Policy, a.ID.Name())
		}
	}
	if cache == nil || cache.Properties.Hawser == nil {
		return nil // a description only; adopting a server makes its users
	}
	return c.noteRedisUser(tx, r)
}

// redisRole is the role of whom an assignment is for.
func redisRole(r *arm.Resource[redisAssignmentProperties]) az.ID {
	return principalID(r.ID.Parent(), redisUser(r.Properties.Object))
}

// noteRedisUser writes down that the principal of an assignment has a user at
// the server, which may not have its rules yet: whoever commits this, or logs
// in, or the sweep sees to it.
func (c *Connector) noteRedisUser(tx *store.Tx, a *arm.Resource[redisAssignmentProperties]) error {
	id := redisRole(a)
	p, err := c.principals.Read(tx, id)
	if err != nil {
		return err
	}
	if p == nil {
		p = &arm.Resource[principalProperties]{ID: id, Created: tx.Now(), Properties: principalProperties{RoleName: redisUser(a.Properties.Object), PrincipalID: a.Properties.Object}}
		c.newPassword(p)
	}
	p.Updated, p.Properties.PrincipalType = tx.Now(), az.PrincipalKind(orText(string(a.Properties.Kind), string(az.ServicePrincipal))) // a connection's is an identity
	p.Properties.Uses = append(p.Properties.without(by(a.ID)), roleUse{By: a.ID, Since: tx.Now()})
	p.Properties.Status, p.Properties.Stale = roleReady, true
	return c.principals.Write(tx, p)
}

// adoptRedisUsers notes the users of every assignment, for a server that was
// adopted just now.
func (c *Connector) adoptRedisUsers(tx *store.Tx, cache az.ID) error {
	all, err := c.redisAssignmentsTx(tx, cache)
	for _, a := range all {
		if err := c.noteRedisUser(tx, a); err != nil {
			return err
		}
	}
	return err
}

// redisUsersOf are the roles of those who have a policy, or of all who have any
// with "".
func (c *Connector) redisUsersOf(ctx context.Context, cache az.ID, policy string) []az.ID {
	all, err := c.redisAssigns.LoadIn(ctx, cache)
	if err != nil {
		return nil // the sweep finds them
	}
	var out []az.ID
	for _, a := range all {
		if policy == "" || strings.EqualFold(a.Properties.Policy, policy) {
			out = append(out, redisRole(a))
		}
	}
	return out
}

// applyRedisPolicy notes that the users of a policy must get its new rules.
func (c *Connector) applyRedisPolicy(tx *store.Tx, r, old *arm.Resource[redisPolicyProperties]) error {
	if old == nil || old.Properties.Permissions == r.Properties.Permissions {
		return nil
	}
	all, err := c.redisAssignmentsTx(tx, r.ID.Parent())
	if err != nil {
		return err
	}
	for _, a := range all {
		if !strings.EqualFold(a.Properties.Policy, r.ID.Name()) {
			continue
		}
		p, err := c.principals.Read(tx, redisRole(a))
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		p.Properties.Stale = true
		if err := c.principals.Write(tx, p); err != nil {
			return err
		}
	}
	return nil
}
