package arm

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"", "atScope()", "name eq 'x'", "resourceType eq 'a/b' and name eq 'c''d'", "assignedTo('x') and atScope()", "a eq '", "and", "a eq 'b'and c eq 'd'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		terms, err := parseFilter(s)
		if err != nil {
			return
		}
		// What was understood can be written down and is understood the same.
		var parts []string
		for _, x := range terms {
			quoted := "'" + strings.ReplaceAll(x.value, "'", "''") + "'"
			if x.call {
				parts = append(parts, x.name+"("+quoted+")")
			} else {
				parts = append(parts, x.name+" eq "+quoted)
			}
		}
		text := strings.Join(parts, " and ")
		if len(text) > maxFilter {
			return
		}
		again, err := parseFilter(text)
		if err != nil || !slices.Equal(terms, again) {
			t.Errorf("%q: %v, written as %q: %v %v", s, terms, text, again, err)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/subscriptions", boxes, boxes + "/b", boxes + "/b/config/web", boxes + "/b/lids/l", "//a//b", "/providers", "/subscriptions/x/providers/y", at("/x/y", guid1), inGroup + "/providers/providers/providers"} {
		f.Add("GET", s)
		f.Add("POST", s)
	}
	p := &API{types: map[string]AnyType{}}
	p.cfg.Names = az.Names{Subscription: subID}
	p.groups = p.groupType()
	p.Register(p.groups)
	p.Register(testTypes(nil)...)
	p.ownRoutes()
	f.Fuzz(func(t *testing.T, method, s string) {
		id, err := az.ParseID(s)
		if err != nil {
			return
		}
		// Whatever a path is taken for, the place where rights are asked is the
		// path itself or above it: never another resource.
		call := &Call{path: id, ID: id, Method: method}
		if rt, _ := p.exact(call); rt != nil {
			if scope := routeScope(id, rt); !id.Within(scope) {
				t.Errorf("%s: the scope is %s", id, scope)
			}
			return
		}
		if id.IsCollection() {
			if scope, _ := collection(id); !id.Within(scope) {
				t.Errorf("%s: the list's scope is %s", id, scope)
			}
		}
		if typ, owner, doc := p.resolve(id); typ != nil {
			if !id.Within(owner) || doc == "" && !owner.Equal(id) || !owner.IsType(typ.info().name) {
				t.Errorf("%s: taken for %s of %s", id, owner, typ.info().name)
			}
			_ = p.wellPlaced(typ.info(), owner)
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add(`{"type":"SystemAssigned"}`, true)
	f.Add(`{"type":"UserAssigned","userAssignedIdentities":{"/subscriptions/s/resourceGroups/g/providers/`+UserAssignedType+`/u":null}}`, false)
	f.Fuzz(func(t *testing.T, s string, patch bool) {
		i, err := parseIdentity(json.RawMessage(s), &Identity{Type: IdentitySystem, PrincipalID: robot}, patch)
		if err != nil || i == nil {
			return
		}
		if i.PrincipalID != "" && i.PrincipalID != robot {
			t.Errorf("a body chose the principal %s", i.PrincipalID)
		}
		if i.User() != (len(i.UserAssigned) > 0) {
			t.Errorf("type %s with %d identities", i.Type, len(i.UserAssigned))
		}
	})
}
