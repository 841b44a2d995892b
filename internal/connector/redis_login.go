package connector

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// ownCacheUser finds the role that a principal has at a cache: that of its own
// policy assignment, else the one of its groups' whose assignment has the
// lowest name. A client names itself, by its object id, whatever it comes in by.
func (c *Connector) ownCacheUser(ctx context.Context, who az.Principal, srv *served, user string) (taking, error) {
	t := taking{srv: srv, user: user}
	if !strings.EqualFold(user, who.ObjectID) {
		return t, nil // nobody logs in as another, nor as a group
	}
	own, err := c.roleNamed(ctx, srv, redisUser(who.ObjectID))
	if err != nil || own != nil && own.ready {
		t.role = own
		return t, err
	}
	through, err := c.throughOf(ctx, srv.id, who.ObjectID)
	if err != nil {
		return t, err
	}
	best := ""
	for _, r := range through {
		name := r.assignment()
		if r.ready && name != "" && (t.role == nil || name < best) {
			t.role, best = r, name
		}
	}
	return t, nil
}

// assignment is the lowest folded name among those of the assignments that a
// role of a cache is for.
func (r *role) assignment() (lowest string) {
	for _, id := range r.by {
		if name := strings.ToLower(id.Name()); lowest == "" || name < lowest {
			lowest = name
		}
	}
	return lowest
}

// mayUseCache decides whether a principal may log in to a cache: its data
// access policies decide, and the record names the one that allowed it. The
// role is as the policy says when this returns: one that may have had more, or
// is not there yet, is brought into line first.
func (c *Connector) mayUseCache(ctx context.Context, who az.Principal, t taking, again bool) (taking, error) {
	entry, err := c.cacheEntry(ctx, who, t)
	if err != nil {
		return t, err
	}
	list := func(holder string) (string, bool) { return entry, entry != "" && holder == t.role.holder }
	if !again || entry == "" {
		if err := c.cfg.Guard.CheckPolicy(ctx, who, t.srv.fam.login, t.srv.id, list); err != nil {
			return t, err
		}
	}
	if again || !t.role.stale {
		return t, nil
	}
	return c.finishRole(ctx, t)
}

// cacheEntry names the assignment and policy by which a role is the
// principal's at this moment, "" if it is not.
func (c *Connector) cacheEntry(ctx context.Context, who az.Principal, t taking) (string, error) {
	if t.role == nil || !t.role.ready || !t.srv.entra {
		return "", nil
	}
	mine, err := c.holds(ctx, who.ObjectID, t.role)
	if err != nil || !mine {
		return "", err
	}
	for _, id := range t.role.by {
		row, ok, err := c.cfg.Store.Resource(ctx, id)
		if err != nil {
			return "", err
		}
		var b struct {
			Properties redisAssignmentProperties `json:"properties"`
		}
		if !ok || json.Unmarshal(row.Body, &b) != nil || b.Properties.Object != t.role.holder {
			continue
		}
		return id.Name() + " (" + b.Properties.Policy + ")", nil
	}
	return "", nil
}

// byAssignments are the policy assignments among the uses of a role.
func byAssignments(uses []roleUse) (out []az.ID) {
	for _, u := range uses {
		if u.By.IsType(RedisAssignmentType) {
			out = append(out, u.By)
		}
	}
	slices.SortFunc(out, func(a, b az.ID) int { return strings.Compare(a.Key(), b.Key()) })
	return out
}
