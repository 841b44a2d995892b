package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// Peer figures of the reference machine; OpenBao is not installed by make.
const (
	openbaoBest  = 11354 // reads a second at 16 connections, token without the templated default policy
	openbaoWrite = 627   // durable writes a second with raft, 1 connection
	openbaoMany  = 1261  // the same with 16
)

// secretPart measures reads: real tokens of many identities, a real decision
// and audit record each, random names.
func secretPart(b *bench) error {
	names, identities := envInt("BENCH_SECRETS", 100_000), envInt("BENCH_IDENTITIES", 1000)
	p, err := b.startPlane("plane")
	if err != nil {
		return err
	}
	vault, admin, err := p.makeVault()
	if err != nil {
		return err
	}
	apps, err := p.makeApps("reader", identities)
	if err != nil {
		return err
	}
	tokens, err := p.admit(apps, vault)
	if err != nil {
		return err
	}
	few := min(names, 1000)
	if _, err := p.fill(few, admin); err != nil {
		return err
	}
	small, err := b.run(p.vaultLoad(16, few, readSecret, tokens...))
	if err != nil {
		return err
	}
	filled, err := p.fill(names, admin)
	if err != nil {
		return err
	}
	fmt.Printf("  %s secrets were set at %s/s; %d identities\n", count(float64(names)), count(filled.Rate), identities)
	floor, err := b.secretFloor(names, small.Body, tokens)
	if err != nil {
		return err
	}
	var at16 result
	for _, conns := range []int{16, 64} {
		ours, limit, err := b.turns(
			func() (result, error) { return b.run(p.vaultLoad(conns, names, readSecret, tokens...)) },
			func() (result, error) { return b.run(floor(conns)) })
		if err != nil {
			return err
		}
		if conns == 16 {
			at16 = ours
		}
		ratio := ours.Rate / limit.Rate
		b.add(row{What: fmt.Sprintf("secret read, %s secrets, %d conn", count(float64(names)), conns), Ours: ours.rate("/s"), Limit: "net/http, careful " + limit.rate("/s"),
			Ratio: ratio, CPU: cpuRatio(ours, limit), Target: "≥ 0.75, ≤ 40 µs CPU", Peer: fmt.Sprintf("%.1f × OpenBao at its best, not run here (11,354/s)", ours.Rate/openbaoBest)}, ratio >= 0.75 && ours.CPU <= 40)
	}
	rss := residentKiB(p.server.pid()) / 1024
	b.add(row{What: fmt.Sprintf("memory with %s secrets", count(float64(names))), Ours: fmt.Sprintf("%.0f MiB", rss), Target: "≤ 64 MiB", Peer: "OpenBao 104 MiB with 100 secrets"}, rss <= 64)
	growth := small.Rate / at16.Rate
	b.add(row{What: fmt.Sprintf("read: %s → %s secrets", count(float64(few)), count(float64(names))), Ours: count(at16.Rate) + "/s", Limit: count(small.Rate) + "/s", Ratio: at16.Rate / small.Rate, Target: "flat within 1.3 ×"}, growth <= 1.3)
	return nil
}

// secretFloor starts the careful floor with as many secrets and the same
// tokens and reply; the result makes loads on it.
func (b *bench) secretFloor(names int, reply string, tokens []string) (func(conns int) load, error) {
	at := func(name string) string { return filepath.Join(b.dir, name) }
	if err := os.WriteFile(at("reply"), []byte(reply), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(at("tokens"), []byte(strings.Join(tokens, "\n")), 0o600); err != nil {
		return nil, err
	}
	s, err := b.startFloor("secret", fmt.Sprint(names), at("reply"), at("floor.pem"), at("tokens"))
	if err != nil {
		return nil, err
	}
	return func(conns int) load {
		l := load{Addr: s.ready, TLS: "localhost", CA: at("floor.pem"), Names: names, Conns: conns, PIDs: []int{s.pid()}}
		for _, t := range tokens {
			l.Requests = append(l.Requests, readSecret("localhost", t))
		}
		return l
	}, nil
}

// writePart measures durable writes: a version and its audit record each. The
// limit is the store's own grouped commit of one row of 512 bytes.
func writePart(b *bench) error {
	pg, err := storetest.NewPostgres("fsync=on", "full_page_writes=on")
	if err != nil {
		return err
	}
	b.after(pg.Remove)
	if _, err := b.psql(pg.URL("postgres"), "create database plane", "create database floor"); err != nil {
		return err
	}
	for _, kind := range []struct{ name, url, floor string }{{"SQLite", "sqlite", ""}, {"PostgreSQL", pg.URL("plane"), pg.URL("floor")}} {
		p, err := b.startPlane(kind.name, "--store", kind.url)
		if err != nil {
			return err
		}
		_, admin, err := p.makeVault()
		if err != nil {
			return err
		}
		for _, conns := range []int{1, 16} {
			if err := b.writes(p, kind.name, kind.floor, admin, conns); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) writes(p *plane, kind, url, token string, conns int) error {
	dir := filepath.Join(b.dir, "floor-"+kind)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st, err := store.Open(b.ctx, store.Config{Dir: dir, URL: url})
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	ours, limit, err := b.turns(
		func() (result, error) { return b.run(p.vaultLoad(conns, 10_000, writeSecret, token)) },
		func() (result, error) { return groupedWrites(b.ctx, st, conns, b.time) })
	if err != nil {
		return err
	}
	peer, factor := openbaoWrite, 3.0
	if conns > 1 {
		peer, factor = openbaoMany, 5
	}
	target := factor * float64(peer)
	b.add(row{What: fmt.Sprintf("secret write, %s, %d conn", kind, conns), Ours: ours.rate("/s"), Limit: "store's grouped commit " + count(limit.Rate) + "/s", Ratio: ours.Rate / limit.Rate,
		Target: "≥ " + count(target) + "/s", Peer: fmt.Sprintf("%.1f × OpenBao raft, not run here (%s/s)", ours.Rate/float64(peer), count(float64(peer)))}, ours.Rate >= target)
	return nil
}

// groupedWrites is the store alone: callers that each write one row at a time.
func groupedWrites(ctx context.Context, st *store.Store, callers int, d time.Duration) (result, error) {
	value := make([]byte, 512)
	var n atomic.Int64
	var failed atomic.Value
	began, end := time.Now(), time.Now().Add(d)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := 0; time.Now().Before(end); j++ {
				key := fmt.Sprintf("bench/%d/%d", i, j%1000)
				if err := st.Write(ctx, func(tx *store.Tx) error { return tx.PutMeta(key, value) }); err != nil {
					failed.Store(err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	if err, ok := failed.Load().(error); ok {
		return result{}, err
	}
	return result{Rate: float64(n.Load()) / time.Since(began).Seconds()}, nil
}
