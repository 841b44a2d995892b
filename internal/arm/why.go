package arm

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// permissions answers GET …/permissions: what the caller may do at a scope.
func (a *API) permissions(ctx context.Context, call *Call) (any, error) {
	mine, err := a.assignmentsOf(ctx, call.Caller.ObjectID)
	if err != nil {
		return nil, err
	}
	page := Page{Value: []any{}}
	seen := map[string]bool{}
	for _, as := range mine {
		if !call.ID.Within(as.ID.Parent()) || seen[as.Properties.role()] {
			continue
		}
		seen[as.Properties.role()] = true
		role, ok, err := a.cfg.Guard.RoleNamed(ctx, as.Properties.role())
		if err != nil {
			return nil, err
		}
		for i := 0; ok && i < len(role.Permissions); i++ {
			p := role.Permissions[i]
			_ = checkPermission(&p)
			page.Value = append(page.Value, p)
		}
	}
	return page, nil
}

// why answers POST {scope}/providers/Hawser.Authorization/why: the decision
// for anybody, with its reason, without making it theirs. Whoever may read the
// role assignments there may ask; about oneself, everybody.
func (a *API) why(ctx context.Context, call *Call) (any, error) {
	var q struct {
		PrincipalID string `json:"principalId"`
		Action      string `json:"action"`
		DataAction  *bool  `json:"dataAction"` // absent: as its name says
	}
	if err := call.Decode(&q); err != nil {
		return nil, err
	}
	if q.PrincipalID == "" {
		q.PrincipalID = call.Caller.ObjectID
	}
	if !az.IsGUID(q.PrincipalID) || !validAction(q.Action) || strings.Contains(q.Action, "*") {
		return nil, az.Errorf(az.Invalid, "InvalidRequestContent", "The body must have a principalId that is an object id, and an action such as Microsoft.KeyVault/vaults/read.")
	}
	if !strings.EqualFold(q.PrincipalID, call.Caller.ObjectID) {
		if err := call.Check(ctx, a.assign.about.read, call.ID); err != nil {
			return nil, err
		}
	}
	action := guard.Named(q.Action)
	if q.DataAction != nil && *q.DataAction {
		action = guard.Data(q.Action)
	} else if q.DataAction != nil {
		action = guard.Control(q.Action)
	}
	if v, err := a.whyByPolicy(ctx, strings.ToLower(q.PrincipalID), action, call.ID); err != nil || v != nil {
		return v, err
	}
	d, err := a.cfg.Guard.Explain(ctx, q.PrincipalID, action, call.ID)
	if err != nil {
		return nil, err
	}
	v := map[string]any{"principalId": strings.ToLower(q.PrincipalID), "action": q.Action, "dataAction": action.Data, "scope": call.ID.String(), "allowed": d.Allowed}
	if d.Allowed {
		v["assignment"], v["role"] = d.Assignment, d.Role
		v["reason"] = "the role '" + d.Role + "' is assigned at " + d.Assignment.Parent().String()
		if d.Via != "" {
			v["via"] = d.Via
		}
		return v, nil
	}
	reason := "no assignment to this principal or its groups allows it at this scope or above"
	if d.Suggest != "" {
		v["suggest"] = d.Suggest
		reason += "; a role that would: '" + d.Suggest + "'"
	}
	v["reason"] = reason
	return v, nil
}

// whyByPolicy is why for a resource that goes by a list of its own, where roles
// count for nothing; nil if it does not.
func (a *API) whyByPolicy(ctx context.Context, oid string, action guard.Action, scope az.ID) (any, error) {
	if a.cfg.ExplainPolicy == nil {
		return nil, nil
	}
	groups, err := a.cfg.Guard.Groups(ctx, oid)
	if err != nil {
		return nil, err
	}
	entry, goes, err := a.cfg.ExplainPolicy(ctx, oid, groups, action, scope)
	if err != nil || !goes {
		return nil, err
	}
	v := map[string]any{"principalId": oid, "action": action.Name, "dataAction": action.Data, "scope": scope.String(), "allowed": entry != "",
		"reason": "the resource goes by access policies, and none gives this to the principal or its groups (az keyvault set-policy does); roles count for nothing there"}
	if entry == "" {
		return v, nil
	}
	v["assignment"], v["role"] = entry, "access policy"
	v["reason"] = "the access policy " + entry + " gives it"
	if holder := entry[strings.LastIndexByte(entry, '/')+1:]; holder != oid {
		v["via"] = holder
	}
	return v, nil
}
