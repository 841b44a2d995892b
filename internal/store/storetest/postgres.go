// Package storetest starts real database servers for tests.
//
// It owns their directories, ports and lives; it knows nothing of what a test
// keeps in them. Open postgres.go first.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// startTimeout bounds the wait for a server that is starting.
const startTimeout = 30 * time.Second

// Postgres is one real server with a data directory of its own. It listens on
// 127.0.0.1 only, asks for SCRAM-SHA-256, and does not sync to disk.
type Postgres struct {
	Host      string // 127.0.0.1
	Port      int
	SuperUser string
	Password  string
	DataDir   string
	SocketDir string // for psql -h; SCRAM is asked for here too

	bin  string
	conf []string

	mu   sync.Mutex // guards cmd
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// StartPostgres starts a server that ends with the test. Each of conf is one
// "name=value" line of postgresql.conf. The test fails when PostgreSQL is not
// installed.
func StartPostgres(t testing.TB, conf ...string) *Postgres {
	t.Helper()
	p, err := NewPostgres(conf...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Remove)
	return p
}

// NewPostgres is StartPostgres for a TestMain: the caller calls Remove.
func NewPostgres(conf ...string) (*Postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hawser-pg-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{Host: "127.0.0.1", SuperUser: "postgres", Password: "it is only a test",
		DataDir: filepath.Join(dir, "data"), SocketDir: dir, bin: bin, conf: conf}
	if err := p.initdb(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.startAnywhere(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// postgresBin finds the directory of the newest installed server.
func postgresBin() (string, error) {
	best, bestVersion := "", -1
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, d := range dirs {
		v, _ := strconv.Atoi(filepath.Base(filepath.Dir(d)))
		if _, err := os.Stat(filepath.Join(d, "initdb")); err == nil && v > bestVersion {
			best, bestVersion = d, v
		}
	}
	if best != "" {
		return best, nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errors.New("cannot find initdb: install a PostgreSQL server (Debian: apt-get install postgresql)")
}

func (p *Postgres) initdb(dir string) error {
	pw := filepath.Join(dir, "pw")
	if err := os.WriteFile(pw, []byte(p.Password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(pw)
	if err := giveToServerUser(dir, pw); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(p.bin, "initdb"), "-D", p.DataDir, "-U", p.SuperUser, "--pwfile", pw,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	cmd.Dir, cmd.SysProcAttr = dir, asServerUser()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make a database cluster: %w\n%s", err, out)
	}
	return nil
}

// startAnywhere picks a free port; another process may take it first, so it
// tries a few times.
func (p *Postgres) startAnywhere() error {
	var err error
	for range 5 {
		l, lerr := net.Listen("tcp", "127.0.0.1:0")
		if lerr != nil {
			return lerr
		}
		p.Port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		if err = p.start(); err == nil {
			return nil
		}
	}
	return err
}

func (p *Postgres) start() error {
	args := []string{"-D", p.DataDir, "-p", strconv.Itoa(p.Port), "-c", "listen_addresses=127.0.0.1",
		"-k", p.SocketDir, "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "max_connections=200", "-c", "max_wal_size=1GB"}
	for _, c := range p.conf {
		args = append(args, "-c", c)
	}
	log, err := os.OpenFile(filepath.Join(p.SocketDir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), args...)
	cmd.Dir, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = p.SocketDir, asServerUser(), log, log
	done, started := make(chan struct{}), make(chan error, 1)
	go func() { // ends with the server, which Stop, Kill and Remove end
		// The server ends with the thread that started it (asServerUser), which
		// another goroutine could take along.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	return p.waitReady(done)
}

func (p *Postgres) waitReady(done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		conn, err := pgconn.Connect(ctx, p.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-done:
			return fmt.Errorf("PostgreSQL ended while starting:\n%s", p.Log())
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, p.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL returns a connection string of the superuser for a database.
func (p *Postgres) URL(db string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(p.SuperUser, p.Password),
		Host: p.Addr(), Path: "/" + db, RawQuery: "sslmode=disable"}
	return u.String()
}

// Addr returns host:port.
func (p *Postgres) Addr() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// Exec runs statements as the superuser.
func (p *Postgres) Exec(t testing.TB, db, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgconn.Connect(ctx, p.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.Exec(ctx, sql).Close(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// CreateDatabase makes an empty database and returns its URL.
func (p *Postgres) CreateDatabase(t testing.TB, name string) string {
	t.Helper()
	p.Exec(t, "postgres", `CREATE DATABASE "`+strings.ReplaceAll(name, `"`, `""`)+`"`)
	return p.URL(name)
}

// Stop ends the server in order: sessions are ended, data is kept.
func (p *Postgres) Stop() { p.signal(syscall.SIGINT) }

// Kill ends the server as a crash would: no checkpoint, nobody is told much.
func (p *Postgres) Kill() { p.signal(syscall.SIGQUIT) }

func (p *Postgres) signal(s os.Signal) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Signal(s); err != nil || runtime.GOOS == "windows" {
		_ = cmd.Process.Kill()
	}
	select {
	case <-done:
	case <-time.After(startTimeout):
		_ = cmd.Process.Kill()
		<-done
	}
}

// Restart starts the server again, on the same port and data, after Stop or
// Kill (or stops it first).
func (p *Postgres) Restart() error {
	p.Stop()
	return p.start()
}

// Remove kills the server and deletes its files.
func (p *Postgres) Remove() {
	p.Kill()
	_ = os.RemoveAll(p.SocketDir)
}

// Log returns what the server has written.
func (p *Postgres) Log() string {
	b, _ := os.ReadFile(filepath.Join(p.SocketDir, "log"))
	return string(b)
}

// EnableTLS makes the server answer TLS with a certificate and key in PEM.
func (p *Postgres) EnableTLS(t testing.TB, cert, key []byte) {
	t.Helper()
	for name, b := range map[string][]byte{"server.crt": cert, "server.key": key} {
		path := filepath.Join(p.DataDir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := giveToServerUser(path); err != nil {
			t.Fatal(err)
		}
	}
	p.Exec(t, "postgres", "ALTER SYSTEM SET ssl = on")
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
}
