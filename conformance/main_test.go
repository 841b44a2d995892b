package conformance

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/store/storetest"
)

// Variables of this test program.
const (
	binVar    = "HAWSER_BIN"         // a binary to judge instead of ../bin/hawser
	roundsVar = "HAWSER_KILL_ROUNDS" // how often TestKill9 kills; default 100
	sqlGoVar  = "HAWSER_SQL_GO"      // examples/sql-go, likewise
	behalfVar = "HAWSER_BEHALF_API"  // examples/behalf/api, built; the test program builds it itself
)

// domain is the plane's default; names of it are in the tests' hosts file.
const domain = "hawser.localhost"

// hosts are the names that the tests' clients must find. It is the part that a
// DNS zone or `hawser up --hosts auto` plays for a user.
var hosts = []string{"login", "management", "graph", "kv1.vault", "kv2.vault", "pg1.postgres", "pg2.postgres",
	"my1.mysql", "my2.mysql", "sql1.database", "cache1.redis",
	"web.sites", "api.sites"}

// hawser is the binary under judgement; self is this program, which is also
// the Go client (see goclients_test.go).
var hawser, self string

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "client" {
		os.Exit(goClient(os.Args[2], os.Args[3:]))
	}
	code, err := prepare(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 1
	}
	os.Exit(code)
}

func prepare(m *testing.M) (int, error) {
	var err error
	if self, err = os.Executable(); err != nil {
		return 1, err
	}
	for _, need := range [][2]string{{"node", "nodejs"}, {"curl", "curl"}, {"psql", "postgresql-client"}, {python, "python3-azure, python3-msal and python3-psycopg2"},
		{"mariadb", "mariadb-client"}, {"redis-cli", "redis-tools"}, {"tsql", "freetds-bin"}} {
		if _, err := exec.LookPath(need[0]); err != nil {
			return 1, fmt.Errorf("cannot find %s: install the package %s", need[0], need[1])
		}
	}
	for _, dir := range []string{"conformance/node", "conformance/browser", "examples/behalf/web", "examples/mysql-node", "examples/sql-node"} {
		if _, err := os.Stat("../" + dir + "/node_modules"); err != nil {
			return 1, fmt.Errorf("Node's clients are not installed: run `npm ci` in %s", dir)
		}
	}
	if hawser, err = binary(); err != nil {
		return 1, err
	}
	if !isolated() {
		if err := buildExamples(); err != nil {
			return 1, err
		}
		return isolate()
	}
	if err := furnish(); err != nil {
		return 1, err
	}
	if _, err := net.DefaultResolver.LookupHost(context.Background(), "login."+domain); err != nil {
		return 1, fmt.Errorf("the hosts file does not count here: %w", err)
	}
	return storetest.Main(m), nil
}

// binary builds the plane, unless one is given.
func binary() (string, error) {
	if bin := os.Getenv(binVar); bin != "" {
		return filepath.Abs(bin)
	}
	out, err := exec.Command("make", "-s", "-C", "..", "build").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build the binary: %w\n%s", err, out)
	}
	return filepath.Abs("../bin/hawser")
}

// buildExamples builds the examples in Go, for which Go may need the network.
func buildExamples() error {
	for name, at := range map[string]struct{ dir, variable string }{
		"behalf-api": {"../examples/behalf/api", behalfVar}, "sql-go": {"../examples/sql-go", sqlGoVar},
	} {
		out, err := filepath.Abs("../bin/" + name)
		if err != nil {
			return err
		}
		build := exec.Command("go", "build", "-C", at.dir, "-o", out, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %w\n%s", at.dir, err, text)
		}
		if err := os.Setenv(at.variable, out); err != nil {
			return err
		}
	}
	return nil
}

func hostLine() string {
	line := []string{"127.0.0.1"}
	for _, h := range hosts {
		line = append(line, h+"."+domain)
	}
	return strings.Join(line, " ")
}

// eventually waits for something that happens in another process.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not so: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
