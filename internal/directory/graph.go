package directory

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

const (
	// maxGraphBody bounds a request's body: the largest real ones carry a
	// certificate chain or 1,000 ids.
	maxGraphBody = 256 << 10
	// maxBatchBody bounds a batch's. Source: Microsoft Graph, 4 MB.
	maxBatchBody = 4 << 20
	// maxSegments bounds a path; the longest real one has 8.
	maxSegments = 12
)

// operation is one line of Graph's table: what is asked, what its caller
// needs, and who answers.
type operation struct {
	method string
	path   string // with {names} for what stands for itself
	need   *need
	handle func(context.Context, *call) (any, error)

	segments []string
}

// call is one request to Graph, alone or in a batch.
type call struct {
	*rest.Request
	op     *operation
	vars   map[string]string
	base   string // the address up to the version
	path   string // below the version, as it was asked for
	target *Object
	cast   string // the kind that a list is limited to
	count  bool   // only the number is asked for
	basic  bool   // the caller may read basic profiles only
}

// Surface is graph.D: Microsoft Graph v1.0 as far as directories go, and the
// same under /beta. Verify and Challenge are set by the server.
//
// Operations are looked up here and not by net/http: keys may stand in
// parentheses, names are compared without regard to case, and a batch asks for
// many without leaving the process.
func (d *Directory) Surface() *rest.Surface {
	g := d.newGraphTable()
	s := &rest.Surface{Name: "graph", Form: rest.FormGraph, Log: d.cfg.Log, Clock: d.cfg.Clock}
	for _, version := range []string{"/v1.0", "/beta"} {
		s.Routes = append(s.Routes,
			rest.Route{Path: version + "/{path...}", Access: rest.Token(rest.Graph), MaxBody: maxGraphBody, Handle: func(ctx context.Context, r *rest.Request) (any, error) {
				return g.serve(ctx, r, version)
			}},
			rest.Route{Method: "GET", Path: version + "/$metadata", Access: rest.Nobody("it describes the interface, as Graph's does"), Handle: metadata},
			rest.Route{Method: "POST", Path: version + "/$batch", Access: rest.Token(rest.Graph), MaxBody: maxBatchBody, Timeout: 50 * time.Second, Handle: func(ctx context.Context, r *rest.Request) (any, error) {
				return g.batch(ctx, r, version)
			}})
	}
	return s
}

// graphTable finds operations by their first segment.
type graphTable struct {
	d     *Directory
	first map[string][]*operation
}

func (d *Directory) newGraphTable() *graphTable {
	g := &graphTable{d: d, first: map[string][]*operation{}}
	for _, ops := range [][]operation{d.userOperations(), d.methodOperations(), d.groupOperations(), d.applicationOperations(), d.principalOperations(),
		d.grantOperations(), d.objectOperations()} {
		for _, op := range ops {
			op.segments = strings.Split(strings.TrimPrefix(op.path, "/"), "/")
			key := strings.ToLower(op.segments[0])
			g.first[key] = append(g.first[key], &op)
		}
	}
	return g
}

// serve answers one request.
func (g *graphTable) serve(ctx context.Context, r *rest.Request, version string) (any, error) {
	v, err := g.answer(ctx, r, version)
	return v, graphError(err)
}

func (g *graphTable) answer(ctx context.Context, r *rest.Request, version string) (any, error) {
	c := &call{Request: r, base: g.d.graphOrigin(r) + version, path: strings.TrimPrefix(r.URL.Path, version)}
	segments, err := c.split()
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(segments[0], "me") {
		if r.Caller.Kind != az.User {
			return nil, az.Errorf(az.Invalid, "BadRequest", "/me request is only valid with delegated authentication flow.")
		}
		segments = append([]string{"users", r.Caller.ObjectID}, segments[1:]...)
	}
	if c.op, c.vars, err = g.find(r.Method, segments); err != nil {
		return nil, err
	}
	if c.target, err = g.d.named(ctx, segments[0], c.vars["id"]); err != nil {
		return nil, err
	}
	if err := g.d.permit(ctx, c, c.op.need); err != nil {
		return nil, err
	}
	if c.target == nil && c.vars["id"] != "" {
		return nil, notFound(c.vars["id"])
	}
	return c.op.handle(ctx, c)
}

// split reads the path: keys in parentheses become segments, a cast and
// $count at the end become fields.
func (c *call) split() ([]string, error) {
	var out []string
	for _, s := range strings.Split(strings.Trim(c.path, "/"), "/") {
		if name, key, ok := strings.Cut(s, "("); ok && strings.HasSuffix(key, ")") && name != "" {
			key = strings.TrimSuffix(key, ")")
			if field, value, named := strings.Cut(key, "="); named {
				out = append(out, name, strings.ToLower(field)+"="+strings.Trim(value, "'"))
			} else if key = strings.Trim(key, "'"); key != "" {
				out = append(out, name, key)
			} else {
				out = append(out, name)
			}
			continue
		}
		out = append(out, s)
	}
	if len(out) > maxSegments {
		return nil, unknownPath()
	}
	if last := len(out) - 1; last > 0 && c.Method == http.MethodGet && strings.EqualFold(out[last], "$count") {
		c.count, out = true, out[:last]
	}
	if last := len(out) - 1; last > 0 {
		for _, prefix := range []string{"microsoft.graph.", "graph."} {
			if rest, ok := cutPrefixFold(out[last], prefix); ok && c.Method == http.MethodGet {
				c.cast, out = strings.ToLower(rest), out[:last]
				break
			} else if ok {
				out[last] = rest // the long name of an action
				break
			}
		}
	}
	return out, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) > len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

func unknownPath() error {
	return az.Errorf(az.NotFound, "BadRequest", "Resource not found for the segment: there is no such collection or operation here.")
}

// find returns the operation for a method and a path.
func (g *graphTable) find(method string, segments []string) (*operation, map[string]string, error) {
	other := false
	for _, op := range g.first[strings.ToLower(segments[0])] {
		vars, ok := op.match(segments)
		if !ok {
			continue
		}
		if op.method == method {
			return op, vars, nil
		}
		other = true
	}
	if other {
		return nil, nil, az.Errorf(az.Unsupported, "MethodNotAllowed", "The method is not served at this path.")
	}
	return nil, nil, unknownPath()
}

func (op *operation) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(op.segments) {
		return nil, false
	}
	var vars map[string]string
	for i, want := range op.segments {
		if name, ok := strings.CutPrefix(want, "{"); ok {
			if vars == nil {
				vars = map[string]string{}
			}
			vars[strings.TrimSuffix(name, "}")] = segments[i]
		} else if !strings.EqualFold(want, segments[i]) {
			return nil, false
		}
	}
	return vars, true
}

// named reads the object that a path names: by id, people also by user
// principal name, applications and their principals also by appId. nil if
// there is none of the collection's kind: who may not look must not learn which.
func (d *Directory) named(ctx context.Context, set, word string) (*Object, error) {
	var kind az.PrincipalKind
	known := false
	for k, s := range d.schemas {
		if strings.EqualFold(s.set, set) {
			kind, known = k, true
		}
	}
	if word == "" || !known {
		return nil, nil
	}
	var o *Object
	var ok bool
	var err error
	appID, byApp := strings.CutPrefix(word, "appid=")
	switch {
	case az.IsGUID(word):
		o, ok, err = d.Get(ctx, strings.ToLower(word))
	case byApp && az.IsGUID(appID) && (kind == Application || kind == az.ServicePrincipal):
		o, err = d.byApp(ctx, kind, strings.ToLower(appID))
		ok = o != nil
	case kind == az.User:
		o, ok, err = d.UserByUPN(ctx, word)
	}
	if err != nil || !ok || kind != "" && o.Kind != kind {
		return nil, err
	}
	return o, nil
}

// graphError words refusals as Graph does.
func graphError(err error) error {
	if denied, ok := guard.AsDenied(err); ok {
		where := "the root scope"
		if denied.Action == actionRead {
			where = "any scope"
		}
		return az.Errorf(az.Forbidden, "Authorization_RequestDenied",
			"Insufficient privileges to complete the operation. The action '%s' needs a role such as '%s' at %s.", denied.Action.Name, denied.Suggest, where).Because(err)
	}
	if az.Is(err, az.Conflict) {
		return az.Errorf(az.Invalid, "Request_BadRequest", "Another object with the same value for one of its unique properties already exists.").Because(err)
	}
	return err
}

func (d *Directory) graphOrigin(r *rest.Request) string {
	if d.cfg.Names.Classify(r.Host).Surface == az.SurfaceGraph {
		return "https://" + r.Host
	}
	return d.cfg.Names.Origin(az.SurfaceGraph)
}

// body reads the request's JSON.
func (c *call) body(v any) error { return c.JSON(v) }

// opt is a property of a body that may be missing, null, or there.
type opt[T any] struct {
	there bool
	v     T // the zero value of null
}

// UnmarshalJSON implements json.Unmarshaler; it is called for null too.
func (o *opt[T]) UnmarshalJSON(b []byte) error {
	o.there = true
	if string(b) == "null" {
		return nil
	}
	return json.Unmarshal(b, &o.v)
}

// put writes the property over a field if it is there.
func (o *opt[T]) put(to *T) {
	if o.there {
		*to = o.v
	}
}

// metadata is the smallest description that OData clients accept.
func metadata(context.Context, *rest.Request) (any, error) {
	const doc = `<?xml version="1.0" encoding="utf-8"?><edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>` +
		`<Schema Namespace="microsoft.graph" xmlns="http://docs.oasis-open.org/odata/ns/edm">` +
		`<EntityType Name="entity" Abstract="true"><Key><PropertyRef Name="id"/></Key><Property Name="id" Type="Edm.String" Nullable="false"/></EntityType>` +
		`<EntityType Name="directoryObject" BaseType="microsoft.graph.entity" OpenType="true"/><EntityType Name="user" BaseType="microsoft.graph.directoryObject" OpenType="true"/>` +
		`<EntityType Name="group" BaseType="microsoft.graph.directoryObject" OpenType="true"/><EntityType Name="application" BaseType="microsoft.graph.directoryObject" OpenType="true"/>` +
		`<EntityType Name="servicePrincipal" BaseType="microsoft.graph.directoryObject" OpenType="true"/><EntityContainer Name="GraphService">` +
		`<EntitySet Name="users" EntityType="microsoft.graph.user"/><EntitySet Name="groups" EntityType="microsoft.graph.group"/>` +
		`<EntitySet Name="applications" EntityType="microsoft.graph.application"/><EntitySet Name="servicePrincipals" EntityType="microsoft.graph.servicePrincipal"/>` +
		`<EntitySet Name="directoryObjects" EntityType="microsoft.graph.directoryObject"/><Singleton Name="me" Type="microsoft.graph.user"/>` +
		`</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>`
	return &rest.Reply{Header: http.Header{"Content-Type": {"application/xml"}}, Body: []byte(doc)}, nil
}
