package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/store"
)

const (
	deskRedirect = "https://desk.example/callback"
	// deskVerifier is a PKCE verifier, of 43 characters.
	deskVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	peopleConns  = 16
	graphAppID   = "00000003-0000-0000-c000-000000000000"
	openID       = "openid profile offline_access"
)

// registration is an application with its service principal and a secret.
type registration struct {
	ID        string `json:"id"`
	AppID     string `json:"appId"`
	principal string
	secret    string
}

func (r registration) uri() string { return "api://" + r.AppID }

// register makes an application that signs people in and is an API with the
// scope Use.
func (p *plane) register(name string, scope int) (r registration, err error) {
	use := map[string]any{"id": fmt.Sprintf("5c0e0000-0000-4000-8000-%012d", scope), "value": "Use", "type": "User", "isEnabled": true,
		"adminConsentDisplayName": "Use it", "adminConsentDescription": "Use it", "userConsentDisplayName": "Use it", "userConsentDescription": "Use it"}
	body := map[string]any{"displayName": name, "signInAudience": "AzureADMyOrg", "web": map[string]any{"redirectUris": []string{deskRedirect}},
		"api": map[string]any{"requestedAccessTokenVersion": 2, "oauth2PermissionScopes": []any{use}}}
	ctx := p.b.ctx
	if err = p.client.Graph(ctx, http.MethodPost, "/applications", body, &r); err != nil {
		return r, err
	}
	if err = p.client.Graph(ctx, http.MethodPatch, "/applications/"+r.ID, map[string]any{"identifierUris": []string{r.uri()}}, nil); err != nil {
		return r, err
	}
	var made struct{ ID, SecretText string }
	if err = p.client.Graph(ctx, http.MethodPost, "/servicePrincipals", map[string]string{"appId": r.AppID}, &made); err != nil {
		return r, err
	}
	r.principal = made.ID
	err = p.client.Graph(ctx, http.MethodPost, "/applications/"+r.ID+"/addPassword", map[string]any{"passwordCredential": map[string]string{"displayName": "bench"}}, &made)
	r.secret = made.SecretText
	return r, err
}

// consent is an administrator's, for everybody.
func (p *plane) consent(client, resource, scopes string) error {
	return p.client.Graph(p.b.ctx, http.MethodPost, "/oauth2PermissionGrants",
		map[string]string{"clientId": client, "consentType": "AllPrincipals", "resourceId": resource, "scope": scopes}, nil)
}

func (p *plane) graphPrincipal() (string, error) {
	var page struct{ Value []struct{ ID string } }
	err := p.client.Graph(p.b.ctx, http.MethodGet, "/servicePrincipals?$filter=appId%20eq%20'"+graphAppID+"'", nil, &page)
	if err != nil || len(page.Value) != 1 {
		return "", fmt.Errorf("there is no service principal of Graph (%w)", err)
	}
	return page.Value[0].ID, nil
}

// office is a plane with people, an app that they use (desk) and an API behind
// it (next), and some of the people signed in.
type office struct {
	*plane
	desk, next registration
	web        *http.Transport
	cookies    []string // of the sessions
	access     []string // tokens of the same people for desk
}

// peoplePart measures what people wait for.
func peoplePart(b *bench) error {
	p, _, _, err := b.startCrowd("plane", crowd{envInt("BENCH_PEOPLE", 1000), 200})
	if err != nil {
		return err
	}
	o := &office{plane: p}
	if err := o.furnish(); err != nil {
		return err
	}
	for i := range peopleConns {
		if err := o.admit(i); err != nil {
			return err
		}
	}
	for _, f := range []func() error{o.codes, o.behalf, o.signIns} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (o *office) furnish() (err error) {
	if o.web, err = o.plane.web(); err != nil {
		return err
	}
	if o.desk, err = o.register("Desk", 1); err != nil {
		return err
	}
	if o.next, err = o.register("Next", 2); err != nil {
		return err
	}
	graph, err := o.graphPrincipal()
	if err != nil {
		return err
	}
	for _, c := range [][3]string{{o.desk.principal, graph, openID + " User.Read"}, {o.desk.principal, o.desk.principal, "Use"}, {o.desk.principal, o.next.principal, "Use"}} {
		if err := o.consent(c[0], c[1], c[2]); err != nil {
			return err
		}
	}
	return nil
}

// host is the authority's, with its port.
func (o *office) host() string {
	_, port, _ := strings.Cut(o.about.Listen, ":")
	return "login." + o.about.Domain + ":" + port
}

// path is the request of desk for somebody's sign-in.
func (o *office) path(prompt string) string {
	sum := sha256.Sum256([]byte(deskVerifier))
	q := url.Values{"client_id": {o.desk.AppID}, "redirect_uri": {deskRedirect}, "response_type": {"code"}, "scope": {o.desk.uri() + "/Use " + openID},
		"state": {"af0ifjsldkj"}, "nonce": {"n-0S6_WzA2Mj"}, "code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	if prompt != "" {
		q.Set("prompt", prompt)
	}
	return "/" + o.about.TenantID + "/oauth2/v2.0/authorize?" + q.Encode()
}

func (o *office) redemption(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {o.desk.AppID}, "client_secret": {o.desk.secret}, "redirect_uri": {deskRedirect},
		"code": {code}, "code_verifier": {deskVerifier}}
}

// signIn is one person's way through the pages; it returns the code.
func (o *office) signIn(ctx context.Context, i int) (*browser, string, error) {
	w, err := o.browser(o.web, o.upn(i))
	if err != nil {
		return nil, "", err
	}
	at, err := w.arrive(ctx, "https://"+o.host()+o.path(""))
	if err != nil {
		return nil, "", err
	}
	code := ""
	if at.left {
		code = at.url.Query().Get("code")
	}
	if code == "" {
		return nil, "", fmt.Errorf("the sign-in ends at %s: %d %s", at.url, at.code, at.body)
	}
	return w, code, nil
}

// admit signs a person in, and redeems the code for a token.
func (o *office) admit(i int) error {
	w, code, err := o.signIn(o.b.ctx, i)
	if err != nil {
		return err
	}
	cookie, err := w.cookies("https://" + o.host() + "/")
	if err != nil {
		return err
	}
	resp, err := w.http.PostForm("https://"+o.host()+o.tokenPath(), o.redemption(code))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var out struct {
		Access string `json:"access_token"`
		About  string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Access == "" {
		return fmt.Errorf("no token for a code: %s (%w)", out.About, err)
	}
	o.cookies, o.access = append(o.cookies, cookie), append(o.access, out.Access)
	return nil
}

func (o *office) tokenPath() string { return "/" + o.about.TenantID + "/oauth2/v2.0/token" }

// load is one on the authority.
func (o *office) load(requests ...string) load {
	host, _, _ := strings.Cut(o.host(), ":")
	return load{Addr: o.about.Listen, TLS: host, CA: o.about.CAFile, Conns: peopleConns, PIDs: []int{o.server.pid()}, Requests: requests}
}

func (o *office) post(form url.Values) string {
	return send(http.MethodPost, o.host(), o.tokenPath(), "application/x-www-form-urlencoded", form.Encode())
}

// codes measures a code's way: given out to a browser with a session, redeemed,
// and refreshed after. Each round's replies are the next one's requests.
func (o *office) codes() error {
	b := o.b
	at := func(name string) string { return filepath.Join(b.dir, name) }
	give := o.load()
	for _, c := range o.cookies {
		give.Requests = append(give.Requests, get(o.host(), o.path("none"), c))
	}
	give.Status, give.Between, give.Keep = http.StatusFound, [2]string{"code=", "&"}, at("codes")
	redeem := o.load()
	redeem.Values, redeem.Between, redeem.Keep = at("codes"), [2]string{`"refresh_token":"`, `"`}, at("refresh")
	renew := o.load()
	renew.Values, renew.Carry, renew.Between = at("refresh"), true, redeem.Between
	st, err := b.emptyStore("floor")
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	var gave, redeemed, renewed, signed, written []result
	for range b.rounds {
		for _, step := range []struct {
			to  *[]result
			run func() (result, error)
		}{
			{&gave, func() (result, error) { return b.run(give) }},
			{&written, func() (result, error) { return groupedWrites(b.ctx, st, peopleConns, b.time/2) }},
			{&redeemed, func() (result, error) { return o.with(&redeem, "codes", o.redemption) }},
			{&signed, b.signLimit},
			{&renewed, func() (result, error) { return o.with(&renew, "refresh", o.renewal) }},
		} {
			r, err := step.run()
			if err != nil {
				return err
			}
			*step.to = append(*step.to, r)
		}
	}
	g, w := b.middle("authorize", gave), b.middle("grouped commit", written)
	b.add(row{What: "authorize, signed in, a code given, 16 conn", Ours: g.rate("/s"), Limit: "store's grouped commit " + count(w.Rate) + "/s", Ratio: g.Rate / w.Rate}, true)
	sign := b.middle("signatures", signed)
	b.signed("code for id, access and refresh token, 16 conn", b.middle("redeem", redeemed), sign, 2, "")
	b.signed("refresh: the three anew, rotated, 16 conn", b.middle("refresh", renewed), sign, 2, ", grouped commit "+count(w.Rate)+"/s")
	return nil
}

func (o *office) renewal(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {o.desk.AppID}, "client_secret": {o.desk.secret}, "refresh_token": {token}}
}

// with runs a load whose request is made of values of a file.
func (o *office) with(l *load, file string, form func(value string) url.Values) (result, error) {
	text, err := os.ReadFile(filepath.Join(o.b.dir, file))
	if err != nil {
		return result{}, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	l.Requests = []string{strings.Replace(o.post(form(first)), first, "{v}", 1)}
	return o.b.run(*l)
}

// emptyStore is one of its own, for what the store alone can do.
func (b *bench) emptyStore(name string) (*store.Store, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return store.Open(b.ctx, store.Config{Dir: dir})
}

// signed adds a row for what n signatures bound.
func (b *bench) signed(what string, ours, sign result, n float64, beside string) {
	limit := result{Rate: sign.Rate / n, CPU: sign.CPU * n}
	words := "crypto/rsa, all cores " + count(limit.Rate) + "/s"
	if n > 1 {
		words = fmt.Sprintf("crypto/rsa ÷ %.0f, all cores %s/s", n, count(limit.Rate))
	}
	ratio, cpu := ours.Rate/limit.Rate, cpuRatio(ours, limit)
	b.add(row{What: what, Ours: ours.rate("/s"), Limit: fmt.Sprintf("%s, %.0f µs CPU%s", words, limit.CPU, beside), Ratio: ratio, CPU: cpu, Target: "≥ 0.90"},
		min(ratio, cpu) >= 0.90)
}

// behalf measures an API that asks for the next one's token: for the token
// alone, and with the id and refresh token that MSAL asks for beside it.
func (o *office) behalf() error {
	for _, c := range []struct {
		what, more string
		signatures float64
	}{{"on behalf of, access token, 16 conn", "", 1}, {"on behalf of, as MSAL asks, 16 conn", " " + openID, 2}} {
		l := o.load()
		for _, t := range o.access {
			l.Requests = append(l.Requests, o.post(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "requested_token_use": {"on_behalf_of"},
				"client_id": {o.desk.AppID}, "client_secret": {o.desk.secret}, "assertion": {t}, "scope": {o.next.uri() + "/Use" + c.more}}))
		}
		ours, sign, err := o.b.turns(func() (result, error) { return o.b.run(l) }, o.b.signLimit)
		if err != nil {
			return err
		}
		o.b.signed(c.what, ours, sign, c.signatures, "")
	}
	return nil
}

// signIns measures people who sign in with their passwords: five requests, one
// hash, a session and a code each.
func (o *office) signIns() error {
	next := peopleConns // those before are signed in
	var took []float64
	ours, limit, err := o.b.turns(func() (result, error) {
		r, all, err := o.signInRound(&next)
		took = append(took, all...)
		return r, err
	}, func() (result, error) { return o.b.coreLimit("hash") })
	if err != nil {
		return err
	}
	ours.P50, ours.P99 = median(took), quantile(took, 0.99)
	ratio, cpu := ours.Rate/limit.Rate, cpuRatio(ours, limit)
	o.b.add(row{What: "sign-in by password, all pages, 16 people", Ours: ours.rate("/s"), Limit: fmt.Sprintf("argon2id, all cores %s/s, %.0f µs CPU", count(limit.Rate), limit.CPU),
		Ratio: ratio, CPU: cpu, Target: "≥ 0.90"}, min(ratio, cpu) >= 0.90)
	return nil
}

// signInRound signs people in, 16 at a time, each once while there are some.
func (o *office) signInRound(next *int) (result, []float64, error) {
	people := envInt("BENCH_PEOPLE", 1000)
	var mu sync.Mutex // guards next, took and failed
	var took []float64
	var failed error
	pids := []int{o.server.pid()}
	before, began := processorTime(pids), time.Now()
	var wg sync.WaitGroup
	for range peopleConns {
		wg.Go(func() {
			for time.Since(began) < o.b.time {
				mu.Lock()
				i := *next % people
				*next++
				mu.Unlock()
				start := time.Now()
				_, _, err := o.signIn(o.b.ctx, i)
				mu.Lock()
				took = append(took, float64(time.Since(start).Microseconds()))
				failed = errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	span, used := time.Since(began), processorTime(pids)-before
	return result{Rate: float64(len(took)) / span.Seconds(), P50: median(took), P99: quantile(took, 0.99), CPU: float64(used.Microseconds()) / float64(len(took)), N: len(took)}, took, failed
}
