package template

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// textFunctions take and make texts. Source: "String functions for ARM
// templates". Positions and lengths count characters.
func textFunctions() map[string]function {
	return map[string]function{
		"concat":      {least: 1, most: -1, run: concat},
		"format":      {least: 1, most: -1, run: format},
		"tolower":     {least: 1, most: 1, run: mapText(strings.ToLower)},
		"toupper":     {least: 1, most: 1, run: mapText(strings.ToUpper)},
		"trim":        {least: 1, most: 1, run: mapText(strings.TrimSpace)},
		"substring":   {least: 2, most: 3, run: substring},
		"replace":     {least: 3, most: 3, run: replace},
		"split":       {least: 2, most: 2, run: split},
		"join":        {least: 2, most: 2, run: join},
		"startswith":  {least: 2, most: 2, run: compareText(strings.HasPrefix)},
		"endswith":    {least: 2, most: 2, run: compareText(strings.HasSuffix)},
		"indexof":     {least: 2, most: 2, run: position(strings.Index)},
		"lastindexof": {least: 2, most: 2, run: position(strings.LastIndex)},
		"padleft":     {least: 2, most: 3, run: padLeft},
		"string":      {least: 1, most: 1, run: func(a *arguments) (any, error) { return written(a.list[0]) }},
	}
}

func mapText(fn func(string) string) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		s, err := a.str(0)
		return fn(s), err
	}
}

// foldText lowers each character, so that positions stay what they are.
func foldText(s string) string { return strings.Map(unicode.ToLower, s) }

// compareText compares without case.
func compareText(fn func(s, part string) bool) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		t, err := a.strs(0, false)
		if err != nil {
			return nil, err
		}
		return fn(foldText(t[0]), foldText(t[1])), nil
	}
}

func position(fn func(s, part string) int) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		t, err := a.strs(0, false)
		if err != nil {
			return nil, err
		}
		s := foldText(t[0])
		i := fn(s, foldText(t[1]))
		if i > 0 {
			i = len([]rune(s[:i]))
		}
		return int64(i), nil
	}
}

// concat joins texts, or arrays.
func concat(a *arguments) (any, error) {
	if _, is := a.list[0].([]any); is {
		var out []any
		for i := range a.list {
			l, err := a.array(i)
			if err != nil {
				return nil, err
			}
			out = append(out, l...)
		}
		return out, nil
	}
	t, err := a.strs(0, true)
	return strings.Join(t, ""), err
}

// maxWidth bounds how wide a number may be written.
const maxWidth = 99

// format fills {0}, {1:D3}, {2:X} and the like.
func format(a *arguments) (any, error) {
	f, err := a.str(0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for f != "" {
		i := strings.IndexAny(f, "{}")
		if i < 0 {
			b.WriteString(f)
			break
		}
		b.WriteString(f[:i])
		if i+1 < len(f) && f[i+1] == f[i] {
			b.WriteByte(f[i])
			f = f[i+2:]
			continue
		}
		place, rest, closed := strings.Cut(f[i+1:], "}")
		if f[i] == '}' || !closed {
			return nil, a.fail(0, "a format whose braces match")
		}
		s, err := a.placeholder(place)
		if err != nil {
			return nil, err
		}
		if err := a.s.run.budget.charge(1, len(s)); err != nil { // one argument can stand in many places
			return nil, err
		}
		b.WriteString(s)
		f = rest
	}
	return b.String(), nil
}

func (a *arguments) placeholder(place string) (string, error) {
	at, how, _ := strings.Cut(place, ":")
	n, err := strconv.Atoi(at)
	if err != nil || n < 0 || n+1 >= len(a.list) {
		return "", a.fail(0, "a format whose places, such as {0}, have arguments")
	}
	v := a.list[n+1]
	if how == "" {
		return written(v)
	}
	num, ok := v.(int64)
	width := 0
	if len(how) > 1 {
		if width, err = strconv.Atoi(how[1:]); err != nil || width < 0 || width > maxWidth {
			ok = false
		}
	}
	if ok {
		switch how[0] {
		case 'D', 'd':
			if num < 0 {
				return fmt.Sprintf("-%0*d", width, uint64(-num)), nil
			}
			return fmt.Sprintf("%0*d", width, num), nil
		case 'X':
			return fmt.Sprintf("%0*X", width, uint64(num)), nil
		case 'x':
			return fmt.Sprintf("%0*x", width, uint64(num)), nil
		}
	}
	return "", a.fail(0, "a format that is served here (D and X, of whole numbers)")
}

func substring(a *arguments) (any, error) {
	s, err := a.str(0)
	if err != nil {
		return nil, err
	}
	from, err := a.int(1)
	if err != nil {
		return nil, err
	}
	r := []rune(s)
	n := int64(len(r)) - from
	if len(a.list) == 3 {
		if n, err = a.int(2); err != nil {
			return nil, err
		}
	}
	if from < 0 || n < 0 || from > int64(len(r)) || n > int64(len(r))-from {
		return nil, invalid("The 'startIndex' and 'length' parameters of substring must refer to a location within the string")
	}
	return string(r[from : from+n]), nil
}

func replace(a *arguments) (any, error) {
	t, err := a.strs(0, false)
	if err != nil {
		return nil, err
	}
	if t[1] == "" {
		return nil, a.fail(1, "a text that is not empty")
	}
	if more := strings.Count(t[0], t[1]) * len(t[2]); more > maxBytes {
		return nil, a.s.run.budget.charge(1, more)
	}
	return strings.ReplaceAll(t[0], t[1], t[2]), nil
}

// charsPerStep is how many comparisons of a character count as one step.
const charsPerStep = 64

// split takes one delimiter or several.
func split(a *arguments) (any, error) {
	s, err := a.str(0)
	if err != nil {
		return nil, err
	}
	var delimiters []string
	switch d := a.list[1].(type) {
	case string:
		delimiters = []string{d}
	case []any:
		for _, x := range d {
			if t, ok := x.(string); ok {
				delimiters = append(delimiters, t)
			}
		}
	}
	if len(delimiters) == 0 {
		return nil, a.fail(1, "a text or an array of texts")
	}
	if err := a.s.run.budget.charge(len(s)/charsPerStep*len(delimiters), 0); err != nil { // each is looked for at each place
		return nil, err
	}
	out := []any{}
	start := 0
	for i := 0; i < len(s); {
		n := 0
		for _, d := range delimiters {
			if d != "" && strings.HasPrefix(s[i:], d) {
				n = len(d)
				break
			}
		}
		if n == 0 {
			i++
			continue
		}
		out = append(out, s[start:i])
		i += n
		start = i
		if err := a.s.run.budget.charge(1, 16); err != nil {
			return nil, err
		}
	}
	return append(out, s[start:]), nil
}

func join(a *arguments) (any, error) {
	l, err := a.array(0)
	if err != nil {
		return nil, err
	}
	sep, err := a.str(1)
	if err != nil {
		return nil, err
	}
	t := make([]string, len(l))
	for i, x := range l {
		if t[i], err = written(x); err != nil {
			return nil, err
		}
	}
	if err := a.s.run.budget.charge(1, len(l)*len(sep)); err != nil {
		return nil, err
	}
	return strings.Join(t, sep), nil
}

func padLeft(a *arguments) (any, error) {
	s, ok := scalar(a.list[0])
	if !ok {
		return nil, a.fail(0, "a text or a number")
	}
	width, err := a.int(1)
	if err != nil {
		return nil, err
	}
	pad := " "
	if len(a.list) == 3 {
		if pad, err = a.str(2); err != nil || len([]rune(pad)) != 1 {
			return nil, a.fail(2, "a single character")
		}
	}
	missing := width - int64(len([]rune(s)))
	if missing <= 0 {
		return s, nil
	}
	if missing > maxBytes {
		return nil, a.s.run.budget.charge(1, maxBytes+1)
	}
	if err := a.s.run.budget.charge(1, int(missing)*len(pad)); err != nil {
		return nil, err
	}
	return strings.Repeat(pad, int(missing)) + s, nil
}
