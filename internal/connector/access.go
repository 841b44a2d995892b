package connector

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/az"
)

// Access is what a connection may do in its database.
type Access string

// The kinds of access, from less to more.
const (
	Read  Access = "read"  // look at every table and sequence
	Write Access = "write" // and change rows and draw from sequences
	Owner Access = "owner" // and make schemas and tables: ALL PRIVILEGES
)

// parseAccess reads the word of a request; the default is Write, never more
// than was asked for.
func parseAccess(s string) (Access, error) { return accessOr(s, Write) }

// accessOr is parseAccess with another default.
func accessOr(s string, usual Access) (Access, error) {
	switch a := Access(strings.ToLower(s)); a {
	case "":
		return usual, nil
	case Read, Write, Owner:
		return a, nil
	}
	return "", az.Errorf(az.Invalid, "InvalidAccess", "The access of a connection must be read, write or owner.")
}

func (a Access) rank() int {
	switch a {
	case Owner:
		return 3
	case Write:
		return 2
	case Read:
		return 1
	}
	return 0
}

func (a Access) tables() string {
	switch a {
	case Owner:
		return "ALL PRIVILEGES"
	case Write:
		return "SELECT, INSERT, UPDATE, DELETE"
	}
	return "SELECT"
}

func (a Access) sequences() string {
	switch a {
	case Owner:
		return "ALL PRIVILEGES"
	case Write:
		return "USAGE, SELECT"
	}
	return "SELECT"
}

func (a Access) schemas() string {
	if a == Owner {
		return "USAGE, CREATE"
	}
	return "USAGE"
}

func (a Access) database() string {
	if a == Owner {
		return "ALL PRIVILEGES"
	}
	return "CONNECT"
}

// ident quotes an identifier for SQL text; every name that goes into a
// statement goes through it.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// maxName is PostgreSQL's NAMEDATALEN - 1: the server would cut longer names
// silently, and two roles could become one.
const maxName = 63

// checkName refuses what cannot be the name of a role or database of a
// PostgreSQL server, what it would read as another name, and what it keeps for
// itself.
func checkName(what, name string) error {
	return PostgreSQL.family().checkName(what, name, maxName)
}

func (f *family) checkName(what, name string, longest int) error {
	bad := func(format string, args ...any) error {
		return az.Errorf(az.Invalid, "InvalidName", "The name of the %s %s.", what, fmt.Sprintf(format, args...))
	}
	switch {
	case name == "":
		return bad("is empty")
	case f.bytes && len(name) > longest:
		return bad("is longer than the %d bytes that %s keeps", longest, f.word)
	case utf8.RuneCountInString(name) > longest:
		return bad("is longer than the %d characters that %s keeps", longest, f.word)
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return bad("holds a control character")
	case f.kind == MySQL && strings.ContainsFunc(name, func(r rune) bool { return r > 0xffff }):
		return bad("holds a character that MySQL's names cannot")
	}
	return nil
}

// checkRole is checkName for a role that is to be made.
func checkRole(name string) error { return PostgreSQL.family().checkRole(name) }

func reservedPostgres(folded string) bool {
	return strings.HasPrefix(folded, "pg_") || strings.HasPrefix(folded, "hawser_kept_") || folded == "public" || folded == "none" || folded == adminGroup
}

func reservedMySQL(folded string) bool {
	switch folded {
	case "root", "mysql", "public", "none", "current_user", "current_role", "event_scheduler", "system user":
		return true
	}
	return strings.HasPrefix(folded, "mysql.") || strings.HasPrefix(folded, "mariadb.") || strings.HasPrefix(folded, "hawser_")
}

func reservedSQL(folded string) bool {
	switch folded {
	case "sa", "dbo", "guest", "public", "sys", "information_schema", "sysadmin":
		return true
	}
	return strings.HasPrefix(folded, "##") || strings.HasPrefix(folded, "db_") || strings.ContainsAny(folded, `\`)
}
