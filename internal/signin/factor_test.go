package signin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// softKey is an authenticator in software, for ES256 and no attestation.
type softKey struct {
	key     *ecdsa.PrivateKey
	id      []byte
	handle  []byte
	counter uint32
	origin  string
	rp      string
	still   bool // it does not count, as many do not
	flags   byte // user present 1, user verified 4
}

func newSoftKey(t testing.TB) *softKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return &softKey{key: k, id: id, origin: "https://" + loginHost, rp: "login.hawser.localhost", flags: 5}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (k *softKey) clientData(kind, challenge string) []byte {
	b, _ := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": k.origin, "crossOrigin": false})
	return b
}

func (k *softKey) authData(attested bool) []byte {
	sum := sha256.Sum256([]byte(k.rp))
	flags := k.flags
	if attested {
		flags |= 0x40
	}
	b := append(sum[:], flags)
	b = binary.BigEndian.AppendUint32(b, k.counter)
	if !attested {
		return b
	}
	b = append(b, make([]byte, 16)...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.id)))
	b = append(b, k.id...)
	pub, _ := k.key.PublicKey.Bytes()                             // 4 | x | y
	b = append(b, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 0x20) // COSE: EC2, ES256, P-256
	b = append(b, pub[1:33]...)
	b = append(b, 0x22, 0x58, 0x20)
	return append(b, pub[33:]...)
}

// create answers a page that asks for a new passkey.
func (k *softKey) create(t testing.TB, options string) string {
	t.Helper()
	var o struct {
		Challenge string
		User      struct{ ID string }
		RP        struct{ ID string }
	}
	if err := json.Unmarshal([]byte(options), &o); err != nil || o.Challenge == "" {
		t.Fatalf("options %q: %v", options, err)
	}
	k.handle, _ = base64.RawURLEncoding.DecodeString(o.User.ID)
	data := k.authData(true)
	obj := append([]byte{0xa3, 0x63}, "fmt"...)
	obj = append(append(obj, 0x64), "none"...)
	obj = append(append(obj, 0x67), "attStmt"...)
	obj = append(append(obj, 0xa0, 0x68), "authData"...)
	obj = append(obj, 0x59)
	obj = binary.BigEndian.AppendUint16(obj, uint16(len(data)))
	obj = append(obj, data...)
	b, _ := json.Marshal(map[string]any{"id": b64(k.id), "rawId": b64(k.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64(k.clientData("webauthn.create", o.Challenge)), "attestationObject": b64(obj), "transports": []string{"internal"}}})
	return string(b)
}

// get answers a page that asks for a passkey.
func (k *softKey) get(t testing.TB, options string) string {
	t.Helper()
	var o struct{ Challenge string }
	if err := json.Unmarshal([]byte(options), &o); err != nil || o.Challenge == "" {
		t.Fatalf("options %q: %v", options, err)
	}
	if !k.still {
		k.counter++
	}
	client, data := k.clientData("webauthn.get", o.Challenge), k.authData(false)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, k.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(map[string]any{"id": b64(k.id), "rawId": b64(k.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(sig), "userHandle": b64(k.handle)}})
	return string(b)
}

// answer uses the key on the present page.
func (b *browser) answer(k *softKey) page {
	b.t.Helper()
	_, tag, _ := b.page.form("signin-passkey")
	return b.submit("signin-passkey", "response", k.get(b.t, attribute(tag, "data-get")))
}

// addPasskey adds the key on the own page.
func (b *browser) addPasskey(k *softKey, label string) page {
	b.t.Helper()
	b.get("/account")
	b.submit("passkey-begin")
	_, tag, _ := b.page.form("passkey-add")
	return b.submit("passkey-add", "response", k.create(b.t, attribute(tag, "data-create")), "label", label)
}

func TestCodes(t *testing.T) {
	each(t, func(t *testing.T, p *plane) {
		ann := p.person("ann")
		secret := p.withCodes(ann)
		b := p.browser()
		before := b.signIn(ann.UPN, password)
		if before.title() != "Prove that it is you" {
			t.Fatalf("%s", before.body)
		}
		bound := b.cookie(browserCookie)
		for _, wrong := range []string{"000000", "", "12345", "1234567", "abcdef", "١٢٣٤٥٦"} {
			if pg := b.submit("signin-code", "otc", wrong); pg.status != 200 && pg.status != 429 || pg.alert() == "" {
				t.Errorf("%q: %d %s", wrong, pg.status, pg.title())
			}
		}
		p.shared.clock.advance(2 * time.Minute) // six in vain: a wait
		b.page = before
		b.page = b.signIn(ann.UPN, password)
		code := p.code(secret)
		one := b.submit("signin-code", "otc", code[:3]+" "+code[3:]).session(t)
		if !cmp.Equal(one.AMR, []string{"pwd", "otp", "mfa"}) || !one.MFA() || b.cookie(browserCookie) == bound {
			t.Errorf("%+v", one)
		}
		// The same code again, in a whole new sign-in.
		other := p.browser()
		other.signIn(ann.UPN, password)
		if pg := other.submit("signin-code", "otc", code); pg.alert() == "" {
			t.Errorf("a used code was good: %s", pg.title())
		}
		p.shared.clock.advance(codePeriod * time.Second)
		other.signIn(ann.UPN, password)
		other.submit("signin-code", "otc", p.code(secret)).session(t)
		// Too old: two steps.
		late := p.code(secret)
		p.shared.clock.advance(2*codePeriod*time.Second + time.Second)
		other.signIn(ann.UPN, password)
		if pg := other.submit("signin-code", "otc", late); pg.alert() == "" {
			t.Error("a code of two steps ago was good")
		}
	})
}

func TestCodeOnceOnTwoPlanes(t *testing.T) {
	a, other := pair(t)
	ann := a.person("ann")
	code := a.code(a.withCodes(ann))
	var wg sync.WaitGroup
	results := make(chan error, 5) // as many as are let through at once
	for i := range cap(results) {
		p := a
		if i%2 == 1 {
			p = other
		}
		wg.Go(func() { results <- p.tryCode(t.Context(), ann, code, "192.0.2.1", device{}) })
	}
	wg.Wait()
	close(results)
	good := 0
	for err := range results {
		if err == nil {
			good++
		} else if !az.Is(err, az.Unauthorized) {
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("the code was good %d times", good)
	}
}

// Who knows the password can neither guess codes nor lock the owner out.
func TestGuessingCodes(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	secret := p.withCodes(ann)
	known := p.browser()
	known.signIn(ann.UPN, password)
	known.submit("signin-code", "otc", p.code(secret)).session(t)
	refused := 0
	for i := range 120 {
		if az.Is(p.tryCode(t.Context(), ann, "000000", fmt.Sprintf("198.51.100.%d", i), device{}), az.TooMany) {
			refused++
		}
	}
	if refused < 85 {
		t.Errorf("only %d of 120 were refused", refused)
	}
	p.shared.clock.advance(codePeriod * time.Second)
	known.signIn(ann.UPN, password)
	known.submit("signin-code", "otc", p.code(secret)).session(t)
}

func TestRequiredFactorIsSetUpAtSignIn(t *testing.T) {
	p := onSQLite(t, func(c *Config) { c.Policy.MFA = MFARequired })
	ann := p.person("ann")
	b := p.browser()
	if pg := b.signIn(ann.UPN, password); pg.title() != "Set up a second factor" || !strings.Contains(pg.body, `src="data:image/png;base64,`) ||
		!strings.Contains(pg.header.Get("Content-Security-Policy"), "img-src data:") {
		t.Fatalf("%s", pg.body)
	}
	if len(b.sessions()) != 0 {
		t.Error("there is a session without the factor")
	}
	b.signIn(ann.UPN, password)
	secret := func() string {
		_, rest, _ := strings.Cut(b.page.body, `<code id="secret">`)
		s, _, _ := strings.Cut(rest, "<")
		return s
	}
	was := secret()
	if pg := b.submit("signin-enrol", "otc", "000000"); pg.alert() == "" || secret() != was {
		t.Errorf("%s", pg.body)
	}
	if _, _, fields := b.page.form("signin-enrol"); strings.Contains(fields.Get("state"), was) {
		t.Error("the secret stands in the state")
	}
	keep := b.page
	one := b.submit("signin-enrol", "otc", p.code(was)).session(t)
	if !one.MFA() {
		t.Errorf("%+v", one)
	}
	// The set-up page is void now: nobody sets up another factor by it.
	b.page = keep
	if pg := b.submit("signin-enrol", "otc", p.code(was)); pg.status != 400 {
		t.Errorf("the page was good again: %d", pg.status)
	}
	// Nor a second window that was open since before.
	p.shared.clock.advance(codePeriod * time.Second)
	b.signIn(ann.UPN, password)
	b.submit("signin-code", "otc", p.code(was)).session(t)
	// The last one stays.
	b.get("/account")
	if pg := b.submit("totp-remove"); !strings.Contains(pg.body, "LastFactor") {
		t.Errorf("%d %s", pg.status, pg.body)
	}
	// The administrator's reset lets her set up a new one.
	p.write(func(tx *store.Tx) error { _, err := tx.DeleteCredential(ann.ID, totpID); return err })
	if pg := p.browser().signIn(ann.UPN, password); pg.title() != "Set up a second factor" || strings.Contains(pg.body, was) {
		t.Errorf("after the reset: %s", pg.title())
	}
	// A required factor may be a passkey.
	bob := p.person("bob")
	c := p.browser()
	c.signIn(bob.UPN, password)
	_, tag, _ := c.page.form("passkey-add")
	k := newSoftKey(t)
	if one := c.submit("passkey-add", "response", k.create(t, attribute(tag, "data-create"))).session(t); !cmp.Equal(one.AMR, []string{"pwd", "fido", "mfa"}) {
		t.Errorf("%+v", one)
	}
}

// An app may ask for a second factor although the plane does not.
func TestAppAsksForAFactor(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	b := p.browser()
	b.signIn(ann.UPN, password).session(t)
	b.get("/app?x=1&mfa=1")
	b.submit("signin-name", "loginfmt", ann.UPN)
	if pg := b.submit("signin-password", "passwd", password); pg.title() != "Set up a second factor" {
		t.Errorf("%s", pg.title())
	}
}

func TestPasskeys(t *testing.T) {
	each(t, func(t *testing.T, p *plane) {
		ann := p.person("ann")
		b := p.browser()
		b.signIn(ann.UPN, password).session(t)
		k := newSoftKey(t)
		old := b.cookie(sessionCookie)
		if pg := b.addPasskey(k, "My <laptop>"); pg.title() != "Your account" || !strings.Contains(pg.body, "My &lt;laptop&gt;") || string(k.handle) != ann.ID {
			t.Fatalf("%d %s", pg.status, pg.body)
		}
		if b.cookie(sessionCookie) == old || !b.sessions()[0].MFA() {
			t.Error("the session is the old one")
		}
		// Without a name or a password.
		c := p.browser()
		c.get("/app?x=1")
		one := c.answer(k).session(t)
		if one.User != ann.ID || !cmp.Equal(one.AMR, []string{"fido", "mfa"}) {
			t.Errorf("%+v", one)
		}
		// As the second factor.
		c.signIn(ann.UPN, password)
		if pg := c.page; pg.title() != "Prove that it is you" || strings.Contains(pg.body, `name="otc"`) {
			t.Fatalf("%s", pg.body)
		}
		bound := c.cookie(browserCookie)
		if one := c.answer(k).session(t); !cmp.Equal(one.AMR, []string{"pwd", "fido", "mfa"}) || c.cookie(browserCookie) == bound {
			t.Errorf("%+v", one)
		}
		// Bob's passkey is no second factor for Ann.
		bob := p.person("bob")
		d := p.browser()
		d.signIn(bob.UPN, password).session(t)
		kb := newSoftKey(t)
		d.addPasskey(kb, "")
		d.signIn(ann.UPN, password)
		if pg := d.answer(kb); pg.alert() == "" {
			t.Errorf("another's passkey: %s", pg.title())
		}
		// No lockout stops a passkey.
		for range 80 {
			_ = p.guess(ann.UPN, "127.0.0.1")
		}
		c = p.browser()
		c.get("/app?x=1")
		c.answer(k).session(t)
		// Removed.
		b.get("/account")
		b.submit("passkey-begin") // asks for a fresh sign-in or shows the page: either way the list below decides
		b.get("/account")
		_, rest, _ := strings.Cut(b.page.body, `action="/account/passkey/remove"`)
		_, fieldsText, _ := strings.Cut(rest, `name="id" value="`)
		id, _, _ := strings.Cut(fieldsText, `"`)
		_, _, fields := b.page.form("everywhere")
		fields.Set("id", id)
		if pg := b.do(http.MethodPost, "/account/passkey/remove", fields); pg.title() != "Your account" {
			t.Fatalf("%d %s", pg.status, pg.body)
		}
		c = p.browser()
		c.get("/app?x=1")
		if pg := c.answer(k); pg.alert() == "" {
			t.Errorf("a removed passkey: %s", pg.title())
		}
	})
}

func TestPasskeyAttacks(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	b := p.browser()
	b.signIn(ann.UPN, password).session(t)
	k := newSoftKey(t)
	b.addPasskey(k, "")
	try := func(change func(*softKey)) page {
		c := p.browser()
		c.get("/app?x=1")
		evil := *k
		change(&evil)
		return c.answer(&evil)
	}
	for what, change := range map[string]func(*softKey){
		"another origin":        func(k *softKey) { k.origin = "https://login.evil.example" },
		"another port":          func(k *softKey) { k.origin = "https://login.hawser.localhost:9999" },
		"another relying party": func(k *softKey) { k.rp = "evil.example" },
		"no verification":       func(k *softKey) { k.flags = 1 },
		"nobody there":          func(k *softKey) { k.flags = 4 },
		"another key":           func(k *softKey) { k.key = newSoftKey(t).key },
		"another's handle":      func(k *softKey) { k.handle = []byte(az.NewGUID()) },
		"no handle":             func(k *softKey) { k.handle = nil },
		"a wild handle":         func(k *softKey) { k.handle = []byte("' or 1=1") },
		"another id":            func(k *softKey) { k.id = []byte("0123456789abcdef") },
	} {
		if pg := try(change); pg.alert() == "" || pg.title() != "Sign in" {
			t.Errorf("%s: %d %s", what, pg.status, pg.title())
		}
	}
	if pg := try(func(*softKey) {}); pg.title() != "" {
		t.Fatalf("the key itself: %s %s", pg.title(), pg.alert())
	}
	k.counter += 5
	if pg := try(func(*softKey) {}); pg.title() != "" {
		t.Fatalf("a later counter: %s", pg.alert())
	}
	// A copy's counter is behind.
	if pg := try(func(k *softKey) { k.counter = 1 }); pg.alert() == "" {
		t.Error("a copied passkey was accepted")
	}
	// An answer is good for its own page and once.
	c := p.browser()
	c.get("/app?x=1")
	k.counter += 10
	_, tag, fields := c.page.form("signin-passkey")
	fields.Set("response", k.get(t, attribute(tag, "data-get")))
	bound := c.cookie(browserCookie)
	c.do(http.MethodPost, "/signin/passkey", fields).session(t)
	if pg := c.do(http.MethodPost, "/signin/passkey", fields); pg.status != 400 {
		t.Errorf("replayed in the same browser: %d", pg.status)
	}
	c.setCookie(browserCookie, bound)
	if pg := c.do(http.MethodPost, "/signin/passkey", fields); pg.alert() == "" {
		t.Error("replayed with the older cookie")
	}
	still := newSoftKey(t) // a key that does not count is no weaker
	still.still = true
	bob := p.person("bob")
	g := p.browser()
	g.signIn(bob.UPN, password).session(t)
	g.addPasskey(still, "")
	g.get("/app?x=1&fresh=1")
	_, tag, again := g.page.form("signin-passkey")
	again.Set("response", still.get(t, attribute(tag, "data-get")))
	bound = g.cookie(browserCookie)
	g.do(http.MethodPost, "/signin/passkey", again).session(t)
	g.setCookie(browserCookie, bound)
	if pg := g.do(http.MethodPost, "/signin/passkey", again); pg.alert() == "" {
		t.Error("a key that does not count was replayed")
	}
	d := p.browser()
	d.get("/app?x=1")
	_, _, other := d.page.form("signin-passkey")
	other.Set("response", fields.Get("response"))
	if pg := d.do(http.MethodPost, "/signin/passkey", other); pg.alert() == "" {
		t.Error("replayed on another page")
	}
	for _, text := range []string{"{}", "null", "[]", `{"id":1}`, strings.Repeat("[", 5000), strings.Repeat("x", maxPasskeyAnswer+1)} {
		e := p.browser()
		e.get("/app?x=1")
		if pg := e.submit("signin-passkey", "response", text); pg.alert() == "" || pg.status >= 500 {
			t.Errorf("%.20q: %d", text, pg.status)
		}
	}
	// A disabled person's passkey opens nothing.
	p.write(func(tx *store.Tx) error {
		o, _, err := tx.Object(ann.ID)
		if err != nil {
			return err
		}
		o.Enabled = false
		return tx.UpdateObject(o)
	})
	k.counter += 10
	if pg := try(func(*softKey) {}); pg.alert() == "" {
		t.Error("a disabled person signed in")
	}
}

func TestOwnPage(t *testing.T) {
	p := onSQLite(t)
	ann := p.person("ann")
	b, other := p.browser(), p.browser()
	other.signIn(ann.UPN, password).session(t)
	if pg := b.get("/account"); pg.title() != "Sign in" {
		t.Fatalf("%s", pg.title())
	}
	b.submit("signin-name", "loginfmt", ann.UPN)
	if pg := b.submit("signin-password", "passwd", password); pg.title() != "Your account" || strings.Contains(pg.url.RawQuery, "ticket") || strings.Count(pg.body, "session-end") != 1 {
		t.Fatalf("%s at %s", pg.title(), pg.url)
	}
	// One-time codes: set up, and then needed.
	pg := b.submit("account-totp")
	_, rest, _ := strings.Cut(pg.body, `<code id="secret">`)
	secret, _, _ := strings.Cut(rest, "<")
	if pg := b.submit("signin-enrol", "otc", "123"); pg.alert() == "" {
		t.Error("a wrong code set it up")
	}
	if pg := b.submit("signin-enrol", "otc", p.code(secret)); pg.title() != "Your account" || !strings.Contains(pg.body, "is set up") {
		t.Fatalf("%d %s %s", pg.status, pg.title(), pg.alert())
	}
	// A session from before the factor may not change factors: it proves itself first.
	other.get("/account")
	if pg := other.submit("totp-remove"); pg.title() != "Enter your password" {
		t.Errorf("an older session removes the factor: %s", pg.title())
	}
	// Nor one that is not recent.
	p.shared.clock.advance(recentFor + time.Minute)
	b.get("/account")
	if pg := b.submit("totp-remove"); pg.title() != "Enter your password" {
		t.Errorf("a stale session removes the factor: %s", pg.title())
	}
	b.submit("signin-password", "passwd", password)
	b.submit("signin-code", "otc", p.code(secret))
	if pg := b.submit("totp-remove"); pg.title() != "Your account" || !strings.Contains(pg.body, "was removed") {
		t.Errorf("%d %s", pg.status, pg.title())
	}
	// The other session is ended from here.
	b.get("/account")
	if n := len(other.sessions()); n != 1 {
		t.Fatalf("%d", n)
	}
	stranger := p.person("bob")
	sb := p.browser()
	sb.signIn(stranger.UPN, password).session(t)
	_, _, fields := b.page.form("everywhere")
	fields.Set("id", sb.sessions()[0].ID)
	b.do(http.MethodPost, "/account/session/end", fields)
	if len(sb.sessions()) != 1 {
		t.Error("a stranger's session was ended")
	}
	b.get("/account")
	_, _, fields = b.page.form("everywhere")
	fields.Set("id", other.sessions()[0].ID)
	b.do(http.MethodPost, "/account/session/end", fields)
	if len(other.sessions()) != 0 {
		t.Error("the other session was not ended")
	}
	// A new password ends every other session and this one goes on under a new id.
	other.signIn(ann.UPN, password).session(t)
	b.get("/account")
	if pg := b.submit("account-password", "passwd", "nope", "newpasswd", "entirely new words", "confirmpasswd", "entirely new words"); pg.alert() == "" {
		t.Error("the old password was not asked for")
	}
	was := b.cookie(sessionCookie)
	if pg := b.submit("account-password", "passwd", password, "newpasswd", "entirely new words", "confirmpasswd", "entirely new words"); pg.title() != "Your account" || !strings.Contains(pg.body, "was changed") {
		t.Fatalf("%d %s %s", pg.status, pg.title(), pg.alert())
	}
	if len(other.sessions()) != 0 || len(b.sessions()) != 1 || b.cookie(sessionCookie) == was {
		t.Error("sessions after a new password")
	}
	other.signIn(ann.UPN, "entirely new words").session(t)
	b.get("/account")
	if pg := b.submit("everywhere"); pg.title() != "You are signed out" || len(other.sessions()) != 0 || len(b.sessions()) != 0 {
		t.Errorf("everywhere: %s", pg.title())
	}
	b.signIn(ann.UPN, "entirely new words").session(t)
	b.get("/account")
	if pg := b.submit("account-signout"); pg.title() != "You are signed out" || b.cookie(sessionCookie) != "" || len(b.sessions()) != 0 {
		t.Errorf("signed out: %s", pg.title())
	}
	if pg := b.do(http.MethodGet, "/signin/password", nil); pg.title() != "Sign in" {
		t.Errorf("a form's address alone: %s", pg.title())
	}
}

// A rotation leaves nothing under the older key.
func TestReseal(t *testing.T) {
	each(t, func(t *testing.T, p *plane) {
		ann := p.person("ann")
		secret := p.withCodes(ann)
		wrapped, err := p.SignIn.sealer.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.SignIn.sealer.Reload(wrapped); err != nil {
			t.Fatal(err)
		}
		if n, err := p.Reseal(t.Context()); err != nil || n != 1 {
			t.Fatalf("%d %v", n, err)
		}
		if n, err := p.Reseal(t.Context()); err != nil || n != 0 {
			t.Fatalf("again: %d %v", n, err)
		}
		if err := p.tryCode(t.Context(), ann, p.code(secret), "192.0.2.1", device{}); err != nil {
			t.Error(err)
		}
	})
}
