package conformance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// office is a plane with people and with applications that sign them in: a
// client, an API that it calls for them, and an API behind that one.
type office struct {
	*plane
	ann, ben          person
	client, api, deep application
	public            application
	certificate       string // PEM file of client
	der               []byte
}

const (
	webRedirect    = "https://web.example/callback"
	publicRedirect = "org.example.conformance://auth"
)

func newOffice(t *testing.T, args ...string) *office {
	t.Helper()
	o := &office{plane: start(t, args...)}
	all := o.people("Ann", "Ben")
	o.ann, o.ben = all[0], all[1]
	o.api = o.offer("orders", 2, []string{"read", "never"}, appRole(1, "orders.all", "Application"))
	o.deep = o.offer("deep", 1, []string{"deep"})
	o.client = o.register("client", map[string]any{"web": map[string]any{"redirectUris": []string{webRedirect, webRedirect + "/other"}}})
	o.public = o.register("public", map[string]any{"isFallbackPublicClient": true,
		"publicClient": map[string]any{"redirectUris": []string{"http://localhost", publicRedirect}}})
	o.graph(t, http.MethodPost, "/servicePrincipals/"+o.client.Service+"/appRoleAssignments", map[string]string{
		"principalId": o.client.Service, "resourceId": o.api.Service, "appRoleId": appRole(1, "")["id"].(string)}, nil)
	for _, client := range []application{o.client, o.public, o.api} {
		o.consent(client.Service, o.deep.Service, "deep")
	}
	o.consent(o.deep.Service, o.servicePrincipal(graphAppID), "User.Read")
	o.certify(t)
	return o
}

// offer makes an API with scopes; its tokens are of version 1 or 2.
func (p *plane) offer(name string, version int, scopes []string, roles ...map[string]any) application {
	p.t.Helper()
	var offered []map[string]any
	for i, s := range scopes {
		offered = append(offered, delegated(i+1, s))
	}
	a := p.register(name, map[string]any{"appRoles": roles, "web": map[string]any{"redirectUris": []string{webRedirect}},
		"api": map[string]any{"requestedAccessTokenVersion": version, "oauth2PermissionScopes": offered}})
	p.graph(p.t, http.MethodPatch, "/applications/"+a.ID, map[string]any{"identifierUris": []string{a.uri()}}, nil)
	return a
}

func (a application) uri() string { return "api://" + a.AppID }

// certify gives the client a certificate.
func (o *office) certify(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o.der = certificate(t, key, nil)
	o.certificate = filepath.Join(t.TempDir(), "client.pem")
	if err := pemFile(o.certificate, o.der, key); err != nil {
		t.Fatal(err)
	}
	o.graph(t, http.MethodPatch, "/applications/"+o.client.ID, map[string]any{"keyCredentials": []any{map[string]any{
		"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.StdEncoding.EncodeToString(o.der)}}}, nil)
}

// tokens are what the token endpoint answers, or why it does not.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Error   string `json:"error"`
	About   string `json:"error_description"`
}

// ask sends a form to the token endpoint.
func (p *plane) ask(fields url.Values) tokens {
	p.t.Helper()
	resp, err := p.caller(p.t).PostForm(p.env.Authority+"/"+p.env.TenantID+"/oauth2/v2.0/token", fields)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var out tokens
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		p.t.Fatalf("the token endpoint answered %s: %v %s", resp.Status, err, b)
	}
	return out
}

// signIn signs somebody in to a confidential client, and takes what it gets.
func (p *plane) signIn(who person, to application, scope string) tokens {
	p.t.Helper()
	v := p.visit(who)
	if err := v.arrive(p.authorizeURL(to, scope)); err != nil {
		p.t.Fatal(err)
	}
	if v.left == nil || v.left.Query().Get("code") == "" {
		p.t.Fatalf("no code came back: %v, pages %q, the last: %s", v.left, v.trail, v.text)
	}
	got := p.ask(url.Values{"grant_type": {"authorization_code"}, "client_id": {to.AppID}, "client_secret": {to.Secret}, "scope": {scope},
		"code": {v.left.Query().Get("code")}, "redirect_uri": {webRedirect}, "code_verifier": {rightVerifier}})
	if got.Access == "" {
		p.t.Fatalf("no token for %s: %s", scope, got.About)
	}
	return got
}

func (p *plane) authorizeURL(to application, scope string) string {
	return p.env.Authority + "/" + p.env.TenantID + "/oauth2/v2.0/authorize?" + url.Values{"client_id": {to.AppID}, "response_type": {"code"},
		"redirect_uri": {webRedirect}, "scope": {scope}, "state": {"s"}, "code_challenge": {s256(rightVerifier)}, "code_challenge_method": {"S256"}}.Encode()
}

// appToken is a token of an application, for itself, of another one.
func (p *plane) appToken(from application, to string) string {
	p.t.Helper()
	got := p.ask(url.Values{"grant_type": {"client_credentials"}, "client_id": {from.AppID}, "client_secret": {from.Secret}, "scope": {to + "/.default"}})
	if got.Access == "" {
		p.t.Fatal(got.About)
	}
	return got.Access
}

// flow runs one of the MSAL programs.
func (o *office) flow(t *testing.T, e ecosystem, way, name string, change func(*msalCase, *visitor)) result {
	t.Helper()
	sha, sha2 := sha1.Sum(o.der), sha256.Sum256(o.der)
	c := &msalCase{Authority: o.env.Authority + "/" + o.env.TenantID, Way: way, Client: o.client.AppID, Secret: o.client.Secret,
		Certificate: o.certificate, Thumbprint: hex.EncodeToString(sha[:]), Thumbprint2: hex.EncodeToString(sha2[:]), Public: o.public.AppID,
		Redirect: webRedirect, PublicRedirect: publicRedirect, API: o.api.uri(), Scope: o.api.uri() + "/read", Other: o.deep.uri() + "/deep", Never: o.api.uri() + "/never",
		User: o.ann.UPN, Password: o.ann.Password, Visitor: []string{self, "client", "visit"}}
	v := &visitor{Person: o.ann, Domain: o.env.Domain}
	flags := []string{"--tenant", "guid"}
	switch way {
	case "adfs":
		c.Authority, flags = o.env.Authority+"/adfs", nil
	case "azure":
		c.Authority, v.Azure, flags = "https://login.microsoftonline.com/"+o.env.TenantID, true, []string{"--azure-names"}
	}
	if change != nil {
		change(c, v)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return o.withEnv([]string{"MSAL=" + string(b), "VISITOR=" + v.asJSON(t), `BROWSER=sh -c 'exec "` + self + `" client visit "$0" >/dev/null' %s &`}, flags, e.program("msal", name)...)
}

// judge compares, after the words that only one library has.
func judge(t *testing.T, e ecosystem, r result, want string) {
	t.Helper()
	class := ""
	if e.name == "node" {
		class = " interaction"
	}
	lines(t, r, strings.ReplaceAll(want, "{interaction}", class))
}

// TestMSAL: every flow of Microsoft's three libraries that applies, in each of
// the documented ways of naming the plane. The password grant is off unless
// the operator switches it on, as the one with Azure's names does.
func TestMSAL(t *testing.T) {
	own := newOffice(t)
	config := filepath.Join(t.TempDir(), "plane.toml")
	if err := os.WriteFile(config, []byte("[sign-in]\npassword-grant = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	machine := newOffice(t, "--listen", "127.0.0.1:443", "--hosts", "auto", "--azure-names", "--config", config)
	for _, way := range []struct {
		name     string
		password string
		*office
	}{{"guid", passwordOff, own}, {"adfs", passwordOff, own}, {"azure", passwordLines, machine}} {
		o, held := way.office, way.tokens()
		r := strings.NewReplacer("{ann}", o.ann.UPN, "{api}", o.api.AppID, "{deep}", o.deep.uri())
		for _, e := range ecosystems {
			for _, flow := range [][2]string{{"app", appLines}, {"code", codeLines}, {"public", publicLines}, {"password", way.password}, {"behalf", behalfLines}} {
				name, want := flow[0], flow[1]
				if name == "code" && e.name != "go" { // which takes no refresh token from elsewhere
					want += "\nrefresh {ann} {api} read"
				}
				if e.name == "go" { // which sends no credential with a password, whatever the client's
					want = strings.Replace(want, "confidential {ann} {api} read", "confidential refused invalid_client 7000218", 1)
				}
				switch {
				case name == "password" && e.name == "python" && way.name == "guid":
					continue // it asks about the person at port 443, whatever the authority's port is
				case name == "code" && e.name == "node" && way.name == "adfs":
					want = strings.Replace(want, "removed true", "removed false", 1) // its cache finds no tokens to remove of accounts at ADFS
				}
				t.Run(way.name+"/"+e.name+"/"+name, func(t *testing.T) {
					o.as(t)
					judge(t, e, o.flow(t, e, way.name, name, func(c *msalCase, v *visitor) {
						v.Loopback = name == "public"
						switch name {
						case "behalf":
							o.asAPI(c, held)
						case "code":
							c.Refresh = o.signIn(o.ann, o.client, "offline_access "+c.Scope).Refresh
						}
					}), r.Replace(want))
				})
			}
		}
	}
}

// heldTokens are what an API may be sent.
type heldTokens struct{ forAPI, elsewhere, asApp string }

func (o *office) tokens() heldTokens {
	return heldTokens{forAPI: o.signIn(o.ann, o.client, o.api.uri()+"/read").Access,
		elsewhere: o.signIn(o.ann, o.client, o.deep.uri()+"/deep").Access, asApp: o.appToken(o.client, o.api.uri())}
}

// asAPI makes a program the API: it acts for the person towards another API,
// and that one towards Graph; nothing but a person's token for it is taken.
func (o *office) asAPI(c *msalCase, held heldTokens) {
	c.Client, c.Secret, c.Assertion, c.Elsewhere, c.AppToken = o.api.AppID, o.api.Secret, held.forAPI, held.elsewhere, held.asApp
	c.Deep, c.DeepSecret, c.DeepScope, c.GraphScope = o.deep.AppID, o.deep.Secret, o.deep.uri()+"/deep", "https://graph.microsoft.com/User.Read"
	c.ForgedToken, c.Never = forge(held.forAPI), "https://vault.azure.net/user_impersonation"
}

const (
	appLines = `
secret {api} orders.all
cached true
certificate {api} orders.all
wrong-secret refused invalid_client 7000215
unknown-client refused unauthorized_client 700016
unknown-resource refused invalid_resource 500011
no-default refused invalid_scope 1002012`

	codeLines = `
state the state
code {ann} {api} read
account {ann}
cached true
other {ann} {deep} deep
claims {ann} {api} read
renewed true
never refused invalid_grant 65001 consent_required{interaction}
removed true
again refused invalid_grant 54005
pkce refused invalid_grant 501481
redirect refused invalid_grant 500112
form-post {ann} {api} read
none login_required
declined access_denied`

	publicLines = `
interactive {ann} {api} read
other {ann} {deep} deep
pkce {ann} {api} read`

	passwordOff = `
confidential refused unsupported_grant_type 70003
password refused unsupported_grant_type 70003
wrong refused unsupported_grant_type 70003
nobody refused unsupported_grant_type 70003`

	passwordLines = `
confidential {ann} {api} read
password {ann} {api} read
wrong refused invalid_grant 50126
nobody refused invalid_grant 50126`

	deviceLines = `
device {ann} {api} read
declined true`

	behalfLines = `
behalf {ann} {deep} deep
cached true
chained {ann} https://graph.microsoft.com openid profile User.Read
app-only refused invalid_grant 7000114
elsewhere refused invalid_grant 500131
forged refused invalid_grant 50013
never refused invalid_grant 65001 consent_required{interaction}`
)

// TestMSALDevice: the program waits while the person agrees elsewhere.
func TestMSALDevice(t *testing.T) {
	o := newOffice(t)
	r := strings.NewReplacer("{ann}", o.ann.UPN, "{api}", o.api.AppID)
	for _, e := range ecosystems {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // most of it is the libraries' waiting
			judge(t, e, o.flow(t, e, "guid", "device", nil), r.Replace(deviceLines))
		})
	}
}

// forge changes one character in the middle of a token's signature.
func forge(token string) string {
	b := []byte(token)
	i := strings.LastIndexByte(token, '.') + 40
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
