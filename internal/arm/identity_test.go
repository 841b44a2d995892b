package arm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

func TestIdentity(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		ident := inGroup + "/providers/" + UserAssignedType + "/u1"
		withGroup(p).must(200, owner, "PUT", ident, `{"location":"l"}`)
		put := func(who, identity string) answer {
			return p.do(who, "PUT", boxes+"/b", `{"identity":`+identity+`}`)
		}
		a := put(owner, `{"type":"systemassigned","principalId":"`+robot+`"}`)
		oid := a.at("identity", "principalId")
		if a.status != 200 || oid == robot || oid == nil || a.at("identity", "tenantId") != tenantID || a.at("identity", "type") != "SystemAssigned" {
			t.Fatalf("system: %s", a.raw)
		}
		a = put(owner, `{"type":"UserAssigned,SystemAssigned","userAssignedIdentities":{"`+strings.ToUpper(ident)+`":{}}}`)
		users, _ := a.at("identity", "userAssignedIdentities").(map[string]any)
		if a.at("identity", "type") != IdentityBoth || a.at("identity", "principalId") != oid || len(users) != 1 {
			t.Fatalf("both: %s", a.raw)
		}
		id := az.MustParseID(ident)
		for _, u := range users {
			if m := u.(map[string]any); m["principalId"] != az.NamedGUID("p", id.Key()) || m["clientId"] != az.NamedGUID("c", id.Key()) {
				t.Errorf("the user-assigned identity is %v", m)
			}
		}
		if a := put(owner, `null`); a.at("identity", "type") != IdentityBoth {
			t.Errorf("a PUT without identity took it away: %s", a.raw)
		}
		if a := p.must(200, owner, "PATCH", boxes+"/b", `{"identity":{"type":"SystemAssigned"}}`); a.at("identity", "userAssignedIdentities") != nil || a.at("identity", "principalId") != oid {
			t.Errorf("back to system: %s", a.raw)
		}
		if a := put(owner, `{"type":"None"}`); a.at("identity") != nil {
			t.Errorf("none: %s", a.raw)
		}
		for body, want := range map[string]string{
			`{"type":"Magic"}`:        "400 InvalidIdentityType",
			`{}`:                      "400 InvalidIdentityType",
			`{"type":"UserAssigned"}`: "400 InvalidIdentityValues",
			`{"type":"UserAssigned","userAssignedIdentities":{"/x":{}}}`:                  "400 InvalidIdentityValues",
			`{"type":"UserAssigned","userAssignedIdentities":{"` + boxes + `/b":{}}}`:     "400 InvalidIdentityValues",
			`{"type":"SystemAssigned","userAssignedIdentities":{"` + ident + `":{}}}`:     "400 InvalidIdentityValues",
			`{"type":"UserAssigned","userAssignedIdentities":{"` + ident + `none":{}}}`:   "400 FailedIdentityOperation",
			`{"type":"UserAssigned","userAssignedIdentities":{"` + ident + `":{}},"x":1}`: "200 ",
		} {
			if a := put(owner, body); fmt.Sprint(a.status, " ", a.code()) != want {
				t.Errorf("%s: %d %s, want %s", body, a.status, a.code(), want)
			}
		}
		// Who may write boxes may not for that reason hand out identities.
		p.must(200, owner, "PUT", boxes+"/b", `{"identity":{"type":"None"}}`)
		p.must(201, owner, "PUT", subScope+authz+"/roleDefinitions/"+guid1, fmt.Sprintf(custom, `,"Test.Box/boxes/*"`))
		p.must(201, owner, "PUT", at(inGroup, guid2), assignment(subScope+authz+"/roleDefinitions/"+guid1, stranger))
		if a := put(stranger, `{"type":"UserAssigned","userAssignedIdentities":{"`+ident+`":{}}}`); a.status != 403 || a.code() != "LinkedAuthorizationFailed" {
			t.Errorf("a linked identity: %d %s", a.status, a.raw)
		}
		if a := put(stranger, `{"type":"UserAssigned","userAssignedIdentities":{"`+ident+`none":{}}}`); a.status != 403 || a.code() != "LinkedAuthorizationFailed" {
			t.Errorf("a linked identity that is not there: %d %s", a.status, a.raw)
		}
		p.must(201, owner, "PUT", at(ident, guid3), assignment(subScope+authz+"/roleDefinitions/f1a07417-d97a-45cb-824c-7a7467783830", stranger))
		if a := put(stranger, `{"type":"UserAssigned","userAssignedIdentities":{"`+ident+`":{}}}`); a.status != 200 {
			t.Errorf("as Managed Identity Operator: %d %s", a.status, a.raw)
		}
		// An identity that is deleted while assigned does not block other changes.
		p.must(200, owner, "DELETE", ident, "")
		p.must(200, owner, "PATCH", boxes+"/b", `{"tags":{"a":"b"}}`)
	})
}

// An identity that is made again under its old name is another one: who may
// write a resource that had the first does not hand out the second.
func TestIdentityMadeAgainIsAnother(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		ident := inGroup + "/providers/" + UserAssignedType + "/u1"
		withGroup(p).must(200, owner, "PUT", ident, `{"location":"l","tags":{"life":"1"}}`)
		a := p.must(200, owner, "PUT", boxes+"/b", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+ident+`":{}}}}`)
		first := a.at("identity", "userAssignedIdentities", ident, "principalId")
		p.must(201, owner, "PUT", subScope+authz+"/roleDefinitions/"+guid1, fmt.Sprintf(custom, `,"Test.Box/boxes/*"`))
		p.must(201, owner, "PUT", at(inGroup, guid2), assignment(subScope+authz+"/roleDefinitions/"+guid1, stranger))
		p.must(200, owner, "DELETE", ident, "")
		p.must(200, owner, "PUT", ident, `{"location":"l","tags":{"life":"2"}}`)
		for _, body := range []string{`{"tags":{"a":"b"}}`, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + ident + `":{}}}}`} {
			a = p.must(200, stranger, "PATCH", boxes+"/b", body)
			if got := a.at("identity", "userAssignedIdentities", ident, "principalId"); got != first {
				t.Errorf("%s handed out the new identity: %v", body, got)
			}
		}
		a = p.must(200, owner, "PATCH", boxes+"/b", `{"tags":{"a":"c"}}`)
		if got := a.at("identity", "userAssignedIdentities", ident, "principalId"); got == first || got == nil {
			t.Errorf("for who may assign it, the identity is still %v", got)
		}
	})
}
