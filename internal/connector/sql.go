package connector

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// SQLServerType is the type of logical servers of Azure SQL.
const SQLServerType = "Microsoft.Sql/servers"

var sqlVersions = []string{"2020-11-01-preview", "2021-02-01-preview", "2022-05-01-preview", "2023-08-01-preview"}

// activeDirectory is the one name of a server's Entra administrator.
const activeDirectory = "ActiveDirectory"

// sqlServerProperties is a logical server. Its login's password is in the
// Secrets.
type sqlServerProperties struct {
	Login    string `json:"administratorLogin,omitempty"`
	Password string `json:"administratorLoginPassword,omitempty"` // Check moves it to the Secrets
	// Administrators is what a PUT may bring; the resource administrators/
	// ActiveDirectory is made of it and is the one truth afterwards.
	Administrators      *sqlAdministrator `json:"administrators,omitempty"`
	MinimalTLSVersion   string            `json:"minimalTlsVersion,omitempty"`
	PublicNetworkAccess string            `json:"publicNetworkAccess,omitempty"`
	RestrictOutbound    string            `json:"restrictOutboundNetworkAccess,omitempty"`
	PrimaryIdentity     string            `json:"primaryUserAssignedIdentityId,omitempty"`
	Hawser              *realServer       `json:"hawser,omitempty"` // nil: a description only
}

type sqlAdministrator struct {
	AdministratorType string `json:"administratorType,omitempty"`
	PrincipalType     string `json:"principalType,omitempty"`
	Login             string `json:"login,omitempty"`
	SID               string `json:"sid,omitempty"`
	TenantID          string `json:"tenantId,omitempty"`
	Only              *bool  `json:"azureADOnlyAuthentication,omitempty"`
}

const sqlNameRule = "A server's name must have 1 to 63 lower-case letters, digits and dashes, with no dash at either end."

func (c *Connector) sqlServerType() *arm.Type[sqlServerProperties] {
	return arm.Define(SQLServerType, sqlVersions, arm.Hooks[sqlServerProperties]{Check: c.checkSQLServer, Apply: c.applySQLServer, View: c.viewSQLServer})
}

func (c *Connector) checkSQLServer(ctx context.Context, call *arm.Call, r, old *arm.Resource[sqlServerProperties]) error {
	p := &r.Properties
	if !validServerName(r.ID.Name()) {
		return az.Errorf(az.Invalid, "InvalidServerName", sqlNameRule)
	}
	located(r)
	r.Kind = "v12.0"
	if err := c.placeSQL(ctx, call, r, old); err != nil {
		return err
	}
	if old != nil {
		switch was := old.Properties.Login; {
		case p.Login == "":
			p.Login = was
		case was != "" && p.Login != was && p.Hawser == nil:
			return az.Errorf(az.Invalid, "ServerAdministratorLoginCannotBeChanged", "The administrator login of a server cannot be changed.")
		}
		p.Administrators = nil // there is a resource for it
	}
	if p.Hawser != nil {
		if err := c.checkSQLAdopted(ctx, r, old); err != nil {
			return err
		}
	} else if err := takePassword(r, &p.Password, p.Login, 8); err != nil {
		return err
	}
	if a := p.Administrators; a != nil && a.Login == "" && a.SID == "" {
		p.Administrators = nil // az sends an empty one
	}
	if p.Administrators == nil {
		if old == nil && p.Login == "" {
			return az.Errorf(az.Invalid, "InvalidParameterValue", "A server needs administratorLogin with administratorLoginPassword, or administrators with login and sid.")
		}
		return nil
	}
	if p.Hawser != nil {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "Name the administrator of a real server once it is attached: az sql server ad-admin create.")
	}
	return c.checkSQLAdministrator(ctx, p.Administrators)
}

// takePassword moves a login's password from a body to the resource's Secrets.
func takePassword[P any](r *arm.Resource[P], given *string, login string, min int) error {
	if *given == "" {
		if login != "" && r.Secrets[passwordSecret].IsZero() {
			return az.Errorf(az.Invalid, "InvalidParameterValue", "administratorLoginPassword is missing.")
		}
		return nil
	}
	if n := len(*given); n < min || n > 128 {
		return az.Errorf(az.Invalid, "PasswordNotComplex", "administratorLoginPassword must have %d to 128 characters.", min)
	}
	if err := checkName("administrator login", login); err != nil {
		return err
	}
	if r.Secrets == nil {
		r.Secrets = map[string]az.Secret{}
	}
	r.Secrets[passwordSecret] = az.NewSecret(*given)
	*given = ""
	return nil
}

func (c *Connector) checkSQLAdministrator(ctx context.Context, a *sqlAdministrator) error {
	if a.AdministratorType = orText(a.AdministratorType, activeDirectory); a.AdministratorType != activeDirectory {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "administratorType must be ActiveDirectory.")
	}
	if a.TenantID != "" && !strings.EqualFold(a.TenantID, c.cfg.Names.Tenant) && !strings.EqualFold(a.TenantID, az.AliasTenant) {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "tenantId is not this plane's tenant.")
	}
	if a.Login == "" || len(a.Login) > 128 {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "The administrator needs a login of at most 128 characters.")
	}
	sid, kind, err := c.principalOrApp(ctx, a.SID)
	if err != nil {
		return err
	}
	a.SID, a.TenantID = sid, c.cfg.Names.Tenant
	a.PrincipalType = map[az.PrincipalKind]string{az.User: "User", az.Group: "Group", az.ServicePrincipal: "Application"}[kind]
	return nil
}

// principalOrApp is principal for Azure SQL, where an application may be named
// by its client id, too. What was given is kept: tokens are compared with it.
func (c *Connector) principalOrApp(ctx context.Context, sid string) (string, az.PrincipalKind, error) {
	oid, kind, err := c.principal(ctx, sid)
	if !az.Is(err, az.Invalid) || !az.IsGUID(strings.ToLower(sid)) {
		return oid, kind, err
	}
	if _, there, ferr := c.cfg.Directory.ByAppID(ctx, strings.ToLower(sid)); ferr != nil || !there {
		return "", "", errorsFirst(ferr, err)
	}
	return strings.ToLower(sid), az.ServicePrincipal, nil
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) applySQLServer(tx *store.Tx, r, old *arm.Resource[sqlServerProperties]) error {
	if old != nil {
		return nil
	}
	if err := onlyOne(tx, SQLServerType, r.ID, az.Errorf(az.Conflict, "NameAlreadyExists", "The name '%s' already exists. Choose a different name.", r.ID.Name())); err != nil {
		return err
	}
	master := &arm.Resource[sqlDatabaseProperties]{ID: r.ID.Child("databases", "master"), Location: r.Location, Kind: "v12.0,system",
		SKU: json.RawMessage(`{"name":"System","tier":"System","capacity":0}`), Created: tx.Now(), Updated: tx.Now()}
	master.Properties.Database, master.Properties.MaxSize, master.Properties.Collation = az.NewGUID(), sqlMaxSize, sqlCollation
	if err := c.sqlDatabases.Write(tx, master); err != nil {
		return err
	}
	a := r.Properties.Administrators
	if a == nil {
		return nil
	}
	r.Properties.Administrators = nil
	admin := &arm.Resource[sqlAdministratorProperties]{ID: r.ID.Child("administrators", activeDirectory), Created: tx.Now(), Updated: tx.Now(), Properties: sqlAdministratorProperties{sqlAdministrator: *a}}
	admin.Properties.Only = nil
	if err := c.sqlAdmins.Write(tx, admin); err != nil || a.Only == nil {
		return err
	}
	return c.sqlOnly.Write(tx, &arm.Resource[sqlOnlyProperties]{ID: r.ID.Child("azureADOnlyAuthentications", "Default"), Created: tx.Now(), Updated: tx.Now(), Properties: sqlOnlyProperties{*a.Only}})
}

func (c *Connector) viewSQLServer(ctx context.Context, _ *arm.Call, r *arm.Resource[sqlServerProperties]) (any, error) {
	p := r.Properties
	more := map[string]any{"version": "12.0", "state": "Ready", "fullyQualifiedDomainName": c.cfg.Names.Of(az.SurfaceSQL, r.ID.Name()), "privateEndpointConnections": []any{},
		"publicNetworkAccess": orText(p.PublicNetworkAccess, enabled), "minimalTlsVersion": orText(p.MinimalTLSVersion, "1.2"), "restrictOutboundNetworkAccess": orText(p.RestrictOutbound, disabled)}
	admin, err := c.sqlAdmins.Load(ctx, r.ID.Child("administrators", activeDirectory))
	if err != nil {
		return nil, err
	}
	if admin != nil {
		a := admin.Properties.sqlAdministrator
		only, err := c.sqlTokensOnly(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		a.Only = &only
		more["administrators"] = a
	}
	return merged(p, more)
}

// sqlTokensOnly reports whether a server takes tokens alone.
func (c *Connector) sqlTokensOnly(ctx context.Context, server az.ID) (bool, error) {
	r, err := c.sqlOnly.Load(ctx, server.Child("azureADOnlyAuthentications", "Default"))
	return r != nil && r.Properties.Only, err
}

func (c *Connector) sqlRoutes(api *arm.API) {
	api.Handle(http.MethodPost, "/subscriptions/{subscription}/providers/Microsoft.Sql/checkNameAvailability", guard.Action{},
		c.serverNameRoute(SQLServerType, sqlNameRule))
	keep(api, SQLServerType+"/databases", "master")
}

// serverNameRoute answers a checkNameAvailability.
func (c *Connector) serverNameRoute(typ, rule string) func(context.Context, *arm.Call) (any, error) {
	return func(ctx context.Context, call *arm.Call) (any, error) {
		var in struct {
			Name string `json:"name"`
		}
		if err := call.Decode(&in); err != nil {
			return nil, err
		}
		reply := map[string]any{"name": in.Name, "available": true, "nameAvailable": true, "reason": nil, "message": ""}
		refuse := func(reason, message string) {
			reply["available"], reply["nameAvailable"], reply["reason"], reply["message"] = false, false, reason, message
		}
		taken, err := c.nameTaken(ctx, typ, in.Name)
		if taken {
			refuse("AlreadyExists", "Specified server name is already used.")
		}
		if !validServerName(in.Name) {
			refuse("Invalid", rule)
		}
		return reply, err
	}
}

// sqlDatabaseProperties is a database of a logical server.
type sqlDatabaseProperties struct {
	Collation     string `json:"collation,omitempty"`
	MaxSize       int64  `json:"maxSizeBytes,omitempty"`
	ZoneRedundant bool   `json:"zoneRedundant,omitempty"`
	LicenseType   string `json:"licenseType,omitempty"`
	ReadScale     string `json:"readScale,omitempty"`
	AutoPause     *int   `json:"autoPauseDelay,omitempty"`
	Backup        string `json:"requestedBackupStorageRedundancy,omitempty"`
	CreateMode    string `json:"createMode,omitempty"`
	Database      string `json:"databaseId,omitempty"`
	Made          string `json:"hawserMade,omitempty"` // by this resource: at which real server
}

// What a database has if nobody says otherwise.
const (
	sqlCollation = "SQL_Latin1_General_CP1_CI_AS"
	sqlMaxSize   = 32 << 30
)

func (c *Connector) sqlDatabaseType() *arm.Type[sqlDatabaseProperties] {
	return arm.Define(SQLServerType+"/databases", sqlVersions, arm.Hooks[sqlDatabaseProperties]{
		Check: c.checkSQLDatabase, View: viewSQLDatabase, Deleting: c.deletingSQLDatabase,
		After: func(ctx context.Context, r, old *arm.Resource[sqlDatabaseProperties]) {
			if old == nil {
				c.administerNew(ctx, r.ID.Parent())
			}
		},
	})
}

func (c *Connector) checkSQLDatabase(ctx context.Context, _ *arm.Call, r, old *arm.Resource[sqlDatabaseProperties]) error {
	p := &r.Properties
	if n := r.ID.Name(); len(n) > 128 || strings.HasSuffix(n, ".") || strings.HasSuffix(n, " ") {
		return az.Errorf(az.Invalid, "InvalidResourceName", "A database's name may have 128 characters and must not end in a dot or blank.")
	}
	if p.CreateMode != "" && !strings.EqualFold(p.CreateMode, "Default") {
		return az.Errorf(az.Invalid, "NotSupported", "Only empty databases are made here; createMode must be Default.")
	}
	if p.MaxSize < 0 {
		return az.Errorf(az.Invalid, "InvalidMaxSize", "maxSizeBytes must not be negative.")
	}
	if old == nil && r.Location == "" {
		server, err := c.sqlServers.Load(ctx, r.ID.Parent())
		if err != nil {
			return err
		}
		if server != nil {
			r.Location = server.Location
		}
	}
	r.Kind = "v12.0,user"
	r.SKU = sqlSKU(r.SKU)
	p.Collation = orText(p.Collation, sqlCollation)
	if p.MaxSize == 0 {
		p.MaxSize = sqlMaxSize
	}
	if p.Database, p.Made = az.NewGUID(), ""; old != nil {
		p.Database, p.Made = old.Properties.Database, old.Properties.Made
	}
	made, err := c.makeSQLDatabase(ctx, r)
	p.Made = orText(made, p.Made)
	return err
}

// sqlSKU adds the tier to a sku that names only a service objective: az's
// tables need it.
func sqlSKU(given json.RawMessage) json.RawMessage {
	var s struct {
		Name     string `json:"name"`
		Tier     string `json:"tier"`
		Family   string `json:"family,omitempty"`
		Capacity int    `json:"capacity,omitempty"`
	}
	_ = json.Unmarshal(given, &s) // the body was decoded already
	if s.Name = orText(s.Name, s.Tier); s.Name == "" {
		s.Name, s.Capacity = "Standard", 10
	}
	if s.Tier == "" {
		s.Tier = "Standard"
		for prefix, tier := range map[string]string{"GP_": "GeneralPurpose", "BC_": "BusinessCritical", "HS_": "Hyperscale", "P": "Premium", "Basic": "Basic"} {
			if strings.HasPrefix(s.Name, prefix) {
				s.Tier = tier
			}
		}
	}
	b, _ := json.Marshal(s) // strings and numbers only
	return b
}

func viewSQLDatabase(_ context.Context, _ *arm.Call, r *arm.Resource[sqlDatabaseProperties]) (any, error) {
	p := r.Properties
	p.CreateMode, p.Made = "", ""
	objective := skuName(r.SKU)
	return merged(p, map[string]any{"status": "Online", "creationDate": r.Created.Time().Format(time.RFC3339Nano), "currentServiceObjectiveName": objective,
		"requestedServiceObjectiveName": objective, "currentSku": r.SKU, "catalogCollation": "SQL_Latin1_General_CP1_CI_AS", "zoneRedundant": p.ZoneRedundant,
		"readScale": orText(p.ReadScale, disabled), "currentBackupStorageRedundancy": orText(p.Backup, "Local"), "requestedBackupStorageRedundancy": orText(p.Backup, "Local"),
		"isLedgerOn": false})
}

// sqlAdministratorProperties is the Entra administrator of a server.
type sqlAdministratorProperties struct {
	sqlAdministrator
	administration
}

func (c *Connector) sqlAdministratorType() *arm.Type[sqlAdministratorProperties] {
	return arm.Define(SQLServerType+"/administrators", sqlVersions, arm.Hooks[sqlAdministratorProperties]{
		NoState: true,
		Check: func(ctx context.Context, call *arm.Call, r, _ *arm.Resource[sqlAdministratorProperties]) error {
			if r.ID.Name() != activeDirectory {
				return az.Errorf(az.Invalid, "InvalidResourceName", "A server's administrator is called ActiveDirectory.")
			}
			p := &r.Properties
			p.Only, p.administration = nil, administration{}
			err := c.checkSQLAdministrator(ctx, &p.sqlAdministrator)
			if err == nil {
				p.administration, err = c.administrateSQL(ctx, call, r.ID, &p.sqlAdministrator)
			}
			return err
		},
		Apply: c.applySQLAdministrator,
		After: func(ctx context.Context, _, old *arm.Resource[sqlAdministratorProperties]) {
			if old != nil {
				c.tidy(ctx, old.Properties.Role)
			}
		},
		Delete: func(tx *store.Tx, r *arm.Resource[sqlAdministratorProperties]) error {
			return c.deleteAdministration(tx, r.ID, &r.Properties.administration)
		},
		Deleted: func(ctx context.Context, r *arm.Resource[sqlAdministratorProperties]) { c.tidy(ctx, r.Properties.Role) },
		Deleting: func(ctx context.Context, call *arm.Call, r *arm.Resource[sqlAdministratorProperties]) error {
			server := r.ID.Parent()
			only, err := c.sqlTokensOnly(ctx, server)
			if err == nil && only && call.Direct() {
				err = az.Errorf(az.Invalid, "AadOnlyAuthenticationIsEnabled", "The server takes tokens only: it cannot be without an administrator. Turn that off first (az sql server ad-only-auth disable).")
			}
			return err
		},
		View: func(ctx context.Context, _ *arm.Call, r *arm.Resource[sqlAdministratorProperties]) (any, error) {
			a := r.Properties.sqlAdministrator
			only, err := c.sqlTokensOnly(ctx, r.ID.Parent())
			a.Only = &only
			return a, err
		},
	})
}

// sqlOnlyProperties says whether a server takes tokens alone.
type sqlOnlyProperties struct {
	Only bool `json:"azureADOnlyAuthentication"`
}

func (c *Connector) sqlOnlyType() *arm.Type[sqlOnlyProperties] {
	return arm.Define(SQLServerType+"/azureADOnlyAuthentications", sqlVersions, arm.Hooks[sqlOnlyProperties]{
		NoState: true,
		Check: func(ctx context.Context, _ *arm.Call, r, _ *arm.Resource[sqlOnlyProperties]) error {
			if r.ID.Name() != "Default" {
				return az.Errorf(az.Invalid, "InvalidResourceName", "The resource is called Default.")
			}
			admin, err := c.sqlAdmins.Load(ctx, r.ID.Parent().Child("administrators", activeDirectory))
			if err == nil && r.Properties.Only && admin == nil {
				err = az.Errorf(az.Invalid, "AadOnlyAuthenticationNoAdmin", "A server that takes tokens only needs an administrator first (az sql server ad-admin create).")
			}
			return err
		},
	})
}
