package connector

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// placeMySQL finds out where the real server is, and takes its URL apart.
func (c *Connector) placeMySQL(ctx context.Context, call *arm.Call, r, old *arm.Resource[mysqlServerProperties]) (err error) {
	p, said := &r.Properties, placement{given: r.Properties.Hawser, tags: r.Tags, fresh: old == nil}
	if old != nil {
		said.was, said.oldTags = old.Properties.Hawser, old.Tags
	}
	if p.Hawser, err = c.placeOf(ctx, call, MySQL.family(), said); err != nil || p.Hawser == nil {
		return err
	}
	if p.Hawser.URL != "" {
		login, password, err := p.Hawser.takeURL(MySQL.family())
		if err != nil {
			return err
		}
		p.Login, p.Password = orText(login, p.Login), orText(password, p.Password)
	}
	p.Hawser.complete(MySQL.family())
	return nil
}

// checkMySQLAdopted is checkMySQLServer for a real server.
func (c *Connector) checkMySQLAdopted(ctx context.Context, call *arm.Call, r, old *arm.Resource[mysqlServerProperties]) error {
	p := &r.Properties
	again := p.Password != ""
	if err := takePassword(r, &p.Password, p.Login, 1); err != nil {
		return err
	}
	b := mysqlBackendOf(r)
	if err := b.check(); err != nil {
		return err
	}
	if old != nil && old.Properties.Hawser != nil {
		if was := mysqlBackendOf(old); b.same(was) {
			p.Hawser.Version = was.Version
			return nil // a change of something else must work while the server is away
		}
	}
	if old != nil && !again {
		return az.Errorf(az.Invalid, "PasswordNeeded", "Give administratorLoginPassword again to change where the server is or how it is reached: a password that is kept here is not sent to another server.")
	}
	err := b.adopt(ctx)
	if errors.Is(err, errNoProof) { // as adoptAs does
		err = call.Check(ctx, actionGive, az.Root)
	}
	if err != nil {
		return err
	}
	p.Hawser.Version, p.Hawser.SSLMode = b.Version, b.SSLMode
	return nil
}

func mysqlBackendOf(r *arm.Resource[mysqlServerProperties]) *mysqlBackend {
	return &mysqlBackend{realServer: *r.Properties.Hawser, Owner: r.Properties.Login, Password: r.Secrets[passwordSecret]}
}

func (b *mysqlBackend) check() error {
	if err := b.realServer.check(); err != nil {
		return err
	}
	if b.Database != "" {
		return MySQL.family().checkDatabase(b.Database)
	}
	return nil
}

// same reports whether two lead to the same server as the same owner.
func (b *mysqlBackend) same(o *mysqlBackend) bool {
	mine, theirs := b.realServer, o.realServer
	mine.Version, theirs.Version = "", ""
	return mine == theirs && b.Owner == o.Owner && subtle.ConstantTimeCompare([]byte(b.Password.Reveal()), []byte(o.Password.Reveal())) == 1
}

// mysqlBackend reads a server with its owner's credential.
func (c *Connector) mysqlBackend(ctx context.Context, id az.ID) (*mysqlBackend, error) {
	r, err := c.mysqlServers.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The MySQL server '%s' was not found. Attach it, or check its name and resource group.", id.Name())
	}
	if r.Properties.Hawser == nil {
		return nil, c.noBackend(MySQL.family(), r.ID.Name())
	}
	return mysqlBackendOf(r), nil
}

// adopt logs the owner in and finds out whether it can do what is needed, and
// whether a password is asked for at all: a server that lets in whoever comes
// from this machine (auth_socket, an account without a password) would let a
// caller reach through the plane what he has no password for. That is
// errNoProof, with everything else in order.
func (b *mysqlBackend) adopt(ctx context.Context) error {
	m, err := b.pin(ctx)
	if err != nil {
		return asInvalid(err)
	}
	defer m.Close()
	// Sources: MySQL 8.0.21 release notes (ATTRIBUTE); MariaDB 10.4 release notes
	// (ACCOUNT LOCK, mysql.global_priv).
	word, oldest, old := "MySQL", "8.0.21", !m.since(8, 0, 21)
	if m.maria {
		word, oldest, old = "MariaDB", "10.4", !m.since(10, 4, 0)
	}
	if old {
		return az.Errorf(az.Invalid, "ServerTooOld", "The server's %s is older than version %s, which is the oldest served here.", word, oldest)
	}
	b.Version = fmt.Sprintf("%s %d.%d.%d", word, m.number[0], m.number[1], m.number[2])
	if err := m.mayManage(ctx, b.Owner); err != nil {
		return err
	}
	wrong, err := b.open(ctx, b.Owner, newPassword(), "")
	if err == nil {
		wrong.Close()
		return errNoProof
	}
	if !errors.Is(err, errRefused) {
		return asInvalid(err)
	}
	return nil
}

// mayManage refuses an owner who could not do the plane's work.
func (m *mysqlConn) mayManage(ctx context.Context, owner string) error {
	have, err := m.rights(ctx)
	if err != nil {
		return err
	}
	lacks := func(right string) error {
		return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "The administrator login %q lacks a right that the plane needs: as root, run GRANT %s TO that login, or give another one.", owner, right)
	}
	if !slices.Contains(have, "CREATE USER") {
		return lacks("CREATE USER ON *.*")
	}
	if err := mayEnd(have); err != nil {
		return err
	}
	tables := []string{"mysql.user"}
	if m.maria {
		tables = append(tables, "mysql.roles_mapping")
	}
	for _, t := range tables {
		if _, err := m.strings(ctx, "look at the accounts", "SELECT 1 FROM "+t+" LIMIT 1"); err != nil {
			return lacks("SELECT ON mysql.*")
		}
	}
	return nil
}

// rights are the owner's for the whole server, by itself or by its role.
func (m *mysqlConn) rights(ctx context.Context) ([]string, error) {
	lines, err := m.strings(ctx, "look at the administrator login", "SHOW GRANTS")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range lines {
		all, _, global := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON *.* TO ")
		switch {
		case !global:
		case strings.HasPrefix(all, "ALL PRIVILEGES"):
			out = append(out, "CREATE USER", "PROCESS", "SUPER")
		default:
			out = append(out, strings.Split(all, ", ")...)
		}
	}
	return out, nil
}

// mayEnd refuses an owner who could not see and end the sessions of others:
// taking a right from a role would look done and not be.
func mayEnd(have []string) error {
	sees := slices.Contains(have, "PROCESS")
	ends := slices.ContainsFunc(have, func(p string) bool { return p == "SUPER" || p == "CONNECTION ADMIN" || p == "CONNECTION_ADMIN" })
	if sees && ends {
		return nil
	}
	return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "The administrator login may not see and end sessions, which the plane must when a right is taken: as root, GRANT PROCESS, CONNECTION ADMIN ON *.* (MySQL: PROCESS, CONNECTION_ADMIN) to it.")
}

func (m *mysqlConn) mayEnd(ctx context.Context) error {
	have, err := m.rights(ctx)
	if err != nil {
		return err
	}
	return mayEnd(have)
}

// mysqlDatabaseType are the databases of a server. With a real one behind it, a
// PUT makes the database if it is not there, and a DELETE drops it if that PUT
// made it, at the same place: what was there before, or is where the server is
// now, is not the plane's to drop.
func (c *Connector) mysqlDatabaseType() *arm.Type[mysqlDatabaseProperties] {
	return arm.Define(MySQLServerType+"/databases", mysqlVersions, arm.Hooks[mysqlDatabaseProperties]{
		NoState: true, Check: c.checkMySQLDatabase, Deleting: c.deletingMySQLDatabase,
		After: func(ctx context.Context, r, old *arm.Resource[mysqlDatabaseProperties]) {
			if old == nil {
				c.administerNew(ctx, r.ID.Parent())
			}
		},
	})
}

// mysqlDatabaseProperties is a database.
type mysqlDatabaseProperties struct {
	databaseProperties
	Made string `json:"hawserMade,omitempty"` // by this resource: where
}

func (c *Connector) checkMySQLDatabase(ctx context.Context, _ *arm.Call, r, old *arm.Resource[mysqlDatabaseProperties]) error {
	p, name := &r.Properties, r.ID.Name()
	if err := MySQL.family().checkDatabase(name); err != nil {
		_, why := wordsOf(err)
		return az.Errorf(az.Invalid, "InvalidDatabaseName", "%s", why)
	}
	p.Charset, p.Collation = orText(p.Charset, "utf8mb4"), orText(p.Collation, "utf8mb4_0900_ai_ci")
	if !isWord(p.Charset) || !isWord(p.Collation) {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "charset and collation must be names such as utf8mb4 and utf8mb4_0900_ai_ci.")
	}
	if p.Made = ""; old != nil {
		p.Made = old.Properties.Made
	}
	b, err := c.mysqlBackend(ctx, r.ID.Parent())
	if code, _ := wordsOf(err); code == "ServerHasNoBackend" {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer m.Close()
	there, err := m.hasDatabase(ctx, name)
	if err != nil || there {
		return err
	}
	p.Made = b.addr(MySQL)
	return m.createDatabase(ctx, name, p.Charset, p.Collation)
}

// createDatabase makes a database with the collation that was asked for, or the
// one nearest to it that the server has: MariaDB before 11.4 knows none of
// MySQL's utf8mb4_0900.
func (m *mysqlConn) createDatabase(ctx context.Context, name, charset, collation string) error {
	wanted := []string{collation}
	if strings.HasPrefix(collation, "utf8mb4_0900_") {
		wanted = append(wanted, strings.Replace(collation, "0900", "uca1400", 1), "utf8mb4_unicode_520_ci")
	}
	var err error
	for _, collation := range append(wanted, "") {
		statement := fmt.Sprintf("CREATE DATABASE %s CHARACTER SET %s", mysqlIdent(name), charset)
		if collation != "" {
			statement += " COLLATE " + collation
		}
		_, err = m.ExecContext(ctx, statement)
		if n := mysqlNumber(err); n != 1273 { // unknown collation
			break
		}
	}
	switch mysqlNumber(err) {
	case 1115, 1253: // unknown character set; not a collation of it
		return az.Errorf(az.Invalid, "InvalidParameterValue", "The server has no character set %s, or no collation %s of it.", charset, collation).Because(err)
	}
	if err != nil {
		return mysqlFault("create the database", err)
	}
	return nil
}

// isWord reports whether a name needs no quotes.
func isWord(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// deletingMySQLDatabase drops a database that its resource made. One that goes
// with its server stays: forgetting a server drops no data.
func (c *Connector) deletingMySQLDatabase(ctx context.Context, call *arm.Call, r *arm.Resource[mysqlDatabaseProperties]) error {
	if r.Properties.Made == "" || !call.Direct() {
		return nil
	}
	b, err := c.mysqlBackend(ctx, r.ID.Parent())
	if err != nil || r.Properties.Made != b.addr(MySQL) {
		return err
	}
	m, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer m.Close()
	return m.run(ctx, "drop the database", "DROP DATABASE IF EXISTS "+mysqlIdent(r.ID.Name()))
}

// administerNew gives the administrators of a server their rights in databases
// that are new. What fails now, the sweep does.
func (c *Connector) administerNew(ctx context.Context, server az.ID) {
	if err := c.administerAgain(ctx, server); err != nil {
		c.cfg.Log.Warn("connector: an administrator's role has no rights yet in a new database; it will be tried again", "server", server.Name(), "error", err)
	}
}

func (c *Connector) administerAgain(ctx context.Context, server az.ID) error {
	all, err := c.principalRows(ctx, server)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		if p.Properties.IsAdmin && p.Properties.Status == roleReady {
			errs = append(errs, c.Repair(ctx, server, p.Properties.RoleName))
		}
	}
	return errors.Join(errs...)
}
