package vault

import (
	"context"
	"slices"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// Named reports whether a vault that goes by access policies lets one of some
// objects do anything. Who can act as such an object could do so too.
func (v *Vaults) Named(ctx context.Context, oids []string) (bool, error) {
	rows, err := v.store.Vaults(ctx, store.VaultQuery{})
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		l, err := newLive(row)
		if err != nil {
			return false, err
		}
		for _, oid := range oids {
			if len(l.policies[fold(oid)]) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// Explain gives the decision of a vault's access policies for any object and
// its groups, without making it theirs: it is for "hawser why". goes is false
// where the action is not one that access policies decide about. A policy for
// one application only does not count: who asks names none.
func (v *Vaults) Explain(ctx context.Context, oid string, groups []string, a guard.Action, scope az.ID) (entry string, goes bool, err error) {
	need := policyOf(a)
	at := scope
	for at.Type() != "" && !at.IsType(Type) {
		at = at.Parent()
	}
	if need == 0 || at.IsRoot() || !at.IsType(Type) || at.IsCollection() {
		return "", false, nil
	}
	row, there, err := v.store.Vault(ctx, fold(at.Name()))
	if err != nil || !there || row.Deleted != 0 || row.RBAC || !row.ID.Equal(at) {
		return "", false, err
	}
	l, err := newLive(row)
	if err != nil {
		return "", false, err
	}
	for _, holder := range slices.Concat([]string{fold(oid)}, groups) {
		if record, ok := l.policies.holds(holder, "", need); ok {
			return record, true, nil
		}
	}
	return "", true, nil
}

// policyOf is the permission that a data action needs; 0 if policies don't
// know it. Reading metadata needs list for all secrets of a vault.
func policyOf(a guard.Action) secretRights {
	for _, known := range []action{actGet, actSet, actLook, actDelete, actBackup, actRestore, actRecover, actPurge} {
		if a.Data && fold(a.Name) == fold(known.Name) {
			return known.policy
		}
	}
	return 0
}
