package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"crypto/sha256"
	"encoding/base64"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	msalerrors "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
)

// The MSAL programs: node/msal.mjs and python/msal_flows.py take the same
// steps with their library and print the same lines.

// msalCase is what the programs read from the variable MSAL.
type msalCase struct {
	Authority      string   `json:"authority"`
	Way            string   `json:"way"`    // guid and adfs: the plane's own names; azure: Azure's
	Client         string   `json:"client"` // confidential
	Secret         string   `json:"secret"`
	Certificate    string   `json:"certificate"` // PEM file with the key and the certificate
	Thumbprint     string   `json:"thumbprint"`  // its SHA-1, in hex
	Thumbprint2    string   `json:"thumbprint256"`
	Public         string   `json:"public"` // a public client
	Redirect       string   `json:"redirect"`
	PublicRedirect string   `json:"publicRedirect"` // of the public client, where nobody listens
	API            string   `json:"api"`            // application id URI
	Scope          string   `json:"scope"`          // delegated, of the API
	Other          string   `json:"other"`          // delegated, of another API
	Never          string   `json:"never"`          // delegated; nobody has consented
	Refresh        string   `json:"refresh"`        // refresh token of the user at the client
	User           string   `json:"user"`
	Password       string   `json:"password"`
	Visitor        []string `json:"visitor"`     // program that signs the user in at a URL and prints where it was sent
	Assertion      string   `json:"assertion"`   // token of the user for the client
	AppToken       string   `json:"appToken"`    // token of an app for the client
	Elsewhere      string   `json:"elsewhere"`   // token of the user for another API
	Deep           string   `json:"deep"`        // client id of the API behind the API
	DeepSecret     string   `json:"deepSecret"`  // its secret
	DeepScope      string   `json:"deepScope"`   // its scope
	GraphScope     string   `json:"graphScope"`  // what it asks of Graph
	ForgedToken    string   `json:"forgedToken"` // Assertion with one character of its signature changed
}

type goMSALProgram struct {
	msalCase
	ctx context.Context
}

func goMSAL(ctx context.Context, args []string) error {
	p := &goMSALProgram{ctx: ctx}
	if err := json.Unmarshal([]byte(os.Getenv("MSAL")), &p.msalCase); err != nil {
		return err
	}
	flows := map[string]func() error{"app": p.app, "code": p.code, "public": p.public, "device": p.device, "password": p.password, "behalf": p.behalf}
	return flows[args[0]]()
}

func (p *goMSALProgram) confidential(client string, cred confidential.Credential) (confidential.Client, error) {
	return confidential.New(p.Authority, client, cred, confidential.WithInstanceDiscovery(p.Way != "guid"))
}

func (p *goMSALProgram) withSecret(client, secret string) (confidential.Client, error) {
	cred, err := confidential.NewCredFromSecret(secret)
	if err != nil {
		return confidential.Client{}, err
	}
	return p.confidential(client, cred)
}

// outcome shows a token, or what MSAL makes of a refusal.
func outcome(name, token string, err error) {
	if err != nil {
		say(name, "refused", oauthError(err))
		return
	}
	c := claims(token)
	who, _ := c["preferred_username"].(string)
	if who == "" {
		who, _ = c["upn"].(string)
	}
	roles, _ := c["roles"].([]any)
	say(name, strings.Join(slices.DeleteFunc([]string{who, fmt.Sprint(c["aud"]), field(c, "scp"), strings.Trim(fmt.Sprint(roles), "[]")},
		func(s string) bool { return s == "" }), " "))
}

func field(c map[string]any, name string) string {
	s, _ := c[name].(string)
	return s
}

// oauthError is the error, its first code and the suberror.
func oauthError(err error) string {
	var call msalerrors.CallErr
	if !errors.As(err, &call) || call.Resp == nil {
		return "failed: " + err.Error()
	}
	b, _ := io.ReadAll(call.Resp.Body)
	var e struct {
		Error    string `json:"error"`
		Codes    []int  `json:"error_codes"`
		Suberror string `json:"suberror"`
	}
	if json.Unmarshal(b, &e) != nil || len(e.Codes) == 0 {
		return "failed: " + string(b)
	}
	return strings.TrimSpace(fmt.Sprintln(e.Error, e.Codes[0], e.Suberror))
}

func (p *goMSALProgram) app() error {
	scopes := []string{p.API + "/.default"}
	c, err := p.withSecret(p.Client, p.Secret)
	if err != nil {
		return err
	}
	r, err := c.AcquireTokenByCredential(p.ctx, scopes)
	outcome("secret", r.AccessToken, err)
	again, err := c.AcquireTokenByCredential(p.ctx, scopes)
	say("cached", err == nil && again.AccessToken == r.AccessToken)
	pem, err := os.ReadFile(p.Certificate)
	if err != nil {
		return err
	}
	certs, key, err := confidential.CertFromPEM(pem, "")
	if err != nil {
		return err
	}
	cred, err := confidential.NewCredFromCert(certs, key)
	if err != nil {
		return err
	}
	if c, err = p.confidential(p.Client, cred); err != nil {
		return err
	}
	r, err = c.AcquireTokenByCredential(p.ctx, scopes)
	outcome("certificate", r.AccessToken, err)
	for _, wrong := range []struct{ name, client, secret, scope string }{
		{"wrong-secret", p.Client, "not the secret", scopes[0]},
		{"unknown-client", none, p.Secret, scopes[0]},
		{"unknown-resource", p.Client, p.Secret, "api://nobody/.default"},
		{"no-default", p.Client, p.Secret, p.Scope},
	} {
		c, err := p.withSecret(wrong.client, wrong.secret)
		if err != nil {
			return err
		}
		r, err := c.AcquireTokenByCredential(p.ctx, []string{wrong.scope})
		outcome(wrong.name, r.AccessToken, err)
	}
	return nil
}

// visit signs the user in at a URL and returns what the redirect brought.
func (p *goMSALProgram) visit(address string, more ...string) (url.Values, error) {
	cmd := exec.CommandContext(p.ctx, p.Visitor[0], append(append(p.Visitor[1:], address), more...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the visitor failed: %w", err)
	}
	u, err := url.Parse(strings.TrimSpace(string(out)))
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(u.String(), p.Redirect+"?") && !strings.HasPrefix(u.String(), p.PublicRedirect+"?") {
		return nil, fmt.Errorf("the visitor ended at %s", u)
	}
	return u.Query(), nil
}

// s256 is what PKCE sends of a verifier. MSAL Go leaves both to the app.
func s256(verifier string) string {
	h := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

const (
	rightVerifier = "a-verifier-that-is-long-enough-for-the-rule-of-43-characters"
	wrongVerifier = "another-verifier-that-is-long-enough-for-the-rule-of-43-char"
)

// authorize gets a code; extra is put into the address.
func (p *goMSALProgram) authorize(address string, extra url.Values) (url.Values, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("code_challenge", s256(rightVerifier))
	q.Set("code_challenge_method", "S256")
	q.Set("state", "the state")
	for k, v := range extra {
		q[k] = v
	}
	u.RawQuery = q.Encode()
	return p.visit(u.String())
}

func (p *goMSALProgram) code() error {
	c, err := p.withSecret(p.Client, p.Secret)
	if err != nil {
		return err
	}
	scopes := []string{p.Scope}
	address, err := c.AuthCodeURL(p.ctx, p.Client, p.Redirect, scopes)
	if err != nil {
		return err
	}
	got, err := p.authorize(address, nil)
	if err != nil {
		return err
	}
	say("state", got.Get("state"))
	r, err := c.AcquireTokenByAuthCode(p.ctx, got.Get("code"), p.Redirect, scopes, confidential.WithChallenge(rightVerifier))
	outcome("code", r.AccessToken, err)
	say("account", r.Account.PreferredUsername)
	silent, err := c.AcquireTokenSilent(p.ctx, scopes, confidential.WithSilentAccount(r.Account))
	say("cached", err == nil && silent.AccessToken == r.AccessToken)
	silent, err = c.AcquireTokenSilent(p.ctx, []string{p.Other}, confidential.WithSilentAccount(r.Account))
	outcome("other", silent.AccessToken, err)
	// This library answers a claims challenge by another sign-in only.
	const challenge = `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`
	challenged, err := c.AuthCodeURL(p.ctx, p.Client, p.Redirect, scopes, confidential.WithClaims(challenge))
	if err != nil {
		return err
	}
	more, err := p.authorize(challenged, nil)
	if err != nil {
		return err
	}
	silent, err = c.AcquireTokenByAuthCode(p.ctx, more.Get("code"), p.Redirect, scopes, confidential.WithChallenge(rightVerifier), confidential.WithClaims(challenge))
	outcome("claims", silent.AccessToken, err)
	say("renewed", err == nil && silent.AccessToken != r.AccessToken)
	silent, err = c.AcquireTokenSilent(p.ctx, []string{p.Never}, confidential.WithSilentAccount(r.Account))
	outcome("never", silent.AccessToken, err)
	if err := c.RemoveAccount(p.ctx, r.Account); err != nil {
		return err
	}
	_, err = c.AcquireTokenSilent(p.ctx, scopes, confidential.WithSilentAccount(r.Account))
	say("removed", err != nil)

	// Codes that are not what they should be.
	r, err = c.AcquireTokenByAuthCode(p.ctx, got.Get("code"), p.Redirect, scopes, confidential.WithChallenge(rightVerifier))
	outcome("again", r.AccessToken, err)
	if got, err = p.authorize(address, nil); err != nil {
		return err
	}
	r, err = c.AcquireTokenByAuthCode(p.ctx, got.Get("code"), p.Redirect, scopes, confidential.WithChallenge(wrongVerifier))
	outcome("pkce", r.AccessToken, err)
	if got, err = p.authorize(address, nil); err != nil {
		return err
	}
	r, err = c.AcquireTokenByAuthCode(p.ctx, got.Get("code"), p.Redirect+"/other", scopes, confidential.WithChallenge(rightVerifier))
	outcome("redirect", r.AccessToken, err)
	if got, err = p.authorize(address, url.Values{"response_mode": {"form_post"}}); err != nil {
		return err
	}
	r, err = c.AcquireTokenByAuthCode(p.ctx, got.Get("code"), p.Redirect, scopes, confidential.WithChallenge(rightVerifier))
	outcome("form-post", r.AccessToken, err)
	if got, err = p.authorize(address, url.Values{"prompt": {"none"}}); err != nil {
		return err
	}
	say("none", got.Get("error"))
	if address, err = c.AuthCodeURL(p.ctx, p.Client, p.Redirect, []string{p.Never}); err != nil {
		return err
	}
	if err := os.Setenv("DECLINE", "declined"); err != nil {
		return err
	}
	if got, err = p.authorize(address, nil); err != nil {
		return err
	}
	say("declined", got.Get("error"))
	return nil
}

func (p *goMSALProgram) openPublic() (public.Client, error) {
	return public.New(p.Public, public.WithAuthority(p.Authority), public.WithInstanceDiscovery(p.Way != "guid"))
}

func (p *goMSALProgram) public() error {
	c, err := p.openPublic()
	if err != nil {
		return err
	}
	open := func(address string) error {
		cmd := exec.CommandContext(p.ctx, p.Visitor[0], append(p.Visitor[1:], address)...)
		cmd.Stderr = os.Stderr
		return cmd.Start()
	}
	r, err := c.AcquireTokenInteractive(p.ctx, []string{p.Scope}, public.WithOpenURL(open), public.WithLoginHint(p.User))
	outcome("interactive", r.AccessToken, err)
	silent, err := c.AcquireTokenSilent(p.ctx, []string{p.Other}, public.WithSilentAccount(r.Account))
	outcome("other", silent.AccessToken, err)
	address, err := c.AuthCodeURL(p.ctx, p.Public, p.PublicRedirect, []string{p.Scope})
	if err != nil {
		return err
	}
	got, err := p.authorize(address, nil)
	if err != nil {
		return err
	}
	r, err = c.AcquireTokenByAuthCode(p.ctx, got.Get("code"), p.PublicRedirect, []string{p.Scope}, public.WithChallenge(rightVerifier))
	outcome("pkce", r.AccessToken, err)
	return nil
}

func (p *goMSALProgram) device() error {
	c, err := p.openPublic()
	if err != nil {
		return err
	}
	for _, step := range []string{"device", "declined"} {
		d, err := c.AcquireTokenByDeviceCode(p.ctx, []string{p.Scope})
		if err != nil {
			outcome(step, "", err)
			continue
		}
		cmd := exec.CommandContext(p.ctx, p.Visitor[0], append(p.Visitor[1:], d.Result.VerificationURL, d.Result.UserCode)...)
		cmd.Env = append(os.Environ(), "DECLINE="+step)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
		r, err := d.AuthenticationResult(ctx)
		cancel()
		if step == "declined" { // each library words it in its own way
			say(step, err != nil && strings.Contains(err.Error(), "authorization_declined"))
		} else {
			outcome(step, r.AccessToken, err)
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (p *goMSALProgram) password() error {
	app, err := p.withSecret(p.Client, p.Secret)
	if err != nil {
		return err
	}
	r, err := app.AcquireTokenByUsernamePassword(p.ctx, []string{p.Scope}, p.User, p.Password)
	outcome("confidential", r.AccessToken, err)
	c, err := p.openPublic()
	if err != nil {
		return err
	}
	for _, try := range []struct{ name, user, password string }{
		{"password", p.User, p.Password}, {"wrong", p.User, "not the password"}, {"nobody", "nobody@" + strings.SplitN(p.User, "@", 2)[1], p.Password},
	} {
		//lint:ignore SA1019 programs that still do it must be answered
		r, err := c.AcquireTokenByUsernamePassword(p.ctx, []string{p.Scope}, try.user, try.password)
		outcome(try.name, r.AccessToken, err)
	}
	return nil
}

func (p *goMSALProgram) behalf() error {
	c, err := p.withSecret(p.Client, p.Secret)
	if err != nil {
		return err
	}
	r, err := c.AcquireTokenOnBehalfOf(p.ctx, p.Assertion, []string{p.DeepScope})
	outcome("behalf", r.AccessToken, err)
	again, err := c.AcquireTokenOnBehalfOf(p.ctx, p.Assertion, []string{p.DeepScope})
	say("cached", err == nil && again.AccessToken == r.AccessToken)
	deep, err := p.withSecret(p.Deep, p.DeepSecret)
	if err != nil {
		return err
	}
	chained, err := deep.AcquireTokenOnBehalfOf(p.ctx, r.AccessToken, []string{p.GraphScope})
	outcome("chained", chained.AccessToken, err)
	for _, wrong := range []struct{ name, assertion, scope string }{
		{"app-only", p.AppToken, p.DeepScope}, {"elsewhere", p.Elsewhere, p.DeepScope}, {"forged", p.ForgedToken, p.DeepScope}, {"never", p.Assertion, p.Never},
	} {
		r, err := c.AcquireTokenOnBehalfOf(p.ctx, wrong.assertion, []string{wrong.scope})
		outcome(wrong.name, r.AccessToken, err)
	}
	return nil
}
