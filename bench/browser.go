package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// web is a transport to a plane under all of its names.
func (p *plane) web() (*http.Transport, error) {
	pem, err := os.ReadFile(p.about.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.about.Listen)
		}}
	p.b.after(t.CloseIdleConnections)
	return t, nil
}

// browser is a person at a browser without scripts: cookies, redirects, forms.
type browser struct {
	domain string
	upn    string
	http   *http.Client
}

func (p *plane) browser(t *http.Transport, upn string) (*browser, error) {
	jar, err := cookiejar.New(nil)
	return &browser{p.about.Domain, upn, &http.Client{Jar: jar, Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, err
}

// screen is where a browser stands: a page, or an address elsewhere that it
// was sent to.
type screen struct {
	url  *url.URL
	left bool
	code int
	body string
}

// maxSteps is more than any sign-in takes.
const maxSteps = 30

// arrive opens an address and answers what each page asks for, until there is
// one that asks for nothing or the way leads outside.
func (w *browser) arrive(ctx context.Context, address string) (screen, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return screen{}, err
	}
	var at screen
	for range maxSteps {
		if at, err = w.open(req); err != nil || at.left {
			return at, err
		}
		if req, err = w.answer(ctx, at); err != nil || req == nil {
			return at, err
		}
	}
	return at, fmt.Errorf("no end of pages at %s: %s", at.url, at.body)
}

// open sends a request and follows redirects within the plane.
func (w *browser) open(req *http.Request) (screen, error) {
	for range maxSteps {
		resp, err := w.http.Do(req)
		if err != nil {
			return screen{}, err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return screen{}, err
		}
		next, err := resp.Location()
		if errors.Is(err, http.ErrNoLocation) {
			return screen{url: req.URL, code: resp.StatusCode, body: string(body)}, nil
		}
		if err != nil {
			return screen{}, err
		}
		if !strings.HasSuffix(next.Hostname(), "."+w.domain) {
			return screen{url: next, left: true, code: resp.StatusCode}, nil
		}
		if req, err = http.NewRequestWithContext(req.Context(), http.MethodGet, next.String(), nil); err != nil {
			return screen{}, err
		}
	}
	return screen{}, fmt.Errorf("%s redirects without end", req.URL)
}

var (
	formParts  = regexp.MustCompile(`(?s)<form id="([^"]*)"[^>]* action="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenPart = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	onwardPart = regexp.MustCompile(`<a id="continue"[^>]* href="([^"]*)"`)
)

// answer fills in the page's form; nil if it asks for nothing.
func (w *browser) answer(ctx context.Context, at screen) (*http.Request, error) {
	fill := map[string][2]string{"signin-name": {"loginfmt", w.upn}, "signin-password": {"passwd", crowdPassword}, "consent": {"answer", "accept"},
		"signin-pick": {"account", ""}, "form-post": {}}
	if at.code >= http.StatusBadRequest || strings.Contains(at.body, `role="alert"`) {
		return nil, fmt.Errorf("%s shows %d %s", at.url, at.code, at.body)
	}
	for _, m := range formParts.FindAllStringSubmatch(at.body, -1) {
		field, known := fill[m[1]]
		if !known {
			continue
		}
		form := url.Values{}
		for _, h := range hiddenPart.FindAllStringSubmatch(m[3], -1) {
			form.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
		}
		if field[0] != "" {
			form.Set(field[0], field[1])
		}
		to, err := at.url.Parse(html.UnescapeString(m[2]))
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", at.url.Scheme+"://"+at.url.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		if to.Host != at.url.Host {
			req.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		return req, nil
	}
	if m := onwardPart.FindStringSubmatch(at.body); m != nil {
		to, err := at.url.Parse(html.UnescapeString(m[1]))
		if err != nil {
			return nil, err
		}
		return http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	}
	return nil, nil
}

// cookies is the header that the browser would send.
func (w *browser) cookies(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	var all []string
	for _, c := range w.http.Jar.Cookies(u) {
		all = append(all, c.Name+"="+c.Value)
	}
	return "Cookie: " + strings.Join(all, "; "), nil
}
