package tdstest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// Packet types: [MS-TDS] 2.2.3.1.1.
const (
	kindBatch       = 1
	kindRPC         = 3
	kindReply       = 4
	kindAttention   = 6
	kindBulk        = 7
	kindTransaction = 14
	kindLogin       = 16
	kindPrelogin    = 18
)

// Status bits of a packet: [MS-TDS] 2.2.3.1.2.
const (
	statusEnd           = 0x01
	statusIgnore        = 0x02
	statusReset         = 0x08
	statusResetSkipTran = 0x10
)

const (
	headerSize   = 8
	maxPacket    = 32767   // the largest packet size of [MS-TDS] 2.2.6.4
	startPacket  = 4096    // until the login has settled another
	maxMessage   = 4 << 20 // of a client's message; what tests send is smaller
	smallPacket  = 512
	largestLogin = 128 << 10
)

// message is one client's message: packets up to the one with the end bit.
type message struct {
	kind   byte
	status byte // of the first packet
	data   []byte
}

// records reads from TLS and holds a client to one packet in each record:
// servers have been known to read no other.
type records struct {
	net.Conn
	buf  [1 << 14]byte // the largest record: RFC 8446, 5.1
	rest []byte
}

func (r *records) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		n, err := r.Conn.Read(r.buf[:]) // crypto/tls gives one record at a time
		if err != nil {
			return 0, err
		}
		if n < headerSize || int(binary.BigEndian.Uint16(r.buf[2:])) != n {
			return 0, violation("a TLS record of %d bytes is not one packet", n)
		}
		r.rest = r.buf[:n]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// readMessage reads a message and holds it to the protocol.
func readMessage(r io.Reader, packet int) (m message, err error) {
	for first := true; ; first = false {
		var h [headerSize]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			if !first && err == io.EOF {
				return m, violation("the client left within a message")
			}
			return m, err
		}
		size := int(binary.BigEndian.Uint16(h[2:]))
		switch {
		case size < headerSize || size > packet:
			return m, violation("a packet of %d bytes where %d may be", size, packet)
		case h[1]&^(statusEnd|statusIgnore|statusReset|statusResetSkipTran) != 0:
			return m, violation("unknown status bits %#x", h[1])
		case !first && h[0] != m.kind:
			return m, violation("a packet of type %d within a message of type %d", h[0], m.kind)
		case !first && h[1]&(statusReset|statusResetSkipTran) != 0:
			return m, violation("a reset bit on a packet that is not a message's first")
		case h[7] != 0:
			return m, violation("window is %d", h[7])
		case len(m.data)+size > maxMessage:
			return m, violation("a message of more than %d bytes", maxMessage)
		}
		if first {
			m.kind, m.status = h[0], h[1]
		}
		at := len(m.data)
		m.data = append(m.data, make([]byte, size-headerSize)...)
		if _, err := io.ReadFull(r, m.data[at:]); err != nil {
			return m, violation("a packet is cut short")
		}
		if h[1]&statusEnd != 0 {
			if h[1]&statusIgnore != 0 {
				m.kind = 0 // the client took it back
			}
			return m, nil
		}
	}
}

// violated is a breach of the protocol.
type violated struct{ error }

func violation(format string, args ...any) error { return violated{fmt.Errorf(format, args...)} }

// writer splits a reply into packets.
type writer struct {
	w    io.Writer
	size int // of a packet
	spid uint16
	kind byte
	id   byte
	buf  []byte // header and what the packet holds so far
	err  error
}

func (w *writer) begin() {
	w.id, w.buf = 0, append(w.buf[:0], make([]byte, headerSize)...)
}

func (w *writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(w.buf) == w.size {
			w.packet(0)
		}
		room := min(w.size-len(w.buf), len(p))
		w.buf, p = append(w.buf, p[:room]...), p[room:]
	}
	return n, w.err
}

func (w *writer) packet(status byte) {
	w.id++
	w.buf[0], w.buf[1] = w.kind, status
	binary.BigEndian.PutUint16(w.buf[2:], uint16(len(w.buf)))
	binary.BigEndian.PutUint16(w.buf[4:], w.spid)
	w.buf[6], w.buf[7] = w.id, 0
	if w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:headerSize]
}

// end sends the last packet.
func (w *writer) end() error {
	w.packet(statusEnd)
	return w.err
}

// wrapped carries a TLS handshake inside PRELOGIN packets: [MS-TDS] 2.2.6.5.
// Once done is set its bytes go through as they are.
type wrapped struct {
	net.Conn
	in   *bufio.Reader
	left int // of the packet that is read
	out  []byte
	done atomic.Bool
}

func (c *wrapped) Read(p []byte) (int, error) {
	if len(c.out) > 0 { // our flight is complete: TLS waits for the client's
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if c.done.Load() {
		return c.in.Read(p)
	}
	for c.left == 0 {
		var h [headerSize]byte
		if _, err := io.ReadFull(c.in, h[:]); err != nil {
			return 0, err
		}
		if h[0] != kindPrelogin {
			return 0, violation("a packet of type %d within the TLS handshake", h[0])
		}
		if c.left = int(binary.BigEndian.Uint16(h[2:])) - headerSize; c.left < 0 {
			return 0, violation("a packet shorter than its header within the TLS handshake")
		}
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *wrapped) Write(p []byte) (int, error) {
	if c.done.Load() {
		return c.Conn.Write(p)
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

func (c *wrapped) flush() error {
	out := c.out
	c.out = nil
	for len(out) > 0 {
		n := min(len(out), startPacket-headerSize)
		h := []byte{kindPrelogin, 0, 0, 0, 0, 0, 0, 0}
		if n == len(out) {
			h[1] = statusEnd
		}
		binary.BigEndian.PutUint16(h[2:], uint16(n+headerSize))
		if _, err := c.Conn.Write(append(h, out[:n]...)); err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

// finish ends the wrapping after the handshake.
func (c *wrapped) finish() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.left != 0 {
		return violation("%d bytes after the TLS handshake in its last packet", c.left)
	}
	c.done.Store(true)
	return nil
}

// peeked is a connection some of whose bytes wait in a reader.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (c *peeked) Read(p []byte) (int, error) { return c.in.Read(p) }
