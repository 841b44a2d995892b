package authority

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
)

const (
	// maxAuthorize bounds an authorize request's parameters in bytes: real ones
	// stay below 4 KiB, and all of it travels in an address.
	maxAuthorize = 12 << 10
	// maxURI bounds a redirect URI. Source: Entra, 256 characters when it is
	// registered; native ones have a port more.
	maxURI = 512
)

// authorizeRequest is a request for a person's sign-in, parsed.
type authorizeRequest struct {
	Endpoint endpoint
	Word     string // the tenant as the path names it
	Host     az.Host
	Peer     string
	Ret      string // its own path and query, in one spelling, without the ticket
	Ticket   string // with which signin sends the browser back

	ClientID, RedirectURI, ResponseType, Mode, Scope, Resource, State, Nonce string
	LoginHint, DomainHint, SID, Claims, Challenge, ChallengeMethod           string
	Prompt                                                                   []string
	MaxAge                                                                   int64 // seconds; -1: none
	ClientInfo                                                               bool
}

// authorizeNames are the parameters that the plane understands. All others are
// ignored, as OAuth wants it, and forgotten.
var authorizeNames = []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "resource", "state", "nonce", "login_hint",
	"domain_hint", "claims", "code_challenge", "code_challenge_method", "prompt", "max_age", "client_info", "acr_values", "amr_values", "sid", "request", "request_uri"}

// parseAuthorize reads a request's parameters. An error here is shown and never
// sent on: nothing of the request is believed yet.
func parseAuthorize(path, query string) (*authorizeRequest, error) {
	if len(query) > maxAuthorize {
		return nil, malformed("The request's parameters are too long.")
	}
	form, err := parseForm(query)
	if err != nil {
		return nil, err
	}
	q := &authorizeRequest{Ticket: form["ticket"], ClientID: form["client_id"], RedirectURI: form["redirect_uri"], ResponseType: form["response_type"],
		Mode: form["response_mode"], Scope: form["scope"], Resource: form["resource"], State: form["state"], Nonce: form["nonce"],
		LoginHint: form["login_hint"], DomainHint: form["domain_hint"], SID: form["sid"], Claims: form["claims"], Challenge: form["code_challenge"],
		ChallengeMethod: form["code_challenge_method"], Prompt: strings.Fields(form["prompt"]), MaxAge: -1, ClientInfo: form["client_info"] == "1"}
	if form["request"] != "" || form["request_uri"] != "" {
		return nil, malformed("Request objects are not supported; send the parameters themselves.")
	}
	if s := form["max_age"]; s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return nil, malformed("The parameter 'max_age' must be a number of seconds.")
		}
		q.MaxAge = int64(n)
	}
	if q.Claims == "" && wantsMFA(form["acr_values"], form["amr_values"]) {
		q.Claims = mfaClaims
	}
	keep := url.Values{}
	for _, name := range authorizeNames {
		if v := form[name]; v != "" {
			keep.Set(name, v)
		}
	}
	q.Ret = path + "?" + keep.Encode()
	return q, nil
}

// wantsMFA reads the two older ways of asking for a second factor.
func wantsMFA(acr, amr string) bool {
	for _, v := range append(strings.Fields(acr), strings.FieldsFunc(amr, func(r rune) bool { return r == ' ' || r == ',' })...) {
		if v == "mfa" || v == "ngcmfa" || isACRS(v) {
			return true
		}
	}
	return false
}

func (q *authorizeRequest) prompts(word string) bool { return slices.Contains(q.Prompt, word) }

func (q *authorizeRequest) wants(kind string) bool {
	return slices.Contains(strings.Fields(q.ResponseType), kind)
}

// redirectKind is how an application registered a redirect URI, which says
// what kind of client waits there.
type redirectKind string

const (
	webRedirect    redirectKind = "web" // a server with credentials
	spaRedirect    redirectKind = "spa" // a script in a browser
	nativeRedirect redirectKind = "native"
)

// matchRedirect finds how a redirect URI is registered. URIs are compared byte
// for byte; only native ones on this machine may have any port. Source: RFC
// 9700 §2.1, RFC 8252 §7.3.
func matchRedirect(f *directory.Facts, uri string) (redirectKind, bool) {
	if uri == "" || len(uri) > maxURI || !safeRedirect(uri) {
		return "", false
	}
	switch {
	case slices.Contains(f.WebURIs, uri):
		return webRedirect, true
	case slices.Contains(f.SPAURIs, uri):
		return spaRedirect, true
	case slices.Contains(f.NativeURIs, uri):
		return nativeRedirect, true
	}
	for _, own := range f.NativeURIs {
		if sameLoopback(own, uri) {
			return nativeRedirect, true
		}
	}
	return "", false
}

// safeRedirect refuses what no registration can make good: addresses that run
// in the browser, or that would mix with what is appended.
func safeRedirect(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" || u.Fragment != "" || strings.Contains(uri, "#") || u.User != nil ||
		strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' || r == '"' || r == '<' || r == '>' }) {
		return false
	}
	switch u.Scheme {
	case "javascript", "data", "vbscript", "file", "blob", "about":
		return false
	}
	return true
}

// sameLoopback compares two addresses of this machine without their ports.
func sameLoopback(own, uri string) bool {
	o, err1 := url.Parse(own)
	u, err2 := url.Parse(uri)
	if err1 != nil || err2 != nil || o.Scheme != "http" || u.Scheme != "http" || u.User != nil {
		return false
	}
	host := u.Hostname()
	if host != "localhost" && host != "127.0.0.1" || o.Hostname() != host || u.Port() != "" && !isPort(u.Port()) {
		return false
	}
	slash := func(p string) string { return "/" + strings.TrimPrefix(p, "/") }
	return slash(o.EscapedPath()) == slash(u.EscapedPath()) && o.RawQuery == u.RawQuery
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// check looks at what an error may be told to the client for: the redirect URI
// is good by now.
func (q *authorizeRequest) check(kind redirectKind) error {
	types := strings.Fields(q.ResponseType)
	slices.Sort(types)
	switch strings.Join(types, " ") {
	case "code", "id_token", "code id_token":
	case "":
		return missing("response_type")
	default:
		return oauthError(az.Invalid, "unsupported_response_type", 70005, "The app requested an unsupported response type '%s'. Supported are code, id_token and both.", printable(q.ResponseType))
	}
	if err := q.checkMode(); err != nil {
		return err
	}
	if q.wants("id_token") && q.Nonce == "" {
		return oauthError(az.Invalid, "invalid_request", 90014, "The required field 'nonce' is missing from the request: an id token is bound to its request by it.")
	}
	if q.prompts("none") && len(q.Prompt) > 1 {
		return malformed("The value 'none' of 'prompt' cannot be combined with others.")
	}
	for _, p := range q.Prompt {
		if !slices.Contains([]string{"none", "login", "consent", "select_account", "admin_consent", "create"}, p) {
			return oauthError(az.Invalid, "invalid_request", 90023, "Unsupported 'prompt' value.")
		}
	}
	if _, err := parseClaims(q.Claims); err != nil {
		return err
	}
	return q.checkChallenge(kind)
}

func (q *authorizeRequest) checkMode() error {
	switch q.Mode {
	case "":
		if q.Mode = "query"; q.wants("id_token") {
			q.Mode = "fragment"
		}
	case "query":
		if q.wants("id_token") { // addresses are kept in histories and logs
			q.Mode = "fragment"
			return oauthError(az.Invalid, "unsupported_response_mode", 70007, "'query' is not a supported value of 'response_mode' when requesting a token.")
		}
	case "fragment", "form_post":
	default:
		q.Mode = "query"
		return oauthError(az.Invalid, "unsupported_response_mode", 70007, "The value of 'response_mode' must be query, fragment or form_post.")
	}
	return nil
}

// checkChallenge wants PKCE of every client that cannot keep a secret, and in
// no weaker form than S256. Source: RFC 9700 §2.1.1.
func (q *authorizeRequest) checkChallenge(kind redirectKind) error {
	if !q.wants("code") {
		return nil
	}
	if q.Challenge == "" {
		if kind == webRedirect && q.ChallengeMethod == "" {
			return nil
		}
		return oauthError(az.Invalid, "invalid_request", 9002325, "Proof Key for Code Exchange is required for authorization code redemption by clients without credentials. Send code_challenge with code_challenge_method=S256.")
	}
	if q.ChallengeMethod != "S256" {
		return oauthError(az.Invalid, "invalid_request", 501491, "The code_challenge_method must be S256.")
	}
	if len(q.Challenge) != 43 || strings.Trim(q.Challenge, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return oauthError(az.Invalid, "invalid_request", 501491, "The code_challenge must be the SHA-256 of the code_verifier in base64url, of 43 characters.")
	}
	return nil
}

// originOf is the origin of a URI as browsers write it.
func originOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}
