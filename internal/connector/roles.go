package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
)

// adminGroup is the role whose members administer a server, by Azure's name.
const adminGroup = "azure_pg_admin"

// roleSpec is a login role as it should be.
type roleSpec struct {
	Name string
	// Marker stands in the role's comment and tells a role of ours from one
	// that somebody else made under the same name. It is a GUID.
	Marker   string
	Password az.Secret
	Admin    bool
}

func (r roleSpec) comment() string { return "hawser " + r.Marker }

// lockKey keeps two planes from changing roles and grants of one database at
// the same time; the number is of no meaning.
const lockKey = 0x6861777365720001

// maxTries bounds how often a transaction is run again that met another one:
// grants on a database may be changed from inside any other database, where
// our lock does not reach.
const maxTries = 5

// inTx runs fn in one transaction of the server, after every other one of ours
// in the same database. fn may run several times.
func inTx(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := inOneTx(ctx, conn, fn)
		var pe *pgconn.PgError
		if err == nil || try == maxTries || !errors.As(err, &pe) {
			return err
		}
		switch pe.Code {
		case "40001", "40P01", "XX000": // serialization_failure, deadlock_detected, "tuple concurrently updated"
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * 20 * time.Millisecond):
		}
	}
}

func inOneTx(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return sqlFault("begin a transaction", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, int64(lockKey)); err != nil {
		return sqlFault("wait for another change of roles", err)
	}
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return sqlFault("commit", err)
	}
	return nil
}

// run executes statements in order.
func run(ctx context.Context, tx pgx.Tx, what string, statements []string) error {
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return sqlFault(what, err)
		}
	}
	return nil
}

// findRole reports whether a role is there and whether it carries the marker.
func findRole(ctx context.Context, tx pgx.Tx, name, comment string) (exists, ours bool, err error) {
	err = tx.QueryRow(ctx, `select true, coalesce(shobj_description(oid, 'pg_authid'), '') = $2 from pg_roles where rolname = $1`,
		name, comment).Scan(&exists, &ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	if err != nil {
		return false, false, sqlFault("look the role up", err)
	}
	return exists, ours, nil
}

// createStatements makes the role; verifier is the SCRAM verifier, whose
// characters need no quoting.
func (r roleSpec) createStatements(verifier string, adminGroupThere, super, makesRoles bool) []string {
	out := []string{
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", ident(r.Name), verifier),
		fmt.Sprintf("COMMENT ON ROLE %s IS '%s'", ident(r.Name), r.comment()),
	}
	if !super { // a superuser is everywhere; others must be a member to give the role's objects away
		out = append(out, fmt.Sprintf("GRANT %s TO CURRENT_USER", ident(r.Name)))
	}
	if r.Admin {
		out = append(out, r.adminStatements(adminGroupThere, makesRoles)...)
	}
	return out
}

// adminStatements make a role that is there an administrator's: a person may
// have had one through a group.
//
// On a server that the plane runs itself an administrator makes roles from
// PostgreSQL 16 on: before it, whoever made roles could let himself run programs
// on the plane's machine (GRANT pg_execute_server_program).
func (r roleSpec) adminStatements(adminGroupThere, makesRoles bool) []string {
	var out []string
	attributes := "CREATEROLE CREATEDB"
	if !makesRoles {
		attributes = "NOCREATEROLE CREATEDB"
	}
	if !adminGroupThere {
		out = append(out, "CREATE ROLE "+adminGroup+" NOLOGIN")
	}
	return append(out, fmt.Sprintf("ALTER ROLE %s %s", ident(r.Name), attributes), fmt.Sprintf("GRANT %s TO %s", adminGroup, ident(r.Name)))
}

// ensureRole makes the role, or gives one of ours its password and login again.
// A role that somebody else made is never taken over: who knows what it may.
func ensureRole(ctx context.Context, conn *pgx.Conn, r roleSpec) (made bool, err error) {
	verifier, err := scramVerifier(r.Password)
	if err != nil {
		return false, err
	}
	err = inTx(ctx, conn, func(tx pgx.Tx) error {
		exists, ours, err := findRole(ctx, tx, r.Name, r.comment())
		switch {
		case err != nil:
			return err
		case exists && !ours:
			return roleExists(r.Name)
		case exists && !r.Admin:
			return run(ctx, tx, "set the role's password", passwordStatements(r.Name, verifier))
		}
		var group, super, makesRoles bool
		err = tx.QueryRow(ctx, `select exists (select 1 from pg_roles where rolname = $1), rolsuper, rolname <> $2 or current_setting('server_version_num')::int >= 160000
			from pg_roles where rolname = current_user`, adminGroup, localOwner).Scan(&group, &super, &makesRoles)
		if err != nil {
			return sqlFault("look at the administrator login", err)
		}
		if exists {
			return run(ctx, tx, "make the role an administrator's", append(passwordStatements(r.Name, verifier), r.adminStatements(group, makesRoles)...))
		}
		made = true
		return run(ctx, tx, "create the role", r.createStatements(verifier, group, super, makesRoles))
	})
	return made && err == nil, err
}

func roleExists(name string) error {
	return az.Errorf(az.Conflict, "RoleExists",
		"The role %q exists on the server and was not made by this plane; it is left alone. Choose another user name, or drop the role.", name)
}

func passwordStatements(role, verifier string) []string {
	return []string{fmt.Sprintf("ALTER ROLE %s LOGIN PASSWORD '%s'", ident(role), verifier)}
}

// grantAccess gives a role its access to the database of the connection.
func grantAccess(ctx context.Context, conn *pgx.Conn, u use, others []use) error {
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		f, err := readFacts(ctx, tx, makers(others))
		if err != nil {
			return err
		}
		if !f.GrantDatabase && !f.PublicConnect {
			return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "%s", f.notes(u)[0])
		}
		return run(ctx, tx, "grant access", f.grantStatements(u, others))
	})
}

// makers are the roles among uses that may create objects.
func makers(uses []use) []string {
	out := []string{}
	for _, u := range uses {
		if u.Access == Owner {
			out = append(out, u.Role)
		}
	}
	return out
}

// sessionsEnd bounds the wait for a role's sessions to end.
const sessionsEnd = 5 * time.Second

// silence keeps a role from logging in and ends its sessions, so that nothing
// it owns can appear behind the statements that follow. It is no error if the
// role is not there.
func silence(ctx context.Context, conn *pgx.Conn, role string) error {
	err := inTx(ctx, conn, func(tx pgx.Tx) error {
		return run(ctx, tx, "close the role", []string{fmt.Sprintf("ALTER ROLE %s NOLOGIN", ident(role))})
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsEnd)
	defer cancel()
	for {
		var left int
		err := conn.QueryRow(ctx, `select (select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity where usename = $1) t)
			+ (select count(*) from pg_prepared_xacts where owner = $1)`, role).Scan(&left)
		if err == nil && left == 0 {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return sqlFault("end the role's sessions", err)
		}
		select {
		case <-ctx.Done():
			return az.Errorf(az.Unavailable, "RoleInUse", "The role %q still has sessions or prepared transactions on the server; it is closed to new ones. Try again.", role)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Terminate ends one session of a role at the server itself: the gateway asks
// for it where the session's own connection is no means any more.
func (c *Connector) Terminate(ctx context.Context, server az.ID, role string, session uint64) error {
	srv, err := c.engine(ctx, server)
	if err != nil {
		return err
	}
	return srv.terminate(ctx, role, session)
}

// Repair gives a role its password back: every session may change its own
// role's, and the members of a group share one.
func (c *Connector) Repair(ctx context.Context, server az.ID, role string) error {
	id := principalID(server, role)
	return c.locked(ctx, id, func(ctx context.Context) error {
		p, err := c.principals.Load(ctx, id) // behind the lock: a rotation may just have ended
		if err != nil {
			return err
		}
		if p == nil || p.Properties.Status != roleReady {
			return az.Errorf(az.Unavailable, "RoleChanged", "The role is being changed; try again.")
		}
		if p.Properties.Rotating {
			return c.rotate(ctx, id)
		}
		srv, err := c.engine(ctx, server)
		if err != nil {
			return err
		}
		made, err := srv.setPassword(ctx, c.spec(p))
		if err != nil || !made {
			return err
		}
		if err := c.regrant(ctx, srv, p, ""); err != nil || !p.Properties.members(id) {
			return err
		}
		p.Properties.Syncing = true // its groups were dropped with it; the login that follows sees to them
		return c.save(ctx, p)
	})
}

// strip takes a silenced role's objects and privileges in the database of the
// connection.
func strip(ctx context.Context, conn *pgx.Conn, r roleSpec) error {
	return inTx(ctx, conn, func(tx pgx.Tx) error { return stripTx(ctx, tx, r) })
}

// drop removes a role of ours and every privilege it has in any database.
// What it owns is kept and goes to its keeper. It is no error if the role is
// gone, and a role without our marker is left alone.
func (b *backend) drop(ctx context.Context, r roleSpec) error {
	conn, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists, ours bool
	err = inTx(ctx, conn, func(tx pgx.Tx) (err error) {
		exists, ours, err = findRole(ctx, tx, r.Name, r.comment())
		return err
	})
	if err != nil || !exists || !ours {
		return err
	}
	if err := silence(ctx, conn, r.Name); err != nil {
		return err
	}
	databases, err := databasesOf(ctx, conn, r.Name)
	if err != nil {
		return err
	}
	for _, d := range databases {
		if err := b.stripIn(ctx, d, r); err != nil {
			return err
		}
	}
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		if err := stripTx(ctx, tx, r); err != nil {
			return err
		}
		return run(ctx, tx, "drop the role", []string{"DROP ROLE " + ident(r.Name)})
	})
}

func (b *backend) stripIn(ctx context.Context, database string, r roleSpec) error {
	conn, err := b.connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return strip(ctx, conn, r)
}

// databasesOf lists the databases in which something depends on a role.
func databasesOf(ctx context.Context, conn *pgx.Conn, role string) ([]string, error) {
	rows, err := conn.Query(ctx, `select distinct d.datname::text from pg_shdepend s join pg_database d
		on d.oid = s.dbid or s.classid = 'pg_database'::regclass and d.oid = s.objid
		where s.refclassid = 'pg_authid'::regclass and s.refobjid = (select oid from pg_roles where rolname = $1)
		and d.datallowconn order by 1`, role)
	if err != nil {
		return nil, sqlFault("find the role's databases", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, sqlFault("find the role's databases", err)
	}
	return names, nil
}
