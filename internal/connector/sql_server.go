package connector

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// placeSQL finds out where the real server is, and takes its URL apart.
func (c *Connector) placeSQL(ctx context.Context, call *arm.Call, r, old *arm.Resource[sqlServerProperties]) (err error) {
	p, said := &r.Properties, placement{given: r.Properties.Hawser, tags: r.Tags, fresh: old == nil}
	if old != nil {
		said.was, said.oldTags = old.Properties.Hawser, old.Tags
	}
	if p.Hawser, err = c.placeOf(ctx, call, SQLServer.family(), said); err != nil || p.Hawser == nil {
		return err
	}
	if p.Hawser.URL != "" {
		login, password, err := p.Hawser.takeURL(SQLServer.family())
		if err != nil {
			return err
		}
		p.Login, p.Password = orText(login, p.Login), orText(password, p.Password)
	}
	if p.Hawser.Encrypt == encryptStrict && p.Hawser.SSLMode == "" {
		p.Hawser.SSLMode = sslVerifyFull
	}
	p.Hawser.complete(SQLServer.family())
	return nil
}

// checkSQLAdopted is checkSQLServer for a real server.
func (c *Connector) checkSQLAdopted(ctx context.Context, r, old *arm.Resource[sqlServerProperties]) error {
	p := &r.Properties
	again := p.Password != ""
	if p.Login == "" {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "A real server needs administratorLogin with administratorLoginPassword: a SQL login that may make others.")
	}
	if err := takePassword(r, &p.Password, p.Login, 1); err != nil {
		return err
	}
	b := sqlBackendOf(r)
	if err := b.check(); err != nil {
		return err
	}
	if old != nil && old.Properties.Hawser != nil {
		if was := sqlBackendOf(old); b.same(was) {
			p.Hawser.Version = was.Version
			return nil // a change of something else must work while the server is away
		}
	}
	if old != nil && !again {
		return az.Errorf(az.Invalid, "PasswordNeeded", "Give administratorLoginPassword again to change where the server is or how it is reached: a password that is kept here is not sent to another server.")
	}
	if err := b.adopt(ctx); err != nil {
		return err
	}
	p.Hawser.Version, p.Hawser.SSLMode = b.Version, b.SSLMode
	return nil
}

func sqlBackendOf(r *arm.Resource[sqlServerProperties]) *sqlBackend {
	return &sqlBackend{realServer: *r.Properties.Hawser, Owner: r.Properties.Login, Password: r.Secrets[passwordSecret]}
}

func (b *sqlBackend) check() error {
	if strings.HasPrefix(b.Host, "/") {
		return az.Errorf(az.Invalid, "InvalidServer", "properties.hawser.host must be the name or address of one server: SQL Server has no Unix socket.")
	}
	switch {
	case b.Encrypt != "" && b.Encrypt != encryptStrict:
		return az.Errorf(az.Invalid, "InvalidServer", "properties.hawser.encrypt must be strict or be left out; sslMode says the rest.")
	case b.Encrypt == encryptStrict && (b.SSLMode == sslDisable || b.SSLMode == sslPrefer):
		return az.Errorf(az.Invalid, "InvalidServer", "encrypt=strict is TLS before anything else: its sslMode must be verify-full, verify-ca or require.")
	}
	if err := b.realServer.check(); err != nil {
		return err
	}
	return SQLServer.family().checkName("database", b.Database, SQLServer.family().maxDatabase)
}

// same reports whether two lead to the same server as the same owner.
func (b *sqlBackend) same(o *sqlBackend) bool {
	mine, theirs := b.realServer, o.realServer
	mine.Version, theirs.Version = "", ""
	return mine == theirs && b.Owner == o.Owner && subtle.ConstantTimeCompare([]byte(b.Password.Reveal()), []byte(o.Password.Reveal())) == 1
}

// sqlBackend reads a server with its owner's credential.
func (c *Connector) sqlBackend(ctx context.Context, id az.ID) (*sqlBackend, error) {
	r, err := c.sqlServers.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The SQL server '%s' was not found. Attach it, or check its name and resource group.", id.Name())
	}
	if r.Properties.Hawser == nil {
		return nil, c.noBackend(SQLServer.family(), r.ID.Name())
	}
	return sqlBackendOf(r), nil
}

// adopt logs the owner in and finds out whether it can do what is needed. A SQL
// login always has a password, so there is nothing to prove.
func (b *sqlBackend) adopt(ctx context.Context) error {
	m, err := b.pin(ctx)
	if err != nil {
		return asInvalid(err)
	}
	defer m.Close()
	if !m.azure && m.major < minSQLServer {
		return az.Errorf(az.Invalid, "ServerTooOld", "The server's SQL Server is older than 2017 (version %d), which is the oldest served here.", minSQLServer)
	}
	b.Version = fmt.Sprintf("SQL Server %d", m.major)
	if m.azure {
		b.Version = "Azure SQL"
		return nil // its rights are those of the server's administrator, which no query tells
	}
	rows, err := m.table(ctx, "look at the administrator login", sqlMay)
	if err != nil {
		return asInvalid(err)
	}
	for i, right := range []string{"ALTER ANY LOGIN", "ALTER ANY CONNECTION", "VIEW SERVER STATE"} {
		if len(rows) != 1 || rows[0][i] != "1" {
			return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "The administrator login %q lacks a right that the plane needs: as a system administrator, run GRANT %s TO %s, or give another login. It must own the databases, too, that connections are for.", b.Owner, right, sqlIdent(b.Owner))
		}
	}
	return nil
}

// makeSQLDatabase makes a database on a real server, if there is one and it is
// not there; made says where.
func (c *Connector) makeSQLDatabase(ctx context.Context, r *arm.Resource[sqlDatabaseProperties]) (made string, err error) {
	b, err := c.sqlBackend(ctx, r.ID.Parent())
	if code, _ := wordsOf(err); code == "ServerHasNoBackend" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name := r.ID.Name()
	if strings.EqualFold(name, sqlMaster) {
		return "", nil
	}
	if err := SQLServer.family().checkDatabase(name); err != nil {
		return "", err
	}
	m, err := b.master(ctx)
	if err != nil {
		return "", err
	}
	defer m.Close()
	rows, err := m.table(ctx, "look for the database", sqlFindDatabase, name)
	if err != nil || len(rows) > 0 {
		return "", err
	}
	if !isWord(r.Properties.Collation) {
		return "", az.Errorf(az.Invalid, "InvalidParameterValue", "collation must be a name such as %s.", sqlCollation)
	}
	err = m.run(ctx, "create the database", fmt.Sprintf("CREATE DATABASE %s COLLATE %s", sqlIdent(name), r.Properties.Collation))
	switch sqlNumber(err) {
	case 1801: // somebody else did
		return "", nil
	case 448:
		return "", az.Errorf(az.Invalid, "InvalidParameterValue", "The server has no collation %s.", r.Properties.Collation).Because(err)
	}
	if err != nil {
		return "", err
	}
	return b.addr(SQLServer), nil
}

// deletingSQLDatabase drops a database that its resource made. One that goes
// with its server stays: forgetting a server drops no data.
func (c *Connector) deletingSQLDatabase(ctx context.Context, call *arm.Call, r *arm.Resource[sqlDatabaseProperties]) error {
	if r.Properties.Made == "" || !call.Direct() {
		return nil
	}
	b, err := c.sqlBackend(ctx, r.ID.Parent())
	if err != nil || r.Properties.Made != b.addr(SQLServer) { // another server's may be anybody's
		return err
	}
	m, err := b.master(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	rows, err := m.table(ctx, "look for the database", sqlFindDatabase, r.ID.Name())
	if err != nil || len(rows) == 0 {
		return err
	}
	if !m.azure { // where sessions go with their database by themselves
		if err := m.run(ctx, "end the database's sessions", "ALTER DATABASE "+sqlIdent(r.ID.Name())+" SET SINGLE_USER WITH ROLLBACK IMMEDIATE"); err != nil {
			return err
		}
	}
	return m.run(ctx, "drop the database", "DROP DATABASE IF EXISTS "+sqlIdent(r.ID.Name()))
}

// administrateSQL makes the role of a server's administrator, if a real server
// stands behind it.
func (c *Connector) administrateSQL(ctx context.Context, call *arm.Call, by az.ID, a *sqlAdministrator) (administration, error) {
	server, err := c.sqlServers.Load(ctx, by.Parent())
	if err != nil || server == nil || server.Properties.Hawser == nil {
		return administration{}, err
	}
	return c.administrate(ctx, call, by, a.Login, a.SID)
}

// applySQLAdministrator makes the administrator's rights final, and ends those
// of the one before him.
func (c *Connector) applySQLAdministrator(tx *store.Tx, r, old *arm.Resource[sqlAdministratorProperties]) error {
	p := &r.Properties
	if old != nil && !old.Properties.Role.IsRoot() && !old.Properties.Role.Equal(p.Role) {
		if err := c.releaseTx(tx, old.Properties.Role, by(r.ID)); err != nil {
			return err
		}
	}
	return c.applyAdministration(tx, r.ID, &p.administration)
}
