package tds

import (
	"context"
	"errors"
	"net"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// login is a client on its way in.
type login struct {
	*front
	asks   *login7
	server string // "" where the client named none
	who    az.Principal
}

// accept is one connection from its first byte to its session's start.
func (g *Gateway) accept(ctx context.Context, raw net.Conn) {
	l := &login{asks: &login7{}}
	c, f, err := g.negotiate(raw)
	if err == nil {
		l.front = f
		err = g.authenticate(ctx, l)
	}
	if err == nil {
		err = g.open(ctx, l)
	}
	if err != nil {
		g.turnAway(c, l, err)
	}
}

// turnAway tells the client why, if it is still there, and closes.
func (g *Gateway) turnAway(c net.Conn, l *login, err error) {
	if gone(err) {
		defer gateway.CloseSoon(c)
		g.Refused("gone")
		g.log.Debug("a client left during login", "peer", c.RemoteAddr(), "error", err)
		return
	}
	r := refuse(err, l.server, l.asks.database)
	reason := r.reason
	if reason == "" {
		reason = map[int32]string{numLoginFailed: "login", numProtocol: "protocol", numNoServer: "server", numLimit: "limit"}[r.all[0].number]
	}
	g.Refused(reason)
	g.log.Info("login refused", "peer", c.RemoteAddr(), "server", l.server, "database", shown(l.asks.database), "principal", l.who.ObjectID,
		"number", r.all[0].number, "message", r.all[0].text, "cause", r.cause)
	gateway.Refuse(c, appendMessage(nil, typeReply, 0, 0, l.asks.answerSize(), r.encode(l.asks.version, l.server)), r.unread)
}

// authenticate reads what the client wants and who it is.
func (g *Gateway) authenticate(ctx context.Context, l *login) error {
	b, _, err := readMessage(l.conn, typeLogin, maxLogin)
	if err != nil {
		return clientError(err)
	}
	asks, err := parseLogin(b)
	if err != nil {
		return err
	}
	l.asks = asks
	if err := g.nameServer(l); err != nil {
		return err
	}
	token, err := g.askToken(l.front, l.asks)
	if err != nil {
		return err
	}
	if v := l.asks.version; v != version74 && (v != version80 || !l.strict) {
		return protocolError("the version of the protocol is not supported: use TDS 7.4, or TDS 8 with TLS first")
	}
	if l.who, err = g.rules.Verify(ctx, token); err == nil && l.who.IsZero() {
		err = az.Errorf(az.Unauthorized, gateway.MissingOid, "the token names nobody")
	}
	return wordToken(err)
}

// wordToken keeps Verify's own sentences from somebody who has not shown a
// valid token: only those that Azure's servers say are said.
func wordToken(err error) error {
	var e *az.Error
	if errors.As(err, &e) && e.Kind == az.Invalid && tokenTexts[e.Code].text == "" {
		return badToken(err)
	}
	return err
}

// nameServer finds which server the client means: by TLS and by LOGIN7, which
// must not contradict each other.
func (g *Gateway) nameServer(l *login) error {
	host, err := gateway.ServerOfHost(l.conn.ConnectionState().ServerName, g.domain)
	if err != nil {
		return refused(numNoServer, 1, classFatal, err, "Cannot open server requested by the login. The login failed.")
	}
	named, err := serverName(l.asks.server, g.domain)
	if err != nil {
		return refused(numNoServer, 1, classFatal, err, "Cannot open server requested by the login. The login failed.")
	}
	if host != "" && named != "" && host != named {
		return refused(numNoServer, 1, classFatal, nil, "Cannot open server requested by the login. The login failed. The host name of TLS names another server than the login.")
	}
	if l.server = host; host == "" {
		l.server = named
	}
	return nil
}

// open authorises the login, reaches the backend and starts the session.
func (g *Gateway) open(ctx context.Context, l *login) error {
	info := gateway.Session{ID: az.NewGUID(), Who: l.who, Started: g.clock(),
		Target: gateway.Target{Server: l.server, Database: l.asks.database, Peer: l.conn.RemoteAddr()}}
	info.Target.CorrelationID = info.ID
	generation := g.Generation()
	grant, err := g.rules.Authorize(ctx, l.who, info.Target)
	if err != nil {
		return err
	}
	info.Grant = grant
	b, err := g.reach(ctx, l, grant)
	if g.repaired(ctx, grant, err) {
		generation = g.Generation()
		if info.Grant, err = g.rules.Authorize(ctx, l.who, info.Target); err != nil {
			return err
		}
		b, err = g.reach(ctx, l, info.Grant)
	}
	if err != nil {
		return g.backendRefusal(l, err)
	}
	ses := newSession(g, l, info.Grant, b)
	if err := g.AdmitAgain(ctx, info, &ses.pump, generation, g.rules.Authorize); err != nil {
		b.Close()
		return err
	}
	if _, err := l.conn.Write(b.welcome.greeting(l.asks, b.spid, l.hello.nonce)); err != nil {
		g.Drop(&ses.pump)
		b.Close()
		return err
	}
	g.Start(&ses.pump)
	return nil
}

// repaired reports whether the server refused the role's password, wanted
// another one, or had locked the login after somebody's wrong ones, and has the
// right one now.
func (g *Gateway) repaired(ctx context.Context, grant gateway.Grant, err error) bool {
	var se *serverError
	if g.repair == nil || !errors.As(err, &se) || !se.has(numLoginFailed, numLocked, numExpired, numMustChange) || se.has(numNoDatabase) {
		return false
	}
	if err := g.repair(ctx, grant.Server, grant.User); err != nil {
		g.log.Warn("a role's password at its server is no use, and could not be set again", "server", grant.Server.Name(), "user", grant.User, "error", err)
		return false
	}
	g.log.Warn("a role's password at its server was no use; it was set again", "server", grant.Server.Name(), "user", grant.User)
	return true
}
