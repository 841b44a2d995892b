package easyauth

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Site is what the front needs to know of an app.
type Site struct {
	ID      az.ID
	Stopped bool
	Auth    []byte // authsettingsV2's properties, "" for none
}

// Expect says which tokens are good.
type Expect struct {
	// Audiences are what the token may be for; nil means anything, which is only
	// right for a token that comes beside one that was checked.
	Audiences []string
	// ID wants an id token; otherwise an access token.
	ID   bool
	Peer string // whose request it came with, for the audit log
}

// Token is what a verified token says.
type Token struct {
	Principal az.Principal
	Claims    map[string]any
}

// Config is what the front stands on. All but Clock, Log, Owner and Served are needed.
type Config struct {
	Store     *store.Store
	Guard     *guard.Guard
	Sealer    *seal.Sealer
	Directory *directory.Directory
	Names     az.Names
	Clock     az.Clock
	Log       *slog.Logger
	// Site finds the app of a host name's label; nil without an error is none.
	Site func(ctx context.Context, name string) (*Site, error)
	// Setting reads an app setting, its reference resolved as the app.
	Setting func(ctx context.Context, site az.ID, name string) (az.Secret, error)
	// Verify checks a token of this plane's authority.
	Verify func(ctx context.Context, token string, want Expect) (Token, error)
	// Login carries requests to the authority's own surface.
	Login http.RoundTripper
	// Machine names whose loopback this plane is on.
	Machine string
	// Owner says whether the program at the other end of a connection over
	// loopback may be an app's; nil: any may.
	Owner func(net.Conn) error
	// Served counts a reply; nil for none.
	Served func(surface, route string, status int, took time.Duration)
}

// Front is what stands in front of every app of a plane. Its methods may be
// called concurrently.
type Front struct {
	cfg   Config
	proxy *proxy
	live  *live
	turn  atomic.Uint64 // which process of an app is next

	apps      *cache[app]              // by name
	sessions  *cache[*session]         // by key
	upstreams *cache[[]store.Upstream] // by site
}

// New makes the front. Close ends it.
func New(cfg Config) *Front {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Served == nil {
		cfg.Served = func(string, string, int, time.Duration) {}
	}
	f := &Front{cfg: cfg, apps: newCache[app](maxCachedApps, 0, cfg.Clock), sessions: newCache[*session](maxCachedSessions, sessionAge, cfg.Clock),
		upstreams: newCache[[]store.Upstream](maxCachedApps, processAge, cfg.Clock)}
	cfg.Store.Listen(f.changed)
	f.proxy, f.live = newProxy(f), newLive(f)
	return f
}

// Close ends the streams and WebSockets that are open.
func (f *Front) Close() {
	f.live.close()
	f.proxy.close()
}

// visit is one request.
type visit struct {
	f     *Front
	w     *writer
	r     *http.Request
	ctx   context.Context
	site  *Site
	set   *settings
	own   string // host[:port] of the app on this plane
	host  string // as browsers see it: the same, or what a trusted proxy says
	began time.Time
	who   *caller
	zumo  string // the X-ZUMO-AUTH that came
	route string // for metrics
}

// base is the app's origin.
func (v *visit) base() string { return "https://" + v.host }

// ServeHTTP answers for {name}.sites.D.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := f.cfg.Clock()
	correlation := az.NewGUID()
	ctx := az.WithCorrelation(r.Context(), correlation)
	v := &visit{f: f, w: newWriter(w), r: r, ctx: ctx, began: began, route: "front"}
	defer func() {
		took := f.cfg.Clock().Sub(began)
		f.cfg.Served("sites", v.route, v.w.status, took)
		if f.cfg.Log.Enabled(ctx, slog.LevelDebug) { // the path alone: queries hold secrets
			f.cfg.Log.Debug("easyauth: request", "host", r.Host, "method", r.Method, "path", r.URL.Path, "status", v.w.status, "took", took, "correlation", correlation)
		}
	}()
	v.serve()
}

func (v *visit) serve() {
	if v.r.Method == http.MethodConnect || v.r.Method == http.MethodTrace {
		v.page(http.StatusMethodNotAllowed, "Method not allowed", "The method of the request is not served here.")
		return
	}
	if u := v.r.URL; u.Opaque != "" || u.Path != "" && u.Path[0] != '/' {
		v.page(http.StatusBadRequest, "The address cannot be read", "A request names a path that begins with '/'.")
		return
	}
	name := v.f.cfg.Names.Classify(v.r.Host)
	a, ok, err := v.f.app(v.ctx, name.Name)
	v.site, v.set = a.site, a.set
	switch {
	case err != nil:
		v.fail(err)
		return
	case !ok:
		v.page(http.StatusNotFound, "No such app", "There is no app of this name on this plane.")
		return
	case v.site.Stopped:
		v.page(http.StatusForbidden, "This app is stopped", "Somebody stopped it; start it to use it.")
		return
	}
	v.own = v.f.ownHost(v.r, name)
	v.host = v.hostOf()
	v.zumo = strip(v.r.Header)
	if !v.set.Enabled {
		v.route = "app"
		v.pass()
		return
	}
	v.guarded()
}

// guarded is an app whose authentication is switched on.
func (v *visit) guarded() {
	if v.set.RequireHTTPS && !v.secure() {
		if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
			v.page(http.StatusForbidden, "HTTPS is needed", "This app is reached over HTTPS only.")
			return
		}
		v.redirect(v.base() + requestURI(v.r.URL))
		return
	}
	if rest, ok := v.set.own(v.r.URL); ok {
		v.route = "auth"
		v.endpoint(rest)
		return
	}
	if v.set.Logout != "" && v.r.URL.Path == v.set.Logout {
		v.route = "auth"
		v.logout()
		return
	}
	v.route = "app"
	if !v.enter() {
		return
	}
	v.pass()
}

// enter finds out who asks and whether they may; false means that it has
// answered.
func (v *visit) enter() bool {
	open := v.set.Action == Anonymous || v.set.excluded(v.r.URL)
	who, err := v.identify()
	if err != nil {
		if az.Is(err, az.Unauthorized) && open {
			return true // nobody, then: the app is told no name
		}
		v.refuse(err)
		return false
	}
	if who == nil {
		if open {
			return true
		}
		v.unauthenticated()
		return false
	}
	if err := v.admit(who); err != nil {
		if open && v.set.excluded(v.r.URL) {
			return true
		}
		v.refuse(err)
		return false
	}
	v.who = who
	return true
}

// secure reports whether the browser's connection is encrypted.
func (v *visit) secure() bool {
	if name := v.set.ProxyProto; name != "" {
		if h := v.r.Header.Get(name); h != "" {
			return strings.EqualFold(strings.TrimSpace(h), "https")
		}
	}
	return v.r.TLS != nil
}

// ownHost is the host that the app has on this plane.
func (f *Front) ownHost(r *http.Request, name az.Host) string {
	if !name.Azure {
		return f.cfg.Names.HostPort(f.cfg.Names.Of(az.SurfaceSites, name.Name))
	}
	if h := strings.ToLower(r.Host); hostForm.MatchString(h) {
		return h
	}
	return strings.ToLower(name.Name + "." + name.Suffix)
}

// hostOf is the host that browsers know the app by: its own, or what a proxy in
// front says, where the settings name one. Whatever it says, a sign-in only
// comes back to an address that is registered, and the app's Host is its own.
func (v *visit) hostOf() string {
	if v.set.ProxyHost != "" {
		if h := strings.ToLower(v.r.Header.Get(v.set.ProxyHost)); hostForm.MatchString(h) {
			return h
		}
	}
	return v.own
}

var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$`)

// requestURI is path and query as they came, for a redirect to the same place.
func requestURI(u *url.URL) string {
	p := u.EscapedPath()
	for strings.HasPrefix(p, "//") { // never another host
		p = p[1:]
	}
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	if u.RawQuery != "" {
		p += "?" + plainQuery(u.RawQuery)
	}
	return p
}

// record writes down what was decided about a sign-in or a caller.
func (v *visit) record(who az.Principal, action, outcome, reason string) error {
	return v.f.cfg.Guard.Record(v.ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: action, Where: v.site.ID.String(),
		Outcome: outcome, Reason: reason, Peer: v.r.RemoteAddr})
}

// decodeObject decodes a JSON object of claims with its numbers as written.
func decodeObject(b []byte) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var m map[string]any
	err := d.Decode(&m)
	return m, err
}
