package connector

import (
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

// checkName refuses what cannot be the name of a role or database, what the
// server would read as another name, and what it keeps for itself.
func checkName(what, name string) error {
	bad := func(why string) error {
		return az.Errorf(az.Invalid, "InvalidName", "The name of the %s %s.", what, why)
	}
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > maxName:
		return bad("is longer than the 63 bytes that PostgreSQL keeps")
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return bad("holds a control character")
	}
	return nil
}

// checkRole is checkName for a role that is to be made.
func checkRole(name string) error {
	if err := checkName("role", name); err != nil {
		return err
	}
	folded := strings.ToLower(name)
	if strings.HasPrefix(folded, "pg_") || strings.HasPrefix(folded, "hawser_kept_") || folded == "public" || folded == "none" || folded == adminGroup {
		return az.Errorf(az.Invalid, "InvalidName", "The role name %q is reserved by the server; choose another.", name)
	}
	return nil
}
