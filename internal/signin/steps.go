package signin

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// Routes are the pages' and belong to the login host. All lie below /signin/
// and /account.
func (s *SignIn) Routes() []rest.Route {
	routes := []rest.Route{
		s.step("/signin/name", []stage{stageName}, stepName),
		s.step("/signin/password", []stage{stagePassword}, stepPassword),
		s.step("/signin/code", []stage{stageCode}, stepCode),
		s.step("/signin/passkey", []stage{stageName, stageCode}, stepPasskey),
		s.step("/signin/pick", []stage{stagePick}, stepPick),
		s.step("/signin/change", []stage{stageChange}, stepChange),
		s.step("/signin/enrol", []stage{stageEnrol}, stepEnrol),
		s.step("/signin/enrol-passkey", []stage{stageEnrol}, stepEnrolPasskey),
		s.step("/signin/provider", []stage{stageName, stagePassword}, stepProvider),
		{Method: http.MethodGet, Path: "/signin/callback", Access: rest.Nobody("an outside provider sends people back here"),
			Handle: s.errorPages(s.callback)},
		{Method: http.MethodGet, Path: "/signin/{$}", Access: rest.Nobody("leads to the own page"), Handle: s.errorPages(toAccount)},
	}
	for _, path := range []string{"name", "password", "code", "passkey", "pick", "change", "enrol", "enrol-passkey", "provider"} {
		// Who reloads a page by its address has lost the form that led there.
		routes = append(routes, rest.Route{Method: http.MethodGet, Path: "/signin/" + path, Access: rest.Nobody("leads to the own page"), Handle: s.errorPages(toAccount)})
	}
	return append(append(routes, s.pages.routes()...), s.accountRoutes()...)
}

func toAccount(context.Context, *rest.Request) (*rest.Reply, error) {
	return &rest.Reply{Status: http.StatusSeeOther, Header: http.Header{"Location": {"/account"}}}, nil
}

func retrySeconds(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}

// problem is what a page says about the last answer.
type problem struct {
	Text string
	wait time.Duration
}

// mend shows the same page again with what was wrong, or gives the error back.
func mend(err error, show func(status int, p *problem) (*rest.Reply, error)) (*rest.Reply, error) {
	e, ok := again(err)
	if !ok {
		return nil, err
	}
	status := rest.Status(e)
	if e.Kind == az.Unauthorized {
		status = http.StatusOK // a 401 would need a challenge, and it is a page like the first
	}
	reply, err := show(status, &problem{Text: e.Message, wait: e.RetryAfter})
	if err == nil && e.RetryAfter > 0 {
		reply.Header.Set("Retry-After", retrySeconds(e.RetryAfter))
	}
	return reply, err
}

func (p *problem) text() string {
	if p == nil {
		return ""
	}
	return p.Text
}

// validName says whether a text can be an account's name. It says nothing of
// whether there is one.
func validName(name string) bool {
	local, domain, ok := strings.Cut(name, "@")
	return ok && local != "" && domain != "" && len(name) <= maxAccountName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}

// namePage asks for the account's name.
func (c *call) namePage(status int, p *problem) (*rest.Reply, error) {
	options, err := c.passkeyOptions(nil)
	if err != nil {
		return nil, err
	}
	state, err := c.hide(stageName)
	if err != nil {
		return nil, err
	}
	page := namePage{State: state, App: c.flow.Ask.App, Name: c.flow.Name, Problem: p.text(), Passkey: options}
	if c.s.outside != nil {
		page.Provider, page.Only = c.s.outside.cfg.Name, c.s.outside.cfg.Only
	}
	return c.page(status, page), nil
}

func stepName(ctx context.Context, c *call) (*rest.Reply, error) {
	name := strings.TrimSpace(c.form.Get("loginfmt"))
	if !validName(name) {
		return c.namePage(http.StatusBadRequest, &problem{Text: "Enter your account name in the form name@domain."})
	}
	c.flow.Name = name
	if c.s.outside != nil && c.s.outside.serves(name) {
		return c.toProvider(ctx)
	}
	return c.passwordPage(http.StatusOK, nil)
}

// passwordPage asks for the password, whether there is such an account or not.
func (c *call) passwordPage(status int, p *problem) (*rest.Reply, error) {
	state, err := c.hide(stagePassword)
	if err != nil {
		return nil, err
	}
	return c.page(status, passwordPage{State: state, App: c.flow.Ask.App, Name: c.flow.Name, Problem: p.text(), Keep: c.flow.Keep}), nil
}

func stepPassword(ctx context.Context, c *call) (*rest.Reply, error) {
	if c.form.Has("other") {
		c.flow.Name = ""
		return c.namePage(http.StatusOK, nil)
	}
	c.flow.Keep = c.form.Get("keep") != ""
	began := c.s.now()
	user, err := c.s.tryPassword(ctx, c.flow.Name, az.NewSecret(c.form.Get("passwd")), c.peer(), c.s.device(c.Request))
	if err != nil {
		return mend(err, c.passwordPage)
	}
	c.prove(user, began, amrPassword)
	return c.proceed(ctx)
}

// prove notes that a person's first factor was proven. The browser gets a new
// binding: what was made before this step is void.
func (c *call) prove(user *directory.Object, at az.Micros, amr ...string) {
	c.flow.User, c.flow.Proven, c.flow.AMR = user.ID, at, nil
	c.flow.add(amr...)
	c.s.newBrowser(c.Request, c.header)
}

// pickPage lets the person choose among who is signed in here.
func (c *call) pickPage(ctx context.Context, sessions []Session) (*rest.Reply, error) {
	page := pickPage{App: c.flow.Ask.App}
	for _, one := range sessions {
		o, ok, err := c.s.dir.Get(ctx, one.User)
		if err != nil {
			return nil, err
		}
		if ok {
			page.Accounts = append(page.Accounts, account{ID: o.ID, UPN: o.UPN, Name: o.Name})
		}
	}
	var err error
	if page.State, err = c.hide(stagePick); err != nil {
		return nil, err
	}
	return c.page(http.StatusOK, page), nil
}

func stepPick(ctx context.Context, c *call) (*rest.Reply, error) {
	id := c.form.Get("account")
	if id == "" {
		c.flow.Ask.Hint = ""
		return c.begin(ctx)
	}
	sessions, err := c.s.Sessions(ctx, c.Request)
	if err != nil {
		return nil, err
	}
	for _, one := range sessions {
		if one.User != id {
			continue
		}
		if !c.flow.Ask.Fresh && (!c.flow.Ask.MFA || one.MFA()) {
			return c.giveTicket(one.ID)
		}
		o, ok, err := c.s.dir.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			c.flow.Ask.Hint = o.UPN
			return c.begin(ctx)
		}
	}
	return nil, stalePage()
}

// codePage asks for the second factor.
func (c *call) codePage(_ context.Context, status int, user *directory.Object, f factors, p *problem) (*rest.Reply, error) {
	page := codePage{App: c.flow.Ask.App, Name: user.UPN, Problem: p.text(), Code: f.totp}
	if len(f.passkeys) > 0 {
		options, err := c.passkeyOptions(&passkeyUser{user, f.passkeys})
		if err != nil {
			return nil, err
		}
		page.Passkey = options
	}
	var err error
	if page.State, err = c.hide(stageCode); err != nil {
		return nil, err
	}
	return c.page(status, page), nil
}

func stepCode(ctx context.Context, c *call) (*rest.Reply, error) {
	user, err := c.user(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.s.tryCode(ctx, user, c.form.Get("otc"), c.peer(), c.s.device(c.Request)); err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) {
			f, err := c.s.factors(ctx, user.ID)
			if err != nil {
				return nil, err
			}
			return c.codePage(ctx, status, user, f, p)
		})
	}
	c.flow.add(amrCode, amrMulti)
	c.s.newBrowser(c.Request, c.header)
	return c.proceed(ctx)
}

// changePage asks for a new password.
func (c *call) changePage(status int, user *directory.Object, p *problem) (*rest.Reply, error) {
	state, err := c.hide(stageChange)
	if err != nil {
		return nil, err
	}
	return c.page(status, changePage{State: state, Name: user.UPN, Problem: p.text(), Forced: true, Action: "/signin/change"}), nil
}

func stepChange(ctx context.Context, c *call) (*rest.Reply, error) {
	user, err := c.user(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.changePassword(ctx, user); err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) { return c.changePage(status, user, p) })
	}
	return c.proceed(ctx)
}

// changePassword sets the password in the form after the old one was proven
// again. It ends every session; the flow is proven from now on.
func (c *call) changePassword(ctx context.Context, user *directory.Object) error {
	old, fresh := c.form.Get("passwd"), c.form.Get("newpasswd")
	if err := checkNewPassword(user, old, fresh, c.form.Get("confirmpasswd")); err != nil {
		return err
	}
	if _, err := c.s.tryPassword(ctx, user.UPN, az.NewSecret(old), c.peer(), c.s.device(c.Request)); err != nil {
		if e := asAZ(err); e != nil && e.Code == "WrongPassword" {
			return az.Errorf(az.Unauthorized, "WrongPassword", "The old password is wrong. Check it and try again.")
		}
		return err
	}
	hash, err := c.s.hashPassword(ctx, az.NewSecret(fresh))
	if err != nil {
		return err
	}
	var now az.Micros
	err = c.s.store.Write(ctx, func(tx *store.Tx) error {
		now = tx.Now()
		if err := tx.EndSignInSessionsOf(user.ID); err != nil {
			return err
		}
		return c.s.dir.SetPassword(tx, user.ID, hash)
	})
	if err != nil {
		return err
	}
	if err := c.s.allowed(ctx, user, actionChange, c.peer(), nil); err != nil {
		return err
	}
	c.flow.Proven = now
	if user, ok, err := c.s.dir.Get(ctx, user.ID); err != nil {
		return err
	} else if ok {
		c.flow.Proven = max(now, user.ValidFrom)
	}
	c.s.newBrowser(c.Request, c.header)
	return nil
}

func stepProvider(ctx context.Context, c *call) (*rest.Reply, error) { return c.toProvider(ctx) }
