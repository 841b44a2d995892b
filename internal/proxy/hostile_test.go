//go:build unix

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/hawser/hawser/internal/gateway"
)

// A door that closes while the next of its name is open leaves that one's
// socket alone.
func TestClosingDoorLeavesTheNextOnesSocket(t *testing.T) {
	dir := shortDir(t)
	old, path, err := listenUnix(dir, "pg1", Postgres)
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := listenUnix(dir, "pg1", Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	_ = old.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the second door: %v", err)
	}
	_ = c.Close()
}

// A socket at which somebody listens is not taken away, however busy he is.
func TestBusySocketIsNotTaken(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as many as may wait
		if c, err := net.Dial("unix", path); err == nil {
			defer c.Close()
		}
	}
	if l, err := listenPrivate(path); err == nil {
		_ = l.Close()
		t.Error("it was taken")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// strangersFirst refuses so many connections, and lets all others in.
func strangersFirst(n int64) func(*Config) {
	var seen atomic.Int64
	return func(c *Config) {
		c.Limits = gateway.Limits{Handshakes: 200} // 100 for one source
		c.Admit = func(net.Conn) error {
			if seen.Add(1) <= n {
				return errStrange
			}
			return nil
		}
	}
}

// Strangers who say nothing do not take the places of the app's programs.
func TestSilentStrangers(t *testing.T) {
	const many = 99
	d := newPlane(t, Postgres).door(Postgres, strangersFirst(many))
	closed := make(chan error, many)
	for range many {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		go func() { // ends with the connection
			_, err := c.Read(make([]byte, 1))
			closed <- err
		}()
	}
	for range many {
		if err := <-closed; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a stranger was left alone: %v", err)
		}
	}
	if got, err := psql(t, "host=127.0.0.1 user=x port="+d.port(), "SELECT current_user"); err != nil || got != "app" {
		t.Errorf("the app: %q %v", got, err)
	}
}

// repeating is a server that tells everybody the token it was shown; answer
// reads the login.
func (p *plane) repeating(t *testing.T, answer func(c net.Conn, r *bufio.Reader)) func(*Config) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with l
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			answer(c, bufio.NewReader(c))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return func(c *Config) { c.Addr = l.Addr().String() }
}

// What a server says of a login may hold the token, as Redis's "unknown command
// 'AUTH', with args beginning with: …" does: neither the log nor the client
// gets that.
func TestServersThatRepeatTheToken(t *testing.T) {
	p := newPlane(t)
	conf := &tls.Config{Certificates: []tls.Certificate{p.cert}}
	token := testToken(testOID, 0)
	d := p.door(Redis, p.repeating(t, func(c net.Conn, _ *bufio.Reader) {
		s := tls.Server(c, conf)
		_, _ = s.Read(make([]byte, 16<<10))
		_, _ = fmt.Fprintf(s, "-ERR unknown command 'AUTH', with args beginning with: '%s' '%s' \r\n", testOID, token[:100])
		_ = s.CloseWrite()
		_, _ = io.Copy(io.Discard, s)
	}))
	if got := redisCLI(t, "-p", d.port(), "PING"); !strings.Contains(got, "refused the login") || strings.Contains(got, "eyJ") {
		t.Errorf("Redis: %q", got)
	}
	d = p.door(Postgres, p.repeating(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = io.ReadFull(c, make([]byte, 8))
		_, _ = c.Write([]byte("S"))
		s := tls.Server(c, conf)
		b := pgproto3.NewBackend(s, s)
		if _, err := b.ReceiveStartupMessage(); err != nil {
			return
		}
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		_ = b.Flush()
		_ = b.SetAuthType(pgproto3.AuthTypeCleartextPassword)
		m, err := b.Receive()
		if err != nil {
			return
		}
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "who is " + m.(*pgproto3.PasswordMessage).Password + "?"})
		_ = b.Flush()
		_, _ = io.Copy(io.Discard, s)
	}))
	if got, err := psql(t, "host=127.0.0.1 user=x port="+d.port(), "SELECT 1"); err == nil || !strings.Contains(got, "refused the login") || strings.Contains(got, "eyJ") {
		t.Errorf("PostgreSQL: %q", got)
	}
}

// A page in this user's browser may send a request with commands as its body.
func TestRedisTakesNoHTTP(t *testing.T) {
	for _, head := range []string{"POST / HTTP/1.1\r\n", "post /\r\n", "GET k\r\nHost: 127.0.0.1:6379\r\n"} {
		var c commands
		out, err := c.walk([]byte(head+"\r\nFLUSHALL\r\n"), func(string, []string) ([]byte, error) { return nil, nil })
		if err == nil || strings.Contains(string(out), "FLUSHALL") {
			t.Errorf("%q: %q, %v", head, out, err)
		}
	}
}

// standingFor is a proxy with one door, without its listeners.
func standingFor(d *testDoor, c StandAlone) *standing {
	c.Log = slog.New(slog.DiscardHandler)
	return &standing{StandAlone: c, doors: []*opened{{Door: d.Door}}, quit: make(chan struct{})}
}

// A proxy is not idle while programs log in, nor if they come and go quickly.
func TestIdleIsWithoutPrograms(t *testing.T) {
	var ahead atomic.Int64
	p := newPlane(t)
	hold := make(chan struct{})
	var held atomic.Bool
	d := p.door(Redis, nobodyThere(t), func(c *Config) {
		c.Token = func(ctx context.Context) (secret, time.Time, error) {
			if held.Load() {
				<-hold
			}
			return p.token(ctx)
		}
	})
	s := standingFor(d, StandAlone{Idle: time.Hour, Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { ended <- s.wait(ctx, nil) }()
	come := func() net.Conn {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	later := func(by time.Duration) bool { // reports whether it has ended
		time.Sleep(2 * idleLook)
		ahead.Add(int64(by))
		select {
		case <-ended:
			return true
		case <-time.After(3 * idleLook):
			return false
		}
	}
	for range 2 {
		c := come()
		_, _ = io.Copy(io.Discard, c) // it is told that nobody is there, and closed
		_ = c.Close()
		if later(40 * time.Minute) {
			t.Fatal("it ended though programs came")
		}
	}
	held.Store(true)
	c := come()
	defer c.Close()
	if later(2 * time.Hour) {
		t.Fatal("it ended while a program logged in")
	}
	close(hold)
	if !later(2 * time.Hour) {
		t.Fatal("it did not end when idle")
	}
}

// Web pages and other users may not end a proxy.
func TestQuitIsNotForPages(t *testing.T) {
	p := newPlane(t)
	s := standingFor(p.door(Redis, nobodyThere(t)), StandAlone{QuitPath: true, Clock: time.Now, Health: freePort(t)})
	stop, err := s.startHealth()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	over := func() bool {
		select {
		case <-s.quit:
			return true
		default:
			return false
		}
	}
	ask := func(change func(*http.Request)) int {
		r := httptest.NewRequest(http.MethodPost, "http://"+s.Health+"/quitquitquit", nil)
		r.RequestURI = ""
		change(r)
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for name, change := range map[string]func(*http.Request){
		"a page":            func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"a page of nowhere": func(r *http.Request) { r.Header.Set("Origin", "null") },
		"a form":            func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"a rebound name":    func(r *http.Request) { r.Host = "evil.example:9090" },
		"a longer name":     func(r *http.Request) { r.Host = "127.0.0.1.evil.example" },
	} {
		if code := ask(change); code != http.StatusForbidden || over() {
			t.Errorf("%s: %d", name, code)
		}
	}
	if os.Getuid() == 0 {
		_, port, _ := net.SplitHostPort(s.Health)
		c := exec.Command("su", "-s", "/bin/bash", "nobody", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port+`; printf 'POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; head -1 <&3`)
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "403") || over() {
			t.Errorf("another user: %v %s", err, out)
		}
	}
	if code := ask(func(*http.Request) {}); code != http.StatusOK || !over() {
		t.Errorf("its own user: %d", code)
	}
}
