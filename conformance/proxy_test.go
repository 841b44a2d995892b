package conformance

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestRunProxy: programs that know no password reach the databases of their
// app through `hawser run APP --proxy`, and programs outside it do not.
func TestRunProxy(t *testing.T) {
	w := newWorld(t)
	hidden := start(t, "--domain", "nowhere.localhost")
	for _, at := range []struct {
		name string
		*plane
	}{{"names that resolve", w.plane}, {"names that do not resolve", hidden}} {
		at.as(t)
		pg, my := at.attach("pg1"), at.attachMySQL("my1")
		at.attachRedis("cache1")
		app := "shop" + pg.name
		at.make("app", app)
		for _, c := range [][]string{{"pg1", "--database", pg.name, "--name", "pg" + pg.name}, {"my1", "--type", "mysql-flexible", "--database", my.name, "--name", "my" + pg.name},
			{"cache1", "--type", "redis"}} {
			at.cli(append([]string{"connect", app, "--access", "write"}, c...)...)
		}
		for _, how := range []string{"--proxy", "--proxy=tcp", "--proxy=unix"} {
			for name, c := range map[string]struct{ command, want string }{
				"psql":      {`psql -XAtqc "select current_user, current_database()"`, "aad_pg" + pg.name + "|" + pg.name},
				"mariadb":   {`mariadb --no-defaults -NBe "select substring_index(current_user(), '@', 1), database()"`, "aad_my" + pg.name + "\t" + my.name},
				"redis-cli": {`redis-cli -u "$REDIS_URL" get thing`, "real"},
			} {
				if name == "redis-cli" && how == "--proxy=unix" {
					c.command = `redis-cli -s "$HAWSER_PROXY_CACHE1" get thing`
				}
				if name == "mariadb" { // the shell has no variable for the database
					c.command = `cd / && ` + strings.Replace(c.command, "-NBe", "-D "+my.name+" -NBe", 1)
				}
				t.Run(at.name+"/"+how+"/"+name, func(t *testing.T) {
					at.as(t)
					lines(t, at.run(app, []string{how}, "sh", "-c", c.command), c.want)
				})
			}
		}
		t.Run(at.name+"/processes outside", func(t *testing.T) {
			at.as(t)
			at.outside(t, app, pg.name, my.name)
		})
	}
}

// outside tries the doors of a running app from a process that is not its.
func (p *plane) outside(t *testing.T, app, pgName, myName string) {
	cmd := exec.Command(hawser, "run", app, "--data", p.dir, "--proxy=tcp", "--", "sh", "-c", `echo "$PGPORT $MYSQL_TCP_PORT $REDIS_PORT"; cat >/dev/null`)
	cmd.Env = clean(t)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the program
	port := strings.Fields(line)
	if len(port) != 3 {
		t.Fatalf("the app has the ports %q", line)
	}
	for name, argv := range map[string][]string{
		"psql":      psql(fmt.Sprintf("host=127.0.0.1 port=%s dbname=%s user=x sslmode=disable gssencmode=disable", port[0], pgName), "select 1"),
		"mariadb":   {"mariadb", "--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-P", port[1], "-u", "x", "-D", myName, "-e", "select 1"},
		"redis-cli": {"redis-cli", "-h", "127.0.0.1", "-p", port[2], "get", "thing"},
	} {
		r := execute(t, clean(t), argv...)
		if r.code == 0 && name != "redis-cli" || strings.Contains(r.stdout, "real") {
			t.Errorf("%s was let in: %s", name, r.stdout)
		}
		if r.stdout+r.stderr == "" {
			t.Errorf("%s is not told why", name)
		}
	}
}

// TestProxyCommand: `hawser proxy` in front of a plane, with a credential of
// Azure's Identity library, ends when nobody uses it.
func TestProxyCommand(t *testing.T) {
	w := newWorld(t)
	pg := w.attach("pg1")
	w.cli("connect", "web", "pg1", "--database", pg.name, "--access", "read", "--name", pg.connection())
	_, port, _ := strings.Cut(w.env.Gateways["pg"], ":")
	url := fmt.Sprintf("postgres://%s@pg1.postgres.%s:%s/%s", pg.role(), domain, port, pg.name)
	// As a job would: the proxy beside the program, in the app's environment.
	script := fmt.Sprintf(`%s proxy '%s' --ca "$SSL_CERT_FILE" --listen 127.0.0.1:0 --quit-on-idle 1s >"$1" & p=$!
while ! grep -q ready "$1"; do sleep 0.05; done
psql -XAtqc 'select current_user' "host=127.0.0.1 port=$(sed -n 's/^ready .*:\([0-9]*\).*/\1/p' "$1") dbname=%s user=anybody sslmode=disable"
wait $p; echo "the proxy ended with $?"`, hawser, url, pg.name)
	file := newDir(t) + "/ready"
	began := time.Now()
	r := w.run("web", nil, "sh", "-c", script, "sh", file)
	lines(t, r, pg.role()+"\nthe proxy ended with 0")
	if took := time.Since(began); took > commandLimit {
		t.Errorf("it took %s to end", took)
	}
}
