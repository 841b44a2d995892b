package connector

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// The types by which a cache says who may do what in it.
const (
	RedisPolicyType     = RedisType + "/accessPolicies"
	RedisAssignmentType = RedisType + "/accessPolicyAssignments"
)

// The kinds of policies, in Azure's words.
const (
	policyBuiltIn = "BuiltIn"
	policyCustom  = "Custom"
)

// redisPolicyProperties is a data access policy: commands, keys and channels in
// the words of Redis.
type redisPolicyProperties struct {
	Type        string `json:"type,omitempty"`
	Permissions string `json:"permissions"`
}

// redisAssignmentProperties gives a policy to a user, group or service
// principal.
type redisAssignmentProperties struct {
	Policy string `json:"accessPolicyName"`
	Object string `json:"objectId"`
	Alias  string `json:"objectIdAlias,omitempty"`
	// Kind is what the principal is; Azure does not show it.
	Kind az.PrincipalKind `json:"hawserKind,omitempty"`
}

// redisPolicyName is the form of both kinds' names. Source: the resource
// provider's specification of 2023-08-01 and later.
func redisPolicyName(s string) bool {
	if len(s) < 3 || len(s) > 63 || s[0] == ' ' || s[0] == '-' || s[len(s)-1] == ' ' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != ' ' && c != '-' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// redisBuiltInName is the name of a built-in policy as Azure writes it, "" if
// it is none.
func redisBuiltInName(s string) string {
	for name := range redisBuiltIn {
		if strings.EqualFold(name, s) {
			return name
		}
	}
	return ""
}

// applyRedisPolicies writes the built-in policies of a new cache down.
func (c *Connector) applyRedisPolicies(tx *store.Tx, cache az.ID) error {
	for name, permissions := range redisBuiltIn {
		r := &arm.Resource[redisPolicyProperties]{ID: cache.Child("accessPolicies", name), Created: tx.Now(), Updated: tx.Now(),
			Properties: redisPolicyProperties{Type: policyBuiltIn, Permissions: permissions}}
		if err := c.redisPolicies.Write(tx, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) redisPolicyType() *arm.Type[redisPolicyProperties] {
	return arm.Define(RedisPolicyType, redisVersions, arm.Hooks[redisPolicyProperties]{
		Check: c.checkRedisPolicy, Apply: c.applyRedisPolicy,
		After: func(ctx context.Context, r, old *arm.Resource[redisPolicyProperties]) {
			if old != nil && old.Properties.Permissions != r.Properties.Permissions {
				c.tidy(ctx, c.redisUsersOf(ctx, r.ID.Parent(), r.ID.Name())...)
			}
		},
		Deleting: func(_ context.Context, call *arm.Call, r *arm.Resource[redisPolicyProperties]) error {
			if call.Direct() && redisBuiltInName(r.ID.Name()) != "" {
				return az.Errorf(az.Invalid, "CannotDelete", "'%s' is a built-in access policy and cannot be deleted.", r.ID.Name())
			}
			return nil
		},
		Delete: func(tx *store.Tx, r *arm.Resource[redisPolicyProperties]) error {
			all, err := c.redisAssignmentsTx(tx, r.ID.Parent())
			for _, a := range all {
				if strings.EqualFold(a.Properties.Policy, r.ID.Name()) {
					return az.Errorf(az.Conflict, "AccessPolicyInUse", "The access policy '%s' is assigned by '%s' and cannot be deleted: delete that first.", r.ID.Name(), a.ID.Name())
				}
			}
			return err
		},
	})
}

func (c *Connector) checkRedisPolicy(ctx context.Context, _ *arm.Call, r, old *arm.Resource[redisPolicyProperties]) error {
	p := &r.Properties
	if name := redisBuiltInName(r.ID.Name()); name != "" {
		if p.Permissions != redisBuiltIn[name] || old == nil { // a template may say what is there
			return az.Errorf(az.Invalid, "InvalidParameter", "'%s' is a built-in access policy and cannot be changed; make one of your own.", name)
		}
		p.Type = policyBuiltIn
		return nil
	}
	if !redisPolicyName(r.ID.Name()) {
		return az.Errorf(az.Invalid, "InvalidParameter", "An access policy's name must have 3 to 63 letters, digits, dashes and blanks, with a letter or digit at both ends.")
	}
	if p.Type = policyCustom; old != nil && p.Permissions == old.Properties.Permissions {
		return nil
	}
	rules, err := redisRules(p.Permissions)
	if err != nil {
		return err
	}
	b, err := c.redisServer(ctx, r.ID.Parent())
	if err != nil { // a description, or one that is gone: its own error follows
		return nilIf(err, az.Invalid, az.NotFound)
	}
	conn, err := b.owner(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return b.tryRules(ctx, conn, rules)
}

// nilIf forgives errors of some kinds.
func nilIf(err error, kinds ...az.Kind) error {
	for _, k := range kinds {
		if az.Is(err, k) {
			return nil
		}
	}
	return err
}

// redisAssignmentsTx lists who has which policy of a cache.
func (c *Connector) redisAssignmentsTx(tx *store.Tx, cache az.ID) ([]*arm.Resource[redisAssignmentProperties], error) {
	rows, err := tx.Resources(store.ResourceQuery{Type: RedisAssignmentType, Parent: cache})
	if err != nil {
		return nil, err
	}
	var out []*arm.Resource[redisAssignmentProperties]
	for _, row := range rows {
		r, err := c.redisAssigns.Read(tx, row.ID)
		if err != nil {
			return nil, err
		}
		if r != nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// redisRulesOf are the rules of a policy of a cache.
func (c *Connector) redisRulesOf(ctx context.Context, cache az.ID, policy string) ([]string, error) {
	if name := redisBuiltInName(policy); name != "" {
		return redisRules(redisBuiltIn[name])
	}
	p, err := c.redisPolicies.Load(ctx, cache.Child("accessPolicies", policy))
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The cache '%s' has no access policy '%s'.", cache.Name(), policy)
	}
	return redisRules(p.Properties.Permissions)
}
