package main

import (
	"context"
	"crypto/tls"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway/dbtest"
)

const mysqlRows = 100_000

// mysqlPart measures the MySQL gateway beside MariaDB with TLS and beside
// HAProxy, which passes the client's TLS on to MariaDB.
func mysqlPart(b *bench) error {
	if _, err := exec.LookPath("sysbench"); err != nil {
		return errors.New("sysbench is not installed (Debian: sysbench)")
	}
	sessions := envInt("BENCH_SESSIONS", 1000)
	s, err := dbtest.NewMariaDB("--max-connections="+strconv.Itoa(sessions+300), "--innodb-buffer-pool-size=256M")
	if err != nil {
		return err
	}
	b.after(s.Remove)
	direct := dbDoor{name: "direct", addr: s.Addr, user: "straight", password: "only-a-benchmark"}
	if err := mysqlRun(s, "CREATE DATABASE bench", "CREATE USER straight@'%' IDENTIFIED BY 'only-a-benchmark'", "GRANT ALL ON bench.* TO straight@'%'"); err != nil {
		return err
	}
	ours, err := b.mysqlGateway(s)
	if err != nil {
		return err
	}
	if _, err := b.outputIn(b.dir, sysbench(direct, "oltp_point_select", "prepare", "--table-size="+strconv.Itoa(mysqlRows))...); err != nil {
		return err
	}
	peer, missing := b.haproxy(direct, "")
	doors := allDoors(ours, direct, peer)
	if err := b.idleAt(sessions, ours, peer, mysqlOpen); err != nil {
		return err
	}
	for _, c := range copies {
		rs, err := b.inTurns(doors, func(d dbDoor) (result, error) { return b.sysbench(d, c.clients) })
		if err != nil {
			return err
		}
		b.against(fmt.Sprintf("point select, prepared, TLS, %d clients", c.clients), "q/s", rs, c.target, missing)
	}
	return b.dbLogins(doors, "login and one query", mysqlOpen, missing)
}

// mysqlRun runs statements as the server's owner.
func mysqlRun(s *dbtest.Server, statements ...string) error {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "unix", s.Socket, s.User, s.Password
	conn, err := mysqlConnect(c)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, text := range statements {
		if _, err := conn.(sqldriver.ExecerContext).ExecContext(context.Background(), text, nil); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

func mysqlConnect(c *mysql.Config) (sqldriver.Conn, error) {
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return connector.Connect(context.Background())
}

func (b *bench) mysqlGateway(s *dbtest.Server) (dbDoor, error) {
	p, err := b.startPlane("plane")
	if err != nil {
		return dbDoor{}, err
	}
	u := url.URL{Scheme: "mysql", User: url.UserPassword(s.User, s.Password), Host: s.Addr, Path: "/bench", RawQuery: "sslmode=disable"}
	if err := b.sysbenchFiles(s, p); err != nil {
		return dbDoor{}, err
	}
	if err := p.each([]string{"attach", "my1", u.String()}, []string{"app", "create", "web"},
		[]string{"connect", "web", "my1", "--database", "bench", "--access", "read", "--name", "bench"}); err != nil {
		return dbDoor{}, err
	}
	token, err := p.cli("token", pgResource, "--app", "web")
	return dbDoor{name: "ours", addr: p.about.Gateways["mysql"], user: "aad_bench", password: token, pid: p.server.pid()}, err
}

// mysqlOpen logs in and asks once.
func mysqlOpen(d dbDoor) (end func(), err error) {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", d.addr, d.user, d.password, "bench"
	c.TLS, c.AllowCleartextPasswords = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, true // the same at every door
	conn, err := mysqlConnect(c)
	if err != nil {
		return nil, err
	}
	end = func() { _ = conn.Close() }
	_, err = conn.(sqldriver.ExecerContext).ExecContext(context.Background(), "DO 1", nil)
	return end, err
}

// sysbenchFiles puts what sysbench needs for TLS where it will run: it takes
// these names from its directory and no others.
func (b *bench) sysbenchFiles(s *dbtest.Server, p *plane) error {
	for name, from := range map[string][]string{"cacert.pem": {s.CAFile, p.about.CAFile},
		"client-cert.pem": {filepath.Join(s.Dir, "server.pem")}, "client-key.pem": {filepath.Join(s.Dir, "server.key")}} {
		if _, err := b.joined(name, from...); err != nil {
			return err
		}
	}
	return nil
}

// sysbench is a command line at a door, with TLS. The client library loads the
// plugin for tokens when it is first asked for one, and fails if two threads
// are at that.
func sysbench(d dbDoor, test, command string, more ...string) []string {
	return append(append([]string{"env", "LIBMYSQL_PLUGINS=mysql_clear_password", "sysbench", test, "--db-driver=mysql", "--mysql-host=127.0.0.1", "--mysql-port=" + d.port(), "--mysql-user=" + d.user,
		"--mysql-password=" + d.password, "--mysql-db=bench", "--mysql-ssl=on", "--tables=1"}, more...), command)
}

var (
	sysbenchRate    = regexp.MustCompile(`queries:\s+(\d+)\s+\(([\d.]+) per sec`)
	sysbenchLatency = regexp.MustCompile(`avg:\s+([\d.]+)`)
)

// sysbench returns queries a second; P50 is the mean latency, which is what
// sysbench tells in microseconds' resolution.
func (b *bench) sysbench(d dbDoor, clients int) (result, error) {
	seconds := max(1, int(b.time.Seconds()))
	out, err := b.outputIn(b.dir, sysbench(d, "oltp_point_select", "run", "--threads="+strconv.Itoa(clients), "--time="+strconv.Itoa(seconds),
		"--table-size="+strconv.Itoa(mysqlRows), "--mysql-ignore-errors=none")...)
	if err != nil {
		return result{}, err
	}
	m := sysbenchRate.FindStringSubmatch(out)
	if m == nil {
		return result{}, fmt.Errorf("sysbench printed\n%s", out)
	}
	r := result{}
	r.N, _ = strconv.Atoi(m[1])
	r.Rate, _ = strconv.ParseFloat(m[2], 64)
	if l := sysbenchLatency.FindStringSubmatch(out); l != nil {
		ms, _ := strconv.ParseFloat(l[1], 64)
		r.P50 = ms * 1000
	}
	return r, nil
}
