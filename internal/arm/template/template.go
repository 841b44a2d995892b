package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
)

// Template is a template that was read and looks like one.
type Template struct {
	params    map[string]map[string]any // by folded name
	paramName map[string]string         // folded → as written
	variables map[string]any
	functions map[string]*ownFunction // by folded namespace.name
	resources []declared
	outputs   map[string]any
}

// declared is a resource as the template has it.
type declared struct {
	symbol string // "" unless resources are an object of symbolic names
	raw    map[string]any
}

// ownFunction is one that the template defines.
type ownFunction struct {
	params []string // folded names
	output any
}

// members are what a template may have. Source: the deploymentTemplate schema.
var members = map[string]bool{"$schema": true, "contentversion": true, "apiprofile": true, "languageversion": true, "definitions": true, "metadata": true,
	"parameters": true, "variables": true, "functions": true, "resources": true, "outputs": true}

// Parse takes what Decode gave, or a template inside of another.
func Parse(v any) (*Template, error) {
	raw, ok := v.(map[string]any)
	if !ok {
		return nil, invalid("The template is not an object")
	}
	for k := range raw {
		if !members[strings.ToLower(k)] {
			return nil, invalid("Could not find member '%s' on object of type 'Template'", shorten(k))
		}
	}
	for _, need := range []string{"$schema", "contentVersion"} {
		if text(raw, need) == "" {
			return nil, invalid("Required property '%s' not found in the template", need)
		}
	}
	t := &Template{params: map[string]map[string]any{}, paramName: map[string]string{}, functions: map[string]*ownFunction{},
		variables: object(raw, "variables"), outputs: object(raw, "outputs")}
	for _, step := range []func(map[string]any) error{t.takeParameters, t.takeResources, t.takeFunctions} {
		if err := step(raw); err != nil {
			return nil, err
		}
	}
	for _, c := range []struct {
		what      string
		has, most int
	}{{"parameters", len(t.params), maxParameters}, {"variables", len(t.variables), maxVariables}, {"outputs", len(t.outputs), maxOutputs}, {"resources", len(t.resources), MaxResources}} {
		if c.has > c.most {
			return nil, invalid("The number of template %s limit exceeded. Limit: '%d' and actual: '%d'", c.what, c.most, c.has)
		}
	}
	return t, nil
}

func (t *Template) takeParameters(raw map[string]any) error {
	for name, v := range object(raw, "parameters") {
		p, ok := v.(map[string]any)
		if !ok || !types[strings.ToLower(text(p, "type"))] {
			return invalid("The template parameter '%s' has no type that is known: string, securestring, int, bool, object, secureObject or array", shorten(name))
		}
		t.params[strings.ToLower(name)], t.paramName[strings.ToLower(name)] = p, name
	}
	return nil
}

func (t *Template) takeResources(raw map[string]any) error {
	v, ok := get(raw, "resources")
	if !ok {
		return invalid("Required property 'resources' not found in the template")
	}
	switch list := v.(type) {
	case []any:
		for _, x := range list {
			r, ok := x.(map[string]any)
			if !ok {
				return invalid("A resource of the template is not an object")
			}
			t.resources = append(t.resources, declared{"", r})
		}
	case map[string]any:
		for _, symbol := range keys(list) {
			r, ok := list[symbol].(map[string]any)
			if !ok {
				return invalid("The resource '%s' of the template is not an object", shorten(symbol))
			}
			t.resources = append(t.resources, declared{symbol, r})
		}
	default:
		return invalid("The template's resources are neither an array nor an object")
	}
	return nil
}

func (t *Template) takeFunctions(raw map[string]any) error {
	spaces, _ := member(raw, "functions").([]any)
	for _, x := range spaces {
		space, _ := x.(map[string]any)
		for name, v := range object(space, "members") {
			f, _ := v.(map[string]any)
			out := object(f, "output")
			if text(space, "namespace") == "" || out == nil {
				return invalid("The template function '%s' has no namespace or no output", shorten(name))
			}
			own := &ownFunction{output: member(out, "value")}
			params, _ := member(f, "parameters").([]any)
			for _, p := range params {
				p, _ := p.(map[string]any)
				own.params = append(own.params, strings.ToLower(text(p, "name")))
			}
			t.functions[strings.ToLower(text(space, "namespace")+"."+name)] = own
		}
	}
	return nil
}

// Run is a template with its parameters, in a place.
type Run struct {
	host      Host
	budget    *Budget
	functions map[string]function
	names     *names
	t         *Template
	exprs     map[string]*expr
	resources []*Resource
	where     map[string][]int // how dependsOn and reference may call resources
}

// Bind gives a template its parameters' values and its place.
func (t *Template) Bind(values map[string]any, host Host, budget *Budget) (*Run, error) {
	return t.bind(values, nil, host, budget)
}

// bind is Bind; secret are the folded names of values that are to be kept
// secret whatever their type.
func (t *Template) bind(values map[string]any, secret map[string]bool, host Host, budget *Budget) (*Run, error) {
	r := t.run(host, budget)
	r.names = &names{t: t, params: map[string]any{}, secret: map[string]bool{}, vars: map[string]*variable{}}
	for name, p := range t.params {
		r.names.secret[name] = isSecure(text(p, "type")) || secret[name]
	}
	r.names.takeVariables()
	for name, v := range values {
		p := t.params[strings.ToLower(name)]
		if p == nil {
			return nil, invalid("The following parameters were supplied, but do not correspond to any parameters defined in the template: '%s'", shorten(name))
		}
		if err := budget.chargeValue(v); err != nil {
			return nil, err
		}
		if v == nil && member(p, "defaultValue") != nil { // null asks for the default
			continue
		}
		if err := r.admit(name, p, v); err != nil {
			return nil, err
		}
	}
	in := &scope{run: r, names: r.names, may: mayDefault}
	for name := range t.params {
		if _, err := in.defaulted(name, map[string]bool{}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Attach lets expressions ask resources that are there.
func (r *Run) Attach(reference func(id az.ID, version string, full bool) (v any, secret bool, err error), list func(id az.ID, function, version string, body any) (any, error)) {
	r.host.Reference, r.host.List = reference, list
}

func (t *Template) run(host Host, budget *Budget) *Run {
	return &Run{host: host, budget: budget, functions: functionTable(), t: t, exprs: map[string]*expr{}, where: map[string][]int{}}
}

// within is a template whose expressions are evaluated with the names of the
// one around it.
func (t *Template) within(outer *Run, host Host) *Run {
	r := t.run(host, outer.budget)
	r.names = outer.names
	return r
}

// takeVariables notes variables, and those that a loop makes.
func (n *names) takeVariables() {
	for name, v := range n.t.variables {
		if !strings.EqualFold(name, "copy") {
			n.vars[strings.ToLower(name)] = &variable{raw: v}
		}
	}
	loops, _ := copies(n.t.variables)
	for _, l := range loops {
		n.vars[strings.ToLower(text(l, "name"))] = &variable{raw: l, loop: true}
	}
}

// defaulted gives a parameter its default, which may use other parameters.
func (s *scope) defaulted(name string, busy map[string]bool) (any, error) {
	if v, ok := s.names.params[name]; ok {
		return v, nil
	}
	p := s.names.t.params[name]
	if p == nil {
		return nil, invalid("The template parameter '%s' is not found", shorten(name))
	}
	raw, ok := get(p, "defaultValue")
	if !ok && member(p, "nullable") == true {
		s.names.params[name] = nil
		return nil, nil
	}
	if !ok {
		return nil, invalid("The value for the template parameter '%s' is not provided. Please see https://aka.ms/arm-create-parameter-file for usage details", s.names.t.paramName[name])
	}
	if busy[name] {
		return nil, invalid("The default value of the template parameter '%s' refers to itself", s.names.t.paramName[name])
	}
	busy[name] = true
	in := *s
	secret := false
	in.busy, in.secret = busy, &secret
	v, err := in.value(raw)
	if err != nil {
		return nil, early(err)
	}
	delete(busy, name)
	if secret { // made of a secure one: as secret as that
		s.names.secret[name] = true
		s.taint()
	}
	return v, s.run.admit(name, p, v)
}

// early words what is asked for before it can be known.
func early(err error) error {
	if errors.Is(err, errNotYet) {
		return invalid("The template function 'reference' or 'list' is not expected at this location: it is known only when the resources are there. It can be used in properties and outputs")
	}
	return err
}

var types = map[string]bool{"string": true, "securestring": true, "int": true, "bool": true, "object": true, "secureobject": true, "array": true}

func isSecure(typ string) bool { return strings.HasPrefix(strings.ToLower(typ), "secure") }

// hasType says whether a value is of a template's type.
func hasType(typ string, v any) bool {
	switch v.(type) {
	case string:
		return strings.EqualFold(typ, "string") || strings.EqualFold(typ, "securestring")
	case int64:
		return strings.EqualFold(typ, "int")
	case bool:
		return strings.EqualFold(typ, "bool")
	case []any:
		return strings.EqualFold(typ, "array")
	case map[string]any:
		return strings.EqualFold(typ, "object") || strings.EqualFold(typ, "secureobject")
	case json.Number:
		return false
	}
	return false
}

// admit checks a parameter's value and keeps it. The value is not repeated in
// errors: it may be secret.
func (r *Run) admit(name string, p map[string]any, v any) error {
	bad := func(format string, args ...any) error {
		return invalid("The provided value for the template parameter '%s' is not valid. %s", shorten(name), fmt.Sprintf(format, args...))
	}
	if v == nil && member(p, "nullable") == true {
		r.names.params[strings.ToLower(name)] = nil
		return nil
	}
	if !hasType(text(p, "type"), v) {
		return bad("Expected a value of type '%s'", text(p, "type"))
	}
	if allowed, ok := member(p, "allowedValues").([]any); ok {
		found := false
		for _, a := range allowed {
			found = found || Equal(a, v)
		}
		if !found {
			return bad("The value is not part of the allowed values of the parameter")
		}
	}
	size, measured := int64(0), true
	switch v := v.(type) {
	case string:
		size = int64(utf8.RuneCountInString(v))
	case []any:
		size = int64(len(v))
	case int64:
		if lo, ok := member(p, "minValue").(int64); ok && v < lo {
			return bad("The value must be at least %d", lo)
		}
		if hi, ok := member(p, "maxValue").(int64); ok && v > hi {
			return bad("The value must be at most %d", hi)
		}
		measured = false
	default:
		measured = false
	}
	if lo, ok := member(p, "minLength").(int64); ok && measured && size < lo {
		return bad("Its length must be at least %d", lo)
	}
	if hi, ok := member(p, "maxLength").(int64); ok && measured && size > hi {
		return bad("Its length must be at most %d", hi)
	}
	r.names.params[strings.ToLower(name)] = v
	return nil
}

// Parameter is a parameter as a deployment's history shows it.
type Parameter struct {
	Name, Type string
	Value      any
	Secure     bool
}

// Parameters are all, with their values.
func (r *Run) Parameters() []Parameter {
	out := make([]Parameter, 0, len(r.t.params))
	for name, p := range r.t.params {
		typ := text(p, "type")
		out = append(out, Parameter{r.t.paramName[name], typeName(typ), r.names.params[name], r.names.secret[name]})
	}
	return out
}

// typeName is a type as Azure writes it in a reply.
func typeName(typ string) string {
	switch strings.ToLower(typ) {
	case "securestring":
		return "SecureString"
	case "secureobject":
		return "SecureObject"
	case "":
		return ""
	}
	return strings.ToUpper(typ[:1]) + strings.ToLower(typ[1:])
}

// parsed parses an expression once.
func (r *Run) parsed(body string) (*expr, error) {
	if e := r.exprs[body]; e != nil {
		return e, nil
	}
	if err := r.budget.charge(1+len(body)/16, 0); err != nil {
		return nil, err
	}
	e, err := parse(body)
	if err == nil {
		r.exprs[body] = e
	}
	return e, err
}
