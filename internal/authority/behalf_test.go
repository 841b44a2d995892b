package authority

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// chain is a client, two interfaces behind one another, and a person who may
// use all of it.
type chain struct {
	*plane
	user        *directory.Object
	client      registered
	first, next registered
}

func newChain(t testing.TB, p *plane) *chain {
	t.Helper()
	c := &chain{plane: p, user: p.person(t, "ann@hawser.localhost")}
	c.next = p.api(t, "next", 2, nil, scope("a1111111-2222-3333-4444-555555555555", "Use", "User"))
	c.first = p.api(t, "first", 1, nil, scope("b1111111-2222-3333-4444-555555555555", "Use", "User"))
	c.client = p.register(t, "web", web)
	p.grantFor(t, c.client, c.user.ID, c.first.AppID, "Use")
	p.grantFor(t, c.first, "", c.next.AppID, "Use")
	p.grantFor(t, c.next, c.user.ID, directory.AppGraph, "User.Read")
	return c
}

// userToken signs the person in and returns a token for the first interface.
func (c *chain) userToken(t testing.TB, b *browser, scope string) reply {
	t.Helper()
	r := c.redeem(t, c.client.AppID, appCB, c.codeFor(t, b, c.user.UPN, c.authorizeURL(c.client.AppID, appCB, scope)), "client_secret", c.client.secret)
	if r.status != 200 {
		t.Fatal(r)
	}
	return r
}

func behalfForm(r registered, assertion, scope string, more ...string) url.Values {
	return with(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "client_id": {r.AppID}, "client_secret": {r.secret}, "assertion": {assertion},
		"requested_token_use": {"on_behalf_of"}, "scope": {scope}}, more...)
}

func TestOnBehalfOfThroughAChain(t *testing.T) {
	c := newChain(t, onSQLite(t))
	one := c.userToken(t, c.browser(t), "api://first/Use openid offline_access")
	two := c.ask(t, behalfForm(c.first, one.text("access_token"), "api://next/Use openid offline_access"))
	if two.status != 200 || two.text("refresh_token") == "" || two.text("id_token") == "" {
		t.Fatal(two)
	}
	three := c.ask(t, behalfForm(c.next, two.text("access_token"), "https://graph.microsoft.com/.default"))
	who, err := c.Verify(context.Background(), three.text("access_token"), rest.Graph)
	if err != nil || who.ObjectID != c.user.ID || who.AppID != c.next.AppID || strings.Join(who.Scopes, " ") == "" {
		t.Fatalf("%s %+v %v", three, who, err)
	}
	mid := claimsOf(t, two.text("access_token"))
	if mid["azp"] != c.first.AppID || mid["aud"] != c.next.AppID || mid["oid"] != c.user.ID || mid["scp"] != "Use" || mid["sid"] != claimsOf(t, one.text("access_token"))["sid"] {
		t.Errorf("%v", mid)
	}
	// All of it ends with the password that the person signed in by.
	c.write(t, func(tx *store.Tx) error { return c.dir.SetPassword(tx, c.user.ID, passwordHash()) })
	if _, err := c.Verify(context.Background(), three.text("access_token"), rest.Graph); !az.Is(err, az.Unauthorized) {
		t.Errorf("%v", err)
	}
	if r := c.ask(t, behalfForm(c.first, one.text("access_token"), "api://next/Use")); r.code() != 50173 {
		t.Errorf("%s", r)
	}
	if r := c.refresh(t, c.first.AppID, two.text("refresh_token"), "", "client_secret", c.first.secret); r.code() != 50173 {
		t.Errorf("%s", r)
	}
}

func TestOnBehalfOfIsRefused(t *testing.T) {
	c := newChain(t, onSQLite(t))
	r := c.userToken(t, c.browser(t), "api://first/Use openid")
	good := r.text("access_token")
	app := c.ask(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {c.client.AppID}, "client_secret": {c.client.secret}, "scope": {"api://first/.default"}}).text("access_token")
	const to = "api://next/Use"
	for _, x := range []struct {
		name string
		form url.Values
		want int
	}{
		{"a token for another interface", behalfForm(c.next, good, "User.Read"), 500131},
		{"a token of an application", behalfForm(c.first, app, to), 7000114},
		{"an id token", behalfForm(c.client, r.text("id_token"), "User.Read"), 50013},
		{"no token", behalfForm(c.first, "x.y.z", to), 50013},
		{"a changed token", behalfForm(c.first, good[:len(good)-8]+"AAAAAAAA", to), 50013},
		{"nothing", behalfForm(c.first, "", to), 900144},
		{"without proof of the client", behalfForm(c.first, good, to, "client_secret", ""), 7000218},
		{"another use", behalfForm(c.first, good, to, "requested_token_use", "x"), 9002313},
		{"without consent", behalfForm(c.first, good, "https://graph.microsoft.com/User.Read"), 65001},
		{"a scope that was not consented to", behalfForm(c.first, good, "https://graph.microsoft.com/User.Read.All"), 65001},
	} {
		if got := c.ask(t, x.form); got.code() != x.want {
			t.Errorf("%s: %s", x.name, got)
		}
	}
	weak := c.ask(t, behalfForm(c.first, good, to, "claims", `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`))
	if weak.code() != 50076 || weak.text("error") != "interaction_required" || weak.text("suberror") != "basic_action" || !strings.Contains(weak.text("claims"), "acrs") {
		t.Errorf("a second factor: %s", weak)
	}
	c.clock.advance(2 * time.Hour)
	if got := c.ask(t, behalfForm(c.first, good, to)); got.code() != 500133 {
		t.Errorf("an old token: %s", got)
	}
}

// The consent of a client that the interface knows covers what the interface
// itself needs.
func TestKnownClientsConsentForBoth(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", web)
	mid := p.api(t, "mid", 2, func(o *directory.Object) {
		o.Known = []string{c.AppID}
		o.Required = []directory.RequiredAccess{{Resource: directory.AppGraph, Access: []directory.RequiredRole{{ID: "e1fe6dd8-ba31-4d61-89e7-88639da4683d", Type: "Scope"}}}}
	}, scope(scopeID, "Use", "User"))
	p.write(t, func(tx *store.Tx) error {
		o := *c.Application
		o.Required = []directory.RequiredAccess{{Resource: mid.AppID, Access: []directory.RequiredRole{{ID: scopeID, Type: "Scope"}}}}
		return p.dir.Update(tx, &o)
	})
	b := p.browser(t)
	v := b.signIn(t, b.get(t, p.authorizeURL(c.AppID, appCB, "api://mid/.default openid")), u.UPN)
	if !strings.Contains(v.body, "mid") || !strings.Contains(v.body, "User.Read") {
		t.Fatalf("%s", v.body)
	}
	v = b.submit(t, v, "consent", "answer", "accept")
	r := p.redeem(t, c.AppID, appCB, v.param("code"), "client_secret", c.secret)
	if got := p.ask(t, behalfForm(mid, r.text("access_token"), "User.Read")); got.status != 200 {
		t.Errorf("%s", got)
	}
}

func TestPreauthorizedClientsAreNotAsked(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	p.api(t, "orders", 2, func(o *directory.Object) {
		o.Preauthorized = []directory.Preauthorized{{AppID: cli, Scopes: []string{scopeID}}}
	}, scope(scopeID, "Orders.Read", "User"), scope("21111111-2222-3333-4444-555555555555", "Orders.Write", "User"))
	b := p.browser(t)
	r := p.redeem(t, cli, loopback, p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "api://orders/.default")))
	if claimsOf(t, r.text("access_token"))["scp"] != "Orders.Read" {
		t.Error(r)
	}
	if v := b.get(t, p.authorizeURL(cli, loopback, "api://orders/Orders.Write")); !v.has("consent") {
		t.Errorf("%s", v.url)
	}
}

func deviceForm(code string) url.Values {
	return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {cli}, "device_code": {code}}
}

func (p *plane) beginDeviceCode(t testing.TB, more ...string) reply {
	t.Helper()
	f := with(url.Values{"client_id": {cli}, "scope": {"https://management.core.windows.net//.default offline_access openid profile"}}, more...)
	return p.do(t, "POST", loginHost, "/organizations/oauth2/v2.0/devicecode", f.Encode())
}

func TestDeviceCode(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	r := p.beginDeviceCode(t)
	if r.status != 200 || len(r.text("user_code")) != userCodeLength || r.json["interval"] != 5.0 || r.json["expires_in"] != 900.0 || !strings.Contains(r.text("message"), r.text("user_code")) {
		t.Fatal(r)
	}
	code := r.text("device_code")
	if w := p.ask(t, deviceForm(code)); w.text("error") != "authorization_pending" || w.code() != 70016 {
		t.Errorf("%s", w)
	}
	slow := false
	for range quickPolls + 1 {
		slow = p.ask(t, deviceForm(code)).text("error") == "slow_down"
	}
	if !slow {
		t.Error("no slow_down")
	}
	b := p.browser(t)
	v := b.get(t, "/device")
	if bad := b.submit(t, v, "device", "user_code", "BBBBBBBBB"); !strings.Contains(bad.body, `role="alert"`) {
		t.Errorf("%s", bad.body)
	}
	typed := strings.ToLower(r.text("user_code")[:3] + "-" + r.text("user_code")[3:])
	v = b.signIn(t, b.submit(t, v, "device", "user_code", typed), u.UPN)
	if !strings.Contains(v.body, "Microsoft Azure CLI") || !strings.Contains(v.body, r.text("user_code")) || !strings.Contains(v.body, u.UPN) {
		t.Fatalf("%s", v.body)
	}
	if w := p.ask(t, deviceForm(code)); w.status != 400 {
		t.Errorf("let in before the person said so: %s", w)
	}
	// Another site cannot say yes.
	action, f := v.form(t, "device")
	f.Set("answer", "accept")
	if x := b.post(t, action, f, "https://evil.example", "cross-site"); x.status/100 != 4 {
		t.Errorf("%d", x.status)
	}
	if done := b.submit(t, v, "device", "answer", "accept"); done.status != 200 || !strings.Contains(done.body, "signed in") {
		t.Fatalf("%s", done.body)
	}
	tok := p.ask(t, deviceForm(code))
	if who, err := p.Verify(context.Background(), tok.text("access_token"), rest.ARM); err != nil || who.ObjectID != u.ID || tok.text("refresh_token") == "" || tok.text("id_token") == "" {
		t.Fatalf("%s %v", tok, err)
	}
	if again := p.ask(t, deviceForm(code)); again.code() != 54005 {
		t.Errorf("%s", again)
	}
	other := deviceForm(p.beginDeviceCode(t).text("device_code"))
	other.Set("client_id", directory.AppPowerShell)
	for name, x := range map[string]struct {
		f    url.Values
		want int
	}{"another client": {other, 70018}, "not a code": {deviceForm("1.x"), 70018}, "none": {deviceForm(""), 900144}} {
		if got := p.ask(t, x.f); got.code() != x.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	// No, and too late; and msal-go's name of the grant.
	r = p.beginDeviceCode(t)
	v = b.submit(t, b.get(t, "/common/oauth2/deviceauth"), "device", "user_code", r.text("user_code"))
	v = b.submit(t, v, "signin-pick", "account", u.ID)
	b.submit(t, v, "device", "answer", "decline")
	form := deviceForm(r.text("device_code"))
	form.Set("grant_type", "device_code")
	if no := p.ask(t, form); no.text("error") != "authorization_declined" {
		t.Errorf("%s", no)
	}
	r = p.beginDeviceCode(t)
	p.clock.advance(deviceLife)
	if old := p.ask(t, deviceForm(r.text("device_code"))); old.text("error") != "expired_token" || old.code() != 70020 {
		t.Errorf("%s", old)
	}
}

func TestDeviceCodesCannotBeGuessedOrPoured(t *testing.T) {
	p := onSQLite(t)
	b := p.browser(t)
	v := b.get(t, "/device")
	for range maxGuesses {
		v = b.submit(t, v, "device", "user_code", newUserCode())
	}
	if v = b.submit(t, v, "device", "user_code", newUserCode()); v.status != 429 {
		t.Errorf("%d", v.status)
	}
	for range maxDevices {
		p.devices.note("", "127.0.0.1")
	}
	if r := p.beginDeviceCode(t); r.status != 429 {
		t.Errorf("%s", r)
	}
	confidential := p.register(t, "web", nil)
	q := onSQLite(t)
	_ = confidential
	if r := q.beginDeviceCode(t, "client_id", q.appID); r.code() != 7000218 {
		t.Errorf("a confidential client's device: %s", r)
	}
	// A link cannot bring a code.
	if v := q.browser(t).get(t, "/device?user_code="+newUserCode()+"&state=x&ticket=y"); v.has("device") && strings.Contains(v.body, `name="answer"`) {
		t.Errorf("%s", v.body)
	}
}

func TestPasswordGrantIsOffUnlessTurnedOn(t *testing.T) {
	form := func(pw string) url.Values {
		return url.Values{"grant_type": {"password"}, "client_id": {cli}, "username": {"Ann@hawser.localhost"}, "password": {pw}, "scope": {"https://vault.azure.net/.default openid offline_access profile"}}
	}
	off := onSQLite(t)
	off.person(t, "ann@hawser.localhost")
	if r := off.ask(t, form(testPassword)); r.code() != 70003 || r.text("error") != "unsupported_grant_type" {
		t.Errorf("%s", r)
	}
	on := onSQLite(t, func(c *Config) { c.Password = true })
	u := on.person(t, "ann@hawser.localhost")
	r := on.ask(t, form(testPassword))
	if who, err := on.Verify(context.Background(), r.text("access_token"), rest.Vault); err != nil || who.ObjectID != u.ID || r.text("refresh_token") == "" {
		t.Fatalf("%s %v", r, err)
	}
	if r := on.ask(t, form("wrong password")); r.code() != 50126 {
		t.Errorf("%s", r)
	}
	for _, path := range []string{"/common/userrealm/", "/common/UserRealm/"} {
		for _, name := range []string{"ann@hawser.localhost", "nobody@x.example"} {
			r := on.do(t, "GET", loginHost, path+name+"?api-version=1.0", "")
			if r.text("account_type") != "Managed" || r.text("domain_name") == "" || r.text("cloud_audience_urn") == "" || r.text("cloud_instance_name") == "" {
				t.Errorf("%s%s: %s", path, name, r)
			}
		}
	}
}

func TestLogout(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", func(o *directory.Object) { web(o); o.LogoutURL = "https://app.example/bye?x=1" })
	p.grantFor(t, c, u.ID, directory.AppGraph, "User.Read")
	b := p.browser(t)
	in := func() (idToken, refresh, native string) {
		r := p.redeem(t, c.AppID, appCB, p.codeFor(t, b, u.UPN, p.authorizeURL(c.AppID, appCB, "User.Read openid offline_access")), "client_secret", c.secret)
		n := p.redeem(t, cli, loopback, p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid offline_access")))
		return r.text("id_token"), r.text("refresh_token"), n.text("refresh_token")
	}
	out := func(pairs ...string) string {
		return "/" + p.names.Tenant + "/oauth2/v2.0/logout?" + with(url.Values{}, pairs...).Encode()
	}
	signedIn := func() bool {
		return b.get(t, p.authorizeURL(cli, loopback, "openid", "prompt", "none")).param("code") != ""
	}
	hint, refresh, native := in()
	// A link of anybody's asks first.
	v := b.get(t, out("client_id", c.AppID, "post_logout_redirect_uri", appCB, "state", "s"))
	if !v.has("leave") || !signedIn() {
		t.Fatalf("%s", v.body)
	}
	b.submit(t, v, "leave", "answer", "decline")
	action, f := v.form(t, "leave")
	f.Set("answer", "accept")
	b.post(t, action, f, "https://evil.example", "cross-site")
	if !signedIn() {
		t.Fatal("another site signed the person out")
	}
	sid := claimsOf(t, hint)["sid"].(string)
	v = b.submit(t, v, "leave", "answer", "accept")
	if signedIn() || !strings.Contains(v.body, "sid="+sid) || !strings.Contains(v.body, "https://app.example/bye?") || !strings.Contains(v.body, appCB+"?state=s") {
		t.Errorf("%s", v.body)
	}
	if r := p.refresh(t, c.AppID, refresh, "", "client_secret", c.secret); r.code() != 50173 {
		t.Errorf("a web client's refresh token outlived the session: %s", r)
	}
	if r := p.refresh(t, cli, native, ""); r.status != 200 {
		t.Errorf("the command line was signed out with the browser: %s", r)
	}
	// The person's own token needs no question, and leads only to registered addresses.
	hint, _, _ = in()
	v = b.get(t, out("id_token_hint", hint, "post_logout_redirect_uri", "https://evil.example/"))
	if signedIn() || v.left || strings.Contains(v.body, "evil") {
		t.Errorf("%s %s", v.url, v.body)
	}
	hint, _, _ = in()
	q := onSQLite(t)
	mallory := q.person(t, "m@hawser.localhost")
	_ = mallory
	if v = b.get(t, out("id_token_hint", hint[:len(hint)-6]+"AAAAAA")); !v.has("leave") || !signedIn() {
		t.Errorf("a forged hint: %s", v.body)
	}
}

// A code redeemed by fifty at once on two planes is redeemed once.
func TestOneOfManyRedeems(t *testing.T) {
	sta, stb := storetest.Pair(t)
	sh := newShared(t)
	pa, pb := newPlane(t, sta, sh), newPlane(t, stb, sh)
	u := pa.person(t, "ann@hawser.localhost")
	b := pa.browser(t)
	to := pa.authorizeURL(cli, loopback, "https://vault.azure.net/.default openid offline_access")
	race := func(fn func(p *plane) reply) (good []reply, codes map[int]int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		codes = map[int]int{}
		start := make(chan struct{})
		for i := range 50 {
			p := []*plane{pa, pb}[i%2]
			wg.Go(func() {
				<-start
				r := fn(p)
				mu.Lock()
				defer mu.Unlock()
				if codes[r.code()]++; r.status == 200 {
					good = append(good, r)
				}
			})
		}
		close(start)
		wg.Wait()
		return good, codes
	}
	code := pa.codeFor(t, b, u.UPN, to)
	good, codes := race(func(p *plane) reply { return p.redeem(t, cli, loopback, code) })
	if len(good) != 1 || codes[54005] != 49 {
		t.Fatalf("%d of 50 redeemed: %v", len(good), codes)
	}
	if r := pb.refresh(t, cli, good[0].text("refresh_token"), ""); r.code() != 50173 {
		t.Errorf("what the code gave outlived its second use: %s", r)
	}
	token := pa.redeem(t, cli, loopback, pa.codeFor(t, b, u.UPN, to)).text("refresh_token")
	good, codes = race(func(p *plane) reply { return p.refresh(t, cli, token, "") })
	next := map[string]bool{}
	for _, r := range good {
		next[r.text("refresh_token")] = true
	}
	if len(good) != 50 || len(next) != 1 {
		t.Errorf("%d good, %d lines: %v", len(good), len(next), codes)
	}
	// A password changed on one plane ends tokens on the other.
	r := pa.redeem(t, cli, loopback, pa.codeFor(t, b, u.UPN, to))
	if _, err := pb.Verify(context.Background(), r.text("access_token"), rest.Vault); err != nil {
		t.Fatal(err)
	}
	pa.write(t, func(tx *store.Tx) error { return pa.dir.SetPassword(tx, u.ID, passwordHash()) })
	if _, err := pb.Verify(context.Background(), r.text("access_token"), rest.Vault); !az.Is(err, az.Unauthorized) {
		t.Errorf("%v", err)
	}
	dev := pa.beginDeviceCode(t)
	key := pa.keyOf("device", dev.text("device_code"))
	v := b.signIn(t, b.submit(t, b.get(t, "/device"), "device", "user_code", dev.text("user_code")), u.UPN)
	b.submit(t, v, "device", "answer", "accept")
	good, codes = race(func(p *plane) reply { return p.ask(t, deviceForm(dev.text("device_code"))) })
	if len(good) != 1 {
		t.Errorf("a device was let in %d times: %v (%s)", len(good), codes, key)
	}
}

func TestSweep(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		p := newPlane(t, st, newShared(t))
		u := p.person(t, "ann@hawser.localhost")
		r := p.redeem(t, cli, loopback, p.codeFor(t, p.browser(t), u.UPN, p.authorizeURL(cli, loopback, "openid offline_access")))
		id, _, ok := p.readRefresh(r.text("refresh_token"))
		if !ok {
			t.Fatal(r)
		}
		there := func() bool {
			_, ok, err := st.TokenFamily(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if err := p.sweepOnce(context.Background()); err != nil || !there() {
			t.Fatal(err)
		}
		p.clock.advance(refreshLife + keepEnded + time.Minute)
		if err := p.sweepOnce(context.Background()); err != nil || there() {
			t.Errorf("what ended is still there (%v)", err)
		}
	})
}
