package directory

import (
	"context"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// Who may do what, in one place. An operation is open
//
//   - to a person, if the token holds one of the operation's delegated scopes
//     (or Directory.AccessAsUser.All: whatever the person may) and the person
//     has the right himself: by a role assignment, because he owns the object,
//     or because it is his own profile;
//   - to an application, if its token holds one of the operation's app roles,
//     or if a role assignment gives it the right.
//
// Beyond that, nobody gains more than he has: see privileged.

// The rights to change the directory, at the root scope: whoever owns the
// tenant has them all. To read it, a role that may read anything anywhere is
// enough, for who hands out roles must find whom to.
var (
	actionRead         = guard.Control("Hawser.Directory/objects/read")
	actionApplications = guard.Control("Hawser.Directory/applications/write")
	actionPrincipals   = guard.Control("Hawser.Directory/servicePrincipals/write")
	actionUsers        = guard.Control("Hawser.Directory/users/write")
	actionGroups       = guard.Control("Hawser.Directory/groups/write")
	actionMembers      = guard.Control("Hawser.Directory/groups/members/write")
	actionCredentials  = guard.Control("Hawser.Directory/applications/credentials/write")
	actionAppRoles     = guard.Control("Hawser.Directory/appRoleAssignments/write")
	actionGrants       = guard.Control("Hawser.Directory/oauth2PermissionGrants/write")
	actionDelete       = map[az.PrincipalKind]guard.Action{
		Application:         guard.Control("Hawser.Directory/applications/delete"),
		az.ServicePrincipal: guard.Control("Hawser.Directory/servicePrincipals/delete"),
		az.User:             guard.Control("Hawser.Directory/users/delete"),
		az.Group:            guard.Control("Hawser.Directory/groups/delete"),
	}
	// actionAssign is the right to hand out rights: who has it at the root has
	// everything, or could.
	actionAssign = guard.Control("Microsoft.Authorization/roleAssignments/write")
)

// asUser is the delegated scope that stands for all others.
const asUser = "Directory.AccessAsUser.All"

// need is what an operation asks of its caller.
type need struct {
	action   guard.Action
	anywhere bool     // the right at any scope is enough
	scopes   []string // delegated; asUser always counts too
	roles    []string // app roles
	self     []string // scopes that suffice where the object is the caller's own; applications need none
	owner    bool     // owners of the object have the right
	owned    []string // app roles that suffice for an application that owns the object
	basic    []string // scopes and app roles that open people's basic profiles
	anybody  bool     // every caller with a token may
}

var (
	readAll  = []string{"Directory.Read.All", "Directory.ReadWrite.All"}
	writeAll = []string{"Directory.ReadWrite.All"}
	ownedBy  = []string{"Application.ReadWrite.OwnedBy"}
)

func reads(values ...string) need {
	all := slices.Concat(values, readAll)
	return need{action: actionRead, anywhere: true, scopes: all, roles: all}
}

func writes(a guard.Action, values ...string) need {
	all := slices.Concat(values, writeAll)
	return need{action: a, scopes: all, roles: all}
}

func (n need) forSelf(scopes ...string) need { n.self = append([]string{}, scopes...); return n }
func (n need) forOwners() need               { n.owner = true; return n }
func (n need) forOwned() need                { n.owned = ownedBy; return n }
func (n need) orBasic() need                 { n.basic = []string{"User.ReadBasic.All"}; return n }
func (n need) orRoles(r ...string) need      { n.roles = slices.Concat(n.roles, r); return n }

// needs are the rules that the table of operations names.
var needs = struct {
	users, user, writeUsers, deleteUsers, ownPassword, ownSessions, ownMemberships          need
	groups, createGroups, writeGroups, deleteGroups, members, groupOwners                   need
	apps, createApps, writeApps, deleteApps, credentials, appOwners                         need
	principals, ownPrincipal, createPrincipals, writePrincipals, deletePrincipals, spOwners need
	readAppRoles, ownAppRoles, writeAppRoles, readGrants, ownGrants, writeGrants, objects   need
	object, anybody, methods                                                                need
}{
	users:          reads("User.Read.All", "User.ReadWrite.All").orBasic(),
	user:           reads("User.Read.All", "User.ReadWrite.All").orBasic().forSelf("User.Read", "User.ReadWrite", "User.ReadBasic.All", "User.Read.All", "User.ReadWrite.All", asUser),
	writeUsers:     writes(actionUsers, "User.ReadWrite.All"),
	deleteUsers:    writes(actionDelete[az.User], "User.ReadWrite.All"),
	ownPassword:    need{action: actionUsers, self: []string{"User.ReadWrite", "User.ReadWrite.All", asUser}},
	ownSessions:    writes(actionUsers, "User.ReadWrite.All").forSelf("User.ReadWrite", "User.ReadWrite.All", asUser),
	ownMemberships: reads("GroupMember.Read.All", "Group.Read.All", "Group.ReadWrite.All", "GroupMember.ReadWrite.All", "User.Read.All", "User.ReadWrite.All").forSelf("User.Read", "User.ReadWrite", "User.Read.All", "GroupMember.Read.All", "Group.Read.All", "Directory.Read.All", asUser),

	groups:       reads("GroupMember.Read.All", "Group.Read.All", "Group.ReadWrite.All", "GroupMember.ReadWrite.All"),
	createGroups: writes(actionGroups, "Group.ReadWrite.All").orRoles("Group.Create"),
	writeGroups:  writes(actionGroups, "Group.ReadWrite.All").forOwners(),
	deleteGroups: writes(actionDelete[az.Group], "Group.ReadWrite.All").forOwners(),
	members:      writes(actionMembers, "GroupMember.ReadWrite.All", "Group.ReadWrite.All").forOwners(),
	groupOwners:  writes(actionMembers, "Group.ReadWrite.All").forOwners(),

	apps:        reads("Application.Read.All", "Application.ReadWrite.All").orRoles(ownedBy...).forOwners(),
	createApps:  writes(actionApplications, "Application.ReadWrite.All").orRoles(ownedBy...),
	writeApps:   writes(actionApplications, "Application.ReadWrite.All").forOwners().forOwned(),
	deleteApps:  writes(actionDelete[Application], "Application.ReadWrite.All").forOwners().forOwned(),
	credentials: writes(actionCredentials, "Application.ReadWrite.All").forOwners().forOwned(),
	appOwners:   writes(actionCredentials, "Application.ReadWrite.All").forOwners().forOwned(),

	principals:       reads("Application.Read.All", "Application.ReadWrite.All").orRoles(ownedBy...),
	ownPrincipal:     reads("Application.Read.All", "Application.ReadWrite.All").orRoles(ownedBy...).forSelf().forOwners(),
	createPrincipals: writes(actionPrincipals, "Application.ReadWrite.All").orRoles(ownedBy...),
	writePrincipals:  writes(actionPrincipals, "Application.ReadWrite.All").forOwners().forOwned(),
	deletePrincipals: writes(actionDelete[az.ServicePrincipal], "Application.ReadWrite.All").forOwners().forOwned(),
	spOwners:         writes(actionPrincipals, "Application.ReadWrite.All").forOwners().forOwned(),

	readAppRoles:  reads("AppRoleAssignment.ReadWrite.All", "Application.Read.All", "Application.ReadWrite.All").forOwners(),
	ownAppRoles:   reads("AppRoleAssignment.ReadWrite.All", "Application.Read.All", "Application.ReadWrite.All").forSelf("User.Read", "User.ReadWrite", "Directory.Read.All", asUser),
	writeAppRoles: need{action: actionAppRoles, scopes: []string{"AppRoleAssignment.ReadWrite.All"}, roles: []string{"AppRoleAssignment.ReadWrite.All"}, owner: true},
	readGrants:    reads("DelegatedPermissionGrant.ReadWrite.All", "Application.Read.All", "Application.ReadWrite.All"),
	ownGrants:     reads("DelegatedPermissionGrant.ReadWrite.All").forSelf("User.Read", "User.ReadWrite", "Directory.Read.All", asUser),
	writeGrants:   need{action: actionGrants, scopes: []string{"DelegatedPermissionGrant.ReadWrite.All"}, roles: []string{"DelegatedPermissionGrant.ReadWrite.All"}},

	objects: reads("User.Read.All", "Group.Read.All", "Application.Read.All"),
	object:  reads("User.Read.All", "Group.Read.All", "Application.Read.All").forSelf("User.Read", "User.ReadWrite", asUser),
	anybody: need{action: actionRead, anybody: true},
	methods: need{action: actionUsers, scopes: []string{"UserAuthenticationMethod.ReadWrite.All"}, roles: []string{"UserAuthenticationMethod.ReadWrite.All"}},
}

func holdsAny(have, want []string) (string, bool) {
	for _, w := range want {
		if slices.Contains(have, w) {
			return w, true
		}
	}
	return "", false
}

// permit decides whether a call may go on, and records the answer.
func (d *Directory) permit(ctx context.Context, c *call, n *need) error {
	target := ""
	if c.target != nil {
		target = c.target.ID
	}
	self := n.self != nil && target != "" && target == c.Caller.ObjectID
	if n.anybody {
		return d.allow(ctx, c, n.action, "every caller may")
	}
	if c.Caller.Kind == az.User {
		return d.permitPerson(ctx, c, n, target, self)
	}
	if self {
		return d.allow(ctx, c, n.action, "it is the caller's own object")
	}
	if role, ok := holdsAny(c.Caller.Roles, n.roles); ok {
		return d.allow(ctx, c, n.action, "the token holds the app role "+role)
	}
	if role, ok := holdsAny(c.Caller.Roles, n.owned); ok {
		if owns, err := d.owns(ctx, c.Caller.ObjectID, c.target); err != nil {
			return err
		} else if owns {
			return d.allow(ctx, c, n.action, "the caller owns the object and its token holds the app role "+role)
		}
	}
	if role, ok := holdsAny(c.Caller.Roles, n.basic); ok {
		c.basic = true
		return d.allow(ctx, c, n.action, "the token holds the app role "+role)
	}
	return d.right(ctx, c, n)
}

func (d *Directory) permitPerson(ctx context.Context, c *call, n *need, target string, self bool) error {
	if scope, ok := holdsAny(c.Caller.Scopes, n.self); ok && self {
		return d.allow(ctx, c, n.action, "it is the caller's own object, and the token holds the scope "+scope)
	}
	_, full := holdsAny(c.Caller.Scopes, slices.Concat(n.scopes, []string{asUser}))
	basicScope, basic := holdsAny(c.Caller.Scopes, n.basic)
	if n.scopes == nil || !full && !basic {
		return d.refuse(ctx, c, n)
	}
	if !full {
		c.basic = true
		return d.allow(ctx, c, n.action, "the token holds the scope "+basicScope)
	}
	if n.owner {
		if owns, err := d.owns(ctx, c.Caller.ObjectID, c.target); err != nil {
			return err
		} else if owns {
			return d.allow(ctx, c, n.action, "the caller owns the object")
		}
	}
	err := d.right(ctx, c, n)
	if _, denied := guard.AsDenied(err); denied && basic {
		c.basic = true
		return d.allow(ctx, c, n.action, "the token holds the scope "+basicScope)
	}
	return err
}

// peopleBasic reports whether a caller who may look at groups or applications
// sees of people no more than basic profiles: its token says nothing of people.
// Source: Microsoft Graph, "limited information returned for inaccessible
// member objects". An application that a role assignment let in reads all.
func (c *call) peopleBasic() bool {
	if c.basic {
		return true
	}
	if c.target != nil && c.target.ID == c.Caller.ObjectID {
		return false
	}
	if c.Caller.Kind == az.User {
		_, full := holdsAny(c.Caller.Scopes, slices.Concat(needs.users.scopes, []string{asUser}))
		return !full
	}
	_, full := holdsAny(c.Caller.Roles, needs.users.roles)
	_, byRole := holdsAny(c.Caller.Roles, slices.Concat(needs.groups.roles, needs.apps.roles))
	return byRole && !full
}

func (d *Directory) right(ctx context.Context, c *call, n *need) error {
	if n.anywhere {
		return d.cfg.Guard.CheckAnywhere(ctx, c.Caller, n.action)
	}
	return d.cfg.Guard.Check(ctx, c.Caller, n.action, az.Root)
}

func (d *Directory) allow(ctx context.Context, c *call, a guard.Action, reason string) error {
	return d.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: c.Caller, Action: a.Name, Where: az.Root.String(),
		Outcome: guard.Allowed, Reason: reason})
}

// refuse records that a token may not be used for an operation, whatever its
// person may do.
func (d *Directory) refuse(ctx context.Context, c *call, n *need) error {
	err := d.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: c.Caller, Action: n.action.Name, Where: az.Root.String(),
		Outcome: guard.Refused, Reason: "the token holds no scope that allows it"})
	if err != nil {
		return err
	}
	wanted := slices.Concat(n.scopes, n.self)
	if len(wanted) == 0 {
		wanted = []string{asUser}
	}
	return az.Errorf(az.Forbidden, "Authorization_RequestDenied",
		"Insufficient privileges to complete the operation. The token needs one of these scopes, consented to for the application: %s.", strings.Join(slices.Compact(wanted), ", "))
}

// owns reports whether somebody owns an object. Who owns an application owns
// its service principal.
func (d *Directory) owns(ctx context.Context, who string, o *Object) (bool, error) {
	if o == nil || o.FirstParty {
		return false, nil
	}
	is, err := d.store.IsOwner(ctx, o.ID, who)
	if err != nil || is || o.Kind != az.ServicePrincipal || o.IsManagedIdentity() {
		return is, err
	}
	c, ok, err := d.Client(ctx, o.AppID)
	if err != nil || !ok || c.Application == nil {
		return false, err
	}
	return d.store.IsOwner(ctx, c.Application.ID, who)
}

// maxUp bounds the groups above one object that are looked at.
const maxUp = 10_000

// guardPrivileged keeps those who may only manage the directory from becoming
// those who may do more. Whoever sets a person's password, adds a member to a
// group or a secret to an application could act as that person, with that
// group's rights, as that application: where there are such rights, he must be
// allowed to hand out rights at the root himself.
//
// Two differences from Entra follow: a group's owner does not manage its
// members while the group (or one that holds it) has a role or is in a vault's
// access policies; and app roles
// such as User.ReadWrite.All do not reach those who have one. As in Entra, the
// owner of an application may add credentials to it whatever it may do: whoever
// gives it a role trusts its owners.
func (d *Directory) guardPrivileged(ctx context.Context, c *call, oid string) error {
	yes, err := d.privileged(ctx, oid, true)
	if err != nil || !yes {
		return err
	}
	return d.cfg.Guard.Check(ctx, c.Caller, actionAssign, az.Root)
}

// privileged reports whether an object holds a role of the control plane, is in
// a vault's access policies, holds an app role of the platform's own, or could take one by what it owns.
func (d *Directory) privileged(ctx context.Context, oid string, owned bool) (bool, error) {
	if yes, err := d.cfg.Guard.HoldsRoles(ctx, oid); err != nil || yes {
		return yes, err
	}
	up, err := d.store.LinkedIDs(ctx, store.LinkAllGroups, oid, maxUp)
	if err != nil {
		return false, err
	}
	all := append(up, oid)
	if d.cfg.Named != nil {
		if yes, err := d.cfg.Named(ctx, all); err != nil || yes {
			return yes, err
		}
	}
	holds, err := d.appRolesOf(ctx, all)
	if err != nil {
		return false, err
	}
	for _, h := range holds {
		if r, ok, err := d.Get(ctx, h.resource); err != nil {
			return false, err
		} else if ok && r.FirstParty {
			return true, nil
		}
	}
	if !owned {
		return false, nil
	}
	ids, err := d.store.OwnedBy(ctx, oid)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if yes, err := d.privilegedOwned(ctx, id); err != nil || yes {
			return yes, err
		}
	}
	return false, nil
}

// privilegedOwned looks at an owned object: of an application its principal
// counts. Owners of a privileged group cannot manage it, so it does not count.
func (d *Directory) privilegedOwned(ctx context.Context, id string) (bool, error) {
	o, ok, err := d.Get(ctx, id)
	if err != nil || !ok || o.AppID == "" {
		return false, err
	}
	sp, ok, err := d.ByAppID(ctx, o.AppID)
	if err != nil || !ok {
		return false, err
	}
	return d.privileged(ctx, sp.ID, false)
}

// guardApplication is guardPrivileged for an application's credentials and
// owners; its owners need no more.
func (d *Directory) guardApplication(ctx context.Context, c *call, o *Object) error {
	if owns, err := d.owns(ctx, c.Caller.ObjectID, o); err != nil || owns {
		return err
	}
	sp, ok, err := d.ByAppID(ctx, o.AppID)
	if err != nil || !ok {
		return err
	}
	return d.guardPrivileged(ctx, c, sp.ID)
}
