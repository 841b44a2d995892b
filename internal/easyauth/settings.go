package easyauth

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// What happens to a request without a sign-in.
const (
	Redirect  = "RedirectToLoginPage"
	Anonymous = "AllowAnonymous"
	Return401 = "Return401"
	Return403 = "Return403"
)

// Limits of settings.
const (
	maxList     = 200  // entries of any list; a policy is read for each request
	maxText     = 2048 // one text; the longest are redirect addresses
	maxSettings = 128 << 10
	// maxSession bounds cookieExpiration: what lasts longer is no session.
	maxSession = 30 * 24 * time.Hour
	// maxExtension is Azure's for tokenRefreshExtensionHours, in hours.
	maxExtension = 24 * 365
	// maxLogin bounds nonceExpirationInterval: how long one sign-in may take.
	maxLogin = time.Hour
)

// Defaults of App Service. Source: wire/app-settings.md §4, §5.
const (
	defaultSession   = 8 * time.Hour
	defaultExtension = 72 * time.Hour
	defaultLogin     = 5 * time.Minute
	defaultPrefix    = "/.auth"
)

// Provider is the one identity provider there is, in the words of paths and
// of redirectToProvider.
const (
	provider     = "aad"
	providerName = "azureactivedirectory"
)

// document is authsettingsV2 as clients write it. What is not here is kept
// and returned by who stores it.
type document struct {
	Platform struct {
		Enabled        bool   `json:"enabled"`
		ConfigFilePath string `json:"configFilePath"`
	} `json:"platform"`
	Global struct {
		Require  bool     `json:"requireAuthentication"`
		Action   string   `json:"unauthenticatedClientAction"`
		Provider string   `json:"redirectToProvider"`
		Excluded []string `json:"excludedPaths"`
	} `json:"globalValidation"`
	Providers map[string]json.RawMessage `json:"identityProviders"`
	Login     struct {
		Routes struct {
			Logout string `json:"logoutEndpoint"`
		} `json:"routes"`
		Store struct {
			Enabled   bool         `json:"enabled"`
			Extension *json.Number `json:"tokenRefreshExtensionHours"`
			Files     struct {
				Directory string `json:"directory"`
			} `json:"fileSystem"`
			Blob struct {
				URL string `json:"sasUrlSettingName"`
			} `json:"azureBlobStorage"`
		} `json:"tokenStore"`
		Fragments bool     `json:"preserveUrlFragmentsForLogins"`
		External  []string `json:"allowedExternalRedirectUrls"`
		Cookie    struct {
			Convention string `json:"convention"`
			Time       string `json:"timeToExpiration"`
		} `json:"cookieExpiration"`
		Nonce struct {
			Validate *bool  `json:"validateNonce"`
			Time     string `json:"nonceExpirationInterval"`
		} `json:"nonce"`
	} `json:"login"`
	HTTP struct {
		RequireHTTPS *bool `json:"requireHttps"`
		Routes       struct {
			Prefix string `json:"apiPrefix"`
		} `json:"routes"`
		Proxy struct {
			Convention string `json:"convention"`
			Host       string `json:"customHostHeaderName"`
			Proto      string `json:"customProtoHeaderName"`
		} `json:"forwardProxy"`
	} `json:"httpSettings"`
}

// aadDocument is identityProviders.azureActiveDirectory.
type aadDocument struct {
	Enabled      *bool `json:"enabled"`
	Registration struct {
		Issuer     string `json:"openIdIssuer"`
		Client     string `json:"clientId"`
		Secret     string `json:"clientSecretSettingName"`
		Thumbprint string `json:"clientSecretCertificateThumbprint"`
		Subject    string `json:"clientSecretCertificateSubjectAlternativeName"`
	} `json:"registration"`
	Login struct {
		Parameters  []string `json:"loginParameters"`
		NoChallenge bool     `json:"disableWWWAuthenticate"`
	} `json:"login"`
	Validation struct {
		JWT struct {
			Groups  []string `json:"allowedGroups"`
			Clients []string `json:"allowedClientApplications"`
		} `json:"jwtClaimChecks"`
		Audiences []string `json:"allowedAudiences"`
		Policy    struct {
			Principals struct {
				Groups     []string `json:"groups"`
				Identities []string `json:"identities"`
			} `json:"allowedPrincipals"`
			Applications []string `json:"allowedApplications"`
		} `json:"defaultAuthorizationPolicy"`
	} `json:"validation"`
}

// settings are an app's, read and found good.
type settings struct {
	Enabled     bool
	Require     bool
	Action      string
	Excluded    []string
	AAD         bool
	Client      string // application id
	Secret      string // the app setting that holds the client's secret
	Parameters  url.Values
	NoChallenge bool
	Audiences   []string // what a caller's token may be for

	Groups       []string // one of these is needed
	Clients      []string
	Applications []string
	AnyOfGroups  []string // one of these or of Identities
	Identities   []string

	Logout    string
	Store     bool
	Extension time.Duration
	Fragments bool
	External  []string
	Session   time.Duration
	ByToken   bool // a session ends with its id token
	Login     time.Duration

	RequireHTTPS          bool
	Prefix                string
	ProxyHost, ProxyProto string // headers of a proxy in front; "" for none
}

// Check says whether an app's authsettingsV2 can be honoured by the plane of
// these names; the error is a sentence for whoever wrote them.
func Check(names az.Names, raw []byte) error {
	if _, err := parse(names, raw); err != nil {
		return err
	}
	var all any
	if err := json.Unmarshal(objectOf(raw), &all); err != nil {
		return bad("The authentication settings are not well-formed JSON.")
	}
	return onceEach(all)
}

func parse(names az.Names, raw []byte) (*settings, error) {
	if len(raw) > maxSettings {
		return nil, bad("The authentication settings are larger than %d bytes.", maxSettings)
	}
	var d document
	raw = objectOf(raw)
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, bad("The authentication settings do not have the shape of authsettingsV2: %s", shapeOf(err))
	}
	var aad aadDocument
	for name, text := range d.Providers {
		if strings.EqualFold(name, "azureActiveDirectory") {
			if err := json.Unmarshal(text, &aad); err != nil {
				return nil, bad("The settings of azureActiveDirectory do not have the shape of authsettingsV2: %s", shapeOf(err))
			}
		} else if err := refuseOther(name, text); err != nil {
			return nil, err
		}
	}
	s := &settings{}
	for _, take := range []func() error{
		func() error { return s.takePlatform(&d) },
		func() error { return s.takeProvider(names, &aad) },
		func() error { return s.takeLogin(&d) },
		func() error { return s.takeHTTP(&d) },
	} {
		if err := take(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func shapeOf(err error) string {
	if e, ok := err.(*json.UnmarshalTypeError); ok && e.Field != "" {
		return "the property " + e.Field + " must not be a JSON " + e.Value + "."
	}
	return "it is not well-formed JSON."
}

// refuseOther admits providers that are switched off: clients write them all.
func refuseOther(name string, raw []byte) error {
	var p struct {
		Enabled      *bool                      `json:"enabled"`
		Registration map[string]json.RawMessage `json:"registration"`
	}
	if string(raw) == "null" || string(raw) == "{}" {
		return nil
	}
	if strings.EqualFold(name, "customOpenIdConnectProviders") {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil {
			return bad("customOpenIdConnectProviders must be an object of providers.")
		}
		for _, one := range all {
			if err := refuseOther("a custom OpenID Connect provider", one); err != nil {
				return err
			}
		}
		return nil
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return bad("The settings of an identity provider must be an object.")
	}
	if emptyRegistration(p.Registration) || p.Enabled != nil && !*p.Enabled {
		return nil
	}
	if !plainName.MatchString(name) {
		name = "of that name"
	}
	return bad("The identity provider %s is not served here: people sign in at this plane (azureActiveDirectory). Remove it or set its enabled to false; a company's own provider is connected to the plane's sign-in instead.", name)
}

// emptyRegistration tells a provider that is said to be enabled, as Azure says
// of all by default, from one that could be used.
func emptyRegistration(r map[string]json.RawMessage) bool {
	for _, v := range r {
		if s := string(v); s != "null" && s != `""` && s != "{}" {
			return false
		}
	}
	return true
}

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z ]{0,60}$`)

func (s *settings) takePlatform(d *document) error {
	s.Enabled, s.Require, s.Action = d.Platform.Enabled, d.Global.Require, d.Global.Action
	if d.Platform.ConfigFilePath != "" {
		return bad("platform.configFilePath is not served: the plane cannot read the app's files. Write the settings here.")
	}
	switch {
	case s.Action == "":
		if s.Action = Anonymous; s.Require {
			s.Action = Redirect
		}
	case !fold(&s.Action, Redirect, Anonymous, Return401, Return403):
		return bad("globalValidation.unauthenticatedClientAction must be %s, %s, %s or %s.", Redirect, Anonymous, Return401, Return403)
	}
	if s.Require && s.Action == Anonymous {
		return bad("globalValidation asks for authentication and lets everybody in at once; set requireAuthentication to false or unauthenticatedClientAction to another value.")
	}
	if p := d.Global.Provider; p != "" && !slices.ContainsFunc([]string{providerName, provider}, func(x string) bool { return strings.EqualFold(x, p) }) {
		return bad("globalValidation.redirectToProvider must be '%s'.", providerName)
	}
	if err := checkList("globalValidation.excludedPaths", d.Global.Excluded); err != nil {
		return err
	}
	for _, p := range d.Global.Excluded {
		if !validExclusion(p) {
			return bad("A path of globalValidation.excludedPaths must begin with '/', without '..', '//', query or escapes, and may end in '*'.")
		}
	}
	s.Excluded = d.Global.Excluded
	return nil
}

func (s *settings) takeProvider(names az.Names, a *aadDocument) error {
	r := &a.Registration
	s.Client, s.Secret, s.NoChallenge = strings.ToLower(strings.TrimSpace(r.Client)), r.Secret, a.Login.NoChallenge
	s.AAD = s.Client != "" && (a.Enabled == nil || *a.Enabled)
	if s.Client != "" && !az.IsGUID(s.Client) {
		return bad("azureActiveDirectory.registration.clientId must be the application id (a GUID) of a registration in this plane's directory.")
	}
	if s.Enabled && !s.AAD && s.Action != Anonymous {
		return bad("Authentication is switched on, but azureActiveDirectory has no registration.clientId, so nobody could come in. Name one, or let 'hawser run APP --auth' make it.")
	}
	if r.Thumbprint != "" || r.Subject != "" {
		return bad("A client certificate in azureActiveDirectory.registration is not served here; use clientSecretSettingName.")
	}
	if err := checkText("azureActiveDirectory.registration.clientSecretSettingName", r.Secret); err != nil {
		return err
	}
	if !ourIssuer(names, r.Issuer) {
		return bad("azureActiveDirectory.registration.openIdIssuer must be this plane's: https://login.microsoftonline.com/%s/v2.0. People of other tenants cannot sign in here.", names.Tenant)
	}
	if err := s.takeParameters(a.Login.Parameters); err != nil {
		return err
	}
	v := &a.Validation
	for _, l := range []struct {
		name string
		from []string
		to   *[]string
		guid bool
	}{
		{"allowedAudiences", v.Audiences, &s.Audiences, false}, {"jwtClaimChecks.allowedGroups", v.JWT.Groups, &s.Groups, true},
		{"jwtClaimChecks.allowedClientApplications", v.JWT.Clients, &s.Clients, true},
		{"defaultAuthorizationPolicy.allowedApplications", v.Policy.Applications, &s.Applications, true},
		{"allowedPrincipals.groups", v.Policy.Principals.Groups, &s.AnyOfGroups, true},
		{"allowedPrincipals.identities", v.Policy.Principals.Identities, &s.Identities, true},
	} {
		if err := checkList(l.name, l.from); err != nil {
			return err
		}
		for _, x := range l.from {
			if l.guid && !az.IsGUID(x) {
				return bad("The entries of %s must be ids (GUIDs), not names.", l.name)
			}
			if l.guid {
				x = strings.ToLower(x)
			}
			*l.to = append(*l.to, x)
		}
	}
	if s.AAD {
		s.Audiences = append(s.Audiences, s.Client, "api://"+s.Client)
	}
	return nil
}

// ourIssuer admits the names that this plane's tenant has as an issuer.
func ourIssuer(names az.Names, issuer string) bool {
	if issuer == "" {
		return true
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	tenant := strings.TrimSuffix(strings.TrimSuffix(strings.Trim(u.Path, "/"), "/v2.0"), "/")
	if !strings.EqualFold(tenant, names.Tenant) && !strings.EqualFold(tenant, az.AliasTenant) {
		return false
	}
	return names.Classify(u.Host).Surface == az.SurfaceLogin
}

// ours are the parameters of a sign-in that are the front's own.
var ours = map[string]bool{"client_id": true, "client_secret": true, "redirect_uri": true, "state": true, "nonce": true, "response_mode": true,
	"code_challenge": true, "code_challenge_method": true, "request": true, "request_uri": true, "code": true, "grant_type": true}

func (s *settings) takeParameters(list []string) error {
	if err := checkList("azureActiveDirectory.login.loginParameters", list); err != nil {
		return err
	}
	s.Parameters = url.Values{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		k = strings.TrimSpace(k)
		switch {
		case !ok || k == "":
			return bad("An entry of azureActiveDirectory.login.loginParameters must have the form name=value.")
		case ours[strings.ToLower(k)]:
			return bad("The parameter '%s' cannot be set in azureActiveDirectory.login.loginParameters: it is the sign-in's own.", strings.ToLower(k))
		case strings.EqualFold(k, "response_type"):
			// "code id_token" is what Azure's pages tell to write; the code alone
			// brings the same tokens, by a safer way (RFC 9700 §2.1.2).
			if w := strings.Fields(v); !slices.Contains(w, "code") && !slices.Equal(w, []string{"id_token"}) {
				return bad("loginParameters: response_type must hold 'code', or be 'id_token'.")
			}
			continue
		}
		if unescaped, err := url.QueryUnescape(v); err == nil && strings.ContainsRune(v, '%') {
			v = unescaped
		}
		s.Parameters.Set(k, v)
	}
	return nil
}

func (s *settings) takeLogin(d *document) (err error) {
	l := &d.Login
	s.Store, s.Fragments, s.External = l.Store.Enabled, l.Fragments, l.External
	if l.Store.Files.Directory != "" || l.Store.Blob.URL != "" {
		return bad("login.tokenStore has one place here, the plane's own sealed store: leave fileSystem and azureBlobStorage out.")
	}
	if s.Logout = l.Routes.Logout; s.Logout != "" && !localPath(s.Logout) {
		return bad("login.routes.logoutEndpoint must be a path of the app that begins with '/'.")
	}
	if err := checkList("login.allowedExternalRedirectUrls", l.External); err != nil {
		return err
	}
	for _, x := range l.External {
		if u, err := url.Parse(x); err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Scheme == "javascript" || u.Scheme == "data" {
			return bad("An entry of login.allowedExternalRedirectUrls must be an absolute address such as https://app.example.com/page.")
		}
	}
	s.Extension = defaultExtension
	if n := l.Store.Extension; n != nil {
		h, err := strconv.ParseFloat(n.String(), 64)
		if err != nil || !(h >= 0 && h <= maxExtension) {
			return bad("login.tokenStore.tokenRefreshExtensionHours must be 0 to %d.", maxExtension)
		}
		s.Extension = time.Duration(h * float64(time.Hour))
	}
	convention := l.Cookie.Convention
	if convention != "" && !fold(&convention, "FixedTime", "IdentityProviderDerived") {
		return bad("login.cookieExpiration.convention must be FixedTime or IdentityProviderDerived.")
	}
	s.ByToken = convention == "IdentityProviderDerived"
	if s.Session, err = span("login.cookieExpiration.timeToExpiration", l.Cookie.Time, defaultSession, maxSession); err != nil {
		return err
	}
	s.Login, err = span("login.nonce.nonceExpirationInterval", l.Nonce.Time, defaultLogin, maxLogin)
	return err
}

func (s *settings) takeHTTP(d *document) error {
	h := &d.HTTP
	s.RequireHTTPS = h.RequireHTTPS == nil || *h.RequireHTTPS
	if s.Prefix = h.Routes.Prefix; s.Prefix == "" {
		s.Prefix = defaultPrefix
	}
	if !validPrefix(s.Prefix) {
		return bad("httpSettings.routes.apiPrefix must be a path such as /.auth: letters, digits, '.', '-', '_' between slashes, not ending in one.")
	}
	convention := h.Proxy.Convention
	if convention != "" && !fold(&convention, "NoProxy", "Standard", "Custom") {
		return bad("httpSettings.forwardProxy.convention must be NoProxy, Standard or Custom.")
	}
	switch convention {
	case "Standard":
		s.ProxyHost, s.ProxyProto = "X-Forwarded-Host", "X-Forwarded-Proto"
	case "Custom":
		s.ProxyHost, s.ProxyProto = h.Proxy.Host, h.Proxy.Proto
		for _, name := range []string{s.ProxyHost, s.ProxyProto} {
			if name != "" && !headerName.MatchString(name) {
				return bad("httpSettings.forwardProxy: customHostHeaderName and customProtoHeaderName must be names of headers.")
			}
		}
	}
	return nil
}

var headerName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
