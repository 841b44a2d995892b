package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
)

const caDomain = "hawser.localhost"

// movableClock starts at the real time, for foreign clients judge by that.
type movableClock struct{ ahead atomic.Int64 }

func (c *movableClock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *movableClock) move(d time.Duration) { c.ahead.Add(int64(d)) }

func testCA(t testing.TB, clock az.Clock) (ca *certAuthority, certDER, keyDER []byte) {
	t.Helper()
	certDER, keyDER, err := newCA(caDomain, clock)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = openCA(certDER, keyDER, caDomain, clock); err != nil {
		t.Fatal(err)
	}
	return ca, certDER, keyDER
}

func poolOf(t testing.TB, der []byte) *x509.CertPool {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AddCert(cert)
	return p
}

func TestCARootIsBound(t *testing.T) {
	const domain = "plane.example" // not below localhost, which every root may serve
	der, key, err := newCA(domain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := openCA(der, key, domain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	root := ca.cert
	if !root.IsCA || root.MaxPathLen != 0 || !root.MaxPathLenZero || !root.PermittedDNSDomainsCritical {
		t.Errorf("root: CA %v, path %d, critical %v", root.IsCA, root.MaxPathLen, root.PermittedDNSDomainsCritical)
	}
	if life := root.NotAfter.Sub(root.NotBefore); life < rootLife || life > rootLife+2*backdate {
		t.Errorf("root lives %v", life)
	}
	pool := poolOf(t, der)
	for name, ok := range map[string]bool{
		domain: true, "deep.below.kv." + domain: true, "localhost": true,
		"example": false, "vault.azure.net": false, "evil" + domain: false, domain + ".example.com": false,
	} {
		l, err := ca.mint([]string{name}, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.tls.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); (err == nil) != ok {
			t.Errorf("a leaf for %s: %v", name, err)
		}
	}
}

func TestCALeafServesEveryName(t *testing.T) {
	ca, der, _ := testCA(t, time.Now)
	cert, err := ca.getCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"127.0.0.1", "::1", "localhost", caDomain}
	for _, n := range []string{"login", "management", "graph", "portal", "kv1.vault", "a.blob", "a.documents", "s.postgres", "s.mysql", "s.database", "c.redis", "app.sites"} {
		names = append(names, n+"."+caDomain)
	}
	for _, n := range names {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: poolOf(t, der), DNSName: n}); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []string{"a.b.vault." + caDomain, "vault.azure.net", "127.0.0.2"} {
		if cert.Leaf.VerifyHostname(n) == nil {
			t.Errorf("the leaf serves %s", n)
		}
	}
	if cert.Leaf.IsCA || len(cert.Leaf.ExtKeyUsage) != 1 || cert.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("leaf usage %v, CA %v", cert.Leaf.ExtKeyUsage, cert.Leaf.IsCA)
	}
	if life := time.Until(cert.Leaf.NotAfter); life > leafLife {
		t.Errorf("the leaf lives %v", life)
	}
}

func TestCARenewsBeforeTheEnd(t *testing.T) {
	var clock movableClock
	ca, der, _ := testCA(t, clock.now)
	get := func() *x509.Certificate {
		t.Helper()
		c, err := ca.getCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: poolOf(t, der), DNSName: caDomain, CurrentTime: clock.now()}); err != nil {
			t.Fatalf("the served leaf: %v", err)
		}
		return c.Leaf
	}
	first := get()
	clock.move(leafLife*2/3 - time.Minute)
	if !get().Equal(first) {
		t.Fatal("renewed too early")
	}
	clock.move(2 * time.Minute)
	second := get()
	if second.Equal(first) || bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) || !first.NotAfter.After(clock.now()) {
		t.Fatal("no new leaf with a new key before the old one's end")
	}
	clock.move(40 * 24 * time.Hour) // asleep past the end
	if get().Equal(second) {
		t.Fatal("an ended leaf is served")
	}
	clock.move(rootLife - 80*24*time.Hour)
	if last := get(); last.NotAfter.After(ca.cert.NotAfter) {
		t.Fatal("a leaf outlives its root")
	}
}

func TestCARenewsOnceForMany(t *testing.T) {
	var clock movableClock
	ca, _, _ := testCA(t, clock.now)
	clock.move(leafLife + time.Hour) // ended: everybody must wait for the new one
	var served sync.Map
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := ca.getCertificate(nil)
			if err != nil || !c.Leaf.NotAfter.After(clock.now()) {
				t.Errorf("served %v, %v", c, err)
				return
			}
			served.Store(c, true)
		})
	}
	wg.Wait()
	n := 0
	served.Range(func(_, _ any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d leafs were minted", n)
	}
}

func TestOpenCARefuses(t *testing.T) {
	var clock movableClock
	_, der, key := testCA(t, clock.now)
	_, otherDER, otherKey := testCA(t, clock.now)
	if _, err := openCA(der, key, "other.example", clock.now); !az.Is(err, az.Invalid) || !strings.Contains(err.Error(), caDomain) {
		t.Errorf("another domain: %v", err)
	}
	if _, err := openCA(der, key, "sub."+caDomain, clock.now); err != nil {
		t.Errorf("below the domain: %v", err)
	}
	for name, c := range map[string][2][]byte{"keys swapped": {der, otherKey}, "certs swapped": {otherDER, key}, "empty": {}, "cut": {der[:50], key}, "key cut": {der, key[:20]}} {
		if _, err := openCA(c[0], c[1], caDomain, clock.now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	clock.move(rootLife + time.Hour)
	if _, err := openCA(der, key, caDomain, clock.now); err == nil {
		t.Error("an ended root is taken")
	}
	for _, d := range []string{"", ".", "A.example", "-a.b", "a-.b", "a..b", ".a", "a.", "*.a", "a b", "127.0.0.1", "::1", "münchen.de", strings.Repeat("a", 64), strings.Repeat("a.", 40) + "a"} {
		if _, _, err := newCA(d, clock.now); !az.Is(err, az.Invalid) {
			t.Errorf("%q: %v", d, err)
		}
	}
	for _, d := range []string{"localhost", "a", "hawser.example.com", "x--y.9"} {
		certDER, keyDER, err := newCA(d, time.Now)
		if err != nil {
			t.Errorf("%q: %v", d, err)
		} else if _, err := openCA(certDER, keyDER, d, time.Now); err != nil {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// serveTLS answers "hello" over HTTPS on a free port of 127.0.0.1.
func serveTLS(t *testing.T, conf *tls.Config) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         conf,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

func TestTLSConfig(t *testing.T) {
	ca, der, _ := testCA(t, time.Now)
	addr := serveTLS(t, tlsConfig(ca.getCertificate, time.Now, "h2", "http/1.1"))
	client := func(change func(*tls.Config)) (tls.ConnectionState, error) {
		conf := &tls.Config{RootCAs: poolOf(t, der), ServerName: "kv1.vault." + caDomain, NextProtos: []string{"h2"}}
		change(conf)
		c, err := tls.Dial("tcp", addr, conf)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = c.Read(make([]byte, 1)) // the tickets come with the first read
		return c.ConnectionState(), nil
	}
	st, err := client(func(*tls.Config) {})
	if err != nil || st.Version != tls.VersionTLS13 || st.NegotiatedProtocol != "h2" || st.CurveID != tls.X25519 || len(st.PeerCertificates) != 1 {
		t.Errorf("Go's default: %v, %x %q %v", err, st.Version, st.NegotiatedProtocol, st.CurveID)
	}
	cache := tls.NewLRUClientSessionCache(4)
	for i := range 2 {
		if st, err := client(func(c *tls.Config) { c.ClientSessionCache = cache }); err != nil || st.DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %v, %v", i, st.DidResume, err)
		}
	}
	for name, c := range map[string]struct {
		change func(*tls.Config)
		ok     bool
	}{
		"TLS 1.2":        {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		"P-256 only":     {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, true},
		"TLS 1.1":        {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		"hybrid only":    {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768} }, false},
		"other protocol": {func(c *tls.Config) { c.NextProtos = []string{"spdy"} }, false},
		"CBC": {func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
		"other roots": {func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, false},
		"by address":  {func(c *tls.Config) { c.ServerName = "127.0.0.1" }, true},
	} {
		if _, err := client(c.change); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteCAFiles(t *testing.T) {
	dir := t.TempDir()
	_, der, _ := testCA(t, time.Now)
	_, oldDER, _ := testCA(t, time.Now)
	ca2, _, err := newRoot("Some system root", &x509.Certificate{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	block := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	roots := filepath.Join(dir, "system.pem")
	if err := os.WriteFile(roots, bytes.Join([][]byte{[]byte("# a comment\n"), block(ca2), block(oldDER), []byte("no newline at the end")}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	caFile, bundle := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "bundle.pem")
	write := func(certs ...[]byte) {
		t.Helper()
		if full, err := writeCAFiles(caFile, bundle, roots, certs...); err != nil || !full {
			t.Fatal(full, err)
		}
	}
	write(der)
	for path, want := range map[string][]byte{caFile: block(der), bundle: append(block(ca2), block(der)...)} {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
		if info, _ := os.Stat(path); runtime.GOOS != "windows" && info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v", path, info.Mode())
		}
	}
	before := statFile(t, bundle)
	write(der)
	if !os.SameFile(before, statFile(t, bundle)) {
		t.Error("an unchanged file was written again")
	}
	write(der, ca2)
	if os.SameFile(before, statFile(t, bundle)) {
		t.Error("a changed file was not replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := writeCAFiles(caFile, filepath.Join(dir, "none", "x"), roots, der); !az.Is(err, az.Unavailable) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := writeCAFiles(caFile, bundle, filepath.Join(dir, "none"), der); err == nil {
		t.Error("missing roots are taken for none")
	}
}

func statFile(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func testAzureNames(t *testing.T, clock az.Clock) (*azureNames, []byte) {
	t.Helper()
	der, key, err := newAzureNamesCA(clock)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAzureNames(der, key, clock)
	if err != nil {
		t.Fatal(err)
	}
	return a, der
}

func TestAzureNames(t *testing.T) {
	var clock movableClock
	a, der := testAzureNames(t, clock.now)
	_, planeDER, planeKey := testCA(t, clock.now)
	ca, err := openCA(planeDER, planeKey, caDomain, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	get := a.or(ca.getCertificate)
	both := poolOf(t, der)
	both.AddCert(ca.cert)
	for name, azure := range map[string]bool{
		"login.microsoftonline.com": true, "Management.Azure.Com": true, "kv1.vault.azure.net": true, "acc.blob.core.usgovcloudapi.net": true, "s.postgres.database.azure.com": true,
		"kv1.vault." + caDomain: false, "": false, "vault.azure.net": false, "a.b.vault.azure.net": false, "x.login.microsoftonline.com": false, "*.vault.azure.net": false,
		"kv1.vault.azure.net:443": false, "-a.vault.azure.net": false, "azure.microsoft.com": false, "evilvault.azure.net": false, "kv1.vault.azure.net.": false,
	} {
		c, err := get(&tls.ClientHelloInfo{ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		if from := bytes.Equal(c.Leaf.RawIssuer, a.cert.RawSubject); from != azure {
			t.Errorf("%q: from the Azure root: %v", name, from)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: both, DNSName: strings.ToLower(name)}); azure && err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{caDomain, "www.microsoft.com", "example.com", "azure.net"} {
		l, err := a.mint([]string{name}, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.tls.Leaf.Verify(x509.VerifyOptions{Roots: both, DNSName: name}); err == nil {
			t.Errorf("the Azure root vouches for %s", name)
		}
	}
	l, err := a.mint([]string{"login.microsoftonline.com"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.tls.Leaf.Verify(x509.VerifyOptions{Roots: both}); err == nil {
		t.Error("the Azure root vouches for an address")
	}
}

func TestAzureNamesAreBoundedAndRenewed(t *testing.T) {
	var clock movableClock
	a, _ := testAzureNames(t, clock.now)
	get := func(name string) *x509.Certificate {
		t.Helper()
		c, err := a.certificate(name)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	kept := get("kept.vault.azure.net")
	for i := range maxAzureLeafs + 20 {
		get(fmt.Sprintf("kv%d.vault.azure.net", i))
		if !get("kept.vault.azure.net").Equal(kept) {
			t.Fatal("the name in use was dropped")
		}
	}
	if len(a.leafs) != maxAzureLeafs || a.leafs["kv0.vault.azure.net"] != nil {
		t.Errorf("%d leafs held", len(a.leafs))
	}
	clock.move(leafLife*2/3 + time.Hour)
	if get("kept.vault.azure.net").Equal(kept) {
		t.Error("not renewed")
	}
	clock.move(rootLife - leafLife)
	der, key, err := newRoot(azureMark, &x509.Certificate{PermittedDNSDomains: []string{"vault.azure.net"}}, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAzureNames(der, key, clock.now); !az.Is(err, az.Gone) {
		t.Errorf("a root for another list: %v", err)
	}
	der, key, err = newAzureNamesCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAzureNames(der, key, clock.now); !az.Is(err, az.Gone) {
		t.Errorf("a root near its end: %v", err)
	}
}

func TestIssuerErrorsHideTheKey(t *testing.T) {
	_, der, key := testCA(t, time.Now)
	key[30] ^= 0xff
	_, err := openCA(der, key[:len(key)-3], caDomain, time.Now)
	var e *az.Error
	if !errors.As(err, &e) || e.Kind != az.Internal || strings.Contains(e.Message, string(key[40:50])) {
		t.Errorf("%v", err)
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	ca, _, _ := testCA(b, time.Now)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ca.getCertificate(nil)
	}
}

func BenchmarkOpenCA(b *testing.B) {
	_, der, key := testCA(b, time.Now)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = openCA(der, key, caDomain, time.Now)
	}
}
