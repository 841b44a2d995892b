package arm

import (
	"context"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// TestWhyByPolicy: where a resource goes by a list of its own, why says what
// that says, and nothing of roles.
func TestWhyByPolicy(t *testing.T) {
	p := newPlane(t, sqlite(t), newSealer(t), testTypes(nil)...)
	withGroup(p)
	const path = inGroup + "/providers/Test.Box/boxes/b/providers/Hawser.Authorization/why"
	p.api.cfg.ExplainPolicy = func(_ context.Context, oid string, _ []string, a guard.Action, scope az.ID) (string, bool, error) {
		if a.Name != "Test.Box/boxes/open/action" {
			return "", false, nil
		}
		if oid == stranger {
			return scope.String() + "/accessPolicies/" + stranger, true, nil
		}
		return "", true, nil
	}
	ask := func(who, action string) answer {
		return p.must(200, owner, "POST", path, `{"principalId":"`+who+`","action":"`+action+`","dataAction":true}`)
	}
	if a := ask(stranger, "Test.Box/boxes/open/action"); a.at("allowed") != true || a.at("role") != "access policy" || !strings.HasSuffix(a.at("assignment").(string), stranger) || a.at("via") != nil {
		t.Errorf("by a policy: %s", a.raw)
	}
	if a := ask(owner, "Test.Box/boxes/open/action"); a.at("allowed") != false || !strings.Contains(string(a.raw), "access policies") {
		t.Errorf("a role where there are policies: %s", a.raw)
	}
	if a := ask(owner, "Test.Box/boxes/other/action"); strings.Contains(string(a.raw), "access policies") {
		t.Errorf("what policies do not know: %s", a.raw)
	}
	p.must(403, stranger, "POST", path, `{"principalId":"`+owner+`","action":"Test.Box/boxes/open/action"}`)
}
