package directory

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

func (d *Directory) userOperations() []operation {
	return []operation{
		{method: "GET", path: "/users", need: &needs.users, handle: d.listOf(az.User)},
		{method: "POST", path: "/users", need: &needs.writeUsers, handle: d.createUser},
		{method: "GET", path: "/users/{id}", need: &needs.user, handle: d.show},
		{method: "PATCH", path: "/users/{id}", need: &needs.writeUsers, handle: d.patchUser},
		{method: "DELETE", path: "/users/{id}", need: &needs.deleteUsers, handle: d.deleteObject},
		{method: "POST", path: "/users/{id}/changePassword", need: &needs.ownPassword, handle: d.changePassword},
		{method: "POST", path: "/users/{id}/revokeSignInSessions", need: &needs.ownSessions, handle: d.revokeSessions},
		{method: "POST", path: "/users/{id}/invalidateAllRefreshTokens", need: &needs.ownSessions, handle: d.revokeSessions},
		{method: "GET", path: "/users/{id}/memberOf", need: &needs.ownMemberships, handle: d.linked(store.LinkMemberOf)},
		{method: "GET", path: "/users/{id}/transitiveMemberOf", need: &needs.ownMemberships, handle: d.linked(store.LinkAllGroups)},
		{method: "GET", path: "/users/{id}/ownedObjects", need: &needs.ownMemberships, handle: d.linked(store.LinkOwned)},
		{method: "POST", path: "/users/{id}/checkMemberGroups", need: &needs.ownMemberships, handle: d.checkMembers("groupIds")},
		{method: "POST", path: "/users/{id}/checkMemberObjects", need: &needs.ownMemberships, handle: d.checkMembers("ids")},
		{method: "POST", path: "/users/{id}/getMemberGroups", need: &needs.ownMemberships, handle: d.getMembers},
		{method: "POST", path: "/users/{id}/getMemberObjects", need: &needs.ownMemberships, handle: d.getMembers},
		{method: "GET", path: "/users/{id}/appRoleAssignments", need: &needs.ownAppRoles, handle: d.appRolesHeld},
		{method: "POST", path: "/users/{id}/appRoleAssignments", need: &needs.writeAppRoles, handle: d.assignAppRole},
		{method: "DELETE", path: "/users/{id}/appRoleAssignments/{assignment}", need: &needs.writeAppRoles, handle: d.unassignAppRole},
		{method: "GET", path: "/users/{id}/oauth2PermissionGrants", need: &needs.ownGrants, handle: d.grantsOfUser},
	}
}

// userBody is what a request says of a person. What is not here is ignored, as
// Graph's other properties must be.
type userBody struct {
	DisplayName       opt[string]          `json:"displayName"`
	UserPrincipalName opt[string]          `json:"userPrincipalName"`
	AccountEnabled    opt[bool]            `json:"accountEnabled"`
	Mail              opt[string]          `json:"mail"`
	MailNickname      opt[string]          `json:"mailNickname"`
	GivenName         opt[string]          `json:"givenName"`
	Surname           opt[string]          `json:"surname"`
	BusinessPhones    opt[[]string]        `json:"businessPhones"`
	PasswordProfile   opt[passwordProfile] `json:"passwordProfile"`
}

type passwordProfile struct {
	Password    string    `json:"password"`
	Change      opt[bool] `json:"forceChangePasswordNextSignIn"`
	ChangeByMFA bool      `json:"forceChangePasswordNextSignInWithMfa"`
}

func (b *userBody) into(o *Object) {
	b.DisplayName.put(&o.Name)
	b.UserPrincipalName.put(&o.UPN)
	b.AccountEnabled.put(&o.Enabled)
	b.Mail.put(&o.Mail)
	b.MailNickname.put(&o.MailNickname)
	b.GivenName.put(&o.GivenName)
	b.Surname.put(&o.Surname)
	b.BusinessPhones.put(&o.BusinessPhones)
}

// userFrom reads a body: the named properties and the profile's texts.
func userFrom(c *call) (b userBody, profile map[string]opt[string], err error) {
	if err := c.body(&b); err != nil {
		return b, nil, err
	}
	var all map[string]any
	if err := c.body(&all); err != nil {
		return b, nil, err
	}
	profile = map[string]opt[string]{}
	for _, name := range profileTexts {
		v, there := all[name]
		s, isText := v.(string)
		if there && !isText && v != nil {
			return b, nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property '%s' must be a text or null.", name)
		}
		if there {
			profile[name] = opt[string]{true, s}
		}
	}
	return b, profile, nil
}

// putProfile changes the profile's texts in an object that is ours alone.
func putProfile(o *Object, profile map[string]opt[string]) {
	merged := map[string]string{}
	for k, v := range o.Profile {
		merged[k] = v
	}
	for k, v := range profile {
		if v.v == "" {
			delete(merged, k)
		} else {
			merged[k] = v.v
		}
	}
	o.Profile = merged
}

func (d *Directory) createUser(ctx context.Context, c *call) (any, error) {
	b, profile, err := userFrom(c)
	if err != nil {
		return nil, err
	}
	if !b.PasswordProfile.there || b.PasswordProfile.v.Password == "" {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "A password must be specified to create a new user: the property 'passwordProfile' is missing.")
	}
	password := az.NewSecret(b.PasswordProfile.v.Password)
	if err := CheckNewPassword(password); err != nil {
		return nil, err
	}
	o := Object{Enabled: true}
	b.into(&o)
	putProfile(&o, profile)
	// Source: Graph's default for forceChangePasswordNextSignIn is true.
	o.MustChange = !b.PasswordProfile.v.Change.there || b.PasswordProfile.v.Change.v
	hash, err := d.hash(ctx, password)
	if err != nil {
		return nil, err
	}
	var made *Object
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		made, err = d.AddUser(tx, o, hash)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d.showAs(ctx, c, made, 201)
}

func (d *Directory) patchUser(ctx context.Context, c *call) (any, error) {
	if err := d.guardPrivileged(ctx, c, c.target.ID); err != nil {
		return nil, err
	}
	b, profile, err := userFrom(c)
	if err != nil {
		return nil, err
	}
	hash := ""
	if p := b.PasswordProfile; p.there && p.v.Password != "" {
		password := az.NewSecret(p.v.Password)
		if err := CheckNewPassword(password); err != nil {
			return nil, err
		}
		if hash, err = d.hash(ctx, password); err != nil {
			return nil, err
		}
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		o, err := existing(tx, az.User, c.target.ID)
		if err != nil {
			return err
		}
		was := o.Enabled
		b.into(o)
		putProfile(o, profile)
		if was && !o.Enabled {
			o.ValidFrom = tx.Now() // being disabled ends what was signed in for
		}
		if p := b.PasswordProfile; p.there {
			o.MustChange = p.v.Change.v || hash != "" && !p.v.Change.there
		}
		if err := checkUser(o); err != nil {
			return err
		}
		if err := d.Update(tx, o); err != nil || hash == "" {
			return err
		}
		return d.setPassword(tx, o.ID, hash, o.MustChange)
	})
}

// deleteObject removes what a path names.
func (d *Directory) deleteObject(ctx context.Context, c *call) (any, error) {
	o := c.target
	switch {
	case o.IsManagedIdentity():
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "A managed identity cannot be deleted here: delete the resource that it belongs to, '%s', or take the identity off it.", o.Resource)
	case o.FirstParty:
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "A service principal of the platform itself cannot be deleted.")
	case o.AppID != "" && d.cfg.Keep == o.AppID:
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The plane's administrator cannot be deleted: the plane would not start again. Take away its credentials and its role assignments instead.")
	}
	guarded := o.ID
	if o.Kind == Application {
		sp, ok, err := d.ByAppID(ctx, o.AppID)
		if err != nil {
			return nil, err
		}
		if ok {
			guarded = sp.ID
		}
	}
	if owns, err := d.owns(ctx, c.Caller.ObjectID, o); err != nil {
		return nil, err
	} else if !owns || o.Kind == az.Group {
		if err := d.guardPrivileged(ctx, c, guarded); err != nil {
			return nil, err
		}
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		if _, err := existing(tx, o.Kind, o.ID); err != nil {
			return err
		}
		return d.Remove(tx, o.ID)
	})
}

const (
	// wrongPasswords is how many wrong current passwords a person may give to
	// changePassword within wrongWindow. Source: Entra's smart lockout, ten.
	wrongPasswords = 10
	wrongWindow    = 10 * time.Minute
	// maxGuessers bounds the people whose failures are counted at once.
	maxGuessers = 10_000
)

// guesses counts wrong current passwords by person: a stolen token must not be
// a way to find its owner's password out.
type guesses struct {
	mu    sync.Mutex // guards since and wrong
	since time.Time
	wrong map[string]int
}

// begin counts a try; ok is false if there were too many.
func (g *guesses) begin(user string, now time.Time) (ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wrong == nil || now.Sub(g.since) > wrongWindow || len(g.wrong) > maxGuessers {
		g.since, g.wrong = now, map[string]int{}
	}
	g.wrong[user]++
	return g.wrong[user] <= wrongPasswords
}

func (g *guesses) right(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.wrong, user)
}

// changePassword lets a person set a new password by the current one.
func (d *Directory) changePassword(ctx context.Context, c *call) (any, error) {
	if c.target.ID != c.Caller.ObjectID || c.Caller.Kind != az.User {
		return nil, az.Errorf(az.Forbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation. Only the person can change the password by the current one; an administrator sets passwordProfile.")
	}
	var b struct {
		Current string `json:"currentPassword"`
		New     string `json:"newPassword"`
	}
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if err := CheckNewPassword(az.NewSecret(b.New)); err != nil {
		return nil, err
	}
	if !d.guesses.begin(c.target.ID, d.cfg.Clock()) {
		return nil, &az.Error{Kind: az.TooMany, Code: "TooManyRequests", Message: "The current password was wrong too often. Try again later.", RetryAfter: wrongWindow}
	}
	right, err := d.checkHashed(ctx, c.target.ID, az.NewSecret(b.Current))
	if err != nil {
		return nil, err
	}
	if !right || b.New == b.Current {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The current password is not right, or the new one is the same.")
	}
	d.guesses.right(c.target.ID)
	hash, err := d.hash(ctx, az.NewSecret(b.New))
	if err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error { return d.SetPassword(tx, c.target.ID, hash) })
}

// revokeSessions ends everything that a person signed in for before now.
func (d *Directory) revokeSessions(ctx context.Context, c *call) (any, error) {
	err := d.store.Write(ctx, func(tx *store.Tx) error {
		o, err := existing(tx, az.User, c.target.ID)
		if err != nil {
			return err
		}
		o.ValidFrom = tx.Now()
		return d.Update(tx, o)
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"@odata.context": c.base + "/$metadata#Edm.Boolean", "value": true}, nil
}

// maxCheck bounds checkMemberGroups. Source: Microsoft Graph, "up to 20".
const maxCheck = 20

// checkMembers answers which of some groups hold the object at any depth.
func (d *Directory) checkMembers(property string) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		var b struct {
			Groups []string `json:"groupIds"`
			IDs    []string `json:"ids"`
		}
		if err := c.body(&b); err != nil {
			return nil, err
		}
		asked := b.Groups
		if property == "ids" {
			asked = b.IDs
		}
		if len(asked) == 0 || len(asked) > maxCheck {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property '%s' must hold 1 to %d ids.", property, maxCheck)
		}
		up, err := d.groupsAbove(ctx, c.target.ID)
		if err != nil {
			return nil, err
		}
		out := []string{}
		for _, id := range asked {
			if id = strings.ToLower(id); up[id] {
				out = append(out, id)
			}
		}
		return map[string]any{"@odata.context": c.base + "/$metadata#Collection(Edm.String)", "value": out}, nil
	}
}

// getMembers answers with the ids of all groups that hold the object.
func (d *Directory) getMembers(ctx context.Context, c *call) (any, error) {
	if len(c.Body) > 0 {
		var b struct {
			Security bool `json:"securityEnabledOnly"`
		}
		if err := c.body(&b); err != nil {
			return nil, err
		}
	}
	ids, err := d.store.LinkedIDs(ctx, store.LinkAllGroups, c.target.ID, maxUp)
	if err != nil {
		return nil, err
	}
	return map[string]any{"@odata.context": c.base + "/$metadata#Collection(Edm.String)", "value": list(ids)}, nil
}

func (d *Directory) groupsAbove(ctx context.Context, id string) (map[string]bool, error) {
	ids, err := d.store.LinkedIDs(ctx, store.LinkAllGroups, id, maxUp)
	out := map[string]bool{}
	for _, g := range ids {
		out[g] = true
	}
	return out, err
}
