package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of go-sql-driver/mysql that cannot pass through the gateway, and
// why. Everything else must; docs/databases.md has the list for people.
//
// TestConcurrent runs only when MYSQL_TEST_CONCURRENT asks for it, and is left
// out: it takes every connection that the server allows and wants the others
// refused in the words of a greeting ("Error 1040: Too many connections"). The
// gateway refuses after its greeting, and so with a SQLSTATE, 08004.
var driverExceptions = map[string]string{
	"TestConnectorReturnsTimeout": "dials an address of the Internet and wants a timeout; these tests run in a network without a way out",
	"TestNewConnector":            "logs in without TLS, which the gateway refuses (3159)",
	"TestBeforeConnect":           "logs in without TLS, which the gateway refuses (3159)",
}

// suiteLimit bounds the whole of the driver's tests.
const suiteLimit = 5 * time.Minute

// TestMySQLDriverSuite: go-sql-driver's own tests, unchanged, through the
// gateway. The only thing it is told is where the server is; that the token
// may be sent in clear inside TLS stands in the database's name, which is
// where the suite lets parameters in.
func TestMySQLDriverSuite(t *testing.T) {
	w := newWorld(t)
	db := w.attachMySQL("my1")
	w.cli("connect", "web", "my1", "--database", db.name, "--access", "owner", "--name", db.connection())
	dir := driverSource(t)
	suite := filepath.Join(dir, "suite.test")
	build := exec.Command("go", "test", "-c", "-o", suite, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the driver's tests: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), suiteLimit)
	defer cancel()
	parameters := url.Values{"tls": {"skip-verify"}, "allowCleartextPasswords": {"true"}}
	run := exec.CommandContext(ctx, "go", "tool", "test2json", suite, "-test.v", "-test.timeout", suiteLimit.String())
	run.Dir = dir
	run.Env = append(os.Environ(), "MYSQL_TEST_USER="+db.role(), "MYSQL_TEST_PASS="+w.token(pgAudience, "web"), "MYSQL_TEST_PROT=tcp",
		"MYSQL_TEST_ADDR="+w.env.Gateways["mysql"],
		// The suite appends ?timeout=30s: what comes before ends in a value that takes it.
		"MYSQL_TEST_DBNAME="+db.name+"?"+parameters.Encode()+"&connectionAttributes=through:gateway")
	out, err := run.StdoutPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	texts := map[string]*strings.Builder{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		if texts[e.Test] == nil {
			texts[e.Test] = &strings.Builder{}
		}
		texts[e.Test].WriteString(e.Output)
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			results[e.Test] = e.Action
		}
	}
	_ = run.Wait() // it fails when a test does, which is looked at below
	judgeSuite(t, results, texts)
}

// judgeSuite compares what the suite's tests did with what they should do.
func judgeSuite(t *testing.T, results map[string]string, texts map[string]*strings.Builder) {
	t.Helper()
	count := map[string]int{}
	for name, r := range results {
		count[r]++
		why, excepted := driverExceptions[name]
		switch {
		case r == "fail" && !excepted:
			t.Errorf("%s failed:\n%s", name, texts[name])
		case r == "pass" && excepted:
			t.Errorf("%s passes; it is listed as one that cannot: %s", name, why)
		case r == "skip" && !excepted:
			if !strings.Contains(texts[name].String(), "skip") && !strings.Contains(texts[name].String(), "SKIP") {
				t.Errorf("%s was left out without a word", name)
			}
			if serverAway.MatchString(texts[name].String()) {
				t.Errorf("%s was left out because it found no server:\n%s", name, texts[name])
			}
		}
	}
	for name := range driverExceptions {
		if results[name] == "" {
			t.Errorf("%s is listed and was not run", name)
		}
	}
	if count["pass"] < 100 {
		t.Errorf("only %d tests passed", count["pass"])
	}
	var skipped []string
	for name, r := range results {
		if r == "skip" {
			skipped = append(skipped, name)
		}
	}
	slices.Sort(skipped)
	t.Logf("%d passed, %d failed as listed, %d left themselves out: %s", count["pass"], count["fail"], count["skip"], strings.Join(skipped, " "))
}

// serverAway is what the suite says where it cannot reach a server.
var serverAway = regexp.MustCompile(`MySQL server not running on`)

// driverSource copies the driver's module, as the module proxy gave it.
func driverSource(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-sql-driver/mysql").Output()
	if err != nil {
		t.Fatalf("cannot find the driver's source: %v", err)
	}
	dir := filepath.Join(newDir(t), "driver")
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		t.Fatal(err)
	}
	return dir
}
