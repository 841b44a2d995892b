package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// The texts are Key Vault's own, since tools match on them.
// Source: Key Vault REST error codes, and bodies quoted in public reports.

func vaultNotFound() error {
	return az.Errorf(az.NotFound, CodeVaultNotFound, "There is no vault at this address. Check the vault's name; a deleted vault must be recovered first.")
}

const recoverHint = " If you recently deleted this secret you may be able to recover it using the correct recovery command." +
	" For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"

func secretNotFound(name, version string) error {
	if version != "" {
		return az.Errorf(az.NotFound, CodeSecretVersionNotFound, "A secret with (name/id) %s/%s was not found in this key vault.%s", name, version, recoverHint)
	}
	return az.Errorf(az.NotFound, CodeSecretNotFound, "A secret with (name/id) %s was not found in this key vault.%s", name, recoverHint)
}

func deletedNotFound(name string) error {
	return az.Errorf(az.NotFound, CodeSecretNotFound, "A deleted secret with (name/id) %s was not found in this key vault.", name)
}

func badParameter(format string, args ...any) error {
	return az.Errorf(az.Invalid, codeBadParameter, format, args...)
}

func conflict(inner, format string, args ...any) error {
	e := az.Errorf(az.Conflict, codeConflict, format, args...)
	e.Inner = inner
	return e
}

func deletedConflict(name string) error {
	return conflict("ObjectIsDeletedButRecoverable",
		"Secret %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged.", name)
}

func disabled() error {
	return az.Errorf(az.Forbidden, CodeDisabled, "Operation get is not allowed on a disabled secret.")
}

func forbidden(inner, format string, args ...any) *az.Error {
	e := az.Errorf(az.Forbidden, CodeForbidden, format, args...)
	e.Inner = inner
	return e
}

func callerText(p az.Principal) string {
	return fmt.Sprintf("appid=%s;oid=%s;iss=%s", p.AppID, p.ObjectID, p.Issuer())
}

// allow is the first line of every operation: it decides, records, and words
// a refusal as Key Vault does, with what was missing at its end.
func (v *Vaults) allow(ctx context.Context, caller az.Principal, a action, vt *live, scope az.ID) error {
	if !vt.RBAC {
		return v.allowByPolicy(ctx, caller, a, vt, scope)
	}
	err := v.guard.Check(ctx, caller, a.Action, scope)
	if err == nil {
		return nil
	}
	d, ok := guard.AsDenied(err)
	if !ok {
		return err
	}
	role := "a custom role that allows it"
	if d.Suggest != "" {
		role = "a role that allows it, such as '" + d.Suggest + "'"
	}
	return forbidden("ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
		"Caller: %s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"+
		"DecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: %s;location=%s\r\n"+
		"Missing: an assignment to %s of %s, at this scope or above.\r\n",
		callerText(caller), a.Name, scope, vt.Name, vt.Location, caller.ObjectID, role).Because(err)
}

// allowByPolicy is allow for vaults that go by access policies: roles that
// name data actions count for nothing there.
func (v *Vaults) allowByPolicy(ctx context.Context, caller az.Principal, a action, vt *live, scope az.ID) error {
	err := v.guard.CheckPolicy(ctx, caller, a.Action, scope, func(holder string) (string, bool) {
		return vt.policies.holds(holder, caller.AppID, a.policy)
	})
	if _, denied := guard.AsDenied(err); !denied {
		return err
	}
	groups, gerr := v.guard.Groups(ctx, caller.ObjectID)
	if gerr != nil {
		return gerr
	}
	return forbidden("AccessDenied", "The user, group or application 'appid=%s;oid=%s;numgroups=%d;iss=%s' does not have secrets %s permission on key vault '%s;location=%s'."+
		" For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
		caller.AppID, caller.ObjectID, len(groups), caller.Issuer(), a.policy.word(), vt.Name, vt.Location).Because(err)
}

// onTheWire gives an error the code that Key Vault's clients know.
func onTheWire(err error) error {
	var e *az.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	switch {
	case e.Code == CodeDisabled:
		c.Code, c.Inner = CodeForbidden, CodeDisabled
	case e.Code == CodeSecretVersionNotFound:
		c.Code = CodeSecretNotFound
	case e.Kind == az.Invalid:
		c.Code = codeBadParameter
	default:
		return err
	}
	return &c
}
