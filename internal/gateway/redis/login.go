package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	// maxFailures is how many tokens one connection may try in vain.
	maxFailures = 10
	// maxCommands bounds the commands of a connection that does not log in.
	maxCommands = 1000
)

// recordTypeHandshake is the first byte of a TLS connection: RFC 8446, 5.1.
const recordTypeHandshake = 0x16

// login is a connection that has not logged in yet.
type login struct {
	g        *Gateway
	conn     net.Conn
	node     *node  // whose door it came in by; nil for the server's
	host     string // the name the client used in TLS
	server   string // what that name means
	in       []byte // read and not yet used
	commands int
	failures int
}

// accept is one connection from its first byte to its session's start.
func (g *Gateway) accept(ctx context.Context, raw net.Conn, at *node) {
	l := &login{g: g, conn: raw, node: at}
	err := l.secure(ctx)
	for err == nil {
		var args [][]byte
		var n int
		if args, n, err = l.next(); err != nil {
			break
		}
		var started bool
		started, err = l.command(ctx, args, n)
		if started {
			return
		}
	}
	l.turnAway(err)
}

// errLeft says that the client said goodbye.
var errLeft = errors.New("the client left")

// turnAway tells the client why, if it is still there, and closes.
func (l *login) turnAway(err error) {
	var r *refusal
	var p errProtocol
	switch {
	case errors.As(err, &r):
	case errors.As(err, &p):
		r = &refusal{text: "ERR " + p.Error(), reason: "protocol"}
	default:
		if !errors.Is(err, errLeft) {
			l.g.Refused("gone")
			l.g.log.Debug("a client left during login", "peer", l.conn.RemoteAddr(), "error", err)
		}
		gateway.CloseSoon(l.conn)
		return
	}
	l.say(r, "")
	gateway.Refuse(l.conn, nil, true)
}

// say writes a refusal and notes it.
func (l *login) say(r *refusal, user string) bool {
	reason := r.reason
	if reason == "" {
		reason = r.code()
	}
	l.g.Refused(reason)
	l.g.log.Info("login refused", "peer", l.conn.RemoteAddr(), "user", named(user), "server", l.server, "message", r.text, "cause", r.cause)
	_, err := l.conn.Write(errorReply(r.text))
	return err == nil
}

// named is a user name for the log: one that is no object id may be a token in
// the wrong place.
func named(user string) string {
	if user != "" && !az.IsGUID(user) {
		return "no object id"
	}
	return user
}

// secure does the TLS handshake; a client that speaks without is told so.
func (l *login) secure(ctx context.Context) error {
	var first [1]byte
	if _, err := io.ReadFull(l.conn, first[:]); err != nil {
		return err
	}
	if first[0] != recordTypeHandshake {
		return &refusal{text: useTLS, reason: "no encryption", close: true}
	}
	c := tls.Server(&gateway.Replayed{Conn: l.conn, Head: first[:]}, l.g.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	l.conn, l.host = c, c.ConnectionState().ServerName
	var err error
	if l.server, err = gateway.ServerOfHost(l.host, l.g.domain); err != nil {
		return &refusal{text: "ERR " + err.Error(), reason: "server name"}
	}
	return nil
}

// next reads one command, whose n bytes are still at the start of l.in.
func (l *login) next() (args [][]byte, n int, err error) {
	for {
		if args, n, err = parseCommand(l.in, beforeLogin); err != nil || n > 0 {
			return args, n, err
		}
		if len(l.in) == cap(l.in) {
			grown := make([]byte, len(l.in), max(1024, 2*cap(l.in)))
			copy(grown, l.in)
			l.in = grown
		}
		m, err := l.conn.Read(l.in[len(l.in):cap(l.in)])
		l.in = l.in[:len(l.in)+m]
		if m == 0 && err != nil {
			return nil, 0, err
		}
	}
}

// command acts on one command of n bytes; started says that a session has
// taken the connection over.
func (l *login) command(ctx context.Context, args [][]byte, n int) (started bool, err error) {
	defer func() { l.in = l.in[n:] }()
	if len(args) == 0 {
		return false, nil
	}
	if l.commands++; l.commands > maxCommands {
		return false, &refusal{text: "ERR too many commands before AUTH", close: true}
	}
	switch actionOf(args[0]) {
	case auth:
		return l.auth(ctx, args, l.in[n:])
	case hello:
		return l.hello(ctx, args, l.in[n:])
	case reset:
		_, err = l.conn.Write([]byte("+RESET\r\n"))
	case quit:
		if _, err = l.conn.Write([]byte("+OK\r\n")); err == nil {
			err = errLeft
		}
	default:
		_, err = l.conn.Write(errorReply(noAuth))
	}
	return false, err
}

// auth serves AUTH.
func (l *login) auth(ctx context.Context, args [][]byte, rest []byte) (bool, error) {
	switch len(args) {
	case 1:
		return false, l.answer(&refusal{text: "ERR wrong number of arguments for 'auth' command"}, "")
	case 2:
		return false, l.answer(&refusal{text: wrongPass, cause: errors.New("AUTH without a user name")}, "")
	case 3:
		return l.try(ctx, string(args[1]), az.NewSecret(string(args[2])), nil, rest)
	}
	return false, l.answer(&refusal{text: syntaxError}, "")
}

// hello serves HELLO, which may log in.
func (l *login) hello(ctx context.Context, args [][]byte, rest []byte) (bool, error) {
	h, r := parseHello(args)
	switch {
	case r != nil:
		return false, l.answer(r, "")
	case !h.auth:
		return false, l.answer(&refusal{text: noAuthHello}, "")
	}
	return l.try(ctx, h.user, h.token, h.forward, rest)
}

// answer refuses a command and lets the client try again, within bounds.
func (l *login) answer(r *refusal, user string) error {
	if l.failures++; l.failures >= maxFailures || r.close {
		r.close = true
		return r
	}
	if !l.say(r, user) {
		return errLeft
	}
	return nil
}

// try logs in with a token. greet is the command whose answer by the backend
// is the client's answer; nil for +OK.
func (l *login) try(ctx context.Context, user string, token az.Secret, greet, rest []byte) (bool, error) {
	who, err := l.g.identify(ctx, user, token)
	verified := err == nil
	if err == nil {
		err = l.open(ctx, user, who, greet, rest)
	}
	if err == nil {
		return true, nil
	}
	var r *refusal
	if !errors.As(err, &r) && gateway.Gone(err) {
		return false, err
	}
	return false, l.answer(refuse(err, verified), user)
}

// identify verifies a token and that the user named is its principal.
func (g *Gateway) identify(ctx context.Context, user string, token az.Secret) (az.Principal, error) {
	if token.IsZero() {
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidFormat, "an empty token")
	}
	who, err := g.rules.Verify(ctx, token)
	switch {
	case err != nil:
		return az.Principal{}, err
	case who.IsZero():
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.MissingOid, "the token names nobody")
	case !strings.EqualFold(user, who.ObjectID):
		return az.Principal{}, az.Errorf(az.Unauthorized, "OtherUser", "the user name is not the token's object id")
	case !who.Expires.After(g.clock()):
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.ExpiredToken, "the token has no time left")
	}
	return who, nil
}

// open authorises the login, reaches the backend and starts the session.
func (l *login) open(ctx context.Context, user string, who az.Principal, greet, rest []byte) error {
	g := l.g
	info := gateway.Session{ID: az.NewGUID(), Who: who, Started: g.clock(),
		Target: gateway.Target{Server: l.server, User: who.ObjectID, Peer: l.conn.RemoteAddr()}}
	if l.node != nil && l.server == "" {
		info.Target.Server = l.node.of.Name() // its door leads nowhere else
	}
	info.Target.CorrelationID = info.ID
	generation := g.Generation()
	grant, err := g.rules.Authorize(ctx, who, info.Target)
	if err != nil {
		return err
	}
	info.Grant = grant
	b, err := g.reach(ctx, grant, l.node)
	if g.repaired(ctx, grant, err) {
		generation = g.Generation()
		if info.Grant, err = g.rules.Authorize(ctx, who, info.Target); err != nil {
			return err
		}
		b, err = g.reach(ctx, info.Grant, l.node)
	}
	if err != nil {
		return err
	}
	s := newSession(l, info, b, append(greet, rest...))
	if err := g.AdmitAgain(ctx, info, &s.pump, generation, g.rules.Authorize); err != nil {
		s.cancel()
		b.close()
		return err
	}
	if greet == nil {
		if _, err := l.conn.Write([]byte("+OK\r\n")); err != nil {
			s.cancel()
			g.Drop(&s.pump)
			b.close()
			return err
		}
	}
	s.begin()
	return nil
}

// errBadPassword is the backend's refusal of the password we have.
var errBadPassword = errors.New("the server refused the user's password")

// repaired reports whether the server refused the user's password and has the
// right one again.
func (g *Gateway) repaired(ctx context.Context, grant gateway.Grant, err error) bool {
	if g.repair == nil || !errors.Is(err, errBadPassword) {
		return false
	}
	if err := g.repair(ctx, grant.Server, grant.User); err != nil {
		g.log.Warn("a user's password at its server is another one, and could not be set again", "server", grant.Server.Name(), "user", grant.User, "error", err)
		return false
	}
	g.log.Warn("a user's password at its server was another one; it was set again", "server", grant.Server.Name(), "user", grant.User)
	return true
}

// greeting is a HELLO, read.
type greeting struct {
	auth    bool
	user    string
	token   az.Secret
	forward []byte // the same without AUTH
}

// parseHello reads HELLO [protover [AUTH user token] [SETNAME name]].
func parseHello(args [][]byte) (h greeting, r *refusal) {
	keep := [][]byte{[]byte("HELLO")}
	if len(args) > 1 {
		switch v := string(args[1]); v {
		case "2", "3":
			keep = append(keep, args[1])
		default:
			if _, next, err := number(append([]byte(v), "\r\n"...), 0); err != nil || next == 0 {
				return h, &refusal{text: badVersion}
			}
			return h, &refusal{text: noProto}
		}
	}
	for i := 2; i < len(args); {
		option := strings.ToUpper(string(args[i]))
		switch {
		case option == "AUTH" && !h.auth && i+2 < len(args):
			h.auth, h.user, h.token = true, string(args[i+1]), az.NewSecret(string(args[i+2]))
			i += 3
		case option == "SETNAME" && i+1 < len(args):
			keep = append(keep, args[i], args[i+1])
			i += 2
		default:
			return h, &refusal{text: badHello}
		}
	}
	h.forward = appendCommand(nil, keep...)
	return h, nil
}
