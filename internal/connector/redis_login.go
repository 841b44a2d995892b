package connector

import (
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// cacheUser is the ACL user of the principal whose object id a client of a
// cache gives as its user name.
func cacheUser(oid string) string { return "hawser-" + oid }

// mayUseCache decides whether a principal may log in to a cache as itself. Data
// access policies decide; none is served yet, so nobody may.
func (c *Connector) mayUseCache(ctx context.Context, who az.Principal, t taking, _ bool) error {
	err := c.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: who, Action: t.srv.fam.login.Name, Where: t.srv.id.String(),
		Outcome: guard.Refused, Reason: "no access policy allows it"})
	if err != nil {
		return err
	}
	return az.Errorf(az.Forbidden, "RoleNotMapped", "The login was refused: no access policy of the cache allows it.")
}
