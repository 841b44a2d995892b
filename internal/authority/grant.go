package authority

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// tokenReply is the reply of the v2 endpoint.
type tokenReply struct {
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope,omitempty"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	RefreshIn    int64  `json:"refresh_in,omitempty"`
	AccessToken  string `json:"access_token"`
	personReply
}

// tokenReplyV1 is the reply of the v1 endpoint, whose numbers are strings.
type tokenReplyV1 struct {
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope,omitempty"`
	ExpiresIn    string `json:"expires_in"`
	ExtExpiresIn string `json:"ext_expires_in"`
	ExpiresOn    string `json:"expires_on"`
	NotBefore    string `json:"not_before"`
	Resource     string `json:"resource"`
	AccessToken  string `json:"access_token"`
	personReply
}

// personReply is what replies hold beside the access token where a person
// signed in.
type personReply struct {
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	ClientInfo   string `json:"client_info,omitempty"`
	FOCI         string `json:"foci,omitempty"` // the family of clients that share refresh tokens
}

// token serves the token endpoints: parse, client, evidence, person, resource,
// scopes, issue, settle.
func (a *Authority) token(ep endpoint) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		t, err := a.parseRequest(r, ep)
		if err != nil {
			return nil, err
		}
		v, err := a.tokenFor(ctx, t)
		return a.answer(ctx, r, t, v, err)
	}
}

func (a *Authority) tokenFor(ctx context.Context, t *tokenRequest) (any, error) {
	if err := a.grantTenant(t); err != nil {
		return nil, err
	}
	// What was changed anywhere before this request holds for it.
	if err := a.store.Confirm(ctx); err != nil {
		return nil, err
	}
	if err := a.knowOrigin(ctx, t); err != nil {
		return nil, err
	}
	if err := a.failures.check(t.ClientID, t.Peer); err != nil {
		return nil, err
	}
	return a.serve(ctx, t)
}

// knowOrigin finds out whether a script is one of the client's own.
func (a *Authority) knowOrigin(ctx context.Context, t *tokenRequest) error {
	if t.Origin == "" || !az.IsGUID(t.ClientID) {
		return nil
	}
	c, ok, err := a.dir.Client(ctx, t.ClientID)
	t.originOK = ok && err == nil && isSPAOrigin(c.Facts(), t.Origin)
	return err
}

// grantTenant admits the words for several tenants only where a person is
// behind the request: what the person signed in for says the tenant.
func (a *Authority) grantTenant(t *tokenRequest) error {
	if t.Grant == "client_credentials" {
		return a.tokenTenant(t.Word)
	}
	if t.Word == "" { // the route that stands for the alias
		return nil
	}
	_, err := a.tenantOf(t.Word)
	return requestTenant(err)
}

// evidence is what a grant showed: who signed in, for what, and how the client
// has to prove itself.
type evidence struct {
	By              signed
	Scope, Resource string // what was asked for when the person signed in
	Nonce           string
	Public          bool // a client without credentials may use it
	SPA             bool // a script in a browser uses it
	// settle makes what was shown used, in one transaction, and returns the
	// refresh token, if there is to be one. It runs last: a token whose code
	// another request was faster with is never sent.
	settle func(ctx context.Context, g *grant, offline bool) (refresh string, err error)
}

// serve runs the steps after parsing, and records how they ended.
func (a *Authority) serve(ctx context.Context, t *tokenRequest) (any, error) {
	g := grant{Host: t.Host, Life: appLife()}
	v, err := a.grant(ctx, t, &g)
	if err != nil {
		if az.KindOf(err) == az.Internal || az.KindOf(err) == az.Unavailable {
			return nil, err
		}
		return nil, a.refused(ctx, t, g, err)
	}
	err = a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: a.caller(&g), Action: actionOf(t.Grant),
		Where: g.Target.Aud, Outcome: guard.Allowed, Peer: t.Peer})
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Header: http.Header{"Cache-Control": {"no-store, no-cache"}, "Pragma": {"no-cache"}}, Body: v}, nil
}

// flow reads what a grant shows. It returns nil where nobody but the client
// itself is behind the request.
type flow func(a *Authority, ctx context.Context, t *tokenRequest, g *grant) (*evidence, error)

func flowOf(grantType string) flow {
	switch grantType {
	case "client_credentials":
		return (*Authority).ownGrant
	case "authorization_code":
		return (*Authority).codeGrant
	case "refresh_token":
		return (*Authority).refreshGrant
	case "urn:ietf:params:oauth:grant-type:device_code", "device_code": // msal-go's
		return (*Authority).deviceGrant
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		return (*Authority).behalfGrant
	case "password":
		return (*Authority).passwordGrant
	}
	return nil
}

// grant runs the steps; none can be skipped by any kind of grant.
func (a *Authority) grant(ctx context.Context, t *tokenRequest, g *grant) (any, error) {
	run := flowOf(t.Grant)
	if run == nil {
		return nil, oauthError(az.Invalid, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", printable(t.Grant))
	}
	c, p, err := a.client(ctx, t)
	if err != nil {
		return nil, err
	}
	g.Client, g.Principal, g.Proof = c, c.Principal, p
	ev, err := run(a, ctx, t, g)
	if err != nil {
		return nil, err
	}
	if g.Proof == unproven && (ev == nil || !ev.Public || !isPublic(c, ev.SPA)) {
		return nil, noProof()
	}
	if ev == nil {
		return a.grantClient(ctx, t, g)
	}
	if err := checkOriginOf(t, ev.SPA); err != nil {
		return nil, err
	}
	return a.grantPerson(ctx, t, g, ev)
}

// isPublic reports whether a client is one that cannot keep a secret, by what
// its registration says now.
func isPublic(c *directory.Client, spa bool) bool {
	f := c.Facts()
	if spa {
		return len(f.SPAURIs) > 0
	}
	return f.PublicClient || len(f.NativeURIs) > 0
}

func noProof() error {
	return oauthError(az.Unauthorized, "invalid_client", 7000218,
		"The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
}

// ownGrant is client_credentials: the client shows itself.
func (a *Authority) ownGrant(context.Context, *tokenRequest, *grant) (*evidence, error) {
	return nil, nil
}

// grantClient issues a token for the client itself.
func (a *Authority) grantClient(ctx context.Context, t *tokenRequest, g *grant) (any, error) {
	name, err := t.resource()
	if err != nil {
		return nil, err
	}
	if g.Target, err = a.target(ctx, name); err != nil {
		return nil, err
	}
	if g.Roles, err = a.assigned(ctx, g.Principal, nil, g.Target.SP); err != nil {
		return nil, err
	}
	s, err := a.issue(ctx, *g)
	if err != nil {
		return nil, err
	}
	return a.reply(t, g, s, "", personReply{}), nil
}

// grantPerson issues tokens for a person.
func (a *Authority) grantPerson(ctx context.Context, t *tokenRequest, g *grant, ev *evidence) (any, error) {
	var err error
	g.By, g.Nonce = ev.By, ev.Nonce
	if g.Person, err = a.person(ctx, ev.By); err != nil {
		return nil, err
	}
	k, err := a.askOf(t, ev)
	if err != nil {
		return nil, err
	}
	if g.ACRS, err = a.strength(t, ev.By); err != nil {
		return nil, err
	}
	if g.Target, err = a.target(ctx, k.Resource); err != nil {
		return nil, err
	}
	if err := a.permit(ctx, g, k); err != nil {
		return nil, err
	}
	forClient, err := a.describe(ctx, g)
	if err != nil {
		return nil, err
	}
	s, err := a.issue(ctx, *g)
	if err != nil {
		return nil, err
	}
	var out personReply
	if slices.Contains(g.Words, "openid") {
		g.Groups, g.Roles = forClient.Groups, forClient.Roles
		if out.IDToken, err = a.idToken(ctx, *g, t.Endpoint, s.text, ""); err != nil {
			return nil, err
		}
	}
	if out.RefreshToken, err = ev.settle(ctx, g, slices.Contains(g.Words, "offline_access")); err != nil {
		return nil, err
	}
	if g.Client.Principal.FirstParty && out.RefreshToken != "" {
		out.FOCI = "1"
	}
	if t.ClientInfo {
		out.ClientInfo = a.clientInfo(g.Person.ID)
	}
	return a.reply(t, g, s, k.granted(g), out), nil
}

// described is what one application's token says of a person beside who it is.
type described struct {
	Groups groupClaim
	Roles  []string
}

// describe finds roles and groups for the access token, and returns those for
// the id token. It refuses people who are assigned to neither.
func (a *Authority) describe(ctx context.Context, g *grant) (forClient described, err error) {
	groups, err := a.guard.Groups(ctx, g.Person.ID)
	if err != nil {
		return described{}, err
	}
	if forClient.Roles, err = a.assigned(ctx, g.Person, groups, g.Client.Principal); err != nil {
		return described{}, err
	}
	if g.Roles, err = a.assigned(ctx, g.Person, groups, g.Target.SP); err != nil {
		return described{}, err
	}
	if forClient.Groups, err = a.groupsFor(ctx, g, g.Client.Facts(), g.Client.Principal, groups, false); err != nil {
		return described{}, err
	}
	g.Groups, err = a.groupsFor(ctx, g, g.Target.facts(), g.Target.SP, groups, false)
	return forClient, err
}

// askOf is what a token request asks for: what it names, else what was asked
// for when the person signed in.
func (a *Authority) askOf(t *tokenRequest, ev *evidence) (*ask, error) {
	scope, resource := ev.Scope, ev.Resource
	if t.Scope != "" || t.Resource != "" {
		scope, resource = t.Scope, ""
		if t.Endpoint == endpointV1 || t.Endpoint == endpointADFS && t.Scope == "" {
			resource = t.Resource
		}
	}
	k, err := a.parseAsk(scope, resource, t.Endpoint == endpointV1)
	if err != nil {
		return nil, err
	}
	// What the person signed in for stands: a request for other scopes of the
	// resource does not say that no id token is wanted any more.
	for _, s := range strings.Fields(ev.Scope) {
		if low := strings.ToLower(s); slices.Contains(openIDWords, low) && !k.has(low) {
			k.Words = append(k.Words, low)
		}
	}
	return k, nil
}

// caller is whom a record names.
func (a *Authority) caller(g *grant) az.Principal {
	if g.Person == nil {
		return a.who(g.Principal)
	}
	return az.Principal{ObjectID: g.Person.ID, AppID: g.Principal.AppID, TenantID: a.names.Tenant, Kind: az.User, Name: g.Person.UPN}
}

func (a *Authority) who(p *directory.Object) az.Principal {
	return az.Principal{ObjectID: p.ID, AppID: p.AppID, TenantID: a.names.Tenant, Kind: p.Kind}
}

// incident is a refusal that an administrator should see: the record's detail.
type incident string

func (i incident) Error() string { return string(i) }

// refused records a sign-in that failed. The client's id is recorded only in
// the form that ids have.
func (a *Authority) refused(ctx context.Context, t *tokenRequest, g grant, err error) error {
	var who az.Principal
	if g.Principal != nil {
		who = a.caller(&g)
	} else if az.IsGUID(t.ClientID) {
		who.AppID = strings.ToLower(t.ClientID)
	}
	if rec := a.recordRefusal(ctx, who, actionOf(t.Grant), t.Peer, err); rec != nil {
		return rec
	}
	if e := asAZ(err); g.Principal == nil && e != nil && (e.Kind == az.Unauthorized || e.Number == unknownClient) {
		a.failures.note(t.ClientID, t.Peer)
	}
	return err
}

func (a *Authority) recordRefusal(ctx context.Context, who az.Principal, action, peer string, err error) error {
	reason := "refused"
	if e := asAZ(err); e != nil {
		if reason = e.Code; e.Number != 0 {
			reason += " " + strconv.Itoa(e.Number)
		}
		if e.Number == pendingNumber {
			return nil // a device that asks again is no sign-in yet
		}
	}
	var why incident
	errors.As(err, &why)
	return a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: action, Outcome: guard.Refused, Reason: reason, Peer: peer, Detail: string(why)})
}

// actionOf keeps strangers' words out of the audit.
func actionOf(grant string) string {
	switch grant {
	case "urn:ietf:params:oauth:grant-type:device_code":
		return "device_code"
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		return "on_behalf_of"
	}
	if flowOf(grant) != nil {
		return grant
	}
	return "other grant"
}

func (a *Authority) reply(t *tokenRequest, g *grant, s issued, scope string, p personReply) any {
	life := int64(g.Life / time.Second)
	if t.Endpoint == endpointV1 {
		n := strconv.FormatInt(life, 10)
		return tokenReplyV1{TokenType: "Bearer", Scope: scope, ExpiresIn: n, ExtExpiresIn: n, ExpiresOn: strconv.FormatInt(s.expiry.Unix(), 10),
			NotBefore: strconv.FormatInt(s.from.Unix(), 10), Resource: g.Target.Aud, AccessToken: s.text, personReply: p}
	}
	return tokenReply{TokenType: "Bearer", Scope: scope, ExpiresIn: life, ExtExpiresIn: life, AccessToken: s.text, personReply: p}
}

// unknownClient is the number of the refusal of a client that is not there.
const unknownClient = 700016

// client establishes who the client is. One that does not exist costs the same
// work as one whose secret is wrong.
func (a *Authority) client(ctx context.Context, t *tokenRequest) (*directory.Client, proof, error) {
	var c *directory.Client
	if az.IsGUID(t.ClientID) {
		found, ok, err := a.dir.Client(ctx, t.ClientID)
		if err != nil {
			return nil, "", err
		}
		if ok {
			c = found
		}
	}
	p, err := a.prove(ctx, t, c)
	switch {
	case c == nil:
		return nil, "", oauthError(az.Invalid, "unauthorized_client", unknownClient,
			"Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
			printable(t.ClientID), a.names.Tenant)
	case err != nil:
		return nil, "", err
	case c.Principal == nil:
		return nil, "", oauthError(az.Unauthorized, "invalid_client", 7000229, "The client application %s is missing service principal in the tenant %s.", c.AppID, a.names.Tenant)
	case !c.Principal.Enabled:
		return nil, "", oauthError(az.Unauthorized, "invalid_client", 7000112, "Application '%s' is disabled.", c.AppID)
	}
	return c, p, nil
}

// prove lets the client prove itself in the way that it chose; nil is a client
// that does not exist, and proves nothing. One that shows nothing is unproven:
// the grant says whether that will do.
func (a *Authority) prove(ctx context.Context, t *tokenRequest, c *directory.Client) (proof, error) {
	switch {
	case !t.Assertion.IsZero():
		return byCertificate, a.byAssertion(ctx, t, c)
	case !t.Secret.IsZero():
		return bySecret, a.bySecret(t, c)
	}
	return unproven, nil
}

func (a *Authority) bySecret(t *tokenRequest, c *directory.Client) error {
	switch a.dir.MatchSecret(c, t.Secret.Reveal()) {
	case directory.SecretRight:
		return nil
	case directory.SecretExpired:
		return oauthError(az.Unauthorized, "invalid_client", 7000222, "The provided client secret keys for app '%s' are expired. Create new keys for your app, or consider using certificate credentials for added security.", c.AppID)
	}
	id := t.ClientID
	return oauthError(az.Unauthorized, "invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", printable(id))
}
