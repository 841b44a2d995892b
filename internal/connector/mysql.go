package connector

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// MySQLServerType is the type of MySQL flexible servers.
const MySQLServerType = "Microsoft.DBforMySQL/flexibleServers"

var mysqlVersions = []string{"2021-12-01-preview", "2023-06-30", "2023-12-30"}

// mysqlServerProperties is a MySQL flexible server. Its login's password is in
// the Secrets.
type mysqlServerProperties struct {
	Login            string          `json:"administratorLogin,omitempty"`
	Password         string          `json:"administratorLoginPassword,omitempty"` // Check moves it to the Secrets
	Version          string          `json:"version,omitempty"`
	Zone             string          `json:"availabilityZone,omitempty"`
	Storage          json.RawMessage `json:"storage,omitempty"`
	Backup           json.RawMessage `json:"backup,omitempty"`
	Network          json.RawMessage `json:"network,omitempty"`
	HighAvailability json.RawMessage `json:"highAvailability,omitempty"`
	Maintenance      json.RawMessage `json:"maintenanceWindow,omitempty"`
	CreateMode       string          `json:"createMode,omitempty"`
	Hawser           *realServer     `json:"hawser,omitempty"` // nil: a description only
}

func (c *Connector) mysqlServerType() *arm.Type[mysqlServerProperties] {
	done := arm.ResourceAction[mysqlServerProperties]{Run: func(_ context.Context, _ *arm.Call, r *arm.Resource[mysqlServerProperties]) (any, error) {
		if r.Properties.Hawser != nil {
			return nil, az.Errorf(az.Conflict, "NotSupported", "This server is started and stopped where it runs, not here.")
		}
		return nil, az.Errorf(az.Conflict, "ServerHasNoBackend", "No MySQL server stands behind this resource yet: there is nothing to start, stop or restart.")
	}}
	return arm.Define(MySQLServerType, mysqlVersions, arm.Hooks[mysqlServerProperties]{
		Check: c.checkMySQLServer, Apply: c.applyMySQLServer, View: c.viewMySQLServer,
		Actions: map[string]arm.ResourceAction[mysqlServerProperties]{"start": done, "stop": done, "restart": done},
	})
}

func (c *Connector) checkMySQLServer(ctx context.Context, call *arm.Call, r, old *arm.Resource[mysqlServerProperties]) error {
	p := &r.Properties
	if !validServerName(r.ID.Name()) || len(r.ID.Name()) < 3 {
		return az.Errorf(az.Invalid, "InvalidServerName", "A server's name must have 3 to 63 lower-case letters, digits and dashes, with no dash at either end.")
	}
	located(r)
	if old != nil {
		p.Version = orText(p.Version, old.Properties.Version)
	}
	switch p.Version = orText(p.Version, "8.0.21"); p.Version {
	case "5.7", "8.0.21":
	default:
		return az.Errorf(az.Invalid, "InvalidParameterValue", "version must be 5.7 or 8.0.21.")
	}
	if p.CreateMode != "" && !strings.EqualFold(p.CreateMode, "Default") && !strings.EqualFold(p.CreateMode, "Create") {
		return az.Errorf(az.Invalid, "NotSupported", "Only empty servers are made here: replicas and restored servers are not served.")
	}
	r.SKU = or(r.SKU, `{"name":"Standard_B1ms","tier":"Burstable"}`)
	if err := c.placeMySQL(ctx, call, r, old); err != nil {
		return err
	}
	if old != nil {
		if p.Login == "" {
			p.Login = old.Properties.Login
		} else if p.Login != old.Properties.Login && p.Hawser == nil {
			return az.Errorf(az.Invalid, "InvalidParameterValue", "The administrator login of a server cannot be changed.")
		}
	}
	if p.Login == "" {
		return az.Errorf(az.Invalid, "InvalidParameterValue", "administratorLogin is missing.")
	}
	if p.Hawser != nil {
		return c.checkMySQLAdopted(ctx, call, r, old)
	}
	return takePassword(r, &p.Password, p.Login, 8)
}

// mysqlSettings are the server parameters that a MySQL server begins with.
// Source: "Server parameters in Azure Database for MySQL - Flexible Server".
var mysqlSettings = map[string]mysqlSettingProperties{
	"aad_auth_only":            {Default: "OFF", Type: "Enumeration", Allowed: "ON,OFF", About: "Only Microsoft Entra authentication is allowed."},
	"require_secure_transport": {Default: "ON", Type: "Enumeration", Allowed: "ON,OFF", About: "Whether client connections to the server are required to use some form of secure transport."},
	"max_connections":          {Default: "171", Type: "Integer", Allowed: "10-341", About: "The number of simultaneous client connections allowed."},
	"tls_version":              {Default: "TLSv1.2", Type: "Set", Allowed: "TLSv1.2,TLSv1.3", About: "Which protocols the server permits for encrypted connections."},
	"wait_timeout":             {Default: "28800", Type: "Integer", Allowed: "1-31536000", About: "The number of seconds the server waits for activity on a noninteractive connection before closing it."},
}

func (c *Connector) applyMySQLServer(tx *store.Tx, r, old *arm.Resource[mysqlServerProperties]) error {
	if old != nil {
		return nil
	}
	if err := onlyOne(tx, MySQLServerType, r.ID, az.Errorf(az.Conflict, "ServerNameAlreadyExists", "Specified server name is already used.")); err != nil {
		return err
	}
	for name, p := range mysqlSettings {
		p.Value, p.Source = p.Default, "system-default"
		if err := c.mysqlSettings.Write(tx, &arm.Resource[mysqlSettingProperties]{ID: r.ID.Child("configurations", name), Properties: p, Created: tx.Now(), Updated: tx.Now()}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) viewMySQLServer(_ context.Context, _ *arm.Call, r *arm.Resource[mysqlServerProperties]) (any, error) {
	p := r.Properties
	p.CreateMode = ""
	return merged(p, map[string]any{
		"state": "Ready", "fullyQualifiedDomainName": c.cfg.Names.Of(az.SurfaceMySQL, r.ID.Name()), "replicationRole": "None", "replicaCapacity": 10,
		"availabilityZone":  orText(p.Zone, "1"),
		"storage":           or(p.Storage, `{"storageSizeGB":32,"iops":396,"autoGrow":"Enabled","autoIoScaling":"Disabled","storageSku":"Premium_LRS"}`),
		"backup":            or(p.Backup, `{"backupRetentionDays":7,"geoRedundantBackup":"Disabled"}`),
		"network":           mysqlNetwork(p.Network),
		"highAvailability":  or(p.HighAvailability, `{"mode":"Disabled","state":"NotEnabled","standbyAvailabilityZone":""}`),
		"maintenanceWindow": or(p.Maintenance, `{"customWindow":"Disabled","startHour":0,"startMinute":0,"dayOfWeek":0}`),
	})
}

// mysqlNetwork adds what a body does not bring.
func mysqlNetwork(given json.RawMessage) any {
	n := map[string]any{}
	_ = json.Unmarshal(given, &n) // null and other forms are none
	if n == nil {
		n = map[string]any{}
	}
	if n["publicNetworkAccess"] == nil {
		n["publicNetworkAccess"] = enabled
	}
	return n
}

// mysqlSettingProperties is a server parameter.
type mysqlSettingProperties struct {
	Value   string `json:"value"`
	Default string `json:"defaultValue"`
	Type    string `json:"dataType"`
	Allowed string `json:"allowedValues"`
	Source  string `json:"source"`
	About   string `json:"description"`
}

func (c *Connector) mysqlSettingType() *arm.Type[mysqlSettingProperties] {
	return arm.Define(MySQLServerType+"/configurations", mysqlVersions, arm.Hooks[mysqlSettingProperties]{
		NoState: true,
		Check: func(_ context.Context, _ *arm.Call, r, old *arm.Resource[mysqlSettingProperties]) error {
			if old == nil {
				return az.Errorf(az.NotFound, "ConfigurationNotExists", "The server has no parameter '%s'.", r.ID.Name())
			}
			value := r.Properties.Value
			r.Properties = old.Properties
			if r.Properties.Value = orText(value, old.Properties.Default); !mysqlAllows(r.Properties.Allowed, r.Properties.Value) {
				return az.Errorf(az.Invalid, "InvalidParameterValue", "The value of %s must be of %s.", r.ID.Name(), r.Properties.Allowed)
			}
			if r.Properties.Source = "user-override"; value == "" {
				r.Properties.Source = "system-default"
			}
			return nil
		},
	})
}

func (c *Connector) mysqlRoutes(api *arm.API) {
	const provider = "/subscriptions/{subscription}/providers/Microsoft.DBforMySQL/"
	for _, path := range []string{"checkNameAvailability", "locations/{location}/checkNameAvailability"} {
		api.Handle(http.MethodPost, provider+path, guard.Action{}, c.serverNameRoute(MySQLServerType, sqlNameRule))
	}
	api.Handle(http.MethodGet, provider+"locations/{location}/capabilities", guard.Action{}, func(context.Context, *arm.Call) (any, error) { return mysqlCapabilities, nil })
	api.HandleOwn(http.MethodGet, "{scope}/providers/Microsoft.DBforMySQL/flexibleServers/{server}/replicas", c.noReplicas(MySQLServerType))
	for name := range mysqlSettings {
		keep(api, MySQLServerType+"/configurations", name)
	}
}

// noReplicas lists the replicas of a server, which here never has one.
func (c *Connector) noReplicas(typ string) func(context.Context, *arm.Call) (any, error) {
	right := guard.Control(typ + "/replicas/read")
	return func(ctx context.Context, call *arm.Call) (any, error) {
		if err := call.Check(ctx, right, ownerOf(call, typ)); err != nil {
			return nil, err
		}
		return map[string]any{"value": []any{}}, nil
	}
}

// ownerOf is the server in the address of an exact route.
func ownerOf(call *arm.Call, typ string) az.ID {
	ns, kind, _ := strings.Cut(typ, "/")
	return call.ID.Child("providers", ns, kind, call.Param("server"))
}
