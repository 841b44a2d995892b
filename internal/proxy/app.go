package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/run"
)

// Mode says what an app's doors are.
type Mode string

// Ports of the loopback interface, Unix sockets in a directory that is this
// user's alone, or both where the system has both.
const (
	Auto Mode = "auto"
	TCP  Mode = "tcp"
	Unix Mode = "unix"
)

// closeWait is how long an app's sessions have to end when their door closes.
const closeWait = 2 * time.Second

// App is the doors of one app. Its Open is what hawser run asks for.
type App struct {
	mode Mode

	mu    sync.Mutex // guards all below
	dir   string     // of the sockets
	doors map[string]*opened
}

// opened is a door and where it is.
type opened struct {
	*Door
	conn   connection
	addr   string // host:port, "" for none
	socket string // path, "" for none
	served sync.WaitGroup
}

// NewApp makes the doors of an app, none of them open yet.
func NewApp(mode Mode) (*App, error) {
	switch mode {
	case Auto, TCP, Unix:
		return &App{mode: mode, doors: map[string]*opened{}}, nil
	}
	return nil, fmt.Errorf("--proxy is auto, tcp or unix, not %q", mode)
}

// Open opens a door for each of the app's connections to a database, closes
// those whose connection is gone, and returns the variables that tell of them.
func (a *App) Open(ctx context.Context, app run.App, _ *client.Environment) ([]run.Variables, error) {
	if err := app.CanTell(); err != nil {
		return nil, fmt.Errorf("cannot open ports to the app's databases: %w", err)
	}
	all, err := connections(ctx, app)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(all)
	var list []*opened
	for _, c := range all {
		o := a.doors[c.name]
		if o == nil {
			if o, err = a.open(app, c); err != nil {
				return nil, err
			}
			a.doors[c.name] = o
			app.Log().Debug("opened a port to a database that asks for no password", "connection", c.name, "database", c.up.Name, "address", o.where())
		}
		list = append(list, o)
	}
	return variables(list), nil
}

// forget closes the doors that the list does not have; a.mu is held.
func (a *App) forget(keep []connection) {
	for name, o := range a.doors {
		if !slices.ContainsFunc(keep, func(c connection) bool { return c.same(o.conn) }) {
			delete(a.doors, name)
			go o.close() // ends by closeWait
		}
	}
}

// open opens one door; a.mu is held.
func (a *App) open(app run.App, c connection) (*opened, error) {
	conf := Config{Upstream: c.up, Admit: app.Admit, Log: app.Log(), Clock: app.Clock()}
	p, ok := protocolOf(c.up.Kind)
	if !ok {
		return nil, fmt.Errorf("cannot open a port to %s: %s is not served", c.up.Name, c.up.Kind)
	}
	conf.Token = func(ctx context.Context) (az.Secret, time.Time, error) { return app.Token(ctx, p.audience, c.clientID) }
	d, err := New(conf)
	if err != nil {
		return nil, err
	}
	o := &opened{Door: d, conn: c}
	listeners, err := a.listen(o)
	if err != nil {
		o.close()
		return nil, fmt.Errorf("cannot open a port to %s: %w", c.up.Name, err)
	}
	for _, l := range listeners {
		o.served.Go(func() { // ends with the door
			if err := d.Serve(l); err != nil {
				app.Log().Error("a port to a database was lost", "connection", c.name, "error", err)
			}
		})
	}
	return o, nil
}

// listen opens the port and the socket that the mode has; a.mu is held.
func (a *App) listen(o *opened) (list []net.Listener, err error) {
	if a.mode != Unix {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		o.addr, list = l.Addr().String(), append(list, l)
	}
	if a.mode == TCP || o.conn.up.Kind == SQLServer && a.mode == Auto { // SQL Server's clients know no Unix socket
		return list, nil
	}
	if a.dir == "" {
		if a.dir, err = os.MkdirTemp("", "hawser-db-"); err != nil { // 0700
			return list, err
		}
	}
	l, path, err := listenUnix(a.dir, o.conn.name, o.conn.up.Kind)
	if err != nil {
		return list, err
	}
	o.socket = path
	return append(list, l), nil
}

// listenUnix makes a socket under a name that the protocol's programs look
// for.
func listenUnix(dir, connection string, k Kind) (net.Listener, string, error) {
	dir += string(os.PathSeparator) + connection
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	file := map[Kind]string{Postgres: ".s.PGSQL.5432", MySQL: "mysql.sock", Redis: "redis.sock", SQLServer: "sql.sock"}[k]
	path := dir + string(os.PathSeparator) + file
	_ = os.Remove(path) // left by a door of the same name that is closing
	l, err := net.Listen("unix", path)
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path may be a later door's by then; the directory goes at the end
	}
	return l, path, err
}

func (o *opened) where() string {
	if o.addr != "" {
		return o.addr
	}
	return o.socket
}

func (o *opened) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	o.Shutdown(ctx)
	o.served.Wait()
}

// Close closes every door.
func (a *App) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.doors {
		o.close()
	}
	a.doors = map[string]*opened{}
	if a.dir != "" {
		_ = os.RemoveAll(a.dir)
	}
}

// connection is one of the app's connections to a database.
type connection struct {
	name     string
	clientID string // of the user-assigned identity
	plain    bool   // its settings have the plain names: the first of its kind
	up       Upstream
}

// same reports whether a door to o serves c.
func (c connection) same(o connection) bool {
	return c.name == o.name && c.clientID == o.clientID && c.up.Kind == o.up.Kind && c.up.Host == o.up.Host &&
		c.up.Addr == o.up.Addr && c.up.User == o.up.User && c.up.Database == o.up.Database
}

// linker is what the plane says of a connection.
type linker struct {
	Name       string `json:"name"`
	Properties struct {
		Target struct {
			ID az.ID `json:"id"`
		} `json:"targetService"`
		Auth struct {
			Type     string `json:"authType"`
			ClientID string `json:"clientId"`
		} `json:"authInfo"`
		Made struct {
			Prefix   string `json:"prefix"`
			Host     string `json:"host"`
			Port     int    `json:"port"`
			Database string `json:"database"`
			User     string `json:"user"`
		} `json:"hawser"`
	} `json:"properties"`
}

// connections asks the plane what the app is connected to. The settings of a
// connection have a form for each kind of client, and may have other names or
// be left out; the connection itself is the same for all.
func connections(ctx context.Context, app run.App) ([]connection, error) {
	all, err := client.List[linker](ctx, app.Client(), app.SiteID()+"/providers/Microsoft.ServiceLinker/linkers")
	if err != nil {
		return nil, fmt.Errorf("cannot read the app's connections, which --proxy needs: %w", err)
	}
	roots, err := planeRoots(app.Client().Plane())
	if err != nil {
		return nil, err
	}
	var out []connection
	for _, l := range all {
		c, reason := l.connection(app.Client().Plane())
		if reason != "" {
			app.Log().Info("a connection gets no port of its own", "connection", l.Name, "reason", reason)
			continue
		}
		c.up.Roots = roots
		out = append(out, c)
	}
	if len(out) == 0 {
		app.Log().Warn("the app has no connection to a database that a port could be opened for: make one with hawser connect")
	}
	slices.SortFunc(out, func(a, b connection) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// planeRoots trusts the plane's CA alone where it has one.
func planeRoots(p client.Plane) (*x509.CertPool, error) {
	if p.CAFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plane's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("cannot use " + p.CAFile + ": it holds no certificate")
	}
	return pool, nil
}

// servers are the types of databases' servers, and the surface and gateway of
// each.
var servers = []struct {
	typ, gateway string
	surface      az.Surface
	kind         Kind
}{
	{"Microsoft.DBforPostgreSQL/flexibleServers", "pg", az.SurfacePostgres, Postgres},
	{"Microsoft.DBforMySQL/flexibleServers", "mysql", az.SurfaceMySQL, MySQL},
	{"Microsoft.Sql/servers", "tds", az.SurfaceSQL, SQLServer},
	{"Microsoft.Cache/redis", "redis", az.SurfaceRedis, Redis},
}

// connection reads where a connection leads; reason is why no door can stand
// before it.
func (l *linker) connection(p client.Plane) (c connection, reason string) {
	target, m := l.Properties.Target.ID, l.Properties.Made
	server := target.Parent()
	i := slices.IndexFunc(servers, func(s struct {
		typ, gateway string
		surface      az.Surface
		kind         Kind
	}) bool {
		return server.IsType(s.typ)
	})
	if i < 0 {
		return c, "it leads to no database"
	}
	s := servers[i]
	switch l.Properties.Auth.Type {
	case "systemAssignedIdentity":
	case "userAssignedIdentity":
		c.clientID = l.Properties.Auth.ClientID
	default:
		return c, "it has a secret of its own"
	}
	if _, ok := protocolOf(s.kind); !ok {
		return c, "its protocol is not served"
	}
	host := az.Names{Domain: p.Domain}.Of(s.surface, strings.ToLower(server.Name()))
	addr := p.Gateways[s.gateway]
	if addr == "" {
		addr = net.JoinHostPort(m.Host, fmt.Sprint(m.Port))
	}
	c.name, c.plain = l.Name, strings.Count(strings.Trim(m.Prefix, "_"), "_") == 1
	c.up = Upstream{Kind: s.kind, Name: host, Host: host, Addr: run.Dialable(addr), User: m.User, Database: first(m.Database, target.Name())}
	return c, ""
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// url is the form in which drivers take everything at once.
func (o *opened) url() string {
	c := o.conn.up
	u := url.URL{Scheme: string(c.Kind), Host: o.addr, Path: "/" + c.Database}
	switch c.Kind {
	case Postgres:
		u.User, u.RawQuery = url.User(c.User), "sslmode=disable"
	case MySQL:
		u.User = url.User(c.User)
	case SQLServer:
		u.User, u.Path, u.RawQuery = url.UserPassword(anybody, anybody), "", url.Values{"database": {c.Database}, "encrypt": {"disable"}}.Encode()
	}
	return u.String()
}

// anybody is the name and password of programs that must have one.
const anybody = "hawser"
