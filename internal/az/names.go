package az

import (
	"net"
	"strings"
)

// Surface is one of the hosts a plane answers as.
type Surface string

const (
	SurfaceNone       Surface = ""
	SurfaceLogin      Surface = "login"
	SurfaceManagement Surface = "management"
	SurfaceGraph      Surface = "graph"
	SurfacePortal     Surface = "portal"
	SurfaceVault      Surface = "vault"
	SurfaceBlob       Surface = "blob"
	SurfaceDocuments  Surface = "documents"
	SurfacePostgres   Surface = "postgres"
	SurfaceMySQL      Surface = "mysql"
	SurfaceSQL        Surface = "database"
	SurfaceRedis      Surface = "redis"
	SurfaceSites      Surface = "sites"
)

// AliasTenant is the tenant name under which SDKs skip instance discovery.
// Source: contract, "Authority names".
const AliasTenant = "adfs"

// Names is how a plane and its surfaces are called.
type Names struct {
	Domain          string // D, e.g. hawser.localhost
	Port            string // of the HTTPS listener, e.g. "8443"; "" or "443" leaves it out of URLs
	Tenant          string // GUID
	Subscription    string // GUID
	ChallengeTenant string // what challenges name: AliasTenant or the GUID
}

// HostPort appends the plane's port to a host where a URL needs one.
func (n Names) HostPort(host string) string {
	if n.Port == "" || n.Port == "443" {
		return host
	}
	return net.JoinHostPort(host, n.Port)
}

// Origin returns https://{label}.D[:port] for login, management, graph, portal.
func (n Names) Origin(s Surface) string { return "https://" + n.HostPort(string(s)+"."+n.Domain) }

// Suffix returns {surface}.D without port: what stands behind a resource's name.
func (n Names) Suffix(s Surface) string { return string(s) + "." + n.Domain }

// Of returns the host of a named resource, e.g. kv1.vault.D, without port.
func (n Names) Of(s Surface, name string) string {
	return strings.ToLower(name) + "." + n.Suffix(s)
}

// VaultURL returns the base URL of a vault, with a trailing slash.
func (n Names) VaultURL(name string) string {
	return "https://" + n.HostPort(n.Of(SurfaceVault, name)) + "/"
}

// AuthorityURL returns the token authority as challenges and settings name it.
func (n Names) AuthorityURL() string {
	t := n.ChallengeTenant
	if t == "" {
		t = AliasTenant
	}
	return n.Origin(SurfaceLogin) + "/" + t
}

// Host is what a Host header or SNI name means to this plane.
type Host struct {
	Surface Surface
	Name    string // the resource's label for named surfaces (kv1), else ""
	Suffix  string // what follows the label, without port: vault.D, vault.azure.net
	Azure   bool   // it is Azure's own name
	Cloud   Cloud  // of an Azure name
}

// Cloud tells Azure's clouds apart.
type Cloud string

const (
	Public  Cloud = "public"
	China   Cloud = "china"
	USGov   Cloud = "usgov"
	Germany Cloud = "germany" // retired, still in clients' tables
)

type azureName struct {
	surface Surface
	cloud   Cloud
}

// azureHosts are Azure's own single names. Source: the tables of authority
// hosts and endpoints in azidentity, @azure/identity and azure-cli's cloud.py.
var azureHosts = map[string]azureName{
	"login.microsoftonline.com":        {SurfaceLogin, Public},
	"login.windows.net":                {SurfaceLogin, Public},
	"login.microsoft.com":              {SurfaceLogin, Public},
	"sts.windows.net":                  {SurfaceLogin, Public},
	"login.chinacloudapi.cn":           {SurfaceLogin, China},
	"login.partner.microsoftonline.cn": {SurfaceLogin, China},
	"login.microsoftonline.us":         {SurfaceLogin, USGov},
	"login-us.microsoftonline.com":     {SurfaceLogin, USGov},
	"login.usgovcloudapi.net":          {SurfaceLogin, USGov},
	"login.microsoftonline.de":         {SurfaceLogin, Germany},
	"management.azure.com":             {SurfaceManagement, Public},
	"management.core.windows.net":      {SurfaceManagement, Public},
	"management.chinacloudapi.cn":      {SurfaceManagement, China},
	"management.usgovcloudapi.net":     {SurfaceManagement, USGov},
	"management.microsoftazure.de":     {SurfaceManagement, Germany},
	"graph.microsoft.com":              {SurfaceGraph, Public},
	"microsoftgraph.chinacloudapi.cn":  {SurfaceGraph, China},
	"graph.microsoft.us":               {SurfaceGraph, USGov},
	"portal.azure.com":                 {SurfacePortal, Public},
	"portal.azure.cn":                  {SurfacePortal, China},
	"portal.azure.us":                  {SurfacePortal, USGov},
}

// azureSuffixes are what follows a resource's own label.
var azureSuffixes = map[string]azureName{
	"vault.azure.net":                     {SurfaceVault, Public},
	"vault.azure.cn":                      {SurfaceVault, China},
	"vault.usgovcloudapi.net":             {SurfaceVault, USGov},
	"vault.microsoftazure.de":             {SurfaceVault, Germany},
	"blob.core.windows.net":               {SurfaceBlob, Public},
	"blob.core.chinacloudapi.cn":          {SurfaceBlob, China},
	"blob.core.usgovcloudapi.net":         {SurfaceBlob, USGov},
	"documents.azure.com":                 {SurfaceDocuments, Public},
	"documents.azure.cn":                  {SurfaceDocuments, China},
	"documents.azure.us":                  {SurfaceDocuments, USGov},
	"postgres.database.azure.com":         {SurfacePostgres, Public},
	"postgres.database.chinacloudapi.cn":  {SurfacePostgres, China},
	"postgres.database.usgovcloudapi.net": {SurfacePostgres, USGov},
	"mysql.database.azure.com":            {SurfaceMySQL, Public},
	"mysql.database.chinacloudapi.cn":     {SurfaceMySQL, China},
	"mysql.database.usgovcloudapi.net":    {SurfaceMySQL, USGov},
	"database.windows.net":                {SurfaceSQL, Public},
	"database.chinacloudapi.cn":           {SurfaceSQL, China},
	"database.usgovcloudapi.net":          {SurfaceSQL, USGov},
	"redis.cache.windows.net":             {SurfaceRedis, Public},
	"redis.cache.chinacloudapi.cn":        {SurfaceRedis, China},
	"redis.cache.usgovcloudapi.net":       {SurfaceRedis, USGov},
	"azurewebsites.net":                   {SurfaceSites, Public},
	"chinacloudsites.cn":                  {SurfaceSites, China},
	"azurewebsites.us":                    {SurfaceSites, USGov},
}

// AzureNames lists Azure's single host names and its suffixes, for the ways of
// being found that stand in for them.
func AzureNames() (hosts, suffixes []string) {
	for h := range azureHosts {
		hosts = append(hosts, h)
	}
	for s := range azureSuffixes {
		suffixes = append(suffixes, s)
	}
	return hosts, suffixes
}

// Classify says what a host, with or without port, means to this plane. What
// it does not know has SurfaceNone.
func (n Names) Classify(hostport string) Host {
	host := hostport
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[i:], "]") {
		host = host[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if label, ok := strings.CutSuffix(host, "."+n.Domain); ok {
		name, surface, named := strings.Cut(label, ".")
		if named && !isLabel(name) {
			return Host{}
		}
		if !named {
			switch s := Surface(label); s {
			case SurfaceLogin, SurfaceManagement, SurfaceGraph, SurfacePortal:
				return Host{Surface: s, Suffix: host}
			}
			return Host{}
		}
		switch s := Surface(surface); s {
		case SurfaceVault, SurfaceBlob, SurfaceDocuments, SurfacePostgres, SurfaceMySQL, SurfaceSQL, SurfaceRedis, SurfaceSites:
			return Host{Surface: s, Name: name, Suffix: surface + "." + n.Domain}
		}
		return Host{}
	}
	if a, ok := azureHosts[host]; ok {
		return Host{Surface: a.surface, Suffix: host, Azure: true, Cloud: a.cloud}
	}
	if name, suffix, ok := strings.Cut(host, "."); ok && isLabel(name) {
		if a, ok := azureSuffixes[suffix]; ok {
			return Host{Surface: a.surface, Name: name, Suffix: suffix, Azure: true, Cloud: a.cloud}
		}
	}
	return Host{}
}

// isLabel reports whether s can stand between two dots of a host name. Source:
// RFC 1123, 2.1, and the underscore, which some resolvers let through.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
