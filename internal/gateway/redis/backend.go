package redis

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/gateway"
)

const (
	terminateWait = 5 * time.Second // for the server to be told to drop a connection
	// stubbornWait is how long a server has to close when we do; the whole
	// must be over within the second of a lost right.
	stubbornWait = 250 * time.Millisecond
	// maxGreeting bounds what a server may say during our login: nearly all
	// of it is CLUSTER NODES, a line of some 200 bytes for each of 1,000 nodes
	// and the slots that are on the move.
	maxGreeting = 2 << 20
)

// backend is a logged-in connection to a real server.
type backend struct {
	conn  net.Conn
	addr  string // that was dialled
	id    uint64 // CLIENT ID
	nonce []byte // of the commands that the server can't know
}

// marker is a command that no server knows; what it answers names it.
func (b *backend) marker(out []byte, n uint64) []byte {
	name := strconv.AppendUint(append([]byte(nil), b.nonce...), n, 10)
	return appendCommand(out, name)
}

// marked finds which marker an error line answers.
func (b *backend) marked(line []byte) (n uint64, ok bool) {
	at := bytes.Index(line, b.nonce)
	if at < 0 {
		return 0, false
	}
	digits := line[at+len(b.nonce):]
	end := 0
	for end < len(digits) && digits[end] >= '0' && digits[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(digits[:end]), 10, 64)
	return n, err == nil
}

// reach logs in to the server of a grant, or to one of its nodes.
func (g *Gateway) reach(ctx context.Context, grant gateway.Grant, at *node) (*backend, error) {
	addr := grant.Addr
	if at != nil {
		if !at.of.Equal(grant.Server) {
			return nil, &refusal{text: wrongPass, cause: errors.New("the door is another server's"), reason: "node"}
		}
		if !g.topologyOf(grant.Server).has(at.addr) { // its address may be somebody else's by now: no password goes there
			return nil, &refusal{text: unreachable, cause: errors.New("the node has left the cluster"), reason: "node"}
		}
		addr = at.addr
	}
	b, err := g.connect(ctx, grant, addr)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, errBadPassword):
		return nil, &refusal{text: "ERR the Redis server refused the gateway: its registration needs attention", cause: err, reason: "backend"}
	}
	return nil, &refusal{text: unreachable, cause: err, reason: "backend"}
}

// connect opens one connection.
func (g *Gateway) connect(ctx context.Context, grant gateway.Grant, addr string) (*backend, error) {
	c, err := gateway.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if grant.TLS != nil {
		t := tls.Client(c, grant.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c = t
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b := &backend{conn: c, addr: addr, nonce: newNonce()}
	if err := g.logIn(b, grant); err != nil {
		c.Close()
		return nil, err
	}
	return b, nil
}

// newNonce makes a word that nobody can guess. In capitals, because there are
// servers that answer in them.
func newNonce() []byte {
	var r [16]byte
	_, _ = rand.Read(r[:])
	return []byte("HAWSER-" + strings.ToUpper(hex.EncodeToString(r[:])) + "-")
}

// logIn says who we are, asks for the connection's id, and sees that the
// server answers a command it can't know as we need it to.
func (g *Gateway) logIn(b *backend, grant gateway.Grant) error {
	out := appendCommand(nil, "AUTH", grant.User, grant.Password.Reveal())
	out = appendCommand(out, "CLIENT", "ID")
	out = b.marker(out, 0)
	t := g.topologyOf(grant.Server)
	own := b.addr == grant.Addr
	ask := t.outdated(own)
	want := 3
	if ask {
		out = appendCommand(out, "CLUSTER", "NODES")
		want++
	}
	if _, err := b.conn.Write(out); err != nil {
		return err
	}
	said, err := readReplies(b.conn, want)
	if err != nil {
		return err
	}
	if text := string(said[0].text); said[0].kind != '+' || text != "OK" {
		code, _, _ := strings.Cut(text, " ")
		if code == "WRONGPASS" {
			return errBadPassword
		}
		return fmt.Errorf("the server answers AUTH with %s", clean(code))
	}
	if said[1].kind == ':' {
		b.id, _ = strconv.ParseUint(string(said[1].text), 10, 64)
	}
	if n, ok := b.marked(said[2].text); said[2].kind != '-' || !ok || n != 0 {
		return errors.New("the server does not name a command that it does not know, as every Redis does")
	}
	if ask {
		t.learn(said[3], b.addr, own)
	}
	return nil
}

// readReplies reads exactly n replies.
func readReplies(r io.Reader, n int) ([]value, error) {
	var w replyWalker
	buf, at := make([]byte, 0, 1024), 0
	for w.replies < uint64(n) {
		if len(buf) == cap(buf) {
			if len(buf) >= maxGreeting {
				return nil, errReply
			}
			buf = append(buf, make([]byte, len(buf))...)[:len(buf)]
		}
		m, err := r.Read(buf[len(buf):cap(buf)])
		if m == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return nil, err
		}
		buf = buf[:len(buf)+m]
		for at < len(buf) {
			var ev event
			if at, ev, err = w.walk(buf, at, true); err != nil {
				return nil, err
			}
			if ev == half {
				break
			}
		}
	}
	if w.replies != uint64(n) || !w.atBorder() || at != len(buf) {
		return nil, errReply // it says more than was asked
	}
	out := make([]value, 0, n)
	for rest := buf; len(rest) > 0; {
		v, size, err := parseValue(rest, maxDepth)
		if err != nil {
			return nil, err
		}
		if v.kind != '>' {
			out = append(out, v)
		}
		rest = rest[size:]
	}
	return out, nil
}

// close drops the connection.
func (b *backend) close() { _ = gateway.Bottom(b.conn).Close() }

// end is close for a session that must not go on: it reports whether the
// server has let go of the connection, for which it waits a moment.
func (b *backend) end() bool {
	defer b.close()
	_ = b.conn.SetDeadline(time.Now().Add(stubbornWait))
	w, ok := b.conn.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return false
	}
	if sock, ok := gateway.Bottom(b.conn).(interface{ CloseWrite() error }); ok {
		_ = sock.CloseWrite() // a TLS farewell alone need not be one for the server
	}
	_, err := io.Copy(io.Discard, gateway.Bottom(b.conn)) // whatever it still says, until its end
	var ne net.Error
	return !errors.As(err, &ne) || !ne.Timeout()
}
