package arm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hawser/hawser/internal/arm/template"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

const (
	deployments  = inGroup + "/providers/Microsoft.Resources/deployments/"
	templateHead = `"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",`
	box          = `"type":"Test.Box/boxes","apiVersion":"2022-09-01"`
	deploySecret = "correct-horse"
	deployAtSub  = "/subscriptions/" + subID + "/providers/Microsoft.Resources/deployments/"
)

func deployBody(mode, tmpl, parameters string) string {
	return `{"properties":{"mode":"` + mode + `","parameters":` + parameters + `,template:` + tmpl + `}}`
}

// deploy puts a deployment and waits for its end.
func (p *plane) deploy(who, path, body, status string) answer {
	p.t.Helper()
	a := p.do(who, "PUT", path, body)
	if a.status != 200 && a.status != 201 {
		p.t.Fatalf("the deployment was not taken: %d %s", a.status, a.raw)
	}
	if a.at("properties", "provisioningState") != "Running" || a.header.Get("Azure-AsyncOperation") == "" {
		p.t.Errorf("begun: %s %v", a.raw, a.header)
	}
	url := strings.TrimPrefix(a.header.Get("Azure-AsyncOperation"), "https://management.hawser.localhost:8443")
	end := p.waitFor(url, status)
	a = p.must(200, owner, "GET", path, "")
	if a.at("properties", "provisioningState") != status {
		p.t.Errorf("ended: %s", a.raw)
	}
	if status != "Succeeded" && end.at("error", "code") != "DeploymentFailed" {
		p.t.Errorf("the operation says %s", end.raw)
	}
	return a
}

func TestDeployment(t *testing.T) {
	tmpl := `{` + templateHead + ` // comments are taken
		"parameters":{"n":{"type":"int"},"pw":{"type":"securestring"},"o":{"type":"object","defaultValue":{"a":1}}},
		"variables":{"name":"[concat('b',parameters('n'))]"},
		"resources":[
			{` + box + `,"name":"[variables('name')]","dependsOn":["many"],"location":"[resourceGroup().location]","tags":{"first":"[reference('many0').color]"},"properties":{"word":"[parameters('pw')]","color":"red"},
				"resources":[{"type":"lids","apiVersion":"2022-09-01","name":"l1"}]},
			{` + box + `,"name":"[concat('many',copyIndex())]","copy":{"name":"many","count":3},"properties":{"color":"[concat('c',copyIndex())]"}},
			{` + box + `,"name":"never","condition":false},
			{"type":"Test.Box/boxes/config","apiVersion":"2022-09-01","name":"[concat(variables('name'),'/settings')]","dependsOn":["[variables('name')]"],"properties":{"k":"v"}},
			{"type":"Microsoft.Authorization/roleAssignments","apiVersion":"2022-04-01","name":"[guid(resourceGroup().id,'r')]","scope":"[format('Test.Box/boxes/{0}',variables('name'))]","dependsOn":["[variables('name')]"],
				"properties":{"roleDefinitionId":"[subscriptionResourceId('Microsoft.Authorization/roleDefinitions','` + guard.RoleReader + `')]","principalId":"` + stranger + `"}}],
		"outputs":{"color":{"type":"string","value":"[reference(variables('name')).color]"},"id":{"type":"string","value":"[reference(variables('name'),'2022-09-01','full').id]"},
			"key":{"type":"string","value":"[listWord(resourceId('Test.Box/boxes',variables('name')),'2022-09-01').word]"},"pw":{"type":"string","value":"[parameters('pw')]"},"secure":{"type":"securestring","value":"[parameters('pw')]"}}}`
	eachPlane(t, func() []AnyType { return testTypes(nil) }, func(t *testing.T, p *plane) {
		withGroup(p)
		body := deployBody("Incremental", tmpl, `{"n":{"value":7},"pw":{"value":"`+deploySecret+`"}}`)
		a := p.deploy(owner, deployments+"d1", body, "Succeeded")
		if a.at("properties", "outputs", "color", "value") != "red" || a.at("properties", "outputs", "key", "value") != deploySecret || a.at("properties", "outputs", "pw", "value") != deploySecret ||
			a.at("properties", "outputs", "secure", "value") != nil || a.at("properties", "outputs", "id", "value") != inGroup+"/providers/Test.Box/boxes/b7" {
			t.Errorf("outputs: %s", a.raw)
		}
		if a.at("properties", "parameters", "pw", "type") != "SecureString" || a.at("properties", "parameters", "pw", "value") != nil || a.at("properties", "parameters", "n", "value") != 7.0 {
			t.Errorf("parameters: %s", a.raw)
		}
		if b := p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/b7", ""); b.at("tags", "first") != "c0" {
			t.Errorf("the box: %s", b.raw)
		}
		p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/b7/lids/l1", "")
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/never", "")
		p.must(200, stranger, "GET", inGroup+"/providers/Test.Box/boxes/b7", "") // by the role assignment
		if b := p.must(200, owner, "POST", inGroup+"/providers/Test.Box/boxes/b7/config/settings/list", ""); b.at("properties", "k") != "v" {
			t.Errorf("the document: %s", b.raw)
		}
		// Others see that there are outputs, not those that hold secrets.
		for _, path := range []string{deployments + "d1", deployments} {
			if b := p.must(200, viewer, "GET", strings.TrimSuffix(path, "/"), ""); strings.Contains(string(b.raw), deploySecret) || !strings.Contains(string(b.raw), `"key":{"type":"String"}`) {
				t.Errorf("a reader sees %s", b.raw)
			}
		}
		p.nothingInClear(deploySecret)
		ops := p.must(200, viewer, "GET", deployments+"d1/operations", "").values()
		if len(ops) != 7 {
			t.Fatalf("%d operations", len(ops))
		}
		p.must(200, viewer, "GET", deployments+"d1/operations/"+ops[0].(map[string]any)["operationId"].(string), "")
		if n := len(p.must(200, viewer, "GET", inGroup+"/deployments/d1/operations", "").values()); n != len(ops) {
			t.Errorf("%d operations at the older address", n)
		}
		p.must(403, viewer, "POST", deployments+"d1/exportTemplate", "")
		if b := p.must(200, owner, "POST", deployments+"d1/exportTemplate", ""); b.at("template", "contentVersion") != "1.0.0.0" {
			t.Errorf("exported: %s", b.raw)
		}
		p.must(204, owner, "HEAD", deployments+"d1", "")
		p.must(409, owner, "POST", deployments+"d1/cancel", "")
		// Again: nothing is made twice.
		p.deploy(owner, deployments+"d1", body, "Succeeded")
		p.must(204, owner, "DELETE", deployments+"d1", "")
		p.must(404, owner, "HEAD", deployments+"d1", "")
		p.must(204, owner, "DELETE", deployments+"d1", "")
		p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/b7", "")
	})
}

// nothingInClear looks for a secret in what the store has unsealed.
func (p *plane) nothingInClear(secret string) {
	p.t.Helper()
	rows, err := p.store.ResourcesWithin(context.Background(), az.Root)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, row := range rows {
		if strings.Contains(string(row.Body), secret) {
			p.t.Errorf("%s holds the secret in clear: %s", row.ID, row.Body)
		}
	}
}

// TestDeploymentAsCaller: a deployment opens no door that its caller can't.
func TestDeploymentAsCaller(t *testing.T) {
	eachPlane(t, func() []AnyType { return testTypes(nil) }, func(t *testing.T, p *plane) {
		withGroup(p)
		tmpl := `{` + templateHead + `"resources":[{` + box + `,"name":"good"},{` + box + `,"name":"bad","properties":{"color":"plaid"}},{` + box + `,"name":"after","dependsOn":["bad"]}]}`
		body := deployBody("Incremental", tmpl, `{}`)
		p.must(403, viewer, "PUT", deployments+"d", body)
		p.must(403, viewer, "POST", deployments+"d/validate", body)
		p.must(403, viewer, "POST", deployments+"d/whatIf", body)
		p.must(403, stranger, "GET", deployments+"d", "")
		a := p.deploy(owner, deployments+"d", body, "Failed")
		raw, _ := json.Marshal(a.at("properties", "error", "details"))
		if string(raw) != `[{"code":"InvalidColor","message":"No box is plaid."}]` {
			t.Errorf("details: %s", raw)
		}
		p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/good", "")
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/after", "")

		role := `{"properties":{"roleName":"deployer","permissions":[{"actions":["Microsoft.Resources/deployments/*","Microsoft.Resources/subscriptions/resourceGroups/read","Hawser.Resources/operations/read"]}],"assignableScopes":["` + inGroup + `"]}}`
		p.must(201, owner, "PUT", inGroup+"/providers/Microsoft.Authorization/roleDefinitions/cccccccc-0000-4000-8000-000000000001", role)
		p.must(201, owner, "PUT", inGroup+"/providers/Microsoft.Authorization/roleAssignments/cccccccc-0000-4000-8000-000000000002",
			`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/cccccccc-0000-4000-8000-000000000001","principalId":"`+stranger+`"}}`)
		if a := p.must(403, stranger, "POST", deployments+"e/validate", body); a.code() != "AuthorizationFailed" || !strings.Contains(string(a.raw), "Test.Box/boxes/write") {
			t.Errorf("validate: %s", a.raw)
		}
		nested := `{` + templateHead + `"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"in","properties":{"mode":"Incremental","template":{` + templateHead + `"resources":[{` + box + `,"name":"n1"}]}}}]}`
		for name, body := range map[string]string{"e": body, "f": deployBody("Incremental", nested, `{}`),
			"g": deployBody("Incremental", `{`+templateHead+`"resources":[],"outputs":{"k":{"type":"string","value":"[listWord('`+inGroup+`/providers/Test.Box/boxes/good','2022-09-01').word]"}}}`, `{}`),
			"h": deployBody("Complete", `{`+templateHead+`"resources":[]}`, `{}`)} {
			if a := p.deploy(stranger, deployments+name, body, "Failed"); !strings.Contains(string(a.raw), "AuthorizationFailed") {
				t.Errorf("%s: %s", name, a.raw)
			}
		}
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/n1", "")
		p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/good", "")
	})
}

func TestCompleteMode(t *testing.T) {
	eachPlane(t, func() []AnyType { return testTypes(nil) }, func(t *testing.T, p *plane) {
		withGroup(p)
		two := `{` + templateHead + `"resources":[{` + box + `,"name":"a"},{` + box + `,"name":"b"}]}`
		p.deploy(owner, deployments+"d", deployBody("Incremental", two, `{}`), "Succeeded")
		one := deployBody("Complete", `{`+templateHead+`"resources":[{`+box+`,"name":"a","tags":{"x":"y"}},{`+box+`,"name":"c"}]}`, `{}`)
		a := p.must(200, owner, "POST", deployments+"d/whatIf", one)
		kinds := map[string]string{}
		for _, c := range a.at("properties", "changes").([]any) {
			c := c.(map[string]any)
			kinds[c["resourceId"].(string)[len(inGroup+"/providers/Test.Box/boxes/"):]] = c["changeType"].(string)
		}
		if fmt.Sprint(kinds) != "map[a:Modify b:Delete c:Create]" {
			t.Errorf("what if: %v %s", kinds, a.raw)
		}
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/c", "")
		p.deploy(owner, deployments+"d", one, "Succeeded")
		p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/a", "")
		p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/c", "")
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/b", "")
		if a := p.must(200, owner, "POST", deployments+"d/whatIf", deployBody("Incremental", `{`+templateHead+`"resources":[{`+box+`,"name":"a","tags":{"x":"y"}}]}`, `{}`)); !strings.Contains(string(a.raw), `"NoChange"`) || !strings.Contains(string(a.raw), `"Ignore"`) {
			t.Errorf("what if nothing changes: %s", a.raw)
		}
	})
}

func TestDeploymentAtSubscription(t *testing.T) {
	tmpl := `{` + templateHead + `"parameters":{"where":{"type":"string"}},"resources":[{"type":"Microsoft.Resources/resourceGroups","apiVersion":"2021-04-01","name":"g9","location":"[deployment().location]"},
		{"type":"Microsoft.Resources/deployments","apiVersion":"2021-04-01","name":"in","resourceGroup":"g9","dependsOn":["[subscriptionResourceId('Microsoft.Resources/resourceGroups','g9')]"],
		"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},"parameters":{"c":{"value":"[parameters('where')]"},"s":{"value":"` + deploySecret + `"}},
		"template":{` + templateHead + `"parameters":{"c":{"type":"string"},"s":{"type":"securestring"}},"resources":[{` + box + `,"name":"x","location":"[resourceGroup().location]","properties":{"color":"[parameters('c')]"}}],
			"outputs":{"id":{"type":"string","value":"[resourceId('Test.Box/boxes','x')]"},"s":{"type":"string","value":"[parameters('s')]"}}}}}],
		"outputs":{"id":{"type":"string","value":"[reference('in').outputs.id.value]"},"s":{"type":"string","value":"[reference('in').outputs.s.value]"}}}`
	eachPlane(t, func() []AnyType { return testTypes(nil) }, func(t *testing.T, p *plane) {
		body := strings.Replace(deployBody("Incremental", tmpl, `{"where":{"value":"here"}}`), `{"properties"`, `{"location":"westeurope","properties"`, 1)
		if a := p.must(400, owner, "PUT", deployAtSub+"d", strings.Replace(body, `"location":"westeurope",`, "", 1)); a.code() != "LocationRequired" {
			t.Errorf("without a location: %s", a.raw)
		}
		a := p.deploy(owner, deployAtSub+"d", body, "Succeeded")
		id := strings.Replace(inGroup, "/g1", "/g9", 1) + "/providers/Test.Box/boxes/x"
		if a.at("properties", "outputs", "id", "value") != id || a.at("properties", "outputs", "s", "value") != deploySecret {
			t.Errorf("outputs: %s", a.raw)
		}
		if a := p.must(200, viewer, "GET", deployAtSub+"d", ""); strings.Contains(string(a.raw), deploySecret) {
			t.Errorf("a reader sees a nested secret: %s", a.raw)
		}
		if b := p.must(200, owner, "GET", id, ""); b.at("location") != "westeurope" || b.at("properties", "color") != "here" {
			t.Errorf("the box: %s", b.raw)
		}
		p.nothingInClear(deploySecret)
		if l := p.must(200, owner, "GET", "/subscriptions/"+subID+"/providers/Microsoft.Resources/deployments", "").values(); len(l) != 1 {
			t.Errorf("%d deployments at the subscription", len(l))
		}
		p.must(200, owner, "GET", strings.Replace(deployments, "/g1", "/g9", 1)+"in", "")
	})
}

// TestBadDeployments: what is wrong is said at once, in ARM's words, and
// nothing is stored.
func TestBadDeployments(t *testing.T) {
	p := newPlane(t, sqlite(t), newSealer(t), testTypes(nil)...)
	withGroup(p)
	loops := `"x"`
	for i := range 5 {
		loops = fmt.Sprintf(`{"copy":[{"name":"l%d","count":800,"input":%s}]}`, i, loops)
	}
	for name, c := range map[string]struct{ code, tmpl, parameters string }{
		"a circle":            {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"a","dependsOn":["b"]},{` + box + `,"name":"b","dependsOn":["a"]}]}`, `{}`},
		"itself":              {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"a","properties":{"color":"[reference('a').color]"}}]}`, `{}`},
		"801 copies":          {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"[concat('a',copyIndex())]","copy":{"name":"l","count":801}}]}`, `{}`},
		"loops in loops":      {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"a","properties":` + loops + `}]}`, `{}`},
		"deep expression":     {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"[` + strings.Repeat("concat(", 150) + `'a'` + strings.Repeat(")", 150) + `]"}]}`, `{}`},
		"unknown function":    {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"[readFile('/etc/passwd')]"}]}`, `{}`},
		"no schema":           {"InvalidTemplate", `{"resources":[]}`, `{}`},
		"missing parameter":   {"InvalidTemplate", `{` + templateHead + `"parameters":{"p":{"type":"string"}},"resources":[]}`, `{}`},
		"unknown parameter":   {"InvalidTemplate", `{` + templateHead + `"resources":[]}`, `{"p":{"value":1}}`},
		"wrong body":          {"InvalidTemplate", `{` + templateHead + `"resources":[{` + box + `,"name":"a","properties":{"color":"[concat(1,createArray())]"}}]}`, `{}`},
		"unknown type":        {"InvalidTemplateDeployment", `{` + templateHead + `"resources":[{"type":"Test.None/things","apiVersion":"2022-09-01","name":"a"}]}`, `{}`},
		"odd version":         {"InvalidTemplate", `{` + templateHead + `"resources":[{"type":"Test.Box/boxes","apiVersion":"x&y=z","name":"a"}]}`, `{}`},
		"key vault reference": {"InvalidDeploymentParameterValue", `{` + templateHead + `"parameters":{"p":{"type":"string"}},"resources":[]}`, `{"p":{"reference":{"keyVault":{"id":"x"},"secretName":"s"}}}`},
		"linked template":     {"InvalidTemplate", `{` + templateHead + `"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"n","properties":{"mode":"Incremental","templateLink":{"uri":"http://169.254.169.254/"}}}]}`, `{}`},
		"no template":         {"InvalidRequestContent", `null`, `{}`},
		"no JSON":             {"InvalidRequestContent", `{{`, `{}`},
	} {
		for _, ask := range [][2]string{{"PUT", deployments + "d"}, {"POST", deployments + "d/validate"}, {"POST", deployments + "d/whatIf"}} {
			if a := p.do(owner, ask[0], ask[1], deployBody("Incremental", c.tmpl, c.parameters)); a.status != 400 || a.code() != c.code {
				t.Errorf("%s: %s %d %.300s", name, ask[0], a.status, a.raw)
			}
		}
	}
	p.must(404, owner, "GET", deployments+"d", "")
	for path, code := range map[string]string{inGroup + "/providers/Test.Box/boxes/b/providers/Microsoft.Resources/deployments/d": "InvalidDeploymentScope",
		strings.Replace(deployments, "g1", "none", 1) + "d": "ResourceGroupNotFound", deployments + strings.Repeat("n", 65): "InvalidDeploymentName"} {
		if a := p.do(owner, "PUT", path, deployBody("Incremental", `{`+templateHead+`"resources":[]}`, `{}`)); a.code() != code {
			t.Errorf("%s: %s", path, a.raw)
		}
	}
	for _, mode := range []string{"Everything", "complete"} {
		where := deployAtSub
		if mode == "Everything" {
			where = deployments
		}
		if a := p.do(owner, "PUT", where+"d", `{"location":"x","properties":{"mode":"`+mode+`","template":{`+templateHead+`"resources":[]}}}`); a.code() != "InvalidDeploymentMode" {
			t.Errorf("mode %s: %s", mode, a.raw)
		}
	}
	p.must(405, owner, "PATCH", deployments+"d", `{}`)
}

// TestRecursiveTemplate: a template that deploys itself ends.
func TestRecursiveTemplate(t *testing.T) {
	p := newPlane(t, sqlite(t), newSealer(t), testTypes(nil)...)
	withGroup(p)
	self := `{` + templateHead + `"parameters":{"t":{"type":"object"}},"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"[concat(deployment().name,'x')]",
		"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},"template":"[parameters('t')]","parameters":{"t":{"value":"[parameters('t')]"}}}}]}`
	a := p.deploy(owner, deployments+"d", deployBody("Incremental", self, `{"t":{"value":`+self+`}}`), "Failed")
	if !strings.Contains(string(a.raw), "levels deep") {
		t.Errorf("ended: %s", a.raw)
	}
	if l := p.must(200, owner, "GET", strings.TrimSuffix(deployments, "/"), "").values(); len(l) != maxNestedDeployments {
		t.Errorf("%d deployments", len(l))
	}
}

// TestDeploymentsWait: long operations are waited for; one that runs can't be
// replaced, and can be cancelled.
func TestDeploymentsWait(t *testing.T) {
	gate := make(chan error)
	types := func() []AnyType {
		return append(testTypes(nil), Define("Test.Slow/things", nil, Hooks[boxProps]{
			Work: func(_ context.Context, r, _ *Resource[boxProps]) error { r.Properties.Color = "slow"; return <-gate }}))
	}
	tmpl := deployBody("Incremental", `{`+templateHead+`"resources":[{"type":"Test.Slow/things","apiVersion":"2022-09-01","name":"s"},{`+box+`,"name":"b","properties":{"color":"[reference(resourceId('Test.Slow/things','s')).color]"}}]}`, `{}`)
	eachPlane(t, types, func(t *testing.T, p *plane) {
		withGroup(p)
		poll := func(a answer) string {
			return strings.TrimPrefix(a.header.Get("Azure-AsyncOperation"), "https://management.hawser.localhost:8443")
		}
		a := p.must(201, owner, "PUT", deployments+"d", tmpl)
		if b := p.must(409, owner, "PUT", deployments+"d", tmpl); b.code() != "DeploymentActive" {
			t.Errorf("while it runs: %s", b.raw)
		}
		gate <- nil
		p.waitFor(poll(a), "Succeeded")
		if b := p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/b", ""); b.at("properties", "color") != "slow" {
			t.Errorf("after the slow one: %s", b.raw)
		}
		p.must(200, owner, "DELETE", inGroup+"/providers/Test.Box/boxes/b", "")
		a = p.must(200, owner, "PUT", deployments+"d", tmpl)
		p.must(403, viewer, "POST", deployments+"d/cancel", "")
		p.must(204, owner, "POST", deployments+"d/cancel", "")
		gate <- nil
		p.waitFor(poll(a), "Failed")
		if b := p.must(200, owner, "GET", deployments+"d", ""); b.at("properties", "provisioningState") != "Canceled" {
			t.Errorf("cancelled: %s", b.raw)
		}
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/b", "")
		a = p.must(200, owner, "PUT", deployments+"d", tmpl)
		gate <- az.Errorf(az.Invalid, "NoRoom", "There is no room.")
		p.waitFor(poll(a), "Failed")
		if b := p.must(200, owner, "GET", deployments+"d", ""); !strings.Contains(string(b.raw), "NoRoom") {
			t.Errorf("failed: %s", b.raw)
		}
	})
}

// TestStoppedDeployments: what goes on in the background ends with what let it
// begin: a deployment in one that was cancelled, and any whose caller is gone.
func TestStoppedDeployments(t *testing.T) {
	entered, gate := make(chan bool), make(chan error)
	var gone atomic.Bool
	types := func() []AnyType {
		return append(testTypes(nil), Define("Test.Slow/things", nil, Hooks[boxProps]{
			Work: func(_ context.Context, r, _ *Resource[boxProps]) error { entered <- true; return <-gate }}))
	}
	slow := `{` + templateHead + `"resources":[{"type":"Test.Slow/things","apiVersion":"2022-09-01","name":"s"},{` + box + `,"name":"b","dependsOn":["s"]}]}`
	nested := `{` + templateHead + `"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01","name":"in","properties":{"mode":"Incremental","template":` + slow + `}}]}`
	eachPlane(t, types, func(t *testing.T, p *plane) {
		withGroup(p)
		gone.Store(false)
		p.api.cfg.CallerStands = func(context.Context, string) (bool, error) { return !gone.Load(), nil }
		poll := func(a answer) string {
			return strings.TrimPrefix(a.header.Get("Azure-AsyncOperation"), "https://management.hawser.localhost:8443")
		}
		a := p.must(201, owner, "PUT", deployments+"out", deployBody("Incremental", nested, `{}`))
		<-entered
		gate <- nil
		p.waitFor(poll(a), "Succeeded")
		p.must(200, owner, "DELETE", inGroup+"/providers/Test.Box/boxes/b", "")

		a = p.must(200, owner, "PUT", deployments+"out", deployBody("Incremental", nested, `{}`))
		<-entered
		p.must(204, owner, "POST", deployments+"out/cancel", "")
		gate <- nil
		p.waitFor(poll(a), "Failed")
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/b", "")
		if b := p.must(200, owner, "GET", deployments+"in", ""); b.at("properties", "provisioningState") != "Failed" || !strings.Contains(string(b.raw), "was cancelled") {
			t.Errorf("the inner one: %s", b.raw)
		}

		a = p.must(201, owner, "PUT", deployments+"gone", deployBody("Incremental", slow, `{}`))
		<-entered
		gone.Store(true)
		gate <- nil
		p.waitFor(poll(a), "Failed")
		p.must(404, owner, "GET", inGroup+"/providers/Test.Box/boxes/b", "")
		if b := p.must(200, owner, "GET", deployments+"gone", ""); b.at("properties", "provisioningState") != "Failed" || !strings.Contains(string(b.raw), "disabled or deleted") {
			t.Errorf("whose caller is gone: %s", b.raw)
		}
	})
}

// TestNestedPlaces: a deployment inside of another can be nowhere else than one
// from outside, and is called as one.
func TestNestedPlaces(t *testing.T) {
	p := newPlane(t, sqlite(t), newSealer(t), testTypes(nil)...)
	withGroup(p)
	p.must(200, owner, "PUT", inGroup+"/providers/Test.Box/boxes/b", `{"location":"x","properties":{}}`)
	for code, more := range map[string]string{
		"InvalidDeploymentScope": `"name":"in","scope":"` + inGroup + `/providers/Test.Box/boxes/b"`,
		"InvalidDeploymentName":  `"name":"` + strings.Repeat("n", 65) + `"`,
		"InvalidDeploymentMode":  `"name":"in","subscriptionId":"` + subID + `","scope":"/subscriptions/` + subID + `","location":"x"`,
	} {
		tmpl := `{` + templateHead + `"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2022-09-01",` + more + `,"properties":{"mode":"Complete","template":{` + templateHead + `"resources":[]}}}]}`
		if a := p.deploy(owner, deployments+"d", deployBody("Incremental", tmpl, `{}`), "Failed"); !strings.Contains(string(a.raw), code) {
			t.Errorf("%s: %s", more, a.raw)
		}
	}
	p.must(200, owner, "GET", inGroup+"/providers/Test.Box/boxes/b", "")
}

func TestDeploymentHistoryIsBounded(t *testing.T) {
	p := newPlane(t, sqlite(t), newSealer(t))
	withGroup(p)
	err := p.store.Write(context.Background(), func(tx *store.Tx) error {
		for i := range maxDeployments {
			if err := p.api.deployments.Write(tx, &deployment{ID: az.MustParseID(deployments + fmt.Sprint("old", i)), Updated: az.Micros(i + 1)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.deploy(owner, deployments+"new", deployBody("", `{`+templateHead+`"resources":[]}`, `{}`), "Succeeded")
	rows, err := p.store.Resources(context.Background(), store.ResourceQuery{Type: template.DeploymentsType})
	if err != nil || len(rows) != maxDeployments {
		t.Errorf("%d in the history: %v", len(rows), err)
	}
}

func FuzzDeployment(f *testing.F) {
	p := newPlane(f, sqlite(f), newSealer(f), testTypes(nil)...)
	withGroup(p)
	f.Add(deployBody("Incremental", `{`+templateHead+`"resources":[{`+box+`,"name":"a"}]}`, `{"p":{"value":1}}`))
	f.Add(`{"properties":{"template":{},"parameters":{"$schema":"x","parameters":{}}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		one := *p
		one.t = t
		a := one.do(owner, "POST", deployments+"d/validate", body)
		if a.status != 200 && (a.status < 400 || a.status >= 500) {
			t.Errorf("%d %s for %q", a.status, a.raw, body)
		}
	})
}

func sqlite(t testing.TB) *store.Store {
	t.Helper()
	return storetest.Open(t, store.Config{Dir: t.TempDir()})
}
