package easyauth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
)

// line answers with the request line and headers as they came over the wire:
// an app whose server parses them in its own way.
func (r *rig) line(app string) {
	r.t.Helper()
	l := listen(r.t)
	r.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				var all strings.Builder
				br := bufio.NewReader(c)
				for {
					s, err := br.ReadString('\n')
					if err != nil || s == "\r\n" {
						break
					}
					all.WriteString(s)
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", all.Len(), all.String())
			}()
		}
	}()
	r.announce(app, "http://"+l.Addr().String())
}

// An app whose server takes the upgrade to clear-text HTTP/2 would read whatever
// headers a stranger writes into the tunnel.
func TestOnlyWebSocketsAreTunnelled(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		if up := req.Header.Get("Upgrade"); up != "" {
			c, rw, _ := http.NewResponseController(w).Hijack()
			defer func() { _ = c.Close() }()
			fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", up)
			_ = rw.Flush()
			return
		}
		fmt.Fprintf(w, "settings %q", req.Header["Http2-Settings"])
	})
	const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for name, text := range map[string]string{
		"h2c":          "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
		"two":          "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n" + key + "\r\n",
		"two lines":    "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n" + key + "\r\n",
		"TLS":          "OPTIONS / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
		"POST":         "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n" + key + "\r\n",
		"no handshake": "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"with a body":  "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n" + key + "\r\nabc",
	} {
		status, _, br := r.raw(text)
		if !strings.Contains(status, " 200 ") {
			t.Errorf("%s: %s", name, status)
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(status), br)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "settings []" {
			t.Errorf("%s: %s", name, b)
		}
	}
	if status, _, _ := r.raw("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" + key + "\r\n"); !strings.Contains(status, " 101 ") {
		t.Errorf("a WebSocket: %s", status)
	}
}

// What stands in the request line to the app is a path and a query, and cannot
// be read as anything else.
func TestRequestTargets(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.line("app1")
	for target, want := range map[string]string{
		"/a?b":                          "GET /a?b HTTP/1.1",
		"http://{host}/abs?x":           "GET /abs?x HTTP/1.1",
		"http://u:p@{host}/abs":         "GET /abs HTTP/1.1",
		"http://{host}":                 "GET / HTTP/1.1",
		"x:y/../admin":                  "",
		"http:admin":                    "",
		"*":                             "",
		"http://login.hawser.test/x":    "none",
		"http://app2.sites.hawser.test": "none",
	} {
		status, _, br := r.raw("GET " + target + " HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
		all, _ := io.ReadAll(br)
		switch {
		case want == "" && !strings.Contains(status, " 400 "):
			t.Errorf("%s: %s%s", target, status, all)
		case want == "none" && strings.Contains(status, " 200 "): // the target's host counts, not the header's
			t.Errorf("%s: %s%s", target, status, all)
		case strings.HasPrefix(want, "GET") && !strings.Contains(string(all), want+"\r\n"):
			t.Errorf("%s: %s%s", target, status, all)
		}
		if strings.Contains(string(all), "Authorization") {
			t.Errorf("%s: a name in the address became a header", target)
		}
	}
	// HTTP/2 has no request line, so a space in its path is none of two words.
	c := r.browser().Transport
	for path, want := range map[string]string{"/x?a HTTP/1.1 /admin": "GET /x?a%20HTTP/1.1%20/admin HTTP/1.1", "/x y": "GET /x%20y HTTP/1.1"} {
		req, _ := http.NewRequest("GET", "https://"+r.host("app1")+"/", nil)
		req.URL.Opaque = path // as it stands in :path
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 || !strings.HasPrefix(string(b), want+"\r\n") {
			t.Errorf("%q: %d %s", path, resp.StatusCode, b)
		}
	}
}

// An app that lets itself be told another path or client address by a header
// gets none from outside.
func TestHeadersThatMeanSomethingToApps(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", echo)
	for _, name := range []string{"X-Rewrite-Url", "x_rewrite_url", "Forwarded", "X-Forwarded-Prefix", "Proxy", "X-Real-Ip", "X-Client-Ip"} {
		if a := r.browser().get("/", name, "forged"); strings.Contains(a.text, "forged") {
			t.Errorf("%s passes", name)
		}
	}
	_, _, br := r.raw("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization, Cookie, X-Sum\r\nConnection: close\r\n\r\n" +
		"0\r\nAuthorization: Bearer forged\r\nCookie: forged\r\nX-Sum: 42\r\n\r\n")
	if all, _ := io.ReadAll(br); strings.Contains(string(all), "forged") || !strings.Contains(string(all), "42") {
		t.Errorf("trailers: %s", all)
	}
}

// However a bearer token is written down, it is checked before the app reads it.
func TestBearerTokensWrittenOddly(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	b := r.browser()
	b.signIn(r.user("alice"))
	for _, h := range []string{"Bearer\tforged", "Bearer  forged", "bearer \t forged", "Bearer"} {
		if a := b.get("/", "Authorization", h); a.StatusCode != 401 {
			t.Errorf("%q: %d", h, a.StatusCode)
		}
	}
}

// A proxy's word about the host is for addresses that browsers get; the app's
// Host stays its own, whoever sends the header.
func TestHostOfTheApp(t *testing.T) {
	r := plane(t)
	r.auths("app1", on(func(m map[string]any) {
		at(m, "globalValidation")["requireAuthentication"] = false
		at(m, "globalValidation")["unauthenticatedClientAction"] = Anonymous
		at(m, "httpSettings", "forwardProxy")["convention"] = "Standard"
	}))
	r.app("app1", echo)
	a := r.browser().get("/", "X-Forwarded-Host", "evil.example")
	if got := a.json(t)["host"]; got != r.host("app1") {
		t.Errorf("the app's Host is %v", got)
	}
	if a := r.browser().get("/.auth/login/aad", "X-Forwarded-Host", "public.example"); !strings.Contains(a.Header.Get("Location"), "redirect_uri=https%3A%2F%2Fpublic.example%2F.auth") {
		t.Errorf("sign-in: %s", a.Header.Get("Location"))
	}
	r.auths("app1", on(nil))
	for _, host := range []string{"app1.sites.hawser.test", "app1.sites.hawser.test:9", "APP1.sites.hawser.test."} {
		_, _, br := r.raw("GET /x HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if all, _ := io.ReadAll(br); !strings.Contains(string(all), "redirect_uri="+url.QueryEscape("https://"+r.host("app1")+"/.auth/")) {
			t.Errorf("%s: %s", host, all)
		}
	}
	r.openDoor()
	for host, want := range map[string]string{"app1.azurewebsites.net:8443": "app1.azurewebsites.net:8443", "app1.azurewebsites.net:80,evil": "app1.azurewebsites.net", "APP1.azurewebsites.net.": "app1.azurewebsites.net"} {
		_, _, br := r.raw("GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if all, _ := io.ReadAll(br); !strings.Contains(string(all), `"host":"`+want+`"`) {
			t.Errorf("%s: %s", host, all)
		}
	}
}

// A client that sends a body drop by drop holds a connection only as long as
// the server's own limit, unless the app reads it.
func TestSlowBodiesOfStrangers(t *testing.T) {
	t.Parallel()
	r := plane(t) // its server has limits of 1 s
	r.app("app1", echo)
	for name, head := range map[string]string{
		"refused":         "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\na",
		"sign-in":         "POST /.auth/login/aad HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n{",
		"callback":        "POST /.auth/login/aad/callback HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\na",
		"no such address": "POST /.auth/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\na",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, br := r.dial(t, head)
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.Copy(io.Discard, br); isTimeout(err) {
				t.Error("the connection stays open")
			}
		})
	}
	t.Run("an app that does not read", func(t *testing.T) {
		t.Parallel()
		r2 := plane(t)
		r2.openDoor() // and no process
		c, br := r2.dial(t, "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\na")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, br); isTimeout(err) {
			t.Error("the connection stays open")
		}
	})
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// Where strangers are let in, an open stream of somebody is still theirs only
// as long as their sign-in.
func TestOpenSocketOfAnAppThatLetsStrangersIn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bearer bool
		end    func(r *rig, b *browser, oid string)
	}{
		"signed out": {false, func(_ *rig, b *browser, _ string) { b.get("/.auth/logout") }},
		"disabled":   {false, func(r *rig, _ *browser, oid string) { r.change(oid, func(o *directory.Object) { o.Enabled = false }) }},
		"bearer, signed out everywhere": {true, func(r *rig, _ *browser, oid string) {
			r.change(oid, func(o *directory.Object) { o.ValidFrom = microsNow(r) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := plane(t)
			r.openDoor()
			r.app("app1", socket)
			alice, b := r.user("alice"), r.browser()
			head := "Cookie: x=y"
			if c.bearer {
				head = "Authorization: Bearer " + r.access(alice, nil)
			} else {
				b.signIn(alice)
				head = "Cookie: " + sessionCookie + "=" + b.cookie(sessionCookie) + "; " + bindingCookie + "=" + b.cookie(bindingCookie)
			}
			status, conn, br := r.raw("GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + head + "\r\n\r\n")
			if !strings.Contains(status, " 101 ") {
				t.Fatal(status)
			}
			time.Sleep(2 * time.Millisecond)
			c.end(r, b, alice)
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, br); isTimeout(err) {
				t.Error("the socket stays open")
			}
		})
	}
}

// Pages of other sites cannot make a browser renew its tokens, nor pages of the
// same name that came without encryption send what changes something.
func TestRequestsOfOtherPages(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	b := r.browser()
	b.signIn(r.user("alice"))
	if a := b.get("/.auth/refresh", "Sec-Fetch-Site", "same-site"); a.StatusCode != 403 {
		t.Errorf("renewed by another app's page: %d", a.StatusCode)
	}
	if a := b.get("/.auth/refresh", "Sec-Fetch-Site", "same-origin"); a.StatusCode != 200 {
		t.Errorf("by its own page: %d", a.StatusCode)
	}
	if a := b.get("/.auth/logout", "Sec-Fetch-Site", "same-site", "Sec-Fetch-Dest", "image"); a.StatusCode != 403 || b.get("/").StatusCode != 200 {
		t.Errorf("signed out by a picture on another app's page: %d", a.StatusCode)
	}
	if a := b.do("POST", "/", nil, "Origin", "http://"+r.host("app1")); a.StatusCode != 403 {
		t.Errorf("a page without encryption: %d", a.StatusCode)
	}
	if a := b.get("/.auth/logout", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate"); a.StatusCode != 302 {
		t.Errorf("a link to the sign-out: %d", a.StatusCode)
	}
}

// A cookie that another app has set for all of sites.D does not get into the
// place of the session when that is renewed.
func TestRenewalKeepsTheRightCookie(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	b := r.browser()
	b.signIn(r.user("alice"))
	id, binding := b.cookie(sessionCookie), b.cookie(bindingCookie)
	a := r.browser().get("/.auth/refresh", "Cookie", sessionCookie+"="+id+"; "+bindingCookie+"="+binding+"; "+sessionCookie+"=evil")
	for _, c := range a.Cookies() {
		if c.Name == sessionCookie && c.Value != id {
			t.Errorf("the session's cookie becomes %s", c.Value)
		}
	}
	if a.StatusCode != 200 || len(a.Cookies()) != 2 {
		t.Errorf("%d %v", a.StatusCode, a.Cookies())
	}
}

// A client application that is taken from the list loses the sessions that it
// had opened with its token.
func TestClientThatIsNotAllowedAnyMore(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	list := func(id string) string {
		return on(func(m map[string]any) {
			at(m, "identityProviders", "azureActiveDirectory", "validation", "jwtClaimChecks")["allowedClientApplications"] = []string{id}
		})
	}
	r.auths("app1", list(caller1))
	a := r.browser().do("POST", "/.auth/login/aad", strings.NewReader(`{"access_token":"`+r.access(r.user("alice"), nil)+`"}`))
	token, _ := a.json(t)["authenticationToken"].(string)
	if a := r.browser().get("/", "X-ZUMO-AUTH", token); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	r.auths("app1", list(otherID))
	if a := r.browser().get("/", "X-ZUMO-AUTH", token); a.StatusCode != 403 {
		t.Errorf("%d", a.StatusCode)
	}
}

// A sign-in under way when its person is signed out everywhere opens nothing.
func TestSignOutDuringASignIn(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice, b := r.user("alice"), r.browser()
	form := r.authorize(b.get("/").Header.Get("Location"), alice)
	r.auth.before = func() { r.change(alice, func(o *directory.Object) { o.ValidFrom = microsNow(r) }) }
	_ = b.callback(form)
	if a := b.get("/"); a.StatusCode == 200 {
		t.Error("a code from before opened a session")
	}
}

// One person cannot fill the store with sessions.
func TestSessionsOfOnePersonAreBounded(t *testing.T) {
	t.Parallel()
	r := plane(t)
	r.app("app1", echo)
	alice := r.user("alice")
	token := r.access(alice, nil)
	b := r.browser()
	var first, last string
	for i := range maxSessions + 2 {
		a := b.do("POST", "/.auth/login/aad", strings.NewReader(`{"access_token":"`+token+`"}`))
		last, _ = a.json(t)["authenticationToken"].(string)
		if i == 0 {
			first = last
		}
	}
	if a := b.get("/", "X-ZUMO-AUTH", first); a.StatusCode != 302 {
		t.Errorf("the oldest: %d", a.StatusCode)
	}
	if a := b.get("/", "X-ZUMO-AUTH", last); a.StatusCode != 200 {
		t.Errorf("the newest: %d", a.StatusCode)
	}
}

func TestPathsThatOthersReadOtherwise(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	r.auths("app1", on(func(m map[string]any) { at(m, "globalValidation")["excludedPaths"] = []string{"/public/*"} }))
	for _, path := range []string{"/public/..%20/private", "/public/.../private", "/public/%EF%BC%8E%EF%BC%8E/private", "/public/..%EF%BC%8Fprivate", "/public/%E2%80%A5/private",
		"/public/..%ef%bc%bcprivate", "/public/..%c0%afprivate", "/public/%09/x", "/public/x%3b/../private"} {
		if a := r.browser().get(path); a.StatusCode == 200 {
			t.Errorf("%s is open", path)
		}
	}
	if a := r.browser().get("/public/h%C3%B6he.png"); a.StatusCode != 200 {
		t.Errorf("a name with an umlaut: %d", a.StatusCode)
	}
}

// Settings in which two members differ in case alone say one thing to who reads
// them and another to who obeys them.
func TestSettingsThatSayTwoThings(t *testing.T) {
	names := az.Names{Domain: "hawser.test", Tenant: tenant}
	for _, text := range []string{
		`{"globalValidation":{"requireAuthentication":true},"globalvalidation":{"requireAuthentication":false}}`,
		`{"platform":{"enabled":true,"Enabled":false}}`,
		`{"identityProviders":{"azureActiveDirectory":{},"AzureActiveDirectory":{}}}`,
		`{"x":[{"a":1,"A":2}]}`,
	} {
		if err := Check(names, []byte(text)); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
}

// A process that has taken another's place on a port takes its row too: the
// other app's requests must not go to it.
func TestPortThatChangesHands(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.auths("app2", on(func(m map[string]any) {
		at(m, "globalValidation")["requireAuthentication"] = false
		at(m, "globalValidation")["unauthenticatedClientAction"] = Anonymous
	}))
	s := httptest.NewServer(http.HandlerFunc(echo))
	defer s.Close()
	r.announce("app1", s.URL)
	if a := r.browser().get("/"); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	r.announce("app2", s.URL)
	if a := r.browser().get("/"); a.StatusCode != 503 {
		t.Errorf("the other app's process got a request: %d", a.StatusCode)
	}
	if a := r.browser().get("https://" + r.host("app2") + "/"); a.StatusCode != 200 {
		t.Errorf("the app's own: %d", a.StatusCode)
	}
}

func TestAddressesThatAreNobodysApp(t *testing.T) {
	own := []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		ip, _, _ := net.ParseCIDR(a.String())
		own = append(own, ip.String())
	}
	for _, ip := range append(own, "169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
		"::7f00:1", "255.255.255.255", "240.0.0.1") {
		if err := farOnly("tcp", net.JoinHostPort(ip, "80")); err == nil {
			t.Errorf("%s can be dialled", ip)
		}
	}
	if err := farOnly("tcp", "203.0.113.9:443"); err != nil {
		t.Error(err)
	}
}

// A program of another user that has taken an app's port between two of its
// runs gets nothing.
func TestPortOfAStranger(t *testing.T) {
	r := plane(t)
	r.openDoor()
	hit := false
	r.app("app1", func(http.ResponseWriter, *http.Request) { hit = true })
	r.owner = func(net.Conn) error { return errors.New("uid 1001") }
	if a := r.browser().get("/"); a.StatusCode != 503 || hit || strings.Contains(a.text, "1001") {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	r.owner = nil
	if a := r.browser().get("/"); a.StatusCode != 200 {
		t.Errorf("the app's own: %d", a.StatusCode)
	}
}

// A token that says of no application that it got it is none of an allowed one's.
func TestTokenOfNoApplication(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	r.auths("app1", on(func(m map[string]any) {
		at(m, "identityProviders", "azureActiveDirectory", "validation", "jwtClaimChecks")["allowedClientApplications"] = []string{caller1}
	}))
	token := r.access(r.user("alice"), func(c map[string]any) { delete(c, "azp") })
	if a := r.browser().get("/", "Authorization", "Bearer "+token); a.StatusCode != 403 {
		t.Errorf("%d", a.StatusCode)
	}
}
