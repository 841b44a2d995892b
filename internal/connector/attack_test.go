package connector

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// TestAdoptWithoutProof: a real server that trusts whoever comes from the
// plane's machine is no door for those who have no password of it.
func TestAdoptWithoutProof(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		const role = "trusted_by_place"
		real().Exec(t, "postgres", "create role "+role+" login superuser")
		path := filepath.Join(real().DataDir, "pg_hba.conf")
		hba, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := fmt.Sprintf("local all %[1]s trust\nhost all %[1]s all trust\n", role)
		if err := os.WriteFile(path, append([]byte(lines), hba...), 0o600); err != nil {
			t.Fatal(err)
		}
		real().Exec(t, "postgres", "select pg_reload_conf()")
		trusted := &backend{Host: real().Host, Port: real().Port, SSLMode: sslDisable, Owner: role, Password: az.NewSecret("x"), Database: "postgres"}
		for { // until the server has read it
			if conn, err := trusted.connect(t.Context(), ""); err == nil {
				_ = conn.Close(t.Context())
				break
			}
		}
		root := "00000000-0000-4000-8000-0000000000f1"
		r.grantRole(guard.RoleOwner, root, "/")
		body := func(host, password string) string {
			return fmt.Sprintf(`{"location":"local","properties":{"administratorLogin":%q,"administratorLoginPassword":%q,"hawser":{"host":%q,"port":%d}}}`, role, password, host, real().Port)
		}
		for _, host := range []string{real().Host, "localhost", real().SocketDir} {
			for _, password := range []string{"anything", ""} {
				for _, who := range []string{contributor, boss} {
					status, reply := r.call(who, "PUT", servers+"stolen", body(host, password))
					if status < 400 || !strings.Contains(reply, "AuthorizationFailed") && (password != "" || host[0] == '/') {
						t.Errorf("%s adopts %s with password %q: %d %s", who, host, password, status, reply)
					}
				}
			}
		}
		r.must(root, "PUT", servers+"given", body(real().Host, "anything"))
		if at(r.must(root, "GET", servers+"given", ""), "properties", "hawser", "unproved") != true {
			t.Error("it is not known of the server that it asks for no password")
		}
		r.must(contributor, "PUT", servers+"own", strings.Replace(r.serverBody(), `"sslMode"`, `"unproved":true,"sslMode"`, 1)) // who knows the password needs no more

		// What is found under the server's name later is another one if it asks for
		// no password.
		link := sites + "web" + linkers + r.conn("late")
		r.must(boss, "PUT", link, r.linkBody("go", Read, ""))
		lines += fmt.Sprintf("host all %s all trust\n", r.f.Owner)
		if err := os.WriteFile(path, append([]byte(lines), hba...), 0o600); err != nil {
			t.Fatal(err)
		}
		real().Exec(t, "postgres", "select pg_reload_conf()")
		for late := (&backend{Host: real().Host, Port: real().Port, SSLMode: sslDisable, Owner: r.f.Owner, Password: az.NewSecret("x"), Database: "postgres"}); ; {
			if conn, err := late.connect(t.Context(), ""); err == nil {
				_ = conn.Close(t.Context())
				break
			}
		}
		r.refused(boss, "PUT", link, r.linkBody("go", Write, ""), 400, "ServerTrustsThePlane")
		if b, err := r.Authorize(t.Context(), r.identity("web"), Login{PostgreSQL, "pg1", r.f.db, "aad_" + r.conn("late")}); err != nil || b.Unproved {
			t.Errorf("the gateway may be let in without a password: %v", err)
		}
	})
}

// TestLocalServersAreFew: creating servers fills neither disk nor memory.
func TestLocalServersAreFew(t *testing.T) {
	r := localRig(t)
	for i := range maxLocals {
		place := filepath.Join(r.locals.cfg.Dir, fmt.Sprintf("s%d-%08x", i, i))
		if err := os.MkdirAll(place, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	status, reply := r.call(contributor, "PUT", servers+"more", localBody)
	if status != 400 || !strings.Contains(reply, "TooManyLocalServers") {
		t.Errorf("one more: %d %s", status, reply)
	}
	if n := len(r.clusters()); n != maxLocals {
		t.Errorf("%d directories", n)
	}
	if err := os.RemoveAll(filepath.Join(r.locals.cfg.Dir, fmt.Sprintf("s%d-%08x", 0, 0))); err != nil {
		t.Fatal(err)
	}
	if err := r.locals.makeRoom(filepath.Join(r.locals.cfg.Dir, "t-0000ffff")); err != nil {
		t.Error(err)
	}
	if err := r.locals.makeRoom(filepath.Join(r.locals.cfg.Dir, "u-0001ffff")); !az.Is(err, az.Invalid) {
		t.Errorf("a place that is taken by a request: %v", err)
	}
}

// TestRedisPasswordIsNoCommand: who attaches a cache says what the plane sends
// first to an address of his choice, which may be no Redis but something that
// reads lines.
func TestRedisPasswordIsNoCommand(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		heard := make(chan string, 16)
		go func() { // ends with l
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
				b, _ := io.ReadAll(c)
				heard <- string(b)
				_ = c.Close()
			}
		}()
		for _, password := range []string{`x\r\nflush_all\r\n`, `x\nflush_all`, `x\u0000`} {
			body := fmt.Sprintf(`{"location":"local","properties":{"sku":{"name":"Basic","family":"C","capacity":0},"administratorLoginPassword":"%s","hawser":{"host":"127.0.0.1","port":%d,"sslMode":"disable"}}}`,
				password, portOf(t, l.Addr().String()))
			r.refused(contributor, "PUT", caches+"lines", body, 400, "InvalidServer")
		}
		select {
		case s := <-heard:
			t.Errorf("the plane said %q", s)
		default:
		}
	})
}
