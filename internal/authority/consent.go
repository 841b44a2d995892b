package authority

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/signin"
	"github.com/hawser/hawser/internal/store"
)

// actionConsent is what somebody must be allowed to consent to what only
// administrators may, or for everybody. Contributor may not: the directory's
// own writes are not among its actions.
var actionConsent = guard.Control("Hawser.Directory/oauth2PermissionGrants/write")

const consentPurpose = "authority consent"

// Where a consent page was shown.
const (
	consentAuthorize = "authorize"
	consentDevice    = "device"
	consentAdmin     = "admin"
)

// consentState travels sealed in the page: what was shown is what is granted.
type consentState struct {
	Kind    string        `json:"kind"`
	Ret     string        `json:"ret,omitempty"` // of the authorize or adminconsent request
	Word    string        `json:"word,omitempty"`
	V2      bool          `json:"v2,omitempty"`
	Device  string        `json:"device,omitempty"` // key of the device's sign-in
	Session string        `json:"session"`
	Client  string        `json:"client"` // application id
	Shown   []consentLine `json:"shown"`
}

type consentLine struct {
	Client   string   `json:"client"`
	Resource string   `json:"resource"`
	Scopes   []string `json:"scopes"`
}

// actionAssign is the right to hand out rights.
var actionAssign = guard.Control("Microsoft.Authorization/roleAssignments/write")

// consentRights are what somebody must be allowed to do to consent: for
// everybody, or for himself to what only administrators may. Where that is a
// scope of the platform's own, it is the right to hand out rights too, as for
// the same grant through Graph: its client acts with all that its people may.
func (a *Authority) consentRights(ctx context.Context, needs []need, everybody bool) (out []guard.Action, err error) {
	assign := false
	for _, n := range needs {
		if _, admin := n.adminScope(); !admin && !everybody {
			continue
		}
		out = []guard.Action{actionConsent}
		o, ok, err := a.dir.Get(ctx, n.Resource)
		if err != nil {
			return nil, err
		}
		assign = assign || ok && o.FirstParty
	}
	if assign {
		out = append(out, actionAssign)
	}
	return out, nil
}

// adminScope finds a scope to which only administrators may consent.
func (n need) adminScope() (string, bool) {
	i := slices.IndexFunc(n.Scopes, func(s directory.Scope) bool { return s.Type == "Admin" })
	if i < 0 {
		return "", false
	}
	return n.Scopes[i].Value, true
}

// mayConsent asks without a record: it is for what a page shows. What is done
// is checked.
func (a *Authority) mayConsent(ctx context.Context, oid string, needs []need, everybody bool) (bool, error) {
	rights, err := a.consentRights(ctx, needs, everybody)
	for _, r := range rights {
		d, err := a.guard.Explain(ctx, oid, r, az.Root)
		if err != nil || !d.Allowed {
			return false, err
		}
	}
	return err == nil, err
}

// checkConsent refuses what mayConsent says no to, before a page asks.
func (a *Authority) checkConsent(ctx context.Context, g *grant, needs []need, kind string) (admin bool, err error) {
	if admin, err = a.mayConsent(ctx, g.Person.ID, needs, true); err != nil || admin {
		return admin, err
	}
	if kind == consentAdmin {
		return false, oauthError(az.Invalid, "access_denied", 90093, "Calling principal cannot consent due to lack of permissions: only an administrator may consent for everybody.")
	}
	own, err := a.mayConsent(ctx, g.Person.ID, needs, false)
	if err != nil || own {
		return false, err
	}
	value := ""
	for _, n := range needs {
		if v, ok := n.adminScope(); ok {
			value = v
		}
	}
	return false, oauthError(az.Invalid, "access_denied", 90094,
		"The application '%s' asks for the permission '%s', to which only an administrator may consent. Ask an administrator to grant it.", printable(g.Client.Principal.Name), printable(value))
}

// askConsent shows what a client wants.
func (a *Authority) askConsent(ctx context.Context, r *rest.Request, g *grant, needs []need, st consentState) (*rest.Reply, error) {
	admin, err := a.checkConsent(ctx, g, needs, st.Kind)
	if err != nil {
		return nil, err
	}
	p := signin.ConsentPage{App: g.Client.Principal.Name, User: g.Person.UPN, Admin: admin, Action: "/consent", Verified: g.Client.Principal.FirstParty}
	for _, n := range needs {
		line := consentLine{Client: n.Client, Resource: n.Resource}
		for _, s := range n.Scopes {
			line.Scopes = append(line.Scopes, s.Value)
			p.Scopes = append(p.Scopes, a.scopeLine(ctx, n, s, g.Client))
		}
		st.Shown = append(st.Shown, line)
	}
	st.Session, st.Client = g.By.Session, g.Client.AppID
	text, header, err := a.signin.Hide(r, consentPurpose, st)
	if err != nil {
		return nil, err
	}
	p.State = text
	return withHeader(a.signin.Page(r, http.StatusOK, p), header), nil
}

// scopeLine words one scope for a person. A client of a client is named.
func (a *Authority) scopeLine(ctx context.Context, n need, s directory.Scope, c *directory.Client) signin.ScopeLine {
	title, text := s.UserDisplayName, s.UserDescription
	if title == "" {
		title, text = s.AdminDisplayName, s.AdminDescription
	}
	if title == "" {
		title = s.Value
	}
	if text == title {
		text = ""
	}
	var where []string
	for _, id := range []string{n.Client, n.Resource} {
		if o, ok, err := a.dir.Get(ctx, id); err == nil && ok && id != c.Principal.ID {
			where = append(where, o.Name)
		}
	}
	if len(where) > 0 {
		text = strings.TrimSpace(text + " (" + strings.Join(where, " → ") + ": " + s.Value + ")")
	}
	return signin.ScopeLine{Title: title, Text: text}
}

func withHeader(reply *rest.Reply, header http.Header) *rest.Reply {
	for k, vs := range header {
		for _, v := range vs {
			reply.Header.Add(k, v)
		}
	}
	return reply
}

// consent takes the answer of a consent page.
func (a *Authority) consent(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
	form, err := parseForm(string(r.Body))
	if err != nil {
		return nil, err
	}
	var st consentState
	if err := a.signin.Reveal(r, consentPurpose, form["state"], &st); err != nil {
		return nil, err
	}
	if err := a.store.Confirm(ctx); err != nil {
		return nil, err
	}
	s, err := a.sessionNamed(ctx, r, st.Session)
	if err != nil {
		return nil, err
	}
	by := signedBy(s, peerOf(r.RemoteAddr))
	person, err := a.person(ctx, by)
	if err != nil {
		return nil, err
	}
	c, err := a.knownClient(ctx, st.Client)
	if err != nil {
		return nil, err
	}
	accepted := form["answer"] == "accept"
	if accepted {
		everybody := form["admin"] == "1" || st.Kind == consentAdmin
		if err := a.giveConsent(ctx, c, person, st.Shown, everybody, peerOf(r.RemoteAddr)); err != nil {
			return nil, err
		}
	}
	return a.afterConsent(ctx, r, st, by, accepted)
}

// sessionNamed is one of the browser's sessions.
func (a *Authority) sessionNamed(ctx context.Context, r *rest.Request, id string) (signin.Session, error) {
	all, err := a.signin.Sessions(ctx, r)
	if err != nil {
		return signin.Session{}, err
	}
	for _, s := range all {
		if s.ID == id {
			return s, nil
		}
	}
	return signin.Session{}, oauthError(az.Invalid, "login_required", 50058, "You are not signed in any more. Go back to the app and start again.")
}

// giveConsent stores what was shown and accepted, judged by what the resources
// offer now.
func (a *Authority) giveConsent(ctx context.Context, c *directory.Client, person *directory.Object, shown []consentLine, everybody bool, peer string) error {
	who := az.Principal{ObjectID: person.ID, AppID: c.AppID, TenantID: a.names.Tenant, Kind: az.User, Name: person.UPN}
	needs, err := a.shownNow(ctx, shown)
	if err != nil {
		return err
	}
	rights, err := a.consentRights(ctx, needs, everybody)
	if err != nil {
		return err
	}
	for _, r := range rights {
		if err := a.guard.Check(ctx, who, r, az.Root); err != nil {
			return err
		}
	}
	user := person.ID
	if everybody {
		user = ""
	}
	var said []string
	for _, line := range shown {
		said = append(said, line.Client+" "+line.Resource+": "+strings.Join(line.Scopes, " "))
	}
	// Recorded before it holds: a consent that nobody could find must not be.
	err = a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: "consent", Where: c.AppID, Outcome: guard.Allowed, Peer: peer,
		Detail: strings.Join(said, "; ")})
	if err != nil {
		return err
	}
	return a.store.Write(ctx, func(tx *store.Tx) error {
		for _, line := range shown {
			if err := a.dir.AddGrant(tx, line.Client, user, line.Resource, line.Scopes); err != nil {
				return err
			}
		}
		return nil
	})
}

// shownNow is what a page showed as the resources offer it now. What they do
// not offer any more cannot be accepted: nobody knows what it will mean later.
func (a *Authority) shownNow(ctx context.Context, shown []consentLine) (out []need, err error) {
	for _, line := range shown {
		offered, err := a.offered(ctx, line.Resource)
		if err != nil {
			return nil, err
		}
		n := need{Client: line.Client, Resource: line.Resource}
		for _, value := range line.Scopes {
			i := slices.IndexFunc(offered, func(s directory.Scope) bool { return s.Enabled && s.Value == value })
			if i < 0 {
				return nil, oauthError(az.Invalid, "invalid_scope", 650053, "The permission '%s' is not offered any more. Go back to the app and start again.", printable(value))
			}
			n.Scopes = append(n.Scopes, offered[i])
		}
		out = append(out, n)
	}
	return out, nil
}

// offered are the scopes of a resource by its service principal.
func (a *Authority) offered(ctx context.Context, sp string) ([]directory.Scope, error) {
	o, ok, err := a.dir.Get(ctx, sp)
	if err != nil || !ok {
		return nil, err
	}
	c, ok, err := a.dir.Client(ctx, o.AppID)
	if err != nil || !ok {
		return nil, err
	}
	return c.Facts().Scopes, nil
}

func declined() error {
	return oauthError(az.Invalid, "access_denied", 65004, "User declined to consent to access the app.")
}

// afterConsent goes on where consent was missing.
func (a *Authority) afterConsent(ctx context.Context, r *rest.Request, st consentState, by signed, accepted bool) (*rest.Reply, error) {
	switch st.Kind {
	case consentDevice:
		return a.decideDevice(ctx, r, st.Device, by, accepted)
	case consentAdmin:
		return a.afterAdminConsent(ctx, r, st, accepted)
	}
	path, query, _ := strings.Cut(st.Ret, "?")
	q, err := parseAuthorize(path, query)
	if err != nil {
		return nil, err
	}
	ep := endpointV1
	if st.V2 {
		ep = endpointV2
	}
	a.place(q, r, ep, st.Word)
	v, err := a.admit(ctx, r, q)
	if err != nil {
		return nil, a.notAdmitted(ctx, q, err)
	}
	if err := v.read(ctx); err != nil {
		return v.fail(ctx, err)
	}
	if !accepted {
		v.who = az.Principal{ObjectID: by.User, TenantID: a.names.Tenant, Kind: az.User}
		return v.fail(ctx, declined())
	}
	// The person may have signed in once more since, and in a weaker way.
	want, err := parseClaims(q.Claims)
	if err == nil {
		err = v.satisfies(by, want.mfa())
	}
	if err != nil {
		return v.fail(ctx, err)
	}
	return v.finish(ctx, by, true)
}

// adminConsent is where an administrator grants for everybody what an
// application registered that it needs, or, at the v2 address, the scopes that
// the request names. Source: Entra, "admin consent endpoint".
func (a *Authority) adminConsent(v2 bool) func(context.Context, *rest.Request) (*rest.Reply, error) {
	return func(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
		q, err := parseAuthorize(r.URL.Path, r.URL.RawQuery)
		if err != nil {
			return nil, err
		}
		ep := endpointV1
		if v2 {
			ep = endpointV2
		}
		a.place(q, r, ep, r.PathValue("tenant"))
		v, err := a.admit(ctx, r, q)
		if err != nil {
			return nil, a.notAdmitted(ctx, q, err)
		}
		return v.adminConsent(ctx, v2)
	}
}

func (v *visit) adminConsent(ctx context.Context, v2 bool) (*rest.Reply, error) {
	a, q := v.a, v.q
	q.Mode = "query"
	if q.Ticket == "" {
		return a.signin.Start(ctx, v.r, signin.Ask{Return: q.Ret, App: v.client.Principal.Name, Hint: q.LoginHint, Select: true})
	}
	s, reply, err := v.ticket(ctx, false)
	if err != nil || reply != nil {
		return reply, err
	}
	by := signedBy(s, q.Peer)
	g := &grant{Host: q.Host, Client: v.client, Principal: v.client.Principal, By: by}
	if g.Person, err = a.person(ctx, by); err != nil {
		return nil, err
	}
	v.who = a.caller(g)
	var needs []need
	if v2 && q.Scope != "" {
		k, err := a.parseAsk(q.Scope, "", false)
		if err != nil {
			return v.fail(ctx, err)
		}
		t, err := a.target(ctx, k.Resource)
		if err != nil {
			return v.fail(ctx, err)
		}
		if needs, err = a.needs(ctx, v.client, "", k, t, true); err != nil {
			return v.fail(ctx, err)
		}
	} else if needs, err = a.registeredNeeds(ctx, nil, v.client, "", true); err != nil {
		return v.fail(ctx, err)
	}
	if len(needs) == 0 {
		return v.fail(ctx, oauthError(az.Invalid, "invalid_request", 650057, "The application's registration names no delegated permissions that could be consented to."))
	}
	out, err := a.askConsent(ctx, v.r, g, needs, consentState{Kind: consentAdmin, Ret: q.Ret, Word: q.Word, V2: v2})
	if err != nil {
		return v.fail(ctx, err)
	}
	return out, nil
}

func (a *Authority) afterAdminConsent(ctx context.Context, r *rest.Request, st consentState, accepted bool) (*rest.Reply, error) {
	path, query, _ := strings.Cut(st.Ret, "?")
	q, err := parseAuthorize(path, query)
	if err != nil {
		return nil, err
	}
	a.place(q, r, endpointV2, st.Word)
	q.Mode = "query"
	v, err := a.admit(ctx, r, q)
	if err != nil {
		return nil, a.notAdmitted(ctx, q, err)
	}
	if !accepted {
		return v.fail(ctx, declined())
	}
	fields := [][2]string{{"admin_consent", "True"}, {"tenant", a.names.Tenant}}
	if st.V2 {
		fields = append(fields, [2]string{"scope", q.Scope})
	}
	return v.send(fields), nil
}
