package connector

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// The states of a role.
const (
	roleCreating = "Creating" // its password may not be set yet
	roleReady    = "Ready"
	roleRemoving = "Removing" // nobody may use it; it is to be dropped
)

// The names of a role's secrets.
const (
	passwordSecret = "password"
	nextSecret     = "next" // while the password is being changed
)

// principalProperties is a database role and who may take it. Its password is
// in the resource's Secrets.
type principalProperties struct {
	RoleName      string           `json:"roleName"`
	PrincipalID   string           `json:"principalId"`
	PrincipalType az.PrincipalKind `json:"principalType"`
	IsAdmin       bool             `json:"isAdmin,omitempty"`
	// Database and Access are what a PUT of the resource itself asks for.
	Database string    `json:"database,omitempty"`
	Access   Access    `json:"access,omitempty"`
	Uses     []roleUse `json:"uses"`
	Status   string    `json:"status"`
	// Stale: a use has ended and the server was not told yet.
	Stale   bool      `json:"stale,omitempty"`
	Rotated az.Micros `json:"rotated,omitempty"`
	// Rotating: a next password was made and may be the server's already.
	Rotating bool `json:"rotating,omitempty"`
	// Syncing: the server may have other memberships of a person's role than
	// Uses says.
	Syncing bool `json:"syncing,omitempty"`
	// MFA: the token must show a second factor. Where a statement made it:
	// StatedIn are the databases it is a user of ("": it is a login; SQL Server).
	MFA      bool     `json:"isMfa,omitempty"`
	StatedIn []string `json:"statedIn,omitempty"`
}

// roleUse is one reason for a role to be there.
type roleUse struct {
	By       az.ID  `json:"by"` // a linker, an administrator, the role's own resource or a group's role
	Database string `json:"database"`
	Access   Access `json:"access"`
	// Pending: By is not committed yet. If it never is, Sweep undoes the use.
	Pending bool      `json:"pending,omitempty"`
	Since   az.Micros `json:"since"`
}

// access is the most that any use gives in a database; "" for none.
func (p *principalProperties) access(database string, ready bool) (a Access) {
	for _, u := range p.Uses {
		if u.Database == database && (!ready || !u.Pending) && u.Access.rank() > a.rank() {
			a = u.Access
		}
	}
	return a
}

// without returns the uses that drop does not name, in a new slice.
func (p *principalProperties) without(drop func(roleUse) bool) []roleUse {
	return slices.DeleteFunc(slices.Clone(p.Uses), drop)
}

// by selects the uses by a resource.
func by(id az.ID) func(roleUse) bool { return func(u roleUse) bool { return u.By.Equal(id) } }

// stated reports whether a use was made by a statement in the database.
func (u roleUse) stated(of az.ID) bool { return u.By.Equal(of) && u.Database == "" }

// principalID is the resource of a role: its name there is the role's own if
// that is fit for an id, else one made from it.
func principalID(server az.ID, role string) az.ID {
	return server.Child("principals", principalName(role))
}

func principalName(role string) string {
	plain := !strings.HasPrefix(role, "role-") && !strings.HasPrefix(role, ".")
	for i := 0; i < len(role) && plain; i++ {
		c := role[i]
		plain = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
	}
	if plain {
		return role
	}
	return "role-" + az.NamedGUID("hawser/role", role)
}

// marker stands in the comment of a role that this tenant made on a server.
func (c *Connector) marker(server az.ID, role string) string {
	return az.NamedGUID("hawser/marker", c.cfg.Names.Tenant, server.Key(), role)
}

func (c *Connector) spec(p *arm.Resource[principalProperties]) roleSpec {
	return roleSpec{Name: p.Properties.RoleName, Marker: c.marker(p.ID.Parent(), p.Properties.RoleName),
		Password: p.Secrets[passwordSecret], Admin: p.Properties.IsAdmin}
}

// principalType lets people map a user, group or service principal to a role
// of its own, and see what connections made.
func (c *Connector) principalType(f *family) *arm.Type[principalProperties] {
	return arm.Define(f.principals(), versions, arm.Hooks[principalProperties]{
		Check:    c.checkPrincipal,
		Deleting: c.deletingPrincipal,
		After:    func(ctx context.Context, r, _ *arm.Resource[principalProperties]) { c.tidy(ctx, r.ID) },
		Actions:  map[string]arm.ResourceAction[principalProperties]{"rotate": {Run: c.rotatePrincipal}},
		Delete: func(tx *store.Tx, r *arm.Resource[principalProperties]) error { // what a statement gave
			_, err := tx.DeleteResource(assignmentID(r.ID, r.ID.Parent()))
			return err
		},
	})
}

func (c *Connector) checkPrincipal(ctx context.Context, call *arm.Call, r, old *arm.Resource[principalProperties]) error {
	p := &r.Properties
	if err := c.takePrincipal(ctx, r); err != nil {
		return err
	}
	if err := call.Linked(ctx, actionAssignRole, r.ID.Parent()); err != nil {
		return err
	}
	srv, err := c.engine(ctx, r.ID.Parent())
	if err != nil {
		return err
	}
	p.Uses, p.IsAdmin, p.Status, p.Rotated, p.Stale, p.Rotating, p.Syncing, p.StatedIn = nil, false, roleCreating, 0, false, false, false, nil
	if old != nil {
		if err := mayReuse(&old.Properties, p.RoleName, p.PrincipalID); err != nil {
			return err
		}
		if old.Properties.IsAdmin && old.Properties.direct(r.ID) { // else it would stay one when its administrator is gone
			return oneOrOther(p.RoleName)
		}
		p.Uses = old.Properties.without(func(u roleUse) bool { return u.By.Equal(r.ID) && !u.stated(r.ID) })
		p.Status, p.Rotated, p.Rotating, p.Syncing = old.Properties.Status, old.Properties.Rotated, old.Properties.Rotating, old.Properties.Syncing
		p.Stale, p.StatedIn, p.MFA = old.Properties.Stale || old.Properties.leftOver(), old.Properties.StatedIn, p.MFA || old.Properties.MFA
	}
	p.Uses = append(p.Uses, roleUse{By: r.ID, Database: p.Database, Access: p.Access, Since: az.MicrosOf(c.cfg.Clock())})
	c.newPassword(r)
	return c.locked(ctx, r.ID, func(ctx context.Context) error {
		lower := old != nil && p.access(p.Database, false).rank() < old.Properties.access(p.Database, false).rank()
		if err := c.realise(ctx, srv, r, p.Database, lower); err != nil {
			return err
		}
		p.Status = roleReady
		return nil
	})
}

// takePrincipal validates what a body asks for.
func (c *Connector) takePrincipal(ctx context.Context, r *arm.Resource[principalProperties]) (err error) {
	p := &r.Properties
	if p.RoleName == "" {
		p.RoleName = r.ID.Name()
	}
	f := familyOf(r.ID)
	if f.kind == Redis {
		return az.Errorf(az.Unsupported, "NotSupported", "The users of a cache follow its access policy assignments: make one of those.")
	}
	if err := f.checkRole(p.RoleName); err != nil {
		return err
	}
	if want := principalName(p.RoleName); !strings.EqualFold(r.ID.Name(), want) {
		return az.Errorf(az.Invalid, "InvalidResourceName", "The principal resource of the role %q must be named %q.", p.RoleName, want)
	}
	if err := f.checkDatabase(p.Database); err != nil {
		return err
	}
	if p.Access, err = parseAccess(string(p.Access)); err != nil {
		return err
	}
	p.PrincipalID, p.PrincipalType, err = c.principal(ctx, p.PrincipalID)
	return err
}

// principal finds who is to be mapped in the directory.
func (c *Connector) principal(ctx context.Context, oid string) (string, az.PrincipalKind, error) {
	oid = strings.ToLower(oid)
	if !az.IsGUID(oid) {
		return "", "", az.Errorf(az.Invalid, "InvalidPrincipalId", "principalId must be the object id of a user, group or service principal.")
	}
	o, ok, err := c.cfg.Directory.Get(ctx, oid)
	if err != nil {
		return "", "", err
	}
	if !ok || o.Kind != az.User && o.Kind != az.Group && o.Kind != az.ServicePrincipal {
		return "", "", az.Errorf(az.Invalid, "PrincipalNotFound", "There is no user, group or service principal with the object id %s.", oid)
	}
	return oid, o.Kind, nil
}

// mayReuse refuses to give a role of one principal to another: what the role
// owns and may do was meant for the first.
func mayReuse(p *principalProperties, role, oid string) error {
	if p.RoleName != role || p.PrincipalID != oid {
		return az.Errorf(az.Conflict, "RoleOfAnotherPrincipal",
			"The role %q belongs to another principal on this server; choose another user name.", role)
	}
	return nil
}

func oneOrOther(role string) error {
	return az.Errorf(az.Conflict, "RoleInUse", "The role %q is that of an administrator on this server, or of a connection, and cannot be both; choose another user name.", role)
}

// leftOver reports whether the role was to be dropped, which its server may not
// have done: what takes it up again must not get what it had.
func (p *principalProperties) leftOver() bool { return p.Status == roleRemoving }

func (c *Connector) newPassword(r *arm.Resource[principalProperties]) {
	if r.Secrets[passwordSecret].IsZero() {
		r.Secrets = map[string]az.Secret{passwordSecret: passwordFor(r.Properties.RoleName)}
		r.Properties.Rotated = az.MicrosOf(c.cfg.Clock())
	}
}

// deletingPrincipal drops the role. That cuts off whoever uses it, connections
// too. If the server is away, its login stays behind with a password that
// nobody knows: a server that is gone for good must not hold its resource.
func (c *Connector) deletingPrincipal(ctx context.Context, call *arm.Call, r *arm.Resource[principalProperties]) error {
	if familyOf(r.ID).kind == Redis && call.Direct() {
		return az.Errorf(az.Invalid, "CannotDelete", "The users of a cache follow its access policy assignments: delete that of the principal %s.", r.Properties.PrincipalID)
	}
	srv, err := c.engine(ctx, r.ID.Parent())
	if err == nil {
		err = c.locked(ctx, r.ID, func(ctx context.Context) error { return srv.drop(ctx, c.spec(r)) })
	}
	if err != nil {
		c.cfg.Log.Warn("connector: a role was left behind on its server", "server", r.ID.Parent().Name(), "role", r.Properties.RoleName, "error", err)
	}
	return nil
}

// claim is a wish of a resource to use a role.
type claim struct {
	Server   az.ID
	By       az.ID
	Role     string
	OID      string
	Kind     az.PrincipalKind
	Admin    bool
	Database string // "" for administrators: any
	Access   Access
}

// makeRole makes a role on its server for a claim. The use stays pending until
// commitUse; dropClaim undoes it. prev is set to what the claimant had.
func (c *Connector) makeRole(ctx context.Context, srv engine, want claim, prev *[]roleUse) error {
	id := principalID(want.Server, want.Role)
	return c.locked(ctx, id, func(ctx context.Context) error {
		p, had, err := c.noteClaim(ctx, id, want)
		if err != nil {
			return err
		}
		*prev = had
		before := principalProperties{Uses: append(p.Properties.without(by(want.By)), had...)}
		lower := p.Properties.access(want.Database, false).rank() < before.access(want.Database, false).rank()
		return c.realise(ctx, srv, p, want.Database, lower)
	})
}

// dropClaim undoes a claim: the claimant has again what it had before. What it
// cannot do on the server now, Sweep does.
func (c *Connector) dropClaim(ctx context.Context, want claim, prev []roleUse) error {
	id := principalID(want.Server, want.Role)
	err := c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		now, err := c.principals.Read(tx, id)
		if err != nil || now == nil || now.Properties.PrincipalID != want.OID || !slices.ContainsFunc(now.Properties.Uses, by(want.By)) {
			return err
		}
		now.Properties.Uses = append(now.Properties.without(by(want.By)), prev...)
		now.Properties.settle(id)
		return c.principals.Write(tx, now)
	})
	if err != nil {
		return err
	}
	return c.finish(ctx, id)
}

// noteClaim writes the claim into the role's resource before anything is done to
// the server, so that whatever happens next can be undone. prev is what the
// claimant had.
func (c *Connector) noteClaim(ctx context.Context, id az.ID, want claim) (p *arm.Resource[principalProperties], prev []roleUse, err error) {
	err = c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		var err error
		if p, err = c.principals.Read(tx, id); err != nil {
			return err
		}
		if p == nil {
			p = &arm.Resource[principalProperties]{ID: id, Properties: principalProperties{RoleName: want.Role, PrincipalID: want.OID, PrincipalType: want.Kind, Status: roleCreating}}
			c.newPassword(p)
		}
		if err := mayReuse(&p.Properties, want.Role, want.OID); err != nil {
			return err
		}
		if p.Properties.IsAdmin != want.Admin && p.Properties.direct(id) {
			return oneOrOther(want.Role)
		}
		p.Properties.Stale = p.Properties.Stale || p.Properties.leftOver()
		p.Properties.IsAdmin = want.Admin
		if p.Properties.Status == roleRemoving {
			p.Properties.Status = roleCreating
		}
		u := roleUse{By: want.By, Database: want.Database, Access: want.Access, Pending: true, Since: tx.Now()}
		prev = nil
		for _, old := range p.Properties.Uses {
			if old.By.Equal(want.By) {
				prev = append(prev, old)
				u.Pending = u.Pending && (old.Database != want.Database || old.Pending)
			}
		}
		p.Properties.Uses = append(p.Properties.without(func(old roleUse) bool { return old.By.Equal(want.By) && old.Database == want.Database }), u)
		return c.principals.Write(tx, p)
	})
	return p, prev, err
}

// undoTime bounds the undoing of a step.
const undoTime = 20 * time.Second

// settle says what is to be done on the server after uses have ended. An
// administrator's role is not kept for memberships: it has attributes; the
// person's next login makes a new one.
func (p *principalProperties) settle(id az.ID) {
	if len(p.Uses) == 0 || p.IsAdmin && !p.direct(id) {
		p.Uses, p.Status, p.Syncing = nil, roleRemoving, false
	} else {
		p.Stale = true
	}
}

// commitUse makes a claim final, in the claimant's own transaction.
func (c *Connector) commitUse(tx *store.Tx, role, claimant az.ID, database string) error {
	p, err := c.principals.Read(tx, role)
	if err != nil {
		return err
	}
	i := -1
	if p != nil {
		i = slices.IndexFunc(p.Properties.Uses, func(u roleUse) bool { return u.By.Equal(claimant) && u.Database == database })
	}
	if i < 0 || p.Properties.Status == roleRemoving {
		return az.Errorf(az.Conflict, "AnotherOperationInProgress", "The database role was taken away by another request; try again.")
	}
	kept := p.Properties.Uses[i]
	kept.Pending = false
	others := p.Properties.without(func(u roleUse) bool { // a statement's and a PUT's mapping are both the role's own
		return u.By.Equal(claimant) && (u.Database == database || !claimant.Equal(role))
	})
	if claimant.IsType(LinkerType) && p.Properties.RoleName == azUser(claimant) {
		n := len(others)
		if others = slices.DeleteFunc(others, func(u roleUse) bool { return u.stated(role) }); len(others) < n { // az made it for this connection
			p.Properties.unstate(role)
			if _, err := tx.DeleteResource(assignmentID(role, role.Parent())); err != nil {
				return err
			}
		}
	}
	p.Properties.Stale = p.Properties.Stale || len(others)+1 < len(p.Properties.Uses)
	p.Properties.Uses, p.Properties.Status = append(others, kept), roleReady
	return c.principals.Write(tx, p)
}

// realise makes the role as its resource says: login, password, access to one
// database. It may be repeated.
func (c *Connector) realise(ctx context.Context, srv engine, p *arm.Resource[principalProperties], database string, lower bool) error {
	on := grant{Database: database}
	if database != "" { // else an administrator's, or made by a statement: its rights are the server's affair
		var err error
		if on.Others, err = c.usesOf(ctx, p.ID.Parent(), database); err != nil {
			return err
		}
		on.Access = p.Properties.access(database, false)
	}
	made, err := srv.realise(ctx, c.spec(p), on, lower)
	if err != nil {
		return err
	}
	if database != "" && (lower || made) { // what it had elsewhere went with it
		return c.regrant(ctx, srv, p, database)
	}
	return nil
}

// regrant gives a role its access to all of its databases but one again.
func (c *Connector) regrant(ctx context.Context, srv engine, p *arm.Resource[principalProperties], but string) error {
	done := map[string]bool{but: true, "": true}
	for _, u := range p.Properties.Uses {
		if done[u.Database] {
			continue
		}
		done[u.Database] = true
		if err := c.realise(ctx, srv, p, u.Database, false); err != nil {
			return err
		}
	}
	return nil
}

// usesOf lists who uses a database, each role with the most it has there.
func (c *Connector) usesOf(ctx context.Context, server az.ID, database string) ([]use, error) {
	all, err := c.principalRows(ctx, server)
	if err != nil {
		return nil, err
	}
	var out []use
	for _, p := range all {
		if a := p.Properties.access(database, false); a != "" && p.Properties.Status != roleRemoving && p.Properties.Status != roleCreating {
			out = append(out, use{p.Properties.RoleName, a})
		}
	}
	return out, nil
}

// lockTime bounds how long one change of a role may take before another plane
// may take it up; a request ends before.
const lockTime = time.Minute

// locked runs fn while no other plane or request changes the same role.
func (c *Connector) locked(ctx context.Context, role az.ID, fn func(context.Context) error) error {
	name, holder := "connector/role/"+az.NamedGUID(role.Key()), az.NewGUID()
	ctx, cancel := context.WithTimeout(ctx, lockTime-10*time.Second)
	defer cancel()
	for {
		taken, err := c.cfg.Store.TakeLease(ctx, name, holder, az.MicrosOf(c.cfg.Clock().Add(lockTime)))
		if err != nil {
			return err
		}
		if taken {
			break
		}
		select {
		case <-ctx.Done():
			return az.Errorf(az.Conflict, "AnotherOperationInProgress", "Another request is changing the same database role; try again.")
		case <-time.After(50 * time.Millisecond):
		}
	}
	defer func() { // a lease in the past is free
		_, _ = c.cfg.Store.TakeLease(context.WithoutCancel(ctx), name, holder, 1)
	}()
	return fn(ctx)
}

// actionAssignRole is what a caller needs where a connection, an administrator
// or a mapping gives somebody the right to log in.
var actionAssignRole = guard.Control(guard.RoleAssignmentType + "/write")
