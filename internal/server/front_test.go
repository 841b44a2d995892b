package server

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
)

// Where an announcement comes from is the connection's other end, whatever the
// request says.
func TestPeerOfAConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			_ = c.Close()
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got := peerOf(withPeer(context.Background(), c)); got.String() != "127.0.0.1" {
		t.Errorf("peer %s", got)
	}
	own := os.Geteuid()
	if err := mayBeApp(c, own); err != nil {
		t.Errorf("one's own: %v", err)
	}
	if own > 0 && runtime.GOOS == "linux" {
		if err := mayBeApp(c, own+1); err == nil {
			t.Error("another user's program may be an app")
		}
	}
	if peerOf(context.Background()).IsValid() {
		t.Error("a connection without an address has one")
	}
}
