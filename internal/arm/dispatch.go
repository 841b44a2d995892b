package arm

import (
	"context"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// serve answers every request but /metadata/endpoints. It only finds out what
// the path means; the check of rights is the first act of whatever it calls.
func (a *API) serve(ctx context.Context, req *rest.Request) (any, error) {
	call, err := a.newCall(req)
	if err != nil {
		return nil, err
	}
	return a.dispatch(ctx, call)
}

// dispatch is serve for a call that another part of the plane makes, too: a
// deployment puts its resources through it.
func (a *API) dispatch(ctx context.Context, call *Call) (any, error) {
	if rt, params := a.exact(call); rt != nil {
		return a.serveExact(ctx, call, rt, params)
	}
	id := call.path
	switch {
	case call.Method == http.MethodPost:
		return a.serveAction(ctx, call, id.Parent(), id.Name())
	case id.IsRoot():
		return nil, nothingHere()
	case id.IsCollection():
		return a.serveCollection(ctx, call, id)
	}
	t, owner, doc := a.resolve(id)
	switch {
	case t == nil:
		return nil, unknownType(id)
	case doc != "":
		call.ID = owner
		return t.document(ctx, call, doc, "")
	}
	if err := a.wellPlaced(t.info(), id); err != nil {
		return nil, err
	}
	switch call.Method {
	case http.MethodGet, http.MethodHead:
		if head := t.info().head; head != nil && call.Method == http.MethodHead {
			return head(ctx, call)
		}
		if fetch := t.info().fetch; fetch != nil {
			return fetch(ctx, call)
		}
		return t.get(ctx, call)
	case http.MethodPut, http.MethodPatch:
		if put := t.info().put; put != nil && call.Method == http.MethodPut {
			return put(ctx, call)
		} else if put != nil {
			return nil, notServed(call.Method)
		}
		return t.put(ctx, call, call.Method == http.MethodPatch)
	case http.MethodDelete:
		if discard := t.info().discard; discard != nil {
			return discard(ctx, call)
		}
		return a.serveDelete(ctx, call, t)
	}
	return nil, notServed(call.Method)
}

// resolve finds the type of an id, or the type whose document the id is: then
// owner is the resource and doc the document's folded path.
func (a *API) resolve(id az.ID) (t AnyType, owner az.ID, doc string) {
	if t = a.types[strings.ToLower(id.Type())]; t != nil {
		return t, id, ""
	}
	if id.IsRoot() || id.Type() == "" {
		return nil, id, ""
	}
	owner = id.Parent()
	if t = a.types[strings.ToLower(owner.Type())]; t == nil {
		return nil, id, ""
	}
	doc = strings.TrimPrefix(id.Key(), owner.Key()+"/")
	if !t.info().docs[doc] {
		return nil, id, ""
	}
	return t, owner, doc
}

// serveAction answers POST {target}/{action}.
func (a *API) serveAction(ctx context.Context, call *Call, target az.ID, action string) (any, error) {
	if call.path.IsRoot() || !call.path.IsCollection() {
		return nil, notServed(call.Method)
	}
	t, owner, doc := a.resolve(target)
	if t == nil {
		return nil, unknownType(target)
	}
	call.ID = owner
	if doc != "" {
		return t.document(ctx, call, doc, action)
	}
	if err := a.wellPlaced(t.info(), target); err != nil {
		return nil, err
	}
	return t.act(ctx, call, action)
}

// serveCollection answers a path that ends in a type's name.
func (a *API) serveCollection(ctx context.Context, call *Call, id az.ID) (any, error) {
	if call.Method != http.MethodGet && call.Method != http.MethodHead {
		return nil, notServed(call.Method)
	}
	scope, name := collection(id)
	if t := a.types[strings.ToLower(name)]; t != nil {
		if err := a.listPlaced(t.info(), scope); err != nil {
			return nil, err
		}
		call.ID = scope
		if list := t.info().list; list != nil {
			return list(ctx, call, scope)
		}
		return a.list(ctx, call, t, scope)
	}
	if t := a.types[strings.ToLower(scope.Type())]; t != nil && !scope.IsRoot() {
		call.ID = scope
		return t.documents(ctx, call, strings.ToLower(id.Name()))
	}
	return nil, unknownType(id)
}

// collection splits a path that ends in a type's name into where to list and
// the type.
func collection(id az.ID) (scope az.ID, typ string) {
	typ = id.Type()
	switch {
	case typ == "" && strings.EqualFold(id.Name(), "resourceGroups"):
		typ = groupsName
	case strings.Count(typ, "/") == 0 && typ != "":
		return az.Root, "" // …/providers/NS alone
	}
	return id.Parent(), typ
}

// wellPlaced refuses ids at which a type cannot be.
func (a *API) wellPlaced(i *info, id az.ID) error {
	p := id.Parent()
	switch {
	case i.extension, i.name == groupsName && isGroup(id),
		i.name != groupsName && i.depth() == 1 && isGroup(p),
		i.depth() > 1 && p.IsType(parentType(i.name)) && id.ResourceGroup() != "":
		return nil
	}
	return az.Errorf(az.Invalid, "InvalidResourceType", "A resource of the type '%s' cannot be at this place; its id is /subscriptions/{subscription}/resourceGroups/{group}/providers/%s/….", i.name, i.name)
}

// listPlaced refuses scopes at which a type cannot be listed.
func (a *API) listPlaced(i *info, scope az.ID) error {
	switch {
	case i.extension && (i.list != nil || !scope.IsRoot()), i.depth() > 1 && scope.IsType(parentType(i.name)),
		i.name == groupsName && isSubscription(scope),
		i.name != groupsName && i.depth() == 1 && (isGroup(scope) || isSubscription(scope)):
		return nil
	}
	return az.Errorf(az.Invalid, "InvalidResourceType", "Resources of the type '%s' cannot be listed at this place.", i.name)
}

// isGroup and isSubscription tell the real ones from ids that only end alike,
// as in /subscriptions/{s}/providers/Microsoft.Resources/resourceGroups/{g}.
func isGroup(id az.ID) bool        { return id.ResourceGroup() != "" && id.Equal(groupOf(id)) }
func isSubscription(id az.ID) bool { return id.Subscription() != "" && len(segments(id)) == 2 }

func parentType(name string) string { return name[:strings.LastIndexByte(name, '/')] }

func nothingHere() error {
	return az.Errorf(az.NotFound, "NotFound", "There is nothing at this path; check the address and the api-version.")
}

func notServed(method string) error {
	if !isServed(method) {
		method = "given"
	}
	return az.Errorf(az.Unsupported, "MethodNotAllowed", "The method %s is not served at this path.", method)
}

func isServed(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodPost, http.MethodDelete:
		return true
	}
	return false
}

func unknownType(id az.ID) error {
	typ := id.Type()
	if typ == "" {
		return nothingHere()
	}
	ns, rest, _ := strings.Cut(typ, "/")
	return az.Errorf(az.NotFound, "InvalidResourceType", "The resource type '%s' could not be found in the namespace '%s' for any api version.", rest, ns)
}

func notFound(id az.ID) error {
	if id.IsType(groupsName) {
		return az.Errorf(az.NotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", id.Name())
	}
	if id.IsType(subscriptionsName) {
		return az.Errorf(az.NotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", id.Name())
	}
	if id.ResourceGroup() == "" {
		return az.Errorf(az.NotFound, "ResourceNotFound", "The Resource '%s' was not found.", id)
	}
	return az.Errorf(az.NotFound, "ResourceNotFound", "The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", id.Type(), id.Name(), id.ResourceGroup())
}

// exactRoute is a path of its own, besides the types.
type exactRoute struct {
	method string
	segs   []string // folded; {name} takes one segment, a leading {scope} takes any
	right  guard.Action
	own    bool // fn does its own check
	fn     func(context.Context, *Call) (any, error)
}

// Handle adds an exact path, such as
// /subscriptions/{subscription}/providers/Microsoft.KeyVault/deletedVaults. A
// {name} takes one segment (Call.Param); a leading {scope} takes any number.
// The right is checked at what stands before /providers/ (Call.ID); the zero
// Action admits every caller with a token, which is recorded as such.
func (a *API) Handle(method, pattern string, right guard.Action, fn func(context.Context, *Call) (any, error)) {
	a.handle(method, pattern, right, fn)
}

// HandleOwn adds an exact path whose function begins with a check of its own:
// for lists that are cut down to what the caller may read, and for parts of a
// resource, whose right is checked there and not at the group.
func (a *API) HandleOwn(method, pattern string, fn func(context.Context, *Call) (any, error)) {
	a.handle(method, pattern, anybody, fn).own = true
}

func (a *API) handle(method, pattern string, right guard.Action, fn func(context.Context, *Call) (any, error)) *exactRoute {
	rt := &exactRoute{method: method, right: right, fn: fn}
	for _, s := range strings.Split(strings.Trim(pattern, "/"), "/") {
		if !strings.HasPrefix(s, "{") {
			s = strings.ToLower(s)
		}
		rt.segs = append(rt.segs, s)
	}
	a.routes = append(a.routes, rt)
	return rt
}

// exact finds the exact route of a call. HEAD is served by GET.
func (a *API) exact(call *Call) (*exactRoute, map[string]string) {
	method := call.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segs := segments(call.path)
	for _, rt := range a.routes {
		if rt.method != method {
			continue
		}
		if params, ok := rt.match(segs); ok {
			return rt, params
		}
	}
	return nil, nil
}

func segments(id az.ID) []string {
	if id.IsRoot() {
		return nil
	}
	return strings.Split(id.String()[1:], "/")
}

func (rt *exactRoute) match(segs []string) (map[string]string, bool) {
	want := rt.segs
	if len(want) > 0 && want[0] == "{scope}" {
		want = want[1:]
		if len(segs) < len(want) {
			return nil, false
		}
		segs = segs[len(segs)-len(want):]
	}
	if len(segs) != len(want) {
		return nil, false
	}
	var params map[string]string
	for i, w := range want {
		if name, ok := strings.CutPrefix(w, "{"); ok {
			if params == nil {
				params = map[string]string{}
			}
			params[strings.TrimSuffix(name, "}")] = segs[i]
		} else if !strings.EqualFold(w, segs[i]) {
			return nil, false
		}
	}
	return params, true
}

func (a *API) serveExact(ctx context.Context, call *Call, rt *exactRoute, params map[string]string) (any, error) {
	call.params, call.right = params, rt.right
	call.ID = routeScope(call.path, rt)
	if rt.own {
		return rt.fn(ctx, call)
	}
	if rt.right == anybody {
		err := a.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: call.Caller, Action: strings.Join(rt.segs, "/"),
			Where: call.ID.String(), Outcome: guard.Allowed, Reason: "every caller with a token may"})
		if err != nil {
			return nil, err
		}
	} else if err := call.Check(ctx, rt.right, call.ID); err != nil {
		return nil, err
	}
	return rt.fn(ctx, call)
}

// routeScope is where the right of an exact route is checked: what the
// pattern has before its last /providers/, else what {scope} took, else the
// subscription or group.
func routeScope(path az.ID, rt *exactRoute) az.ID {
	segs := segments(path)
	taken := len(segs) - len(rt.segs) // by {scope}, besides its own place in the pattern
	for i := len(rt.segs) - 1; i >= 0; i-- {
		if rt.segs[i] == "providers" {
			return az.Root.Child(segs[:i+taken]...)
		}
	}
	switch {
	case rt.segs[0] == "{scope}":
		return az.Root.Child(segs[:taken+1]...)
	case len(segs) >= 4 && rt.segs[2] == "resourcegroups":
		return az.Root.Child(segs[:4]...)
	case len(segs) >= 2 && rt.segs[0] == "subscriptions":
		return az.Root.Child(segs[:2]...)
	}
	return az.Root
}
