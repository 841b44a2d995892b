package connector

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// mysqlBackend is a real MySQL or MariaDB server and its owner's credential.
type mysqlBackend struct {
	realServer
	Owner    string
	Password az.Secret
}

// mysqlConn is one session of the owner, or of whoever logs in.
type mysqlConn struct {
	*sql.Conn
	pool    *sql.DB
	maria   bool
	version string // as the server says it
	number  [3]int
}

func (m *mysqlConn) Close() {
	_ = m.Conn.Close()
	_ = m.pool.Close()
}

// mysqlSession holds for each session of the plane: a lock that somebody else
// holds must not hold it up, and a backslash in a constant is a backslash.
var mysqlSession = map[string]string{
	"sql_mode": "'NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION'", "lock_wait_timeout": "5", "innodb_lock_wait_timeout": "5", "autocommit": "1",
}

// statementTime bounds the wait for the answer to a statement.
const statementTime = 15 * time.Second

func (b *mysqlBackend) config(user string, password az.Secret, database string) (*mysql.Config, error) {
	t, err := b.tls()
	if err != nil {
		return nil, err
	}
	cfg := mysql.NewConfig()
	if cfg.TLS, err = gateway.BackendTLS(t.Mode, t.Host, t.Roots); err != nil {
		return nil, err
	}
	cfg.User, cfg.Passwd, cfg.DBName = user, password.Reveal(), database
	cfg.Net, cfg.Addr = "tcp", b.addr(MySQL)
	if strings.HasPrefix(cfg.Addr, "/") {
		cfg.Net = "unix"
	}
	cfg.Params = mysqlSession
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = connectTimeout, statementTime, statementTime
	// No password in clear, no fall-back to a connection without TLS, no file of
	// this machine, and nothing on standard error.
	cfg.AllowCleartextPasswords, cfg.AllowOldPasswords, cfg.AllowFallbackToPlaintext, cfg.AllowAllFiles = false, false, false, false
	cfg.Logger = &mysql.NopLogger{}
	return cfg, nil
}

// connect logs the owner in.
func (b *mysqlBackend) connect(ctx context.Context, database string) (*mysqlConn, error) {
	return b.open(ctx, b.Owner, b.Password, database)
}

// open logs somebody in. The error names the server and never the password.
func (b *mysqlBackend) open(ctx context.Context, user string, password az.Secret, database string) (*mysqlConn, error) {
	cfg, err := b.config(user, password, database)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, az.Errorf(az.Invalid, "InvalidServer", "The MySQL server %s cannot be connected to: check its host, port and login.", b.addr(MySQL)).Because(scrub(err, password))
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	m := &mysqlConn{pool: sql.OpenDB(connector)}
	if m.Conn, err = m.pool.Conn(ctx); err == nil {
		err = m.QueryRowContext(ctx, "SELECT VERSION()").Scan(&m.version)
	}
	if err != nil {
		_ = m.pool.Close()
		return nil, b.unreachable(user, database, scrub(err, password))
	}
	m.maria, m.number = mysqlVersion(m.version)
	return m, nil
}

// mysqlVersion reads what VERSION() says, such as 8.0.36 or
// 10.11.6-MariaDB-0+deb12u1.
func mysqlVersion(s string) (maria bool, n [3]int) {
	maria = strings.Contains(strings.ToLower(s), "mariadb")
	plain, _, _ := strings.Cut(strings.TrimPrefix(s, "5.5.5-"), "-") // a MariaDB behind some proxies
	for i, part := range strings.SplitN(plain, ".", 3) {
		n[i], _ = strconv.Atoi(part) // what is no number is old
	}
	return maria, n
}

// since reports whether the server is at least a version.
func (m *mysqlConn) since(major, minor, patch int) bool {
	for i, want := range [3]int{major, minor, patch} {
		if m.number[i] != want {
			return m.number[i] > want
		}
	}
	return true
}

// pin replaces "prefer" by what the server does today.
func (b *mysqlBackend) pin(ctx context.Context) (*mysqlConn, error) {
	if b.SSLMode != sslPrefer {
		return b.connect(ctx, "")
	}
	b.SSLMode = sslRequire
	m, err := b.connect(ctx, "")
	if err == nil || !errors.Is(err, errNoTLS) {
		return m, err
	}
	b.SSLMode = sslDisable
	return b.connect(ctx, "")
}

// errRefused: the server knows no such user with such a password.
var errRefused = errors.New("the server refused the login")

// unreachable words why somebody could not log in. Source of the numbers:
// MySQL's "Server Error Message Reference" and MariaDB's "Error Codes".
func (b *mysqlBackend) unreachable(user, database string, cause error) error {
	addr := b.addr(MySQL)
	say := func(k az.Kind, code, format string, args ...any) *az.Error {
		return az.Errorf(k, code, format, args...).Because(cause)
	}
	var me *mysql.MySQLError
	if errors.As(cause, &me) {
		switch me.Number {
		case 1045, 1698, 3118, 4151: // access denied; the account is locked
			return say(az.Invalid, "ServerLoginFailed", "The MySQL server %s refused the login %q: check its name and password, that it may come from here ('%s'@'%%'), and that no account without a name ('') stands before it.", addr, user, user).
				Because(errors.Join(errRefused, cause))
		case 1130, 1129: // this host is not allowed, or is blocked
			return say(az.Invalid, "ServerLoginFailed", "The MySQL server %s lets nobody in from this machine: let the login %q come from here ('%s'@'%%').", addr, user, user)
		case 1049, 1044:
			return say(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the MySQL server %s, or the login %q may not use it.", database, addr, user)
		case 1040, 1203, 1226:
			return say(az.Unavailable, "ServerBusy", "The MySQL server %s has no connection left; try again.", addr)
		case 3159, 1835: // require_secure_transport
			return say(az.Invalid, "ServerWantsTLS", "The MySQL server %s wants TLS: use sslmode=require, or verify-full with its CA.", addr)
		}
		return say(az.Unavailable, "ServerUnavailable", "The MySQL server %s does not accept logins now (error %d); try again.", addr, me.Number)
	}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.Is(cause, mysql.ErrNoTLS):
		return say(az.Invalid, "ServerWithoutTLS", "The MySQL server %s does not do TLS: turn it on there, or use sslmode=disable if the network is yours.", addr).Because(errors.Join(errNoTLS, cause))
	case errors.Is(cause, mysql.ErrCleartextPassword), errors.Is(cause, mysql.ErrOldPassword), errors.Is(cause, mysql.ErrUnknownPlugin):
		return say(az.Invalid, "ServerWantsPassword", "The MySQL server %s asks for the password of %q in a way that is not served: let that login use caching_sha2_password, mysql_native_password or ed25519.", addr, user)
	case errors.As(cause, &unknown), errors.As(cause, &name):
		return say(az.Invalid, "ServerCertificateNotTrusted", "The certificate of the MySQL server %s was refused: give its CA as caCertificate, or the name it holds as host.", addr)
	case errors.As(cause, &dns):
		return say(az.Unavailable, "ServerUnreachable", "The MySQL server's name %q cannot be resolved.", b.Host)
	}
	return say(az.Unavailable, "ServerUnreachable", "The MySQL server %s cannot be reached: check that it runs and that this machine may connect to it.", addr)
}

// mysqlFault words an error of a statement that the owner ran.
func mysqlFault(what string, err error) error {
	var known *az.Error
	if errors.As(err, &known) {
		return err
	}
	switch n := mysqlNumber(err); n {
	case 0:
		return az.Errorf(az.Unavailable, "ServerUnavailable", "Cannot %s: the connection to the MySQL server was lost. Try again.", what).Because(err)
	case 1044, 1045, 1141, 1142, 1143, 1227, 1370, 1410, 1698, 4231: // not granted
		return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "Cannot %s: the server's administrator login lacks the privilege (error %d).", what, n).Because(err)
	case 1205, 1213, 1317, 1969, 3024: // a lock, a deadlock, a time-out
		return az.Errorf(az.Unavailable, "ServerBusy", "Cannot %s: another session holds a lock for too long. Try again.", what).Because(err)
	case 1290, 1836, 3100: // --read-only, --skip-grant-tables
		return az.Errorf(az.Invalid, "ServerReadOnly", "Cannot %s: the MySQL server runs with an option that forbids it (error %d), such as read_only; attach the one that is written to.", what, n).Because(err)
	case 1819:
		return az.Errorf(az.Invalid, "PasswordPolicy", "Cannot %s: the server's password policy refuses a random password of %d letters.", what, len(newPassword().Reveal())).Because(err)
	default:
		return az.Errorf(az.Unavailable, "ServerRefused", "Cannot %s: the MySQL server answered error %d.", what, n).Because(err)
	}
}

// mysqlNumber is the number of a server's error; 0 for any other.
func mysqlNumber(err error) uint16 {
	var me *mysql.MySQLError
	if errors.As(err, &me) {
		return me.Number
	}
	return 0
}

// run executes statements in order.
func (m *mysqlConn) run(ctx context.Context, what string, statements ...string) error {
	for _, s := range statements {
		if _, err := m.ExecContext(ctx, s); err != nil {
			return mysqlFault(what, err)
		}
	}
	return nil
}

// strings reads one column.
func (m *mysqlConn) strings(ctx context.Context, what, query string, args ...any) ([]string, error) {
	rows, err := m.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, mysqlFault(what, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, mysqlFault(what, err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		return nil, mysqlFault(what, err)
	}
	return out, nil
}

// mysqlIdent quotes an identifier; every name in a statement goes through it or
// through mysqlText.
func mysqlIdent(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// mysqlText quotes a constant, under NO_BACKSLASH_ESCAPES.
func mysqlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// mysqlDatabase names a database in GRANT and REVOKE, where _ and % would stand
// for any letters: a_b is not to open axb.
func mysqlDatabase(name string) string {
	return mysqlIdent(mysqlPattern(name)) + ".*"
}

func mysqlPattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(name)
}

// mysqlAccount names a user from any host: the gateway may be anywhere.
func mysqlAccount(name string) string { return mysqlText(name) + "@'%'" }

// has refuses a database that is not there, or is the server's own.
func (b *mysqlBackend) has(ctx context.Context, database string) error {
	m, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer m.Close()
	there, err := m.hasDatabase(ctx, database)
	if err == nil && !there {
		err = az.Errorf(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the MySQL server %s.", database, b.addr(MySQL))
	}
	return err
}

func (m *mysqlConn) hasDatabase(ctx context.Context, name string) (bool, error) {
	if MySQL.family().checkDatabase(name) != nil {
		return false, nil
	}
	var n int
	err := m.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.schemata WHERE BINARY schema_name = BINARY ?", name).Scan(&n)
	if err != nil {
		return false, mysqlFault("look for the database", err)
	}
	return n > 0, nil
}

// databases lists those that are not the server's own.
func (m *mysqlConn) databases(ctx context.Context) ([]string, error) {
	all, err := m.strings(ctx, "list the databases", "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name")
	if err != nil {
		return nil, err
	}
	out := all[:0]
	for _, name := range all {
		if MySQL.family().checkDatabase(name) == nil {
			out = append(out, name)
		}
	}
	return out, nil
}

func (b *mysqlBackend) where() (host string, port int, hidden bool) { return b.Host, b.Port, false }

// sessionsOf lists the sessions of a user.
func (m *mysqlConn) sessionsOf(ctx context.Context, user string) ([]string, error) {
	return m.strings(ctx, "look for the role's sessions", "SELECT id FROM information_schema.processlist WHERE BINARY user = BINARY ?", user)
}

// kill ends a session; it is no error if it has ended.
func (m *mysqlConn) kill(ctx context.Context, id string) error {
	if _, err := m.ExecContext(ctx, "KILL CONNECTION "+id); err != nil && mysqlNumber(err) != 1094 {
		return mysqlFault("end the role's sessions", err)
	}
	return nil
}

func (b *mysqlBackend) terminate(ctx context.Context, role string, session uint64) error {
	m, err := b.connect(ctx, "")
	if err != nil {
		return err
	}
	defer m.Close()
	id := fmt.Sprint(session)
	all, err := m.strings(ctx, "look for the session", "SELECT id FROM information_schema.processlist WHERE id = ? AND BINARY user = BINARY ?", session, role)
	if err != nil || len(all) == 0 {
		return err
	}
	return m.kill(ctx, id)
}
