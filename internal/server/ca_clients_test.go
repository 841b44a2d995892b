package server

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The judges here are the TLS libraries that apps use: OpenSSL, curl, Node,
// Python and libpq, each with its own idea of name constraints. One that is
// not installed is not asked; the conformance run has them all.

// pki is a plane's leaf, and one that its root must not be able to vouch for.
type pki struct {
	dir         string
	good, rogue *tls.Config
}

const rogueName = "kv1.vault.azure.net"

func newPKI(t *testing.T) pki {
	t.Helper()
	ca, der, _ := testCA(t, time.Now)
	p := pki{dir: t.TempDir(), good: tlsConfig(ca.getCertificate, time.Now, "http/1.1")}
	if _, err := writeCAFiles(p.file("ca.pem"), p.file("bundle.pem"), "", der); err != nil {
		t.Fatal(err)
	}
	l, err := ca.mint([]string{rogueName}, false)
	if err != nil {
		t.Fatal(err)
	}
	p.rogue = tlsConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.tls, nil }, time.Now, "http/1.1")
	good, err := ca.getCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Certificate{"good.pem": good, "rogue.pem": l.tls} {
		b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
		if err := os.WriteFile(p.file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p pki) file(name string) string { return filepath.Join(p.dir, name) }

// runClient runs a client; ok is whether it ended well.
func runClient(t *testing.T, env []string, name string, args ...string) (out string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

func installed(t *testing.T, name string) bool {
	t.Helper()
	_, err := exec.LookPath(name)
	if err != nil {
		t.Logf("%s is not installed and not asked", name)
	}
	return err == nil
}

func TestOpenSSLVerifies(t *testing.T) {
	if !installed(t, "openssl") {
		return
	}
	p := newPKI(t)
	verify := func(args ...string) (string, bool) {
		return runClient(t, nil, "openssl", append([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", p.file("ca.pem")}, args...)...)
	}
	for _, name := range []string{"login." + caDomain, "kv1.vault." + caDomain, caDomain, "localhost"} {
		if out, ok := verify("-verify_hostname", name, p.file("good.pem")); !ok {
			t.Errorf("%s: %s", name, out)
		}
	}
	for _, ip := range []string{"127.0.0.1", "::1"} {
		if out, ok := verify("-verify_ip", ip, p.file("good.pem")); !ok {
			t.Errorf("%s: %s", ip, out)
		}
	}
	if out, ok := verify("-verify_hostname", "example.com", p.file("good.pem")); ok {
		t.Errorf("another name: %s", out)
	}
	if out, ok := verify(p.file("rogue.pem")); ok || !strings.Contains(out, "permitted subtree violation") {
		t.Errorf("outside the constraints: %s", out)
	}
}

const nodeClient = `
const https = require('https');
const [host, port] = process.argv.slice(1);
https.get({host, port, path: '/', lookup: (h, o, cb) => o.all ? cb(null, [{address: '127.0.0.1', family: 4}]) : cb(null, '127.0.0.1', 4)}, r => {
  r.on('data', d => process.stdout.write(d)); r.on('end', () => process.exit(0));
}).on('error', e => { console.log(e.code, e.message); process.exit(1); });`

const pythonClient = `
import socket, ssl, sys
host, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ctx = ssl.create_default_context(cafile=ca)
ctx.verify_flags |= ssl.VERIFY_X509_STRICT
try:
    with socket.create_connection(('127.0.0.1', port)) as raw, ctx.wrap_socket(raw, server_hostname=host) as s:
        s.sendall(b'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        data = b''
        while True:
            part = s.recv(4096)
            if not part:
                break
            data += part
        print(data.decode())
except ssl.SSLError as e:
    print(e); sys.exit(1)`

func TestHTTPClientsAccept(t *testing.T) {
	p := newPKI(t)
	clients := map[string]func(host, port string) (string, bool){
		"curl": func(host, port string) (string, bool) {
			return runClient(t, nil, "curl", "-sS", "--noproxy", "*", "--cacert", p.file("bundle.pem"), "--resolve", host+":"+port+":127.0.0.1", "https://"+host+":"+port+"/")
		},
		"node": func(host, port string) (string, bool) {
			return runClient(t, []string{"NODE_EXTRA_CA_CERTS=" + p.file("ca.pem")}, "node", "-e", nodeClient, host, port)
		},
		"python3": func(host, port string) (string, bool) {
			return runClient(t, nil, "python3", "-c", pythonClient, host, port, p.file("bundle.pem"))
		},
	}
	goodAddr, rogueAddr := serveTLS(t, p.good), serveTLS(t, p.rogue)
	for name, get := range clients {
		if !installed(t, name) {
			continue
		}
		_, port, _ := net.SplitHostPort(goodAddr)
		for _, host := range []string{"login." + caDomain, "kv1.vault." + caDomain, "localhost", "127.0.0.1"} {
			if out, ok := get(host, port); !ok || !strings.Contains(out, "hello") {
				t.Errorf("%s, %s: %s", name, host, out)
			}
		}
		if out, ok := get("other.example", port); ok {
			t.Errorf("%s takes the leaf for another name: %s", name, out)
		}
		_, port, _ = net.SplitHostPort(rogueAddr)
		if out, ok := get(rogueName, port); ok {
			t.Errorf("%s takes a leaf outside the constraints: %s", name, out)
		}
	}
}

// A psql that gets as far as the server's refusal has accepted the leaf.
func TestPsqlVerifiesFull(t *testing.T) {
	if !installed(t, "psql") {
		return
	}
	p := newPKI(t)
	psql := func(addr, host string) string {
		_, port, _ := net.SplitHostPort(addr)
		out, _ := runClient(t, []string{"PGPASSWORD=x"}, "psql", "-c", "select 1",
			"host="+host+" hostaddr=127.0.0.1 port="+port+" user=u dbname=d sslmode=verify-full gssencmode=disable sslrootcert="+p.file("ca.pem"))
		return out
	}
	addr := refusePostgres(t, p.good)
	for _, host := range []string{"s1.postgres." + caDomain, "localhost", "127.0.0.1"} {
		if out := psql(addr, host); !strings.Contains(out, "refused by the test") {
			t.Errorf("%s: %s", host, out)
		}
	}
	if out := psql(addr, "s1.postgres.example"); strings.Contains(out, "refused by the test") {
		t.Errorf("another name: %s", out)
	}
	if out := psql(refusePostgres(t, p.rogue), rogueName); strings.Contains(out, "refused by the test") || !strings.Contains(out, "certificate verify failed") {
		t.Errorf("outside the constraints: %s", out)
	}
}

// refusePostgres speaks PostgreSQL as far as TLS and one error.
func refusePostgres(t *testing.T, conf *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			refuseOne(c, conf)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

func refuseOne(c net.Conn, conf *tls.Config) {
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil { // SSLRequest
		return
	}
	if _, err := c.Write([]byte{'S'}); err != nil {
		return
	}
	s := tls.Server(c, conf)
	defer func() { _ = s.Close() }()
	be := pgproto3.NewBackend(s, s)
	if _, err := be.ReceiveStartupMessage(); err != nil {
		return
	}
	be.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "refused by the test"})
	_ = be.Flush()
}

func TestClientsAcceptAzureNames(t *testing.T) {
	a, der := testAzureNames(t, time.Now)
	p := newPKI(t)
	if _, err := writeCAFiles(p.file("azure.pem"), p.file("bundle.pem"), "", der); err != nil {
		t.Fatal(err)
	}
	addr := serveTLS(t, tlsConfig(a.or(p.good.GetCertificate), time.Now, "http/1.1"))
	_, port, _ := net.SplitHostPort(addr)
	for _, host := range []string{rogueName, "login.microsoftonline.com", "management.azure.com"} {
		if installed(t, "node") {
			if out, ok := runClient(t, []string{"NODE_EXTRA_CA_CERTS=" + p.file("azure.pem")}, "node", "-e", nodeClient, host, port); !ok {
				t.Errorf("node, %s: %s", host, out)
			}
		}
		if installed(t, "python3") {
			if out, ok := runClient(t, nil, "python3", "-c", pythonClient, host, port, p.file("azure.pem")); !ok {
				t.Errorf("python3, %s: %s", host, out)
			}
		}
	}
}
