package connector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		r.must(contributor, "PUT", servers+"own", r.serverBody()) // who knows the password needs no more
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
