package easyauth

import (
	"fmt"
	"net/url"
	"strings"
)

// alike are what Unicode's compatibility forms, or a code page, make a dot, a
// slash, a backslash, a percent sign or a semicolon of.
const alike = "\u2024\u2025\u2026\u2044\u2215\u2216\u29f5\u29f8\u29f9\ufe30\ufe52\ufe54\ufe68\ufe6a\uff05\uff0e\uff0f\uff1b\uff3c\uff61"

// plainPath reports whether a path means the same to everybody who reads it.
// A path that an app might read otherwise (dot segments, doubled or escaped
// slashes, backslashes, parameters of segments) is never taken for an
// excluded one: what it would lead to there is not known here.
func plainPath(u *url.URL) bool {
	p := u.EscapedPath()
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, `\;`) || strings.Contains(p, "//") {
		return false
	}
	for i := 0; i+2 < len(p); i++ {
		if p[i] != '%' {
			continue
		}
		switch strings.ToLower(p[i+1 : i+3]) {
		case "2f", "5c", "2e", "25", "3b", "00", "0a", "0d", "2a", "3f", "23":
			return false
		}
	}
	for seg := range strings.SplitSeq(u.Path, "/") {
		if seg != "" && strings.Trim(seg, ". ") == "" { // some file systems drop dots and spaces at the end
			return false
		}
	}
	return !strings.ContainsFunc(u.Path, func(r rune) bool {
		return r < 0x20 || r == 0x7f || r == 0xfffd || r > 0x7f && strings.ContainsRune(alike, r)
	})
}

// plainQuery escapes what would end a request line or a header before its time:
// HTTP/2 brings addresses without a line around them.
func plainQuery(q string) string {
	if !strings.ContainsFunc(q, unprintable) {
		return q
	}
	var b strings.Builder
	for i := range len(q) {
		if c := q[i]; c <= 0x20 || c == 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r <= 0x20 || r == 0x7f }

// validExclusion admits what excluded can match: a plain path, with a star at
// its end for everything below. Source: App Service takes exact paths and
// wildcards at the end.
func validExclusion(p string) bool {
	p = strings.TrimSuffix(p, "*")
	u, err := url.Parse(p)
	return err == nil && p != "" && u.Path == p && u.Host == "" && u.RawQuery == "" && u.Fragment == "" && !strings.ContainsAny(p, "*%?#") && plainPath(u)
}

// excluded reports whether a request's path needs no sign-in. Letters count as
// they are written.
func (s *settings) excluded(u *url.URL) bool {
	if len(s.Excluded) == 0 || !plainPath(u) {
		return false
	}
	for _, p := range s.Excluded {
		if below, star := strings.CutSuffix(p, "*"); star && strings.HasPrefix(u.Path, below) || !star && u.Path == p {
			return true
		}
	}
	return false
}

func validPrefix(p string) bool {
	if len(p) < 2 || len(p) > 64 || p[0] != '/' || p[len(p)-1] == '/' || strings.Contains(p, "//") {
		return false
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		if seg == "." || seg == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(p, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' || r == '/')
	})
}

// own returns what stands behind the front's own prefix; ok is false for the
// app's paths. Letters' case does not count here: an app on a server that
// does not tell it apart must not get to see such a path. Nor may one reach the
// app that only its server would read as one of ours.
func (s *settings) own(u *url.URL) (rest string, ok bool) {
	p := u.Path
	if len(p) < len(s.Prefix) || !strings.EqualFold(p[:len(s.Prefix)], s.Prefix) {
		return "", false
	}
	rest = p[len(s.Prefix):]
	return rest, rest == "" || rest[0] == '/'
}

// maxReturn bounds where a sign-in leads back to: it is kept in a cookie, of
// which browsers take 4 KiB.
const maxReturn = 1500

// localPath reports whether an address is a path of the same host for every
// browser. Browsers take backslashes for slashes and drop tabs and line ends,
// so that /\evil.example and /<tab>/evil.example lead elsewhere.
func localPath(p string) bool {
	if p == "" || p[0] != '/' || len(p) > maxReturn {
		return false
	}
	if len(p) > 1 && (p[1] == '/' || p[1] == '\\') {
		return false
	}
	for i := 0; i < len(p); i++ {
		if p[i] <= 0x20 || p[i] == 0x7f || p[i] == '\\' {
			return false
		}
	}
	// Escaped, these are harmless in a Location header; they are refused since
	// apps unescape what they are given and redirect again.
	if len(p) > 3 && p[1] == '%' {
		switch strings.ToLower(p[1:4]) {
		case "%2f", "%5c", "%09", "%0a", "%0d":
			return false
		}
	}
	u, err := url.Parse(p)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil
}

// back says where to go after a sign-in or a sign-out that asked for target:
// a path of the app, or an address that its settings allow. ok is false for
// any other; "" gives otherwise.
func (s *settings) back(base, target, otherwise string) (to string, ok bool) {
	switch {
	case target == "":
		return otherwise, true
	case localPath(target):
		return target, true
	case len(target) > maxReturn || strings.ContainsAny(target, "\\ \t\r\n") || strings.ContainsFunc(target, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return "", false
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	if u.Scheme+"://"+strings.ToLower(u.Host) == base { // the app's own address, in full
		local := u.RequestURI()
		if u.Fragment != "" {
			local += "#" + u.EscapedFragment()
		}
		return local, localPath(local)
	}
	for _, x := range s.External {
		if allowedExternal(u, x) {
			return target, true
		}
	}
	return "", false
}

// allowedExternal compares without the query. An entry that ends in a slash or
// has no path allows what is below; any other allows itself.
func allowedExternal(u *url.URL, entry string) bool {
	x, err := url.Parse(entry)
	if err != nil || !strings.EqualFold(u.Scheme, x.Scheme) || !strings.EqualFold(u.Host, x.Host) {
		return false
	}
	if x.Path == "" || x.Path == "/" {
		return true
	}
	if strings.HasSuffix(x.Path, "/") {
		return plainPath(u) && strings.HasPrefix(u.Path, x.Path)
	}
	return u.Path == x.Path
}
