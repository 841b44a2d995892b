package proxy

import (
	"context"
	"database/sql"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	_ "github.com/microsoft/go-mssqldb"
)

func openSQLServer(t testing.TB, d *testDoor, more string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlserver", "sqlserver://me:secret@"+d.addr+"?encrypt=disable"+more)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestSQLServerWithoutPassword(t *testing.T) {
	p := newPlane(t, SQLServer)
	d := p.door(SQLServer, func(c *Config) { c.Database = "" })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, more := range []string{"", "&packet+size=512", "&packet+size=8192"} {
		var who string
		if err := openSQLServer(t, d, more).QueryRowContext(ctx, "SELECT SUSER_SNAME()").Scan(&who); err != nil || who != "app" {
			t.Errorf("%q: %q, %v", more, who, err)
		}
	}
	if seen := p.seen(); len(seen) == 0 || seen[0] != testToken(testOID, 0) {
		t.Errorf("the gateway was shown %d tokens", len(seen))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, want := range p.targets {
		if want.Server != "s1" {
			t.Errorf("the gateway was asked for the server %q", want.Server)
		}
	}
}

func TestSQLServerRefusals(t *testing.T) {
	p := newPlane(t, SQLServer)
	plain, heard := deaf(t, "")
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"stranger":     {strangers, "only the programs that this port was opened for"},
		"nobody there": {nobodyThere(t), "cannot reach s1 now"},
		"no server":    {func(c *Config) { c.Addr = plain }, "ended the connection during the login"},
		"not its name": {func(c *Config) { c.Host = "s2.db.test" }, "cannot trust the server at s1"},
		"somebody else": {func(c *Config) {
			c.Token = func(context.Context) (secret, time.Time, error) {
				return newSecret(testToken("22222222-2222-2222-2222-222222222222", 0)), time.Now().Add(time.Hour), nil
			}
		}, "Login failed for user"},
	} {
		t.Run(name, func(t *testing.T) {
			d := p.door(SQLServer, c.change)
			err := openSQLServer(t, d, "").Ping()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if strings.Contains(heard(), "e\x00y\x00J") {
		t.Error("a server without TLS was shown a token")
	}
}

// FreeTDS, which knows nothing of tokens.
func TestTsql(t *testing.T) {
	d := newPlane(t, SQLServer).door(SQLServer, func(c *Config) { c.Database = "" })
	c := exec.Command("tsql", "-H", "127.0.0.1", "-p", d.port(), "-U", "me", "-P", "x")
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TDSVER=7.4"}
	c.Stdin = strings.NewReader("SELECT SUSER_SNAME()\ngo\nexit\n")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "app") {
		t.Errorf("%v: %s", err, out)
	}
}
