package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// redisBackend is a real Redis server and the credential of the user by which
// the plane makes others.
type redisBackend struct {
	Host     string // a name, an address, or the path of a Unix socket
	Port     int
	SSLMode  string
	RootCert string // PEM; empty: the system's
	User     string
	Password az.Secret
	Unproved bool // it may let the owner in by any password
}

// defaultRedisUser is the user of a client that names none. Source: Redis, ACL.
const defaultRedisUser = "default"

// redisTime bounds one command of the owner's: all of them are answered from
// memory.
const redisTime = 8 * time.Second

// handshakeTime bounds a TLS handshake: a Redis that does none waits for the end
// of a line that never comes.
const handshakeTime = 3 * time.Second

// minRedis is the first version that tells subcommands apart in its rules, has
// key patterns for reading and writing, and selectors. Source: Redis 7.0
// release notes.
const minRedis = 7

// maxRedisNodes bounds a cluster. Source: Redis cluster specification, 1000
// nodes.
const maxRedisNodes = 1000

func (b *redisBackend) addr() string {
	if strings.HasPrefix(b.Host, "/") {
		return b.Host
	}
	return net.JoinHostPort(b.Host, strconv.Itoa(b.Port))
}

// tls says how the server is spoken to, in the gateway's words.
func (b *redisBackend) tls() (TLS, error) {
	return (&backend{Host: b.Host, SSLMode: b.SSLMode, RootCert: b.RootCert}).tls()
}

func (b *redisBackend) check() error {
	bad := func(format string, args ...any) error { return az.Errorf(az.Invalid, "InvalidServer", format, args...) }
	switch {
	case b.Host == "" || len(b.Host) > 255 || strings.ContainsAny(b.Host, " \t\r\n\x00,@"):
		return bad("properties.hawser.host must be the name or address of one server, or the path of its Unix socket.")
	case b.Port < 1 || b.Port > 65535:
		return bad("properties.hawser.port must be from 1 to 65535.")
	case b.User == "" || len(b.User) > 128 || strings.ContainsAny(b.User, " \t\r\n\x00"):
		return bad("The administrator login must be the name of a Redis user.")
	case strings.ContainsAny(b.Password.Reveal(), "\r\n\x00"):
		return bad("administratorLoginPassword must have no line breaks: what listens at properties.hawser.host may be no Redis, and read them as its own commands.")
	case strings.HasPrefix(b.User, redisUserPrefix):
		return bad("The administrator login must not be a user that the plane made: its name begins with %s.", redisUserPrefix)
	case len(b.RootCert) > maxRootCert:
		return bad("caCertificate may have %d bytes.", maxRootCert)
	case !slices.Contains([]string{sslDisable, sslPrefer, sslRequire, sslVerifyCA, sslVerifyFull}, b.SSLMode):
		return bad("properties.hawser.sslMode must be disable, prefer, require, verify-ca or verify-full.")
	}
	_, err := b.tls()
	return err
}

// connect logs the owner or another who may PING in. The caller closes it.
func (b *redisBackend) connect(ctx context.Context, addr, host, user string, password az.Secret) (*redis.Client, error) {
	c, err := b.login(ctx, addr, host, user, password)
	if err != nil {
		return nil, err
	}
	if err := c.Ping(ctx).Err(); err != nil {
		_ = c.Close()
		return nil, b.unreachable(addr, user, password, err)
	}
	return c, nil
}

// login opens a connection as a user; addr and host are the server's own, or
// those of another node of its cluster. The caller closes it.
func (b *redisBackend) login(ctx context.Context, addr, host, user string, password az.Secret) (*redis.Client, error) {
	t, err := b.tls()
	if err != nil {
		return nil, err
	}
	conf, err := gateway.BackendTLS(t.Mode, host, t.Roots)
	if err != nil {
		return nil, err
	}
	conn, err := dialRedis(ctx, addr, conf)
	if err != nil {
		return nil, b.unreachable(addr, user, password, err)
	}
	var taken atomic.Bool
	c := redis.NewClient(&redis.Options{Addr: addr, Username: user, Password: password.Reveal(), Protocol: 2, PoolSize: 1, MaxRetries: -1, DialerRetries: 1,
		ReadTimeout: redisTime, WriteTimeout: redisTime, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			if taken.Swap(true) {
				return nil, net.ErrClosed // a lost connection is an error, not a reason for another
			}
			return conn, nil
		}})
	if err := c.Ping(ctx).Err(); err != nil {
		_, _ = c.Close(), conn.Close()
		return nil, b.unreachable(addr, user, password, err)
	}
	return c, nil
}

// dialRedis opens the connection under a client.
func dialRedis(ctx context.Context, addr string, conf *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := gateway.Dial(ctx, addr)
	if err != nil || conf == nil {
		return conn, err
	}
	ctx, cancel = context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, redisTLSError{err}
	}
	return secure, nil
}

// redisTLSError tells a failed handshake from other lost connections.
type redisTLSError struct{ error }

func (e redisTLSError) Unwrap() error { return e.error }

// owner opens a connection as the owner.
func (b *redisBackend) owner(ctx context.Context) (*redis.Client, error) {
	return b.ownerAt(ctx, b.addr(), b.Host)
}

// ownerAt is owner for any node. Each time the server must have asked for the
// password: its name, or what it says of its cluster, may lead to one that asks
// nobody, which whoever attached this one could not have reached.
func (b *redisBackend) ownerAt(ctx context.Context, addr, host string) (*redis.Client, error) {
	c, err := b.connect(ctx, addr, host, b.User, b.Password)
	if err != nil || b.Unproved {
		return c, err
	}
	open, err := redisOpenTo(ctx, c, b.User)
	if err == nil && open {
		err = trustsThePlane(addr)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func trustsThePlane(addr string) error {
	return az.Errorf(az.Invalid, "ServerTrustsThePlane", "The Redis server %s takes any password: set requirepass there, or let somebody attach it who may hand out rights on the whole plane.", addr).Because(errNoProof)
}

// redisOpenTo reports whether a server takes any password of a user.
func redisOpenTo(ctx context.Context, c *redis.Client, user string) (bool, error) {
	v, err := c.Do(ctx, "ACL", "GETUSER", user).Slice()
	if err != nil {
		return false, redisFault("look at the administrator login", err)
	}
	for i := 0; i+1 < len(v); i += 2 {
		if v[i] == "flags" {
			flags, _ := v[i+1].([]any)
			return slices.Contains(flags, any("nopass")), nil
		}
	}
	return true, nil
}

// eachNode runs fn with a connection of the owner's to the server, and to the
// other nodes of its cluster: each keeps its own list of users.
func (b *redisBackend) eachNode(ctx context.Context, fn func(*redis.Client) error) error {
	first, err := b.owner(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = first.Close() }()
	info, err := redisInfo(ctx, first)
	if err != nil {
		return err
	}
	if err := fn(first); err != nil || info["cluster_enabled"] != "1" {
		return err
	}
	nodes, err := b.nodes(ctx, first)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		c, err := b.ownerAt(ctx, n.addr, n.host)
		if err != nil {
			return err
		}
		err = fn(c)
		_ = c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

type redisNode struct{ addr, host string }

// nodes lists the other nodes of a cluster that are not lost for good. A node
// that is away fails the whole: its users would not be what the plane says.
func (b *redisBackend) nodes(ctx context.Context, c *redis.Client) ([]redisNode, error) {
	text, err := c.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, redisFault("read the cluster's nodes", err)
	}
	var out []redisNode
	for line := range strings.Lines(text) {
		n, ok := parseRedisNode(line)
		if !ok {
			continue
		}
		if n.host == "" { // an address: the certificate holds the name by which the cluster is known
			n.host = b.Host
		}
		if out = append(out, n); len(out) > maxRedisNodes {
			return nil, az.Errorf(az.Invalid, "InvalidServer", "The Redis cluster has more than %d nodes.", maxRedisNodes)
		}
	}
	return out, nil
}

// parseRedisNode reads a line of CLUSTER NODES: id ip:port@bus[,host] flags ….
func parseRedisNode(line string) (n redisNode, ok bool) {
	f := strings.Fields(line)
	if len(f) < 3 {
		return n, false
	}
	for flag := range strings.SplitSeq(f[2], ",") {
		switch flag {
		case "myself", "fail", "noaddr", "handshake":
			return n, false
		}
	}
	where, more, _ := strings.Cut(f[1], "@")
	_, names, _ := strings.Cut(more, ",")
	name, _, _ := strings.Cut(names, ",")
	i := strings.LastIndexByte(where, ':')
	if i < 1 {
		return n, false
	}
	ip, port := where[:i], where[i+1:]
	n.host = name
	if name == "" {
		name = ip
	}
	n.addr = net.JoinHostPort(name, port)
	return n, true
}

// redisInfo reads what the server says of itself.
func redisInfo(ctx context.Context, c *redis.Client) (map[string]string, error) {
	text, err := c.Do(ctx, "INFO", "everything").Text()
	if err != nil {
		return nil, redisFault("look at the server", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[k] = v
		}
	}
	return out, nil
}

// pin replaces "prefer" by what the server does today, so that nobody on the
// network can talk the plane out of TLS tomorrow.
func (b *redisBackend) pin(ctx context.Context) (*redis.Client, error) {
	if b.SSLMode != sslPrefer {
		return b.owner(ctx)
	}
	b.SSLMode = sslRequire
	if strings.HasPrefix(b.Host, "/") || b.speaksPlainly(ctx) {
		b.SSLMode = sslDisable
	}
	return b.owner(ctx)
}

// speaksPlainly reports whether the server answers without TLS. A port of
// Redis's does one or the other.
func (b *redisBackend) speaksPlainly(ctx context.Context) bool {
	conn, err := dialRedis(ctx, b.addr(), nil)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(handshakeTime))
	var first [1]byte
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return false
	}
	return first[0] == '+' || first[0] == '-'
}

// adopt logs the owner in and finds out whether it can do what is needed: make
// a user, give it rules, end its sessions and drop it. version is major.minor.
func (b *redisBackend) adopt(ctx context.Context) (version string, err error) {
	c, err := b.pin(ctx)
	if err != nil {
		var e *az.Error
		if errors.As(err, &e) {
			copied := *e
			copied.Kind = az.Invalid
			return "", &copied
		}
		return "", err
	}
	defer func() { _ = c.Close() }()
	info, err := redisInfo(ctx, c)
	if err != nil {
		return "", err
	}
	major, rest, _ := strings.Cut(info["redis_version"], ".")
	minor, _, _ := strings.Cut(rest, ".")
	if n, err := strconv.Atoi(major); err != nil || n < minRedis {
		return "", az.Errorf(az.Invalid, "ServerTooOld", "The server's Redis is older than version %d.0, which is the oldest served here: rules for subcommands begin with it.", minRedis)
	}
	if info["role"] == "slave" {
		return "", az.Errorf(az.Invalid, "ServerIsReplica", "The Redis server %s is a replica: attach the primary.", b.addr())
	}
	if !b.Unproved {
		if err := b.asksForPassword(ctx); err != nil {
			return "", err
		}
	}
	return major + "." + minor, b.tryRules(ctx, c, []string{"-@all"})
}

// asksForPassword refuses a server that lets anybody in.
func (b *redisBackend) asksForPassword(ctx context.Context) error {
	c, err := b.connect(ctx, b.addr(), b.Host, b.User, newPassword())
	if err != nil {
		var e *az.Error
		if errors.As(err, &e) && e.Code == "ServerLoginFailed" {
			return nil
		}
		return err
	}
	_ = c.Close()
	return trustsThePlane(b.addr())
}

// tryRules has the server read rules: a user of no use gets them and is
// dropped.
func (b *redisBackend) tryRules(ctx context.Context, c *redis.Client, rules []string) error {
	name := redisUserPrefix + "probe-" + az.NewGUID()
	err := c.ACLSetUser(ctx, name, append([]string{"reset", "off"}, rules...)...).Err()
	if err != nil {
		return redisFault("make a user", err)
	}
	defer func() { _ = c.ACLDelUser(context.WithoutCancel(ctx), name).Err() }()
	if err := c.Do(ctx, "CLIENT", "KILL", "USER", name).Err(); err != nil && !isRedisMissing(err) {
		return redisFault("end a user's sessions", err)
	}
	if err := c.ACLDelUser(ctx, name).Err(); err != nil {
		return redisFault("drop a user", err)
	}
	return nil
}

// isRedisMissing reports an answer that says that there is no such user or
// session.
func isRedisMissing(err error) bool {
	s := strings.ToLower(err.Error())
	return strings.Contains(s, "no such user") || strings.Contains(s, "no such client")
}

// unreachable words why a user could not log in.
func (b *redisBackend) unreachable(addr, user string, password az.Secret, err error) error {
	cause := scrub(err, password)
	say := func(k az.Kind, code, format string, args ...any) *az.Error {
		return az.Errorf(k, code, format, args...).Because(cause)
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var failed redisTLSError
	var dns *net.DNSError
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "WRONGPASS"), strings.HasPrefix(text, "NOAUTH"), strings.Contains(text, "AUTH <password> called without any password"):
		return say(az.Invalid, "ServerLoginFailed", "The Redis server %s refused the user %q: check its name and password.", addr, user)
	case strings.HasPrefix(text, "NOPERM"):
		return say(az.Invalid, "OwnerLacksPrivilege", "The Redis user %q may not do what is needed on the server %s: it needs +acl, +client, +info, +ping and +cluster.", user, addr)
	case strings.HasPrefix(text, "DENIED"):
		return say(az.Invalid, "ServerIsProtected", "The Redis server %s is in protected mode: give it a password (requirepass) so that it takes connections from elsewhere.", addr)
	case errors.As(err, &unknown), errors.As(err, &name):
		return say(az.Invalid, "ServerCertificateNotTrusted", "The certificate of the Redis server %s was refused: give its CA as caCertificate, or the name it holds as host.", addr)
	case errors.As(err, &record), errors.As(err, &failed):
		cause = errors.Join(errNoTLS, cause)
		return say(az.Invalid, "ServerWithoutTLS", "The Redis server %s does not do TLS on this port: turn it on there (tls-port), or use redis:// and sslMode=disable if the network is yours.", addr)
	case errors.As(err, &dns):
		return say(az.Unavailable, "ServerUnreachable", "The Redis server's name %q cannot be resolved.", b.Host)
	}
	return say(az.Unavailable, "ServerUnreachable", "The Redis server %s cannot be reached: check that it runs and that this machine may connect to it.", addr)
}

// redisFault words an error of a command that the owner sent.
func redisFault(what string, err error) error {
	var known *az.Error
	if errors.As(err, &known) {
		return err
	}
	var said redis.Error
	switch {
	case !errors.As(err, &said):
		return az.Errorf(az.Unavailable, "ServerUnavailable", "Cannot %s: the connection to the Redis server was lost. Try again.", what).Because(err)
	case strings.HasPrefix(err.Error(), "NOPERM"):
		return az.Errorf(az.Invalid, "OwnerLacksPrivilege", "Cannot %s: the server's administrator login lacks the right; it needs +acl, +client, +info, +ping and +cluster.", what).Because(err)
	case strings.Contains(err.Error(), "ACL SETUSER modifier"):
		return az.Errorf(az.Invalid, "InvalidPermissions", "Cannot %s: the server does not know a term of the policy's permissions; its version may be older than the command.", what).Because(err)
	}
	return az.Errorf(az.Unavailable, "ServerRefused", "Cannot %s: the Redis server refused it.", what).Because(err)
}
