package easyauth

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

var testNames = az.Names{Domain: "hawser.test", Port: "8443", Tenant: tenant}

func TestSettings(t *testing.T) {
	aad := func(path, value string) func(map[string]any) {
		return func(m map[string]any) {
			var v any
			if err := json.Unmarshal([]byte(value), &v); err != nil {
				panic(path + value)
			}
			p := strings.Split(path, ".")
			at(m, p[:len(p)-1]...)[p[len(p)-1]] = v
		}
	}
	const a = "identityProviders.azureActiveDirectory."
	for _, c := range []struct {
		path, value string
		problem     string // a part of the sentence; "" for none
	}{
		{"platform.runtimeVersion", `"~1"`, ""},
		{"somethingNew.deep", `{"x":1}`, ""},
		{a + "registration.openIdIssuer", `"https://login.microsoftonline.com/` + tenant + `/v2.0"`, ""},
		{a + "registration.openIdIssuer", `"https://sts.windows.net/` + tenant + `/"`, ""},
		{a + "registration.openIdIssuer", `"https://login.hawser.test:8443/` + tenant + `/v2.0"`, ""},
		{a + "registration.openIdIssuer", `"https://login.microsoftonline.com/common/v2.0"`, "must be this plane's"},
		{a + "registration.openIdIssuer", `"https://evil.example/` + tenant + `/v2.0"`, "must be this plane's"},
		{a + "registration.clientId", `"my-app"`, "GUID"},
		{a + "registration.clientId", `""`, "nobody could come in"},
		{a + "registration.clientSecretCertificateThumbprint", `"AA"`, "clientSecretSettingName"},
		{a + "login.loginParameters", `["redirect_uri=https://evil.example"]`, "redirect_uri"},
		{a + "login.loginParameters", `["State=x"]`, "state"},
		{a + "login.loginParameters", `["response_type=code id_token","resource=https://database.windows.net/"]`, ""},
		{a + "login.loginParameters", `["response_type=token"]`, "response_type"},
		{a + "login.loginParameters", `["scope"]`, "name=value"},
		{a + "validation.jwtClaimChecks.allowedGroups", `["Sales"]`, "GUIDs"},
		{a + "validation.allowedAudiences", `["api://x"]`, ""},
		{"identityProviders.google.registration.clientId", `"g"`, "not served here"},
		{"identityProviders.google", `{"enabled":false,"registration":{"clientId":"g"}}`, ""},
		{"identityProviders.facebook", `{"enabled":true,"registration":{}}`, ""},
		{"identityProviders.customOpenIdConnectProviders", `{"x":{"registration":{"clientId":"c"}}}`, "not served here"},
		{"globalValidation.unauthenticatedClientAction", `"Return402"`, "must be"},
		{"globalValidation.unauthenticatedClientAction", `"AllowAnonymous"`, "lets everybody in"},
		{"globalValidation.unauthenticatedClientAction", `"return401"`, ""},
		{"globalValidation.redirectToProvider", `"google"`, "azureactivedirectory"},
		{"globalValidation.excludedPaths", `["/a/*","/b"]`, ""},
		{"globalValidation.excludedPaths", `["a"]`, "must begin with"},
		{"globalValidation.excludedPaths", `["/a/../b"]`, "must begin with"},
		{"globalValidation.excludedPaths", `["/a*/b"]`, "must begin with"},
		{"globalValidation.excludedPaths", `"/a"`, "shape"},
		{"login.tokenStore.fileSystem.directory", `"/home"`, "sealed store"},
		{"login.tokenStore.tokenRefreshExtensionHours", `-1`, "0 to"},
		{"login.tokenStore.tokenRefreshExtensionHours", `12.5`, ""},
		{"login.cookieExpiration.timeToExpiration", `"1.02:03:04"`, ""},
		{"login.cookieExpiration.timeToExpiration", `"eight"`, "08:00:00"},
		{"login.cookieExpiration.timeToExpiration", `"99.00:00:00"`, "between"},
		{"login.cookieExpiration.convention", `"Never"`, "FixedTime"},
		{"login.routes.logoutEndpoint", `"//evil.example"`, "path"},
		{"login.allowedExternalRedirectUrls", `["javascript:alert(1)"]`, "absolute"},
		{"httpSettings.routes.apiPrefix", `"/sign-in/here"`, ""},
		{"httpSettings.routes.apiPrefix", `"/"`, "apiPrefix"},
		{"httpSettings.routes.apiPrefix", `"/a/../b"`, "apiPrefix"},
		{"httpSettings.forwardProxy", `{"convention":"Custom","customHostHeaderName":"X-Host"}`, ""},
		{"httpSettings.forwardProxy", `{"convention":"Custom","customHostHeaderName":"X Host"}`, "names of headers"},
		{"platform.configFilePath", `"auth.json"`, "cannot read"},
	} {
		err := Check(testNames, []byte(on(aad(c.path, c.value))))
		if (c.problem == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s = %s: %v, want %q", c.path, c.value, err, c.problem)
		}
	}
	for _, raw := range []string{`[]`, `{"platform":1}`, `{`, `{"identityProviders":{"azureActiveDirectory":[]}}`, strings.Repeat(" ", maxSettings+1)} {
		if Check(testNames, []byte(raw)) == nil {
			t.Errorf("%.40s was taken", raw)
		}
	}
	if err := Check(testNames, nil); err != nil {
		t.Error(err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(on(nil)))
	f.Add([]byte(`{"identityProviders":{"google":{"registration":{"clientId":"x"}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(testNames, b)
		if err == nil && s.Enabled && s.Action != Anonymous && !s.AAD {
			t.Error("authentication is on and nobody is asked")
		}
	})
}

// What is taken for a path of the app is one for a browser, too.
func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "/\t/x", "/%2f/x", "/a?b#c"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://app1.sites.hawser.test/.auth/login/done")
	f.Fuzz(func(t *testing.T, s string) {
		if !localPath(s) {
			return
		}
		// As browsers read an address (WHATWG URL): tabs and line ends are
		// dropped, spaces around it cut, backslashes are slashes.
		b := strings.Trim(strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(s), " ")
		u, err := base.Parse(b)
		if err != nil || u.Host != base.Host || u.Scheme != "https" {
			t.Errorf("%q leads to %v", s, u)
		}
	})
}

// However a reserved name is disguised, a server that folds it the way CGI
// does finds no header of ours from outside.
func FuzzReservedHeaders(f *testing.F) {
	f.Add("X_MS_CLIENT_PRINCIPAL")
	f.Add("x.ms-client principal")
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || isReserved(name) || harmless[name] {
			return
		}
		cgi := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r - 'a' + 'A'
			}
			if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, name)
		if strings.HasPrefix(cgi, "X_MS_CLIENT_") || strings.HasPrefix(cgi, "X_MS_TOKEN_") || strings.HasPrefix(cgi, "X_ZUMO_") {
			t.Errorf("%q becomes %s", name, cgi)
		}
	})
}
