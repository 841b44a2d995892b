package main

import (
	"context"
	"crypto/tls"
	"encoding/csv"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/gateway/dbtest"
)

const redisResource = "https://redis.azure.com"

// redisPart measures the Redis gateway beside Redis with TLS and beside
// HAProxy, which like the gateway ends the client's TLS.
func redisPart(b *bench) error {
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return errors.New("redis-benchmark is not installed (Debian: redis-tools)")
	}
	sessions := envInt("BENCH_SESSIONS", 1000)
	s, err := dbtest.NewRedis()
	if err != nil {
		return err
	}
	b.after(s.Remove)
	direct := dbDoor{name: "direct", addr: s.Addr, user: s.User, password: s.Password}
	ours, err := b.redisGateway(s)
	if err != nil {
		return err
	}
	pem, err := b.joined("both.pem", filepath.Join(s.Dir, "server.pem"), filepath.Join(s.Dir, "server.key"))
	if err != nil {
		return err
	}
	plain := direct
	plain.addr = s.Plain
	peer, missing := b.haproxy(plain, "ssl crt "+pem)
	doors := allDoors(ours, direct, peer)
	if err := b.idleAt(sessions, ours, peer, redisOpen); err != nil {
		return err
	}
	for _, c := range []struct {
		clients, pipeline int
		target            float64
	}{{1, 1, 0}, {5, 1, 0}, {16, 1, 0.95}, {64, 1, 0.95}, {16, 16, 0.9}, {64, 16, 0.9}} {
		rs, err := b.inTurns(doors, func(d dbDoor) (result, error) { return b.redisBenchmark(d, c.clients, c.pipeline) })
		if err != nil {
			return err
		}
		b.against(fmt.Sprintf("GET, TLS, %d clients, pipeline of %d", c.clients, c.pipeline), "/s", rs, c.target, missing)
	}
	return b.dbLogins(doors, "login and one command", redisOpen, missing)
}

func (b *bench) redisGateway(s *dbtest.Server) (dbDoor, error) {
	p, err := b.startPlane("plane")
	if err != nil {
		return dbDoor{}, err
	}
	u := url.URL{Scheme: "redis", User: url.UserPassword(s.User, s.Password), Host: s.Plain, RawQuery: "sslmode=disable"}
	if err := p.each([]string{"attach", "cache1", u.String()}); err != nil {
		return dbDoor{}, err
	}
	apps, err := p.makeApps("web", 1)
	if err != nil {
		return dbDoor{}, err
	}
	if err := p.each([]string{"connect", "web0", "cache1", "--type", "redis", "--access", "write"}); err != nil {
		return dbDoor{}, err
	}
	token, err := p.cli("token", redisResource, "--app", "web0")
	return dbDoor{name: "ours", addr: p.about.Gateways["redis"], user: apps[0].principal, password: token, pid: p.server.pid()}, err
}

// redisOpen logs in and asks once.
func redisOpen(d dbDoor) (end func(), err error) {
	c := redis.NewClient(&redis.Options{Addr: d.addr, Username: d.user, Password: d.password, PoolSize: 1, MaxRetries: -1, DisableIdentity: true,
		TLSConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}) // the same at every door
	if err := c.Ping(context.Background()).Err(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return func() { _ = c.Close() }, nil
}

// redisBenchmark returns commands a second; P50 and P99 in microseconds.
func (b *bench) redisBenchmark(d dbDoor, clients, pipeline int) (result, error) {
	n := 100_000
	if clients == 1 {
		n = 20_000
	}
	n *= min(pipeline, 4)
	out, err := b.output("redis-benchmark", "-h", "127.0.0.1", "-p", d.port(), "--tls", "--insecure", "--user", d.user, "-a", d.password,
		"-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline), "-n", strconv.Itoa(n), "-t", "get", "--csv")
	if err != nil {
		return result{}, err
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) < 2 {
		return result{}, fmt.Errorf("redis-benchmark printed\n%s", out)
	}
	field := func(name string) float64 {
		i := slices.Index(rows[0], name)
		if i < 0 {
			return 0
		}
		v, _ := strconv.ParseFloat(rows[1][i], 64)
		return v
	}
	return result{Rate: field("rps"), P50: field("p50_latency_ms") * 1000, P99: field("p99_latency_ms") * 1000, N: n}, nil
}
