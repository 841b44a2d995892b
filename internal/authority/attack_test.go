package authority

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// What a stranger writes into the path of a form is not an address to go to.

func TestStrangersPathsLeadNowhere(t *testing.T) {
	p := onSQLite(t)
	b := p.browser(t)
	for _, word := range []string{`%5Cevil.example`, `%09%2Fevil.example`, `%2Fevil.example`, `%5C%5Cevil.example`, `x%0d%0aSet-Cookie:a=b`, `evil.example%2F..`, `nobody.example`} {
		for _, rest := range []string{"/oauth2/v2.0/authorize", "/oauth2/authorize", "/oauth2/v2.0/logout"} {
			req, err := http.NewRequest("POST", loginOrigin+"/"+word+rest, strings.NewReader("client_id=x&state=y"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			res, err := b.c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if to := res.Header.Get("Location"); res.StatusCode/100 != 4 || to != "" || res.Header.Get("Refresh") != "" {
				t.Errorf("%s%s: %d to %q", word, rest, res.StatusCode, to)
			}
		}
	}
	// A real one goes to itself, with GET.
	v := b.post(t, "/"+p.names.Tenant+"/oauth2/v2.0/authorize", url.Values{"client_id": {cli}, "redirect_uri": {loopback}, "prompt": {"none"}, "response_type": {"code"},
		"scope": {"openid"}, "code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"}}, "https://app.example", "cross-site")
	if v.param("error") != "login_required" {
		t.Errorf("%s", v.url)
	}
}

// clerk is somebody who may consent, and nothing else.

func (p *plane) clerk(t testing.TB, oid string) {
	t.Helper()
	role := az.MustParseID("/subscriptions/" + p.names.Subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + az.NewGUID())
	p.write(t, func(tx *store.Tx) error {
		err := tx.PutResource(store.Resource{ID: role, ETag: "1", Body: []byte(`{"properties":{"roleName":"Clerk","permissions":[{"actions":["Hawser.Directory/*"]}]}}`)}, "")
		if err != nil {
			return err
		}
		return tx.PutResource(store.Resource{ID: az.Root.Child("providers", "Microsoft.Authorization", "roleAssignments", az.NewGUID()), ETag: "1",
			Body: []byte(`{"properties":{"roleDefinitionId":"` + role.String() + `","principalId":"` + oid + `"}}`)}, "")
	})
	for a, want := range map[guard.Action]bool{actionConsent: true, actionAssign: false} {
		if d, err := p.guard.Explain(context.Background(), oid, a, az.Root); err != nil || d.Allowed != want {
			t.Fatalf("%s: %v %v", a.Name, d.Allowed, err)
		}
	}
}

// Whoever has a client of his own and may consent for everybody would have all

// that anybody may, if the platform's scopes were among it.

func TestConsentToThePlatformNeedsTheRightToHandOutRights(t *testing.T) {
	p := onSQLite(t)
	clerk, ann, boss := p.person(t, "clerk@hawser.localhost"), p.person(t, "ann@hawser.localhost"), p.person(t, "boss@hawser.localhost")
	p.clerk(t, clerk.ID)
	p.owner(t, boss.ID)
	p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Admin", "Admin"))
	const userReadAll = "a154be20-db9c-4678-8ab7-66f6cc099a59"
	c := p.register(t, "web", func(o *directory.Object) {
		web(o)
		o.Required = []directory.RequiredAccess{{Resource: directory.AppGraph, Access: []directory.RequiredRole{{ID: userReadAll, Type: "Scope"}}}}
	})
	grants := func(user string) (out []string) {
		t.Helper()
		list, err := p.dir.Grants(context.Background(), c.Principal.ID, user)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			out = append(out, g.Scopes...)
		}
		return out
	}
	b := p.browser(t)
	ask := func(b *browser, upn, scope string) view {
		return b.signIn(t, b.get(t, p.authorizeURL(c.AppID, appCB, scope)), upn)
	}
	// Its own interface: the clerk may, for himself and for everybody.
	v := ask(b, clerk.UPN, "api://orders/Orders.Admin")
	if !v.has("consent") || !strings.Contains(v.body, `name="admin"`) {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	// The platform's, for himself: like anybody, what people may consent to.
	v = ask(b, clerk.UPN, "https://management.azure.com/user_impersonation")
	if !v.has("consent") || strings.Contains(v.body, `name="admin"`) {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	// For everybody: not by a field that the page did not have.
	if v := b.submit(t, v, "consent", "answer", "accept", "admin", "1"); v.left || v.status != 403 || len(grants("")) != 0 {
		t.Errorf("%d %s %v", v.status, v.url, grants(""))
	}
	if v := b.submit(t, v, "consent", "answer", "accept"); v.param("code") == "" || len(grants("")) != 0 || !slices.Contains(grants(clerk.ID), "user_impersonation") {
		t.Errorf("for himself: %s %v", v.url, grants(clerk.ID))
	}
	// An administrators' scope of the platform: not for himself either.
	if v := ask(b, clerk.UPN, "User.Read.All"); !strings.Contains(v.param("error_description"), "AADSTS90094") {
		t.Errorf("%s\n%s", v.url, v.body)
	}
	to := "/" + p.names.Tenant + "/adminconsent?" + url.Values{"client_id": {c.AppID}, "redirect_uri": {appCB}}.Encode()
	v = b.get(t, to)
	if v.has("signin-pick") {
		v = b.submit(t, v, "signin-pick", "account", clerk.ID)
	}
	if !strings.Contains(v.param("error_description"), "AADSTS90093") || len(grants("")) != 0 {
		t.Errorf("%s\n%s", v.url, v.body)
	}
	// Who may hand out rights may.
	o := p.browser(t)
	v = o.submit(t, o.signIn(t, o.get(t, to), boss.UPN), "consent", "answer", "accept")
	if v.param("admin_consent") != "True" || !slices.Contains(grants(ann.ID), "User.Read.All") {
		t.Errorf("%s\n%s", v.url, v.body)
	}
}

// What stands on the page is judged by what it is when it is accepted, for the

// person who saw it.

func TestConsentBetweenPageAndAnswer(t *testing.T) {
	p := onSQLite(t)
	ann, eve := p.person(t, "ann@hawser.localhost"), p.person(t, "eve@hawser.localhost")
	read := scope(scopeID, "Orders.Read", "User")
	api := p.api(t, "orders", 2, nil, read)
	c := p.register(t, "web", web)
	offer := func(s ...directory.Scope) {
		p.write(t, func(tx *store.Tx) error {
			o := *api.Application
			o.Scopes = s
			return p.dir.Update(tx, &o)
		})
	}
	none := func(what string, v view) {
		t.Helper()
		list, err := p.dir.Grants(context.Background(), c.Principal.ID, ann.ID)
		more, err2 := p.dir.Grants(context.Background(), c.Principal.ID, eve.ID)
		if v.left || v.status/100 != 4 || err != nil || err2 != nil || len(list)+len(more) != 0 {
			t.Errorf("%s: %d %s %v %v", what, v.status, v.url, list, more)
		}
	}
	to := p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read")
	b := p.browser(t)
	v := b.signIn(t, b.get(t, to), ann.UPN)
	admin := read
	admin.Type = "Admin"
	offer(admin)
	none("made an administrators' scope", b.submit(t, v, "consent", "answer", "accept"))
	off := read
	off.Enabled = false
	offer(off)
	none("switched off", b.submit(t, v, "consent", "answer", "accept"))
	other := scope("21111111-2222-3333-4444-555555555555", "Orders.Write", "User")
	offer(other)
	none("taken away", b.submit(t, v, "consent", "answer", "accept"))
	offer(read)
	// Ann's page, after Ann signed out and Eve in.
	leave := b.get(t, "/"+p.names.Tenant+"/oauth2/v2.0/logout")
	b.submit(t, leave, "leave", "answer", "accept")
	eves := b.signIn(t, b.get(t, to), eve.UPN)
	none("somebody else at the keyboard", b.submit(t, v, "consent", "answer", "accept"))
	if got := b.submit(t, eves, "consent", "answer", "accept"); got.param("code") == "" {
		t.Errorf("her own page: %s\n%s", got.url, got.body)
	}
	if list, err := p.dir.Grants(context.Background(), c.Principal.ID, ann.ID); err != nil || len(list) != 0 {
		t.Errorf("Ann consented by Eve's hand: %v %v", list, err)
	}
}

// A refresh token gives nothing that would not be given to somebody who signs

// in now.

// The platform's resources are nobody's clients.

// A redirect URI that is taken away takes the codes with it that were sent there.

// What ends with a session is not begun after it.

// An application that says it is a platform's resource is not.

func TestNoAudienceOfThePlatformIsAnApplications(t *testing.T) {
	p := onSQLite(t)
	app := *p.app
	app.IdentifierURIs = []string{"https://graph.microsoft.com", "https://graph.hawser.localhost:8443", "https://VAULT.azure.net/", "api://mine"}
	g := &grant{Client: &directory.Client{AppID: p.appID, Application: &app, Principal: p.admin}}
	for aud, want := range map[string]bool{"https://graph.microsoft.com": false, "https://graph.microsoft.com/": false, "https://graph.hawser.localhost:8443": false, "https://vault.azure.net": false,
		"api://mine": true, "API://mine/": true, p.appID: true, "api://" + p.appID: true, "api://other": false, "": false} {
		if got := p.isOwnAudience(g, aud); got != want {
			t.Errorf("%q: %v", aud, got)
		}
	}
}

// On behalf of a person nothing of how they signed in is lost or gained.

func TestBehalfKeepsHowThePersonSignedIn(t *testing.T) {
	c := newChain(t, onSQLite(t))
	r := c.userToken(t, c.browser(t), "api://first/Use")
	ctx := context.Background()
	was := claimsOf(t, r.text("access_token"))
	outside := grant{Client: c.client.Client, Principal: c.client.Principal, Proof: bySecret, Life: time.Hour, Person: c.user, Scopes: []string{"Use"},
		By: signed{User: c.user.ID, At: az.MicrosOf(c.clock.now()), AMR: []string{"fed", "mfa"}, Provider: "https://corp.example"}}
	var err error
	if outside.Target, err = c.target(ctx, "api://first"); err != nil {
		t.Fatal(err)
	}
	tok, err := c.issue(ctx, outside)
	if err != nil {
		t.Fatal(err)
	}
	got := claimsOf(t, c.ask(t, behalfForm(c.first, tok.text, "api://next/Use")).text("access_token"))
	if got["idp"] != "https://corp.example" || len(got["amr"].([]any)) != 2 {
		t.Errorf("idp %v amr %v", got["idp"], got["amr"])
	}
	plain := claimsOf(t, c.ask(t, behalfForm(c.first, r.text("access_token"), "api://next/Use")).text("access_token"))
	if plain["idp"] != was["idp"] || len(plain["amr"].([]any)) != 1 {
		t.Errorf("idp %v amr %v", plain["idp"], plain["amr"])
	}
	// Roles and groups are the second resource's own, not the first token's.
	if plain["roles"] != nil || plain["groups"] != nil {
		t.Errorf("%v %v", plain["roles"], plain["groups"])
	}
}

// A resource of the platform that an administrator switched off gives no tokens.

// Signing out somebody who is not signed in here signs out who is, or nobody

// and says nothing of it.

// No parameter makes an old sign-in a new one.

func TestMaxAgeIsNotEscaped(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid"))
	p.clock.advance(5 * time.Minute)
	for _, more := range [][]string{{}, {"sid", az.NewGUID()}, {"login_hint", u.UPN}, {"login_hint", u.ID}, {"sid", az.NewGUID(), "login_hint", u.UPN}, {"domain_hint", "x"}} {
		if v := b.get(t, p.authorizeURL(cli, loopback, "openid", append(more, "max_age", "60")...)); v.left {
			t.Errorf("%v: %s", more, v.url)
		}
	}
	q, err := parseAuthorize("/x", "client_id=x&max_age=60&claims="+url.QueryEscape(mfaClaims))
	if err != nil {
		t.Fatal(err)
	}
	at := func(ago time.Duration, amr ...string) signed {
		return signed{At: az.MicrosOf(p.clock.now().Add(-ago)), AMR: amr}
	}
	w := &visit{a: p.Authority, q: q}
	for _, x := range []struct {
		by   signed
		mfa  bool
		good bool
	}{{at(0, "pwd", "mfa"), true, true}, {at(0, "pwd"), true, false}, {at(0, "pwd"), false, true}, {at(freshFor+2*time.Minute, "pwd", "mfa"), true, false}} {
		if err := w.satisfies(x.by, x.mfa); (err == nil) != x.good {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

// Who signed in once more, in a weaker way, while the page of consent lay open

// does not get what the stronger sign-in was asked for.

func TestConsentDoesNotCarryAStrongerSignIn(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"))
	c := p.register(t, "web", web)
	b := p.browser(t)
	p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid"))
	strength := func(amr string) {
		rows, err := p.st.SignInSessionsOf(context.Background(), u.ID)
		if err != nil || len(rows) != 1 {
			t.Fatal(len(rows), err)
		}
		row := rows[0]
		row.Body = []byte(`{"amr":[` + amr + `]}`)
		p.write(t, func(tx *store.Tx) error {
			if _, err := tx.EndSignInSession(u.ID, row.ID); err != nil {
				return err
			}
			return tx.AddSignInSession(row)
		})
	}
	strength(`"pwd","mfa"`)
	v := b.get(t, p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read", "amr_values", "mfa"))
	if !v.has("consent") {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	strength(`"pwd"`)
	if got := b.submit(t, v, "consent", "answer", "accept"); got.param("error") != "interaction_required" || got.param("code") != "" {
		t.Errorf("%s\n%s", got.url, got.body)
	}
}

// Who cannot show the client's secret can neither burn its code nor end what

// came of it.

// Nothing that opens a door is in a log or the audit, whatever went wrong.

// lockedBuffer is a log in memory.

// What is far larger than any real request is refused before it is looked at.
