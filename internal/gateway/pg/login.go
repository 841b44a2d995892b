package pg

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// accept is one connection from its first byte to its session's start.
func (g *Gateway) accept(ctx context.Context, raw net.Conn) {
	c, body, err := g.negotiate(ctx, raw)
	if err == nil && body == nil { // a cancel request, done
		_ = c.Close()
		return
	}
	var s *startup
	var who az.Principal
	if err == nil {
		s, who, err = g.authenticate(ctx, c, body)
	}
	if err == nil {
		err = g.open(ctx, c, s, who)
	}
	if err != nil {
		g.turnAway(c, s, who, err)
	}
}

// turnAway tells the client why, if it is still there, and closes.
func (g *Gateway) turnAway(c net.Conn, s *startup, who az.Principal, err error) {
	user, database := "", ""
	if s != nil {
		user, database = s.user, s.database
	}
	if gone(err) {
		defer gateway.CloseSoon(c)
		g.Refused("gone") // psql without a password leaves when asked for one
		g.log.Debug("a client left during login", "peer", c.RemoteAddr(), "user", user, "error", err)
		return
	}
	r := refuse(err, user)
	reason := r.reason
	if reason == "" {
		reason = r.code
	}
	g.Refused(reason)
	g.log.Info("login refused", "peer", c.RemoteAddr(), "user", user, "database", database,
		"principal", who.ObjectID, "sqlstate", r.code, "message", r.message, "cause", r.cause)
	gateway.Refuse(c, r.encode(), r.unread)
}

// gone reports whether there is nobody left to tell.
func gone(err error) bool {
	var r *refusal
	return !errors.As(err, &r) && gateway.Gone(err)
}

// authenticate reads what the client wants and who it is.
func (g *Gateway) authenticate(ctx context.Context, c net.Conn, body []byte) (*startup, az.Principal, error) {
	s, err := parseStartup(body, g.domain)
	if err != nil {
		return s, az.Principal{}, err
	}
	if err := g.nameByHost(c, s); err != nil {
		return s, az.Principal{}, err
	}
	token, err := g.askToken(c, s)
	if err != nil {
		return s, az.Principal{}, err
	}
	who, err := g.rules.Verify(ctx, token)
	if err == nil && who.IsZero() {
		err = az.Errorf(az.Unauthorized, gateway.MissingOid, "the token names nobody")
	}
	if err != nil && s.oauth {
		g.sayInvalidToken(c)
	}
	return s, who, wordToken(err, s.user)
}

// wordToken keeps Verify's own sentences from somebody who has not shown a
// valid token: only those that Azure's servers say are said.
func wordToken(err error, user string) error {
	var e *az.Error
	if errors.As(err, &e) && e.Kind == az.Invalid && tokenTexts[e.Code] == "" {
		return badPassword(user, err)
	}
	return err
}

// open authorises the login, reaches the backend and starts the session.
func (g *Gateway) open(ctx context.Context, c net.Conn, s *startup, who az.Principal) error {
	info := gateway.Session{ID: az.NewGUID(), Who: who, Started: g.clock(),
		Target: gateway.Target{Server: s.server, Database: s.database, User: s.user, Peer: c.RemoteAddr()}}
	info.Target.CorrelationID = info.ID
	generation := g.Generation()
	grant, err := g.rules.Authorize(ctx, who, info.Target)
	if err != nil {
		return err
	}
	info.Grant = grant
	b, err := g.reach(ctx, who, grant, s)
	if g.repaired(ctx, grant, err) {
		generation = g.Generation()
		if info.Grant, err = g.rules.Authorize(ctx, who, info.Target); err != nil {
			return err
		}
		b, err = g.reach(ctx, who, info.Grant, s)
	}
	if err != nil {
		return err
	}
	ses := newSession(g, scribed(c, info.Grant), b)
	if err := g.AdmitAgain(ctx, info, &ses.pump, generation, g.rules.Authorize); err != nil {
		b.Close()
		return err
	}
	greeting := g.register(ses, s)
	if _, err := c.Write(greeting); err != nil {
		g.unregister(ses)
		g.Drop(&ses.pump)
		b.Close()
		return err
	}
	g.Start(&ses.pump)
	return nil
}

// repaired reports whether the server refused the role's password and has the
// right one again.
func (g *Gateway) repaired(ctx context.Context, grant gateway.Grant, err error) bool {
	var pe *pgconn.PgError
	if g.repair == nil || !errors.As(err, &pe) || pe.Code != invalidPassword {
		return false
	}
	if err := g.repair(ctx, grant.Server, grant.User); err != nil {
		g.log.Warn("a role's password at its server is another one, and could not be set again", "server", grant.Server.Name(), "user", grant.User, "error", err)
		return false
	}
	g.log.Warn("a role's password at its server was another one; it was set again", "server", grant.Server.Name(), "user", grant.User)
	return true
}

// greeting is everything from AuthenticationOk to ReadyForQuery, in one write.
func greeting(b *backend, pid uint32, secret []byte) []byte {
	out, _ := (&pgproto3.AuthenticationOk{}).Encode(make([]byte, 0, 512+len(secret)))
	out = append(out, b.status...)
	out, _ = (&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: secret}).Encode(out)
	out, _ = (&pgproto3.ReadyForQuery{TxStatus: 'I'}).Encode(out)
	return out
}
