package mysql

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// visitor is a connection that has not logged in yet.
type visitor struct {
	c    net.Conn
	id   uint32 // the thread id it was told
	seq  byte   // of the next packet to it
	want *response
	who  az.Principal
}

// accept is one connection from its first byte to its session's start.
func (g *Gateway) accept(ctx context.Context, raw net.Conn) {
	v := &visitor{c: raw, id: g.newID()}
	err := g.secure(v)
	if err == nil {
		err = g.authenticate(ctx, v)
	}
	if err == nil {
		err = g.open(ctx, v)
	}
	if err != nil {
		g.turnAway(v, err)
	}
}

// turnAway tells the client why, if it is still there, and closes.
func (g *Gateway) turnAway(v *visitor, err error) {
	user, database := "", ""
	if v.want != nil {
		user, database = v.want.user, v.want.database
	}
	var told *refusal
	if !errors.As(err, &told) && gateway.Gone(err) {
		defer gateway.CloseSoon(v.c)
		g.Refused("gone") // the shell without a password leaves when asked for one
		g.log.Debug("a client left during login", "peer", v.c.RemoteAddr(), "user", named(user), "error", err)
		return
	}
	r := refuse(err, user, hostOf(v.c.RemoteAddr()))
	reason := r.reason
	if reason == "" {
		reason = fmt.Sprint(r.errno)
	}
	g.Refused(reason)
	g.log.Info("login refused", "peer", v.c.RemoteAddr(), "user", named(user), "database", named(database),
		"principal", v.who.ObjectID, "errno", r.errno, "message", r.message, "cause", r.cause)
	gateway.Refuse(v.c, r.encode(v.seq), r.unread)
}

// secure greets the client and brings the connection under TLS. What a client
// sends without is read only so far as to refuse it.
func (g *Gateway) secure(v *visitor) error {
	if _, err := v.c.Write(appendPacket(nil, 0, greeting(g.versions.told(), v.id))); err != nil {
		return err
	}
	v.seq = 2
	body, err := readPacket(v.c, 1, maxResponse)
	if err != nil {
		return err
	}
	f := fields{b: body}
	flags := f.uint32()
	if f.bad || flags&capProtocol41 == 0 {
		return errHandshake("")
	}
	if flags&capSSL == 0 || len(body) != sslRequestSize {
		return insecure()
	}
	t := tls.Server(v.c, g.tls)
	if err := t.Handshake(); err != nil { // bounded by the connection's deadline
		return fmt.Errorf("TLS handshake: %w", errTLS{err})
	}
	v.c, v.seq = t, 3
	return nil
}

// errTLS marks an error that TLS itself has told the client about.
type errTLS struct{ error }

func (errTLS) Timeout() bool   { return false }
func (errTLS) Temporary() bool { return false }

// authenticate reads what the client wants and who it is.
func (g *Gateway) authenticate(ctx context.Context, v *visitor) error {
	body, err := readPacket(v.c, 2, maxResponse)
	if err != nil {
		return err
	}
	if v.want, err = parseResponse(body, g.domain); err != nil {
		return err
	}
	if err := g.nameByHost(v); err != nil {
		return err
	}
	token, err := askToken(v)
	if err != nil {
		return err
	}
	host := hostOf(v.c.RemoteAddr())
	if token.IsZero() {
		return noToken(v.want.user, host)
	}
	v.who, err = g.rules.Verify(ctx, token)
	if err == nil && v.who.IsZero() {
		err = az.Errorf(az.Unauthorized, gateway.MissingOid, "the token names nobody")
	}
	var e *az.Error
	if errors.As(err, &e) && e.Kind == az.Invalid && tokenTexts[e.Code] == "" {
		return denied(v.want.user, host, err) // Verify's own sentences are not for those without a token
	}
	return err
}

// nameByHost takes the server that the client's TLS host name means.
func (g *Gateway) nameByHost(v *visitor) error {
	server, err := gateway.ServerOfHost(v.c.(*tls.Conn).ConnectionState().ServerName, g.domain)
	if err != nil {
		return errAccess("%v", err)
	}
	if server == "" {
		return nil
	}
	return v.want.name(server)
}

// askToken has the client send its token as it is, unless it has done so
// already.
func askToken(v *visitor) (az.Secret, error) {
	if v.want.plugin == clear && len(v.want.auth) > 0 {
		return readToken(v.want.auth)
	}
	v.want.auth = nil // a hash of the token: nobody needs it
	ask := append([]byte{markEOF}, clear...)
	if _, err := v.c.Write(appendPacket(nil, v.seq, append(ask, 0))); err != nil {
		return az.Secret{}, err
	}
	v.seq += 2
	answer, err := readPacket(v.c, v.seq-1, maxToken+1)
	if err != nil {
		return az.Secret{}, err
	}
	return readToken(answer)
}

// readToken takes the answer to mysql_clear_password: the token and, from
// nearly all clients, a NUL.
func readToken(b []byte) (az.Secret, error) {
	b = bytes.TrimSuffix(b, []byte{0})
	if bytes.IndexByte(b, 0) >= 0 {
		return az.Secret{}, errHandshake("")
	}
	if len(b) > maxToken {
		return az.Secret{}, errTooLong
	}
	return az.NewSecret(string(b)), nil
}

// open authorises the login, reaches the backend and starts the session.
func (g *Gateway) open(ctx context.Context, v *visitor) error {
	info := gateway.Session{ID: az.NewGUID(), Who: v.who, Started: g.clock(),
		Target: gateway.Target{Server: v.want.server, Database: v.want.database, User: v.want.user, Peer: v.c.RemoteAddr()}}
	info.Target.CorrelationID = info.ID
	generation := g.Generation()
	grant, err := g.rules.Authorize(ctx, v.who, info.Target)
	if err != nil {
		return err
	}
	info.Grant = grant
	b, err := g.reach(ctx, v.who, grant, v.want)
	if g.repaired(ctx, grant, err) {
		generation = g.Generation()
		if info.Grant, err = g.rules.Authorize(ctx, v.who, info.Target); err != nil {
			return err
		}
		b, err = g.reach(ctx, v.who, info.Grant, v.want)
	}
	if err != nil {
		return err
	}
	s := newSession(g, v, b, info)
	if err := g.AdmitAgain(ctx, info, &s.pump, generation, g.rules.Authorize); err != nil {
		b.Close()
		return err
	}
	g.register(s)
	if _, err := v.c.Write(welcome(v.seq, b.status)); err != nil {
		g.unregister(s)
		g.Drop(&s.pump)
		b.Close()
		return err
	}
	g.Start(&s.pump)
	return nil
}

// welcome is the OK packet that ends a login.
func welcome(seq byte, status uint16) []byte {
	body := binary.LittleEndian.AppendUint16([]byte{markOK, 0, 0}, status)
	return appendPacket(nil, seq, append(body, 0, 0))
}

// repaired reports whether the server refused the user's password, for it is
// another one or too old, and has the right one again.
func (g *Gateway) repaired(ctx context.Context, grant gateway.Grant, err error) bool {
	var se *serverError
	if g.repair == nil || !errors.As(err, &se) || se.errno != erAccessDenied && se.errno != erPasswordOver {
		return false
	}
	if err := g.repair(ctx, grant.Server, grant.User); err != nil {
		g.log.Warn("a user's password at its server is another one, and could not be set again", "server", grant.Server.Name(), "user", grant.User, "error", err)
		return false
	}
	g.log.Warn("a user's password at its server was another one; it was set again", "server", grant.Server.Name(), "user", grant.User)
	return true
}
