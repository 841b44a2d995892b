package run

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Lives of this run's certificates. Only this run's child trusts the CA.
const (
	caLife   = 5 * 365 * 24 * time.Hour
	leafLife = 7 * 24 * time.Hour
	leafLeft = 24 * time.Hour // a leaf with less is made anew
	maxLeafs = 512
)

// localCA signs certificates for Azure's names in memory. Its key is never
// written, it may sign no other names, and it ends with the run.
type localCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	leaf *ecdsa.PrivateKey // of all leaves
	mu   sync.Mutex        // guards made
	made map[string]*tls.Certificate
}

func newLocalCA(now time.Time) (*localCA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Hawser run CA (this process only)"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:                    x509.KeyUsageCertSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: permitted(),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &localCA{cert: cert, key: key, leaf: leaf, made: map[string]*tls.Certificate{}}, err
}

// permitted are the names the CA may sign. A constraint covers the name and
// what is below it (RFC 5280 §4.2.1.10).
func permitted() []string {
	hosts, suffixes := az.AzureNames()
	var list []string
	for _, h := range hosts {
		if w, _ := choose(h, noDomain, true); w == azure {
			list = append(list, h)
		}
	}
	for _, s := range suffixes {
		if w, _ := choose("x."+s, noDomain, true); w == azure {
			list = append(list, s)
		}
	}
	slices.Sort(list)
	return list
}

// noDomain is a plane's domain that no host ends in.
const noDomain = "\x00"

func (ca *localCA) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// certificate returns a certificate for one of Azure's names.
func (ca *localCA) certificate(name string, now time.Time) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if c := ca.made[name]; c != nil && c.Leaf.NotAfter.Sub(now) > leafLeft {
		return c, nil
	}
	if w, _ := choose(name, noDomain, true); w != azure {
		return nil, errors.New("not a name this run may speak for: " + name)
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: commonName(name)}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(leafLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, ca.leaf.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if len(ca.made) >= maxLeafs {
		clear(ca.made)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ca.leaf, Leaf: leaf}
	ca.made[name] = c
	return c, nil
}

// commonName fits X.520's 64 characters; the name that counts is the SAN.
func commonName(name string) string {
	if len(name) > 64 {
		return ""
	}
	return name
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return big.NewInt(1) // never: crypto/rand does not fail
	}
	return n
}
