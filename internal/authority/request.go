package authority

import (
	"encoding/base64"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

const (
	// maxForm bounds a token request's body: the largest real ones carry an
	// assertion with a certificate chain, below 16 KiB.
	maxForm = 64 << 10
	// maxParameters bounds the form's parameters; real clients send below 20.
	maxParameters = 64
)

// endpoint tells the token endpoints apart.
type endpoint int

const (
	endpointV1 endpoint = iota
	endpointV2
	endpointADFS
)

// tokenRequest is a token request, parsed: nothing after this looks at the
// HTTP request again.
type tokenRequest struct {
	Endpoint  endpoint
	Host      az.Host
	Peer      string // network address without port
	Grant     string
	ClientID  string
	Secret    az.Secret
	Assertion az.Secret
	Scope     string
	Resource  string

	Word         string    // the tenant as the path names it
	Origin       string    // of a script that asks; "" for everything that is no browser
	originOK     bool      // it is one of the client's
	Code         az.Secret // authorization_code
	RedirectURI  string
	Verifier     az.Secret
	Refresh      az.Secret // refresh_token
	Device       az.Secret // device_code
	OnBehalf     az.Secret // the jwt-bearer grant's assertion
	RequestedUse string
	Username     string
	Password     az.Secret
	Claims       string // a claims request
	ClientInfo   bool
}

// assertionType is the only client_assertion_type. Source: RFC 7523 §2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func (a *Authority) parseRequest(r *rest.Request, ep endpoint) (*tokenRequest, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return nil, az.Errorf(az.Unsupported, "UnsupportedMediaType", "The request's body must be sent as application/x-www-form-urlencoded.")
	}
	form, err := parseForm(string(r.Body))
	if err != nil {
		return nil, err
	}
	t := &tokenRequest{Endpoint: ep, Host: a.names.Classify(r.Host), Peer: peerOf(r.RemoteAddr), Grant: form["grant_type"],
		ClientID: form["client_id"], Secret: az.NewSecret(form["client_secret"]), Scope: form["scope"], Resource: form["resource"],
		Word: r.PathValue("tenant"), RedirectURI: form["redirect_uri"], Code: az.NewSecret(form["code"]), Verifier: az.NewSecret(form["code_verifier"]),
		Refresh: az.NewSecret(form["refresh_token"]), Device: az.NewSecret(form["device_code"]), OnBehalf: az.NewSecret(form["assertion"]),
		RequestedUse: form["requested_token_use"], Username: form["username"], Password: az.NewSecret(form["password"]),
		Claims: form["claims"], ClientInfo: form["client_info"] == "1"}
	if o := r.Header["Origin"]; len(o) == 1 {
		t.Origin = o[0]
	}
	if t.Grant == "" {
		return nil, missing("grant_type")
	}
	if err := t.basic(r.Request); err != nil {
		return nil, err
	}
	if text := form["client_assertion"]; text != "" {
		if form["client_assertion_type"] != assertionType {
			return nil, malformed("The parameter 'client_assertion_type' must be '" + assertionType + "'.")
		}
		if !t.Secret.IsZero() {
			return nil, malformed("A client must prove itself in one way only: by secret or by assertion.")
		}
		t.Assertion = az.NewSecret(text)
	}
	if t.ClientID == "" {
		return nil, missing("client_id")
	}
	return t, nil
}

// basic reads HTTP Basic. Source: RFC 6749 §2.3.1: both parts are form-encoded
// first, and a client uses one way only.
func (t *tokenRequest) basic(r *http.Request) error {
	h := r.Header["Authorization"]
	if len(h) == 0 {
		return nil
	}
	scheme, text, _ := strings.Cut(h[0], " ")
	if len(h) > 1 || !strings.EqualFold(scheme, "basic") {
		return malformed("The Authorization header of a token request must be one HTTP Basic credential.")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	id, secret, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return malformed("The HTTP Basic credential cannot be read.")
	}
	if id, err = url.QueryUnescape(id); err == nil {
		secret, err = url.QueryUnescape(secret)
	}
	if err != nil {
		return malformed("The HTTP Basic credential cannot be read.")
	}
	if !t.Secret.IsZero() || t.ClientID != "" && !strings.EqualFold(t.ClientID, id) {
		return malformed("A client must prove itself in one way only: by HTTP Basic or in the body.")
	}
	t.ClientID, t.Secret = id, az.NewSecret(secret)
	return nil
}

// parseForm reads a form in which no parameter may come twice.
// Source: RFC 6749 §3.2.
func parseForm(body string) (map[string]string, error) {
	form := map[string]string{}
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		k, err1 := url.QueryUnescape(k)
		v, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil {
			return nil, malformed("The request's body is not a valid form.")
		}
		if _, twice := form[k]; twice {
			return nil, malformed("The request's body holds the parameter '" + printable(k) + "' more than once.")
		}
		if form[k] = v; len(form) > maxParameters {
			return nil, malformed("The request's body holds too many parameters.")
		}
	}
	return form, nil
}

func peerOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

func missing(parameter string) error {
	return oauthError(az.Invalid, "invalid_request", 900144, "The request body must contain the following parameter: '%s'.", parameter)
}

func malformed(text string) error {
	return oauthError(az.Invalid, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid. %s", text)
}

// resource finds the one resource that a request is for.
func (t *tokenRequest) resource() (string, error) {
	scope, resource := t.Scope, t.Resource
	switch {
	case t.Endpoint == endpointV1 && resource != "", t.Endpoint == endpointADFS && scope == "" && resource != "":
		return resource, nil
	case scope == "" && t.Endpoint == endpointV1:
		return "", missing("resource")
	case scope == "":
		return "", missing("scope")
	}
	var found []string
	for _, s := range strings.Fields(scope) {
		switch strings.ToLower(s) {
		case "openid", "profile", "offline_access", "email": // msal-go sends these with every grant
		default:
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return "", oauthError(az.Invalid, "invalid_scope", 70011,
			"The provided request must include a 'scope' input parameter that names exactly one resource. The provided value for the input parameter 'scope' is not valid.")
	}
	name, ok := strings.CutSuffix(found[0], "/.default") // exactly once: //.default leaves the slash
	if !ok || name == "" {
		return "", oauthError(az.Invalid, "invalid_scope", 1002012,
			"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", printable(found[0]))
	}
	return name, nil
}
