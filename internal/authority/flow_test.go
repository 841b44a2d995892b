package authority

import (
	"context"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

func TestSecretToVerifiedPrincipal(t *testing.T) {
	p := onSQLite(t)
	r := p.ask(t, p.secretForm("https://vault.azure.net/.default"))
	if r.status != 200 {
		t.Fatal(r)
	}
	who, err := p.Verify(context.Background(), r.json["access_token"].(string), rest.Vault)
	if err != nil {
		t.Fatal(err)
	}
	if who.ObjectID != p.admin.ID || who.AppID != p.appID || who.TenantID != p.names.Tenant || who.Kind != az.ServicePrincipal {
		t.Errorf("got %+v", who)
	}
}

func TestIdentityTokenIsVerified(t *testing.T) {
	p := onSQLite(t)
	site := az.MustParseID("/subscriptions/" + p.names.Subscription + "/resourceGroups/Hawser/providers/Microsoft.Web/sites/App1")
	var oid string
	p.write(t, func(tx *store.Tx) (err error) {
		oid, _, err = p.dir.CreateIdentity(tx, site, "app1")
		return err
	})
	ctx := context.Background()
	tok, err := p.IdentityToken(ctx, IdentityRequest{ObjectID: oid, Resource: "https://management.azure.com/"})
	if err != nil {
		t.Fatal(err)
	}
	who, err := p.Verify(ctx, tok.AccessToken.Reveal(), rest.ARM)
	if err != nil || who.ObjectID != oid || !who.Identity.Equal(site) {
		t.Fatalf("%+v %v", who, err)
	}
	again, err := p.IdentityToken(ctx, IdentityRequest{ObjectID: oid, Resource: "https://management.azure.com/"})
	if err != nil || again.AccessToken.Reveal() != tok.AccessToken.Reveal() {
		t.Errorf("the token was not remembered (%v)", err)
	}
	p.write(t, func(tx *store.Tx) error { return p.dir.DeleteIdentity(tx, oid) })
	if _, err := p.Verify(ctx, tok.AccessToken.Reveal(), rest.ARM); !az.Is(err, az.Unauthorized) {
		t.Errorf("a deleted identity's token: %v", err)
	}
	if _, err := p.IdentityToken(ctx, IdentityRequest{ObjectID: oid, Resource: "https://management.azure.com/"}); !az.Is(err, az.Invalid) {
		t.Errorf("a deleted identity gets a token: %v", err)
	}
}
