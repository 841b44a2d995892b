package tds

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// lane is the way to a backend in a session: it knows whether a message is
// under way, so that an attention never falls into one.
//
// Under TLS it writes packet by packet, so that each is a record of its own,
// as drivers do: servers have been known to wait for the rest of a packet that
// came in two. A packet of which a part has come waits for the other.
type lane struct {
	net.Conn
	apart bool // write packet by packet
	mars  bool // what is written are frames of SMP

	next bool // whether what is written next ends a message; the client's goroutine only

	mu       sync.Mutex
	border   bool
	attended bool
	held     []byte // of a packet
}

func newLane(b *backend) *lane {
	_, secure := b.conn.(*tls.Conn)
	return &lane{Conn: b.conn, apart: secure, mars: b.mars, border: !b.mars}
}

// NetConn returns what is below, for those who need the socket.
func (l *lane) NetConn() net.Conn { return l.Conn }

// CloseWrite passes a half-close on.
func (l *lane) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return net.ErrClosed
}

func (l *lane) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attended { // the session was ended: nothing begins behind that
		return 0, net.ErrClosed
	}
	l.border = false
	n, err := l.write(p)
	l.border = err == nil && l.next
	return n, err
}

func (l *lane) write(p []byte) (n int, err error) {
	if !l.apart {
		return l.Conn.Write(p)
	}
	for n < len(p) {
		whole := p[n:]
		if size := l.size(whole); len(l.held) == 0 && size > 0 && size <= len(whole) {
			whole = whole[:size]
			n += size
		} else {
			n += l.hold(whole)
			if whole = l.held; len(whole) < headerSize || len(whole) != l.size(whole) {
				continue
			}
			l.held = nil
		}
		if _, err := l.Conn.Write(whole); err != nil {
			return n, err
		}
	}
	return n, nil
}

// size is that of the packet or frame that begins b; 0: not known yet. The
// walker has looked at it before.
func (l *lane) size(b []byte) int {
	switch {
	case len(b) < headerSize: // the length stands within that in both
		return 0
	case l.mars:
		return int(binary.LittleEndian.Uint32(b[4:]))
	}
	return int(binary.BigEndian.Uint16(b[2:]))
}

// hold takes as much of b as belongs to the packet under way.
func (l *lane) hold(b []byte) int {
	size := l.size(l.held)
	if size == 0 {
		size = headerSize
	}
	n := min(len(b), size-len(l.held))
	if cap(l.held) < size {
		l.held = append(make([]byte, 0, size), l.held...)
	}
	l.held = append(l.held, b[:n]...)
	return n
}

// attend sends one attention, if it can be sent, and reports whether one was.
func (l *lane) attend() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attended || !l.border {
		return l.attended
	}
	_ = l.Conn.SetWriteDeadline(time.Now().Add(attemptWait))
	_, err := l.Conn.Write(appendMessage(nil, typeAttention, 0, 0, firstPacket, nil))
	l.attended = err == nil
	return l.attended
}

// acknowledged waits for the answer to an attention: the last message that
// the backend sends ends with a DONE that says so.
func (l *lane) acknowledged(w *walker) bool {
	_ = l.Conn.SetReadDeadline(time.Now().Add(stubbornWait))
	buf := make([]byte, 16<<10)
	var tail []byte
	for {
		n, err := l.Conn.Read(buf)
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-doneSize):]
		for at := 0; ; {
			_, start, ok, werr := w.next(buf[:n], at)
			if werr != nil {
				return false
			}
			if at = start; !ok {
				break
			}
		}
		if w.atBorder() && isAttentionDone(tail) {
			return true
		}
		if err != nil {
			return errors.Is(err, io.EOF) // it has hung up: nothing goes on for nobody
		}
	}
}

const doneSize = 13

// isAttentionDone reports whether a message's last bytes are a DONE with
// DONE_ATTN.
func isAttentionDone(b []byte) bool {
	return len(b) == doneSize && b[0] == tokenDone && b[1]&doneAttention != 0
}
