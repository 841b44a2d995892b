package connector

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// role is a database role as the gateway needs it.
type role struct {
	id     az.ID
	name   string
	holder string // object id of a user, group or service principal
	kind   az.PrincipalKind
	ready  bool
	admin  bool
	mfa    bool             // the token must show a second factor
	any    bool             // any database: made by a statement, or an administrator's
	whole  bool             // the right to log in is the server's: it reaches all of its databases
	scopes map[string]az.ID // by database
	// through are the roles of groups that it is a member of on the server, by
	// folded id; syncing: the server may have others. person: it has no other use.
	through []string
	syncing bool
	person  bool
	stale   bool    // the server may not have been told that it lost something
	by      []az.ID // a cache's: the policy assignments that it is for
	// password is opened when the first who may use it asks.
	password atomic.Pointer[az.Secret]
}

// roleCache holds the roles that were asked for until the change feed says
// that they changed. Names that no role has are not kept: strangers choose them.
type roleCache struct {
	mu    sync.RWMutex
	gen   uint64 // counts drops: what was read before one is not kept
	byKey map[roleKey]*role
	byID  map[string]roleKey // folded resource id
	// groups are the roles of groups, by folded id of the server.
	groups map[string]*groupRoles
}

type roleKey struct{ server, name string }

// note is the feed's listener.
func (c *Connector) note(changes []store.Change) {
	for _, ch := range changes {
		switch {
		case ch.Topic == store.TopicReset:
			c.forgetServers()
			c.roles.drop("")
		case ch.Topic != store.TopicResource || !ofServer(ch.Key):
		case strings.Contains(ch.Key, "/principals/"):
			c.roles.drop(ch.Key)
		default:
			c.forgetServers()
		}
	}
}

// drop forgets a role, or all with "".
func (r *roleCache) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen++
	if id == "" {
		r.byKey, r.byID, r.groups = nil, nil, nil
		return
	}
	server, _, _ := strings.Cut(id, "/principals/")
	if g := r.groups[server]; g != nil {
		g.stale[id] = struct{}{}
	}
	delete(r.byKey, r.byID[id])
	delete(r.byID, id)
}

func (r *roleCache) get(k roleKey) (*role, uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byKey[k], r.gen
}

func (r *roleCache) put(gen uint64, k roleKey, v *role) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gen != gen {
		return
	}
	if r.byKey == nil {
		r.byKey, r.byID = map[roleKey]*role{}, map[string]roleKey{}
	}
	r.byKey[k], r.byID[v.id.Key()] = v, k
}

// Backend is how the gateway reaches a server for a login.
type Backend struct {
	Server   az.ID
	Addr     string // host:port, or the path of a Unix socket
	TLS      TLS
	User     string
	Password az.Secret
	Database string
	Admin    bool // the login is an administrator's: Statement may be asked
	Unproved bool // the server may ask for no password
}

// TLS is what gateway/pg.BackendTLS takes. Mode is never prefer.
type TLS struct {
	Mode, Host string
	Roots      *x509.CertPool // nil: the system's
	Strict     bool           // TDS 8: TLS before anything else
}

// Authorize decides whether a verified principal may log in to a database as a
// role, records the decision, and says how the backend is reached. The role
// must be mapped to the principal or to a group it is in, for this database,
// and an assignment must allow the login.
//
// An error of kind Invalid is for the client's eyes (no such server, or none
// named where there are several); any other is told as a wrong password.
func (c *Connector) Authorize(ctx context.Context, who az.Principal, want Login) (Backend, error) {
	return c.authorize(ctx, who, want, false)
}

// Recheck is Authorize for a session that is open: only a refusal is recorded.
func (c *Connector) Recheck(ctx context.Context, who az.Principal, want Login) (Backend, error) {
	return c.authorize(ctx, who, want, true)
}

func (c *Connector) authorize(ctx context.Context, who az.Principal, want Login, again bool) (Backend, error) {
	if who.IsZero() {
		return Backend{}, az.Errorf(az.Unauthorized, gateway.MissingOid, "the token names nobody")
	}
	if err := c.cfg.Store.Fresh(ctx); err != nil {
		return Backend{}, err
	}
	t, err := c.find(ctx, who, want)
	if err != nil {
		return Backend{}, err
	}
	if t.srv.none {
		return Backend{}, c.noBackend(t.srv.fam, t.srv.id.Name())
	}
	if want.Kind == Redis {
		t, err = c.mayUseCache(ctx, who, t, again)
	} else if err = c.mayLogIn(ctx, who, t, want.Database, again); err == nil {
		t, err = c.upToDate(ctx, t, again)
	}
	if err != nil {
		return Backend{}, err
	}
	r, srv := t.role, t.srv
	if !t.inStep() {
		if r, err = c.step(ctx, t, again); err != nil {
			return Backend{}, err
		}
	}
	password, err := c.passwordOf(ctx, r)
	if err != nil {
		return Backend{}, err
	}
	addr, err := c.reach(ctx, srv)
	if err != nil {
		return Backend{}, err
	}
	return Backend{Server: srv.id, Addr: addr, TLS: srv.tls, User: r.name, Password: password, Database: want.Database, Admin: t.admin(), Unproved: srv.unproved}, nil
}

// mayLogIn decides by the role's mapping and by role assignments: at the
// database for PostgreSQL, at the server for MySQL and SQL Server.
func (c *Connector) mayLogIn(ctx context.Context, who az.Principal, t taking, database string, again bool) error {
	scope, err := c.mayTake(ctx, who, t, database)
	if err != nil {
		return err
	}
	return c.decide(ctx, who, t.srv.fam.login, scope, again)
}

// upToDate keeps a role that may have lost something from being used before its
// server was told. A login tells it; an open session ends, as it does when the
// server is told: that may be away, or the plane that was to tell it.
func (c *Connector) upToDate(ctx context.Context, t taking, again bool) (taking, error) {
	switch {
	case t.role == nil || !t.role.stale:
		return t, nil
	case again:
		return t, az.Errorf(az.Forbidden, "RoleChanged", "the role may do less than before")
	}
	return c.finishRole(ctx, t)
}

// finishRole brings a role on its server into line, and reads it again.
func (c *Connector) finishRole(ctx context.Context, t taking) (taking, error) {
	if err := c.finish(ctx, t.role.id); err != nil {
		return t, err
	}
	var err error
	if t.role, err = c.roleNamed(ctx, t.srv, t.role.name); err == nil && (t.role == nil || !t.role.ready) {
		err = az.Errorf(az.Unavailable, "RoleChanged", "the role is being changed: try again")
	}
	return t, err
}

// step brings a person's role in step with his groups. A role that stands in
// its way will do so again: to the client that is a refusal.
func (c *Connector) step(ctx context.Context, t taking, again bool) (*role, error) {
	if again {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, recheckTime)
		defer cancel()
	}
	r, err := c.bringInStep(ctx, t.person, t.srv.id, t.user)
	switch code, reason := wordsOf(err); {
	case err == nil && r == nil:
		return nil, az.Errorf(az.Forbidden, "RoleNotMapped", "No group's role is the person's any more.")
	case code == "RoleExists", code == "RoleOfAnotherPrincipal", code == "MembershipOfAnother":
		rerr := c.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: az.Principal{ObjectID: t.person, TenantID: c.cfg.Names.Tenant, Kind: az.User},
			Action: actionPersonRole, Where: t.srv.id.String(), Outcome: guard.Refused, Reason: reason})
		if rerr != nil {
			return nil, rerr
		}
		return nil, az.Errorf(az.Forbidden, code, "%s", reason).Because(err)
	}
	return r, err
}

// decide asks the guard. About an open session it asks quietly first: every
// change of rights asks about every session, and a record of each "still yes"
// would drown the log.
func (c *Connector) decide(ctx context.Context, who az.Principal, login guard.Action, scope az.ID, again bool) error {
	if again {
		d, err := c.cfg.Guard.Explain(ctx, who.ObjectID, login, scope)
		if err != nil || d.Allowed {
			return err
		}
	}
	return c.cfg.Guard.Check(ctx, who, login, scope)
}

// mayTake says at which scope the login is to be decided, if the role is mapped
// to the principal for the database. A refusal is recorded.
func (c *Connector) mayTake(ctx context.Context, who az.Principal, t taking, database string) (az.ID, error) {
	reason, code := "", "RoleNotMapped"
	srv, r, user := t.srv, t.role, t.user
	scope, known := t.scope(database)
	switch {
	case !srv.entra:
		reason = "authentication by token is turned off for the server"
	case len(t.through) > 0 && known: // it is his own name, and his groups' roles are for the database
		if !t.lacksFactor(who) {
			return scope, nil
		}
		reason, code = noFactor, gateway.NoSecondFactor
	case r == nil || !r.ready:
		reason = "the role is not mapped to anybody"
	case !known:
		reason = "the role is not mapped for this database"
	default:
		mine, err := c.holds(ctx, who.ObjectID, r)
		switch {
		case err != nil, mine && !t.lacksFactor(who):
			return scope, err
		case mine:
			reason, code = noFactor, gateway.NoSecondFactor
		default:
			reason = "the role is mapped to somebody else"
			if r.kind == az.User && who.Kind == az.ServicePrincipal {
				code = gateway.WrongTokenType
			}
		}
	}
	err := c.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: who, Action: srv.fam.login.Name, Where: srv.id.String(),
		Outcome: guard.Refused, Reason: reason, Detail: fmt.Sprintf("user %q database %q", user, database)})
	if err != nil {
		return az.ID{}, err
	}
	return az.ID{}, az.Errorf(az.Forbidden, code, "The login as %q was refused: %s.", user, reason)
}

const noFactor = "the role is for tokens that show a second factor"

// lacksFactor reports whether the role, or one of a group that it is through,
// needs a second factor that the token does not show.
func (t *taking) lacksFactor(who az.Principal) bool {
	return !who.MFA && (t.role != nil && t.role.mfa || slices.ContainsFunc(t.through, func(r *role) bool { return r.mfa }))
}

// scope is where the right to log in to a database as the role is asked for.
func (r *role) scope(srv *served, database string) (az.ID, bool) {
	if r == nil {
		return az.ID{}, false
	}
	if r.whole {
		return srv.id, r.any || len(r.scopes) > 0
	}
	if id, ok := r.scopes[database]; ok {
		return id, true
	}
	return databaseScope(srv.id, database), r.any
}

// holds reports whether the role is the principal's: by its own object id, or
// by a group it is in at this moment. The principal must exist and be enabled.
func (c *Connector) holds(ctx context.Context, oid string, r *role) (bool, error) {
	o, ok, err := c.cfg.Directory.Get(ctx, oid)
	if err != nil || !ok || !o.Enabled {
		return false, err
	}
	if r.kind == az.Group {
		return c.cfg.Guard.InGroup(ctx, oid, r.holder)
	}
	return r.holder == oid, nil
}

// find returns what is asked for on the server of the name a client gave. A
// client that gives none, because it connects to an address, means the only
// server of its kind there is, or the only one on which the role it asks for is
// its own.
func (c *Connector) find(ctx context.Context, who az.Principal, want Login) (taking, error) {
	f := want.Kind.family()
	if f == nil {
		return taking{}, az.Errorf(az.Internal, "", "").Because(fmt.Errorf("a login of the kind %q", want.Kind))
	}
	all := c.known.Load()
	if all == nil {
		var err error
		if all, err = c.readServers(ctx); err != nil {
			return taking{}, err
		}
	}
	of := (*all)[want.Kind]
	if s := of[strings.ToLower(want.Server)]; s != nil {
		return c.takingOf(ctx, who, s, want)
	}
	if want.Server != "" {
		return taking{}, az.Errorf(az.Invalid, "ServerNotFound", "there is no server of this name")
	}
	var found []taking
	for _, s := range of {
		t, err := c.takingOf(ctx, who, s, want)
		if err != nil || len(of) == 1 {
			return t, err
		}
		if _, ok := t.scope(want.Database); !ok {
			continue
		}
		mine := t.person != ""
		if !mine {
			if mine, err = c.holds(ctx, who.ObjectID, t.role); err != nil {
				return taking{}, err
			}
		}
		if mine {
			found = append(found, t)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return taking{}, az.Errorf(az.Invalid, "ServerNotNamed", "the connection names no server: connect to <server>.%s%s", c.cfg.Names.Suffix(f.surface), f.named)
}

// roleNamed returns the mapping of a role's name; nil if there is none.
func (c *Connector) roleNamed(ctx context.Context, srv *served, name string) (*role, error) {
	k := roleKey{srv.id.Key(), name}
	r, gen := c.roles.get(k)
	if r != nil || srv.fam.checkName("role", name, srv.fam.maxRole) != nil {
		return r, nil
	}
	row, ok, err := c.cfg.Store.Resource(ctx, principalID(srv.id, name))
	if err != nil || !ok {
		return nil, err
	}
	p, err := readPrincipal(row)
	if err != nil || p.Properties.RoleName != name {
		return nil, err
	}
	r = roleOf(srv.id, p)
	c.roles.put(gen, k, r)
	return r, nil
}

// roleOf is a role's resource as the gateway needs it.
func roleOf(server az.ID, p principalRow) *role {
	r := &role{id: p.ID, name: p.Properties.RoleName, holder: p.Properties.PrincipalID, kind: p.Properties.PrincipalType,
		ready: p.Properties.Status == roleReady, syncing: p.Properties.Syncing, mfa: p.Properties.MFA, scopes: map[string]az.ID{}}
	if f := familyOf(server); f != nil {
		r.whole = f.ofServer
	}
	r.person = p.Properties.members(p.ID) && !p.Properties.direct(p.ID)
	r.stale, r.by = p.Properties.Stale, byAssignments(p.Properties.Uses)
	for _, u := range p.Properties.Uses {
		switch {
		case u.Pending:
		case u.membership(p.ID):
			r.through = append(r.through, u.By.Key())
		case r.whole && u.stated(p.ID) && len(p.Properties.StatedIn) > 0: // it is a user of these databases
			for _, d := range p.Properties.StatedIn {
				r.scopes[d] = loginScope(server, d)
			}
		case u.Database == "":
			r.admin, r.any = p.Properties.IsAdmin, true
		default:
			r.scopes[u.Database] = loginScope(server, u.Database)
		}
	}
	slices.Sort(r.through)
	return r
}

// passwordOf opens the role's password, once for as long as the role does not
// change.
func (c *Connector) passwordOf(ctx context.Context, r *role) (az.Secret, error) {
	if s := r.password.Load(); s != nil {
		return *s, nil
	}
	p, err := c.principals.Load(ctx, r.id)
	if err != nil {
		return az.Secret{}, err
	}
	if p == nil || p.Secrets[passwordSecret].IsZero() {
		return az.Secret{}, az.Errorf(az.Unavailable, "RoleChanged", "the role is being changed: try again")
	}
	s := p.Secrets[passwordSecret]
	r.password.Store(&s)
	return s, nil
}
