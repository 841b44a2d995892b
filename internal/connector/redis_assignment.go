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
	})
}

func (c *Connector) checkRedisAssignment(ctx context.Context, _ *arm.Call, r, old *arm.Resource[redisAssignmentProperties]) error {
	p := &r.Properties
	if !redisPolicyName(r.ID.Name()) {
		return az.Errorf(az.Invalid, "InvalidParameter", "An access policy assignment's name must have 3 to 63 letters, digits, dashes and blanks, with a letter or digit at both ends.")
	}
	oid, _, err := c.principal(ctx, p.Object)
	if err != nil {
		return err
	}
	if p.Object = oid; old != nil && old.Properties.Object != oid {
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
	for _, a := range all {
		if a.Properties.Object == r.Properties.Object && !a.ID.Equal(r.ID) {
			return az.Errorf(az.Conflict, "AccessPolicyAssignmentExists", "The principal %s has the access policy '%s' by the assignment '%s' already: it can have one. Change that, or delete it.", a.Properties.Object, a.Properties.Policy, a.ID.Name())
		}
	}
	return nil
}

// redisUsersOf are the users of those who have a policy.
func (c *Connector) redisUsersOf(ctx context.Context, policy az.ID) []az.ID {
	all, err := c.redisAssigns.LoadIn(ctx, policy.Parent())
	if err != nil {
		return nil // the sweep finds them
	}
	var out []az.ID
	for _, a := range all {
		if strings.EqualFold(a.Properties.Policy, policy.Name()) {
			out = append(out, principalID(policy.Parent(), redisUser(a.Properties.Object)))
		}
	}
	return out
}

// applyRedisPolicy notes that the users of a policy must get its new rules.
func (c *Connector) applyRedisPolicy(*store.Tx, *arm.Resource[redisPolicyProperties], *arm.Resource[redisPolicyProperties]) error {
	return nil
}
