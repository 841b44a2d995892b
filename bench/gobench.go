package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/store/storetest"
)

// goBench runs a package's Go benchmarks and returns nanoseconds and
// allocations an operation by name, medians of the rounds.
func (b *bench) goBench(pkg, pattern string) (map[string][2]float64, []string, error) {
	out, err := b.output("go", "test", "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", "300ms", "-count", strconv.Itoa(b.rounds), pkg)
	if err != nil {
		return nil, nil, err
	}
	line := regexp.MustCompile(`(?m)^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op.*?\s([\d.]+) allocs/op`)
	all := map[string][2][]float64{}
	var order []string
	for _, m := range line.FindAllStringSubmatch(out, -1) {
		ns, _ := strconv.ParseFloat(m[2], 64)
		allocs, _ := strconv.ParseFloat(m[3], 64)
		v, known := all[m[1]]
		if !known {
			order = append(order, m[1])
		}
		all[m[1]] = [2][]float64{append(v[0], ns), append(v[1], allocs)}
		b.sample(m[1], ns, "ns")
	}
	medians := map[string][2]float64{}
	for name, v := range all {
		medians[name] = [2]float64{median(v[0]), median(v[1])}
	}
	return medians, order, nil
}

// rbacPart is the decisions and what stands around them, without a network.
func rbacPart(b *bench) error {
	for _, s := range []struct{ pkg, pattern, target string }{
		{"./internal/guard", "BenchmarkCheck", "≤ 2 µs, 0 allocations"},
		{"./internal/authority", "BenchmarkVerifyHit|BenchmarkVerifyMiss|BenchmarkIdentityTokenWarm", ""},
		{"./internal/vault", "BenchmarkGetSecret", ""},
		{"./internal/site", "BenchmarkToken|BenchmarkEnvironment|BenchmarkUnchanged", ""},
		{"./internal/connector", "BenchmarkAuthorize", ""},
	} {
		found, order, err := b.goBench(s.pkg, s.pattern)
		if err != nil {
			return err
		}
		for _, name := range order {
			v := found[name]
			target := s.target
			if strings.Contains(strings.ToLower(name), "record") {
				target = "" // the target is the decision's alone
			}
			b.add(row{What: strings.TrimPrefix(s.pkg, "./internal/") + " " + strings.TrimPrefix(name, "Benchmark"),
				Ours: fmt.Sprintf("%s, %.0f allocations", nanos(v[0]), v[1]), Target: target}, v[0] <= 2000 && v[1] == 0)
		}
	}
	return nil
}

func nanos(ns float64) string {
	if ns < 10_000 {
		return fmt.Sprintf("%.0f ns", ns)
	}
	return span(ns / 1000)
}

// growthPart is tokens with many identities, and how fast a lost right is
// lost on another plane.
func growthPart(b *bench) error {
	if err := b.tokenGrowth(); err != nil {
		return err
	}
	return b.revocation()
}

func (b *bench) tokenGrowth() error {
	p, err := b.startPlane("plane")
	if err != nil {
		return err
	}
	few, many := 100, envInt("BENCH_IDENTITIES", 3000)
	token, err := p.adminToken("https://management.azure.com/")
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(p.about.Listen, ":")
	measure := func(apps []app) (result, error) {
		l := load{Addr: p.about.Listen, TLS: "management." + p.about.Domain, CA: p.about.CAFile, Conns: 16, PIDs: []int{p.server.pid()}}
		for _, a := range apps[:few] {
			l.Requests = append(l.Requests, send("POST", l.TLS+":"+port, a.id+"/runtimeToken?api-version=2024-04-01", "application/json",
				`{"resource":"https://vault.azure.net"}`, "Authorization: Bearer "+token))
		}
		if _, err := b.run(l); err != nil { // signs them
			return result{}, err
		}
		var all []result
		for range b.rounds {
			r, err := b.run(l)
			if err != nil {
				return r, err
			}
			all = append(all, r)
		}
		return b.middle("tokens", all), nil
	}
	apps, err := p.makeApps("few", few)
	if err != nil {
		return err
	}
	before, err := measure(apps)
	if err != nil {
		return err
	}
	more, err := p.makeApps("many", many-few)
	if err != nil {
		return err
	}
	after, err := measure(more)
	if err != nil {
		return err
	}
	b.add(row{What: fmt.Sprintf("app's token from the plane, %d → %s identities", few, count(float64(many))), Ours: after.rate("/s"), Limit: before.rate("/s"), Ratio: after.Rate / before.Rate,
		Target: "flat within 1.3 ×"}, before.Rate/after.Rate <= 1.3)
	return nil
}

// revocation: two planes on one store; a role is taken away at one, and the
// time until the other refuses is counted from the moment that was answered.
func (b *bench) revocation() error {
	pg, err := storetest.NewPostgres()
	if err != nil {
		return err
	}
	b.after(pg.Remove)
	first, err := b.startPlane("first", "--store", pg.URL("postgres"))
	if err != nil {
		return err
	}
	second, err := b.secondPlane(first, pg.URL("postgres"))
	if err != nil {
		return err
	}
	vault, admin, err := first.makeVault()
	if err != nil {
		return err
	}
	if _, err := first.fill(1, admin); err != nil {
		return err
	}
	apps, err := first.makeApps("other", 1)
	if err != nil {
		return err
	}
	tokens, err := first.admit(apps, vault)
	if err != nil {
		return err
	}
	c, err := second.dial(tokens[0])
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }()
	var took []float64
	for i := range 100 {
		d, err := first.revokeOnce(vault, apps[0], c)
		if err != nil {
			return err
		}
		if i > 0 { // the first removes the assignment that admit made beside
			took = append(took, float64(d.Microseconds()))
		}
	}
	p50, p99 := median(took), quantile(took, 0.99)
	b.add(row{What: "revocation to effect on the other plane", Ours: fmt.Sprintf("p50 %s, p99 %s of %d", span(p50), span(p99), len(took)), Target: "p99 ≤ 1 s"}, p99 <= 1e6)
	return nil
}

// secondPlane starts another plane on the same store, with the first's key.
func (b *bench) secondPlane(first *plane, url string) (*plane, error) {
	dir := filepath.Join(b.dir, "second")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	kek, err := os.ReadFile(filepath.Join(first.dir, "kek"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "kek"), kek, 0o600); err != nil {
		return nil, err
	}
	return b.startPlane("second", "--store", url)
}

// reader asks one plane for one secret over a connection it keeps.
type reader struct {
	lane
	request []byte
}

func (p *plane) dial(token string) (*reader, error) {
	l := p.vaultLoad(1, 1, readSecret, token)
	r := &reader{lane: lane{d: &driver{load: &l}}, request: []byte(strings.Replace(l.Requests[0], "{n}", secretName(0), 1))}
	return r, r.connect()
}

// status is what a read answers.
func (r *reader) status() (int, error) {
	if _, err := r.conn.Write(r.request); err != nil {
		return 0, err
	}
	status, _, err := r.reply()
	return status, err
}

// until reads until the status is the one wanted.
func (r *reader) until(want int) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		status, err := r.status()
		if err != nil || status == want {
			return err
		}
	}
	return fmt.Errorf("the other plane never answered %d", want)
}

// revokeOnce takes every assignment of an app away, waits for the refusal, and
// gives one back.
func (p *plane) revokeOnce(vault string, a app, c *reader) (time.Duration, error) {
	assignments := vault + "/providers/Microsoft.Authorization/roleAssignments"
	if err := c.until(200); err != nil {
		return 0, err
	}
	var list struct {
		Value []struct {
			ID         string
			Properties struct{ PrincipalID string }
		}
	}
	if err := p.client.Get(p.b.ctx, assignments+"?api-version=2022-04-01&$filter=atScope()", &list); err != nil {
		return 0, err
	}
	gone := time.Time{}
	for _, x := range slices.Backward(list.Value) {
		if x.Properties.PrincipalID != a.principal {
			continue
		}
		if err := p.client.Delete(p.b.ctx, x.ID); err != nil {
			return 0, err
		}
		gone = time.Now()
	}
	if gone.IsZero() {
		return 0, net.ErrClosed
	}
	if err := c.until(403); err != nil {
		return 0, err
	}
	took := time.Since(gone)
	_, err := p.admit([]app{a}, vault)
	return took, err
}
