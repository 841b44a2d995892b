package connector

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// rotatePrincipal answers POST {role}/rotate: a new backend password now, and
// not when the old one's time is over. Open sessions go on.
func (c *Connector) rotatePrincipal(ctx context.Context, _ *arm.Call, r *arm.Resource[principalProperties]) (any, error) {
	err := c.locked(ctx, r.ID, func(ctx context.Context) error {
		p, err := c.principals.Load(ctx, r.ID) // behind the lock: it may just have been taken away
		if err != nil {
			return err
		}
		if p == nil || p.Properties.Status != roleReady {
			return az.Errorf(az.Conflict, "AnotherOperationInProgress", "The role is being changed by another request; try again.")
		}
		return c.rotate(ctx, r.ID)
	})
	if err != nil {
		return nil, err
	}
	p, err := c.principals.Load(ctx, r.ID)
	if err != nil || p == nil {
		return nil, err
	}
	return map[string]any{"roleName": p.Properties.RoleName, "rotated": p.Properties.Rotated.Time().UTC()}, nil
}
