package tdstest

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Catalog gives a server what SQL Server keeps in its catalogs: who owns what,
// which users its databases have and what they may. It knows the statements
// that make, change and drop logins and users, and enough others to try what a
// user may (catalog_statements.go); their errors are SQL Server's.
type Catalog struct {
	Edition int // 5 is Azure SQL Database; 3 a server
	Version int // 16 is SQL Server 2022
	// Rights are what a login that is no system administrator may do on the
	// server, such as ALTER ANY LOGIN.
	Rights map[string][]string

	server *Server

	mu        sync.Mutex // guards all below
	databases map[string]*Database
}

// Database is one of them.
type Database struct {
	Name        string
	Trustworthy bool
	Owner       string // a login; "" for sa
	State       string // "" for ONLINE
	Users       map[string]*User
	Schemas     map[string]string // schema to the user that owns it
	Triggers    []string          // on the database, run as the caller
}

// User is a user of a database.
type User struct {
	Name   string
	SID    string // 0x…
	Roles  map[string]bool
	Grants map[string]bool
	Gave   []string // to whom it granted SELECT on the database
}

// admins may do everything.
const admin = "sa"

// StartCatalog starts a server with a catalog, some databases and the login sa.
func StartCatalog(t testing.TB, o Options, password string, databases ...string) (*Server, *Catalog) {
	t.Helper()
	c := newCatalog(databases)
	return c.serve(Start(t, c.options(o, databases)), password), c
}

// NewCatalog is StartCatalog without a test; Close of the server ends it.
func NewCatalog(o Options, password string, databases ...string) (*Server, *Catalog, error) {
	c := newCatalog(databases)
	s, err := New(c.options(o, databases))
	if err != nil {
		return nil, nil, err
	}
	return c.serve(s, password), c, nil
}

func newCatalog(databases []string) *Catalog {
	c := &Catalog{Edition: 3, Version: 16, databases: map[string]*Database{}}
	for _, d := range databases {
		c.databases[strings.ToLower(d)] = newDatabase(d)
	}
	return c
}

// options has a server ask the catalog.
func (c *Catalog) options(o Options, databases []string) Options {
	o.Exec, o.May, o.Databases = c.exec, c.may, databases
	return o
}

func (c *Catalog) serve(s *Server, password string) *Server {
	c.server = s
	s.SetLogin(Login{Name: admin, Password: password, SID: []byte{1}})
	return s
}

func newDatabase(name string) *Database {
	return &Database{Name: name, Users: map[string]*User{}, Schemas: map[string]string{"dbo": "dbo"}}
}

// Change lets a test change the catalog behind everybody's back.
func (c *Catalog) Change(database string, fn func(*Database)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(c.databases[strings.ToLower(database)])
}

// User is a copy of a user of a database; false if there is none.
func (c *Catalog) User(database, name string) (User, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.databases[strings.ToLower(database)]
	if d == nil || d.Users[strings.ToLower(name)] == nil {
		return User{}, false
	}
	u := *d.Users[strings.ToLower(name)]
	u.Roles, u.Grants = maps.Clone(u.Roles), maps.Clone(u.Grants)
	return u, true
}

// HasDatabase reports whether a database was made.
func (c *Catalog) HasDatabase(name string) bool { return c.server.HasDatabase(name) }

// sid is a login's, as CONVERT writes it.
func (c *Catalog) sid(login string) string {
	l, ok := c.server.Login(login)
	if !ok {
		return ""
	}
	return "0x" + strings.ToUpper(hex.EncodeToString(l.SID))
}

// may says whether a login may open a database.
func (c *Catalog) may(login, database string) bool {
	if strings.EqualFold(login, admin) || strings.EqualFold(database, "master") || strings.EqualFold(database, "tempdb") {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.userOf(login, database)
	return ok
}

// userOf is the user that a login is in a database.
func (c *Catalog) userOf(login, database string) (*User, bool) {
	d := c.databases[strings.ToLower(database)]
	if d == nil {
		return nil, false
	}
	if strings.EqualFold(d.Owner, login) {
		return &User{Name: "dbo", Roles: map[string]bool{"db_owner": true}}, true
	}
	sid := c.sid(login)
	for _, u := range d.Users {
		if u.SID == sid {
			return u, true
		}
	}
	return nil, false
}

// A form is a statement with places for names, constants and other words.
type form struct {
	re *regexp.Regexp
	do func(c *Catalog, x *Session, d *Database, m []string, params []Param) Result
	// who may: a right on the server, or "database" for owners of the database.
	right string
}

// formOf compiles a form: [] stands for a name, N” for a text, 0x for bytes,
// # for a number, ~ for words and COLLATE @ for a collation.
func formOf(text, right string, do func(c *Catalog, x *Session, d *Database, m []string, params []Param) Result) form {
	p := regexp.QuoteMeta(text)
	for from, to := range map[string]string{`\[\]`: `\[((?:[^\]]|\]\])+)\]`, "N''": `N'((?:[^']|'')*)'`, "0x": `(0x[0-9A-F]+)`, "#": `(\d+)`, "~": `([A-Z ]+)`, "COLLATE @": `COLLATE (\w+)`} {
		p = strings.ReplaceAll(p, from, to)
	}
	return form{regexp.MustCompile("^(?:" + p + ")$"), do, right}
}

// exec is Options.Exec.
func (c *Catalog) exec(_ context.Context, x *Session, sql string, params []Param) (Result, bool) {
	for _, f := range forms {
		m := f.re.FindStringSubmatch(sql)
		if m == nil {
			continue
		}
		for i := range m {
			m[i] = strings.NewReplacer("]]", "]", "''", "'").Replace(m[i])
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.allowed(x, f.right) {
			return Error(15247, 16, "User does not have permission to perform this action."), true
		}
		return f.do(c, x, c.databases[strings.ToLower(x.Database)], m, params), true
	}
	return Result{}, false
}

// allowed reports whether a session's login may use a form.
func (c *Catalog) allowed(x *Session, right string) bool {
	if right == "" || strings.EqualFold(x.Login, admin) {
		return true
	}
	u, ok := c.userOf(x.Login, x.Database)
	if right == "database" {
		return ok && (u.Roles["db_owner"] || u.Grants["CONTROL"])
	}
	return slices.Contains(c.Rights[x.Login], right)
}

// has reports whether a user may something in its database.
func (u *User) has(what string) bool {
	switch {
	case u.Roles["db_owner"], u.Grants["CONTROL"], u.Grants[what]:
		return true
	case what == "SELECT":
		return u.Roles["db_datareader"]
	case what == "INSERT":
		return u.Roles["db_datawriter"]
	}
	return false
}

// done is a statement that gives nothing.
var done = Result{}

// one is a row of columns without names.
func one(values ...any) Result { return rows([][]any{values}, len(values)) }

func rows(all [][]any, width int) Result {
	set := Set{Rows: Rows(all...)}
	for i := range width {
		t := NVarCharMax
		if len(all) > 0 {
			t = typeOf(all[0][i])
		}
		set.Columns = append(set.Columns, Column{Type: t})
	}
	return Result{Sets: []Set{set}}
}

// text is the parameter @p1.
func text(params []Param) string {
	for _, p := range params {
		if p.Name == "@p1" {
			return fmt.Sprint(p.Value)
		}
	}
	return ""
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
