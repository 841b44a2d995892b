package template

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Host is what expressions may learn of the world around a deployment.
type Host struct {
	// Scope is where the deployment is: a subscription or a resource group.
	Scope az.ID
	// What deployment(), subscription(), resourceGroup(), tenant() and
	// environment() give; ResourceGroup is nil at a subscription.
	Deployment, Subscription, ResourceGroup, Tenant, Environment, Deployer map[string]any
	Now                                                                    time.Time
	NewGUID                                                                func() string
	// Reference and List ask a resource that was deployed, as the caller.
	Reference func(id az.ID, version string, full bool) (v any, secret bool, err error)
	List      func(id az.ID, function, version string, body any) (any, error)
}

// scope is where an expression stands: what its names mean there.
type scope struct {
	run    *Run
	names  *names
	loops  []loop
	args   map[string]any // inside of a function of the template's own
	calls  int            // how deep such functions are
	may    may
	secret *bool           // set when something secret was taken; may be nil
	busy   map[string]bool // parameters whose defaults are being evaluated
}

// may says which functions are allowed at a place.
type may uint8

const (
	mayRun     may = 1 << iota // reference and list…: resources are there
	mayDefault                 // newGuid and utcNow: the default of a parameter
	mayCopy                    // copyIndex
)

// loop is a copy loop that is going on.
type loop struct {
	name  string
	index int64
}

// names are parameters and variables, evaluated when first used.
type names struct {
	t      *Template
	params map[string]any
	secret map[string]bool // folded names of secure parameters
	vars   map[string]*variable
}

type variable struct {
	raw    any
	value  any
	secret bool
	loop   bool  // raw is a copy loop
	state  uint8 // 0 not yet, 1 being evaluated, 2 done
}

// errNotYet says that something is known only once resources are there.
var errNotYet = errors.New("template: known only while deploying")

// value evaluates JSON: strings may be expressions, objects may hold loops.
func (s *scope) value(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return s.str(v)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var err error
			if out[i], err = s.value(x); err != nil {
				return nil, err
			}
		}
		return out, s.run.budget.charge(1, 8*len(v))
	case map[string]any:
		return s.object(v)
	}
	return v, s.run.budget.charge(1, 8)
}

func (s *scope) str(v string) (any, error) {
	body, plain, is := isExpression(v)
	if !is {
		return plain, s.run.budget.charge(1, len(plain))
	}
	e, err := s.run.parsed(body)
	if err != nil {
		return nil, err
	}
	out, err := s.eval(e)
	if err != nil {
		return nil, err
	}
	return out, s.run.budget.chargeValue(out)
}

func (s *scope) object(v map[string]any) (any, error) {
	out := make(map[string]any, len(v))
	loops, looping := copies(v)
	for k, x := range v {
		if looping && strings.EqualFold(k, "copy") {
			continue
		}
		key, err := s.key(k)
		if err != nil {
			return nil, err
		}
		if out[key], err = s.value(x); err != nil {
			return nil, err
		}
	}
	for _, l := range loops {
		name, list, err := s.loop(l)
		if err != nil {
			return nil, err
		}
		out[name] = list
	}
	return out, s.run.budget.charge(1, 16*len(out))
}

// key evaluates a member's name, which may be an expression too.
func (s *scope) key(k string) (string, error) {
	v, err := s.str(k)
	if err != nil {
		return "", err
	}
	key, ok := v.(string)
	if !ok {
		return "", invalid("The name of a member, '%s', is not a text", shorten(k))
	}
	return key, nil
}

// copies finds the loops of an object: "copy": [{"name", "count", "input"}].
func copies(v map[string]any) (out []map[string]any, ok bool) {
	list, is := member(v, "copy").([]any)
	if !is || len(list) == 0 {
		return nil, false
	}
	for _, x := range list {
		l, is := x.(map[string]any)
		if _, has := get(l, "input"); !is || !has {
			return nil, false
		}
		out = append(out, l)
	}
	return out, true
}

// loop makes the array of a copy loop inside of properties or variables.
func (s *scope) loop(l map[string]any) (string, any, error) {
	name := text(l, "name")
	if name == "" {
		return "", nil, invalid("A copy loop has no name")
	}
	list, err := s.repeat(name, l, maxCopies)
	return name, list, err
}

func (s *scope) repeat(name string, l map[string]any, most int64) (any, error) {
	count, err := s.count(l, most)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, count)
	in := *s
	in.may |= mayCopy
	for i := range count {
		in.loops = append(s.loops[:len(s.loops):len(s.loops)], loop{name, i})
		v, err := in.value(member(l, "input"))
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// count evaluates the number of a loop's iterations.
func (s *scope) count(l map[string]any, most int64) (int64, error) {
	v, err := s.value(member(l, "count"))
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok || n < 0 || n > most {
		return 0, invalid("The count of a copy loop must be a number from 0 to %d", most)
	}
	return n, nil
}

// eval evaluates an expression.
func (s *scope) eval(e *expr) (any, error) {
	if err := s.run.budget.charge(1, 0); err != nil {
		return nil, err
	}
	switch e.kind {
	case literal:
		return e.text, nil
	case number:
		return e.num, nil
	case call:
		return s.call(e)
	}
	of, err := s.eval(e.args[0])
	if err != nil {
		return nil, err
	}
	var at any = e.text
	if e.kind == index {
		if at, err = s.eval(e.args[1]); err != nil {
			return nil, err
		}
	}
	if m, is := of.(map[string]any); is { // a name that is written another way is looked for among all
		if err := s.run.budget.charge(len(m)/namesPerStep, 0); err != nil {
			return nil, err
		}
	}
	v, ok := pick(of, at)
	if !ok && !e.maybe {
		return nil, invalid("The language expression property '%s' doesn't exist in what it is taken of", shorten(fmt.Sprint(at)))
	}
	return v, nil
}

// namesPerStep is how many names of members count as one step to look through.
const namesPerStep = 64

// pick takes a member of an object or an item of an array.
func pick(of, at any) (any, bool) {
	switch of := of.(type) {
	case map[string]any:
		if name, ok := at.(string); ok {
			return get(of, name)
		}
	case []any:
		if i, ok := at.(int64); ok && i >= 0 && i < int64(len(of)) {
			return of[i], true
		}
	}
	return nil, false
}

// call evaluates a function. What its arguments and result are large is
// charged, so that no function can be made to work without end.
func (s *scope) call(e *expr) (any, error) {
	f, ok := s.run.functions[e.text]
	if !ok {
		if list, ok := strings.CutPrefix(e.text, "list"); ok && !strings.Contains(list, ".") {
			f = function{least: 1, most: 3, run: listAction}
		} else if strings.Contains(e.text, ".") {
			return s.own(e)
		} else {
			return nil, invalid("The template function '%s' is not valid", shorten(e.text))
		}
	}
	if len(e.args) < f.least || f.most >= 0 && len(e.args) > f.most {
		return nil, invalid("The template function '%s' has %d arguments, which is not how many it takes", shorten(e.text), len(e.args))
	}
	if f.lazy != nil {
		return f.lazy(s, e)
	}
	args, err := s.evalAll(e.args)
	if err != nil {
		return nil, err
	}
	for _, a := range args {
		if err := s.run.budget.chargeValue(a); err != nil {
			return nil, err
		}
	}
	out, err := f.run(&arguments{s, e, args})
	if err != nil {
		return nil, err
	}
	return out, s.run.budget.chargeValue(out)
}

func (s *scope) evalAll(list []*expr) ([]any, error) {
	out := make([]any, len(list))
	for i, e := range list {
		var err error
		if out[i], err = s.eval(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// own calls a function that the template defines.
func (s *scope) own(e *expr) (any, error) {
	f := s.names.t.functions[e.text]
	if f == nil {
		return nil, invalid("The template function '%s' is not valid", shorten(e.text))
	}
	if len(e.args) != len(f.params) {
		return nil, invalid("The template function '%s' takes %d arguments", shorten(e.text), len(f.params))
	}
	if s.calls >= maxFunctionCalls {
		return nil, invalid("The template function '%s' calls functions too deeply", shorten(e.text))
	}
	args, err := s.evalAll(e.args)
	if err != nil {
		return nil, err
	}
	in := &scope{run: s.run, names: s.names, calls: s.calls + 1, secret: s.secret, args: map[string]any{}}
	for i, name := range f.params {
		in.args[name] = args[i]
	}
	return in.value(f.output)
}

// parameter is parameters('name').
func (s *scope) parameter(name string) (any, error) {
	values := s.names.params
	if s.args != nil {
		values = s.args
	}
	v, ok := values[strings.ToLower(name)]
	if !ok && s.busy != nil && s.args == nil {
		var err error
		if v, err = s.defaulted(strings.ToLower(name), s.busy); err != nil {
			return nil, err
		}
		ok = true
	}
	if !ok {
		return nil, invalid("The template parameter '%s' is not found", shorten(name))
	}
	if s.args == nil && s.names.secret[strings.ToLower(name)] {
		s.taint()
	}
	return v, nil
}

func (s *scope) taint() {
	if s.secret != nil {
		*s.secret = true
	}
}

// variable is variables('name'). One that needs itself has no value.
func (s *scope) variable(name string) (any, error) {
	v := s.names.vars[strings.ToLower(name)]
	switch {
	case v == nil || s.args != nil:
		return nil, invalid("The template variable '%s' is not found", shorten(name))
	case v.state == 1:
		return nil, invalid("The template variable '%s' refers to itself", shorten(name))
	case v.state == 0:
		v.state = 1
		var err error
		in := &scope{run: s.run, names: s.names, secret: &v.secret, calls: s.calls}
		if l, _ := v.raw.(map[string]any); v.loop {
			_, v.value, err = in.loop(l)
		} else {
			v.value, err = in.value(v.raw)
		}
		if err != nil {
			v.state = 0
			return nil, err
		}
		v.state = 2
	}
	if v.secret {
		s.taint()
	}
	return v.value, nil
}
