package dbtest_test

import (
	"bufio"
	"crypto/tls"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/gateway/dbtest"
)

func TestMariaDB(t *testing.T) {
	s := dbtest.MariaDB(t)
	name := s.Database(t)
	db := s.Open(t, name)
	var version, ssl string
	if err := db.QueryRow("SELECT version(), @@have_ssl").Scan(&version, &ssl); err != nil || !strings.Contains(version, "MariaDB") || ssl != "YES" {
		t.Fatal(version, ssl, err)
	}
	if dbtest.MariaDB(t) != s {
		t.Error("there are two")
	}
	tcp, err := sql.Open("mysql", s.User+":"+s.Password+"@tcp("+s.Addr+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if err := tcp.Ping(); err != nil {
		t.Errorf("the owner by TCP: %v", err)
	}
}

func TestRedis(t *testing.T) {
	s := dbtest.Redis(t)
	c, err := tls.Dial("tcp", s.Addr, s.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "AUTH %s %s\r\nPING\r\n", s.User, s.Password)
	r := bufio.NewReader(c)
	for _, want := range []string{"+OK\r\n", "+PONG\r\n"} {
		if got, err := r.ReadString('\n'); err != nil || got != want {
			t.Fatal(got, err)
		}
	}
}

func TestKillAndRestart(t *testing.T) {
	s := dbtest.StartMariaDB(t)
	s.Exec(t, "CREATE DATABASE kept")
	s.Kill()
	if err := s.Open(t, "").Ping(); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart(t)
	s.Exec(t, "USE kept")
	r := dbtest.StartRedis(t)
	r.Kill()
	r.Restart(t)
}
