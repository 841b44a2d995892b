package authority

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// management is the resource front door with the types of this package, in
// front of which tokens of the plane are asked for.
func (p *plane) management(t *testing.T) func(method, path, body string) reply {
	t.Helper()
	p.write(t, func(tx *store.Tx) error {
		body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`, guard.RoleOwner, p.admin.ID)
		return tx.PutResource(store.Resource{ID: az.MustParseID("/providers/Microsoft.Authorization/roleAssignments/" + az.NewGUID()), ETag: "1", Body: []byte(body)}, "")
	})
	api := arm.New(arm.Config{Store: p.st, Guard: p.guard, Sealer: p.sealer, Clock: p.clock.now, Log: p.log, Names: p.names})
	api.Register(p.Types()...)
	if err := api.EnsureGroup(context.Background(), "g"); err != nil {
		t.Fatal(err)
	}
	s := api.Surface()
	s.Verify = p.VerifyRequest
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	token := p.token(t, "https://management.azure.com/.default")
	return func(method, path, body string) reply {
		req, err := http.NewRequest(method, srv.URL+api.GroupID("g").String()+"/providers/"+path+"?api-version=2023-01-31", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "management.hawser.localhost:8443"
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		r := reply{status: res.StatusCode}
		_ = json.NewDecoder(res.Body).Decode(&r.json)
		return r
	}
}

func TestUserAssignedIdentities(t *testing.T) {
	p := onSQLite(t)
	call := p.management(t)
	ctx := context.Background()
	const path = "Microsoft.ManagedIdentity/userAssignedIdentities/web"
	made := call("PUT", path, `{"location":"westeurope","tags":{"a":"b"},"properties":{"principalId":"`+p.admin.ID+`","clientId":"`+p.appID+`"}}`)
	props, _ := made.json["properties"].(map[string]any)
	if made.status != 201 || props["tenantId"] != p.names.Tenant || props["principalId"] == p.admin.ID || props["clientId"] == p.appID {
		t.Fatal(made.status, made.json)
	}
	oid := props["principalId"].(string)
	tok, err := p.IdentityToken(ctx, IdentityRequest{ObjectID: oid, Resource: "https://management.azure.com"})
	if err != nil {
		t.Fatal(err)
	}
	again := call("PUT", path, `{"location":"westeurope","tags":{"c":"d"}}`)
	if got := again.json["properties"].(map[string]any); again.status != 200 || got["principalId"] != oid {
		t.Errorf("a second PUT: %d %v", again.status, got)
	}
	for name, body := range map[string]string{"a": `{"location":"x"}`, "-web": `{"location":"x"}`, "nowhere": `{}`} {
		if r := call("PUT", "Microsoft.ManagedIdentity/userAssignedIdentities/"+name, body); r.status != 400 {
			t.Errorf("%s %s: %d %v", name, body, r.status, r.json)
		}
	}
	good := `{"properties":{"issuer":"https://issuer.example","subject":"s","audiences":["api://AzureADTokenExchange"]}}`
	if r := call("PUT", path+"/federatedIdentityCredentials/k8s", good); r.status != 201 {
		t.Errorf("%d %v", r.status, r.json)
	}
	if r := call("PUT", path+"/federatedIdentityCredentials/k8s", good); r.status != 200 {
		t.Errorf("again: %d %v", r.status, r.json)
	}
	if r := call("PUT", path+"/federatedIdentityCredentials/other", good); r.status != 409 {
		t.Errorf("the same issuer and subject: %d %v", r.status, r.json)
	}
	for _, bad := range []string{strings.Replace(good, "https:", "http:", 1), strings.Replace(good, `"s"`, `""`, 1), strings.Replace(good, `["api://AzureADTokenExchange"]`, `[]`, 1), `{}`} {
		if r := call("PUT", path+"/federatedIdentityCredentials/bad", bad); r.status != 400 {
			t.Errorf("%s: %d %v", bad, r.status, r.json)
		}
	}
	o, _, err := p.dir.Get(ctx, oid)
	if err != nil {
		t.Fatal(err)
	}
	c, _, _ := p.dir.Client(ctx, o.AppID)
	if list, err := p.trusts(ctx, c); err != nil || len(list) != 1 || list[0].Issuer != "https://issuer.example" {
		t.Errorf("trusts %v %v", list, err)
	}
	if r := call("DELETE", path, ""); r.status != 200 {
		t.Fatal(r.status, r.json)
	}
	if _, err := p.Verify(ctx, tok.AccessToken.Reveal(), rest.ARM); !az.Is(err, az.Unauthorized) {
		t.Errorf("the deleted identity's token: %v", err)
	}
	if rows, _ := p.st.Resources(ctx, store.ResourceQuery{Type: federatedType}); len(rows) != 0 {
		t.Errorf("credentials outlive their identity: %v", rows)
	}
}

func TestOneSignatureForManyCallers(t *testing.T) {
	p := onSQLite(t)
	ids := make([]string, 3)
	for i := range ids {
		p.write(t, func(tx *store.Tx) (err error) {
			ids[i], _, err = p.dir.CreateIdentity(tx, az.MustParseID(fmt.Sprintf("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a%d", i)), "a")
			return err
		})
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]map[string]bool{}
	for i := range 60 {
		wg.Go(func() {
			id := ids[i%len(ids)]
			tok, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: id, Resource: "https://vault.azure.net"})
			if err != nil {
				t.Error(err)
				return
			}
			if who, err := p.Verify(context.Background(), tok.AccessToken.Reveal(), rest.Vault); err != nil || who.ObjectID != id {
				t.Errorf("%+v %v", who, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if got[id] == nil {
				got[id] = map[string]bool{}
			}
			got[id][tok.AccessToken.Reveal()] = true
		})
	}
	wg.Wait()
	for id, tokens := range got {
		if len(tokens) != 1 {
			t.Errorf("%s: %d signatures for one token", id, len(tokens))
		}
	}
}
