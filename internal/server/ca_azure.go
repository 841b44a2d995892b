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

// azureHosts are answered under exactly these names, azureSuffixes under one
// label before them: every cloud's login, Resource Manager, Graph, vault,
// storage, Cosmos DB and database names.
var (
	azureHosts = [...]string{
		"login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net",
		"login-us.microsoftonline.com", "login.microsoftonline.us", "login.usgovcloudapi.net", "login.microsoftonline.de",
		"login.partner.microsoftonline.cn", "login.chinacloudapi.cn",
		"management.azure.com", "management.core.windows.net",
		"management.usgovcloudapi.net", "management.core.usgovcloudapi.net",
		"management.chinacloudapi.cn", "management.core.chinacloudapi.cn",
		"graph.microsoft.com", "graph.windows.net", "graph.microsoft.us", "dod-graph.microsoft.us",
		"microsoftgraph.chinacloudapi.cn",
	}
	azureSuffixes = [...]string{
		"vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net",
		"blob.core.windows.net", "blob.core.chinacloudapi.cn", "blob.core.usgovcloudapi.net",
		"documents.azure.com", "documents.azure.cn", "documents.azure.us",
		"postgres.database.azure.com", "postgres.database.chinacloudapi.cn", "postgres.database.usgovcloudapi.net",
		"mysql.database.azure.com", "mysql.database.chinacloudapi.cn", "mysql.database.usgovcloudapi.net",
		"database.windows.net", "database.chinacloudapi.cn", "database.usgovcloudapi.net",
		"redis.cache.windows.net", "redis.cache.chinacloudapi.cn", "redis.cache.usgovcloudapi.net",
	}
)

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
		PermittedDNSDomains: slices.Concat(azureHosts[:], azureSuffixes[:]),
		// Naming no IP range would permit all.
		ExcludedIPRanges: everyIP(),
	}, clock)
}

// openAzureNames takes what newAzureNamesCA made.
func openAzureNames(certDER, keyDER []byte, clock az.Clock) (*azureNames, error) {
	is, err := openIssuer(certDER, keyDER, clock)
	if err != nil {
		return nil, err
	}
	a := &azureNames{issuer: is, leafs: map[string]*azureLeaf{}}
	l, err := is.mint([]string{azureHosts[0]}, false)
	if err != nil {
		return nil, err
	}
	return a, is.check(l, azureHosts[0])
}

// isAzureName reports whether name, lower case, is one that Azure serves.
func isAzureName(name string) bool {
	for _, h := range azureHosts {
		if name == h {
			return true
		}
	}
	label, suffix, _ := strings.Cut(name, ".")
	if !isLabel(label) {
		return false
	}
	for _, s := range azureSuffixes {
		if suffix == s {
			return true
		}
	}
	return false
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
