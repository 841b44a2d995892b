package directory

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// term is one condition of an OData $filter.
type term struct {
	field string // in lower case
	value string
	start bool // startswith, else eq
}

// maxFilter bounds a filter's length; real ones stay below 300 characters.
const maxFilter = 2048

func badFilter() error {
	return az.Errorf(az.Invalid, "Request_UnsupportedQuery", "Unsupported Query. A filter can be made of \"name eq 'value'\", \"startswith(name,'value')\" and \"servicePrincipalNames/any(c:c eq 'value')\", joined by \"and\".")
}

// parseFilter reads the filters of wire/arm-graph.md §7.
func parseFilter(s string) ([]term, error) {
	if len(s) > maxFilter || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return nil, badFilter()
	}
	var out []term
	for s = strings.TrimSpace(s); s != ""; {
		t, rest, ok := parseTerm(s)
		if !ok {
			return nil, badFilter()
		}
		out = append(out, t)
		if s = strings.TrimSpace(rest); s == "" {
			break
		}
		if len(s) < 4 || !strings.EqualFold(s[:4], "and ") {
			return nil, badFilter()
		}
		if s = strings.TrimSpace(s[4:]); s == "" {
			return nil, badFilter()
		}
	}
	return out, nil
}

func parseTerm(s string) (t term, rest string, ok bool) {
	if len(s) > 11 && strings.EqualFold(s[:11], "startswith(") {
		name, tail, found := strings.Cut(s[11:], ",")
		value, rest, good := parseValue(strings.TrimSpace(tail))
		rest = strings.TrimSpace(rest)
		if !found || !good || !strings.HasPrefix(rest, ")") || !isField(strings.TrimSpace(name)) {
			return t, "", false
		}
		return term{strings.ToLower(strings.TrimSpace(name)), value, true}, rest[1:], true
	}
	const lambda = "/any("
	if i := strings.Index(s, lambda); i > 0 && isField(s[:i]) {
		// name/any(c:c eq 'value')
		v, tail, found := strings.Cut(s[i+len(lambda):], ":")
		v = strings.TrimSpace(v)
		tail, found2 := strings.CutPrefix(strings.TrimSpace(tail), v+" eq ")
		value, rest, good := parseValue(strings.TrimSpace(tail))
		rest = strings.TrimSpace(rest)
		if !found || !found2 || !good || !isField(v) || !strings.HasPrefix(rest, ")") {
			return t, "", false
		}
		return term{strings.ToLower(s[:i]), value, false}, rest[1:], true
	}
	name, tail, found := strings.Cut(s, " ")
	tail, found2 := strings.CutPrefix(strings.TrimSpace(tail), "eq ")
	if !found || !found2 || !isField(name) {
		return t, "", false
	}
	value, rest, good := parseValue(strings.TrimSpace(tail))
	return term{strings.ToLower(name), value, false}, rest, good
}

func isField(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
}

// parseValue reads 'text', in which two quotes stand for one, or true/false.
func parseValue(s string) (value, rest string, ok bool) {
	for _, word := range []string{"true", "false"} {
		if strings.HasPrefix(s, word) {
			return word, s[len(word):], true
		}
	}
	if !strings.HasPrefix(s, "'") {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}

// values returns what a field of an object holds; ok is false for fields that
// cannot be filtered by.
func (o *Object) values(field string) (v []string, ok bool) {
	switch field {
	case "id":
		return []string{o.ID}, true
	case "displayname", "appdisplayname":
		return []string{o.Name}, true
	case "appid":
		return []string{o.AppID}, true
	case "userprincipalname":
		return []string{o.UPN}, true
	case "mail":
		return []string{o.Mail}, true
	case "mailnickname":
		return []string{o.MailNickname}, true
	case "serviceprincipaltype":
		return []string{o.principalType()}, true
	case "accountenabled":
		if o.Enabled {
			return []string{"true"}, true
		}
		return []string{"false"}, true
	case "serviceprincipalnames":
		return []string{o.AppID}, true
	case "alternativenames":
		return o.alternativeNames(), true
	case "identifieruris":
		return o.IdentifierURIs, true
	}
	return nil, false
}

func (t term) matches(o *Object) bool {
	list, _ := o.values(t.field)
	return slices.ContainsFunc(list, func(v string) bool {
		if t.start {
			return len(v) >= len(t.value) && strings.EqualFold(v[:len(t.value)], t.value)
		}
		return strings.EqualFold(v, t.value)
	})
}

// narrow lets the store do what it has an index for. The terms are all
// compared again with what it finds.
func narrow(q *store.ObjectQuery, terms []term) error {
	for _, t := range terms {
		if _, ok := (&Object{}).values(t.field); !ok {
			return badFilter()
		}
		switch {
		case t.value == "":
		case t.field == "displayname" && t.start:
			q.Prefix = t.value
		case t.start:
		case t.field == "displayname":
			q.Name = t.value
		case t.field == "userprincipalname":
			q.UPN = t.value
		case t.field == "appid", t.field == "serviceprincipalnames":
			q.AppID = t.value
		case t.field == "id":
			q.IDs = []string{strings.ToLower(t.value)}
		}
	}
	return nil
}
