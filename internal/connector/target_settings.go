package connector

import (
	"fmt"
	"net"
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

// redisSettings: the port is not among Azure's settings of an identity, since
// it is always 6380 (10000 of Azure Managed Redis) there; here it is added when
// it is another one.
func redisSettings(t target) []setting {
	if t.Auth != authSecret {
		out := []setting{t.plain("HOST", t.Host)}
		if t.Port != redisPort && t.Port != managedRedisPort {
			out = append(out, t.plain("PORT", t.port()))
		}
		return append(out, t.identity()...)
	}
	key, scheme, tls := t.Password.Reveal(), "rediss", "True"
	if t.Clear {
		scheme, tls = "redis", "False"
	}
	switch strings.ToLower(t.Client) {
	case "dotnet", "dotnet-connectionstring":
		user := ""
		if t.User != "" {
			user = ",user=" + t.User
		}
		s := t.secret("CONNECTIONSTRING", fmt.Sprintf("%s:%d,password=%s%s,ssl=%s,defaultDatabase=%s", t.Host, t.Port, key, user, tls, t.Database))
		s.ConnectionString = !strings.EqualFold(t.Client, "dotnet")
		return []setting{s}
	case "springboot":
		out := []setting{{Name: "spring.redis.host", Value: t.Host}, {Name: "spring.redis.port", Value: t.port()}, {Name: "spring.redis.database", Value: t.Database},
			{Name: "spring.redis.password", Secret: t.Password}, {Name: "spring.redis.ssl", Value: strings.ToLower(tls)}}
		if t.User != "" {
			out = append(out, setting{Name: "spring.redis.username", Value: t.User})
		}
		return out
	}
	return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("%s://%s:%s@%s:%d/%s", scheme, url.QueryEscape(t.User), url.QueryEscape(key), t.Host, t.Port, t.Database))}
}

// mysqlClient: the languages whose settings have no port in Azure's table get
// one when it is not 3306.
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
		out = t.unusualPort(mysqlPort, append([]setting{t.plain("NAME", d), t.plain("HOST", h), t.plain("USER", u)}, t.password(t.Prefix+"PASSWORD")...))
	case "go":
		address := fmt.Sprintf("@tcp(%s)/%s?tls=true", net.JoinHostPort(h, t.port()), url.PathEscape(d))
		if t.Auth == authSecret {
			out = []setting{t.secret("CONNECTIONSTRING", u+":"+password+address)}
		} else {
			out = []setting{t.plain("CONNECTIONSTRING", u+address)}
		}
	case "nodejs":
		out = append([]setting{t.plain("HOST", h), t.plain("USER", u), t.plain("DATABASE", d), t.plain("PORT", t.port()), t.plain("SSL", "true")}, t.password(t.Prefix+"PASSWORD")...)
	case "php":
		out = append([]setting{t.plain("DBNAME", d), t.plain("HOST", h), t.plain("PORT", t.port()), t.plain("FLAG", "MYSQL_CLIENT_SSL"), t.plain("USERNAME", u)}, t.password(t.Prefix+"PASSWORD")...)
	case "ruby":
		out = append([]setting{t.plain("DATABASE", d), t.plain("HOST", h), t.plain("USERNAME", u), t.plain("SSLMODE", "required")}, t.password(t.Prefix+"PASSWORD")...)
		out = t.unusualPort(mysqlPort, out)
	case "springboot":
		return t.spring(t.mysqlURL())
	default:
		out = parts(t)
	}
	return append(out, t.identity()...)
}

// unusualPort adds the port to settings that leave it to the client.
func (t target) unusualPort(usual int, out []setting) []setting {
	if t.Port != usual {
		out = append(out, t.plain("PORT", t.port()))
	}
	return out
}

func (t target) mysqlURL() string {
	return fmt.Sprintf("jdbc:mysql://%s:%d/%s?sslmode=required", t.Host, t.Port, url.PathEscape(t.Database))
}

// sqlSettings: the passwordless forms of .NET are those of Microsoft's present
// tutorial (Authentication=Active Directory Default); Go's, which Azure has
// none of, is go-mssqldb's.
func sqlSettings(t target) []setting {
	h, d, u, p := t.Host, t.Database, t.User, t.Password.Reveal()
	secret := t.Auth == authSecret
	switch strings.ToLower(t.Client) {
	case "dotnet", "dotnet-connectionstring":
		out := t.sqlDotnet()
		out[0].ConnectionString = !strings.EqualFold(t.Client, "dotnet")
		return out
	case "java", "springboot":
		return t.sqlJava()
	case "go":
		return t.sqlGo()
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
	case python && t.Auth == authPrincipal:
		out = append(out, t.plain("AUTHENTICATION", "ActiveDirectoryServicePrincipal"))
	case python:
		out = append(out, t.plain("AUTHENTICATION", "ActiveDirectoryMsi"))
		if t.Auth == authUser {
			return append(out, t.plain("USER", t.ClientID))
		}
	case strings.EqualFold(t.Client, "nodejs") && t.Auth == authPrincipal:
		out = append(out, t.plain("AUTHENTICATIONTYPE", "azure-active-directory-service-principal-secret"))
	case strings.EqualFold(t.Client, "nodejs"):
		out = append(out, t.plain("AUTHENTICATIONTYPE", "azure-active-directory-default"))
	}
	return append(out, t.identity()...)
}

func (t target) sqlDotnet() []setting {
	h, d := adoValue(t.Host), adoValue(t.Database)
	if t.Auth == authSecret {
		return []setting{t.secret("CONNECTIONSTRING", fmt.Sprintf("Data Source=%s,%d;Initial Catalog=%s;User ID=%s;Password=%s", h, t.Port, d, adoValue(t.User), adoValue(t.Password.Reveal())))}
	}
	if t.Port != sqlPort {
		h = adoValue(t.Host + "," + t.port())
	}
	base, rest := fmt.Sprintf("Server=tcp:%s;Database=%s;Authentication=Active Directory ", h, d), "TrustServerCertificate=True"
	switch t.Auth {
	case authUser:
		base += "Default;User Id=" + t.ClientID + ";"
	case authPrincipal:
		base += "Service Principal;User Id=" + t.ClientID + ";Password=" + adoValue(t.Password.Reveal()) + ";"
		return append([]setting{t.secret("CONNECTIONSTRING", base+rest)}, t.identity()...)
	default:
		base += "Default;"
	}
	return []setting{t.plain("CONNECTIONSTRING", base+rest)}
}

// sqlGo is go-mssqldb's form. A user-assigned identity is named in it: its
// ActiveDirectoryDefault takes the system-assigned one alone.
func (t target) sqlGo() []setting {
	base := fmt.Sprintf("server=%s;port=%d;database=%s;", t.Host, t.Port, adoValue(t.Database))
	switch t.Auth {
	case authSecret:
		return []setting{t.secret("CONNECTIONSTRING", base+"user id="+adoValue(t.User)+";password="+adoValue(t.Password.Reveal())+";")}
	case authUser:
		base += "fedauth=ActiveDirectoryManagedIdentity;user id=" + t.ClientID + ";"
	case authPrincipal:
		base += "fedauth=ActiveDirectoryServicePrincipal;user id=" + t.ClientID + "@" + t.Tenant + ";"
		out := []setting{t.secret("CONNECTIONSTRING", base+"password="+adoValue(t.Password.Reveal())+";")}
		return append(out, t.identity()...)
	default:
		base += "fedauth=ActiveDirectoryDefault;"
	}
	return append([]setting{t.plain("CONNECTIONSTRING", base)}, t.identity()...)
}

// jdbcValue quotes a value of a JDBC URL of SQL Server where it needs it.
// Source: learn.microsoft.com, "Building the connection URL", escaping.
func jdbcValue(s string) string {
	if !strings.ContainsAny(s, ";{}= \t") {
		return s
	}
	return "{" + strings.ReplaceAll(s, "}", "}}") + "}"
}

func (t target) sqlJava() []setting {
	base := fmt.Sprintf("jdbc:sqlserver://%s:%d;databaseName=%s;", t.Host, t.Port, jdbcValue(t.Database))
	spring := strings.EqualFold(t.Client, "springBoot")
	login := "user=" + jdbcValue(t.User) + ";password=" + jdbcValue(t.Password.Reveal()) + ";"
	switch {
	case t.Auth == authSecret && spring:
		return []setting{{Name: "spring.datasource.url", Value: base}, {Name: "spring.datasource.username", Value: t.User}, {Name: "spring.datasource.password", Secret: t.Password}}
	case t.Auth == authSecret:
		return []setting{t.secret("CONNECTIONSTRING", base+login)}
	case t.Auth == authPrincipal && spring:
		return []setting{{Name: "spring.datasource.url", Value: base + "authentication=ActiveDirectoryServicePrincipal;"},
			{Name: "spring.datasource.username", Value: t.ClientID}, {Name: "spring.datasource.password", Secret: t.Password}}
	case t.Auth == authPrincipal:
		login = "authentication=ActiveDirectoryServicePrincipal;user=" + t.ClientID + ";password=" + jdbcValue(t.Password.Reveal()) + ";"
		return append([]setting{t.secret("CONNECTIONSTRING", base+login)}, t.identity()...)
	}
	base += "authentication=ActiveDirectoryMSI;"
	if t.Auth == authUser {
		base += "msiClientId=" + t.ClientID + ";"
	}
	if spring {
		return []setting{{Name: "spring.datasource.url", Value: base}}
	}
	return []setting{t.plain("CONNECTIONSTRING", base)}
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
