package tds

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/hawser/hawser/internal/gateway"
)

// alpn is the protocol's name in TLS that comes first: [MS-TDS] 3.1.5, TDS 8.
const alpn = "tds/8.0"

// recordTypeHandshake is the first byte of a TLS connection: RFC 8446, 5.1.
const recordTypeHandshake = 0x16

// front is a client's connection under TLS, and what was agreed before LOGIN7.
type front struct {
	conn   *tls.Conn
	hello  hello
	nonce  []byte // ours, where the client had one; nil: none
	strict bool   // TLS came first
}

// negotiate brings a connection under TLS. The connection that it returns is
// never nil and is where a refusal can be written.
func (g *Gateway) negotiate(raw net.Conn) (net.Conn, *front, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(raw, head[:]); err != nil {
		return raw, nil, err
	}
	in := &gateway.Replayed{Conn: raw, Head: head[:]}
	if head[0] == recordTypeHandshake {
		return g.strictly(in)
	}
	h, err := readHello(in)
	if err != nil {
		return raw, nil, err
	}
	f := &front{hello: h}
	if err := f.reply(raw); err != nil {
		return raw, nil, err
	}
	w := &wrapped{Conn: raw}
	f.conn = tls.Server(w, g.wrappedTLS)
	if err := f.conn.Handshake(); err != nil { // bounded by the connection's deadline
		return raw, nil, tlsError(err)
	}
	if err := w.finish(); err != nil {
		return raw, nil, err
	}
	return f.conn, f, nil
}

// strictly is TDS 8: TLS, and PRELOGIN within.
func (g *Gateway) strictly(raw net.Conn) (net.Conn, *front, error) {
	f := &front{conn: tls.Server(raw, g.strictTLS), strict: true}
	if err := f.conn.Handshake(); err != nil {
		return raw, nil, tlsError(err)
	}
	if f.conn.ConnectionState().NegotiatedProtocol != alpn {
		return f.conn, nil, protocolError("TLS came before PRELOGIN without the protocol name " + alpn)
	}
	var err error
	if f.hello, err = readHello(f.conn); err != nil {
		return f.conn, nil, err
	}
	return f.conn, f, f.reply(f.conn)
}

func readHello(r io.Reader) (hello, error) {
	b, _, err := readMessage(r, typePrelogin, maxPrelogin)
	if err != nil {
		return hello{}, clientError(err)
	}
	return parsePrelogin(b)
}

// reply sends our PRELOGIN.
func (f *front) reply(c net.Conn) error {
	if f.hello.nonce != nil {
		f.nonce = make([]byte, nonceSize)
		_, _ = rand.Read(f.nonce)
	}
	_, err := c.Write(appendMessage(nil, typeReply, 0, 0, firstPacket, f.hello.answer(f.nonce, f.strict)))
	return err
}

// tlsError words a handshake that failed. A login in clear in its place is
// told what is missing; anything else TLS itself has told about.
func tlsError(err error) error {
	var k errKind
	if errors.As(err, &k) {
		return noEncryption()
	}
	return fmt.Errorf("TLS handshake: %w", errHandshake{err})
}

// errHandshake marks an error that TLS itself has told the client about.
type errHandshake struct{ error }

func (errHandshake) Timeout() bool   { return false }
func (errHandshake) Temporary() bool { return false }

// wrapped carries a TLS handshake inside PRELOGIN packets: [MS-TDS] 2.2.6.5.
// After finish its bytes go through as they are. The handshake is done by one
// goroutine, and finish is called before others come.
type wrapped struct {
	net.Conn
	left int  // of the packet that is read
	seen int  // bytes read in all
	done bool // the handshake is over
}

func (w *wrapped) Read(p []byte) (int, error) {
	if w.done {
		return w.Conn.Read(p)
	}
	for w.left == 0 {
		var h header
		if _, err := io.ReadFull(w.Conn, h[:]); err != nil {
			return 0, err
		}
		if h.kind() != typePrelogin && h.kind() != typeReply { // servers before 2008 use that
			return 0, errKind{h.kind(), typePrelogin}
		}
		if w.left = h.size() - headerSize; w.left < 0 {
			return 0, errShort
		}
		if w.seen += h.size(); w.seen > maxHandshake {
			return 0, errBig
		}
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// Write sends one flight of the handshake as a message.
func (w *wrapped) Write(p []byte) (int, error) {
	if w.done {
		return w.Conn.Write(p)
	}
	out := make([]byte, 0, len(p)+headerSize*(1+len(p)/(firstPacket-headerSize)))
	rest := p
	for id := byte(1); len(rest) > 0; id++ {
		n := min(len(rest), firstPacket-headerSize)
		out = append(out, typePrelogin, flag(n == len(rest)))
		out = binary.BigEndian.AppendUint16(out, uint16(n+headerSize))
		out = append(append(out, 0, 0, id, 0), rest[:n]...)
		rest = rest[n:]
	}
	if _, err := w.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// finish ends the wrapping. Whatever is left in the last packet was sent
// before TLS was there and must not be taken as sent within.
func (w *wrapped) finish() error {
	if w.left != 0 {
		return protocolError("bytes follow the TLS handshake in its last packet")
	}
	w.done = true
	return nil
}

// NetConn returns what is below, for those who need the socket.
func (w *wrapped) NetConn() net.Conn { return w.Conn }

// CloseWrite passes a half-close on.
func (w *wrapped) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return net.ErrClosed
}
