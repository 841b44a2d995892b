package template

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Decode reads JSON as Azure Resource Manager takes it: with comments, with
// member names that have no quotes (az sends such), with texts over several
// lines, and a comma too many. Numbers become int64, or json.Number where that
// would lose something. A member given twice, whatever its case, is refused:
// names are compared without case.
func Decode(b []byte) (any, error) {
	if len(b) > MaxTemplate {
		return nil, invalid("The template is larger than the %d bytes allowed", MaxTemplate)
	}
	if !utf8.Valid(b) {
		return nil, invalid("The template is not valid UTF-8")
	}
	d := &decoder{text: string(b)}
	d.text = strings.TrimPrefix(d.text, "\ufeff")
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if err := d.space(); err != nil {
		return nil, err
	}
	if d.at < len(d.text) {
		return nil, d.fail("there is something behind the end of the JSON value")
	}
	return v, nil
}

type decoder struct {
	text string
	at   int
}

func (d *decoder) fail(what string) error {
	line := 1 + strings.Count(d.text[:min(d.at, len(d.text))], "\n")
	return invalid("The template is not valid JSON: %s, in line %d", what, line)
}

// space skips white space and comments.
func (d *decoder) space() error {
	for d.at < len(d.text) {
		rest := d.text[d.at:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			d.at++
		case strings.HasPrefix(rest, "//"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			d.at += end
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return d.fail("a comment does not end")
			}
			d.at += end + 4
		default:
			return nil
		}
	}
	return nil
}

// peek skips space and returns the next byte, 0 at the end.
func (d *decoder) peek() (byte, error) {
	if err := d.space(); err != nil || d.at >= len(d.text) {
		return 0, err
	}
	return d.text[d.at], nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, d.fail("it is nested too deeply")
	}
	c, err := d.peek()
	switch {
	case err != nil:
		return nil, err
	case c == '{':
		return d.object(depth)
	case c == '[':
		return d.array(depth)
	case c == '"':
		return d.str()
	case c == '-' || '0' <= c && c <= '9':
		return d.number()
	}
	switch word := d.word(); word {
	case "true", "false":
		return word == "true", nil
	case "null":
		return nil, nil
	}
	return nil, d.fail("a value is missing")
}

// word takes letters, digits and what else a bare name may hold.
func (d *decoder) word() string {
	start := d.at
	for d.at < len(d.text) && (isLetter(d.text[d.at]) || isDigit(d.text[d.at]) || d.text[d.at] == '$') {
		d.at++
	}
	return d.text[start:d.at]
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

func (d *decoder) number() (any, error) {
	start := d.at
	for d.at < len(d.text) && strings.IndexByte("+-0123456789.eE", d.text[d.at]) >= 0 {
		d.at++
	}
	text := d.text[start:d.at]
	if !json.Valid([]byte(text)) {
		return nil, d.fail("a number is not well-formed")
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		return n, nil
	}
	return json.Number(text), nil
}

// str reads a text in double quotes. Line breaks inside stay.
func (d *decoder) str() (string, error) {
	start := d.at
	plain := true
	for d.at++; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; {
		case c == '"':
			d.at++
			raw := d.text[start:d.at]
			if plain {
				return raw[1 : len(raw)-1], nil
			}
			return d.unescape(raw)
		case c == '\\':
			d.at++
			plain = false
		case c < 0x20:
			plain = false
		}
	}
	return "", d.fail("a text does not end")
}

// controls writes what JSON's own reader does not take in a text.
var controls = strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`)

func (d *decoder) unescape(raw string) (string, error) {
	var s string
	if json.Unmarshal([]byte(controls.Replace(raw)), &s) != nil {
		return "", d.fail("a text has an escape that JSON does not know")
	}
	return s, nil
}

func (d *decoder) array(depth int) (any, error) {
	out := []any{}
	for d.at++; ; {
		c, err := d.peek()
		if err != nil {
			return nil, err
		}
		if c == ']' {
			d.at++
			return out, nil
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if err := d.separator(']'); err != nil {
			return nil, err
		}
	}
}

// separator takes a comma, or looks at the end.
func (d *decoder) separator(end byte) error {
	c, err := d.peek()
	switch {
	case err != nil:
		return err
	case c == ',':
		d.at++
	case c != end:
		return d.fail("a comma or '" + string(end) + "' is missing")
	}
	return nil
}

func (d *decoder) object(depth int) (any, error) {
	out := map[string]any{}
	folded := map[string]bool{}
	for d.at++; ; {
		c, err := d.peek()
		if err != nil {
			return nil, err
		}
		if c == '}' {
			d.at++
			return out, nil
		}
		name, err := d.name(c)
		if err != nil {
			return nil, err
		}
		if f := strings.ToLower(name); folded[f] {
			return nil, d.fail("a member is there twice")
		} else {
			folded[f] = true
		}
		if c, err = d.peek(); err != nil || c != ':' {
			return nil, d.fail("a colon is missing")
		}
		d.at++
		if out[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
		if err := d.separator('}'); err != nil {
			return nil, err
		}
	}
}

func (d *decoder) name(c byte) (string, error) {
	if c == '"' {
		return d.str()
	}
	if name := d.word(); name != "" {
		return name, nil
	}
	return "", d.fail("the name of a member is missing")
}

// get reads a member whatever its case.
func get(m map[string]any, name string) (any, bool) {
	if v, ok := m[name]; ok {
		return v, true
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return nil, false
}

// foldedNames is get for many names of one object: it is read through once,
// and not once for each name that is written another way.
type foldedNames map[string]string

func (f *foldedNames) get(m map[string]any, name string) (any, bool) {
	if v, ok := m[name]; ok {
		return v, true
	}
	k, ok := f.find(m, name)
	return m[k], ok
}

// find is how an object writes a name.
func (f *foldedNames) find(m map[string]any, name string) (string, bool) {
	if *f == nil {
		*f = make(foldedNames, len(m))
		for k := range m {
			(*f)[strings.ToLower(k)] = k
		}
	}
	k, ok := (*f)[strings.ToLower(name)]
	return k, ok
}

func member(m map[string]any, name string) any { v, _ := get(m, name); return v }

func text(m map[string]any, name string) string { s, _ := member(m, name).(string); return s }

func object(m map[string]any, name string) map[string]any {
	o, _ := member(m, name).(map[string]any)
	return o
}
