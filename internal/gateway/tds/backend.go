package tds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	resetWait  = 5 * time.Second // for a reset; a backend that takes longer is closed
	cancelWait = 5 * time.Second // for reaching the server to terminate
	// stubbornWait is how long a backend has to acknowledge an attention; the
	// whole must be over within the second of a lost right.
	stubbornWait = 250 * time.Millisecond
	attemptWait  = 250 * time.Millisecond // for an attention to leave
)

// Error numbers of a backend's login.
const (
	numLocked     = 18486
	numExpired    = 18487
	numMustChange = 18488
	numTooMany    = 17809 // the number of user connections
	numNoMemory   = 17803
	numSessions   = 10929
	numElastic    = 10936
	numNotAllowed = 916 // a principal that is no user of the database
	numWrongDB    = 911
	numLanguage   = 4064 // cannot open the user's default database
)

// backend is a logged-in connection to a real server.
type backend struct {
	gateway.Waiting
	conn    net.Conn
	welcome *welcome
	spid    uint16
	mars    bool
	id      az.ID  // of the server
	user    string // its login
}

// reach returns a warm connection for the grant or logs in to a new one.
func (g *Gateway) reach(ctx context.Context, l *login, grant gateway.Grant) (*backend, error) {
	key, server := g.WarmKey(l.who, grant, strconv.FormatBool(l.hello.mars)+l.asks.parameters()), grant.Server.Key()
	for {
		b, ok := g.pool.Take(key)
		if !ok {
			break
		}
		if b.alive() {
			return b, nil
		}
		b.Close()
	}
	epoch := g.pool.Epoch(server)
	b, err := g.connect(ctx, l, grant)
	var se *serverError
	if errors.As(err, &se) && se.has(full...) && g.pool.Drop(server) > 0 {
		b, err = g.connect(ctx, l, grant) // our own idle ones were in the way
	}
	if err != nil {
		return nil, err
	}
	b.Waiting = gateway.Waiting{Key: key, Server: server, Epoch: epoch}
	b.id, b.user = grant.Server, grant.User
	return b, nil
}

// full are errors of a server that has no room.
var full = []int32{numTooMany, numNoMemory, numLimit, numSessions, numElastic}

// place is where a backend is.
type place struct {
	addr string
	tls  *tls.Config
	name string // what LOGIN7 calls it
}

func placeOf(grant gateway.Grant) place {
	p := place{addr: grant.Addr, tls: grant.TLS, name: "localhost"}
	if host, _, err := net.SplitHostPort(grant.Addr); err == nil && !filepath.IsAbs(grant.Addr) {
		p.name = host
	}
	if p.tls != nil && p.tls.ServerName != "" {
		p.name = p.tls.ServerName
	}
	return p
}

// connect logs in to the server the grant names, and to the one that this one
// names at most.
func (g *Gateway) connect(ctx context.Context, l *login, grant gateway.Grant) (*backend, error) {
	if grant.User == "" || !fits(grant.User) || !fits(grant.Password.Reveal()) || !fits(grant.Database) {
		return nil, errors.New("the grant's user, password or database does not fit in a login")
	}
	p := placeOf(grant)
	b, err := connectTo(ctx, p, l, grant)
	if err != nil {
		return nil, err
	}
	r := b.welcome.route
	if r == nil {
		return b, nil
	}
	b.Close()
	if p, err = p.follow(r); err != nil {
		return nil, err
	}
	if b, err = connectTo(ctx, p, l, grant); err != nil {
		return nil, err
	}
	if b.welcome.route != nil {
		b.Close()
		return nil, errors.New("the server that the server named names another one")
	}
	return b, nil
}

// follow is where a routing answer leads. It is followed only where TLS proves
// the other place, and only to a name below the first one's own domain: the
// role's password is shown to whoever is there.
func (p place) follow(r *route) (place, error) {
	if p.tls == nil || p.tls.InsecureSkipVerify {
		return p, errors.New("the server names another one, which is followed only with a verified certificate (verify-full)")
	}
	_, domain, ok := strings.Cut(strings.ToLower(p.name), ".")
	if _, err := netip.ParseAddr(p.name); err == nil {
		ok = false // an address has no domain
	}
	host := strings.ToLower(r.host)
	if i := strings.IndexByte(host, '\\'); i >= 0 {
		host = host[:i]
	}
	if !ok || !strings.Contains(domain, ".") || !strings.HasSuffix(host, "."+domain) {
		return p, fmt.Errorf("the server names another one outside its domain: %s", clean(r.host))
	}
	conf := p.tls.Clone()
	conf.ServerName = host
	return place{addr: net.JoinHostPort(host, strconv.Itoa(r.port)), tls: conf, name: host}, nil
}

// connectTo logs in to one server.
func connectTo(ctx context.Context, p place, l *login, grant gateway.Grant) (*backend, error) {
	raw, err := gateway.Dial(ctx, p.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := logIn(raw, p, l, grant)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return b, nil
}

func logIn(raw net.Conn, p place, l *login, grant gateway.Grant) (*backend, error) {
	strict := p.tls != nil && slices.Contains(p.tls.NextProtos, alpn)
	conn, mars, err := encrypt(raw, p.tls, strict, l.hello.mars)
	if err != nil {
		return nil, err
	}
	if l.hello.mars && !mars {
		return nil, errors.New("the client was promised multiple active result sets, which the server does not have")
	}
	asks := backendLogin{login7: l.asks.forBackend(), user: grant.User, password: grant.Password.Reveal()}
	asks.version, asks.server, asks.database = version74, p.name, grant.Database
	if strict {
		asks.version = version80
	}
	if !fits(asks.server) {
		asks.server = ""
	}
	out := newLane(&backend{conn: conn})
	if _, err := out.Write(appendMessage(nil, typeLogin, 0, 0, firstPacket, asks.encode())); err != nil {
		return nil, err
	}
	answer, spid, err := readMessage(conn, typeReply, maxGreeting)
	if err != nil {
		return nil, err
	}
	w, err := parseWelcome(answer, asks.version, asks.features)
	if err != nil {
		return nil, err
	}
	return &backend{conn: conn, welcome: w, spid: spid, mars: mars}, nil
}

var errStripped = errors.New("the server says that it has no TLS, which its registration asks for: the connection may be tampered with")

// encrypt exchanges PRELOGIN and brings the connection under TLS; conf nil
// leaves it plain.
func encrypt(raw net.Conn, conf *tls.Config, strict, mars bool) (net.Conn, bool, error) {
	if strict {
		conf = conf.Clone()
		conf.NextProtos = []string{alpn}
		t := tls.Client(raw, conf)
		if err := t.Handshake(); err != nil {
			return nil, false, err
		}
		if t.ConnectionState().NegotiatedProtocol != alpn {
			return nil, false, errors.New("the server does not speak TDS 8: it chose no " + alpn + " in TLS")
		}
		// No TLS within this one: what SqlClient and JDBC say here.
		h, err := exchange(t, encryptNotSup, mars)
		return t, h.mars, err
	}
	if conf == nil {
		h, err := exchange(raw, encryptNotSup, mars)
		if err == nil && h.encryption != encryptNotSup && h.encryption != encryptOff {
			err = errors.New("the server wants TLS, which its registration does not have")
		}
		return raw, h.mars, err
	}
	h, err := exchange(raw, encryptOn, mars)
	if err != nil {
		return nil, false, err
	}
	if h.encryption != encryptOn && h.encryption != encryptRequired {
		return nil, false, errStripped
	}
	conf = conf.Clone()
	conf.MaxVersion, conf.NextProtos = tls.VersionTLS12, nil // see New
	conf.DynamicRecordSizingDisabled = true
	w := &wrapped{Conn: raw}
	t := tls.Client(w, conf)
	if err := t.Handshake(); err != nil {
		return nil, false, err
	}
	return t, h.mars, w.finish()
}

// exchange sends our PRELOGIN and reads the server's.
func exchange(c net.Conn, encryption byte, mars bool) (hello, error) {
	ours := encodePrelogin([]option{{optVersion, serverVersion}, {optEncryption, []byte{encryption}}, {optInstance, []byte{0}},
		{optThread, []byte{0, 0, 0, 0}}, {optMARS, []byte{flag(mars)}}})
	if _, err := c.Write(appendMessage(nil, typePrelogin, 0, 0, firstPacket, ours)); err != nil {
		return hello{}, err
	}
	b, _, err := readMessage(c, typeReply, maxPrelogin)
	if err != nil {
		return hello{}, err
	}
	h, err := parsePrelogin(b)
	if h.mars && !mars {
		err = errLying
	}
	return h, err
}

// backendRefusal words a failed login to the backend without its insides.
func (g *Gateway) backendRefusal(l *login, err error) error {
	var e *az.Error
	if errors.As(err, &e) {
		return err
	}
	var se *serverError
	r := unavailable(l.server, l.asks.database, err)
	r.reason = "backend"
	switch {
	case !errors.As(err, &se):
	case se.has(numNoDatabase, numNotAllowed, numWrongDB, numLanguage):
		return noDatabase(l.asks.database, err, "")
	case se.has(full...):
		return refused(numLimit, 1, classResource, err, "Resource ID: 2. The session limit of the database server has been reached. Close some sessions and try again.")
	}
	return r
}

// resetBatch is run with RESETCONNECTION, which takes back what a session
// leaves but for the isolation level.
const resetBatch = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

// reset brings an idle connection back to what it was after login.
func (b *backend) reset() error {
	if err := b.conn.SetDeadline(time.Now().Add(resetWait)); err != nil {
		return err
	}
	batch := appendUTF16(slices.Clone(noTransaction), resetBatch)
	if _, err := b.conn.Write(appendMessage(nil, typeBatch, statusReset, 0, b.welcome.packetSize, batch)); err != nil {
		return err
	}
	answer, _, err := readMessage(b.conn, typeReply, maxGreeting)
	if err != nil {
		return err
	}
	return checkReset(answer)
}

// noTransaction is ALL_HEADERS with a transaction descriptor of none and one
// request: [MS-TDS] 2.2.5.3.
var noTransaction = []byte{22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}

// envReset is the ENVCHANGE that says that a reset was done.
const envReset = 18

// checkReset looks for the reset's acknowledgement, and for errors.
func checkReset(answer []byte) error {
	f := fields{b: answer}
	reset := false
	for {
		switch id := f.u8(); id {
		case tokenDone:
			if f.take(12); f.bad || len(f.b) > 0 || !reset {
				return errors.New("the backend did not reset the connection")
			}
			return nil
		case tokenEnvChange, tokenInfo:
			body := f.take(f.u16())
			reset = reset || id == tokenEnvChange && len(body) > 0 && body[0] == envReset
		default:
			return errors.New("the backend cannot reset the connection")
		}
	}
}

// alive reports whether an idle connection is still what reset left.
func (b *backend) alive() bool {
	silent, known := gateway.Silent(b.conn)
	return silent || !known && b.reset() == nil
}

// Close drops the connection; the protocol has no goodbye.
func (b *backend) Close() { _ = gateway.Bottom(b.conn).Close() }
