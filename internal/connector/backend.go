package connector

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// How the plane talks TLS to a server: libpq's sslmode words. Source:
// PostgreSQL documentation, 34.19 (SSL support).
const (
	sslDisable    = "disable"
	sslPrefer     = "prefer"
	sslRequire    = "require"
	sslVerifyCA   = "verify-ca"
	sslVerifyFull = "verify-full"
)

// connectTimeout bounds the connection to a real server: a server on the other
// side of the world answers in two, and a request waits no longer than 30 s.
const connectTimeout = 8 * time.Second

// ownerSettings hold for each session of the owner: a lock somebody else
// holds must not hold up the plane, and names resolve in pg_catalog only.
var ownerSettings = map[string]string{
	"application_name": "hawser", "client_encoding": "UTF8", "search_path": "pg_catalog",
	"lock_timeout": "5000", "statement_timeout": "15000", "idle_in_transaction_session_timeout": "15000",
	"standard_conforming_strings": "on",
}

// backend is a real PostgreSQL server and its owner's credential.
type backend struct {
	Host     string // a name, an address, or the directory of a Unix socket
	Port     int
	SSLMode  string
	RootCert string // PEM; empty: the system's
	Owner    string
	Password az.Secret
	Database string // where the owner logs in when no database is named
	local    bool   // the plane runs it, and nobody reaches it but through the gateway
	proof    bool   // the server must ask for the password
}

func (b *backend) addr() string { return b.place().addr(PostgreSQL) }

func (b *backend) tls() (TLS, error) { return b.place().tls() }

func (b *backend) place() *realServer {
	return &realServer{Host: b.Host, Port: b.Port, SSLMode: b.SSLMode, CACertificate: b.RootCert}
}

// addr is where a server is, in the gateway's words: host:port, or the path of
// a Unix socket.
func (h *realServer) addr(k Kind) string {
	switch {
	case !strings.HasPrefix(h.Host, "/"):
		return net.JoinHostPort(h.Host, strconv.Itoa(h.Port))
	case k == PostgreSQL: // there it is the socket's directory
		return path.Join(h.Host, ".s.PGSQL."+strconv.Itoa(h.Port))
	}
	return h.Host
}

// tls says how a server is spoken to, in the gateway's words.
func (h *realServer) tls() (TLS, error) {
	t := TLS{Mode: h.SSLMode, Host: h.Host, Strict: h.Encrypt == encryptStrict}
	if strings.HasPrefix(h.Host, "/") {
		return TLS{Mode: sslDisable}, nil
	}
	if h.CACertificate != "" {
		t.Roots = x509.NewCertPool()
		if !t.Roots.AppendCertsFromPEM([]byte(h.CACertificate)) {
			return t, az.Errorf(az.Invalid, "InvalidRootCertificate", "caCertificate must hold certificates in PEM form.")
		}
		if t.Mode == sslRequire { // as libpq does with a root certificate
			t.Mode = sslVerifyCA
		}
	}
	return t, nil
}

// config takes nothing from the plane's environment, password files or
// service files: the server's resource says all.
func (b *backend) config(user string, password az.Secret, database string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1 port=1 user=u password=p dbname=d sslmode=disable target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	t, err := b.tls()
	if err != nil {
		return nil, err
	}
	if cfg.TLSConfig, err = gateway.BackendTLS(t.Mode, t.Host, t.Roots); err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = b.Host, uint16(b.Port), user, password.Reveal(), database
	cfg.Fallbacks, cfg.ValidateConnect, cfg.AfterConnect = nil, nil, nil
	cfg.ConnectTimeout, cfg.KerberosSrvName, cfg.KerberosSpn = connectTimeout, "", ""
	cfg.RuntimeParams = map[string]string{}
	// A password in clear goes only to a server that has proved who it is; with
	// SCRAM an impostor learns nothing.
	cfg.RequireAuth = "scram-sha-256,md5"
	if !b.proof {
		cfg.RequireAuth += ",none"
	}
	if t.Mode == sslVerifyCA || t.Mode == sslVerifyFull {
		cfg.RequireAuth += ",password"
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	return cfg, nil
}

// connect logs the owner in. The error names the server and never the
// password.
func (b *backend) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	if database == "" {
		database = b.Database
	}
	cfg, err := b.config(b.Owner, b.Password, database)
	if err != nil {
		return nil, err
	}
	for k, v := range ownerSettings {
		cfg.RuntimeParams[k] = v
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, b.unreachable(database, err)
	}
	return conn, nil
}

// pin replaces "prefer" by what the server does today, so that nobody on the
// network can talk the plane out of TLS tomorrow.
func (b *backend) pin(ctx context.Context) (*pgx.Conn, error) {
	if b.SSLMode != sslPrefer {
		return b.connect(ctx, "")
	}
	b.SSLMode = sslRequire
	conn, err := b.connect(ctx, "")
	if err == nil || !errors.Is(err, errNoTLS) {
		return conn, err
	}
	b.SSLMode = sslDisable
	return b.connect(ctx, "")
}

// errNoProof: the server asks for no password.
var errNoProof = errors.New("the server asks for no password")

var errNoTLS = errors.New("the server does not do TLS")

// unreachable words why the owner could not log in.
func (b *backend) unreachable(database string, err error) error {
	cause := scrub(err, b.Password)
	say := func(k az.Kind, code, format string, args ...any) *az.Error {
		return az.Errorf(k, code, format, args...).Because(cause)
	}
	noTLS := strings.Contains(err.Error(), "server refused TLS connection")
	if noTLS {
		cause = errors.Join(errNoTLS, cause)
	}
	var pe *pgconn.PgError
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &pe) && (pe.Code == "28P01" || pe.Code == "28000"):
		return say(az.Invalid, "ServerLoginFailed", "The PostgreSQL server %s refused the login %q: check its name and password, and pg_hba.conf.", b.addr(), b.Owner)
	case errors.As(err, &pe) && pe.Code == "3D000":
		return say(az.NotFound, "DatabaseNotFound", "The database %q does not exist on the PostgreSQL server %s.", database, b.addr())
	case errors.As(err, &pe) && pe.Code == "53300":
		return say(az.Unavailable, "ServerBusy", "The PostgreSQL server %s has no connection left; try again.", b.addr())
	case errors.As(err, &pe):
		return say(az.Unavailable, "ServerUnavailable", "The PostgreSQL server %s does not accept logins now (SQLSTATE %s); try again.", b.addr(), pe.Code)
	case strings.Contains(err.Error(), "require_auth check failed"):
		if strings.Contains(err.Error(), "did not complete authentication") {
			return say(az.Invalid, "ServerTrustsThePlane", "The PostgreSQL server %s asks for no password: have it ask for one in pg_hba.conf (scram-sha-256), or let somebody attach it who may hand out rights on the whole plane.", b.addr()).Because(errors.Join(errNoProof, cause))
		}
		return say(az.Invalid, "ServerWantsPassword", "The PostgreSQL server %s asks for the password in clear: use scram-sha-256 in its pg_hba.conf, or sslmode=verify-full.", b.addr())
	case errors.As(err, &unknown), errors.As(err, &name):
		return say(az.Invalid, "ServerCertificateNotTrusted", "The certificate of the PostgreSQL server %s was refused: give its CA as caCertificate, or the name it holds as host.", b.addr())
	case noTLS:
		return say(az.Invalid, "ServerWithoutTLS", "The PostgreSQL server %s does not do TLS: turn it on there, or use sslmode=disable if the network is yours.", b.addr())
	case errors.As(err, &dns):
		return say(az.Unavailable, "ServerUnreachable", "The PostgreSQL server's name %q cannot be resolved.", b.Host)
	}
	return say(az.Unavailable, "ServerUnreachable", "The PostgreSQL server %s cannot be reached: check that it runs and that this machine may connect to it.", b.addr())
}

// scrub keeps a password out of a cause, should a driver ever put it there.
func scrub(err error, password az.Secret) error {
	if p := password.Reveal(); p != "" && strings.Contains(err.Error(), p) {
		return errors.New(strings.ReplaceAll(err.Error(), p, az.Redacted))
	}
	return err
}

// sqlFault words an error of a statement that the owner ran.
func sqlFault(what string, err error) error {
	var known *az.Error
	if errors.As(err, &known) {
		return err
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return az.Errorf(az.Unavailable, "ServerUnavailable", "Cannot %s: the connection to the PostgreSQL server was lost. Try again.", what).Because(err)
	}
	switch pe.Code {
	case "42501": // insufficient_privilege
		return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "Cannot %s: the server's administrator login lacks the privilege (%s).", what, pe.Message).Because(err)
	case "55P03", "57014": // lock_not_available, query_canceled
		return az.Errorf(az.Unavailable, "ServerBusy", "Cannot %s: another session holds a lock for too long. Try again.", what).Because(err)
	}
	return az.Errorf(az.Unavailable, "ServerRefused", "Cannot %s: the PostgreSQL server answered SQLSTATE %s.", what, pe.Code).Because(err)
}
