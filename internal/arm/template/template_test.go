package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
)

const (
	sub   = "22222222-2222-4222-8222-222222222222"
	group = "/subscriptions/" + sub + "/resourceGroups/g1"
)

func testHost() Host {
	return Host{Scope: az.MustParseID(group), Now: time.Date(2026, 1, 31, 12, 30, 15, 0, time.UTC), NewGUID: func() string { return "new" },
		Deployment: map[string]any{"name": "d1"}, Subscription: map[string]any{"subscriptionId": sub, "id": "/subscriptions/" + sub},
		ResourceGroup: map[string]any{"id": group, "name": "g1", "location": "westeurope"}, Tenant: map[string]any{"tenantId": "t"},
		Environment: map[string]any{"suffixes": map[string]any{"keyvaultDns": ".vault"}},
		Reference: func(id az.ID, version string, full bool) (any, bool, error) {
			return map[string]any{"of": id.String(), "version": version, "full": full}, false, nil
		},
		List: func(id az.ID, fn, version string, body any) (any, error) {
			return map[string]any{"keys": []any{map[string]any{"value": "k-" + fn + "-" + id.Name()}}}, nil
		}}
}

func bind(t testing.TB, tmpl string, values map[string]any) (*Run, error) {
	t.Helper()
	v, err := Decode([]byte(tmpl))
	if err != nil {
		return nil, err
	}
	parsed, err := Parse(v)
	if err != nil {
		return nil, err
	}
	return parsed.Bind(values, testHost(), NewBudget())
}

const head = `"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#","contentVersion":"1.0.0.0",`

// output evaluates one expression.
func output(t testing.TB, expression string) (any, error) {
	t.Helper()
	quoted, _ := json.Marshal(expression)
	run, err := bind(t, `{`+head+`"resources":[],"parameters":{"p":{"type":"string","defaultValue":"P"},"pw":{"type":"securestring","defaultValue":"x"},
		"o":{"type":"object","defaultValue":{"Name":"n","list":[1,2,{"a":"b"}]}}},
		"variables":{"v":"[concat(parameters('p'),'-v')]","list":[3,1,2],"copy":[{"name":"made","count":3,"input":"[copyIndex('made',1)]"}]},
		"outputs":{"x":{"type":"array","value":["`+"[1]"+`"]},"y":{"type":"array","value":["[json('1')]",`+string(quoted)+`]}}}`, nil)
	if err != nil {
		return nil, err
	}
	out, err := run.Outputs()
	if err != nil {
		return nil, err
	}
	return out[1].Value.([]any)[1], nil
}

func TestFunctions(t *testing.T) {
	id := group + "/providers/Microsoft.KeyVault/vaults/kv"
	for in, want := range map[string]string{
		`plain`: `"plain"`, `[[x]`: `"[x]"`, `[parameters('p')]`: `"P"`, `[variables('v')]`: `"P-v"`, `[VARIABLES('made')]`: `[1,2,3]`, `[parameters('o').name]`: `"n"`,
		`[parameters('o').list[2].A]`: `"b"`, `[parameters('o')['list'][add(0,1)]]`: `2`, `[parameters('o').?nope]`: `null`, `[parameters('o').list[?9]]`: `null`,
		`[concat('a',1,true())]`: `"a1True"`, `[concat(createArray(1),createArray(2))]`: `[1,2]`, `[format('{0}-{1:D3}-{{}}{0}','a',7)]`: `"a-007-{}a"`,
		`[toLower('ÀB')]`: `"àb"`, `[toUpper('a')]`: `"A"`, `[trim('  a ')]`: `"a"`, `[substring('größe',2,2)]`: `"öß"`, `[substring('abc',1)]`: `"bc"`,
		`[replace('a-b-c','-','')]`: `"abc"`, `[split('a,b;c',createArray(',',';'))]`: `["a","b","c"]`, `[split('a','')]`: `["a"]`, `[join(createArray('a',1),'-')]`: `"a-1"`,
		`[startsWith('Abc','aB')]`: `true`, `[endsWith('abc','BC')]`: `true`, `[indexOf('öbC','c')]`: `2`, `[lastIndexOf('aba','A')]`: `2`, `[indexOf('a','x')]`: `-1`,
		`[padLeft('7',3,'0')]`: `"007"`, `[padLeft(7,3)]`: `"  7"`, `[base64('hi')]`: `"aGk="`, `[base64ToString('aGk=')]`: `"hi"`, `[base64ToJson(base64('{"a":1}')).a]`: `1`,
		`[dataUri('a')]`: `"data:text/plain;charset=utf8;base64,YQ=="`, `[dataUriToString(dataUri('a'))]`: `"a"`, `[uri('http://c.org/a/','b')]`: `"http://c.org/a/b"`,
		`[uriComponent('a b/c_d')]`: `"a%20b%2Fc_d"`, `[uriComponentToString('a%20b')]`: `"a b"`, `[string(createObject('a',1))]`: `"{\"a\":1}"`, `[string(true())]`: `"True"`,
		`[int('42')]`: `42`, `[bool('TRUE')]`: `true`, `[bool(0)]`: `false`, `[json('{"a":[1,null]}')]`: `{"a":[1,null]}`, `[array('a')]`: `["a"]`,
		`[createObject()]`: `{}`, `[union(createArray(1,2),createArray(2,3))]`: `[1,2,3]`, `[union(createObject('a',createObject('b',1)),createObject('A',createObject('c',2)))]`: `{"a":{"b":1,"c":2}}`,
		`[intersection(createArray(1,2,2,3),createArray(3,2))]`: `[2,3]`, `[intersection(json('{"a":1,"b":2}'),json('{"a":1,"b":3}'))]`: `{"a":1}`,
		`[contains('abc','b')]`: `true`, `[contains(createArray('a'),'A')]`: `false`, `[contains(parameters('o'),'NAME')]`: `true`, `[length('äb')]`: `2`, `[length(parameters('o'))]`: `2`,
		`[empty('')]`: `true`, `[empty(null())]`: `true`, `[empty(createArray(1))]`: `false`, `[first('äb')]`: `"ä"`, `[last(createArray(1,2))]`: `2`, `[skip('abc',1)]`: `"bc"`, `[take(createArray(1,2),9)]`: `[1,2]`,
		`[range(2,3)]`: `[2,3,4]`, `[min(3,1,2)]`: `1`, `[max(variables('list'))]`: `3`, `[add(1,-2)]`: `-1`, `[sub(1,2)]`: `-1`, `[mul(3,4)]`: `12`, `[div(7,2)]`: `3`, `[mod(7,2)]`: `1`,
		`[equals('a','A')]`: `false`, `[equals(json('{"a":[1]}'),json('{"A":[1]}'))]`: `true`, `[not(false())]`: `true`, `[and(true(),false())]`: `false`, `[or(false(),true())]`: `true`,
		`[if(true(),1,div(1,0))]`: `1`, `[less(1,2)]`: `true`, `[lessOrEquals('a','a')]`: `true`, `[greater('b','a')]`: `true`, `[greaterOrEquals(1,2)]`: `false`, `[coalesce(null(),'a')]`: `"a"`,
		`[items(json('{"b":2,"a":1}'))]`: `[{"key":"a","value":1},{"key":"b","value":2}]`, `[tryGet(parameters('o'),'list',0)]`: `1`, `[tryGet(parameters('o'),'x')]`: `null`,
		`[dateTimeAdd('2026-01-31T12:00:00Z','P1DT2H')]`: `"2026-02-01T14:00:00Z"`, `[dateTimeAdd('20260131T120000Z','-PT1M','yyyy/MM/dd HH:mm')]`: `"2026/01/31 11:59"`, `[dateTimeToEpoch('1970-01-02')]`: `86400`,
		`[resourceId('Microsoft.KeyVault/vaults','kv')]`: `"` + id + `"`, `[resourceId('g2','Microsoft.KeyVault/vaults/secrets','kv','s')]`: `"` + strings.Replace(id, "g1", "g2", 1) + `/secrets/s"`,
		`[resourceId(subscription().subscriptionId,'g1','Microsoft.KeyVault/vaults','kv')]`: `"` + id + `"`,
		`[subscriptionResourceId('Microsoft.Authorization/roleDefinitions','r')]`:           `"/subscriptions/` + sub + `/providers/Microsoft.Authorization/roleDefinitions/r"`,
		`[tenantResourceId('Microsoft.Authorization/roleDefinitions','r')]`:                 `"/providers/Microsoft.Authorization/roleDefinitions/r"`,
		`[extensionResourceId(resourceGroup().id,'Microsoft.Authorization/locks','l')]`:     `"` + group + `/providers/Microsoft.Authorization/locks/l"`,
		`[reference(resourceId('Microsoft.KeyVault/vaults','kv'),'2020-01-01').version]`:    `"2020-01-01"`, `[reference('` + id + `','2020-01-01','Full').full]`: `true`,
		`[listKeys('` + id + `','2020-01-01').keys[0].value]`: `"k-listkeys-kv"`, `[deployment().name]`: `"d1"`, `[tenant().tenantId]`: `"t"`, `[environment().suffixes.keyvaultDns]`: `".vault"`,
		`[ concat( 'it''s' , 'x' ) ]`: `"it'sx"`, `[uniqueString('test')]`: `"rbgf3xv4ufgzg"`,
	} {
		got, err := output(t, in)
		b, _ := marshal(got)
		if err != nil || string(b) != want {
			t.Errorf("%s\n got %s %v\nwant %s", in, b, err, want)
		}
	}
}

// Source of the expected texts: what Azure's own evaluator gives, as public
// tools that are compared with it quote it.
func TestHashesAreAzures(t *testing.T) {
	for want, parts := range map[string][]string{
		"rbgf3xv4ufgzg": {"test"}, "a7wkljktk6wne": {"hello", "world"}, "cgtzqvhu4i23s": {"abc"}, "xzi4ioaxtmth4": {"foo", "bar", "baz"},
		"bmg7c6xu4tw46": {"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/my-rg"},
	} {
		if got := UniqueString(parts...); got != want {
			t.Errorf("uniqueString%q is %s, want %s", parts, got, want)
		}
	}
	// uuid.uuid5(UUID('11fb06fb-712d-4ddd-98c7-e71bbd588830'), 'a-b') in Python
	if got := GUID("a", "b"); got != "2d796349-8c7e-55ec-9624-54ece82ed031" {
		t.Errorf("guid('a','b') is %s", got)
	}
}

func TestWrongExpressions(t *testing.T) {
	for _, in := range []string{
		`[nope()]`, `[concat(]`, `['a]`, `[1 2]`, `[]`, `[parameters('none')]`, `[variables('none')]`, `[parameters('o').nope]`, `[parameters('o').list[9]]`,
		`[parameters('p').x]`, `[add(1,'2')]`, `[add(9223372036854775807,1)]`, `[mul(9223372036854775807,2)]`, `[div(1,0)]`, `[mod(1,0)]`, `[99999999999999999999]`, `[int('x')]`, `[json('{')]`,
		`[if('yes',1,2)]`, `[range(0,10001)]`, `[range(0,-1)]`, `[substring('abc',2,5)]`, `[substring('abc',-1)]`, `[substring('abc',1,9223372036854775807)]`, `[copyIndex()]`, `[newGuid()]`, `[utcNow()]`,
		`[reference('nothing')]`, `[reference('/subscriptions/s')]`, `[resourceId('nothing','x')]`, `[resourceId('A.B/c','x/y')]`, `[resourceId('A.B/c','..')]`, `[format('{1}','a')]`, `[format('{','a')]`,
		`[format('{0:D99999}',1)]`, `[format('{-1}',1)]`, `[padLeft('a',9223372036854775807)]`, `[base64ToString('!')]`, `[dateTimeAdd('x','P1D')]`, `[dateTimeAdd('2026-01-31','P')]`, `[dateTimeAdd('9999-12-31','P999999Y')]`,
		`[min(createArray())]`, `[replace('a','','b')]`, `[createObject('a')]`, `[length(1)]`, `[toLower(1)]`, `[list()]`, `[listKeys('x')]`, `[a.b()]`, `[` + strings.Repeat("concat(", 200) + `'a'` + strings.Repeat(")", 200) + `]`,
		`[parameters('o')` + strings.Repeat(".a", 200) + `]`, `[` + strings.Repeat("'a'", 9000) + `]`, `[guid(1)]`, `[not(1)]`, `[last(1)]`, `[uri('x','y')]`,
	} {
		_, err := output(t, in)
		var e *az.Error
		if !errors.As(err, &e) || e.Code != CodeInvalid || e.Kind != az.Invalid || len(e.Message) > 700 {
			t.Errorf("%.60s: %v", in, err)
		}
	}
}

func TestDefaultsOnly(t *testing.T) {
	run, err := bind(t, `{`+head+`"resources":[],"parameters":{"a":{"type":"string","defaultValue":"[concat(parameters('b'),utcNow('yyyy-MM-dd'))]"},"b":{"type":"string","defaultValue":"[newGuid()]"}}}`, nil)
	if err != nil || run.names.params["a"] != "new2026-01-31" {
		t.Errorf("%v %v", run, err)
	}
	if _, err := bind(t, `{`+head+`"resources":[],"parameters":{"a":{"type":"string","defaultValue":"[parameters('b')]"},"b":{"type":"string","defaultValue":"[parameters('a')]"}}}`, nil); err == nil {
		t.Error("defaults in a circle are taken")
	}
}

func TestParameters(t *testing.T) {
	const decl = `{` + head + `"resources":[],"parameters":{"s":{"type":"string","allowedValues":["a","b"],"defaultValue":"a"},"n":{"type":"int","minValue":1,"maxValue":3,"defaultValue":1},
		"pw":{"type":"securestring","minLength":3,"maxLength":5,"defaultValue":"abcd"},"derived":{"type":"string","defaultValue":"[concat('pw=',parameters('pw'))]"},"l":{"type":"array","minLength":1,"defaultValue":[1]}}}`
	for name, c := range map[string]struct {
		name  string
		value any
		ok    bool
	}{
		"allowed": {"S", "b", true}, "not allowed": {"s", "c", false}, "another type": {"s", int64(1), false}, "in range": {"n", int64(3), true}, "above": {"n", int64(4), false}, "below": {"n", int64(0), false},
		"too short": {"pw", "ab", false}, "too long": {"pw", "abcdef", false}, "empty": {"l", []any{}, false}, "unknown": {"x", "y", false}, "null is the default": {"s", nil, true}, "float": {"n", json.Number("1.5"), false},
	} {
		_, err := bind(t, decl, map[string]any{c.name: c.value})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "abcdef") {
			t.Errorf("%s: the value is in the error: %v", name, err)
		}
	}
	if _, err := bind(t, `{`+head+`"resources":[],"parameters":{"s":{"type":"string"}}}`, nil); err == nil || !strings.Contains(err.Error(), "is not provided") {
		t.Errorf("a missing value: %v", err)
	}
	run, err := bind(t, decl, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range run.Parameters() {
		if want := p.Name == "pw" || p.Name == "derived"; p.Secure != want {
			t.Errorf("%s is secure: %v", p.Name, p.Secure)
		}
	}
}

func res(name, more string) string {
	return `{"type":"A.B/c","apiVersion":"2020-01-01","name":"` + name + `"` + more + `}`
}

func plan(t testing.TB, resources string) ([]string, error) {
	t.Helper()
	run, err := bind(t, `{`+head+`"languageVersion":"2.0","resources":`+resources+`}`, nil)
	if err != nil {
		return nil, err
	}
	list, err := run.Plan()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range list {
		s := strings.TrimPrefix(r.ID.String(), group+"/providers/")
		if !r.Enabled {
			s += " no"
		}
		out = append(out, s)
	}
	return out, nil
}

func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		resources string
		want      []string
	}{
		"dependsOn by name":   {`[` + res("a", `,"dependsOn":["b"]`) + `,` + res("b", "") + `]`, []string{"A.B/c/b", "A.B/c/a"}},
		"by id":               {`[` + res("a", `,"dependsOn":["[resourceId('A.B/c','b')]"]`) + `,` + res("b", "") + `]`, []string{"A.B/c/b", "A.B/c/a"}},
		"by type and name":    {`[` + res("a", `,"dependsOn":["[concat('A.B/c/','b')]"]`) + `,` + res("b", "") + `]`, []string{"A.B/c/b", "A.B/c/a"}},
		"by symbol":           {`{"x":` + res("a", `,"dependsOn":["y"]`) + `,"y":` + res("b", "") + `}`, []string{"A.B/c/b", "A.B/c/a"}},
		"by reference":        {`[` + res("a", `,"properties":{"p":["[reference('b').x]"]}`) + `,` + res("b", "") + `]`, []string{"A.B/c/b", "A.B/c/a"}},
		"by symbol reference": {`{"x":` + res("a", `,"properties":{"p":"[reference('y').x]"}`) + `,"y":` + res("b", "") + `}`, []string{"A.B/c/b", "A.B/c/a"}},
		"parts come after":    {`[{"type":"A.B/c/d","apiVersion":"1","name":"a/x"},` + res("a", "") + `]`, []string{"A.B/c/a", "A.B/c/a/d/x"}},
		"nested":              {`[` + res("a", `,"resources":[{"type":"d","apiVersion":"1","name":"x","resources":[{"type":"e","apiVersion":"1","name":"y"}]}]`) + `]`, []string{"A.B/c/a", "A.B/c/a/d/x", "A.B/c/a/d/x/e/y"}},
		"condition":           {`[` + res("a", `,"condition":"[equals(1,2)]","resources":[{"type":"d","apiVersion":"1","name":"x"}]`) + `]`, []string{"A.B/c/a no", "A.B/c/a/d/x no"}},
		"copy":                {`[` + res("[concat('a',copyIndex(1))]", `,"copy":{"name":"l","count":2}`) + `]`, []string{"A.B/c/a1", "A.B/c/a2"}},
		"depends on a loop":   {`[` + res("z", `,"dependsOn":["l"]`) + `,` + res("[format('a{0}',copyIndex('l'))]", `,"copy":{"name":"l","count":2}`) + `]`, []string{"A.B/c/a0", "A.B/c/a1", "A.B/c/z"}},
		"none":                {`[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":0}`) + `]`, nil},
		"scope":               {`[` + res("a", "") + `,{"type":"X.Y/z","apiVersion":"1","name":"e","scope":"A.B/c/a"}]`, []string{"A.B/c/a", "A.B/c/a/providers/X.Y/z/e"}},
		"old extension form":  {`[{"type":"A.B/c/providers/locks","apiVersion":"1","name":"a/X.Y/l"}]`, []string{"A.B/c/a/providers/X.Y/locks/l"}},
		"same twice, one off": {`[` + res("a", `,"condition":false`) + `,` + res("a", "") + `]`, []string{"A.B/c/a no", "A.B/c/a"}},
	} {
		got, err := plan(t, c.resources)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestSerialLoop(t *testing.T) {
	run, err := bind(t, `{`+head+`"resources":[`+res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":5,"mode":"serial","batchSize":2}`)+`]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := run.Plan()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		got = append(got, fmt.Sprint(r.Name, len(run.Needs(r))))
	}
	if diff := cmp.Diff([]string{"a00", "a10", "a22", "a32", "a42"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedPlans(t *testing.T) {
	for name, resources := range map[string]string{
		"in a circle":          `[` + res("a", `,"dependsOn":["b"]`) + `,` + res("b", `,"dependsOn":["a"]`) + `]`,
		"on itself":            `[` + res("a", `,"dependsOn":["a"]`) + `]`,
		"reference to itself":  `[` + res("a", `,"properties":"[reference('a')]"`) + `]`,
		"on what is not there": `[` + res("a", `,"dependsOn":["b"]`) + `]`,
		"twice":                `[` + res("a", "") + `,` + res("A", "") + `]`,
		"no apiVersion":        `[{"type":"A.B/c","name":"a"}]`,
		"segments":             `[` + res("a/b", "") + `]`,
		"name by reference":    `[` + res("[reference('b').x]", "") + `,` + res("b", "") + `]`,
		"too many copies":      `[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":801}`) + `]`,
		"together too many":    `[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":500}`) + `,` + res("[concat('b',copyIndex())]", `,"copy":{"name":"m","count":500}`) + `]`,
		"copies of one name":   `[` + res("a", `,"copy":{"name":"l","count":2}`) + `]`,
		"negative count":       `[` + res("a", `,"copy":{"name":"l","count":-1}`) + `]`,
		"odd condition":        `[` + res("a", `,"condition":"x"`) + `]`,
		"dot segments":         `[` + res("..", "") + `]`,
		"a group in a group":   `[{"type":"Microsoft.Resources/resourceGroups","apiVersion":"1","name":"g"}]`,
		"odd scope":            `[` + res("a", `,"scope":"x"`) + `]`,
		"batch of nothing":     `[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":2,"mode":"serial","batchSize":0}`) + `]`,
		"a resource is text":   `["a"]`,
	} {
		_, err := plan(t, resources)
		var e *az.Error
		if !errors.As(err, &e) || e.Code != CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBody(t *testing.T) {
	run, err := bind(t, `{`+head+`"parameters":{"pw":{"type":"securestring"}},"resources":[`+res("a", `,"location":"[resourceGroup().location]","tags":{"[concat('t','1')]":"x"},
		"properties":{"pw":"[parameters('pw')]","f":1.5,"copy":[{"name":"list","count":2,"input":{"n":"[copyIndex('list')]","b":"[reference('b').of]"}}]},"sku":null`)+`,`+res("b", "")+`]}`, map[string]any{"pw": "secret"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := run.Plan()
	if err != nil {
		t.Fatal(err)
	}
	body, secret, err := run.Body(list[1], true)
	b, _ := marshal(body)
	want := `{"location":"westeurope","properties":{"f":1.5,"list":[{"b":"` + group + `/providers/A.B/c/b","n":0},{"b":"` + group + `/providers/A.B/c/b","n":1}],"pw":"secret"},"sku":null,"tags":{"t1":"x"}}`
	if err != nil || !secret || string(b) != want {
		t.Errorf("%v %v\n got %s\nwant %s", secret, err, b, want)
	}
	if _, _, err := run.Body(list[1], false); !ErrNotYet(err) {
		t.Errorf("a validation sees what is not there yet: %v", err)
	}
}

func TestOutputs(t *testing.T) {
	run, err := bind(t, `{`+head+`"parameters":{"pw":{"type":"secureString","defaultValue":"x"}},"variables":{"v":"[parameters('pw')]"},"resources":[`+res("a", "")+`],
		"outputs":{"plain":{"type":"int","value":"[add(1,1)]"},"secure":{"type":"securestring","value":"s"},"key":{"type":"string","value":"[listKeys('a').keys[0].value]"},
		"viaVariable":{"type":"string","value":"[variables('v')]"},"no":{"type":"string","value":"x","condition":false},"list":{"type":"array","copy":{"count":2,"input":"[copyIndex()]"}}}}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Plan(); err != nil {
		t.Fatal(err)
	}
	got, err := run.Outputs()
	want := []Output{{"key", "String", "k-listkeys-a", false, true}, {"list", "Array", []any{int64(0), int64(1)}, false, false}, {"plain", "Int", int64(2), false, false},
		{"secure", "SecureString", "s", true, false}, {"viaVariable", "String", "x", false, true}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestNested(t *testing.T) {
	inner := `{"$schema":"x","contentVersion":"1","parameters":{"q":{"type":"string"}},"variables":{"v":"inner"},"resources":[],"outputs":{"o":{"type":"string","value":"[concat(parameters('q'),variables('v'))]"}}}`
	for scope, want := range map[string]string{"inner": "Pinner", "outer": ""} {
		run, err := bind(t, `{`+head+`"parameters":{"p":{"type":"string","defaultValue":"P"}},"variables":{"v":"outer"},"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"1","name":"n","resourceGroup":"g2",
			"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"`+scope+`"},"parameters":{"q":{"value":"[parameters('p')]"}},"template":`+inner+`}}]}`, nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := run.Plan()
		if err != nil || !strings.Contains(list[0].ID.String(), "/resourceGroups/g2/") {
			t.Fatal(list, err)
		}
		n, err := run.Nested(list[0], true)
		if err != nil {
			t.Fatal(err)
		}
		in, err := n.Bind(testHost())
		if want == "" {
			if err == nil {
				t.Error("parameters in the outer scope are taken")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := in.Outputs()
		if err != nil || out[0].Value != want {
			t.Errorf("%s: %v %v", scope, out, err)
		}
	}
}

// TestBombs: templates that grow without end are refused, fast and small.
func TestBombs(t *testing.T) {
	doubling := `"variables":{"v0":"0123456789012345678901234567890123456789"`
	shared := `"variables":{"v0":["x"]`
	for i := 1; i < 60; i++ {
		doubling += fmt.Sprintf(`,"v%d":"[concat(variables('v%d'),variables('v%d'))]"`, i, i-1, i-1)
		shared += fmt.Sprintf(`,"v%d":"[createArray(variables('v%d'),variables('v%d'))]"`, i, i-1, i-1)
	}
	literal := strings.ReplaceAll(shared, "createArray(variables", "array(variables")
	for i := 1; i < 60; i++ {
		literal = strings.Replace(literal, fmt.Sprintf(`"v%d":"[array(variables('v%d'),variables('v%d'))]"`, i, i-1, i-1), fmt.Sprintf(`"v%d":{"a":"[variables('v%d')]","b":"[variables('v%d')]"}`, i, i-1, i-1), 1)
	}
	loops := `"x"`
	for i := range 6 {
		loops = fmt.Sprintf(`{"copy":[{"name":"l%d","count":800,"input":%s}]}`, i, loops)
	}
	use := `,"resources":[],"outputs":{"o":{"type":"int","value":"[length(variables('%s'))]"}}`
	for name, tmpl := range map[string]string{
		"doubling texts":       `{` + head + doubling + `}` + fmt.Sprintf(use, "v59") + `}`,
		"shared arrays":        `{` + head + shared + `}` + fmt.Sprintf(use, "v59") + `}`,
		"shared literals":      `{` + head + literal + `}` + fmt.Sprintf(use, "v59") + `}`,
		"loops in loops":       `{` + head + `"variables":{"v":` + loops + `}` + fmt.Sprintf(use, "v") + `}`,
		"wide padding":         `{` + head + `"variables":{"v":"[padLeft('a',999999999)]"}` + fmt.Sprintf(use, "v") + `}`,
		"replacing":            `{` + head + `"variables":{"a":"[padLeft('',100000,'x')]","v":"[replace(variables('a'),'x',variables('a'))]"}` + fmt.Sprintf(use, "v") + `}`,
		"formatting":           `{` + head + `"variables":{"a":"[padLeft('',100000,'x')]","f":"[replace(variables('a'),'x','{0}')]","v":"[format(variables('f'),variables('a'))]"}` + fmt.Sprintf(use, "v") + `}`,
		"joining":              `{` + head + `"variables":{"a":"[padLeft('',100000,'x')]","v":"[join(range(0,10000),variables('a'))]"}` + fmt.Sprintf(use, "v") + `}`,
		"a variable of itself": `{` + head + `"variables":{"v":"[variables('w')]","w":"[variables('v')]"}` + fmt.Sprintf(use, "v") + `}`,
		"a function of itself": `{` + head + `"functions":[{"namespace":"n","members":{"f":{"parameters":[],"output":{"type":"int","value":"[add(n.f(),n.f())]"}}}}],"variables":{"v":"[n.f()]"}` + fmt.Sprintf(use, "v") + `}`,
	} {
		run, err := bind(t, tmpl, nil)
		if err == nil {
			_, err = run.Outputs()
		}
		var e *az.Error
		if !errors.As(err, &e) || e.Code != CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLargeObjects: names of members are compared without case, and that must
// not make large objects slow: each of these took minutes.
func TestLargeObjects(t *testing.T) {
	var low, up, delimiters strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&low, `"a%d":1,`, i)
		fmt.Fprintf(&up, `"A%d":1,`, i)
		fmt.Fprintf(&delimiters, `"%d",`, i)
	}
	object := `"variables":{"low":{` + low.String() + `},"up":{` + up.String() + `}}`
	copies := func(declared, one string) string {
		return `{` + head + declared + `,"resources":[],"outputs":{"o":{"type":"array","copy":{"count":800,"input":{"copy":[{"name":"x","count":200,"input":"` + one + `"}]}}}}}`
	}
	for name, c := range map[string]struct {
		tmpl    string
		refused bool
	}{
		"equal objects":      {`{` + head + object + `,"resources":[],"outputs":{"o":{"type":"bool","value":"[equals(variables('low'),variables('up'))]"}}}`, false},
		"joined objects":     {`{` + head + object + `,"resources":[],"outputs":{"o":{"type":"int","value":"[length(union(variables('low'),variables('up')))]"}}}`, false},
		"common members":     {`{` + head + object + `,"resources":[],"outputs":{"o":{"type":"int","value":"[length(intersection(variables('low'),variables('up')))]"}}}`, false},
		"members not there":  {copies(object, `[variables('low').?none]`), true},
		"many delimiters":    {`{` + head + `"variables":{"s":"[padLeft('',1000000,'x')]","d":[` + delimiters.String() + `]},"resources":[],"outputs":{"o":{"type":"array","value":"[split(variables('s'),variables('d'))]"}}}`, true},
		"a large loop's one": {`{` + head + `"resources":[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":800},"properties":{`+low.String()+`}`) + `]}`, true},
	} {
		run, err := bind(t, c.tmpl, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := run.Plan()
			if err == nil {
				_, err = run.Outputs()
			}
			done <- err
		}()
		select {
		case err := <-done:
			var e *az.Error
			if c.refused != (errors.As(err, &e) && e.Code == CodeInvalid) || !c.refused && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second): // a hundred times what it takes
			t.Fatalf("%s: it does not end", name)
		}
	}
}

// TestNestedSecrets: a secret that is handed to a nested template stays one,
// though that declares a parameter of another type for it.
func TestNestedSecrets(t *testing.T) {
	inner := `{"$schema":"x","contentVersion":"1","parameters":{"q":{"type":"string"},"r":{"type":"string"}},"resources":[],"outputs":{"o":{"type":"string","value":"[parameters('q')]"},"p":{"type":"string","value":"[parameters('r')]"}}}`
	for _, given := range []string{`{"Q":{"value":"[concat('x',parameters('pw'))]"},"r":{"value":"plain"}}`, `"[createObject('q',createObject('value',parameters('pw')),'r',createObject('value','x'))]"`} {
		run, err := bind(t, `{`+head+`"parameters":{"pw":{"type":"securestring","defaultValue":"P"}},"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"1","name":"n",
			"properties":{"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},"parameters":`+given+`,"template":`+inner+`}}]}`, nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := run.Plan()
		if err != nil {
			t.Fatal(err)
		}
		n, err := run.Nested(list[0], true)
		if err != nil {
			t.Fatal(err)
		}
		in, err := n.Bind(testHost())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range in.Parameters() {
			if p.Name == "q" && !p.Secure || p.Name == "r" && p.Secure && given[0] == '{' {
				t.Errorf("%s: %s is kept secret: %v", given, p.Name, p.Secure)
			}
		}
		out, err := in.Outputs()
		if err != nil || !out[0].Secret {
			t.Errorf("%s: the output made of it is shown: %v %v", given, out, err)
		}
	}
}

func TestDecode(t *testing.T) {
	got, err := Decode([]byte("\ufeff{ // a comment\n \"a\": [1, -2.50, \"x\\u0041\", true, null,], /* more */ template: {\"m\": \"two\nlines\"},\n}"))
	want := map[string]any{"a": []any{int64(1), json.Number("-2.50"), "xA", true, nil}, "template": map[string]any{"m": "two\nlines"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, s := range []string{``, `{`, `{"a"}`, `{"a":1 "b":2}`, `[1 2]`, `{"a":1,"A":2}`, `"\x"`, `01`, `1e`, `tru`, `/*`, `{}{}`, "\"\xff\"", strings.Repeat("[", 200)} {
		if v, err := Decode([]byte(s)); err == nil {
			t.Errorf("%.20q is %v", s, v)
		}
	}
}

func TestTemplatesThatAreNone(t *testing.T) {
	for _, s := range []string{`[]`, `{}`, `{"$schema":"x","resources":[]}`, `{` + head + `"resources":1}`, `{` + head + `"resource":[]}`, `{` + head + `"parameters":{"a":{}},"resources":[]}`, `{` + head + `"parameters":{"a":1},"resources":[]}`} {
		if _, err := bind(t, s, nil); err == nil {
			t.Errorf("%s is taken", s)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(`{` + head + `"parameters":{"p":{"type":"string","defaultValue":"x"}},"variables":{"v":"[concat(parameters('p'),'y')]"},"resources":[` + res("[variables('v')]", `,"dependsOn":["b"],"properties":{"copy":[{"name":"x","count":2,"input":"[copyIndex('x')]"}]}`) + `,` + res("b", "") + `],"outputs":{"o":{"type":"string","value":"[reference('b').of]"}}}`)
	f.Add(`{` + head + `"resources":[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":3,"mode":"serial"}`) + `]}`)
	f.Fuzz(func(t *testing.T, s string) {
		run, err := bind(t, s, nil)
		if err != nil {
			return
		}
		list, err := run.Plan()
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, r := range list {
			for _, n := range run.Needs(r) {
				if !seen[n.ID.Key()] {
					t.Errorf("%s comes before %s, which it needs", r.ID, n.ID)
				}
			}
			seen[r.ID.Key()] = true
			if strings.EqualFold(r.Type, DeploymentsType) {
				_, _ = run.Nested(r, true)
				continue
			}
			body, _, err := run.Body(r, true)
			if err == nil {
				if _, err := marshal(body); err != nil {
					t.Error(err)
				}
			}
		}
		_, _ = run.Outputs()
	})
}

func FuzzExpression(f *testing.F) {
	f.Add(`[concat('a',parameters('p'),string(add(1,2)))]`)
	f.Add(`[format('{0:D2}',length(split('a,b',',')))]`)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := output(t, s)
		if err == nil {
			if _, err := marshal(v); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5,"x",null],template:{}} // x`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Decode(b)
		if err != nil {
			return
		}
		out, err := marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(out)
		if diff := cmp.Diff(v, again); err != nil || diff != "" {
			t.Errorf("%s became %s: %v %s", b, out, err, diff)
		}
	})
}

// BenchmarkDeployment is a template of a usual size, planned and evaluated.
func BenchmarkDeployment(b *testing.B) {
	tmpl := `{` + head + `"resources":[` + res("[concat('a',copyIndex())]", `,"copy":{"name":"l","count":50},"properties":{"x":"[resourceId('A.B/c',concat('b',copyIndex()))]","u":"[uniqueString(resourceGroup().id)]"}`) + `]}`
	b.ReportAllocs()
	for b.Loop() {
		run, err := bind(b, tmpl, nil)
		if err != nil {
			b.Fatal(err)
		}
		list, err := run.Plan()
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range list {
			if _, _, err := run.Body(r, true); err != nil {
				b.Fatal(err)
			}
		}
	}
}
