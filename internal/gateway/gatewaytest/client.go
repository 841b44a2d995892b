package gatewaytest

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"
)

// patience bounds what must happen at once: long enough for a machine that is
// busy with other things.
const patience = 20 * time.Second

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// at is a login of App's; change makes it another.
func (p *plane) at(change ...func(*At)) At {
	a := At{Addr: p.addr, Host: "s1." + p.p.Domain, Roots: p.roots, User: p.p.User, Token: GoodToken}
	a.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", p.addr)
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

func (p *plane) login(t testing.TB, change ...func(*At)) Client {
	t.Helper()
	c, err := p.p.Open(limited(t), p.at(change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// raw opens a connection without a client.
func (p *plane) raw(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// secure opens a connection under TLS without a client.
func (p *plane) secure(t testing.TB) net.Conn {
	t.Helper()
	raw := p.raw(t)
	_ = raw.SetDeadline(time.Now().Add(patience))
	c, err := p.p.Secure(raw, &tls.Config{RootCAs: p.roots, ServerName: "s1." + p.p.Domain, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ends waits until the other side has closed a connection, whatever it says
// before.
func ends(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for {
		if _, err := c.Read(b); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the gateway left a connection open")
			}
			return
		}
	}
}

// eventually waits for something to become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen", what)
		}
	}
}

// held is a connection that stops reading for a while.
type held struct {
	net.Conn
	mu   sync.Mutex
	free chan struct{} // nil: not held; closed by release
}

func (h *held) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = make(chan struct{})
}

func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.free != nil {
		close(h.free)
		h.free = nil
	}
}

func (h *held) Read(b []byte) (int, error) {
	h.mu.Lock()
	free := h.free
	h.mu.Unlock()
	if free != nil {
		<-free
	}
	return h.Conn.Read(b)
}
