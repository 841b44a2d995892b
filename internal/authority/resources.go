package authority

import (
	"context"
	"net"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
)

// Audiences that no surface of rest names yet; tokens for them can be had.
const (
	audStorage   rest.Audience = "storage"
	audDocuments rest.Audience = "documents"
	audOther     rest.Audience = "other" // Azure services that the plane does not serve itself
)

// platformResources are Azure's resources by every name under which tokens are
// asked for: URIs of all clouds, without trailing slash, and application ids.
// Source: wire/databases.md §1, wire/clients.md §2; the ids are Azure's own.
var platformResources = map[rest.Audience][]string{
	rest.ARM: {"https://management.core.windows.net", "https://management.azure.com",
		"https://management.core.chinacloudapi.cn", "https://management.chinacloudapi.cn",
		"https://management.core.usgovcloudapi.net", "https://management.usgovcloudapi.net",
		"https://management.core.cloudapi.de", "https://management.microsoftazure.de",
		"797f4846-ba00-4fd7-ba43-dac1f8f63013"},
	rest.Graph: {"https://graph.microsoft.com", "https://microsoftgraph.chinacloudapi.cn", "https://graph.microsoft.us",
		"https://dod-graph.microsoft.us", "https://graph.microsoft.de", "00000003-0000-0000-c000-000000000000"},
	rest.Vault: {"https://vault.azure.net", "https://vault.azure.cn", "https://vault.usgovcloudapi.net",
		"https://vault.microsoftazure.de", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"},
	rest.PostgreSQL: {"https://ossrdbms-aad.database.windows.net", "https://ossrdbms-aad.database.chinacloudapi.cn",
		"https://ossrdbms-aad.database.usgovcloudapi.net", "https://ossrdbms-aad.database.cloudapi.de",
		"123cd850-d9df-40bd-94d5-c9f07b7fa203"},
	rest.SQL: {"https://database.windows.net", "https://database.chinacloudapi.cn", "https://database.usgovcloudapi.net",
		"https://database.cloudapi.de", "022907d3-0f1b-48f7-badc-1ba6abab6d66"},
	audStorage:   {"https://storage.azure.com", "e406a681-f3d4-42a8-90b6-c2b029497af1"},
	audDocuments: {"https://cosmos.azure.com", "a232010e-820c-4083-83bb-3ace5fc29d0b"},
	rest.Redis:   {"https://redis.azure.com", "acca5fbb-b7e4-4009-81f1-37e38fd66d78"},
	audOther: {"https://azconfig.io", "https://azconfig.azure.cn", "https://azconfig.azure.us", "https://appconfig.azure.com",
		"https://servicebus.azure.net", "https://eventhubs.azure.net",
		"https://cognitiveservices.azure.com", "https://cognitiveservices.azure.us", "https://ai.azure.com",
		"https://search.azure.com"},
}

// ownSurfaces are the plane's own names that are resources.
var ownSurfaces = map[az.Surface]rest.Audience{
	az.SurfaceManagement: rest.ARM, az.SurfaceGraph: rest.Graph, az.SurfaceVault: rest.Vault,
	az.SurfacePostgres: rest.PostgreSQL, az.SurfaceMySQL: rest.PostgreSQL, az.SurfaceSQL: rest.SQL,
	az.SurfaceBlob: audStorage, az.SurfaceDocuments: audDocuments, az.SurfaceRedis: rest.Redis,
}

// accountSurfaces are resources by the name of one account, as storage and
// Cosmos clients ask for; the others go by the name of the service only.
var accountSurfaces = map[az.Surface]rest.Audience{az.SurfaceBlob: audStorage, az.SurfaceDocuments: audDocuments}

// resourceTable knows the platform's resources by name.
type resourceTable struct {
	names az.Names
	byKey map[string]rest.Audience
}

func newResourceTable(n az.Names) resourceTable {
	t := resourceTable{n, map[string]rest.Audience{}}
	for aud, keys := range platformResources {
		for _, k := range keys {
			t.byKey[k] = aud
		}
	}
	for s, aud := range ownSurfaces {
		host := n.Suffix(s)
		t.byKey["https://"+host] = aud
		if n.Port != "" {
			t.byKey["https://"+net.JoinHostPort(host, n.Port)] = aud
		}
	}
	return t
}

// class says which surface a resource's name stands for, "" if none. Names are
// compared without regard to case and to one trailing slash.
func (t resourceTable) class(name string) rest.Audience {
	key := strings.ToLower(strings.TrimSuffix(name, "/"))
	if aud, ok := t.byKey[key]; ok {
		return aud
	}
	host, ok := strings.CutPrefix(key, "https://")
	if !ok || strings.ContainsAny(host, "/?#@\\") {
		return ""
	}
	h := t.names.Classify(host)
	if aud, ok := accountSurfaces[h.Surface]; ok && h.Name != "" && goodPort(host, h, t.names.Port) {
		return aud
	}
	return ""
}

// goodPort admits no port, the standard one, and the plane's own for its names.
func goodPort(hostport string, h az.Host, own string) bool {
	_, port, found := strings.Cut(hostport, ":")
	return !found || port == "443" || !h.Azure && port == own
}

// target is the resource that a token is for.
type target struct {
	Audience rest.Audience // "" for registered applications
	Aud      string        // the token's aud
	Version  int           // of the token: the resource decides, not the endpoint
	App      *directory.Object
	SP       *directory.Object // the service principal; nil for Azure services that the directory does not hold
}

// facts are what the resource registered.
func (t target) facts() *directory.Facts {
	switch {
	case t.App != nil:
		return &t.App.Facts
	case t.SP != nil:
		return &t.SP.Facts
	}
	return &directory.Facts{}
}

// platformApps are the application ids of the platform's resources.
var platformApps = map[rest.Audience]string{rest.ARM: directory.AppARM, rest.Graph: directory.AppGraph, rest.Vault: directory.AppKeyVault,
	rest.PostgreSQL: directory.AppOSSRDBMS, rest.SQL: directory.AppSQL, audStorage: directory.AppStorage,
	audDocuments: directory.AppCosmos, rest.Redis: directory.AppRedis}

// maxResource bounds a resource's name. Source: Entra's identifier URIs have
// at most 255 characters; account names and ports stay far below.
const maxResource = 512

// target finds a resource by the name that a client gave it: the platform's
// own first, so that no registration can stand in for one.
func (a *Authority) target(ctx context.Context, name string) (target, error) {
	if name == "" || len(name) > maxResource || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return target{}, unknownResource(name, a.names.Tenant)
	}
	if aud := a.resources.class(name); aud != "" {
		t := target{Audience: aud, Aud: name, Version: 1}
		if app := platformApps[aud]; app != "" {
			c, ok, err := a.dir.Client(ctx, app)
			if err != nil {
				return target{}, err
			}
			if ok && c.Principal != nil && !c.Principal.Enabled {
				return target{}, oauthError(az.Invalid, "invalid_resource", 500014, "The service principal for resource '%s' is disabled: an administrator of this tenant has disabled the application.", printable(name))
			}
			if ok {
				t.SP = c.Principal
			}
		}
		return t, nil
	}
	c, err := a.registered(ctx, name)
	if err != nil {
		return target{}, err
	}
	if c == nil {
		return target{}, unknownResource(name, a.names.Tenant)
	}
	t := target{Aud: name, Version: 1, App: c.Application, SP: c.Principal}
	if t.App.TokenVersion == 2 {
		t.Aud, t.Version = c.AppID, 2
	}
	return t, nil
}

// registered finds an application by its id, api://id or identifier URI; its
// service principal must be there and enabled.
func (a *Authority) registered(ctx context.Context, name string) (*directory.Client, error) {
	id := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(name), "api://"), "/")
	if !az.IsGUID(id) {
		app, ok, err := a.dir.ByName(ctx, name)
		if err == nil && !ok {
			app, ok, err = a.dir.ByName(ctx, strings.TrimSuffix(name, "/"))
		}
		if err != nil || !ok {
			return nil, err
		}
		id = app.AppID
	}
	c, ok, err := a.dir.Client(ctx, id)
	if err != nil || !ok || c.Application == nil || c.Principal == nil || !c.Principal.Enabled {
		return nil, err
	}
	return c, nil
}

func unknownResource(name, tenant string) error {
	return oauthError(az.Invalid, "invalid_resource", 500011,
		"The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
		printable(name), tenant)
}

// printable keeps what a stranger sent short and plain in a reply.
func printable(s string) string {
	if len(s) > 256 {
		s = s[:256] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd || r == '<' || r == '>' {
			return '?'
		}
		return r
	}, s)
}

// oauthError words an error with an AADSTS number. Source: wire/entra.md §6.
func oauthError(k az.Kind, code string, number int, format string, args ...any) *az.Error {
	e := az.Errorf(k, code, format, args...)
	e.Number = number
	return e
}

// acceptedIssuers are the values of iss in this plane's own tokens; see
// docs/decisions/0006-issuer.md.
func (a *Authority) acceptedIssuers() map[string]bool {
	out := map[string]bool{a.issuerV1(): true, a.issuerV2(az.Host{Surface: az.SurfaceLogin}): true}
	hosts, _ := az.AzureNames()
	for _, h := range hosts {
		if c := a.names.Classify(h); c.Surface == az.SurfaceLogin {
			out[a.issuerV2(c)] = true
		}
	}
	return out
}

func (a *Authority) issuerV1() string { return "https://sts.windows.net/" + a.names.Tenant + "/" }

// issuerV2 depends on the name by which the client knows the plane.
func (a *Authority) issuerV2(h az.Host) string { return a.origin(h) + "/" + a.names.Tenant + "/v2.0" }

// origin is the authority's own origin as the client knows it.
func (a *Authority) origin(h az.Host) string {
	switch {
	case !h.Azure:
		return a.names.Origin(az.SurfaceLogin)
	case h.Cloud == az.Public:
		return "https://login.microsoftonline.com"
	}
	return "https://" + h.Suffix
}

// isLogin reports whether a URL's host is one of the authority's names.
func (a *Authority) isLogin(u *url.URL) (az.Host, bool) {
	h := a.names.Classify(u.Host)
	if h.Surface != az.SurfaceLogin {
		return h, false
	}
	port := u.Port()
	return h, port == "" || port == "443" || !h.Azure && port == a.names.Port
}
