package connector

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// tsqlStatement is a statement about a principal in a batch of T-SQL.
type tsqlStatement struct {
	kind    tsqlKind
	login   bool // about a login, not a user of a database
	at, end int  // where it stands
	name    string
	lenient bool   // IF EXISTS
	oid     string // WITH OBJECT_ID
	sid     string // WITH SID: the id in it
	group   bool   // TYPE = X
	schema  string // DEFAULT_SCHEMA
}

// tsqlKind is what a statement does.
type tsqlKind int

const (
	tsqlCreate tsqlKind = iota // CREATE USER|LOGIN … FROM EXTERNAL PROVIDER, or WITH SID and TYPE
	tsqlDrop                   // DROP USER|LOGIN
)

// parseTSQL finds the statements for the plane in a batch, which may hold
// others around them; ok is false if there is none, or one that is not wholly
// understood.
func parseTSQL(sql string) (out []tsqlStatement, ok bool) {
	tokens, ok := scan(tsqlDialect, sql)
	if !ok {
		return nil, false
	}
	p := &phrase{tokens: tokens}
	for p.peek().kind != endToken {
		s := tsqlStatement{at: p.peek().at}
		var mine, good bool
		switch {
		case p.makesModule():
			return nil, false // what it holds runs another time
		case p.word("create", "user"):
			mine, good = p.tsqlCreate(&s)
		case p.word("create", "login"):
			s.login = true
			mine, good = p.tsqlCreate(&s)
		case p.word("drop", "user"), p.word("drop", "login"):
			s.kind, s.login = tsqlDrop, p.tokens[p.at-1].is("login")
			s.lenient = p.word("if", "exists")
			mine, good = true, p.tsqlName(&s.name)
		default:
			p.take()
			continue
		}
		if !mine {
			continue
		}
		if next := p.peek(); !good || next.kind != endToken && next.kind != wordToken && !next.sign(';') {
			return nil, false
		}
		s.end = p.tokens[p.at-1].end
		out = append(out, s)
	}
	return out, len(out) > 0
}

// makesModule reports whether a procedure or the like is made here.
func (p *phrase) makesModule() bool {
	if !p.peek().is("create") && !p.peek().is("alter") {
		return false
	}
	n := 1
	if p.ahead(1).is("or") && p.ahead(2).is("alter") {
		n = 3
	}
	for _, w := range []string{"proc", "procedure", "function", "trigger"} {
		if p.ahead(n).is(w) {
			return true
		}
	}
	return false
}

// tsqlName reads an identifier.
func (p *phrase) tsqlName(name *string) bool {
	t := p.take()
	*name = t.text
	return t.text != "" && (t.kind == nameToken || t.kind == wordToken && t.text[0] != '@' && t.text[0] != '#')
}

// tsqlCreate reads what follows CREATE USER or CREATE LOGIN; mine is false for
// users and logins that are the server's own.
func (p *phrase) tsqlCreate(s *tsqlStatement) (mine, good bool) {
	if !p.tsqlName(&s.name) {
		return false, false
	}
	external := p.word("from", "external", "provider")
	if !p.peek().is("with") {
		return external, external
	}
	p.take()
	start := p.at
	good = p.tsqlOptions(s, external)
	if external {
		return true, good
	}
	if s.sid == "" { // a user of the server's own, with a password or without a login
		p.at = start
		return false, false
	}
	return true, good
}

// tsqlOptions reads option = value, …
func (p *phrase) tsqlOptions(s *tsqlStatement, external bool) bool {
	typed := false
	for {
		key := p.take()
		if key.kind != wordToken || !p.sign("=") {
			return false
		}
		value := p.take()
		switch {
		case key.is("object_id") && external && s.oid == "":
			s.oid = value.text
			if value.kind != stringToken || s.oid == "" {
				return false
			}
		case key.is("default_schema") && s.schema == "" && !s.login:
			s.schema = value.text
			if value.kind != nameToken && value.kind != wordToken || s.schema == "" {
				return false
			}
		case key.is("sid") && !external && s.sid == "":
			s.sid = guidOfSID(value)
			if s.sid == "" {
				return false
			}
		case key.is("type") && !external && !typed && (value.is("e") || value.is("x")):
			typed, s.group = true, value.is("x")
		default:
			return false
		}
		if !p.sign(",") {
			return typed == (s.sid != "")
		}
	}
}

// guidOfSID reads 0x and sixteen bytes: a GUID whose first three parts are
// little-endian. Source: wire/databases.md §4.
func guidOfSID(t token) string {
	digits, found := strings.CutPrefix(strings.ToLower(t.text), "0x")
	b, err := hex.DecodeString(digits)
	if t.kind != numberToken || !found || err != nil || len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8:10], b[10:])
}

// tsqlDone is a statement that succeeds, does nothing and answers nothing.
const tsqlDone = "WAITFOR DELAY '00:00:00'"

// forLogin is the statement that makes a user of a login that is there.
func (s tsqlStatement) forLogin() string {
	out := "CREATE USER " + bracket(s.name) + " FOR LOGIN " + bracket(s.name)
	if s.schema != "" {
		out += " WITH DEFAULT_SCHEMA = " + bracket(s.schema)
	}
	return out
}

// bracket quotes an identifier for T-SQL.
func bracket(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }

// national writes a string constant for T-SQL; a line break in one could follow
// a backslash, which would take it away.
func national(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	return "N'" + strings.ReplaceAll(clean, "'", "''") + "'"
}

// raiseError is a statement that fails with one of the server's own messages.
func raiseError(number int, args ...string) string {
	out := fmt.Sprintf("RAISERROR(%d, 16, 1", number)
	for _, a := range args {
		out += ", " + national(a)
	}
	return out + ")"
}
