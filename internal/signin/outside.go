package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

// Provider is a company's own OpenID Connect provider, to which sign-in is
// handed. Its redirect address is the login host's /signin/callback.
type Provider struct {
	Issuer       string // https URL, exactly as its tokens say it
	ClientID     string
	ClientSecret az.Secret
	Name         string   // on the button
	Scopes       []string // beside openid; nil means profile and email
	// UserClaim is the claim that holds the account's name: email,
	// preferred_username or upn. "" means email.
	UserClaim string
	// TrustEmail takes the email claim for verified though the provider does
	// not say email_verified.
	TrustEmail bool
	// Domains are those of the names that the provider may speak for; names
	// of these domains are sent there from the account page. Empty means any
	// but the plane's own.
	Domains []string
	// TrustNames lets a person be matched by name with an account that an
	// administrator made for them and that has no password or passkey here. It
	// needs Domains.
	TrustNames bool
	// Create makes an account at the first sign-in.
	Create bool
	// Only turns passwords of this plane off.
	Only bool
	// GroupsClaim names the claim with the person's groups, and Groups maps
	// its values to group object ids or display names here. Only groups named
	// in the map are touched, at each sign-in.
	GroupsClaim string
	Groups      map[string]string
}

const (
	// outsideTimeout bounds each request to the provider.
	outsideTimeout = 10 * time.Second
	// maxOutside bounds a reply of the provider.
	maxOutside = 1 << 20
	// maxSubject bounds issuer and subject. Source: OpenID Connect Core §2: a
	// subject has at most 255 characters.
	maxSubject = 1024
	// rediscover is how often the provider's configuration is read again.
	rediscover = time.Hour
)

// outside speaks with the provider. Its configuration is read at first use, so
// that a plane starts without it.
type outside struct {
	cfg    Provider
	client *http.Client
	clock  az.Clock

	flight singleflight.Group // reads of the configuration

	mu   sync.Mutex // guards what follows
	prov *oidc.Provider
	read time.Time
}

func newOutside(cfg Config) (*outside, error) {
	p := *cfg.Provider
	u, err := url.Parse(p.Issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("the outside provider's issuer must be an https URL without query and fragment")
	case p.ClientID == "":
		return nil, errors.New("the outside provider needs a client id")
	case p.TrustNames && len(p.Domains) == 0:
		return nil, errors.New("an outside provider whose names are trusted needs the list of its domains")
	}
	if p.UserClaim == "" {
		p.UserClaim = "email"
	}
	if !slices.Contains([]string{"email", "preferred_username", "upn"}, p.UserClaim) {
		return nil, errors.New("the outside provider's user claim must be email, preferred_username or upn")
	}
	if p.Name == "" {
		p.Name = u.Hostname()
	}
	if p.Scopes == nil {
		p.Scopes = []string{"profile", "email"}
	}
	for _, d := range p.Domains {
		if d == "" || strings.ContainsAny(d, "@ /") {
			return nil, errors.New("the outside provider's domains must be names such as example.com")
		}
	}
	client := cfg.HTTP
	if client == nil {
		client = &http.Client{}
	}
	own := *client
	own.Timeout = outsideTimeout
	own.Transport = bounded{own.Transport}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &outside{cfg: p, client: &own, clock: cfg.Clock}, nil
}

// bounded limits the replies of a transport.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	next := b.next
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxOutside), resp.Body}
	}
	return resp, err
}

// serves reports whether a name belongs to the provider's domains.
func (o *outside) serves(name string) bool {
	_, domain, ok := strings.Cut(name, "@")
	return ok && domain != "" && slices.ContainsFunc(o.cfg.Domains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// speaksFor reports whether the provider may name a person so.
func (o *outside) speaksFor(name, planeDomain string) bool {
	if len(o.cfg.Domains) > 0 {
		return o.serves(name)
	}
	_, domain, _ := strings.Cut(strings.ToLower(name), "@")
	return domain != strings.ToLower(planeDomain) && !strings.HasSuffix(domain, "."+strings.ToLower(planeDomain))
}

// provider reads the configuration, or gives back what was read. Those who come
// while it is read wait for the same answer: a provider that hangs costs each
// of them one timeout, and not one after the other.
func (o *outside) provider(ctx context.Context) (*oidc.Provider, error) {
	if p, fresh := o.known(); fresh {
		return p, nil
	}
	read := o.flight.DoChan("", func() (any, error) { return o.discover(context.WithoutCancel(ctx)) })
	var why error
	select {
	case r := <-read:
		if r.Err == nil {
			return r.Val.(*oidc.Provider), nil
		}
		why = r.Err
	case <-ctx.Done():
		why = ctx.Err()
	}
	if old, _ := o.known(); old != nil {
		return old, nil // it may well do; its keys are read as needed
	}
	return nil, az.Errorf(az.Unavailable, "ProviderUnavailable", "%s cannot be reached at the moment. Try again.", o.cfg.Name).Because(why)
}

// known is what was read last; fresh says that it need not be read again.
func (o *outside) known() (p *oidc.Provider, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.prov, o.prov != nil && o.clock().Sub(o.read) < rediscover
}

func (o *outside) discover(ctx context.Context) (*oidc.Provider, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.cfg.Issuer)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.prov, o.read = p, o.clock()
	return p, nil
}

// oauth is the client at the provider. How it proves itself is what the
// provider says: to try both ways would spend the code.
func (o *outside) oauth(p *oidc.Provider, redirect string) *oauth2.Config {
	var meta struct {
		Ways []string `json:"token_endpoint_auth_methods_supported"`
	}
	end := p.Endpoint()
	end.AuthStyle = oauth2.AuthStyleInHeader // Source: OpenID Connect Discovery §3, the default
	if p.Claims(&meta) == nil && slices.Contains(meta.Ways, "client_secret_post") && !slices.Contains(meta.Ways, "client_secret_basic") || o.cfg.ClientSecret.IsZero() {
		end.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{ClientID: o.cfg.ClientID, ClientSecret: o.cfg.ClientSecret.Reveal(), Endpoint: end, RedirectURL: redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, o.cfg.Scopes...)}
}

const callbackPath = "/signin/callback"

// toProvider sends the browser to the provider. State is the flow itself,
// sealed and bound to this browser; so are nonce and PKCE verifier in it.
func (c *call) toProvider(ctx context.Context) (*rest.Reply, error) {
	o := c.s.outside
	if o == nil {
		return nil, stalePage()
	}
	p, err := o.provider(ctx)
	if err != nil {
		return nil, err
	}
	c.flow.Nonce, c.flow.Verifier, c.flow.Passkey = randomSecret(), oauth2.GenerateVerifier(), nil
	state, err := c.hide(stageOutside)
	if err != nil {
		return nil, err
	}
	more := []oauth2.AuthCodeOption{oidc.Nonce(c.flow.Nonce), oauth2.S256ChallengeOption(c.flow.Verifier)}
	if c.flow.Name != "" {
		more = append(more, oauth2.SetAuthURLParam("login_hint", c.flow.Name))
	}
	if c.flow.Ask.Fresh {
		more = append(more, oauth2.SetAuthURLParam("prompt", "login"))
	} else if c.flow.Ask.Select {
		more = append(more, oauth2.SetAuthURLParam("prompt", "select_account"))
	}
	return c.goTo(o.oauth(p, c.s.origin(c.Request)+callbackPath).AuthCodeURL(state, more...)), nil
}

func (o *outside) failed(cause error) error {
	return az.Errorf(az.Forbidden, "ProviderFailed", "The sign-in at %s was not completed. Go back to the app and start again.", o.cfg.Name).Because(cause)
}

// callback takes what the provider sent the browser back with.
func (s *SignIn) callback(ctx context.Context, r *rest.Request) (*rest.Reply, error) {
	if s.outside == nil {
		return nil, az.Errorf(az.NotFound, "NotFound", "No outside provider is set up here.")
	}
	c := s.newCall(r)
	q := r.URL.Query()
	if err := s.Reveal(r, purposeFlow, q.Get("state"), c.flow); err != nil {
		return nil, err
	}
	if c.flow.Stage != stageOutside {
		return nil, stalePage()
	}
	if err := s.useOnce(ctx, "state "+c.flow.Nonce); err != nil {
		return nil, err
	}
	claims, err := s.outside.redeem(ctx, c, q)
	if err != nil {
		return nil, s.refused(ctx, nil, actionOutside, c.peer(), err)
	}
	user, err := s.match(ctx, claims)
	if err != nil {
		return nil, s.refused(ctx, nil, actionOutside, c.peer(), err)
	}
	if !user.Enabled {
		return nil, s.refused(ctx, user, actionOutside, c.peer(), disabled())
	}
	if err := s.mapGroups(ctx, user, claims); err != nil {
		return nil, err
	}
	c.flow.Provider, c.flow.Nonce, c.flow.Verifier = s.outside.cfg.Issuer, "", ""
	c.prove(user, max(s.now(), user.ValidFrom), amrOutside)
	if slices.Contains(claims.AMR, amrMulti) {
		c.flow.add(amrMulti)
	}
	return c.proceed(ctx)
}

// outsideClaims are what is read of the provider's token.
type outsideClaims struct {
	Issuer, Subject string
	Name            string // the account's
	Display         string
	Given, Family   string
	Groups          []string
	AMR             []string
}

// redeem turns a code into claims.
func (o *outside) redeem(ctx context.Context, c *call, q url.Values) (outsideClaims, error) {
	var none outsideClaims
	p, err := o.provider(ctx)
	if err != nil {
		return none, err
	}
	// Source: RFC 9207 §2.4: an answer of another provider is a mix-up.
	var meta struct {
		Says bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := p.Claims(&meta); err != nil {
		return none, o.failed(err)
	}
	if iss := q["iss"]; len(iss) > 1 || len(iss) == 1 && iss[0] != o.cfg.Issuer || len(iss) == 0 && meta.Says {
		return none, o.failed(errors.New("the answer names another issuer"))
	}
	if q.Get("error") != "" || q.Get("code") == "" {
		return none, o.failed(errors.New("the provider answered without a code"))
	}
	ctx = oidc.ClientContext(ctx, o.client)
	tok, err := o.oauth(p, c.s.origin(c.Request)+callbackPath).Exchange(ctx, q.Get("code"), oauth2.VerifierOption(c.flow.Verifier))
	if err != nil {
		return none, o.failed(withoutBody(err))
	}
	raw, _ := tok.Extra("id_token").(string)
	id, err := p.VerifierContext(ctx, &oidc.Config{ClientID: o.cfg.ClientID, Now: o.clock}).Verify(ctx, raw)
	if err != nil {
		return none, o.failed(err)
	}
	if c.flow.Nonce == "" || id.Nonce != c.flow.Nonce {
		return none, o.failed(errors.New("the token's nonce is another's"))
	}
	return o.claimsOf(id, c.flow.Ask.Fresh)
}

// withoutBody keeps what the provider's token endpoint said out of the log.
func withoutBody(err error) error {
	var re *oauth2.RetrieveError
	if errors.As(err, &re) {
		return fmt.Errorf("the provider's token endpoint answered %d %s", re.Response.StatusCode, re.ErrorCode)
	}
	return err
}

// claimsOf takes the claims out of a verified token.
func (o *outside) claimsOf(id *oidc.IDToken, fresh bool) (outsideClaims, error) {
	var all map[string]json.RawMessage
	if err := id.Claims(&all); err != nil {
		return outsideClaims{}, o.failed(err)
	}
	text := func(name string) (s string) { _ = json.Unmarshal(all[name], &s); return s }
	c := outsideClaims{Issuer: id.Issuer, Subject: id.Subject, Name: text(o.cfg.UserClaim), Display: text("name"), Given: text("given_name"),
		Family: text("family_name"), AMR: texts(all["amr"]), Groups: texts(all[o.cfg.GroupsClaim])}
	if len(c.Issuer)+len(c.Subject) > maxSubject || c.Subject == "" || strings.ContainsAny(c.Issuer+c.Subject, " \x00") {
		return c, o.failed(errors.New("the token's subject cannot be kept"))
	}
	if o.cfg.UserClaim == "email" && !o.cfg.TrustEmail && !truth(all["email_verified"]) {
		c.Name = ""
	}
	if fresh {
		var at int64
		if json.Unmarshal(all["auth_time"], &at) == nil && o.clock().Sub(time.Unix(at, 0)) > pageLife+time.Minute {
			return c, o.failed(errors.New("the provider did not ask again"))
		}
	}
	return c, nil
}

// texts reads a claim that is a text or a list of them.
func texts(raw json.RawMessage) []string {
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}
	}
	return nil
}

// truth reads a claim that some providers write as a text.
func truth(raw json.RawMessage) bool {
	s := string(raw)
	return s == "true" || s == `"true"`
}
