package connector

import (
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// The engine of MySQL and MariaDB. A role is an account 'name'@'%'. What it
// owns is nothing: tables belong to their database, and what has a definer
// (views, routines, triggers, events) stays and no longer works once the
// account is gone. No statement here is part of a transaction, so each one is
// good by itself and the whole may be repeated.

// privileges are what an access is in a database; it is never the right to
// grant. Source: MySQL 8.0 reference manual, 8.2.2.
func (a Access) mysql() string {
	switch a {
	case Owner:
		return "ALL PRIVILEGES"
	case Write:
		return "SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, EXECUTE, CREATE TEMPORARY TABLES, LOCK TABLES"
	}
	return "SELECT, SHOW VIEW"
}

// mysqlProbe are those whose absence probe tells.
func (a Access) mysqlProbe() []string {
	switch a {
	case Owner:
		return []string{"SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE", "CREATE", "DROP", "ALTER", "INDEX", "CREATE VIEW"}
	case "":
		return nil
	}
	return strings.Split(a.mysql(), ", ")
}

// mysqlMark is the role that a role of ours is granted on MariaDB, whose
// accounts have no comment. It may do nothing.
func (r roleSpec) mysqlMark() string {
	return "hawser_" + strings.ReplaceAll(r.Marker, "-", "")[:16]
}

// mysqlAttribute is the mark on MySQL, in the account itself.
func (r roleSpec) mysqlAttribute() string { return fmt.Sprintf(`{"hawser": "%s"}`, r.Marker) }

// nativeHash is what mysql_native_password keeps: the password itself is sent
// to no server and stands in none of its logs. It cannot be guessed: the
// password is 256 random bits. Source: MariaDB documentation, "Authentication
// Plugin - mysql_native_password".
func nativeHash(password az.Secret) string {
	first := sha1.Sum([]byte(password.Reveal()))
	second := sha1.Sum(first[:])
	return "*" + strings.ToUpper(hex.EncodeToString(second[:]))
}

// mysqlAnyPassword lets the plane set a password that a role had: whatever the
// server keeps people from, it must heal and finish what was begun. Source: MySQL
// 8.0 reference manual, 8.2.15, "Password Reuse Policy".
const mysqlAnyPassword = " PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY"

// identified says how a role logs in. hide leaves the password out.
func (m *mysqlConn) identified(r roleSpec, hide bool) string {
	secret := "…"
	if m.maria {
		if !hide {
			secret = nativeHash(r.Password)
		}
		return "IDENTIFIED VIA mysql_native_password USING " + mysqlText(secret)
	}
	if !hide {
		secret = r.Password.Reveal()
	}
	return "IDENTIFIED BY " + mysqlText(secret) + mysqlAnyPassword
}

func (m *mysqlConn) createStatements(r roleSpec, hide bool) []string {
	user := mysqlAccount(r.Name)
	if !m.maria {
		return []string{fmt.Sprintf("CREATE USER %s %s ATTRIBUTE %s", user, m.identified(r, hide), mysqlText(r.mysqlAttribute()))}
	}
	return append([]string{fmt.Sprintf("CREATE USER %s %s", user, m.identified(r, hide))}, m.markStatements(r)...)
}

// markStatements mark an account that is there as ours, on MariaDB. The mark is
// made anew, since only who made it may grant it, and the owner may be another.
func (m *mysqlConn) markStatements(r roleSpec) []string {
	if !m.maria {
		return nil
	}
	return []string{"CREATE OR REPLACE ROLE " + mysqlIdent(r.mysqlMark()), fmt.Sprintf("GRANT %s TO %s", mysqlIdent(r.mysqlMark()), mysqlAccount(r.Name))}
}

// passwordStatement gives a role its password and closes or opens it. On MySQL,
// closing is closing alone: no rule about passwords may keep the plane from it.
// On MariaDB, where strip takes the mark, the password is what tells it as ours.
func (m *mysqlConn) passwordStatement(r roleSpec, lock bool) string {
	state := "UNLOCK"
	if lock {
		state = "LOCK"
	}
	if lock && !m.maria {
		return fmt.Sprintf("ALTER USER %s ACCOUNT LOCK", mysqlAccount(r.Name))
	}
	return fmt.Sprintf("ALTER USER %s %s ACCOUNT %s", mysqlAccount(r.Name), m.identified(r, false), state)
}

// accountFacts is what a server knows of an account.
type accountFacts struct {
	exists, ours, marked bool
	elsewhere            bool // there is one of the name for some hosts, which would stand before ours
}

// find looks for an account and our mark. Where the mark is not there yet, it
// is ours by its password, which nobody else knows.
func (m *mysqlConn) find(ctx context.Context, r roleSpec) (f accountFacts, err error) {
	const what = "look the role up"
	query := "SELECT host, COALESCE(authentication_string, '') FROM mysql.user WHERE BINARY user = BINARY ?"
	if m.maria {
		query += " AND is_role = 'N'"
	}
	rows, err := m.QueryContext(ctx, query, r.Name)
	if err != nil {
		return f, mysqlFault(what, err)
	}
	defer rows.Close()
	var host, hash string
	for rows.Next() {
		if err := rows.Scan(&host, &hash); err != nil {
			return f, mysqlFault(what, err)
		}
		if host != "%" {
			f.elsewhere = true
			continue
		}
		f.exists = true
		f.ours = m.maria && !r.Password.IsZero() && subtle.ConstantTimeCompare([]byte(hash), []byte(nativeHash(r.Password))) == 1
	}
	if err := rows.Err(); err != nil || !f.exists {
		if err != nil {
			err = mysqlFault(what, err)
		}
		return f, err
	}
	query, arg := "SELECT COUNT(*) > 0 FROM mysql.roles_mapping WHERE host = '%' AND BINARY user = BINARY ? AND role = ?", r.mysqlMark()
	if !m.maria {
		query, arg = "SELECT COUNT(*) > 0 FROM information_schema.user_attributes WHERE host = '%' AND BINARY user = BINARY ? AND JSON_UNQUOTE(JSON_EXTRACT(attribute, '$.hawser')) = ?", r.Marker
	}
	if err := m.QueryRowContext(ctx, query, r.Name, arg).Scan(&f.marked); err != nil {
		return f, mysqlFault(what, err)
	}
	f.ours = f.ours || f.marked
	return f, nil
}

// mysqlNameLength is what MySQL keeps; MariaDB's 128 are checked before. Source:
// MySQL 8.0 reference manual, 8.2.1.
const mysqlNameLength = 32

// room refuses a role that cannot or must not be made.
func (m *mysqlConn) room(ctx context.Context, r roleSpec, f accountFacts) error {
	switch {
	case f.exists && !f.ours:
		return roleExists(r.Name)
	case f.elsewhere:
		return az.Errorf(az.Conflict, "RoleExists", "The server has an account %q for some hosts that was not made by this plane, and that would stand before one for all; choose another user name, or drop it.", r.Name)
	case f.exists:
		return nil
	case !m.maria && len([]rune(r.Name)) > mysqlNameLength:
		return az.Errorf(az.Invalid, "InvalidName", "The name of the role %q is longer than the %d characters that MySQL keeps; choose a shorter user name.", r.Name, mysqlNameLength)
	}
	return m.noDefiner(ctx, r)
}

// definersSQL finds something that runs with the rights of an account. What an
// account of the same name left behind would become the new one's: MySQL from
// 8.0.22 on refuses that itself.
const definersSQL = `SELECT CONCAT(kind, ' ', object) FROM (
	SELECT 'view' kind, CONCAT(table_schema, '.', table_name) object, definer FROM information_schema.views
	UNION ALL SELECT LOWER(routine_type), CONCAT(routine_schema, '.', routine_name), definer FROM information_schema.routines
	UNION ALL SELECT 'trigger', CONCAT(trigger_schema, '.', trigger_name), definer FROM information_schema.triggers
	UNION ALL SELECT 'event', CONCAT(event_schema, '.', event_name), definer FROM information_schema.events) d
	WHERE BINARY definer = BINARY ? LIMIT 1`

func (m *mysqlConn) noDefiner(ctx context.Context, r roleSpec) error {
	var object string
	err := m.QueryRowContext(ctx, definersSQL, r.Name+"@%").Scan(&object)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return mysqlFault("look for what the role's name would own", err)
	}
	return az.Errorf(az.Conflict, "DefinerExists", "The server still has the %s, which an earlier role %q defined and which would run with the rights of a new one: drop it or give it another definer, or choose another user name.", object, r.Name)
}

// ensure makes the role, or gives one of ours its password, its mark and login
// again.
func (m *mysqlConn) ensure(ctx context.Context, r roleSpec) (made bool, err error) {
	f, err := m.find(ctx, r)
	if err != nil {
		return false, err
	}
	if err := m.room(ctx, r, f); err != nil {
		return false, err
	}
	switch {
	case !f.exists:
		made, err = true, m.run(ctx, "create the role", m.createStatements(r, false)...)
	case !f.marked:
		err = m.run(ctx, "set the role's password", append(m.markStatements(r), m.passwordStatement(r, false))...)
	default:
		err = m.run(ctx, "set the role's password", m.passwordStatement(r, false))
	}
	if err == nil && r.Admin {
		err = m.administer(ctx, r.Name)
	}
	return made && err == nil, err
}

// administer gives an administrator's role everything in every database that is
// not the server's own, with the right to grant it, as far as the owner has it
// himself. It gets no CREATE USER: on MariaDB who has that may set anybody's
// password, root's too. Accounts are the plane's to make, for which it is asked
// by CREATE AADUSER; nor PROCESS, which shows other sessions' statements.
func (m *mysqlConn) administer(ctx context.Context, role string) error {
	all, err := m.databases(ctx)
	if err != nil {
		return err
	}
	for _, name := range all {
		err := m.run(ctx, "grant the administrator's rights", fmt.Sprintf("GRANT ALL PRIVILEGES ON %s TO %s WITH GRANT OPTION", mysqlDatabase(name), mysqlAccount(role)))
		if err != nil && !slices.Contains([]uint16{1044, 1142}, mysqlNumber(err)) {
			return err
		}
	}
	return nil
}

// silence keeps a role from logging in and ends its sessions.
func (m *mysqlConn) silence(ctx context.Context, r roleSpec) error {
	if err := m.mayEnd(ctx); err != nil {
		return err
	}
	if err := m.run(ctx, "close the role", m.passwordStatement(r, true)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsEnd)
	defer cancel()
	for {
		all, err := m.sessionsOf(ctx, r.Name)
		if err == nil && len(all) == 0 {
			return nil
		}
		for _, id := range all {
			if err == nil {
				err = m.kill(ctx, id)
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return az.Errorf(az.Unavailable, "RoleInUse", "The role %q still has sessions on the server; it is closed to new ones. Try again.", r.Name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// strip takes everything from a silenced role. On MariaDB that takes its mark,
// too; until it has it again, it is ours by its password.
func (m *mysqlConn) strip(ctx context.Context, r roleSpec) error {
	return m.run(ctx, "take the role's privileges back",
		append([]string{"REVOKE ALL PRIVILEGES, GRANT OPTION FROM " + mysqlAccount(r.Name)}, m.markStatements(r)...)...)
}

func (b *mysqlBackend) realise(ctx context.Context, r roleSpec, on grant, lower bool) (made bool, err error) {
	m, err := b.connect(ctx, "")
	if err != nil {
		return false, err
	}
	defer m.Close()
	if lower {
		if err := m.lower(ctx, r); err != nil {
			return false, err
		}
	}
	if made, err = m.ensure(ctx, r); err != nil || on.Database == "" {
		return made, err
	}
	return made, m.grant(ctx, r.Name, on)
}

func (m *mysqlConn) grant(ctx context.Context, role string, on grant) error {
	there, err := m.hasDatabase(ctx, on.Database)
	if err != nil {
		return err
	}
	if !there { // GRANT would not mind, and open one that comes later
		return az.Errorf(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the MySQL server.", on.Database)
	}
	return m.run(ctx, "grant access", m.grantStatement(role, on))
}

func (m *mysqlConn) grantStatement(role string, on grant) string {
	return fmt.Sprintf("GRANT %s ON %s TO %s", on.Access.mysql(), mysqlDatabase(on.Database), mysqlAccount(role))
}

// lower silences and strips a role of ours, if it is there.
func (m *mysqlConn) lower(ctx context.Context, r roleSpec) error {
	f, err := m.find(ctx, r)
	if err != nil || !f.exists {
		return err
	}
	if !f.ours {
		return roleExists(r.Name)
	}
	if err := m.silence(ctx, r); err != nil {
		return err
	}
	return m.strip(ctx, r)
}

func (b *mysqlBackend) setPassword(ctx context.Context, r roleSpec) (made bool, err error) {
	return b.realise(ctx, r, grant{}, false)
}

func (b *mysqlBackend) shrink(ctx context.Context, r roleSpec) (made bool, err error) {
	return b.realise(ctx, r, grant{}, true)
}

func (b *mysqlBackend) drop(ctx context.Context, r roleSpec) error {
	m, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer m.Close()
	f, err := m.find(ctx, r)
	if err != nil || f.exists && !f.ours {
		return err
	}
	if f.exists {
		if err := m.silence(ctx, r); err != nil {
			return err
		}
		if err := m.strip(ctx, r); err != nil {
			return err
		}
		if _, err := m.ExecContext(ctx, "DROP USER "+mysqlAccount(r.Name)); mysqlNumber(err) == definerInUse {
			return m.keep(ctx, r)
		} else if err != nil {
			return mysqlFault("drop the role", err)
		}
	}
	if m.maria {
		return m.run(ctx, "drop the role's mark", "DROP ROLE IF EXISTS "+mysqlIdent(r.mysqlMark()))
	}
	return nil
}

// definerInUse is ER_CANNOT_USER_REFERENCED_AS_DEFINER of MySQL 8.0.22 and
// later.
const definerInUse = 4006

// keep leaves an account that MySQL does not drop, since something has it as
// definer: closed, without rights and without our mark, so that it becomes
// nobody else's.
func (m *mysqlConn) keep(ctx context.Context, r roleSpec) error {
	return m.run(ctx, "close the role", fmt.Sprintf("ALTER USER %s ACCOUNT LOCK ATTRIBUTE %s", mysqlAccount(r.Name), mysqlText(`{"hawser": null, "hawserKept": "`+r.Marker+`"}`)))
}

func (b *mysqlBackend) probe(ctx context.Context, user string, password az.Secret, database string, access Access) error {
	m, err := b.open(ctx, user, password, database)
	if err != nil {
		return err
	}
	defer m.Close()
	if access == "" {
		return nil
	}
	var current string
	if err := m.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&current); err != nil {
		return mysqlFault("look at the role", err)
	}
	if current != user+"@%" {
		return failed("RoleShadowed", "The server takes the login %q for the account %q, which stands before the role: drop that account.", user, current)
	}
	have, err := m.strings(ctx, "look at the role's privileges", "SELECT privilege_type FROM information_schema.schema_privileges WHERE grantee = ? AND table_schema IN (?, ?)",
		"'"+user+"'@'%'", database, mysqlPattern(database))
	if err != nil {
		return err
	}
	var missing []string
	for _, p := range access.mysqlProbe() {
		if !slices.Contains(have, p) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return failed("PrivilegesMissing", "The role %q lacks %s on the database %q: create the connection again.", user, strings.Join(missing, ", "), database)
	}
	return nil
}

func (b *mysqlBackend) preview(ctx context.Context, r roleSpec, on grant) (statements, notes []string, err error) {
	m, err := b.connect(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	f, err := m.find(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if err := m.room(ctx, r, f); err != nil {
		return nil, nil, err
	}
	if !f.exists {
		statements = m.createStatements(r, true)
	}
	statements = append(statements, m.grantStatement(r.Name, on))
	if on.Access == Owner {
		notes = append(notes, "Views, routines, triggers and events that the role makes run with its rights; they stop working when the connection is deleted.")
	}
	return statements, notes, nil
}
