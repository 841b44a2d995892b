package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// A person whose rights come from a group that is mapped to a role logs in as
// the group (the role's name) or as himself (his user principal name). For the
// second the plane makes him a role of his own at his first login: session_user
// and current_user are then his, as row-level security wants, and what he may
// do is what the roles of his groups may, of which his is a member. Such a
// membership stands in the role's resource as a use by the group's role.

const (
	// maxPeople bounds the roles that logins make on one server: each is a row
	// in every catalog of its roles. It is a limit of this plane's.
	maxPeople = 10_000
	// maxThrough bounds the memberships of one of them.
	maxThrough = 100
	// recheckTime bounds what the look at an open session may do at a server:
	// others wait behind it.
	recheckTime = 3 * time.Second
)

var actionPersonRole = guard.Control(PrincipalType + "/write").Name

// taking is a role that somebody asks for, and whose it is.
type taking struct {
	srv  *served
	user string
	role *role // the one of that name; nil: none
	// person is the object id whose own name it is, "" if it is nobody's of
	// those who ask; through are then the roles of his groups, by id.
	person  string
	through []*role
}

// takingOf finds what a login on a server means for a principal.
func (c *Connector) takingOf(ctx context.Context, who az.Principal, srv *served, want Login) (taking, error) {
	user := want.User
	switch srv.fam.kind {
	case SQLServer:
		return c.ownRole(ctx, who, srv, want.Database)
	case Redis:
		return c.ownCacheUser(ctx, who, srv, user)
	}
	r, err := c.roleNamed(ctx, srv, user)
	t := taking{srv: srv, user: user, role: r}
	if err != nil || srv.fam.kind != PostgreSQL || r != nil && r.kind != az.User || !strings.Contains(user, "@") {
		return t, err
	}
	o, ok, err := c.cfg.Directory.Get(ctx, who.ObjectID)
	if err != nil || !ok || !o.Enabled || o.Kind != az.User || o.UPN != user {
		return t, err
	}
	if r != nil && r.holder != o.ID && !r.person {
		return t, nil // mapped to somebody else, by hand
	}
	t.person = o.ID
	t.through, err = c.throughOf(ctx, srv.id, o.ID)
	return t, err
}

// scope is where the right to log in to a database is asked for.
func (t *taking) scope(database string) (az.ID, bool) {
	for _, r := range t.through {
		if id, ok := r.scope(t.srv, database); ok {
			return id, true
		}
	}
	if t.person != "" && t.role != nil && t.role.holder != t.person {
		return az.ID{}, false
	}
	return t.role.scope(t.srv, database)
}

// admin reports whether the login is that of an administrator of the server.
func (t *taking) admin() bool {
	return t.role != nil && t.role.admin || slices.ContainsFunc(t.through, func(r *role) bool { return r.admin })
}

// inStep reports whether the role is what the person's groups say.
func (t *taking) inStep() bool {
	switch {
	case t.person == "":
		return true
	case t.role == nil:
		return len(t.through) == 0
	case t.role.holder != t.person || !t.role.ready || t.role.syncing:
		return false
	}
	return slices.EqualFunc(t.role.through, t.through, func(id string, r *role) bool { return id == r.id.Key() })
}

// membership reports whether a use is a person's membership in a group's role.
func (u roleUse) membership(of az.ID) bool { return u.By.IsType(PrincipalType) && !u.By.Equal(of) }

// members reports whether a role is a member of groups' roles, or may be.
func (p *principalProperties) members(id az.ID) bool {
	return p.Syncing || slices.ContainsFunc(p.Uses, func(u roleUse) bool { return u.membership(id) })
}

// direct reports whether the role has a use besides memberships.
func (p *principalProperties) direct(id az.ID) bool {
	return slices.ContainsFunc(p.Uses, func(u roleUse) bool { return !u.membership(id) })
}

// bringInStep makes the role of a person what his groups say now, which it
// asks again once nobody else changes the role: of two who ask, the last must
// not bring back what the first took away.
func (c *Connector) bringInStep(ctx context.Context, oid string, server az.ID, name string) (*role, error) {
	id := principalID(server, name)
	if err := checkRole(name); err != nil {
		return nil, err
	}
	if err := c.leaveTo(ctx, id, oid); err != nil {
		return nil, err
	}
	var out *role
	err := c.locked(ctx, id, func(ctx context.Context) (err error) {
		out, err = c.stepLocked(ctx, oid, server, name)
		return err
	})
	return out, err
}

// leaveTo takes a person's role away when the name has become somebody else's.
func (c *Connector) leaveTo(ctx context.Context, id az.ID, oid string) error {
	row, ok, err := c.cfg.Store.Resource(ctx, id)
	if err != nil || !ok {
		return err
	}
	p, err := readPrincipal(row)
	if err != nil || p.Properties.PrincipalID == oid {
		return err
	}
	if !p.Properties.members(id) || p.Properties.direct(id) {
		return mayReuse(&p.Properties, p.Properties.RoleName, oid)
	}
	return c.locked(ctx, id, func(ctx context.Context) error { return c.retire(ctx, id) })
}

// retire drops the role of a person whom no group's role is for any more.
func (c *Connector) retire(ctx context.Context, id az.ID) error {
	err := c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		p, err := c.principals.Read(tx, id)
		if err != nil || p == nil {
			return err
		}
		p.Properties.Uses, p.Properties.Syncing = p.Properties.without(func(u roleUse) bool { return u.membership(id) }), false
		p.Properties.settle(id)
		return c.principals.Write(tx, p)
	})
	if err != nil {
		return err
	}
	return c.finishLocked(ctx, id)
}

// stepLocked is bringInStep behind the role's lock.
func (c *Connector) stepLocked(ctx context.Context, oid string, server az.ID, name string) (*role, error) {
	id := principalID(server, name)
	if err := c.cfg.Store.Fresh(ctx); err != nil {
		return nil, err
	}
	through, err := c.throughOf(ctx, server, oid)
	if err != nil {
		return nil, err
	}
	if len(through) > maxThrough {
		return nil, az.Errorf(az.Invalid, "TooManyGroups", "The person is in more than %d groups with roles on this server; map fewer of them.", maxThrough)
	}
	if err := c.roomFor(ctx, id, server); err != nil {
		return nil, err
	}
	p, err := c.noteMembers(ctx, id, oid, name, through)
	if err != nil {
		return nil, err
	}
	if p.Properties.Status == roleRemoving {
		return nil, c.finishLocked(ctx, id)
	}
	if err := c.joinGroups(ctx, p, through); err != nil {
		return nil, err
	}
	if p, err = c.commitMembers(ctx, id, through); err != nil {
		return nil, err
	}
	err = c.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventSystem, Caller: az.Principal{ObjectID: oid, TenantID: c.cfg.Names.Tenant, Kind: az.User},
		Action: actionPersonRole, Where: id.String(), Outcome: guard.Allowed,
		Reason: "the person's own role is what the groups say", Detail: fmt.Sprintf("role %q member of %q", name, roleNames(through))})
	if err != nil {
		return nil, err
	}
	r := roleOf(server, principalRow{ID: p.ID, ETag: p.ETag, Properties: p.Properties})
	password := p.Secrets[passwordSecret]
	r.password.Store(&password)
	return r, nil
}

func roleNames(all []*role) []string {
	out := []string{}
	for _, r := range all {
		out = append(out, r.name)
	}
	return out
}

// roomFor refuses one person's role too many.
func (c *Connector) roomFor(ctx context.Context, id, server az.ID) error {
	_, there, err := c.cfg.Store.Resource(ctx, id)
	if err != nil || there {
		return err
	}
	all, err := c.principalRows(ctx, server)
	if err != nil {
		return err
	}
	n := 0
	for _, p := range all {
		if p.Properties.members(p.ID) {
			n++
		}
	}
	if n >= maxPeople {
		return az.Errorf(az.TooMany, "TooManyPeople", "The server has the %d roles of people that this plane makes at most; log in with the group's name.", maxPeople)
	}
	return nil
}

// noteMembers writes down what the role is going to be, before the server is
// told, so that whatever happens next is found by the next login or by Sweep.
func (c *Connector) noteMembers(ctx context.Context, id az.ID, oid, name string, through []*role) (p *arm.Resource[principalProperties], err error) {
	err = c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		var err error
		if p, err = c.principals.Read(tx, id); err != nil {
			return err
		}
		if p == nil {
			p = &arm.Resource[principalProperties]{ID: id, Properties: principalProperties{RoleName: name, PrincipalID: oid, PrincipalType: az.User, Status: roleCreating}}
			c.newPassword(p)
		}
		if err := mayReuse(&p.Properties, name, oid); err != nil {
			return err
		}
		kept := p.Properties.without(func(u roleUse) bool { return u.membership(id) })
		for _, g := range through {
			kept = append(kept, roleUse{By: g.id, Pending: true, Since: tx.Now()})
		}
		p.Properties.Uses, p.Properties.Syncing = kept, true
		switch {
		case len(kept) == 0:
			p.Properties.Status, p.Properties.Syncing = roleRemoving, false
		case p.Properties.Status == roleRemoving:
			p.Properties.Status = roleCreating
		}
		return c.principals.Write(tx, p)
	})
	return p, err
}

// joinGroups makes the role on its server, and a member of exactly the groups'
// roles that are given among those that this plane made. Sessions that may
// have taken a role that is lost now (SET ROLE) are ended.
func (c *Connector) joinGroups(ctx context.Context, p *arm.Resource[principalProperties], through []*role) error {
	srv, err := c.server(ctx, p.ID.Parent())
	if err != nil {
		return err
	}
	rows, err := c.principalRows(ctx, p.ID.Parent())
	if err != nil {
		return err
	}
	var ours []string
	for _, row := range rows {
		if !row.ID.Equal(p.ID) {
			ours = append(ours, row.Properties.RoleName)
		}
	}
	conn, err := srv.connect(ctx, "")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := ensureRole(ctx, conn, c.spec(p)); err != nil {
		return err
	}
	lost := false
	err = inTx(ctx, conn, func(tx pgx.Tx) (err error) {
		lost, err = setMembers(ctx, tx, p.Properties.RoleName, ours, roleNames(through))
		return err
	})
	if err != nil || !lost {
		return err
	}
	if _, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where usename = $1`, p.Properties.RoleName); err != nil {
		return sqlFault("end the role's sessions", err)
	}
	return nil
}

const membersSQL = `select distinct g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
	join pg_roles r on r.oid = m.member where r.rolname = $1 and g.rolname = any($2) order by 1`

// setMembers makes a role a member of those of ours that are wanted, and of no
// other of ours; what somebody else granted it is left alone.
func setMembers(ctx context.Context, tx pgx.Tx, role string, ours, want []string) (lost bool, err error) {
	have, err := memberships(ctx, tx, role, ours)
	if err != nil {
		return false, err
	}
	var statements []string
	for _, g := range want {
		if !slices.Contains(have, g) {
			statements = append(statements, fmt.Sprintf("GRANT %s TO %s", ident(g), ident(role)))
		}
	}
	for _, g := range have {
		if !slices.Contains(want, g) {
			lost = true
			statements = append(statements, fmt.Sprintf("REVOKE %s FROM %s", ident(g), ident(role)))
		}
	}
	if err := run(ctx, tx, "set the role's groups", statements); err != nil || !lost {
		return lost, err
	}
	left, err := memberships(ctx, tx, role, ours)
	if err != nil {
		return lost, err
	}
	for _, g := range left { // REVOKE takes back what we granted, not what another role did
		if !slices.Contains(want, g) {
			return lost, az.Errorf(az.Conflict, "MembershipOfAnother", "The role %q is a member of %q by somebody else's grant, which this plane cannot revoke.", role, g)
		}
	}
	return lost, nil
}

func memberships(ctx context.Context, tx pgx.Tx, role string, ours []string) ([]string, error) {
	rows, err := tx.Query(ctx, membersSQL, role, ours)
	if err != nil {
		return nil, sqlFault("read the role's groups", err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, sqlFault("read the role's groups", err)
	}
	return have, nil
}

// commitMembers says that the server has been told.
func (c *Connector) commitMembers(ctx context.Context, id az.ID, through []*role) (p *arm.Resource[principalProperties], err error) {
	err = c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		var err error
		if p, err = c.principals.Read(tx, id); err != nil {
			return err
		}
		if p == nil || p.Properties.Status == roleRemoving {
			return az.Errorf(az.Conflict, "AnotherOperationInProgress", "The database role was taken away by another request; try again.")
		}
		uses := slices.Clone(p.Properties.Uses)
		for i, u := range uses {
			if u.membership(id) && slices.ContainsFunc(through, func(r *role) bool { return r.id.Equal(u.By) }) {
				uses[i].Pending = false
			}
		}
		p.Properties.Uses, p.Properties.Syncing = uses, false
		p.Properties.Status = roleReady
		return c.principals.Write(tx, p)
	})
	return p, err
}

// sweepPerson keeps a person's role in step when nobody logs in with it, and
// drops it when his name or the last of his groups' roles is gone.
func (c *Connector) sweepPerson(ctx context.Context, row principalRow) error {
	p, server := &row.Properties, row.ID.Parent()
	o, ok, err := c.cfg.Directory.Get(ctx, p.PrincipalID)
	if err != nil {
		return err
	}
	if !ok || o.UPN != p.RoleName {
		return c.locked(ctx, row.ID, func(ctx context.Context) error { return c.retire(ctx, row.ID) })
	}
	through, err := c.throughOf(ctx, server, p.PrincipalID)
	if err != nil {
		return err
	}
	t := taking{role: roleOf(server, row), person: p.PrincipalID, through: through}
	if t.inStep() {
		return nil
	}
	_, err = c.bringInStep(ctx, p.PrincipalID, server, p.RoleName)
	return err
}
