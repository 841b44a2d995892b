package site

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/arm"
)

// providerSecret is the app setting that clients put a registration's secret
// into. Source: wire/app-settings.md §3.
const providerSecret = "MICROSOFT_PROVIDER_AUTHENTICATION_SECRET"

// flat says where a member of authsettings (v1) stands in authsettingsV2.
// Source: wire/app-settings.md §5.
var flat = []struct{ v1, v2 string }{
	{"enabled", authEnabled}, {"runtimeVersion", "platform.runtimeVersion"},
	{"unauthenticatedClientAction", "globalValidation.unauthenticatedClientAction"},
	{"clientId", authClient}, {"issuer", authIssuer}, {"clientSecretSettingName", authSetting},
	{"allowedAudiences", authAAD + "validation.allowedAudiences"}, {"additionalLoginParams", authAAD + "login.loginParameters"},
	{"tokenStoreEnabled", "login.tokenStore.enabled"}, {"tokenRefreshExtensionHours", "login.tokenStore.tokenRefreshExtensionHours"},
	{"allowedExternalRedirectUrls", "login.allowedExternalRedirectUrls"},
}

// ignored are members that change nothing here.
var ignored = []string{"configVersion", "isAuthFromFile", "validateIssuer", "kind", "defaultProvider", "aadClaimsAuthorization", "clientSecret",
	"facebookOAuthScopes", "googleOAuthScopes", "microsoftAccountOAuthScopes", "gitHubOAuthScopes"}

func readAuthV1(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	t, err := authOf(r)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"enabled": false, "unauthenticatedClientAction": nil, "defaultProvider": nil, "clientId": nil, "issuer": nil,
		"clientSecret": nil, "allowedAudiences": nil, "tokenStoreEnabled": nil, "configVersion": "v1", "isAuthFromFile": "False"}
	for _, f := range flat {
		if v := t.at(f.v2); v != nil {
			out[f.v1] = v
		}
	}
	if t.truth(authEnabled) {
		out["configVersion"] = "v2"
	}
	if t.text(authProvider) != "" {
		out["defaultProvider"] = "AzureActiveDirectory"
	}
	if checks, ok := t.at(authAAD + "validation.jwtClaimChecks").(map[string]any); ok && len(checks) > 0 {
		b, err := json.Marshal(map[string]any{"allowed_groups": checks["allowedGroups"], "allowed_client_applications": checks["allowedClientApplications"]})
		if err == nil {
			out["aadClaimsAuthorization"] = string(b)
		}
	}
	return out, nil
}

// writeAuthV1 takes a v1 document into the settings. What only v2 can say
// stays as it is.
func (s *Sites) writeAuthV1(_ context.Context, call *arm.Call, r *arm.Resource[properties]) error {
	in := tree{}
	if err := call.DecodeProperties(&in); err != nil {
		return err
	}
	if err := refuseOthersV1(in); err != nil {
		return err
	}
	t, err := authOf(r)
	if err != nil {
		return err
	}
	for _, f := range flat {
		if v, given := in[f.v1]; given {
			t.set(f.v2, v)
		}
	}
	action := t.text("globalValidation.unauthenticatedClientAction")
	t.set("globalValidation.requireAuthentication", in.truth("enabled") && action != "AllowAnonymous")
	t.set(authProvider, nil)
	if strings.EqualFold(in.text("defaultProvider"), "AzureActiveDirectory") {
		t.set(authProvider, "azureactivedirectory")
	}
	if text := in.text("aadClaimsAuthorization"); text != "" {
		var c struct {
			Groups  []any `json:"allowed_groups"`
			Clients []any `json:"allowed_client_applications"`
		}
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return badSetting("aadClaimsAuthorization must be a text that holds a JSON object with allowed_groups and allowed_client_applications.")
		}
		t.set(authAAD+"validation.jwtClaimChecks.allowedGroups", list(c.Groups))
		t.set(authAAD+"validation.jwtClaimChecks.allowedClientApplications", list(c.Clients))
	}
	if secret := in.text("clientSecret"); secret != "" {
		if err := takeProviderSecret(r, secret); err != nil {
			return err
		}
		t.set(authSetting, providerSecret)
	}
	return s.putAuth(r, t)
}

func list(v []any) any {
	if v == nil {
		return nil
	}
	return v
}

// takeProviderSecret puts a registration's secret where the app's settings
// keep it.
func takeProviderSecret(r *arm.Resource[properties], secret string) error {
	d, err := documentOf(r)
	if err != nil {
		return err
	}
	d.App[providerSecret] = secret
	return putDocument(r, d)
}

// refuseOthersV1 refuses what would be another provider's, and what this plane
// does not know: a misspelt member must not be a door left open.
func refuseOthersV1(in tree) error {
	known := slices.Clone(ignored)
	for _, f := range flat {
		known = append(known, f.v1)
	}
	if p := in.text("defaultProvider"); p != "" && !strings.EqualFold(p, "AzureActiveDirectory") {
		return badSetting("The provider of authsettings must be AzureActiveDirectory: people sign in at this plane.")
	}
	for name, v := range in {
		switch x := v.(type) {
		case nil:
			continue
		case string:
			if x == "" {
				continue
			}
		case []any:
			if len(x) == 0 {
				continue
			}
		}
		if !slices.Contains(known, name) {
			return badSetting("A member of authsettings is for another identity provider, a client certificate or nothing that this plane knows. Leave it out; other providers are connected to the plane's own sign-in.")
		}
	}
	return nil
}
