package template

import (
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// deploymentFunctions ask about the deployment and about resources.
// Source: "Resource functions for ARM templates", "Deployment functions".
func deploymentFunctions() map[string]function {
	fact := func(of func(*Host) map[string]any) function {
		return function{run: func(a *arguments) (any, error) {
			if v := of(&a.s.run.host); v != nil {
				return v, nil
			}
			return nil, invalid("The template function '%s' is not expected at this location: a deployment at a subscription has no resource group", a.e.text)
		}}
	}
	return map[string]function{
		"parameters":             {least: 1, most: 1, lazy: byName((*scope).parameter)},
		"variables":              {least: 1, most: 1, lazy: byName((*scope).variable)},
		"deployment":             fact(func(h *Host) map[string]any { return h.Deployment }),
		"subscription":           fact(func(h *Host) map[string]any { return h.Subscription }),
		"resourcegroup":          fact(func(h *Host) map[string]any { return h.ResourceGroup }),
		"tenant":                 fact(func(h *Host) map[string]any { return h.Tenant }),
		"environment":            fact(func(h *Host) map[string]any { return h.Environment }),
		"deployer":               fact(func(h *Host) map[string]any { return h.Deployer }),
		"resourceid":             {least: 2, most: -1, run: resourceID},
		"subscriptionresourceid": {least: 2, most: -1, run: subscriptionID},
		"tenantresourceid":       {least: 2, most: -1, run: func(a *arguments) (any, error) { return a.idIn(az.Root, 0) }},
		"extensionresourceid": {least: 3, most: -1, run: func(a *arguments) (any, error) {
			base, err := a.id(0)
			if err != nil {
				return nil, err
			}
			return a.idIn(base, 1)
		}},
		"reference": {least: 1, most: 3, run: reference},
	}
}

// byName is for functions that name a parameter or variable: what they give
// was charged when it was made.
func byName(fn func(*scope, string) (any, error)) func(*scope, *expr) (any, error) {
	return func(s *scope, e *expr) (any, error) {
		v, err := s.eval(e.args[0])
		if err != nil {
			return nil, err
		}
		name, ok := v.(string)
		if !ok {
			return nil, invalid("The template function '%s' expects a text as its argument 1", e.text)
		}
		return fn(s, name)
	}
}

func (a *arguments) id(i int) (az.ID, error) {
	s, err := a.str(i)
	if err != nil {
		return az.Root, err
	}
	id, err := az.ParseID(s)
	if err != nil {
		return az.Root, a.fail(i, "the id of a resource")
	}
	return id, nil
}

// idIn makes an id of a type and names, those from argument i on.
func (a *arguments) idIn(base az.ID, i int) (any, error) {
	t, err := a.strs(i, true)
	if err != nil {
		return nil, err
	}
	id, err := interleave(base, t[0], strings.Join(t[1:], "/"))
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(t[0], groupsType) && base.ResourceGroup() == "" && !base.IsRoot() {
		id = base.Child("resourceGroups", strings.Join(t[1:], "/"))
	}
	return id.String(), nil
}

// typeAt is which argument is the type: the first with a slash.
func (a *arguments) typeAt(most int) (int, error) {
	for i := 0; i <= most && i < len(a.list)-1; i++ {
		s, err := a.str(i)
		if err != nil {
			return 0, err
		}
		if strings.Contains(s, "/") {
			return i, nil
		}
	}
	return 0, a.fail(0, "a resource type, or a subscription, a resource group and a type")
}

// resourceID is resourceId([subscription], [group], type, name…).
func resourceID(a *arguments) (any, error) {
	at, err := a.typeAt(2)
	if err != nil {
		return nil, err
	}
	scope := a.s.run.host.Scope
	sub, group := scope.Subscription(), scope.ResourceGroup()
	for i := range at {
		s, _ := a.str(i) // typeAt looked
		if az.IsGUID(s) && i == 0 {
			sub = s
		} else {
			group = s
		}
	}
	text := "/subscriptions/" + sub
	if group != "" {
		text += "/resourceGroups/" + group
	}
	base, err := az.ParseID(text)
	if err != nil {
		return nil, a.fail(0, "the name of a resource group")
	}
	return a.idIn(base, at)
}

func subscriptionID(a *arguments) (any, error) {
	at, err := a.typeAt(1)
	if err != nil {
		return nil, err
	}
	sub := a.s.run.host.Scope.Subscription()
	if at == 1 {
		sub, _ = a.str(0) // typeAt looked
	}
	base, err := az.ParseID("/subscriptions/" + sub)
	if err != nil {
		return nil, a.fail(0, "the id of a subscription")
	}
	return a.idIn(base, at)
}

// target is the resource that reference and list are about: an id, or a name
// that the template gives.
func (a *arguments) target() (az.ID, string, error) {
	name, err := a.str(0)
	if err != nil {
		return az.Root, "", err
	}
	found := a.s.run.find(name)
	if len(found) == 1 {
		res := a.s.run.resources[found[0]]
		if !res.Enabled && !res.Existing {
			return az.Root, "", invalid("The resource '%s' that is referred to is not deployed: its condition is false", res.ID)
		}
		return res.ID, res.Version, nil
	}
	if len(found) > 1 {
		return az.Root, "", invalid("The resource reference '%s' is ambiguous: use its resource id", shorten(name))
	}
	if !strings.HasPrefix(name, "/") {
		return az.Root, "", invalid("The resource '%s' is not defined in the template. Please see https://aka.ms/arm-syntax for usage details", shorten(name))
	}
	id, err := a.id(0)
	return id, "", err
}

func reference(a *arguments) (any, error) {
	if a.s.may&mayRun == 0 || a.s.run.host.Reference == nil {
		return nil, errNotYet
	}
	id, version, err := a.target()
	if err != nil {
		return nil, err
	}
	if len(a.list) > 1 {
		if version, err = a.str(1); err != nil {
			return nil, err
		}
	}
	full := false
	if len(a.list) > 2 {
		s, err := a.str(2)
		if err != nil || !strings.EqualFold(s, "full") {
			return nil, a.fail(2, "'Full'")
		}
		full = true
	}
	if version == "" {
		return nil, invalid("The resource '%s' is not in the template: give reference its apiVersion", id)
	}
	v, secret, err := a.s.run.host.Reference(id, version, full)
	if secret {
		a.s.taint()
	}
	return v, err
}

// listAction is listKeys and every other function whose name begins so. What
// it gives is secret.
func listAction(a *arguments) (any, error) {
	if a.s.may&mayRun == 0 || a.s.run.host.List == nil {
		return nil, errNotYet
	}
	id, version, err := a.target()
	if err != nil {
		return nil, err
	}
	if len(a.list) > 1 {
		if version, err = a.str(1); err != nil {
			return nil, err
		}
	}
	if version == "" {
		return nil, a.fail(1, "an api-version")
	}
	var body any
	if len(a.list) > 2 {
		body = a.list[2]
	}
	a.s.taint()
	return a.s.run.host.List(id, a.e.text, version, body)
}
