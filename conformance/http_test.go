package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// caller is an HTTPS client of one plane that trusts only the plane's CA and
// dials it under every name.
func (p *plane) caller(t testing.TB) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(p.env.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the plane's CA file holds no certificate")
	}
	address := "127.0.0.1:" + p.port()
	return &http.Client{Timeout: commandLimit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
	}}
}

// get asks one of the plane's hosts.
func (p *plane) get(t testing.TB, host, path, token string) (status, body string) {
	t.Helper()
	return p.send(t, p.caller(t), http.MethodGet, host, path, token, "")
}

func (p *plane) send(t testing.TB, c *http.Client, method, host, path, token, body string) (status, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, "https://"+host+":"+p.port()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err.Error()
	}
	return strconv.Itoa(resp.StatusCode), string(b)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
