package site

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// EnsureSystemIdentity gives a site its system-assigned identity for a caller
// who may write the site, and returns it. A site that has one is not written.
func (s *Sites) EnsureSystemIdentity(ctx context.Context, caller az.Principal, site az.ID) (Assigned, error) {
	r, err := s.sites.Get(ctx, caller, site)
	if err != nil {
		return Assigned{}, err
	}
	if !r.Identity.System() {
		r, err = s.sites.Update(ctx, caller, site, func(r *arm.Resource[properties]) error {
			if r.Identity == nil {
				r.Identity = &arm.Identity{}
			}
			r.Identity.Type = arm.IdentitySystem
			if len(r.Identity.UserAssigned) > 0 {
				r.Identity.Type = arm.IdentityBoth
			}
			return nil
		})
		if err != nil {
			return Assigned{}, err
		}
	}
	who, err := s.identities(ctx, r)
	if err != nil {
		return Assigned{}, err
	}
	one, err := pick(r.ID, who.all, IdentitySelector{})
	return one, err
}

// IdentitiesOf lists the identities of a site that exist, for a caller who may
// read the site. The system-assigned one, if any, comes first.
func (s *Sites) IdentitiesOf(ctx context.Context, caller az.Principal, site az.ID) ([]Assigned, error) {
	r, err := s.sites.Get(ctx, caller, site)
	if err != nil {
		return nil, err
	}
	who, err := s.identities(ctx, r)
	return who.all, err
}
