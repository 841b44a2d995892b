package signin

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// Ask is what somebody must prove, and where the browser goes then.
type Ask struct {
	Return     string // local path and query on the login host
	App        string // display name of what the person signs in to
	Hint       string // login_hint: the account's name
	DomainHint string // a domain of the outside provider sends people there at once
	Select     bool   // let the person choose the account (prompt=select_account)
	Fresh      bool   // sessions don't count (prompt=login, max_age)
	MFA        bool   // a second factor is needed
}

// stage is the page that a flow's state was made for.
type stage string

const (
	stageName     stage = "name"
	stagePassword stage = "password"
	stageCode     stage = "code"
	stagePick     stage = "pick"
	stageChange   stage = "change"
	stageEnrol    stage = "enrol"
	stageOutside  stage = "outside"
	stageAccount  stage = "account"
)

// flow is how far a sign-in has come. It travels sealed in the page's state.
type flow struct {
	Ask    Ask       `json:"ask"`
	Stage  stage     `json:"stage"`
	Name   string    `json:"name,omitempty"`   // as it was typed
	User   string    `json:"user,omitempty"`   // whose first factor is proven; or of a session
	Proven az.Micros `json:"proven,omitempty"` // when it was
	AMR    []string  `json:"amr,omitempty"`
	Keep   bool      `json:"keep,omitempty"`

	Provider string                `json:"provider,omitempty"`
	Nonce    string                `json:"nonce,omitempty"`    // of the outside provider's token
	Verifier string                `json:"verifier,omitempty"` // PKCE with it
	Secret   string                `json:"secret,omitempty"`   // one-time codes that are being set up
	Passkey  *webauthn.SessionData `json:"passkey,omitempty"`  // a passkey's challenge
	Session  string                `json:"session,omitempty"`  // the one that /account shows
}

func (f *flow) has(amr string) bool { return slices.Contains(f.AMR, amr) }

func (f *flow) add(amr ...string) {
	for _, a := range amr {
		if !f.has(a) {
			f.AMR = append(f.AMR, a)
		}
	}
}

const purposeFlow = "flow"

// call is one request within a flow.
type call struct {
	*rest.Request
	s      *SignIn
	flow   *flow
	form   url.Values
	header http.Header // cookies to be set
}

func (s *SignIn) newCall(r *rest.Request) *call {
	return &call{Request: r, s: s, flow: &flow{}, header: http.Header{}}
}

func (c *call) peer() string { return peerOf(c.RemoteAddr) }

// hide seals the flow for the page of a stage.
func (c *call) hide(st stage) (string, error) {
	c.flow.Stage = st
	text, header, err := c.s.Hide(c.Request, purposeFlow, c.flow)
	for _, v := range header.Values("Set-Cookie") {
		c.header.Add("Set-Cookie", v)
	}
	return text, err
}

// page renders with the call's cookies.
func (c *call) page(status int, p Page) *rest.Reply {
	reply := c.s.Page(c.Request, status, p)
	for _, v := range c.header.Values("Set-Cookie") {
		reply.Header.Add("Set-Cookie", v)
	}
	return reply
}

// goTo sends the browser on. After a form it is a page and no redirect, since
// a policy for forms (form-action) would hold for everything that follows.
func (c *call) goTo(to string) *rest.Reply {
	if c.Method == http.MethodPost {
		return c.page(http.StatusOK, ContinuePage{URL: to})
	}
	reply := &rest.Reply{Status: http.StatusSeeOther, Header: http.Header{"Location": {to}, "Referrer-Policy": {"no-referrer"}}}
	for _, v := range c.header.Values("Set-Cookie") {
		reply.Header.Add("Set-Cookie", v)
	}
	return reply
}

// localPath keeps Return from being an open redirect.
func localPath(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\x7f") ||
		strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 }) {
		return false
	}
	u, err := url.Parse(p)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && u.Fragment == "" && strings.HasPrefix(u.Path, "/") && !strings.HasPrefix(u.Path, "//")
}

// Start begins the pages, or sends the browser straight back when a session
// satisfies what is asked. The browser comes back to ask.Return with the
// parameter ticket added, for Redeem.
func (s *SignIn) Start(ctx context.Context, r *rest.Request, ask Ask) (*rest.Reply, error) {
	if !localPath(ask.Return) {
		return nil, az.Errorf(az.Invalid, "BadReturn", "The address to come back to must be a path of this host.")
	}
	c := s.newCall(r)
	c.flow.Ask = ask
	sessions, err := s.Sessions(ctx, r)
	if err != nil {
		return nil, err
	}
	if !ask.Fresh && !ask.Select {
		if one, ok, err := s.fitting(ctx, sessions, ask); err != nil {
			return nil, err
		} else if ok {
			return c.giveTicket(one.ID)
		}
	}
	if len(sessions) > 0 && (ask.Select || ask.Hint == "" && len(sessions) > 1) {
		return c.pickPage(ctx, sessions)
	}
	return c.begin(ctx)
}

// begin shows the first page for an account that is not signed in.
func (c *call) begin(ctx context.Context) (*rest.Reply, error) {
	ask := c.flow.Ask
	if o := c.s.outside; o != nil && (o.cfg.Only || o.serves("@"+ask.DomainHint) || ask.Hint != "" && o.serves(ask.Hint)) {
		return c.toProvider(ctx)
	}
	if ask.Hint != "" && validName(ask.Hint) {
		c.flow.Name = ask.Hint
		return c.passwordPage(http.StatusOK, nil)
	}
	return c.namePage(http.StatusOK, nil)
}

// fitting finds the one session that satisfies what is asked.
func (s *SignIn) fitting(ctx context.Context, sessions []Session, ask Ask) (Session, bool, error) {
	var fits []Session
	for _, one := range sessions {
		if ask.MFA && !one.MFA() {
			continue
		}
		if ask.Hint != "" {
			o, ok, err := s.dir.Get(ctx, one.User)
			if err != nil {
				return Session{}, false, err
			}
			if !ok || !strings.EqualFold(o.UPN, ask.Hint) {
				continue
			}
		}
		fits = append(fits, one)
	}
	if len(fits) != 1 {
		return Session{}, false, nil
	}
	return fits[0], true, nil
}

// step makes the route of a form. Every form's route is made here, so that none
// forgets to check where the request came from, in which browser the page was
// made, when, and for which stage.
func (s *SignIn) step(path string, stages []stage, h func(context.Context, *call) (*rest.Reply, error)) rest.Route {
	return rest.Route{Method: http.MethodPost, Path: path, Access: rest.Nobody("people prove here who they are"), MaxBody: maxForm,
		Handle: s.errorPages(func(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
			c := s.newCall(r)
			form, err := parseForm(r)
			if err != nil {
				return nil, err
			}
			c.form = form
			if err := s.Reveal(r, purposeFlow, form.Get("state"), c.flow); err != nil {
				return nil, err
			}
			if !slices.Contains(stages, c.flow.Stage) {
				return nil, stalePage()
			}
			return h(ctx, c)
		})}
}

const (
	// maxForm bounds a form: the state, and a passkey's answer, which holds an
	// attestation of a few KiB.
	maxForm = 64 << 10
	// maxFields bounds a form's fields; ours have ten at most.
	maxFields = 32
)

func parseForm(r *rest.Request) (url.Values, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, az.Errorf(az.Unsupported, "UnsupportedMediaType", "Forms are sent as application/x-www-form-urlencoded.")
	}
	if strings.Count(string(r.Body), "&") >= maxFields {
		return nil, az.Errorf(az.Invalid, "BadForm", "The form has too many fields.")
	}
	form, err := url.ParseQuery(string(r.Body))
	if err != nil {
		return nil, az.Errorf(az.Invalid, "BadForm", "The form cannot be read.")
	}
	return form, nil
}

// errorPages words a handler's error as a page.
func (s *SignIn) errorPages(h func(context.Context, *rest.Request) (*rest.Reply, error)) func(context.Context, *rest.Request) (any, error) {
	return func(ctx context.Context, r *rest.Request) (any, error) {
		reply, err := h(ctx, r)
		if err == nil {
			return reply, nil
		}
		e := asAZ(err)
		if e == nil || e.Kind == az.Internal {
			s.log.Error("signin: a page failed", "correlation", r.CorrelationID, "error", err)
			e = az.Errorf(az.Internal, "InternalServerError", "Something went wrong inside the server. The correlation id below finds it in the log.")
		}
		if e.Cause != nil { // what the person need not know, and whoever runs the plane must
			s.log.Warn("signin: a page was refused", "correlation", r.CorrelationID, "code", e.Code, "error", e)
		}
		return s.errorReply(r, e), nil
	}
}

// errorReply is the page of an error.
func (s *SignIn) errorReply(r *rest.Request, e *az.Error) *rest.Reply {
	reply := s.Page(r, rest.Status(e), ErrorPage{Code: e.Code, Message: e.Message})
	if e.RetryAfter > 0 {
		reply.Header.Set("Retry-After", retrySeconds(e.RetryAfter))
	}
	return reply
}

func asAZ(err error) *az.Error {
	var e *az.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// again tells errors a person can mend on the same page from the others.
func again(err error) (*az.Error, bool) {
	e := asAZ(err)
	if e == nil {
		return nil, false
	}
	switch e.Code {
	case "WrongPassword", "TooManyAttempts", "Busy", "WrongCode", "BadName", "PasswordsDiffer", "PasswordTooShort", "PasswordTooLong",
		"PasswordSame", "PasswordWeak", "PasswordsOff", "AccountDisabled", "PasskeyRefused":
		return e, true
	}
	return e, false
}

// proceed goes to the next page after something was proven, or ends the flow.
func (c *call) proceed(ctx context.Context) (*rest.Reply, error) {
	if err := c.s.store.Confirm(ctx); err != nil {
		return nil, err
	}
	user, err := c.user(ctx)
	if err != nil {
		return nil, err
	}
	f, err := c.s.factors(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	own := c.flow.has(amrCode) || c.flow.has(amrPasskey)
	switch {
	case f.any() && !own:
		return c.codePage(ctx, http.StatusOK, user, f, nil)
	case user.MustChange && c.flow.has(amrPassword):
		return c.changePage(http.StatusOK, user, nil)
	case (c.s.cfg.Policy.MFA == MFARequired || c.flow.Ask.MFA) && !c.flow.has(amrMulti):
		return c.enrolPage(http.StatusOK, user, nil)
	}
	return c.complete(ctx, user)
}

// user reads whom the flow is about, as they are now.
func (c *call) user(ctx context.Context) (*directory.Object, error) {
	if c.flow.User == "" || c.flow.Proven == 0 {
		return nil, stalePage()
	}
	user, ok, err := c.s.dir.Get(ctx, c.flow.User)
	switch {
	case err != nil:
		return nil, err
	case !ok || user.Kind != az.User || c.flow.Proven < user.ValidFrom:
		return nil, stalePage()
	case !user.Enabled:
		return nil, c.s.refused(ctx, user, actionSession, c.peer(), disabled())
	}
	return user, nil
}

// complete begins the session and sends the browser back.
func (c *call) complete(ctx context.Context, user *directory.Object) (*rest.Reply, error) {
	id, err := c.openSession(ctx, user)
	if err != nil {
		return nil, err
	}
	return c.giveTicket(id)
}

// openSession begins a session under new cookies. It is recorded before it can
// be used.
func (c *call) openSession(ctx context.Context, user *directory.Object) (id string, err error) {
	s := c.s
	if err := s.allowed(ctx, user, actionSession, c.peer(), c.flow.AMR); err != nil {
		return "", err
	}
	id = az.NewGUID()
	fresh := randomSecret()
	old, had := readCookie(c.Request, sessionCookie)
	kept := false
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		kept = false
		var rows []store.SignInSession
		if had {
			var err error
			if rows, err = tx.SignInSessions(s.hash(purposeSession, old)); err != nil {
				return err
			}
			if err := tx.MoveSignInSessions(s.hash(purposeSession, old), s.hash(purposeSession, fresh)); err != nil {
				return err
			}
		}
		for i, row := range rows {
			if row.User == user.ID {
				// The same person again: the session's name stays, since clients
				// know it (sid) and their refresh tokens are bound to it.
				id = row.ID
			}
			if row.User == user.ID || i >= maxAccounts-1 {
				if _, err := tx.EndSignInSession(row.User, row.ID); err != nil {
					return err
				}
				continue
			}
			kept = kept || isKept(row.Body)
		}
		return tx.AddSignInSession(c.sessionRow(id, s.hash(purposeSession, fresh), user.ID, tx.Now()))
	})
	if err != nil {
		return "", err
	}
	life := time.Duration(0)
	if kept || c.flow.Keep {
		life = keptLife
	}
	setCookie(c.header, sessionCookie, fresh, life)
	s.newBrowser(c.Request, c.header)
	s.remember(c.Request, c.header, user.ID)
	return id, nil
}

func isKept(body []byte) bool {
	var b sessionBody
	return json.Unmarshal(body, &b) == nil && b.Keep
}

// maxAgent bounds the browser's own words.
const maxAgent = 200

func (c *call) sessionRow(id, browser, user string, now az.Micros) store.SignInSession {
	agent := strings.ToValidUTF8(c.UserAgent(), "")
	agent = strings.ReplaceAll(agent[:min(len(agent), maxAgent)], "\x00", "")
	b := sessionBody{AMR: c.flow.AMR, Provider: c.flow.Provider, Agent: strings.ToValidUTF8(agent, ""), Peer: c.peer(), Keep: c.flow.Keep}
	body, _ := json.Marshal(b) // texts only: cannot fail
	life, idle := sessionLife, sessionIdle
	if c.flow.Keep {
		life, idle = keptLife, keptLife
	}
	return store.SignInSession{ID: id, Browser: browser, User: user, AuthTime: c.flow.Proven, Used: now,
		Idle: az.Micros(idle.Microseconds()), Ends: now + az.Micros(life.Microseconds()), Body: body}
}

// ticket says that a browser may come back with a session.
type ticket struct {
	ID      string `json:"id"` // what is used once: a text has more than one spelling
	Session string `json:"session"`
	Return  string `json:"return"`
}

const purposeTicket = "ticket"

// giveTicket sends the browser back to who asked.
func (c *call) giveTicket(session string) (*rest.Reply, error) {
	ret := c.flow.Ask.Return
	text, header, err := c.s.Hide(c.Request, purposeTicket, ticket{az.NewGUID(), session, ret})
	if err != nil {
		return nil, err
	}
	for _, v := range header.Values("Set-Cookie") {
		c.header.Add("Set-Cookie", v)
	}
	sep := "?"
	if strings.Contains(ret, "?") {
		sep = "&"
	}
	return c.goTo(ret + sep + "ticket=" + text), nil
}

// Redeem takes the ticket with which a browser came back to ret, once.
func (s *SignIn) Redeem(ctx context.Context, r *rest.Request, text, ret string) (Session, error) {
	refuse := az.Errorf(az.Forbidden, "TicketInvalid", "The sign-in cannot be taken up here: it was used already, is too old, or belongs to another browser. Go back to the app and start again.")
	var t ticket
	if err := s.Reveal(r, purposeTicket, text, &t); err != nil {
		return Session{}, refuse.Because(err)
	}
	if t.Return != ret {
		return Session{}, refuse
	}
	if err := s.useOnce(ctx, "ticket "+t.ID); err != nil {
		if az.Is(err, az.Forbidden) {
			return Session{}, refuse.Because(err)
		}
		return Session{}, err
	}
	sessions, err := s.Sessions(ctx, r)
	if err != nil {
		return Session{}, err
	}
	for _, one := range sessions {
		if one.ID == t.Session {
			return one, nil
		}
	}
	return Session{}, refuse
}

// useOnce refuses what was used before, on this plane or another.
func (s *SignIn) useOnce(ctx context.Context, what string) error {
	key := s.onceKey(what)
	first := false
	err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
		first, err = tx.UseOnce(key, tx.Now()+az.Micros((pageLife+time.Minute).Microseconds()))
		return err
	})
	if err == nil && !first {
		err = az.Errorf(az.Forbidden, "UsedBefore", "This was used before. Go back to the app and start again.")
	}
	return err
}
