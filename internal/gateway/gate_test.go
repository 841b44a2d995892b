package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func testGate(t *testing.T, l Limits) *Gate {
	t.Helper()
	before := runtime.NumGoroutine()
	g, err := New(Options{Protocol: "test", Limits: l, Log: slog.New(slog.DiscardHandler), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		g.Shutdown(ctx)
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Fatalf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
			}
		}
	})
	return g
}

func listen(t *testing.T, g *Gate, handle func(context.Context, net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l, handle) }()
	return l.Addr().String()
}

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestOneSourceCannotTakeEveryPlace(t *testing.T) {
	g := testGate(t, Limits{Handshakes: 10, HandshakesPerSource: 3})
	var inside atomic.Int32
	addr := listen(t, g, func(ctx context.Context, c net.Conn) {
		inside.Add(1)
		<-ctx.Done()
		c.Close()
	})
	refused := 0
	for range 5 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
			refused++
		}
	}
	if refused != 2 || inside.Load() != 3 {
		t.Errorf("%d refused, %d inside", refused, inside.Load())
	}
}

func TestSourceOf(t *testing.T) {
	for in, want := range map[string]string{"10.1.2.3": "10.1.2.3", "::ffff:10.1.2.3": "10.1.2.3", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1": "fe80::"} {
		if got := sourceOf(&net.TCPAddr{IP: net.ParseIP(in)}).String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// admitted starts a pump between two pairs with hooks that pass everything.
func admitted(t *testing.T, g *Gate, id string) (client, server net.Conn, ended chan Reason) {
	t.Helper()
	client, in := pair(t)
	out, server := pair(t)
	ended = make(chan Reason, 1)
	p := &Pump{Client: Quick(in), Backend: Quick(out), Hooks: Hooks{
		FromClient:  func(b []byte) (int, Next) { return len(b), GoOn },
		FromBackend: func(b []byte) (int, bool) { return len(b), true },
		LastWords:   func(r Reason) []byte { return []byte("<" + string(r) + ">") },
		Finished:    func(r Reason, _ bool) { out.Close(); ended <- r },
	}}
	if err := g.Admit(context.Background(), Session{ID: id}, p, g.Generation()); err != nil {
		t.Fatal(err)
	}
	g.Start(p)
	return client, server, ended
}

// TestCopyWhileParking sends bytes with pauses both ways while the session
// parks as often as it can: nothing may be lost, changed or stuck.
func TestCopyWhileParking(t *testing.T) {
	g := testGate(t, Limits{IdleBeforePark: time.Millisecond})
	var pairs sync.WaitGroup
	for i := range 6 {
		client, server, ended := admitted(t, g, string(rune('a'+i)))
		var both sync.WaitGroup
		for dir, ends := range [][2]net.Conn{{client, server}, {server, client}} {
			want := make([]byte, 3<<20)
			r := rand.New(rand.NewPCG(uint64(i), uint64(dir)))
			for k := range want {
				want[k] = byte(r.Uint32())
			}
			both.Go(func() {
				for rest := want; len(rest) > 0; {
					n := min(len(rest), []int{1, 50, 4096, 4097, 300000}[r.IntN(5)])
					if n < 100 {
						n = min(len(rest), n*20)
						time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
					}
					if _, err := ends[0].Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
			})
			both.Go(func() {
				got := make([]byte, len(want))
				if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("pair %d, direction %d: %v, equal %v", i, dir, err, bytes.Equal(got, want))
				}
			})
		}
		pairs.Go(func() {
			both.Wait()
			time.Sleep(5 * time.Millisecond)
			client.Close()
			_, _ = io.Copy(io.Discard, server)
			server.Close() // as a backend does when its client has left
			if r := <-ended; r != ClientLeft {
				t.Errorf("ended: %s", r)
			}
		})
	}
	pairs.Wait()
}

// TestParkedSessionsHoldNoGoroutine is why parking exists.
func TestParkedSessionsHoldNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("sessions park on Linux only")
		return
	}
	g := testGate(t, Limits{IdleBeforePark: 2 * time.Millisecond})
	before := runtime.NumGoroutine()
	var clients []net.Conn
	var ends []chan Reason
	for i := range 20 {
		c, s, e := admitted(t, g, string(rune('A'+i)))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		clients, ends = append(clients, c), append(ends, e)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines more", runtime.NumGoroutine()-before)
		}
	}
	if n := g.Recheck(context.Background(), func(_ context.Context, s Session) error {
		if s.ID < "K" {
			return errors.New("no longer")
		}
		return nil
	}); n != 10 {
		t.Errorf("%d ended", n)
	}
	for i, c := range clients[:10] {
		b, _ := io.ReadAll(c)
		if r := <-ends[i]; r != RightLost || string(b) != "<"+string(RightLost)+">" {
			t.Errorf("%s, %q", r, b)
		}
	}
	// A session is told to its end before it is taken out of the list.
	for deadline := time.Now().Add(5 * time.Second); len(g.Sessions()) != 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are left", len(g.Sessions()))
		}
	}
}

// TestEndRacesWithEverything ends sessions while they park, wake, copy and
// leave.
func TestEndRacesWithEverything(t *testing.T) {
	g := testGate(t, Limits{IdleBeforePark: time.Millisecond})
	var all sync.WaitGroup
	for i := range 60 {
		id := string(rune('A' + i))
		client, server, ended := admitted(t, g, id)
		r := rand.New(rand.NewPCG(uint64(i), 7))
		all.Go(func() {
			_, _ = io.Copy(io.Discard, server)
			server.Close() // as a backend does when its client has left
		})
		all.Go(func() { _, _ = io.Copy(io.Discard, client) })
		all.Go(func() {
			for range 5 {
				_, _ = client.Write(make([]byte, r.IntN(5000)))
				_, _ = server.Write(make([]byte, r.IntN(5000)))
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			}
			if i%3 == 0 {
				client.Close()
			} else {
				g.End(id, Asked)
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Errorf("session %d does not end", i)
			}
			client.Close()
			server.Close()
		})
	}
	all.Wait()
}

func TestAdmitIsRefusedAfterARecheck(t *testing.T) {
	g := testGate(t, Limits{})
	old := g.Generation()
	g.Recheck(context.Background(), func(context.Context, Session) error { return nil })
	if err := g.Admit(context.Background(), Session{ID: "x"}, &Pump{}, old); !errors.Is(err, ErrStale) {
		t.Errorf("got %v", err)
	}
}
