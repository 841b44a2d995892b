package connector

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// The engine of SQL Server and Azure SQL. A role is a SQL login of the server,
// known as ours by its SID, with a user of its name in each database that it
// has access to. No statement here is part of a transaction: each is good by
// itself, and the whole may be repeated. sql_statements.go has all of them.

// master is a session of the owner where logins are.
func (b *sqlBackend) master(ctx context.Context) (*sqlConn, error) { return b.connect(ctx, sqlMaster) }

// has refuses a database that is not there, or not open.
func (b *sqlBackend) has(ctx context.Context, database string) error {
	m, err := b.master(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = b.findDatabase(ctx, m, database)
	return err
}

// findDatabase reads a database; trusted: what its owner may on the whole
// server, its users may reach.
func (b *sqlBackend) findDatabase(ctx context.Context, m *sqlConn, name string) (trusted bool, err error) {
	rows, err := m.table(ctx, "look for the database", sqlFindDatabase, name)
	switch {
	case err != nil:
		return false, err
	case len(rows) == 0 || SQLServer.family().checkDatabase(name) != nil:
		return false, az.Errorf(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the SQL server %s.", name, b.addr(SQLServer))
	case rows[0][1] != "ONLINE":
		return false, az.Errorf(az.Unavailable, "ServerUnavailable", "The database %q on the SQL server %s is not open now (%s); try again.", name, b.addr(SQLServer), rows[0][1])
	}
	return rows[0][2] == "1", nil
}

func (b *sqlBackend) realise(ctx context.Context, r roleSpec, on grant, lower bool) (made bool, err error) {
	m, err := b.master(ctx)
	if err != nil {
		return false, err
	}
	defer m.Close()
	if on.Database != "" {
		if err := b.mayGive(ctx, m, on); err != nil {
			return false, err
		}
	}
	if lower {
		if err := b.takeAll(ctx, m, r); err != nil {
			return false, err
		}
	}
	if made, err = m.ensureLogin(ctx, r); err != nil {
		return false, err
	}
	switch {
	case on.Database != "":
		return made, b.giveIn(ctx, r, on.Database, sqlGrants(r.Name, on.Database, on.Access))
	case r.Admin:
		return made, b.administrate(ctx, m, r)
	}
	return made, nil
}

// mayGive refuses to let a role own a database whose owner the server trusts:
// who controls such a one may become a system administrator.
// Source: "TRUSTWORTHY database property".
func (b *sqlBackend) mayGive(ctx context.Context, m *sqlConn, on grant) error {
	trusted, err := b.findDatabase(ctx, m, on.Database)
	if err == nil && trusted && on.Access == Owner {
		err = az.Errorf(az.Invalid, "DatabaseTrusted", "The database %q is TRUSTWORTHY: whoever owns it could take over the whole server. Run ALTER DATABASE %s SET TRUSTWORTHY OFF there, or ask for read or write.", on.Database, sqlIdent(on.Database))
	}
	return err
}

func (b *sqlBackend) setPassword(ctx context.Context, r roleSpec) (made bool, err error) {
	return b.realise(ctx, r, grant{}, false)
}

func (b *sqlBackend) shrink(ctx context.Context, r roleSpec) (made bool, err error) {
	return b.realise(ctx, r, grant{}, true)
}

// findLogin reports whether the login is there and whether it is ours.
func (m *sqlConn) findLogin(ctx context.Context, r roleSpec) (there, ours bool, err error) {
	rows, err := m.table(ctx, "look the role up", sqlFindLogin, r.Name)
	if err != nil || len(rows) == 0 {
		return false, false, err
	}
	return true, strings.EqualFold(rows[0][0], r.sqlSID(m.azure)), nil
}

// ensureLogin makes the login, or gives one of ours its password back and lets
// it in. One that somebody else made is never taken over.
func (m *sqlConn) ensureLogin(ctx context.Context, r roleSpec) (made bool, err error) {
	there, ours, err := m.findLogin(ctx, r)
	switch {
	case err != nil:
		return false, err
	case there && !ours:
		return false, roleExists(r.Name)
	case there:
		return false, m.run(ctx, "set the role's password", r.sqlSetPassword(m.azure), sqlEnable(r.Name))
	}
	err = m.run(ctx, "create the role", r.sqlCreateLogin(m.azure, r.Password.Reveal()))
	switch sqlNumber(err) {
	case 15025: // a login of Windows or Entra, or a role of the server
		return false, roleExists(r.Name)
	case 15433: // the SID is in use: ours under another name
		return false, az.Errorf(az.Conflict, "RoleRenamed", "The login of the role %q was given another name on the server; name it so again, or drop it there.", r.Name).Because(err)
	}
	return err == nil, err
}

// change runs what changes a database, unless a trigger there would run with
// the rights that the owner has on the whole server: whoever owns the database
// can plant one and wait. Azure SQL Database has sessions of one database only.
func (m *sqlConn) change(ctx context.Context, what, database string, statements ...string) error {
	if !m.azure {
		rows, err := m.table(ctx, "look for triggers", sqlTriggers)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return az.Errorf(az.Conflict, "DatabaseHasTrigger", "Cannot %s: the trigger %q of the database %q would run with the rights of the server's administrator login. If you trust it, make it again WITH EXECUTE AS 'dbo'; else disable or drop it there. Then try again.", what, rows[0][0], database)
		}
	}
	return m.run(ctx, what, statements...)
}

// giveIn makes the role's user in a database and runs what gives it its access.
func (b *sqlBackend) giveIn(ctx context.Context, r roleSpec, database string, grants []string) error {
	m, err := b.connect(ctx, database)
	if err != nil {
		return err
	}
	defer m.Close()
	rows, err := m.table(ctx, "look the role's user up", sqlFindUser, r.Name)
	if err != nil {
		return err
	}
	switch {
	case len(rows) > 0 && !strings.EqualFold(rows[0][0], r.sqlSID(m.azure)):
		return az.Errorf(az.Conflict, "RoleExists", "The user %q exists in the database %q and was not made by this plane; it is left alone. Choose another user name, or drop the user.", r.Name, database)
	case len(rows) == 0:
		if err := m.change(ctx, "create the role's user", database, sqlCreateUser(r.Name)); err != nil {
			return err
		}
	}
	return m.change(ctx, "grant access", database, grants...)
}

// administrate makes a role an administrator's: owner of every database of the
// users', but those through which it could become more than that.
func (b *sqlBackend) administrate(ctx context.Context, m *sqlConn, r roleSpec) error {
	if !m.azure {
		if err := m.run(ctx, "make the role an administrator's", sqlSeeLogins(r.Name)); err != nil {
			return err
		}
	}
	databases, err := m.table(ctx, "list the databases", sqlDatabases)
	if err != nil {
		return err
	}
	for _, d := range databases {
		if d[1] == "1" || strings.EqualFold(d[2], r.sqlSID(m.azure)) {
			continue
		}
		if err := b.giveIn(ctx, r, d[0], []string{sqlAddMember("db_owner", r.Name)}); err != nil {
			return err
		}
	}
	return nil
}

// takeAll closes a login of ours, ends its sessions and takes everything it has
// in any database. What it owns goes to the database's owner. It does nothing
// to one that is not ours.
func (b *sqlBackend) takeAll(ctx context.Context, m *sqlConn, r roleSpec) error {
	there, ours, err := m.findLogin(ctx, r)
	if err != nil || there && !ours {
		return err
	}
	if there {
		if err := m.run(ctx, "close the role", sqlDisable(r.Name)); err != nil {
			return err
		}
		if err := m.endSessions(ctx, r.Name); err != nil {
			return err
		}
	}
	databases, err := m.table(ctx, "list the databases", sqlDatabases)
	if err != nil {
		return err
	}
	for _, d := range databases {
		if strings.EqualFold(d[2], r.sqlSID(m.azure)) {
			if err := m.run(ctx, "take the role's database", sqlGiveDatabase(d[0], b.Owner)); err != nil {
				return err
			}
		}
		if err := b.takeIn(ctx, r, d[0]); err != nil {
			return err
		}
	}
	return nil
}

// takeIn drops the role's user in one database.
func (b *sqlBackend) takeIn(ctx context.Context, r roleSpec, database string) error {
	m, err := b.connect(ctx, database)
	if az.Is(err, az.NotFound) {
		return nil // where the owner may not go, he made no user
	}
	if err != nil {
		return err
	}
	defer m.Close()
	if m.azure { // where each database sees its own sessions only
		if err := m.endSessions(ctx, r.Name); err != nil {
			return err
		}
	}
	rows, err := m.table(ctx, "look for the role's user", sqlUserOf, r.sqlSID(m.azure))
	if err != nil || len(rows) == 0 {
		return err
	}
	user := rows[0][0]
	give, err := m.giveAway(ctx, user)
	if err != nil {
		return err
	}
	return m.change(ctx, "drop the role's user", database, append(give, sqlDropUser(user))...)
}

// giveAway lists what must be done before a user can be dropped.
func (m *sqlConn) giveAway(ctx context.Context, user string) (out []string, err error) {
	for _, one := range []struct {
		query string
		give  func(row []string) string
	}{
		{sqlSchemas, func(row []string) string { return sqlGiveSchema(row[0]) }},
		{sqlRoles, func(row []string) string { return sqlGiveRole(row[0]) }},
		{sqlObjects, func(row []string) string { return sqlGiveObject("OBJECT", row[0], row[1]) }},
		{sqlTypes, func(row []string) string { return sqlGiveObject("TYPE", row[0], row[1]) }},
		{sqlGranted, func(row []string) string { return sqlRevoke(user, row) }},
	} {
		rows, err := m.table(ctx, "look at what the role owns", one.query, user)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			out = append(out, one.give(row))
		}
	}
	return out, nil
}

// endSessions ends a login's sessions and waits until they are gone.
func (m *sqlConn) endSessions(ctx context.Context, login string) error {
	ctx, cancel := context.WithTimeout(ctx, sqlSessionsEnd)
	defer cancel()
	for {
		rows, err := m.table(ctx, "look for the role's sessions", sqlSessions, login)
		if err == nil && len(rows) == 0 {
			return nil
		}
		for _, row := range rows {
			if kerr := m.kill(ctx, row[0], login); kerr != nil && err == nil {
				err = kerr
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return az.Errorf(az.Unavailable, "RoleInUse", "The role %q still has sessions on the server; it is closed to new ones. Try again.", login)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends one session; it is no error if it has ended.
func (m *sqlConn) kill(ctx context.Context, id, login string) error {
	err := m.run(ctx, "end the role's sessions", sqlKill(id, login))
	switch sqlNumber(err) {
	case 6106, 6101, 6107: // not an active process, being ended, or of the server
		return nil
	}
	return err
}

func (b *sqlBackend) drop(ctx context.Context, r roleSpec) error {
	m, err := b.master(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := b.takeAll(ctx, m, r); err != nil {
		return err
	}
	there, ours, err := m.findLogin(ctx, r)
	if err != nil || !there || !ours {
		return err
	}
	return m.run(ctx, "drop the role", sqlDropLogin(r.Name))
}

func (b *sqlBackend) terminate(ctx context.Context, role string, session uint64) error {
	m, err := b.master(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	id := strconv.FormatUint(session, 10)
	if !m.azure {
		return m.kill(ctx, id, role)
	}
	databases, err := m.table(ctx, "list the databases", sqlDatabases)
	for _, d := range databases { // each sees its own sessions only
		if err = b.killIn(ctx, d[0], id, role); err != nil {
			return err
		}
	}
	return err
}

func (b *sqlBackend) killIn(ctx context.Context, database, id, login string) error {
	m, err := b.connect(ctx, database)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.kill(ctx, id, login)
}

// probe logs somebody in to a database and asks what the session may.
func (b *sqlBackend) probe(ctx context.Context, user string, password az.Secret, database string, access Access) error {
	m, err := b.open(ctx, user, password, database)
	if err != nil {
		return err
	}
	defer m.Close()
	if access == "" {
		return nil
	}
	rows, err := m.table(ctx, "look at what the role may", sqlProbe)
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for i, what := range []string{"read", "write", "run procedures", "own the database"} {
		has[what] = len(rows) == 1 && rows[0][i] == "1"
	}
	for _, what := range map[Access][]string{Read: {"read"}, Write: {"read", "write", "run procedures"}, Owner: {"own the database"}}[access] {
		if !has[what] {
			return az.Errorf(az.Forbidden, "RoleLacksPrivilege", "The role %q may not %s in the database %q of the SQL server %s.", user, what, database, b.addr(SQLServer))
		}
	}
	return nil
}

func (b *sqlBackend) preview(ctx context.Context, r roleSpec, on grant) (statements, notes []string, err error) {
	m, err := b.master(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	there, ours, err := m.findLogin(ctx, r)
	switch {
	case err != nil:
		return nil, nil, err
	case there && !ours:
		return nil, nil, roleExists(r.Name)
	case !there:
		statements = append(statements, r.sqlCreateLogin(m.azure, "…"))
	}
	if on.Database == "" {
		return statements, nil, nil
	}
	if err := b.mayGive(ctx, m, on); err != nil {
		return nil, nil, err
	}
	d, err := b.connect(ctx, on.Database)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	users, err := d.table(ctx, "look the role's user up", sqlFindUser, r.Name)
	if err != nil {
		return nil, nil, err
	}
	if len(users) == 0 {
		statements = append(statements, sqlCreateUser(r.Name))
	}
	if on.Access != Owner {
		notes = append(notes, "What the database's role public may, every user of it may.")
	}
	return append(statements, sqlGrants(r.Name, on.Database, on.Access)...), notes, nil
}

func (b *sqlBackend) where() (host string, port int, hidden bool) { return b.Host, b.Port, false }
