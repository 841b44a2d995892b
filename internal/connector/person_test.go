package connector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/pg"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// front is a real gateway before the rig's connector. A person's token is the
// person's object id.
type front struct {
	*pg.Gateway
	r    *rig
	port uint16
}

func (r *rig) front() *front {
	r.t.Helper()
	pair, err := tls.X509KeyPair(selfSigned(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	g, err := pg.New(pg.Config{Rules: gateway.Rules{Verify: verifyPerson, Authorize: r.authorizeFor}, Domain: "postgres.hawser.test",
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Terminate: r.Terminate, Repair: r.Repair, Log: slog.New(slog.DiscardHandler), Clock: r.now})
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		g.Shutdown(ctx)
		<-done
	})
	return &front{Gateway: g, r: r, port: uint16(l.Addr().(*net.TCPAddr).Port)}
}

func verifyPerson(_ context.Context, token az.Secret) (az.Principal, error) {
	p := as(token.Reveal())
	p.Kind = az.User
	return p, nil
}

func (r *rig) authorizeFor(ctx context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
	ask := r.Authorize
	if want.Again {
		ask = r.Recheck
	}
	b, err := ask(ctx, who, Login{PostgreSQL, want.Server, want.Database, want.User})
	if err != nil {
		return gateway.Grant{}, err
	}
	g := gateway.Grant{Server: b.Server, Addr: b.Addr, User: b.User, Password: b.Password, Database: b.Database}
	if b.Admin {
		g.Statement = func(ctx context.Context, sql string) (string, bool) { return r.Statement(ctx, who, b, sql) }
	}
	return g, nil
}

// recheck looks at the open sessions, as the server does after every change.
func (f *front) recheck() {
	still := gateway.Authorize(f.r.authorizeFor).Still()
	f.Recheck(context.Background(), still)
}

func (f *front) login(oid, user, database string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1 sslmode=require")
	if err != nil {
		return nil, err
	}
	cfg.Port, cfg.User, cfg.Password, cfg.Database = f.port, user, oid, database
	cfg.RuntimeParams = map[string]string{"options": "endpoint=pg1"}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		f.r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func (f *front) enter(oid, user string) *pgx.Conn {
	f.r.t.Helper()
	conn, err := f.login(oid, user, f.r.f.db)
	if err != nil {
		f.r.t.Fatalf("login as %q: %v", user, err)
	}
	return conn
}

// see is the rows that a session sees, and under which name.
func see(t testing.TB, conn *pgx.Conn, query string) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

const whoami = `select session_user || ' ' || current_user`

func (r *rig) upn(name string) string { return r.conn(name) + "@hawser.test" }

func (r *rig) leaves(group, member string) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(group, member); return err })
}

func (r *rig) joins(group, member string) {
	r.t.Helper()
	r.write(func(tx *store.Tx) error { return r.dir.AddMember(tx, group, member) })
}

// TestPeopleSeeTheirOwnRows: two people of one group, whose role may read and
// write the table, log in as themselves and see different rows.
func TestPeopleSeeTheirOwnRows(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		ann, bob, eve := r.user(r.conn("ann")), r.user(r.conn("bob")), r.user(r.conn("eve"))
		team := r.group(r.conn("team"), ann)
		r.joins(r.group(r.conn("part"), bob), eve)
		r.joins(team, bob)
		role := r.conn("team")
		r.mapTo(role, team, Write)
		r.grantRole(guard.RolePostgresLogin, team, servers+"pg1/databases/"+r.f.db)
		r.f.asOwner(t, `create table notes (who text, what text)`, fmt.Sprintf(`grant select, insert on notes to %s`, ident(role)),
			`alter table notes enable row level security`, `create policy own on notes using (who = current_user)`)
		f := r.front()
		a, b := f.enter(ann, r.upn("ann")), f.enter(bob, r.upn("bob"))
		for conn, name := range map[*pgx.Conn]string{a: "ann", b: "bob"} {
			if got := see(t, conn, whoami); got != r.upn(name)+" "+r.upn(name) {
				t.Errorf("%s is %q to the database", name, got)
			}
			if _, err := conn.Exec(t.Context(), `insert into notes values (current_user, $1)`, name+"'s"); err != nil {
				t.Error(err)
			}
			if got := see(t, conn, `select what from notes`); got != name+"'s" {
				t.Errorf("%s sees %q", name, got)
			}
			if _, err := conn.Exec(t.Context(), `insert into notes values ('somebody else', 'x')`); err == nil {
				t.Errorf("%s writes rows of somebody else", name)
			}
			if _, err := conn.Exec(t.Context(), `create table mine (x int)`); err == nil {
				t.Errorf("%s may do more than the group", name)
			}
		}
		if got := see(t, f.enter(ann, role), whoami); got != role+" "+role {
			t.Errorf("the group's name gives %q", got)
		}
		for what, c := range map[string][2]string{"somebody else's name": {ann, r.upn("bob")}, "nobody's group": {eve, r.upn("eve")},
			"another case": {ann, strings.ToUpper(r.upn("ann"))}, "a person of the group in another case": {bob, r.upn("Bob")}} {
			if conn, err := f.login(c[0], c[1], r.f.db); err == nil {
				t.Errorf("%s lets in as %q", what, see(t, conn, whoami))
			}
		}
		if _, err := f.login(ann, r.upn("ann"), "postgres"); err == nil {
			t.Error("a database that the group's role is not for")
		}
		if r.roleExists(r.upn("eve")) {
			t.Error("a role was made for somebody who may not log in")
		}
		if n := len(r.records(actionPersonRole, guard.Allowed)); n < 2 {
			t.Errorf("%d records of roles made for people", n)
		}
	})
}

// TestPeopleFollowTheirGroups: what a group loses, its people lose, in open
// sessions too; when no group is left, so is the role.
func TestPeopleFollowTheirGroups(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann := r.user(r.conn("ann"))
		readers, writers := r.group(r.conn("readers"), ann), r.group(r.conn("writers"), ann)
		r.mapTo(r.conn("readers"), readers, Read)
		r.mapTo(r.conn("writers"), writers, Write)
		r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		f := r.front()
		me := r.upn("ann")
		write := `insert into todo (what) values ('x')`
		conn := f.enter(ann, me)
		tries(t, conn, map[string]bool{write: true})
		if _, err := conn.Exec(t.Context(), "set role "+ident(r.conn("writers"))); err != nil {
			t.Fatal(err)
		}
		r.leaves(writers, ann)
		f.recheck()
		if _, err := conn.Exec(t.Context(), write); err == nil {
			t.Error("an open session kept the role of a group that it left")
		}
		tries(t, f.enter(ann, me), map[string]bool{write: false, `select * from todo`: true})
		r.joins(writers, ann)
		tries(t, f.enter(ann, me), map[string]bool{write: true})
		conn = f.enter(ann, me)
		r.leaves(writers, ann)
		r.leaves(readers, ann)
		f.recheck()
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("a session without any group goes on")
		}
		if _, err := f.login(ann, me, r.f.db); err == nil {
			t.Error("a login without any group")
		}
		if err := r.sweep(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if r.roleExists(me) {
			t.Error("the role outlived the last of its groups")
		}
		r.joins(readers, ann)
		f.enter(ann, me)
		r.must(boss, "DELETE", servers+"pg1/principals/"+r.conn("readers"), "")
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.roleExists(me) {
			t.Error("the role outlived the mapping of its group")
		}
	})
}

// TestPersonalNamesCaptureNothing: a role that is there and not ours is never
// taken over by somebody whose name is the same, nor is one of somebody else.
func TestPersonalNamesCaptureNothing(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann, bob := r.user(r.conn("ann")), r.user(r.conn("bob"))
		team := r.group(r.conn("team"), ann, bob)
		r.mapTo(r.conn("team"), team, Read)
		r.grantRole(guard.RolePostgresLogin, team, servers+"pg1")
		real().Exec(t, "postgres", "create role "+ident(r.upn("ann"))+" superuser login")
		f := r.front()
		_, err := f.login(ann, r.upn("ann"), r.f.db)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "28P01" {
			t.Errorf("a role of somebody else's making: %v", err)
		}
		f.enter(bob, r.upn("bob"))
		// The name changes hands: its role does not.
		first := text(r.must(boss, "GET", servers+"pg1/principals/"+principalName(r.upn("bob")), ""), "properties", "principalId")
		r.write(func(tx *store.Tx) error { return r.dir.Remove(tx, bob) })
		other := r.user(r.conn("bob"))
		if first != bob || other == bob {
			t.Fatal("the test proves nothing")
		}
		if _, err := f.login(other, r.upn("bob"), r.f.db); err == nil {
			t.Error("the new bob has no group")
		}
		r.joins(team, other)
		f.enter(other, r.upn("bob"))
		if now := text(r.must(boss, "GET", servers+"pg1/principals/"+principalName(r.upn("bob")), ""), "properties", "principalId"); now != other {
			t.Errorf("the role is %s's, not %s's", now, other)
		}
	})
}

// TestPersonMappedDirectly: a mapping or an administrator under the person's
// own name works as before, with and without groups.
func TestPersonMappedDirectly(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		ann := r.user(r.conn("ann"))
		me := r.upn("ann")
		team := r.group(r.conn("team"), ann)
		r.mapTo(r.conn("team"), team, Write)
		r.grantRole(guard.RolePostgresLogin, ann, servers+"pg1")
		f := r.front()
		write, role := `insert into todo (what) values ('x')`, `create role nobody_`+r.f.db
		tries(t, f.enter(ann, me), map[string]bool{write: true, role: false})
		admin := servers + "pg1/administrators/" + ann
		r.must(boss, "PUT", admin, fmt.Sprintf(`{"properties":{"principalName":%q,"principalType":"User"}}`, me))
		tries(t, f.enter(ann, me), map[string]bool{write: true, role: true})
		r.leaves(team, ann)
		tries(t, f.enter(ann, me), map[string]bool{write: false, role: true})
		r.joins(team, ann)
		f.enter(ann, me)
		r.must(boss, "DELETE", admin, "")
		tries(t, f.enter(ann, me), map[string]bool{write: true, role: false})
	})
}

// TestPeopleAtOnce: many first logins of the same person on two planes make
// one role.
func TestPeopleAtOnce(t *testing.T) {
	t.Parallel()
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	r := newPlane(t, st)
	second := newRig(t, st, r.sealer, r.f)
	ann := r.user(r.conn("ann"))
	team := r.group(r.conn("team"), ann)
	r.mapTo(r.conn("team"), team, Read)
	r.grantRole(guard.RolePostgresLogin, team, servers+"pg1")
	doors := []*front{r.front(), second.front()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			conn, err := doors[i%2].login(ann, r.upn("ann"), r.f.db)
			if err != nil {
				t.Errorf("login %d: %v", i, err)
				return
			}
			if got := see(t, conn, `select what from todo order by 1`); got != "a b" {
				t.Errorf("login %d sees %q", i, got)
			}
		})
	}
	wg.Wait()
}
