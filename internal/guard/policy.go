package guard

import (
	"context"
	"fmt"

	"github.com/hawser/hawser/internal/az"
)

// PolicyList is a resource's own list of who may do what, such as a vault's
// access policies. The one that CheckPolicy gets answers for one action only:
// it names the entry by which a holder, an object id in lower case, has it.
type PolicyList func(holder string) (entry string, ok bool)

// CheckPolicy decides by a list that a resource keeps itself, where it does
// not go by role assignments, and records the decision with the entry that
// allowed it. The list is asked for the caller, then for each of its groups.
// What the list does not allow is denied, whatever roles the caller has.
func (g *Guard) CheckPolicy(ctx context.Context, caller az.Principal, a Action, scope az.ID, list PolicyList) error {
	if caller.IsZero() {
		return az.Errorf(az.Unauthorized, "Unauthorized", "The request has no caller.")
	}
	v, err := g.viewOf(ctx, caller.ObjectID)
	if err != nil {
		return err
	}
	e := Event{Kind: EventDecision, Caller: caller, Action: a.Name, Where: scope.String()}
	entry, ok := list(caller.ObjectID)
	for i := 0; !ok && i < len(v.groups); i++ {
		entry, ok = list(v.groups[i])
	}
	if ok {
		e.Outcome, e.Assignment, e.Role = Allowed, entry, policyRole
		return g.Record(ctx, e)
	}
	e.Outcome, e.Reason = Refused, "no access policy allows it"
	if err := g.Record(ctx, e); err != nil {
		return err
	}
	d := &Denied{Caller: caller, Action: a, Scope: scope}
	d.err = az.Errorf(az.Forbidden, "AuthorizationFailed", "%s", fmt.Sprintf(
		"The client '%s' with object id '%s' may not perform action '%s' over scope '%s': no access policy allows it.",
		caller.AppID, caller.ObjectID, a.Name, scope))
	return d
}

// policyRole stands in a record where else the role's name does.
const policyRole = "access policy"
