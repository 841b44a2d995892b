package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// RefusalWait bounds the writing of a refusal.
const RefusalWait = time.Second

// What a client that sent too much may still send before it is cut off.
const (
	lingerWait  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

// admitTries is how often a login may be overtaken by changes of rights before
// the client is told to try again.
const admitTries = 5

// Refuse writes a refusal and closes. unread says that the client has sent
// more than was read: closing would then reset the connection, and the client
// would never see the refusal.
func Refuse(c net.Conn, words []byte, unread bool) {
	defer CloseSoon(c)
	_ = c.SetWriteDeadline(time.Now().Add(RefusalWait))
	if _, err := c.Write(words); err == nil && unread {
		_ = c.SetReadDeadline(time.Now().Add(lingerWait))
		_, _ = io.CopyN(io.Discard, c, lingerBytes)
	}
}

// CloseSoon closes with TLS's farewell, which must not take the five seconds
// that crypto/tls would give it.
func CloseSoon(c net.Conn) {
	t := time.AfterFunc(RefusalWait, func() { _ = Bottom(c).Close() })
	_ = c.Close()
	t.Stop()
}

// Gone reports whether an error of a login means that there is nobody left to
// tell. A lost store is a network's error too, but not the client's.
func Gone(err error) bool {
	var e *az.Error
	if errors.As(err, &e) {
		return false
	}
	var ne net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &ne)
}

// AdmitAgain is Admit, and authorises again when rights changed meanwhile.
func (g *Gate) AdmitAgain(ctx context.Context, s Session, p *Pump, generation uint64, a Authorize) error {
	still := a.Still()
	for range admitTries {
		err := g.Admit(ctx, s, p, generation)
		if !errors.Is(err, ErrStale) {
			return err
		}
		generation = g.Generation()
		if err := still(ctx, s); err != nil {
			return err
		}
	}
	return ErrStale
}

// ServerOfHost returns the server that a TLS host name means, "" for a host
// name that means none, such as localhost. domain is what follows <server>.
func ServerOfHost(host, domain string) (string, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	label, ok := strings.CutSuffix(host, "."+domain)
	if domain == "" || !ok {
		return "", nil
	}
	if !IsServerName(label) {
		return "", errors.New("no server has such a host name")
	}
	return label, nil
}

// IsServerName reports whether s can be the name of a server: one DNS label.
func IsServerName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Bottom returns the socket under wrappers such as TLS.
func Bottom(c net.Conn) net.Conn {
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = w.NetConn()
	}
}

// Replayed is a connection some of whose bytes have been read.
type Replayed struct {
	net.Conn
	Head []byte
}

// Read gives what was read before, then what comes.
func (r *Replayed) Read(p []byte) (int, error) {
	if len(r.Head) > 0 {
		n := copy(p, r.Head)
		r.Head = r.Head[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// NetConn returns what is below, for those who need the socket.
func (r *Replayed) NetConn() net.Conn { return r.Conn }

// CloseWrite passes a half-close on.
func (r *Replayed) CloseWrite() error {
	if w, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return net.ErrClosed
}
