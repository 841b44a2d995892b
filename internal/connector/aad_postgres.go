package connector

import (
	"fmt"
	"slices"
	"strings"
)

// aadCall is something that the plane is asked to do on a PostgreSQL server: a
// call of one of the functions that Azure's servers have, or a statement that
// means one.
type aadCall struct {
	function string
	args     []string
}

// The names under which statements that are no calls are known here.
const (
	callDropRoles = "DROP ROLE"
	callLabel     = "SECURITY LABEL"
)

// aadFunction is how a function is called. Source: wire/databases.md §2; the
// names of arguments are folded as PostgreSQL folds them.
type aadFunction struct {
	params []string
	bools  int // how many of the last are true or false
}

var (
	withOID      = aadFunction{params: []string{"rolename", "objectid", "objecttype", "isadmin", "ismfa"}, bools: 2}
	aadFunctions = map[string]aadFunction{
		"pgaadauth_create_principal":          {params: []string{"rolename", "isadmin", "ismfa"}, bools: 2},
		"pgaadauth_create_principal_with_oid": withOID,
		"pgaadauth_update_principal_with_oid": withOID,
		"pgaadauth_list_principals":           {params: []string{"isadmin"}, bools: 1},
		"pgaadauth_drop_principal":            {params: []string{"rolename"}},
	}
)

const maxAADArgs = 5

// parseAAD reads what an administrator asks the plane for: a call of a function
// with constants, DROP ROLE, or a security label for pgaadauth. What is written
// another way goes to the server.
func parseAAD(sql string) (aadCall, bool) {
	tokens, ok := scan(postgresDialect, sql)
	if !ok {
		return aadCall{}, false
	}
	p := &phrase{tokens: tokens}
	var call aadCall
	switch {
	case p.word("select"):
		call, ok = p.aadSelect()
	case p.word("drop", "role"), p.word("drop", "user"):
		call, ok = p.aadDrop()
	case p.word("security", "label", "for"):
		call, ok = p.aadLabel()
	default:
		ok = false
	}
	return call, ok && p.done()
}

// aadSelect reads [* FROM] [pg_catalog.]function(arguments).
func (p *phrase) aadSelect() (aadCall, bool) {
	if p.sign("*") && !p.word("from") {
		return aadCall{}, false
	}
	if p.word("pg_catalog") && !p.sign(".") {
		return aadCall{}, false
	}
	name, ok := p.folded()
	if !ok || !strings.HasPrefix(name, "pgaadauth_") || !p.sign("(") {
		return aadCall{}, false
	}
	call := aadCall{function: name}
	params := aadFunctions[name].params
	named := make([]string, len(params))
	var given []string // the named ones
	for n := 0; !p.sign(")"); n++ {
		if n > 0 && !p.sign(",") || n == maxAADArgs {
			return aadCall{}, false
		}
		param := p.argument()
		value, ok := p.constant()
		i := slices.Index(params, param)
		switch {
		case !ok, param == "" && len(given) > 0, param != "" && i < n-len(given), slices.Contains(given, param):
			return aadCall{}, false
		case param == "":
			call.args = append(call.args, value)
		default:
			given, named[i] = append(given, param), value
		}
	}
	if len(given) > 0 {
		if len(call.args)+len(given) != len(params) {
			return aadCall{}, false
		}
		call.args = append(call.args, named[len(call.args):]...)
	}
	return call, true
}

// listCall is a call of pgaadauth_list_principals inside a query.
type listCall struct {
	at, end int
	admins  string // its argument
	bare    bool   // it has no alias
}

// parseLists finds the calls of pgaadauth_list_principals that stand where a
// table may: they only read, so the rest of the text is the server's.
func parseLists(sql string) (out []listCall, ok bool) {
	tokens, ok := scan(postgresDialect, sql)
	if !ok {
		return nil, false
	}
	for p := (&phrase{tokens: tokens}); p.peek().kind != endToken; {
		if t := p.take(); !t.is("from") && !t.is("join") && !t.sign(',') {
			continue
		}
		call := listCall{at: p.peek().at}
		if p.word("pg_catalog") && !p.sign(".") {
			continue
		}
		if !p.word("pgaadauth_list_principals") || !p.sign("(") {
			continue
		}
		if call.admins, ok = p.constant(); !ok || !p.sign(")") {
			return nil, false
		}
		call.end, call.bare = p.tokens[p.at-1].end, p.noAlias()
		out = append(out, call)
	}
	return out, len(out) > 0
}

// afterTable are the keywords that may follow a table without an alias.
var afterTable = []string{"where", "order", "group", "having", "limit", "offset", "fetch", "join", "inner", "left", "right", "full", "cross", "natural", "on", "using", "union", "except", "intersect", "window", "for"}

// noAlias reports whether a table ends here without an alias.
func (p *phrase) noAlias() bool {
	t := p.peek()
	return t.kind == endToken || t.sign(')') || t.sign(',') || t.sign(';') || t.kind == wordToken && slices.ContainsFunc(afterTable, t.is)
}

// folded reads a name as PostgreSQL folds it.
func (p *phrase) folded() (string, bool) {
	switch t := p.take(); {
	case t.kind == nameToken:
		return t.text, t.text != ""
	case t.kind == wordToken && isASCII(t.text):
		return strings.ToLower(t.text), true
	}
	return "", false
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// argument reads the name of an argument that is given by its name.
func (p *phrase) argument() string {
	before := p.at
	if name, ok := p.folded(); ok && (p.sign("=>") || p.sign(":=")) {
		return name
	}
	p.at = before
	return ""
}

// textTypes and boolTypes are the types that constants may be cast to.
var (
	textTypes = []string{"text", "name", "varchar"}
	boolTypes = []string{"bool", "boolean"}
)

// constant reads a string, true or false, cast or not.
func (p *phrase) constant() (string, bool) {
	if p.word("cast") {
		if !p.sign("(") {
			return "", false
		}
		v, ok := p.constant()
		return v, ok && p.word("as") && p.typeName() && p.sign(")")
	}
	t := p.take()
	if t.kind != stringToken && !t.is("true") && !t.is("false") {
		return "", false
	}
	v := t.text
	if t.kind == wordToken {
		v = strings.ToLower(v)
	}
	for p.sign("::") {
		if !p.typeName() {
			return "", false
		}
	}
	return v, true
}

func (p *phrase) typeName() bool {
	if p.word("character", "varying") {
		return true
	}
	if p.word("pg_catalog") && !p.sign(".") {
		return false
	}
	name, ok := p.folded()
	return ok && (slices.Contains(textTypes, name) || slices.Contains(boolTypes, name))
}

// aadDrop reads [IF EXISTS] name, …
func (p *phrase) aadDrop() (aadCall, bool) {
	call := aadCall{function: callDropRoles}
	p.word("if", "exists")
	for {
		name, ok := p.folded()
		if !ok {
			return call, false
		}
		call.args = append(call.args, name)
		if !p.sign(",") {
			return call, true
		}
	}
}

// aadLabel reads pgaadauth ON ROLE name IS 'label', or NULL.
func (p *phrase) aadLabel() (aadCall, bool) {
	provider := p.take()
	if provider.text != "pgaadauth" || provider.kind == wordToken && !provider.is("pgaadauth") || provider.kind == signToken || !p.word("on", "role") {
		return aadCall{}, false
	}
	role, ok := p.folded()
	if !ok || !p.word("is") {
		return aadCall{}, false
	}
	call := aadCall{function: callLabel, args: []string{role}}
	if p.word("null") {
		return call, true
	}
	t := p.take()
	call.args = append(call.args, t.text)
	return call, t.kind == stringToken
}

// aadLabel is what a security label of Azure's says.
type aadLabel struct {
	oid, kind  string
	admin, mfa bool
}

// parseLabel reads aadauth,oid=…,type=…[,admin][,mfa].
func parseLabel(s string) (l aadLabel, ok bool) {
	parts := strings.Split(s, ",")
	if strings.TrimSpace(parts[0]) != "aadauth" {
		return l, false
	}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case key == "oid" && l.oid == "":
			l.oid = value
		case key == "type" && l.kind == "":
			l.kind = value
		case key == "admin" && value == "":
			l.admin = true
		case key == "mfa" && value == "":
			l.mfa = true
		default:
			return l, false
		}
	}
	return l, l.oid != "" && l.kind != ""
}

// parseBool reads what PostgreSQL's boolean type takes.
func parseBool(s string) (v, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	switch {
	case s == "":
		return false, false
	case s == "1", s == "on", strings.HasPrefix("true", s), strings.HasPrefix("yes", s):
		return true, true
	case s == "0", s == "of", s == "off", strings.HasPrefix("false", s), strings.HasPrefix("no", s):
		return false, true
	}
	return false, false
}

// literal writes a string constant whose meaning no setting changes.
func literal(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// raise is a statement that fails with an error of the plane's. The message
// cannot end the quotes that it stands between.
func raise(state, message string) string {
	return fmt.Sprintf("DO $hawser$BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = %s; END$hawser$", state, strings.ReplaceAll(literal(message), "$", `\x24`))
}
