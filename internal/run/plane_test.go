//go:build unix

package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/client"
)

const testDomain = "plane.test"

// testPlane speaks the plane's two runtime actions over a unix socket and a
// TLS listener that repeats the request's host.
type testPlane struct {
	t      testing.TB
	dir    string
	socket *httptest.Server
	tls    *httptest.Server

	mu     sync.Mutex
	env    client.Environment
	gen    int
	change chan struct{}
	tokens int // how many were asked for
	answer func(client.TokenRequest) (int, any)
}

func newPlane(t testing.TB, vars ...client.Variable) *testPlane {
	t.Helper()
	dir, err := os.MkdirTemp("", "plane") // short: a socket's path has 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &testPlane{t: t, dir: dir, change: make(chan struct{})}
	p.env = client.Environment{Site: "app1", TenantID: "tid", Tenant: "adfs", Authority: "https://login." + testDomain + ":8443",
		Variables: append([]client.Variable{{Name: "WEBSITE_SITE_NAME", Value: "app1"}, {Name: "APPSETTING_WEBSITE_SITE_NAME", Value: "app1"}}, vars...)}
	p.tls = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "plane %s %s auth=%q", r.Host, r.URL.Path, r.Header.Get("Authorization"))
	}))
	t.Cleanup(p.tls.Close)
	p.listen()
	ca := filepath.Join(dir, "ca.pem")
	p.write(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.tls.Certificate().Raw}))
	b, _ := json.Marshal(client.Plane{Socket: p.path(), Listen: p.tls.Listener.Addr().String(), Domain: testDomain,
		SubscriptionID: "sub", TenantID: "tid", CAFile: ca, CABundle: ca})
	p.write(filepath.Join(dir, client.PlaneFile), b)
	return p
}

func (p *testPlane) write(path string, b []byte) {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *testPlane) path() string { return filepath.Join(p.dir, "hawser.sock") }

// listen opens the socket; stop and listen again make a restart.
func (p *testPlane) listen() {
	l, err := net.Listen("unix", p.path())
	if err != nil {
		p.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	p.socket = s
	p.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
}

func (p *testPlane) stop() {
	p.socket.CloseClientConnections()
	p.socket.Close()
}

func (p *testPlane) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/sites/app1/runtimeEnvironment"):
		p.serveEnv(w, r)
	case strings.HasSuffix(r.URL.Path, "/sites/app1/runtimeToken"):
		p.serveToken(w, r)
	default:
		reply(w, 404, errorBody("ResourceNotFound", "There is no such app."))
	}
}

func (p *testPlane) serveEnv(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ETag        string `json:"etag"`
		WaitSeconds int    `json:"waitSeconds"`
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	deadline := time.After(time.Duration(in.WaitSeconds) * time.Second)
	for {
		p.mu.Lock()
		env, change := p.env, p.change
		env.ETag = fmt.Sprint("e", p.gen)
		p.mu.Unlock()
		if env.ETag != in.ETag {
			reply(w, 200, plain(env))
			return
		}
		select {
		case <-change:
		case <-deadline:
			reply(w, 200, map[string]any{"etag": in.ETag, "unchanged": true})
			return
		case <-r.Context().Done():
			return
		}
	}
}

// plain encodes an environment with its values.
func plain(e client.Environment) any { return e }

func (p *testPlane) serveToken(w http.ResponseWriter, r *http.Request) {
	var in client.TokenRequest
	_ = json.NewDecoder(r.Body).Decode(&in)
	p.mu.Lock()
	p.tokens++
	n, answer := p.tokens, p.answer
	p.mu.Unlock()
	if answer != nil {
		status, body := answer(in)
		reply(w, status, body)
		return
	}
	reply(w, 200, goodToken(in, n))
}

func goodToken(in client.TokenRequest, n int) client.Token {
	now := time.Now().Unix()
	return client.Token{AccessToken: fmt.Sprintf("jwt-%d", n), ExpiresOn: now + 86400, NotBefore: now - 300, RefreshOn: now + 43200,
		Resource: in.Resource, ClientID: "5e29463d-0000-4000-8000-00000000000a", ObjectID: "oid"}
}

func errorBody(code, message string) any {
	return map[string]any{"error": map[string]string{"code": code, "message": message}}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// set changes the environment and wakes whoever waits for that.
func (p *testPlane) set(f func(*client.Environment)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.env)
	p.gen++
	close(p.change)
	p.change = make(chan struct{})
}

func (p *testPlane) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens
}

func (p *testPlane) client() *client.Client { return p.clientFor(p.t) }

func (p *testPlane) clientFor(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.Open(client.Options{Data: p.dir, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// running is an app under supervision in this process.
type running struct {
	t      *testing.T
	lines  chan string
	done   chan struct{}
	code   int
	err    error
	cancel context.CancelFunc
	log    *lockedBuffer
}

// start runs the test binary as the app.
func start(t *testing.T, p *testPlane, cfg Config, args ...string) *running {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Environ == nil {
		cfg.Environ = os.Environ()
	}
	cfg.Environ = append(cfg.Environ, "GORACE=atexit_sleep_ms=0") // the app is this binary
	if cfg.Argv == nil {
		cfg.Argv = append([]string{exe, "app"}, args...)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	run := &running{t: t, lines: make(chan string, 1000), done: make(chan struct{}), log: &lockedBuffer{}}
	cfg.Client, cfg.Site, cfg.Stdout, cfg.SharedProcess = p.clientFor(t), "app1", w, true
	if cfg.Stdin, err = os.Open(os.DevNull); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.Stdin.Close() })
	cfg.Logger = slog.New(slog.NewTextHandler(run.log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	run.cancel = cancel
	go func() {
		defer close(run.lines)
		s := bufio.NewScanner(r)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			run.lines <- s.Text()
		}
		r.Close()
	}()
	go func() {
		defer close(run.done)
		run.code, run.err = Run(ctx, cfg)
		w.Close()
	}()
	t.Cleanup(func() { cancel(); <-run.done })
	return run
}

// line waits for the app's next line.
func (r *running) line() string {
	r.t.Helper()
	select {
	case l, ok := <-r.lines:
		if !ok {
			r.t.Fatalf("the app ended; log:\n%s", r.log)
		}
		return l
	case <-time.After(20 * time.Second):
		r.t.Fatalf("no line from the app; log:\n%s", r.log)
	}
	return ""
}

// wait waits for the end and returns the status and everything not read yet.
func (r *running) wait() (int, []string) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		r.t.Fatalf("the run does not end; log:\n%s", r.log)
	}
	var rest []string
	for l := range r.lines {
		rest = append(rest, l)
	}
	return r.code, rest
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// superviseMain is a whole `hawser run` in a process of its own, with
// adoption of orphans: supervise DATADIR ARGV….
func superviseMain(args []string) int {
	c, err := client.Open(client.Options{Data: args[0]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code, err := Run(context.Background(), Config{Client: c, Site: "app1", Argv: args[1:],
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}
