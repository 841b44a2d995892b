package authority

import (
	"context"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

// publicMetadata is why discovery asks nobody who they are.
const publicMetadata = "metadata and public keys that clients need before they can have a token"

// Surface is login.D: discovery, keys, and the token endpoints.
func (a *Authority) Surface() *rest.Surface {
	get := func(path string, h func(context.Context, *rest.Request) (any, error)) rest.Route {
		return rest.Route{Method: http.MethodGet, Path: path, Access: rest.Nobody(publicMetadata), Handle: h}
	}
	post := func(path string, ep endpoint) rest.Route {
		return rest.Route{Method: http.MethodPost, Path: path, Access: rest.Nobody("the client proves itself in the request"), MaxBody: maxForm, Handle: a.token(ep)}
	}
	routes := []rest.Route{
		get("/{tenant}/v2.0/.well-known/openid-configuration", a.discovery(endpointV2)),
		get("/{tenant}/.well-known/openid-configuration", a.discovery(endpointV1)),
		get("/common/discovery/instance", a.instance),
		get("/{tenant}/discovery/v2.0/keys", a.jwks),
		get("/{tenant}/discovery/keys", a.jwks),
		post("/{tenant}/oauth2/v2.0/token", endpointV2),
		post("/{tenant}/oauth2/token", endpointV1),
		post("/adfs/oauth2/token", endpointADFS),
	}
	routes = append(routes, a.personRoutes()...)
	return &rest.Surface{Name: "login", Form: rest.FormOAuth, Log: a.log, Clock: a.clock, Before: a.before, Verify: a.VerifyRequest, Routes: routes}
}

// personRoutes are where people sign in and out, and what their clients ask.
func (a *Authority) personRoutes() []rest.Route {
	person := func(method, path string, h func(context.Context, *rest.Request) (any, error)) rest.Route {
		return rest.Route{Method: method, Path: path, Access: rest.Nobody("people prove here who they are, or are asked what they want"), MaxBody: maxForm, Handle: h}
	}
	client := func(method, path string, h func(context.Context, *rest.Request) (any, error)) rest.Route {
		return rest.Route{Method: method, Path: path, Access: rest.Nobody("clients ask here before anybody is known"), MaxBody: maxForm, Handle: h}
	}
	logout := a.page(a.logout)
	out := []rest.Route{
		client(http.MethodPost, "/{tenant}/oauth2/v2.0/devicecode", a.deviceCode(endpointV2)),
		client(http.MethodPost, "/{tenant}/oauth2/devicecode", a.deviceCode(endpointV1)),
		client(http.MethodPost, "/adfs/oauth2/devicecode", a.deviceCode(endpointADFS)),
		client(http.MethodGet, "/common/userrealm/{name}", a.userRealm),
		client(http.MethodGet, "/common/UserRealm/{name}", a.userRealm),
		client(http.MethodGet, "/common/oauth2/nativeclient", a.nativeClient),
		person(http.MethodGet, "/device", a.page(a.devicePage)),
		person(http.MethodPost, "/device", a.page(a.deviceForm)),
		person(http.MethodGet, "/common/oauth2/deviceauth", a.page(a.devicePage)),
		person(http.MethodPost, "/consent", a.page(a.consent)),
		person(http.MethodGet, "/{tenant}/adminconsent", a.page(a.adminConsent(false))),
		person(http.MethodGet, "/{tenant}/v2.0/adminconsent", a.page(a.adminConsent(true))),
	}
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		out = append(out, person(m, "/{tenant}/oauth2/v2.0/authorize", a.authorize(endpointV2)), person(m, "/{tenant}/oauth2/authorize", a.authorize(endpointV1)),
			person(m, "/{tenant}/oauth2/v2.0/logout", logout), person(m, "/{tenant}/oauth2/logout", logout))
	}
	for _, path := range []string{"/{tenant}/oauth2/v2.0/token", "/{tenant}/oauth2/token"} {
		out = append(out, client(http.MethodOptions, path, a.preflight))
	}
	out = append(out, a.UserInfo()...)
	if a.signin != nil {
		out = append(out, a.signin.Routes()...)
	}
	return out
}

// before runs ahead of every request: metadata and keys may be read by scripts
// of any origin, since they are public.
func (a *Authority) before(w http.ResponseWriter, r *http.Request) error {
	if p := r.URL.Path; r.Method == http.MethodGet && (strings.Contains(p, "/.well-known/") || strings.Contains(p, "/discovery/")) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}
	return echoRequestID(w, r)
}

// echoRequestID gives clients of the authority their own id back, under the
// name that they send it by.
func echoRequestID(w http.ResponseWriter, r *http.Request) error {
	if id := r.Header.Get("Client-Request-Id"); az.IsGUID(id) {
		w.Header().Set("Client-Request-Id", id)
	}
	return nil
}

// maxTenantWord bounds a tenant's name in a path, as DNS bounds names.
const maxTenantWord = 255

func tenantForm(word string) bool { return goodName(word, 1, maxTenantWord, ".-") }

// tenantOf says which tenant a path names: the plane's own by its GUID, its
// domain or the alias, or several for the multi-tenant words.
func (a *Authority) tenantOf(word string) (several bool, err error) {
	switch w := strings.ToLower(word); {
	case w == a.names.Tenant, w == az.AliasTenant, w == strings.ToLower(a.names.Domain):
		return false, nil
	case w == "common", w == "organizations":
		return true, nil
	case !tenantForm(word):
		return false, oauthError(az.Invalid, "invalid_request", 900023, "Specified tenant identifier '%s' is neither a valid DNS name, nor a valid external domain.", printable(word))
	}
	return false, oauthError(az.Invalid, "invalid_tenant", 90002, "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.", word)
}

// tokenTenant is tenantOf for the token endpoints, where an application must
// name its tenant.
func (a *Authority) tokenTenant(word string) error {
	if word == "" { // the route that stands for the alias
		return nil
	}
	several, err := a.tenantOf(word)
	if err == nil && several {
		return oauthError(az.Invalid, "invalid_request", 50059, "No tenant-identifying information found in either the request or implied by any provided credentials; name the tenant in the address.")
	}
	return requestTenant(err)
}

// requestTenant words an unknown tenant as endpoints other than discovery do.
func requestTenant(err error) error {
	if e := asAZ(err); e != nil && e.Number == 90002 {
		c := *e
		c.Code = "invalid_request"
		return &c
	}
	return err
}

// asAZ finds the az.Error of err, nil if there is none.
func asAZ(err error) *az.Error {
	var e *az.Error
	errors.As(err, &e)
	return e
}

// metadata is an OpenID Connect discovery document. Source: OpenID Connect
// Discovery 1.0 §3 and wire/entra.md §1.
type metadata struct {
	TokenEndpoint     string   `json:"token_endpoint"`
	AuthMethods       []string `json:"token_endpoint_auth_methods_supported"`
	JWKS              string   `json:"jwks_uri"`
	ResponseModes     []string `json:"response_modes_supported"`
	SubjectTypes      []string `json:"subject_types_supported"`
	SigningAlgorithms []string `json:"id_token_signing_alg_values_supported"`
	ResponseTypes     []string `json:"response_types_supported"`
	Scopes            []string `json:"scopes_supported"`
	Issuer            string   `json:"issuer"`
	RequestURI        bool     `json:"request_uri_parameter_supported"`
	UserInfo          string   `json:"userinfo_endpoint"`
	Authorization     string   `json:"authorization_endpoint"`
	Device            string   `json:"device_authorization_endpoint"`
	Logout            bool     `json:"http_logout_supported"`
	FrontLogout       bool     `json:"frontchannel_logout_supported"`
	FrontSession      bool     `json:"frontchannel_logout_session_supported"`
	IssuerInReply     bool     `json:"authorization_response_iss_parameter_supported"`
	ChallengeMethods  []string `json:"code_challenge_methods_supported"`
	EndSession        string   `json:"end_session_endpoint"`
	Claims            []string `json:"claims_supported"`
	Region            string   `json:"tenant_region_scope"`
	CloudName         string   `json:"cloud_instance_name"`
	CloudGraph        string   `json:"cloud_graph_host_name"`
	Graph             string   `json:"msgraph_host"`
	RBAC              string   `json:"rbac_url"`
}

// discovery serves the documents. They name the hosts by which the client
// knows the plane.
func (a *Authority) discovery(ep endpoint) func(context.Context, *rest.Request) (any, error) {
	return func(_ context.Context, r *rest.Request) (any, error) {
		word := r.PathValue("tenant")
		several, err := a.tenantOf(word)
		if err != nil {
			return nil, err
		}
		return a.metadata(a.names.Classify(r.Host), strings.ToLower(word), several, ep), nil
	}
}

func (a *Authority) metadata(h az.Host, word string, several bool, ep endpoint) *metadata {
	base := a.origin(h) + "/" + word
	m := &metadata{TokenEndpoint: base + "/oauth2/v2.0/token", Authorization: base + "/oauth2/v2.0/authorize",
		Device: base + "/oauth2/v2.0/devicecode", EndSession: base + "/oauth2/v2.0/logout", JWKS: base + "/discovery/v2.0/keys",
		Issuer:        a.issuerV2(h),
		AuthMethods:   []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		ResponseModes: []string{"query", "fragment", "form_post"}, SubjectTypes: []string{"pairwise"}, SigningAlgorithms: []string{"RS256"},
		ResponseTypes: []string{"code", "id_token", "code id_token"}, Scopes: []string{"openid", "profile", "email", "offline_access"},
		Logout: true, FrontLogout: true, FrontSession: true, IssuerInReply: true, ChallengeMethods: []string{"S256"},
		Claims: []string{"sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud", "exp",
			"iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email"},
		Region: "WW", CloudName: "microsoftonline.com", CloudGraph: "graph.windows.net", RBAC: "https://pas.windows.net"}
	graph := a.graphOrigin(h)
	m.UserInfo, m.Graph = graph+"/oidc/userinfo", strings.TrimPrefix(graph, "https://")
	if ep == endpointV1 {
		m.TokenEndpoint, m.Authorization = base+"/oauth2/token", base+"/oauth2/authorize"
		m.Device, m.EndSession, m.JWKS = base+"/oauth2/devicecode", base+"/oauth2/logout", base+"/discovery/keys"
		// Under the alias clients speak v2 at v1's addresses, and some of them
		// want the issuer to be where they found it.
		if word != az.AliasTenant {
			m.Issuer = a.issuerV1()
		}
	}
	if several {
		m.Issuer = strings.Replace(m.Issuer, a.names.Tenant, "{tenantid}", 1)
	}
	return m
}

func (a *Authority) graphOrigin(h az.Host) string {
	switch {
	case !h.Azure:
		return a.names.Origin(az.SurfaceGraph)
	case h.Cloud == az.China:
		return "https://microsoftgraph.chinacloudapi.cn"
	case h.Cloud == az.USGov:
		return "https://graph.microsoft.us"
	}
	return "https://graph.microsoft.com"
}

type instanceReply struct {
	Endpoint string          `json:"tenant_discovery_endpoint"`
	Version  string          `json:"api-version"`
	Metadata []instanceAlias `json:"metadata"`
}

type instanceAlias struct {
	Network string   `json:"preferred_network"`
	Cache   string   `json:"preferred_cache"`
	Aliases []string `json:"aliases"`
}

// azureAliases are the names under which clients know each of Azure's clouds.
// Source: wire/entra.md §1.
var azureAliases = []instanceAlias{
	{"login.microsoftonline.com", "login.windows.net", []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}},
	{"login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn", []string{"login.partner.microsoftonline.cn", "login.chinacloudapi.cn"}},
	{"login.microsoftonline.de", "login.microsoftonline.de", []string{"login.microsoftonline.de"}},
	{"login.microsoftonline.us", "login.microsoftonline.us", []string{"login.microsoftonline.us", "login.usgovcloudapi.net"}},
	{"login-us.microsoftonline.com", "login-us.microsoftonline.com", []string{"login-us.microsoftonline.com"}},
}

// instance serves instance discovery: whether an authority's host is one that
// clients may trust. Ours are; Azure's own are, since they stand for ours.
func (a *Authority) instance(_ context.Context, r *rest.Request) (any, error) {
	u, err := url.Parse(r.URL.Query().Get("authorization_endpoint"))
	if err != nil || u.Scheme != "https" || u.User != nil {
		return nil, unknownInstance()
	}
	h, ok := a.isLogin(u)
	word, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !ok || !tenantForm(word) || !strings.HasPrefix(rest, "oauth2/") {
		return nil, unknownInstance()
	}
	origin := a.names.Origin(az.SurfaceLogin) // with the port, which Python's clients drop
	if h.Azure {
		origin = "https://" + h.Suffix
	}
	bare := a.names.Suffix(az.SurfaceLogin)
	own := instanceAlias{a.names.HostPort(bare), a.names.HostPort(bare), []string{bare}}
	if own.Network != bare {
		own.Aliases = []string{own.Network, bare}
	}
	return instanceReply{origin + "/" + strings.ToLower(word) + "/v2.0/.well-known/openid-configuration", "1.1", append([]instanceAlias{own}, azureAliases...)}, nil
}

func unknownInstance() error {
	return oauthError(az.Invalid, "invalid_instance", 50049, "Unknown or invalid instance. This plane answers for its own authority and stands in for Azure's; check the authority's host and port.")
}

// jwk is one public key. Source: RFC 7517 §4 and wire/entra.md §5.
type jwk struct {
	Kty       string   `json:"kty"`
	Use       string   `json:"use"`
	Kid       string   `json:"kid"`
	X5t       string   `json:"x5t"`
	N         string   `json:"n"`
	E         string   `json:"e"`
	X5c       []string `json:"x5c"`
	CloudName string   `json:"cloud_instance_name"`
	Issuer    string   `json:"issuer"`
}

// jwks serves the public keys: those that sign, signed, or will sign next.
func (a *Authority) jwks(ctx context.Context, r *rest.Request) (any, error) {
	if _, err := a.tenantOf(r.PathValue("tenant")); err != nil {
		return nil, err
	}
	if err := a.store.Fresh(ctx); err != nil {
		return nil, err
	}
	ring, err := a.keys.ring(ctx)
	if err != nil {
		return nil, err
	}
	now, issuer := az.MicrosOf(a.clock()), a.issuerV2(a.names.Classify(r.Host))
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range ring.keys {
		if !k.accepted(now) {
			continue
		}
		pub := k.private.PublicKey
		set.Keys = append(set.Keys, jwk{"RSA", "sig", k.KID, k.x5t, base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
			base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()), []string{base64.StdEncoding.EncodeToString(k.Certificate)},
			"microsoftonline.com", issuer})
	}
	return &rest.Reply{Header: http.Header{"Cache-Control": {"public, max-age=3600"}}, Body: set}, nil
}
