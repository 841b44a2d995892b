package vault

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

const (
	// maxSetBody has room for the largest value with every byte escaped
	// (\u0000) and the largest tags.
	maxSetBody = 6*maxValue + 256<<10
	// maxRestoreBody has room for a backup of maxBackupVersions versions that
	// are as large as can be.
	maxRestoreBody = 32 << 20
)

func (v *Vaults) routes() []rest.Route {
	token := rest.Token(rest.Vault)
	on := func(method, path string, maxBody int64, op func(context.Context, call) (any, error)) rest.Route {
		return rest.Route{Method: method, Path: path, Access: token, MaxBody: maxBody, Handle: v.handle(op)}
	}
	return []rest.Route{
		on("GET", "/secrets/{name}", 0, v.get),
		on("GET", "/secrets/{name}/{$}", 0, v.get), // what SDKs send for the latest
		on("GET", "/secrets/{name}/{version}", 0, v.get),
		on("GET", "/secrets/{name}/versions", 0, v.versions),
		on("PUT", "/secrets/{name}", maxSetBody, v.set),
		on("PUT", "/secrets/{name}/{$}", maxSetBody, v.set),
		on("PATCH", "/secrets/{name}", maxSetBody, v.update),
		on("PATCH", "/secrets/{name}/{$}", maxSetBody, v.update),
		on("PATCH", "/secrets/{name}/{version}", maxSetBody, v.update),
		on("DELETE", "/secrets/{name}", 0, v.delete),
		on("DELETE", "/secrets/{name}/{$}", 0, v.delete),
		on("POST", "/secrets/{name}/backup", 0, v.backup),
		on("POST", "/secrets/restore", maxRestoreBody, v.restore),
		on("GET", "/secrets", 0, v.list),
		on("GET", "/secrets/{$}", 0, v.list),
		on("GET", "/deletedsecrets", 0, v.listDeleted),
		on("GET", "/deletedsecrets/{$}", 0, v.listDeleted),
		on("GET", "/deletedsecrets/{name}", 0, v.getDeleted),
		on("DELETE", "/deletedsecrets/{name}", 0, v.purge),
		on("POST", "/deletedsecrets/{name}/recover", 0, v.recover),
		// Everything else asks for a token first too: clients send their first
		// request bare, and a stranger learns no routes.
		on("", "/", 0, nowhere),
	}
}

// call is a request to a vault that exists; its caller has a token but no
// right yet.
type call struct {
	*rest.Request
	host  *host
	live  *live
	vault *store.Vault // the same
}

// scope is the secret that the request names, as RBAC sees it.
func (c *call) scope(name string) az.ID { return c.vault.ID.Child("secrets", name) }

func (c *call) bundle(r *store.SecretVersion) bundle {
	return bundle{vault: c.vault, base: c.host.base, r: r, version: true}
}

func (v *Vaults) handle(op func(context.Context, call) (any, error)) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, req *rest.Request) (any, error) {
		h, ok := v.hosts.of(req.Host)
		if !ok {
			return nil, vaultNotFound()
		}
		if !hasVersion(req.URL) {
			return nil, badParameter("The request URI does not contain the required query parameter 'api-version'. Add one, such as api-version=7.4.")
		}
		vt, err := v.vault(ctx, h.Name)
		if err != nil {
			return nil, err
		}
		reply, err := op(ctx, call{req, h, vt, &vt.Vault})
		if err != nil {
			return nil, onTheWire(err)
		}
		return reply, nil
	}
}

func nowhere(_ context.Context, c call) (any, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(c.URL.Path, "/"), "/")
	switch first {
	case "secrets", "deletedsecrets":
		return nil, az.Errorf(az.Unsupported, "MethodNotAllowed", "The method and path do not go together; check both.")
	case "keys", "certificates", "deletedkeys", "deletedcertificates", "storage", "rng":
		return nil, az.Errorf(az.NotFound, "NotFound", "This vault serves secrets only.")
	}
	return nil, az.Errorf(az.NotFound, "NotFound", "There is nothing at this path; check the address.")
}

// hasVersion looks for a non-empty api-version; its value does not matter. The
// JavaScript client encodes the dash of the name.
func hasVersion(u *url.URL) bool {
	for q := u.RawQuery; q != ""; {
		var param string
		param, q, _ = strings.Cut(q, "&")
		name, value, _ := strings.Cut(param, "=")
		if value == "" {
			continue
		}
		if strings.EqualFold(name, "api-version") || strings.EqualFold(name, "api%2Dversion") {
			return true
		}
	}
	return false
}

// query reads a parameter, whatever its case.
func query(u *url.URL, name string) string {
	for k, vs := range u.Query() {
		if strings.EqualFold(k, name) {
			return vs[0]
		}
	}
	return ""
}

// host is what a Host header means, worked out once.
type host struct {
	az.Host
	base string // https://host[:port], as the client wrote it
	port string // with its colon, or ""
}

const (
	// maxHosts bounds the spellings that are remembered.
	maxHosts = 4096
	// maxHost bounds one: a DNS name (RFC 1035, 2.3.4) with a port.
	maxHost = 255 + 6
)

// hosts remembers what Host headers mean.
type hosts struct {
	names az.Names
	mu    sync.RWMutex // guards known
	known map[string]*host
}

func (hs *hosts) of(header string) (*host, bool) {
	hs.mu.RLock()
	h := hs.known[header]
	hs.mu.RUnlock()
	if h != nil {
		return h, true
	}
	h, ok := hs.parse(header)
	if !ok {
		return nil, false
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if len(hs.known) >= maxHosts || hs.known == nil {
		hs.known = map[string]*host{}
	}
	hs.known[strings.Clone(header)] = h
	return h, true
}

// parse accepts only hosts of vaults, so that what is written back into ids
// and links is a name of ours and a number.
func (hs *hosts) parse(header string) (*host, bool) {
	if len(header) > maxHost {
		return nil, false
	}
	h := &host{Host: hs.names.Classify(header)}
	if h.Surface != az.SurfaceVault || h.Name == "" {
		return nil, false
	}
	if _, port, err := net.SplitHostPort(header); err == nil && port != "" {
		if len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return nil, false
		}
		h.port = ":" + port
	}
	h.base = "https://" + h.Name + "." + h.Suffix + h.port
	return h, true
}

// authorities are the login hosts that challenges name for Azure's own names.
var authorities = map[az.Cloud]string{
	az.Public:  "https://login.microsoftonline.com/",
	az.China:   "https://login.chinacloudapi.cn/",
	az.USGov:   "https://login.microsoftonline.us/",
	az.Germany: "https://login.microsoftonline.de/",
}

// challenge names the authority with its tenant's path, without which the Go
// client panics, and the resource with the port that the client used, which
// the Go and Python clients compare with the vault's.
func (v *Vaults) challenge(r *http.Request, _ *az.Error) string {
	h, ok := v.hosts.of(r.Host)
	if !ok {
		return ""
	}
	authority := v.names.AuthorityURL()
	if h.Azure {
		authority = authorities[h.Cloud] + v.names.Tenant
	}
	return `Bearer authorization="` + authority + `", resource="https://` + h.Suffix + h.port + `"`
}

// Headers of every reply. Source: recorded replies of Key Vault; no-store is
// ours, since replies hold secrets.
var (
	headerRegion  = []string{"local"}
	headerVersion = []string{"1.9.0.0"}
	headerCache   = []string{"no-cache, no-store"}
	headerPragma  = []string{"no-cache"}
	headerExpires = []string{"-1"}
	headerHSTS    = []string{"max-age=31536000;includeSubDomains"}
)

// before sets Key Vault's headers. A request without a token, with which every
// client of Key Vault begins, is for Verify to refuse: it knows who needs none.
func (v *Vaults) before(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h["X-Ms-Keyvault-Region"] = headerRegion
	h["X-Ms-Keyvault-Service-Version"] = headerVersion
	h["X-Ms-Keyvault-Network-Info"] = []string{networkInfo(r.RemoteAddr)}
	h["Cache-Control"] = headerCache
	h["Pragma"] = headerPragma
	h["Expires"] = headerExpires
	h["Strict-Transport-Security"] = headerHSTS
	return nil
}

func networkInfo(remote string) string {
	addr, _, err := net.SplitHostPort(remote)
	if err != nil {
		addr = "unknown"
	}
	family := "Ipv4"
	if strings.IndexByte(addr, ':') >= 0 {
		family = "Ipv6"
	}
	return "conn_type=" + family + ";addr=" + addr + ";act_addr_fam=InterNetwork;"
}
