package template

import (
	"encoding/json"
	"fmt"
	"strings"
)

// function is one of the language's. most is -1 for any number of arguments.
type function struct {
	least, most int
	run         func(*arguments) (any, error)
	lazy        func(*scope, *expr) (any, error) // instead of run: evaluates its arguments itself
}

// arguments are what a function was called with.
type arguments struct {
	s    *scope
	e    *expr
	list []any
}

// fail says what an argument must be. Values are not repeated: they may be
// secret.
func (a *arguments) fail(i int, want string) error {
	return invalid("The template function '%s' expects %s as its argument %d", shorten(a.e.text), want, i+1)
}

func (a *arguments) str(i int) (string, error) {
	if i < len(a.list) {
		if s, ok := a.list[i].(string); ok {
			return s, nil
		}
	}
	return "", a.fail(i, "a text")
}

func (a *arguments) int(i int) (int64, error) {
	if i < len(a.list) {
		if n, ok := a.list[i].(int64); ok {
			return n, nil
		}
	}
	return 0, a.fail(i, "a whole number")
}

func (a *arguments) bool(i int) (bool, error) {
	if b, ok := a.list[i].(bool); ok {
		return b, nil
	}
	return false, a.fail(i, "true or false")
}

func (a *arguments) array(i int) ([]any, error) {
	if l, ok := a.list[i].([]any); ok {
		return l, nil
	}
	return nil, a.fail(i, "an array")
}

func (a *arguments) object(i int) (map[string]any, error) {
	if o, ok := a.list[i].(map[string]any); ok {
		return o, nil
	}
	return nil, a.fail(i, "an object")
}

// strs reads all arguments as texts; numbers and truth values are written out
// if loose.
func (a *arguments) strs(from int, loose bool) ([]string, error) {
	out := make([]string, 0, len(a.list)-from)
	for i := from; i < len(a.list); i++ {
		s, ok := a.list[i].(string)
		if !ok && loose {
			s, ok = scalar(a.list[i])
		}
		if !ok {
			return nil, a.fail(i, "a text")
		}
		out = append(out, s)
	}
	return out, nil
}

// scalar writes a simple value as .NET does.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case int64, json.Number:
		return fmt.Sprint(v), true
	case bool:
		if v {
			return "True", true
		}
		return "False", true
	}
	return "", false
}

// written is a value as text, as string() makes it.
func written(v any) (string, error) {
	if s, ok := scalar(v); ok {
		return s, nil
	}
	b, err := marshal(v)
	return string(b), err
}

// marshal writes JSON without HTML's escapes.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, invalid("A value cannot be written as JSON")
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// functionTable is all functions there are, by folded name.
func functionTable() map[string]function {
	out := map[string]function{}
	for _, part := range []map[string]function{textFunctions(), codeFunctions(), listFunctions(), objectFunctions(), numberFunctions(),
		logicFunctions(), deploymentFunctions(), dateFunctions()} {
		for name, f := range part {
			out[name] = f
		}
	}
	return out
}

// Equal compares values; texts by case.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case []any:
		l, ok := b.([]any)
		if !ok || len(a) != len(l) {
			return false
		}
		for i := range a {
			if !Equal(a[i], l[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		var others foldedNames
		for k, v := range a {
			w, ok := others.get(m, k)
			if !ok || !Equal(v, w) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any:
		return false
	}
	return a == b
}
