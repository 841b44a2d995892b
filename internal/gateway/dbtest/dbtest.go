// Package dbtest starts real MariaDB and Redis servers for tests.
//
// It owns their folders, ports, certificates and lives; it knows nothing of
// what a test keeps in them. A test program has one of each, which its tests
// share: MariaDB and Redis give it, StartMariaDB and StartRedis make another
// for a test that breaks it. Open mariadb.go and redis.go for the two,
// guard.go for how they end: with the test program, however that ends.
package dbtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Server is one real server. It listens on 127.0.0.1 and a Unix socket, offers
// TLS and does not sync to disk.
type Server struct {
	Addr     string // host:port. MariaDB: plain and TLS; Redis: TLS
	Plain    string // host:port without TLS; MariaDB: the same as Addr
	Socket   string // path of the Unix socket, without TLS
	User     string // the owner: root of MariaDB, default of Redis
	Password string // the owner's, by every way
	CA       *x509.CertPool
	CAFile   string
	Dir      string // its folder
	Log      string // path of its log

	start func() error
	guard *guard
}

// TLS returns a client's configuration that verifies the server.
func (s *Server) TLS() *tls.Config {
	return &tls.Config{RootCAs: s.CA, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// Kill ends the server at once, as a crash does. Restart brings it back.
func (s *Server) Kill() { s.guard.end() }

// Restart starts a killed server again, with its data, ports and certificate.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// shared are the servers of a test program.
var shared struct {
	mariadb, redis struct {
		once sync.Once
		s    *Server
		err  error
	}
}

// MariaDB returns the test program's MariaDB, which it starts when asked for
// the first time. It fails the test where MariaDB is not installed.
func MariaDB(t testing.TB) *Server {
	t.Helper()
	m := &shared.mariadb
	m.once.Do(func() { m.s, m.err = newMariaDB() })
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m.s
}

// StartMariaDB starts a MariaDB that ends with the test; options are further
// ones of mariadbd.
func StartMariaDB(t testing.TB, options ...string) *Server {
	t.Helper()
	return ending(t, func() (*Server, error) { return newMariaDB(options...) })
}

// Redis returns the test program's Redis, which it starts when asked for the
// first time. It fails the test where Redis is not installed.
func Redis(t testing.TB) *Server {
	t.Helper()
	r := &shared.redis
	r.once.Do(func() { r.s, r.err = newRedis() })
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.s
}

// StartRedis starts a Redis that ends with the test; options are further ones
// of redis-server.
func StartRedis(t testing.TB, options ...string) *Server {
	t.Helper()
	return ending(t, func() (*Server, error) { return newRedis(options...) })
}

// NewMariaDB is StartMariaDB for a program that is no test, which calls Remove.
func NewMariaDB(options ...string) (*Server, error) { return newMariaDB(options...) }

// NewRedis is StartRedis for a program that is no test, which calls Remove.
func NewRedis(options ...string) (*Server, error) { return newRedis(options...) }

// Remove ends a server and removes its folder.
func (s *Server) Remove() {
	s.guard.end()
	_ = os.RemoveAll(s.Dir)
}

func ending(t testing.TB, start func() (*Server, error)) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	return s
}

// newServer makes a folder with a certificate for localhost and 127.0.0.1 in
// server.pem, server.key and ca.pem.
func newServer(name string) (*Server, error) {
	dir, err := os.MkdirTemp("", "hawser-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, Socket: filepath.Join(dir, "sock"), Log: filepath.Join(dir, "log"), CAFile: filepath.Join(dir, "ca.pem"), Password: "it is only a test"}
	if err := s.certify(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func (s *Server) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a server for tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.CA = x509.NewCertPool()
	s.CA.AppendCertsFromPEM(cert)
	for name, b := range map[string][]byte{"ca.pem": cert, "server.pem": cert, "server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// freePort returns an address nobody listens on now.
func freePort() (addr, port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer l.Close()
	_, port, err = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), port, err
}
