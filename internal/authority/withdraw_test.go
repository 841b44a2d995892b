package authority

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

func TestRefreshHonoursEveryWithdrawal(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	api := p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"))
	native := p.register(t, "native", func(o *directory.Object) { o.NativeURIs, o.PublicClient = []string{"http://localhost"}, true })
	b := p.browser(t)
	set := func(id string, fn func(o *directory.Object)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			o, ok, err := p.dir.Get(context.Background(), id)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			c := *o
			fn(&c)
			return p.dir.Update(tx, &c)
		}
	}
	for _, x := range []struct {
		name     string
		client   registered // native if it is empty
		withdraw func(c registered) (take, back func(*store.Tx) error)
		want     int
	}{
		{"the person is disabled", registered{}, func(registered) (_, _ func(*store.Tx) error) {
			return set(u.ID, func(o *directory.Object) { o.Enabled = false }), set(u.ID, func(o *directory.Object) { o.Enabled = true })
		}, 50057},
		{"the client is disabled", registered{}, func(c registered) (_, _ func(*store.Tx) error) {
			return set(c.Principal.ID, func(o *directory.Object) { o.Enabled = false }), set(c.Principal.ID, func(o *directory.Object) { o.Enabled = true })
		}, 7000112},
		{"the resource is disabled", registered{}, func(registered) (_, _ func(*store.Tx) error) {
			return set(api.Principal.ID, func(o *directory.Object) { o.Enabled = false }), set(api.Principal.ID, func(o *directory.Object) { o.Enabled = true })
		}, 500011},
		{"assignment is asked for", registered{}, func(registered) (_, _ func(*store.Tx) error) {
			return set(api.Principal.ID, func(o *directory.Object) { o.Assigned = true }), set(api.Principal.ID, func(o *directory.Object) { o.Assigned = false })
		}, 50105},
		{"the client is no public one any more", registered{}, func(c registered) (_, _ func(*store.Tx) error) {
			return set(c.Application.ID, func(o *directory.Object) { o.PublicClient, o.NativeURIs = false, nil }), set(c.Application.ID, func(o *directory.Object) { o.PublicClient, o.NativeURIs = true, []string{"http://localhost"} })
		}, 7000218},
		{"a server's client says it is public", p.register(t, "web", web), func(c registered) (_, _ func(*store.Tx) error) {
			return set(c.Application.ID, func(o *directory.Object) { o.PublicClient = true }), nil
		}, 7000218},
		{"the scope is switched off", registered{}, func(registered) (_, _ func(*store.Tx) error) {
			return set(api.Application.ID, func(o *directory.Object) { o.Scopes[0].Enabled = false }), set(api.Application.ID, func(o *directory.Object) { o.Scopes[0].Enabled = true })
		}, 650053},
		{"the consent is withdrawn", registered{}, func(c registered) (_, _ func(*store.Tx) error) {
			return func(tx *store.Tx) error {
				list, err := tx.Grants(store.GrantQuery{Client: c.Principal.ID})
				for _, g := range list {
					if err == nil {
						err = tx.DeleteGrant(g)
					}
				}
				return err
			}, nil
		}, 65001},
		{"the service principal is deleted", p.register(t, "gone", web), func(c registered) (_, _ func(*store.Tx) error) {
			return func(tx *store.Tx) error { return p.dir.Remove(tx, c.Principal.ID) }, nil
		}, 7000229},
	} {
		c, redirect, secret := native, loopback, ""
		if x.client.Client != nil {
			c, redirect, secret = x.client, appCB, x.client.secret
		}
		p.grantFor(t, c, u.ID, api.AppID, "Orders.Read")
		p.grantFor(t, c, u.ID, directory.AppGraph, "User.Read")
		first := p.redeem(t, c.AppID, redirect, p.codeFor(t, b, u.UPN, p.authorizeURL(c.AppID, redirect, "api://orders/Orders.Read offline_access openid")), "client_secret", secret)
		if first.status != 200 {
			t.Fatalf("%s: %s", x.name, first)
		}
		take, back := x.withdraw(c)
		p.write(t, take)
		if x.want == 7000218 {
			secret = ""
		}
		if r := p.refresh(t, c.AppID, first.text("refresh_token"), "", "client_secret", secret); r.code() != x.want {
			t.Errorf("%s: %s", x.name, r)
		}
		if back == nil {
			continue
		}
		p.write(t, back)
		if r := p.refresh(t, c.AppID, first.text("refresh_token"), ""); r.status != 200 {
			t.Errorf("%s, and not any more: %s", x.name, r)
		}
	}
}

func TestNobodyRefreshesAsAResource(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	r := p.redeem(t, cli, loopback, p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid offline_access")))
	for _, app := range []string{directory.AppGraph, directory.AppARM, directory.AppKeyVault} {
		if x := p.refresh(t, app, r.text("refresh_token"), "https://vault.azure.net/.default"); x.code() != 70000 {
			t.Errorf("%s: %s", app, x)
		}
		if x := p.beginDeviceCode(t, "client_id", app); x.status == 200 {
			t.Errorf("%s: %s", app, x)
		}
	}
	if x := p.refresh(t, directory.AppPowerShell, r.text("refresh_token"), ""); x.status != 200 {
		t.Errorf("the family: %s", x)
	}
}

func TestCodesOfARedirectURIThatWasTakenAway(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", web)
	p.grantFor(t, c, u.ID, directory.AppGraph, "User.Read")
	code := p.codeFor(t, p.browser(t), u.UPN, p.authorizeURL(c.AppID, appCB, "User.Read"))
	p.write(t, func(tx *store.Tx) error {
		o := *c.Application
		o.WebURIs = []string{"https://app.example/new"}
		return p.dir.Update(tx, &o)
	})
	if r := p.redeem(t, c.AppID, appCB, code, "client_secret", c.secret); r.code() != 50011 {
		t.Errorf("%s", r)
	}
}

func TestNothingLastingComesOfAnEndedSession(t *testing.T) {
	c := newChain(t, onSQLite(t))
	b := c.browser(t)
	one := c.userToken(t, b, "api://first/Use openid offline_access")
	live := c.ask(t, behalfForm(c.first, one.text("access_token"), "api://next/Use offline_access openid"))
	if live.text("refresh_token") == "" {
		t.Fatal(live)
	}
	v := b.get(t, "/"+c.names.Tenant+"/oauth2/v2.0/logout")
	b.submit(t, v, "leave", "answer", "accept")
	if r := c.refresh(t, c.first.AppID, live.text("refresh_token"), "", "client_secret", c.first.secret); r.code() != 50173 {
		t.Errorf("what was begun before: %s", r)
	}
	if r := c.ask(t, behalfForm(c.first, one.text("access_token"), "api://next/Use offline_access openid")); r.status != 200 || r.text("refresh_token") != "" {
		t.Errorf("after: %s", r)
	}
	// A sign-out between the code's check and its use.
	ctx := context.Background()
	by := signed{User: c.user.ID, Session: az.NewGUID(), At: az.MicrosOf(c.clock.now())}
	code, err := c.newCode(ctx, codeFacts{Client: c.client.AppID, Redirect: appCB, Kind: webRedirect, By: by})
	if err != nil {
		t.Fatal(err)
	}
	row, ok, err := c.st.AuthCode(ctx, c.keyOf("code", code))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	text, err := c.settleCode(row, codeFacts{Kind: webRedirect, By: by})(ctx, &grant{Client: c.client.Client}, true)
	if !az.Is(err, az.Invalid) || text != "" {
		t.Errorf("%q %v", text, err)
	}
	if fam, ok, err := c.st.TokenFamily(ctx, row.Family); err != nil || ok {
		t.Errorf("%+v %v", fam, err)
	}
}

func TestDisabledPlatformResource(t *testing.T) {
	p := onSQLite(t)
	c, ok, err := p.dir.Client(context.Background(), directory.AppKeyVault)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	p.write(t, func(tx *store.Tx) error {
		o := *c.Principal
		o.Enabled = false
		return p.dir.Update(tx, &o)
	})
	if r := p.ask(t, p.secretForm("https://vault.azure.net/.default")); r.code() != 500014 {
		t.Errorf("%s", r)
	}
	if r := p.ask(t, p.secretForm("https://management.azure.com/.default")); r.status != 200 {
		t.Errorf("another: %s", r)
	}
}

func TestLogoutOfSomebodyElse(t *testing.T) {
	p := onSQLite(t)
	ann, eve := p.person(t, "ann@hawser.localhost"), p.person(t, "eve@hawser.localhost")
	b, other := p.browser(t), p.browser(t)
	hint := p.redeem(t, cli, loopback, p.codeFor(t, other, eve.UPN, p.authorizeURL(cli, loopback, "openid"))).text("id_token")
	for _, more := range []string{"logout_hint=" + url.QueryEscape(eve.UPN), "id_token_hint=" + hint} {
		p.codeFor(t, b, ann.UPN, p.authorizeURL(cli, loopback, "openid"))
		v := b.get(t, "/"+p.names.Tenant+"/oauth2/v2.0/logout?"+more)
		if !v.has("leave") {
			t.Fatalf("%s: not asked: %s", more, v.body)
		}
		if v = b.submit(t, v, "leave", "answer", "accept"); !strings.Contains(v.body, "You are signed out") {
			t.Errorf("%s", v.body)
		}
		if v := b.get(t, p.authorizeURL(cli, loopback, "openid", "prompt", "none")); v.param("error") != "login_required" {
			t.Errorf("%s: the page said that Ann is signed out, and she is not: %s", more, v.url)
		}
	}
	// Eve's own browser is not concerned.
	if v := other.get(t, p.authorizeURL(cli, loopback, "openid", "prompt", "none")); v.param("code") == "" {
		t.Errorf("%s", v.url)
	}
}

func TestStrangersDoNotBurnCodes(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", web)
	p.grantFor(t, c, u.ID, directory.AppGraph, "User.Read")
	code := p.codeFor(t, p.browser(t), u.UPN, p.authorizeURL(c.AppID, appCB, "User.Read offline_access"))
	for range 2 {
		if r := p.redeem(t, c.AppID, appCB, code, "code_verifier", strings.Repeat("x", 43)); r.code() != 7000218 {
			t.Errorf("%s", r)
		}
	}
	r := p.redeem(t, c.AppID, appCB, code, "client_secret", c.secret)
	if r.status != 200 {
		t.Fatalf("burnt: %s", r)
	}
	if x := p.redeem(t, c.AppID, appCB, code); x.code() != 7000218 {
		t.Errorf("%s", x)
	}
	if x := p.refresh(t, c.AppID, r.text("refresh_token"), "", "client_secret", c.secret); x.status != 200 {
		t.Errorf("ended: %s", x)
	}
}
