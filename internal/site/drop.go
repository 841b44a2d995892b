package site

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// DropSystemIdentity takes a site's system-assigned identity away again, for a
// caller who may write the site: a connection that could not be made leaves
// nothing behind. It is no error if there is none.
func (s *Sites) DropSystemIdentity(ctx context.Context, caller az.Principal, site az.ID) error {
	_, err := s.sites.Update(ctx, caller, site, func(r *arm.Resource[properties]) error {
		switch {
		case !r.Identity.System():
		case r.Identity.User():
			r.Identity.Type = arm.IdentityUser
		default:
			r.Identity.Type = arm.IdentityNone
		}
		return nil
	})
	return err
}
