package directory

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

func (d *Directory) groupOperations() []operation {
	return []operation{
		{method: "GET", path: "/groups", need: &needs.groups, handle: d.listOf(az.Group)},
		{method: "POST", path: "/groups", need: &needs.createGroups, handle: d.createGroup},
		{method: "GET", path: "/groups/{id}", need: &needs.groups, handle: d.show},
		{method: "PATCH", path: "/groups/{id}", need: &needs.writeGroups, handle: d.patchGroup},
		{method: "DELETE", path: "/groups/{id}", need: &needs.deleteGroups, handle: d.deleteObject},
		{method: "GET", path: "/groups/{id}/members", need: &needs.groups, handle: d.linked(store.LinkMembers)},
		{method: "GET", path: "/groups/{id}/transitiveMembers", need: &needs.groups, handle: d.linked(store.LinkAllMembers)},
		{method: "GET", path: "/groups/{id}/memberOf", need: &needs.groups, handle: d.linked(store.LinkMemberOf)},
		{method: "GET", path: "/groups/{id}/transitiveMemberOf", need: &needs.groups, handle: d.linked(store.LinkAllGroups)},
		{method: "GET", path: "/groups/{id}/owners", need: &needs.groups, handle: d.linked(store.LinkOwners)},
		{method: "POST", path: "/groups/{id}/members/$ref", need: &needs.members, handle: d.addMember},
		{method: "DELETE", path: "/groups/{id}/members/{member}/$ref", need: &needs.members, handle: d.removeMember},
		{method: "POST", path: "/groups/{id}/owners/$ref", need: &needs.groupOwners, handle: d.addOwner},
		{method: "DELETE", path: "/groups/{id}/owners/{owner}/$ref", need: &needs.groupOwners, handle: d.removeOwner},
		{method: "POST", path: "/groups/{id}/checkMemberGroups", need: &needs.groups, handle: d.checkMembers("groupIds")},
		{method: "POST", path: "/groups/{id}/checkMemberObjects", need: &needs.groups, handle: d.checkMembers("ids")},
		{method: "POST", path: "/groups/{id}/getMemberGroups", need: &needs.groups, handle: d.getMembers},
		{method: "POST", path: "/groups/{id}/getMemberObjects", need: &needs.groups, handle: d.getMembers},
		{method: "GET", path: "/groups/{id}/appRoleAssignments", need: &needs.readAppRoles, handle: d.appRolesHeld},
		{method: "POST", path: "/groups/{id}/appRoleAssignments", need: &needs.writeAppRoles, handle: d.assignAppRole},
		{method: "DELETE", path: "/groups/{id}/appRoleAssignments/{assignment}", need: &needs.writeAppRoles, handle: d.unassignAppRole},
	}
}

// maxBind bounds members@odata.bind. Source: Microsoft Graph, "up to 20".
const maxBind = 20

type groupBody struct {
	DisplayName     opt[string]   `json:"displayName"`
	Description     opt[string]   `json:"description"`
	MailNickname    opt[string]   `json:"mailNickname"`
	MailEnabled     opt[bool]     `json:"mailEnabled"`
	SecurityEnabled opt[bool]     `json:"securityEnabled"`
	GroupTypes      opt[[]string] `json:"groupTypes"`
	Members         []string      `json:"members@odata.bind"`
	Owners          []string      `json:"owners@odata.bind"`
}

func (b *groupBody) into(o *Object) error {
	if b.MailEnabled.v || b.SecurityEnabled.there && !b.SecurityEnabled.v || len(b.GroupTypes.v) > 0 {
		return az.Errorf(az.Invalid, "Request_BadRequest", "Only security groups with assigned members are kept here: mailEnabled must be false, securityEnabled true, and groupTypes empty.")
	}
	b.DisplayName.put(&o.Name)
	b.Description.put(&o.Description)
	b.MailNickname.put(&o.MailNickname)
	return nil
}

// references reads the ids at the ends of @odata.id addresses.
func references(refs []string) ([]string, error) {
	if len(refs) > maxBind {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "At most %d references can be added at once.", maxBind)
	}
	out := make([]string, 0, len(refs))
	for _, ref := range refs {
		id, err := reference(ref)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

// reference reads {graph}/v1.0/directoryObjects/{id} and its like; only the id
// counts, and the host is never asked.
func reference(ref string) (string, error) {
	ref = strings.TrimSuffix(ref, "/$ref")
	id := strings.ToLower(ref[strings.LastIndexAny(ref, "/(")+1:])
	id = strings.Trim(strings.TrimSuffix(id, ")"), "'")
	if !az.IsGUID(id) {
		return "", az.Errorf(az.Invalid, "Request_BadRequest", "The property '@odata.id' must end in the id of a directory object.")
	}
	return id, nil
}

func (c *call) reference() (string, error) {
	var b struct {
		Ref string `json:"@odata.id"`
	}
	if err := c.body(&b); err != nil {
		return "", err
	}
	return reference(b.Ref)
}

func (d *Directory) createGroup(ctx context.Context, c *call) (any, error) {
	var b groupBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	members, err := references(b.Members)
	if err != nil {
		return nil, err
	}
	owners, err := references(b.Owners)
	if err != nil {
		return nil, err
	}
	if c.Caller.Kind == az.User && len(owners) == 0 {
		owners = []string{c.Caller.ObjectID} // as Graph does
	}
	var o Object
	if err := b.into(&o); err != nil {
		return nil, err
	}
	var made *Object
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		if made, err = d.AddGroup(tx, o); err != nil {
			return err
		}
		for _, m := range members {
			if err := d.AddMember(tx, made.ID, m); err != nil {
				return err
			}
		}
		for _, w := range owners {
			if err := d.AddOwner(tx, made.ID, w); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d.showAs(ctx, c, made, 201)
}

func (d *Directory) patchGroup(ctx context.Context, c *call) (any, error) {
	var b groupBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	members, err := references(b.Members)
	if err != nil {
		return nil, err
	}
	if len(members) > 0 {
		// The right to change a group does not hold that to its members.
		if err := d.permit(ctx, c, &needs.members); err != nil {
			return nil, err
		}
		if err := d.guardPrivileged(ctx, c, c.target.ID); err != nil {
			return nil, err
		}
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		o, err := existing(tx, az.Group, c.target.ID)
		if err != nil {
			return err
		}
		if err := b.into(o); err != nil {
			return err
		}
		if err := checkName("group", o.Name); err != nil {
			return err
		}
		for _, m := range members {
			if err := d.AddMember(tx, o.ID, m); err != nil {
				return err
			}
		}
		return d.Update(tx, o)
	})
}

func (d *Directory) addMember(ctx context.Context, c *call) (any, error) {
	id, err := c.reference()
	if err != nil {
		return nil, err
	}
	if err := d.guardPrivileged(ctx, c, c.target.ID); err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error { return d.AddMember(tx, c.target.ID, id) })
}

func (d *Directory) removeMember(ctx context.Context, c *call) (any, error) {
	if err := d.guardPrivileged(ctx, c, c.target.ID); err != nil {
		return nil, err
	}
	member := strings.ToLower(c.vars["member"])
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		if _, err := existing(tx, az.Group, c.target.ID); err != nil {
			return err
		}
		removed, err := tx.RemoveMember(c.target.ID, member)
		if err == nil && !removed {
			return notFound(member)
		}
		return err
	})
}

// maxOwners bounds the owners of an object. Source: Microsoft Graph, 100.
const maxOwners = 100

// AddOwner makes a person or a service principal an owner of a group, an
// application or a service principal.
func (d *Directory) AddOwner(tx *store.Tx, object, owner string) error {
	r, ok, err := tx.Object(owner)
	if err != nil {
		return err
	}
	if !ok {
		return notFound(owner)
	}
	if r.Kind != string(az.User) && r.Kind != string(az.ServicePrincipal) {
		return az.Errorf(az.Invalid, "Request_BadRequest", "Only people and service principals can be owners.")
	}
	all, err := tx.OwnersOf(object)
	if err != nil {
		return err
	}
	if len(all) >= maxOwners {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The object has %d owners already.", maxOwners)
	}
	err = tx.AddOwner(object, owner)
	if az.Is(err, az.Conflict) {
		return az.Errorf(az.Invalid, "Request_BadRequest",
			"One or more added object references already exist for the following modified properties: 'owners'.")
	}
	return err
}

// guardOwned is guardPrivileged for what an owner of the target could do.
func (d *Directory) guardOwned(ctx context.Context, c *call) error {
	switch c.target.Kind {
	case az.Group:
		return d.guardPrivileged(ctx, c, c.target.ID)
	default:
		if c.target.FirstParty {
			return az.Errorf(az.Invalid, "Request_BadRequest", "A service principal of the platform itself has no owners.")
		}
		return d.guardApplication(ctx, c, c.target)
	}
}

func (d *Directory) addOwner(ctx context.Context, c *call) (any, error) {
	id, err := c.reference()
	if err != nil {
		return nil, err
	}
	if err := d.guardOwned(ctx, c); err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		if _, err := existing(tx, c.target.Kind, c.target.ID); err != nil {
			return err
		}
		return d.AddOwner(tx, c.target.ID, id)
	})
}

func (d *Directory) removeOwner(ctx context.Context, c *call) (any, error) {
	if err := d.guardOwned(ctx, c); err != nil {
		return nil, err
	}
	owner := strings.ToLower(c.vars["owner"])
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		removed, err := tx.RemoveOwner(c.target.ID, owner)
		if err == nil && !removed {
			return notFound(owner)
		}
		return err
	})
}
