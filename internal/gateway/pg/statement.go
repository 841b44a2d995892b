package pg

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/gateway"
)

const (
	// maxStatement bounds a statement that the plane is asked about: the calls
	// that it answers are far shorter. A longer one is the server's alone.
	maxStatement = 8 << 10
	// statementWait bounds what the plane does for one.
	statementWait = 20 * time.Second
)

// scribe reads an administrator's session for the plane: of the plain queries
// it asks about each whether the plane has another in its place. Everything
// else passes as it is. Sessions whose Grant has no Statement have none.
type scribe struct {
	net.Conn
	ask func(context.Context, string) (instead string, ok bool)

	buf  []byte // what a Read of the connection fills
	out  []byte // to be passed on
	held []byte // the beginning of a message: its header, or a short query
	skip uint64 // how much of the message under way passes unseen
}

// scribed wraps a client's connection if its grant wants that.
func scribed(c net.Conn, g gateway.Grant) net.Conn {
	if g.Statement == nil {
		return c
	}
	return &scribe{Conn: c, ask: g.Statement, buf: make([]byte, 4<<10)}
}

// NetConn returns what is below, for those who need the socket.
func (s *scribe) NetConn() net.Conn { return s.Conn }

// Read waits only when nothing is left to be passed on.
func (s *scribe) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		n, err := s.Conn.Read(s.buf)
		s.take(s.buf[:n])
		if len(s.out) == 0 && err != nil {
			return 0, err // the error comes again if there was something before it
		}
	}
	n := copy(p, s.out)
	if s.out = s.out[n:]; len(s.out) == 0 {
		s.out = nil
	}
	return n, nil
}

// headerSize is that of every message after the login: kind and length.
const headerSize = 5

// take splits bytes into messages.
func (s *scribe) take(b []byte) {
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(uint64(len(b)), s.skip)
			s.out, b, s.skip = append(s.out, b[:n]...), b[n:], s.skip-n
			continue
		}
		want := headerSize
		if len(s.held) >= headerSize {
			want = 1 + int(binary.BigEndian.Uint32(s.held[1:]))
		}
		n := min(want-len(s.held), len(b))
		s.held, b = append(s.held, b[:n]...), b[n:]
		if len(s.held) < want {
			return
		}
		s.message(want == headerSize)
	}
}

// message looks at what is held: a header, or all of a query.
func (s *scribe) message(header bool) {
	length := binary.BigEndian.Uint32(s.held[1:])
	if header && s.held[0] == 'Q' && length > 4 && length <= maxStatement {
		return // the rest is to come
	}
	if header {
		s.out, s.held = append(s.out, s.held...), s.held[:0]
		if length > 4 { // less breaks the protocol, which is found where messages are followed
			s.skip = uint64(length - 4)
		}
		return
	}
	if text, rest, ok := cstring(s.held[headerSize:]); ok && len(rest) == 0 && concerns(text) {
		ctx, cancel := context.WithTimeout(context.Background(), statementWait)
		instead, ok := s.ask(ctx, text)
		cancel()
		if ok && !strings.ContainsRune(instead, 0) {
			out, err := (&pgproto3.Query{String: instead}).Encode(s.out)
			if err == nil {
				s.out, s.held = out, s.held[:0]
				return
			}
		}
	}
	s.out, s.held = append(s.out, s.held...), s.held[:0]
}

// concerns reports whether a statement may be one for the plane, so that it is
// not asked about all the others.
func concerns(sql string) bool { return strings.Contains(strings.ToLower(sql), "pgaadauth_") }
