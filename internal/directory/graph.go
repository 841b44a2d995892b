package directory

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// maxGraphBody bounds a request's body: the largest real ones carry a
// certificate chain or 1,000 ids.
const maxGraphBody = 256 << 10

// Surface is graph.D: the part of Microsoft Graph v1.0 that az, Terraform and
// the plane's own tools use for applications, principals, people and groups.
// Verify and Challenge are set by the server.
func (d *Directory) Surface() *rest.Surface {
	s := &rest.Surface{Name: "graph", Form: rest.FormGraph, Log: d.cfg.Log, Clock: d.cfg.Clock}
	add := func(method, path string, h func(context.Context, *rest.Request) (any, error)) {
		if method == http.MethodGet {
			h = d.reading(h)
		}
		var limit int64
		if method == http.MethodPost || method == http.MethodPatch {
			limit = maxGraphBody
		}
		s.Routes = append(s.Routes, rest.Route{Method: method, Path: "/v1.0" + path, Access: rest.Token(rest.Graph), MaxBody: limit, Handle: graphErrors(h)})
	}
	for _, k := range graphKinds {
		add("GET", "/"+k.path, d.graphList(k))
		add("GET", "/"+k.path+"/{id}", d.graphGet(k))
		add("POST", "/"+k.path, d.graphCreate(k))
		add("PATCH", "/"+k.path+"/{id}", d.graphPatch(k))
		add("DELETE", "/"+k.path+"/{id}", d.graphDelete(k))
	}
	add("POST", "/applications/{id}/addPassword", d.graphAddPassword)
	add("POST", "/applications/{id}/removePassword", d.graphRemovePassword)
	add("GET", "/applications/{id}/federatedIdentityCredentials", d.graphFederatedList)
	add("POST", "/applications/{id}/federatedIdentityCredentials", d.graphFederatedCreate)
	add("GET", "/applications/{id}/federatedIdentityCredentials/{credential}", d.graphFederatedGet)
	add("DELETE", "/applications/{id}/federatedIdentityCredentials/{credential}", d.graphFederatedDelete)
	add("GET", "/groups/{id}/members", d.graphMembers)
	add("POST", "/groups/{id}/members/$ref", d.graphAddMember)
	add("DELETE", "/groups/{id}/members/{member}/$ref", d.graphRemoveMember)
	add("GET", "/directoryObjects/{id}", d.graphObject)
	add("POST", "/directoryObjects/getByIds", d.reading(d.graphByIDs))
	return s
}

// reading asks for the right to read the directory, and records the answer. An
// application has none by itself, as in Entra: it is held with every role that
// may read resources somewhere, for who hands out roles must find whom to.
// Everybody may look at himself.
func (d *Directory) reading(h func(context.Context, *rest.Request) (any, error)) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		var err error
		if id := r.PathValue("id"); id != "" && strings.EqualFold(id, r.Caller.ObjectID) && !strings.Contains(r.Pattern, "{id}/") {
			err = d.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: r.Caller, Action: actionRead.Name, Where: az.Root.String(),
				Outcome: guard.Allowed, Reason: "it is the caller's own object"})
		} else {
			err = d.cfg.Guard.CheckAnywhere(ctx, r.Caller, actionRead)
		}
		if err != nil {
			return nil, err
		}
		return h(ctx, r)
	}
}

// graphKind is one collection of Graph.
type graphKind struct {
	path string
	kind az.PrincipalKind
}

var graphKinds = []graphKind{{"applications", Application}, {"servicePrincipals", az.ServicePrincipal}, {"users", az.User}, {"groups", az.Group}}

// graphErrors words refusals as Graph does.
func graphErrors(h func(context.Context, *rest.Request) (any, error)) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		v, err := h(ctx, r)
		if denied, ok := guard.AsDenied(err); ok {
			where := "the root scope"
			if denied.Action == actionRead {
				where = "any scope"
			}
			return nil, az.Errorf(az.Forbidden, "Authorization_RequestDenied",
				"Insufficient privileges to complete the operation. The action '%s' needs a role such as '%s' at %s.", denied.Action.Name, denied.Suggest, where).Because(err)
		}
		if az.Is(err, az.Conflict) {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "Another object with the same value for one of its unique properties already exists.").Because(err)
		}
		return v, err
	}
}

func (d *Directory) graphBase(r *rest.Request) string {
	if d.cfg.Names.Classify(r.Host).Surface == az.SurfaceGraph {
		return "https://" + r.Host + "/v1.0"
	}
	return d.cfg.Names.Origin(az.SurfaceGraph) + "/v1.0"
}

type graphPage struct {
	Context string `json:"@odata.context"`
	Next    string `json:"@odata.nextLink,omitempty"`
	Value   []any  `json:"value"`
}

const (
	// defaultTop and maxTop are Graph's page sizes.
	defaultTop = 100
	maxTop     = 999
)

func (d *Directory) graphList(k graphKind) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		query := r.URL.Query()
		terms, err := parseFilter(query.Get("$filter"))
		if err != nil {
			return nil, err
		}
		top := defaultTop
		if s := query.Get("$top"); s != "" {
			if top, err = strconv.Atoi(s); err != nil || top < 1 || top > maxTop {
				return nil, az.Errorf(az.Invalid, "Request_UnsupportedQuery", "The query parameter $top must be a number from 1 to %d.", maxTop)
			}
		}
		if after := query.Get("$skiptoken"); after != "" && !az.IsGUID(after) {
			return nil, az.Errorf(az.Invalid, "Request_UnsupportedQuery", "The query parameter $skiptoken is not one of this server's.")
		}
		q := store.ObjectQuery{Kind: string(k.kind), After: strings.ToLower(query.Get("$skiptoken"))}
		if terms, err = d.resolveNames(ctx, terms); err != nil {
			return nil, err
		}
		if err := narrow(&q, terms); err != nil {
			return nil, err
		}
		list, more, err := d.page(ctx, q, terms, top)
		if err != nil {
			return nil, err
		}
		page := graphPage{Context: d.graphBase(r) + "/$metadata#" + k.path, Value: []any{}}
		for _, o := range list {
			v, err := d.graphView(ctx, o)
			if err != nil {
				return nil, err
			}
			page.Value = append(page.Value, v)
		}
		if more {
			next := url.Values{"$skiptoken": {list[len(list)-1].ID}, "$top": {strconv.Itoa(top)}}
			if f := query.Get("$filter"); f != "" {
				next.Set("$filter", f)
			}
			page.Next = d.graphBase(r) + "/" + k.path + "?" + next.Encode()
		}
		return page, nil
	}
}

// resolveNames turns a service principal's name that is an identifier URI into
// its application's id.
func (d *Directory) resolveNames(ctx context.Context, terms []term) ([]term, error) {
	for i, t := range terms {
		if t.field != "serviceprincipalnames" || az.IsGUID(t.value) {
			continue
		}
		app, ok, err := d.ByName(ctx, t.value)
		if err != nil {
			return nil, err
		}
		if ok {
			terms[i].value = app.AppID
		}
	}
	return terms, nil
}

// page collects up to top matches; more says whether others follow.
func (d *Directory) page(ctx context.Context, q store.ObjectQuery, terms []term, top int) (out []*Object, more bool, err error) {
	q.Limit = maxTop + 1
	for {
		batch, err := d.Find(ctx, q)
		if err != nil {
			return nil, false, err
		}
	next:
		for _, o := range batch {
			for _, t := range terms {
				if !t.matches(o) {
					continue next
				}
			}
			if len(out) == top {
				return out, true, nil
			}
			out = append(out, o)
		}
		if len(batch) < q.Limit {
			return out, false, nil
		}
		q.After = batch[len(batch)-1].ID
	}
}

// find reads the object that a path names: by id, and people also by name.
func (d *Directory) find(ctx context.Context, k graphKind, word string) (*Object, error) {
	if k.kind == az.User && strings.Contains(word, "@") && checkText("userPrincipalName", word, 320) == nil {
		list, err := d.Find(ctx, store.ObjectQuery{Kind: string(az.User), UPN: word})
		if err != nil {
			return nil, err
		}
		if len(list) == 1 {
			return list[0], nil
		}
	}
	if !az.IsGUID(word) {
		return nil, notFound(word)
	}
	o, ok, err := d.Get(ctx, strings.ToLower(word))
	if err != nil {
		return nil, err
	}
	if !ok || o.Kind != k.kind {
		return nil, notFound(word)
	}
	return o, nil
}

func (d *Directory) graphGet(k graphKind) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		o, err := d.find(ctx, k, r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		return d.graphView(ctx, o)
	}
}

func (d *Directory) graphDelete(k graphKind) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		id := strings.ToLower(r.PathValue("id"))
		if k.kind == az.User && strings.Contains(id, "@") {
			// Delete asks for its own right.
			if err := d.cfg.Guard.CheckAnywhere(ctx, r.Caller, actionRead); err != nil {
				return nil, err
			}
			o, err := d.find(ctx, k, id)
			if err != nil {
				return nil, err
			}
			id = o.ID
		}
		return nil, d.Delete(ctx, r.Caller, k.kind, id)
	}
}

func (d *Directory) graphCreate(k graphKind) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		var b graphBody
		if err := r.JSON(&b); err != nil {
			return nil, err
		}
		o, err := d.createFrom(ctx, r.Caller, k, &b)
		if err != nil {
			return nil, err
		}
		v, err := d.graphView(ctx, o)
		return &rest.Reply{Status: http.StatusCreated, Header: http.Header{"Location": {d.graphBase(r) + "/" + k.path + "/" + o.ID}}, Body: v}, err
	}
}

func (d *Directory) createFrom(ctx context.Context, caller az.Principal, k graphKind, b *graphBody) (*Object, error) {
	var o Object
	b.into(&o)
	switch k.kind {
	case az.ServicePrincipal:
		if b.AppID == "" {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "A service principal needs the appId of its application.")
		}
		return d.CreateServicePrincipal(ctx, caller, b.AppID)
	case az.User:
		o.Enabled = b.AccountEnabled == nil || *b.AccountEnabled
		if b.PasswordProfile == nil {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "A user needs a passwordProfile.")
		}
		return d.CreateUser(ctx, caller, o, az.NewSecret(b.PasswordProfile.Password))
	case az.Group:
		if b.MailEnabled != nil && *b.MailEnabled || b.SecurityEnabled != nil && !*b.SecurityEnabled {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "Only security groups without mail are served here: mailEnabled must be false and securityEnabled true.")
		}
		return d.CreateGroup(ctx, caller, o)
	}
	made, err := d.CreateApplication(ctx, caller, o)
	if err != nil || len(deref(b.KeyCredentials)) == 0 {
		return made, err
	}
	return made, d.SetCertificates(ctx, caller, made.ID, *b.KeyCredentials)
}

func (d *Directory) graphPatch(k graphKind) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		var b graphBody
		if err := r.JSON(&b); err != nil {
			return nil, err
		}
		id := strings.ToLower(r.PathValue("id"))
		_, err := d.Change(ctx, r.Caller, k.kind, id, func(_ *store.Tx, o *Object) error {
			b.into(o)
			if b.AccountEnabled != nil && (o.Kind == az.User || o.Kind == az.ServicePrincipal) {
				o.Enabled = *b.AccountEnabled
			}
			return nil
		})
		if err != nil || b.KeyCredentials == nil || k.kind != Application {
			return nil, err
		}
		return nil, d.SetCertificates(ctx, r.Caller, id, *b.KeyCredentials)
	}
}

func (d *Directory) graphObject(ctx context.Context, r *rest.Request) (any, error) {
	if !az.IsGUID(r.PathValue("id")) {
		return nil, notFound("")
	}
	o, ok, err := d.Get(ctx, strings.ToLower(r.PathValue("id")))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(r.PathValue("id"))
	}
	return d.graphView(ctx, o)
}

// maxIDs bounds getByIds. Source: Microsoft Graph, "up to 1,000".
const maxIDs = 1000

func (d *Directory) graphByIDs(ctx context.Context, r *rest.Request) (any, error) {
	var b struct {
		IDs   []string `json:"ids"`
		Types []string `json:"types"`
	}
	if err := r.JSON(&b); err != nil {
		return nil, err
	}
	if len(b.IDs) == 0 || len(b.IDs) > maxIDs {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'ids' must hold 1 to %d ids.", maxIDs)
	}
	for i, id := range b.IDs {
		if b.IDs[i] = strings.ToLower(id); !az.IsGUID(id) {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "An id in the property 'ids' is not a GUID.")
		}
	}
	list, err := d.Find(ctx, store.ObjectQuery{IDs: b.IDs})
	if err != nil {
		return nil, err
	}
	page := graphPage{Context: d.graphBase(r) + "/$metadata#directoryObjects", Value: []any{}}
	for _, o := range list {
		if len(b.Types) > 0 && !hasFold(b.Types, graphType(o)) && !hasFold(b.Types, "directoryObject") {
			continue
		}
		v, err := d.graphView(ctx, o)
		if err != nil {
			return nil, err
		}
		page.Value = append(page.Value, v)
	}
	return page, nil
}

func hasFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

func (d *Directory) graphMembers(ctx context.Context, r *rest.Request) (any, error) {
	g, err := d.find(ctx, graphKind{"groups", az.Group}, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	ids, err := d.store.MembersOf(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	page := graphPage{Context: d.graphBase(r) + "/$metadata#directoryObjects", Value: []any{}}
	for _, id := range ids {
		o, ok, err := d.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		v, err := d.graphView(ctx, o)
		if err != nil {
			return nil, err
		}
		page.Value = append(page.Value, v)
	}
	return page, nil
}

func (d *Directory) graphAddMember(ctx context.Context, r *rest.Request) (any, error) {
	var b struct {
		Ref string `json:"@odata.id"`
	}
	if err := r.JSON(&b); err != nil {
		return nil, err
	}
	id := strings.ToLower(b.Ref[strings.LastIndexByte(b.Ref, '/')+1:])
	if !az.IsGUID(id) {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property '@odata.id' must end in the id of a directory object.")
	}
	return nil, d.JoinGroup(ctx, r.Caller, strings.ToLower(r.PathValue("id")), id)
}

func (d *Directory) graphRemoveMember(ctx context.Context, r *rest.Request) (any, error) {
	return nil, d.LeaveGroup(ctx, r.Caller, strings.ToLower(r.PathValue("id")), strings.ToLower(r.PathValue("member")))
}

// keyBytes is base64 in either alphabet, as clients send certificates.
type keyBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *keyBytes) UnmarshalText(b []byte) error {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(b), "="))
	out, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The key of a key credential must be base64.")
	}
	*k = out
	return nil
}
