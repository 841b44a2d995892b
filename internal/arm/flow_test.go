package arm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestPaging(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p)
		for i := range 7 {
			p.must(200, owner, "PUT", fmt.Sprintf("%s/b%d", boxes, i), `{"location":"l"}`)
		}
		for _, path := range []string{boxes, subScope + "/providers/Test.Box/boxes", inGroup + "/resources", subScope + "/resources"} {
			var names []string
			next := path + "?$top=3&$expand=x"
			for pages := 0; next != ""; pages++ {
				if pages > 3 {
					t.Fatal("the list does not end")
				}
				a := p.must(200, viewer, "GET", next, "")
				for _, v := range a.values() {
					names = append(names, v.(map[string]any)["name"].(string))
				}
				link, _ := a.body["nextLink"].(string)
				if link != "" && (!strings.HasPrefix(link, "https://management.hawser.localhost:8443/subscriptions/") || !strings.Contains(link, "%24expand=x")) {
					t.Fatalf("nextLink %s", link)
				}
				next = strings.TrimPrefix(link, "https://management.hawser.localhost:8443")
			}
			if got := strings.Join(names, " "); got != "b0 b1 b2 b3 b4 b5 b6" {
				t.Errorf("%s: %s", path, got)
			}
		}
		// Who may read some of them only, sees those, over pages, too.
		p.must(201, owner, "PUT", at(boxes+"/b1", guid1), assignment(readerRole, stranger))
		p.must(201, owner, "PUT", at(boxes+"/b6", guid2), assignment(readerRole, stranger))
		a := p.must(200, stranger, "GET", boxes+"?$top=1", "")
		if len(a.values()) != 1 || a.body["nextLink"] == nil {
			t.Fatalf("first page: %s", a.raw)
		}
		a = p.must(200, stranger, "GET", strings.TrimPrefix(a.body["nextLink"].(string), "https://management.hawser.localhost:8443"), "")
		if len(a.values()) != 1 || a.values()[0].(map[string]any)["name"] != "b6" || a.body["nextLink"] != nil {
			t.Errorf("second page: %s", a.raw)
		}
		if n := len(p.must(200, stranger, "GET", subScope+"/resources", "").values()); n != 2 {
			t.Errorf("%d resources", n)
		}
	})
}

func TestResourcesFilter(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b1", `{"location":"West Europe","tags":{"env":"prod"}}`)
		p.must(200, owner, "PUT", boxes+"/b2", `{"location":"eastus"}`)
		p.must(200, owner, "PUT", boxes+"/b1/lids/l", `{}`)
		p.must(200, owner, "PUT", inGroup+"/providers/"+UserAssignedType+"/u", `{"location":"eastus"}`)
		for filter, want := range map[string]string{
			"":                                 "u b1 b2",
			"resourceType eq 'test.box/BOXES'": "b1 b2",
			"resourceType eq 'Test.Box/boxes' and name eq 'B1'":  "b1",
			"resourceType eq 'Test.Box/boxes/lids'":              "",
			"location eq 'westeurope'":                           "b1",
			"resourceGroup eq 'g1' and location eq 'East US'":    "u b2",
			"tagName eq 'Env' and tagValue eq 'prod'":            "b1",
			"tagName eq 'env' and tagValue eq 'Prod'":            "",
			"tagValue eq 'prod'":                                 "b1",
			"resourceGroup eq 'g''2'":                            "",
			"resourceType eq 'Microsoft.KeyVault/vaults'":        "",
			"resourceType eq 'Microsoft.Authorization/roleDefs'": "",
		} {
			var names []string
			a := p.must(200, viewer, "GET", subScope+"/resources?$filter="+strings.ReplaceAll(filter, " ", "%20"), "")
			for _, v := range a.values() {
				m := v.(map[string]any)
				names = append(names, m["name"].(string))
				if m["properties"] != nil {
					t.Errorf("the list shows properties: %s", a.raw)
				}
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%q: %q, want %q", filter, got, want)
			}
		}
	})
}

func TestGroupsByTag(t *testing.T) {
	eachPlane(t, nil, func(t *testing.T, p *plane) {
		withGroup(p).must(201, owner, "PUT", inGroup+"2", `{"location":"l"}`)
		for filter, want := range map[string]int{"": 2, "tagName%20eq%20'A'": 1, "tagName%20eq%20'a'%20and%20tagValue%20eq%20'2'": 0} {
			if n := len(p.must(200, viewer, "GET", subScope+"/resourcegroups?$filter="+filter, "").values()); n != want {
				t.Errorf("%s: %d groups, want %d", filter, n, want)
			}
		}
		p.must(400, viewer, "GET", subScope+"/resourcegroups?$filter=name%20eq%20'x'", "")
	})
}

func TestCascade(t *testing.T) {
	var deleted []string
	eachPlane(t, func() []AnyType { deleted = nil; return testTypes(&deleted) }, func(t *testing.T, p *plane) {
		withGroup(p)
		p.must(200, owner, "PUT", inGroup+"/providers/"+UserAssignedType+"/ident", `{}`)
		p.must(200, owner, "PUT", boxes+"/box", `{}`)
		p.must(200, owner, "PUT", boxes+"/box2", `{}`)
		p.must(200, owner, "PUT", boxes+"/box/lids/lid", `{}`)
		p.must(200, owner, "PUT", boxes+"/box/lids/lid/providers/Test.Links/labels/label", `{}`)
		p.must(201, owner, "PUT", at(boxes+"/box", guid1), assignment(readerRole, robot))
		p.must(201, owner, "PUT", inGroup+"1", `{"location":"l"}`) // a neighbour whose name begins alike
		p.must(200, owner, "PUT", strings.Replace(boxes, "/g1/", "/g11/", 1)+"/far", `{}`)
		p.must(200, owner, "DELETE", boxes+"/box", "")
		if got := strings.Join(deleted, " "); got != "label lid box" {
			t.Errorf("deleted %s", got)
		}
		p.must(200, owner, "GET", boxes+"/box2", "")
		p.must(200, owner, "DELETE", inGroup, "")
		if got := strings.Join(deleted, " "); got != "label lid box box2" {
			t.Errorf("deleted %s", got)
		}
		p.must(404, owner, "GET", inGroup+"/providers/"+UserAssignedType+"/ident", "")
		p.must(200, owner, "GET", strings.Replace(boxes, "/g1/", "/g11/", 1)+"/far", "")
		if n := len(p.must(200, viewer, "GET", subScope+authz+"/roleAssignments?$filter=principalId%20eq%20'"+robot+"'", "").values()); n != 0 {
			t.Errorf("%d assignments are left", n)
		}
	})
}

// TestConcurrentPuts: of many writers who saw the same version one wins; of
// those who ask for no version all win, one after the other.
func TestConcurrentPuts(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		etag := withGroup(p).must(200, owner, "PUT", boxes+"/b", `{}`).header.Get("ETag")
		const writers = 8
		count := func(path, body string, headers ...string) map[int]int {
			var mu sync.Mutex
			var wg sync.WaitGroup
			got := map[int]int{}
			for i := range writers {
				wg.Go(func() {
					a := p.do(owner, "PUT", path, fmt.Sprintf(body, i, i), headers...)
					mu.Lock()
					got[a.status]++
					mu.Unlock()
				})
			}
			wg.Wait()
			return got
		}
		if got := count(boxes+"/b", `{"tags":{"w%d":"%d"}}`, "If-Match", etag); !maps.Equal(got, map[int]int{200: 1, 412: writers - 1}) {
			t.Errorf("with If-Match: %v", got)
		}
		if got := count(boxes+"/new", `{"tags":{"w%d":"%d"}}`, "If-None-Match", "*"); !maps.Equal(got, map[int]int{200: 1, 412: writers - 1}) {
			t.Errorf("with If-None-Match: %v", got)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { p.do(owner, "PATCH", boxes+"/b", fmt.Sprintf(`{"properties":{},"tags":{"p%d":"x"}}`, i)) })
		}
		wg.Wait()
		tags := p.must(200, owner, "GET", boxes+"/b", "").at("tags").(map[string]any)
		for i := range 4 {
			if tags[fmt.Sprintf("p%d", i)] != "x" {
				t.Errorf("the tag of writer %d was lost: %v", i, tags)
			}
		}
	})
}

func TestSecretsAreSealed(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b", `{"properties":{"word":"open-sesame"}}`)
		row, ok, err := p.store.Resource(context.Background(), az.MustParseID(boxes+"/b"))
		if err != nil || !ok || len(row.Sealed) == 0 {
			t.Fatal(ok, err, len(row.Sealed))
		}
		if strings.Contains(string(row.Body), "sesame") || strings.Contains(string(row.Sealed), "sesame") {
			t.Error("the secret lies in clear")
		}
		// A sealed value moved to another resource, or kept from an older
		// version, does not open.
		for _, other := range []struct{ id, etag string }{{boxes + "/c", row.ETag}, {boxes + "/b", "other"}} {
			moved := row
			moved.ID, moved.ETag = az.MustParseID(other.id), other.etag
			if _, err := decode[boxProps](p.api.cfg.Sealer, moved, true); err == nil {
				t.Errorf("the secret opened at %v", other)
			}
		}
	})
}

// TestTwoPlanes: what one plane writes, the other serves at once, rights and
// secrets too.
func TestTwoPlanes(t *testing.T) {
	sealer := newSealer(t)
	sa, sb := storetest.Pair(t)
	a, b := newPlane(t, sa, sealer, testTypes(nil)...), newPlane(t, sb, sealer, testTypes(nil)...)
	withGroup(a)
	for i := range 5 {
		id := fmt.Sprintf("%s/b%d", boxes, i)
		a.must(200, owner, "PUT", id, `{"properties":{"word":"w"}}`)
		if got := b.must(200, owner, "POST", id+"/listWord", ""); got.at("word") != "w" {
			t.Errorf("the other plane reads %s", got.raw)
		}
		b.must(403, stranger, "GET", id, "")
		a.must(201, owner, "PUT", at(id, guid1), assignment(readerRole, stranger))
		b.must(200, stranger, "GET", id, "")
		a.must(200, owner, "DELETE", at(id, guid1), "")
		b.must(403, stranger, "GET", id, "")
	}
	b.must(200, owner, "DELETE", inGroup, "")
	a.must(404, owner, "GET", inGroup, "")
}

func TestSubscription(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		a := p.must(200, viewer, "GET", strings.ToUpper(subScope), "")
		if a.at("id") != subScope || a.at("state") != "Enabled" || a.at("tenantId") != tenantID {
			t.Errorf("subscription: %s", a.raw)
		}
		p.must(404, owner, "GET", "/subscriptions/"+guid1, "")
		p.must(404, owner, "GET", "/subscriptions/"+guid1+"/resourceGroups", "")
		if v := p.must(200, stranger, "GET", "/tenants", "").values(); len(v) != 1 || v[0].(map[string]any)["tenantId"] != tenantID {
			t.Errorf("tenants: %v", v)
		}
		var names []string
		for _, v := range p.must(200, viewer, "GET", subScope+"/providers", "").values() {
			names = append(names, v.(map[string]any)["namespace"].(string))
		}
		if !slices.Contains(names, "Test.Box") || !slices.Contains(names, "Microsoft.Authorization") {
			t.Errorf("providers: %v", names)
		}
		if a := p.must(200, owner, "POST", subScope+"/providers/test.box/register", ""); a.at("registrationState") != "Registered" || a.at("namespace") != "Test.Box" {
			t.Errorf("registered: %s", a.raw)
		}
		p.must(404, owner, "GET", subScope+"/providers/No.Such", "")
		if err := p.api.EnsureGroup(context.Background(), "hawser"); err != nil {
			t.Fatal(err)
		}
		if err := p.api.EnsureGroup(context.Background(), "hawser"); err != nil {
			t.Fatal(err)
		}
		p.must(200, viewer, "GET", p.api.GroupID("hawser").String(), "")
	})
}

// TestOwnMethods: what another package does for a caller passes the same
// checks as a request.
func TestOwnMethods(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		ctx := context.Background()
		box := p.api.types["test.box/boxes"].(*Type[boxProps])
		id := az.MustParseID(boxes + "/b")
		who, other := az.Principal{ObjectID: owner}, az.Principal{ObjectID: stranger}
		if _, err := box.Put(ctx, who, &Resource[boxProps]{ID: id}); !az.Is(err, az.NotFound) {
			t.Errorf("without its group: %v", err)
		}
		withGroup(p)
		r, err := box.Put(ctx, who, &Resource[boxProps]{ID: id, Secrets: map[string]az.Secret{"word": az.NewSecret("x")}})
		if err != nil || r.ETag == "" || r.Created == 0 {
			t.Fatal(r, err)
		}
		up, err := box.Update(ctx, who, id, func(r *Resource[boxProps]) error { r.Kind = "k"; return nil })
		if err != nil || up.Kind != "k" || up.Secrets["word"].Reveal() != "x" {
			t.Fatal(up, err)
		}
		if _, err := box.Put(ctx, who, r); !az.Is(err, az.Precondition) {
			t.Errorf("an old version: %v", err)
		}
		for name, fn := range map[string]func() error{
			"get": func() error { _, err := box.Get(ctx, other, id); return err },
			"put": func() error { _, err := box.Put(ctx, other, &Resource[boxProps]{ID: id}); return err },
			"update": func() error {
				_, err := box.Update(ctx, other, id, func(*Resource[boxProps]) error { return nil })
				return err
			},
			"list":   func() error { _, err := box.List(ctx, other, id.Parent()); return err },
			"delete": func() error { return box.Delete(ctx, other, id) },
		} {
			if err := fn(); !az.Is(err, az.Forbidden) {
				t.Errorf("%s as a stranger: %v", name, err)
			}
		}
		if l, err := box.List(ctx, who, id.Parent()); err != nil || len(l) != 1 {
			t.Errorf("list: %v %v", l, err)
		}
		if r, err := box.Load(ctx, az.MustParseID(inGroup)); r != nil || err != nil {
			t.Errorf("a group was read as a box: %v %v", r, err)
		}
		if err := box.Delete(ctx, who, id); err != nil {
			t.Error(err)
		}
		if r, err := box.Load(ctx, id); r != nil || err != nil {
			t.Errorf("deleted: %v %v", r, err)
		}
	})
}

// TestNoOrphans: a child made while its parent is deleted goes with it or keeps
// it; it is never left behind alone.
func TestNoOrphans(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p)
		ctx := context.Background()
		for i := range 10 {
			box := fmt.Sprintf("%s/b%d", boxes, i)
			p.must(200, owner, "PUT", box, `{}`)
			var wg sync.WaitGroup
			wg.Go(func() { p.do(owner, "PUT", box+"/lids/l", `{}`) })
			wg.Go(func() { p.do(owner, "DELETE", box, "") })
			wg.Wait()
			_, parent, err := p.store.Resource(ctx, az.MustParseID(box))
			if err != nil {
				t.Fatal(err)
			}
			if _, child, err := p.store.Resource(ctx, az.MustParseID(box+"/lids/l")); err != nil || child && !parent {
				t.Errorf("the child of %s is there: %v, its parent: %v (%v)", box, child, parent, err)
			}
		}
	})
}

// TestViewSeesNoSecrets: a reply cannot show what its maker cannot see.
func TestViewSeesNoSecrets(t *testing.T) {
	types := func() []AnyType {
		return []AnyType{Define("Test.View/things", nil, Hooks[boxProps]{
			Check: func(_ context.Context, _ *Call, r, _ *Resource[boxProps]) error {
				r.Secrets = map[string]az.Secret{"word": az.NewSecret("hush")}
				return nil
			},
			View: func(_ context.Context, _ *Call, r *Resource[boxProps]) (any, error) {
				return map[string]string{"word": r.Secrets["word"].Reveal()}, nil
			},
		})}
	}
	eachPlane(t, types, func(t *testing.T, p *plane) {
		thing := inGroup + "/providers/Test.View/things/x"
		for _, a := range []answer{withGroup(p).must(200, owner, "PUT", thing, `{}`), p.must(200, owner, "GET", thing, "")} {
			if a.at("properties", "word") != "" || strings.Contains(string(a.raw), "hush") {
				t.Errorf("the view shows %s", a.raw)
			}
		}
	})
}

func TestLocationAndKindAreNames(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p)
		for _, body := range []string{`{"location":"a\u0000b"}`, `{"location":"a\r\nb"}`, `{"kind":"a/b"}`, `{"location":"` + strings.Repeat("a", 200) + `"}`} {
			p.must(400, owner, "PUT", boxes+"/b", body)
		}
		p.must(200, owner, "PUT", boxes+"/b", `{"location":"West Europe (2)","kind":"app,linux"}`)
	})
}
