package tds

import (
	"context"
	"encoding/binary"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/gateway"
)

const (
	// maxStatement bounds the text that the plane is asked about: the
	// statements that it answers are far shorter. A longer one is the server's
	// alone.
	maxStatement = 8 << 10
	// maxScribed bounds a message that is read whole: the text in UTF-16, and
	// as much again for what a call has besides.
	maxScribed = 4 * maxStatement
	// statementWait bounds what the plane does for one.
	statementWait = 20 * time.Second
)

// scribe reads an administrator's session for the plane: of its batches, and
// of the texts that it has run or prepared by procedure, it asks about each
// whether the plane has another in its place. Everything else passes as it
// is. Sessions whose Grant has no Statement have none.
//
// What a statement asks for is done when it is read: for a prepared one when
// it is prepared, however often it is executed.
type scribe struct {
	net.Conn
	ask    func(context.Context, string) (instead string, ok bool)
	packet int // the session's size of packets

	buf  []byte // what a Read of the connection fills
	out  []byte // to be passed on
	held []byte // the packets of the message under way, as they came
	at   int    // where the last of them begins
	data []byte // what those before it carry
	skip int    // how much of the packet under way passes unseen
	rest bool   // the rest of the message under way passes unseen
}

// scribed wraps a client's connection if its grant wants that.
func scribed(c net.Conn, grant gateway.Grant, b *backend) net.Conn {
	if grant.Statement == nil || b.mars {
		return c
	}
	return &scribe{Conn: c, ask: grant.Statement, packet: b.welcome.packetSize, buf: make([]byte, 4<<10)}
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

// take splits bytes into packets.
func (s *scribe) take(b []byte) {
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(len(b), s.skip)
			s.out, b, s.skip = append(s.out, b[:n]...), b[n:], s.skip-n
			continue
		}
		have, want := len(s.held)-s.at, headerSize
		if have >= headerSize {
			want = int(binary.BigEndian.Uint16(s.held[s.at+2:]))
		}
		n := min(want-have, len(b))
		s.held, b = append(s.held, b[:n]...), b[n:]
		if have+n == want && (want > headerSize || s.headed()) {
			s.whole()
		}
	}
}

// headed looks at a packet's header and reports whether the packet is complete
// with it; what is not read whole it passes on.
func (s *scribe) headed() bool {
	h := header(s.held[s.at:])
	n := h.size() - headerSize
	wanted := !s.rest && (h.kind() == typeBatch || h.kind() == typeRPC) && h.kind() == s.held[0] && n >= 0 && len(s.held)+n <= maxScribed
	if wanted {
		return n == 0
	}
	s.pass(h.last())
	s.skip = max(n, 0) // less breaks the protocol, which is found where packets are followed
	return false
}

// pass passes on what is held as it came.
func (s *scribe) pass(last bool) {
	s.out = append(s.out, s.held...)
	s.clear()
	s.rest = !last
}

func (s *scribe) clear() { s.held, s.data, s.at = s.held[:0], s.data[:0], 0 }

// whole takes a packet that is complete.
func (s *scribe) whole() {
	h := header(s.held[s.at:])
	s.data = append(s.data, s.held[s.at+headerSize:]...)
	if s.at = len(s.held); !h.last() {
		return
	}
	if h[1]&statusIgnore != 0 { // the client has taken it back: [MS-TDS] 2.2.3.1.2
		s.pass(true)
		return
	}
	if data, ok := s.instead(s.held[0]); ok {
		s.out = appendMessage(s.out, s.held[0], s.held[1]&^statusEnd, 0, s.packet, data)
		s.clear()
		return
	}
	s.pass(true)
}

// instead asks the plane about the message that is held.
func (s *scribe) instead(kind byte) ([]byte, bool) {
	from, to, long, ok := statementOf(kind, s.data)
	if !ok || to-from > 2*maxStatement || (to-from)%2 != 0 {
		return nil, false
	}
	text := fromUTF16(s.data[from:to])
	if !concerns(text) {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementWait)
	defer cancel()
	text, ok = s.ask(ctx, text)
	if !ok {
		return nil, false
	}
	raw := appendUTF16(nil, text)
	if kind == typeBatch {
		return append(slices.Clone(s.data[:from]), raw...), true
	}
	return long.replace(s.data, raw), true
}

// concerns reports whether a text may be one for the plane, so that it is not
// asked about all the others: a principal of the directory, or the dropping of
// a user or login.
func concerns(sql string) bool {
	sql = strings.ToLower(sql)
	has := func(all ...string) bool {
		return !slices.ContainsFunc(all, func(s string) bool { return !strings.Contains(sql, s) })
	}
	return has("external") || has("sid", "type") || has("drop", "user") || has("drop", "login")
}

// statementOf finds the text of a batch or call; value is where its parameter
// stands, for a call.
func statementOf(kind byte, b []byte) (from, to int, v value, ok bool) {
	f := fields{b: b}
	n := f.u32()
	if n < 4 || uint64(n-4) > uint64(len(f.b)) {
		return 0, 0, v, false
	}
	f.take(int(n) - 4)
	if kind == typeBatch {
		return len(b) - len(f.b), len(b), v, !f.bad
	}
	which, ok := procedure(&f)
	if !ok {
		return 0, 0, v, false
	}
	for range which {
		if _, ok := parameter(&f, len(b)); !ok {
			return 0, 0, v, false
		}
	}
	v, ok = parameter(&f, len(b))
	return v.from, v.to, v, ok && v.text
}

// procedure reads which procedure is called, and says which parameter is a
// statement.
func procedure(f *fields) (which int, ok bool) {
	// Procedures that have numbers: [MS-TDS] 2.2.6.6.
	name := map[int]string{10: "sp_executesql", 11: "sp_prepare", 13: "sp_prepexec"}
	called := ""
	if n := f.u16(); n == math.MaxUint16 {
		called = name[f.u16()]
	} else {
		called = strings.ToLower(f.text(n))
	}
	f.u16() // options
	switch {
	case f.bad:
		return 0, false
	case called == "sp_executesql":
		return 0, true
	case called == "sp_prepare" || called == "sp_prepexec":
		return 2, true // behind the handle and the parameters
	}
	return 0, false
}

// value is where a parameter's TYPE_INFO and value stand in a message.
type value struct {
	info     int // where TYPE_INFO begins
	from, to int // the text
	end      int // where the next parameter begins
	text     bool
	tail     []byte // of TYPE_INFO: the collation
}

// Types of parameters that stand before and at a statement: [MS-TDS] 2.2.5.4.
const (
	typeIntN     = 0x26
	typeNVarChar = 0xe7
	typeNText    = 0x63
)

// parameter reads one parameter: an integer, or a text. total is the length
// of the message.
func parameter(f *fields, total int) (v value, ok bool) {
	here := func() int { return total - len(f.b) }
	f.text(int(f.u8())) // its name
	f.u8()              // status
	v.info = here()
	switch f.u8() {
	case typeIntN:
		f.u8()
		f.take(int(f.u8()))
	case typeNVarChar:
		v.text = true
		long := f.u16() == math.MaxUint16
		v.tail = f.take(5)
		if long {
			v.chunked(f, here)
		} else if n := f.u16(); n != math.MaxUint16 {
			v.from = here()
			f.take(n)
			v.to = here()
		}
	case typeNText:
		v.text = true
		f.u32()
		v.tail = f.take(5)
		if n := f.u32(); n != math.MaxUint32 && uint64(n) <= uint64(len(f.b)) {
			v.from = here()
			f.take(int(n))
			v.to = here()
		} else {
			f.bad = true
		}
	default:
		return v, false
	}
	v.end = here()
	return v, !f.bad
}

// chunked reads a value in chunks, of which there must be one at most.
func (v *value) chunked(f *fields, here func() int) {
	total := f.take(8)
	if total != nil && binary.LittleEndian.Uint64(total) == math.MaxUint64 {
		return // NULL
	}
	n := f.u32()
	if n == 0 {
		return
	}
	if uint64(n) > uint64(len(f.b)) {
		f.bad = true
		return
	}
	v.from = here()
	f.take(int(n))
	v.to = here()
	f.bad = f.bad || f.u32() != 0
}

// replace returns the message with another text, as NVARCHAR(max).
func (v *value) replace(b, raw []byte) []byte {
	le := binary.LittleEndian
	out := slices.Clone(b[:v.info])
	out = append(out, typeNVarChar, 0xff, 0xff)
	out = append(out, v.tail...)
	out = le.AppendUint64(out, uint64(len(raw)))
	if len(raw) > 0 {
		out = append(le.AppendUint32(out, uint32(len(raw))), raw...)
	}
	return append(le.AppendUint32(out, 0), b[v.end:]...)
}
