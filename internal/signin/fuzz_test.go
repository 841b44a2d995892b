package signin

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// fuzzed is a sign-in without a listener.
func fuzzed(f *testing.F) *plane {
	f.Helper()
	return newPlane(f, newShared(f), store.Config{Dir: f.TempDir()})
}

// FuzzReveal: nothing but what Hide made opens.
func FuzzReveal(f *testing.F) {
	p := fuzzed(f)
	b := p.browser()
	b.get("/app?x=1")
	good := b.state(flow{Stage: stageName, Ask: Ask{Return: "/app"}})
	r := b.request(p)
	f.Add(good)
	f.Add("")
	f.Add("AA\nAA")
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, text string) {
		var got flow
		if err := p.Reveal(r, purposeFlow, text, &got); err == nil && got.Ask.Return != "/app" {
			t.Errorf("%q opened as %+v", text, got)
		}
	})
}

// FuzzCookies: cookies and forms of strangers break nothing and are nobody.
func FuzzCookies(f *testing.F) {
	p := fuzzed(f)
	b := p.browser()
	f.Add("__Host-hawser-session=x; __Host-hawser-device=AAAA", "state=%zz&a=b")
	f.Add("__Host-hawser-device="+strings.Repeat("A", 4000), "state=&passwd=x")
	f.Fuzz(func(t *testing.T, cookie, body string) {
		r := b.request(p)
		r.Method = http.MethodPost
		r.Header.Set("Cookie", cookie)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body = []byte(body)
		if d := p.device(r); d.ID != "" {
			t.Errorf("%q is the device %+v", cookie, d)
		}
		if list, err := p.Sessions(t.Context(), r); err != nil || len(list) != 0 {
			t.Errorf("%q has sessions: %v %v", cookie, list, err)
		}
		if form, err := parseForm(r); err == nil && len(form) > maxFields {
			t.Errorf("%d fields", len(form))
		}
	})
}

// FuzzLocalPath: what is let through stays on this host, as a browser reads it.
func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/a", "//a", "/\\a", "/a?b=//c", "/\t/a", "https://a", "/%2f%2fa", "/a/../..//b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, to string) {
		if !localPath(to) {
			return
		}
		// Source: WHATWG URL, "remove all ASCII tab or newline" and backslashes.
		seen := strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(strings.TrimSpace(to))
		if !strings.HasPrefix(seen, "/") || strings.HasPrefix(seen, "//") {
			t.Errorf("%q leads away", to)
		}
	})
}

// FuzzCode: a text is a code or it is not.
func FuzzCode(f *testing.F) {
	const secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	now := time.Unix(1_800_000_000, 0)
	f.Add("123456")
	f.Add(" 12-34 56")
	f.Add("１２３４５６")
	f.Fuzz(func(t *testing.T, code string) {
		if step, ok := matchCode(secret, code, now); ok && (step < now.Unix()/codePeriod-codeSkew || step > now.Unix()/codePeriod+codeSkew) {
			t.Errorf("%q is of step %d", code, step)
		}
	})
}

// FuzzPasskey: no answer that was not signed is anybody's.
func FuzzPasskey(f *testing.F) {
	p := fuzzed(f)
	ann := p.person("ann")
	b := p.browser()
	b.signIn(ann.UPN, password).session(f)
	k := newSoftKey(f)
	b.addPasskey(k, "")
	b.get("/app?x=1&fresh=1")
	_, tag, _ := b.page.form("signin-passkey")
	f.Add(k.get(f, attribute(tag, "data-get")))
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{}}`)
	f.Fuzz(func(t *testing.T, answer string) {
		c := p.newCall(&rest.Request{Request: b.request(p).Request})
		if _, err := c.passkeyOptions(nil); err != nil {
			t.Fatal(err)
		}
		c.form = map[string][]string{"response": {answer}}
		if user, _, err := c.checkPasskey(t.Context(), nil); err == nil {
			t.Errorf("%q is %s", answer, user.ID)
		}
		_, _ = protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	})
}

// FuzzClaims: what an outside provider's claims hold is text or nothing.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`["a","b"]`))
	f.Add([]byte(`"a"`))
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte(`true`))
	o := &outside{cfg: Provider{Domains: []string{"corp.example"}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, s := range texts(raw) {
			if validName(s) && o.speaksFor(s, "hawser.localhost") && !strings.HasSuffix(strings.ToLower(s), "@corp.example") {
				t.Errorf("the provider speaks for %q", s)
			}
		}
		_ = truth(raw)
	})
}
