package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// dbDoor is one way to the same server: straight, through the gateway, or
// through HAProxy, which does nothing but copy.
type dbDoor struct {
	name     string
	addr     string
	user     string
	password string
	pid      int
}

func (d dbDoor) port() string {
	_, port, _ := net.SplitHostPort(d.addr)
	return port
}

// haproxy starts HAProxy in TCP mode in front of a server; options are of the
// bind line. If it cannot, it says why.
func (b *bench) haproxy(to dbDoor, options string) (*dbDoor, string) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy"
		if _, err := os.Stat(path); err != nil {
			return nil, "HAProxy is not installed"
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err.Error()
	}
	conf := filepath.Join(b.dir, "haproxy.cfg")
	text := fmt.Sprintf("global\n maxconn 6000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten door\n bind 127.0.0.1:%s %s\n server one %s\n", port, options, to.addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err.Error()
	}
	cmd := exec.Command(path, "-db", "-f", conf)
	if err := cmd.Start(); err != nil {
		return nil, err.Error()
	}
	b.after(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	d := &dbDoor{name: "HAProxy", addr: "127.0.0.1:" + port, user: to.user, password: to.password, pid: cmd.Process.Pid}
	for range 100 {
		c, err := net.DialTimeout("tcp", d.addr, time.Second)
		if err == nil {
			_ = c.Close()
			return d, ""
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, "HAProxy does not listen"
}

// all are the doors that there are.
func allDoors(ours, direct dbDoor, peer *dbDoor) []dbDoor {
	out := []dbDoor{ours, direct}
	if peer != nil {
		out = append(out, *peer)
	}
	return out
}

// inTurns runs the same at each door in turns.
func (b *bench) inTurns(doors []dbDoor, run func(dbDoor) (result, error)) ([]result, error) {
	all := make([][]result, len(doors))
	for range b.rounds {
		for i, d := range doors {
			before := processorTime([]int{d.pid})
			r, err := run(d)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.name, err)
			}
			if used := processorTime([]int{d.pid}) - before; d.pid != 0 && r.N > 0 {
				r.CPU = float64(used.Microseconds()) / float64(r.N)
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

// against adds a row of what was measured at the doors; target is a share of
// HAProxy's rate, 0 for none.
func (b *bench) against(what, unit string, rs []result, target float64, missing string) {
	r := row{What: what, Ours: fmt.Sprintf("%s %s, %.1f µs CPU", count(rs[0].Rate), unit, rs[0].CPU),
		Limit: "direct " + count(rs[1].Rate) + " " + unit, Ratio: rs[0].Rate / rs[1].Rate, Peer: missing}
	met := false
	if len(rs) > 2 {
		ratio := rs[0].Rate / rs[2].Rate
		met = ratio >= target
		if target > 0 {
			r.Target = fmt.Sprintf("≥ %.2f × HAProxy", target)
		}
		r.Peer = fmt.Sprintf("%.2f × HAProxy (%s %s, %.1f µs CPU)", ratio, count(rs[2].Rate), unit, rs[2].CPU)
	}
	if rs[0].P50 > 0 {
		r.Ours += fmt.Sprintf(", p50 %.0f µs (+%.0f to direct)", rs[0].P50, rs[0].P50-rs[1].P50)
	}
	b.add(r, met)
}

// copies are the numbers of clients that the copy is measured with, and what
// share of HAProxy's rate is wanted.
var copies = []struct {
	clients int
	target  float64
}{{1, 0}, {5, 0}, {16, 0.95}, {64, 0.95}}

// dbLogins adds a row of logins with one question each, by 16 clients.
func (b *bench) dbLogins(doors []dbDoor, what string, open func(dbDoor) (end func(), err error), missing string) error {
	rs, err := b.inTurns(doors, func(d dbDoor) (result, error) {
		return b.repeated(16, b.time, func() error {
			end, err := open(d)
			if err == nil {
				end()
			}
			return err
		})
	})
	if err == nil {
		b.against(what+", TLS, 16 clients", "/s", rs, 0, missing)
	}
	return err
}

// repeated calls fn from some goroutines for a while and counts.
func (b *bench) repeated(clients int, limit time.Duration, fn func() error) (result, error) {
	counts := make([]int, clients)
	began := time.Now()
	var g errgroup.Group
	for i := range counts {
		g.Go(func() error {
			for time.Since(began) < limit && b.ctx.Err() == nil {
				if err := fn(); err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	err := g.Wait()
	took, n := time.Since(began), 0
	for _, c := range counts {
		n += c
	}
	return result{Rate: float64(n) / took.Seconds(), N: n}, err
}

// idleAt opens sessions at doors, leaves them alone and adds a row of what
// each made its door grow by.
func (b *bench) idleAt(n int, ours dbDoor, peer *dbDoor, open func(dbDoor) (end func(), err error)) error {
	mine, err := b.growth(n, ours, open)
	if err != nil {
		return err
	}
	r := row{What: fmt.Sprintf("idle session, client TLS, %s of them", count(float64(n))), Ours: fmt.Sprintf("%.1f KiB", mine), Target: "≤ 32 KiB"}
	if peer != nil {
		v, err := b.growth(n, *peer, open)
		if err != nil {
			return err
		}
		r.Peer = fmt.Sprintf("HAProxy %.1f KiB", v)
	}
	b.add(r, mine <= 32)
	return nil
}

func (b *bench) growth(n int, d dbDoor, open func(dbDoor) (func(), error)) (float64, error) {
	ends, err := crowdAt(warmUp, d, open) // what the first sessions bring is not a session's
	for _, end := range ends {
		end()
	}
	if err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	before := residentKiB(d.pid)
	ends, err = crowdAt(n, d, open)
	if err == nil {
		time.Sleep(3 * time.Second) // until they are parked
	}
	// Once only: a second crowd would find the memory of the first.
	each := (residentKiB(d.pid) - before) / float64(n)
	b.sample(d.name+" idle session", each, "KiB")
	for _, end := range ends {
		end()
	}
	return each, err
}

// warmUp sessions make a door's heap as large as logins need it, whose garbage
// would be counted as the sessions' otherwise.
const warmUp = 64

// crowdAt opens n sessions, 16 at a time, and returns those that were opened.
func crowdAt(n int, d dbDoor, open func(dbDoor) (func(), error)) ([]func(), error) {
	ends := make([]func(), n)
	var g errgroup.Group
	g.SetLimit(16)
	for i := range ends {
		g.Go(func() (err error) {
			ends[i], err = open(d)
			return err
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(ends, func(end func()) bool { return end == nil }), err
}
