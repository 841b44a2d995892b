package mysql

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	resetWait = 5 * time.Second // for all of a reset; a backend that takes longer is closed
	endWait   = 5 * time.Second // for ending a thread at the server
)

// backend is a logged-in connection to a real server.
type backend struct {
	gateway.Waiting
	conn    net.Conn
	id      uint32 // of its thread at the server
	flags   uint32 // capabilities it was logged in with
	charset byte
	db      string
	version string
	status  uint16 // what holds from login on
	server  az.ID
	user    string // its user there
}

// serverError is an ERR packet of a server.
type serverError struct {
	errno   uint16
	state   string
	message string
}

func (e *serverError) Error() string {
	return fmt.Sprintf("the server says %d (%s): %s", e.errno, e.state, e.message)
}

// parseError reads the body of an ERR packet.
func parseError(body []byte) error {
	f := fields{b: body}
	f.uint8()
	e := &serverError{errno: f.uint16(), state: "HY000"}
	if f.bad {
		return errFormat
	}
	if len(f.b) >= 6 && f.b[0] == '#' {
		e.state, f.b = string(f.b[1:6]), f.b[6:]
	}
	e.message = clean(string(f.b))
	return e
}

// reach returns a warm connection for the grant or logs in to a new one.
func (g *Gateway) reach(ctx context.Context, who az.Principal, grant gateway.Grant, want *response) (*backend, error) {
	flags := want.flags & passed
	key, server := g.WarmKey(who, grant, fmt.Sprintf("%x %d", flags, want.charset)), grant.Server.Key()
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
	b, err := connect(ctx, grant, flags, want.charset)
	var se *serverError
	if errors.As(err, &se) && slices.Contains(full, se.errno) && g.pool.Drop(server) > 0 {
		b, err = connect(ctx, grant, flags, want.charset) // our own idle ones were in the way
	}
	if err != nil {
		return nil, backendRefusal(err, want)
	}
	g.versions.learn(server, b.version)
	b.Waiting = gateway.Waiting{Key: key, Server: server, Epoch: epoch}
	return b, nil
}

// connect logs in to the server the grant names.
func connect(ctx context.Context, grant gateway.Grant, flags uint32, charset byte) (*backend, error) {
	conn, err := gateway.Dial(ctx, grant.Addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b := &backend{conn: conn, flags: flags, charset: charset, db: grant.Database, server: grant.Server, user: grant.User}
	if err := b.login(ctx, grant); err != nil {
		_ = gateway.Bottom(conn).Close()
		return nil, err
	}
	return b, nil
}

// login is the client's half of the connection phase.
func (b *backend) login(ctx context.Context, grant gateway.Grant) error {
	body, err := readPacket(b.conn, 0, maxLogin)
	if err != nil {
		return err
	}
	hello, err := parseGreeting(body)
	if err != nil {
		return err
	}
	b.version, b.id = hello.version, hello.id
	b.flags &= hello.flags | ^uint32(optional)
	if lacks := (b.flags | login) &^ hello.flags &^ capLongPassword; lacks != 0 {
		return fmt.Errorf("%w: the server %s lacks capabilities %#x", errTooOld, hello.version, lacks)
	}
	flags, seq, charset := b.flags|login, byte(1), b.namesCharset()
	if b.db != "" {
		flags |= capConnectWithDB
	}
	a := &auth{password: grant.Password.Reveal(), secure: filepath.IsAbs(grant.Addr)}
	if grant.TLS != nil {
		if hello.flags&capSSL == 0 {
			return errors.New("the server refused TLS")
		}
		flags |= capSSL
		if _, err := b.conn.Write(appendPacket(nil, seq, preamble(flags, charset))); err != nil {
			return err
		}
		t := tls.Client(b.conn, grant.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		b.conn, a.secure, seq = t, true, seq+1
	}
	first := a.begin(hello.plugin, hello.scramble) // nil for a plugin we don't do: the server will switch
	if _, err := b.conn.Write(appendPacket(nil, seq, b.response(preamble(flags, charset), hello.plugin, first))); err != nil {
		return err
	}
	if b.status, err = a.converse(b.conn, seq+1); err != nil || charset == b.charset {
		return err
	}
	return b.enterCharset()
}

// namesCharset is the character set to log in with. Servers read the names in
// a login by it, and those are in UTF-8, as they were authorised, whatever
// character set the client wants for its statements.
func (b *backend) namesCharset() byte {
	if isASCII(b.user) && isASCII(b.db) && !slices.Contains(notASCII, b.charset) {
		return b.charset
	}
	return greetingCharset
}

// notASCII are the collations of swe7, the only character set that a client
// can have in which names in ASCII are others.
var notASCII = []byte{10, 82}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// enterCharset gives a connection that was logged in with another the
// character set that its client wants, or the server's own where the server
// does not know it, as a login does.
func (b *backend) enterCharset() error {
	err := b.resetCharset()
	var se *serverError
	if errors.As(err, &se) && se.errno == erUnknownCollation {
		_, err = b.simple(comQuery, "SET NAMES DEFAULT")
	}
	return err
}

// preamble is the beginning of a HandshakeResponse41, and all of an
// SSLRequest.
func preamble(flags uint32, charset byte) []byte {
	out := binary.LittleEndian.AppendUint32(make([]byte, 0, 128), flags)
	out = binary.LittleEndian.AppendUint32(out, 1<<30) // the largest packet that servers can be set to
	out = append(out, charset)
	return append(out, make([]byte, 23)...)
}

// response is the body of a HandshakeResponse41 after its preamble.
func (b *backend) response(preamble []byte, plugin string, answer []byte) []byte {
	out := append(append(preamble, b.user...), 0)
	out = append(out, byte(len(answer))) // as a length-encoded one: no first answer is longer than 250
	out = append(out, answer...)
	if b.db != "" {
		out = append(append(out, b.db...), 0)
	}
	return append(append(out, plugin...), 0)
}

// hello is what a server's greeting says.
type hello struct {
	version  string
	id       uint32
	flags    uint32
	plugin   string
	scramble []byte
}

var errTooOld = errors.New("the server is too old")

// parseGreeting reads the body of Protocol::HandshakeV10, or of the ERR packet
// that may be in its place.
func parseGreeting(body []byte) (*hello, error) {
	if len(body) > 0 && body[0] == markError {
		return nil, parseError(body)
	}
	f := fields{b: body}
	if f.uint8() != 10 {
		return nil, fmt.Errorf("%w: it does not speak version 10 of the protocol", errTooOld)
	}
	h := &hello{version: f.cstring(), id: f.uint32()}
	h.scramble = slices.Clone(f.bytes(8))
	f.uint8()
	h.flags = uint32(f.uint16())
	f.bytes(3) // character set and status
	h.flags |= uint32(f.uint16()) << 16
	size := int(f.uint8())
	f.bytes(10)
	h.scramble = append(h.scramble, f.bytes(uint64(max(13, size-8)))...)
	if f.bad || h.flags&capPluginAuth == 0 {
		return nil, fmt.Errorf("%w: it names no authentication plugin", errTooOld)
	}
	h.scramble = h.scramble[:scrambleSize] // a NUL follows
	h.plugin = tail(&f)
	return h, nil
}

// ownFault are errors of a backend's login that come of what the client asked
// for. Their texts are ours: a server's has the host part of its account.
func ownFault(errno uint16, want *response) string {
	switch errno {
	case erAccessDB:
		return fmt.Sprintf("Access denied for user '%s'@'%%' to database '%s'", clean(named(want.user)), clean(named(want.database)))
	case erBadDatabase:
		return fmt.Sprintf("Unknown database '%s'", clean(named(want.database)))
	case erWrongDatabase:
		return errDatabaseName(want.database).message
	case erWrongValue:
		return "the connection's character set cannot be one that statements are written in: connect with utf8mb4"
	}
	return ""
}

// full are errors of a server that takes no more connections.
var full = []uint16{erTooMany, erUserLimit, erResourceLimit}

// backendRefusal words a failed login to the backend without its insides.
func backendRefusal(err error, want *response) error {
	r := &refusal{errno: erForeign, state: "HY000", message: "the database server cannot be reached now: try again", cause: err, reason: "backend"}
	var se *serverError
	switch {
	case errors.Is(err, errTooOld):
		r.message = "the database server is too old for this gateway, which needs MySQL 5.7.5 or MariaDB 10.2"
	case !errors.As(err, &se):
	case ownFault(se.errno, want) != "":
		r.errno, r.state, r.message = se.errno, se.state, ownFault(se.errno, want)
	case slices.Contains(full, se.errno):
		r.errno, r.state, r.message = erTooMany, "08004", "Too many connections"
	case se.errno == erShutdown:
		r.errno, r.state, r.message = erShutdown, "08S01", "Server shutdown in progress"
	default:
		r.message = "the database server refused the gateway: its registration needs attention"
	}
	return r
}

// alive reports whether an idle connection is still good; where there is no way
// to look, the server is asked.
func (b *backend) alive() bool {
	silent, known := gateway.Silent(b.conn)
	return silent || !known && b.reset() == nil
}

// Close says goodbye and drops the connection.
func (b *backend) Close() {
	_ = b.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = b.conn.Write([]byte{1, 0, 0, 0, comQuit})
	_ = gateway.Bottom(b.conn).Close()
}
