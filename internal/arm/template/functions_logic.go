package template

import (
	"math"
	"strings"
)

// numberFunctions calculate with whole numbers of 64 bits.
func numberFunctions() map[string]function {
	return map[string]function{
		"add": {least: 2, most: 2, run: calculate(func(x, y int64) (int64, bool) { z := x + y; return z, (z > x) == (y > 0) })},
		"sub": {least: 2, most: 2, run: calculate(func(x, y int64) (int64, bool) { z := x - y; return z, (z < x) == (y > 0) })},
		"mul": {least: 2, most: 2, run: calculate(func(x, y int64) (int64, bool) {
			z := x * y
			return z, x == 0 || z/x == y && !(x == -1 && y == math.MinInt64)
		})},
		"div": {least: 2, most: 2, run: calculate(func(x, y int64) (int64, bool) {
			if y == 0 || y == -1 && x == math.MinInt64 {
				return 0, false
			}
			return x / y, true
		})},
		"mod": {least: 2, most: 2, run: calculate(func(x, y int64) (int64, bool) {
			if y == 0 || y == -1 {
				return 0, y != 0
			}
			return x % y, true
		})},
		"min":       {least: 1, most: -1, run: extreme(func(x, y int64) bool { return x < y })},
		"max":       {least: 1, most: -1, run: extreme(func(x, y int64) bool { return x > y })},
		"copyindex": {most: 2, run: copyIndex},
	}
}

func calculate(fn func(x, y int64) (int64, bool)) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		x, err := a.int(0)
		if err != nil {
			return nil, err
		}
		y, err := a.int(1)
		if err != nil {
			return nil, err
		}
		z, ok := fn(x, y)
		if !ok {
			return nil, invalid("The template function '%s' divides by zero or gives a number that is too large", a.e.text)
		}
		return z, nil
	}
}

func extreme(better func(x, y int64) bool) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		if l, is := a.list[0].([]any); is && len(a.list) == 1 {
			a = &arguments{a.s, a.e, l}
		}
		if len(a.list) == 0 {
			return nil, a.fail(0, "an array that is not empty")
		}
		best, err := a.int(0)
		for i := 1; err == nil && i < len(a.list); i++ {
			var n int64
			if n, err = a.int(i); err == nil && better(n, best) {
				best = n
			}
		}
		return best, err
	}
}

// copyIndex is where a loop stands: the innermost, or the one named.
func copyIndex(a *arguments) (any, error) {
	name, offset, rest := "", int64(0), a.list
	if len(rest) > 0 {
		if s, is := rest[0].(string); is {
			name, rest = s, rest[1:]
		}
	}
	if len(rest) > 0 {
		n, is := rest[0].(int64)
		if !is || len(rest) > 1 {
			return nil, invalid("The template function 'copyIndex' takes the name of a loop and a number")
		}
		offset = n
	}
	if a.s.may&mayCopy != 0 {
		for i := len(a.s.loops) - 1; i >= 0; i-- {
			if l := a.s.loops[i]; name == "" || strings.EqualFold(l.name, name) {
				return l.index + offset, nil
			}
		}
	}
	return nil, invalid("The template function 'copyIndex' is not expected at this location. The function can only be used in a resource, property, variable or output with a copy loop")
}

// logicFunctions decide. if, and, or and coalesce look at no more of their
// arguments than they need.
func logicFunctions() map[string]function {
	return map[string]function{
		"equals":          {least: 2, most: 2, run: func(a *arguments) (any, error) { return Equal(a.list[0], a.list[1]), nil }},
		"less":            {least: 2, most: 2, run: order(func(c int) bool { return c < 0 })},
		"lessorequals":    {least: 2, most: 2, run: order(func(c int) bool { return c <= 0 })},
		"greater":         {least: 2, most: 2, run: order(func(c int) bool { return c > 0 })},
		"greaterorequals": {least: 2, most: 2, run: order(func(c int) bool { return c >= 0 })},
		"not": {least: 1, most: 1, run: func(a *arguments) (any, error) {
			b, err := a.bool(0)
			return !b, err
		}},
		"true":     {run: func(*arguments) (any, error) { return true, nil }},
		"false":    {run: func(*arguments) (any, error) { return false, nil }},
		"and":      {least: 2, most: -1, lazy: until(false)},
		"or":       {least: 2, most: -1, lazy: until(true)},
		"if":       {least: 3, most: 3, lazy: choose},
		"coalesce": {least: 1, most: -1, lazy: coalesce},
	}
}

func order(fn func(int) bool) func(*arguments) (any, error) {
	return func(a *arguments) (any, error) {
		if s, is := a.list[0].(string); is {
			t, err := a.str(1)
			return fn(strings.Compare(s, t)), err
		}
		x, err := a.int(0)
		if err != nil {
			return nil, err
		}
		y, err := a.int(1)
		c := 0
		if x < y {
			c = -1
		} else if x > y {
			c = 1
		}
		return fn(c), err
	}
}

func (s *scope) truth(e *expr) (bool, error) {
	v, err := s.eval(e)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, invalid("A condition is neither true nor false")
	}
	return b, nil
}

func until(stop bool) func(*scope, *expr) (any, error) {
	return func(s *scope, e *expr) (any, error) {
		for _, x := range e.args {
			if b, err := s.truth(x); err != nil || b == stop {
				return b, err
			}
		}
		return !stop, nil
	}
}

func choose(s *scope, e *expr) (any, error) {
	b, err := s.truth(e.args[0])
	switch {
	case err != nil:
		return nil, err
	case b:
		return s.eval(e.args[1])
	}
	return s.eval(e.args[2])
}

func coalesce(s *scope, e *expr) (any, error) {
	for _, x := range e.args {
		if v, err := s.eval(x); err != nil || v != nil {
			return v, err
		}
	}
	return nil, nil
}
