package connector

import (
	"context"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// ConfigurationType is the type of a server's parameters. They are no
// resources of the plane: the real server is asked each time.
const ConfigurationType = ServerType + "/configurations"

var actionReadConfiguration = guard.Control(ConfigurationType + "/read")

// parameter is a server parameter on the wire.
type parameter struct {
	ID         string              `json:"id"`
	Name       string              `json:"name"`
	Type       string              `json:"type"`
	Properties parameterProperties `json:"properties"`
}

type parameterProperties struct {
	Value         string `json:"value"`
	Description   string `json:"description"`
	DefaultValue  string `json:"defaultValue"`
	DataType      string `json:"dataType"`
	AllowedValues string `json:"allowedValues"`
	Source        string `json:"source"`
	IsDynamic     bool   `json:"isDynamicConfig"`
	IsReadOnly    bool   `json:"isReadOnly"`
	PendingReboot bool   `json:"isConfigPendingRestart"`
	Unit          string `json:"unit,omitempty"`
}

// parametersSQL reads what every role may read; values that only superusers
// see (where files lie, say) stay out of it.
const parametersSQL = `select name::text, coalesce(setting, ''), short_desc, coalesce(boot_val, ''), vartype,
	coalesce(case when vartype in ('integer', 'real') then min_val || '-' || max_val when vartype = 'bool' then 'on,off' else array_to_string(enumvals, ',') end, ''),
	case when source = 'default' then 'system-default' else 'user-override' end, context not in ('postmaster', 'internal'), context = 'internal', pending_restart, coalesce(unit, '')
	from pg_settings where ($1 = '' or name = $1) and name <> all($2) order by 1`

// hiddenParameters say where things lie on the server's machine.
var hiddenParameters = []string{"config_file", "data_directory", "external_pid_file", "hba_file", "ident_file", "unix_socket_directories",
	"log_directory", "log_filename", "primary_conninfo", "ssl_passphrase_command", "archive_command", "restore_command", "krb_server_keyfile",
	"dynamic_library_path", "session_preload_libraries", "shared_preload_libraries", "local_preload_libraries",
	"archive_cleanup_command", "recovery_end_command", "ssl_key_file", "ssl_cert_file", "ssl_ca_file", "ssl_crl_file", "ssl_crl_dir", "ssl_dh_params_file"}

func (c *Connector) parameterRoutes(api *arm.API) {
	const path = "{scope}/providers/Microsoft.DBforPostgreSQL/flexibleServers/{server}/configurations"
	api.HandleOwn(http.MethodGet, path, c.listParameters)
	api.HandleOwn(http.MethodGet, path+"/{parameter}", c.showParameter)
	for _, method := range []string{http.MethodPut, http.MethodPatch} {
		api.HandleOwn(method, path+"/{parameter}", func(ctx context.Context, call *arm.Call) (any, error) {
			if err := call.Check(ctx, guard.Control(ConfigurationType+"/write"), ownerOf(call, ServerType)); err != nil {
				return nil, err
			}
			return nil, az.Errorf(az.Unsupported, "NotSupported", "Server parameters are set on the server itself: some of them run programs there, which is not for a role in a subscription to do.")
		})
	}
}

func (c *Connector) listParameters(ctx context.Context, call *arm.Call) (any, error) {
	all, err := c.parameters(ctx, call, "")
	return map[string]any{"value": all}, err
}

func (c *Connector) showParameter(ctx context.Context, call *arm.Call) (any, error) {
	name := strings.ToLower(call.Param("parameter"))
	all, err := c.parameters(ctx, call, name)
	if err == nil && len(all) == 0 {
		err = az.Errorf(az.NotFound, "ConfigurationNotExists", "The server has no parameter of this name that can be shown.")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (c *Connector) parameters(ctx context.Context, call *arm.Call, name string) ([]parameter, error) {
	id := ownerOf(call, ServerType)
	if err := call.Check(ctx, actionReadConfiguration, id); err != nil {
		return nil, err
	}
	srv, err := c.server(ctx, id)
	if err != nil {
		return nil, err
	}
	conn, err := srv.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, parametersSQL, name, hiddenParameters)
	if err != nil {
		return nil, sqlFault("read the server's parameters", err)
	}
	all := []parameter{}
	var p parameter
	v := &p.Properties
	_, err = pgx.ForEachRow(rows, []any{&p.Name, &v.Value, &v.Description, &v.DefaultValue, &v.DataType, &v.AllowedValues, &v.Source, &v.IsDynamic, &v.IsReadOnly, &v.PendingReboot, &v.Unit}, func() error {
		p.ID, p.Type = id.Child("configurations", p.Name).String(), ConfigurationType
		v.DataType = map[string]string{"bool": "Boolean", "integer": "Integer", "real": "Numeric", "enum": "Enumeration"}[v.DataType]
		v.DataType = orText(v.DataType, "String")
		all = append(all, p)
		return nil
	})
	if err != nil {
		return nil, sqlFault("read the server's parameters", err)
	}
	return all, nil
}
