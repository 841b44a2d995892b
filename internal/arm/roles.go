package arm

import (
	"context"
	"net/http"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

const (
	builtInRole = "BuiltInRole"
	customRole  = "CustomRole"

	// Limits of custom roles. Source: Azure RBAC limits (5,000 custom roles a
	// tenant, 512 characters in a name, 2,048 in a description).
	maxRoles           = 5000
	maxRoleName        = 512
	maxRoleDescription = 2048
	// maxRoleActions bounds each list of a permission, maxRoleAction one entry.
	maxRoleActions = 1000
	maxRoleAction  = 256
	maxRoleScopes  = 100
)

type roleProperties struct {
	RoleName         string             `json:"roleName"`
	Type             string             `json:"type"`
	Description      string             `json:"description"`
	AssignableScopes []string           `json:"assignableScopes"`
	Permissions      []guard.Permission `json:"permissions"`
	CreatedOn        string             `json:"createdOn,omitempty"`
	UpdatedOn        string             `json:"updatedOn,omitempty"`
	CreatedBy        string             `json:"createdBy,omitempty"`
	UpdatedBy        string             `json:"updatedBy,omitempty"`
}

// roleDefinitions is custom roles as resources of the subscription, and the
// built-in ones, which are code. Whatever scope a definition is asked for at,
// it is the same one: only the right to ask hangs on the scope.
type roleDefinitions struct {
	*Type[roleProperties]
}

func (a *API) roleType() *roleDefinitions {
	r := &roleDefinitions{}
	r.Type = Define(guard.RoleDefinitionType, []string{"2022-05-01-preview", "2022-04-01", "2018-01-01-preview", "2015-07-01"}, Hooks[roleProperties]{
		Extension:  true,
		NoState:    true,
		PutCreated: http.StatusCreated,
		Check:      r.check,
		Apply:      r.apply,
		Delete:     r.unassigned,
		View:       viewRole,
	})
	r.about.list, r.about.discard = r.list, r.removeCustom
	return r
}

// home is where a definition lies.
func (r *roleDefinitions) home(guid string) az.ID {
	return r.api.subscription().Child("providers", "Microsoft.Authorization", "roleDefinitions", strings.ToLower(guid))
}

func (r *roleDefinitions) get(ctx context.Context, call *Call) (any, error) {
	if err := call.Check(ctx, r.about.read, call.ID.Parent()); err != nil {
		return nil, err
	}
	for _, b := range guard.BuiltIn() {
		if strings.EqualFold(b.ID, call.ID.Name()) {
			return r.builtIn(b, call.ID.Parent()), nil
		}
	}
	row, err := r.Load(ctx, r.home(call.ID.Name()))
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, noRole(call.ID.Name())
	}
	return r.reply(ctx, call, row, http.StatusOK)
}

func noRole(name string) error {
	return az.Errorf(az.NotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", name)
}

// put needs the right to write role definitions at every scope that the role
// is, or was, assignable at.
func (r *roleDefinitions) put(ctx context.Context, call *Call, patch bool) (any, error) {
	if err := call.Check(ctx, r.about.write, call.ID.Parent()); err != nil {
		return nil, err
	}
	if patch {
		return nil, notServed(call.Method)
	}
	if err := changeable(call.ID.Name()); err != nil {
		return nil, err
	}
	call.ID, call.right = r.home(call.ID.Name()), r.about.write
	out, _, err := r.saveChecked(ctx, call, func(old *Resource[roleProperties]) (*Resource[roleProperties], error) {
		n, err := r.fromBody(call, old, false)
		if err != nil {
			return nil, err
		}
		scopes := n.Properties.AssignableScopes
		if old != nil {
			scopes = append(append([]string(nil), scopes...), old.Properties.AssignableScopes...)
		}
		return n, r.mayWriteAt(ctx, call, scopes)
	}, true)
	if err != nil {
		return nil, err
	}
	return r.reply(ctx, call, out, http.StatusCreated)
}

func changeable(guid string) error {
	if !az.IsGUID(guid) {
		return az.Errorf(az.Invalid, "InvalidRoleDefinitionId", "The role definition ID '%s' is not valid. The role definition ID must be a GUID.", guid)
	}
	for _, b := range guard.BuiltIn() {
		if strings.EqualFold(b.ID, guid) {
			return az.Errorf(az.Forbidden, "RoleDefinitionIsBuiltIn", "The role '%s' is built in; it cannot be changed or deleted. Make a custom role instead.", b.Name)
		}
	}
	return nil
}

func (r *roleDefinitions) mayWriteAt(ctx context.Context, call *Call, scopes []string) error {
	if len(scopes) > 2*maxRoleScopes {
		return tooManyScopes()
	}
	asked := map[string]bool{}
	for _, s := range scopes {
		id, err := az.ParseID(s)
		if err != nil {
			return badScope(s)
		}
		if asked[id.Key()] {
			continue
		}
		asked[id.Key()] = true
		if err := call.Check(ctx, r.about.write, id); err != nil {
			return err
		}
	}
	return nil
}

func tooManyScopes() error {
	return az.Errorf(az.Invalid, "RoleDefinitionScopesInvalid", "A role definition needs 1 to %d assignableScopes.", maxRoleScopes)
}

func badScope(s string) error {
	return az.Errorf(az.Invalid, "LinkedInvalidPropertyId", "The assignable scope '%.200s' is not valid: it must be the subscription, a resource group or a resource of this plane.", s)
}

// check validates a custom role.
func (r *roleDefinitions) check(ctx context.Context, call *Call, n, old *Resource[roleProperties]) error {
	p := &n.Properties
	switch {
	case p.RoleName == "" || utf8.RuneCountInString(p.RoleName) > maxRoleName:
		return az.Errorf(az.Invalid, "RoleDefinitionNameInvalid", "A role definition needs a roleName of 1 to %d characters.", maxRoleName)
	case utf8.RuneCountInString(p.Description) > maxRoleDescription:
		return az.Errorf(az.Invalid, "RoleDefinitionDescriptionInvalid", "A role's description can have at most %d characters.", maxRoleDescription)
	case p.Type != "" && !strings.EqualFold(p.Type, customRole):
		return az.Errorf(az.Invalid, "RoleDefinitionTypeInvalid", "A role definition that is written must have the type '%s'.", customRole)
	case len(p.AssignableScopes) == 0 || len(p.AssignableScopes) > maxRoleScopes:
		return tooManyScopes()
	case len(p.Permissions) == 0:
		return az.Errorf(az.Invalid, "RoleDefinitionPermissionsInvalid", "A role definition needs at least one entry in permissions.")
	}
	for i, s := range p.AssignableScopes {
		id, err := az.ParseID(s)
		if err != nil || !id.Within(r.api.subscription()) || id.IsCollection() {
			return badScope(s)
		}
		if err := r.api.scopeExists(id, r.api.outside(ctx)); err != nil {
			return badScope(s)
		}
		p.AssignableScopes[i] = id.String()
	}
	for i := range p.Permissions {
		if err := checkPermission(&p.Permissions[i]); err != nil {
			return err
		}
	}
	n.Location, n.Tags, n.Identity, n.SKU, n.Kind = "", nil, nil, nil, "" // roles have none
	p.Type, p.UpdatedBy, p.CreatedBy = customRole, call.Caller.ObjectID, call.Caller.ObjectID
	p.CreatedOn, p.UpdatedOn = "", ""
	if old != nil {
		p.CreatedBy = old.Properties.CreatedBy
	}
	return nil
}

func checkPermission(p *guard.Permission) error {
	for _, list := range []*[]string{&p.Actions, &p.NotActions, &p.DataActions, &p.NotDataActions} {
		if *list == nil {
			*list = []string{}
		}
		if len(*list) > maxRoleActions {
			return az.Errorf(az.Invalid, "RoleDefinitionPermissionsInvalid", "A permission can list at most %d actions of a kind.", maxRoleActions)
		}
		for _, s := range *list {
			if !validAction(s) {
				return az.Errorf(az.Invalid, "InvalidActionOrNotAction", "'%.200s' does not match any of the actions supported by the providers: an action is like Microsoft.KeyVault/vaults/read, in which * stands for anything.", s)
			}
		}
	}
	return nil
}

// validAction reports whether s has the form of an action or a pattern of them.
func validAction(s string) bool {
	if s == "*" {
		return true
	}
	if len(s) > maxRoleAction || !strings.Contains(s, "/") || strings.Contains(s, "//") || s[0] == '/' || s[len(s)-1] == '/' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("./*_-$", c)
	})
}

// apply keeps the names of roles apart.
func (r *roleDefinitions) apply(tx *store.Tx, n, old *Resource[roleProperties]) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: guard.RoleDefinitionType})
	if err != nil {
		return err
	}
	if old == nil && len(rows) >= maxRoles {
		return az.Errorf(az.Conflict, "RoleDefinitionLimitExceeded", "There are %d custom roles, which is the limit; delete one first.", maxRoles)
	}
	same := func(name, guid string) bool {
		return strings.EqualFold(name, n.Properties.RoleName) && !strings.EqualFold(guid, n.ID.Name())
	}
	for _, b := range guard.BuiltIn() {
		if same(b.Name, b.ID) {
			return sameRoleName(b.Name)
		}
	}
	for _, row := range rows {
		x, err := decode[roleProperties](r.api.cfg.Sealer, row, false)
		if err != nil {
			return err
		}
		if same(x.Properties.RoleName, row.ID.Name()) {
			return sameRoleName(x.Properties.RoleName)
		}
	}
	return nil
}

func sameRoleName(name string) error {
	return az.Errorf(az.Conflict, "RoleDefinitionWithSameNameExists", "A role definition cannot be updated with a name that already exists: '%s'.", name)
}

// unassigned refuses to delete a role that somebody holds.
func (r *roleDefinitions) unassigned(tx *store.Tx, x *Resource[roleProperties]) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: guard.RoleAssignmentType})
	if err != nil {
		return err
	}
	for _, row := range rows {
		as, err := decode[assignmentProperties](r.api.cfg.Sealer, row, false)
		if err != nil {
			return err
		}
		if strings.EqualFold(as.Properties.role(), x.ID.Name()) {
			return az.Errorf(az.Invalid, "RoleDefinitionHasAssignments", "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments). Delete them first.")
		}
	}
	return nil
}

// removeCustom answers DELETE of a role definition: 200 with what it was.
func (r *roleDefinitions) removeCustom(ctx context.Context, call *Call) (any, error) {
	if err := call.Check(ctx, r.about.delete, call.ID.Parent()); err != nil {
		return nil, err
	}
	if err := changeable(call.ID.Name()); err != nil {
		return nil, err
	}
	was, err := r.Load(ctx, r.home(call.ID.Name()))
	if err != nil || was == nil {
		return nil, err
	}
	call.ID, call.right = was.ID, r.about.delete
	for _, s := range was.Properties.AssignableScopes {
		id, err := az.ParseID(s)
		if err != nil {
			return nil, err
		}
		if err := call.Check(ctx, r.about.delete, id); err != nil {
			return nil, err
		}
	}
	row, ok, err := r.api.cfg.Store.Resource(ctx, was.ID)
	if err != nil || !ok {
		return nil, err
	}
	if err := r.remove(ctx, call, row); err == errRaced {
		return nil, az.Errorf(az.Conflict, "AnotherOperationInProgress", "The role definition was changed by another request; try again.")
	} else if err != nil {
		return nil, err
	}
	return r.reply(ctx, call, was, http.StatusOK)
}

func viewRole(_ context.Context, _ *Call, r *Resource[roleProperties]) (any, error) {
	p := r.Properties
	p.CreatedOn, p.UpdatedOn = stamp(r.Created), stamp(r.Updated)
	return p, nil
}

func stamp(m az.Micros) string {
	if m == 0 {
		return ""
	}
	return m.Time().Format("2006-01-02T15:04:05.0000000Z")
}

// builtInSince is shown as the date of built-in roles.
var builtInSince = az.MicrosOf(time.Date(2015, 2, 2, 21, 55, 9, 0, time.UTC))

func (r *roleDefinitions) builtIn(b *guard.Role, scope az.ID) *shownRole {
	at := az.Root
	if scope.Subscription() != "" {
		at = r.api.subscription()
	}
	perms := make([]guard.Permission, len(b.Permissions))
	for i, p := range b.Permissions {
		perms[i] = p
		_ = checkPermission(&perms[i]) // makes empty lists of missing ones
	}
	return &shownRole{
		ID:   at.Child("providers", "Microsoft.Authorization", "roleDefinitions", b.ID),
		Name: b.ID, Type: guard.RoleDefinitionType,
		Properties: roleProperties{RoleName: b.Name, Type: builtInRole, Description: b.Description, AssignableScopes: []string{"/"},
			Permissions: perms, CreatedOn: stamp(builtInSince), UpdatedOn: stamp(builtInSince)},
	}
}

type shownRole struct {
	ID         az.ID          `json:"id"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Properties roleProperties `json:"properties"`
}

// list answers GET of role definitions: those that can be assigned at the
// scope, by name.
func (r *roleDefinitions) list(ctx context.Context, call *Call, scope az.ID) (any, error) {
	if err := call.Check(ctx, r.about.read, scope); err != nil {
		return nil, err
	}
	terms, err := parseFilter(call.query("$filter"))
	if err != nil {
		return nil, err
	}
	var all []*shownRole
	for _, b := range guard.BuiltIn() {
		all = append(all, r.builtIn(b, scope))
	}
	custom, err := r.LoadAll(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range custom {
		if !assignableAt(c.Properties.AssignableScopes, scope) {
			continue
		}
		v, _ := viewRole(ctx, call, c)
		all = append(all, &shownRole{ID: c.ID, Name: c.ID.Name(), Type: guard.RoleDefinitionType, Properties: v.(roleProperties)})
	}
	page := Page{Value: []any{}}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Properties.RoleName < all[j].Properties.RoleName })
	for _, x := range all {
		ok, err := keepRole(terms, x)
		if err != nil {
			return nil, err
		}
		if ok {
			page.Value = append(page.Value, x)
		}
	}
	return page, nil
}

func keepRole(terms []term, x *shownRole) (bool, error) {
	for _, t := range terms {
		switch {
		case t.call && (t.name == "atscope" || t.name == "atscopeandbelow") && t.value == "":
		case !t.call && t.name == "rolename":
			if !strings.EqualFold(x.Properties.RoleName, t.value) {
				return false, nil
			}
		case !t.call && t.name == "type":
			if !strings.EqualFold(x.Properties.Type, t.value) {
				return false, nil
			}
		default:
			return false, badFilter()
		}
	}
	return true, nil
}

// assignableAt reports whether a role with these scopes can be assigned at one.
func assignableAt(scopes []string, at az.ID) bool {
	for _, s := range scopes {
		if id, err := az.ParseID(s); err == nil && at.Within(id) {
			return true
		}
	}
	return false
}

var _ AnyType = (*roleDefinitions)(nil)
