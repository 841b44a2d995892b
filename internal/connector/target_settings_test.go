package connector

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/go-mssqldb/msdsn"
	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
)

// row is a line of Service Connector's tables: what a client type finds for the
// system-assigned identity, and for a login or key. A user-assigned identity
// adds CLIENTID, a service principal CLIENTID, CLIENTSECRET and TENANTID, but
// where user and principal say otherwise. ! marks a secret.
type row struct {
	client, system, user, principal, secret string
}

// The tables. Source: "Integrate Azure Database for MySQL / Azure SQL Database
// / Azure Cache for Redis with Service Connector". Clients that they leave out
// have what comes nearest: none for MySQL; go, django, php, ruby and none for
// an identity of Azure SQL, and a service principal of it.
var tables = map[string][]row{
	"mysql-flexible": {
		{client: "dotnet", system: "CONNECTIONSTRING=Server=H;Database=d;Port=3306;User Id=u;SSL Mode=Required;", secret: "!CONNECTIONSTRING=Server=H;Database=d;Port=3306;User Id=u;SSL Mode=Required;Password=p;"},
		{client: "dotnet-connectionString", system: "CONNECTIONSTRING=Server=H;Database=d;Port=3306;User Id=u;SSL Mode=Required;", secret: "!CONNECTIONSTRING=Server=H;Database=d;Port=3306;User Id=u;SSL Mode=Required;Password=p;"},
		{client: "java", system: "CONNECTIONSTRING=jdbc:mysql://H:3306/d?sslmode=required&user=u", secret: "!CONNECTIONSTRING=jdbc:mysql://H:3306/d?sslmode=required&user=u&password=p"},
		{client: "python", system: "NAME=d HOST=H USER=u", secret: "NAME=d HOST=H USER=u !PASSWORD=p"},
		{client: "django", system: "NAME=d HOST=H USER=u", secret: "NAME=d HOST=H USER=u !PASSWORD=p"},
		{client: "go", system: "CONNECTIONSTRING=u@tcp(H:3306)/d?tls=true", secret: "!CONNECTIONSTRING=u:p@tcp(H:3306)/d?tls=true"},
		{client: "nodejs", system: "HOST=H USER=u DATABASE=d PORT=3306 SSL=true", secret: "HOST=H USER=u DATABASE=d PORT=3306 SSL=true !PASSWORD=p"},
		{client: "php", system: "DBNAME=d HOST=H PORT=3306 FLAG=MYSQL_CLIENT_SSL USERNAME=u", secret: "DBNAME=d HOST=H PORT=3306 FLAG=MYSQL_CLIENT_SSL USERNAME=u !PASSWORD=p"},
		{client: "ruby", system: "DATABASE=d HOST=H USERNAME=u SSLMODE=required", secret: "DATABASE=d HOST=H USERNAME=u SSLMODE=required !PASSWORD=p"},
		{client: "none", system: "HOST=H USERNAME=u DATABASE=d PORT=3306 SSL=true", secret: "HOST=H USERNAME=u DATABASE=d PORT=3306 SSL=true !PASSWORD=p"},
		{client: "springBoot", system: "spring.datasource.url=jdbc:mysql://H:3306/d?sslmode=required spring.datasource.username=u spring.datasource.azure.passwordless-enabled=true",
			user:      "spring.datasource.url=jdbc:mysql://H:3306/d?sslmode=required spring.datasource.username=u spring.cloud.azure.credential.client-id=cid spring.cloud.azure.credential.client-managed-identity-enabled=true spring.datasource.azure.passwordless-enabled=true",
			principal: "spring.datasource.url=jdbc:mysql://H:3306/d?sslmode=required spring.datasource.username=u spring.cloud.azure.credential.client-id=cid !spring.cloud.azure.credential.client-secret=p spring.cloud.azure.profile.tenant-id=t spring.datasource.azure.passwordless-enabled=true",
			secret:    "spring.datasource.url=jdbc:mysql://H:3306/d?sslmode=required spring.datasource.username=u !spring.datasource.password=p"},
	},
	"sql": {
		{client: "dotnet", system: "CONNECTIONSTRING=Server=tcp:H;Database=d;Authentication=Active Directory Default;TrustServerCertificate=True",
			user:      "CONNECTIONSTRING=Server=tcp:H;Database=d;Authentication=Active Directory Default;User Id=cid;TrustServerCertificate=True",
			principal: "!CONNECTIONSTRING=Server=tcp:H;Database=d;Authentication=Active Directory Service Principal;User Id=cid;Password=p;TrustServerCertificate=True CLIENTID=cid !CLIENTSECRET=p TENANTID=t",
			secret:    "!CONNECTIONSTRING=Data Source=H,1433;Initial Catalog=d;User ID=u;Password=p"},
		{client: "dotnet-connectionString", system: "CONNECTIONSTRING=Server=tcp:H;Database=d;Authentication=Active Directory Default;TrustServerCertificate=True",
			user:      "CONNECTIONSTRING=Server=tcp:H;Database=d;Authentication=Active Directory Default;User Id=cid;TrustServerCertificate=True",
			principal: "!CONNECTIONSTRING=Server=tcp:H;Database=d;Authentication=Active Directory Service Principal;User Id=cid;Password=p;TrustServerCertificate=True CLIENTID=cid !CLIENTSECRET=p TENANTID=t",
			secret:    "!CONNECTIONSTRING=Data Source=H,1433;Initial Catalog=d;User ID=u;Password=p"},
		{client: "java", system: "CONNECTIONSTRING=jdbc:sqlserver://H:1433;databaseName=d;authentication=ActiveDirectoryMSI;",
			user:      "CONNECTIONSTRING=jdbc:sqlserver://H:1433;databaseName=d;authentication=ActiveDirectoryMSI;msiClientId=cid;",
			principal: "!CONNECTIONSTRING=jdbc:sqlserver://H:1433;databaseName=d;authentication=ActiveDirectoryServicePrincipal;user=cid;password=p; CLIENTID=cid !CLIENTSECRET=p TENANTID=t",
			secret:    "!CONNECTIONSTRING=jdbc:sqlserver://H:1433;databaseName=d;user=u;password=p;"},
		{client: "springBoot", system: "spring.datasource.url=jdbc:sqlserver://H:1433;databaseName=d;authentication=ActiveDirectoryMSI;",
			user:      "spring.datasource.url=jdbc:sqlserver://H:1433;databaseName=d;authentication=ActiveDirectoryMSI;msiClientId=cid;",
			principal: "spring.datasource.url=jdbc:sqlserver://H:1433;databaseName=d;authentication=ActiveDirectoryServicePrincipal; spring.datasource.username=cid !spring.datasource.password=p",
			secret:    "spring.datasource.url=jdbc:sqlserver://H:1433;databaseName=d; spring.datasource.username=u !spring.datasource.password=p"},
		{client: "python", system: "SERVER=H PORT=1433 DATABASE=d AUTHENTICATION=ActiveDirectoryMsi",
			user:      "SERVER=H PORT=1433 DATABASE=d AUTHENTICATION=ActiveDirectoryMsi USER=cid",
			principal: "SERVER=H PORT=1433 DATABASE=d AUTHENTICATION=ActiveDirectoryServicePrincipal CLIENTID=cid !CLIENTSECRET=p TENANTID=t",
			secret:    "SERVER=H PORT=1433 DATABASE=d USER=u !PASSWORD=p"},
		{client: "nodejs", system: "SERVER=H PORT=1433 DATABASE=d AUTHENTICATIONTYPE=azure-active-directory-default",
			principal: "SERVER=H PORT=1433 DATABASE=d AUTHENTICATIONTYPE=azure-active-directory-service-principal-secret CLIENTID=cid !CLIENTSECRET=p TENANTID=t",
			secret:    "SERVER=H PORT=1433 DATABASE=d USERNAME=u !PASSWORD=p"},
		{client: "django", system: "HOST=H PORT=1433 NAME=d", secret: "HOST=H PORT=1433 NAME=d USER=u !PASSWORD=p"},
		{client: "go", system: "CONNECTIONSTRING=server=H;port=1433;database=d;fedauth=ActiveDirectoryDefault;",
			user:      "CONNECTIONSTRING=server=H;port=1433;database=d;fedauth=ActiveDirectoryManagedIdentity;user id=cid; CLIENTID=cid",
			principal: "!CONNECTIONSTRING=server=H;port=1433;database=d;fedauth=ActiveDirectoryServicePrincipal;user id=cid@t;password=p; CLIENTID=cid !CLIENTSECRET=p TENANTID=t",
			secret:    "!CONNECTIONSTRING=server=H;port=1433;database=d;user id=u;password=p;"},
		{client: "php", system: "SERVERNAME=H,1433 DATABASE=d", secret: "SERVERNAME=H,1433 DATABASE=d UID=u !PASSWORD=p"},
		{client: "ruby", system: "HOST=H PORT=1433 DATABASE=d", secret: "HOST=H PORT=1433 DATABASE=d USERNAME=u !PASSWORD=p"},
		{client: "none", system: "SERVER=H PORT=1433 DATABASE=d", secret: "SERVER=H PORT=1433 DATABASE=d USERNAME=u !PASSWORD=p"},
	},
	"redis": {
		{client: "dotnet", system: "HOST=H", secret: "!CONNECTIONSTRING=H:6380,password=p,ssl=True,defaultDatabase=0"},
		{client: "dotnet-connectionString", system: "HOST=H", secret: "!CONNECTIONSTRING=H:6380,password=p,ssl=True,defaultDatabase=0"},
		{client: "springBoot", system: "HOST=H", secret: "spring.redis.host=H spring.redis.port=6380 spring.redis.database=0 !spring.redis.password=p spring.redis.ssl=true"},
		{client: "java", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "nodejs", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "python", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "django", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "go", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "php", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "ruby", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
		{client: "none", system: "HOST=H", secret: "!CONNECTIONSTRING=rediss://:p@H:6380/0"},
	},
}

// tableTarget is a target as the tables have it.
func tableTarget(kind, auth, client string) target {
	t := target{Kind: kind, Auth: auth, Client: client, Prefix: kindNamed(kind).prefix, ClientID: "cid", Tenant: "t", Database: "d", User: "u", Password: az.NewSecret("p")}
	switch kind {
	case "mysql-flexible":
		t.Host, t.Port = "s.mysql.database.azure.com", 3306
	case "sql":
		t.Host, t.Port = "s.database.windows.net", 1433
	case "redis":
		t.Host, t.Port, t.Database, t.User = "s.redis.cache.windows.net", 6380, "0", ""
	}
	return t
}

// writes lists the settings as the tables write them.
func writes(t target) (out []string) {
	for _, s := range t.settings() {
		mark := ""
		if !s.Secret.IsZero() {
			mark = "!"
		}
		out = append(out, mark+strings.TrimPrefix(s.Name, t.Prefix)+"="+s.reveal())
	}
	return out
}

// split takes a line of the tables apart: a new setting begins where a word
// has an = after a name in capitals or one of Spring's.
func split(line, host string) (out []string) {
	for _, word := range strings.Fields(strings.ReplaceAll(line, "=H", "="+host)) {
		name, _, ok := strings.Cut(strings.TrimPrefix(word, "!"), "=")
		begins := ok && (strings.HasPrefix(name, "spring.") || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && name != "ID")
		if !begins {
			out[len(out)-1] += " " + word
			continue
		}
		out = append(out, word)
	}
	for i := range out {
		out[i] = strings.NewReplacer("//H:", "//"+host+":", "tcp:H;", "tcp:"+host+";", "(H:", "("+host+":", "@H:", "@"+host+":").Replace(out[i])
	}
	return out
}

// TestSettingsOfEveryClientAndWay: the whole tables of MySQL, Azure SQL and
// Redis.
func TestSettingsOfEveryClientAndWay(t *testing.T) {
	t.Parallel()
	for kind, rows := range tables {
		var seen []string
		for _, r := range rows {
			seen = append(seen, strings.ToLower(r.client))
			if r.user == "" {
				r.user = r.system + " CLIENTID=cid"
			}
			if r.principal == "" {
				r.principal = r.system + " CLIENTID=cid !CLIENTSECRET=p TENANTID=t"
			}
			for auth, want := range map[string]string{authSystem: r.system, authUser: r.user, authPrincipal: r.principal, authSecret: r.secret} {
				x := tableTarget(kind, auth, r.client)
				if diff := cmp.Diff(split(want, x.Host), writes(x)); diff != "" {
					t.Errorf("%s %s %s: (-want +got)\n%s", kind, r.client, auth, diff)
				}
				for _, s := range x.settings() {
					if inConnections := s.ConnectionString; inConnections != (r.client == "dotnet-connectionString" && strings.HasSuffix(s.Name, "CONNECTIONSTRING")) {
						t.Errorf("%s %s %s: the setting %s is in the wrong place", kind, r.client, auth, s.Name)
					}
				}
			}
		}
		for client := range clients {
			if !slices.Contains(seen, client) {
				t.Errorf("%s: the client type %s is not in the table", kind, client)
			}
		}
	}
}

// TestSettingsWithAnotherPort: where Azure's table leaves the port out, it is
// added when it is not Azure's.
func TestSettingsWithAnotherPort(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]map[string]string{
		"mysql-flexible": {"python": "NAME=d HOST=H USER=u PORT=13306", "django": "NAME=d HOST=H USER=u PORT=13306", "ruby": "DATABASE=d HOST=H USERNAME=u SSLMODE=required PORT=13306",
			"go": "CONNECTIONSTRING=u@tcp(H:13306)/d?tls=true"},
		"sql":   {"dotnet": "CONNECTIONSTRING=Server=tcp:H,13306;Database=d;Authentication=Active Directory Default;TrustServerCertificate=True"},
		"redis": {"none": "HOST=H PORT=13306", "springBoot": "HOST=H PORT=13306"},
	} {
		for client, line := range want {
			x := tableTarget(kind, authSystem, client)
			x.Port = 13306
			if diff := cmp.Diff(split(strings.ReplaceAll(line, "tcp:H,", "tcp:"+x.Host+","), x.Host), writes(x)); diff != "" {
				t.Errorf("%s %s: (-want +got)\n%s", kind, client, diff)
			}
		}
	}
	x := tableTarget("redis", authSystem, "go")
	x.Port = managedRedisPort
	if got := writes(x); len(got) != 1 {
		t.Errorf("on Azure Managed Redis's port: %v", got)
	}
}

// TestOddValuesOfOtherDatabases lets the drivers read what a connection string
// says.
func TestOddValuesOfOtherDatabases(t *testing.T) {
	t.Parallel()
	const odd = `a;b"c'd/e@f:g%20=h`
	x := target{Kind: "mysql-flexible", Auth: authSecret, Client: "go", Host: "h", Port: 3307, Database: `a;b"c%20=/h`, User: "u", Password: az.NewSecret(odd)}
	my, err := mysql.ParseDSN(x.settings()[0].reveal())
	if err != nil || my.Passwd != odd || my.DBName != x.Database || my.User != "u" || my.Addr != "h:3307" || my.TLSConfig != "true" {
		t.Errorf("go-sql-driver reads %+v, %v", my, err)
	}
	x.Kind, x.Database = "sql", odd
	ms, err := msdsn.Parse(x.settings()[0].reveal())
	if err != nil || ms.Password != odd || ms.Database != odd || ms.User != "u" || ms.Host != "h" || ms.Port != 3307 {
		t.Errorf("go-mssqldb reads %+v, %v", ms, err)
	}
	x.Kind, x.Database, x.Clear = "redis", "3", true
	r, err := redis.ParseURL(x.settings()[0].reveal())
	if err != nil || r.Password != odd || r.Username != "u" || r.Addr != "h:3307" || r.DB != 3 || r.TLSConfig != nil {
		t.Errorf("go-redis reads %+v, %v", r, err)
	}
}
