package arm

import (
	"context"
	"errors"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

type assignmentProperties struct {
	RoleDefinitionID string `json:"roleDefinitionId"`
	PrincipalID      string `json:"principalId"`
	PrincipalType    string `json:"principalType"`
	Scope            string `json:"scope"`
	Description      string `json:"description,omitempty"`
	Condition        string `json:"condition,omitempty"`
	CreatedOn        string `json:"createdOn,omitempty"`
	UpdatedOn        string `json:"updatedOn,omitempty"`
	CreatedBy        string `json:"createdBy,omitempty"`
	UpdatedBy        string `json:"updatedBy,omitempty"`
}

// role is the GUID of the assignment's role.
func (p *assignmentProperties) role() string {
	return strings.ToLower(p.RoleDefinitionID[strings.LastIndexByte(p.RoleDefinitionID, '/')+1:])
}

// maxDescription bounds an assignment's description. Source: Azure RBAC limits.
const maxDescription = 1024

// maxAssignments bounds the role assignments of a plane.
// Source: Azure RBAC limits, 4,000 a subscription.
const maxAssignments = 4000

// assignmentType is role assignments: at any scope, even at a part of a
// resource such as a vault's secret.
func (a *API) assignmentType() *Type[assignmentProperties] {
	t := Define(guard.RoleAssignmentType, []string{"2022-04-01", "2020-10-01-preview", "2020-04-01-preview", "2018-01-01-preview", "2015-07-01"}, Hooks[assignmentProperties]{
		Extension: true,
		NoState:   true,
		Status:    201, // on every PUT: what az 2.45 was seen to take (wire/arm-graph.md §1)
		Check:     a.checkAssignment,
		Apply:     a.applyAssignment,
		Delete:    a.lastOwner,
		View: func(_ context.Context, _ *Call, r *Resource[assignmentProperties]) (any, error) {
			p := r.Properties
			p.Scope, p.CreatedOn, p.UpdatedOn = r.ID.Parent().String(), stamp(r.Created), stamp(r.Updated)
			return p, nil
		},
	})
	t.about.list, t.about.discard = a.listAssignments, a.deleteAssignment
	return t
}

// deleteAssignment answers DELETE: 200 with what it was, or 204.
func (a *API) deleteAssignment(ctx context.Context, call *Call) (any, error) {
	was, err := a.assign.Load(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	if deleted, err := a.deleteAs(ctx, call, a.assign); err != nil || !deleted || was == nil {
		return nil, err
	}
	return a.assign.reply(ctx, call, was, 200)
}

// checkAssignment finds out what the words of an assignment stand for.
func (a *API) checkAssignment(ctx context.Context, call *Call, r, old *Resource[assignmentProperties]) error {
	p := &r.Properties
	scope := r.ID.Parent()
	switch {
	case !az.IsGUID(r.ID.Name()):
		return az.Errorf(az.Invalid, "InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment ID must be a GUID.", r.ID.Name())
	case !az.IsGUID(p.PrincipalID):
		return az.Errorf(az.Invalid, "InvalidPrincipalId", "The principalId must be the object id of a user, a group, a service principal or a managed identity.")
	case p.Condition != "":
		// To leave a condition out of account would give more than was meant.
		return az.Errorf(az.Invalid, "ConditionNotSupported", "Conditions on role assignments are not supported here; assign a narrower role or scope.")
	case len(p.Description) > maxDescription:
		return az.Errorf(az.Invalid, "RoleAssignmentDescriptionInvalid", "A description can have at most %d characters.", maxDescription)
	case p.Scope != "" && !sameScope(p.Scope, scope):
		return az.Errorf(az.Invalid, "InvalidCreateRoleAssignmentRequest", "The scope '%.200s' of the request's body is not that of its address, '%s'.", p.Scope, scope)
	}
	p.PrincipalID = strings.ToLower(p.PrincipalID)
	if err := a.checkRole(ctx, p, scope); err != nil {
		return err
	}
	if old != nil {
		if o := old.Properties; o.PrincipalID != p.PrincipalID || o.role() != p.role() {
			return az.Errorf(az.Invalid, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, role and scope of a role assignment are not allowed to be updated. Delete it and make another.")
		}
	}
	kind, found, err := a.cfg.PrincipalKind(ctx, p.PrincipalID)
	switch {
	case err != nil:
		return err
	case !found:
		return a.noPrincipal(p.PrincipalID)
	case p.PrincipalType != "" && !strings.EqualFold(p.PrincipalType, string(kind)):
		return az.Errorf(az.Invalid, "UnmatchedPrincipalType", "The PrincipalId '%s' has type '%s', which is different from specified PrincipalType '%.40s'.", strings.ReplaceAll(p.PrincipalID, "-", ""), kind, p.PrincipalType)
	}
	p.PrincipalType, p.Scope = string(kind), scope.String()
	p.CreatedOn, p.UpdatedOn, p.CreatedBy, p.UpdatedBy = "", "", call.Caller.ObjectID, call.Caller.ObjectID
	if old != nil {
		p.CreatedBy = old.Properties.CreatedBy
	}
	r.Location, r.Tags, r.Identity, r.SKU, r.Kind = "", nil, nil, nil, "" // assignments have none
	return nil
}

func (a *API) noPrincipal(oid string) error {
	return az.Errorf(az.Invalid, "PrincipalNotFound", "Principal %s does not exist in the directory %s. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay.", strings.ReplaceAll(oid, "-", ""), a.cfg.Names.Tenant)
}

// bothThere looks inside the transaction for the principal and the role.
func (a *API) bothThere(tx *store.Tx, oid, role string) error {
	there, err := a.cfg.PrincipalThere(tx, oid)
	if err != nil {
		return err
	}
	if !there {
		return a.noPrincipal(oid)
	}
	return a.roleThere(tx, role)
}

func sameScope(s string, scope az.ID) bool {
	id, err := az.ParseID(s)
	return err == nil && id.Equal(scope)
}

// checkRole finds the role and whether it may be assigned at the scope.
func (a *API) checkRole(ctx context.Context, p *assignmentProperties, scope az.ID) error {
	id, err := az.ParseID(p.RoleDefinitionID)
	if err != nil || !id.IsType(guard.RoleDefinitionType) || id.IsCollection() || !az.IsGUID(id.Name()) {
		return az.Errorf(az.Invalid, "InvalidRoleDefinitionId", "The roleDefinitionId must be the id of a role definition, such as /subscriptions/{subscription}/providers/%s/{guid}.", guard.RoleDefinitionType)
	}
	p.RoleDefinitionID = a.roles.home(id.Name()).String()
	for _, b := range guard.BuiltIn() {
		if b.ID == p.role() {
			return nil
		}
	}
	role, err := a.roles.Load(ctx, a.roles.home(id.Name()))
	if err != nil {
		return err
	}
	if role == nil {
		return az.Errorf(az.Invalid, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", id.Name())
	}
	if !assignableAt(role.Properties.AssignableScopes, scope) {
		return az.Errorf(az.Invalid, "RoleAssignmentScopeNotAssignableToRoleDefinition", "The role '%s' is not assignable at the scope '%s'; its assignableScopes are narrower.", role.Properties.RoleName, scope)
	}
	return nil
}

// applyAssignment refuses a second assignment of the same role to the same
// principal at the same scope, and one of a role or to a principal that was
// just deleted.
func (a *API) applyAssignment(tx *store.Tx, r, old *Resource[assignmentProperties]) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: guard.RoleAssignmentType})
	if err != nil {
		return err
	}
	if old == nil && len(rows) >= maxAssignments {
		return az.Errorf(az.Invalid, "RoleAssignmentLimitExceeded", "The number of role assignments exceeds the limit of %d; delete some, or assign to groups.", maxAssignments)
	}
	for _, row := range rows {
		if row.ID.Equal(r.ID) || !row.ID.Parent().Equal(r.ID.Parent()) {
			continue
		}
		x, err := decode[assignmentProperties](a.cfg.Sealer, row, false)
		if err != nil {
			return err
		}
		if x.Properties.PrincipalID == r.Properties.PrincipalID && x.Properties.role() == r.Properties.role() {
			return az.Errorf(az.Conflict, "RoleAssignmentExists", "The role assignment already exists. The ID of the existing role assignment is %s.", strings.ReplaceAll(row.ID.Name(), "-", ""))
		}
	}
	return a.bothThere(tx, r.Properties.PrincipalID, r.Properties.role())
}

func (a *API) roleThere(tx *store.Tx, guid string) error {
	for _, b := range guard.BuiltIn() {
		if b.ID == guid {
			return nil
		}
	}
	_, there, err := tx.Resource(a.roles.home(guid))
	if err == nil && !there {
		err = az.Errorf(az.Invalid, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", guid)
	}
	return err
}

// lastOwner keeps the last door into the plane open: the last Owner at the
// root or the subscription is not taken away.
func (a *API) lastOwner(tx *store.Tx, r *Resource[assignmentProperties]) error {
	wide := func(id az.ID) bool { return id.Parent().IsRoot() || id.Parent().Equal(a.subscription()) }
	if r.Properties.role() != guard.RoleOwner || !wide(r.ID) {
		return nil
	}
	rows, err := tx.Resources(store.ResourceQuery{Type: guard.RoleAssignmentType})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.ID.Equal(r.ID) || !wide(row.ID) {
			continue
		}
		x, err := decode[assignmentProperties](a.cfg.Sealer, row, false)
		if err != nil {
			return err
		}
		if x.Properties.role() == guard.RoleOwner {
			return nil
		}
	}
	return az.Errorf(az.Conflict, "CannotDeleteLastRbacAdminAssignment", "This is the last assignment of Owner at the subscription or above; assign Owner to somebody else first.")
}

// assignmentsOf lists what a principal holds, itself or by groups.
func (a *API) assignmentsOf(ctx context.Context, oid string) ([]*Resource[assignmentProperties], error) {
	groups, err := a.cfg.Guard.Groups(ctx, oid)
	if err != nil {
		return nil, err
	}
	is := map[string]bool{oid: true}
	for _, g := range groups {
		is[g] = true
	}
	all, err := a.assign.LoadAll(ctx)
	if err != nil {
		return nil, err
	}
	var out []*Resource[assignmentProperties]
	for _, x := range all {
		if is[x.Properties.PrincipalID] {
			out = append(out, x)
		}
	}
	return out, nil
}

// listAssignments answers GET of role assignments: those at the scope, above
// it and below it; with atScope() not those below.
func (a *API) listAssignments(ctx context.Context, call *Call, scope az.ID) (any, error) {
	l, err := call.paging()
	if err != nil {
		return nil, err
	}
	terms, err := parseFilter(call.query("$filter"))
	if err != nil {
		return nil, err
	}
	below, who, err := a.assignmentFilter(ctx, terms)
	if err != nil {
		return nil, err
	}
	l.keep = func(row store.Resource) bool {
		at := row.ID.Parent()
		if !scope.Within(at) && (!below || !at.Within(scope)) {
			return false
		}
		if who == nil {
			return true
		}
		x, err := decode[assignmentProperties](a.cfg.Sealer, row, false)
		return err == nil && who[x.Properties.PrincipalID]
	}
	p, err := a.page(ctx, call, a.assign.about.read, store.ResourceQuery{Type: guard.RoleAssignmentType}, l)
	if err != nil {
		return nil, err
	}
	return a.showPage(ctx, call, p)
}

// assignmentFilter reads the $filter of a list of role assignments: who is nil
// for everybody.
func (a *API) assignmentFilter(ctx context.Context, terms []term) (below bool, who map[string]bool, err error) {
	below = true
	for _, t := range terms {
		switch {
		case t.call && t.name == "atscope" && t.value == "":
			below = false
		case !t.call && t.name == "principalid" && az.IsGUID(t.value):
			who = both(who, map[string]bool{strings.ToLower(t.value): true})
		case t.call && t.name == "assignedto" && az.IsGUID(t.value):
			oid := strings.ToLower(t.value)
			groups, err := a.cfg.Guard.Groups(ctx, oid)
			if err != nil {
				return false, nil, err
			}
			set := map[string]bool{oid: true}
			for _, g := range groups {
				set[g] = true
			}
			who = both(who, set)
		default:
			return false, nil, badFilter()
		}
	}
	return below, who, nil
}

func both(a, b map[string]bool) map[string]bool {
	if a == nil {
		return b
	}
	out := map[string]bool{}
	for k := range a {
		if b[k] {
			out[k] = true
		}
	}
	return out
}

// AssignRole gives a principal a role at a scope inside a transaction, without
// asking for anybody's right: for a plane's first start, and for packages whose
// own check came before. created is false if the principal has it already; id
// is the assignment either way.
func (a *API) AssignRole(tx *store.Tx, scope az.ID, oid string, kind az.PrincipalKind, role, by string) (id az.ID, created bool, err error) {
	oid, role = strings.ToLower(oid), strings.ToLower(role)
	id = scope.Child("providers", "Microsoft.Authorization", "roleAssignments", az.NamedGUID("role assignment", scope.Key(), oid, role))
	r := &Resource[assignmentProperties]{ID: id, Properties: assignmentProperties{RoleDefinitionID: a.roles.home(role).String(),
		PrincipalID: oid, PrincipalType: string(kind), Scope: scope.String(), CreatedBy: by, UpdatedBy: by}}
	rows, err := tx.Resources(store.ResourceQuery{Type: guard.RoleAssignmentType, Parent: scope})
	if err != nil {
		return id, false, err
	}
	for _, row := range rows {
		x, err := decode[assignmentProperties](a.cfg.Sealer, row, false)
		if err != nil {
			return id, false, err
		}
		if row.ID.Parent().Equal(scope) && x.Properties.PrincipalID == oid && x.Properties.role() == role {
			return row.ID, false, nil
		}
	}
	if err := a.bothThere(tx, oid, role); err != nil {
		return id, false, err
	}
	if err := a.scopeExists(scope, tx.Resource); err != nil {
		return id, false, err
	}
	return id, true, a.assign.Write(tx, r)
}

// DeleteAssignmentsOf deletes every role assignment to a principal, in the
// transaction that deletes the principal.
func DeleteAssignmentsOf(tx *store.Tx, principalID string) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: guard.RoleAssignmentType})
	if err != nil {
		return err
	}
	for _, row := range rows {
		x, err := decode[assignmentProperties](nil, row, false)
		if err != nil {
			return err
		}
		if strings.EqualFold(x.Properties.PrincipalID, principalID) {
			if _, err := tx.DeleteResource(row.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteAssignmentsAt deletes every role assignment at a scope or below it, in
// the transaction that deletes what the scope names. Resources need not call
// it for themselves: a deletion takes what is below it along.
func DeleteAssignmentsAt(tx *store.Tx, scope az.ID) error {
	if scope.IsRoot() {
		return errors.New("arm: the assignments of the whole plane are not deleted")
	}
	rows, err := tx.ResourcesWithin(scope)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.ID.IsType(guard.RoleAssignmentType) {
			if _, err := tx.DeleteResource(row.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
