package server

import (
	"context"
	"net"
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
	if peerOf(context.Background()).IsValid() {
		t.Error("a connection without an address has one")
	}
}
