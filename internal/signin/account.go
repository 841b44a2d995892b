package signin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// accountPath is a person's own page.
const accountPath = "/account"

// recentFor is how long after a sign-in a person may change how they sign in
// without proving again who they are. Source: GitHub's and Entra's own pages
// ask again after minutes, not hours.
const recentFor = 15 * time.Minute

type accountPage struct {
	State, Name, UPN, Provider, Done, Problem string
	Password, Code, Factors                   bool
	Passkeys                                  []accountKey
	Sessions                                  []accountSession
	Others                                    []Session
}

type accountKey struct{ ID, Label, Added string }

type accountSession struct {
	ID, Agent, Peer, Since string
	This                   bool
}

// passkeyPage adds a passkey on the own page.
type passkeyPage struct{ State, Name, Passkey, Problem, PasskeyAction string }

func (p accountPage) about() about {
	return about{template: "account", title: "Your account", wide: true}
}

func (p passkeyPage) about() about {
	return about{template: "passkey", title: "Add a passkey", script: passkeyScript}
}

// dones are what the page says after a change.
var dones = map[string]string{"password": "Your password was changed. You are signed out everywhere else.", "totp": "The authenticator app is set up.",
	"totp-removed": "The authenticator app was removed.", "passkey": "The passkey was added.", "passkey-removed": "The passkey was removed.",
	"session": "The session was ended."}

func (s *SignIn) accountRoutes() []rest.Route {
	open := rest.Nobody("the page knows its person by their session")
	own := func(path string, recent bool, h ownStep) rest.Route {
		return s.step(path, []stage{stageAccount}, asOwner(recent, h))
	}
	return []rest.Route{
		{Method: http.MethodGet, Path: accountPath, Access: open, Handle: s.errorPages(s.showAccount)},
		{Method: http.MethodGet, Path: "/account/switch", Access: open, Handle: s.errorPages(func(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
			return s.Start(ctx, r, Ask{Return: accountPath, App: "your account", Select: true})
		})},
		own("/account/password", false, ownPassword), // asks for the old one
		own("/account/totp", true, ownCode),
		own("/account/totp/confirm", true, ownCodeConfirm),
		own("/account/totp/remove", true, ownCodeRemove),
		own("/account/passkey", true, ownPasskey),
		own("/account/passkey/add", true, ownPasskeyAdd),
		own("/account/passkey/remove", true, ownPasskeyRemove),
		own("/account/session/end", false, ownSessionEnd),
		own("/account/signout", false, ownSignOut),
		own("/account/everywhere", false, ownEverywhere),
	}
}

// showAccount shows the page of the person who is signed in.
func (s *SignIn) showAccount(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
	q := r.URL.Query()
	if t := q.Get("ticket"); t != "" {
		one, err := s.Redeem(ctx, r, t, accountPath)
		if err != nil {
			return nil, err
		}
		return toOwn(one.ID, ""), nil
	}
	sessions, err := s.Sessions(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(sessions) == 0 {
		return s.Start(ctx, r, Ask{Return: accountPath, App: "your account"})
	}
	one := sessions[0]
	for _, other := range sessions {
		if other.ID == q.Get("u") {
			one = other
		}
	}
	c := s.newCall(r)
	c.flow.Session, c.flow.User = one.ID, one.User
	return c.accountPage(ctx, http.StatusOK, one, sessions, dones[q.Get("done")], nil)
}

func toOwn(session, done string) *rest.Reply {
	q := url.Values{"u": {session}}
	if done != "" {
		q.Set("done", done)
	}
	return &rest.Reply{Status: http.StatusSeeOther, Header: http.Header{"Location": {accountPath + "?" + q.Encode()}}}
}

// toOwn is the same with the call's cookies.
func (c *call) toOwn(done string) *rest.Reply {
	reply := toOwn(c.flow.Session, done)
	for _, v := range c.header.Values("Set-Cookie") {
		reply.Header.Add("Set-Cookie", v)
	}
	return reply
}

func (c *call) accountPage(ctx context.Context, status int, one Session, all []Session, done string, p *problem) (*rest.Reply, error) {
	s := c.s
	user, ok, err := s.dir.Get(ctx, one.User)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, stalePage()
	}
	f, err := s.factors(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	page := accountPage{Name: user.Name, UPN: user.UPN, Done: done, Problem: p.text(), Password: f.password, Code: f.totp, Factors: f.any()}
	if len(all) > 1 {
		page.Others = all
	}
	if s.outside != nil {
		page.Provider = s.outside.cfg.Name
	}
	for _, k := range f.passkeys {
		page.Passkeys = append(page.Passkeys, accountKey{k.ID, k.Label, sayDate(k.Made)})
	}
	rows, err := s.store.SignInSessionsOf(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if _, holds, err := s.holds(ctx, row); err != nil {
			return nil, err
		} else if holds {
			page.Sessions = append(page.Sessions, showSession(row, one.ID))
		}
	}
	if page.State, err = c.hide(stageAccount); err != nil {
		return nil, err
	}
	return c.page(status, page), nil
}

func sayDate(m az.Micros) string { return m.Time().Format("2 January 2006") }

func showSession(row store.SignInSession, this string) accountSession {
	var b sessionBody
	_ = json.Unmarshal(row.Body, &b)
	return accountSession{ID: row.ID, Agent: browserName(b.Agent), Peer: b.Peer, Since: row.AuthTime.Time().Format("2 January 2006 15:04 UTC"), This: row.ID == this}
}

// browserName says in two words what a User-Agent says in twenty.
func browserName(agent string) string {
	name, system := "A browser", ""
	for _, b := range [][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}} {
		if strings.Contains(agent, b[0]) {
			name = b[1]
			break
		}
	}
	for _, o := range [][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS", "macOS"}, {"Linux", "Linux"}} {
		if strings.Contains(agent, o[0]) {
			system = " on " + o[1]
			break
		}
	}
	return name + system
}

// ownStep is a form of the own page.
type ownStep func(ctx context.Context, c *call, one Session, user *directory.Object) (*rest.Reply, error)

// asOwner finds the session that the page was made for. With recent it sends
// people back to prove who they are, with their second factor if they have
// one, when that was long ago.
func asOwner(recent bool, h ownStep) func(context.Context, *call) (*rest.Reply, error) {
	return func(ctx context.Context, c *call) (*rest.Reply, error) {
		sessions, err := c.s.Sessions(ctx, c.Request)
		if err != nil {
			return nil, err
		}
		for _, one := range sessions {
			if one.ID != c.flow.Session {
				continue
			}
			user, ok, err := c.s.dir.Get(ctx, one.User)
			if err != nil || !ok {
				return nil, err
			}
			f, err := c.s.factors(ctx, user.ID)
			if err != nil {
				return nil, err
			}
			if recent && (c.s.clock().Sub(one.AuthTime) > recentFor || f.any() && !provesOwn(one)) {
				return c.s.Start(ctx, c.Request, Ask{Return: accountPath, App: "your account", Hint: user.UPN, Fresh: true})
			}
			return h(ctx, c, one, user)
		}
		return nil, stalePage()
	}
}

// provesOwn reports whether the session was begun with a factor of this plane.
func provesOwn(one Session) bool {
	f := flow{AMR: one.AMR}
	return f.has(amrCode) || f.has(amrPasskey)
}

// mendOwn shows the page again with what was wrong.
func (c *call) mendOwn(ctx context.Context, one Session, err error) (*rest.Reply, error) {
	return mend(err, func(status int, p *problem) (*rest.Reply, error) {
		return c.accountPage(ctx, status, one, nil, "", p)
	})
}

// renew begins the session anew after what it stands on changed.
func (c *call) renew(ctx context.Context, one Session, user *directory.Object, at az.Micros, amr ...string) error {
	c.flow.AMR, c.flow.Provider, c.flow.Proven = one.AMR, one.Provider, at
	c.flow.add(amr...)
	id, err := c.openSession(ctx, user)
	c.flow.Session = id
	return err
}

func ownPassword(ctx context.Context, c *call, one Session, user *directory.Object) (*rest.Reply, error) {
	if err := c.changePassword(ctx, user); err != nil {
		return c.mendOwn(ctx, one, err)
	}
	if err := c.renew(ctx, one, user, c.flow.Proven); err != nil {
		return nil, err
	}
	return c.toOwn("password"), nil
}

func ownCode(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	if f, err := c.s.factors(ctx, user.ID); err != nil {
		return nil, err
	} else if f.totp {
		return nil, az.Errorf(az.Conflict, "FactorExists", "An authenticator app is set up already. Remove it first.")
	}
	c.flow.Secret = ""
	return c.codeSetup(http.StatusOK, user, nil, stageAccount, "/account/totp/confirm", "")
}

func ownCodeConfirm(ctx context.Context, c *call, one Session, user *directory.Object) (*rest.Reply, error) {
	if f, err := c.s.factors(ctx, user.ID); err != nil {
		return nil, err
	} else if f.totp || c.flow.Secret == "" {
		return nil, stalePage()
	}
	if err := c.s.addCode(ctx, user, c.flow.Secret, c.form.Get("otc"), c.peer()); err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) {
			return c.codeSetup(status, user, p, stageAccount, "/account/totp/confirm", "")
		})
	}
	if err := c.renew(ctx, one, user, az.MicrosOf(one.AuthTime), amrCode, amrMulti); err != nil {
		return nil, err
	}
	return c.toOwn("totp"), nil
}

func ownCodeRemove(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	return c.removeFactor(ctx, user, totpID, "totp-removed")
}

func ownPasskeyRemove(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	return c.removeFactor(ctx, user, c.form.Get("id"), "passkey-removed")
}

// removeFactor removes a second factor, but not the last where one is required.
func (c *call) removeFactor(ctx context.Context, user *directory.Object, id, done string) (*rest.Reply, error) {
	err := c.s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: c.s.principal(user.ID, user.UPN), Action: actionFactor,
		Outcome: guard.Allowed, Peer: c.peer(), Detail: "removed"})
	if err != nil {
		return nil, err
	}
	err = c.s.store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.Credentials(user.ID)
		if err != nil {
			return err
		}
		there, left := false, 0
		for _, r := range rows {
			if r.Kind == kindTOTP || r.Kind == kindPasskey {
				if r.ID == id {
					there = true
				} else {
					left++
				}
			}
		}
		switch {
		case !there:
			return nil
		case left == 0 && c.s.cfg.Policy.MFA == MFARequired:
			return az.Errorf(az.Conflict, "LastFactor", "A second factor is required here. Set up another one before you remove this.")
		}
		_, err = tx.DeleteCredential(user.ID, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.toOwn(done), nil
}

func (c *call) passkeySetup(ctx context.Context, status int, user *directory.Object, p *problem) (*rest.Reply, error) {
	f, err := c.s.factors(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	page := passkeyPage{Name: user.UPN, Problem: p.text(), PasskeyAction: "/account/passkey/add"}
	if page.Passkey, err = c.creationOptions(user, f.passkeys); err != nil {
		return nil, err
	}
	if page.State, err = c.hide(stageAccount); err != nil {
		return nil, err
	}
	return c.page(status, page), nil
}

func ownPasskey(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	return c.passkeySetup(ctx, http.StatusOK, user, nil)
}

func ownPasskeyAdd(ctx context.Context, c *call, one Session, user *directory.Object) (*rest.Reply, error) {
	if err := c.addPasskey(ctx, user); err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) { return c.passkeySetup(ctx, status, user, p) })
	}
	if err := c.renew(ctx, one, user, az.MicrosOf(one.AuthTime), amrPasskey, amrMulti); err != nil {
		return nil, err
	}
	return c.toOwn("passkey"), nil
}

func ownSessionEnd(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	if err := c.s.recordEnd(ctx, user, c.peer()); err != nil {
		return nil, err
	}
	err := c.s.store.Write(ctx, func(tx *store.Tx) error {
		ended, err := tx.EndSignInSession(user.ID, c.form.Get("id"))
		if err == nil && ended {
			err = tx.EndTokensOfSession(c.form.Get("id"))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.toOwn("session"), nil
}

func (s *SignIn) recordEnd(ctx context.Context, user *directory.Object, peer string) error {
	return s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: s.principal(user.ID, user.UPN), Action: actionSignOut,
		Outcome: guard.Ended, Peer: peer})
}

func ownSignOut(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	_, header, err := c.s.SignOut(ctx, c.Request, user.ID)
	if err != nil {
		return nil, err
	}
	c.header = header
	return c.page(http.StatusOK, SignedOutPage{}), nil
}

func ownEverywhere(ctx context.Context, c *call, _ Session, user *directory.Object) (*rest.Reply, error) {
	if err := c.s.recordEnd(ctx, user, c.peer()); err != nil {
		return nil, err
	}
	err := c.s.store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.EndSignInSessionsOf(user.ID); err != nil {
			return err
		}
		return c.s.dir.EndSessions(tx, user.ID)
	})
	if err != nil {
		return nil, err
	}
	return c.page(http.StatusOK, SignedOutPage{}), nil
}
