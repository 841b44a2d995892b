package site

import (
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Variable is one environment variable of an app's process. Its value may be
// a secret, so it prints its name only.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String hides the value.
func (v Variable) String() string { return v.Name + "=" + az.Redacted }

// GoString hides the value.
func (v Variable) GoString() string { return v.String() }

// connectionPrefixes are what stands before a connection string's name.
// Source: wire/app-settings.md §3.
var connectionPrefixes = map[string]string{
	"SQLServer":       "SQLCONNSTR_",
	"SQLAzure":        "SQLAZURECONNSTR_",
	"MySql":           "MYSQLCONNSTR_",
	"PostgreSQL":      "POSTGRESQLCONNSTR_",
	"Custom":          "CUSTOMCONNSTR_",
	"ServiceBus":      "SERVICEBUSCONNSTR_",
	"EventHub":        "EVENTHUBCONNSTR_",
	"NotificationHub": "NOTIFICATIONHUBCONNSTR_",
	"DocDb":           "DOCDBCONNSTR_",
	"RedisCache":      "REDISCACHECONNSTR_",
	"ApiHub":          "APIHUBCONNSTR_",
}

// connectionType returns the type's own spelling; ok is false for no type.
func connectionType(s string) (string, bool) {
	if _, ok := connectionPrefixes[s]; ok {
		return s, true
	}
	for t := range connectionPrefixes {
		if strings.EqualFold(t, s) {
			return t, true
		}
	}
	return "", false
}

// variableName is a setting's name as Linux App Service puts it into the
// environment: a colon becomes two underscores, a dot one.
var variableName = strings.NewReplacer(":", "__", ".", "_").Replace

// facts are what the platform itself tells the process. Each is true of this
// plane, or it is not there: no REGION_NAME, because MSAL would take it for an
// Azure region and send tokens' requests to {region}.login.microsoft.com; no
// WEBSITE_INSTANCE_ID, HOME or PORT, because the plane does not know the
// machine.
func facts(id az.ID, location, sku string, names az.Names) []Variable {
	owner := id.Subscription() + "+" + id.ResourceGroup() + "-" + strings.ReplaceAll(location, " ", "") + "webspace-Linux"
	vars := []Variable{
		{"APPSETTING_WEBSITE_SITE_NAME", id.Name()}, // az login --identity knows App Service by this one
		{"WEBSITE_DEPLOYMENT_ID", id.Name()},
		{"WEBSITE_HOSTNAME", names.HostPort(names.Of(az.SurfaceSites, id.Name()))},
		{"WEBSITE_OWNER_NAME", owner},
		{"WEBSITE_RESOURCE_GROUP", id.ResourceGroup()},
		{"WEBSITE_SITE_NAME", id.Name()},
		{"WEBSITE_SLOT_NAME", "Production"},
	}
	if sku != "" {
		vars = append(vars, Variable{"WEBSITE_SKU", sku})
	}
	return vars
}

// variables builds the environment, sorted by name, from values in which the
// references are already replaced. Where two names meet after the mapping, the
// one that needed none wins, then the first in order; the platform's own facts
// win over all, as on App Service.
func variables(settings map[string]string, connections map[string]ConnectionString, platform []Variable) []Variable {
	env := make(map[string]string, 2*len(settings)+len(connections)+len(platform))
	for _, exact := range []bool{true, false} {
		for _, name := range sortedKeys(settings) {
			mapped := variableName(name)
			if _, taken := env[mapped]; taken || (mapped == name) != exact {
				continue
			}
			env[mapped] = settings[name]
			env["APPSETTING_"+mapped] = settings[name]
		}
	}
	for _, exact := range []bool{true, false} {
		for _, name := range sortedKeys(connections) {
			mapped := variableName(name)
			key := connectionPrefixes[connections[name].Type] + mapped
			if _, taken := env[key]; !taken && (mapped == name) == exact {
				env[key] = connections[name].Value
			}
		}
	}
	for _, v := range platform {
		env[v.Name] = v.Value
	}
	out := make([]Variable, 0, len(env))
	for name, value := range env {
		out = append(out, Variable{name, value})
	}
	slices.SortFunc(out, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
