package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// visitor is a person at a browser without JavaScript: it follows redirects,
// keeps cookies, and sends the plain forms of the pages, filled in.
type visitor struct {
	Person  person `json:"person"`
	CA      string `json:"ca"`      // file that it trusts; "": what the system trusts
	Domain  string `json:"domain"`  // whose names are at 127.0.0.1
	Code    string `json:"code"`    // what it types where a device's code is asked for
	Decline bool   `json:"decline"` // its answer where it is asked to agree
	Azure   bool   `json:"azure"`   // the plane answers as login.microsoftonline.com
	// Loopback lets it go on to a program that waits at localhost. Elsewhere it
	// stops at the first address that is not the plane's.
	Loopback bool `json:"loopback"`

	http   *http.Client
	at     *url.URL
	status int
	doc    *html.Node
	text   string   // what a person reads
	trail  []string // titles of the pages
	left   *url.URL // where it was sent outside; form_post fields as the query
}

// maxPages is more than any sign-in takes.
const maxPages = 25

// visit makes a browser for somebody.
func (p *plane) visit(who person) *visitor {
	p.t.Helper()
	v := &visitor{Person: who, CA: p.env.CAFile, Domain: p.env.Domain}
	if err := v.init(); err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (v *visitor) init() error {
	var roots *x509.CertPool // the system's, which SSL_CERT_FILE names
	if v.CA != "" {
		ca, err := os.ReadFile(v.CA)
		if err != nil {
			return err
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(ca) {
			return fmt.Errorf("%s holds no certificate", v.CA)
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	v.http = &http.Client{Jar: jar, Timeout: commandLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if host, port, err := net.SplitHostPort(address); err == nil && v.ours(host) {
					address = net.JoinHostPort("127.0.0.1", port)
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}}}
	return nil
}

func (v *visitor) ours(host string) bool {
	return strings.HasSuffix(host, "."+v.Domain) || v.Azure && host == "login.microsoftonline.com"
}

// open goes to an address and on to where it redirects.
func (v *visitor) open(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if v.at != nil {
		u = v.at.ResolveReference(u)
	}
	return v.request(http.MethodGet, u, nil)
}

func (v *visitor) request(method string, u *url.URL, form url.Values) error {
	from := v.at
	for range maxPages {
		loopback := u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1"
		if !v.ours(u.Hostname()) && !(v.Loopback && loopback) {
			if form != nil {
				u.RawQuery = form.Encode()
			}
			v.left = u
			return nil
		}
		next, err := v.once(method, u, form, from)
		if err != nil || next == nil {
			return err
		}
		method, u, form = http.MethodGet, next, nil
	}
	return fmt.Errorf("%s redirects without end", u)
}

// once sends one request; next is where the answer redirects, if it does.
func (v *visitor) once(method string, u *url.URL, form url.Values, from *url.URL) (next *url.URL, err error) {
	req, err := http.NewRequest(method, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if from != nil && method == http.MethodPost { // as browsers do
		site := "cross-site"
		if from.Host == u.Host {
			site = "same-origin"
		}
		req.Header.Set("Sec-Fetch-Site", site)
		req.Header.Set("Origin", from.Scheme+"://"+from.Host)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if where, err := resp.Location(); err == nil {
		return where, nil
	}
	v.at, v.status = u, resp.StatusCode
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if v.doc, err = html.Parse(strings.NewReader(string(body))); err != nil {
		return nil, err
	}
	v.text = words(v.doc)
	v.trail = append(v.trail, title(v.doc))
	return nil, nil
}

// form is one of a page, with the values that it would send.
type form struct {
	node    *html.Node
	action  string
	method  string
	values  url.Values
	buttons []*html.Node
}

func (v *visitor) forms() []*form {
	var all []*form
	for n := range v.doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			all = append(all, readForm(n))
		}
	}
	return all
}

func readForm(n *html.Node) *form {
	f := &form{node: n, action: attribute(n, "action"), method: strings.ToUpper(attribute(n, "method")), values: url.Values{}}
	for c := range n.Descendants() {
		if c.Type != html.ElementNode || has(c, "disabled") {
			continue
		}
		switch kind := attribute(c, "type"); {
		case c.Data == "button" || c.Data == "input" && kind == "submit":
			f.buttons = append(f.buttons, c)
		case c.Data == "input":
			if (kind != "checkbox" && kind != "radio") || has(c, "checked") {
				f.values.Add(attribute(c, "name"), attribute(c, "value"))
			}
		}
	}
	return f
}

// button finds one by its id, or by name and value.
func (f *form) button(id string) *html.Node {
	name, value, _ := strings.Cut(id, "=")
	for _, b := range f.buttons {
		if attribute(b, "id") == id || value != "" && attribute(b, "name") == name && attribute(b, "value") == value {
			return b
		}
	}
	return nil
}

// send sends a form as a click on one of its buttons does; nil is the first.
func (v *visitor) send(f *form, button *html.Node) error {
	if button == nil && len(f.buttons) > 0 {
		button = f.buttons[0]
	}
	action := f.action
	if button != nil {
		if name := attribute(button, "name"); name != "" {
			f.values.Set(name, attribute(button, "value"))
		}
		if a := attribute(button, "formaction"); a != "" {
			action = a
		}
	}
	u, err := v.at.Parse(action)
	if err != nil {
		return err
	}
	if f.method != http.MethodPost {
		u.RawQuery = f.values.Encode()
		return v.request(http.MethodGet, u, nil)
	}
	return v.request(http.MethodPost, u, f.values)
}

// arrive opens an address and does what each page asks for, until there is a
// page that asks for nothing, or the way leads outside.
func (v *visitor) arrive(address string) error {
	if err := v.open(address); err != nil {
		return err
	}
	for range maxPages {
		if v.left != nil {
			return nil
		}
		more, err := v.answer()
		if err != nil {
			return fmt.Errorf("%w\nthe pages were %q, the last %s: %d %s", err, v.trail, v.at, v.status, v.text)
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("no end of pages: %q", v.trail)
}

// answer fills in the page's form; the names are those of internal/signin.
func (v *visitor) answer() (more bool, err error) {
	if v.status >= http.StatusBadRequest {
		return false, nil
	}
	for _, f := range v.forms() {
		switch attribute(f.node, "id") {
		case "signin-name":
			return true, v.fill(f, "loginfmt", v.Person.UPN)
		case "signin-password":
			return true, v.fill(f, "passwd", v.Person.Password)
		case "signin-code":
			code, err := totp(v.Person.Secret, time.Now())
			if err != nil {
				return false, err
			}
			return true, v.fill(f, "otc", code)
		case "signin-pick":
			b := f.button("account=" + v.Person.ID)
			if b == nil {
				b = f.button("account=")
			}
			return true, v.send(f, b)
		case "consent", "device":
			if _, ok := f.values["user_code"]; ok {
				return true, v.fill(f, "user_code", v.Code)
			}
			if v.Decline {
				return true, v.send(f, f.button("answer=decline"))
			}
			return true, v.send(f, f.button("answer=accept"))
		case "form-post":
			return true, v.send(f, nil)
		}
	}
	for n := range v.doc.Descendants() { // a page that browsers leave by themselves
		if attribute(n, "id") == "continue" && strings.HasPrefix(v.text, v.brand()+"One moment") {
			return true, v.open(attribute(n, "href"))
		}
	}
	return false, nil
}

// brand is what every page begins with.
func (v *visitor) brand() string {
	_, name, _ := strings.Cut(title(v.doc), " · ")
	return name + " "
}

// fill sends a form with one field filled in; where the page shows that the
// last answer was wrong, it gives up instead of trying it for ever.
func (v *visitor) fill(f *form, name, value string) error {
	for n := range v.doc.Descendants() {
		if attribute(n, "role") == "alert" && words(n) != "" {
			return fmt.Errorf("the page says: %s", words(n))
		}
	}
	if _, ok := f.values[name]; !ok {
		return fmt.Errorf("the form %s has no input %s", attribute(f.node, "id"), name)
	}
	f.values.Set(name, value)
	return v.send(f, f.button("next"))
}

// totp is the code of RFC 6238 for a secret in base32.
func totp(secret string, at time.Time) (string, error) {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.ReplaceAll(secret, " ", "")))
	if err != nil || len(key) == 0 {
		return "", fmt.Errorf("no one-time codes can be made of the secret: %w", err)
	}
	mac := hmac.New(sha1.New, key)
	_ = endian.Write(mac, endian.BigEndian, at.Unix()/30)
	sum := mac.Sum(nil)
	n := endian.BigEndian.Uint32(sum[sum[len(sum)-1]&0xf:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000), nil
}

// goVisit is the visitor as a program of its own, which MSAL opens as its
// browser: URL [CODE]. It prints where it was sent.
func goVisit(_ context.Context, args []string) error {
	v := &visitor{}
	if err := json.Unmarshal([]byte(os.Getenv("VISITOR")), v); err != nil {
		return err
	}
	v.Decline = os.Getenv("DECLINE") == "declined"
	if len(args) > 1 {
		v.Code = args[1]
	}
	if err := v.init(); err != nil {
		return err
	}
	if err := v.arrive(args[0]); err != nil {
		return err
	}
	if v.left != nil {
		fmt.Println(v.left)
	} else {
		fmt.Println(v.status, v.text)
	}
	return nil
}

// asJSON is what the program reads from VISITOR.
func (v *visitor) asJSON(t testing.TB) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

func words(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode && (c.Parent == nil || c.Parent.Data != "style" && c.Parent.Data != "script" && c.Parent.Data != "title") {
			b.WriteString(c.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func title(n *html.Node) string {
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && c.Data == "title" {
			if c.FirstChild != nil {
				return strings.TrimSpace(c.FirstChild.Data)
			}
		}
	}
	return ""
}
