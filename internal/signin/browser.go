package signin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
)

// A browser has up to four cookies. Their __Host- prefix keeps other hosts of
// the domain from setting them (RFC 6265bis §4.1.3.2).
const (
	// browserCookie binds the pages of a sign-in to the browser they were made
	// for. It gives no rights. It is new after every step of a sign-in.
	browserCookie = "__Host-hawser-browser"
	// pageCookie does the same for what others hide. It stays, so that what was
	// hidden before a sign-in opens after it.
	pageCookie = "__Host-hawser-page"
	// sessionCookie stands for the sessions in the browser. It is new after
	// every sign-in.
	sessionCookie = "__Host-hawser-session"
	// deviceCookie says who signed in in this browser before, so that those who
	// guess elsewhere cannot lock them out.
	deviceCookie = "__Host-hawser-device"
)

const (
	// secretBytes is the length of a cookie: 256 bits.
	secretBytes = 32
	// pageLife is how long a page may be answered. Source: the contract of Hide.
	pageLife = 10 * time.Minute
	// maxHidden bounds a hidden field: a passkey's options with twenty
	// credentials take 4 KiB.
	maxHidden = 32 << 10
)

const (
	purposeSession = "signin session"
	purposeBrowser = "signin browser"
	purposeOnce    = "signin once"
	purposeCount   = "signin count"
	hiddenTable    = "signin/hidden"
)

func randomSecret() string {
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hash is how random secrets are stored.
func (s *SignIn) hash(purpose, secret string) string {
	return hex.EncodeToString(s.sealer.Hash(purpose, []byte(secret)))
}

// readCookie returns a cookie that has the form of ours. A browser that sends
// two of a name was tampered with: it has none.
func readCookie(r *rest.Request, name string) (value string, ok bool) {
	list := r.CookiesNamed(name)
	if len(list) != 1 {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(list[0].Value)
	return list[0].Value, err == nil && len(raw) == secretBytes
}

// setCookie adds a cookie to a reply; a life of 0 ends with the browser. Lax:
// links from other sites find the session, their forms and frames do not.
func setCookie(h http.Header, name, value string, life time.Duration) {
	c := http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(life / time.Second)}
	h.Add("Set-Cookie", c.String())
}

func dropCookie(h http.Header, name string) {
	c := http.Cookie{Name: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1}
	h.Add("Set-Cookie", c.String())
}

// bound says which cookie binds what is hidden for a purpose.
func bound(purpose string) (cookie string) {
	if purpose == purposeFlow || purpose == purposeTicket {
		return browserCookie
	}
	return pageCookie
}

// binding returns what binds a page to the request's browser, and the header
// that sets it where it is missing.
func (s *SignIn) binding(r *rest.Request, cookie string) (binding string, header http.Header) {
	header = http.Header{}
	value, ok := readCookie(r, cookie)
	if !ok {
		value = randomSecret()
		giveCookie(r, header, cookie, value)
	}
	return s.hash(purposeBrowser, value), header
}

// newBrowser gives the browser a new binding: pages of a sign-in made before it
// are void.
func (s *SignIn) newBrowser(r *rest.Request, header http.Header) {
	giveCookie(r, header, browserCookie, randomSecret())
}

// giveCookie sets a cookie. The request bears it from now on, so that what is
// hidden next is bound to it.
func giveCookie(r *rest.Request, header http.Header, name, value string) {
	kept := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range kept {
		if c.Name != name {
			r.AddCookie(c)
		}
	}
	r.AddCookie(&http.Cookie{Name: name, Value: value})
	setCookie(header, name, value, 0)
}

// Hide seals a value into a text for a hidden field or a link: it opens within
// ten minutes, for the same purpose, in the same browser. The header sets the
// browser's cookie where it is missing and belongs into the reply.
func (s *SignIn) Hide(r *rest.Request, purpose string, v any) (text string, header http.Header, err error) {
	binding, header := s.binding(r, bound(purpose))
	plain, err := json.Marshal(v)
	if err != nil {
		return "", nil, fmt.Errorf("cannot hide a page's state: %w", err)
	}
	plain = binary.BigEndian.AppendUint64(plain, uint64(s.now()))
	sealed, err := s.sealer.Seal(hiddenPlace(purpose, binding), plain)
	if err != nil {
		return "", nil, fmt.Errorf("cannot hide a page's state: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), header, nil
}

func hiddenPlace(purpose, binding string) seal.Place {
	return seal.Place{Table: hiddenTable, ID: purpose, Version: binding}
}

// Reveal opens what Hide made. For requests that change something it first
// checks that the page which sent them was ours.
func (s *SignIn) Reveal(r *rest.Request, purpose, text string, v any) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := s.checkOrigin(r); err != nil {
			return err
		}
	}
	value, ok := readCookie(r, bound(purpose))
	if !ok {
		return az.Errorf(az.Invalid, "NoCookie", "This browser did not send the cookie that belongs to the page. Allow cookies for this address, then start again.")
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if len(text) > maxHidden || err != nil {
		return stalePage()
	}
	plain, err := s.sealer.Open(hiddenPlace(purpose, s.hash(purposeBrowser, value)), sealed)
	if err != nil || len(plain) < 8 {
		return stalePage()
	}
	body, made := plain[:len(plain)-8], az.Micros(binary.BigEndian.Uint64(plain[len(plain)-8:]))
	if age := s.now() - made; age > az.Micros(pageLife.Microseconds()) {
		return stalePage()
	}
	if err := json.Unmarshal(body, v); err != nil {
		return stalePage()
	}
	return nil
}

func stalePage() error {
	return az.Errorf(az.Invalid, "PageExpired", "This page is out of date: it was open for too long, or sign-in went on in another window. Go back to the app and start again.")
}

// checkOrigin refuses requests that a page of another origin sent. Source:
// Fetch Metadata; RFC 6454 §7.3. Browsers that send neither header with a form
// are older than what the pages need otherwise.
func (s *SignIn) checkOrigin(r *rest.Request) error {
	site := r.Header.Get("Sec-Fetch-Site")
	origins := r.Header.Values("Origin")
	sameSite := site == "same-origin" || site == ""
	sameOrigin := len(origins) == 1 && strings.EqualFold(origins[0], s.origin(r))
	if sameSite && sameOrigin || len(origins) == 0 && site == "same-origin" {
		return nil
	}
	return az.Errorf(az.Forbidden, "CrossOrigin", "The form was not sent by a page of this address. Go back to the app and start again.")
}

// origin is the request's own, as its browser names it.
// It stands in policies and addresses, so nothing but a name and a port is
// taken from a stranger.
func (s *SignIn) origin(r *rest.Request) string {
	host := strings.ToLower(r.Host)
	if strings.ContainsFunc(host, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(".-:[]", c))
	}) {
		return s.names.Origin(az.SurfaceLogin)
	}
	return "https://" + host
}

// onceKey is under which the first use of something is noted.
func (s *SignIn) onceKey(what string) string {
	sum := sha256.Sum256([]byte(what))
	return s.hash(purposeOnce, string(sum[:]))
}

// peerOf is the address without the port.
func peerOf(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap.Addr().Unmap().WithZone("").String()
	}
	return ""
}
