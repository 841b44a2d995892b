package arm

import (
	"context"
	"encoding/json"
	"errors"
	"sort"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// The values of Identity.Type.
const (
	IdentityNone   = "None"
	IdentitySystem = "SystemAssigned"
	IdentityUser   = "UserAssigned"
	IdentityBoth   = "SystemAssigned, UserAssigned"
)

// UserAssignedType is the ARM type of user-assigned identities.
const UserAssignedType = "Microsoft.ManagedIdentity/userAssignedIdentities"

var actionAssign = guard.Control("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action")

// maxUserIdentities bounds the user-assigned identities of one resource.
// Azure publishes no limit for sites; a hundred is far beyond real use and keeps
// the checks that one PUT can cause few.
const maxUserIdentities = 100

// Identity is the managed identity block of a resource. The object behind a
// system-assigned identity is made and removed by the type's hooks; what user-
// assigned ones are is filled in here.
type Identity struct {
	Type         string                   `json:"type"`
	PrincipalID  string                   `json:"principalId,omitempty"`
	TenantID     string                   `json:"tenantId,omitempty"`
	UserAssigned map[string]*UserIdentity `json:"userAssignedIdentities,omitempty"` // by ARM id as first given
}

// UserIdentity is one user-assigned identity of a resource.
type UserIdentity struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

// System reports whether the resource has (or is to have) an identity of its
// own. A nil Identity has none.
func (i *Identity) System() bool {
	return i != nil && (i.Type == IdentitySystem || i.Type == IdentityBoth)
}

// User reports whether the resource has user-assigned identities.
func (i *Identity) User() bool { return i != nil && (i.Type == IdentityUser || i.Type == IdentityBoth) }

func (i *Identity) clone() *Identity {
	if i == nil {
		return nil
	}
	c := *i
	if i.UserAssigned != nil {
		c.UserAssigned = make(map[string]*UserIdentity, len(i.UserAssigned))
		for k, v := range i.UserAssigned {
			u := *v
			c.UserAssigned[k] = &u
		}
	}
	return &c
}

// wanted is the identity member of a body. A nil entry of Users removes one
// (PATCH).
type wanted struct {
	Type  string                     `json:"type"`
	Users map[string]json.RawMessage `json:"userAssignedIdentities"`
}

// parseIdentity reads the identity member of a body on top of what is there.
// Object ids in it are not believed. Leaving the member out keeps what is
// there: an identity ends only when somebody says None.
func parseIdentity(raw json.RawMessage, old *Identity, patch bool) (*Identity, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return old.clone(), nil
	}
	var w wanted
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, az.Errorf(az.Invalid, "InvalidRequestContent", "The identity member of the request's body has the wrong form.")
	}
	typ, err := identityType(w.Type, old, patch)
	if err != nil {
		return nil, err
	}
	out := &Identity{Type: typ}
	if old.System() && out.System() {
		out.PrincipalID, out.TenantID = old.PrincipalID, old.TenantID
	}
	if !out.User() {
		if len(w.Users) > 0 && !patch && typ != IdentityNone {
			return nil, az.Errorf(az.Invalid, "InvalidIdentityValues", "userAssignedIdentities were given, but the identity type '%s' has none; use '%s' or '%s'.", typ, IdentityUser, IdentityBoth)
		}
		return out, nil
	}
	if out.UserAssigned, err = userIdentities(w.Users, old, patch); err != nil {
		return nil, err
	}
	if len(out.UserAssigned) == 0 {
		return nil, az.Errorf(az.Invalid, "InvalidIdentityValues", "The identity type '%s' needs at least one entry in userAssignedIdentities.", typ)
	}
	return out, nil
}

// identityType folds the spellings of the type: any case, any blanks.
func identityType(s string, old *Identity, patch bool) (string, error) {
	switch strings.ToLower(strings.ReplaceAll(s, " ", "")) {
	case "":
		if patch && old != nil {
			return old.Type, nil
		}
	case "none":
		return IdentityNone, nil
	case "systemassigned":
		return IdentitySystem, nil
	case "userassigned":
		return IdentityUser, nil
	case "systemassigned,userassigned", "userassigned,systemassigned":
		return IdentityBoth, nil
	}
	return "", az.Errorf(az.Invalid, "InvalidIdentityType", "The identity type must be one of '%s', '%s', '%s' and '%s'.", IdentityNone, IdentitySystem, IdentityUser, IdentityBoth)
}

func userIdentities(given map[string]json.RawMessage, old *Identity, patch bool) (map[string]*UserIdentity, error) {
	out := map[string]*UserIdentity{}
	spelled := map[string]string{} // folded id → as first given
	if old != nil {
		for k := range old.UserAssigned {
			spelled[strings.ToLower(k)] = k
			if patch {
				out[k] = known(old, k)
			}
		}
	}
	for k, v := range given {
		id, err := az.ParseID(k)
		if err != nil || !id.IsType(UserAssignedType) || id.IsCollection() || id.ResourceGroup() == "" {
			return nil, az.Errorf(az.Invalid, "InvalidIdentityValues", "A key of userAssignedIdentities is not the id of a user-assigned identity.")
		}
		name, had := spelled[id.Key()]
		if !had {
			name = id.String()
			spelled[id.Key()] = name
		}
		if string(v) == "null" {
			delete(out, name)
		} else {
			out[name] = known(old, name)
		}
	}
	if len(out) > maxUserIdentities {
		return nil, az.Errorf(az.Invalid, "InvalidIdentityValues", "A resource can have at most %d user-assigned identities.", maxUserIdentities)
	}
	return out, nil
}

// known copies what the resource knew of an identity it has, so that one that
// was deleted meanwhile does not stand in the way of other changes.
func known(old *Identity, name string) *UserIdentity {
	if old != nil && old.UserAssigned[name] != nil {
		u := *old.UserAssigned[name]
		return &u
	}
	return &UserIdentity{}
}

// mayAssign asks for the right to assign each identity that the resource does
// not have yet. right is what the caller was allowed to do to the resource.
func (c *Call) mayAssign(ctx context.Context, right guard.Action, id az.ID, now, old *Identity) error {
	if now == nil {
		return nil
	}
	names := make([]string, 0, len(now.UserAssigned))
	for k := range now.UserAssigned {
		if old == nil || old.UserAssigned[k] == nil {
			names = append(names, k)
		}
	}
	sort.Strings(names)
	for _, k := range names {
		linked, err := az.ParseID(k)
		if err != nil {
			return err
		}
		if err := c.linked(ctx, right, id, actionAssign, linked); err != nil {
			return err
		}
	}
	return nil
}

// Linked checks a right on a thing that the call's resource refers to: an
// identity it is given, a server it connects to. The refusal is ARM's
// LinkedAuthorizationFailed.
func (c *Call) Linked(ctx context.Context, need guard.Action, target az.ID) error {
	return c.linked(ctx, c.right, c.ID, need, target)
}

func (c *Call) linked(ctx context.Context, had guard.Action, id az.ID, need guard.Action, target az.ID) error {
	err := c.api.cfg.Guard.Check(ctx, c.Caller, need, target)
	var d *guard.Denied
	if !errors.As(err, &d) {
		return err
	}
	text := "The client '%s' with object id '%s' has permission to perform action '%s' on scope '%s'; however, it does not have permission to perform action(s) '%s' on the linked scope(s) '%s' (respectively) or the linked scope(s) are invalid."
	if d.Suggest != "" {
		text += " Missing: an assignment of a role such as '" + d.Suggest + "' there or above."
	}
	return az.Errorf(az.Forbidden, "LinkedAuthorizationFailed", text, c.Caller.AppID, c.Caller.ObjectID, had.Name, id, need.Name, target)
}

// fillIdentity looks up what the user-assigned identities of a resource are.
// read is of a transaction, so that none is assigned that is just deleted. An
// identity that was deleted and made again under its old name is another one:
// it takes the old one's place only if whoever writes may assign it.
func fillIdentity(i *Identity, tenant string, read reader, may func(az.ID) (bool, error)) error {
	if i == nil {
		return nil
	}
	if i.System() {
		i.TenantID = tenant
	}
	for k, u := range i.UserAssigned {
		id, err := az.ParseID(k)
		if err != nil {
			return az.Errorf(az.Internal, "", "").Because(err)
		}
		row, ok, err := read(id)
		if err != nil {
			return err
		}
		if !ok {
			if u.PrincipalID != "" {
				continue // it was deleted while assigned: Azure leaves it standing, too
			}
			return az.Errorf(az.Invalid, "FailedIdentityOperation", "The user-assigned identity '%s' was not found; create it first.", id)
		}
		var b struct {
			Properties UserIdentity `json:"properties"`
		}
		if err := json.Unmarshal(row.Body, &b); err != nil {
			return az.Errorf(az.Internal, "", "").Because(err)
		}
		if u.PrincipalID != "" && u.PrincipalID != b.Properties.PrincipalID {
			if ok, err := may(id); err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		*u = b.Properties
	}
	return nil
}

// mayReplace reports whether the caller may assign an identity, with a record
// only if so: who writes something else of the resource was refused nothing.
func (c *Call) mayReplace(ctx context.Context) func(az.ID) (bool, error) {
	return func(id az.ID) (bool, error) {
		d, err := c.api.cfg.Guard.Explain(ctx, c.Caller.ObjectID, actionAssign, id)
		if err != nil || !d.Allowed {
			return false, err
		}
		err = c.Check(ctx, actionAssign, id)
		return err == nil, err
	}
}

// asDecided is for the transaction: what replaces what was decided before it.
func asDecided(az.ID) (bool, error) { return false, nil }
