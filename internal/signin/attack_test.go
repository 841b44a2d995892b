package signin

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// state makes the hidden field of a page of a stage for a browser.
func (b *browser) state(f flow) string {
	b.t.Helper()
	r := b.request(b.p)
	text, h, err := b.p.Hide(r, purposeFlow, f)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(h) > 0 {
		b.t.Fatal("the browser has no cookie yet")
	}
	return text
}

// Every form there is, now and later: each route that takes a POST.
func TestEveryFormKnowsWhereItCameFrom(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	b := p.browser()
	b.signIn(ann.UPN, password).session(t)
	one := b.sessions()[0]
	other := p.browser()
	other.get("/app?x=1")
	stages := []stage{stageName, stagePassword, stageCode, stagePick, stageChange, stageEnrol, stageAccount}
	posts := 0
	for _, rt := range p.Routes() {
		if rt.Method == http.MethodGet {
			continue
		}
		if rt.Method != http.MethodPost {
			t.Errorf("%s serves %q", rt.Path, rt.Method)
		}
		posts++
		if rt.MaxBody == 0 || rt.MaxBody > maxForm {
			t.Errorf("%s takes %d bytes", rt.Path, rt.MaxBody)
		}
		// A state that fits: the page of some stage, made for this browser.
		fitting := ""
		full := flow{User: ann.ID, Proven: p.now(), AMR: []string{"pwd"}, Session: one.ID, Ask: Ask{Return: "/app?x=1"}, Name: ann.UPN, Secret: "AAAA"}
		for _, st := range stages {
			full.Stage = st
			pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {b.state(full)}, "probe": {strings.Repeat("&", 0)}}, asForeign)
			if pg.status != 403 || !strings.Contains(pg.body, "CrossOrigin") {
				t.Fatalf("%s from another origin: %d", rt.Path, pg.status)
			}
			if pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {b.state(full)}, "x": make([]string, maxFields)}); !strings.Contains(pg.body, "BadForm") {
				t.Errorf("%s takes any number of fields: %d", rt.Path, pg.status)
			}
			fitting = b.state(full)
		}
		for what, change := range map[string]func(*http.Request){
			"without an origin":   func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") },
			"of an opaque origin": func(r *http.Request) { r.Header.Set("Origin", "null"); r.Header.Del("Sec-Fetch-Site") },
			"of a sibling host": func(r *http.Request) {
				r.Header.Set("Origin", "https://portal.hawser.localhost:8443")
				r.Header.Set("Sec-Fetch-Site", "same-site")
			},
			"of another port":   func(r *http.Request) { r.Header.Set("Origin", "https://login.hawser.localhost") },
			"without TLS":       func(r *http.Request) { r.Header.Set("Origin", "http://"+loginHost) },
			"of two origins":    func(r *http.Request) { r.Header.Add("Origin", "https://evil.example") },
			"from another site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
			"from nowhere":      func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "none") },
		} {
			if pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {fitting}}, change); pg.status != 403 {
				t.Errorf("%s %s: %d", rt.Path, what, pg.status)
			}
		}
		for what, state := range map[string]string{"no state": "", "rubbish": "AAAA", "another browser's": other.state(full), "another purpose's": hidden(b, purposeTicket, full), "of no stage": b.state(flow{})} {
			if pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {state}}); pg.status != 400 || !strings.Contains(pg.body, "PageExpired") {
				t.Errorf("%s with %s: %d %s", rt.Path, what, pg.status, pg.title())
			}
		}
		if pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {fitting}}, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }); pg.status != 415 {
			t.Errorf("%s as text/plain: %d", rt.Path, pg.status)
		}
		if pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {strings.Repeat("A", maxForm+1)}}); pg.status != 413 {
			t.Errorf("%s oversized: %d", rt.Path, pg.status)
		}
		p.shared.clock.advance(pageLife + time.Second)
		if pg := b.do(http.MethodPost, rt.Path, url.Values{"state": {fitting}}); pg.status != 400 {
			t.Errorf("%s with an old state: %d", rt.Path, pg.status)
		}
	}
	if posts < 15 {
		t.Errorf("only %d forms were found", posts)
	}
	if list := b.sessions(); len(list) != 1 || list[0].ID != one.ID {
		t.Errorf("something was done: %+v", list)
	}
}

func asForeign(r *http.Request) {
	r.Header.Set("Origin", "https://evil.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
}

func hidden(b *browser, purpose string, v any) string {
	text, h, err := b.p.Hide(b.request(b.p), purpose, v)
	if err != nil {
		b.t.Fatal(err)
	}
	u, _ := url.Parse("https://" + loginHost + "/")
	b.jar.SetCookies(u, (&http.Response{Header: h}).Cookies())
	return text
}

// A page's state cannot be taken to a step that it was not made for.
func TestStepsCannotBeSkipped(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	p.withCodes(ann)
	b := p.browser()
	b.get("/app?x=1")
	b.submit("signin-name", "loginfmt", ann.UPN)
	_, _, fields := b.page.form("signin-password")
	for _, path := range []string{"/signin/code", "/signin/change", "/signin/enrol", "/signin/enrol-passkey", "/signin/pick", "/account/password", "/account/totp/remove"} {
		if pg := b.do(http.MethodPost, path, fields); pg.status != 400 {
			t.Errorf("%s takes the state of the password page: %d", path, pg.status)
		}
	}
	b.signIn(ann.UPN, password)
	if b.page.title() != "Prove that it is you" || len(b.sessions()) != 0 {
		t.Fatalf("a password is enough: %s", b.page.title())
	}
}

// Names that nobody has look, and are counted, as others are.
func TestNobodyLearnsWhoExists(t *testing.T) {
	p := onSQLite(t)
	p.person("ann")
	ann, nobody := p.browserFrom("127.0.0.2"), p.browserFrom("127.0.0.3")
	same := func(step string, a, b page) {
		t.Helper()
		norm := func(pg page, name string) string {
			s := hiddenRE.ReplaceAllString(pg.body, "")
			return strings.ReplaceAll(s, name+"@hawser.localhost", "NAME")
		}
		if a.status != b.status || norm(a, "ann") != norm(b, "nil") || a.header.Get("Retry-After") != b.header.Get("Retry-After") {
			t.Errorf("%s differs: %d %d\n%s\n%s", step, a.status, b.status, norm(a, "ann"), norm(b, "nil"))
		}
	}
	ann.get("/app?x=1")
	nobody.get("/app?x=1")
	same("name", ann.submit("signin-name", "loginfmt", "ann@hawser.localhost"), nobody.submit("signin-name", "loginfmt", "nil@hawser.localhost"))
	for i := range 12 {
		same(fmt.Sprint("password ", i), ann.submit("signin-password", "passwd", "wrong"), nobody.submit("signin-password", "passwd", "wrong"))
	}
	if ann.page.status != 429 {
		t.Errorf("twelve wrong passwords: %d", ann.page.status)
	}
	// A name nobody has is not recorded: it may be a password.
	for _, r := range p.records() {
		if strings.Contains(r.Name+r.Reason+r.Detail, "nil@") {
			t.Errorf("recorded %+v", r)
		}
	}
	// Disabled is said only to who knows the password.
	_, _, err := p.Password(t.Context(), "nil@hawser.localhost", az.NewSecret("x"), "192.0.2.1:5")
	_, _, err2 := p.Password(t.Context(), "ann@hawser.localhost", az.NewSecret("x"), "192.0.2.1:5")
	if !az.Is(err, az.Unauthorized) || err.Error() != err2.Error() {
		t.Errorf("%v, %v", err, err2)
	}
}

// guess tries in vain from a network without the cost of hashing.
func (p *plane) guess(account, peer string) error {
	return p.begin(context.Background(), p.attempt(tryPassword, account, peer, ""))
}

func TestAVictimIsNotLockedOut(t *testing.T) {
	a, other := pair(t)
	ann := a.person("ann")
	known := a.browser()
	known.signIn(ann.UPN, password).session(t)
	// A thousand networks guess, on two planes.
	refused := 0
	for i := range 150 {
		p := a
		if i%2 == 1 {
			p = other
		}
		if err := p.guess(ann.UPN, fmt.Sprintf("198.51.%d.%d", i%2, i)); err != nil {
			if !az.Is(err, az.TooMany) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused < 90 {
		t.Errorf("only %d of 150 guesses were refused", refused)
	}
	// Her own browser is not touched by it, on either plane.
	known.at(other)
	known.signIn(ann.UPN, password).session(t)
	// A browser that was never hers has to wait, but not for ever.
	strange := a.browser()
	if pg := strange.signIn(ann.UPN, password); pg.status != 429 || pg.header.Get("Retry-After") == "" {
		t.Errorf("a strange browser during the attack: %d", pg.status)
	}
	a.shared.clock.advance(limitAccount.most + time.Second)
	strange.signIn(ann.UPN, password).session(t)
	// Another's device cookie, or a forged one, is no help.
	bob := a.person("bob")
	evil := a.browserFrom("127.0.0.9")
	evil.signIn(bob.UPN, password).session(t)
	for range 60 {
		_ = a.guess(ann.UPN, fmt.Sprintf("203.0.113.%d", refused%250))
		refused++
	}
	if pg := evil.signIn(ann.UPN, password); pg.status != 429 {
		t.Errorf("with another's device: %d", pg.status)
	}
	evil.setCookie(deviceCookie, base64.RawURLEncoding.EncodeToString([]byte(`{"id":"x","accounts":["`+ann.ID+`"]}`)))
	if pg := evil.signIn(ann.UPN, password); pg.status != 429 {
		t.Errorf("with a forged device: %d", pg.status)
	}
	// And a stolen device may not guess for ever either.
	for range 12 {
		known.signIn(ann.UPN, "wrong")
	}
	if known.page.status != 429 {
		t.Errorf("twelve wrong passwords on a known device: %d", known.page.status)
	}
}

func TestWaitsGrowAndEnd(t *testing.T) {
	each(t, func(t *testing.T, p *plane) {
		wait := func() time.Duration {
			var e *az.Error
			if err := p.guess("x@y", "192.0.2.1"); err != nil && errors.As(err, &e) {
				return e.RetryAfter
			}
			return 0
		}
		for i := range limitNetwork.free {
			if w := wait(); w != 0 {
				t.Fatalf("attempt %d waits %s", i, w)
			}
		}
		last := time.Duration(0)
		for range 8 {
			w := wait()
			if w < last-time.Second || w > limitNetwork.most {
				t.Errorf("waits %s after %s", w, last)
			}
			last = w
			p.shared.clock.advance(w)
			if err := p.guess("x@y", "192.0.2.1"); err != nil {
				t.Fatalf("after the wait: %v", err)
			}
		}
		if last < limitNetwork.most-time.Second {
			t.Errorf("the waits end at %s", last)
		}
		// Others are not concerned: another network, another account.
		if err := p.guess("x@y", "192.0.2.2"); err != nil {
			t.Error(err)
		}
		// One IPv6 host has 2^64 addresses, and counts as one.
		for i := range 20 {
			err := p.guess("v6@y", fmt.Sprintf("2001:db8::%x", i))
			if i >= 10 && !az.Is(err, az.TooMany) {
				t.Fatalf("address %d: %v", i, err)
			}
		}
	})
}

// One password tried on everybody is one network's guessing.
func TestSprayingIsSlowedDown(t *testing.T) {
	p := onSQLite(t)
	refused := 0
	for i := range 150 {
		if p.guess(fmt.Sprintf("user%d@hawser.localhost", i), "192.0.2.7") != nil {
			refused++
		}
	}
	if refused < 40 {
		t.Errorf("%d of 150 were refused", refused)
	}
}

func TestGuessesAtOnceAreCounted(t *testing.T) {
	a, b := pair(t)
	var wg sync.WaitGroup
	results := make(chan error, 60)
	for i := range cap(results) {
		p := a
		if i%2 == 1 {
			p = b
		}
		wg.Go(func() { results <- p.guess("x@y", "192.0.2.1") })
	}
	wg.Wait()
	close(results)
	free := int64(0)
	for err := range results {
		if err == nil {
			free++
		}
	}
	if free != limitNetwork.free {
		t.Errorf("%d guesses at once were let through, want %d", free, limitNetwork.free)
	}
}

func TestHashingIsBounded(t *testing.T) {
	h := newHashing()
	var leaves []func()
	for range cap(h.slots) {
		leave, err := h.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	h.waiting.Store(maxQueue)
	if _, err := h.enter(t.Context()); !az.Is(err, az.TooMany) {
		t.Errorf("a full queue: %v", err)
	}
	h.waiting.Store(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.enter(ctx); !az.Is(err, az.TooMany) {
		t.Errorf("who left: %v", err)
	}
	for _, leave := range leaves {
		leave()
	}
	if leave, err := h.enter(t.Context()); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}

func TestPasswordForClients(t *testing.T) {
	p := onSQLite(t)
	ann, bob := p.person("ann"), p.person("bob")
	p.withCodes(bob)
	ctx := t.Context()
	if oid, factor, err := p.Password(ctx, ann.UPN, az.NewSecret(password), "192.0.2.1:5"); err != nil || factor || oid != ann.ID {
		t.Errorf("%s %v %v", oid, factor, err)
	}
	if oid, factor, err := p.Password(ctx, bob.UPN, az.NewSecret(password), "192.0.2.1"); err != nil || !factor || oid != bob.ID {
		t.Errorf("with a factor: %s %v %v", oid, factor, err)
	}
	if _, _, err := p.Password(ctx, ann.UPN, az.NewSecret(strings.Repeat("x", maxPassword+1)), "192.0.2.1"); !az.Is(err, az.Unauthorized) {
		t.Errorf("oversized: %v", err)
	}
	for range 11 {
		_ = p.guess(ann.UPN, "192.0.2.1")
	}
	if _, _, err := p.Password(ctx, ann.UPN, az.NewSecret(password), "192.0.2.1:7"); !az.Is(err, az.TooMany) {
		t.Errorf("after guessing: %v", err)
	}
	last := p.records()
	if r := last[len(last)-1]; r.Outcome != guard.Refused || r.Reason != "TooManyAttempts" || r.Who != ann.ID {
		t.Errorf("recorded %+v", r)
	}
	p.write(func(tx *store.Tx) error { return p.dir.Remove(tx, bob.ID) })
	if _, _, err := p.Password(ctx, bob.UPN, az.NewSecret(password), "192.0.2.2"); !az.Is(err, az.Unauthorized) {
		t.Errorf("deleted: %v", err)
	}
}

// What a page hides opens in its own browser, for its own purpose, in time.
func TestHideAndReveal(t *testing.T) {
	p := onSQLite(t)
	b := p.browser()
	b.get("/app?x=1")
	type thing struct{ A string }
	text := hidden(b, "consent", thing{"x"})
	post := func(b *browser, change func(*rest.Request)) *rest.Request {
		r := b.request(p)
		r.Method = http.MethodPost
		r.Header.Set("Origin", "https://"+loginHost)
		if change != nil {
			change(r)
		}
		return r
	}
	var got thing
	if err := p.Reveal(post(b, nil), "consent", text, &got); err != nil || got.A != "x" {
		t.Errorf("%v %v", got, err)
	}
	other := p.browser()
	hidden(other, "consent", thing{"y"})
	for what, err := range map[string]error{
		"another purpose":     p.Reveal(post(b, nil), "device", text, &got),
		"another browser":     p.Reveal(post(other, nil), "consent", text, &got),
		"no cookie":           p.Reveal(post(p.browser(), nil), "consent", text, &got),
		"two cookies":         p.Reveal(post(b, func(r *rest.Request) { r.AddCookie(&http.Cookie{Name: pageCookie, Value: randomSecret()}) }), "consent", text, &got),
		"another origin":      p.Reveal(post(b, func(r *rest.Request) { r.Header.Set("Origin", "https://evil.example") }), "consent", text, &got),
		"cut":                 p.Reveal(post(b, nil), "consent", text[:len(text)-4], &got),
		"changed":             p.Reveal(post(b, nil), "consent", changed(text), &got),
		"empty":               p.Reveal(post(b, nil), "consent", "", &got),
		"far longer than any": p.Reveal(post(b, nil), "consent", strings.Repeat("A", maxHidden+1), &got),
	} {
		if err == nil {
			t.Errorf("%s: it opened", what)
		}
	}
	// What was hidden before a sign-in opens after it.
	p.person("ann")
	b.signIn("ann@hawser.localhost", password).session(t)
	if err := p.Reveal(post(b, nil), "consent", text, &got); err != nil {
		t.Error(err)
	}
	p.shared.clock.advance(pageLife + time.Second)
	if err := p.Reveal(post(b, nil), "consent", text, &got); err == nil {
		t.Error("it opened too late")
	}
}

// What the app's registration says of itself is text on a page, not markup.
func TestPagesEscape(t *testing.T) {
	p := onSQLite(t)
	evil := `"><script>alert(1)</script>`
	r := p.browser().request(p)
	for _, pg := range []Page{ConsentPage{App: evil, Publisher: evil, User: evil, Scopes: []ScopeLine{{evil, evil}}, State: evil, Action: "/x"}, DevicePage{Code: evil, App: evil, IP: evil, User: evil},
		FormPostPage{Action: "https://app.example/cb", Fields: [][2]string{{"state", evil}}}, ErrorPage{Code: evil, Message: evil}, SignedOutPage{Frames: []string{"https://a.example/out?x=" + evil}, Continue: "javascript:alert(1)"},
		ContinuePage{URL: "https://a.example/?x=" + evil}, namePage{App: evil, Name: evil, Problem: evil, Provider: evil, Passkey: evil}} {
		reply := p.Page(r, 200, pg)
		body := string(reply.Body.([]byte))
		if strings.Contains(body, "<script>") || strings.Contains(body, `"javascript:`) {
			t.Errorf("%T: %s", pg, body)
		}
		if reply.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%T has no policy", pg)
		}
	}
	post := p.Page(r, 200, FormPostPage{Action: "https://app.example/cb", Fields: nil})
	if csp := post.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://app.example") || !strings.Contains(csp, "script-src https://"+loginHost+"/signin/submit-") {
		t.Errorf("form_post: %s", csp)
	}
	for _, to := range []string{"javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", " javascript:x", "java\nscript:x"} {
		reply := p.Page(r, 200, ContinuePage{URL: to})
		if got := reply.Header.Get("Refresh"); got != "0; url=/account" || strings.Contains(string(reply.Body.([]byte)), "alert") {
			t.Errorf("%q goes on to %q", to, got)
		}
	}
	out := p.Page(r, 200, SignedOutPage{Frames: []string{"https://a.example/out", "javascript:alert(1)", "https://b.example; script-src *"}})
	if csp := out.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-src https://a.example") || strings.Contains(csp, "script-src") {
		t.Errorf("frames: %s", csp)
	}
}

// changed is a text with another first character, whatever that was.
func changed(text string) string {
	if text[0] == 'B' {
		return "C" + text[1:]
	}
	return "B" + text[1:]
}
