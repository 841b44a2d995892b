package connector

import (
	"fmt"
	"strings"
)

// use is one role's access to a database.
type use struct {
	Role   string
	Access Access
}

// grantStatements gives a role exactly its access to what is there and to what
// the creators make later. others are the uses of the same database: what the
// role itself will create, if it may, must be open to them as well.
func (f *facts) grantStatements(u use, others []use) []string {
	role := ident(u.Role)
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if f.GrantDatabase {
		add("GRANT %s ON DATABASE %s TO %s", u.Access.database(), ident(f.Database), role)
	}
	for _, s := range f.Schemas {
		if s.Grantable {
			add("GRANT %s ON SCHEMA %s TO %s", u.Access.schemas(), ident(s.Name), role)
		}
		out = append(out, s.Tables.grant(u.Access.tables(), "TABLE", s.Name, role)...)
		out = append(out, s.Sequences.grant(u.Access.sequences(), "SEQUENCE", s.Name, role)...)
	}
	for _, c := range f.Creators {
		if c != u.Role {
			out = append(out, defaultPrivileges(c, u)...)
		}
	}
	if u.Access == Owner {
		for _, o := range others {
			if o.Role != u.Role {
				out = append(out, defaultPrivileges(u.Role, o)...)
			}
		}
	}
	return out
}

func (o objectFacts) grant(privileges, kind, schema, role string) []string {
	if o.All {
		return []string{fmt.Sprintf("GRANT %s ON ALL %sS IN SCHEMA %s TO %s", privileges, kind, ident(schema), role)}
	}
	var names []string
	for _, n := range o.Names {
		names = append(names, ident(schema)+"."+ident(n))
	}
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("GRANT %s ON %s %s TO %s", privileges, kind, strings.Join(names, ", "), role)}
}

// defaultPrivileges opens what creator makes later, in any schema of the
// database.
func defaultPrivileges(creator string, u use) []string {
	text := func(privileges, kind string) string {
		return fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s GRANT %s ON %s TO %s", ident(creator), privileges, kind, ident(u.Role))
	}
	return []string{text(u.Access.schemas(), "SCHEMAS"), text(u.Access.tables(), "TABLES"), text(u.Access.sequences(), "SEQUENCES")}
}

// notes says in sentences what the statements do not reach.
func (f *facts) notes(u use) []string {
	var out []string
	if !f.GrantDatabase && !f.PublicConnect {
		out = append(out, fmt.Sprintf("The administrator login %s does not own the database %s and cannot grant CONNECT on it: its owner must.", f.User, f.Database))
	}
	for _, c := range f.Uncovered {
		if c != u.Role {
			out = append(out, fmt.Sprintf("What the role %s owns or creates is not covered: the administrator login %s is no member of it.", c, f.User))
		}
	}
	if u.Access != Owner {
		for _, s := range f.OpenSchemas {
			out = append(out, fmt.Sprintf("The schema %s lets every role create tables (the default before PostgreSQL 15); to end that: REVOKE CREATE ON SCHEMA %s FROM PUBLIC.", s, ident(s)))
		}
	}
	return out
}
