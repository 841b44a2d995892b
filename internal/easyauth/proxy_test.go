package easyauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func microsNow(r *rig) az.Micros { return az.MicrosOf(r.now()) }

// raw sends a request as its bytes stand, over HTTP/1.1.
func (r *rig) raw(text string) (string, net.Conn, *bufio.Reader) {
	r.t.Helper()
	c, br := r.dial(r.t, text)
	status, err := br.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	return status, c, br
}

// dial sends a request as its bytes stand and reads nothing.
func (r *rig) dial(t testing.TB, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := tls.Dial("tcp", r.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, _ = io.WriteString(c, strings.ReplaceAll(text, "{host}", r.host("app1")))
	return c, bufio.NewReader(c)
}

// open lets everybody in, so that headers of strangers would reach the app.
func (r *rig) openDoor() {
	r.auths("app1", on(func(m map[string]any) {
		at(m, "globalValidation")["requireAuthentication"] = false
		at(m, "globalValidation")["unauthenticatedClientAction"] = Anonymous
	}))
}

func TestPrincipalHeadersFromOutside(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", echo)
	names := []string{"X-MS-CLIENT-PRINCIPAL", "x-ms-client-principal-id", "X-MS-CLIENT-PRINCIPAL-NAME", "X_MS_CLIENT_PRINCIPAL", "X_Ms-Client_Principal-Id", "X.MS.CLIENT.PRINCIPAL",
		"X-MS-TOKEN-AAD-ACCESS-TOKEN", "X-MS-TOKEN-GOOGLE-ID-TOKEN", "x_ms_token_aad_id_token", "X-ZUMO-AUTH", "X-MS-CLIENT-DISPLAY-NAME", "X-Forwarded-For",
		"X_Forwarded_For", "X-Forwarded-Proto", "DISGUISED-HOST", "X-Original-URL", "X-ORIGINAL-HOST", "CLIENT-IP", "X-Arr-Ssl"}
	var h string
	for _, n := range names {
		h += n + ": forged\r\n"
	}
	_, _, br := r.raw("GET /x HTTP/1.1\r\nHost: {host}\r\n" + h + "Connection: close, X-MS-CLIENT-PRINCIPAL-IDP\r\nX-Ms-Client-Request-Id: kept\r\n\r\n")
	all, _ := io.ReadAll(br)
	if s := string(all); strings.Contains(s, "forged") || !strings.Contains(s, "kept") {
		t.Errorf("the app saw %s", s)
	}
	// Over HTTP/2, and for who has signed in.
	b := r.browser()
	alice := r.user("alice")
	b.signIn(alice)
	var list []string
	for _, n := range names {
		if n != "X-ZUMO-AUTH" { // it would be the sign-in that counts
			list = append(list, n, "forged")
		}
	}
	a := b.get("/x", list...)
	if a.ProtoMajor != 2 || strings.Contains(a.text, "forged") || a.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != alice {
		t.Errorf("HTTP/%d: %s", a.ProtoMajor, a.text)
	}
	// What a Connection header names is not taken out of what the front sets.
	_, _, br = r.raw("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close, X-MS-CLIENT-PRINCIPAL-ID\r\nCookie: " + sessionCookie + "=" + b.cookie(sessionCookie) + "; " +
		bindingCookie + "=" + b.cookie(bindingCookie) + "\r\n\r\n")
	if all, _ = io.ReadAll(br); !strings.Contains(string(all), alice) {
		t.Errorf("a Connection header removed the principal: %s", all)
	}
}

func TestTrailers(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Trailer", "X-After")
		fmt.Fprintf(w, "trailer %v header %v", req.Trailer, req.Header)
		w.Header().Set("X-After", "answered")
	})
	_, _, br := r.raw("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-MS-CLIENT-PRINCIPAL-ID, X_MS_TOKEN_AAD\r\nConnection: close\r\n\r\n" +
		"3\r\nabc\r\n0\r\nX-Sum: 42\r\nX-MS-CLIENT-PRINCIPAL-ID: forged\r\nX_MS_TOKEN_AAD: forged\r\nX-MS-CLIENT-PRINCIPAL: forged\r\n\r\n")
	all, _ := io.ReadAll(br)
	if s := string(all); strings.Contains(s, "forged") || !strings.Contains(s, "X-Sum:[42]") || !strings.Contains(s, "X-After: answered") {
		t.Errorf("%s", s)
	}
}

// Requests whose end two servers could see at different places never get
// through.
func TestSmuggling(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", echo)
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
		"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +4\r\n\r\nabcd",
		"GET / HTTP/1.1\r\nHost: {host}\r\nHost: other\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: {host}\r\nX-MS-CLIENT-PRINCIPAL-ID : forged\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: {host}\r\n X-MS-CLIENT-PRINCIPAL-ID: forged\r\n\r\n",
		"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n",
	} {
		if status, _, _ := r.raw(text); !strings.Contains(status, " 4") && !strings.Contains(status, " 501") {
			t.Errorf("%q: %s", text, status)
		}
	}
}

// slowUp is a client's upload that lasts longer than the server's own limit.
func TestLargeUploadIsStreamed(t *testing.T) {
	size := int64(200 << 20)
	if testing.Short() {
		size = 20 << 20
	}
	r := plane(t)
	r.openDoor()
	first := make(chan struct{})
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		one := make([]byte, 1)
		_, _ = io.ReadFull(req.Body, one)
		close(first) // before the client has sent the rest
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprint(w, n+1)
	})
	pr, pw := io.Pipe()
	go func() {
		_, _ = pw.Write([]byte{1})
		<-first
		block := make([]byte, 64<<10)
		for left := size - 1; left > 0; left -= int64(len(block)) {
			block = block[:min(int64(len(block)), left)]
			if _, err := pw.Write(block); err != nil {
				return
			}
		}
		_ = pw.Close()
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := r.browser().do("POST", "/", pr)
	runtime.ReadMemStats(&after)
	if a.text != fmt.Sprint(size) {
		t.Errorf("the app got %s of %d bytes: %d", a.text, size, a.StatusCode)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
}

func TestUploadLongerThanTheServersLimit(t *testing.T) {
	t.Parallel()
	r := plane(t) // its server has limits of 1 s
	r.openDoor()
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		time.Sleep(200 * time.Millisecond)
		fmt.Fprintf(w, "%d", len(b))
	})
	for _, transport := range []string{"h2", "http/1.1"} {
		t.Run(transport, func(t *testing.T) {
			b := r.browser()
			if transport == "http/1.1" {
				b.Transport.(*http.Transport).ForceAttemptHTTP2 = false
				b.Transport.(*http.Transport).TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			pr, pw := io.Pipe()
			go func() {
				for range 5 {
					_, _ = pw.Write([]byte("x"))
					time.Sleep(300 * time.Millisecond)
				}
				_ = pw.Close()
			}()
			if a := b.do("POST", "/", pr); a.text != "5" {
				t.Errorf("%d %s", a.StatusCode, a.text)
			}
		})
	}
}

func TestStreamedAnswerArrivesAtOnce(t *testing.T) {
	r := plane(t)
	r.openDoor()
	next := make(chan struct{})
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "two\n")
	})
	resp, err := r.browser().Get("https://" + r.host("app1") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	br := bufio.NewReader(resp.Body)
	if line, err := br.ReadString('\n'); line != "one\n" {
		t.Fatal(line, err)
	}
	close(next)
	if line, _ := br.ReadString('\n'); line != "two\n" {
		t.Error(line)
	}
}

// An app may answer while it still reads: both directions are open at once.
func TestBothDirectionsAtOnce(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		br := bufio.NewReader(req.Body)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, "got "+line)
			_ = c.Flush()
		}
	})
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", "https://"+r.host("app1")+"/", pr)
	go func() { _, _ = io.WriteString(pw, "one\n") }()
	resp, err := r.browser().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	br := bufio.NewReader(resp.Body)
	for _, word := range []string{"one\n", "two\n", "three\n"} {
		if line, _ := br.ReadString('\n'); line != "got "+word {
			t.Fatalf("%q", line)
		}
		if word == "one\n" {
			go func() { _, _ = io.WriteString(pw, "two\nthree\n"); _ = pw.Close() }()
		}
	}
}

func TestExpectContinue(t *testing.T) {
	r := plane(t)
	r.openDoor()
	r.app("app1", func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/no" {
			http.Error(w, "no", http.StatusExpectationFailed)
			return
		}
		b, _ := io.ReadAll(req.Body)
		_, _ = w.Write(b)
	})
	status, c, br := r.raw("POST /yes HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if !strings.Contains(status, "100") {
		t.Fatal(status)
	}
	_, _ = io.WriteString(c, "body")
	for line := ""; line != "\r\n"; { // the rest of the 100
		line, _ = br.ReadString('\n')
	}
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Error(err)
	} else if b, _ := io.ReadAll(resp.Body); string(b) != "body" {
		t.Errorf("%s", b)
	}
	if status, _, _ := r.raw("POST /no HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"); !strings.Contains(status, "417") {
		t.Error(status)
	}
}

// socket is an app that accepts a WebSocket and echoes bytes: the protocol's
// handshake (RFC 6455 §4), and then whatever comes.
func socket(w http.ResponseWriter, req *http.Request) {
	sum := sha1.Sum([]byte(req.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nX-Who: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), req.Header.Get("X-Ms-Client-Principal-Id"))
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

func (b *browser) openSocket(t *testing.T, origin string) (net.Conn, *bufio.Reader, string) {
	t.Helper()
	status, c, br := b.r.raw("GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: https://" +
		origin + "\r\nCookie: " + sessionCookie + "=" + b.cookie(sessionCookie) + "; " + bindingCookie + "=" + b.cookie(bindingCookie) + "\r\n\r\n")
	head := status
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = br.ReadString('\n'); err != nil {
			break
		}
		head += line
	}
	return c, br, head
}

func TestWebSocket(t *testing.T) {
	r := plane(t)
	r.app("app1", socket)
	alice, b := r.user("alice"), r.browser()
	b.signIn(alice)
	c, br, head := b.openSocket(t, r.host("app1"))
	if !strings.Contains(head, " 101 ") || !strings.Contains(head, "X-Who: "+alice) || !strings.Contains(head, "ICX+Yqv66kxgM0FcWaLWlFLwTAI=") {
		t.Fatal(head)
	}
	_, _ = c.Write([]byte("hello"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "hello" {
		t.Fatal(err)
	}
	if _, _, head := r.browser().openSocket(t, r.host("app1")); !strings.Contains(head, " 401 ") {
		t.Errorf("without a sign-in: %s", head)
	}
	if _, _, head := b.openSocket(t, r.host("app2")); !strings.Contains(head, " 403 ") {
		t.Errorf("from a page of another app: %s", head)
	}
	// Who loses the right to the app loses what is open.
	r.change(alice, func(o *directory.Object) { o.Enabled = false })
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := br.Read(got); err == nil {
		t.Errorf("%d bytes after the end", n)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("the socket of a disabled person stays open")
	}
}

func TestAppThatIsNotUp(t *testing.T) {
	r := plane(t)
	r.openDoor()
	if a := r.browser().get("/"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("nobody announced: %d", a.StatusCode)
	}
	l := listen(t)
	r.announce("app1", "http://"+l.Addr().String())
	_ = l.Close()
	if a := r.browser().get("/"); a.StatusCode != 503 {
		t.Errorf("not listening: %d", a.StatusCode)
	}
	// A second process that does listen is found.
	up := r.app("app1", echo)
	for range 4 {
		if a := r.browser().do("POST", "/", strings.NewReader("body")); a.StatusCode != 200 {
			t.Errorf("with another process: %d", a.StatusCode)
		}
	}
	up.Close()
	r.offset.Store(int64(time.Minute)) // silent for too long
	if a := r.browser().get("/"); a.StatusCode != 503 || !strings.Contains(a.text, "Nobody has started it") {
		t.Errorf("stale: %d %s", a.StatusCode, a.text)
	}
	r.offset.Store(0)
	r.app("app1", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if s := []int{r.browser().get("/").StatusCode, r.browser().get("/").StatusCode, r.browser().get("/").StatusCode}; !bytes.Contains([]byte(fmt.Sprint(s)), []byte("502")) {
		t.Errorf("an app that ends connections: %v", s)
	}
}

func TestAnnounce(t *testing.T) {
	r := plane(t)
	site := az.MustParseID(siteID + "app1")
	for _, c := range []struct {
		address string
		local   bool
		ok      bool
	}{
		{"http://127.0.0.1:80", true, true}, {"http://localhost:8080", true, true}, {"http://[::1]:80", true, true},
		{"http://127.0.0.1:80", false, false}, {"https://localhost:1", false, false}, {"http://[::ffff:127.0.0.1]:80", false, false},
		{"http://10.1.2.3:80", false, true}, {"http://10.1.2.4:80", false, false}, {"http://10.1.2.4:80", true, true}, {"http://[fd00:ec2::254]:80", true, false}, {"http://100.100.100.200:80", true, false}, {"https://app.example.com:443", false, true}, {"https://203.0.113.9:443", false, true},
		{"http://203.0.113.9:80", false, false}, {"http://app.example.com:80", false, false}, {"http://169.254.169.254:80", false, false},
		{"https://169.254.169.254:443", false, false}, {"http://0.0.0.0:80", true, false}, {"https://[fe80::1]:80", false, false}, {"https://[ff02::1]:80", false, false},
		{"ftp://10.1.2.3:80", false, false}, {"http://10.1.2.3", false, false}, {"http://user@10.1.2.3:80", false, false}, {"http://10.1.2.3:80/path", false, false},
		{"", true, false}, {"http://10.1.2.3:0", false, false}, {"https://0x7f.1:443", false, true}, // a name; it is looked at again when it is dialled
	} {
		err := r.Announce(context.Background(), site, Process{ID: az.NewGUID(), Address: c.address}, Announcer{Local: c.local, From: netip.MustParseAddr("::ffff:10.1.2.3")})
		if (err == nil) != c.ok {
			t.Errorf("%s local=%v: %v", c.address, c.local, err)
		}
	}
	if err := r.Announce(context.Background(), site, Process{ID: az.NewGUID(), Address: "http://127.0.0.1:80", Machine: "a container"}, Announcer{Local: true}); err == nil {
		t.Error("the loopback of another network namespace was taken")
	}
}

// A name that was registered for the network and stands for this machine by
// the time it is dialled leads nowhere.
func TestRegisteredNameThatTurnsInward(t *testing.T) {
	hit := false
	inner := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer inner.Close()
	_, port, _ := net.SplitHostPort(inner.Listener.Addr().String())
	r := plane(t)
	r.openDoor()
	err := r.Announce(context.Background(), az.MustParseID(siteID+"app1"), Process{ID: az.NewGUID(), Address: "https://localhost.:" + port}, Announcer{})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.browser().get("/"); a.StatusCode != 503 || hit {
		t.Errorf("%d", a.StatusCode)
	}
}
