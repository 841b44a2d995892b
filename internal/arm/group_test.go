package arm

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

type boxProps struct {
	Color string `json:"color,omitempty"`
	Size  *int   `json:"size,omitempty"`
	Word  string `json:"word,omitempty"` // moved to Secrets
}

// testTypes is a type of each kind: a resource with documents and actions, a
// child, and an extension; deleted gathers the order of deletions.
func testTypes(deleted *[]string) []AnyType {
	var mu sync.Mutex
	note := func(_ context.Context, id az.ID) {
		if deleted != nil {
			mu.Lock()
			*deleted = append(*deleted, id.Name())
			mu.Unlock()
		}
	}
	box := Define("Test.Box/boxes", []string{"2022-09-01"}, Hooks[boxProps]{
		Check: func(_ context.Context, _ *Call, r, _ *Resource[boxProps]) error {
			if r.Properties.Color == "plaid" {
				return az.Errorf(az.Invalid, "InvalidColor", "No box is plaid.")
			}
			if r.Properties.Word != "" {
				if r.Secrets == nil {
					r.Secrets = map[string]az.Secret{}
				}
				r.Secrets["word"] = az.NewSecret(r.Properties.Word)
				r.Properties.Word = ""
			}
			return nil
		},
		Apply: func(_ *store.Tx, r, _ *Resource[boxProps]) error {
			if r.Identity.System() && r.Identity.PrincipalID == "" {
				r.Identity.PrincipalID = az.NamedGUID(r.ID.Key())
			}
			return nil
		},
		Deleted: func(ctx context.Context, r *Resource[boxProps]) { note(ctx, r.ID) },
		Actions: map[string]ResourceAction[boxProps]{
			"listWord": {Run: func(_ context.Context, _ *Call, r *Resource[boxProps]) (any, error) {
				return map[string]string{"word": r.Secrets["word"].Reveal()}, nil
			}},
		},
		Documents: map[string]Document[boxProps]{
			"config/settings": {
				Secret: true,
				Read: func(_ context.Context, _ *Call, r *Resource[boxProps]) (any, error) {
					out := map[string]string{}
					for k, v := range r.Secrets {
						if name, ok := strings.CutPrefix(k, "setting:"); ok {
							out[name] = v.Reveal()
						}
					}
					return out, nil
				},
				Write: func(_ context.Context, call *Call, r *Resource[boxProps]) error {
					var p map[string]string
					if err := call.DecodeProperties(&p); err != nil {
						return err
					}
					if r.Secrets == nil {
						r.Secrets = map[string]az.Secret{}
					}
					maps.DeleteFunc(r.Secrets, func(k string, _ az.Secret) bool { return strings.HasPrefix(k, "setting:") })
					for k, v := range p {
						r.Secrets["setting:"+k] = az.NewSecret(v)
					}
					return nil
				},
			},
			"config/web": {
				Read: func(_ context.Context, _ *Call, r *Resource[boxProps]) (any, error) { return r.Properties, nil },
				Write: func(_ context.Context, call *Call, r *Resource[boxProps]) error {
					return call.DecodeProperties(&r.Properties)
				},
			},
		},
	})
	lid := Define("Test.Box/boxes/lids", nil, Hooks[struct{}]{Deleted: func(ctx context.Context, r *Resource[struct{}]) { note(ctx, r.ID) }})
	tag := Define("Test.Links/labels", nil, Hooks[struct{}]{Extension: true, Deleted: func(ctx context.Context, r *Resource[struct{}]) { note(ctx, r.ID) }})
	identity := Define(UserAssignedType, nil, Hooks[struct {
		PrincipalID string `json:"principalId"`
		ClientID    string `json:"clientId"`
	}]{Check: func(_ context.Context, _ *Call, r, _ *Resource[struct {
		PrincipalID string `json:"principalId"`
		ClientID    string `json:"clientId"`
	}]) error {
		r.Properties.PrincipalID, r.Properties.ClientID = az.NamedGUID("p"+r.Tags["life"], r.ID.Key()), az.NamedGUID("c"+r.Tags["life"], r.ID.Key())
		return nil
	}})
	return []AnyType{identity, box, lid, tag}
}

const boxes = inGroup + "/providers/Test.Box/boxes"

func withGroup(p *plane) *plane {
	p.t.Helper()
	p.must(201, owner, "PUT", inGroup, `{"location":"westeurope","tags":{"a":"1"}}`)
	return p
}

func all(deleted *[]string) func() []AnyType { return func() []AnyType { return testTypes(deleted) } }

func TestGroups(t *testing.T) {
	eachPlane(t, nil, func(t *testing.T, p *plane) {
		p.must(404, owner, "HEAD", inGroup, "")
		if a := p.must(404, owner, "GET", inGroup, ""); a.code() != "ResourceGroupNotFound" {
			t.Errorf("code %q", a.code())
		}
		a := p.must(201, owner, "PUT", inGroup, `{"location":"westeurope"}`)
		for path, want := range map[string]any{"name": "g1", "type": "Microsoft.Resources/resourceGroups", "location": "westeurope", "id": inGroup} {
			if a.at(path) != want {
				t.Errorf("%s is %v, want %v", path, a.at(path), want)
			}
		}
		if a.at("properties", "provisioningState") != "Succeeded" {
			t.Errorf("no provisioning state: %s", a.raw)
		}
		p.must(200, owner, "PUT", inGroup, `{"location":"West Europe","tags":{"x":"y"}}`)
		p.must(409, owner, "PUT", inGroup, `{"location":"eastus"}`)
		p.must(204, owner, "HEAD", strings.ToUpper(inGroup), "")
		a = p.must(200, owner, "PATCH", "//subscriptions/"+subID+"/resourcegroups//G1/", `{"tags":{"X":null,"z":"1"}}`)
		if a.at("id") != inGroup || fmt.Sprint(a.at("tags")) != "map[z:1]" {
			t.Errorf("patched: %s", a.raw)
		}
		if n := len(p.must(200, viewer, "GET", "/subscriptions/"+subID+"/resourcegroups", "").values()); n != 1 {
			t.Errorf("%d groups", n)
		}
		p.must(200, owner, "DELETE", inGroup, "")
		p.must(404, owner, "DELETE", inGroup, "")
		p.must(400, owner, "PUT", inGroup+".", `{"location":"local"}`)
		p.must(400, owner, "PUT", inGroup, `{}`)
	})
}

func TestResourceLife(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		if a := p.must(404, owner, "PUT", boxes+"/b", `{}`); a.code() != "ResourceGroupNotFound" {
			t.Errorf("code %q", a.code())
		}
		withGroup(p)
		a := p.must(200, owner, "PUT", boxes+"/Bo", `{"location":"l","properties":{"color":"red","size":1,"word":"hush"},"sku":{"name":"S1"}}`)
		if strings.Contains(string(a.raw), "hush") {
			t.Fatalf("the reply shows a secret: %s", a.raw)
		}
		etag := a.header.Get("ETag")
		a = p.must(200, owner, "GET", strings.ToLower(boxes)+"/bo", "")
		if a.at("id") != boxes+"/Bo" || a.at("properties", "color") != "red" || a.header.Get("ETag") != etag {
			t.Errorf("read: %s", a.raw)
		}
		p.must(412, owner, "PUT", boxes+"/bo", `{"properties":{}}`, "If-None-Match", "*")
		p.must(412, owner, "PUT", boxes+"/bo", `{"properties":{}}`, "If-Match", `"other"`)
		p.must(412, owner, "DELETE", boxes+"/bo", "", "If-Match", `"other"`)
		a = p.must(200, owner, "PATCH", boxes+"/bo", `{"properties":{"size":null}}`, "If-Match", etag)
		if a.at("properties", "size") != nil || a.at("properties", "color") != "red" || a.at("sku", "name") != "S1" {
			t.Errorf("patched: %s", a.raw)
		}
		if a := p.must(200, owner, "POST", boxes+"/bo/listword", ""); a.at("word") != "hush" {
			t.Errorf("the secret did not stay: %s", a.raw)
		}
		if a := p.must(400, owner, "PUT", boxes+"/bo", `{"properties":{"color":"plaid"}}`); a.code() != "InvalidColor" {
			t.Errorf("code %q", a.code())
		}
		if a := p.must(404, owner, "PUT", boxes+"/none/lids/l", `{}`); a.code() != "ParentResourceNotFound" {
			t.Errorf("code %q", a.code())
		}
		p.must(404, owner, "PATCH", boxes+"/none", `{}`)
		p.must(200, owner, "DELETE", boxes+"/bo", "")
		p.must(204, owner, "DELETE", boxes+"/bo", "")
	})
}

func TestDocuments(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		doc := boxes + "/b/config/settings"
		withGroup(p).must(404, owner, "PUT", doc, `{"properties":{"A":"1"}}`)
		p.must(200, owner, "PUT", boxes+"/b", `{"properties":{"word":"kept"}}`)
		a := p.must(200, owner, "PUT", doc, `{"properties":{"A":"1","B":"2"}}`)
		if a.at("id") != doc || a.at("name") != "settings" || a.at("type") != "Test.Box/boxes/config" {
			t.Errorf("written: %s", a.raw)
		}
		p.must(200, owner, "PUT", boxes+"/b", `{"properties":{"color":"blue"}}`)
		if a := p.must(200, owner, "POST", doc+"/list", ""); fmt.Sprint(a.at("properties")) != "map[A:1 B:2]" {
			t.Errorf("read: %s", a.raw)
		}
		p.must(405, owner, "GET", doc, "")
		p.must(405, owner, "DELETE", doc, "")
		p.must(403, viewer, "POST", doc+"/list", "")
		a = p.must(200, owner, "PATCH", boxes+"/b/config/web", `{"properties":{"size":3}}`)
		if a.at("properties", "color") != "blue" || a.at("properties", "size") != 3.0 {
			t.Errorf("patched: %s", a.raw)
		}
		if n := len(p.must(200, viewer, "GET", boxes+"/b/config", "").values()); n != 1 {
			t.Errorf("%d documents are listed, want the one that is not secret", n)
		}
		if a := p.must(200, owner, "POST", boxes+"/b/listWord", ""); a.at("word") != "kept" {
			t.Errorf("the resource's own secret is gone: %s", a.raw)
		}
	})
}
