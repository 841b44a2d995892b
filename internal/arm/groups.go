package arm

import (
	"context"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

const (
	groupsName        = "Microsoft.Resources/resourceGroups"
	subscriptionsName = "Microsoft.Resources/subscriptions"
)

// DefaultLocation is the region of a plane: it has one. Requests may name any.
const DefaultLocation = "local"

// maxGroupName bounds a group's name. Source: Azure naming rules.
const maxGroupName = 90

type groupProperties struct{}

// groupType is resource groups. Deleting one deletes what is in it, as deleting
// any resource does.
func (a *API) groupType() *Type[groupProperties] {
	t := Define(groupsName, []string{"2025-04-01", "2023-07-01", "2021-04-01", "2020-06-01", "2019-10-01"}, Hooks[groupProperties]{
		PutCreated: http.StatusCreated,
		Check: func(_ context.Context, _ *Call, r, _ *Resource[groupProperties]) error {
			r.Identity, r.SKU, r.Kind = nil, nil, "" // groups have none
			if r.Location == "" {
				return az.Errorf(az.Invalid, "LocationRequired", "The location property is required for this definition.")
			}
			return checkGroupName(r.ID.Name())
		},
	})
	t.about.setRights("Microsoft.Resources/subscriptions/resourceGroups")
	t.about.head, t.about.list = a.exists, a.listGroups
	return t
}

func checkGroupName(name string) error {
	bad := func(r rune) bool {
		return !(r == '-' || r == '_' || r == '(' || r == ')' || r == '.' || r >= utf8.RuneSelf ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if utf8.RuneCountInString(name) > maxGroupName || strings.HasSuffix(name, ".") || strings.ContainsFunc(name, bad) {
		return az.Errorf(az.Invalid, "InvalidResourceGroup", "The provided resource group name has these invalid characters or its length is wrong. The name can have up to %d letters, digits, and characters of '-_().', and must not end in a period.", maxGroupName)
	}
	return nil
}

// subscription is the plane's one subscription.
func (a *API) subscription() az.ID {
	return az.Root.Child("subscriptions", a.cfg.Names.Subscription)
}

// GroupID is the id of a resource group of the plane's subscription.
func (a *API) GroupID(name string) az.ID { return a.subscription().Child("resourceGroups", name) }

// EnsureGroup makes a resource group if there is none, for the first start.
func (a *API) EnsureGroup(ctx context.Context, name string) error {
	if err := checkGroupName(name); err != nil {
		return err
	}
	return a.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if _, there, err := tx.Resource(a.GroupID(name)); err != nil || there {
			return err
		}
		return a.groups.Write(tx, &Resource[groupProperties]{ID: a.GroupID(name), Location: DefaultLocation})
	})
}

// resources answers GET {S}/resources and {G}/resources: everything that is
// not part of something else.
func (a *API) resources(ctx context.Context, call *Call) (any, error) {
	terms, err := parseFilter(call.query("$filter"))
	if err != nil {
		return nil, err
	}
	l, err := call.paging()
	if err != nil {
		return nil, err
	}
	if l.keep, err = a.resourceFilter(terms); err != nil {
		return nil, err
	}
	l.right = a.readRight
	q := store.ResourceQuery{Subscription: call.ID.Subscription()}
	if call.ID.ResourceGroup() != "" {
		q = store.ResourceQuery{ResourceGroup: call.ID}
	}
	for _, t := range terms {
		if t.name == "resourcetype" {
			q.Type = t.value
		}
	}
	p, err := a.page(ctx, call, actionResourcesRead, q, l)
	if err != nil {
		return nil, err
	}
	if len(p.rows) == 0 {
		if err := a.scopeExists(call.ID, a.outside(ctx)); err != nil {
			return nil, err
		}
	}
	v, err := a.showPage(ctx, call, p)
	if err != nil {
		return nil, err
	}
	page := v.(Page)
	for _, item := range page.Value {
		if s, ok := item.(*shown); ok {
			s.Properties = nil // this list has none
		}
	}
	return page, nil
}

// resourceFilter is what a $filter of a resource list keeps.
func (a *API) resourceFilter(terms []term) (func(store.Resource) bool, error) {
	for _, t := range terms {
		switch t.name {
		case "resourcetype", "name", "resourcegroup", "location", "tagname", "tagvalue":
		default:
			return nil, badFilter()
		}
		if t.call {
			return nil, badFilter()
		}
	}
	return func(row store.Resource) bool {
		t := a.types[strings.ToLower(row.ID.Type())]
		if t == nil || t.info().depth() != 1 || t.info().extension || t.info().name == groupsName {
			return false
		}
		return a.matchesAll(row, terms)
	}, nil
}

// matchesAll reports whether a row has what each term asks for.
func (a *API) matchesAll(row store.Resource, terms []term) bool {
	if len(terms) == 0 {
		return true
	}
	r, err := decode[struct{}](a.cfg.Sealer, row, false)
	if err != nil {
		return false
	}
	for _, f := range terms {
		ok := false
		switch f.name {
		case "resourcetype":
			ok = strings.EqualFold(row.ID.Type(), f.value)
		case "name":
			ok = strings.EqualFold(row.ID.Name(), f.value)
		case "resourcegroup":
			ok = strings.EqualFold(row.ID.ResourceGroup(), f.value)
		case "location":
			ok = sameLocation(r.Location, f.value)
		case "tagname":
			_, ok = tag(r.Tags, f.value)
		case "tagvalue":
			ok = hasTagValue(r.Tags, terms, f.value)
		}
		if !ok {
			return false
		}
	}
	return true
}

func tag(tags map[string]string, name string) (value string, ok bool) {
	value, _, ok = findFold(tags, name)
	return value, ok
}

// hasTagValue looks at the tag that another term names, or at all.
func hasTagValue(tags map[string]string, terms []term, want string) bool {
	for _, t := range terms {
		if t.name == "tagname" {
			v, ok := tag(tags, t.value)
			return ok && v == want
		}
	}
	for _, v := range tags {
		if v == want {
			return true
		}
	}
	return false
}

// listGroups answers GET of the resource groups, by tag if asked so.
func (a *API) listGroups(ctx context.Context, call *Call, scope az.ID) (any, error) {
	terms, err := parseFilter(call.query("$filter"))
	if err != nil {
		return nil, err
	}
	for _, t := range terms {
		if t.call || t.name != "tagname" && t.name != "tagvalue" {
			return nil, badFilter()
		}
	}
	return a.listKept(ctx, call, a.groups, scope, func(row store.Resource) bool { return a.matchesAll(row, terms) })
}

// exists answers HEAD of a resource group: 204 or 404, as az group exists
// expects.
func (a *API) exists(ctx context.Context, call *Call) (any, error) {
	if err := call.Check(ctx, a.groups.about.read, call.ID); err != nil {
		return nil, err
	}
	if _, err := a.groups.mustLoad(ctx, call.ID); err != nil {
		return nil, err
	}
	return &rest.Reply{Status: http.StatusNoContent}, nil
}
