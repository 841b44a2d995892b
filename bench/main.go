// Command bench measures the product's hot paths beside the limits of the
// machine and, where they are installed, beside its peers.
//
// It starts the real binary with temporary data, bare servers that do only
// what cannot be avoided (package floor), real PostgreSQL and PgBouncer, and
// loads them in turns, so that noise meets all alike: only ratios within one
// run count. It owns the load generator and the report; it asserts nothing.
// Open token.go for a short part, report.go for what a row means.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// part is one subject that can be measured alone, in under two minutes.
type part struct {
	name string
	what string
	run  func(*bench) error
}

func parts() []part {
	return []part{
		{"token", "managed-identity and client-credentials tokens", tokenPart},
		{"secret", "secret reads over TLS with roles and audit", secretPart},
		{"write", "durable secret writes, on SQLite and PostgreSQL", writePart},
		{"pg", "PostgreSQL through the gateway: queries, logins, idle sessions", pgPart},
		{"mysql", "MySQL through the gateway: queries, logins, idle sessions", mysqlPart},
		{"tds", "SQL Server's protocol through the gateway: queries, logins, idle sessions", tdsPart},
		{"redis", "Redis through the gateway: commands, pipelines, logins, idle sessions", redisPart},
		{"start", "starts of a plane and of an app", startPart},
		{"rbac", "decisions in memory", rbacPart},
		{"people", "sign-in, and tokens for people in 200 nested groups: authorization code, refresh, on behalf of", peoplePart},
		{"graph", "Microsoft Graph over 100,000 people and 10,000 groups", graphPart},
		{"front", "built-in authentication in front of an app", frontPart},
		{"growth", "what a hundred times the data costs; revocation on two planes", growthPart},
	}
}

// bench is one run of one part.
type bench struct {
	ctx    context.Context
	part   string
	hawser string // the binary that is measured
	floor  string // the bare servers' binary
	self   string
	dir    string // temporary, removed at the end
	rounds int
	time   time.Duration // of one measurement
	report report
	undo   []func()
}

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "load": // under hawser run, or alone
			return loadMain(args[1:])
		case "sign":
			return limitMain(signOnce)
		case "hash":
			return limitMain(hashOnce)
		case "save":
			return saveBaseline("bench/out", "bench/BASELINE.md")
		}
	}
	return runParts(args)
}

func runParts(names []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all := parts()
	for _, n := range names {
		if !slices.ContainsFunc(all, func(p part) bool { return p.name == n }) {
			return fmt.Errorf("there is no part %q; the parts are %s", n, partNames(all))
		}
	}
	var failed []error
	for _, p := range all {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		if err := runPart(ctx, p); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

func partNames(all []part) string {
	var names []string
	for _, p := range all {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

func runPart(ctx context.Context, p part) (err error) {
	b := &bench{ctx: ctx, part: p.name, rounds: envInt("BENCH_ROUNDS", 3), time: time.Duration(envInt("BENCH_MS", 2000)) * time.Millisecond}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.hawser, b.floor, err = binaries(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "hawser-bench-"); err != nil {
		return err
	}
	defer b.close()
	if err := os.Chmod(b.dir, 0o711); err != nil { // PostgreSQL's user must pass
		return err
	}
	fmt.Printf("\n%s: %s\n", p.name, p.what)
	began := time.Now()
	b.report = report{Part: p.name, What: p.what, Began: began.UTC().Truncate(time.Second), LoadBefore: loadAverage()}
	err = p.run(b)
	b.report.LoadAfter, b.report.Seconds = loadAverage(), int(time.Since(began).Seconds())
	fmt.Printf("  (%d s; load average before %s, after %s)\n", b.report.Seconds, b.report.LoadBefore, b.report.LoadAfter)
	return errors.Join(err, b.report.write("bench/out"))
}

// after runs fn when the part has ended, the latest first.
func (b *bench) after(fn func()) { b.undo = append(b.undo, fn) }

func (b *bench) close() {
	for i := len(b.undo) - 1; i >= 0; i-- {
		b.undo[i]()
	}
	_ = os.RemoveAll(b.dir)
}
