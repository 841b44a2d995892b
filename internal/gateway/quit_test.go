package gateway

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// leaving is a backend that closes as soon as it hears a goodbye: before the
// one who passed it on goes on.
type leaving struct {
	net.Conn
	server net.Conn
}

func (l *leaving) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	_, _ = io.ReadFull(l.server, make([]byte, n))
	_ = l.server.Close()
	time.Sleep(20 * time.Millisecond) // the other direction sees it meanwhile
	return n, err
}

// A backend that closes at a goodbye is no loss, however quick it is.
func TestQuickGoodbye(t *testing.T) {
	g := testGate(t, Limits{})
	client, in := pair(t)
	out, server := pair(t)
	defer client.Close()
	ended := make(chan Reason, 1)
	p := &Pump{Client: in, Backend: &leaving{out, server}, Hooks: Hooks{
		FromClient:  func(b []byte) (int, Next) { return len(b), Quit },
		FromBackend: func(b []byte) (int, bool) { return len(b), true },
		LastWords:   func(r Reason) []byte { return []byte("<" + string(r) + ">") },
		Finished:    func(r Reason, _ bool) { _ = out.Close(); ended <- r },
	}}
	if err := g.Admit(context.Background(), Session{ID: "a"}, p, g.Generation()); err != nil {
		t.Fatal(err)
	}
	g.Start(p)
	if _, err := client.Write([]byte("QUIT")); err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(client)
	if why := <-ended; why != ClientLeft || len(said) != 0 {
		t.Errorf("it ended because %s; the client was told %q", why, said)
	}
}
