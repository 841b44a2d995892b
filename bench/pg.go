package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/hawser/hawser/internal/store/storetest"
)

// pgDoor is one way to the same database: straight, through the gateway, or
// through PgBouncer.
type pgDoor struct {
	name     string
	port     string
	user     string
	password string
	pid      int
}

// conninfo asks for TLS at every door.
func (d pgDoor) conninfo() string {
	return "host=127.0.0.1 port=" + d.port + " user=" + d.user + " dbname=bench sslmode=require"
}

// pgPart measures the gateway beside PostgreSQL with TLS and beside PgBouncer.
func pgPart(b *bench) error {
	if _, err := exec.LookPath("pgbench"); err != nil {
		return errors.New("pgbench is not installed (Debian: postgresql-contrib, or postgresql-15)")
	}
	sessions := envInt("BENCH_SESSIONS", 1000)
	pg, direct, err := b.pgServer(sessions + 300)
	if err != nil {
		return err
	}
	ours, err := b.pgGateway(pg)
	if err != nil {
		return err
	}
	bouncer, missing := b.pgBouncer(pg, direct, sessions+100)
	if err := b.idleSessions(sessions, ours, bouncer); err != nil {
		return err
	}
	for _, mode := range []string{"simple", "prepared"} {
		for i, clients := range []int{1, 16, 64} {
			target := []float64{0.95, 1.05, 1.10}[i]
			if err := b.queries(mode, clients, target, ours, direct, bouncer, missing); err != nil {
				return err
			}
		}
	}
	return b.logins(ours, direct, bouncer, missing)
}

func (b *bench) pgServer(connections int) (*storetest.Postgres, pgDoor, error) {
	cert, key, err := b.certificate()
	if err != nil {
		return nil, pgDoor{}, err
	}
	pg, err := storetest.NewPostgres("ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key, "max_connections="+strconv.Itoa(connections))
	if err != nil {
		return nil, pgDoor{}, err
	}
	b.after(pg.Remove)
	if _, err := b.psql(pg.URL("postgres"), "create database bench", "create role straight login password 'only a benchmark'"); err != nil {
		return nil, pgDoor{}, err
	}
	if _, err := b.output("pgbench", "-i", "-q", "-s", "10", pg.URL("bench")); err != nil {
		return nil, pgDoor{}, err
	}
	_, err = b.psql(pg.URL("bench"), "grant select on all tables in schema public to straight", "vacuum analyze")
	return pg, pgDoor{name: "direct", port: strconv.Itoa(pg.Port), user: "straight", password: "only a benchmark"}, err
}

// certificate makes a P-256 certificate that PostgreSQL's user may read; the
// floor's server makes one for itself, openssl is everywhere.
func (b *bench) certificate() (cert, key string, err error) {
	cert, key = filepath.Join(b.dir, "server.pem"), filepath.Join(b.dir, "server.key")
	if _, err := b.output("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
		"-subj", "/CN=localhost", "-keyout", key, "-out", cert); err != nil {
		return "", "", err
	}
	if os.Getuid() == 0 {
		_, err = b.output("chown", "postgres", key, cert)
	}
	return cert, key, err
}

func (b *bench) pgGateway(pg *storetest.Postgres) (pgDoor, error) {
	p, err := b.startPlane("plane")
	if err != nil {
		return pgDoor{}, err
	}
	if err := p.each([]string{"attach", "pg1", pg.URL("bench")}, []string{"app", "create", "web"},
		[]string{"connect", "web", "pg1", "--database", "bench", "--access", "read", "--name", "bench"}); err != nil {
		return pgDoor{}, err
	}
	token, err := p.cli("token", pgResource, "--app", "web")
	_, port, _ := strings.Cut(p.about.Gateways["pg"], ":")
	return pgDoor{name: "ours", port: port, user: "aad_bench", password: token, pid: p.server.pid()}, err
}

// pgBouncer starts the peer in session mode with client TLS and SCRAM
// verifiers; if it cannot, it says why.
func (b *bench) pgBouncer(pg *storetest.Postgres, direct pgDoor, connections int) (*pgDoor, string) {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		return nil, "PgBouncer is not installed"
	}
	verifier, err := b.psql(pg.URL("postgres"), "select rolpassword from pg_authid where rolname = 'straight'")
	if err != nil {
		return nil, "PgBouncer: no verifier"
	}
	port, err := freePort()
	if err != nil {
		return nil, err.Error()
	}
	at := func(name string) string { return filepath.Join(b.dir, name) }
	ini := fmt.Sprintf("[databases]\nbench = host=127.0.0.1 port=%d dbname=bench\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = %s\npool_mode = session\nmax_client_conn = %d\ndefault_pool_size = %d\nclient_tls_sslmode = require\nclient_tls_key_file = %s\nclient_tls_cert_file = %s\nserver_tls_sslmode = disable\nlog_connections = 0\nlog_disconnections = 0\n",
		pg.Port, port, at("users.txt"), connections, connections, at("server.key"), at("server.pem"))
	for name, text := range map[string]string{"users.txt": fmt.Sprintf("%q %q\n", direct.user, verifier), "pgbouncer.ini": ini} {
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			return nil, err.Error()
		}
	}
	argv := []string{path, "-q", at("pgbouncer.ini")}
	if os.Getuid() == 0 { // it refuses to be root
		argv = append([]string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		return nil, err.Error()
	}
	b.after(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	door := &pgDoor{name: "PgBouncer", port: port, user: direct.user, password: direct.password, pid: cmd.Process.Pid}
	for range 50 {
		if _, err = b.pgbench(*door, "-S", "-t", "1"); err == nil {
			return door, ""
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, "PgBouncer does not answer"
}

func freePort() (string, error) {
	l, err := listenAnywhere()
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	return port, nil
}

var tps = regexp.MustCompile(`(?m)^tps = ([\d.]+)`)

// pgbench returns transactions a second, and the door's processor time each.
// On a machine that is busy otherwise the clients may not be in before the
// time is over; that is tried again.
func (b *bench) pgbench(d pgDoor, args ...string) (r result, err error) {
	for range 3 {
		if r, err = b.pgbenchOnce(d, args...); err == nil {
			return r, nil
		}
	}
	return r, err
}

func (b *bench) pgbenchOnce(d pgDoor, args ...string) (result, error) {
	cmd := exec.CommandContext(b.ctx, "pgbench", append(append([]string{"-n"}, args...), d.conninfo())...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+d.password)
	before := processorTime([]int{d.pid})
	out, err := cmd.CombinedOutput()
	used := processorTime([]int{d.pid}) - before
	m := tps.FindSubmatch(out)
	if err == nil && m == nil {
		err = errors.New("no transaction was made")
	}
	if err != nil {
		return result{}, fmt.Errorf("pgbench, %s: %w\n%s", d.name, err, out)
	}
	rate, _ := strconv.ParseFloat(string(m[1]), 64)
	r := result{Rate: rate}
	if n := regexp.MustCompile(`actually processed: (\d+)`).FindSubmatch(out); n != nil && d.pid != 0 {
		r.N, _ = strconv.Atoi(string(n[1]))
		r.CPU = float64(used.Microseconds()) / float64(max(r.N, 1))
	}
	return r, nil
}

// compare runs the same at each door in turns.
func (b *bench) compare(doors []pgDoor, args ...string) ([]result, error) {
	all := make([][]result, len(doors))
	for range b.rounds {
		for i, d := range doors {
			r, err := b.pgbench(d, args...)
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], r)
		}
	}
	out := make([]result, len(doors))
	for i, d := range doors {
		out[i] = b.middle(d.name, all[i])
	}
	return out, nil
}

// seconds is how long pgbench runs: 64 logins take it a second by themselves.
func (b *bench) seconds(clients int) string {
	d := b.time / 2
	if clients >= 64 {
		d = b.time
	}
	return strconv.Itoa(max(1, int(d.Seconds())))
}

func doors(ours, direct pgDoor, bouncer *pgDoor) []pgDoor {
	all := []pgDoor{ours, direct}
	if bouncer != nil {
		all = append(all, *bouncer)
	}
	return all
}

func (b *bench) queries(mode string, clients int, target float64, ours, direct pgDoor, bouncer *pgDoor, missing string) error {
	rs, err := b.compare(doors(ours, direct, bouncer), "-S", "-M", mode, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients)), "-T", b.seconds(clients))
	if err != nil {
		return err
	}
	r := row{What: fmt.Sprintf("select, %s, %d clients", mode, clients), Ours: fmt.Sprintf("%s tps, %.1f µs CPU", count(rs[0].Rate), rs[0].CPU),
		Limit: "direct TLS " + count(rs[1].Rate) + " tps", Ratio: rs[0].Rate / rs[1].Rate, Peer: missing}
	met := false
	if bouncer != nil {
		ratio := rs[0].Rate / rs[2].Rate
		met = ratio >= target
		r.Target = fmt.Sprintf("≥ %.2f × PgBouncer", target)
		r.Peer = fmt.Sprintf("%.2f × PgBouncer (%s tps, %.1f µs CPU)", ratio, count(rs[2].Rate), rs[2].CPU)
	}
	b.add(r, met)
	return nil
}

func (b *bench) logins(ours, direct pgDoor, bouncer *pgDoor, missing string) error {
	rs, err := b.compare(doors(ours, direct, bouncer), "-C", "-S", "-c", "16", "-j", "2", "-T", b.seconds(64))
	if err != nil {
		return err
	}
	ratio := rs[0].Rate / rs[1].Rate
	met := ratio >= 6
	r := row{What: "login, warm backend, 16 clients", Ours: fmt.Sprintf("%s/s, %.0f µs CPU", count(rs[0].Rate), rs[0].CPU), Limit: "direct TLS+SCRAM " + count(rs[1].Rate) + "/s", Ratio: ratio,
		Target: "≥ 6 ×, ≥ 3.5 × PgBouncer", Peer: missing}
	if bouncer != nil {
		met = met && rs[0].Rate/rs[2].Rate >= 3.5
		r.Peer = fmt.Sprintf("%.2f × PgBouncer (%s/s, %.0f µs CPU)", rs[0].Rate/rs[2].Rate, count(rs[2].Rate), rs[2].CPU)
	}
	b.add(r, met)
	return nil
}

// idleSessions is the memory of sessions that do nothing.
func (b *bench) idleSessions(n int, ours pgDoor, bouncer *pgDoor) error {
	mine, err := b.idle(n, ours)
	if err != nil {
		return err
	}
	peer := "PgBouncer 16.5 KiB, not run here"
	if bouncer != nil {
		v, err := b.idle(n, *bouncer)
		if err != nil {
			return err
		}
		peer = fmt.Sprintf("PgBouncer %.1f KiB", v)
	}
	b.add(row{What: fmt.Sprintf("idle session, client TLS, %s of them", count(float64(n))), Ours: fmt.Sprintf("%.1f KiB", mine), Target: "≤ 32 KiB", Peer: peer}, mine <= 32)
	return nil
}

// idle opens sessions with one query each, leaves them alone, and returns the
// KiB that each made the door grow by.
func (b *bench) idle(n int, d pgDoor) (float64, error) {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(d.user, d.password), Host: "127.0.0.1:" + d.port, Path: "/bench", RawQuery: "sslmode=require"}
	if _, err := b.pgbench(d, "-S", "-t", "10"); err != nil { // what the first session brings is not a session's
		return 0, err
	}
	before := residentKiB(d.pid)
	conns := make([]*pgconn.PgConn, n)
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(16)
	for i := range conns {
		g.Go(func() error {
			c, err := pgconn.Connect(ctx, u.String())
			if err != nil {
				return err
			}
			conns[i] = c
			return c.Exec(ctx, "select 1").Close()
		})
	}
	err := g.Wait()
	if err == nil {
		time.Sleep(5 * time.Second)
	}
	grown := residentKiB(d.pid) - before
	for _, c := range conns {
		if c != nil {
			_ = c.Close(context.Background())
		}
	}
	return grown / float64(n), err
}
