package connector

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store/storetest"
)

// selfSigned makes a certificate for localhost that is its own CA.
func selfSigned(t testing.TB) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv6loopback}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// TestHowTheOwnerReachesAServer tries every sslmode on a server with TLS.
func TestHowTheOwnerReachesAServer(t *testing.T) {
	t.Parallel()
	s := storetest.StartPostgres(t, "shared_buffers=8MB")
	cert, key := selfSigned(t)
	other, _ := selfSigned(t)
	s.EnableTLS(t, cert, key)
	for _, c := range []struct {
		mode, host, ca, code string
	}{
		{sslDisable, "localhost", "", ""},
		{sslPrefer, "localhost", "", ""},
		{sslRequire, "localhost", "", ""},
		{sslRequire, "localhost", string(cert), ""},
		{sslRequire, "localhost", string(other), "ServerCertificateNotTrusted"},
		{sslVerifyCA, "127.0.0.1", string(cert), ""},
		{sslVerifyCA, "localhost", string(other), "ServerCertificateNotTrusted"},
		{sslVerifyFull, "localhost", string(cert), ""},
		{sslVerifyFull, "127.0.0.1", string(cert), "ServerCertificateNotTrusted"},
		{sslVerifyFull, "localhost", "", "ServerCertificateNotTrusted"},
	} {
		b := &backend{Host: c.host, Port: s.Port, SSLMode: c.mode, RootCert: c.ca, Owner: s.SuperUser, Password: az.NewSecret(s.Password), Database: "postgres"}
		conn, err := b.pin(t.Context())
		if c.code != "" {
			if err == nil || !strings.Contains(err.Error(), c.code) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		var tls bool
		if err := conn.QueryRow(t.Context(), `select ssl from pg_stat_ssl where pid = pg_backend_pid()`).Scan(&tls); err != nil || tls == (c.mode == sslDisable) {
			t.Errorf("%s: TLS %v, %v", c.mode, tls, err)
		}
		if c.mode == sslPrefer && b.SSLMode != sslRequire {
			t.Errorf("prefer was pinned to %s", b.SSLMode)
		}
		_ = conn.Close(t.Context())
	}
}

// TestNoPasswordForAnImpostor listens as a server that asks for the password in
// clear, which is all it takes to get one from a careless client.
func TestNoPasswordForAnImpostor(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() { // ends when its client has left
		c, err := l.Accept()
		if err != nil {
			heard <- ""
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4096)
		_, _ = c.Read(buf)
		_, _ = c.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x03"))
		n, _ := c.Read(buf)
		heard <- string(buf[:n])
	}()
	b := &backend{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, SSLMode: sslDisable, Owner: "o", Password: az.NewSecret("s3cr3t"), Database: "d"}
	if _, err := b.connect(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "ServerWantsPassword") {
		t.Errorf("got %v", err)
	}
	if got := <-heard; strings.Contains(got, "s3cr3t") {
		t.Error("the impostor has the password")
	}
}
