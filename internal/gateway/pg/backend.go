package pg

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	resetWait  = 5 * time.Second // for ROLLBACK and DISCARD ALL; a backend that takes longer is closed
	cancelWait = 5 * time.Second // for reaching the server with a cancel request, or to terminate
	// stubbornWait is how long a backend has to end after its session has; the
	// whole must be over within the second of a lost right.
	stubbornWait = 250 * time.Millisecond
	maxAsync     = 64 << 10 // of one message during a reset; they are notices and settings
)

// backend is a logged-in connection to a real server.
type backend struct {
	gateway.Waiting
	conn   net.Conn
	tls    *tls.Config // for cancel requests
	pid    uint32
	secret []byte
	status []byte // ParameterStatus messages, as they stand now
	id     az.ID  // of the server
	user   string // its role

	mu       sync.Mutex // held while a cancel request is on its way
	released bool       // no client has it: nothing may be cancelled any more
}

// baseConfig returns a configuration that takes nothing from the environment:
// everything that PG… variables could have put in is overwritten here or for
// each connection.
func baseConfig() (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 user=none password=none dbname=none sslmode=disable target_session_attrs=any " +
		"passfile=/nonexistent min_protocol_version=3.0 max_protocol_version=3.0 require_auth='' channel_binding=prefer sslnegotiation=postgres")
	if err != nil {
		return nil, fmt.Errorf("cannot make a configuration for backends: %w", err)
	}
	c.RuntimeParams, c.Fallbacks = map[string]string{}, nil
	c.ValidateConnect, c.AfterConnect, c.OAuthTokenProvider = nil, nil, nil
	c.SSLCertMode, c.ConnectTimeout = "", 0
	c.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	return c, nil
}

// reach returns a warm connection for the grant or logs in to a new one.
func (g *Gateway) reach(ctx context.Context, who az.Principal, grant gateway.Grant, s *startup) (*backend, error) {
	key, server := g.WarmKey(who, grant, s.key()), grant.Server.Key()
	for {
		b, ok := g.pool.Take(key)
		if !ok {
			break
		}
		b.released = false
		if b.alive() {
			return b, nil
		}
		b.Close()
	}
	epoch := g.pool.Epoch(server)
	b, err := g.connect(ctx, grant, s)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == tooManyConnections && g.pool.Drop(server) > 0 {
		b, err = g.connect(ctx, grant, s) // our own idle ones were in the way
	}
	if err != nil {
		return nil, backendRefusal(err)
	}
	b.Waiting = gateway.Waiting{Key: key, Server: server, Epoch: epoch}
	b.id, b.user = grant.Server, grant.User
	return b, nil
}

// connect logs in to the server the grant names.
func (g *Gateway) connect(ctx context.Context, grant gateway.Grant, s *startup) (*backend, error) {
	c := g.base.Copy()
	c.Host, c.Port = "backend", 5432 // only names for DialFunc, which knows the address
	c.User, c.Password, c.Database = grant.User, grant.Password.Reveal(), grant.Database
	c.TLSConfig, c.RuntimeParams = grant.TLS, s.params
	c.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return gateway.Dial(ctx, grant.Addr) }
	c.RequireAuth = "scram-sha-256,md5"
	if grant.Unproved {
		c.RequireAuth += ",none"
	}
	if grant.TLS != nil {
		c.RequireAuth += ",password" // never in clear over a plain connection
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := conn.SyncConn(ctx); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	h, err := conn.Hijack()
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return &backend{conn: h.Conn, tls: h.TLSConfig, pid: h.PID, secret: h.SecretKey, status: encodeStatus(h.ParameterStatuses)}, nil
}

// ownFault are SQLSTATEs of a backend's login that come of what the client
// asked for; their text holds nothing that it did not send.
var ownFault = []string{invalidCatalogName, insufficientPrivilege, invalidParameter, "42704", featureNotSupported}

// backendRefusal words a failed login to the backend without its insides.
func backendRefusal(err error) error {
	r := &refusal{code: connectionFailure, message: "the database server cannot be reached now: try again", cause: err, reason: "backend"}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch {
		case slices.Contains(ownFault, pe.Code):
			r.code, r.message = pe.Code, pe.Message
		case pe.Code == tooManyConnections:
			r.code, r.message = pe.Code, "sorry, too many clients already"
		case pe.Code == cannotConnectNow:
			r.code, r.message = pe.Code, "the database system is starting up or stopping: try again"
		default:
			r.message = "the database server refused the gateway: its registration needs attention"
		}
	}
	return r
}

// encodeStatus writes parameters as ParameterStatus messages.
func encodeStatus(m map[string]string) []byte {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	var out []byte
	for _, n := range names {
		out, _ = (&pgproto3.ParameterStatus{Name: n, Value: m[n]}).Encode(out)
	}
	return out
}

// setStatus replaces one parameter by the body of a new ParameterStatus.
func (b *backend) setStatus(body []byte) {
	name, rest, ok := cstring(body)
	if !ok {
		return
	}
	value, _, ok := cstring(rest)
	if !ok {
		return
	}
	out := make([]byte, 0, len(b.status)+8)
	for old := b.status; len(old) >= 5; {
		n := 1 + binary.BigEndian.Uint32(old[1:])
		if has, _, _ := cstring(old[5:n]); has != name {
			out = append(out, old[:n]...)
		}
		old = old[n:]
	}
	b.status, _ = (&pgproto3.ParameterStatus{Name: name, Value: value}).Encode(out)
}

// reset brings an idle connection back to what it was after login.
func (b *backend) reset(inTransaction bool) error {
	if err := b.conn.SetDeadline(time.Now().Add(resetWait)); err != nil {
		return err
	}
	var out []byte
	want := 1
	if inTransaction {
		out, _ = (&pgproto3.Query{String: "ROLLBACK"}).Encode(out)
		want++
	}
	out, _ = (&pgproto3.Query{String: "DISCARD ALL"}).Encode(out)
	if _, err := b.conn.Write(out); err != nil {
		return err
	}
	r := bufio.NewReaderSize(b.conn, 1024)
	for want > 0 {
		kind, body, err := readAny(r)
		if err != nil {
			return err
		}
		switch kind {
		case 'E':
			return errors.New("the backend cannot be reset")
		case 'S':
			b.setStatus(body)
		case 'Z':
			if want--; len(body) != 1 || want == 0 && body[0] != 'I' {
				return errors.New("the backend is still in a transaction")
			}
		}
	}
	if r.Buffered() > 0 {
		return errors.New("the backend says more than was asked")
	}
	return b.conn.SetDeadline(time.Time{})
}

func readAny(r *bufio.Reader) (kind byte, body []byte, err error) {
	h, err := r.Peek(1)
	if err != nil {
		return 0, nil, err
	}
	kind = h[0]
	body, err = readMessage(r, kind, maxAsync)
	return kind, body, err
}

// alive reports whether an idle connection is still good; where there is no way
// to look, the server is asked.
func (b *backend) alive() bool {
	silent, known := gateway.Silent(b.conn)
	return silent || !known && b.reset(false) == nil
}

// Close says goodbye and drops the connection.
func (b *backend) Close() {
	_ = b.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = b.conn.Write([]byte{'X', 0, 0, 0, 4})
	_ = gateway.Bottom(b.conn).Close()
}

// end is close for a session that must not go on: it reports whether the
// server's process has ended, for which it waits a moment.
func (b *backend) end() bool {
	defer func() { _ = gateway.Bottom(b.conn).Close() }()
	_ = b.conn.SetDeadline(time.Now().Add(stubbornWait))
	_, _ = b.conn.Write([]byte{'X', 0, 0, 0, 4})
	_, err := io.Copy(io.Discard, gateway.Bottom(b.conn)) // whatever it still says, until its end
	var ne net.Error
	return !errors.As(err, &ne) || !ne.Timeout()
}

// cancel asks the server to stop what the connection does. It does nothing
// once no client has the connection, so that a late one can't hit the next.
func (b *backend) cancel(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	to := gateway.Bottom(b.conn).RemoteAddr() // the very server, whatever its name means by now
	var d net.Dialer
	c, err := d.DialContext(ctx, to.Network(), to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if b.tls != nil { // the key must not be seen on the way
		if c, err = startTLS(ctx, c, b.tls); err != nil {
			return err
		}
	}
	msg := binary.BigEndian.AppendUint32(nil, uint32(12+len(b.secret)))
	msg = binary.BigEndian.AppendUint32(msg, codeCancel)
	msg = binary.BigEndian.AppendUint32(msg, b.pid)
	if _, err := c.Write(append(msg, b.secret...)); err != nil {
		return err
	}
	_, _ = c.Read(make([]byte, 1)) // the server closes when it has sent the signal
	return nil
}

// startTLS asks for TLS on a new connection.
func startTLS(ctx context.Context, c net.Conn, conf *tls.Config) (net.Conn, error) {
	if _, err := c.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeSSL)); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, errors.New("the server refused TLS")
	}
	t := tls.Client(c, conf)
	return t, t.HandshakeContext(ctx)
}
