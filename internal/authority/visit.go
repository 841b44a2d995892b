package authority

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/signin"
)

// visit is one request of a browser for a client's sign-in: the client and its
// redirect URI are known to be good, so errors may be told to it.
type visit struct {
	a      *Authority
	r      *rest.Request
	q      *authorizeRequest
	client *directory.Client
	kind   redirectKind
	ask    *ask
	target target
	who    az.Principal // for records; zero until a person is known
}

// page wraps the handlers of pages: their errors are pages too.
func (a *Authority) page(h func(context.Context, *rest.Request) (*rest.Reply, error)) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		if a.signin == nil {
			return nil, az.Errorf(az.Unavailable, "temporarily_unavailable", "People cannot sign in at this plane.")
		}
		reply, err := h(ctx, r)
		if err == nil {
			return reply, nil
		}
		return a.errorPage(r, err), nil
	}
}

// errorPage shows an error to a person.
func (a *Authority) errorPage(r *rest.Request, err error) *rest.Reply {
	e := asAZ(err)
	if e == nil || e.Kind == az.Internal {
		r.Log.Error("authority: a page failed", "correlation", r.CorrelationID, "error", err)
		e = az.Errorf(az.Internal, "server_error", "Something went wrong inside the server. The correlation id below finds it in the log.")
	}
	code := e.Code
	if e.Number != 0 {
		code = "AADSTS" + strconv.Itoa(e.Number)
	}
	return a.signin.Page(r, rest.Status(e), signin.ErrorPage{Code: code, Message: e.Message})
}

// authorize serves the endpoint where a person's sign-in begins and ends.
func (a *Authority) authorize(ep endpoint) func(context.Context, *rest.Request) (any, error) {
	return a.page(func(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
		// Before anything is sent to a path that a stranger wrote: browsers take
		// /\name for another host.
		if _, err := a.tenantOf(r.PathValue("tenant")); err != nil {
			return nil, requestTenant(err)
		}
		if r.Method == http.MethodPost {
			// Sessions' cookies don't come with a form of another site, but with
			// the request that follows a redirect.
			q, err := parseAuthorize(r.URL.Path, string(r.Body))
			if err != nil {
				return nil, err
			}
			return seeOther(q.Ret), nil
		}
		q, err := parseAuthorize(r.URL.Path, r.URL.RawQuery)
		if err != nil {
			return nil, err
		}
		a.place(q, r, ep, r.PathValue("tenant"))
		v, err := a.admit(ctx, r, q)
		if err != nil {
			return nil, a.notAdmitted(ctx, q, err)
		}
		return v.serve(ctx)
	})
}

func seeOther(to string) *rest.Reply {
	return &rest.Reply{Status: http.StatusSeeOther, Header: http.Header{"Location": {to}, "Referrer-Policy": {"no-referrer"}}}
}

// place notes where a request came to.
func (a *Authority) place(q *authorizeRequest, r *rest.Request, ep endpoint, word string) {
	q.Endpoint, q.Word, q.Host, q.Peer = ep, word, a.names.Classify(r.Host), peerOf(r.RemoteAddr)
	if ep == endpointV1 && strings.EqualFold(word, az.AliasTenant) {
		q.Endpoint = endpointADFS
	}
}

// notAdmitted records a request that goes back to nobody.
func (a *Authority) notAdmitted(ctx context.Context, q *authorizeRequest, err error) error {
	if az.KindOf(err) == az.Internal || az.KindOf(err) == az.Unavailable {
		return err
	}
	who := az.Principal{}
	if az.IsGUID(q.ClientID) {
		who.AppID = strings.ToLower(q.ClientID)
	}
	if rec := a.recordRefusal(ctx, who, "authorize", q.Peer, err); rec != nil {
		return rec
	}
	return err
}

// admit finds the client and how its redirect URI is registered.
func (a *Authority) admit(ctx context.Context, r *rest.Request, q *authorizeRequest) (*visit, error) {
	if _, err := a.tenantOf(q.Word); err != nil {
		return nil, requestTenant(err)
	}
	if err := a.store.Confirm(ctx); err != nil {
		return nil, err
	}
	c, err := a.knownClient(ctx, q.ClientID)
	if err != nil {
		return nil, err
	}
	v := &visit{a: a, r: r, q: q, client: c}
	f := c.Facts()
	uri := q.RedirectURI
	if all := len(f.WebURIs) + len(f.SPAURIs) + len(f.NativeURIs); uri == "" && all == 1 {
		uri = append(append(append([]string{}, f.WebURIs...), f.SPAURIs...), f.NativeURIs...)[0]
	}
	kind, ok := matchRedirect(f, uri)
	if !ok {
		return nil, oauthError(az.Invalid, "invalid_request", 50011,
			"The redirect URI '%s' specified in the request does not match the redirect URIs configured for the application '%s'. Make sure the redirect URI sent in the request matches one added to the application.",
			printable(q.RedirectURI), c.AppID)
	}
	v.kind, q.RedirectURI = kind, uri
	return v, nil
}

// knownClient finds a client that people may sign in to.
func (a *Authority) knownClient(ctx context.Context, id string) (*directory.Client, error) {
	if id == "" {
		return nil, missing("client_id")
	}
	unknown := oauthError(az.Invalid, "unauthorized_client", unknownClient, "Application with identifier '%s' was not found in the directory '%s'.", printable(id), a.names.Tenant)
	if !az.IsGUID(id) {
		return nil, unknown
	}
	c, ok, err := a.dir.Client(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !ok || c.Principal == nil || c.Principal.IsManagedIdentity():
		return nil, unknown
	case !c.Principal.Enabled:
		return nil, oauthError(az.Invalid, "unauthorized_client", 7000112, "Application '%s' is disabled.", c.AppID)
	}
	return c, nil
}

// serve goes through the steps: what is asked, who signs in, what they consent
// to, what goes back.
func (v *visit) serve(ctx context.Context) (*rest.Reply, error) {
	if err := v.read(ctx); err != nil {
		return v.fail(ctx, err)
	}
	s, reply, err := v.session(ctx)
	if err != nil {
		return v.fail(ctx, err)
	}
	if reply != nil {
		return reply, nil
	}
	return v.finish(ctx, signedBy(s, v.q.Peer), false)
}

// read finds what the request is for.
func (v *visit) read(ctx context.Context) (err error) {
	if err := v.q.check(v.kind); err != nil {
		return err
	}
	scope, resource := v.q.Scope, ""
	if v.q.Endpoint == endpointV1 || v.q.Endpoint == endpointADFS && scope == "" {
		resource = v.q.Resource
	}
	if scope == "" && resource == "" && v.q.Endpoint == endpointV2 {
		return missing("scope")
	}
	if v.ask, err = v.a.parseAsk(scope, resource, v.q.Endpoint == endpointV1); err != nil {
		return err
	}
	if v.q.wants("id_token") {
		if !v.ask.has("openid") {
			return oauthError(az.Invalid, "invalid_request", 70011, "The scope 'openid' must be asked for with an id token.")
		}
		if f := v.client.Facts(); !f.ImplicitID {
			return oauthError(az.Invalid, "unsupported_response_type", 700054, "Response_type 'id_token' is not enabled for the application.")
		}
	}
	v.target, err = v.a.target(ctx, v.ask.Resource)
	return err
}

// freshFor is how old a sign-in may be that was asked for just now: the
// ticket's own life and a slow person's.
const freshFor = 15 * time.Minute

// session finds who signs in: by the ticket of a sign-in that was asked for, by
// a session that there is, or by pages that reply begins.
func (v *visit) session(ctx context.Context) (s signin.Session, reply *rest.Reply, err error) {
	a, q := v.a, v.q
	want, err := parseClaims(q.Claims)
	if err != nil {
		return s, nil, err
	}
	if q.Ticket != "" {
		return v.ticket(ctx, want.mfa())
	}
	sessions, err := a.signin.Sessions(ctx, v.r)
	if err != nil {
		return s, nil, err
	}
	ask := signin.Ask{Return: q.Ret, App: v.client.Principal.Name, Hint: q.LoginHint, DomainHint: q.DomainHint,
		Select: q.prompts("select_account"), Fresh: q.prompts("login"), MFA: want.mfa()}
	some, tooOld, err := v.fitting(ctx, sessions)
	if err != nil {
		return s, nil, err
	}
	if q.prompts("none") {
		s, err = v.silently(sessions, some, ask.MFA)
		return s, nil, err
	}
	if !ask.Select && !ask.Fresh && len(some) == 1 && (!ask.MFA || some[0].MFA()) {
		return some[0], nil, nil
	}
	ask.Fresh = ask.Fresh || tooOld
	reply, err = a.signin.Start(ctx, v.r, ask)
	return s, reply, err
}

// ticket takes up the sign-in that this request began.
func (v *visit) ticket(ctx context.Context, mfa bool) (s signin.Session, reply *rest.Reply, err error) {
	s, err = v.a.signin.Redeem(ctx, v.r, v.q.Ticket, v.q.Ret)
	if az.Is(err, az.Forbidden) { // an old window: begin again
		return s, seeOther(v.q.Ret), nil
	}
	if err != nil {
		return s, nil, err
	}
	return s, nil, v.satisfies(signedBy(s, v.q.Peer), mfa)
}

// satisfies says whether a sign-in is as new and as strong as was asked for.
func (v *visit) satisfies(by signed, mfa bool) error {
	age := v.a.clock().Sub(by.At.Time())
	if v.q.prompts("login") && age > freshFor || v.q.MaxAge >= 0 && age > freshFor+time.Duration(v.q.MaxAge)*time.Second {
		return oauthError(az.Invalid, "login_required", 50058, "The person did not sign in again, as the application asked.")
	}
	if mfa && !by.mfa() {
		return v.a.tooWeak(v.q.Claims)
	}
	return nil
}

// fitting are the sessions that a request without questions may use.
func (v *visit) fitting(ctx context.Context, all []signin.Session) (out []signin.Session, tooOld bool, err error) {
	for _, s := range all {
		old := v.q.MaxAge >= 0 && v.a.clock().Sub(s.AuthTime) > time.Duration(v.q.MaxAge)*time.Second
		tooOld = tooOld || old // whoever it is: the pages must not bring this one back unasked
		if v.q.SID != "" && s.ID != v.q.SID {
			continue
		}
		if v.q.LoginHint != "" {
			o, ok, err := v.a.dir.Get(ctx, s.User)
			if err != nil {
				return nil, false, err
			}
			if !ok || !strings.EqualFold(o.UPN, v.q.LoginHint) && !strings.EqualFold(o.ID, v.q.LoginHint) {
				continue
			}
		}
		if !old {
			out = append(out, s)
		}
	}
	return out, tooOld, nil
}

// silently is prompt=none.
func (v *visit) silently(all, some []signin.Session, mfa bool) (signin.Session, error) {
	switch {
	case len(all) == 0 || len(some) == 0:
		return signin.Session{}, oauthError(az.Invalid, "login_required", 50058, "A silent sign-in request was sent but no user is signed in.")
	case len(some) > 1:
		return signin.Session{}, oauthError(az.Invalid, "interaction_required", 16000, "User accounts are signed in and the application must say which one it wants, or let the person choose.")
	case mfa && !some[0].MFA():
		return signin.Session{}, v.a.tooWeak(v.q.Claims)
	}
	return some[0], nil
}

// finish gives the client what it asked for, or asks for consent first.
func (v *visit) finish(ctx context.Context, by signed, consented bool) (*rest.Reply, error) {
	a := v.a
	g := &grant{Host: v.q.Host, Client: v.client, Principal: v.client.Principal, Target: v.target, By: by, Nonce: v.q.Nonce}
	var err error
	if g.Person, err = a.person(ctx, by); err != nil {
		return v.fail(ctx, err)
	}
	v.who = a.caller(g)
	forClient, err := a.describe(ctx, g)
	if err != nil {
		return v.fail(ctx, err)
	}
	all := v.q.prompts("consent") || v.q.prompts("admin_consent")
	needs, err := a.needs(ctx, v.client, g.Person.ID, v.ask, v.target, all && !consented)
	if err != nil {
		return v.fail(ctx, err)
	}
	if len(needs) > 0 {
		if v.q.prompts("none") {
			return v.fail(ctx, consentMissing(v.client))
		}
		reply, err := a.askConsent(ctx, v.r, g, needs, consentState{Kind: consentAuthorize, Ret: v.q.Ret, Word: v.q.Word, V2: v.q.Endpoint == endpointV2})
		if err != nil {
			return v.fail(ctx, err)
		}
		return reply, nil
	}
	if g.Words, err = a.words(ctx, v.client, g.Person.ID, v.ask); err != nil {
		return v.fail(ctx, err)
	}
	g.Groups, g.Roles = forClient.Groups, forClient.Roles
	return v.give(ctx, g)
}

// needs is all consent that is missing for a request.
func (a *Authority) needs(ctx context.Context, c *directory.Client, user string, k *ask, t target, all bool) ([]need, error) {
	out, err := a.need(ctx, c, user, k, t, all)
	if err != nil {
		return nil, err
	}
	return a.needWords(ctx, out, c, user, k, all)
}

// give makes code and id token and sends them to the client.
func (v *visit) give(ctx context.Context, g *grant) (*rest.Reply, error) {
	a, q := v.a, v.q
	var fields [][2]string
	code := ""
	if q.wants("code") {
		var err error
		code, err = a.newCode(ctx, codeFacts{Client: v.client.AppID, Redirect: q.RedirectURI, Named: strings.Contains(q.Ret, "redirect_uri="), Kind: v.kind,
			Challenge: q.Challenge, Scope: q.Scope, Resource: v.codeResource(), Nonce: q.Nonce, By: g.By})
		if err != nil {
			return v.fail(ctx, err)
		}
		fields = append(fields, [2]string{"code", code})
	}
	if q.wants("id_token") {
		text, err := v.implicit(ctx, g, code)
		if err != nil {
			return v.fail(ctx, err)
		}
		fields = append(fields, [2]string{"id_token", text})
	}
	err := a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: v.who, Action: "authorize", Where: v.target.Aud, Outcome: guard.Allowed, Peer: q.Peer})
	if err != nil {
		return nil, err
	}
	if q.ClientInfo {
		fields = append(fields, [2]string{"client_info", a.clientInfo(g.Person.ID)})
	}
	return v.send(append(fields, [2]string{"session_state", g.By.Session})), nil
}

func (v *visit) codeResource() string {
	if v.q.Endpoint == endpointV1 || v.q.Endpoint == endpointADFS && v.q.Scope == "" {
		return v.q.Resource
	}
	return ""
}

// implicit is the id token that the authorize endpoint itself gives.
func (v *visit) implicit(ctx context.Context, g *grant, code string) (string, error) {
	groups, err := v.a.guard.Groups(ctx, g.Person.ID)
	if err != nil {
		return "", err
	}
	if g.Groups, err = v.a.groupsFor(ctx, g, v.client.Facts(), v.client.Principal, groups, true); err != nil {
		return "", err
	}
	if code == "" {
		if err := v.a.noteClient(ctx, g.By, v.client.AppID); err != nil {
			return "", err
		}
	}
	return v.a.idToken(ctx, *g, v.q.Endpoint, "", code)
}

// fail tells the client why nothing comes. Errors of the plane itself are a
// page: a client could do nothing about them.
func (v *visit) fail(ctx context.Context, err error) (*rest.Reply, error) {
	e := asAZ(err)
	if e == nil || e.Kind == az.Internal || e.Kind == az.Unavailable || e.Kind == az.Forbidden {
		return nil, err
	}
	who := v.who
	who.AppID = v.client.AppID
	if rec := v.a.recordRefusal(ctx, who, "authorize", v.q.Peer, err); rec != nil {
		return nil, rec
	}
	out := *e
	switch {
	case e.Number == 65001:
		out.Code = "consent_required"
	case e.Code == "invalid_grant":
		out.Code = "access_denied"
	case e.Kind == az.Unauthorized:
		out.Code = "unauthorized_client"
	}
	var body struct {
		Error string `json:"error"`
		Text  string `json:"error_description"`
		URI   string `json:"error_uri"`
	}
	if bad := json.Unmarshal(rest.ErrorBody(rest.FormOAuth, &out, v.r.CorrelationID, v.a.clock()), &body); bad != nil {
		return nil, err
	}
	return v.send([][2]string{{"error", body.Error}, {"error_description", body.Text}, {"error_uri", body.URI}}), nil
}

// send brings fields to the client in the way that it asked for. iss says who
// sends them, so that a client of several authorities is not mixed up (RFC 9207).
func (v *visit) send(fields [][2]string) *rest.Reply {
	q := v.q
	if q.State != "" {
		fields = append(fields, [2]string{"state", q.State})
	}
	ep := q.Endpoint
	if ep == endpointADFS {
		ep = endpointV1 // metadata's word for the same addresses
	}
	fields = append(fields, [2]string{"iss", v.a.metadata(q.Host, strings.ToLower(q.Word), false, ep).Issuer})
	if q.Mode == "form_post" {
		return v.a.signin.Page(v.r, http.StatusOK, signin.FormPostPage{Action: q.RedirectURI, Fields: fields})
	}
	list := url.Values{}
	for _, f := range fields {
		if f[1] != "" {
			list.Set(f[0], f[1])
		}
	}
	to, sep := q.RedirectURI, "#"
	if q.Mode != "fragment" {
		sep = "?"
		if strings.Contains(to, "?") {
			sep = "&"
		}
	}
	to += sep + list.Encode()
	if v.r.Method == http.MethodPost { // a form's policy would hold for the redirect too
		return v.a.signin.Page(v.r, http.StatusOK, signin.ContinuePage{URL: to})
	}
	reply := seeOther(to)
	reply.Status = http.StatusFound
	return reply
}
