package easyauth

import (
	"net"
	"net/http"
	"strings"
	"time"
)

// reserved begin the headers that tell an app who is asking. They are taken
// from every request, so that only the front can set them. Names are compared
// as an app's server may see them: CGI, WSGI and PHP make one variable of
// X-MS-Client and X_MS_Client, some of X.MS.Client too.
// With them go those by which some apps are told another path or client.
// Source: wire/app-settings.md §4.
var reserved = []string{"x-ms-client-", "x-ms-token-", "x-zumo-", "x-ms-auth-", "disguised-host", "x-original-", "was-default-hostname", "client-ip", "x-forwarded-", "x-arr-",
	"x-rewrite-url", "x-real-ip", "x-client-ip", "http2-settings"}

// harmless is a header of Azure's clients under a reserved prefix: their
// correlation id.
var harmless = map[string]bool{"X-Ms-Client-Request-Id": true}

// isReserved reports whether a header of a request is for the front alone.
func isReserved(name string) bool {
	if harmless[name] {
		return false
	}
	switch name[0] | 0x20 { // what a reserved name begins with
	case 'x', 'd', 'w', 'c', 'h':
	case 'p', 'f': // what CGI would take for its own proxy; RFC 7239
		return strings.EqualFold(name, "proxy") || strings.EqualFold(name, "forwarded")
	default:
		return false
	}
	n := folded(name)
	for _, p := range reserved {
		if strings.HasPrefix(n, p) {
			return true
		}
	}
	return false
}

// folded writes a name in small letters, with every other character a dash.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
}

// strip takes the reserved headers out of a request, and returns the one that
// is for the front. X-Forwarded-… stays for now: the settings may say that a
// proxy in front makes it, and forward replaces it.
func strip(h http.Header) (zumo string) {
	if v := h["X-Zumo-Auth"]; len(v) == 1 {
		zumo = v[0]
	}
	for name := range h {
		if isReserved(name) && !strings.HasPrefix(name, "X-Forwarded-") {
			delete(h, name)
		}
	}
	return zumo
}

// forward sets what the app learns of the way a request came.
func (v *visit) forward(in *http.Request, out *http.Request) {
	h := out.Header
	for name := range h {
		if isReserved(name) {
			delete(h, name)
		}
	}
	peer, _, err := net.SplitHostPort(in.RemoteAddr)
	if err != nil {
		peer = "127.0.0.1" // the plane's local socket
	}
	chain := peer
	if v.set.ProxyHost != "" || v.set.ProxyProto != "" { // a proxy in front, whose word counts
		if before := strings.Join(in.Header["X-Forwarded-For"], ", "); before != "" {
			chain = before + ", " + peer
		}
	}
	h["X-Forwarded-For"] = []string{chain}
	h["X-Forwarded-Host"] = []string{v.host}
	h["X-Forwarded-Proto"] = []string{"http"}
	if v.secure() {
		h["X-Forwarded-Proto"] = []string{"https"}
	}
	h["X-Original-Host"] = []string{v.own}
	h["Disguised-Host"] = []string{v.own}
	h["X-Original-Url"] = []string{requestURI(in.URL)}
	if v.site != nil {
		v.principalHeaders(h)
	}
	hideCookies(h)
}

// principalHeaders tells the app who is asking.
func (v *visit) principalHeaders(h http.Header) {
	c := v.who
	if c == nil {
		return
	}
	h["X-Ms-Client-Principal"] = []string{c.encoded()}
	h["X-Ms-Client-Principal-Id"] = []string{c.principal.ObjectID}
	h["X-Ms-Client-Principal-Name"] = []string{headerText(c.name())}
	h["X-Ms-Client-Principal-Idp"] = []string{provider}
	if c.session == nil || !v.set.Store {
		return
	}
	t := &c.session.secrets
	for name, value := range map[string]string{"X-Ms-Token-Aad-Id-Token": t.IDToken, "X-Ms-Token-Aad-Access-Token": t.AccessToken,
		"X-Ms-Token-Aad-Refresh-Token": t.RefreshToken} {
		if value != "" {
			h[name] = []string{value}
		}
	}
	if t.AccessToken != "" && t.TokenExpires != 0 {
		h["X-Ms-Token-Aad-Expires-On"] = []string{expiresOn(t.TokenExpires.Time())}
	}
}

// expiresOn is a time as Azure writes it here.
func expiresOn(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// headerText makes a name fit for a header: what is not printable ASCII is
// left out, as the full name is in the claims.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
}
