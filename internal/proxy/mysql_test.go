package proxy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway/dbtest"
)

func mariadb(t testing.TB, args ...string) (string, error) {
	t.Helper()
	c := exec.Command("mariadb", append([]string{"--no-defaults", "-N", "-B"}, args...)...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestMariaDBWithoutPassword(t *testing.T) {
	p := newPlane(t, MySQL)
	d := p.door(MySQL)
	socket := d.unix(t, MySQL)
	for name, args := range map[string][]string{
		"any user":              {"-h127.0.0.1", "-P" + d.port(), "-uwhoever"},
		"a password":            {"-h127.0.0.1", "-P" + d.port(), "-uapp", "-pwrong"},
		"Unix socket":           {"-S", socket, "-uwhoever"},
		"compressed":            {"-h127.0.0.1", "-P" + d.port(), "-uwhoever", "-C"},
		"another, no password":  {"-h127.0.0.1", "-P" + d.port(), "-uwhoever", "--default-auth=caching_sha2_password"},
		"a plugin of MariaDB's": {"-h127.0.0.1", "-P" + d.port(), "-uwhoever", "-px", "--default-auth=client_ed25519"},
		"another plugin asked":  {"-h127.0.0.1", "-P" + d.port(), "-uwhoever", "-px", "--default-auth=caching_sha2_password"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mariadb(t, append(args, "-e", "SELECT substring_index(current_user(),'@',1), database()")...)
			if err != nil || got != "app\tappdb" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got, err := mariadb(t, "-h127.0.0.1", "-P"+d.port(), "-ux", "otherdb", "-e", "SELECT database()"); err != nil || got != "otherdb" {
		t.Errorf("a database that was named: %q, %v", got, err)
	}
}

func TestMySQLRefusals(t *testing.T) {
	p := newPlane(t, MySQL)
	real := dbtest.MariaDB(t)
	plain, heard := deaf(t, "\x4a\x00\x00\x00\x0a5.5.5-10.11.0\x00\x01\x00\x00\x00abcdefgh\x00\xff\xf7\x08\x02\x00\x0f\xa0\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00abcdefghijkl\x00mysql_native_password\x00")
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"stranger":        {strangers, "only the programs that this port was opened for"},
		"nobody there":    {nobodyThere(t), "cannot reach s1 now"},
		"no TLS":          {func(c *Config) { c.Addr = plain }, "hawser: s1 "},
		"not its name":    {func(c *Config) { c.Host = "s2.db.test" }, "cannot trust the server at s1"},
		"role not mapped": {func(c *Config) { c.User = "other" }, "Access denied for user 'other'"},
		"a MariaDB that knows passwords": {func(c *Config) { c.Addr, c.Roots, c.Host = real.Addr, real.CA, "localhost" },
			"Access denied for user 'app'"},
	} {
		t.Run(name, func(t *testing.T) {
			d := p.door(MySQL, c.change)
			got, err := mariadb(t, "-h127.0.0.1", "-P"+d.port(), "-uapp", "-e", "SELECT 1")
			if err == nil || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if strings.Contains(heard(), "eyJ") {
		t.Error("a server without TLS was shown a token")
	}
}

func TestMySQLDriver(t *testing.T) {
	d := newPlane(t, MySQL).door(MySQL)
	db, err := sql.Open("mysql", "me:secret@tcp("+d.addr+")/appdb?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS big (i INT, t LONGTEXT); DELETE FROM big"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := db.Exec("INSERT INTO big VALUES (?, ?)", i, strings.Repeat("z", 200000)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var n, size int
	if err := db.QueryRow("SELECT COUNT(*), SUM(LENGTH(t)) FROM big").Scan(&n, &size); err != nil || n != 20 || size != 20*200000 {
		t.Errorf("%d rows, %d bytes, %v", n, size, err)
	}
	c, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var id int
	if err := c.QueryRowContext(context.Background(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { _, _ = db.Exec(fmt.Sprint("KILL QUERY ", id)) })
	var slept int
	err = c.QueryRowContext(context.Background(), "SELECT SLEEP(20)").Scan(&slept)
	var me *driver.MySQLError
	if !(err == nil && slept == 1) && !(errors.As(err, &me) && me.Number == 1317) {
		t.Errorf("KILL QUERY of the session's own id: slept=%d, %v", slept, err)
	}
}

func TestMySQLNonsense(t *testing.T) {
	d := newPlane(t, MySQL).door(MySQL)
	for name, said := range map[string]string{
		"TLS asked":    "\x20\x00\x00\x01\x00\xaa\x08\x00\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23),
		"too long":     "\xff\xff\xff\x01",
		"out of order": "\x20\x00\x00\x07" + strings.Repeat("\x00", 32),
		"HTTP":         "GET / HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = c.Write([]byte(said))
			b, _ := io.ReadAll(c)
			if !strings.Contains(string(b), "hawser: ") {
				t.Errorf("the answer is %q", b)
			}
		})
	}
}
