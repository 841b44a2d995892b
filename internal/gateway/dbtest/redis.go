package dbtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// newRedis starts a Redis with an empty folder. Besides TLS it listens without
// it, for tests that compare.
func newRedis(options ...string) (*Server, error) {
	daemon, err := find("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	s, err := newServer("redis")
	if err != nil {
		return nil, err
	}
	s.User = "default"
	var secure, plain string
	if s.Addr, secure, err = freePort(); err == nil {
		s.Plain, plain, err = freePort()
	}
	// A user's rules with spaces in the password would need quotes of redis.conf.
	s.Password = "it-is-only-a-test"
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	args := append([]string{"--port", plain, "--tls-port", secure, "--bind", "127.0.0.1", "--unixsocket", s.Socket, "--dir", s.Dir,
		"--tls-cert-file", filepath.Join(s.Dir, "server.pem"), "--tls-key-file", filepath.Join(s.Dir, "server.key"),
		"--tls-ca-cert-file", s.CAFile, "--tls-auth-clients", "no", "--requirepass", s.Password, "--save", "", "--appendonly", "no",
		"--daemonize", "no", "--maxclients", "8000"}, options...)
	s.start = func() (err error) {
		if s.guard, err = startGuard(s.Dir, daemon, args...); err != nil {
			return err
		}
		return await("unix", s.Socket, s.Log, func(c net.Conn) error { return ping(c, s.Password) })
	}
	if err := s.start(); err != nil {
		s.guard.end()
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	return s, nil
}

// ping asks whether the server serves.
func ping(c net.Conn, password string) error {
	if _, err := fmt.Fprintf(c, "AUTH %s\r\n", password); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err == nil && !bytes.HasPrefix(b[:n], []byte("+OK")) {
		err = fmt.Errorf("the server says %q", b[:n])
	}
	return err
}
