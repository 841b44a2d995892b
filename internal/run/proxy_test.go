//go:build unix

package run

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		host  string
		azure bool
		want  way
	}{
		{"login.plane.test", false, plane}, {"kv1.vault.plane.test", true, plane}, {"db.postgres.plane.test", false, gateway},
		{"xplane.test", false, direct}, {"plane.test", false, direct}, {"example.com", true, direct}, {"www.microsoft.com", true, direct},
		{"login.microsoftonline.com", false, direct}, {"login.microsoftonline.com", true, azure}, {"sts.windows.net", true, azure},
		{"login.windows.net", true, azure}, {"login.chinacloudapi.cn", true, azure}, {"management.azure.com", true, azure},
		{"graph.microsoft.com", true, azure}, {"kv1.vault.azure.net", true, azure}, {"kv1.vault.usgovcloudapi.net", true, azure},
		{"a.blob.core.windows.net", true, azure}, {"a.documents.azure.com", true, azure},
		{"a.b.vault.azure.net", true, refused}, {"vault.azure.net", true, refused}, {"ns.servicebus.windows.net", true, refused},
		{"srv.database.windows.net", true, refused}, {"store.azconfig.io", true, refused}, {"app.azurewebsites.net", true, azure}, {"app.scm.azurewebsites.net", true, refused},
		{"pg1.postgres.database.azure.com", true, refused}, {"q.queue.core.windows.net", true, refused}, {"rest.chinacloudsites.cn", true, azure},
		{"x.y.chinacloudsites.cn", true, refused},
		{"eastus.login.microsoft.com", true, refused}, {"graph.windows.net", true, refused}, {"evilwindows.net", true, direct},
		{"169.254.169.254", false, refused},
	} {
		if got, _ := choose(c.host, "plane.test", c.azure); got != c.want {
			t.Errorf("%s (azure names %v): %d, want %d", c.host, c.azure, got, c.want)
		}
	}
}

func TestAuthority(t *testing.T) {
	for in, want := range map[string]string{
		"Login.MicrosoftOnline.com:443": "login.microsoftonline.com 443", "login.microsoftonline.com.:443": "login.microsoftonline.com 443",
		"127.0.0.1:80": "127.0.0.1 80", "[::1]:1": "::1 1", "[::ffff:169.254.169.254]:80": "169.254.169.254 80",
		"2852039166:80": "", "0xa9fea9fe:80": "", "169.254.43518:80": "", "1.example:80": "1.example 80", "a_b.c-d:65535": "a_b.c-d 65535",
		"host": "", "host:": "", ":443": "", "host:0": "", "host:65536": "", "host:+1": "", "a..b:1": "", "a b:1": "", "u@h:1": "", "h/p:1": "",
		"lögin.com:1": "", "[fe80::1%eth0]:1": "", "a:1:2": "", strings.Repeat("a", 64) + ".b:1": "", "a\x00b:1": "", "..:1": "", "http://h:1": "",
	} {
		got := ""
		if host, port, err := authority(in); err == nil {
			got = fmt.Sprint(host, " ", port)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"login.microsoftonline.com:443", "[::1]:80", "A.b.:1", "%41:1", "a\r\nb:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := authority(s)
		if err != nil {
			return
		}
		if port < 1 || port > 65535 || host != strings.ToLower(host) || strings.HasSuffix(host, ".") || strings.ContainsAny(host, " /@\r\n\x00%") {
			t.Errorf("%q became %q %d", s, host, port)
		}
		if again, p2, err := authority(net.JoinHostPort(host, fmt.Sprint(port))); err != nil || again != host || p2 != port {
			t.Errorf("%q is not stable: %q %d %v", s, again, p2, err)
		}
	})
}

// proxyFor starts a proxy that takes this process for the app's.
func proxyFor(t *testing.T, p *testPlane, azureNames bool, outside proxyFunc) *proxy {
	t.Helper()
	if outside == nil {
		outside = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	info := p.client().Plane()
	s := &session{Config: Config{AzureNames: azureNames, Logger: slog.New(slog.DiscardHandler), Clock: time.Now}, plane: info, child: &tree{anyone: true}}
	px, err := startProxy(s, outside)
	if err != nil {
		t.Fatal(err)
	}
	if px.roots != nil { // the test's certificate names example.com, not the plane
		px.roots = x509.NewCertPool()
		px.roots.AddCert(planeCert(t, p))
	}
	t.Cleanup(func() { _ = px.Close() })
	return px
}

// planeCert gives the plane's listener a certificate for its domain.
func planeCert(t *testing.T, p *testPlane) *x509.Certificate {
	t.Helper()
	ca, err := newLocalCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial(), DNSNames: []string{"*." + testDomain}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, ca.leaf.Public(), ca.leaf)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	p.tls.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: ca.leaf}}
	return leaf
}

func through(t *testing.T, px *proxy, roots *x509.CertPool) *http.Client {
	u, _ := url.Parse("http://" + px.addr)
	tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestAzureNamesGoToThePlane(t *testing.T) {
	p := newPlane(t)
	px := proxyFor(t, p, true, nil)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(px.caPEM())
	c := through(t, px, roots)
	for _, host := range []string{"login.microsoftonline.com", "kv1.vault.azure.net", "login.chinacloudapi.cn", "acct.blob.core.windows.net"} {
		req, _ := http.NewRequest(http.MethodGet, "https://"+host+"/secrets/x", nil)
		req.Header.Set("Authorization", "Bearer t")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := "plane " + host + ` /secrets/x auth="Bearer t"`; string(b) != want {
			t.Errorf("%s: %q", host, b)
		}
		if n := len(resp.TLS.PeerCertificates); n != 1 || resp.TLS.PeerCertificates[0].DNSNames[0] != host {
			t.Errorf("%s: odd certificate", host)
		}
	}
	for _, host := range []string{"ns.servicebus.windows.net", "srv.database.windows.net:1433", "store.azconfig.io", "SB.ServiceBus.windows.net."} {
		_, err := c.Get("https://" + host + "/")
		if err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("%s: %v, want Forbidden", host, err)
		}
	}
}

func TestLocalCAIsConstrained(t *testing.T) {
	ca, err := newLocalCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.certificate("www.example.com", time.Now()); err == nil {
		t.Error("it signed a name that is not Azure's")
	}
	tmpl := &x509.Certificate{SerialNumber: serial(), DNSNames: []string{"www.example.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, _ := x509.CreateCertificate(nil, tmpl, ca.cert, ca.leaf.Public(), ca.key)
	leaf, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "www.example.com"}); err == nil {
		t.Error("a certificate for another name, signed with its key, is believed")
	}
	good, err := ca.certificate("kv1.vault.azure.net", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := good.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "kv1.vault.azure.net"}); err != nil {
		t.Error(err)
	}
	later := time.Now().Add(leafLife - leafLeft + time.Minute)
	if again, _ := ca.certificate("kv1.vault.azure.net", later); again == good {
		t.Error("a leaf near its end was not made anew")
	}
}

func TestTLSNameMustBeTheConnectName(t *testing.T) {
	p := newPlane(t)
	px := proxyFor(t, p, true, nil)
	c := rawConnect(t, px, "kv1.vault.azure.net:443", "")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(px.caPEM())
	err := tls.Client(c, &tls.Config{ServerName: "kv2.vault.azure.net", RootCAs: roots}).Handshake()
	if err == nil {
		t.Fatal("another TLS name was served")
	}
}

// rawConnect sends a CONNECT by hand, with more bytes behind it.
func rawConnect(t *testing.T, px *proxy, target, more string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", px.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n%s", target, target, more)
	status := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	if _, err := io.ReadFull(c, status); err != nil || !strings.HasPrefix(string(status), "HTTP/1.1 200 ") {
		t.Fatalf("%q %v", status, err)
	}
	return c
}

func TestPlaneNamesAreTunnelled(t *testing.T) {
	p := newPlane(t)
	px := proxyFor(t, p, false, nil)
	roots := x509.NewCertPool()
	roots.AddCert(planeCert(t, p))
	resp, err := through(t, px, roots).Get("https://login." + testDomain + ":8443/x")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.HasPrefix(string(b), "plane login."+testDomain+":8443 /x") {
		t.Errorf("%q", b)
	}
	if px.caPEM() != nil {
		t.Error("there is a CA without need")
	}
}

// echoServer gives every byte back and then the end.
func echoServer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestOtherHostsGoStraightOn(t *testing.T) {
	px := proxyFor(t, newPlane(t), true, nil)
	c := rawConnect(t, px, echoServer(t), "early ")
	fmt.Fprint(c, "late")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "early late" || err != nil {
		t.Fatalf("%q %v", b, err)
	}
}

func TestOtherHostsGoThroughTheParentsProxy(t *testing.T) {
	var seen, auth string
	echo := echoServer(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen, auth = r.RequestURI, r.Header.Get("Proxy-Authorization")
		out, err := net.Dial("tcp", echo)
		if err != nil {
			t.Error(err)
			return
		}
		in, buf, _ := http.NewResponseController(w).Hijack()
		fmt.Fprint(in, "HTTP/1.1 200 ok\r\n\r\n")
		splice(&buffered{in, buf.Reader}, out)
	}))
	defer up.Close()
	u, _ := url.Parse(up.URL)
	u.User = url.UserPassword("me", "pass")
	px := proxyFor(t, newPlane(t), true, func(*http.Request) (*url.URL, error) { return u, nil })
	c := rawConnect(t, px, "outside.example:443", "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(c)
	if string(b) != "hello" || seen != "outside.example:443" || auth != "Basic bWU6cGFzcw==" {
		t.Fatalf("%q by %q with %q", b, seen, auth)
	}
}

func TestProxyServesNothingButConnect(t *testing.T) {
	px := proxyFor(t, newPlane(t), true, nil)
	for text, want := range map[string]int{
		"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n":                                                  405,
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                                              405,
		"CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n":                                                      400,
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello":                                            400,
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                               400,
		"CONNECT x.servicebus.windows.net:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n":                                 403,
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX: " + strings.Repeat("a", 80<<10) + "\r\n\r\n":                            431,
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nGET / HTTP/1.1\r\n\r\nhello": 400,
	} {
		c, err := net.Dial("tcp", px.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%.40q: %v %v, want %d", text, resp, err, want)
		}
		c.Close()
	}
}

// TestAppWithHardCodedAzureNames is the whole way: a child whose code says
// https://kv1.vault.azure.net and knows nothing of us.
func TestAppWithHardCodedAzureNames(t *testing.T) {
	p := newPlane(t)
	cert := planeCert(t, p)
	p.write(filepath.Join(p.dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	r := start(t, p, Config{AzureNames: true, Environ: []string{"NO_PROXY=azure.net", "PATH=/bin:/usr/bin"}}, "get",
		"https://kv1.vault.azure.net/secrets/a", "https://login."+testDomain+":8443/b", "https://ns.servicebus.windows.net/c")
	code, lines := r.wait()
	want := []string{`200 plane kv1.vault.azure.net /secrets/a auth=""`, `200 plane login.` + testDomain + `:8443 /b auth=""`, `error Get "https://ns.servicebus.windows.net/c": Forbidden`}
	if code != 0 || len(lines) != 3 || lines[0] != want[0] || lines[1] != want[1] || lines[2] != want[2] {
		t.Fatalf("status %d\n%s\nlog:\n%s", code, strings.Join(lines, "\n"), r.log)
	}
	if !strings.Contains(r.log.String(), "host=ns.servicebus.windows.net") {
		t.Error("the refused name is not in the log")
	}
}

func TestCertificateFilesGoWithTheRun(t *testing.T) {
	p := newPlane(t)
	r := start(t, p, Config{AzureNames: true}, "env")
	_, lines := r.wait()
	var env []string
	if err := json.Unmarshal([]byte(lines[0]), &env); err != nil {
		t.Fatal(err)
	}
	file := lookup(env, "SSL_CERT_FILE")
	if !strings.Contains(file, "hawser-run-") || lookup(env, "HTTPS_PROXY") == "" || lookup(env, "NO_PROXY") != "127.0.0.1,localhost,::1,169.254.169.254" {
		t.Errorf("SSL_CERT_FILE=%q HTTPS_PROXY=%q NO_PROXY=%q", file, lookup(env, "HTTPS_PROXY"), lookup(env, "NO_PROXY"))
	}
	if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
		t.Error("the directory with the certificates stayed")
	}
}

func TestProxyIsThereWhenNamesDoNotResolve(t *testing.T) {
	for mode, want := range map[ProxyMode]bool{ProxyAuto: true, ProxyOff: false} {
		r := start(t, newPlane(t), Config{Proxy: mode, Environ: []string{"HTTPS_PROXY=http://corp:3128", "NO_PROXY=.corp"}}, "env")
		_, lines := r.wait()
		var env []string
		if err := json.Unmarshal([]byte(lines[0]), &env); err != nil {
			t.Fatal(err)
		}
		if got := strings.HasPrefix(lookup(env, "HTTPS_PROXY"), "http://127.0.0.1:"); got != want {
			t.Errorf("%s: HTTPS_PROXY=%q", mode, lookup(env, "HTTPS_PROXY"))
		}
		if got := lookup(env, "NO_PROXY"); got != "127.0.0.1,localhost,::1,169.254.169.254,.corp" {
			t.Errorf("%s: NO_PROXY=%q", mode, got)
		}
	}
}

func TestHostsFile(t *testing.T) {
	f := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(f, []byte("127.0.0.1 localhost\n127.0.0.1 a.b Login.d.e # c\n# 127.0.0.1 x.y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"login.d.e": true, "Login.d.e": true, "a.b": true, "x.y": false, "c": false, "b": false} {
		if got := hostsFile(f, name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
