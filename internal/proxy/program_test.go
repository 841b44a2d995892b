//go:build unix

package proxy

import (
	"bufio"
	"context"
	"encoding/json"
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
	"testing"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/run"
)

// program is what the test binary does when it is the app, or a stranger:
// `BINARY program wait` prints what it sees of its databases and then whatever
// psql says each time a line comes in.
func program(args []string) int {
	switch args[0] {
	case "wait":
		for _, kv := range os.Environ() {
			if strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "HAWSER_") || strings.HasPrefix(kv, "DATABASE_URL") || strings.HasPrefix(kv, "REDIS_URL") || strings.HasPrefix(kv, "MYSQL_") {
				fmt.Println(kv)
			}
		}
		fmt.Println("ready")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			out, _ := exec.Command("sh", "-c", in.Text()).CombinedOutput()
			fmt.Println(strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", " "))
		}
	}
	return 0
}

// appPlane is a plane as hawser run sees it: an app with connections, whose
// gateways are real.
func (p *plane) appPlane(t *testing.T, linkers []map[string]any, settings ...client.Variable) *client.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "hwplane")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/runtimeEnvironment"):
			var in struct {
				ETag string `json:"etag"`
			}
			_ = json.NewDecoder(r.Body).Decode(&in)
			if in.ETag != "" {
				<-r.Context().Done()
				return
			}
			reply(w, client.Environment{ETag: "1", Site: "web", TenantID: "t", Tenant: "adfs", Variables: settings})
		case strings.HasSuffix(r.URL.Path, "/runtimeToken"):
			var in client.TokenRequest
			_ = json.NewDecoder(r.Body).Decode(&in)
			tok, ends, _ := p.token(r.Context())
			reply(w, client.Token{AccessToken: tok.Reveal(), ExpiresOn: ends.Unix(), Resource: in.Resource})
		case strings.HasSuffix(r.URL.Path, "/linkers"):
			reply(w, map[string]any{"value": linkers})
		default:
			http.NotFound(w, r)
		}
	}))
	s.Listener.Close()
	if s.Listener, err = net.Listen("unix", filepath.Join(dir, "hawser.sock")); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	ca := write(t, "ca.pem", p.caPEM)
	b, _ := json.Marshal(client.Plane{Listen: "127.0.0.1:1", Domain: "hawser.test", SubscriptionID: "sub", TenantID: "t", CAFile: ca, CABundle: ca,
		Gateways: map[string]string{"pg": p.addr[Postgres], "redis": p.addr[Redis], "mysql": p.addr[MySQL]}})
	if err := os.WriteFile(filepath.Join(dir, client.PlaneFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.Open(client.Options{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testLinker(name, target, auth, prefix, user, database string) map[string]any {
	return map[string]any{"name": name, "properties": map[string]any{
		"targetService": map[string]any{"id": "/subscriptions/sub/resourceGroups/hawser/providers/" + target},
		"authInfo":      map[string]any{"authType": auth},
		"hawser":        map[string]any{"prefix": prefix, "user": user, "database": database, "host": "s1", "port": 1}}}
}

// running is an app that hawser run has started.
type running struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
	log lockedBuffer
	env map[string]string
}

func startApp(t *testing.T, c *client.Client, mode Mode, inherited ...string) *running {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	doors, err := NewApp(mode)
	if err != nil {
		t.Fatal(err)
	}
	inR, inW, _ := os.Pipe()
	outR, outW, _ := os.Pipe()
	a := &running{t: t, in: inW, out: bufio.NewScanner(outR), env: map[string]string{}}
	done := make(chan error, 1)
	go func() {
		_, err := run.Run(context.Background(), run.Config{Client: c, Site: "web", Argv: []string{exe, "program", "wait"}, Doors: doors.Open,
			Proxy: run.ProxyOff, Stdin: inR, Stdout: outW, SharedProcess: true, Environ: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, inherited...),
			Logger: slog.New(slog.NewTextHandler(&a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		_ = outW.Close()
		done <- err
	}()
	t.Cleanup(func() {
		_ = inW.Close() // the app ends
		if err := <-done; err != nil {
			t.Error(err)
		}
		doors.Close()
		_, _ = inR.Close(), outR.Close()
		if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "hawser-db-*")); mode != TCP && len(left) != 0 {
			t.Errorf("sockets are left: %v", left)
		}
	})
	for a.out.Scan() && a.out.Text() != "ready" {
		name, value, _ := strings.Cut(a.out.Text(), "=")
		a.env[name] = value
	}
	return a
}

// sh lets the app run a command.
func (a *running) sh(command string) string {
	a.t.Helper()
	if _, err := io.WriteString(a.in, command+"\n"); err != nil || !a.out.Scan() {
		a.t.Fatalf("%s: %v %v; %s", command, err, a.out.Err(), a.log.String())
	}
	return a.out.Text()
}

const (
	pgTarget    = "Microsoft.DBforPostgreSQL/flexibleServers/s1/databases/appdb"
	redisTarget = "Microsoft.Cache/redis/s1/databases/0"
	mysqlTarget = "Microsoft.DBforMySQL/flexibleServers/s1/databases/appdb"
	system      = "systemAssignedIdentity"
)

// The names in the plane's certificate: those that a real one's would have.
func appNames(p *plane) {
	p.t.Helper()
	p.certifyFor("*.postgres.hawser.test", "*.redis.hawser.test", "*.mysql.hawser.test")
}

func TestAppAndStranger(t *testing.T) {
	p := newPlaneFor(t, appNames, Postgres)
	a := startApp(t, p.appPlane(t, []map[string]any{testLinker("pg1", pgTarget, system, "AZURE_POSTGRESQL_", "app", "appdb"),
		testLinker("kv", "Microsoft.KeyVault/vaults/kv", system, "AZURE_KEYVAULT_", "", ""),
		testLinker("pg2", pgTarget, "secret", "AZURE_POSTGRESQL_PG2_", "app", "appdb")}), Auto, "PGHOSTADDR=10.9.8.7", "PGPASSWORD=x", "PGDATABASE=mine")
	port := a.env["PGPORT"]
	want := map[string]string{"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "app", "PGDATABASE": "appdb", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable",
		"HAWSER_PROXY_PG1": "127.0.0.1:" + port, "DATABASE_URL": "postgres://app@127.0.0.1:" + port + "/appdb?sslmode=disable"}
	if fmt.Sprint(a.env) != fmt.Sprint(want) {
		t.Errorf("the app sees %v, want %v", a.env, want)
	}
	query := " -XAtqwc 'SELECT current_user, current_database()'"
	if got := a.sh("psql" + query); got != "app|appdb" {
		t.Errorf("psql in the app: %q", got)
	}
	if got := a.sh("psql" + query + " $DATABASE_URL"); got != "app|appdb" {
		t.Errorf("psql with DATABASE_URL: %q", got)
	}
	sockets, _ := filepath.Glob(filepath.Join(os.TempDir(), "hawser-db-*", "pg1"))
	if len(sockets) != 1 {
		t.Fatalf("sockets: %v", sockets)
	}
	if got := a.sh("psql" + query + " 'port=5432 host=" + sockets[0] + "'"); got != "app|appdb" {
		t.Errorf("psql by Unix socket: %q", got)
	}
	if fi, err := os.Stat(filepath.Dir(sockets[0])); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the sockets' directory: %v %v", fi, err)
	}
	for _, host := range []string{"127.0.0.1 port=" + port, sockets[0] + " port=5432"} {
		got, err := psql(t, "user=app dbname=appdb host="+host, "SELECT 1")
		if err == nil || !strings.Contains(got, "only the programs that this port was opened for") {
			t.Errorf("a process outside the app at %s: %q %v", host, got, err)
		}
	}
	if !strings.Contains(a.log.String(), "refused a database's port to a process that the app did not start") {
		t.Error("no record of the stranger")
	}
	if got := a.sh("psql" + query); got != "app|appdb" {
		t.Errorf("the app after the stranger: %q", got)
	}
}

// What the app's settings say is left alone.
func TestAppsOwnSettings(t *testing.T) {
	p := newPlaneFor(t, appNames, Redis)
	linkers := []map[string]any{testLinker("pg1", pgTarget, system, "AZURE_POSTGRESQL_", "app", "appdb"),
		testLinker("cache-2", redisTarget, system, "AZURE_REDIS_", "", "0")}
	a := startApp(t, p.appPlane(t, linkers, client.Variable{Name: "PGHOST", Value: "db.example"}), TCP)
	if a.env["PGHOST"] != "db.example" || a.env["PGPORT"] != "" || a.env["DATABASE_URL"] != "" || a.env["HAWSER_PROXY_PG1"] == "" || a.env["HAWSER_PROXY_CACHE_2"] == "" {
		t.Errorf("the app sees %v", a.env)
	}
	if got := a.sh("redis-cli -u $REDIS_URL SET app 1"); got != "OK" {
		t.Errorf("redis-cli: %q", got)
	}
}

func TestAppMariaDB(t *testing.T) {
	p := newPlaneFor(t, appNames, MySQL)
	linkers := []map[string]any{testLinker("my1", mysqlTarget, system, "AZURE_MYSQL_", "app", "appdb")}
	for _, mode := range []Mode{TCP, Unix, Auto} {
		t.Run(string(mode), func(t *testing.T) {
			a := startApp(t, p.appPlane(t, linkers), mode)
			if got := a.sh("mariadb --no-defaults -NBe 'SELECT database()'"); got != "appdb" {
				t.Errorf("the mariadb shell: %q with %v", got, a.env)
			}
		})
	}
}

func TestStandAlone(t *testing.T) {
	p := newPlane(t, Postgres)
	_, port, _ := net.SplitHostPort(p.addr[Postgres])
	ready := make(chan []string, 1)
	ended := make(chan error, 1)
	var log lockedBuffer
	health := freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conf := StandAlone{URLs: []string{"postgres://localhost:" + port + "/appdb"}, Listen: []string{"127.0.0.1:0"}, User: "app",
		CAFile: write(t, "ca.pem", p.caPEM), Health: health, QuitPath: true, Credential: planeCredential{p}, Clock: time.Now,
		Log: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(a []string) { ready <- a }}
	go func() { ended <- Serve(ctx, conf) }()
	var addr []string
	select {
	case addr = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	p.mu.Lock()
	if p.fetched != 0 {
		t.Error("a token was fetched before a program came")
	}
	p.mu.Unlock()
	_, local, _ := net.SplitHostPort(addr[0])
	if got, err := psql(t, "host=127.0.0.1 user=x port="+local, "SELECT current_user"); err != nil || got != "app" {
		t.Errorf("psql: %q %v", got, err)
	}
	for _, path := range []string{"/startup", "/liveness", "/readiness"} {
		resp, err := http.Get("http://" + health + path)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
		_ = resp.Body.Close()
	}
	resp, err := http.Get("http://" + health + "/quitquitquit")
	if err != nil || resp.StatusCode == http.StatusOK {
		t.Fatalf("a GET may not end it: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	if os.Getuid() == 0 {
		c := exec.Command("su", "-s", "/bin/sh", "nobody", "-c", "psql -w 'host=127.0.0.1 user=app port="+local+"' -c 'SELECT 1'")
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "only the user who started") {
			t.Errorf("another user: %v %s", err, out)
		}
	}
	resp, err = http.Post("http://"+health+"/quitquitquit", "", nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	_ = resp.Body.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A proxy for a job ends by itself, a drained one waits for its programs.
func TestStandAloneEnds(t *testing.T) {
	p := newPlane(t, Postgres)
	_, port, _ := net.SplitHostPort(p.addr[Postgres])
	conf := StandAlone{URLs: []string{"postgres://app@localhost:" + port + "/appdb"}, Unix: []string{filepath.Join(shortDir(t), ".s.PGSQL.5432")},
		CAFile: write(t, "ca.pem", p.caPEM), Credential: planeCredential{p}, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Idle: time.Second}
	if err := Serve(context.Background(), conf); err != nil {
		t.Errorf("when idle: %v", err)
	}
	ready := make(chan struct{})
	conf.Idle, conf.Drain, conf.Ready = 0, 20*time.Second, func([]string) { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, conf) }()
	<-ready
	got := make(chan string, 1)
	go func() {
		out, _ := psql(t, "host="+filepath.Dir(conf.Unix[0])+" user=x", "SELECT pg_sleep(1.5); SELECT 'done'")
		got <- out
	}()
	for {
		p.mu.Lock()
		n := len(p.targets)
		p.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // the query has begun
	cancel()
	if out := <-got; !strings.Contains(out, "done") {
		t.Errorf("a query while it drained: %q", out)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestStandAloneRefusals(t *testing.T) {
	p := newPlane(t)
	for want, c := range map[string]StandAlone{
		"whoever reaches that port":      {URLs: []string{"mysql://u@h/db"}, Listen: []string{"0.0.0.0:0"}},
		"holds a password":               {URLs: []string{"mysql://u:p@h/db"}},
		"by verified TLS only":           {URLs: []string{"postgres://u@h/db?sslmode=disable"}},
		"a database's URL looks like":    {URLs: []string{"redis://h"}},
		"means nothing here":             {URLs: []string{"postgres://u@h/db?host=elsewhere"}},
		"more addresses":                 {URLs: []string{"postgres://h/db"}, Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}},
		"wants --health on the loopback": {URLs: []string{"postgres://h/db"}, Listen: []string{"127.0.0.1:0"}, Health: "0.0.0.0:0", QuitPath: true},
		"absolute path":                  {URLs: []string{"postgres://h/db"}, Unix: []string{"sock"}},
	} {
		c.Credential, c.Clock, c.Log = planeCredential{p}, time.Now, slog.New(slog.DiscardHandler)
		if err := Serve(context.Background(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "hwp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
