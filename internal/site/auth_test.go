package site

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

const (
	authV2   = app1 + "/config/authsettingsV2"
	authV1   = app1 + "/config/authsettings"
	clientID = "11111111-2222-4333-8444-555555555555"
)

// withFront takes every setting but those with the word refuse-me.
func withFront(c *Config) {
	c.CheckAuth = func(raw []byte) error {
		if strings.Contains(string(raw), "refuse-me") {
			return az.Errorf(az.Invalid, "BadRequest", "No.")
		}
		return nil
	}
	c.Announce = func(context.Context, az.ID, []byte) error { return nil }
}

func TestAuthSettings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st, withFront)
		r.create(systemIdentity, map[string]string{"A": "1"})
		if out := r.must(reader, "GET", authV2, ""); text(out, "properties", "globalValidation", "unauthenticatedClientAction") != "AllowAnonymous" || text(out, "name") != "authsettingsV2" {
			t.Errorf("an app without settings shows %v", out)
		}
		body := `{"properties":{"platform":{"enabled":true},"future":{"x":[1,2.50]},"identityProviders":{"azureActiveDirectory":{"registration":{"clientId":"` + clientID +
			`","clientSecretSettingName":"S"},"login":{"loginParameters":["scope=openid"]}},"apple":{"clientSecret":"oops"}}}}`
		out := r.must(webmaster, "PUT", authV2, body)
		if at(out, "properties", "future", "x") == nil {
			t.Errorf("an unknown member is lost: %v", out)
		}
		shown := r.must(reader, "GET", authV2, "")
		if text(shown, "properties", "identityProviders", "azureActiveDirectory", "registration", "clientSecretSettingName") != "S" ||
			at(shown, "properties", "identityProviders", "apple", "clientSecret") != nil {
			t.Errorf("GET shows %v", shown)
		}
		for _, how := range []string{"POST", "GET"} {
			full := r.must(webmaster, how, authV2+"/list", "")
			if text(full, "properties", "identityProviders", "apple", "clientSecret") != "oops" {
				t.Errorf("%s list shows %v", how, full)
			}
			r.refused(reader, how, authV2+"/list", "", 403, "AuthorizationFailed")
		}
		r.refused(reader, "PUT", authV2, body, 403, "AuthorizationFailed")
		r.refused(stranger, "GET", authV2, "", 403, "AuthorizationFailed")
		r.refused(owner, "PUT", authV2, `{"properties":{"x":"refuse-me"}}`, 400, "BadRequest")
		r.refused(owner, "PUT", authV2, `{"properties":[]}`, 400, "")
		env := r.environment(owner, "", 0)
		for name, want := range map[string]string{"WEBSITE_AUTH_ENABLED": "True", "WEBSITE_AUTH_CLIENT_ID": clientID, "WEBSITE_AUTH_DEFAULT_PROVIDER": "AzureActiveDirectory",
			"WEBSITE_AUTH_AUTO_AAD": "False", "WEBSITE_AUTH_OPENID_ISSUER": r.cfg.Names.Origin(az.SurfaceLogin) + "/" + r.cfg.Names.Tenant + "/v2.0"} {
			if got := env.value(name); got != want {
				t.Errorf("the app is told %s=%q, want %q", name, got, want)
			}
		}
		if v, err := r.Front(context.Background(), "APP1"); err != nil || v == nil || !strings.Contains(string(v.Auth), clientID) {
			t.Errorf("the front sees %v, %v", v, err)
		}
	})
}

// az webapp auth update reads the whole, changes a member, and writes it back.
func TestAuthSettingsV1AreTheSame(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), withFront)
	r.create(systemIdentity, map[string]string{"A": "1"})
	r.must(owner, "PUT", authV2, `{"properties":{"httpSettings":{"requireHttps":false}}}`)
	r.must(webmaster, "PUT", authV1, `{"properties":{"enabled":true,"unauthenticatedClientAction":"RedirectToLoginPage","defaultProvider":"AzureActiveDirectory","clientId":"`+clientID+
		`","clientSecret":"hush","issuer":"https://sts.windows.net/t/","allowedAudiences":["api://a"],"tokenStoreEnabled":true,"aadClaimsAuthorization":"{\"allowed_groups\":[\"g\"]}",
		"googleClientId":null,"facebookOAuthScopes":[],"configVersion":"v1"}}`)
	v2 := r.must(webmaster, "POST", authV2+"/list", "")
	const aad = "azureActiveDirectory"
	if at(v2, "properties", "platform", "enabled") != true || at(v2, "properties", "globalValidation", "requireAuthentication") != true ||
		text(v2, "properties", "globalValidation", "redirectToProvider") != "azureactivedirectory" || text(v2, "properties", "identityProviders", aad, "registration", "clientId") != clientID ||
		text(v2, "properties", "identityProviders", aad, "registration", "clientSecretSettingName") != providerSecret || at(v2, "properties", "httpSettings", "requireHttps") != false ||
		at(v2, "properties", "identityProviders", aad, "validation", "jwtClaimChecks", "allowedGroups") == nil {
		t.Errorf("v2 says %v", v2)
	}
	if b, _ := json.Marshal(v2); strings.Contains(string(b), "hush") {
		t.Error("the secret stands in the settings")
	}
	if s, err := r.Setting(context.Background(), az.MustParseID(app1), providerSecret); err != nil || s.Reveal() != "hush" {
		t.Errorf("the secret is %v", err)
	}
	v1 := r.must(webmaster, "POST", authV1+"/list", "")
	again, _ := json.Marshal(map[string]any{"properties": at(v1, "properties")})
	r.must(webmaster, "PUT", authV1, string(again))
	if after := r.must(webmaster, "POST", authV2+"/list", ""); text(after, "properties", "identityProviders", aad, "registration", "clientSecretSettingName") != providerSecret {
		t.Errorf("writing back what was read changed %v", after)
	}
	r.refused(owner, "PUT", authV1, `{"properties":{"enabled":true,"googleClientId":"g"}}`, 400, "BadRequest")
	r.refused(owner, "PUT", authV1, `{"properties":{"enabled":true,"defaultProvider":"Google"}}`, 400, "BadRequest")
	r.refused(reader, "POST", authV1+"/list", "", 403, "AuthorizationFailed")
}

func TestEnableAuth(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), withFront)
	r.create(systemIdentity, map[string]string{"A": "1"})
	r.refused(reader, "POST", app1+"/enableAuth", `{}`, 403, "AuthorizationFailed")
	r.refused(webmaster, "POST", app1+"/enableAuth", `{}`, 403, "AuthorizationFailed") // no right in the directory
	r.refused(owner, "POST", app1+"/enableAuth", `{}`, 403, "AuthorizationFailed")     // of a subscription only
	r.grant("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", owner, "")
	r.refused(owner, "POST", app1+"/enableAuth", `{"action":"302"}`, 400, "BadRequest")
	out := r.must(owner, "POST", app1+"/enableAuth", `{"action":"401","scope":"openid api://{clientId}/user_impersonation"}`)
	client := text(out, "clientId")
	ctx := context.Background()
	c, ok, err := r.dir.Client(ctx, client)
	if err != nil || !ok || c.Principal == nil || c.Application.TokenVersion != 2 || len(c.Application.WebURIs) != 2 ||
		c.Application.WebURIs[0] != "https://app1.sites.hawser.test:8443/.auth/login/aad/callback" || c.Application.IdentifierURIs[0] != "api://"+client {
		t.Fatalf("registration %+v", c)
	}
	secret, err := r.Setting(ctx, az.MustParseID(app1), providerSecret)
	if err != nil || r.dir.MatchSecret(c, secret.Reveal()) != directory.SecretRight {
		t.Fatal("the app's settings have no secret of its registration")
	}
	v2 := r.must(owner, "GET", authV2, "")
	if text(v2, "properties", "globalValidation", "unauthenticatedClientAction") != "Return401" || at(v2, "properties", "login", "tokenStore", "enabled") != true {
		t.Errorf("%v", v2)
	}
	if env := r.environment(owner, "", 0); env.value("WEBSITE_AUTH_ENABLED") != "True" || env.value("A") != "1" || env.value("WEBSITE_AUTH_CLIENT_ID") != client {
		t.Error("the app's environment")
	}
	// Again: nothing is made twice, and nobody needs a right in the directory.
	again := r.must(webmaster, "POST", app1+"/enableAuth", `{}`)
	if text(again, "clientId") != client || at(again, "created") != false {
		t.Errorf("again: %v", again)
	}
	if c, _, _ := r.dir.Client(ctx, client); len(c.Credentials) != 1 || len(c.Application.WebURIs) != 2 || len(c.Application.Scopes) != 1 {
		t.Errorf("made twice: %+v", c)
	}
	if v := r.must(owner, "GET", authV2, ""); text(v, "properties", "globalValidation", "unauthenticatedClientAction") != "Return401" {
		t.Error("what was chosen is lost")
	}
	// A secret that does not hold any more is replaced.
	r.settings(map[string]string{"A": "1", providerSecret: "stale"})
	r.must(owner, "POST", app1+"/enableAuth", `{}`)
	secret, _ = r.Setting(ctx, az.MustParseID(app1), providerSecret)
	if c, _, _ := r.dir.Client(ctx, client); r.dir.MatchSecret(c, secret.Reveal()) != directory.SecretRight {
		t.Error("the stale secret stays")
	}
}

// A contributor of an app writes somebody else's registration into its settings
// and waits for an administrator to run hawser run --auth.
func TestEnableAuthTakesNoStrangeRegistration(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), withFront)
	r.create(systemIdentity, map[string]string{"A": "1"})
	r.grant(guard.RoleOwner, owner, "")
	for uri, ok := range map[string]bool{"https://victim.sites.hawser.test:8443/.auth/login/aad/callback": false, "https://app1.sites.hawser.test.evil.example/": false,
		"https://app1.example.com/.auth/login/aad/callback": false, "https://app1.sites.hawser.test/.auth/login/aad/callback": true} {
		victim := az.NewGUID()
		r.write(func(tx *store.Tx) error {
			o := directory.Object{AppID: victim, Name: "victim", Facts: directory.Facts{SignInAudience: "AzureADMyOrg"}}
			o.WebURIs = []string{uri}
			_, err := r.dir.AddApplication(tx, o)
			return err
		})
		r.must(webmaster, "PUT", authV2, `{"properties":{"platform":{"enabled":true},"identityProviders":{"azureActiveDirectory":{"registration":{"clientId":"`+victim+`"}}}}}`)
		if ok {
			r.must(owner, "POST", app1+"/enableAuth", `{}`)
			c, _, err := r.dir.Client(context.Background(), victim)
			if err != nil || len(c.Credentials) != 1 || len(c.Application.WebURIs) != 2 || !strings.HasSuffix(c.Application.WebURIs[0], ":8443/.auth/login/aad/callback") {
				t.Errorf("the app's own registration was not brought to what is needed: %+v, %v", c.Application, err)
			}
			continue
		}
		r.refused(owner, "POST", app1+"/enableAuth", `{}`, 409, "RegistrationOfAnother")
		c, _, err := r.dir.Client(context.Background(), victim)
		if err != nil || len(c.Credentials) != 0 || len(c.Application.WebURIs) != 1 {
			t.Errorf("%s: the registration was changed: %+v, %v", uri, c, err)
		}
	}
}

func TestSettingReadsReferencesAsTheApp(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), withFront)
	out := r.create(systemIdentity, map[string]string{"S": "@Microsoft.KeyVault(VaultName=kv1;SecretName=s)"})
	r.secret("s", "from the vault")
	id := az.MustParseID(app1)
	if _, err := r.Setting(context.Background(), id, "S"); err == nil {
		t.Error("read without a right of the app")
	}
	r.grant("4633458b-17de-408a-b874-0445c86b69e6", text(out, "identity", "principalId"), vaultID)
	if s, err := r.Setting(context.Background(), id, "S"); err != nil || s.Reveal() != "from the vault" {
		t.Errorf("%v", err)
	}
	if s, err := r.Setting(context.Background(), id, "none"); err != nil || !s.IsZero() {
		t.Errorf("%v", err)
	}
}

func TestUpstreamNeedsTheSitesRight(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), withFront)
	r.create(systemIdentity, nil)
	for _, who := range []string{owner, contributor, webmaster} {
		if out := r.must(who, "POST", app1+"/upstream", `{"id":"x"}`); text(out, "url") != "https://app1.sites.hawser.test:8443" {
			t.Errorf("%v", out)
		}
	}
	r.refused(reader, "POST", app1+"/upstream", `{"id":"x"}`, 403, "AuthorizationFailed")
	r.refused(stranger, "POST", app1+"/upstream", `{"id":"x"}`, 403, "AuthorizationFailed")
}
