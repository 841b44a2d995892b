package guard

import "context"

// HoldsRoles reports whether a principal holds any role at any scope, by
// itself or by its groups. Who may change what such a principal is, or how it
// proves that, could do all that it may.
func (g *Guard) HoldsRoles(ctx context.Context, oid string) (bool, error) {
	if err := g.store.Fresh(ctx); err != nil {
		return false, err
	}
	v, err := g.rights.look(ctx, oid)
	if err != nil {
		return false, err
	}
	return len(v.scopes) > 0, nil
}
