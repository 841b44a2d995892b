package template

import (
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// DeploymentsType is the type of deployments, those in templates too.
const DeploymentsType = "Microsoft.Resources/deployments"

const groupsType = "Microsoft.Resources/resourceGroups"

// Resource is one that a template makes, one of those that a loop makes.
type Resource struct {
	ID      az.ID
	Type    string
	Name    string // with the names of its parents
	Version string
	Symbol  string
	// Enabled is its condition. One without is not deployed, and nothing waits
	// for it.
	Enabled bool
	// Existing is one that is there already and only referred to.
	Existing bool

	raw   map[string]any
	at    *scope
	needs map[int]bool // what must be there before, by place in the plan
}

// Plan expands loops and conditions, names everything, and returns the
// resources in an order in which each comes after what it depends on.
func (r *Run) Plan() ([]*Resource, error) {
	r.resources, r.where = nil, map[string][]int{}
	base := &scope{run: r, names: r.names}
	for _, d := range r.t.resources {
		if err := r.expand(base, d, nil); err != nil {
			return nil, early(err)
		}
	}
	for i, res := range r.resources {
		if err := r.connect(i, res); err != nil {
			return nil, early(err)
		}
	}
	return r.order()
}

// expand adds a declared resource: once, or as often as its loop says.
func (r *Run) expand(s *scope, d declared, parent *Resource) error {
	l, looping := member(d.raw, "copy").(map[string]any)
	if !looping {
		_, err := r.add(s, d, parent)
		return err
	}
	name := text(l, "name")
	if name == "" {
		return invalid("The copy loop of a resource has no name")
	}
	count, err := s.count(l, MaxResources)
	if err != nil {
		return err
	}
	batch, err := s.batch(l, count)
	if err != nil {
		return err
	}
	var before, now []int
	for i := range count {
		in := *s
		in.may |= mayCopy
		in.loops = append(s.loops[:len(s.loops):len(s.loops)], loop{name, i})
		if batch > 0 && i%batch == 0 {
			before, now = now, nil
		}
		one := d
		if d.symbol != "" {
			one.symbol = d.symbol + "[" + decimal(i) + "]"
		}
		at, err := r.add(&in, one, parent)
		if err != nil {
			return err
		}
		for _, b := range before {
			r.resources[at].needs[b] = true
		}
		now = append(now, at)
		r.call(name, at)
		if d.symbol != "" {
			r.call(d.symbol, at)
		}
	}
	return nil
}

// batch is how many of a loop's resources are made at a time; 0: all.
func (s *scope) batch(l map[string]any, count int64) (int64, error) {
	mode, err := s.optional(l, "mode")
	if err != nil || !strings.EqualFold(mode, "serial") {
		return 0, err
	}
	v, ok := get(l, "batchSize")
	if !ok {
		return 1, nil
	}
	if v, err = s.value(v); err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok || n < 1 {
		return 0, invalid("The batchSize of a copy loop must be a number from 1")
	}
	return min(n, max(count, 1)), nil
}

// optional evaluates a text that may be absent.
func (s *scope) optional(m map[string]any, name string) (string, error) {
	raw, ok := get(m, name)
	if !ok || raw == nil {
		return "", nil
	}
	v, err := s.value(raw)
	if err != nil {
		return "", err
	}
	t, ok := v.(string)
	if !ok {
		return "", invalid("The '%s' of a resource is not a text", name)
	}
	return t, nil
}

// call notes a name by which a resource may be called.
func (r *Run) call(name string, at int) {
	k := strings.ToLower(name)
	if list := r.where[k]; len(list) == 0 || list[len(list)-1] != at {
		r.where[k] = append(list, at)
	}
}

// add adds one resource and those inside of it.
func (r *Run) add(s *scope, d declared, parent *Resource) (int, error) {
	if r.budget.resources--; r.budget.resources < 0 {
		return 0, invalid("The number of template resources limit exceeded: a deployment, with those nested in it, can have %d", MaxResources)
	}
	if err := r.budget.chargeReading(d.raw); err != nil {
		return 0, err
	}
	res := &Resource{Symbol: d.symbol, raw: d.raw, at: s, needs: map[int]bool{}, Enabled: true}
	for _, step := range []func(*scope, *Resource) error{r.name, r.place, r.condition} {
		if err := step(s, named(res, parent)); err != nil {
			return 0, err
		}
	}
	at := len(r.resources)
	for _, i := range r.where[res.ID.Key()] {
		if !r.resources[i].Existing && !res.Existing && (r.resources[i].Enabled && res.Enabled) {
			return 0, invalid("The resource '%s' is defined multiple times in the template", res.ID)
		}
	}
	r.resources = append(r.resources, res)
	r.call(res.ID.Key(), at)
	for _, name := range []string{res.Name, res.Type + "/" + res.Name, res.Name[strings.LastIndexByte(res.Name, '/')+1:]} {
		r.call(name, at)
	}
	if d.symbol != "" {
		r.call(d.symbol, at)
	}
	if parent != nil {
		for i := range r.resources {
			if r.resources[i] == parent {
				res.needs[i] = true
			}
		}
		res.Enabled = res.Enabled && parent.Enabled
	}
	children, _ := member(d.raw, "resources").([]any)
	for _, x := range children {
		c, ok := x.(map[string]any)
		if !ok {
			return 0, invalid("A resource inside of '%s' is not an object", res.Name)
		}
		if err := r.expand(s, declared{"", c}, res); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// named gives a resource inside of another its parent's type and name.
func named(res, parent *Resource) *Resource {
	if parent != nil && res.Type == "" {
		res.Type, res.Name = parent.Type+"/", parent.Name+"/"
	}
	return res
}

// name evaluates type, name and api-version. The prefix of a resource inside
// of another stands there already.
func (r *Run) name(s *scope, res *Resource) error {
	typ, err := s.optional(res.raw, "type")
	if err != nil {
		return err
	}
	name, err := s.optional(res.raw, "name")
	if err != nil {
		return err
	}
	if res.Version, err = s.optional(res.raw, "apiVersion"); err != nil {
		return err
	}
	if first, _, _ := strings.Cut(typ, "/"); strings.Contains(first, ".") {
		res.Type, res.Name = "", "" // a full type
	}
	typ, symbolVersion, _ := strings.Cut(typ, "@")
	if res.Version == "" {
		res.Version = symbolVersion
	}
	if typ == "" || name == "" || res.Version == "" {
		return invalid("A resource of the template needs a type, a name and an apiVersion: type '%s', name '%s'", shorten(typ), shorten(name))
	}
	res.Type, res.Name = res.Type+typ, res.Name+name
	res.Existing = member(res.raw, "existing") == true
	return nil
}

// place works out the id.
func (r *Run) place(s *scope, res *Resource) error {
	base, err := r.base(s, res)
	if err != nil {
		return err
	}
	res.ID, err = interleave(base, res.Type, res.Name)
	if err != nil {
		return err
	}
	if strings.EqualFold(res.Type, groupsType) {
		if r.host.Scope.ResourceGroup() != "" {
			return invalid("A resource group can be made only by a deployment at a subscription: '%s'", res.Name)
		}
		res.ID = r.host.Scope.Child("resourceGroups", res.Name)
	}
	return nil
}

// base is what a resource is in, or sits on.
func (r *Run) base(s *scope, res *Resource) (az.ID, error) {
	at, err := s.optional(res.raw, "scope")
	if err != nil {
		return az.Root, err
	}
	base := r.host.Scope
	if strings.EqualFold(res.Type, DeploymentsType) {
		group, err := s.optional(res.raw, "resourceGroup")
		if err != nil {
			return az.Root, err
		}
		sub, err := s.optional(res.raw, "subscriptionId")
		if err != nil {
			return az.Root, err
		}
		if sub != "" {
			base = az.Root.Child("subscriptions", sub)
		}
		if group != "" {
			base = az.Root.Child("subscriptions", base.Subscription(), "resourceGroups", group)
		}
	}
	if base, err = az.ParseID(base.String()); err != nil { // its parts come from the template
		return az.Root, invalid("The place of the resource '%s' is not one that can be: '%s'", shorten(res.Name), shorten(at))
	}
	switch {
	case at == "":
		return base, nil
	case at[0] == '/':
		if base, err = az.ParseID(at); err != nil {
			return az.Root, invalid("The scope of the resource '%s' is not an id", shorten(res.Name))
		}
		return base, nil
	}
	ns, rest, _ := strings.Cut(at, "/")
	segs := strings.Split(rest, "/")
	if len(segs) < 2 || len(segs)%2 != 0 {
		return az.Root, invalid("The scope of the resource '%s' must be an id or like Microsoft.KeyVault/vaults/name", shorten(res.Name))
	}
	base, err = az.ParseID(base.String() + "/providers/" + ns + "/" + rest)
	if err != nil {
		return az.Root, invalid("The scope of the resource '%s' is not an id", shorten(res.Name))
	}
	return base, nil
}

// interleave puts types and names together by turns: A.B/x/y and n/m make
// {base}/providers/A.B/x/n/y/m.
func interleave(base az.ID, typ, name string) (az.ID, error) {
	ts, ns := strings.Split(typ, "/"), strings.Split(name, "/")
	if len(ts) != len(ns)+1 {
		return az.Root, invalid("The template resource '%s' for type '%s' has incorrect segment lengths. A nested resource type must have identical number of segments as its resource name. A root resource type must have segment length one greater than its resource name", shorten(name), shorten(typ))
	}
	var b strings.Builder
	if !base.IsRoot() {
		b.WriteString(base.String())
	}
	b.WriteString("/providers/" + ts[0])
	for i, n := range ns {
		if n == "" || ts[i+1] == "" {
			return az.Root, invalid("The template resource '%s' has an empty name or type", shorten(name))
		}
		b.WriteString("/" + ts[i+1] + "/" + n)
	}
	id, err := az.ParseID(b.String())
	if err != nil {
		return az.Root, invalid("The name '%s' of a template resource has characters that names cannot have", shorten(name))
	}
	return id, nil
}

func (r *Run) condition(s *scope, res *Resource) error {
	raw, ok := get(res.raw, "condition")
	if !ok {
		return nil
	}
	v, err := s.value(raw)
	if err != nil {
		return err
	}
	if res.Enabled, ok = v.(bool); !ok {
		return invalid("The condition of the resource '%s' is neither true nor false", res.Name)
	}
	return nil
}
