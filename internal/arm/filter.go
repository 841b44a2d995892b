package arm

import (
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// term is one condition of a $filter: name eq 'value', or name('value').
type term struct {
	name  string // folded
	value string
	call  bool
}

// maxFilter bounds a $filter in bytes, and maxTerms its conditions: none that
// a client sends comes near.
const (
	maxFilter = 1024
	maxTerms  = 8
)

func badFilter() error {
	return az.Errorf(az.Invalid, "InvalidFilterInQueryString", "Invalid $filter '': it must be conditions such as name eq 'value' or atScope(), joined by and, that this list knows.")
}

// parseFilter reads the part of OData's grammar that ARM's lists use:
// conditions joined by "and".
func parseFilter(s string) ([]term, error) {
	if len(s) > maxFilter {
		return nil, badFilter()
	}
	s = strings.TrimSpace(s)
	var out []term
	for s != "" {
		if len(out) > 0 {
			word, rest := ident(s)
			if !strings.EqualFold(word, "and") || !strings.HasPrefix(rest, " ") {
				return nil, badFilter()
			}
			s = strings.TrimSpace(rest)
		}
		t, rest, ok := parseTerm(s)
		if !ok || len(out) == maxTerms {
			return nil, badFilter()
		}
		out = append(out, t)
		if rest != "" && rest[0] != ' ' {
			return nil, badFilter()
		}
		s = strings.TrimSpace(rest)
	}
	return out, nil
}

func parseTerm(s string) (t term, rest string, ok bool) {
	name, rest := ident(s)
	if name == "" {
		return t, "", false
	}
	t.name = strings.ToLower(name)
	if after, isCall := strings.CutPrefix(rest, "("); isCall {
		t.call = true
		after = strings.TrimSpace(after)
		if after, empty := strings.CutPrefix(after, ")"); empty {
			return t, after, true
		}
		if t.value, rest, ok = quoted(after); !ok {
			return t, "", false
		}
		rest, ok = strings.CutPrefix(strings.TrimSpace(rest), ")")
		return t, rest, ok
	}
	op, rest := ident(strings.TrimSpace(rest))
	if !strings.EqualFold(op, "eq") {
		return t, "", false
	}
	t.value, rest, ok = quoted(strings.TrimSpace(rest))
	return t, rest, ok
}

func ident(s string) (word, rest string) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// quoted reads 'text', in which ” stands for one quote.
func quoted(s string) (text, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, "'")
	if !ok {
		return "", "", false
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\'')
		if i < 0 {
			return "", "", false
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if !strings.HasPrefix(s, "'") {
			return b.String(), s, true
		}
		b.WriteByte('\'')
		s = s[1:]
	}
}
