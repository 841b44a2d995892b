package arm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/guard"
)

// TestEveryRoute walks every kind of path as nobody, as a stranger and as a
// Reader. Strangers must not be able to tell what is there from what is not.
func TestEveryRoute(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b", `{"properties":{"word":"w"}}`)
		p.must(200, owner, "PUT", boxes+"/b/lids/l", `{}`)
		p.must(201, owner, "PUT", at(boxes+"/b", guid1), assignment(readerRole, robot))
		none := boxes + "/none"
		body := `{"location":"l","properties":{}}`
		// A Reader's status on a thing that is there; 0 where that is no test.
		for _, c := range []struct {
			method, path, body string
			stranger, reader   int
		}{
			{"GET", "/tenants", "", 200, 200},
			{"GET", "/subscriptions", "", 200, 200},
			{"GET", subScope, "", 403, 200},
			{"GET", "/subscriptions/" + guid3, "", 403, 403},
			{"GET", subScope + "/locations", "", 403, 200},
			{"GET", subScope + "/providers", "", 403, 200},
			{"GET", subScope + "/providers/Test.Box", "", 403, 200},
			{"POST", subScope + "/providers/Test.Box/register", "", 403, 403},
			{"GET", subScope + "/resources", "", 403, 200},
			{"GET", subScope + "/resourceGroups", "", 403, 200},
			{"GET", inGroup + "/resources", "", 403, 200},
			{"GET", inGroup + "x/resources", "", 403, 404},
			{"GET", inGroup, "", 403, 200},
			{"HEAD", inGroup, "", 403, 204},
			{"GET", inGroup + "x", "", 403, 404},
			{"PUT", inGroup + "x", body, 403, 403},
			{"PATCH", inGroup, body, 403, 403},
			{"DELETE", inGroup, "", 403, 403},
			{"DELETE", inGroup + "x", "", 403, 403},
			{"GET", boxes, "", 403, 200},
			{"GET", subScope + "/providers/Test.Box/boxes", "", 403, 200},
			{"GET", boxes + "/b", "", 403, 200},
			{"HEAD", boxes + "/b", "", 403, 200},
			{"GET", none, "", 403, 404},
			{"PUT", boxes + "/b", body, 403, 403},
			{"PUT", none, body, 403, 403},
			{"PUT", boxes + "/b", `{`, 403, 403},
			{"PATCH", boxes + "/b", body, 403, 403},
			{"PATCH", none, body, 403, 403},
			{"DELETE", boxes + "/b", "", 403, 403},
			{"DELETE", none, "", 403, 403},
			{"POST", boxes + "/b/listWord", "", 403, 403},
			{"POST", none + "/listWord", "", 403, 403},
			{"GET", boxes + "/b/lids", "", 403, 200},
			{"GET", none + "/lids", "", 403, 404},
			{"GET", boxes + "/b/lids/l", "", 403, 200},
			{"PUT", boxes + "/b/lids/l", body, 403, 403},
			{"DELETE", boxes + "/b/lids/l", "", 403, 403},
			{"GET", boxes + "/b/config", "", 403, 200},
			{"GET", boxes + "/b/config/web", "", 403, 200},
			{"PUT", boxes + "/b/config/web", body, 403, 403},
			{"PATCH", boxes + "/b/config/web", body, 403, 403},
			{"PUT", boxes + "/b/config/settings", body, 403, 403},
			{"PUT", none + "/config/settings", body, 403, 403},
			{"POST", boxes + "/b/config/settings/list", "", 403, 403},
			{"GET", boxes + "/b/providers/Test.Links/labels", "", 403, 200},
			{"PUT", boxes + "/b/providers/Test.Links/labels/x", body, 403, 403},
			{"GET", boxes + "/b/providers/Test.Links/labels/x", "", 403, 404},
			{"GET", subScope + authz + "/roleDefinitions", "", 403, 200},
			{"GET", readerRole, "", 403, 200},
			{"PUT", subScope + authz + "/roleDefinitions/" + guid3, fmt.Sprintf(custom, ""), 403, 403},
			{"DELETE", subScope + authz + "/roleDefinitions/" + guid3, "", 403, 403},
			{"GET", subScope + authz + "/roleAssignments", "", 403, 200},
			{"GET", at(boxes+"/b", guid1), "", 403, 200},
			{"GET", at(boxes+"/b", guid2), "", 403, 404},
			{"PUT", at(boxes+"/b", guid2), assignment(readerRole, stranger), 403, 403},
			{"PUT", at("", guid2), assignment(readerRole, stranger), 403, 403},
			{"DELETE", at(boxes+"/b", guid1), "", 403, 403},
			{"DELETE", at(boxes+"/b", guid2), "", 403, 403},
			{"GET", inGroup + authz + "/permissions", "", 200, 200},
			{"GET", subScope + "/providers/Hawser.Resources/operationStatuses/" + guid3, "", 403, 404},
			{"GET", subScope + "/providers/Hawser.Resources/operationResults/" + guid3, "", 403, 404},
		} {
			a := p.do("", c.method, c.path, c.body)
			if a.status != 401 {
				t.Errorf("%s %s as nobody: %d, want 401", c.method, c.path, a.status)
			}
			if a := p.do(stranger, c.method, c.path, c.body); a.status != c.stranger || a.status == 403 && c.method != "HEAD" && a.code() != "AuthorizationFailed" {
				t.Errorf("%s %s as a stranger: %d %s, want %d", c.method, c.path, a.status, a.code(), c.stranger)
			}
			if a := p.do(viewer, c.method, c.path, c.body); a.status != c.reader {
				t.Errorf("%s %s as a Reader: %d, want %d: %s", c.method, c.path, a.status, c.reader, a.raw)
			}
		}
		if n := len(p.must(200, stranger, "GET", "/subscriptions", "").values()); n != 0 {
			t.Errorf("the stranger sees %d subscriptions", n)
		}
		// A role at one resource is enough to be shown the subscription.
		if n := len(p.must(200, robot, "GET", "/subscriptions", "").values()); n != 1 {
			t.Errorf("the robot sees %d subscriptions", n)
		}
		p.must(200, robot, "GET", subScope, "")
		p.recorded(stranger, guard.Refused, 50)
	})
}

// recorded wants at least n records of somebody with an outcome.
func (p *plane) recorded(who, outcome string, n int) {
	p.t.Helper()
	got := 0
	err := p.audit.Each(context.Background(), 0, func(_ []byte, r guard.Record) bool {
		if r.Who == who && r.Outcome == outcome {
			got++
		}
		return true
	})
	if err != nil || got < n {
		p.t.Errorf("%d records of %s %s (%v), want %d at least", got, who, outcome, err, n)
	}
}

func TestChallenge(t *testing.T) {
	eachPlane(t, nil, func(t *testing.T, p *plane) {
		a := p.do("", "GET", "/subscriptions", "")
		want := `Bearer authorization_uri="https://login.hawser.localhost:8443/adfs", error="invalid_token", error_description="The access token is missing."`
		if got := a.header.Get("WWW-Authenticate"); got != want || a.code() != "InvalidAuthenticationToken" {
			t.Errorf("challenge %q, code %q", got, a.code())
		}
	})
}

func TestOddRequests(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b", `{}`)
		for _, c := range []struct {
			name, method, path, body string
			want                     string
		}{
			{"no version", "GET", inGroup + "?api-version=", "", "400 MissingApiVersionParameter"},
			{"garbage version", "GET", inGroup + "?api-version=banana", "", "400 InvalidApiVersionParameter"},
			{"no such day", "GET", inGroup + "?api-version=2022-13-41", "", "400 InvalidApiVersionParameter"},
			{"two versions", "GET", inGroup + "?api-version=2022-01-01&api-version=2023-01-01", "", "400 InvalidApiVersionParameter"},
			{"bad query", "GET", inGroup + "?api-version=2022-01-01&x=%zz", "", "400 BadRequest"},
			{"future preview", "GET", inGroup + "?api-version=2099-01-01-preview", "", "200 "},
			{"odd case of the parameter", "GET", inGroup + "?Api-Version=2022-01-01", "", "200 "},
			{"no such type", "GET", inGroup + "/providers/Test.Box/bags/x", "", "404 InvalidResourceType"},
			{"no such provider", "PUT", inGroup + "/providers/No.Such/thing/x", `{}`, "404 InvalidResourceType"},
			{"type in the wrong place", "PUT", subScope + "/providers/Test.Box/boxes/x", `{}`, "400 InvalidResourceType"},
			{"a group as a resource", "PUT", subScope + "/providers/Microsoft.Resources/resourceGroups/x", `{"location":"l"}`, "400 InvalidResourceType"},
			{"a group in a group", "PUT", inGroup + "/providers/Microsoft.Resources/resourceGroups/x", `{"location":"l"}`, "400 InvalidResourceType"},
			{"in a group that is none", "PUT", subScope + "/providers/Microsoft.Resources/resourceGroups/g1/providers/Test.Box/boxes/x", `{}`, "400 InvalidResourceType"},
			{"in no subscription", "PUT", "/x/y/resourceGroups/g1/providers/Test.Box/boxes/x", `{}`, "400 InvalidResourceType"},
			{"a role at a subscription that is none", "PUT", at(subScope+"/providers/Microsoft.Resources/subscriptions/x", guid1), assignment(readerRole, robot), "404 InvalidResourceType"},
			{"child without its parent", "GET", inGroup + "/providers/Other.Box/boxes/b/lids/l", "", "404 InvalidResourceType"},
			{"no such action", "POST", boxes + "/b/explode", "", "404 NotFound"},
			{"POST on a resource", "POST", boxes + "/b", "", "405 MethodNotAllowed"},
			{"PUT on a list", "PUT", boxes, `{}`, "405 MethodNotAllowed"},
			{"root", "GET", "/", "", "404 NotFound"},
			{"provider alone", "GET", inGroup + "/providers/Test.Box", "", "404 InvalidResourceType"},
			{"reserved name", "PUT", boxes + "/providers", `{}`, "400 ReservedResourceName"},
			{"bad name", "PUT", boxes + "/a%3Ab", `{}`, "400 InvalidResourceName"},
			{"control character", "GET", boxes + "/a%01b", "", "400 InvalidResourceId"},
			{"percent in a name", "GET", boxes + "/a%2525b", "", "400 InvalidResourceId"},
			{"long path", "GET", boxes + "/" + strings.Repeat("a", 2100), "", "400 InvalidResourceId"},
			{"no body", "PUT", boxes + "/b", "", "400 BadParameter"},
			{"torn body", "PUT", boxes + "/b", `{"properties":{"color":"r`, "400 InvalidRequestContent"},
			{"two values", "PUT", boxes + "/b", `{}{}`, "400 InvalidRequestContent"},
			{"deep body", "PUT", boxes + "/b", `{"properties":` + strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 71), "400 InvalidRequestContent"},
			{"wrong type", "PUT", boxes + "/b", `{"properties":{"size":"big"}}`, "400 InvalidRequestContent"},
			{"wrong type of tag", "PUT", boxes + "/b", `{"tags":{"a":1}}`, "400 InvalidRequestContent"},
			{"bad tag", "PUT", boxes + "/b", `{"tags":{"a/b":"1"}}`, "400 InvalidTagNameCharacters"},
			{"bad $top", "GET", boxes + "?$top=0", "", "400 InvalidTopParameter"},
			{"bad $skiptoken", "GET", boxes + "?$skiptoken=%20", "", "400 InvalidSkipToken"},
			{"bad $filter", "GET", subScope + "/resources?$filter=name%20ne%20'x'", "", "400 InvalidFilterInQueryString"},
			{"odd slashes and case", "GET", "/SUBSCRIPTIONS//" + subID + "/ResourceGroups/G1/PROVIDERS/test.box/BOXES//B/", "", "200 "},
		} {
			if a := p.do(owner, c.method, c.path, c.body); fmt.Sprint(a.status, " ", a.code()) != c.want {
				t.Errorf("%s: %d %s, want %s: %.200s", c.name, a.status, a.code(), c.want, a.raw)
			}
		}
		if a := p.do(owner, "PUT", boxes+"/b", `{}`, "Content-Type", "text/plain"); a.status != 415 {
			t.Errorf("text/plain: %d", a.status)
		}
		big := `{"properties":{"color":"` + strings.Repeat("x", maxBody) + `"}}`
		if a := p.do(owner, "PUT", boxes+"/b", big); a.status != 413 {
			t.Errorf("a body of more than 4 MiB: %d", a.status)
		}
		if a := p.must(200, owner, "GET", boxes+"/b", ""); a.at("id") != boxes+"/b" {
			t.Errorf("the resource changed: %s", a.raw)
		}
	})
}

func TestMetadata(t *testing.T) {
	eachPlane(t, nil, func(t *testing.T, p *plane) {
		a := p.must(200, "", "GET", "//metadata/endpoints?api-version=2015-01-01", "")
		if a.at("authentication", "loginEndpoint") != "https://login.hawser.localhost:8443/adfs" || a.at("galleryEndpoint") == nil {
			t.Errorf("2015: %s", a.raw)
		}
		var clouds []map[string]any
		if err := json.Unmarshal(p.must(200, "", "GET", "/metadata/endpoints?api-version=2019-05-01", "").raw, &clouds); err != nil || len(clouds) != 1 {
			t.Fatalf("2019: %v %v", clouds, err)
		}
		a = p.must(200, "", "GET", "/metadata/endpoints?api-version=2022-09-01", "")
		for _, c := range []struct {
			want any
			path []string
		}{
			{"https://management.hawser.localhost:8443", []string{"resourceManager"}},
			{"https://login.hawser.localhost:8443", []string{"authentication", "loginEndpoint"}},
			{"AAD", []string{"authentication", "identityProvider"}},
			{"common", []string{"authentication", "tenant"}},
			{"https://graph.hawser.localhost:8443/", []string{"microsoftGraphResourceId"}},
			{"vault.hawser.localhost:8443", []string{"suffixes", "keyVaultDns"}},
		} {
			if got := a.at(c.path...); got != c.want {
				t.Errorf("%v is %v, want %v", c.path, got, c.want)
			}
		}
		p.must(400, "", "GET", "/metadata/endpoints?api-version=", "")
		if a := p.do("", http.MethodPost, "/metadata/endpoints", ""); a.status != 401 {
			t.Errorf("POST: %d", a.status)
		}
	})
}
