package template

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// connect notes what a resource needs: what its dependsOn names, and what its
// expressions refer to.
func (r *Run) connect(at int, res *Resource) error {
	list, _ := member(res.raw, "dependsOn").([]any)
	for _, raw := range list {
		v, err := res.at.value(raw)
		if err != nil {
			return err
		}
		name, ok := v.(string)
		if !ok {
			return invalid("The dependsOn of the resource '%s' holds something else than texts", res.Name)
		}
		found := r.find(name)
		if len(found) == 0 {
			return invalid("The resource '%s' is not defined in the template, but '%s' depends on it. Please see https://aka.ms/arm-syntax for usage details", shorten(name), res.Name)
		}
		for _, i := range found {
			if i == at {
				return circular(res)
			}
			res.needs[i] = true
		}
		if err := r.budget.charge(len(found), 0); err != nil {
			return err
		}
	}
	for i, other := range r.resources { // what is in another, or sits on it, comes after it
		if i != at && res.ID.Within(other.ID) && !res.ID.Equal(other.ID) {
			res.needs[i] = true
		}
	}
	if err := r.budget.charge(len(r.resources)/8, 0); err != nil {
		return err
	}
	for k, v := range res.raw {
		if own(k) || strings.EqualFold(res.Type, DeploymentsType) && strings.EqualFold(k, "properties") {
			continue
		}
		if err := r.implied(at, res, v); err != nil {
			return err
		}
	}
	if strings.EqualFold(res.Type, DeploymentsType) {
		return r.implied(at, res, member(object(res.raw, "properties"), "parameters"))
	}
	return nil
}

func circular(res *Resource) error {
	return invalid("Circular dependency detected on resource: '%s'. Please see https://aka.ms/arm-syntax-resources for usage details", res.ID)
}

// find is what a name may mean: an id, a type and name, a name, a symbol or a
// loop.
func (r *Run) find(name string) []int {
	if strings.HasPrefix(name, "/") {
		id, err := az.ParseID(name)
		if err != nil {
			return nil
		}
		return r.where[id.Key()]
	}
	return r.where[strings.ToLower(name)]
}

// implied follows the reference and list functions in a resource.
func (r *Run) implied(at int, res *Resource, v any) error {
	switch v := v.(type) {
	case string:
		body, _, is := isExpression(v)
		if !is {
			return nil
		}
		e, err := r.parsed(body)
		if err != nil {
			return err
		}
		return r.impliedBy(at, res, e)
	case []any:
		for _, x := range v {
			if err := r.implied(at, res, x); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, x := range v {
			if err := r.implied(at, res, x); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Run) impliedBy(at int, res *Resource, e *expr) error {
	if err := r.budget.charge(1, 0); err != nil {
		return err
	}
	for _, a := range e.args {
		if err := r.impliedBy(at, res, a); err != nil {
			return err
		}
	}
	if e.kind != call || len(e.args) == 0 || e.text != "reference" && !strings.HasPrefix(e.text, "list") {
		return nil
	}
	in := *res.at
	in.may |= mayCopy
	v, err := in.eval(e.args[0])
	if err != nil {
		if r.budget.spent {
			return err
		}
		return nil // known only in a loop of the properties, or later: no dependency follows
	}
	name, _ := v.(string)
	for _, i := range r.find(name) {
		switch {
		case i != at:
			res.needs[i] = true
		case len(e.args) == 1:
			return circular(res)
		}
	}
	return nil
}

// order sorts the plan: first what needs nothing. What is left over goes in a
// circle.
func (r *Run) order() ([]*Resource, error) {
	left := make([]int, len(r.resources))
	after := make([][]int, len(r.resources))
	for i, res := range r.resources {
		left[i] = len(res.needs)
		for n := range res.needs {
			after[n] = append(after[n], i)
		}
	}
	done := make([]bool, len(left))
	out := make([]*Resource, 0, len(left))
	for len(out) < len(left) {
		before := len(out)
		for i, res := range r.resources {
			if done[i] || left[i] > 0 {
				continue
			}
			done[i] = true
			out = append(out, res)
			for _, a := range after[i] {
				left[a]--
			}
		}
		if len(out) == before {
			for i, res := range r.resources {
				if !done[i] {
					return nil, circular(res)
				}
			}
		}
	}
	return out, nil
}

// own reports whether a member of a resource is the template's, not the
// resource's.
func own(k string) bool {
	switch strings.ToLower(k) {
	case "type", "name", "apiversion", "dependson", "condition", "copy", "scope", "comments", "resources", "subscriptionid", "resourcegroup", "existing", "metadata", "asserts":
		return true
	}
	return false
}

// Needs are the ids of what a resource waited for, for the history.
func (r *Run) Needs(res *Resource) []*Resource {
	var out []*Resource
	for i := range r.resources {
		if res.needs[i] {
			out = append(out, r.resources[i])
		}
	}
	return out
}

// ErrNotYet reports whether an error only says that something is known no
// earlier than when resources are there: a validation can't go further.
func ErrNotYet(err error) bool { return errors.Is(err, errNotYet) }

// Body evaluates what is sent to make a resource. secret says whether
// something secret went into it.
func (r *Run) Body(res *Resource, deploying bool) (body map[string]any, secret bool, err error) {
	in := *res.at
	in.may |= mayCopy
	if deploying {
		in.may |= mayRun
	}
	in.secret = &secret
	raw := make(map[string]any, len(res.raw))
	for k, v := range res.raw {
		if !own(k) {
			raw[k] = v
		}
	}
	v, err := in.value(raw)
	if err != nil && deploying {
		err = early(err)
	}
	if err != nil {
		return nil, secret, about(res, err)
	}
	return v.(map[string]any), secret, nil
}

// about says in which resource an expression is wrong.
func about(res *Resource, err error) error {
	var e *az.Error
	if errors.As(err, &e) && e.Code == CodeInvalid {
		c := *e
		c.Message = fmt.Sprintf("Unable to process template language expressions for resource '%s'. %s", res.ID, e.Message)
		return &c
	}
	return err
}

// Member evaluates a text of a resource, "" if there is none.
func (r *Run) Member(res *Resource, name string) (string, error) {
	in := *res.at
	in.may |= mayCopy
	s, err := in.optional(res.raw, name)
	return s, about(res, early(err))
}

// Output is one of a template's outputs.
type Output struct {
	Name, Type string
	Value      any
	Secure     bool // by its type: not even stored in the history
	Secret     bool // something secret went into it: a secure parameter, a key
}

// Outputs evaluates the outputs, when all resources are there.
func (r *Run) Outputs() ([]Output, error) {
	out := make([]Output, 0, len(r.t.outputs))
	for _, name := range keys(r.t.outputs) {
		o, ok := r.t.outputs[name].(map[string]any)
		if !ok {
			return nil, invalid("The template output '%s' is not an object", shorten(name))
		}
		one := Output{Name: name, Type: typeName(text(o, "type")), Secure: isSecure(text(o, "type"))}
		in := &scope{run: r, names: r.names, may: mayRun, secret: &one.Secret}
		if raw, ok := get(o, "condition"); ok {
			v, err := in.value(raw)
			if err != nil {
				return nil, early(err)
			}
			if v != true {
				continue
			}
		}
		var err error
		if l := object(o, "copy"); l != nil {
			one.Value, err = in.repeat("", l, maxCopies)
		} else {
			one.Value, err = in.value(member(o, "value"))
		}
		if err != nil {
			return nil, early(err)
		}
		if !hasType(one.Type, one.Value) && !(one.Value == nil && member(o, "nullable") == true) {
			return nil, invalid("The template output '%s' is not valid: the value is not of the type '%s'", shorten(name), one.Type)
		}
		out = append(out, one)
	}
	return out, nil
}

// Nested is a deployment inside of a template.
type Nested struct {
	Mode       string
	Template   *Template
	Raw        any             // the template as it stands there
	Parameters map[string]any  // {name: {"value": …}} as a request has them
	secret     map[string]bool // folded names of parameters that something secret went into
	Outer      bool            // its expressions mean the names of the template around it
	around     *Run
}

// Nested reads a resource that is a deployment. Its parameters are evaluated;
// its template is not, unless all of it is an expression.
func (r *Run) Nested(res *Resource, deploying bool) (*Nested, error) {
	p := object(res.raw, "properties")
	if p == nil {
		return nil, about(res, invalid("A nested deployment has no properties"))
	}
	for _, link := range []string{"templateLink", "parametersLink"} {
		if _, ok := get(p, link); ok {
			return nil, about(res, invalid("A '%s' is not served here: nothing is fetched from other places. Put the template into the deployment", link))
		}
	}
	in := *res.at
	in.may |= mayCopy
	if deploying {
		in.may |= mayRun
	}
	n := &Nested{around: r, Outer: !strings.EqualFold(text(object(p, "expressionEvaluationOptions"), "scope"), "inner")}
	var err error
	if n.Mode, err = in.optional(p, "mode"); err != nil {
		return nil, about(res, err)
	}
	raw := member(p, "template")
	if s, is := raw.(string); is {
		if raw, err = in.value(s); err != nil {
			return nil, about(res, err)
		}
	}
	n.Raw = raw
	if n.Template, err = Parse(raw); err != nil {
		return nil, about(res, err)
	}
	return n, about(res, n.takeParameters(&in, member(p, "parameters")))
}

// takeParameters evaluates what a nested template is given. What is made of a
// secret stays one, whatever type the nested template gives its parameter.
func (n *Nested) takeParameters(in *scope, given any) error {
	if given == nil {
		return nil
	}
	each, ok := given.(map[string]any)
	if _, looping := copies(each); !ok || looping {
		whole, secret := *in, false
		whole.secret = &secret
		v, err := whole.value(given)
		n.Parameters, _ = v.(map[string]any)
		for name := range n.Parameters {
			if secret { // which of them is not known
				n.keepSecret(name)
			}
		}
		return err
	}
	n.Parameters = make(map[string]any, len(each))
	for k, raw := range each {
		one, secret := *in, false
		one.secret = &secret
		name, err := one.key(k)
		if err != nil {
			return err
		}
		if n.Parameters[name], err = one.value(raw); err != nil {
			return err
		}
		if secret {
			n.keepSecret(name)
		}
	}
	return nil
}

func (n *Nested) keepSecret(name string) {
	if n.secret == nil {
		n.secret = map[string]bool{}
	}
	n.secret[strings.ToLower(name)] = true
}

// Bind gives a nested deployment its place. The budget is that of the
// deployment around it.
func (n *Nested) Bind(host Host) (*Run, error) {
	if n.Outer {
		if len(n.Parameters) > 0 || len(n.Template.params) > 0 {
			return nil, invalid("A nested deployment whose expressions are evaluated in the outer scope can't have parameters. Set expressionEvaluationOptions.scope to inner")
		}
		return n.Template.within(n.around, host), nil
	}
	values := map[string]any{}
	for name, v := range n.Parameters {
		m, ok := v.(map[string]any)
		value, has := get(m, "value")
		if !ok || !has {
			return nil, invalid("The parameter '%s' of a nested deployment has no value", shorten(name))
		}
		values[name] = value
	}
	return n.Template.bind(values, n.secret, host, n.around.budget)
}
