package connector

import (
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// Kind is a kind of database server that has a gateway: its ARM type.
type Kind string

// The kinds of servers.
const (
	PostgreSQL Kind = ServerType
	MySQL      Kind = MySQLServerType
	SQLServer  Kind = SQLServerType
	Redis      Kind = RedisType
)

// Login is what a client asks a gateway for.
type Login struct {
	Kind     Kind
	Server   string // its name as the client gave it; "" if it gave none
	Database string // "" for none (MySQL, SQL Server, Redis)
	User     string // the role it names; "" for SQL Server, the object id for Redis
}

// family is what sets a kind of server apart for the role machinery, which is
// the same for all of them. What runs on a real server is its engine's.
type family struct {
	kind Kind
	word string // for people
	// login is what a session needs the right to, and role gives it by an
	// assignment. ofServer: at the server, since one login reaches all of its
	// databases that the role was granted; else at each database. Redis has no
	// role: data access policies decide.
	login    guard.Action
	role     string
	roleWord string
	ofServer bool
	surface  az.Surface
	// schemes are those of a real server's URL, the first for people; port and
	// database are where it is if nothing is said.
	schemes  []string
	port     int
	database string
	named    string // how else a client names a server
	// What a name may be: at most this many bytes or characters.
	maxRole, maxDatabase int
	bytes                bool
	reserved             func(folded string) bool // roles
	system               []string                 // databases that are the server's own
}

// families is every kind. Sources of the lengths: PostgreSQL, NAMEDATALEN;
// MySQL 8.0 reference, 9.2 (schemas) and MariaDB's documentation, "CREATE USER"
// (128 characters; MySQL's 32 are its engine's to tell); SQL Server, sysname.
var families = []*family{
	{kind: PostgreSQL, word: "PostgreSQL", login: guard.Data(guard.ActionPostgresLogin), role: guard.RolePostgresLogin, roleWord: "PostgreSQL Login",
		surface: az.SurfacePostgres, schemes: []string{"postgres", "postgresql"}, port: 5432, database: "postgres",
		named: ", or name it by options=endpoint=<server> or <user>@<server>", maxRole: maxName, maxDatabase: maxName, bytes: true, reserved: reservedPostgres},
	{kind: MySQL, word: "MySQL", login: guard.Data(guard.ActionMySQLLogin), role: guard.RoleMySQLLogin, roleWord: "MySQL Login", ofServer: true,
		surface: az.SurfaceMySQL, schemes: []string{"mysql", "mariadb"}, port: 3306,
		maxRole: 128, maxDatabase: 64, reserved: reservedMySQL, system: []string{"mysql", "information_schema", "performance_schema", "sys"}},
	{kind: SQLServer, word: "SQL Server", login: guard.Data(guard.ActionSQLLogin), role: guard.RoleSQLLogin, roleWord: "SQL Server Login", ofServer: true,
		surface: az.SurfaceSQL, schemes: []string{"sqlserver", "mssql"}, port: 1433, database: "master",
		maxRole: 128, maxDatabase: 128, reserved: reservedSQL, system: []string{"master", "tempdb", "model", "msdb"}},
	{kind: Redis, word: "Redis", login: guard.Data(guard.ActionRedisLogin), ofServer: true,
		surface: az.SurfaceRedis, schemes: []string{"rediss", "redis"}, port: 6379, maxRole: 128, maxDatabase: 3, reserved: func(string) bool { return false }},
}

// familyOf finds the kind of a server, or of what is below one; nil if it is
// none.
func familyOf(id az.ID) *family {
	for _, f := range families {
		if strings.Contains(id.Key(), f.path()) {
			return f
		}
	}
	return nil
}

func (k Kind) family() *family {
	for _, f := range families {
		if f.kind == k {
			return f
		}
	}
	return nil
}

// path is what the folded ids of servers have before their names.
func (f *family) path() string { return "/providers/" + strings.ToLower(string(f.kind)) + "/" }

// principals is the type of the roles on a server.
func (f *family) principals() string { return string(f.kind) + "/principals" }

func (f *family) writePrincipal() guard.Action { return guard.Control(f.principals() + "/write") }

func (f *family) readServer() guard.Action { return guard.Control(string(f.kind) + "/read") }

// checkDatabase refuses what cannot be the name of a user's database.
func (f *family) checkDatabase(name string) error {
	if err := f.checkName("database", name, f.maxDatabase); err != nil {
		return err
	}
	for _, s := range f.system {
		if strings.EqualFold(s, name) {
			return az.Errorf(az.Invalid, "InvalidName", "The database %q is the server's own; name one of yours.", name)
		}
	}
	if f.kind == MySQL && (strings.ContainsAny(name, "`./\\") || strings.HasSuffix(name, " ")) {
		return az.Errorf(az.Invalid, "InvalidName", "A database's name may have 64 characters and none of ` . / \\.")
	}
	return nil
}

// checkRole refuses what cannot be the name of a role that is to be made.
func (f *family) checkRole(name string) error {
	if err := f.checkName("role", name, f.maxRole); err != nil {
		return err
	}
	if f.kind != PostgreSQL && strings.TrimSpace(name) != name {
		return az.Errorf(az.Invalid, "InvalidName", "The name of the role begins or ends with a space, which the server does not tell apart.")
	}
	if f.reserved(strings.ToLower(name)) {
		return az.Errorf(az.Invalid, "InvalidName", "The role name %q is reserved by the server; choose another.", name)
	}
	return nil
}

// loginScope is where the right to log in to a database is asked for and
// given.
func loginScope(server az.ID, database string) az.ID {
	if f := familyOf(server); f == nil || f.ofServer {
		return server
	}
	return databaseScope(server, database)
}
