package connector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// Azure's servers let an administrator map a principal to a role from inside
// the database: by functions (PostgreSQL), CREATE AADUSER (MySQL), CREATE USER
// … FROM EXTERNAL PROVIDER (SQL Server). az does so when it makes a connection
// (wire/service-connector.md §4). Here no server knows these: the gateway hands
// over what an administrator's session says, the plane does it, and the server
// runs something that gives the answer. aad_scan.go reads, aad_postgres.go,
// aad_mysql.go and aad_tsql.go understand, and the files in _do.go do.
//
// As on Azure such a statement lets the principal in: it makes the role, with
// no right but the login, the mapping and the assignment of the server's login
// role at the server. Whoever made the administrator had the right to assign
// roles there (checkAdministrator and its like). Dropping takes all of it back.

// Statement does what an administrator's session asks for by a statement, and
// returns what the server is to run for the client's answer; ok is false for a
// text that is the server's alone. Nothing of it is part of the session's
// transaction.
func (c *Connector) Statement(ctx context.Context, who az.Principal, at Backend, sql string) (instead string, ok bool) {
	f := familyOf(at.Server)
	if f == nil {
		return "", false
	}
	s := &stating{c: c, who: who, at: at}
	switch f.kind {
	case PostgreSQL:
		return s.postgres(ctx, sql)
	case MySQL:
		return s.mysql(ctx, sql)
	case SQLServer:
		return s.tsql(ctx, sql)
	}
	return "", false
}

// stating is one text of an administrator's session.
type stating struct {
	c       *Connector
	who     az.Principal
	at      Backend
	checked bool
	refused error
}

// allowed asks again, once, whether the session is an administrator's: its text
// may be read long after its login.
func (s *stating) allowed(ctx context.Context) error {
	if s.checked {
		return s.refused
	}
	s.checked = true
	f := familyOf(s.at.Server)
	want := Login{f.kind, s.at.Server.Name(), s.at.Database, s.at.User}
	if f.kind == SQLServer { // clients name no role
		want.User = ""
	}
	now, err := s.c.Recheck(ctx, s.who, want)
	if err == nil && (!now.Admin || now.User != s.at.User || !now.Server.Equal(s.at.Server)) {
		err = az.Errorf(az.Forbidden, "NotAnAdministrator", "Only administrators of the server may do this.")
	}
	s.refused = err
	return err
}

// failed tells the log why a statement was refused.
func (s *stating) failed(what string, err error) {
	code, _ := wordsOf(err)
	s.c.cfg.Log.Info("connector: a statement of an administrator was refused", "statement", what, "server", s.at.Server.Name(), "principal", s.who.ObjectID, "code", code, "error", err)
}

// mapping is a principal and the role that a statement maps to it.
type mapping struct {
	role       string
	oid        string
	kind       az.PrincipalKind
	admin, mfa bool
	// again: it is no error if the principal has the role already. in is then
	// where it was made a user (SQL Server: a database, or "" for the login).
	again bool
	in    string
}

// maxStatedIn bounds the databases in which a statement made users of one login.
const maxStatedIn = 1000

// statementLock keeps two statements about one role apart; its changes have a
// lock of their own.
func statementLock(role az.ID) az.ID { return role.Child("statements", "one") }

// create makes a mapping: a role with no right but the login.
func (s *stating) create(ctx context.Context, m mapping) error {
	server := s.at.Server
	if err := familyOf(server).checkRole(m.role); err != nil {
		return err
	}
	id := principalID(server, m.role)
	return s.c.locked(ctx, statementLock(id), func(ctx context.Context) error {
		old, err := s.c.principals.Load(ctx, id)
		if err != nil {
			return err
		}
		if old != nil && !m.again && old.Properties.direct(id) {
			return az.Errorf(az.Conflict, "RoleExists", "role %s already exists", ident(m.role))
		}
		return s.createLocked(ctx, id, m)
	})
}

func (s *stating) createLocked(ctx context.Context, id az.ID, m mapping) error {
	c := s.c
	srv, err := c.engine(ctx, s.at.Server)
	if err != nil {
		return err
	}
	want := claim{Server: s.at.Server, By: id, Role: m.role, OID: m.oid, Kind: m.kind, Admin: m.admin}
	if m.admin {
		want.Access = Owner
	}
	var prev []roleUse
	return c.perform(ctx, []step{
		{
			name: "make the role",
			do:   func(ctx context.Context) error { return c.makeRole(ctx, srv, want, &prev) },
			undo: func(ctx context.Context) error { return c.dropClaim(ctx, want, prev) },
		},
		{
			name: "write the mapping down",
			do: func(ctx context.Context) error {
				if err := s.record(ctx, id, fmt.Sprintf("role %q mapped to %s administrator=%t mfa=%t, with %s", m.role, m.oid, m.admin, m.mfa, familyOf(id).roleWord)); err != nil {
					return err
				}
				return c.cfg.Store.Write(ctx, func(tx *store.Tx) error { return c.commitMapping(tx, id, m) })
			},
		},
	})
}

// commitMapping writes a mapping and the right to log in.
func (c *Connector) commitMapping(tx *store.Tx, id az.ID, m mapping) error {
	if err := c.commitUse(tx, id, id, ""); err != nil {
		return err
	}
	p, err := c.principals.Read(tx, id)
	if err != nil {
		return err
	}
	p.Properties.MFA = m.mfa || m.again && p.Properties.MFA // said elsewhere, it holds
	if m.again && !slices.ContainsFunc(p.Properties.StatedIn, func(d string) bool { return strings.EqualFold(d, m.in) }) {
		if len(p.Properties.StatedIn) >= maxStatedIn {
			return az.Errorf(az.TooMany, "TooManyDatabases", "The login is a user of %d databases already.", maxStatedIn)
		}
		p.Properties.StatedIn = append(p.Properties.StatedIn, m.in)
	}
	if err := c.principals.Write(tx, p); err != nil {
		return err
	}
	return c.assignRole(tx, assignmentID(id, id.Parent()), m.oid, m.kind, familyOf(id).role)
}

// remap gives a role that a statement made to another principal, or changes
// what its tokens need. What the role owns and may do goes with it: that is
// what is asked for.
func (s *stating) remap(ctx context.Context, m mapping) error {
	id := principalID(s.at.Server, m.role)
	return s.c.locked(ctx, statementLock(id), func(ctx context.Context) error {
		p, err := s.statedOnly(ctx, m.role)
		switch {
		case err != nil:
			return err
		case p == nil:
			return az.Errorf(az.NotFound, "RoleNotFound", "role %s does not exist, or is mapped to nobody", ident(m.role))
		case p.Properties.IsAdmin != m.admin:
			return az.Errorf(az.Unsupported, "", "whether role %s is an administrator's cannot be changed: drop it and create it again", ident(m.role))
		}
		if err := s.record(ctx, id, fmt.Sprintf("role %q of %s mapped to %s mfa=%t", m.role, p.Properties.PrincipalID, m.oid, m.mfa)); err != nil {
			return err
		}
		changed := p.Properties.PrincipalID != m.oid
		etag := p.ETag
		err = s.c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			p.ETag, p.Properties.PrincipalID, p.Properties.PrincipalType = etag, m.oid, m.kind
			if err := s.c.principals.Write(tx, p); err != nil {
				return err
			}
			return s.c.commitMapping(tx, id, m)
		})
		if err != nil || !changed {
			return err
		}
		// Whoever had the role may have set its password at the server.
		return s.c.locked(ctx, id, func(ctx context.Context) error { return s.c.rotate(ctx, id) })
	})
}

// stated reads the role of a name if a statement made it; nil if none did.
func (s *stating) stated(ctx context.Context, role string) (*arm.Resource[principalProperties], error) {
	p, err := s.c.principals.Load(ctx, principalID(s.at.Server, role))
	if err != nil || p == nil || p.Properties.RoleName != role || p.Properties.Status == roleRemoving || !p.Properties.isStated(p.ID) {
		return nil, err
	}
	return p, nil
}

// isStated reports whether a statement made the role, whatever else uses it.
func (p *principalProperties) isStated(id az.ID) bool {
	return slices.ContainsFunc(p.Uses, func(u roleUse) bool { return u.stated(id) && !u.Pending })
}

// statedOnly is stated, and an error if something else uses the role, too.
func (s *stating) statedOnly(ctx context.Context, role string) (*arm.Resource[principalProperties], error) {
	id := principalID(s.at.Server, role)
	p, err := s.c.principals.Load(ctx, id)
	if err != nil || p == nil || p.Properties.RoleName != role || p.Properties.Status == roleRemoving {
		return nil, err
	}
	if !p.Properties.isStated(id) || len(p.Properties.without(func(u roleUse) bool { return u.stated(id) })) > 0 {
		return nil, az.Errorf(az.Conflict, "RoleInUse", "role %s is used by a connection, an administrator or a group's member of the plane; take that away first (hawser principal list)", ident(role))
	}
	return p, nil
}

// drop takes back what create made, and nothing of a connection's. From its
// commit on nobody gets in by it; what the server does not do now, Sweep has
// it do later.
func (s *stating) drop(ctx context.Context, role string) error {
	id := principalID(s.at.Server, role)
	return s.c.locked(ctx, statementLock(id), func(ctx context.Context) error {
		if err := s.record(ctx, id, fmt.Sprintf("role %q dropped", role)); err != nil {
			return err
		}
		err := s.c.cfg.Store.Write(ctx, func(tx *store.Tx) error { return s.c.unmapTx(tx, id) })
		if err != nil {
			return err
		}
		return s.c.finish(ctx, id)
	})
}

// unmapTx ends what a statement said about a role.
func (c *Connector) unmapTx(tx *store.Tx, id az.ID) error {
	if err := c.releaseTx(tx, id, func(u roleUse) bool { return u.stated(id) }); err != nil {
		return err
	}
	p, err := c.principals.Read(tx, id)
	if err != nil || p == nil {
		return err
	}
	p.Properties.unstate(id)
	if err := c.principals.Write(tx, p); err != nil {
		return err
	}
	_, err = tx.DeleteResource(assignmentID(id, id.Parent()))
	return err
}

// unstate forgets what a statement's mapping has. A second factor may have been
// asked for by a PUT of the role, too.
func (p *principalProperties) unstate(id az.ID) {
	p.StatedIn = nil
	p.MFA = p.MFA && slices.ContainsFunc(p.Uses, func(u roleUse) bool { return u.By.Equal(id) && !u.stated(id) })
}

// record writes down what a statement does, before it is done.
func (s *stating) record(ctx context.Context, role az.ID, detail string) error {
	return s.c.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: s.who, Action: familyOf(role).writePrincipal().Name, Where: role.String(),
		Outcome: guard.Allowed, Reason: "the caller is an administrator of the server", Detail: detail})
}

// The codes of errors about names.
const (
	nameUnknown   = "PrincipalNameNotFound"
	nameAmbiguous = "PrincipalNameAmbiguous"
)

// named finds a principal as Azure's servers do: a user by the user principal
// name, a group or an application by its display name. A name of two is
// refused, whichever they are.
func (c *Connector) named(ctx context.Context, name string) (oid string, kind az.PrincipalKind, err error) {
	found := 0
	if name != "" {
		u, ok, err := c.cfg.Directory.UserByUPN(ctx, name)
		if err != nil {
			return "", "", err
		}
		if ok {
			found, oid, kind = 1, u.ID, az.User
		}
		for _, k := range []az.PrincipalKind{az.Group, az.ServicePrincipal} {
			some, err := c.cfg.Directory.Find(ctx, store.ObjectQuery{Kind: string(k), Name: name, Limit: 2})
			if err != nil {
				return "", "", err
			}
			for _, o := range some {
				found, oid, kind = found+1, o.ID, k
			}
		}
	}
	switch found {
	case 1:
		return oid, kind, nil
	case 0:
		return "", "", az.Errorf(az.Invalid, nameUnknown, "Could not validate AAD user %s because its name is not found in the tenant.", name)
	}
	return "", "", az.Errorf(az.Invalid, nameAmbiguous, "Could not validate AAD user %s because its name is not unique in the tenant; name the object id.", name)
}

// byID finds a principal by its object id; an application by its client id, too.
func (c *Connector) byID(ctx context.Context, id string) (oid string, kind az.PrincipalKind, err error) {
	id = strings.ToLower(id)
	if az.IsGUID(id) {
		o, ok, err := c.cfg.Directory.ByAppID(ctx, id)
		if err != nil {
			return "", "", err
		}
		if ok {
			return o.ID, az.ServicePrincipal, nil
		}
		oid, kind, err := c.principal(ctx, id)
		if err == nil || !az.Is(err, az.Invalid) {
			return oid, kind, err
		}
	}
	return "", "", az.Errorf(az.Invalid, nameUnknown, "Could not validate AAD user %s because its name is not found in the tenant.", id)
}
