package site

import (
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

func TestPick(t *testing.T) {
	site := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/app1")
	uid := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Id1")
	sys := Assigned{az.Root, "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"}
	usr := Assigned{uid, "bbbbbbbb-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"}
	both, userOnly := []Assigned{sys, usr}, []Assigned{usr}
	for what, c := range map[string]struct {
		all  []Assigned
		by   IdentitySelector
		want Assigned
	}{
		"default":              {both, IdentitySelector{}, sys},
		"client":               {both, IdentitySelector{ClientID: usr.ClientID}, usr},
		"client in upper case": {both, IdentitySelector{ClientID: strings.ToUpper(usr.ClientID)}, usr},
		"client of the system": {both, IdentitySelector{ClientID: sys.ClientID}, sys},
		"object":               {both, IdentitySelector{ObjectID: strings.ToUpper(usr.PrincipalID)}, usr},
		"resource":             {both, IdentitySelector{ResourceID: uid.String()}, usr},
		"resource folded":      {both, IdentitySelector{ResourceID: strings.ToUpper(uid.String())}, usr},
		"resource odd slashes": {both, IdentitySelector{ResourceID: " " + strings.ReplaceAll(uid.String(), "/", "//") + "/ "}, usr},
		"resource no slash":    {both, IdentitySelector{ResourceID: strings.TrimPrefix(uid.String(), "/")}, usr},
		"resource is the site": {both, IdentitySelector{ResourceID: site.String()}, sys},
		"user only, by client": {userOnly, IdentitySelector{ClientID: usr.ClientID}, usr},
	} {
		if got, err := pick(site, c.all, c.by); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	for what, c := range map[string]struct {
		all  []Assigned
		by   IdentitySelector
		code string
	}{
		"none":                   {nil, IdentitySelector{}, "IdentityNotFound"},
		"no system identity":     {userOnly, IdentitySelector{}, "IdentityNotFound"},
		"site without system":    {userOnly, IdentitySelector{ResourceID: site.String()}, "IdentityNotFound"},
		"unknown client":         {both, IdentitySelector{ClientID: az.NewGUID()}, "IdentityNotFound"},
		"object id as client id": {both, IdentitySelector{ClientID: usr.PrincipalID}, "IdentityNotFound"},
		"nonsense resource":      {both, IdentitySelector{ResourceID: "/../%"}, "IdentityNotFound"},
		"blank resource":         {both, IdentitySelector{ResourceID: " "}, "IdentityNotFound"},
		"two ways":               {both, IdentitySelector{ClientID: usr.ClientID, ObjectID: usr.PrincipalID}, "InvalidRequest"},
	} {
		got, err := pick(site, c.all, c.by)
		if e, ok := err.(*az.Error); !ok || e.Code != c.code || e.Kind != az.Invalid || got != (Assigned{}) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

// FuzzPick checks that no spelling selects an identity that it does not name.
func FuzzPick(f *testing.F) {
	site := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/app1")
	uid := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Id1")
	sys := Assigned{az.Root, "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"}
	usr := Assigned{uid, "bbbbbbbb-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"}
	for _, s := range []string{"", " ", "/", usr.ClientID, usr.PrincipalID, uid.String(), site.String(), "//subscriptions//s", "%2f", "/.."} {
		f.Add(s, "", "")
		f.Add("", s, "")
		f.Add("", "", s)
	}
	squeeze := func(s string) string {
		return strings.Join(strings.FieldsFunc(strings.ToLower(strings.TrimSpace(s)), func(r rune) bool { return r == '/' }), "/")
	}
	f.Fuzz(func(t *testing.T, client, object, resource string) {
		got, err := pick(site, []Assigned{sys, usr}, IdentitySelector{client, object, resource})
		if err != nil {
			if got != (Assigned{}) {
				t.Fatalf("refused, and given %v", got)
			}
			return
		}
		named := got == sys && client == "" && object == "" && resource == ""
		for _, a := range []Assigned{sys, usr} {
			id := a.ID
			if id.IsRoot() {
				id = site
			}
			named = named || got == a && (strings.EqualFold(strings.TrimSpace(client), a.ClientID) || strings.EqualFold(strings.TrimSpace(object), a.PrincipalID) ||
				squeeze(resource) == squeeze(id.String()))
		}
		if !named {
			t.Fatalf("%q %q %q select %v", client, object, resource, got)
		}
	})
}
