package connector

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"net"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// sqlBackend is a real SQL Server, or a server of Azure SQL, and its owner's
// credential.
type sqlBackend struct {
	realServer
	Owner    string
	Password az.Secret
}

// sqlConn is one session of the owner, or of whoever logs in, in one database.
type sqlConn struct {
	*sql.Conn
	pool *sql.DB
	// azure: it is Azure SQL Database, where a session stays in its database, and
	// a login has neither options nor rights of its own.
	azure bool
	major int // version
}

func (m *sqlConn) Close() {
	_ = m.Conn.Close()
	_ = m.pool.Close()
}

const (
	// sqlMaster is where logins are.
	sqlMaster = "master"
	// azureEdition is Azure SQL Database. Source: SERVERPROPERTY, EngineEdition.
	azureEdition = 5
	// minSQLServer is SQL Server 2017, the oldest that Microsoft still mends.
	minSQLServer = 14
	// encryptStrict is TDS 8: TLS before anything else.
	encryptStrict = "strict"
)

// config takes nothing from the plane's environment: the server's resource
// says all.
func (b *sqlBackend) config(user string, password az.Secret, database string) (msdsn.Config, error) {
	cfg, err := msdsn.Parse("sqlserver://127.0.0.1?encrypt=disable")
	if err != nil {
		return cfg, err
	}
	t, err := b.tls()
	if err != nil {
		return cfg, err
	}
	conf, err := gateway.BackendTLS(t.Mode, t.Host, t.Roots)
	if err != nil {
		return cfg, err
	}
	switch {
	case conf == nil:
		cfg.Encryption = msdsn.EncryptionDisabled
	case t.Strict:
		cfg.Encryption, cfg.TLSConfig = msdsn.EncryptionStrict, conf
	default:
		cfg.Encryption, cfg.TLSConfig = msdsn.EncryptionRequired, conf
	}
	if conf != nil { // SQL Server wants one TLS record for each of its packets
		conf.DynamicRecordSizingDisabled = true
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = b.Host, uint64(b.Port), user, password.Reveal(), database
	cfg.AppName, cfg.Workstation, cfg.DisableRetry, cfg.HostInCertificateProvided = "hawser", "hawser", true, true
	cfg.DialTimeout, cfg.LogFlags, cfg.FailOverPartner, cfg.NoTraceID = connectTimeout, 0, "", false
	return cfg, nil
}

// connect logs the owner in to a database.
func (b *sqlBackend) connect(ctx context.Context, database string) (*sqlConn, error) {
	return b.open(ctx, b.Owner, b.Password, database)
}

// open logs somebody in. The error names the server and never the password.
func (b *sqlBackend) open(ctx context.Context, user string, password az.Secret, database string) (*sqlConn, error) {
	cfg, err := b.config(user, password, database)
	if err != nil {
		return nil, err
	}
	connector := mssql.NewConnectorConfig(cfg)
	connector.SessionInitSQL = "SET LOCK_TIMEOUT 5000" // a lock somebody else holds must not hold up the plane
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	m := &sqlConn{pool: sql.OpenDB(connector)}
	var edition int
	if m.Conn, err = m.pool.Conn(ctx); err == nil {
		err = m.QueryRowContext(ctx, sqlAbout).Scan(&edition, &m.major)
	}
	if err != nil {
		_ = m.pool.Close()
		return nil, b.unreachable(user, database, scrub(err, password))
	}
	m.azure = edition == azureEdition
	return m, nil
}

// pin replaces "prefer" by what the server does today.
func (b *sqlBackend) pin(ctx context.Context) (*sqlConn, error) {
	if b.SSLMode != sslPrefer {
		return b.connect(ctx, b.Database)
	}
	b.SSLMode = sslRequire
	m, err := b.connect(ctx, b.Database)
	if err == nil || !errors.Is(err, errNoTLS) {
		return m, err
	}
	b.SSLMode = sslDisable
	return b.connect(ctx, b.Database)
}

// sqlNumber is the number of a server's error; 0 for any other. Of several the
// last is told, which at a refused login says less than the one before.
func sqlNumber(err error) int32 {
	var e mssql.Error
	if !errors.As(err, &e) {
		return 0
	}
	for _, one := range e.All {
		if one.Number == 4060 {
			return one.Number
		}
	}
	return e.Number
}

// unreachable words why somebody could not log in. Source of the numbers:
// "Database Engine errors" and "Connection errors for Azure SQL".
func (b *sqlBackend) unreachable(user, database string, cause error) error {
	addr := b.addr(SQLServer)
	say := func(k az.Kind, code, format string, args ...any) *az.Error {
		return az.Errorf(k, code, format, args...).Because(cause)
	}
	switch n := sqlNumber(cause); n {
	case 0:
	case 18456, 18452:
		return say(az.Invalid, "ServerLoginFailed", "The SQL server %s refused the login %q: check its name and password, and that the server takes SQL logins (mixed mode).", addr, user).
			Because(errors.Join(errRefused, cause))
	case 18486, 18470:
		return say(az.Invalid, "ServerLoginFailed", "The login %q is locked or disabled on the SQL server %s.", user, addr).Because(errors.Join(errRefused, cause))
	case 18487, 18488:
		return say(az.Invalid, "ServerPasswordExpired", "The password of the login %q on the SQL server %s has ended: change it there (ALTER LOGIN … WITH CHECK_EXPIRATION = OFF keeps that from coming again).", user, addr)
	case 4060, 916, 911:
		return say(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the SQL server %s, or the login %q may not open it.", database, addr, user)
	case 40615, 40914:
		return say(az.Invalid, "ServerFirewall", "The firewall of the SQL server %s does not let this machine in.", addr)
	case 40532:
		return say(az.Invalid, "ServerLoginFailed", "The SQL server %s does not know itself by this name: give its whole host name.", addr)
	default:
		return say(az.Unavailable, "ServerUnavailable", "The SQL server %s does not accept logins now (error %d); try again.", addr, n)
	}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	text := cause.Error()
	switch {
	case strings.Contains(text, "server does not support encryption"):
		return say(az.Invalid, "ServerWithoutTLS", "The SQL server %s does not do TLS: turn it on there, or use sslmode=disable if the network is yours.", addr).Because(errors.Join(errNoTLS, cause))
	case errors.As(cause, &unknown), errors.As(cause, &name), strings.Contains(text, "x509: "), strings.Contains(text, "certificate"):
		return say(az.Invalid, "ServerCertificateNotTrusted", "The certificate of the SQL server %s was refused: give its CA as caCertificate, or the name it holds as host.", addr)
	case errors.As(cause, &dns), strings.Contains(text, "no such host"):
		return say(az.Unavailable, "ServerUnreachable", "The SQL server's name %q cannot be resolved.", b.Host)
	}
	return say(az.Unavailable, "ServerUnreachable", "The SQL server %s cannot be reached: check that it runs, that TCP is turned on there and that this machine may connect to it.", addr)
}

// sqlServerFault words an error of a statement that the owner ran.
func sqlServerFault(what string, err error) error {
	var known *az.Error
	if errors.As(err, &known) {
		return err
	}
	switch n := sqlNumber(err); n {
	case 0:
		return az.Errorf(az.Unavailable, "ServerUnavailable", "Cannot %s: the connection to the SQL server was lost. Try again.", what).Because(err)
	case 229, 230, 262, 297, 300, 6102, 15151, 15247, 15007, 4613, 4630, 33094: // permission denied, or cannot be found because of it
		return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "Cannot %s: the server's administrator login lacks the privilege (error %d).", what, n).Because(err)
	case 1205, 1222: // deadlock, lock time-out
		return az.Errorf(az.Unavailable, "ServerBusy", "Cannot %s: another session holds a lock for too long. Try again.", what).Because(err)
	case 15136, 15138, 15155, 15156, 15157, 15183, 15184, 15284, 15421: // it owns, or has granted, what the plane does not know
		return az.Errorf(az.Conflict, "RoleOwnsObjects", "Cannot %s: it owns something in a database that is not given away by itself (error %d): give it to dbo there. It cannot log in meanwhile.", what, n).Because(err)
	case 15141, 15170, 15173, 15174, 15186:
		return az.Errorf(az.Conflict, "RoleOwnsObjects", "Cannot %s: the login owns something of the server's (error %d), such as a job or endpoint: give it away there. It cannot log in meanwhile.", what, n).Because(err)
	case 15116, 15117, 15118, 15119:
		return az.Errorf(az.Invalid, "PasswordPolicy", "Cannot %s: the server's password policy refuses a random password of %d letters.", what, len(newPassword().Reveal())).Because(err)
	case 3906, 978, 1468:
		return az.Errorf(az.Invalid, "ServerReadOnly", "Cannot %s: the database is read-only (error %d); attach the primary.", what, n).Because(err)
	default:
		return az.Errorf(az.Unavailable, "ServerRefused", "Cannot %s: the SQL server answered error %d.", what, n).Because(err)
	}
}

// run executes statements in order, each as a batch of its own.
func (m *sqlConn) run(ctx context.Context, what string, statements ...string) error {
	for _, s := range statements {
		ctx, cancel := context.WithTimeout(ctx, statementTime)
		_, err := m.ExecContext(ctx, s)
		cancel()
		if err != nil {
			return sqlServerFault(what, err)
		}
	}
	return nil
}

// table reads rows of text; NULL is "".
func (m *sqlConn) table(ctx context.Context, what, query string, args ...any) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTime)
	defer cancel()
	rows, err := m.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, sqlServerFault(what, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, sqlServerFault(what, err)
	}
	var out [][]string
	for rows.Next() {
		row := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, sqlServerFault(what, err)
		}
		text := make([]string, len(columns))
		for i := range row {
			text[i] = row[i].String
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		return nil, sqlServerFault(what, err)
	}
	return out, nil
}

// sqlSessionsEnd bounds the wait for a role's sessions: what they did is rolled
// back first.
const sqlSessionsEnd = 5 * time.Second
