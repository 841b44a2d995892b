package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Request codes in the place of a protocol version, and limits: PostgreSQL,
// libpq/pqcomm.h and libpq/auth.h.
const (
	pgCancel     = 1234<<16 | 5678
	pgSSL        = 1234<<16 | 5679
	pgGSS        = 1234<<16 | 5680
	pgMaxStartup = 10000
	pgMaxMessage = 64 << 10 // of what a server says before it lets somebody in
	pgMaxBefore  = 32       // messages of a server before it lets somebody in
)

// SQLSTATEs: PostgreSQL documentation, appendix A.
const (
	pgProtocolViolation = "08P01"
	pgCannotConnect     = "08006"
	pgNotAuthorized     = "28000"
)

// postgres lets one program in to a PostgreSQL.
func (d *Door) postgres(ctx context.Context, c net.Conn, stranger error) (*gateway.Pump, error) {
	start, err := pgReadStartup(c)
	if err != nil {
		return nil, pgSay(c, pgProtocolViolation, err)
	}
	if stranger != nil {
		return nil, pgSay(c, pgNotAuthorized, stranger)
	}
	if start.cancel != nil {
		return nil, d.pgForwardCancel(ctx, start.cancel)
	}
	b, greeting, err := d.pgLogin(ctx, start)
	if err != nil {
		if greeting != nil { // the server has said why
			_, _ = c.Write(greeting)
			return nil, err
		}
		return nil, pgSay(c, pgCannotConnect, err)
	}
	if _, err := c.Write(greeting); err != nil {
		_ = b.Close()
		return nil, err
	}
	return d.pump(c, b), nil
}

// pgSay tells the client why and returns the error.
func pgSay(c net.Conn, code string, err error) error {
	if gone(err) {
		return err
	}
	words, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: textOf(err)}).Encode(nil)
	_, _ = c.Write(words)
	return err
}

// pgStart is a startup message, or a cancel request.
type pgStart struct {
	version uint32
	params  [][2]string // in the client's order
	cancel  []byte      // the whole message
}

// pgReadStartup declines encryption, which stays on this machine, and reads
// what the client wants.
func pgReadStartup(c io.ReadWriter) (*pgStart, error) {
	for asked := 0; ; asked++ {
		var head [8]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil, err
		}
		length, code := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		if length < 8 || length > pgMaxStartup {
			return nil, &refusal{text: "invalid length of startup packet; this port speaks PostgreSQL without TLS (sslmode=disable)"}
		}
		if (code == pgSSL || code == pgGSS) && length == 8 && asked < 2 {
			if _, err := c.Write([]byte{'N'}); err != nil {
				return nil, err
			}
			continue
		}
		body := make([]byte, length-8)
		if _, err := io.ReadFull(c, body); err != nil {
			return nil, err
		}
		if code == pgCancel {
			return &pgStart{cancel: append(head[:], body...)}, nil
		}
		return pgParseStartup(code, body)
	}
}

// pgParseStartup reads the parameters of a startup message.
func pgParseStartup(version uint32, body []byte) (*pgStart, error) {
	if version>>16 != 3 {
		return nil, &refusal{text: fmt.Sprintf("unsupported frontend protocol %d.%d: this port speaks 3", version>>16, version&0xffff)}
	}
	s := &pgStart{version: version}
	for {
		name, rest, ok := bytes.Cut(body, []byte{0})
		if !ok {
			return nil, &refusal{text: "invalid startup packet layout"}
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return nil, &refusal{text: "invalid startup packet layout"}
			}
			return s, nil
		}
		value, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil, &refusal{text: "invalid startup packet layout"}
		}
		s.params, body = append(s.params, [2]string{string(name), string(value)}), rest
	}
}

// encode writes the startup message of the role that logs in. A database that
// the client did not name, or named only because its driver takes the user's
// name for one, is the door's.
func (s *pgStart) encode(user, database string) []byte {
	given, asUser := "", ""
	for _, p := range s.params {
		switch p[0] {
		case "database":
			given = p[1]
		case "user":
			asUser = p[1]
		}
	}
	if given != "" && (given != asUser || database == "") {
		database = given
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 4, 256), s.version)
	add := func(name, value string) {
		out = append(append(append(append(out, name...), 0), value...), 0)
	}
	add("user", user)
	if database != "" {
		add("database", database)
	}
	for _, p := range s.params {
		if p[0] != "user" && p[0] != "database" {
			add(p[0], p[1])
		}
	}
	out = append(out, 0)
	binary.BigEndian.PutUint32(out, uint32(len(out)))
	return out
}

// pgOpen reaches the server and puts the connection under TLS.
func (d *Door) pgOpen(ctx context.Context) (_ net.Conn, release func(), _ error) {
	raw, release, err := d.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, err := d.pgSecure(ctx, raw)
	if err != nil {
		release()
		_ = raw.Close()
		return nil, nil, err
	}
	return t, release, nil
}

func (d *Door) pgSecure(ctx context.Context, raw net.Conn) (net.Conn, error) {
	ask := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), pgSSL)
	if _, err := raw.Write(ask); err != nil {
		return nil, d.lost(err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(raw, answer[:]); err != nil {
		return nil, d.lost(err)
	}
	if answer[0] != 'S' {
		return nil, &refusal{text: d.cfg.Name + " has no TLS, so it gets no token"}
	}
	return d.secure(ctx, raw)
}

// lost words the end of a server in the middle of a login.
func (d *Door) lost(err error) error {
	return &refusal{text: d.cfg.Name + " ended the connection during the login: try again", cause: err}
}

// pgLogin logs in at the server. The greeting is everything the client is to
// be told so far: up to AuthenticationOk, or the server's own refusal beside an
// error.
func (d *Door) pgLogin(ctx context.Context, s *pgStart) (_ net.Conn, greeting []byte, err error) {
	token, _, err := d.token(ctx)
	if err != nil {
		return nil, nil, err
	}
	user, err := d.user(token)
	if err != nil {
		return nil, nil, err
	}
	b, release, err := d.pgOpen(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if _, err = b.Write(s.encode(user, d.cfg.Database)); err == nil {
		greeting, err = d.pgAuthenticate(b, token)
	}
	if err != nil {
		_ = b.Close()
	}
	return b, greeting, err
}

// pgAuthenticate answers the server's question with the token.
func (d *Door) pgAuthenticate(b io.ReadWriter, token az.Secret) (greeting []byte, err error) {
	asked := false
	for range pgMaxBefore {
		m, err := pgReadMessage(b)
		if err != nil {
			return nil, d.lost(err)
		}
		if repeats(m, token) {
			return nil, d.refusedTelling()
		}
		switch m[0] {
		case 'E':
			return append(greeting, m...), &refusal{text: d.cfg.Name + " refused the login", cause: errors.New(pgErrorText(m))}
		case 'N', 'v': // a notice, or a version that the server has not got
			greeting = append(greeting, m...)
			continue
		case 'R':
		default:
			return nil, &refusal{text: d.cfg.Name + " does not speak PostgreSQL's protocol"}
		}
		if len(m) < 9 {
			return nil, &refusal{text: d.cfg.Name + " does not speak PostgreSQL's protocol"}
		}
		switch how := binary.BigEndian.Uint32(m[5:]); {
		case how == pgproto3.AuthTypeOk:
			return append(greeting, m...), nil
		case how == pgproto3.AuthTypeCleartextPassword && !asked:
			asked = true
			answer, _ := (&pgproto3.PasswordMessage{Password: token.Reveal()}).Encode(nil)
			if _, err := b.Write(answer); err != nil {
				return nil, d.lost(err)
			}
		default:
			return nil, &refusal{text: d.cfg.Name + " asks the role for a password, not for a token: connect it to an identity first"}
		}
	}
	return nil, &refusal{text: d.cfg.Name + " does not speak PostgreSQL's protocol"}
}

// pgReadMessage reads exactly one message, with its header.
func pgReadMessage(r io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > pgMaxMessage {
		return nil, errors.New("a message of the server is too long")
	}
	m := make([]byte, 1+n)
	copy(m, head[:])
	_, err := io.ReadFull(r, m[5:])
	return m, err
}

// pgErrorText is the message of an ErrorResponse, for the log.
func pgErrorText(m []byte) string {
	var e pgproto3.ErrorResponse
	if len(m) < 5 || e.Decode(m[5:]) != nil {
		return "no reason given"
	}
	return e.Message
}

// pgForwardCancel passes a cancel request on. The key in it is the server's
// own: a client has no other.
func (d *Door) pgForwardCancel(ctx context.Context, request []byte) error {
	b, release, err := d.pgOpen(ctx)
	if err != nil {
		return err
	}
	defer release()
	defer func() { _ = b.Close() }()
	if _, err := b.Write(request); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, b) // the server closes when it has done it
	return nil
}
