package proxy

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/gateway"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// psql runs the real psql without a password and with none of this process's
// settings.
func psql(t testing.TB, conn, sql string) (string, error) {
	t.Helper()
	c := exec.Command("psql", "-XAtq", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql, conn)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PGCONNECT_TIMEOUT=10"}
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestPsqlWithoutPassword(t *testing.T) {
	p := newPlane(t, Postgres)
	d := p.door(Postgres)
	socket := d.unix(t, Postgres)
	for name, conn := range map[string]string{
		"any user and no database":  "host=127.0.0.1 user=whoever sslmode=prefer port=" + d.port(),
		"a password is passed over": "host=127.0.0.1 user=app password=wrong port=" + d.port(),
		"Unix socket":               "host=" + filepath.Dir(socket) + " port=5432 user=whoever",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := psql(t, conn, "SELECT current_user||'@'||current_database()")
			if err != nil || got != "app@appdb" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got, err := psql(t, "host=127.0.0.1 dbname=otherdb user=x port="+d.port(), "SELECT current_database()"); err != nil || got != "otherdb" {
		t.Errorf("a database that was named: %q, %v", got, err)
	}
	for _, tok := range p.seen() {
		if tok != testToken(testOID, 0) {
			t.Errorf("the gateway was shown %q", tok)
		}
	}
}

func TestPostgresRefusals(t *testing.T) {
	p := newPlane(t, Postgres)
	plain, heard := deaf(t, "N")
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"stranger":        {strangers, "only the programs that this port was opened for"},
		"nobody there":    {nobodyThere(t), "cannot reach s1 now"},
		"no TLS":          {func(c *Config) { c.Addr = plain }, "has no TLS, so it gets no token"},
		"not its name":    {func(c *Config) { c.Host = "s2.db.test" }, "cannot trust the server at s1"},
		"no such CA":      {func(c *Config) { c.Roots = nil }, "cannot trust the server at s1"},
		"role not mapped": {func(c *Config) { c.User = "other" }, `password authentication failed for user "other"`},
		"nobody named":    {func(c *Config) { c.User = "" }, "which role to log in as"},
		"a PostgreSQL that knows passwords": {func(c *Config) { c.Addr = realPostgres(t).Addr() },
			"has no TLS, so it gets no token"},
	} {
		t.Run(name, func(t *testing.T) {
			d := p.door(Postgres, c.change)
			got, err := psql(t, "host=127.0.0.1 user=app port="+d.port(), "SELECT 1")
			if err == nil || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if strings.Contains(heard(), "eyJ") {
		t.Error("a server without TLS was shown a token")
	}
	d := p.door(Postgres)
	p.mu.Lock()
	p.noToken = errors.New("identity away")
	p.mu.Unlock()
	if got, _ := psql(t, "host=127.0.0.1 user=app port="+d.port(), "SELECT 1"); !strings.Contains(got, "no token to log in to s1 with") || strings.Contains(got, "identity away") {
		t.Errorf("without a token: %q", got)
	}
}

func (d *testDoor) pgx(t testing.TB) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%s user=me dbname=appdb sslmode=disable", d.port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestPostgresCancel(t *testing.T) {
	c := newPlane(t, Postgres).door(Postgres).pgx(t)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "SELECT pg_sleep(20)")
		ended <- err
	}()
	for { // a cancel request that comes before the query is lost
		if err := c.PgConn().CancelRequest(context.Background()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Code != "57014" {
				t.Errorf("the query ended with %v", err)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Each session logs in with the token that is good then.
func TestTokenOfEachSession(t *testing.T) {
	p := newPlane(t, Postgres)
	d := p.door(Postgres)
	first := d.pgx(t)
	p.turn()
	d.pgx(t)
	if seen := p.seen(); len(seen) != 2 || seen[0] == seen[1] {
		t.Errorf("%d logins, the same token: %v", len(seen), len(seen) == 2 && seen[0] == seen[1])
	}
	var one int
	if err := first.QueryRow(context.Background(), "SELECT 1").Scan(&one); err != nil {
		t.Errorf("the first session: %v", err)
	}
}

func TestManyPrograms(t *testing.T) {
	d := newPlane(t, Postgres).door(Postgres)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			c, err := pgx.Connect(context.Background(), fmt.Sprintf("host=127.0.0.1 port=%s user=u dbname=appdb sslmode=disable", d.port()))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close(context.Background())
			var n int
			var text string
			if err := c.QueryRow(context.Background(), "SELECT $1::int, repeat('x', 100000)", i).Scan(&n, &text); err != nil || n != i || len(text) != 100000 {
				t.Errorf("%d: %d %d %v", i, n, len(text), err)
			}
		})
	}
	all.Wait()
}

func TestMaxConnections(t *testing.T) {
	d := newPlane(t, Postgres).door(Postgres, func(c *Config) { c.Limits = gateway.Limits{Sessions: 1} })
	d.pgx(t)
	if got, err := psql(t, "host=127.0.0.1 user=app port="+d.port(), "SELECT 1"); err == nil {
		t.Errorf("a second program was let in: %s", got)
	}
}

// A program that closes its side after a query still gets the answer.
func TestHalfClose(t *testing.T) {
	d := newPlane(t, Postgres).door(Postgres)
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	f := pgproto3.NewFrontend(c, c)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: 3 << 16, Parameters: map[string]string{"user": "x"}})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	receive(t, f, &pgproto3.ReadyForQuery{})
	f.Send(&pgproto3.Query{String: "SELECT repeat('y', 300000)"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if row := receive(t, f, &pgproto3.DataRow{}).(*pgproto3.DataRow); len(row.Values[0]) != 300000 {
		t.Errorf("%d bytes", len(row.Values[0]))
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the end: %v", err)
	}
}

func receive(t testing.TB, f *pgproto3.Frontend, want pgproto3.BackendMessage) pgproto3.BackendMessage {
	t.Helper()
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%T", m) == fmt.Sprintf("%T", want) {
			return m
		}
	}
}

// A program that says nothing, or says it slowly, is not waited for.
func TestSlowPrograms(t *testing.T) {
	d := newPlane(t, Postgres).door(Postgres, func(c *Config) { c.Limits = gateway.Limits{Handshake: 300 * time.Millisecond} })
	for _, said := range []string{"", "\x00\x00\x00\x20\x00\x03\x00\x00us"} {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write([]byte(said))
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("after %q: %v", said, err)
		}
		_ = c.Close()
	}
}

func TestPostgresNonsense(t *testing.T) {
	d := newPlane(t, Postgres).door(Postgres)
	long := binary.BigEndian.AppendUint32(nil, pgMaxStartup+1)
	for name, said := range map[string]string{
		"TLS at once":   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
		"HTTP":          "GET / HTTP/1.1\r\n\r\n",
		"too long":      string(long) + "\x00\x03\x00\x00",
		"version 2":     "\x00\x00\x00\x09\x00\x02\x00\x00\x00",
		"no end":        "\x00\x00\x00\x0d\x00\x03\x00\x00user\x00",
		"asks for ever": strings.Repeat("\x00\x00\x00\x08\x04\xd2\x16\x2f", 3),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = c.Write([]byte(said))
			b, _ := io.ReadAll(c)
			if !strings.Contains(string(b), "FATAL") {
				t.Errorf("the answer is %q", b)
			}
		})
	}
}
