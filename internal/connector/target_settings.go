package connector

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// The settings of the targets besides PostgreSQL. Source of every name and
// value: wire/service-connector.md §3.

const managementScope = "https://management.azure.com/.default"

// secret is a setting that holds one.
func (t target) secret(name, value string) setting {
	return setting{Name: t.Prefix + name, Secret: az.NewSecret(value)}
}

// identity says which identity to use, where the kind's own settings don't.
func (t target) identity() []setting {
	switch t.Auth {
	case authUser:
		return []setting{t.plain("CLIENTID", t.ClientID)}
	case authPrincipal:
		return []setting{t.plain("CLIENTID", t.ClientID), {Name: t.Prefix + "CLIENTSECRET", Secret: t.Password}, t.plain("TENANTID", t.Tenant)}
	}
	return nil
}

func storageSettings(service string) func(target) []setting {
	return func(t target) []setting {
		if t.Auth != authSecret {
			return append([]setting{t.plain("RESOURCEENDPOINT", t.Endpoint)}, t.identity()...)
		}
		if strings.EqualFold(t.Client, "springBoot") && (service == "blob" || service == "file") {
			return []setting{{Name: "azure.storage.account-name", Value: t.Account}, {Name: "azure.storage.account-key", Secret: t.Password},
				{Name: "azure.storage." + service + "-endpoint", Value: t.Endpoint}}
		}
		// The service's own endpoint is named as well: it wins over the suffix,
		// which cannot say which port a plane has.
		return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("DefaultEndpointsProtocol=https;AccountName=%s;AccountKey=%s;EndpointSuffix=%s%s",
			t.Account, t.Password.Reveal(), t.Suffix, t.ownEndpoint(service)))}
	}
}

// ownEndpoint is the member of a storage connection string that names the
// service, left out where its name and the default port are enough.
func (t target) ownEndpoint(service string) string {
	if t.Endpoint == "https://"+t.Account+"."+service+"."+t.Suffix+"/" {
		return ""
	}
	return ";" + strings.ToUpper(service[:1]) + service[1:] + "Endpoint=" + t.Endpoint
}

func vaultSettings(t target) []setting {
	return append([]setting{t.plain("RESOURCEENDPOINT", t.Endpoint), t.plain("SCOPE", managementScope)}, t.identity()...)
}

func cosmosSettings(t target) []setting {
	if t.Auth == authSecret {
		return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("AccountEndpoint=%s;AccountKey=%s", t.Endpoint, t.Password.Reveal()))}
	}
	return append([]setting{t.plain("RESOURCEENDPOINT", t.Endpoint),
		t.plain("LISTCONNECTIONSTRINGURL", t.Management+t.Resource.String()+"/listConnectionStrings?api-version=2021-04-15"),
		t.plain("SCOPE", managementScope)}, t.identity()...)
}

func redisSettings(t target) []setting {
	key := t.Password.Reveal()
	switch strings.ToLower(t.Client) {
	case "dotnet", "dotnet-connectionstring":
		s := t.secret("CONNECTIONSTRING", fmt.Sprintf("%s:%d,password=%s,ssl=True,defaultDatabase=%s", t.Host, t.Port, key, t.Database))
		s.ConnectionString = !strings.EqualFold(t.Client, "dotnet")
		return []setting{s}
	case "springboot":
		return []setting{{Name: "spring.redis.host", Value: t.Host}, {Name: "spring.redis.port", Value: t.port()}, {Name: "spring.redis.database", Value: t.Database},
			{Name: "spring.redis.password", Secret: t.Password}, {Name: "spring.redis.ssl", Value: "true"}}
	}
	return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("rediss://:%s@%s:%d/%s", url.QueryEscape(key), t.Host, t.Port, t.Database))}
}

func mysqlClient(t target) []setting {
	u, h, d := t.User, t.Host, t.Database
	var out []setting
	one := func(value, withPassword string) { out = []setting{t.with("CONNECTIONSTRING", value, withPassword)} }
	password := t.Password.Reveal()
	switch strings.ToLower(t.Client) {
	case "dotnet", "dotnet-connectionstring":
		one(fmt.Sprintf("Server=%s;Database=%s;Port=%d;User Id=%s;SSL Mode=Required;", adoValue(h), adoValue(d), t.Port, adoValue(u)), "Password="+adoValue(password)+";")
		out[0].ConnectionString = !strings.EqualFold(t.Client, "dotnet")
	case "java":
		one(t.mysqlURL()+"&user="+url.QueryEscape(u), "&password="+url.QueryEscape(password))
	case "python", "django":
		out = append([]setting{t.plain("NAME", d), t.plain("HOST", h), t.plain("USER", u)}, t.password(t.Prefix+"PASSWORD")...)
	case "go":
		if t.Auth == authSecret {
			out = []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("%s:%s@tcp(%s:%d)/%s?tls=true", u, password, h, t.Port, d))}
		} else {
			out = []setting{t.plain("CONNECTIONSTRING", fmt.Sprintf("%s@tcp(%s:%d)/%s?tls=true", u, h, t.Port, d))}
		}
	case "nodejs":
		out = append([]setting{t.plain("HOST", h), t.plain("USER", u), t.plain("DATABASE", d), t.plain("PORT", t.port()), t.plain("SSL", "true")}, t.password(t.Prefix+"PASSWORD")...)
	case "php":
		out = append([]setting{t.plain("DBNAME", d), t.plain("HOST", h), t.plain("PORT", t.port()), t.plain("FLAG", "MYSQL_CLIENT_SSL"), t.plain("USERNAME", u)}, t.password(t.Prefix+"PASSWORD")...)
	case "ruby":
		out = append([]setting{t.plain("DATABASE", d), t.plain("HOST", h), t.plain("USERNAME", u), t.plain("SSLMODE", "required")}, t.password(t.Prefix+"PASSWORD")...)
	case "springboot":
		return t.spring(t.mysqlURL())
	default:
		out = parts(t)
	}
	return append(out, t.identity()...)
}

func (t target) mysqlURL() string {
	return fmt.Sprintf("jdbc:mysql://%s:%d/%s?sslmode=required", t.Host, t.Port, url.PathEscape(t.Database))
}

// sqlSettings: the passwordless forms of .NET are those of Microsoft's present
// tutorial (Authentication=Active Directory Default); Go's is go-mssqldb's.
func sqlSettings(t target) []setting {
	h, d, u, p := t.Host, t.Database, t.User, t.Password.Reveal()
	secret := t.Auth == authSecret
	own := t.Auth == authUser || t.Auth == authPrincipal // the client id says who
	switch strings.ToLower(t.Client) {
	case "dotnet", "dotnet-connectionstring":
		out := t.sqlDotnet(own)
		out[0].ConnectionString = !strings.EqualFold(t.Client, "dotnet")
		return out
	case "java", "springboot":
		return t.sqlJava(own)
	case "go":
		if secret {
			return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("server=%s;port=%d;database=%s;user id=%s;password=%s;", h, t.Port, d, u, p))}
		}
		return append([]setting{t.plain("CONNECTIONSTRING", fmt.Sprintf("server=%s;port=%d;database=%s;fedauth=ActiveDirectoryDefault;", h, t.Port, d))}, t.identity()...)
	case "django":
		out := []setting{t.plain("HOST", h), t.plain("PORT", t.port()), t.plain("NAME", d)}
		if secret {
			return append(out, t.plain("USER", u), t.secret("PASSWORD", p))
		}
		return append(out, t.identity()...)
	case "php":
		out := []setting{t.plain("SERVERNAME", fmt.Sprintf("%s,%d", h, t.Port)), t.plain("DATABASE", d)}
		if secret {
			return append(out, t.plain("UID", u), t.secret("PASSWORD", p))
		}
		return append(out, t.identity()...)
	case "ruby":
		out := []setting{t.plain("HOST", h), t.plain("PORT", t.port()), t.plain("DATABASE", d)}
		if secret {
			return append(out, t.plain("USERNAME", u), t.secret("PASSWORD", p))
		}
		return append(out, t.identity()...)
	}
	return t.sqlParts()
}

// sqlParts are the settings of Python, Node and no client in particular.
func (t target) sqlParts() []setting {
	out := []setting{t.plain("SERVER", t.Host), t.plain("PORT", t.port()), t.plain("DATABASE", t.Database)}
	python := strings.EqualFold(t.Client, "python")
	switch {
	case t.Auth == authSecret && python:
		return append(out, t.plain("USER", t.User), setting{Name: t.Prefix + "PASSWORD", Secret: t.Password})
	case t.Auth == authSecret:
		return append(out, t.plain("USERNAME", t.User), setting{Name: t.Prefix + "PASSWORD", Secret: t.Password})
	case python:
		out = append(out, t.plain("AUTHENTICATION", "ActiveDirectoryMsi"))
		if t.Auth == authUser {
			return append(out, t.plain("USER", t.ClientID))
		}
	case strings.EqualFold(t.Client, "nodejs"):
		out = append(out, t.plain("AUTHENTICATIONTYPE", "azure-active-directory-default"))
	}
	return append(out, t.identity()...)
}

func (t target) sqlDotnet(own bool) []setting {
	h, d := adoValue(t.Host), adoValue(t.Database)
	if t.Auth == authSecret {
		return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("Data Source=%s,%d;Initial Catalog=%s;User ID=%s;Password=%s", h, t.Port, d, adoValue(t.User), adoValue(t.Password.Reveal())))}
	}
	who := ""
	if own {
		who = "User Id=" + t.ClientID + ";"
	}
	out := []setting{t.plain("CONNECTIONSTRING", fmt.Sprintf("Server=tcp:%s;Database=%s;Authentication=Active Directory Default;%sTrustServerCertificate=True", h, d, who))}
	if t.Auth == authPrincipal {
		out = append(out, t.identity()...)
	}
	return out
}

func (t target) sqlJava(own bool) []setting {
	base := fmt.Sprintf("jdbc:sqlserver://%s:%d;databaseName=%s;", t.Host, t.Port, t.Database)
	spring := strings.EqualFold(t.Client, "springBoot")
	switch {
	case t.Auth == authSecret && spring:
		return []setting{{Name: "spring.datasource.url", Value: base}, {Name: "spring.datasource.username", Value: t.User}, {Name: "spring.datasource.password", Secret: t.Password}}
	case t.Auth == authSecret:
		return []setting{t.secret("CONNECTIONSTRING", base+"user="+t.User+";password="+t.Password.Reveal()+";")}
	}
	base += "authentication=ActiveDirectoryMSI;"
	if own {
		base += "msiClientId=" + t.ClientID + ";"
	}
	if spring {
		return []setting{{Name: "spring.datasource.url", Value: base}}
	}
	out := []setting{t.plain("CONNECTIONSTRING", base)}
	if t.Auth == authPrincipal {
		out = append(out, t.identity()...)
	}
	return out
}

// spring are Spring Boot's settings of a database.
func (t target) spring(jdbc string) []setting {
	out := []setting{{Name: "spring.datasource.url", Value: jdbc}, {Name: "spring.datasource.username", Value: t.User}}
	switch t.Auth {
	case authSecret:
		return append(out, t.password("spring.datasource.password")...)
	case authUser:
		out = append(out, setting{Name: "spring.cloud.azure.credential.client-id", Value: t.ClientID},
			setting{Name: "spring.cloud.azure.credential.client-managed-identity-enabled", Value: "true"})
	case authPrincipal:
		out = append(out, setting{Name: "spring.cloud.azure.credential.client-id", Value: t.ClientID},
			setting{Name: "spring.cloud.azure.credential.client-secret", Secret: t.Password},
			setting{Name: "spring.cloud.azure.profile.tenant-id", Value: t.Tenant})
	}
	return append(out, setting{Name: "spring.datasource.azure.passwordless-enabled", Value: "true"})
}
