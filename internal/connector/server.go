package connector

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// versions are the api-versions that az 2.45 and azurerm send
// (wire/arm-graph.md §4, §8); any other is served, too.
var versions = []string{"2022-12-01", "2023-12-01-preview", "2024-08-01", "2025-08-01"}

// serverProperties is a flexible server. It adopts a real one, which Hawser
// says and Azure has no words for.
type serverProperties struct {
	AdministratorLogin string `json:"administratorLogin,omitempty"`
	// AdministratorLoginPassword is what a body brings; Check moves it to the
	// resource's Secrets.
	AdministratorLoginPassword string          `json:"administratorLoginPassword,omitempty"`
	Version                    string          `json:"version,omitempty"`
	Storage                    json.RawMessage `json:"storage,omitempty"`
	Backup                     json.RawMessage `json:"backup,omitempty"`
	Network                    json.RawMessage `json:"network,omitempty"`
	HighAvailability           json.RawMessage `json:"highAvailability,omitempty"`
	AuthConfig                 *authConfig     `json:"authConfig,omitempty"`
	Maintenance                json.RawMessage `json:"maintenanceWindow,omitempty"`
	Zone                       string          `json:"availabilityZone,omitempty"`
	CreateMode                 string          `json:"createMode,omitempty"`
	Hawser                     *realServer     `json:"hawser,omitempty"`
}

type authConfig struct {
	ActiveDirectoryAuth string `json:"activeDirectoryAuth,omitempty"`
	PasswordAuth        string `json:"passwordAuth,omitempty"`
	TenantID            string `json:"tenantId,omitempty"`
}

// realServer is where the real server is.
type realServer struct {
	// URL is postgres://owner:password@host:port/database?sslmode=…, all in
	// one. It is taken apart and never stored.
	URL           string `json:"url,omitempty"`
	Host          string `json:"host,omitempty"`
	Port          int    `json:"port,omitempty"`
	SSLMode       string `json:"sslMode,omitempty"`
	CACertificate string `json:"caCertificate,omitempty"` // PEM
	Database      string `json:"database,omitempty"`      // where the owner logs in
	Version       string `json:"version,omitempty"`       // what it is: found out, not said
	Encrypt       string `json:"encrypt,omitempty"`       // SQL Server: strict, or nothing
	// Unproved: it lets the plane in without a password, which somebody with the
	// right to everything knew when it was adopted. No body says it.
	Unproved bool `json:"unproved,omitempty"`
	// Local: the plane runs it; nothing else is said then.
	Local *localPlace `json:"local,omitempty"`
}

const (
	enabled  = "Enabled"
	disabled = "Disabled"
)

// maxRootCert bounds caCertificate: some tens of certificates.
const maxRootCert = 256 << 10

func (c *Connector) serverType() *arm.Type[serverProperties] {
	return arm.Define(ServerType, versions, arm.Hooks[serverProperties]{
		Check: c.checkServer, Apply: c.applyServer, View: c.viewServer,
		After: func(_ context.Context, r, _ *arm.Resource[serverProperties]) {
			if h := r.Properties.Hawser; h != nil && h.Local != nil {
				c.locals.keep(r.ID.Name(), h.Local)
			}
		},
		Deleted: func(_ context.Context, r *arm.Resource[serverProperties]) {
			if h := r.Properties.Hawser; h != nil && h.Local != nil {
				c.locals.remove(r.ID.Name(), h.Local)
			}
		},
		Actions: map[string]arm.ResourceAction[serverProperties]{
			"restart": {Run: c.restartServer}, "start": {Run: c.restartServer}, "stop": {Run: c.restartServer},
		},
	})
}

func (c *Connector) checkServer(ctx context.Context, call *arm.Call, r, old *arm.Resource[serverProperties]) error {
	p := &r.Properties
	if !validServerName(r.ID.Name()) {
		return az.Errorf(az.Invalid, "InvalidServerName", "A server's name must have 1 to 63 lower-case letters, digits and dashes, with no dash at either end: it becomes a host name.")
	}
	if r.Location == "" {
		r.Location = arm.DefaultLocation
	}
	if old != nil {
		keepServer(p, &old.Properties)
	}
	r.SKU = or(r.SKU, `{"name":"Standard_D2s_v3","tier":"GeneralPurpose"}`)
	if p.CreateMode != "" && !strings.EqualFold(p.CreateMode, "Default") && !strings.EqualFold(p.CreateMode, "Create") && !strings.EqualFold(p.CreateMode, "Update") {
		return az.Errorf(az.Invalid, "NotSupported", "Replicas and restored servers are not served: createMode must be Default.")
	}
	p.CreateMode = ""
	if err := c.place(ctx, call, r, old); err != nil {
		return err
	}
	if err := c.checkAuthConfig(p); err != nil {
		return err
	}
	switch {
	case p.Hawser == nil:
		return checkDescription(p)
	case p.Hawser.Local != nil:
		return c.checkLocal(ctx, r, old)
	}
	return c.checkAdopted(ctx, call, r, old)
}

// checkAdopted is checkServer for a real server that somebody else runs.
func (c *Connector) checkAdopted(ctx context.Context, call *arm.Call, r, old *arm.Resource[serverProperties]) error {
	p := &r.Properties
	again, err := c.takeCredential(r)
	if err != nil {
		return err
	}
	b := backendOf(r)
	if err := b.check(); err != nil {
		return err
	}
	if old != nil && old.Properties.Hawser != nil && b.same(backendOf(old)) {
		p.Hawser.Unproved = old.Properties.Hawser.Unproved
		return nil // a change of something else must work while the server is away
	}
	if old != nil && !again {
		return az.Errorf(az.Invalid, "PasswordNeeded", "Give administratorLoginPassword again to change where the server is or how it is reached: a password that is kept here is not sent to another server.")
	}
	version, err := c.adoptAs(ctx, call, b)
	if err != nil {
		return err
	}
	p.Version, p.Hawser.SSLMode, p.Hawser.Unproved = version, b.SSLMode, !b.proof
	return nil
}

// actionGive is the right to hand out rights. Who has it at the root may speak
// as the plane itself.
var actionGive = guard.Control("Microsoft.Authorization/roleAssignments/write")

// adoptAs adopts a server for a caller. One that lets the plane in without a
// password does so because of where it runs or as whom (trust, peer): through
// the plane a caller could reach what he has no password for, such as the
// database behind the plane. That needs the right to everything. Later logins
// are held to what was found: the server's name may lead to another by then.
func (c *Connector) adoptAs(ctx context.Context, call *arm.Call, b *backend) (version string, err error) {
	mode := b.SSLMode
	if version, err = b.adopt(ctx); !errors.Is(err, errNoProof) {
		return version, err
	}
	if err := call.Check(ctx, actionGive, az.Root); err != nil {
		return "", err
	}
	b.SSLMode, b.proof = mode, false
	return b.adopt(ctx)
}

// keepServer fills in what a body leaves out.
func keepServer(p, old *serverProperties) {
	if p.AdministratorLogin == "" {
		p.AdministratorLogin = old.AdministratorLogin
	}
	if p.AuthConfig == nil {
		p.AuthConfig = old.AuthConfig
	}
	p.Version = old.Version
}

// takeCredential moves the owner's password to the resource's Secrets and
// takes a URL apart. given: the body brought a password.
func (c *Connector) takeCredential(r *arm.Resource[serverProperties]) (given bool, err error) {
	p := &r.Properties
	h := *p.Hawser // the one given may be another resource's
	p.Hawser = &h
	if h.URL != "" {
		login, password, err := h.takeURL(PostgreSQL.family())
		if err != nil {
			return false, err
		}
		p.AdministratorLogin, p.AdministratorLoginPassword = orText(login, p.AdministratorLogin), orText(password, p.AdministratorLoginPassword)
	}
	h.complete(PostgreSQL.family())
	h.Version = ""
	if p.AdministratorLoginPassword != "" {
		r.Secrets = map[string]az.Secret{passwordSecret: az.NewSecret(p.AdministratorLoginPassword)}
		p.AdministratorLoginPassword = ""
		given = true
	}
	return given, nil
}

// takeURL takes the URL of a real server apart. It is not kept.
func (h *realServer) takeURL(f *family) (login, password string, err error) {
	bad := az.Errorf(az.Invalid, "InvalidServerURL", "The server's URL must have the form %s://owner:password@host:port/database?sslmode=require; in a name or password, write characters such as @ : / as %%40 %%3A %%2F.", f.schemes[0])
	u, err := url.Parse(h.URL)
	h.URL = ""
	if err != nil || !slices.Contains(f.schemes, u.Scheme) || u.Hostname() == "" && u.Query().Get("host") == "" {
		return "", "", bad // the cause would hold the URL
	}
	h.Host = u.Hostname()
	if port := u.Port(); port != "" {
		if h.Port, err = strconv.Atoi(port); err != nil {
			return "", "", bad
		}
	}
	if d := strings.TrimPrefix(u.Path, "/"); d != "" {
		h.Database = d
	}
	for k, v := range u.Query() {
		switch k {
		case "database", "encrypt":
			if err := h.takeParameter(f, k, v[0]); err != nil {
				return "", "", err
			}
		case "sslmode":
			h.SSLMode = v[0]
		case "host":
			h.Host = v[0]
		case "application_name", "connect_timeout", "target_session_attrs", "channel_binding":
		default:
			return "", "", az.Errorf(az.Invalid, "InvalidServerURL", "The parameter %q of the server's URL is not served here; give a CA as caCertificate.", k)
		}
	}
	if u.User != nil {
		login = u.User.Username()
		password, _ = u.User.Password()
	}
	return login, password, nil
}

// takeParameter reads what go-mssqldb has in the URLs of its servers.
func (h *realServer) takeParameter(f *family, name, value string) error {
	written := value
	value = strings.ToLower(value)
	switch {
	case f.kind == SQLServer && name == "database":
		h.Database = written
	case f.kind == SQLServer && value == encryptStrict:
		h.Encrypt = encryptStrict
	case f.kind == SQLServer && (value == "true" || value == "mandatory"):
		h.SSLMode = orText(h.SSLMode, sslVerifyFull)
	case f.kind == SQLServer && value == "disable":
		h.SSLMode = orText(h.SSLMode, sslDisable)
	default:
		return az.Errorf(az.Invalid, "InvalidServerURL", "The parameter %q of the server's URL is not served here; encrypt can be strict, true or disable, for SQL Server, and sslmode says the rest.", name)
	}
	return nil
}

// complete fills in what nobody said, and drops what nobody may say.
func (h *realServer) complete(f *family) {
	h.Unproved = false
	if h.Port == 0 {
		h.Port = f.port
	}
	h.SSLMode, h.Database = orText(h.SSLMode, sslPrefer), orText(h.Database, f.database)
}

func (c *Connector) checkAuthConfig(p *serverProperties) error {
	a := authConfig{ActiveDirectoryAuth: enabled, PasswordAuth: enabled}
	if p.AuthConfig != nil {
		a = *p.AuthConfig
	}
	for _, v := range []*string{&a.ActiveDirectoryAuth, &a.PasswordAuth} {
		switch strings.ToLower(*v) {
		case "", "enabled":
			*v = enabled
		case "disabled":
			*v = disabled
		default:
			return az.Errorf(az.Invalid, "InvalidAuthConfig", "The members of authConfig must be Enabled or Disabled.")
		}
	}
	if a.TenantID != "" && !strings.EqualFold(a.TenantID, c.cfg.Names.Tenant) && !strings.EqualFold(a.TenantID, az.AliasTenant) {
		return az.Errorf(az.Invalid, "InvalidAuthConfig", "authConfig.tenantId is not this plane's tenant.")
	}
	a.TenantID = c.cfg.Names.Tenant
	p.AuthConfig = &a
	return nil
}

func backendOf(r *arm.Resource[serverProperties]) *backend {
	h := r.Properties.Hawser
	return &backend{Host: h.Host, Port: h.Port, SSLMode: h.SSLMode, RootCert: h.CACertificate, Database: h.Database,
		Owner: r.Properties.AdministratorLogin, Password: r.Secrets[passwordSecret], proof: !h.Unproved}
}

// same reports whether two lead to the same server as the same owner.
func (b *backend) same(o *backend) bool {
	return b.Host == o.Host && b.Port == o.Port && b.SSLMode == o.SSLMode && b.RootCert == o.RootCert && b.Database == o.Database &&
		b.Owner == o.Owner && subtle.ConstantTimeCompare([]byte(b.Password.Reveal()), []byte(o.Password.Reveal())) == 1
}

func (b *backend) check() error {
	if b.Password.IsZero() && !strings.HasPrefix(b.Host, "/") {
		return az.Errorf(az.Invalid, "InvalidServer", "The administrator's password is missing: give administratorLoginPassword.")
	}
	if err := b.place().check(); err != nil {
		return err
	}
	if err := checkName("administrator login", b.Owner); err != nil {
		return err
	}
	return checkName("database", b.Database)
}

// check refuses what cannot be the place of a real server of any kind.
func (h *realServer) check() error {
	bad := func(format string, args ...any) error { return az.Errorf(az.Invalid, "InvalidServer", format, args...) }
	switch {
	case h.Host == "" || len(h.Host) > 255 || strings.ContainsAny(h.Host, " \t\r\n\x00,@"):
		return bad("properties.hawser.host must be the name or address of one server, or the directory of its Unix socket.")
	case h.Port < 1 || h.Port > 65535:
		return bad("properties.hawser.port must be from 1 to 65535.")
	case len(h.CACertificate) > maxRootCert:
		return bad("caCertificate may have %d bytes.", maxRootCert)
	}
	switch h.SSLMode {
	case sslDisable, sslPrefer, sslRequire, sslVerifyCA, sslVerifyFull:
	default:
		return bad("properties.hawser.sslMode must be disable, prefer, require, verify-ca or verify-full.")
	}
	_, err := h.tls()
	return err
}

// adopt logs the owner in and finds out whether it can do what is needed. What
// fails here is the request's fault: nothing is stored.
func (b *backend) adopt(ctx context.Context) (version string, err error) {
	conn, err := b.pin(ctx)
	if err != nil {
		return "", asInvalid(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var number int
	var may bool
	err = conn.QueryRow(ctx, `select current_setting('server_version_num')::int, rolsuper or rolcreaterole from pg_roles where rolname = current_user`).Scan(&number, &may)
	if err != nil {
		return "", sqlFault("look at the server", err)
	}
	if number < minVersion {
		return "", az.Errorf(az.Invalid, "ServerTooOld", "The server's PostgreSQL is older than version %d, which is the oldest served here.", minVersion/10000)
	}
	if !may {
		return "", az.Errorf(az.Invalid, "OwnerLacksPrivilege", "The administrator login %q may not create roles: as a superuser, run ALTER ROLE %s CREATEROLE, or give another login.", b.Owner, ident(b.Owner))
	}
	return strconv.Itoa(number / 10000), nil
}

// asInvalid blames the request for an error.
func asInvalid(err error) error {
	var e *az.Error
	if !errors.As(err, &e) {
		return err
	}
	copied := *e
	copied.Kind = az.Invalid
	return &copied
}

// minVersion is the first with SCRAM verifiers (10) and default privileges on
// schemas (10). Source: PostgreSQL release notes.
const minVersion = 100000

// applyServer keeps names unique on the plane: they are host names.
func (c *Connector) applyServer(tx *store.Tx, r, old *arm.Resource[serverProperties]) error {
	if old != nil {
		return nil
	}
	all, err := tx.Resources(store.ResourceQuery{Type: ServerType})
	if err != nil {
		return err
	}
	for _, row := range all {
		if strings.EqualFold(row.ID.Name(), r.ID.Name()) && !row.ID.Equal(r.ID) {
			return az.Errorf(az.Conflict, "ServerNameAlreadyExists", "Specified server name is already used.")
		}
	}
	return nil
}

// restartServer restarts a server that the plane runs itself. Those that
// somebody else runs are his to start and stop.
func (c *Connector) restartServer(ctx context.Context, call *arm.Call, r *arm.Resource[serverProperties]) (any, error) {
	h := r.Properties.Hawser
	if h == nil {
		return nil, c.noBackend(PostgreSQL.family(), r.ID.Name())
	}
	if h.Local == nil || !strings.EqualFold(call.Action(), "restart") {
		return nil, az.Errorf(az.Conflict, "NotSupported", "This server is started and stopped where it runs, not here; a server that the plane runs itself can be restarted, and is started when it is needed.")
	}
	if err := c.locals.elsewhere(r.ID.Name(), h.Local); err != nil {
		return nil, err
	}
	c.locals.rest(h.Local.Instance)
	if _, err := c.real(ctx, r); err != nil {
		return nil, err
	}
	return accepted200, nil
}

// validServerName: the name is a label of a host name, and the gateway finds
// servers by it.
func validServerName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// viewServer shows a server with all the members that az 2.45 asks for
// (wire/arm-graph.md §6).
func (c *Connector) viewServer(_ context.Context, _ *arm.Call, r *arm.Resource[serverProperties]) (any, error) {
	p, state := r.Properties, "Ready"
	if p.Hawser == nil {
		state = "Stopped"
	}
	return map[string]any{
		"administratorLogin":       p.AdministratorLogin,
		"version":                  p.Version,
		"state":                    state,
		"fullyQualifiedDomainName": c.cfg.Names.Of(az.SurfacePostgres, r.ID.Name()),
		"replicationRole":          "Primary",
		"storage":                  or(p.Storage, `{"storageSizeGB":32}`),
		"backup":                   or(p.Backup, `{"backupRetentionDays":7,"geoRedundantBackup":"Disabled"}`),
		"network":                  or(p.Network, `{"publicNetworkAccess":"Enabled"}`),
		"highAvailability":         or(p.HighAvailability, `{"mode":"Disabled","state":"NotEnabled"}`),
		"authConfig":               p.AuthConfig,
		"hawser":                   p.Hawser,
		"availabilityZone":         orText(p.Zone, "1"),
		"maintenanceWindow":        or(p.Maintenance, `{"customWindow":"Disabled","startHour":0,"startMinute":0,"dayOfWeek":0}`),
		"dataEncryption":           map[string]any{"type": "SystemManaged"},
	}, nil
}

// server reads a server with its owner's credential.
func (c *Connector) server(ctx context.Context, id az.ID) (*backend, error) {
	r, err := c.servers.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The PostgreSQL server '%s' was not found. Attach it, or check its name and resource group.", id.Name())
	}
	return c.real(ctx, r)
}

// databaseExists asks the real server.
func databaseExists(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	var there bool
	err := conn.QueryRow(ctx, `select exists (select 1 from pg_database where datname = $1 and datallowconn and not datistemplate)`, name).Scan(&there)
	if err != nil {
		return false, sqlFault("look for the database", err)
	}
	return there, nil
}

// databaseScope is where the right to log in to a database is asked for. The
// name of a database may hold what an id cannot: then it is the server.
func databaseScope(server az.ID, database string) az.ID {
	if strings.ContainsAny(database, "/\x00") {
		return server
	}
	id, err := az.ParseID(fmt.Sprintf("%s/databases/%s", server, database))
	if err != nil {
		return server
	}
	return id
}
