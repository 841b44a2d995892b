package pg

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/gateway"
)

const (
	// maxStatement bounds a message that the plane is asked about: the calls
	// that it answers are far shorter. A longer one is the server's alone.
	maxStatement = 8 << 10
	// statementWait bounds what the plane does for one.
	statementWait = 20 * time.Second
	// maxAnswered bounds the prepared statements of a session that the plane
	// has answered: there is one for each such call under way.
	maxAnswered = 64
)

// scribe reads an administrator's session for the plane: of the plain queries,
// and of those to be prepared, it asks about each whether the plane has another
// in its place. Everything else passes as it is. Sessions whose Grant has no
// Statement have none.
//
// What a statement asks for is done when it is read: for a prepared one when
// it is prepared, whether it is executed or not. It is executed once: to be
// done again it must be prepared again.
type scribe struct {
	net.Conn
	ask func(context.Context, string) (instead string, ok bool)

	buf  []byte // what a Read of the connection fills
	out  []byte // to be passed on
	held []byte // the beginning of a message: its header, or a short message
	skip uint64 // how much of the message under way passes unseen
	// answered are the prepared statements that the plane has answered, and
	// whether each has been executed.
	answered map[string]bool
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

// wanted reports whether a kind of message is read whole: queries, statements
// to be prepared, and, once there are answered ones, what is said about those.
func (s *scribe) wanted(kind byte) bool {
	return kind == 'Q' || kind == 'P' || len(s.answered) > 0 && (kind == 'B' || kind == 'C')
}

// message looks at what is held: a header, or all of a message that is wanted.
func (s *scribe) message(header bool) {
	kind, length := s.held[0], binary.BigEndian.Uint32(s.held[1:])
	if header && s.wanted(kind) && length > 4 && length <= maxStatement {
		return // the rest is to come
	}
	if header {
		s.out, s.held = append(s.out, s.held...), s.held[:0]
		if length > 4 { // less breaks the protocol, which is found where messages are followed
			s.skip = uint64(length - 4)
		}
		return
	}
	body := s.held[headerSize:]
	var instead pgproto3.FrontendMessage
	switch kind {
	case 'Q':
		instead = s.query(body)
	case 'P':
		instead = s.parse(body)
	case 'B':
		instead = s.bind(body)
	case 'C':
		s.closed(body)
	}
	if instead != nil {
		if out, err := instead.Encode(s.out); err == nil {
			s.out, s.held = out, s.held[:0]
			return
		}
	}
	s.out, s.held = append(s.out, s.held...), s.held[:0]
}

// query answers a plain query; nil passes it on.
func (s *scribe) query(body []byte) pgproto3.FrontendMessage {
	text, rest, ok := cstring(body)
	if !ok || len(rest) != 0 {
		return nil
	}
	if text, ok = s.answer(text); !ok {
		return nil
	}
	return &pgproto3.Query{String: text}
}

// parse answers a statement that is to be prepared.
func (s *scribe) parse(body []byte) pgproto3.FrontendMessage {
	name, rest, ok := cstring(body)
	if !ok {
		return nil
	}
	delete(s.answered, name)
	text, _, ok := cstring(rest)
	if !ok || len(s.answered) >= maxAnswered {
		return nil
	}
	var m pgproto3.Parse
	if m.Decode(bytes.Clone(body)) != nil || len(m.ParameterOIDs) > 0 {
		return nil
	}
	if m.Query, ok = s.answer(text); !ok {
		return nil
	}
	if s.answered == nil {
		s.answered = map[string]bool{}
	}
	s.answered[name] = false
	return &m
}

// doneOnce is what the name of a statement becomes that is executed again: the
// server says that there is none, drivers with a cache of statements prepare it
// again, and nobody is told of a thing that was not done.
const doneOnce = " was done when it was prepared: prepare it again"

// bind lets an answered statement be executed once.
func (s *scribe) bind(body []byte) pgproto3.FrontendMessage {
	portal, rest, ok := cstring(body)
	if !ok {
		return nil
	}
	name, _, ok := cstring(rest)
	if !ok {
		return nil
	}
	executed, answered := s.answered[name]
	if answered && executed {
		return &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name + doneOnce}
	}
	if answered {
		s.answered[name] = true
	}
	return nil
}

// closed forgets a prepared statement.
func (s *scribe) closed(body []byte) {
	if name, _, ok := cstring(body[1:]); ok && body[0] == 'S' {
		delete(s.answered, name)
	}
}

// answer asks the plane about a text.
func (s *scribe) answer(text string) (instead string, ok bool) {
	if !concerns(text) {
		return "", false
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementWait)
	defer cancel()
	instead, ok = s.ask(ctx, text)
	return instead, ok && !strings.ContainsRune(instead, 0)
}

// concerns reports whether a text may be one for the plane, so that it is not
// asked about all the others: a pgaadauth_ function or label, or the dropping
// of a role.
func concerns(sql string) bool {
	sql = strings.ToLower(sql)
	return strings.Contains(sql, "pgaadauth") || strings.Contains(sql, "drop") && (strings.Contains(sql, "role") || strings.Contains(sql, "user"))
}
