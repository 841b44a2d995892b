package easyauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
)

const (
	// maxPending bounds the sign-ins that one browser may have begun, one for
	// each tab: their cookies are sent with every request.
	maxPending = 5
	// maxCallback bounds what a sign-in comes back with: a code and an id token.
	maxCallback = 64 << 10
	// tagLength is how much of a state names its cookie.
	tagLength = 8
	// maxHint bounds parameters that a page passes on to the sign-in.
	maxHint = 256
)

// pending is a sign-in that has begun: what its cookie holds, sealed. Only the
// browser that began one can end it, once, for the same app and registration.
type pending struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v,omitempty"` // PKCE
	Client   string    `json:"c"`
	Host     string    `json:"h"`
	Return   string    `json:"r"`
	Began    az.Micros `json:"t"`
}

func (v *visit) pendingPlace(tag string) seal.Place {
	return seal.Place{Table: "front_logins", ID: v.f.cfg.Names.Domain + " " + v.site.ID.Key(), Version: tag}
}

// login answers {prefix}/login/{provider}.
func (v *visit) login(name string) {
	switch {
	case v.r.Method == http.MethodPost && name == provider:
		v.loginWithToken()
		return
	case v.r.Method != http.MethodGet && v.r.Method != http.MethodHead:
		v.page(http.StatusMethodNotAllowed, "Method not allowed", "A sign-in begins with GET.")
		return
	case !strings.EqualFold(name, provider) && !strings.EqualFold(name, providerName) || !v.set.AAD:
		v.page(http.StatusNotFound, "No such sign-in", "This app has no identity provider of that name.")
		return
	}
	q := v.r.URL.Query()
	target := q.Get("post_login_redirect_uri")
	if target == "" {
		target = q.Get("post_login_redirect_url")
	}
	to, ok := v.set.back(v.base(), target, v.set.Prefix+"/login/done")
	if !ok {
		v.page(http.StatusBadRequest, "The address is not allowed", "post_login_redirect_uri must be a path of this app, or an address that its settings allow.")
		return
	}
	v.startLogin(to)
}

// startLogin sends the browser to the authority.
func (v *visit) startLogin(to string) {
	if len(to) > maxReturn {
		to = "/" // the page is asked for again by hand
	}
	if rest, own := v.set.own(v.r.URL); v.set.Fragments && !(own && strings.HasPrefix(rest, "/login/")) {
		v.startWithFragment(to)
		return
	}
	p := pending{State: random(), Nonce: random(), Client: v.set.Client, Host: v.host, Return: to, Began: az.MicrosOf(v.f.cfg.Clock())}
	q := v.parameters()
	q.Set("client_id", v.set.Client)
	q.Set("redirect_uri", v.callbackURL())
	q.Set("response_mode", "form_post")
	q.Set("state", p.State)
	q.Set("nonce", p.Nonce)
	q.Set("response_type", "id_token")
	if v.set.Secret != "" {
		p.Verifier = random()
		sum := sha256.Sum256([]byte(p.Verifier))
		q.Set("response_type", "code")
		q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
		q.Set("code_challenge_method", "S256")
	}
	plain, err := json.Marshal(&p)
	if err == nil {
		plain, err = v.f.cfg.Sealer.Seal(v.pendingPlace(p.State[:tagLength]), plain)
	}
	if err != nil {
		v.fail(err)
		return
	}
	v.thinOut()
	// The answer comes as a POST from the authority's pages. Where the domain is
	// one label, the two hosts are different sites to a browser, which sends such
	// a POST no cookie but one that says None. It is safe: the cookie is worth
	// nothing without the state that only this browser was sent on with.
	v.setCookie(loginCookie+p.State[:tagLength], base64.RawURLEncoding.EncodeToString(plain), int(v.set.Login.Seconds()), http.SameSiteNoneMode)
	v.redirect(v.f.authorityURL("authorize") + "?" + q.Encode())
}

func (v *visit) callbackURL() string { return v.base() + v.set.Prefix + "/login/aad/callback" }

// parameters are what the settings and the page ask of the sign-in itself.
func (v *visit) parameters() url.Values {
	q := url.Values{}
	for k, values := range v.set.Parameters {
		q[k] = slices.Clone(values)
	}
	// A v1 application names a resource; its scope is the same question.
	if r := q.Get("resource"); r != "" {
		if q.Get("scope") == "" {
			q.Set("scope", r+"/.default")
		}
		q.Del("resource")
	}
	scopes := strings.Fields(q.Get("scope"))
	if len(scopes) == 0 {
		scopes = []string{"openid", "profile", "email"}
	} else if !slices.Contains(scopes, "openid") {
		scopes = append([]string{"openid", "profile"}, scopes...)
	}
	q.Set("scope", strings.Join(scopes, " "))
	if _, own := v.set.own(v.r.URL); own {
		for _, k := range []string{"login_hint", "domain_hint", "prompt"} {
			if x := v.r.URL.Query().Get(k); x != "" && len(x) <= maxHint {
				q.Set(k, x)
			}
		}
	}
	return q
}

// thinOut removes cookies of sign-ins that were begun and never ended, where
// there are too many.
func (v *visit) thinOut() {
	n := 0
	for _, c := range v.r.Cookies() {
		if !strings.HasPrefix(c.Name, loginCookie) {
			continue
		}
		if n++; n >= maxPending {
			v.setCookie(c.Name, "", -1, http.SameSiteNoneMode)
		}
	}
}

// startWithFragment begins a sign-in from a page, which knows the fragment.
func (v *visit) startWithFragment(to string) {
	nonce := random()
	h := v.ownHeaders()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"'; frame-ancestors 'none'; base-uri 'none'")
	v.w.WriteHeader(http.StatusOK)
	if v.r.Method == http.MethodHead {
		return
	}
	start := v.set.Prefix + "/login/aad"
	_ = fragmentTemplate.Execute(v.w, map[string]string{"Nonce": nonce, "Start": start, "Path": to,
		"Login": start + "?post_login_redirect_uri=" + url.QueryEscape(to)})
}

// callback answers {prefix}/login/aad/callback: a sign-in comes back.
func (v *visit) callback() {
	if v.r.Method != http.MethodPost {
		v.again(http.StatusBadRequest, "A sign-in comes back here by POST; it cannot be opened by hand.")
		return
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxCallback)
	if err := v.r.ParseForm(); err != nil {
		v.page(http.StatusBadRequest, "The request cannot be read", "The sign-in came back with something that is no form, or too large.")
		return
	}
	form := v.r.PostForm
	p, err := v.takePending(form.Get("state"))
	if err != nil {
		v.refuseLogin(az.Principal{}, err)
		return
	}
	if problem := form.Get("error"); problem != "" {
		text, _, _ := strings.Cut(form.Get("error_description"), "\n")
		v.refuseLogin(az.Principal{}, az.Errorf(az.Forbidden, printable(problem, 64), "The sign-in did not succeed: %s", printable(text, 400)))
		return
	}
	v.complete(p, form)
}

// takePending opens the sign-in that a state belongs to and takes it from the
// browser: it counts once.
func (v *visit) takePending(state string) (*pending, error) {
	lost := az.Errorf(az.Forbidden, "state", "This sign-in was not begun in this browser, took too long, or has been used. Begin again.")
	if len(state) < tagLength || len(state) > maxHint || strings.ContainsAny(state, " =;,\t\r\n\"\\") {
		return nil, lost
	}
	tag := state[:tagLength]
	c, err := v.r.Cookie(loginCookie + tag)
	if err != nil {
		return nil, lost
	}
	v.setCookie(loginCookie+tag, "", -1, http.SameSiteNoneMode)
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return nil, lost
	}
	plain, err := v.f.cfg.Sealer.Open(v.pendingPlace(tag), sealed)
	if err != nil {
		return nil, lost
	}
	var p pending
	if err := json.Unmarshal(plain, &p); err != nil {
		return nil, lost
	}
	age := v.f.cfg.Clock().Sub(p.Began.Time())
	if subtle.ConstantTimeCompare([]byte(p.State), []byte(state)) != 1 || p.Client != v.set.Client || p.Host != v.host || age < 0 || age > v.set.Login {
		return nil, lost
	}
	return &p, nil
}

// complete gets the tokens, finds out who it is, and opens the session.
func (v *visit) complete(p *pending, form url.Values) {
	t := tokens{ID: form.Get("id_token")}
	if p.Verifier != "" {
		code := form.Get("code")
		if code == "" {
			v.refuseLogin(az.Principal{}, az.Errorf(az.Forbidden, "code", "The sign-in came back without a code. Begin again."))
			return
		}
		var err error
		t, err = v.ask(v.ctx, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {p.Verifier}, "redirect_uri": {v.callbackURL()}})
		if err != nil {
			v.refuseLogin(az.Principal{}, err)
			return
		}
	}
	who, err := v.f.cfg.Verify(v.ctx, t.ID, Expect{Audiences: []string{v.set.Client}, ID: true, Peer: v.r.RemoteAddr})
	if err != nil {
		v.refuseLogin(az.Principal{}, err)
		return
	}
	if nonce, _ := who.Claims["nonce"].(string); subtle.ConstantTimeCompare([]byte(nonce), []byte(p.Nonce)) != 1 {
		v.refuseLogin(who.Principal, az.Errorf(az.Forbidden, "nonce", "The sign-in that came back is not the one that was begun here. Begin again."))
		return
	}
	if err := v.admit(&caller{principal: who.Principal, claims: who.Claims, session: &session{}}); err != nil {
		v.refuseLogin(who.Principal, err)
		return
	}
	if err := v.dropSession(); err != nil { // whoever was signed in here before is not any more
		v.fail(err)
		return
	}
	id, binding, s, err := v.begin(who, t, true)
	if err == nil {
		err = v.record(who.Principal, "sign in to app", guard.Allowed, "")
	}
	if err != nil {
		v.fail(err)
		return
	}
	v.w.Header().Del("Set-Cookie")
	v.setCookie(loginCookie+p.State[:tagLength], "", -1, http.SameSiteNoneMode)
	v.setSession(id, binding, s.Gone)
	v.redirect(p.Return)
}

// refuseLogin records a sign-in that failed and says so.
func (v *visit) refuseLogin(who az.Principal, err error) {
	if kind := az.KindOf(err); kind == az.Internal || kind == az.Unavailable {
		v.fail(err)
		return
	}
	var e *az.Error
	if !asError(err, &e) {
		v.fail(err)
		return
	}
	if err := v.record(who, "sign in to app", guard.Refused, e.Code); err != nil {
		v.fail(err)
		return
	}
	status := http.StatusForbidden
	if e.Kind == az.Unauthorized {
		status = http.StatusUnauthorized
	}
	v.again(status, e.Message)
}

func (v *visit) again(status int, text string) {
	v.show(status, pageText{Title: "You are not signed in", Text: text, Link: v.set.Prefix + "/login/aad", LinkText: "Sign in"})
}
