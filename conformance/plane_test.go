package conformance

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/store/storetest"
)

const (
	startLimit   = 30 * time.Second
	commandLimit = 60 * time.Second
)

// plane is one running `hawser up`.
type plane struct {
	t    testing.TB
	dir  string
	args []string // besides --data, --listen and --pg
	env  planeEnv // of the latest start

	extraEnv []string // of the process

	cmd    *exec.Cmd
	exited chan error
	log    *tail
}

// planeEnv is what `hawser env --json` prints.
type planeEnv struct {
	TenantID        string            `json:"tenantId"`
	SubscriptionID  string            `json:"subscriptionId"`
	Domain          string            `json:"domain"`
	Authority       string            `json:"authority"`
	ResourceManager string            `json:"resourceManager"`
	Suffixes        map[string]string `json:"suffixes"`
	CAFile          string            `json:"caFile"`
	CABundle        string            `json:"caBundle"`
	Gateways        map[string]string `json:"gateways"`
	Admin           struct {
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
		ObjectID     string `json:"objectId"`
	} `json:"admin"`
}

// stores are the two kinds of store; each gives the value of --store.
var stores = []struct {
	name string
	url  func(t testing.TB) string
}{
	{"sqlite", func(testing.TB) string { return "sqlite" }},
	{"postgres", func(t testing.TB) string { return storetest.Database(t) }},
}

// start makes a new plane in a new directory; args go to `hawser up`.
func start(t testing.TB, args ...string) *plane {
	t.Helper()
	p := &plane{t: t, dir: newDir(t), args: args}
	p.boot()
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
	})
	return p
}

// newDir is a directory that nobody else may read, as planes want theirs.
func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plane")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// as makes a subtest the one that fails, until it ends.
func (p *plane) as(t testing.TB) {
	old := p.t
	p.t = t
	t.Cleanup(func() { p.t = old })
}

// boot starts the plane's process and waits until it is ready. A plane that
// has run before comes back at the same addresses.
func (p *plane) boot() {
	p.t.Helper()
	listen := "127.0.0.1:0"
	if p.env.Authority != "" {
		listen = "127.0.0.1:" + p.port()
	}
	doors := []string{}
	for _, d := range []string{"pg", "mysql", "tds", "redis"} {
		doors = append(doors, "--"+d, cmp.Or(p.env.Gateways[d], "127.0.0.1:0"))
	}
	args := append(append([]string{"up", "--data", p.dir, "--listen", listen, "--hosts", "off", "--imds", "off"}, doors...), p.args...) // later flags win
	p.cmd = exec.Command(hawser, args...)
	p.cmd.Env = append(clean(p.t), p.extraEnv...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.log = &tail{}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan bool, 1)
	p.exited = make(chan error, 1)
	go func() { // ends with the process, which kill or stop ends
		p.watch(out, ready)
		p.exited <- p.cmd.Wait()
	}()
	select {
	case ok := <-ready:
		if !ok {
			p.t.Fatalf("the plane ended instead of getting ready: %v\n%s", <-p.exited, p.log)
		}
	case <-time.After(startLimit):
		p.t.Fatalf("the plane is not ready after %s\n%s", startLimit, p.log)
	}
	p.json(&p.env, "env", "--json", "--as", "admin")
}

func (p *plane) watch(out io.Reader, ready chan<- bool) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready https://") {
			ready <- true
		}
		fmt.Fprintln(p.log, lines.Text())
	}
	ready <- false
}

// port is the port of the HTTPS surfaces.
func (p *plane) port() string {
	_, port, ok := strings.Cut(strings.TrimPrefix(p.env.ResourceManager, "https://"), ":")
	if !ok {
		return "443"
	}
	return port
}

// kill ends the plane as a power cut would end the process.
func (p *plane) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
}

// stop ends the plane in order.
func (p *plane) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.exited:
		p.cmd = nil
		if err != nil {
			p.t.Errorf("SIGTERM did not end the plane cleanly: %v\n%s", err, p.log)
		}
	case <-time.After(startLimit):
		p.t.Fatalf("SIGTERM did not end the plane\n%s", p.log)
	}
}

// cli runs a command against the plane and returns what it printed.
func (p *plane) cli(args ...string) string {
	p.t.Helper()
	r := p.try(args...)
	if r.code != 0 {
		p.t.Fatalf("hawser %s: exit status %d\n%s%s\nplane:\n%s", strings.Join(args, " "), r.code, r.stdout, r.stderr, p.log)
	}
	return strings.TrimSpace(r.stdout)
}

// try is cli for a command that may fail.
func (p *plane) try(args ...string) result {
	p.t.Helper()
	args, rest := split(args)
	args = append(args, "--data", p.dir)
	return execute(p.t, clean(p.t), append(append([]string{hawser}, args...), rest...)...)
}

// split parts a command line at its --.
func split(args []string) (before, after []string) {
	for i, a := range args {
		if a == "--" {
			return append([]string(nil), args[:i]...), args[i:]
		}
	}
	return append([]string(nil), args...), nil
}

// json runs a command and decodes what it printed.
func (p *plane) json(out any, args ...string) {
	p.t.Helper()
	if args[0] != "env" {
		args = append(args, "--output", "json")
	}
	s := p.cli(args...)
	if err := json.Unmarshal([]byte(s), out); err != nil {
		p.t.Fatalf("hawser %s: %v in %q", strings.Join(args, " "), err, s)
	}
}

// resource is what `create` and `show` print of an ARM resource.
type resource struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Identity struct {
		PrincipalID string `json:"principalId"`
	} `json:"identity"`
	Properties struct {
		PrincipalID string `json:"principalId"`
		ClientID    string `json:"clientId"`
		VaultURI    string `json:"vaultUri"`
	} `json:"properties"`
}

// make runs `hawser KIND create NAME`.
func (p *plane) make(kind, name string) resource {
	p.t.Helper()
	var r resource
	p.json(&r, kind, "create", name)
	return r
}

// assign gives an object id a role.
func (p *plane) assign(role, to, scope string) {
	p.t.Helper()
	p.cli("role", "assign", role, "--to", to, "--scope", scope)
}

// run runs a program under `hawser run APP`; flags stand between them.
func (p *plane) run(app string, flags []string, argv ...string) result {
	p.t.Helper()
	args := append(append([]string{"run", app}, flags...), "--")
	return p.try(append(args, argv...)...)
}

// with runs a program in the environment that `hawser env FLAGS` exports, as a
// person's shell would.
func (p *plane) with(flags []string, argv ...string) result {
	p.t.Helper()
	return p.withEnv(nil, flags, argv...)
}

// withEnv is with, and variables besides.
func (p *plane) withEnv(more, flags []string, argv ...string) result {
	p.t.Helper()
	script := `eval "$("$HAWSER" env --data "$DATA" ` + strings.Join(flags, " ") + `)" && unset HAWSER DATA && exec "$@"`
	env := append(append(clean(p.t), "HAWSER="+hawser, "DATA="+p.dir), more...)
	return execute(p.t, env, append([]string{"sh", "-c", script, "sh"}, argv...)...)
}

// result is what a finished program left.
type result struct {
	stdout, stderr string
	code           int
}

// facts are the lines "name value" that a client printed.
func (r result) facts(t testing.TB) map[string]string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	m := map[string]string{}
	for line := range strings.Lines(r.stdout) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		m[name] = value
	}
	return m
}

// execute runs a program to its end in exactly the environment given.
func execute(t testing.TB, env []string, argv ...string) result {
	t.Helper()
	return executeFor(t, commandLimit, env, argv...)
}

// executeFor is execute for what takes longer than a command.
func executeFor(t testing.TB, limit time.Duration, env []string, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", argv[0], err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s did not end within %s\n%s%s", strings.Join(argv, " "), limit, &out, &errs)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// clean is an environment with nothing of the person who runs the tests.
func clean(t testing.TB) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home(t), "LANG=C.UTF-8", "TZ=UTC",
		"PYTHONDONTWRITEBYTECODE=1"}
}

var homes sync.Map // testing.TB → its home directory

func home(t testing.TB) string {
	if dir, ok := homes.Load(t); ok {
		return dir.(string)
	}
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	homes.Store(t, dir)
	return dir
}

// tail keeps the last of what a plane logged, for messages of failed tests.
type tail struct {
	mu sync.Mutex // guards b
	b  []byte
}

const tailMax = 16 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 2*tailMax {
		l.b = append([]byte(nil), l.b[len(l.b)-tailMax:]...)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
