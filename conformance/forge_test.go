package conformance

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// TestForgedTokens: every token that should not count is refused by the vault,
// by ARM and by the four gateways, and each refusal is in the audit log.
// The forger is the strongest there can be: where the signature is not the
// point, it has the plane's own signing key.
func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	stranger := newWorld(t)
	db := w.attach("pg1")
	w.cli("connect", "web", "pg1", "--database", db.name, "--access", "read", "--name", db.connection())
	my := w.attachMySQL("my1")
	w.attachSQL("sql1")
	w.attachRedis("cache1")
	w.cli("connect", "web", "my1", "--type", "mysql-flexible", "--database", my.name, "--access", "read", "--name", my.connection())
	w.cli("connect", "web", "sql1", "--type", "sql", "--database", "shop", "--access", "read")
	w.cli("connect", "web", "cache1", "--type", "redis", "--access", "read")
	w.assign("Reader", "web", w.vault.ID)
	f := &forger{key: w.signingKey(t)}

	for _, s := range []struct {
		name, audience, elsewhere string
		try                       func(token string) (allowed bool, answer string)
	}{
		{"vault", vaultScope, armScope, w.tryVault(t)},
		{"ARM", armScope, vaultScope, w.tryARM(t)},
		{"PostgreSQL", pgAudience, vaultScope, w.tryGateway(t, db)},
		{"MySQL", pgAudience, sqlAudience, w.tryMySQL(my)},
		{"SQL Server", sqlAudience, pgAudience, w.trySQL()},
		{"Redis", redisAudience, pgAudience, w.tryRedis()},
	} {
		t.Run(s.name, func(t *testing.T) {
			w.as(t)
			stranger.as(t)
			good := w.token(s.audience, "web")
			if ok, answer := s.try(good); !ok {
				t.Fatalf("the true token was refused: %s", answer)
			}
			if ok, answer := s.try(f.again(good, nil, nil)); !ok {
				t.Fatalf("the forger is not strong enough: its copy of a true token was refused: %s", answer)
			}
			for name, token := range f.tokens(t, good, w.token(s.elsewhere, "web"), stranger.token(s.audience, "web"), w.env) {
				t.Run(name, func(t *testing.T) {
					w.as(t)
					before := w.newest()
					allowed, answer := s.try(token)
					if allowed {
						t.Errorf("accepted: %s", answer)
					}
					if len(token) > 40 && strings.Contains(answer, token[len(token)-40:]) {
						t.Errorf("the refusal repeats the token: %s", answer)
					}
					w.wantRefusal(t, before)
				})
			}
			w.deletedPrincipal(t, s.audience, s.try)
		})
	}
}

// newest is the number of the newest audit record.
func (w *world) newest() int64 {
	w.t.Helper()
	var last []record
	w.json(&last, "audit", "--last", "1")
	if len(last) == 0 {
		return 0
	}
	return last[len(last)-1].Seq
}

// wantRefusal wants a record of a refused token that is newer than before.
func (w *world) wantRefusal(t *testing.T, before int64) {
	t.Helper()
	var last []record
	w.json(&last, "audit", "--last", "20")
	for _, r := range last {
		if r.Seq > before && r.Kind == "token" && r.Outcome == "refused" && r.Reason != "" {
			return
		}
	}
	t.Errorf("no record of the refusal among %+v", last)
}

// deletedPrincipal: a token outlives neither its app nor its identity.
func (w *world) deletedPrincipal(t *testing.T, audience string, try func(string) (bool, string)) {
	t.Run("principal deleted", func(t *testing.T) {
		w.as(t)
		w.make("app", "shortlived")
		token := w.token(audience, "shortlived")
		w.cli("app", "delete", "shortlived")
		before := w.newest()
		if ok, answer := try(token); ok {
			t.Errorf("accepted: %s", answer)
		}
		w.wantRefusal(t, before)
	})
}

func (w *world) tryVault(t *testing.T) func(string) (bool, string) {
	return func(token string) (bool, string) {
		status, body := w.get(t, "kv1.vault."+domain, "/secrets/plain?api-version=7.4", token)
		return status != "401", status + " " + body
	}
}

func (w *world) tryARM(t *testing.T) func(string) (bool, string) {
	return func(token string) (bool, string) {
		status, body := w.get(t, "management."+domain, w.vault.ID+"?api-version=2023-07-01", token)
		return status != "401", status + " " + body
	}
}

func (w *world) tryGateway(t *testing.T, db database) func(string) (bool, string) {
	return func(token string) (bool, string) {
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		cfg, err := pgconn.ParseConfig(fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", db.role(), w.env.Gateways["pg"], db.name))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Password = token
		cfg.TLSConfig = &tls.Config{InsecureSkipVerify: true} // the token is the subject here
		conn, err := pgconn.ConnectConfig(ctx, cfg)
		if err == nil {
			_ = conn.Close(ctx)
			return true, "connected"
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || !strings.HasPrefix(pg.Code, "28") {
			t.Errorf("the gateway did not refuse in PostgreSQL's words: %v", err)
		}
		return false, err.Error()
	}
}

// signingKey reads the key that the plane signs with, past the plane, as
// somebody could who stole the data directory with the KEK in it.
func (p *plane) signingKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	var key *rsa.PrivateKey
	p.inside(t, func(ctx context.Context, st *store.Store, sealer *seal.Sealer) {
		rows, err := st.SigningKeys(ctx)
		if err != nil || len(rows) == 0 {
			t.Fatalf("no signing keys: %v", err)
		}
		plain, err := sealer.Open(seal.Place{Table: "signing_keys", ID: rows[0].KID}, rows[0].Sealed)
		if err != nil {
			t.Fatal(err)
		}
		if key, err = x509.ParsePKCS1PrivateKey(plain); err != nil {
			t.Fatal(err)
		}
	})
	return key
}

// inside stops the plane, opens its SQLite store and its sealer, and starts
// the plane again.
func (p *plane) inside(t *testing.T, fn func(ctx context.Context, st *store.Store, sealer *seal.Sealer)) {
	t.Helper()
	p.stop()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	st, err := store.Open(ctx, store.Config{Dir: p.dir})
	if err != nil {
		t.Fatal(err)
	}
	kek, err := seal.KEKFromFile(p.dir+"/kek", false)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, _, err := st.Meta(ctx, "seal/keyset")
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Load(kek, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	fn(ctx, st, sealer)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	p.boot()
}

// forger makes tokens.
type forger struct{ key *rsa.PrivateKey }

type fields map[string]any

// tokens are the forgeries, by what is wrong with each.
func (f *forger) tokens(t *testing.T, good, otherAudience, otherPlane string, env planeEnv) map[string]string {
	t.Helper()
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	const guid = "11111111-2222-4333-8444-555555555555"
	parts := strings.Split(good, ".")
	all := map[string]string{
		"alg none":                           f.none(good, "none", ""),
		"alg None, signature kept":           f.none(good, "None", parts[2]),
		"alg missing":                        f.again(good, fields{"alg": nil}, nil),
		"wrong kid":                          f.again(good, fields{"kid": "nobody", "x5t": "nobody"}, nil),
		"no kid":                             f.again(good, fields{"kid": nil, "x5t": nil}, nil),
		"another key under our kid":          (&forger{own}).again(good, nil, nil),
		"another key, brought along":         (&forger{own}).again(good, fields{"jwk": jwk(&own.PublicKey)}, nil),
		"critical extension":                 f.again(good, fields{"crit": []string{"exp"}}, nil),
		"other tenant":                       f.again(good, nil, fields{"tid": guid, "iss": "https://sts.windows.net/" + guid + "/"}),
		"other tenant's name, our issuer":    f.again(good, nil, fields{"tid": guid}),
		"other issuer":                       f.again(good, nil, fields{"iss": "https://evil.example/" + env.TenantID + "/"}),
		"another plane's token":              otherPlane,
		"other audience":                     otherAudience,
		"no audience":                        f.again(good, nil, fields{"aud": nil}),
		"several audiences":                  f.again(good, nil, fields{"aud": []any{claims(good)["aud"], "https://evil.example"}}),
		"expired":                            f.again(good, nil, fields{"exp": now - 3600, "nbf": now - 7200, "iat": now - 7200}),
		"no expiry":                          f.again(good, nil, fields{"exp": nil}),
		"not yet valid":                      f.again(good, nil, fields{"nbf": now + 3600, "iat": now + 3600, "exp": now + 7200}),
		"tampered payload":                   parts[0] + "." + edited(parts[1], fields{"oid": env.Admin.ObjectID, "sub": env.Admin.ObjectID}) + "." + parts[2],
		"tampered signature":                 parts[0] + "." + parts[1] + "." + flip(parts[2]),
		"no signature":                       parts[0] + "." + parts[1] + ".",
		"missing oid":                        f.again(good, nil, fields{"oid": nil}),
		"oid of nobody":                      f.again(good, nil, fields{"oid": guid, "sub": guid}),
		"oid that is no id":                  f.again(good, nil, fields{"oid": "*"}),
		"id token":                           f.again(good, nil, idToken(claims(good)["appid"], now)),
		"id token with the right audience":   f.again(good, nil, idToken(claims(good)["aud"], now)),
		"a delegated token without a person": f.again(good, nil, fields{"scp": "user_impersonation"}),
		"two dots and nothing else":          "..",
		"not a JWT":                          "not a token",
		"five parts":                         good + ".x.y",
		"with a line break":                  parts[0] + "." + parts[1] + ".\t" + parts[2],
	}
	for name, secret := range f.publicForms() {
		all["HS256 with the public key, "+name] = f.hmac(good, secret)
	}
	return all
}

// idToken is what turns an access token's claims into an id token's.
func idToken(aud any, now int64) fields {
	return fields{"aud": aud, "appid": nil, "appidacr": nil, "idtyp": nil, "xms_mirid": nil, "scp": nil, "roles": nil,
		"ver": "2.0", "nonce": "n", "preferred_username": "web", "name": "web", "exp": now + 3600}
}

// again signs a token again, with some fields of header and claims replaced;
// nil takes one away.
func (f *forger) again(token string, header, payload fields) string {
	parts := strings.Split(token, ".")
	signed := edited(parts[0], header) + "." + edited(parts[1], payload)
	if header == nil {
		signed = parts[0] + "." + edited(parts[1], payload) // byte for byte
	}
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, f.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (f *forger) none(token, alg, sig string) string {
	parts := strings.Split(token, ".")
	return edited(parts[0], fields{"alg": alg}) + "." + parts[1] + "." + sig
}

func (f *forger) hmac(token string, secret []byte) string {
	parts := strings.Split(token, ".")
	signed := edited(parts[0], fields{"alg": "HS256"}) + "." + parts[1]
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// publicForms are the forms in which a careless verifier holds a public key.
func (f *forger) publicForms() map[string][]byte {
	spki, err := x509.MarshalPKIXPublicKey(&f.key.PublicKey)
	if err != nil {
		panic(err)
	}
	return map[string][]byte{
		"PEM":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
		"DER":     spki,
		"PKCS#1":  x509.MarshalPKCS1PublicKey(&f.key.PublicKey),
		"modulus": f.key.N.Bytes(),
	}
}

func jwk(k *rsa.PublicKey) fields {
	return fields{"kty": "RSA", "use": "sig", "alg": "RS256", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(k.N.Bytes())}
}

// edited replaces fields of a base64url JSON object.
func edited(part string, change fields) string {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		panic(err)
	}
	m := fields{}
	if err := json.Unmarshal(b, &m); err != nil {
		panic(err)
	}
	maps.Copy(m, change)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	if b, err = json.Marshal(m); err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// flip changes one bit in the middle.
func flip(sig string) string {
	b, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		panic(err)
	}
	b[len(b)/2] ^= 1
	return base64.RawURLEncoding.EncodeToString(b)
}

// TestChallenge: who comes without a token is told where to get one, in the
// words that the SDKs parse, and nothing else.
func TestChallenge(t *testing.T) {
	w := newWorld(t)
	c := w.caller(t)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		req, err := http.NewRequest(method, w.vaultURL("kv1")+"/secrets/plain?api-version=7.4", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(challenge, `Bearer authorization="https://login.`+domain) ||
			!strings.Contains(challenge, `resource="https://vault.`+domain+":"+w.port()+`"`) {
			t.Errorf("%s: status %d, challenge %s", method, resp.StatusCode, challenge)
		}
	}
	if status, _ := w.get(t, "nosuchvault.vault."+domain, "/secrets/plain?api-version=7.4", w.token(vaultScope, "web")); status == "200" {
		t.Error("a vault that does not exist answers")
	}
}
