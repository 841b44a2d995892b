package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// TestCertificate: an application proves itself with a certificate, through
// each library's own assertion format (PS256 and RS256, x5t and x5t#S256).
func TestCertificate(t *testing.T) {
	w := newWorld(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := certificate(t, key, nil)
	file := filepath.Join(t.TempDir(), "app.pem")
	if err := pemFile(file, der, key); err != nil {
		t.Fatal(err)
	}
	app := w.application(t, der)
	w.assign(secretsUser, app.principal, w.vault.ID)
	for _, e := range ecosystems {
		t.Run(e.name, func(t *testing.T) {
			w.as(t)
			r := w.with(nil, append([]string{"env", "CERTIFICATE=" + file, "AZURE_CLIENT_ID=" + app.id}, e.program("read", "certificate", w.vaultURL("kv1"), "plain")...)...)
			lines(t, r, "get "+plainValue)
		})
	}
	t.Run("another certificate's key is refused", func(t *testing.T) {
		w.as(t)
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		if err := pemFile(file, certificate(t, other, nil), other); err != nil {
			t.Fatal(err)
		}
		for _, e := range ecosystems {
			r := w.with(nil, append([]string{"env", "CERTIFICATE=" + file, "AZURE_CLIENT_ID=" + app.id}, e.program("read", "certificate", w.vaultURL("kv1"), "plain")...)...)
			if r.code == 0 {
				t.Errorf("%s got in: %s", e.name, r.stdout)
			}
		}
	})
}

type registered struct{ id, principal string }

// application registers an application with a certificate, and its principal,
// through Microsoft Graph.
func (w *world) application(t *testing.T, der []byte) registered {
	t.Helper()
	var app, sp struct {
		ID    string `json:"id"`
		AppID string `json:"appId"`
	}
	w.graph(t, http.MethodPost, "/applications", map[string]any{"displayName": "with a certificate"}, &app)
	w.graph(t, http.MethodPatch, "/applications/"+app.ID, map[string]any{"keyCredentials": []any{map[string]any{
		"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.StdEncoding.EncodeToString(der)}}}, nil)
	w.graph(t, http.MethodPost, "/servicePrincipals", map[string]any{"appId": app.AppID}, &sp)
	return registered{app.AppID, sp.ID}
}

// graph calls Microsoft Graph as the administrator.
func (p *plane) graph(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if err := p.arm().DoHost(t.Context(), "graph."+p.env.Domain, method, "/v1.0"+path, in, out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// TestGroups: a role given to a group counts for the members of its members,
// and ends at once with the membership.
func TestGroups(t *testing.T) {
	w := newWorld(t)
	var inner, outer struct {
		ID string `json:"id"`
	}
	for name, g := range map[string]any{"inner": &inner, "outer": &outer} {
		w.graph(t, http.MethodPost, "/groups", map[string]any{"displayName": name, "mailNickname": name, "mailEnabled": false, "securityEnabled": true}, g)
	}
	member := func(group, who string) {
		w.graph(t, http.MethodPost, "/groups/"+group+"/members/$ref", map[string]any{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + who}, nil)
	}
	member(outer.ID, inner.ID)
	member(inner.ID, w.other.Identity.PrincipalID)
	read := func() result {
		return w.run("other", nil, ecosystems[0].program("read", "managed", w.vaultURL("kv1"), "plain")...)
	}
	lines(t, read(), "get 403 Forbidden")
	w.assign(secretsUser, "outer", w.vault.ID)
	lines(t, read(), "get "+plainValue)
	w.graph(t, http.MethodDelete, "/groups/"+outer.ID+"/members/"+inner.ID+"/$ref", nil, nil)
	lines(t, read(), "get 403 Forbidden")
}

// certificate is self-signed, or signed by a parent.
func certificate(t *testing.T, key *rsa.PrivateKey, ips []net.IP) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "conformance"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: ips, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestWorkloadIdentity: an identity trusts an outside issuer, as a Kubernetes
// cluster is; its token is exchanged by each library.
func TestWorkloadIdentity(t *testing.T) {
	issuer := newIssuer(t)
	w := &world{plane: &plane{t: t, dir: newDir(t), extraEnv: []string{"SSL_CERT_FILE=" + issuer.caFile}}}
	w.boot()
	t.Cleanup(w.kill)
	w.vault = w.make("vault", "kv1")
	w.cli("secret", "set", "kv1", "plain", plainValue)
	shared := w.make("identity", "shared")
	w.assign(secretsUser, "shared", w.vault.ID)
	const subject = "system:serviceaccount:default:web"
	if err := w.arm().Put(t.Context(), shared.ID+"/federatedIdentityCredentials/cluster", map[string]any{"properties": map[string]any{
		"issuer": issuer.URL, "subject": subject, "audiences": []string{"api://AzureADTokenExchange"}}}, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	read := func(e ecosystem, cred string) result {
		return w.with(nil, append([]string{"env", "AZURE_CLIENT_ID=" + shared.Properties.ClientID, "AZURE_FEDERATED_TOKEN_FILE=" + file},
			e.program("read", cred, w.vaultURL("kv1"), "plain")...)...)
	}
	issuer.write(t, file, subject, "api://AzureADTokenExchange", time.Hour)
	for _, e := range ecosystems {
		for _, cred := range []string{"workload", "assertion", "default"} {
			t.Run(e.name+"/"+cred, func(t *testing.T) { w.as(t); lines(t, read(e, cred), "get "+plainValue) })
		}
	}
	for name, write := range map[string]func(){
		"another subject":  func() { issuer.write(t, file, subject+"x", "api://AzureADTokenExchange", time.Hour) },
		"another audience": func() { issuer.write(t, file, subject, "api://another", time.Hour) },
		"expired":          func() { issuer.write(t, file, subject, "api://AzureADTokenExchange", -time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			w.as(t)
			write()
			if r := read(ecosystems[0], "workload"); r.code == 0 {
				t.Errorf("got in: %s", r.stdout)
			}
		})
	}
}

// outsideIssuer is an OpenID provider with one ES256 key.
type outsideIssuer struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	caFile string
}

func newIssuer(t *testing.T) *outsideIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tlsKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &outsideIssuer{key: key, caFile: filepath.Join(t.TempDir(), "issuer.pem")}
	der := certificate(t, tlsKey, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err := os.WriteFile(i.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(i.serve))
	i.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: tlsKey}}}
	i.StartTLS()
	t.Cleanup(i.Close)
	return i
}

func (i *outsideIssuer) serve(w http.ResponseWriter, r *http.Request) {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b64 := base64.RawURLEncoding.EncodeToString
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
	case "/keys":
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1",
			"x": b64(point[1:33]), "y": b64(point[33:])}}})
	default:
		http.NotFound(w, r)
	}
}

// write puts a signed token into a file.
func (i *outsideIssuer) write(t *testing.T, file, subject, audience string, life time.Duration) {
	t.Helper()
	now := time.Now()
	payload, err := json.Marshal(map[string]any{"iss": i.URL, "sub": subject, "aud": []string{audience}, "jti": az.NewGUID(),
		"iat": now.Add(-2 * time.Hour).Unix(), "nbf": now.Add(-2 * time.Hour).Unix(), "exp": now.Add(life).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(`{"alg":"ES256","typ":"JWT","kid":"k1"}`)) + "." + b64(payload)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	if err := os.WriteFile(file, []byte(signed+"."+b64(sig)), 0o600); err != nil {
		t.Fatal(err)
	}
}
