package directory

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
)

// A $filter is read here into a tree. What it means is in filtereval.go. The
// grammar is OData 4.01 part 2 §5.1.1, as far as Microsoft Graph serves it for
// directory objects.

// Bounds of a filter. Real ones stay below 300 characters and 20 conditions;
// az sends ten of them joined by "or". Source for the list of "in": Microsoft
// Graph allows 15; ours leaves room for its clients' batches.
const (
	maxFilter      = 4096
	maxFilterNodes = 128 // conditions, connectives and values together
	maxFilterDepth = 16
)

type filterOp int

const (
	opAnd filterOp = iota
	opOr
	opNot
	opEq
	opNe
	opGt
	opGe
	opLt
	opLe
	opIn
	opStarts
	opEnds
	opContains
	opAny
	opAll
)

var compareOps = map[string]filterOp{"eq": opEq, "ne": opNe, "gt": opGt, "ge": opGe, "lt": opLt, "le": opLe, "in": opIn}

var callOps = map[string]filterOp{"startswith": opStarts, "endswith": opEnds, "contains": opContains}

// node is one part of a filter.
type node struct {
	op     filterOp
	path   string // property in lower case; "" is the variable of the any or all around
	values []literal
	kids   []node
}

type literalKind int

const (
	litText literalKind = iota // also GUIDs, which are written without quotes
	litBool
	litNull
	litNumber
	litTime
)

type literal struct {
	kind literalKind
	text string // folded
	num  int64  // of numbers, times (microseconds) and booleans
}

func badFilter(why string) error {
	return az.Errorf(az.Invalid, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause: %s.", why)
}

// parseFilter reads a filter; an empty one is nil.
func parseFilter(s string) (*node, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	if len(s) > maxFilter {
		return nil, badFilter("it is longer than " + strconv.Itoa(maxFilter) + " bytes")
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return nil, badFilter("it holds characters that a filter cannot have")
	}
	p := &filterParser{rest: s}
	p.next()
	n := p.or(0)
	if p.err == nil && p.tok != "" {
		p.fail("there is something after its end")
	}
	if p.err != nil {
		return nil, p.err
	}
	return &n, nil
}

// filterParser reads by recursive descent, bounded in depth and number. After
// a failure every function returns at once.
type filterParser struct {
	rest     string
	tok      string // current token; "" at the end
	text     string // of a quoted token: what it says
	quoted   bool
	nodes    int
	variable string // of the any or all that is being read
	err      error
}

func (p *filterParser) fail(why string) {
	if p.err == nil {
		p.err = badFilter(why)
	}
	p.tok, p.quoted, p.rest = "", false, ""
}

// next reads a token: a parenthesis, comma or colon, a quoted text, or a run
// of anything else.
func (p *filterParser) next() {
	p.rest = strings.TrimLeft(p.rest, " ")
	p.tok, p.quoted = "", false
	if p.rest == "" {
		return
	}
	switch c := p.rest[0]; c {
	case '(', ')', ',', ':':
		p.tok, p.rest = p.rest[:1], p.rest[1:]
	case '\'':
		p.quote()
	default:
		end := strings.IndexAny(p.rest, " (),'")
		if colon := strings.IndexByte(p.rest, ':'); colon >= 0 && (end < 0 || colon < end) && !isTimeStart(p.rest) {
			end = colon // of "c:c eq"; the colons of a time stay in it
		}
		if end < 0 {
			end = len(p.rest)
		}
		p.tok, p.rest = p.rest[:end], p.rest[end:]
	}
}

func isTimeStart(s string) bool {
	return len(s) > 10 && s[4] == '-' && s[7] == '-' && (s[10] == 'T' || s[10] == 't') && s[0] >= '0' && s[0] <= '9'
}

// quote reads 'text', in which two quotes stand for one.
func (p *filterParser) quote() {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		if p.rest[i] != '\'' {
			b.WriteByte(p.rest[i])
			continue
		}
		if i+1 < len(p.rest) && p.rest[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.tok, p.text, p.quoted, p.rest = "'", b.String(), true, p.rest[i+1:]
		return
	}
	p.fail("a quoted text does not end")
}

func (p *filterParser) count(depth int) {
	if p.nodes++; p.nodes > maxFilterNodes {
		p.fail("it has more than " + strconv.Itoa(maxFilterNodes) + " parts")
	} else if depth > maxFilterDepth {
		p.fail("it is nested deeper than " + strconv.Itoa(maxFilterDepth) + " levels")
	}
}

func (p *filterParser) word(w string) bool { return !p.quoted && strings.EqualFold(p.tok, w) }

func (p *filterParser) take(w string) {
	if !p.word(w) {
		p.fail("'" + w + "' is missing")
		return
	}
	p.next()
}

func (p *filterParser) or(depth int) node { return p.joined("or", opOr, depth, (*filterParser).and) }
func (p *filterParser) and(depth int) node {
	return p.joined("and", opAnd, depth, (*filterParser).unary)
}

func (p *filterParser) joined(word string, op filterOp, depth int, part func(*filterParser, int) node) node {
	first := part(p, depth)
	if p.err != nil || !p.word(word) {
		return first
	}
	n := node{op: op, kids: []node{first}}
	for p.err == nil && p.word(word) {
		p.count(depth)
		p.next()
		n.kids = append(n.kids, part(p, depth))
	}
	return n
}

func (p *filterParser) unary(depth int) node {
	p.count(depth)
	switch {
	case p.err != nil:
		return node{}
	case p.word("not"):
		p.next()
		return node{op: opNot, kids: []node{p.unary(depth + 1)}}
	case p.word("("):
		p.next()
		n := p.or(depth + 1)
		p.take(")")
		return n
	case p.quoted || p.tok == "":
		p.fail("a condition is missing")
		return node{}
	}
	name := p.tok
	p.next()
	if p.word("(") {
		p.next()
		return p.call(name, depth)
	}
	op, ok := compareOps[strings.ToLower(p.tok)]
	if !ok || p.quoted {
		p.fail("conditions compare by eq, ne, gt, ge, lt, le or in")
		return node{}
	}
	p.next()
	n := node{op: op, path: p.path(name)}
	if op == opIn {
		n.values = p.list()
	} else {
		n.values = []literal{p.literal()}
	}
	return n
}

// call reads the rest of startswith(…, of property/any(… and their like.
func (p *filterParser) call(name string, depth int) node {
	if op, ok := callOps[strings.ToLower(name)]; ok {
		n := node{op: op, path: p.path(p.tok)}
		p.next()
		p.take(",")
		n.values = []literal{p.literal()}
		if p.err == nil && n.values[0].kind != litText {
			p.fail("startswith, endswith and contains take a text")
		}
		p.take(")")
		return n
	}
	prop, kind, ok := cutLast(name, '/')
	op := opAny
	if strings.EqualFold(kind, "all") {
		op = opAll
	} else if !strings.EqualFold(kind, "any") {
		ok = false
	}
	if !ok || p.variable != "" {
		p.fail("the functions are startswith, endswith, contains, any and all, and the last two cannot be nested")
		return node{}
	}
	n := node{op: op, path: p.path(prop)}
	if op == opAny && p.word(")") { // any() is true of what is not empty
		p.next()
		return n
	}
	variable := p.tok
	if !isName(variable) || p.quoted {
		p.fail("any and all need a variable")
		return node{}
	}
	p.next()
	p.take(":")
	p.variable = variable
	n.kids = []node{p.or(depth + 1)}
	p.variable = ""
	p.take(")")
	return n
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// path checks a property's name; the variable of any and all is "".
func (p *filterParser) path(name string) string {
	if p.variable != "" {
		if name != p.variable {
			p.fail("inside any and all only their variable can be compared")
		}
		return ""
	}
	if !isName(name) {
		p.fail("the name of a property is missing")
		return ""
	}
	return strings.ToLower(name)
}

// isName admits names of properties and variables, and paths of two.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || i == 0) && c != '_' && (c != '/' || i == 0) {
			return false
		}
	}
	return true
}

func (p *filterParser) list() []literal {
	p.take("(")
	var out []literal
	for p.err == nil {
		p.count(0)
		out = append(out, p.literal())
		if !p.word(",") {
			break
		}
		p.next()
	}
	p.take(")")
	return out
}

func (p *filterParser) literal() (l literal) {
	if p.err != nil {
		return l
	}
	tok, low := p.tok, strings.ToLower(p.tok)
	switch n, err := strconv.ParseInt(tok, 10, 64); {
	case p.quoted:
		l.text = strings.ToLower(p.text)
	case low == "true" || low == "false":
		l.kind = litBool
		if low == "true" {
			l.num = 1
		}
	case low == "null":
		l.kind = litNull
	case az.IsGUID(tok):
		l.text = low
	case err == nil:
		l.kind, l.num = litNumber, n
	default:
		t, ok := parseTime(strings.ToUpper(tok))
		if !ok {
			p.fail("a value is a quoted text, true, false, null, a number, a GUID or a time such as 2026-01-31T00:00:00Z")
			return l
		}
		l.kind, l.num = litTime, t.UnixMicro()
	}
	p.next()
	return l
}

func parseTime(s string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
