package template

import (
	"math"
	"sort"
	"strings"
	"unicode/utf8"
)

// listFunctions are for arrays, and what arrays, objects and texts share.
// Source: "Array functions for ARM templates".
func listFunctions() map[string]function {
	return map[string]function{
		"array": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			if l, ok := a.list[0].([]any); ok {
				return l, nil
			}
			return []any{a.list[0]}, nil
		}},
		"createarray":  {most: -1, run: func(a *arguments) (any, error) { return append([]any{}, a.list...), nil }},
		"length":       {least: 1, most: 1, run: length},
		"empty":        {least: 1, most: 1, run: empty},
		"contains":     {least: 2, most: 2, run: contains},
		"first":        {least: 1, most: 1, run: end(func(n int) int { return 0 })},
		"last":         {least: 1, most: 1, run: end(func(n int) int { return n - 1 })},
		"skip":         {least: 2, most: 2, run: part(func(n, by int) (int, int) { return by, n })},
		"take":         {least: 2, most: 2, run: part(func(_, by int) (int, int) { return 0, by })},
		"range":        {least: 2, most: 2, run: numbers},
		"union":        {least: 2, most: -1, run: union},
		"intersection": {least: 2, most: -1, run: intersection},
	}
}

// objectFunctions are for objects.
func objectFunctions() map[string]function {
	return map[string]function{
		"createobject": {most: -1, run: func(a *arguments) (any, error) {
			out := map[string]any{}
			if len(a.list)%2 != 0 {
				return nil, invalid("The template function 'createObject' takes names and values in pairs")
			}
			for i := 0; i < len(a.list); i += 2 {
				k, err := a.str(i)
				if err != nil {
					return nil, err
				}
				out[k] = a.list[i+1]
			}
			return out, nil
		}},
		"items": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			o, err := a.object(0)
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, k := range keys(o) {
				out = append(out, map[string]any{"key": k, "value": o[k]})
			}
			return out, nil
		}},
		"objectkeys": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			o, err := a.object(0)
			out := []any{}
			for _, k := range keys(o) {
				out = append(out, k)
			}
			return out, err
		}},
		"tryget": {least: 2, most: -1, run: func(a *arguments) (any, error) {
			v := a.list[0]
			for _, at := range a.list[1:] {
				var ok bool
				if v, ok = pick(v, at); !ok {
					return nil, nil
				}
			}
			return v, nil
		}},
		"null": {run: func(*arguments) (any, error) { return nil, nil }},
	}
}

func keys(o map[string]any) []string {
	out := make([]string, 0, len(o))
	for k := range o {
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool {
		if x, y := strings.ToLower(out[i]), strings.ToLower(out[j]); x != y {
			return x < y
		}
		return out[i] < out[j]
	})
	return out
}

func length(a *arguments) (any, error) {
	switch v := a.list[0].(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, a.fail(0, "a text, an array or an object")
}

func empty(a *arguments) (any, error) {
	if a.list[0] == nil {
		return true, nil
	}
	n, err := length(a)
	return n == any(int64(0)), err
}

// contains compares texts and items by case, members' names without.
func contains(a *arguments) (any, error) {
	switch of := a.list[0].(type) {
	case string:
		s, ok := scalar(a.list[1])
		if !ok {
			return nil, a.fail(1, "a text")
		}
		return strings.Contains(of, s), nil
	case []any:
		for _, x := range of {
			if err := a.s.run.budget.chargeValue(a.list[1]); err != nil { // each comparison may take as long
				return nil, err
			}
			if Equal(x, a.list[1]) {
				return true, nil
			}
		}
		return false, nil
	case map[string]any:
		s, err := a.str(1)
		_, ok := get(of, s)
		return ok, err
	}
	return nil, a.fail(0, "a text, an array or an object")
}

func end(at func(n int) int) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		switch v := a.list[0].(type) {
		case string:
			if v == "" {
				return "", nil
			}
			r := []rune(v)
			return string(r[at(len(r))]), nil
		case []any:
			if len(v) == 0 {
				return nil, nil
			}
			return v[at(len(v))], nil
		}
		return nil, a.fail(0, "an array or a text")
	}
}

func part(of func(n, by int) (from, to int)) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		by, err := a.int(1)
		if err != nil {
			return nil, err
		}
		cut := func(n int) (int, int) {
			k := int(min(max(by, 0), int64(n)))
			return of(n, k)
		}
		switch v := a.list[0].(type) {
		case string:
			r := []rune(v)
			from, to := cut(len(r))
			return string(r[from:to]), nil
		case []any:
			from, to := cut(len(v))
			return v[from:to:to], nil
		}
		return nil, a.fail(0, "an array or a text")
	}
}

func numbers(a *arguments) (any, error) {
	from, err := a.int(0)
	if err != nil {
		return nil, err
	}
	n, err := a.int(1)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxRange || from > math.MaxInt32 || from < math.MinInt32 {
		return nil, invalid("The template function 'range' can give from 0 to %d numbers, of 32 bits", maxRange)
	}
	out := make([]any, n)
	for i := range out {
		out[i] = from + int64(i)
	}
	return out, nil
}

// identity is a value as a key of a map: equal values have the same.
func identity(v any) (string, error) {
	b, err := marshal(v)
	return string(b), err
}

// union joins arrays without repetitions, or objects into each other.
func union(a *arguments) (any, error) {
	if _, is := a.list[0].([]any); !is {
		out := map[string]any{}
		for i := range a.list {
			o, err := a.object(i)
			if err != nil {
				return nil, err
			}
			out = merge(out, o)
		}
		return out, nil
	}
	out := []any{}
	seen := map[string]bool{}
	for i := range a.list {
		l, err := a.array(i)
		if err != nil {
			return nil, err
		}
		for _, x := range l {
			id, err := identity(x)
			if err != nil {
				return nil, err
			}
			if !seen[id] {
				seen[id] = true
				out = append(out, x)
			}
		}
	}
	return out, nil
}

// merge puts the members of more into a copy of o; objects in objects too.
func merge(o, more map[string]any) map[string]any {
	out := make(map[string]any, len(o)+len(more))
	for k, v := range o {
		out[k] = v
	}
	var had foldedNames
	for k, v := range more {
		if have, ok := had.find(o, k); ok {
			k = have
		}
		was, is := out[k].(map[string]any)
		now, both := v.(map[string]any)
		if is && both {
			v = merge(was, now)
		}
		out[k] = v
	}
	return out
}

func intersection(a *arguments) (any, error) {
	if _, is := a.list[0].([]any); !is {
		return commonMembers(a)
	}
	count := map[string]int{}
	for i := range a.list {
		l, err := a.array(i)
		if err != nil {
			return nil, err
		}
		for _, x := range l {
			id, err := identity(x)
			if err != nil {
				return nil, err
			}
			if count[id] == i {
				count[id]++
			}
		}
	}
	out := []any{}
	for _, x := range a.list[0].([]any) {
		id, err := identity(x)
		if err != nil {
			return nil, err
		}
		if count[id] == len(a.list) {
			count[id] = 0
			out = append(out, x)
		}
	}
	return out, nil
}

func commonMembers(a *arguments) (any, error) {
	first, err := a.object(0)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for k, v := range first {
		out[k] = v
	}
	for i := 1; i < len(a.list); i++ {
		o, err := a.object(i)
		if err != nil {
			return nil, err
		}
		var others foldedNames
		for k, v := range out {
			if w, ok := others.get(o, k); !ok || !Equal(v, w) {
				delete(out, k)
			}
		}
	}
	return out, nil
}
