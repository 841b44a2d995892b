package run

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// azureZones are the domains under which Azure gives names away. What lies
// there and is not served must not be reached either: a token or a secret
// would leave for the real Azure.
var azureZones = []string{
	"azure.com", "azure.net", "windows.net", "azure.us", "azure.cn",
	"microsoftonline.com", "microsoftonline.us", "microsoftonline.cn", "microsoftonline.de",
	"chinacloudapi.cn", "usgovcloudapi.net", "cloudapi.de", "microsoftazure.de",
	"sovcloud-identity.fr", "sovcloud-identity.de", "sovcloud-identity.sg",
	"azconfig.io", "azurecr.io", "azurecr.cn", "azurecr.us", "azurewebsites.net", "azurewebsites.us", "chinacloudsites.cn", "azurefd.net",
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

// gatewayOf names the gateway of plane.json that a database's surface has.
func gatewayOf(s az.Surface) string {
	switch s {
	case az.SurfacePostgres:
		return "pg"
	case az.SurfaceMySQL:
		return "mysql"
	case az.SurfaceSQL:
		return "tds"
	case az.SurfaceRedis:
		return "redis"
	}
	return ""
}

// choose says how a host is reached; host is in lower case without a dot at
// the end. The label names the gateway. Which of Azure's names mean what is
// written once, in package az: the plane routes by the same table. Databases
// under Azure's names are not HTTP: their connections are settings, and a
// CONNECT to one is refused like any other name that nobody here serves.
func choose(host, domain string, azureNames bool) (w way, label string) {
	h := az.Names{Domain: domain}.Classify(host)
	if strings.HasSuffix(host, "."+domain) {
		if g := gatewayOf(h.Surface); g != "" {
			return gateway, g
		}
		return plane, ""
	}
	if host == "169.254.169.254" {
		return refused, "" // through us it would look as if we asked, not the app
	}
	if !azureNames {
		return direct, ""
	}
	if h.Azure && gatewayOf(h.Surface) == "" {
		return azure, ""
	}
	below := func(zone string) bool { return host == zone || strings.HasSuffix(host, "."+zone) }
	if h.Azure || slices.ContainsFunc(azureZones, below) {
		return refused, ""
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
