package connector

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// How a connection's client authenticates, by Azure's words. Source:
// Microsoft.ServiceLinker, AuthInfoBase.authType.
const (
	authSystem    = "systemAssignedIdentity"
	authUser      = "userAssignedIdentity"
	authSecret    = "secret"
	authPrincipal = "servicePrincipalSecret"
)

// target is what the settings of a connection tell an app.
type target struct {
	Kind       string // "" is PostgreSQL
	Auth       string // authSystem, authUser, authPrincipal or authSecret
	Client     string // clientType as given
	Connection string // the linker's name
	Host       string
	Port       int
	Database   string
	User       string
	ClientID   string    // of a user-assigned identity or an application
	Password   az.Secret // of authSecret: password or key; or a reference to it. Of authPrincipal: the application's
	Prefix     string    // AZURE_POSTGRESQL_ or AZURE_POSTGRESQL_{CONNECTION}_
	Tenant     string
	Account    string // the name of what is connected to
	Endpoint   string // its URL, with a slash at the end
	Suffix     string // of storage accounts: what follows the service in a host name
	Management string // origin of the management API
	Resource   az.ID  // what is connected to
	Clear      bool   // the real server, which a key leads to, does not do TLS
}

// setting is one setting of a connection. Secret is given instead of Value
// where the value holds a password.
type setting struct {
	Name             string
	Value            string
	Secret           az.Secret
	ConnectionString bool // it belongs into the site's connection strings
	Description      string
}

// reveal returns the value, secret or not.
func (s setting) reveal() string {
	if !s.Secret.IsZero() {
		return s.Secret.Reveal()
	}
	return s.Value
}

// prefix is what the names of a connection's settings begin with; the second
// connection to PostgreSQL of a site carries its own name in them.
// Source: wire/service-connector.md §3.
const prefix = "AZURE_POSTGRESQL_"

func ownPrefix(kind, connection string) string {
	up := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(connection))
	return kind + up + "_"
}

// clients are the client types and what writes their settings. Source:
// wire/service-connector.md §3, PostgreSQL.
var clients = map[string]func(target) []setting{
	"dotnet":                  dotnet,
	"dotnet-connectionstring": dotnetConnectionString,
	"go":                      keywords("host", "dbname", "sslmode", "user"),
	"java":                    jdbc,
	"nodejs":                  node,
	"php":                     keywords("host", "port", "dbname", "sslmode", "user"),
	"ruby":                    keywords("host", "port", "dbname", "sslmode", "user"),
	"python":                  keywords("dbname", "host", "port", "sslmode", "user"),
	"django":                  django,
	"springboot":              springBoot,
	"none":                    parts,
}

// checkClient refuses a client type without settings; "" means none.
func checkClient(client string) (string, error) {
	if client == "" {
		return "none", nil
	}
	if clients[strings.ToLower(client)] == nil {
		return "", az.Errorf(az.Invalid, "InvalidClientType",
			"The client type %q is not served; use one of dotnet, dotnet-connectionString, go, java, nodejs, php, python, django, ruby, springBoot, none.", client)
	}
	return client, nil
}

// settings are the settings of a connection.
func (t target) settings() []setting { return kindNamed(t.Kind).settings(t) }

func postgresSettings(t target) []setting {
	out := clients[strings.ToLower(t.Client)](t)
	if !strings.EqualFold(t.Client, "springBoot") {
		out = append(out, t.identity()...)
	}
	return out
}

func (t target) plain(name, value string) setting {
	return setting{Name: t.Prefix + name, Value: value}
}

// with makes a setting whose value goes on with a password under authSecret.
func (t target) with(name, value, withPassword string) setting {
	if t.Auth != authSecret {
		return setting{Name: t.Prefix + name, Value: value}
	}
	return setting{Name: t.Prefix + name, Secret: az.NewSecret(value + withPassword)}
}

func (t target) password(name string) []setting {
	if t.Auth != authSecret {
		return nil
	}
	return []setting{{Name: name, Secret: t.Password}}
}

func (t target) port() string { return strconv.Itoa(t.Port) }

func dotnet(t target) []setting {
	v := fmt.Sprintf("Server=%s;Database=%s;Port=%d;Ssl Mode=Require;User Id=%s;",
		adoValue(t.Host), adoValue(t.Database), t.Port, adoValue(t.User))
	return []setting{t.with("CONNECTIONSTRING", v, "Password="+adoValue(t.Password.Reveal())+";")}
}

func dotnetConnectionString(t target) []setting {
	out := dotnet(t)
	out[0].ConnectionString = true
	return out
}

// adoValue quotes a value of an ADO.NET connection string where it needs it.
// Source: learn.microsoft.com, DbConnectionStringBuilder, escaping.
func adoValue(s string) string {
	if !strings.ContainsAny(s, ";'\"= \t") {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// keywords writes libpq's form with its words in the order of the table. The
// go form has no port in Azure, where it is always 5432; here it is added when
// it is another one.
func keywords(order ...string) func(target) []setting {
	return func(t target) []setting {
		words := make([]string, 0, len(order)+1)
		hasPort := false
		for _, w := range order {
			v := map[string]string{"host": t.Host, "port": t.port(), "dbname": t.Database, "sslmode": "require", "user": t.User}[w]
			hasPort = hasPort || w == "port"
			words = append(words, w+"="+libpqValue(v))
		}
		if !hasPort && t.Port != 5432 {
			words = append(words, "port="+t.port())
		}
		return []setting{t.with("CONNECTIONSTRING", strings.Join(words, " "), " password="+libpqValue(t.Password.Reveal()))}
	}
}

// libpqValue quotes a value of a keyword/value string where it needs it.
// Source: PostgreSQL documentation, 34.1.1.1.
func libpqValue(s string) string {
	if s != "" && !strings.ContainsAny(s, ` '\`+"\t") {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func (t target) jdbcURL() string {
	return fmt.Sprintf("jdbc:postgresql://%s:%d/%s?sslmode=require", t.Host, t.Port, url.PathEscape(t.Database))
}

func jdbc(t target) []setting {
	v := t.jdbcURL() + "&user=" + url.QueryEscape(t.User)
	return []setting{t.with("CONNECTIONSTRING", v, "&password="+url.QueryEscape(t.Password.Reveal()))}
}

func node(t target) []setting {
	out := []setting{t.plain("HOST", t.Host), t.plain("USER", t.User), t.plain("DATABASE", t.Database),
		t.plain("PORT", t.port()), t.plain("SSL", "true")}
	return append(out, t.password(t.Prefix+"PASSWORD")...)
}

// django has no port in Azure's table; here it is added when it is not 5432.
func django(t target) []setting {
	out := []setting{t.plain("NAME", t.Database), t.plain("HOST", t.Host), t.plain("USER", t.User)}
	if t.Port != 5432 {
		out = append(out, t.plain("PORT", t.port()))
	}
	return append(out, t.password(t.Prefix+"PASSWORD")...)
}

func parts(t target) []setting {
	out := []setting{t.plain("HOST", t.Host), t.plain("USERNAME", t.User), t.plain("DATABASE", t.Database),
		t.plain("PORT", t.port()), t.plain("SSL", "true")}
	return append(out, t.password(t.Prefix+"PASSWORD")...)
}

func springBoot(t target) []setting { return t.spring(t.jdbcURL()) }
