package server

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"sync"

	"github.com/hawser/hawser/internal/az"
)

// Certificates for Azure's own names exist only in the --azure-names mode,
// from a root with a key of its own that stands in no trust store but those of
// the apps this plane starts.

const azureMark = caMark + " for Azure names"

// maxAzureLeafs bounds the leafs held: an app that uses more names than this
// pays a mint (about 0.1 ms) again now and then.
const maxAzureLeafs = 256

// azureNames mints a leaf per asked-for Azure name.
type azureNames struct {
	issuer

	mu    sync.Mutex
	turn  uint64
	leafs map[string]*azureLeaf
}

type azureLeaf struct {
	leaf *leaf
	used uint64 // the turn of the last use
}

// newAzureNamesCA makes the root, limited to Azure's names. Like newCA's, its
// key is for the caller to seal.
func newAzureNamesCA(clock az.Clock) (certDER, keyDER []byte, err error) {
	return newRoot(azureMark, &x509.Certificate{
		PermittedDNSDomains: azureDomains(),
		// Naming no IP range would permit all.
		ExcludedIPRanges: everyIP(),
	}, clock)
}

// azureDomains are the names the root is limited to, in a stable order.
func azureDomains() []string {
	hosts, suffixes := az.AzureNames()
	all := slices.Concat(hosts, suffixes)
	slices.Sort(all)
	return all
}

// openAzureNames takes what newAzureNamesCA made. An error of kind Gone says
// that the root is no longer good (ended, or made for another list of names)
// and the caller is to make a new one: nothing but running apps knows the old.
func openAzureNames(certDER, keyDER []byte, clock az.Clock) (*azureNames, error) {
	is, err := openIssuer(certDER, keyDER, clock)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(is.cert.PermittedDNSDomains, azureDomains()) || !clock().Add(leafLife).Before(is.cert.NotAfter) {
		return nil, az.Errorf(az.Gone, "", "the certificate authority for Azure's names is out of date: make a new one")
	}
	return &azureNames{issuer: is, leafs: map[string]*azureLeaf{}}, nil
}

// isAzureName reports whether name, in lower case, is one that Azure serves: a
// host of its own, or one label before a suffix.
func isAzureName(name string) bool {
	h := az.Names{}.Classify(name)
	if !h.Azure {
		return false
	}
	if h.Name == "" {
		return name == h.Suffix
	}
	return isLabel(h.Name) && name == h.Name+"."+h.Suffix
}

// or answers for Azure's names and leaves every other to next.
func (a *azureNames) or(next func(*tls.ClientHelloInfo) (*tls.Certificate, error)) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name := strings.ToLower(hello.ServerName)
		if !isAzureName(name) {
			return next(hello)
		}
		return a.certificate(name)
	}
}

// certificate returns a leaf for one Azure name.
func (a *azureNames) certificate(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn++
	if l := a.leafs[name]; l != nil && a.clock().Before(l.leaf.renewAt) {
		l.used = a.turn
		return l.leaf.tls, nil
	}
	l, err := a.mint([]string{name}, false)
	if err != nil {
		return nil, err
	}
	a.leafs[name] = &azureLeaf{l, a.turn}
	if len(a.leafs) > maxAzureLeafs {
		a.dropOldest()
	}
	return l.tls, nil
}

func (a *azureNames) dropOldest() {
	oldest := ""
	for name, l := range a.leafs {
		if oldest == "" || l.used < a.leafs[oldest].used {
			oldest = name
		}
	}
	delete(a.leafs, oldest)
}
