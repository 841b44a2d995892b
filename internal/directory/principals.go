package directory

import (
	"context"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

func (d *Directory) principalOperations() []operation {
	const one = "/servicePrincipals/{id}"
	return []operation{
		{method: "GET", path: "/servicePrincipals", need: &needs.principals, handle: d.listOf(az.ServicePrincipal)},
		{method: "POST", path: "/servicePrincipals", need: &needs.createPrincipals, handle: d.createPrincipal},
		{method: "GET", path: one, need: &needs.ownPrincipal, handle: d.show},
		{method: "PATCH", path: one, need: &needs.writePrincipals, handle: d.patchPrincipal},
		{method: "DELETE", path: one, need: &needs.deletePrincipals, handle: d.deleteObject},
		{method: "POST", path: one + "/addPassword", need: &needs.credentials, handle: d.addPassword},
		{method: "POST", path: one + "/removePassword", need: &needs.credentials, handle: d.removePassword},
		{method: "POST", path: one + "/addKey", need: &needs.credentials, handle: refuseKeys},
		{method: "POST", path: one + "/removeKey", need: &needs.credentials, handle: refuseKeys},
		{method: "GET", path: one + "/owners", need: &needs.ownPrincipal, handle: d.linked(store.LinkOwners)},
		{method: "POST", path: one + "/owners/$ref", need: &needs.spOwners, handle: d.addOwner},
		{method: "DELETE", path: one + "/owners/{owner}/$ref", need: &needs.spOwners, handle: d.removeOwner},
		{method: "GET", path: one + "/ownedObjects", need: &needs.ownPrincipal, handle: d.linked(store.LinkOwned)},
		{method: "GET", path: one + "/memberOf", need: &needs.ownPrincipal, handle: d.linked(store.LinkMemberOf)},
		{method: "GET", path: one + "/transitiveMemberOf", need: &needs.ownPrincipal, handle: d.linked(store.LinkAllGroups)},
		{method: "POST", path: one + "/checkMemberGroups", need: &needs.ownPrincipal, handle: d.checkMembers("groupIds")},
		{method: "POST", path: one + "/checkMemberObjects", need: &needs.ownPrincipal, handle: d.checkMembers("ids")},
		{method: "POST", path: one + "/getMemberGroups", need: &needs.ownPrincipal, handle: d.getMembers},
		{method: "POST", path: one + "/getMemberObjects", need: &needs.ownPrincipal, handle: d.getMembers},
		{method: "GET", path: one + "/appRoleAssignedTo", need: &needs.readAppRoles, handle: d.appRolesGiven},
		{method: "POST", path: one + "/appRoleAssignedTo", need: &needs.writeAppRoles, handle: d.assignAppRole},
		{method: "DELETE", path: one + "/appRoleAssignedTo/{assignment}", need: &needs.writeAppRoles, handle: d.unassignAppRole},
		{method: "GET", path: one + "/appRoleAssignments", need: &needs.ownAppRoles, handle: d.appRolesHeld},
		{method: "POST", path: one + "/appRoleAssignments", need: &needs.writeAppRoles, handle: d.assignAppRole},
		{method: "DELETE", path: one + "/appRoleAssignments/{assignment}", need: &needs.writeAppRoles, handle: d.unassignAppRole},
		{method: "GET", path: one + "/oauth2PermissionGrants", need: &needs.readGrants, handle: d.grantsOfClient},
	}
}

type principalBody struct {
	AppID       string        `json:"appId"`
	DisplayName opt[string]   `json:"displayName"`
	Enabled     opt[bool]     `json:"accountEnabled"`
	Assigned    opt[bool]     `json:"appRoleAssignmentRequired"`
	Tags        opt[[]string] `json:"tags"`
	Description opt[string]   `json:"description"`
	Notes       opt[string]   `json:"notes"`
}

func (b *principalBody) into(o *Object) {
	b.Enabled.put(&o.Enabled)
	b.Assigned.put(&o.Assigned)
	b.Tags.put(&o.Tags)
	b.Description.put(&o.Description)
	b.Notes.put(&o.Notes)
}

func (d *Directory) createPrincipal(ctx context.Context, c *call) (any, error) {
	var b principalBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if !az.IsGUID(b.AppID) {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'appId' must be a GUID.")
	}
	if err := d.guardNewPrincipal(ctx, c, strings.ToLower(b.AppID)); err != nil {
		return nil, err
	}
	var made *Object
	var err error
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		if made, err = d.AddServicePrincipal(tx, b.AppID); err != nil {
			return err
		}
		b.into(made)
		if err := d.Update(tx, made); err != nil {
			return err
		}
		return d.ownMade(tx, c, made.ID)
	})
	if err != nil {
		return nil, err
	}
	return d.showAs(ctx, c, made, http.StatusCreated)
}

// guardNewPrincipal: who makes a service principal may own it, and its owner
// adds secrets to the application. So one that may manage only what it owns
// makes no principal of another's application.
func (d *Directory) guardNewPrincipal(ctx context.Context, c *call, appID string) error {
	_, owned := holdsAny(c.Caller.Roles, ownedBy)
	_, all := holdsAny(c.Caller.Roles, needs.writePrincipals.roles)
	if c.Caller.Kind == az.User || !owned || all {
		return nil
	}
	app, err := d.byApp(ctx, Application, appID)
	if err != nil || app == nil {
		return err // that there is none is said later
	}
	if owns, err := d.owns(ctx, c.Caller.ObjectID, app); err != nil || owns {
		return err
	}
	return d.cfg.Guard.Check(ctx, c.Caller, actionPrincipals, az.Root)
}

func (d *Directory) patchPrincipal(ctx context.Context, c *call) (any, error) {
	var b principalBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if c.target.FirstParty {
		if err := d.guardFirstParty(ctx, c, &b); err != nil {
			return nil, err
		}
	}
	if b.Enabled.there {
		if err := d.guardPrivileged(ctx, c, c.target.ID); err != nil {
			return nil, err
		}
		if d.cfg.Keep != "" && d.cfg.Keep == c.target.AppID && !b.Enabled.v {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The plane's administrator cannot be disabled.")
		}
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		o, err := existing(tx, az.ServicePrincipal, c.target.ID)
		if err != nil {
			return err
		}
		b.into(o)
		return d.Update(tx, o)
	})
}

// guardFirstParty keeps the platform's own resources and clients as they are:
// without Graph or the resource manager nobody could let anybody in again. Whom
// they let in is for those who may hand out rights at the root.
func (d *Directory) guardFirstParty(ctx context.Context, c *call, b *principalBody) error {
	if b.Enabled.there && !b.Enabled.v && (c.target.AppID == AppGraph || c.target.AppID == AppARM) {
		return az.Errorf(az.Invalid, "Request_BadRequest", "This service principal cannot be disabled: nobody could enable it again.")
	}
	if b.Assigned.there && b.Assigned.v {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The platform's own service principals cannot require an assignment.")
	}
	return d.cfg.Guard.Check(ctx, c.Caller, actionAssign, az.Root)
}

// appRoleBody is an app role assignment as Graph writes it.
type appRoleBody struct {
	Principal string `json:"principalId"`
	Resource  string `json:"resourceId"`
	Role      string `json:"appRoleId"`
}

// guardPermission keeps the platform's own permissions, such as Graph's, with
// those who may hand out rights at the root. In Entra the app role
// AppRoleAssignment.ReadWrite.All alone would do, and could give itself
// everything else.
func (d *Directory) guardPermission(ctx context.Context, c *call, resource *Object) error {
	if !resource.FirstParty {
		return nil
	}
	return d.cfg.Guard.Check(ctx, c.Caller, actionAssign, az.Root)
}

// mayAssign decides on a change to the app roles of a resource. Owners were let
// in by what the path named; what counts is that they own the resource.
func (d *Directory) mayAssign(ctx context.Context, c *call, resource *Object) error {
	named := *c
	named.target = resource
	if err := d.permit(ctx, &named, &needs.writeAppRoles); err != nil {
		return err
	}
	return d.guardPermission(ctx, c, resource)
}

func (d *Directory) resource(ctx context.Context, id string) (*Object, error) {
	o, ok, err := d.Get(ctx, strings.ToLower(id))
	if err != nil {
		return nil, err
	}
	if !ok || o.Kind != az.ServicePrincipal {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'resourceId' must be the id of a service principal.")
	}
	return o, nil
}

func (d *Directory) assignAppRole(ctx context.Context, c *call) (any, error) {
	var b appRoleBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if last := c.op.segments[len(c.op.segments)-1]; last == "appRoleAssignedTo" && b.Resource == "" {
		b.Resource = c.target.ID
	} else if last == "appRoleAssignments" && b.Principal == "" {
		b.Principal = c.target.ID
	}
	if !strings.EqualFold(b.Resource, c.target.ID) && !strings.EqualFold(b.Principal, c.target.ID) {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "Either 'principalId' or 'resourceId' must be the object that the path names.")
	}
	resource, err := d.resource(ctx, b.Resource)
	if err != nil {
		return nil, err
	}
	if err := d.mayAssign(ctx, c, resource); err != nil {
		return nil, err
	}
	var made store.AppRoleAssignment
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		made, err = d.AssignAppRole(tx, strings.ToLower(b.Principal), resource.ID, b.Role)
		return err
	})
	if err != nil {
		return nil, err
	}
	v, err := d.appRoleView(ctx, made)
	if err != nil {
		return nil, err
	}
	v["@odata.context"] = c.base + "/$metadata#appRoleAssignments/$entity"
	return &rest.Reply{Status: http.StatusCreated, Body: v}, nil
}

// AssignAppRole gives a principal a role of a resource's application, or the
// default role.
func (d *Directory) AssignAppRole(tx *store.Tx, principal, resource, role string) (a store.AppRoleAssignment, err error) {
	if role = strings.ToLower(role); role == "" {
		role = DefaultRole
	}
	who, ok, err := tx.Object(principal)
	if err != nil {
		return a, err
	}
	if !ok || who.Kind == string(Application) {
		return a, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'principalId' must be the id of a user, a group or a service principal.")
	}
	facts, err := factsOf(tx, resource)
	if err != nil {
		return a, err
	}
	if err := roleFits(facts, role, az.PrincipalKind(who.Kind)); err != nil {
		return a, err
	}
	a = store.AppRoleAssignment{ID: az.NewGUID(), Principal: principal, Resource: resource, Role: role, Created: tx.Now()}
	if err = tx.InsertAppRoleAssignment(a); az.Is(err, az.Conflict) {
		err = az.Errorf(az.Invalid, "Request_BadRequest", "Permission being assigned already exists on the object.")
	}
	return a, err
}

// factsOf reads what a service principal's application declares.
func factsOf(tx *store.Tx, resource string) (*Facts, error) {
	sp, err := existing(tx, az.ServicePrincipal, resource)
	if err != nil {
		return nil, err
	}
	r, ok, err := tx.ObjectByApp(string(Application), sp.AppID)
	if err != nil || !ok {
		return &sp.Facts, err
	}
	app, err := fromRow(r)
	if err != nil {
		return nil, err
	}
	return &app.Facts, nil
}

func roleFits(f *Facts, role string, kind az.PrincipalKind) error {
	member := "User"
	if kind == az.ServicePrincipal {
		member = "Application"
	}
	if role == DefaultRole {
		return nil
	}
	for _, r := range f.AppRoles {
		if r.ID == role && r.Enabled && hasFold(r.AllowedMemberTypes, member) {
			return nil
		}
	}
	return az.Errorf(az.Invalid, "Request_BadRequest", "Permission being assigned was not found on application: the resource declares no enabled app role with this id for a %s.", strings.ToLower(member))
}

func hasFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

func (d *Directory) unassignAppRole(ctx context.Context, c *call) (any, error) {
	all, err := d.store.AppRoleAssignments(ctx, store.AppRoleQuery{ID: strings.ToLower(c.vars["assignment"])})
	if err != nil {
		return nil, err
	}
	if len(all) != 1 || c.vars["assignment"] == "" || all[0].Resource != c.target.ID && all[0].Principal != c.target.ID {
		return nil, notFound(c.vars["assignment"])
	}
	resource, err := d.resource(ctx, all[0].Resource)
	if err != nil {
		return nil, err
	}
	if err := d.mayAssign(ctx, c, resource); err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteAppRoleAssignment(all[0]) })
}

func (d *Directory) appRoleView(ctx context.Context, a store.AppRoleAssignment) (map[string]any, error) {
	v := map[string]any{"id": a.ID, "appRoleId": a.Role, "principalId": a.Principal, "resourceId": a.Resource,
		"createdDateTime": stamp(a.Created), "deletedDateTime": nil, "principalType": nil, "principalDisplayName": nil, "resourceDisplayName": nil}
	if o, ok, err := d.Get(ctx, a.Principal); err != nil {
		return nil, err
	} else if ok {
		v["principalType"], v["principalDisplayName"] = string(o.Kind), o.Name
	}
	if o, ok, err := d.Get(ctx, a.Resource); err != nil {
		return nil, err
	} else if ok {
		v["resourceDisplayName"] = o.Name
	}
	return v, nil
}

func (d *Directory) appRolesHeld(ctx context.Context, c *call) (any, error) {
	return d.appRoleList(ctx, c, store.AppRoleQuery{Principals: []string{c.target.ID}})
}

func (d *Directory) appRolesGiven(ctx context.Context, c *call) (any, error) {
	return d.appRoleList(ctx, c, store.AppRoleQuery{Resource: c.target.ID})
}

func (d *Directory) appRoleList(ctx context.Context, c *call, q store.AppRoleQuery) (any, error) {
	f, p, err := d.smallQuery(c, map[string]bool{"resourceid": true, "principalid": true, "approleid": true})
	if err != nil {
		return nil, err
	}
	q.After, q.Limit = p.after, p.top+1
	if s := f["resourceid"]; s != "" {
		if q.Resource != "" && q.Resource != s {
			return p.reply(c, "appRoleAssignments", nil, ""), nil
		}
		q.Resource = s
	}
	rows, err := d.store.AppRoleAssignments(ctx, q)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(rows) > p.top {
		rows = rows[:p.top]
		next = rows[len(rows)-1].ID
	}
	out := []any{}
	for _, a := range rows {
		if f["principalid"] != "" && f["principalid"] != a.Principal || f["approleid"] != "" && f["approleid"] != a.Role {
			continue
		}
		v, err := d.appRoleView(ctx, a)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return p.reply(c, "appRoleAssignments", out, p.next(d, c, next)), nil
}
