package template

import (
	"strconv"
	"strings"
)

// expr is a part of an expression.
type expr struct {
	kind  kind
	text  string  // of a literal; a function's name, folded, or a member's
	num   int64   // of a number
	args  []*expr // of a call; of a member or index: what it is taken of, and the index
	maybe bool    // a .? or [? that gives null where there is nothing
}

type kind uint8

const (
	literal kind = iota
	number
	call
	dot
	index
)

// isExpression reports whether a JSON string is an expression; text is what it
// says otherwise: "[[" stands for a bracket.
func isExpression(s string) (body, plain string, is bool) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return "", s, false
	}
	if s[1] == '[' {
		return "", s[1:], false
	}
	return s[1 : len(s)-1], "", true
}

type parser struct {
	text string
	at   int
}

// parse reads an expression without its brackets.
func parse(s string) (*expr, error) {
	if len(s) > maxExpression {
		return nil, invalid("An expression is longer than the %d characters allowed", maxExpression)
	}
	p := &parser{text: s}
	e, err := p.expr(0)
	if err != nil {
		return nil, err
	}
	if p.peek() != 0 {
		return nil, p.fail("something follows its end")
	}
	return e, nil
}

func (p *parser) fail(what string) error {
	return invalid("The template language expression '%s' is not valid: %s, at position %d", shorten(p.text), what, p.at+1)
}

// shorten keeps sentences short. Expressions are the template's own text.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (p *parser) peek() byte {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	if p.at >= len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

func (p *parser) expr(depth int) (*expr, error) {
	if depth > maxDepth {
		return nil, p.fail("it is nested too deeply")
	}
	e, err := p.primary(depth)
	for err == nil {
		switch {
		case p.take('.'):
			maybe := p.take('?')
			name := p.ident()
			if name == "" {
				return nil, p.fail("the name of a member is missing")
			}
			e = &expr{kind: dot, text: name, args: []*expr{e}, maybe: maybe}
		case p.take('['):
			maybe := p.take('?')
			var i *expr
			if i, err = p.expr(depth + 1); err != nil {
				return nil, err
			}
			if !p.take(']') {
				return nil, p.fail("']' is missing")
			}
			e = &expr{kind: index, args: []*expr{e, i}, maybe: maybe}
		default:
			return e, nil
		}
		if depth++; depth > maxDepth {
			return nil, p.fail("it is nested too deeply")
		}
	}
	return nil, err
}

func (p *parser) primary(depth int) (*expr, error) {
	switch c := p.peek(); {
	case c == '\'':
		return p.quoted()
	case c == '-' || isDigit(c):
		start := p.at
		for p.at++; p.at < len(p.text) && isDigit(p.text[p.at]); p.at++ {
		}
		n, err := strconv.ParseInt(p.text[start:p.at], 10, 64)
		if err != nil {
			return nil, p.fail("a number is too large, or is none")
		}
		return &expr{kind: number, num: n}, nil
	}
	name := p.ident()
	for name != "" && p.at+1 < len(p.text) && p.text[p.at] == '.' && isLetter(p.text[p.at+1]) { // namespace.function
		p.at++
		name += "." + p.ident()
	}
	if name == "" || !p.take('(') {
		return nil, p.fail("a text in single quotes, a number or a function call is missing")
	}
	e := &expr{kind: call, text: strings.ToLower(name)}
	if p.take(')') {
		return e, nil
	}
	for {
		a, err := p.expr(depth + 1)
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, a)
		if p.take(')') {
			return e, nil
		}
		if !p.take(',') {
			return nil, p.fail("a comma or ')' is missing")
		}
	}
}

func (p *parser) ident() string {
	if !isLetter(p.peek()) {
		return ""
	}
	start := p.at
	for p.at < len(p.text) && (isLetter(p.text[p.at]) || isDigit(p.text[p.at])) {
		p.at++
	}
	return p.text[start:p.at]
}

// quoted reads a text in single quotes; two of them stand for one.
func (p *parser) quoted() (*expr, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		if p.text[p.at] != '\'' {
			b.WriteByte(p.text[p.at])
			continue
		}
		if p.at+1 < len(p.text) && p.text[p.at+1] == '\'' {
			b.WriteByte('\'')
			p.at++
			continue
		}
		p.at++
		return &expr{kind: literal, text: b.String()}, nil
	}
	return nil, p.fail("a text does not end")
}
