package connector

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// localRig is a plane that may run servers of its own.
func localRig(t *testing.T) *rig {
	t.Helper()
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	r.locals = newLocals(Local{Dir: filepath.Join(t.TempDir(), "postgres"), Plane: "this"}, r.cfg.Log)
	if r.locals.why != "" {
		t.Fatal(r.locals.why)
	}
	t.Cleanup(r.Close)
	return r
}

const localBody = `{"location":"local","properties":{"administratorLogin":"boss","administratorLoginPassword":"Secret.1234","version":"14"}}`

func (r *rig) clusters() (names []string) {
	r.t.Helper()
	all, err := os.ReadDir(r.locals.cfg.Dir)
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// loginLocal asks the plane and goes where it says, as the gateway does.
func (r *rig) loginLocal(who az.Principal, server, database, role string, sql string) error {
	b, err := r.Authorize(r.t.Context(), who, Login{PostgreSQL, server, database, role})
	if err != nil {
		return err
	}
	real := &backend{Host: filepath.Dir(b.Addr), Port: localPort, SSLMode: b.TLS.Mode, Owner: b.User, Password: b.Password}
	conn, err := real.connect(r.t.Context(), database)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(r.t.Context(), sql)
	return err
}

// TestLocalServer: a server that is created with nothing to adopt is real.
func TestLocalServer(t *testing.T) {
	r := localRig(t)
	server := servers + "mine"
	made := r.must(boss, "PUT", server, localBody)
	if text(made, "properties", "state") != "Ready" || text(made, "properties", "hawser", "local", "plane") != "this" || text(made, "sku", "tier") == "" {
		t.Errorf("the server is %v", made)
	}
	if strings.Contains(fmt.Sprint(made), "Secret.1234") {
		t.Error("the reply holds the password")
	}
	r.must(boss, "PUT", server+"/databases/shop", `{"properties":{"charset":"utf8","collation":"en_US.utf8"}}`)
	admin := r.user("ann")
	r.must(boss, "PUT", server+"/administrators/"+admin, `{"properties":{"principalType":"User","principalName":"ann@hawser.test"}}`)
	try := func(sql string) error { return r.loginLocal(as(admin), "mine", "shop", "ann@hawser.test", sql) }
	if err := try("create table public.t (a int); insert into public.t values (1)"); err != nil {
		t.Fatal(err)
	}
	// Nobody gets from the database to the plane's machine.
	for _, sql := range []string{"grant pg_execute_server_program to current_user", "copy public.t from program 'id'", "copy public.t from '/etc/passwd'",
		"set role " + localOwner, "create role x superuser", "alter role " + localOwner + " password 'x'"} {
		if err := try(sql); err == nil {
			t.Errorf("allowed: %s", sql)
		}
	}
	r.must(boss, "POST", server+"/restart", "")
	if err := try("select * from public.t"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	// Another process of the same plane: the server rests, and wakes at a login.
	r.Close()
	r.locals = newLocals(r.locals.cfg, r.cfg.Log)
	if err := try("select * from public.t"); err != nil {
		t.Errorf("after the plane was started again: %v", err)
	}
	r.must(boss, "PATCH", server, `{"properties":{"administratorLoginPassword":"Another.1234"}}`)
	r.must(boss, "PUT", server, localBody) // with what a reply said or without: it stays where it is
	if list := r.must(boss, "GET", server+"/configurations", ""); len(list["value"].([]any)) < 100 || strings.Contains(fmt.Sprint(list), r.locals.cfg.Dir) {
		t.Error("the parameters are too few, or say where the data lie")
	}
	r.must(boss, "DELETE", server+"/databases/shop", "")
	if err := try("select 1"); err == nil {
		t.Error("a deleted database is still there")
	}
	r.must(boss, "DELETE", server, "")
	if left := r.clusters(); len(left) != 0 {
		t.Errorf("of a deleted server are left: %v", left)
	}
	if err := try("select 1"); !az.Is(err, az.Invalid) {
		t.Errorf("a deleted server: %v", err)
	}
}

// TestLocalServerRefusals: what is not this plane's to run.
func TestLocalServerRefusals(t *testing.T) {
	r := localRig(t)
	server := servers + "mine"
	r.refused(boss, "PUT", server, `{"location":"local","properties":{"administratorLogin":"boss"}}`, 400, "PasswordNeeded")
	r.refused(boss, "PUT", server, strings.Replace(localBody, `"boss"`, `"pg_boss"`, 1), 400, "InvalidName")
	r.refused(boss, "PUT", server, strings.Replace(localBody, `"boss"`, `"hawser_plane"`, 1), 400, "InvalidName")
	r.must(boss, "PUT", server, strings.Replace(localBody, `"version"`, `"hawser":{"local":{"plane":"evil","instance":"../../etc"}},"version"`, 1))
	if got := r.clusters(); len(got) == 0 || !strings.HasPrefix(got[0], "mine-") {
		t.Errorf("a body chose the directory: %v", got)
	}
	r.refused(boss, "PUT", server, r.serverBody(), 400, "ServerIsLocal")
	// Another plane of the same store leaves it alone.
	here := r.locals
	r.locals = newLocals(Local{Dir: filepath.Join(t.TempDir(), "postgres"), Plane: "other"}, r.cfg.Log)
	t.Cleanup(r.locals.close)
	r.refused(boss, "PUT", server+"/databases/x", `{"properties":{}}`, 400, "ServerOnAnotherPlane")
	r.must(boss, "DELETE", server, "")
	if err := here.sweepNothing(); err != nil || len(r.clustersIn(here)) == 0 {
		t.Errorf("data that may be somebody's are gone: %v", err)
	}
	// The plane that ran it sees that it is gone.
	here.sweep(time.Now(), map[string]bool{})
	if left := r.clustersIn(here); len(left) != 0 {
		t.Errorf("of a server that another plane deleted are left: %v", left)
	}
}

// sweepNothing is a sweep by a process that never saw the resource.
func (l *locals) sweepNothing() error {
	fresh := newLocals(l.cfg, l.log)
	fresh.sweep(time.Now(), map[string]bool{})
	return nil
}

func (r *rig) clustersIn(l *locals) []string {
	was := r.locals
	r.locals = l
	defer func() { r.locals = was }()
	return r.clusters()
}

// TestDescription: where the plane runs none, a server is a description, and a
// login says so.
func TestDescription(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		server := servers + "words"
		made := r.must(boss, "PUT", server, localBody)
		if text(made, "properties", "state") != "Stopped" || text(made, "properties", "version") != "14" {
			t.Errorf("the server is %v", made)
		}
		r.refused(boss, "PUT", server+"/databases/x", `{"properties":{}}`, 400, "ServerHasNoBackend")
		_, err := r.Authorize(t.Context(), as(boss), Login{PostgreSQL, "words", "postgres", "boss"})
		if !az.Is(err, az.Invalid) || !strings.Contains(err.Error(), "description only") {
			t.Errorf("a login: %v", err)
		}
		// The tag names a real one, later or at once.
		tagged := func(tag string) string {
			return fmt.Sprintf(`{"location":"local","tags":{"hawser-backend":%q},"properties":{"administratorLogin":%q,"administratorLoginPassword":%q}}`, tag, r.f.Owner, r.f.Password.Reveal())
		}
		r.refused(boss, "PUT", server, tagged("postgres://u:p@"+r.f.addr()), 400, "InvalidServerURL")
		r.refused(boss, "PUT", server, tagged("nobody"), 400, "InvalidBackend")
		if got := r.must(boss, "PUT", server, tagged("postgres://"+r.f.addr()+"/postgres")); text(got, "properties", "state") != "Ready" || text(got, "properties", "hawser", "host") != r.f.Host {
			t.Errorf("adopted by its address: %v", got)
		}
		if got := r.must(boss, "PUT", servers+"twin", tagged("pg1")); text(got, "properties", "hawser", "host") != r.f.Host {
			t.Errorf("adopted by name: %v", got)
		}
		r.must(boss, "PATCH", server, `{"tags":{"a":"b"}}`) // nothing else changes
		r.must(boss, "PUT", server+"/databases/"+r.f.db, `{"properties":{}}`)
	})
}

// A login never comes from the environment of the plane's process.
func TestLocalServerKnowsNothingOfThePlane(t *testing.T) {
	for _, e := range localEnv() {
		if !strings.HasPrefix(e, "PATH=") && !strings.HasPrefix(e, "LC_ALL=") && !strings.HasPrefix(e, "PGSYSCONFDIR=") {
			t.Errorf("the server is told %s", e)
		}
	}
}
