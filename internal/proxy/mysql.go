package proxy

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Errors of MySQL: server error message reference. Client libraries take none
// of their own numbers, from 2000 up, from a server.
const (
	mysqlHandshake    = 1043
	mysqlAccessDenied = 1045
	mysqlNotReached   = 1158 // got an error reading communication packets
)

// mysql lets one program in to a MySQL or MariaDB. The server speaks first, so
// it is reached before the program has said anything; it logs in after.
func (d *Door) mysql(ctx context.Context, c net.Conn, stranger error) (*gateway.Pump, error) {
	app := &mysqlStream{rw: c}
	if stranger != nil {
		return nil, app.say(c, mysqlAccessDenied, "28000", stranger)
	}
	raw, release, err := d.dial(ctx)
	if err != nil {
		return nil, app.say(c, mysqlNotReached, "08S01", err)
	}
	defer release()
	b, err := d.mysqlBoth(ctx, app, raw)
	if err != nil {
		_ = raw.Close()
		var told errTold
		if errors.As(err, &told) {
			return nil, err
		}
		return nil, app.say(c, mysqlHandshake, "08S01", err)
	}
	return d.pump(c, b), nil
}

// errTold marks what the server has told the client itself.
type errTold struct{ error }

func (e errTold) Unwrap() error { return e.error }

// mysqlBoth greets the program as the server did, without TLS, and logs in
// with what the program asks for.
func (d *Door) mysqlBoth(ctx context.Context, app *mysqlStream, raw net.Conn) (net.Conn, error) {
	server := &mysqlStream{rw: raw}
	first, err := server.read()
	if err != nil {
		return nil, d.lost(err)
	}
	if len(first) > 0 && first[0] == mysqlERR {
		_ = app.write(first)
		return nil, errTold{&refusal{text: d.cfg.Name + " refused the connection", cause: errors.New(mysqlErrorText(first))}}
	}
	g, err := parseGreeting(first)
	if err != nil {
		return nil, &refusal{text: d.cfg.Name + " does not speak MySQL's protocol", cause: err}
	}
	if g.caps&mysqlSSL == 0 {
		return nil, &refusal{text: d.cfg.Name + " has no TLS, so it gets no token"}
	}
	if err := app.write(g.plain()); err != nil {
		return nil, err
	}
	answer, err := app.read()
	if err != nil {
		return nil, err
	}
	h, err := parseHandshake(answer)
	if err != nil {
		return nil, &refusal{text: "the client's handshake cannot be read", cause: err}
	}
	if err := app.acceptAnyone(h); err != nil {
		return nil, err
	}
	token, _, err := d.token(ctx)
	if err != nil {
		return nil, err
	}
	return d.mysqlLogin(ctx, app, server, raw, g, h, token)
}

// mysqlLogin logs in at the server and passes its answer on.
func (d *Door) mysqlLogin(ctx context.Context, app, server *mysqlStream, raw net.Conn, g *mysqlGreeting, h *mysqlResponse, token az.Secret) (net.Conn, error) {
	user, err := d.user(token)
	if err != nil {
		return nil, err
	}
	h.become(user, d.cfg.Database, g)
	if err := server.write(h.ask()); err != nil {
		return nil, d.lost(err)
	}
	t, err := d.secure(ctx, raw)
	if err != nil {
		return nil, err
	}
	server.rw = t
	password := append([]byte(token.Reveal()), 0)
	given := h.plugin == mysqlClear
	if given {
		h.auth = password
	}
	if err := server.write(h.encode()); err != nil {
		return nil, d.lost(err)
	}
	for range 4 { // a switch of the plugin, more data, the answer
		m, err := server.read()
		if err != nil {
			return nil, d.lost(err)
		}
		if repeats(m, token) {
			return nil, d.refusedTelling()
		}
		switch {
		case len(m) > 0 && m[0] == mysqlOK:
			return t, app.write(m)
		case len(m) > 0 && m[0] == mysqlERR:
			_ = app.write(m)
			return nil, errTold{&refusal{text: d.cfg.Name + " refused the login", cause: errors.New(mysqlErrorText(m))}}
		case mysqlPluginOf(m) == mysqlClear && !given:
			given = true
			if err := server.write(password); err != nil {
				return nil, d.lost(err)
			}
			continue
		}
		break
	}
	return nil, &refusal{text: d.cfg.Name + " asks the user for a password, not for a token: connect it to an identity first"}
}

// say tells the client why and returns the error.
func (s *mysqlStream) say(c net.Conn, number uint16, state string, err error) error {
	if gone(err) {
		return err
	}
	m := binary.LittleEndian.AppendUint16([]byte{mysqlERR}, number)
	if s.seq > 0 { // before the handshake there is no SQLSTATE
		m = append(append(m, '#'), state...)
	}
	m = append(m, textOf(err)...)
	gateway.Refuse(c, s.packet(m), true)
	return err
}

// acceptAnyone finishes the client's half of a login, whatever it gives. One
// that prefers another plugin than the greeting's has given nothing yet, and
// waits to be asked for it.
func (s *mysqlStream) acceptAnyone(h *mysqlResponse) error {
	auth, plugin := h.auth, h.plugin
	switch plugin {
	case "", mysqlNative, mysqlClear:
		return nil
	case mysqlCachingSHA2:
	default:
		plugin = mysqlNative
	}
	if len(auth) == 0 || plugin != h.plugin {
		ask := append(append([]byte{mysqlSwitch}, plugin...), 0)
		err := s.write(append(append(ask, mysqlNonce()...), 0))
		if err != nil {
			return err
		}
		if auth, err = s.read(); err != nil {
			return err
		}
	}
	if plugin == mysqlCachingSHA2 && len(auth) > 1 { // one zero is no password
		return s.write([]byte{mysqlMore, 3}) // as after a password that the server remembers
	}
	return nil
}

// mysqlNonce is what a client makes its answer with, which nobody looks at.
func mysqlNonce() []byte {
	n := make([]byte, 20)
	_, _ = rand.Read(n)
	for i := range n {
		n[i] = n[i]&0x3f + 0x21 // no zero, which would end it
	}
	return n
}

// mysqlStream reads and writes packets of the handshake.
type mysqlStream struct {
	rw  io.ReadWriter
	seq byte // of the next packet
}

func (s *mysqlStream) packet(m []byte) []byte {
	out := append(make([]byte, 0, 4+len(m)), byte(len(m)), byte(len(m)>>8), byte(len(m)>>16), s.seq)
	s.seq++
	return append(out, m...)
}

func (s *mysqlStream) write(m []byte) error {
	_, err := s.rw.Write(s.packet(m))
	return err
}

// read reads one packet and nothing behind it.
func (s *mysqlStream) read() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.rw, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n > mysqlMaxPacket {
		return nil, &refusal{text: "a packet of the handshake is too long"}
	}
	if head[3] != s.seq {
		return nil, &refusal{text: "packets out of order"}
	}
	s.seq++
	m := make([]byte, n)
	_, err := io.ReadFull(s.rw, m)
	return m, err
}
