package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// The plane's own certificate authority. Its root is made once and kept sealed
// by the caller; leafs and their keys live only in memory and are replaced
// while the plane runs. The root is bound by critical name constraints to the
// plane's domain and loopback, so whoever trusts it trusts no more than that.

const (
	rootLife = 10 * 365 * 24 * time.Hour
	// leafLife is well below what any client complains about (Apple's and the
	// CA/Browser Forum's 398 days), and long enough for a plane that sleeps.
	leafLife = 30 * 24 * time.Hour
	// backdate allows for clients whose clock is behind ours.
	backdate = time.Hour

	// maxDomain leaves 190 of DNS's 253 characters (RFC 1035, 2.3.4) to what
	// stands before the domain: a name of 63 and a surface's label, with room.
	maxDomain = 63

	caMark = "Hawser plane CA" // begins every root's common name
)

// leafNames are the names a leaf covers: the plane's own hosts, one label
// before each suffix of resources, the domain, and localhost.
func leafNames(domain string) []string {
	n := az.Names{Domain: domain}
	var names []string
	for _, s := range [...]az.Surface{az.SurfaceLogin, az.SurfaceManagement, az.SurfaceGraph, az.SurfacePortal} {
		names = append(names, n.Suffix(s))
	}
	for _, s := range [...]az.Surface{az.SurfaceVault, az.SurfaceBlob, az.SurfaceDocuments, az.SurfacePostgres,
		az.SurfaceMySQL, az.SurfaceSQL, az.SurfaceRedis, az.SurfaceSites} {
		names = append(names, n.Of(s, "*"))
	}
	names = append(names, domain)
	if domain != "localhost" {
		names = append(names, "localhost")
	}
	return names
}

// issuer is a root that mints leafs.
type issuer struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	clock az.Clock
}

// leaf is a served certificate and when to replace it.
type leaf struct {
	tls     *tls.Certificate
	renewAt time.Time
}

// certAuthority serves the plane's current leaf.
type certAuthority struct {
	issuer
	names   []string
	current atomic.Pointer[leaf]
	renew   sync.Mutex
}

// newCA makes a root for the domain. The caller stores the certificate, seals
// the key (PKCS #8), and wipes it.
func newCA(domain string, clock az.Clock) (certDER, keyDER []byte, err error) {
	if err := checkDomain(domain); err != nil {
		return nil, nil, err
	}
	return newRoot(caMark, &x509.Certificate{
		PermittedDNSDomains: domainsOf(domain),
		PermittedIPRanges:   loopbackRanges(),
	}, clock)
}

func domainsOf(domain string) []string {
	if domain == "localhost" {
		return []string{domain}
	}
	return []string{domain, "localhost"}
}

func loopbackRanges() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
}

func everyIP() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
}

// newRoot makes a self-signed root with the constraints that t holds. It may
// sign leafs only, and only for servers.
func newRoot(name string, t *x509.Certificate, clock az.Clock) (certDER, keyDER []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, internalCA("making the key", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, internalCA("encoding the key", err)
	}
	// A name of its own per key: OpenSSL looks issuers up by name.
	sum := sha256.Sum256(pub)
	now := clock()
	t.Subject = pkix.Name{Organization: []string{"Hawser"}, CommonName: name + " " + hex.EncodeToString(sum[:4])}
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(rootLife)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLen, t.MaxPathLenZero = true, true, 0, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.PermittedDNSDomainsCritical = true
	if certDER, err = x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key); err != nil {
		return nil, nil, internalCA("signing the root", err)
	}
	if keyDER, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, nil, internalCA("encoding the key", err)
	}
	return certDER, keyDER, nil
}

func internalCA(what string, err error) error {
	return az.Errorf(az.Internal, "", "the certificate authority failed at %s", what).Because(err)
}

// openCA takes what newCA made and mints the first leaf. It refuses a root
// that was made for another domain, or that has ended.
func openCA(certDER, keyDER []byte, domain string, clock az.Clock) (*certAuthority, error) {
	if err := checkDomain(domain); err != nil {
		return nil, err
	}
	is, err := openIssuer(certDER, keyDER, clock)
	if err != nil {
		return nil, err
	}
	ca := &certAuthority{issuer: is, names: leafNames(domain)}
	l, err := ca.mint(ca.names, true)
	if err != nil {
		return nil, err
	}
	if err := is.check(l, "login."+domain); err != nil {
		return nil, err
	}
	ca.current.Store(l)
	return ca, nil
}

func openIssuer(certDER, keyDER []byte, clock az.Clock) (issuer, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return issuer{}, internalCA("reading its certificate", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return issuer{}, internalCA("reading its key", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return issuer{}, az.Errorf(az.Internal, "", "the certificate authority's key does not belong to its certificate")
	}
	return issuer{cert, key, clock}, nil
}

// check verifies a leaf as a client would.
func (is issuer) check(l *leaf, name string) error {
	roots := x509.NewCertPool()
	roots.AddCert(is.cert)
	if _, err := l.tls.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: is.clock()}); err != nil {
		return az.Errorf(az.Invalid, "", "the certificate authority of this data directory is for %s until %s and cannot serve %s: start with the domain it was made for, or make a new one",
			strings.Join(is.cert.PermittedDNSDomains, " and "), is.cert.NotAfter.Format(time.DateOnly), name).Because(err)
	}
	return nil
}

// mint makes a leaf with a new key.
func (is issuer) mint(names []string, loopback bool) (*leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, internalCA("making a leaf's key", err)
	}
	now := is.clock()
	t := &x509.Certificate{
		// No dot: some verifiers test a common name that looks like a host.
		Subject:     pkix.Name{Organization: []string{"Hawser"}, CommonName: "Hawser plane"},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names,
	}
	if loopback {
		t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	}
	if t.NotBefore.Before(is.cert.NotBefore) {
		t.NotBefore = is.cert.NotBefore
	}
	if t.NotAfter.After(is.cert.NotAfter) {
		t.NotAfter = is.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, is.cert, &key.PublicKey, is.key)
	if err != nil {
		return nil, internalCA("signing a leaf", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, internalCA("reading a leaf", err)
	}
	return &leaf{
		tls:     &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert},
		renewAt: now.Add(cert.NotAfter.Sub(now) * 2 / 3),
	}, nil
}

// getCertificate is for tls.Config: the current leaf, whatever name was asked
// for (clients that verify no name, such as sslmode=require, use any).
//
// A leaf past two thirds of its life is replaced by whichever handshake comes
// first; the others go on with the old one and wait only if it has ended.
// Minting takes about as long as the handshake itself, so there is no
// goroutine to own and no timer that a sleeping laptop could miss.
func (ca *certAuthority) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	l := ca.current.Load()
	now := ca.clock()
	if now.Before(l.renewAt) {
		return l.tls, nil
	}
	if now.Before(l.tls.Leaf.NotAfter) {
		if !ca.renew.TryLock() {
			return l.tls, nil
		}
	} else {
		ca.renew.Lock()
	}
	defer ca.renew.Unlock()
	if l = ca.current.Load(); now.Before(l.renewAt) {
		return l.tls, nil
	}
	fresh, err := ca.mint(ca.names, true)
	if err != nil {
		return nil, err
	}
	ca.current.Store(fresh)
	return fresh.tls, nil
}

// tlsConfig is how every TLS listener of the plane is set.
//
// Key exchange is X25519, then P-256. The post-quantum hybrid X25519MLKEM768 is
// left out: measured on this code's floor it costs 1.5 times as much per new
// connection (2,460/s against 3,700/s), and most traffic is
// loopback or inside one data centre. Whoever must fear that traffic recorded
// today is read in decades puts tls.X25519MLKEM768 first in this list.
// TLS 1.2 is kept to AEAD suites. Session tickets stay on, with keys that
// crypto/tls makes and turns by itself.
func tlsConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), clock az.Clock, alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS12,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: get,
		NextProtos:     slices.Clone(alpn),
		Time:           clock,
	}
}

// checkDomain takes lower-case host names of RFC 1123.
func checkDomain(domain string) error {
	bad := len(domain) == 0 || len(domain) > maxDomain || net.ParseIP(domain) != nil
	for label := range strings.SplitSeq(domain, ".") {
		bad = bad || !isLabel(label)
	}
	if bad {
		return az.Errorf(az.Invalid, "", "%q is not a domain the plane can serve: give a lower-case host name of at most %d characters, such as hawser.localhost", domain, maxDomain)
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
