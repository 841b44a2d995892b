package connector

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Every statement that the plane runs on a SQL Server, but for CREATE DATABASE,
// stands here. All of them are good for SQL Server 2017 to 2025 and, with
// azure, for Azure SQL Database. Source: Transact-SQL reference.

// What is asked of a server.
const (
	sqlAbout = "SELECT CAST(SERVERPROPERTY(N'EngineEdition') AS int), CAST(PARSENAME(CAST(SERVERPROPERTY(N'ProductVersion') AS nvarchar(128)), 4) AS int)"
	// sqlMay lists what an owner must be allowed to do: make logins, see and end
	// their sessions.
	sqlMay = "SELECT HAS_PERMS_BY_NAME(NULL, NULL, N'ALTER ANY LOGIN'), HAS_PERMS_BY_NAME(NULL, NULL, N'ALTER ANY CONNECTION'), HAS_PERMS_BY_NAME(NULL, NULL, N'VIEW SERVER STATE')"

	sqlFindLogin    = "SELECT CONVERT(nvarchar(200), sid, 1) FROM sys.sql_logins WHERE name = @p1"
	sqlFindDatabase = "SELECT name, state_desc, CAST(is_trustworthy_on AS int) FROM sys.databases WHERE name = @p1"
	sqlDatabases    = "SELECT name, CAST(is_trustworthy_on AS int), CONVERT(nvarchar(200), owner_sid, 1) FROM sys.databases WHERE state = 0 AND is_read_only = 0 AND name NOT IN (N'master', N'tempdb', N'model', N'msdb') ORDER BY name"
	sqlSessions     = "SELECT session_id FROM sys.dm_exec_sessions WHERE original_login_name = @p1 AND session_id <> @@SPID"

	sqlFindUser = "SELECT CONVERT(nvarchar(200), sid, 1) FROM sys.database_principals WHERE name = @p1"
	sqlUserOf   = "SELECT name FROM sys.database_principals WHERE CONVERT(nvarchar(200), sid, 1) = @p1 AND principal_id > 4" // dbo, guest and the server's own are below
	// sqlTriggers are those that run, as whoever runs it, with every statement
	// that changes the database itself. Source: "CREATE TRIGGER", EXECUTE AS.
	sqlTriggers = "SELECT t.name FROM sys.triggers AS t LEFT JOIN sys.sql_modules AS m ON m.object_id = t.object_id WHERE t.parent_class = 0 AND t.is_disabled = 0 AND m.execute_as_principal_id IS NULL"
	sqlSchemas  = "SELECT name FROM sys.schemas WHERE principal_id = DATABASE_PRINCIPAL_ID(@p1)"
	sqlRoles    = "SELECT name FROM sys.database_principals WHERE type = N'R' AND owning_principal_id = DATABASE_PRINCIPAL_ID(@p1)"
	sqlObjects  = "SELECT SCHEMA_NAME(schema_id), name FROM sys.objects WHERE parent_object_id = 0 AND principal_id = DATABASE_PRINCIPAL_ID(@p1)"
	sqlTypes    = "SELECT SCHEMA_NAME(schema_id), name FROM sys.types WHERE principal_id = DATABASE_PRINCIPAL_ID(@p1)"
	// sqlGranted is what a user gave others: class 0 is the database, 1 an object,
	// 3 a schema.
	sqlGranted = "SELECT p.class, p.permission_name, g.name, OBJECT_SCHEMA_NAME(p.major_id), OBJECT_NAME(p.major_id), SCHEMA_NAME(p.major_id) FROM sys.database_permissions AS p" +
		" JOIN sys.database_principals AS g ON g.principal_id = p.grantee_principal_id WHERE p.class IN (0, 1, 3) AND p.grantor_principal_id = DATABASE_PRINCIPAL_ID(@p1)"

	// sqlProbe is what the session's user may in its database: read, write, run
	// and own.
	sqlProbe = "SELECT CASE WHEN IS_ROLEMEMBER(N'db_datareader') = 1 OR HAS_PERMS_BY_NAME(DB_NAME(), N'DATABASE', N'SELECT') = 1 THEN 1 ELSE 0 END," +
		" CASE WHEN IS_ROLEMEMBER(N'db_datawriter') = 1 OR HAS_PERMS_BY_NAME(DB_NAME(), N'DATABASE', N'INSERT') = 1 THEN 1 ELSE 0 END," +
		" HAS_PERMS_BY_NAME(DB_NAME(), N'DATABASE', N'EXECUTE'), HAS_PERMS_BY_NAME(DB_NAME(), N'DATABASE', N'CONTROL')"
)

// sqlIdent quotes an identifier; every name in a statement goes through it or
// through sqlText.
func sqlIdent(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }

// sqlText quotes a constant.
func sqlText(s string) string { return "N'" + strings.ReplaceAll(s, "'", "''") + "'" }

// sqlSID is the security identifier of a role's login, by which it and its
// users in databases are known as ours. Azure SQL Database has SIDs of SQL
// logins begin in one way. Source: "CREATE LOGIN", SID.
func (r roleSpec) sqlSID(azure bool) string {
	b, _ := hex.DecodeString(strings.ReplaceAll(r.Marker, "-", "")) // a GUID of our own
	prefix := ""
	if azure {
		prefix = "01060000000000640000000000000000"
	}
	return "0x" + strings.ToUpper(prefix+hex.EncodeToString(b))
}

// sqlCreateLogin makes the login. The password is checked against the server's
// policy, which it satisfies, and does not end: the plane changes it itself. It
// must stand in the statement as it is, and the server keeps it out of its
// traces and logs. Azure SQL Database has no such options.
func (r roleSpec) sqlCreateLogin(azure bool, password string) string {
	options := ""
	if !azure {
		options = ", DEFAULT_DATABASE = [master], CHECK_POLICY = ON, CHECK_EXPIRATION = OFF"
	}
	return fmt.Sprintf("CREATE LOGIN %s WITH PASSWORD = %s, SID = %s%s", sqlIdent(r.Name), sqlText(password), r.sqlSID(azure), options)
}

// sqlSetPassword gives the login its password, whatever it was; unlock: and
// whatever wrong ones locked it.
func (r roleSpec) sqlSetPassword(azure bool) string {
	unlock := " UNLOCK"
	if azure {
		unlock = ""
	}
	return fmt.Sprintf("ALTER LOGIN %s WITH PASSWORD = %s%s", sqlIdent(r.Name), sqlText(r.Password.Reveal()), unlock)
}

func sqlEnable(login string) string { return "ALTER LOGIN " + sqlIdent(login) + " ENABLE" }

func sqlDisable(login string) string { return "ALTER LOGIN " + sqlIdent(login) + " DISABLE" }

func sqlDropLogin(login string) string { return "DROP LOGIN " + sqlIdent(login) }

func sqlCreateUser(name string) string {
	return fmt.Sprintf("CREATE USER %s FOR LOGIN %[1]s", sqlIdent(name))
}

func sqlDropUser(name string) string { return "DROP USER " + sqlIdent(name) }

// sqlAddMember makes a user a member of a role of the database.
func sqlAddMember(role, user string) string {
	return fmt.Sprintf("ALTER ROLE %s ADD MEMBER %s", sqlIdent(role), sqlIdent(user))
}

// sqlGrants give a user its access to a database. To own is CONTROL, as az
// grants it for a connection: what is less (db_ddladmin) makes tables but
// cannot grant on them or set options, which migrations do.
func sqlGrants(user, database string, a Access) []string {
	out := []string{sqlAddMember("db_datareader", user)}
	switch a {
	case Owner:
		return []string{fmt.Sprintf("GRANT CONTROL ON DATABASE::%s TO %s", sqlIdent(database), sqlIdent(user))}
	case Write:
		out = append(out, sqlAddMember("db_datawriter", user), "GRANT EXECUTE TO "+sqlIdent(user))
	}
	return out
}

// sqlSeeLogins lets an administrator's role see logins, without which it could
// not make users for them. Azure SQL Database has no such right and needs none.
func sqlSeeLogins(login string) string { return "GRANT VIEW ANY DEFINITION TO " + sqlIdent(login) }

// sqlKill ends a session if it is the login's; ids are given again soon.
func sqlKill(id, login string) string {
	return fmt.Sprintf("IF EXISTS (SELECT 1 FROM sys.dm_exec_sessions WHERE session_id = %s AND original_login_name = %s) KILL %[1]s", id, sqlText(login))
}

// sqlGiveSchema and its like give what a user owns to the database's owner.
func sqlGiveSchema(name string) string {
	return "ALTER AUTHORIZATION ON SCHEMA::" + sqlIdent(name) + " TO [dbo]"
}

func sqlGiveRole(name string) string {
	return "ALTER AUTHORIZATION ON ROLE::" + sqlIdent(name) + " TO [dbo]"
}

func sqlGiveObject(kind, schema, name string) string {
	return fmt.Sprintf("ALTER AUTHORIZATION ON %s::%s.%s TO SCHEMA OWNER", kind, sqlIdent(schema), sqlIdent(name))
}

// sqlGiveDatabase gives a database that a role made its own to the plane's
// login.
func sqlGiveDatabase(name, owner string) string {
	return fmt.Sprintf("ALTER AUTHORIZATION ON DATABASE::%s TO %s", sqlIdent(name), sqlIdent(owner))
}

// sqlRevoke takes back what a user gave somebody: a row of sqlGranted.
func sqlRevoke(user string, row []string) string {
	on := ""
	switch row[0] {
	case "1":
		on = " ON OBJECT::" + sqlIdent(row[3]) + "." + sqlIdent(row[4])
	case "3":
		on = " ON SCHEMA::" + sqlIdent(row[5])
	}
	return fmt.Sprintf("REVOKE %s%s FROM %s CASCADE AS %s", row[1], on, sqlIdent(row[2]), sqlIdent(user))
}
