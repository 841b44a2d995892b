package connector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sidBytes, sidGUID = "0x33221100554477668899AABBCCDDEEFF", "00112233-4455-6677-8899-aabbccddeeff"

// TestParseAAD: what PostgreSQL's own parser reads the same way is understood.
func TestParseAAD(t *testing.T) {
	t.Parallel()
	const create = "pgaadauth_create_principal_with_oid"
	for sql, want := range map[string][]string{
		"select * from pgaadauth_create_principal_with_oid('aad_c', 'oid', 'service', false, false);": {create, "aad_c", "oid", "service", "false", "false"},
		" SELECT\n*\tFROM Pg_Catalog . PGAADAUTH_x ( 'it''s' ,TRUE ) ; ":                              {"pgaadauth_x", "it's", "true"},
		"select pgaadauth_list_principals(false)":                                                     {"pgaadauth_list_principals", "false"},
		"select pgaadauth_sync()":                                                                     {"pgaadauth_sync"},
		`select * from "pgaadauth_x"('a')`:                                                            {"pgaadauth_x", "a"},
		"select * from pgaadauth_x('a') -- why":                                                       {"pgaadauth_x", "a"},
		"/* a /* b */ ' */select/**/pgaadauth_x('a')--":                                               {"pgaadauth_x", "a"},
		"select pgaadauth_x(E'a\\'b\\\\c')":                                                           {"pgaadauth_x", `a'b\c`},
		"select pgaadauth_x($$it's \\ all$$, $t$ $$ $t$)":                                             {"pgaadauth_x", `it's \ all`, " $$ "},
		"select pgaadauth_x('a'::text, 'true'::pg_catalog.bool, cast('x' as varchar))":                {"pgaadauth_x", "a", "true", "x"},
		"select pgaadauth_x('a'::character varying::name)":                                            {"pgaadauth_x", "a"},
		"select pgaadauth_create_principal(isMfa => true, roleName := 'r', isAdmin => false)":         {"pgaadauth_create_principal", "r", "false", "true"},
		"select pgaadauth_create_principal('r', ismfa => true, isAdmin => 'off')":                     {"pgaadauth_create_principal", "r", "off", "true"},
		`drop role "Odd ""one"""`:                                                                     {callDropRoles, `Odd "one"`},
		"DROP USER IF EXISTS Ann, bob;":                                                               {callDropRoles, "ann", "bob"},
		`SECURITY LABEL FOR "pgaadauth" ON ROLE "r" IS 'aadauth,oid=x,type=user'`:                     {callLabel, "r", "aadauth,oid=x,type=user"},
		`security label for pgaadauth on role r is null`:                                              {callLabel, "r"},
	} {
		got, ok := parseAAD(sql)
		if !ok || cmp.Diff(append([]string{got.function}, got.args...), want) != "" {
			t.Errorf("%s: %v %v", sql, got, ok)
		}
	}
	for _, sql := range []string{"", "select 1", "select * from pgaadauth_x('a'); drop table t", "select * from pgaadauth_x('a'", `select * from pgaadauth_x('\')`,
		"select * from pgaadauth_x(a)", "select * from public.pgaadauth_x('a')", "select pgaadauth_x('a') from t", "select * from pgaadauth_x('a','b','c','d','e','f')",
		"select pgaadauth_x('a',)", "selectpgaadauth_x()", "insert into t select pgaadauth_x()", "select * from pgaadauth_x($1)", "select * from pgaadauth_x('a' 'b')",
		"select *from other()", "select pgaadauth_x('a\x00')", "select pgaadauth_x(null)", "select pgaadauth_x(1)", "select pgaadauth_x(U&'a')", "select pgaadauth_x(b'1')",
		"select pgaadauth_x('a'\n'b')", "select pgaadauth_x(e'\\x41')", "select pgaadauth_x($$a)", "select pgaadauth_x('a'::int)", "select pgaadauth_x('a'||'b')",
		"select pgaadauth_create_principal(rolename => 'a', 'b', true)", "select pgaadauth_create_principal('a', rolename => 'b', isadmin => true)",
		"select pgaadauth_create_principal('a', nosuch => 'b', ismfa => true)", "select pgaadauth_create_principal(ismfa => true)", "select /* pgaadauth_x()",
		"select pgaadauth_create_principal('a', isadmin => true, isadmin => true)", "drop role", "drop role a b", "drop role a,", "drop role session_user()", "drop role b; drop role c",
		"drop role größe", "drop table a", "security label for pgaadauth on role r is 5", "security label on role r is 'x'", "security label for selinux on role r is 'x'",
		"security label for pgaadauth on table r is 'x'", "SELECT pgaadauth_\u212A('a')", "\u017Felect pgaadauth_x('a')"} {
		if got, ok := parseAAD(sql); ok {
			t.Errorf("%s: read as %v", sql, got)
		}
	}
}

func TestParseLabel(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]aadLabel{"aadauth,oid=x,type=user": {oid: "x", kind: "user"}, "aadauth, type=group ,oid=x,admin,mfa": {oid: "x", kind: "group", admin: true, mfa: true}} {
		if got, ok := parseLabel(s); !ok || got != want {
			t.Errorf("%s: %v %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "aadauth", "aadauth,oid=x", "aadauth,oid=x,oid=y,type=user", "aadauth,oid=x,type=user,root", "oid=x,type=user", "aadauth,oid=x,type=user,admin=false"} {
		if _, ok := parseLabel(s); ok {
			t.Errorf("%q is read", s)
		}
	}
}

func TestParseLists(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"select rolename from pgaadauth_list_principals(false) where isadmin = 1":                                                   "pgaadauth_list_principals(false) bare",
		"select * from a, pg_catalog.pgaadauth_list_principals('t'::bool) as p(x), (select 1 from pgaadauth_list_principals(true))": "pg_catalog.pgaadauth_list_principals('t'::bool) named|pgaadauth_list_principals(true) bare",
		"select 'from pgaadauth_list_principals(true)' from pgaadauth_list_principals(false) p":                                     "pgaadauth_list_principals(false) named",
	} {
		all, ok := parseLists(sql)
		var got []string
		for _, c := range all {
			got = append(got, sql[c.at:c.end]+map[bool]string{true: " bare", false: " named"}[c.bare])
		}
		if !ok || strings.Join(got, "|") != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
	for _, sql := range []string{"select 1", "select pgaadauth_list_principals(false) from t", "select * from pgaadauth_list_principals(x)", "select * from public.pgaadauth_list_principals(true)",
		"select * from pgaadauth_list_principals(false), pgaadauth_list_principals($1)", "select * from pgaadauth_list_principals(false"} {
		if all, ok := parseLists(sql); ok {
			t.Errorf("%s: %+v", sql, all)
		}
	}
}

func TestParseMySQL(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"CREATE AADUSER 'aad_c' IDENTIFIED BY 'id';":                     "create aad_c as= id=id",
		"create aaduser `a@b`@`%` as 'short'":                            "create a@b as=short id=",
		"/* x */ Create AADUser IF NOT EXISTS \"ann\"@'%' -- y\n":        "create? ann as= id=",
		"GRANT ALL ON `a_b`.* TO x; revoke select (c) on a_b . * from y": "grant a_b|grant a_b",
		"SET aad_auth_validate_oids_in_tenant = OFF;":                    "nothing",
		"set @@session.aad_auth_validate_oids_in_tenant=on":              "nothing",
		"FLUSH privileges;":                 "nothing",
		"DROP USER IF EXISTS 'aad_c'@'%'; ": "drop? aad_c as= id=",
		"drop user 'a', `b`@'%'":            "drop a,b as= id=",
		"DROP USER IF EXISTS 'u'@'%'; CREATE AADUSER 'u'; GRANT ALL ON `a;b`.* TO 'u'@'%'; # end\nFLUSH PRIVILEGES": "drop? u as= id=|create u as= id=|other|nothing",
	} {
		got, ok := parseMySQL(sql)
		var all []string
		for _, s := range got {
			word := map[mysqlKind]string{mysqlGrant: "grant " + s.database, mysqlCreate: "create", mysqlDrop: "drop", mysqlNothing: "nothing", mysqlOther: "other"}[s.kind]
			if s.lenient {
				word += "?"
			}
			if s.kind == mysqlCreate || s.kind == mysqlDrop {
				word += fmt.Sprintf(" %s as=%s id=%s", strings.Join(s.names, ","), s.alias, s.id)
			}
			all = append(all, word)
		}
		if !ok || strings.Join(all, "|") != want {
			t.Errorf("%s: %v %v", sql, all, ok)
		}
	}
	for _, sql := range []string{"", ";", "select 1", "GRANT ALL ON ab.* TO x", "GRANT ALL ON `a_%`.* TO x", "GRANT ALL ON a_b.t TO x", "GRANT SELECT (a_b) ON *.* TO a_b", "GRANT x ON `a\\_b`.* TO y", "GRANT ALL ON *.* TO 'u'@'%'", "create aaduser", "create aaduser 'a'@'localhost'", "create aaduser 'a', 'b'", `create aaduser 'a\'b'`,
		"create aaduser 'a' identified by", "create aaduser 'a' identified by id", "create aaduser 'a' identified with x", "/*! create aaduser 'a' */", "create /*!50000 aaduser */ 'a'",
		"create aaduser 'a' /*M! as 'b' */", "create aaduser 'a' /* /* */", "create aaduser 'a' --x", "create aaduser 'a'; select 1", "create aaduser 'a'; delete from t", "set aad_auth_only = off",
		"set aad_auth_validate_oids_in_tenant = off, sql_log_bin = 0", "flush tables", "flush privileges, tables", "drop user 'a'@'10.0.0.1'", "create aaduser 'a\x00'", "create aaduser 'a", "create aaduser ''",
		"create aaduser 'a' grant", "delimiter // create aaduser 'a'"} {
		if got, ok := parseMySQL(sql); ok {
			t.Errorf("%s: read as %+v", sql, got)
		}
	}
}

func TestParseTSQL(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"CREATE USER [web] FROM EXTERNAL PROVIDER":                                                                      "user web oid= sid= group=false schema= [CREATE USER [web] FROM EXTERNAL PROVIDER]",
		`create user "o'x ""y""" from external provider;`:                                                               `user o'x "y" oid= sid= group=false schema= [create user "o'x ""y""" from external provider]`,
		"CREATE USER [a]]b] FROM EXTERNAL PROVIDER WITH OBJECT_ID = N'id', DEFAULT_SCHEMA=[dbo] GRANT SELECT TO [a]]b]": "user a]b oid=id sid= group=false schema=dbo [CREATE USER [a]]b] FROM EXTERNAL PROVIDER WITH OBJECT_ID = N'id', DEFAULT_SCHEMA=[dbo]]",
		"CREATE USER web WITH SID = " + sidBytes + ", TYPE = E;":                                                        "user web oid= sid=" + sidGUID + " group=false schema= [CREATE USER web WITH SID = " + sidBytes + ", TYPE = E]",
		"create user [g] with type=x, sid=" + sidBytes + ", default_schema=s":                                           "user g oid= sid=" + sidGUID + " group=true schema=s [create user [g] with type=x, sid=" + sidBytes + ", default_schema=s]",
		"CREATE LOGIN [ann@x] FROM EXTERNAL PROVIDER":                                                                   "login ann@x oid= sid= group=false schema= [CREATE LOGIN [ann@x] FROM EXTERNAL PROVIDER]",
		"DROP USER IF EXISTS [a];DROP LOGIN b":                                                                          "drop? user a [DROP USER IF EXISTS [a]]|drop login b [DROP LOGIN b]",
		"IF NOT EXISTS (SELECT 1 FROM sys.database_principals WHERE name = N'CREATE USER [no] FROM EXTERNAL PROVIDER') /* /* */ create user [no] from external provider */\nBEGIN\n\tCREATE USER [web] FROM EXTERNAL PROVIDER\nEND -- create user [no]\nALTER ROLE db_datareader ADD MEMBER [web]": "user web oid= sid= group=false schema= [CREATE USER [web] FROM EXTERNAL PROVIDER]",
	} {
		got, ok := parseTSQL(sql)
		var all []string
		for _, s := range got {
			what := "user"
			if s.login {
				what = "login"
			}
			out := fmt.Sprintf("%s %s oid=%s sid=%s group=%t schema=%s", what, s.name, s.oid, s.sid, s.group, s.schema)
			if s.kind == tsqlDrop {
				out = fmt.Sprintf("drop%s %s %s", map[bool]string{true: "?"}[s.lenient], what, s.name)
			}
			all = append(all, out+" ["+sql[s.at:s.end]+"]")
		}
		if !ok || strings.Join(all, "|") != want {
			t.Errorf("%s:\n%s\n%s\n%v", sql, strings.Join(all, "|"), want, ok)
		}
	}
	for _, sql := range []string{"", "select 1", "CREATE USER [a] FOR LOGIN [a]", "CREATE USER [a] FROM LOGIN [b]", "CREATE USER [a] WITH PASSWORD = 'x'", "CREATE USER [a] WITHOUT LOGIN", "CREATE USER [a]",
		"CREATE LOGIN [a] WITH PASSWORD = 'x', SID = " + sidBytes, "CREATE USER [a] FROM EXTERNAL PROVIDER WITH OBJECT_ID", "CREATE USER [a] FROM EXTERNAL PROVIDER WITH PASSWORD='x'",
		"CREATE USER [a] FROM EXTERNAL PROVIDER + 1", "CREATE USER [a] FROM EXTERNAL PROVIDER WITH SID=" + sidBytes + ",TYPE=E", "CREATE USER [a] WITH SID=0x00, TYPE=E", "CREATE USER [a] WITH SID=" + sidBytes,
		"CREATE USER @a FROM EXTERNAL PROVIDER", "CREATE USER '[a]' FROM EXTERNAL PROVIDER", "CREATE USER [a FROM EXTERNAL PROVIDER", "CREATE USER [a] FROM EXTERNAL PROVIDER /*",
		"EXEC('CREATE USER [a] FROM EXTERNAL PROVIDER')", "CREATE PROC p AS CREATE USER [a] FROM EXTERNAL PROVIDER", "create or alter procedure p as create user [a] from external provider",
		"ALTER TRIGGER t ON DATABASE FOR x AS CREATE USER [a] FROM EXTERNAL PROVIDER", "GRANT CREATE USER TO [a]", "DROP USER @a", "DROP USER", "CREATE USER [] FROM EXTERNAL PROVIDER", "-- x\rCREATE USER [a] FROM EXTERNAL PROVIDER",
		"CREATE USER [a] FROM EXTERNAL PROVIDER; CREATE USER [b] FROM EXTERNAL PROVIDER WITH NONSENSE = 1"} {
		if got, ok := parseTSQL(sql); ok {
			t.Errorf("%s: read as %+v", sql, got)
		}
	}
}

// TestInstead: what the server is told cannot be broken out of.
func TestInstead(t *testing.T) {
	t.Parallel()
	evil := "x'; drop table t; --\\\n$hawser$; $haw$hawser$ser$ ]]; \u00e9" + strings.Repeat("y", 200)
	if got := raise("42501", evil); strings.Count(got, "$hawser$") != 2 || strings.Count(got, "'") != 5 || !strings.Contains(got, `x\'; drop`) {
		t.Error(got)
	}
	got := signal("HY000", 1396, evil)
	if tokens, ok := scan(mysqlDialect, got); !ok || len(tokens) != 12 || len(tokens[10].text) != maxSignal {
		t.Errorf("%s: %+v", got, tokens)
	}
	for _, got := range []string{raiseError(sqlNotFound, evil), tsqlStatement{name: evil, schema: evil}.forLogin()} {
		tokens, ok := scan(tsqlDialect, got)
		if !ok || len(tokens) > 12 {
			t.Errorf("%s: %d", got, len(tokens))
		}
	}
	if tokens, ok := scan(postgresDialect, literal(evil)); !ok || len(tokens) != 2 || tokens[0].text != evil {
		t.Errorf("%+v", tokens)
	}
}

// FuzzAADPostgres: what is read is written another way and read the same.
func FuzzAADPostgres(f *testing.F) {
	for _, s := range []string{"select * from pgaadauth_x('a''b', true, $$c$$::text);", "select pgaadauth_x(", "drop user if exists a, \"B\"", "select pgaadauth_create_principal(rolename => E'\\'', isadmin => true, ismfa := 'f')",
		"security label for \"pgaadauth\" on role r is 'aadauth,oid=x,type=user'", "select /*/**/*/ pgaadauth_x()--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		call, ok := parseAAD(sql)
		if !ok {
			return
		}
		var args []string
		for _, a := range call.args {
			args = append(args, literal(a))
		}
		again := aadCall{}
		switch call.function {
		case callDropRoles:
			for i, a := range call.args {
				args[i] = ident(a)
			}
			again, ok = parseAAD("drop role " + strings.Join(args, ","))
		case callLabel:
			text := "NULL"
			if len(args) > 1 {
				text = args[1]
			}
			again, ok = parseAAD("security label for pgaadauth on role " + ident(call.args[0]) + " is " + text)
		default:
			again, ok = parseAAD("select * from " + ident(call.function) + "(" + strings.Join(args, ",") + ")")
		}
		if !ok || again.function != call.function || strings.Join(again.args, "\x00") != strings.Join(call.args, "\x00") {
			for _, a := range args {
				if strings.ContainsAny(a, "\b\f") || a == "" { // not written back
					return
				}
			}
			t.Errorf("%q: %v, then %v", sql, call, again)
		}
	})
}

// FuzzAADMySQL: statements stand in the text in order, apart, and what they say
// stands in them.
func FuzzAADMySQL(f *testing.F) {
	for _, s := range []string{"drop user if exists 'u'@'%';create aaduser `u` as \"v\" identified by 'w';flush privileges", "set aad_auth_validate_oids_in_tenant=off", "/*! create aaduser 'a' */", "grant x to y; flush privileges # z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		all, ok := parseMySQL(sql)
		last := 0
		for _, s := range all {
			if !ok || s.at < last || s.end <= s.at || s.end > len(sql) {
				t.Fatalf("%q: %+v", sql, all)
			}
			for _, n := range s.names {
				if one, ok := parseMySQL("drop user " + mysqlIdent(n)); !ok || len(one) != 1 || len(one[0].names) != 1 || one[0].names[0] != n {
					t.Errorf("%q: %q", sql, n)
				}
			}
			last = s.end
		}
		if again, ok2 := parseMySQL("/**/ " + sql); ok2 != ok || len(again) != len(all) {
			t.Errorf("%q: %v, after a comment %v", sql, all, again)
		}
	})
}

// FuzzTSQL: the same for batches of T-SQL.
func FuzzTSQL(f *testing.F) {
	for _, s := range []string{"if 1=1 create user [a]]] from external provider with object_id=N'x', default_schema=\"y\" else drop user if exists b", "CREATE USER w WITH SID=" + sidBytes + ",TYPE=E", "/* /* */ */ create login [n] from external provider;--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		all, ok := parseTSQL(sql)
		last := 0
		for _, s := range all {
			if !ok || s.at < last || s.end <= s.at || s.end > len(sql) || s.name == "" {
				t.Fatalf("%q: %+v", sql, all)
			}
			one, ok := parseTSQL(sql[s.at:s.end])
			if !ok || len(one) != 1 || one[0].name != s.name || one[0].oid != s.oid || one[0].sid != s.sid {
				t.Errorf("%q: alone it is %+v, not %+v", sql, one, s)
			}
			last = s.end
		}
	})
}
