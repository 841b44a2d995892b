package run

import (
	"context"
	"net"
	"os"
	"strings"
	"time"
)

// azureExact are Azure's own host names that the plane serves, in every
// cloud. Sources: wire/entra §1 (authorities and their aliases), databases §1
// (endpoints per cloud).
var azureExact = []string{
	"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net",
	"login-us.microsoftonline.com", "login.microsoftonline.us", "login.usgovcloudapi.net",
	"login.chinacloudapi.cn", "login.partner.microsoftonline.cn", "login.microsoftonline.de",
	"login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg",
	"management.azure.com", "management.core.windows.net",
	"management.chinacloudapi.cn", "management.core.chinacloudapi.cn",
	"management.usgovcloudapi.net", "management.core.usgovcloudapi.net", "management.microsoftazure.de",
	"graph.microsoft.com", "graph.microsoft.us", "dod-graph.microsoft.us",
	"microsoftgraph.chinacloudapi.cn", "graph.microsoft.de",
}

// azureSuffixes end names that the plane serves with one label before them.
var azureSuffixes = []string{
	".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net", ".vault.microsoftazure.de",
	".documents.azure.com", ".documents.azure.cn", ".documents.azure.us",
	".blob.core.windows.net", ".queue.core.windows.net", ".table.core.windows.net", ".file.core.windows.net", ".dfs.core.windows.net",
	".blob.core.chinacloudapi.cn", ".queue.core.chinacloudapi.cn", ".table.core.chinacloudapi.cn", ".file.core.chinacloudapi.cn", ".dfs.core.chinacloudapi.cn",
	".blob.core.usgovcloudapi.net", ".queue.core.usgovcloudapi.net", ".table.core.usgovcloudapi.net", ".file.core.usgovcloudapi.net", ".dfs.core.usgovcloudapi.net",
	".blob.core.cloudapi.de", ".queue.core.cloudapi.de", ".table.core.cloudapi.de", ".file.core.cloudapi.de", ".dfs.core.cloudapi.de",
}

// azureZones are the domains under which Azure gives names away. What lies
// there and is not served must not be reached either: a token or a secret
// would leave for the real Azure.
var azureZones = []string{
	"azure.com", "azure.net", "windows.net", "azure.us", "azure.cn",
	"microsoftonline.com", "microsoftonline.us", "microsoftonline.cn", "microsoftonline.de",
	"chinacloudapi.cn", "usgovcloudapi.net", "cloudapi.de", "microsoftazure.de",
	"sovcloud-identity.fr", "sovcloud-identity.de", "sovcloud-identity.sg",
	"azconfig.io", "azurecr.io", "azurecr.cn", "azurecr.us", "azurewebsites.net", "azurewebsites.us", "azurefd.net",
	"azureedge.net", "cloudapp.net", "azure-api.net", "azuremicroservices.io", "azurecontainerapps.io",
	"azuredatabricks.net", "azure-automation.net", "azurehdinsight.net", "azureml.ms", "azmk8s.io", "azure-devices.net",
	"graph.windows.net", "login.microsoft.com", "login.live.com", "device.login.microsoftonline.com",
	"graph.microsoft.com", "graph.microsoft.us", "dod-graph.microsoft.us", "graph.microsoft.de", "graph.microsoft.cn",
	"powerbi.com", "microsoftazure.com", "secure.aadcdn.microsoftonline-p.com",
}

// way is what the proxy does with a CONNECT.
type way int

const (
	direct  way = iota // to the world outside
	plane              // the plane's own name: its listener ends the TLS
	gateway            // a database gateway of the plane
	azure              // Azure's name, served by the plane: we end the TLS
	refused            // Azure's name, served by nobody here
)

// gatewayLabels are the labels before the domain that name a database, and
// the gateway each goes to (contract: Hosts).
var gatewayLabels = map[string]string{"postgres": "pg", "mysql": "mysql", "database": "tds", "redis": "redis"}

// choose says how a host is reached; host is in lower case without a dot at
// the end. The label names the gateway.
func choose(host, domain string, azureNames bool) (w way, label string) {
	if rest, ok := strings.CutSuffix(host, "."+domain); ok {
		if i := strings.LastIndexByte(rest, '.'); i >= 0 && gatewayLabels[rest[i+1:]] != "" {
			return gateway, gatewayLabels[rest[i+1:]]
		}
		return plane, ""
	}
	if host == "169.254.169.254" {
		return refused, "" // through us it would look as if we asked, not the app
	}
	if !azureNames {
		return direct, ""
	}
	for _, name := range azureExact {
		if host == name {
			return azure, ""
		}
	}
	for _, suffix := range azureSuffixes {
		if rest, ok := strings.CutSuffix(host, suffix); ok && rest != "" && !strings.Contains(rest, ".") {
			return azure, ""
		}
	}
	for _, zone := range azureZones {
		if host == zone || strings.HasSuffix(host, "."+zone) {
			return refused, ""
		}
	}
	return direct, ""
}

// resolveWait bounds the question whether the plane's names resolve; a local
// resolver answers within a millisecond.
const resolveWait = 150 * time.Millisecond

// namesResolve finds out, beside other work, whether programs on this machine
// can resolve the plane's names. It counts only addresses of loopback or of
// the plane: a provider that answers everything is no help.
func (s *session) namesResolve(ctx context.Context) <-chan bool {
	out := make(chan bool, 1)
	if s.Proxy != ProxyAuto || s.AzureNames {
		out <- s.Proxy == ProxyOff
		return out
	}
	name := "login." + s.plane.Domain
	if hostsFile("/etc/hosts", name) {
		out <- true
		return out
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, resolveWait)
		defer cancel()
		addrs, err := net.DefaultResolver.LookupHost(ctx, name)
		out <- err == nil && len(addrs) > 0 && reaches(addrs, s.plane.Listen)
	}()
	return out
}

// reaches reports whether an address can be the plane's.
func reaches(addrs []string, listen string) bool {
	host, _, _ := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	for _, a := range addrs {
		got := net.ParseIP(a)
		if got == nil {
			continue
		}
		if got.IsLoopback() || got.Equal(ip) || ip == nil || ip.IsUnspecified() {
			return true
		}
	}
	return false
}

// hostsFile reports whether the file names the host: the fast and usual way.
func hostsFile(path, name string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		for i := 1; i < len(f); i++ {
			if strings.EqualFold(f[i], name) {
				return true
			}
		}
	}
	return false
}
