package dbtest

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	_ "github.com/go-sql-driver/mysql" // the driver of Open
)

// initial makes the owner reachable by every way: the accounts of loopback
// addresses, which have no password, would stand before the one of any address.
const initial = `CREATE OR REPLACE USER root@'%%' IDENTIFIED BY '%[1]s';
GRANT ALL ON *.* TO root@'%%' WITH GRANT OPTION;
ALTER USER root@localhost IDENTIFIED BY '%[1]s';
DROP USER IF EXISTS root@'127.0.0.1', root@'::1';
`

// newMariaDB makes a data folder and starts a server on it.
func newMariaDB(options ...string) (*Server, error) {
	daemon, err := find("mariadbd", "mariadb-server", "/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd")
	if err != nil {
		return nil, err
	}
	install, err := find("mariadb-install-db", "mariadb-server")
	if err != nil {
		return nil, err
	}
	s, err := newServer("mariadb")
	if err != nil {
		return nil, err
	}
	s.User = "root"
	data := filepath.Join(s.Dir, "data")
	user := []string{}
	if os.Geteuid() == 0 {
		user = append(user, "--user=root")
	}
	// Each has a folder for temporary tables of its own: a server that starts
	// removes those of others from a shared one, and they fall over.
	out, err := exec.Command(install, append([]string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + s.Dir, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=8M"}, user...)...).CombinedOutput()
	if err == nil {
		err = os.WriteFile(filepath.Join(s.Dir, "init.sql"), fmt.Appendf(nil, initial, s.Password), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make a data folder for MariaDB: %w\n%s", err, out), os.RemoveAll(s.Dir))
	}
	var port string
	if s.Addr, port, err = freePort(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	s.Plain = s.Addr
	args := append([]string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + s.Dir, "--socket=" + s.Socket, "--bind-address=127.0.0.1", "--port=" + port,
		"--pid-file=" + filepath.Join(s.Dir, "pid"), "--init-file=" + filepath.Join(s.Dir, "init.sql"), "--plugin-load-add=auth_ed25519",
		"--ssl-cert=" + filepath.Join(s.Dir, "server.pem"), "--ssl-key=" + filepath.Join(s.Dir, "server.key"), "--ssl-ca=" + s.CAFile,
		"--skip-name-resolve", "--max-connections=3000", "--max-allowed-packet=256M", "--local-infile=1", "--innodb-buffer-pool-size=24M",
		"--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0", "--innodb-fast-shutdown=2", "--innodb-use-native-aio=0",
		"--performance-schema=0", "--skip-log-bin", "--key-buffer-size=1M", "--thread-stack=256K"}, append(user, options...)...)
	s.start = func() (err error) {
		if s.guard, err = startGuard(s.Dir, daemon, args...); err != nil {
			return err
		}
		// The greeting comes when the init file has been run.
		return await("unix", s.Socket, s.Log, func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err })
	}
	if err := s.start(); err != nil {
		s.guard.end()
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	return s, nil
}

// find finds a program of a Debian package.
func find(program, debian string, places ...string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("cannot find %s: install it (Debian: apt-get install %s)", program, debian)
}

// Open connects to a MariaDB directly, as its owner; the pool ends with the
// test. database may be empty.
func (s *Server) Open(t testing.TB, database string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", s.User+":"+s.Password+"@unix("+s.Socket+")/"+database+"?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Exec runs statements in a MariaDB as its owner, directly.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	db := s.Open(t, "")
	defer db.Close()
	for _, sql := range statements {
		if _, err := db.Exec(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

var databases atomic.Int64 // counts those of Database

// Database makes an empty database in a MariaDB and returns its name.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", databases.Add(1))
	s.Exec(t, "CREATE DATABASE "+name)
	return name
}
