package signin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// What an outside provider says of a second factor is no answer to ours.
func TestOutsideProviderDoesNotStandInForAFactor(t *testing.T) {
	p, c := withCompany(t)
	c.person(ann("amr", []string{"pwd", "mfa", "otp", "fido"}))
	first := c.through(t, p.browser()).session(t)
	if (&flow{AMR: first.AMR}).has(amrCode) || (&flow{AMR: first.AMR}).has(amrPasskey) || !first.MFA() {
		t.Errorf("taken over from outside: %v", first.AMR)
	}
	o, _, err := p.dir.Get(t.Context(), first.User)
	if err != nil {
		t.Fatal(err)
	}
	p.withCodes(o)
	b := p.browser()
	if pg := c.through(t, b); pg.title() != "Prove that it is you" || len(b.sessions()) != 0 {
		t.Errorf("the factor was not asked for: %s", pg.title())
	}
}

// The counter of a passkey is compared with the one in the store, whatever was
// read of it before: of two planes that see a copy, one refuses.
func TestPasskeyCounterInTheStore(t *testing.T) {
	p := onSQLite(t)
	o := p.person("ann")
	b := p.browser()
	b.signIn(o.UPN, password).session(t)
	k := newSoftKey(t)
	k.counter = 10
	b.addPasskey(k, "")
	used := func(n uint32, clone bool) *webauthn.Credential {
		f, err := p.factors(t.Context(), o.ID)
		if err != nil || len(f.passkeys) != 1 {
			t.Fatal(len(f.passkeys), err)
		}
		c := f.passkeys[0].cred
		c.Authenticator.SignCount, c.Authenticator.CloneWarning = n, clone
		return &c
	}
	was := used(0, false)
	for _, x := range []struct {
		n     uint32
		clone bool
		good  bool
	}{{50, false, true}, {50, false, false}, {49, false, false}, {0, false, false}, {51, true, false}, {51, false, true}} {
		if err := p.countPasskey(t.Context(), o.ID, used(x.n, x.clone)); (err == nil) != x.good {
			t.Errorf("%d %v: %v", x.n, x.clone, err)
		}
	}
	was.ID = []byte("removed meanwhile")
	was.Authenticator.SignCount = 99
	if err := p.countPasskey(t.Context(), o.ID, was); !az.Is(err, az.Forbidden) {
		t.Errorf("a passkey that is not there: %v", err)
	}
}

// Whoever signs out leaves no page behind that a factor alone would finish.
func TestSignOutVoidsHalfDoneSignIns(t *testing.T) {
	p := onSQLite(t)
	bob, o := p.person("bob"), p.person("ann")
	secret := p.withCodes(o)
	b := p.browser()
	b.signIn(bob.UPN, password).session(t)
	b.signIn(o.UPN, password)
	action, _, fields := b.page.form("signin-code")
	if action == "" {
		t.Fatal(b.page.title())
	}
	b.get("/out")
	fields.Set("otc", p.code(secret))
	if pg := b.do(http.MethodPost, action, fields); pg.status != 400 || len(b.sessions()) != 0 {
		t.Errorf("after signing out: %d %s", pg.status, pg.title())
	}
}

// An address is where a connection comes from, never what it says of itself.
func TestLockoutDoesNotBelieveHeaders(t *testing.T) {
	p := onSQLite(t)
	o := p.person("ann")
	b := p.browser()
	blocked := 0
	for i := range limitNetwork.free + 5 {
		b.get("/app?x=1")
		b.submit("signin-name", "loginfmt", o.UPN)
		action, _, fields := b.page.form("signin-password")
		fields.Set("passwd", "wrong password")
		from := fmt.Sprintf("203.0.113.%d", i)
		pg := b.do(http.MethodPost, action, fields, func(r *http.Request) {
			for _, h := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "X-Client-Ip", "Cf-Connecting-Ip"} {
				r.Header.Set(h, from)
			}
			r.Header.Set("Forwarded", "for="+from)
		})
		if pg.status == 429 {
			blocked++
		}
	}
	if blocked < 4 {
		t.Errorf("%d of the attempts were refused", blocked)
	}
	for _, r := range p.records() {
		if r.Peer != "" && r.Peer != "127.0.0.1" {
			t.Errorf("recorded as %s", r.Peer)
		}
	}
}

// Of an account that has a way to sign in of its own none is made anybody's by
// its name, whichever way that is.
func TestOutsidersTakeNoAccountWithAPasskeyOrCodes(t *testing.T) {
	p, c := withCompany(t, func(pr *Provider) { pr.TrustNames, pr.Domains = true, []string{"hawser.localhost"} })
	o := p.person("ann")
	row, err := passkeyRow(o.ID, "key", webauthn.Credential{ID: []byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	p.write(func(tx *store.Tx) error { return tx.PutCredential(row) })
	p.dropCredential(o.ID, "password")
	c.person(ann("email", o.UPN))
	if pg := c.through(t, p.browser()); pg.status != 403 {
		t.Errorf("an account with a passkey: %d %s", pg.status, pg.title())
	}
	bob := p.person("bob")
	p.withCodes(bob)
	p.dropCredential(bob.ID, "password")
	c.person(ann("email", bob.UPN, "sub", "s-bob"))
	if pg := c.through(t, p.browser()); pg.status != 403 {
		t.Errorf("an account with one-time codes: %d %s", pg.status, pg.title())
	}
}

func (p *plane) dropCredential(user, id string) {
	p.t.Helper()
	p.write(func(tx *store.Tx) error { _, err := tx.DeleteCredential(user, id); return err })
}

// A provider that does not answer holds nobody up for longer than one timeout.
func TestHungProviderIsAskedOnceForAll(t *testing.T) {
	asked := make(chan struct{}, 100)
	hang := make(chan struct{})
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-hang
	}))
	defer srv.Close()
	o, err := newOutside(Config{Clock: time.Now, HTTP: srv.Client(), Provider: &Provider{Issuer: srv.URL, ClientID: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan error, 21)
	for range 20 {
		go func() { _, err := o.provider(t.Context()); out <- err }()
	}
	<-asked
	// Who goes away does not wait with them.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.provider(ctx); !az.Is(err, az.Unavailable) {
		t.Errorf("%v", err)
	}
	close(hang)
	for range 20 {
		if err := <-out; !az.Is(err, az.Unavailable) {
			t.Errorf("%v", err)
		}
	}
}
