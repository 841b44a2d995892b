package signin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

func TestPasswordThenSession(t *testing.T) {
	each(t, func(t *testing.T, p *plane) {
		ann := p.person("ann")
		b := p.browser()
		if pg := b.get("/app?x=1"); pg.title() != "Sign in" || !strings.Contains(pg.body, "Test App") {
			t.Fatalf("%d %s", pg.status, pg.body)
		}
		b.submit("signin-name", "loginfmt", "ANN@hawser.localhost")
		if pg := b.submit("signin-password", "passwd", "wrong"); pg.status != 200 || pg.title() != "Enter your password" || pg.alert() == "" {
			t.Fatalf("wrong password: %d %s", pg.status, pg.body)
		}
		pg := b.submit("signin-password", "passwd", password)
		one := pg.session(t)
		if one.User != ann.ID || !cmp.Equal(one.AMR, []string{"pwd"}) || one.MFA() || pg.url.Query().Get("x") != "1" {
			t.Errorf("%+v at %s", one, pg.url)
		}
		if list := b.sessions(); len(list) != 1 || list[0].ID != one.ID {
			t.Errorf("sessions %+v", list)
		}
		// The session answers the next app without a page.
		if again := b.get("/app?x=2").session(t); again.ID != one.ID {
			t.Errorf("a second app got %+v", again)
		}
		// The audit has the refusal and the session, and no password.
		recs := p.records()
		if len(recs) != 2 || recs[0].Outcome != guard.Refused || recs[0].Who != ann.ID || recs[0].Reason != "WrongPassword" || recs[1].Outcome != guard.Allowed || recs[1].Detail != "pwd" || recs[1].Peer != "127.0.0.1" {
			t.Errorf("records %+v", recs)
		}
		if pg := b.get("/out?user=" + ann.ID); pg.status != 200 || len(b.sessions()) != 0 || b.cookie(sessionCookie) != "" {
			t.Errorf("signed out: %d, %d sessions", pg.status, len(b.sessions()))
		}
	})
}

func TestCookiesAndHeaders(t *testing.T) {
	p := onSQLite(t)
	p.person("ann")
	b := p.browser()
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	seen := map[string]string{}
	note := func(pg page) {
		for _, line := range pg.header.Values("Set-Cookie") {
			name, _, _ := strings.Cut(line, "=")
			seen[name] = line
		}
	}
	pg := b.get("/app?x=1")
	note(pg)
	for h, want := range map[string]string{"Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "",
		"Content-Type": "text/html; charset=utf-8", "X-Frame-Options": "DENY"} {
		if got := pg.header.Get(h); got != want {
			t.Errorf("%s is %q, want %q", h, got, want)
		}
	}
	csp := pg.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "style-src https://" + loginHost + "/signin/style-"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q lacks %s", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(pg.body, " style=") || strings.Contains(pg.body, " onclick") {
		t.Errorf("inline style or script: %s", csp)
	}
	b.submit("signin-name", "loginfmt", "ann@hawser.localhost")
	action, _, fields := b.page.form("signin-password")
	fields.Set("passwd", password)
	r, _ := http.NewRequest(http.MethodPost, "https://"+loginHost+action, strings.NewReader(fields.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://"+loginHost)
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	// After a form there must be no redirect: form-action would hold for it.
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Refresh"), "0; url=/app?x=1&ticket=") {
		t.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Refresh"))
	}
	note(page{header: resp.Header})
	for _, name := range []string{browserCookie, sessionCookie, deviceCookie} {
		line := seen[name]
		for _, want := range []string{"Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: %q lacks %s", name, line, want)
			}
		}
		if strings.Contains(line, "Domain") || (name == sessionCookie && strings.Contains(line, "Max-Age")) {
			t.Errorf("%s: %q", name, line)
		}
	}
}

// Nobody's cookie from before a sign-in is worth anything after it.
func TestFixation(t *testing.T) {
	p := onSQLite(t)
	p.person("ann")
	b := p.browser()
	planted, bound := randomSecret(), randomSecret()
	b.setCookie(sessionCookie, planted)
	b.setCookie(browserCookie, bound)
	b.signIn("ann@hawser.localhost", password).session(t)
	first := b.cookie(sessionCookie)
	if first == planted || b.cookie(browserCookie) == bound {
		t.Error("a cookie from before the sign-in stands after it")
	}
	evil := p.browser()
	evil.setCookie(sessionCookie, planted)
	evil.setCookie(browserCookie, bound)
	if list := evil.sessions(); len(list) != 0 {
		t.Errorf("the planted cookie has %+v", list)
	}
	// A second person in the same browser: both sessions move to a new cookie.
	p.person("bob")
	b.signIn("bob@hawser.localhost", password).session(t)
	if b.cookie(sessionCookie) == first || len(b.sessions()) != 2 {
		t.Errorf("%d sessions", len(b.sessions()))
	}
	evil.setCookie(sessionCookie, first)
	if list := evil.sessions(); len(list) != 0 {
		t.Errorf("the older cookie has %+v", list)
	}
}

func TestTickets(t *testing.T) {
	a, other := pair(t)
	a.person("ann")
	get := func(b *browser) (address string) {
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		pg := b.get("/app?x=1")
		b.client.CheckRedirect = nil
		return pg.header.Get("Location")
	}
	b := a.browser()
	b.signIn("ann@hawser.localhost", password).session(t)
	refused := func(what string, pg page) {
		t.Helper()
		if pg.status != 403 || !strings.Contains(pg.body, "TicketInvalid") {
			t.Errorf("%s: %d %s", what, pg.status, pg.body)
		}
	}
	used := get(b)
	b.get(used).session(t)
	refused("replayed", b.get(used))
	b.at(other)
	refused("replayed on another plane", b.get(used))
	b.at(a)
	refused("replayed in another spelling", b.get(used[:len(used)-1]+string(used[len(used)-1]+1)))
	refused("replayed with a line break", b.get(used+"%0A"))
	fresh := get(b)
	refused("for another return", b.get(strings.Replace(fresh, "x=1", "x=2", 1)))
	thief := a.browser()
	refused("in another browser", thief.get(fresh))
	thief.get("/app?x=1")
	refused("in another browser with a cookie", thief.get(fresh))
	a.shared.clock.advance(pageLife + time.Second)
	refused("too late", b.get(fresh))
	b.get(get(b)).session(t)
}

func TestTicketOnceOnTwoPlanes(t *testing.T) {
	a, other := pair(t)
	a.person("ann")
	b := a.browser()
	b.signIn("ann@hawser.localhost", password).session(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	address := b.get("/app?x=1").header.Get("Location")
	q := address[strings.Index(address, "ticket=")+7:]
	results := make(chan error, 16)
	for i := range cap(results) {
		p := a
		if i%2 == 1 {
			p = other
		}
		go func() {
			r := b.request(p)
			_, err := p.Redeem(t.Context(), r, q, "/app?x=1")
			results <- err
		}()
	}
	good := 0
	for range cap(results) {
		if err := <-results; err == nil {
			good++
		} else if !az.Is(err, az.Forbidden) {
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("the ticket was good %d times", good)
	}
}

// request is a request of the browser, for calls without HTTP.
func (b *browser) request(_ *plane) *rest.Request {
	r := httptest.NewRequest(http.MethodGet, "https://"+loginHost+"/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	u, _ := url.Parse("https://" + loginHost + "/")
	for _, c := range b.jar.Cookies(u) {
		r.AddCookie(c)
	}
	return &rest.Request{Request: r, CorrelationID: az.NewGUID()}
}

func TestReturnIsLocal(t *testing.T) {
	p := onSQLite(t)
	for to, good := range map[string]bool{"/app": true, "/app?x=https://evil.example/": true, "/t/oauth2/v2.0/authorize?a=b&c=%2F%2Fx": true,
		"//evil.example": false, "https://evil.example": false, "/\\evil.example": false, "\\\\evil.example": false, "": false, "app": false,
		"/\t/evil.example": false, "javascript:alert(1)": false, "/x\r\nSet-Cookie: a=b": false, "///evil": false, "/%2F/evil": false, "/%zz": false, "/a#b": false} {
		_, err := p.Start(t.Context(), p.browser().request(p), Ask{Return: to})
		if (err == nil) != good {
			t.Errorf("%q: %v", to, err)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	a, other := pair(t)
	ann := a.person("ann")
	b := a.browser()
	begin := func(keep string) {
		t.Helper()
		b.get("/app?x=1&fresh=1")
		b.submit("signin-name", "loginfmt", ann.UPN)
		b.submit("signin-password", "passwd", password, "keep", keep).session(t)
	}
	want := func(what string, n int) {
		t.Helper()
		for _, p := range []*plane{a, other} {
			b.at(p)
			if list := b.sessions(); len(list) != n {
				t.Errorf("%s: %d sessions, want %d", what, len(list), n)
			}
		}
		b.at(a)
	}
	begin("")
	want("begun", 1)
	a.shared.clock.advance(sessionIdle - time.Minute)
	want("in use", 1)
	a.shared.clock.advance(sessionIdle - time.Minute)
	want("in use again", 1)
	a.shared.clock.advance(sessionIdle + time.Minute)
	want("idle", 0)
	begin("")
	for range 5 {
		a.shared.clock.advance(5 * time.Hour)
		b.sessions()
	}
	want("too old", 0)
	begin("1")
	a.shared.clock.advance(60 * 24 * time.Hour)
	want("kept", 1)
	a.shared.clock.advance(31 * 24 * time.Hour)
	want("kept too long", 0)

	begin("1")
	a.write(func(tx *store.Tx) error { return a.dir.EndSessions(tx, ann.ID) })
	want("signed out everywhere by an administrator", 0)
	begin("1")
	a.write(func(tx *store.Tx) error { return a.dir.SetPassword(tx, ann.ID, hashed) })
	want("password set by an administrator", 0)
	begin("1")
	enable := func(on bool) {
		a.write(func(tx *store.Tx) error {
			return a.dir.ReviseUser(tx, ann.ID, func(o *directory.Object) error { o.Enabled = on; return nil })
		})
	}
	enable(false)
	want("disabled", 0)
	enable(true)
	begin("1")
	a.write(func(tx *store.Tx) error { return a.dir.Remove(tx, ann.ID) })
	want("deleted", 0)
}

func TestPickingAnAccount(t *testing.T) {
	p := onSQLite(t)
	ann, bob := p.person("ann"), p.person("bob")
	b := p.browser()
	b.signIn(ann.UPN, password).session(t)
	b.signIn(bob.UPN, password).session(t)
	if pg := b.get("/app?x=1"); pg.title() != "Choose an account" || !strings.Contains(pg.body, ann.UPN) || !strings.Contains(pg.body, bob.UPN) {
		t.Fatalf("%s", pg.body)
	}
	if one := b.submit("signin-pick", "account", ann.ID).session(t); one.User != ann.ID {
		t.Errorf("got %+v", one)
	}
	if one := b.get("/app?x=1&hint=" + bob.UPN).session(t); one.User != bob.ID {
		t.Errorf("the hint led to %+v", one)
	}
	// Whom the browser does not have cannot be picked.
	eve := p.person("eve")
	b.get("/app?x=1&select=1")
	if pg := b.submit("signin-pick", "account", eve.ID); pg.status != 400 {
		t.Errorf("picked a stranger: %d", pg.status)
	}
	b.get("/app?x=1&select=1")
	if pg := b.submit("signin-pick", "account", ""); pg.title() != "Sign in" {
		t.Errorf("another account: %s", pg.title())
	}
	// A fresh sign-in asks although there are sessions.
	b.get("/app?x=1&select=1&fresh=1")
	if pg := b.submit("signin-pick", "account", ann.ID); pg.title() != "Enter your password" || !strings.Contains(pg.body, ann.UPN) {
		t.Errorf("fresh: %s", pg.title())
	}
}

func TestPasswordMustChange(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	p.write(func(tx *store.Tx) error {
		return p.dir.ReviseUser(tx, ann.ID, func(o *directory.Object) error { o.MustChange = true; return nil })
	})
	b := p.browser()
	if pg := b.signIn(ann.UPN, password); pg.title() != "Change your password" {
		t.Fatalf("%s", pg.body)
	}
	if len(b.sessions()) != 0 {
		t.Error("there is a session before the password was changed")
	}
	b.get("/app?x=1&fresh=1")
	b.submit("signin-name", "loginfmt", ann.UPN)
	b.submit("signin-password", "passwd", password)
	for _, c := range []struct{ old, fresh, again, want string }{
		{password, "short", "short", "at least 8"}, {password, "long enough", "different", "not the same"}, {password, password, password, "must not be the old"},
		{password, ann.UPN, ann.UPN, "easy to guess"}, {"wrong one", "long enough", "long enough", "old password is wrong"}} {
		if pg := b.submit("signin-change", "passwd", c.old, "newpasswd", c.fresh, "confirmpasswd", c.again); !strings.Contains(pg.alert(), c.want) {
			t.Errorf("%q: %q", c.fresh, pg.alert())
		}
	}
	b.submit("signin-change", "passwd", password, "newpasswd", "a new one entirely", "confirmpasswd", "a new one entirely").session(t)
	if pg := p.browser().signIn(ann.UPN, password); pg.alert() == "" {
		t.Error("the old password still holds")
	}
	p.browser().signIn(ann.UPN, "a new one entirely").session(t)
}
