package authority

import (
	"context"
	"net/http"
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
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	RefreshIn    int64  `json:"refresh_in,omitempty"`
	AccessToken  string `json:"access_token"`
}

// tokenReplyV1 is the reply of the v1 endpoint, whose numbers are strings.
type tokenReplyV1 struct {
	TokenType    string `json:"token_type"`
	ExpiresIn    string `json:"expires_in"`
	ExtExpiresIn string `json:"ext_expires_in"`
	ExpiresOn    string `json:"expires_on"`
	NotBefore    string `json:"not_before"`
	Resource     string `json:"resource"`
	AccessToken  string `json:"access_token"`
}

// token serves the token endpoints: parse, client, resource, grant, issue.
func (a *Authority) token(ep endpoint) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		t, err := a.parseRequest(r, ep)
		if err != nil {
			return nil, err
		}
		if err := a.tokenTenant(r.PathValue("tenant")); err != nil {
			return nil, err
		}
		// What was changed anywhere before this request holds for it.
		if err := a.store.Confirm(ctx); err != nil {
			return nil, err
		}
		if err := a.failures.check(t.ClientID, t.Peer); err != nil {
			return nil, err
		}
		return a.serve(ctx, t)
	}
}

// serve runs the steps after parsing, and records how they ended.
func (a *Authority) serve(ctx context.Context, t *tokenRequest) (any, error) {
	g, err := a.authorise(ctx, t)
	if err != nil {
		if az.KindOf(err) == az.Internal || az.KindOf(err) == az.Unavailable {
			return nil, err
		}
		return nil, a.refused(ctx, t, g, err)
	}
	signed, err := a.issue(ctx, g)
	if err != nil {
		return nil, err
	}
	err = a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: a.who(g.Principal), Action: t.Grant,
		Where: g.Target.Aud, Outcome: guard.Allowed, Peer: t.Peer})
	if err != nil {
		return nil, err
	}
	return a.reply(t, g, signed), nil
}

// authorise establishes who asks for what: the client, the resource, the grant.
func (a *Authority) authorise(ctx context.Context, t *tokenRequest) (grant, error) {
	if t.Grant != "client_credentials" {
		return grant{}, oauthError(az.Invalid, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '%s'.", printable(t.Grant))
	}
	g := grant{Host: t.Host, Life: appLife()}
	var err error
	if g.Principal, g.Proof, err = a.client(ctx, t); err != nil {
		return g, err
	}
	name, err := t.resource()
	if err != nil {
		return g, err
	}
	g.Target, err = a.target(ctx, name)
	return g, err
}

func (a *Authority) who(p *directory.Object) az.Principal {
	return az.Principal{ObjectID: p.ID, AppID: p.AppID, TenantID: a.names.Tenant, Kind: p.Kind}
}

// refused records a sign-in that failed. The client's id is recorded only in
// the form that ids have.
func (a *Authority) refused(ctx context.Context, t *tokenRequest, g grant, err error) error {
	var who az.Principal
	if g.Principal != nil {
		who = a.who(g.Principal)
	} else if az.IsGUID(t.ClientID) {
		who.AppID = strings.ToLower(t.ClientID)
	}
	reason := "refused"
	if e := asAZ(err); e != nil {
		reason = e.Code + " " + strconv.Itoa(e.Number)
	}
	if rec := a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: actionOf(t.Grant), Outcome: guard.Refused, Reason: reason, Peer: t.Peer}); rec != nil {
		return rec
	}
	if e := asAZ(err); g.Principal == nil && e != nil && (e.Kind == az.Unauthorized || e.Number == unknownClient) {
		a.failures.note(t.ClientID, t.Peer)
	}
	return err
}

// actionOf keeps strangers' words out of the audit.
func actionOf(grant string) string {
	if grant == "client_credentials" {
		return grant
	}
	return "other grant"
}

func (a *Authority) reply(t *tokenRequest, g grant, s issued) any {
	life := int64(g.Life / time.Second)
	var body any = tokenReply{TokenType: "Bearer", ExpiresIn: life, ExtExpiresIn: life, AccessToken: s.text}
	if t.Endpoint == endpointV1 {
		n := strconv.FormatInt(life, 10)
		body = tokenReplyV1{TokenType: "Bearer", ExpiresIn: n, ExtExpiresIn: n, ExpiresOn: strconv.FormatInt(s.expiry.Unix(), 10),
			NotBefore: strconv.FormatInt(s.from.Unix(), 10), Resource: g.Target.Aud, AccessToken: s.text}
	}
	return &rest.Reply{Header: http.Header{"Cache-Control": {"no-store, no-cache"}, "Pragma": {"no-cache"}}, Body: body}
}

// unknownClient is the number of the refusal of a client that is not there.
const unknownClient = 700016

// client establishes who the client is. One that does not exist costs the same
// work as one whose secret is wrong.
func (a *Authority) client(ctx context.Context, t *tokenRequest) (*directory.Object, proof, error) {
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
	return c.Principal, p, nil
}

// prove lets the client prove itself in the way that it chose; nil is a client
// that does not exist, and proves nothing.
func (a *Authority) prove(ctx context.Context, t *tokenRequest, c *directory.Client) (proof, error) {
	switch {
	case !t.Assertion.IsZero():
		return byCertificate, a.byAssertion(ctx, t, c)
	case !t.Secret.IsZero():
		return bySecret, a.bySecret(t, c)
	}
	return "", oauthError(az.Unauthorized, "invalid_client", 7000218,
		"The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
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
