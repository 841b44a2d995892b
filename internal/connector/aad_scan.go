package connector

import (
	"strings"
)

// What an administrator says is read token by token, exactly as the server it
// is meant for would read it. Whatever could mean one thing or another by a
// setting of the session (a backslash, an executable comment) is not understood,
// and what is not understood goes to the server unchanged.

// dialect is whose rules a text is read by.
type dialect int

const (
	postgresDialect dialect = iota
	mysqlDialect
	tsqlDialect
)

// tokenKind is what a token is.
type tokenKind int

const (
	endToken    tokenKind = iota // after the last
	wordToken                    // an identifier or keyword without quotes; text is as written
	nameToken                    // an identifier in quotes; text is what they hold
	stringToken                  // a string constant; text is its value
	numberToken
	signToken // one character
)

// token is a piece of a statement and where it stands in it.
type token struct {
	kind    tokenKind
	text    string
	at, end int
}

// is reports whether the token is a word, in any case of ASCII letters.
func (t token) is(word string) bool { return t.kind == wordToken && equalASCII(t.text, word) }

// sign reports whether the token is a sign.
func (t token) sign(c byte) bool { return t.kind == signToken && t.text[0] == c }

// equalASCII is strings.EqualFold without the letters of other scripts that
// fold to ASCII ones: K, the Kelvin sign, is no K to a server.
func equalASCII(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		if lowerByte(s[i]) != lower[i] {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// scan reads a whole text; ok is false if any of it is not understood. The
// last token is an endToken.
func scan(d dialect, sql string) (tokens []token, ok bool) {
	s := scanner{d: d, text: sql}
	for {
		if !s.skip() {
			return nil, false
		}
		if s.at == len(sql) {
			return append(tokens, token{kind: endToken, at: s.at, end: s.at}), true
		}
		t := token{at: s.at}
		if !s.next(&t) {
			return nil, false
		}
		t.end = s.at
		tokens = append(tokens, t)
	}
}

// scanner is where the reading of a text stands.
type scanner struct {
	d    dialect
	text string
	at   int
}

func (s *scanner) starts(with string) bool { return strings.HasPrefix(s.text[s.at:], with) }

// skip passes blanks and comments.
func (s *scanner) skip() bool {
	for s.at < len(s.text) {
		c := s.text[s.at]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			s.at++
		case s.starts("--"):
			if s.d == mysqlDialect && s.at+2 < len(s.text) && s.text[s.at+2] > ' ' {
				return false // two signs of minus
			}
			if !s.line() {
				return false
			}
		case c == '#' && s.d == mysqlDialect:
			if !s.line() {
				return false
			}
		case s.starts("/*"):
			if !s.comment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// line passes a comment that ends with its line. Servers differ in whether a
// carriage return alone ends one.
func (s *scanner) line() bool {
	n := strings.IndexByte(s.text[s.at:], '\n')
	if n < 0 {
		n = len(s.text) - s.at
	}
	body := strings.TrimSuffix(s.text[s.at:s.at+n], "\r")
	s.at += n
	return !strings.ContainsAny(body, "\r\x00")
}

// comment passes one between slashes and stars. MySQL's do not nest, and some
// of them are statements.
func (s *scanner) comment() bool {
	depth := 0
	start := s.at
	for s.at < len(s.text) {
		switch {
		case s.starts("/*"):
			depth++
			s.at += 2
			if s.d == mysqlDialect && (depth > 1 || s.starts("!") || s.starts("M!") || s.starts("+")) {
				return false
			}
		case s.starts("*/"):
			depth--
			s.at += 2
			if depth == 0 {
				return !strings.Contains(s.text[start:s.at], "\x00")
			}
		default:
			s.at++
		}
	}
	return false
}

// next reads one token; s stands behind it then.
func (s *scanner) next(t *token) bool {
	c := s.text[s.at]
	switch {
	case c == 0:
		return false
	case c == '\'':
		return s.quoted(t, stringToken, '\'', s.d == tsqlDialect)
	case c == '"' && s.d == mysqlDialect: // a string or a name, by a setting; where one stands the other may not
		return s.quoted(t, nameToken, '"', false)
	case c == '"':
		return s.quoted(t, nameToken, '"', true)
	case c == '`' && s.d == mysqlDialect:
		return s.quoted(t, nameToken, '`', true)
	case c == '[' && s.d == tsqlDialect:
		return s.quoted(t, nameToken, ']', true)
	case c == '$' && s.d == postgresDialect:
		return s.dollar(t)
	case s.wordByte(c, true):
		return s.word(t)
	case c >= '0' && c <= '9':
		t.kind = numberToken
		s.run(t, func(c byte) bool { return s.wordByte(c, false) || c == '.' })
		return true
	case c == '\\' || c < ' ':
		return false
	}
	t.kind, t.text = signToken, s.text[s.at:s.at+1]
	s.at++
	return true
}

// run reads as long as bytes are wanted.
func (s *scanner) run(t *token, want func(byte) bool) {
	start := s.at
	for s.at < len(s.text) && want(s.text[s.at]) {
		s.at++
	}
	t.text = s.text[start:s.at]
}

// wordByte reports whether a byte may stand in a word.
func (s *scanner) wordByte(c byte, first bool) bool {
	switch {
	case c == '_' || c >= 0x80 || lowerByte(c) >= 'a' && lowerByte(c) <= 'z':
		return true
	case c >= '0' && c <= '9':
		return !first
	case c == '$':
		return !first || s.d == mysqlDialect
	case c == '@' || c == '#':
		return s.d == tsqlDialect
	}
	return false
}

// word reads a word, or the string whose prefix it is.
func (s *scanner) word(t *token) bool {
	t.kind = wordToken
	s.run(t, func(c byte) bool { return s.wordByte(c, false) })
	if !s.starts("'") {
		return true
	}
	switch {
	case s.d == tsqlDialect && equalASCII(t.text, "n"):
		return s.quoted(t, stringToken, '\'', true)
	case s.d == postgresDialect && equalASCII(t.text, "e"):
		return s.escaped(t)
	}
	return s.d == tsqlDialect // other prefixes of strings: none is of use here
}

// quoted reads what stands between quotes, which are doubled where they are
// meant. A backslash is refused unless it is one of the text.
func (s *scanner) quoted(t *token, kind tokenKind, quote byte, backslash bool) bool {
	t.kind = kind
	var b strings.Builder
	rest := s.text[s.at+1:]
	for {
		n := strings.IndexByte(rest, quote)
		if n < 0 || strings.IndexByte(rest[:n], 0) >= 0 || !backslash && strings.IndexByte(rest[:n], '\\') >= 0 {
			return false
		}
		b.WriteString(rest[:n])
		if rest = rest[n+1:]; rest == "" || rest[0] != quote {
			break
		}
		b.WriteByte(quote)
		rest = rest[1:]
	}
	t.text, s.at = b.String(), len(s.text)-len(rest)
	return true
}

// plainEscapes are those of PostgreSQL's E” strings that are read here.
var plainEscapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '\\': '\\', '\'': '\''}

// escaped reads the rest of a PostgreSQL string E'…'.
func (s *scanner) escaped(t *token) bool {
	t.kind = stringToken
	var b strings.Builder
	for i := s.at + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == 0:
			return false
		case c == '\\':
			i++
			if i == len(s.text) || plainEscapes[s.text[i]] == 0 {
				return false
			}
			b.WriteByte(plainEscapes[s.text[i]])
		case c == '\'' && i+1 < len(s.text) && s.text[i+1] == '\'':
			i++
			b.WriteByte(c)
		case c == '\'':
			t.text, s.at = b.String(), i+1
			return true
		default:
			b.WriteByte(c)
		}
	}
	return false
}

// dollar reads a PostgreSQL string $tag$…$tag$, or the sign of a parameter.
func (s *scanner) dollar(t *token) bool {
	n := s.at + 1
	for n < len(s.text) && s.text[n] != '$' && s.wordByte(s.text[n], n == s.at+1) {
		n++
	}
	if n == len(s.text) || s.text[n] != '$' {
		t.kind, t.text = signToken, "$"
		s.at++
		return true
	}
	tag := s.text[s.at : n+1]
	body, _, found := strings.Cut(s.text[n+1:], tag)
	if !found || strings.IndexByte(body, 0) >= 0 {
		return false
	}
	t.kind, t.text = stringToken, body
	s.at = n + 1 + len(body) + len(tag)
	return true
}

// phrase goes through tokens.
type phrase struct {
	tokens []token // the last is an endToken
	at     int
}

func (r *phrase) peek() token { return r.tokens[r.at] }

// ahead is the token n after the next one.
func (r *phrase) ahead(n int) token { return r.tokens[min(r.at+n, len(r.tokens)-1)] }

func (r *phrase) take() token {
	t := r.tokens[r.at]
	if t.kind != endToken {
		r.at++
	}
	return t
}

// word takes words in a row, or none of them.
func (r *phrase) word(words ...string) bool {
	for i, w := range words {
		if !r.ahead(i).is(w) {
			return false
		}
	}
	r.at += len(words)
	return true
}

// sign takes signs in a row without anything between them, or none.
func (r *phrase) sign(signs string) bool {
	for i := range len(signs) {
		t := r.ahead(i)
		if !t.sign(signs[i]) || i > 0 && t.at != r.ahead(i-1).end {
			return false
		}
	}
	r.at += len(signs)
	return true
}

// done takes a semicolon and reports whether nothing follows.
func (r *phrase) done() bool {
	r.sign(";")
	return r.peek().kind == endToken
}
