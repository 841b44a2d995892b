package directory

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

const (
	// scanAtOnce is how many objects are read at once where the store cannot
	// answer a filter alone.
	scanAtOnce = 1000
	// maxScan is how many one request looks at: after that it answers with what
	// it found and a link for the rest, so that no filter holds a request up.
	maxScan = 20_000
	// maxScans is how many requests read objects that way at once, and scanWait
	// how long others wait for their turn: counting by such a filter reads all.
	maxScans = 4
	scanWait = 2 * time.Second
	// maxExpandPage bounds the objects of a page with $expand: each costs a
	// question to the store.
	maxExpandPage = 100
)

// set says which objects a list is made of.
type set struct {
	kinds []az.PrincipalKind // none: all
	link  store.Link
	of    string
}

// listing is a list being made.
type listing struct {
	d      *Directory
	c      *call
	q      *query
	schema *schema
	ask    store.ObjectList
	exact  bool // the store alone decides what is in it
	empty  bool // nothing is, whatever the store holds
	view   *viewer

	peopleBasic bool // of people only basic profiles are shown
}

// listOf answers with all objects of a kind.
func (d *Directory) listOf(kind az.PrincipalKind) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		return d.list(ctx, c, set{kinds: []az.PrincipalKind{kind}})
	}
}

// linked answers with the objects that a link leads to from the one named.
func (d *Directory) linked(link store.Link, kinds ...az.PrincipalKind) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		return d.list(ctx, c, set{kinds: kinds, link: link, of: c.target.ID})
	}
}

func (d *Directory) list(ctx context.Context, c *call, of set) (any, error) {
	l, err := d.newListing(ctx, c, of)
	if err != nil {
		return nil, err
	}
	if !l.exact && !l.empty {
		end, err := d.beginScan(ctx)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	if c.count {
		n, err := l.total(ctx)
		return &rest.Reply{Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(strconv.FormatInt(n, 10))}, err
	}
	page, last, err := l.page(ctx)
	if err != nil {
		return nil, err
	}
	total := int64(-1)
	if l.q.count {
		if total, err = l.total(ctx); err != nil {
			return nil, err
		}
	}
	b, err := l.write(ctx, page, last, total)
	return b, err
}

// beginScan waits until a request may read objects one by one; end lets the
// next one do so.
func (d *Directory) beginScan(ctx context.Context) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	select {
	case d.scans <- struct{}{}:
		return func() { <-d.scans }, nil
	case <-ctx.Done():
		return nil, &az.Error{Kind: az.TooMany, Code: "TooManyRequests", RetryAfter: scanWait,
			Message: "Too many requests filter or search by properties that have no index. Try again later, or filter by displayName, userPrincipalName, mail, appId or id."}
	}
}

func (d *Directory) newListing(ctx context.Context, c *call, of set) (*listing, error) {
	l := &listing{d: d, c: c, view: d.viewer(ctx), ask: store.ObjectList{Link: of.link, Of: of.of}}
	kinds := of.kinds
	if c.cast != "" && c.cast != "directoryobject" {
		kind, ok := d.kindOf(c.cast)
		if !ok || len(kinds) > 0 && !slices.Contains(kinds, kind) {
			l.empty = true
		}
		kinds = []az.PrincipalKind{kind}
	}
	for _, k := range kinds {
		l.ask.Kinds = append(l.ask.Kinds, string(k))
	}
	l.schema = d.schemas[""]
	if len(kinds) == 1 && d.schemas[kinds[0]] != nil {
		l.schema = d.schemas[kinds[0]]
	}
	// People among others are compared by what is shown of them.
	l.peopleBasic = of.link != store.LinkNone && c.peopleBasic()
	var err error
	if l.q, err = d.parseQuery(c.URL.RawQuery, c.path, l.schema, c.basic || l.peopleBasic && l.schema.kind == az.User); err != nil {
		return nil, err
	}
	l.ask.Sort, l.ask.Desc, l.ask.After = l.q.sort, l.q.desc, l.q.after
	l.exact = l.q.search == nil
	where := store.Cond{Op: store.CondAll}
	if l.q.filter != nil {
		n, err := d.narrow(ctx, l.q.filter, l.schema)
		if err != nil {
			return nil, err
		}
		l.exact = l.exact && n.exact
		where.Kids = append(where.Kids, n.cond)
	}
	if l.q.search != nil {
		where.Kids = append(where.Kids, l.q.narrowSearch(l.schema))
	}
	l.ask.Where = where
	if len(l.q.expand) > 0 {
		l.q.top = min(l.q.top, maxExpandPage)
	}
	return l, l.permitExpand(ctx)
}

func (d *Directory) kindOf(typ string) (az.PrincipalKind, bool) {
	for kind, s := range d.schemas {
		if strings.EqualFold(s.typ, typ) && kind != "" {
			return kind, true
		}
	}
	return "", false
}

func (l *listing) matches(o *Object) bool {
	return l.exact || (l.q.filter == nil || l.q.filter.matches(l.view, o)) && l.q.searched(l.view, o)
}

// page collects up to $top matches. last is the object after which another
// page begins; nil if this is the end.
func (l *listing) page(ctx context.Context) (out []*Object, last *Object, err error) {
	if l.empty {
		return nil, nil, nil
	}
	ask := l.ask
	ask.Limit = l.q.top + 1
	if !l.exact {
		ask.Limit = scanAtOnce
	}
	for scanned := 0; ; {
		rows, err := l.d.store.ListObjects(ctx, ask)
		if err != nil {
			return nil, nil, err
		}
		for i := range rows {
			o, err := fromRow(rows[i])
			if err != nil {
				return nil, nil, err
			}
			if !l.matches(o) {
				continue
			}
			if len(out) == l.q.top {
				return out, out[len(out)-1], l.view.err
			}
			out = append(out, o)
		}
		if len(rows) < ask.Limit {
			return out, nil, l.view.err
		}
		end, err := fromRow(rows[len(rows)-1])
		if err != nil {
			return nil, nil, err
		}
		if scanned += len(rows); scanned >= maxScan {
			return out, end, l.view.err
		}
		ask.After = sortedBy(end)
	}
}

// sortedBy gives a row what it is sorted by.
func sortedBy(o *Object) *store.Object {
	return &store.Object{ID: o.ID, NameKey: strings.ToLower(o.Name), UPNKey: strings.ToLower(o.UPN), MailKey: strings.ToLower(o.Mail), Created: o.Created}
}

// total counts all matches.
func (l *listing) total(ctx context.Context) (n int64, err error) {
	if l.empty {
		return 0, nil
	}
	ask := l.ask
	ask.After, ask.Sort, ask.Desc = nil, store.FieldID, false
	switch {
	case l.exact && l.ask.Link == store.LinkNone && l.q.filter == nil:
		return l.d.countAll(ctx, ask)
	case l.exact:
		return l.d.store.CountObjects(ctx, ask)
	}
	ask.Limit = scanAtOnce
	for {
		rows, err := l.d.store.ListObjects(ctx, ask)
		if err != nil {
			return 0, err
		}
		for i := range rows {
			o, err := fromRow(rows[i])
			if err != nil {
				return 0, err
			}
			if l.matches(o) {
				n++
			}
		}
		if len(rows) < ask.Limit {
			return n, l.view.err
		}
		ask.After = &store.Object{ID: rows[len(rows)-1].ID}
	}
}

// countAll counts the objects of some kinds, which takes the store as long as
// there are many; so it counts again only after one has changed.
func (d *Directory) countAll(ctx context.Context, q store.ObjectList) (int64, error) {
	key := strings.Join(q.Kinds, ",")
	if n, ok := d.counts.get(key); ok {
		return n, nil
	}
	gen := d.counts.gen.Load()
	n, err := d.store.CountObjects(ctx, q)
	if err == nil {
		d.counts.put(gen, key, n)
	}
	return n, err
}

// write makes the reply.
func (l *listing) write(ctx context.Context, page []*Object, last *Object, total int64) ([]byte, error) {
	mixed := l.schema.kind == ""
	context := l.schema.set
	if l.ask.Link != store.LinkNone {
		context, mixed = "directoryObjects", true
	}
	b := l.c.context(make([]byte, 0, 256+512*len(page)), context)
	if total >= 0 {
		b = append(b, `,"@odata.count":`...)
		b = strconv.AppendInt(b, total, 10)
	}
	if last != nil {
		next, _ := json.Marshal(l.next(last)) // a text
		b = append(append(b, `,"@odata.nextLink":`...), next...)
	}
	b = append(b, `,"value":[`...)
	sel := selection{names: l.q.sel, typed: mixed, basic: l.c.basic, peopleBasic: l.peopleBasic}
	if sel.names == nil || slices.Contains(sel.names, "passwordcredentials") || slices.Contains(sel.names, "keycredentials") {
		l.view.prepare(page)
	}
	for i, o := range page {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		b = l.view.append(b, o, &sel)
		if b, err = l.view.expand(ctx, b, o, l.q.expand, l.c.peopleBasic()); err != nil {
			return nil, err
		}
		b = append(b, '}')
	}
	return append(b, ']', '}'), l.view.err
}

// context begins a reply with its @odata.context.
func (c *call) context(b []byte, what string) []byte {
	url, _ := json.Marshal(c.base + "/$metadata#" + what) // a text
	return append(append(b, `{"@odata.context":`...), url...)
}

// next is the address of the page behind o: the same query with a token.
func (l *listing) next(o *Object) string {
	q, _ := url.ParseQuery(l.c.URL.RawQuery) // it was read before
	for k := range q {
		if strings.EqualFold(k, "$skiptoken") || strings.EqualFold(k, "skiptoken") {
			delete(q, k)
		}
	}
	q.Set("$skiptoken", l.d.sealToken(o, l.q))
	return l.c.base + (&url.URL{Path: l.c.URL.Path}).EscapedPath()[l.c.versionLen():] + "?" + q.Encode()
}

// versionLen is the length of /v1.0 or /beta in the path.
func (c *call) versionLen() int { return len(c.URL.Path) - len(c.path) }

// related are the relationships that $expand and paths know.
var related = map[string]store.Link{"members": store.LinkMembers, "transitivemembers": store.LinkAllMembers, "memberof": store.LinkMemberOf,
	"transitivememberof": store.LinkAllGroups, "owners": store.LinkOwners, "ownedobjects": store.LinkOwned}

// permitExpand asks for the rights that the relationship alone would need.
func (l *listing) permitExpand(ctx context.Context) error {
	return l.d.permitExpand(ctx, l.c, l.q.expand)
}

func (d *Directory) permitExpand(ctx context.Context, c *call, all []expansion) error {
	for _, e := range all {
		if _, ok := related[strings.ToLower(e.name)]; !ok || c.basic {
			return badQuery("The query parameter $expand takes members, transitiveMembers, memberOf, transitiveMemberOf, owners or ownedObjects.")
		}
		n := &needs.groups
		if strings.Contains(strings.ToLower(e.name), "own") {
			n = &needs.objects
		}
		if err := d.permit(ctx, c, n); err != nil {
			return err
		}
		if c.basic {
			return badQuery("The query parameter $expand needs more than basic profiles.")
		}
	}
	return nil
}

// expand writes the first of the related objects, without the object's end.
func (v *viewer) expand(ctx context.Context, b []byte, o *Object, all []expansion, peopleBasic bool) ([]byte, error) {
	for _, e := range all {
		rows, err := v.d.store.ListObjects(ctx, store.ObjectList{Link: related[strings.ToLower(e.name)], Of: o.ID, Limit: maxExpand})
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, `,"`...), e.name...), `":[`...)
		for i, r := range rows {
			o, err := fromRow(r)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = append(v.append(b, o, &selection{names: e.sel, typed: true, peopleBasic: peopleBasic}), '}')
		}
		b = append(b, ']')
	}
	return b, nil
}

// show answers with one object.
func (d *Directory) show(ctx context.Context, c *call) (any, error) {
	return d.showAs(ctx, c, c.target, 0)
}

func (d *Directory) showAs(ctx context.Context, c *call, o *Object, status int) (any, error) {
	s := d.schemas[o.Kind]
	q, err := d.parseQuery(c.URL.RawQuery, c.path, s, c.basic)
	if err != nil {
		return nil, err
	}
	if err := d.permitExpand(ctx, c, q.expand); err != nil {
		return nil, err
	}
	v := d.viewer(ctx)
	b := c.context(nil, s.set+"/$entity")
	body := v.append(nil, o, &selection{names: q.sel, basic: c.basic, typed: strings.EqualFold(c.op.segments[0], "directoryObjects"), peopleBasic: c.op.need == &needs.object && c.peopleBasic()})
	if len(body) > 1 {
		b = append(b, ',')
	}
	b = append(b, body[1:]...)
	if b, err = v.expand(ctx, b, o, q.expand, c.peopleBasic()); err != nil {
		return nil, err
	}
	return &rest.Reply{Status: status, Body: append(b, '}')}, v.err
}
