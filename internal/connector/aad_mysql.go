package connector

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// mysqlStatement is one of the statements of a text that an administrator sends
// to a MySQL server.
type mysqlStatement struct {
	kind    mysqlKind
	at, end int // where it stands, without its semicolon
	// Of CREATE AADUSER and DROP USER.
	names   []string
	lenient bool   // IF NOT EXISTS, IF EXISTS
	alias   string // AS
	id      string // IDENTIFIED BY
	// Of GRANT and REVOKE: where the name of one database stands, and the name.
	database    string
	dbAt, dbEnd int
}

// mysqlKind is what a statement is about.
type mysqlKind int

const (
	mysqlOther   mysqlKind = iota // the server's
	mysqlGrant                    // GRANT and REVOKE on a database whose name would stand for others, too
	mysqlCreate                   // CREATE AADUSER
	mysqlDrop                     // DROP USER
	mysqlNothing                  // has no effect here: SET aad_auth_…, FLUSH PRIVILEGES
)

// mysqlDone is a statement that succeeds and does nothing.
const mysqlDone = "DO 0"

// anyHost is the host of every account that is mapped to a principal.
const anyHost = "%"

// parseMySQL reads a text of CREATE AADUSER, DROP USER, SET aad_auth_…, FLUSH
// PRIVILEGES, GRANT and REVOKE; ok is false if there is another statement in
// it, or none for the plane.
func parseMySQL(sql string) (out []mysqlStatement, ok bool) {
	tokens, ok := scan(mysqlDialect, sql)
	if !ok {
		return nil, false
	}
	p := &phrase{tokens: tokens}
	ours := false
	for p.peek().kind != endToken {
		if p.sign(";") {
			continue
		}
		s, ok := p.mysqlStatement()
		if !ok {
			return nil, false
		}
		ours = ours || s.kind != mysqlOther
		out = append(out, s)
	}
	if !ours {
		return nil, false
	}
	return out, true
}

// mysqlStatement reads one statement, up to its semicolon.
func (p *phrase) mysqlStatement() (s mysqlStatement, ok bool) {
	s.at = p.peek().at
	switch {
	case p.word("create", "aaduser"):
		s.kind, ok = mysqlCreate, p.createAADUser(&s)
	case p.word("drop", "user"):
		s.kind, ok = mysqlDrop, p.dropUsers(&s)
	case p.word("flush", "privileges"):
		s.kind, ok = mysqlNothing, true
	case p.word("set"):
		s.kind, ok = mysqlNothing, p.setAAD()
	case p.peek().is("grant"), p.peek().is("revoke"):
		p.grantOn(&s)
		ok = true
	}
	s.end = p.tokens[max(p.at-1, 0)].end
	return s, ok && (p.peek().kind == endToken || p.peek().sign(';'))
}

// grantOn passes a GRANT or REVOKE. In ON `a_b`.* the name is a pattern that
// axb fits, too, and an administrator here has the right to grant on databases
// by their names: the name is meant, as az does.
func (p *phrase) grantOn(s *mysqlStatement) {
	for t := p.peek(); t.kind != endToken && !t.sign(';'); t = p.peek() {
		p.take()
		name := p.peek()
		if s.dbAt > 0 || !t.is("on") || name.kind != nameToken && name.kind != wordToken || !p.ahead(1).sign('.') || !p.ahead(2).sign('*') {
			continue
		}
		if s.dbAt, s.dbEnd, s.database = name.at, name.end, name.text; strings.Contains(name.text, "_") && !strings.ContainsAny(name.text, `%\`) {
			s.kind = mysqlGrant
		}
	}
}

// createAADUser reads [IF NOT EXISTS] name [AS alias] [IDENTIFIED BY 'id'].
func (p *phrase) createAADUser(s *mysqlStatement) bool {
	s.lenient = p.word("if", "not", "exists")
	name, host, ok := p.account()
	if !ok || host != anyHost {
		return false
	}
	s.names = []string{name}
	if p.word("as") {
		if s.alias, host, ok = p.account(); !ok || host != anyHost {
			return false
		}
	}
	if p.word("identified", "by") {
		t := p.take()
		s.id = t.text
		return t.kind == stringToken || t.kind == nameToken
	}
	return true
}

// dropUsers reads [IF EXISTS] account, … An account on another host than all
// is none of ours: the statement is the server's.
func (p *phrase) dropUsers(s *mysqlStatement) bool {
	s.lenient = p.word("if", "exists")
	for {
		name, host, ok := p.account()
		if !ok || host != anyHost {
			return false
		}
		s.names = append(s.names, name)
		if !p.sign(",") {
			return true
		}
	}
}

// account reads 'name'[@'host'].
func (p *phrase) account() (name, host string, ok bool) {
	t := p.take()
	if t.kind != stringToken && t.kind != nameToken && t.kind != wordToken {
		return "", "", false
	}
	name, host = t.text, anyHost
	if at := p.peek(); at.sign('@') && at.at == t.end {
		p.take()
		h := p.take()
		if h.kind != stringToken && h.kind != nameToken && h.kind != wordToken || h.at != at.end {
			return "", "", false
		}
		host = h.text
	}
	return name, host, name != ""
}

// setAAD reads [SESSION|GLOBAL] aad_auth_validate_oids_in_tenant = ON|OFF.
func (p *phrase) setAAD() bool {
	switch {
	case p.sign("@@"):
		if (p.word("session") || p.word("global")) && !p.sign(".") {
			return false
		}
	case p.word("session"), p.word("global"):
	}
	if !p.word("aad_auth_validate_oids_in_tenant") || !p.sign("=") && !p.sign(":=") {
		return false
	}
	t := p.take()
	switch strings.ToLower(t.text) {
	case "on", "off", "0", "1", "true", "false":
		return t.kind == wordToken || t.kind == numberToken || t.kind == stringToken
	}
	return false
}

// maxSignal is how long MySQL's MESSAGE_TEXT may be. Source: MySQL 8.0
// Reference Manual, 13.6.7.5 (SIGNAL).
const maxSignal = 128

// signal is a statement that fails with an error of MySQL's.
func signal(state string, number int, message string) string {
	var b strings.Builder
	for _, r := range message { // what no character set and no setting of the session changes
		switch {
		case b.Len() >= maxSignal:
		case r < ' ' || r >= utf8.RuneSelf || r == '\\':
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return fmt.Sprintf("SIGNAL SQLSTATE '%s' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = '%s'", state, number, strings.ReplaceAll(b.String(), "'", "''"))
}
