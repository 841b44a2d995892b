package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// tdsLoginFailed is SQL Server's error for every login that fails.
const tdsLoginFailed = 18456

// tdsRoutes is how often a server may send a login elsewhere. Source: ODBC
// Driver for SQL Server, which follows ten times; Azure SQL sends once.
const tdsRoutes = 3

// tds lets one program in to a SQL Server.
func (d *Door) tds(ctx context.Context, c net.Conn, stranger error) (*gateway.Pump, error) {
	app := &tdsStream{rw: c}
	kind, ask, err := app.read()
	if err != nil {
		return nil, err
	}
	options, perr := parsePrelogin(ask)
	if kind != tdsPrelogin || perr != nil {
		return nil, &refusal{text: "the client does not speak TDS 7 without TLS", cause: perr}
	}
	var b net.Conn
	server := &tdsStream{release: func() {}}
	defer func() { server.release() }()
	answer := preloginOptions{tdsVersion: {16, 0, 0, 0, 0, 0}}
	if stranger == nil {
		b, err = d.tdsReach(ctx, server, options, d.cfg.Addr, d.tls)
		if err == nil {
			answer = server.prelogin
		}
		stranger = err
	}
	defer func() {
		if b != nil && err != nil {
			_ = b.Close()
		}
	}()
	if err = app.write(tdsReply, answer.plain().encode()); err != nil {
		return nil, err
	}
	kind, ask, err = app.read()
	if err != nil {
		return nil, err
	}
	login, lerr := parseLogin7(ask)
	if kind != tdsLogin7 || lerr != nil {
		err = &refusal{text: "the client asks for TLS, which this port has not (Encrypt=Optional or encrypt=disable)", cause: lerr}
		return nil, err
	}
	if stranger != nil {
		err = stranger
		return nil, app.say(stranger)
	}
	b, err = d.tdsLogin(ctx, app, server, b, options, login)
	if err != nil {
		return nil, err
	}
	return d.pump(c, b), nil
}

// say tells the client why and returns the error.
func (s *tdsStream) say(err error) error {
	if !gone(err) {
		_ = s.write(tdsReply, tdsError(tdsLoginFailed, 14, textOf(err)))
	}
	return err
}

// tdsReach reaches a server, asks it what the program asks, and puts the
// connection under TLS.
func (d *Door) tdsReach(ctx context.Context, s *tdsStream, ask preloginOptions, addr string, conf *tls.Config) (net.Conn, error) {
	s.release()
	raw, release, err := d.dialTo(ctx, addr)
	if err != nil {
		s.release = func() {}
		return nil, err
	}
	*s = tdsStream{rw: raw, release: release}
	t, err := d.tdsSecure(ctx, s, raw, ask, conf)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return t, nil
}

func (d *Door) tdsSecure(ctx context.Context, s *tdsStream, raw net.Conn, ask preloginOptions, conf *tls.Config) (net.Conn, error) {
	if err := s.write(tdsPrelogin, ask.federated().encode()); err != nil {
		return nil, d.lost(err)
	}
	kind, m, err := s.read()
	if err != nil {
		return nil, d.lost(err)
	}
	if s.prelogin, err = parsePrelogin(m); err != nil || kind != tdsReply {
		return nil, &refusal{text: d.cfg.Name + " does not speak SQL Server's protocol", cause: err}
	}
	if e := s.prelogin[tdsEncryption]; len(e) != 1 || e[0] == tdsEncryptNot {
		return nil, &refusal{text: d.cfg.Name + " has no TLS, so it gets no token"}
	}
	conf = conf.Clone()
	conf.MaxVersion = tls.VersionTLS12 // what 1.3 sends after the handshake has no place in TDS 7
	w := &tdsWrapped{Conn: raw}
	t := tls.Client(w, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, &refusal{text: "cannot trust the server at " + d.cfg.Name + ": " + certificateText(err), cause: err}
	}
	w.done = true
	s.rw = t
	return t, nil
}

// tdsLogin logs in, following the server to where it sends the login, and
// passes the answer on.
func (d *Door) tdsLogin(ctx context.Context, app, server *tdsStream, b net.Conn, ask preloginOptions, login *login7) (net.Conn, error) {
	token, _, err := d.token(ctx)
	if err != nil {
		_ = b.Close()
		return nil, app.say(err)
	}
	host := d.cfg.Host
	for range tdsRoutes {
		m, err := d.tdsAsk(server, login, host, token)
		if err != nil {
			_ = b.Close()
			return nil, app.say(err)
		}
		if repeats(m, token) {
			_ = b.Close()
			return nil, app.say(d.refusedTelling())
		}
		answer, err := readLoginAnswer(m, login.features != nil)
		if err != nil {
			_ = b.Close()
			return nil, app.say(&refusal{text: d.cfg.Name + " does not speak SQL Server's protocol", cause: err})
		}
		if answer.route == nil {
			if err := app.writeSized(tdsReply, answer.tokens, login.packetSize()); err != nil || !answer.in {
				_ = b.Close()
				return nil, firstError(err, &refusal{text: d.cfg.Name + " refused the login", cause: errors.New(answer.refused)})
			}
			return b, nil
		}
		_ = b.Close()
		host = answer.route.host
		conf := d.tls.Clone()
		conf.ServerName, _, _ = cutInstance(host)
		if !d.family(conf.ServerName) {
			return nil, app.say(&refusal{text: d.cfg.Name + " sends the login to a server elsewhere, which gets no token", cause: errors.New(conf.ServerName)})
		}
		if b, err = d.tdsReach(ctx, server, ask, net.JoinHostPort(conf.ServerName, strconv.Itoa(answer.route.port)), conf); err != nil {
			return nil, app.say(err)
		}
	}
	_ = b.Close()
	return nil, app.say(&refusal{text: d.cfg.Name + " sends the login from server to server"})
}

// family reports whether a host lies under the domain that the server's own
// lies under: a token goes to no other.
func (d *Door) family(host string) bool {
	_, domain, ok := strings.Cut(strings.ToLower(d.cfg.Host), ".")
	return ok && strings.HasSuffix(strings.ToLower(host), "."+domain)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tdsAsk sends the login with the token and reads the answer.
func (d *Door) tdsAsk(server *tdsStream, login *login7, host string, token az.Secret) ([]byte, error) {
	echo := byte(0)
	if v := server.prelogin[tdsFedAuth]; len(v) == 1 {
		echo = v[0] & 1
	}
	if err := server.write(tdsLogin7, login.encode(host, d.cfg.Database, token, echo)); err != nil {
		return nil, d.lost(err)
	}
	kind, m, err := server.read()
	if err != nil || kind != tdsReply {
		return nil, d.lost(err)
	}
	return m, nil
}

// tdsStream reads and writes messages of the login.
type tdsStream struct {
	rw       io.ReadWriter
	prelogin preloginOptions // what the server answered
	release  func()          // ends the watch over the login's time
}

// read reads one message and nothing behind it.
func (s *tdsStream) read() (kind byte, m []byte, err error) {
	for {
		var head [tdsHeader]byte
		if _, err := io.ReadFull(s.rw, head[:]); err != nil {
			return 0, nil, err
		}
		n := int(binary.BigEndian.Uint16(head[2:]))
		if n < tdsHeader || len(m)+n > tdsMaxLogin || kind != 0 && kind != head[0] {
			return 0, nil, &refusal{text: "the bytes are no login of TDS 7"}
		}
		kind = head[0]
		at := len(m)
		m = append(m, make([]byte, n-tdsHeader)...)
		if _, err := io.ReadFull(s.rw, m[at:]); err != nil {
			return 0, nil, err
		}
		if head[1]&tdsLast != 0 {
			return kind, m, nil
		}
	}
}

func (s *tdsStream) write(kind byte, m []byte) error { return s.writeSized(kind, m, tdsFirstSize) }

// writeSized writes a message in packets of a size.
func (s *tdsStream) writeSized(kind byte, m []byte, size int) error {
	_, err := s.rw.Write(tdsPackets(kind, m, size))
	return err
}

// tdsPackets cuts a message into packets.
func tdsPackets(kind byte, m []byte, size int) []byte {
	var out []byte
	for id := byte(1); ; id++ {
		n, status := min(len(m), size-tdsHeader), byte(0)
		if n == len(m) {
			status = tdsLast
		}
		out = append(out, kind, status)
		out = binary.BigEndian.AppendUint16(out, uint16(n+tdsHeader))
		out = append(append(out, 0, 0, id, 0), m[:n]...)
		if m = m[n:]; status != 0 {
			return out
		}
	}
}

// tdsWrapped carries TLS's handshake within packets of the first message, as
// TDS 7 does; after it bytes go as they are.
type tdsWrapped struct {
	net.Conn
	done bool
	left int // bytes of the packet that is being read
}

// NetConn returns the socket.
func (w *tdsWrapped) NetConn() net.Conn { return w.Conn }

// CloseWrite passes a half-close on.
func (w *tdsWrapped) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (w *tdsWrapped) Read(p []byte) (int, error) {
	if w.done && w.left == 0 {
		return w.Conn.Read(p)
	}
	for w.left == 0 {
		var head [tdsHeader]byte
		if _, err := io.ReadFull(w.Conn, head[:]); err != nil {
			return 0, err
		}
		if w.left = int(binary.BigEndian.Uint16(head[2:])) - tdsHeader; w.left < 0 {
			return 0, errTDS
		}
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

func (w *tdsWrapped) Write(p []byte) (int, error) {
	if w.done {
		return w.Conn.Write(p)
	}
	if _, err := w.Conn.Write(tdsPackets(tdsPrelogin, p, tdsFirstSize)); err != nil {
		return 0, err
	}
	return len(p), nil
}
