package run

import (
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/hawser/hawser/client"
)

// notInherited are the prefixes of variables that never pass from this
// process to the app: the plane's own, and whatever identity or site the
// parent has.
var notInherited = []string{"HAWSER_", "AZURE_", "IDENTITY_", "MSI_", "IMDS_", "WEBSITE_", "APPSETTING_", "MSAL_MANAGED_IDENTITY_"}

// extras is what a run adds to the environment the plane gives.
type extras struct {
	identity map[string]string // nil values never; IDENTITY_*, MSI_* or their like
	trust    map[string]string // files with certificates
	proxy    string            // address of the loopback proxy, "" if there is none
	front    map[string]string // PORT and the like, where the plane passes requests on
	doors    []Variables       // of the app's databases
	forced   bool              // Azure's names: the proxy may not be taken away by a setting
	domain   string            // the plane's, which the proxy must get to see
}

// environ builds the complete environment of the app: the parent's, without
// what is not inherited, then the site's, then the run's own.
func environ(parent []string, env *client.Environment, x extras, dialect Dialect) []string {
	vars := map[string]string{}
	for _, kv := range parent {
		name, value, ok := strings.Cut(kv, "=")
		if ok && name != "" && !dropped(name) {
			vars[key(name)] = value
		}
	}
	own := make(map[string]bool, len(env.Variables))
	for _, v := range env.Variables {
		if !validVariable(v) || strings.HasPrefix(strings.ToUpper(v.Name), "HAWSER_") {
			continue
		}
		vars[key(v.Name)] = v.Value
		own[key(v.Name)] = true
	}
	if x.forced { // as on Azure: SDKs know this authority and ask nobody about it
		addUnless(vars, own, "AZURE_AUTHORITY_HOST", publicAuthority)
		addUnless(vars, own, "AZURE_TENANT_ID", first(env.TenantID, env.Tenant))
	}
	addUnless(vars, own, "AZURE_AUTHORITY_HOST", env.Authority)
	addUnless(vars, own, "AZURE_TENANT_ID", first(env.Tenant, env.TenantID))
	for name, value := range x.trust {
		addUnless(vars, own, name, value)
	}
	for name, value := range x.front {
		vars[key(name)] = value
	}
	setDoors(vars, own, x.doors)
	x.setProxy(vars, own)
	setIdentity(vars, x.identity, dialect)
	list := make([]string, 0, len(vars))
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// setIdentity makes the identity variables exactly ours: a setting cannot
// point the app's credentials elsewhere, nor half at another dialect.
func setIdentity(vars, identity map[string]string, dialect Dialect) {
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT",
		"MSI_ENDPOINT", "MSI_SECRET", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "MSAL_MANAGED_IDENTITY_ENDPOINT"} {
		delete(vars, key(name))
	}
	if dialect != AppService {
		// az takes this for "I am on App Service" and would look for MSI_SECRET
		// (wire: az login --identity keys on it).
		delete(vars, key("APPSETTING_WEBSITE_SITE_NAME"))
	}
	for name, value := range identity {
		vars[key(name)] = value
	}
}

// publicAuthority is what SDKs use when nothing names another.
const publicAuthority = "https://login.microsoftonline.com/"

// unproxied are the hosts of the loopback endpoints.
const unproxied = "127.0.0.1,localhost,::1,169.254.169.254"

// setProxy names the loopback proxy in both spellings and keeps the loopback
// endpoints out of it. A proxy of the app's own settings wins, unless Azure's
// names must not leave.
func (x extras) setProxy(vars map[string]string, own map[string]bool) {
	old := first(vars[key("NO_PROXY")], vars[key("no_proxy")])
	if x.proxy == "" {
		// An inherited proxy must not see the identity endpoint's requests.
		for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
			if vars[key(name)] != "" && old != "*" {
				both(vars, "NO_PROXY", join(unproxied, old))
				return
			}
		}
		return
	}
	if !x.forced && (own[key("HTTPS_PROXY")] || own[key("https_proxy")]) {
		return
	}
	if x.forced {
		old = "" // an inherited exception could let an Azure name out; the proxy itself honours it for the rest
	}
	both(vars, "HTTPS_PROXY", "http://"+x.proxy)
	both(vars, "NO_PROXY", without(join(unproxied, old), x.domain))
	addUnless(vars, own, "NODE_USE_ENV_PROXY", "1") // Node's own fetch and https look at HTTPS_PROXY only then
}

// both sets a variable in capitals and in small letters: clients differ in
// which they read, and in which wins.
func both(vars map[string]string, name, value string) {
	vars[key(name)], vars[key(strings.ToLower(name))] = value, value
}

func join(list, more string) string {
	for e := range strings.SplitSeq(more, ",") {
		if e = strings.TrimSpace(e); e != "" && !slices.Contains(strings.Split(list, ","), e) {
			list += "," + e
		}
	}
	return list
}

// without drops the exceptions that cover the plane's names: Go, curl and
// Python take "localhost" to mean everything below it too, so hawser.localhost
// would never reach the proxy that alone can resolve it.
func without(list, domain string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(list, ","), func(e string) bool {
		e = strings.TrimLeft(strings.ToLower(e), "*.")
		return e == "" || e == domain || strings.HasSuffix(domain, "."+e) || strings.HasSuffix(e, "."+domain)
	}), ",")
}

// addUnless sets a variable that neither the app's settings nor an earlier
// call set: own holds the names of both.
func addUnless(vars map[string]string, own map[string]bool, name, value string) {
	if value != "" && !own[key(name)] {
		vars[key(name)], own[key(name)] = value, true
	}
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func dropped(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc(notInherited, func(p string) bool { return strings.HasPrefix(name, p) })
}

// key is the name under which a variable is kept: Windows does not tell case
// apart.
func key(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}

// validVariable refuses what the kernel cannot carry; the plane checks names
// already.
func validVariable(v client.Variable) bool {
	return v.Name != "" && !strings.ContainsAny(v.Name, "=\x00") && !strings.Contains(v.Value, "\x00")
}

// lookup finds a variable in a list.
func lookup(env []string, name string) string {
	for _, kv := range env {
		if n, v, ok := strings.Cut(kv, "="); ok && key(n) == key(name) {
			return v
		}
	}
	return ""
}

// trust decides which files the app's certificate variables name. The plane's
// own files serve as they are unless there is something to add to them.
func (s *session) trust(proxyCA []byte) error {
	ca, bundle := s.plane.CAFile, s.plane.CABundle
	parent := lookup(s.Environ, "SSL_CERT_FILE")
	if ca == "" && proxyCA == nil {
		return nil // the plane's certificate is from a CA the system trusts
	}
	if slices.Contains(systemRoots, parent) {
		parent = "" // the plane's bundle holds the system's roots
	}
	if proxyCA == nil && bundle != "" && (parent == "" || parent == bundle) {
		s.extra.trust = trustVars(ca, bundle)
		return nil
	}
	only, err := readPEM(ca)
	if err != nil {
		return err
	}
	only = append(only, proxyCA...)
	roots, err := s.roots(parent, bundle)
	if err != nil {
		return err
	}
	if ca, err = s.tempFile("ca.pem", only); err != nil {
		return err
	}
	if bundle, err = s.tempFile("bundle.pem", append(roots, only...)); err != nil {
		return err
	}
	s.extra.trust = trustVars(ca, bundle)
	return nil
}

// roots returns what the app would trust without us: the parent's own bundle
// if it named one, else the plane's (which holds the system's roots), else
// the system's.
func (s *session) roots(parent, bundle string) ([]byte, error) {
	if file := first(parent, bundle); file != "" {
		return readPEM(file)
	}
	for _, file := range systemRoots {
		if b, err := os.ReadFile(file); err == nil {
			return append(b, '\n'), nil
		}
	}
	return nil, nil
}

// systemRoots are where Unix systems keep their bundle.
// Source: the list of Go's crypto/x509 (root_linux.go, root_bsd.go).
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

func readPEM(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// trustVars names the files to each ecosystem: Node adds to its own roots,
// the others replace theirs and so need the full bundle.
func trustVars(ca, bundle string) map[string]string {
	return map[string]string{"NODE_EXTRA_CA_CERTS": ca, "SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle, "CURL_CA_BUNDLE": bundle}
}
