package gatewaytest

import (
	"context"
	"crypto/rand"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/gateway"
)

// Run tests every promise with one protocol.
func Run(t *testing.T, p Protocol) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Protocol)
	}{
		{"a session is recorded with what it moved", recordedSession},
		{"tokens that don't count are refused in the protocol's words", refusals},
		{"nothing is said without TLS", withoutTLS},
		{"who never finishes a login is cut off", slowloris},
		{"a flood of connections takes no other's place for long", flood},
		{"no more sessions than the limit", fullHouse},
		{"garbage under TLS", garbage},
		{"a client that vanishes", vanished},
		{"a client that does not read makes the gateway wait, not grow", backPressure},
		{"a lost right ends idle and busy sessions", revocation},
		{"an administrator ends one session", endOne},
		{"shutdown ends every session", drain},
		{"a backend that is away", away},
		{"many at once", crowd},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, p) })
	}
}

func recordedSession(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{})
	c := d.login(t)
	if err := c.Ask(limited(t)); err != nil {
		t.Fatal(err)
	}
	begun := d.recorded()
	if len(begun) != 1 || begun[0].Ended || begun[0].Session.Who.ObjectID != App || begun[0].Session.Target.Peer == nil {
		t.Fatalf("the start is recorded as %+v", begun)
	}
	if err := c.Load(limited(t), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end is recorded", func() bool { return len(d.recorded()) == 2 })
	e := d.recorded()[1]
	if !e.Ended || e.Reason != gateway.ClientLeft || e.Sent == 0 || e.Received < 1<<20 || e.Duration <= 0 || e.Session.ID != begun[0].Session.ID {
		t.Errorf("the end is recorded as %+v", e)
	}
	if !e.Session.Grant.Password.IsZero() {
		t.Error("the record holds the backend's password")
	}
}

func refusals(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{})
	for token := range refused {
		c, err := p.Open(limited(t), d.at(func(a *At) { a.Token = token }))
		if err == nil {
			_ = c.Close()
			t.Errorf("%q was let in", token)
			continue
		}
		if !p.Denied(err) {
			t.Errorf("%q was refused in other words: %v", token, err)
		}
		if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), App) {
			t.Errorf("the refusal of %q says too much: %v", token, err)
		}
	}
	if c, err := p.Open(limited(t), d.at(func(a *At) { a.Host = "s2." + p.Domain })); err == nil {
		_ = c.Close()
		t.Error("a server that is not there let somebody in")
	}
	if e := d.recorded(); len(e) != 0 {
		t.Errorf("sessions were recorded: %+v", e)
	}
}

func withoutTLS(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{Handshake: 2 * time.Second})
	c := d.raw(t)
	if _, err := c.Write(p.Plain); err != nil {
		t.Fatal(err)
	}
	ends(t, c)
	if len(d.recorded()) != 0 {
		t.Error("a session began without TLS")
	}
}

func slowloris(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{Handshake: time.Second})
	var slow []net.Conn
	for i := range 30 {
		c := d.raw(t)
		if i%2 == 0 {
			_, _ = c.Write(p.Plain[:1])
		}
		slow = append(slow, c)
	}
	slow = append(slow, d.secure(t)) // and one that stops behind TLS
	if err := d.login(t).Ask(limited(t)); err != nil {
		t.Error(err)
	}
	for _, c := range slow {
		ends(t, c)
	}
}

func flood(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{Handshakes: 20, HandshakesPerSource: 10, Handshake: time.Second})
	var all []net.Conn
	for range 200 {
		if c, err := net.Dial("tcp", d.addr); err == nil {
			all = append(all, c)
		}
	}
	for _, c := range all {
		ends(t, c)
		_ = c.Close()
	}
	if err := d.login(t).Ask(limited(t)); err != nil {
		t.Error(err)
	}
}

func fullHouse(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{Sessions: 2})
	first, second := d.login(t), d.login(t)
	if c, err := p.Open(limited(t), d.at()); err == nil {
		_ = c.Close()
		t.Fatal("a third session was let in")
	} else if p.Denied(err) {
		t.Errorf("a full house is told as a refused token: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "a place is free", func() bool { return len(d.Sessions()) == 1 })
	for _, c := range []Client{second, d.login(t)} {
		if err := c.Ask(limited(t)); err != nil {
			t.Error(err)
		}
	}
}

func garbage(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{Handshake: time.Second})
	for _, size := range []int{1, 7, 64, 1000, 70_000} {
		c := d.secure(t)
		b := make([]byte, size)
		_, _ = rand.Read(b)
		_, _ = c.Write(b)
		ends(t, c)
	}
	full := make([]byte, 70_000)
	for i := range full {
		full[i] = 0xff
	}
	c := d.secure(t)
	_, _ = c.Write(full)
	ends(t, c)
	if len(d.recorded()) != 0 {
		t.Error("garbage began a session")
	}
}

func vanished(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{})
	var raw net.Conn
	c := d.login(t, func(a *At) {
		dial := a.Dial
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			var err error
			raw, err = dial(ctx)
			return raw, err
		}
	})
	if err := c.Ask(limited(t)); err != nil {
		t.Fatal(err)
	}
	_ = raw.(*net.TCPConn).SetLinger(0) // a reset, as from a killed machine
	_ = raw.Close()
	eventually(t, "the session ends", func() bool { return len(d.Sessions()) == 0 })
	eventually(t, "the end is recorded", func() bool { return len(d.recorded()) == 2 })
	if r := d.recorded()[1].Reason; r != gateway.ClientLost && r != gateway.ClientLeft {
		t.Errorf("it ended because %s", r)
	}
}

// loadBytes is far more than sockets and buffers hold.
const loadBytes = 64 << 20

func backPressure(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{})
	var h *held
	c := d.login(t, func(a *At) {
		dial := a.Dial
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			raw, err := dial(ctx)
			h = &held{Conn: raw}
			return h, err
		}
	})
	if err := c.Ask(limited(t)); err != nil {
		t.Fatal(err)
	}
	h.hold()
	done := make(chan error, 1)
	go func() { done <- c.Load(context.Background(), loadBytes) }()
	before := heap()
	time.Sleep(500 * time.Millisecond) // in which everything that can flow has flowed
	if grown := heap() - before; grown > loadBytes/4 {
		t.Errorf("the gateway holds %d bytes for a client that does not read", grown)
	}
	h.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func revocation(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{IdleBeforePark: 20 * time.Millisecond})
	idle, busy := d.login(t), d.login(t)
	if err := idle.Ask(limited(t)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- busy.Sleep(context.Background()) }()
	time.Sleep(200 * time.Millisecond) // the idle one is parked, the other one at work
	if n := d.revoke(); n != 2 {
		t.Errorf("%d sessions lost their right, want 2", n)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("the query of a session without a right was answered")
		}
	case <-time.After(patience):
		t.Fatal("a busy session outlived its right")
	}
	eventually(t, "both end", func() bool { return len(d.Sessions()) == 0 })
	if err := idle.Ask(limited(t)); err == nil {
		t.Error("an idle session outlived its right")
	}
	eventually(t, "the ends are recorded", func() bool { return len(d.recorded()) == 4 })
	for _, e := range d.recorded() {
		if e.Ended && e.Reason != gateway.RightLost {
			t.Errorf("it ended because %s", e.Reason)
		}
	}
	if c, err := p.Open(limited(t), d.at()); err == nil {
		_ = c.Close()
		t.Error("a new session was let in")
	}
}

func endOne(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{})
	a, b := d.login(t), d.login(t)
	for _, c := range []Client{a, b} {
		if err := c.Ask(limited(t)); err != nil {
			t.Fatal(err)
		}
	}
	first := d.recorded()[0].Session.ID
	if !d.End(first, gateway.Asked) {
		t.Fatal("it was not there")
	}
	eventually(t, "it ends", func() bool { return len(d.Sessions()) == 1 })
	answers := 0
	for _, c := range []Client{a, b} {
		if c.Ask(limited(t)) == nil {
			answers++
		}
	}
	if answers != 1 {
		t.Errorf("%d sessions go on, want 1", answers)
	}
}

func drain(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{})
	idle, busy := d.login(t), d.login(t)
	if err := idle.Ask(limited(t)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- busy.Sleep(context.Background()) }()
	time.Sleep(100 * time.Millisecond)
	d.Shutdown(limited(t))
	if err := <-done; err == nil {
		t.Error("a query was answered by a gateway that has stopped")
	}
	if err := idle.Ask(limited(t)); err == nil {
		t.Error("a session goes on in a gateway that has stopped")
	}
	if _, err := net.DialTimeout("tcp", d.addr, time.Second); err == nil {
		t.Error("the gateway still listens")
	}
	n := 0
	for _, e := range d.recorded() {
		if e.Ended && e.Reason == gateway.Stopping {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d ends are recorded as such, want 2", n)
	}
}

func away(t *testing.T, p Protocol) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	d := open(t, p, gateway.Limits{}, func(d *plane) { d.grant.Addr = addr })
	c, err := p.Open(limited(t), d.at())
	if err == nil {
		_ = c.Close()
		t.Fatal("somebody was let in to nothing")
	}
	if p.Denied(err) {
		t.Errorf("it is told as a refused token: %v", err)
	}
	if strings.Contains(err.Error(), addr) {
		t.Errorf("the client is told where the backend is: %v", err)
	}
}

func crowd(t *testing.T, p Protocol) {
	d := open(t, p, gateway.Limits{IdleBeforePark: time.Millisecond})
	var failed atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 5 {
				if err := d.visit(t); err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	eventually(t, "every session ends", func() bool { return len(d.Sessions()) == 0 })
	if n := len(d.recorded()); failed.Load() == 0 && n != 2*16*5 {
		t.Errorf("%d records, want two a session", n)
	}
}

// visit logs in, asks a few times and leaves.
func (p *plane) visit(t testing.TB) error {
	c, err := p.p.Open(limited(t), p.at())
	if err != nil {
		return err
	}
	for range 5 {
		if err := c.Ask(limited(t)); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return c.Close()
}
