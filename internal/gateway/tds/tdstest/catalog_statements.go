package tdstest

import (
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// args are what a form's function is given.
type args = []Param

// forms are the statements of a catalog.
var forms = []form{
	formOf("SELECT CAST(SERVERPROPERTY(N'EngineEdition') AS int), CAST(PARSENAME(CAST(SERVERPROPERTY(N'ProductVersion') AS nvarchar(128)), 4) AS int)", "",
		func(c *Catalog, _ *Session, _ *Database, _ []string, _ args) Result {
			return one(int64(c.Edition), int64(c.Version))
		}),
	formOf("SELECT HAS_PERMS_BY_NAME(NULL, NULL, N''), HAS_PERMS_BY_NAME(NULL, NULL, N''), HAS_PERMS_BY_NAME(NULL, NULL, N'')", "",
		func(c *Catalog, x *Session, _ *Database, m []string, _ args) Result {
			return one(bit(c.allowed(x, m[1])), bit(c.allowed(x, m[2])), bit(c.allowed(x, m[3])))
		}),
	formOf("SELECT CONVERT(nvarchar(200), sid, 1) FROM sys.sql_logins WHERE name = @p1", "", func(c *Catalog, _ *Session, _ *Database, _ []string, p args) Result {
		if _, ok := c.server.Login(text(p)); !ok {
			return rows(nil, 1)
		}
		return one(c.sid(text(p)))
	}),
	formOf("SELECT name, state_desc, CAST(is_trustworthy_on AS int) FROM sys.databases WHERE name = @p1", "", func(c *Catalog, _ *Session, _ *Database, _ []string, p args) Result {
		d := c.databases[strings.ToLower(text(p))]
		if d == nil {
			return rows(nil, 3)
		}
		state := d.State
		if state == "" {
			state = "ONLINE"
		}
		return one(d.Name, state, bit(d.Trustworthy))
	}),
	formOf("SELECT name, CAST(is_trustworthy_on AS int), CONVERT(nvarchar(200), owner_sid, 1) FROM sys.databases WHERE state = 0 AND is_read_only = 0 AND name NOT IN (N'', N'', N'', N'') ORDER BY name", "",
		func(c *Catalog, _ *Session, _ *Database, _ []string, _ args) Result {
			var out [][]any
			for _, key := range slices.Sorted(maps.Keys(c.databases)) {
				if d := c.databases[key]; d.State == "" {
					owner := d.Owner
					if owner == "" {
						owner = admin
					}
					out = append(out, []any{d.Name, bit(d.Trustworthy), c.sid(owner)})
				}
			}
			return rows(out, 3)
		}),
	formOf("SELECT session_id FROM sys.dm_exec_sessions WHERE original_login_name = @p1 AND session_id <> @@SPID", "VIEW SERVER STATE",
		func(c *Catalog, x *Session, _ *Database, _ []string, p args) Result {
			var out [][]any
			for _, s := range c.server.Sessions() {
				if s.ID != x.ID && strings.EqualFold(s.Login, text(p)) {
					out = append(out, []any{int64(s.ID)})
				}
			}
			return rows(out, 1)
		}),
	formOf("IF EXISTS (SELECT 1 FROM sys.dm_exec_sessions WHERE session_id = # AND original_login_name = N'') KILL #", "ALTER ANY CONNECTION", kill),
	formOf("CREATE LOGIN [] WITH PASSWORD = N'', SID = 0x, DEFAULT_DATABASE = [], CHECK_POLICY = ON, CHECK_EXPIRATION = OFF", "ALTER ANY LOGIN", createLogin),
	formOf("CREATE LOGIN [] WITH PASSWORD = N'', SID = 0x", "ALTER ANY LOGIN", createLogin),
	formOf("ALTER LOGIN [] WITH PASSWORD = N'' UNLOCK", "ALTER ANY LOGIN", setPassword),
	formOf("ALTER LOGIN [] WITH PASSWORD = N''", "ALTER ANY LOGIN", setPassword),
	formOf("ALTER LOGIN [] ENABLE", "ALTER ANY LOGIN", func(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
		return c.changeLogin(m[1], func(l *Login) { l.Disabled = false })
	}),
	formOf("ALTER LOGIN [] DISABLE", "ALTER ANY LOGIN", func(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
		return c.changeLogin(m[1], func(l *Login) { l.Disabled = true })
	}),
	formOf("DROP LOGIN []", "ALTER ANY LOGIN", dropLogin),
	formOf("GRANT VIEW ANY DEFINITION TO []", "CONTROL SERVER", func(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
		return c.changeLogin(m[1], func(*Login) {})
	}),
	formOf("CREATE DATABASE [] COLLATE @", "CREATE ANY DATABASE", createDatabase),
	formOf("ALTER DATABASE [] SET SINGLE_USER WITH ROLLBACK IMMEDIATE", "CREATE ANY DATABASE", func(c *Catalog, x *Session, _ *Database, m []string, _ args) Result {
		if c.databases[strings.ToLower(m[1])] == nil {
			return Error(5011, 14, "User does not have permission to alter database '%s', the database does not exist, or the database is not in a state that allows access checks.", m[1])
		}
		for _, s := range c.server.Sessions() {
			if s.ID != x.ID && s.in(m[1]) {
				c.server.Kill(s.ID)
			}
		}
		return done
	}),
	formOf("DROP DATABASE IF EXISTS []", "CREATE ANY DATABASE", func(c *Catalog, x *Session, _ *Database, m []string, _ args) Result {
		for _, s := range c.server.Sessions() {
			if s.ID != x.ID && s.in(m[1]) {
				return Error(3702, 16, "Cannot drop database \"%s\" because it is currently in use.", m[1])
			}
		}
		delete(c.databases, strings.ToLower(m[1]))
		c.tellDatabases()
		return done
	}),
	formOf("ALTER AUTHORIZATION ON DATABASE::[] TO []", "CONTROL SERVER", func(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
		c.databases[strings.ToLower(m[1])].Owner = m[2]
		return done
	}),

	formOf("SELECT CONVERT(nvarchar(200), sid, 1) FROM sys.database_principals WHERE name = @p1", "", func(_ *Catalog, _ *Session, d *Database, _ []string, p args) Result {
		if u := d.user(text(p)); u != nil {
			return one(u.SID)
		}
		return rows(nil, 1)
	}),
	formOf("SELECT name FROM sys.database_principals WHERE CONVERT(nvarchar(200), sid, 1) = @p1 AND principal_id > 4", "", func(_ *Catalog, _ *Session, d *Database, _ []string, p args) Result {
		for _, u := range d.Users {
			if u.SID == text(p) {
				return one(u.Name)
			}
		}
		return rows(nil, 1)
	}),
	formOf("SELECT t.name FROM sys.triggers AS t LEFT JOIN sys.sql_modules AS m ON m.object_id = t.object_id WHERE t.parent_class = 0 AND t.is_disabled = 0 AND m.execute_as_principal_id IS NULL", "",
		func(_ *Catalog, _ *Session, d *Database, _ []string, _ args) Result {
			var out [][]any
			for _, name := range d.Triggers {
				out = append(out, []any{name})
			}
			return rows(out, 1)
		}),
	formOf("SELECT name FROM sys.schemas WHERE principal_id = DATABASE_PRINCIPAL_ID(@p1)", "", func(_ *Catalog, _ *Session, d *Database, _ []string, p args) Result {
		var out [][]any
		for s, owner := range d.Schemas {
			if strings.EqualFold(owner, text(p)) {
				out = append(out, []any{s})
			}
		}
		return rows(out, 1)
	}),
	formOf("SELECT name FROM sys.database_principals WHERE type = N'' AND owning_principal_id = DATABASE_PRINCIPAL_ID(@p1)", "", nothing(1)),
	formOf("SELECT SCHEMA_NAME(schema_id), name FROM sys.objects WHERE parent_object_id = 0 AND principal_id = DATABASE_PRINCIPAL_ID(@p1)", "", nothing(2)),
	formOf("SELECT SCHEMA_NAME(schema_id), name FROM sys.types WHERE principal_id = DATABASE_PRINCIPAL_ID(@p1)", "", nothing(2)),
	formOf("SELECT p.class, p.permission_name, g.name, OBJECT_SCHEMA_NAME(p.major_id), OBJECT_NAME(p.major_id), SCHEMA_NAME(p.major_id) FROM sys.database_permissions AS p JOIN sys.database_principals AS g ON g.principal_id = p.grantee_principal_id WHERE p.class IN (#, #, #) AND p.grantor_principal_id = DATABASE_PRINCIPAL_ID(@p1)", "",
		func(_ *Catalog, _ *Session, d *Database, _ []string, p args) Result {
			var out [][]any
			if u := d.user(text(p)); u != nil {
				for _, to := range u.Gave {
					out = append(out, []any{int64(0), "SELECT", to, nil, nil, nil})
				}
			}
			r := rows(out, 6)
			for i := 3; i < 6; i++ {
				r.Sets[0].Columns[i].Type = NVarCharMax
			}
			return r
		}),
	formOf("SELECT CASE WHEN IS_ROLEMEMBER(N'') = 1 OR HAS_PERMS_BY_NAME(DB_NAME(), N'', N'') = 1 THEN 1 ELSE 0 END, CASE WHEN IS_ROLEMEMBER(N'') = 1 OR HAS_PERMS_BY_NAME(DB_NAME(), N'', N'') = 1 THEN 1 ELSE 0 END, HAS_PERMS_BY_NAME(DB_NAME(), N'', N''), HAS_PERMS_BY_NAME(DB_NAME(), N'', N'')", "",
		func(c *Catalog, x *Session, _ *Database, m []string, _ args) Result {
			u, ok := c.userOf(x.Login, x.Database)
			if !ok {
				return one(int64(0), int64(0), int64(0), int64(0))
			}
			return one(bit(u.has(m[3])), bit(u.has(m[6])), bit(u.has(m[8])), bit(u.has(m[10])))
		}),
	formOf("CREATE USER [] FOR LOGIN []", "database", createUser),
	formOf("RAISERROR(#, 16, 1, N'')", "", raiseMessage),
	formOf("DROP USER []", "database", dropUser),
	formOf("DROP USER IF EXISTS []", "database", func(c *Catalog, x *Session, d *Database, m []string, p args) Result {
		if d.user(m[1]) == nil {
			return done
		}
		return dropUser(c, x, d, m, p)
	}),
	formOf("ALTER ROLE [] ADD MEMBER []", "database", func(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
		return d.change(m[2], func(u *User) { u.Roles[m[1]] = true })
	}),
	formOf("ALTER ROLE [] DROP MEMBER []", "database", func(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
		return d.change(m[2], func(u *User) { delete(u.Roles, m[1]) })
	}),
	formOf("GRANT CONTROL ON DATABASE::[] TO []", "database", func(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
		if !strings.EqualFold(m[1], d.Name) {
			return Error(15151, 16, "Cannot find the database '%s', because it does not exist or you do not have permission.", m[1])
		}
		return d.change(m[2], func(u *User) { u.Grants["CONTROL"] = true })
	}),
	formOf("GRANT EXECUTE TO []", "database", func(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
		return d.change(m[1], func(u *User) { u.Grants["EXECUTE"] = true })
	}),
	formOf("REVOKE ~ FROM [] CASCADE AS []", "database", func(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
		return d.change(m[3], func(u *User) {
			u.Gave = slices.DeleteFunc(u.Gave, func(to string) bool { return strings.EqualFold(to, m[2]) })
		})
	}),
	formOf("ALTER AUTHORIZATION ON SCHEMA::[] TO [dbo]", "database", func(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
		d.Schemas[m[1]] = "dbo"
		return done
	}),

	// What a user tries.
	formOf("SELECT * FROM things", "", try("SELECT", rows(nil, 1))),
	formOf("INSERT INTO things VALUES (1)", "", try("INSERT", done)),
	formOf("EXEC things", "", try("EXECUTE", done)),
	formOf("CREATE TABLE more (x int)", "", try("CONTROL", done)),
	formOf("CREATE SCHEMA []", "database", func(c *Catalog, x *Session, d *Database, m []string, _ args) Result {
		owner := "dbo"
		if u, ok := c.userOf(x.Login, x.Database); ok {
			owner = u.Name
		}
		d.Schemas[m[1]] = owner
		return done
	}),
}

// in reports whether a session logged in to a database. It may have gone to
// another since: that is its own to know.
func (x *Session) in(database string) bool { return strings.EqualFold(x.first, database) }

func nothing(width int) func(*Catalog, *Session, *Database, []string, args) Result {
	return func(*Catalog, *Session, *Database, []string, args) Result { return rows(nil, width) }
}

// try is a statement that needs a permission.
func try(permission string, r Result) func(*Catalog, *Session, *Database, []string, args) Result {
	return func(c *Catalog, x *Session, _ *Database, _ []string, _ args) Result {
		u, ok := c.userOf(x.Login, x.Database)
		if !strings.EqualFold(x.Login, admin) && (!ok || !u.has(permission)) {
			return Error(229, 14, "The %s permission was denied on the object 'things', database '%s', schema 'dbo'.", permission, x.Database)
		}
		return r
	}
}

func (d *Database) user(name string) *User {
	if d == nil {
		return nil
	}
	return d.Users[strings.ToLower(name)]
}

func (d *Database) change(name string, fn func(*User)) Result {
	u := d.user(name)
	if u == nil {
		return Error(15151, 16, "Cannot find the user '%s', because it does not exist or you do not have permission.", name)
	}
	fn(u)
	return done
}

func kill(c *Catalog, x *Session, _ *Database, m []string, _ args) Result {
	n, _ := strconv.ParseUint(m[1], 10, 16)
	for _, s := range c.server.Sessions() {
		if uint64(s.ID) == n && strings.EqualFold(s.Login, m[2]) {
			if m[3] != m[1] {
				return Error(102, 15, "the ids differ")
			}
			if s.ID == x.ID {
				return Error(6104, 16, "Cannot use KILL to kill your own process.")
			}
			c.server.Kill(s.ID)
		}
	}
	return done
}

func createLogin(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
	name, password := m[1], m[2]
	sid, err := hex.DecodeString(m[3][2:])
	long, policy := 16, len(m) > 4
	if c.Edition == 5 {
		long = 32
	}
	if err != nil || len(sid) != long || policy && c.Edition == 5 {
		return Error(15021, 16, "Invalid value given for parameter SID. Specify a valid parameter value.")
	}
	if policy && !complex(name, password) {
		return Error(15118, 16, "Password validation failed. The password does not meet the operating system policy requirements because it is not complex enough.")
	}
	for _, l := range c.server.Logins() {
		if strings.EqualFold(l.Name, name) {
			return Error(15025, 16, "The server principal '%s' already exists.", name)
		}
		if string(l.SID) == string(sid) {
			return Error(15433, 16, "Supplied parameter sid is in use.")
		}
	}
	c.server.SetLogin(Login{Name: name, Password: password, SID: sid})
	return done
}

// complex is the policy of Windows: eight characters, three kinds of four, and
// not the name.
func complex(name, password string) bool {
	kinds := 0
	for _, is := range []func(rune) bool{unicode.IsUpper, unicode.IsLower, unicode.IsDigit, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }} {
		if strings.ContainsFunc(password, is) {
			kinds++
		}
	}
	return len(password) >= 8 && len(password) <= 128 && kinds >= 3 && !strings.Contains(strings.ToLower(password), strings.ToLower(name))
}

func setPassword(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
	if !complex(m[1], m[2]) {
		return Error(15118, 16, "Password validation failed. The password does not meet the operating system policy requirements because it is not complex enough.")
	}
	return c.changeLogin(m[1], func(l *Login) { l.Password = m[2] })
}

func (c *Catalog) changeLogin(name string, fn func(*Login)) Result {
	l, ok := c.server.Login(name)
	if !ok {
		return Error(15151, 16, "Cannot alter the login '%s', because it does not exist or you do not have permission.", name)
	}
	fn(&l)
	c.server.SetLogin(l)
	return done
}

func dropLogin(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
	if _, ok := c.server.Login(m[1]); !ok {
		return Error(15151, 16, "Cannot drop the login '%s', because it does not exist or you do not have permission.", m[1])
	}
	for _, s := range c.server.Sessions() {
		if strings.EqualFold(s.Login, m[1]) {
			return Error(15434, 16, "Could not drop login '%s' as the user is currently logged in.", m[1])
		}
	}
	for _, d := range c.databases {
		if strings.EqualFold(d.Owner, m[1]) {
			return Error(15174, 16, "Login '%s' owns one or more database(s). Change the owner of the database(s) before dropping the login.", m[1])
		}
	}
	c.server.DropLogin(m[1])
	return done
}

func createUser(c *Catalog, _ *Session, d *Database, m []string, _ args) Result {
	if d.user(m[1]) != nil {
		return Error(15023, 16, "User, group, or role '%s' already exists in the current database.", m[1])
	}
	sid := c.sid(m[2])
	if sid == "" {
		return Error(15007, 16, "'%s' is not a valid login or you do not have permission.", m[2])
	}
	for _, u := range d.Users {
		if u.SID == sid {
			return Error(15063, 16, "The login already has an account under a different user name.")
		}
	}
	d.Users[strings.ToLower(m[1])] = &User{Name: m[1], SID: sid, Roles: map[string]bool{}, Grants: map[string]bool{}}
	return done
}

// messages are some of sys.messages.
var messages = map[string]string{
	"15023": "User, group, or role '%s' already exists in the current database.",
	"33130": "Principal '%s' could not be found or this principal type is not supported.",
	"33131": "Principal '%s' has a duplicate display name. Make the display name unique in Azure Active Directory and execute this statement again.",
}

// raiseMessage is RAISERROR with the number of one of the server's messages.
func raiseMessage(_ *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
	number, err := strconv.ParseInt(m[1], 10, 32)
	if text := messages[m[1]]; err == nil && text != "" {
		return Error(int32(number), 16, text, m[2])
	}
	return Error(18054, 16, "Error %s, severity 16, state 1 was raised, but no message with that error number was found in sys.messages.", m[1])
}

func dropUser(_ *Catalog, _ *Session, d *Database, m []string, _ args) Result {
	u := d.user(m[1])
	if u == nil {
		return Error(15151, 16, "Cannot drop the user '%s', because it does not exist or you do not have permission.", m[1])
	}
	for s, owner := range d.Schemas {
		if strings.EqualFold(owner, m[1]) {
			return Error(15138, 16, "The database principal owns a schema ('%s') in the database, and cannot be dropped.", s)
		}
	}
	if len(u.Gave) > 0 {
		return Error(15284, 16, "The database principal has granted or denied permissions to objects in the database and cannot be dropped.")
	}
	delete(d.Users, strings.ToLower(m[1]))
	return done
}

// tellDatabases has the wire half open the databases that there are now.
func (c *Catalog) tellDatabases() {
	var names []string
	for _, d := range c.databases {
		names = append(names, d.Name)
	}
	c.server.SetDatabases(names)
}

func createDatabase(c *Catalog, _ *Session, _ *Database, m []string, _ args) Result {
	if c.databases[strings.ToLower(m[1])] != nil {
		return Error(1801, 16, "Database '%s' already exists. Choose a different database name.", m[1])
	}
	if !strings.HasSuffix(m[2], "_AS") && !strings.HasSuffix(m[2], "_UTF8") && !strings.HasPrefix(m[2], "Latin1_") {
		return Error(448, 16, "Invalid collation '%s'.", m[2])
	}
	c.databases[strings.ToLower(m[1])] = newDatabase(m[1])
	c.tellDatabases()
	return done
}
