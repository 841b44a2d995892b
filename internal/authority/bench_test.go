package authority

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

func BenchmarkVerifyHit(b *testing.B) {
	p := onSQLite(b)
	token := p.token(b, "https://vault.azure.net/.default")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Verify(context.Background(), token, rest.Vault); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerifyMiss(b *testing.B) {
	p := onSQLite(b)
	token := p.token(b, "https://vault.azure.net/.default")
	b.ReportAllocs()
	for b.Loop() {
		p.verified.dropAll()
		if _, err := p.Verify(context.Background(), token, rest.Vault); err != nil {
			b.Fatal(err)
		}
	}
}

func (p *plane) identity(b *testing.B) (oid string) {
	p.write(b, func(tx *store.Tx) (err error) {
		oid, _, err = p.dir.CreateIdentity(tx, az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a"), "a")
		return err
	})
	return oid
}

func BenchmarkIdentityTokenWarm(b *testing.B) {
	p := onSQLite(b)
	req := IdentityRequest{ObjectID: p.identity(b), Resource: "https://vault.azure.net"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.IdentityToken(context.Background(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkIdentityTokenCold(b *testing.B) {
	p := onSQLite(b)
	oid := p.identity(b)
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(8) // 16 callers on two cores
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resource := fmt.Sprintf("https://a%d.blob.core.windows.net", n.Add(1))
			if _, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: oid, Resource: resource}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkClientCredentials(b *testing.B) {
	p := onSQLite(b)
	h := p.Surface().Handler()
	form := p.secretForm("https://vault.azure.net/.default").Encode()
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "/"+p.names.Tenant+"/oauth2/v2.0/token", strings.NewReader(form))
			r.Host = loginHost
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != 200 {
				b.Fatal(w.Body)
			}
		}
	})
}

// BenchmarkRSASign is the limit that cold tokens are measured against.
func BenchmarkRSASign(b *testing.B) {
	key := rsaKey(b)
	var hash [sha256.Size]byte
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// serveForm posts a form to the token endpoint without a network.
func serveForm(b *testing.B, h http.Handler, tenant, form string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form))
	r.Host = loginHost
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 200 {
		b.Fatal(w.Body)
	}
	return w
}

const benchScope = "https://vault.azure.net/.default openid profile offline_access"

// BenchmarkCodeRedemption is one code for three tokens: two signatures and one
// write. The code itself is made outside of the measurement.
func BenchmarkCodeRedemption(b *testing.B) {
	p := onSQLite(b)
	u := p.person(b, "ann@hawser.localhost")
	h := p.Surface().Handler()
	by := signed{User: u.ID, At: az.MicrosOf(p.clock.now()), AMR: []string{"pwd"}}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		code, err := p.newCode(context.Background(), codeFacts{Client: cli, Redirect: loopback, Named: true, Kind: nativeRedirect, Challenge: challengeOf(testVerifier), Scope: benchScope, By: by})
		if err != nil {
			b.Fatal(err)
		}
		form := url.Values{"grant_type": {"authorization_code"}, "client_id": {cli}, "redirect_uri": {loopback}, "code": {code}, "code_verifier": {testVerifier}}.Encode()
		b.StartTimer()
		serveForm(b, h, p.names.Tenant, form)
	}
}

func BenchmarkRefresh(b *testing.B) {
	p := onSQLite(b)
	u := p.person(b, "ann@hawser.localhost")
	h := p.Surface().Handler()
	c, _, err := p.dir.Client(context.Background(), cli)
	if err != nil {
		b.Fatal(err)
	}
	f := familyFacts{By: signed{User: u.ID, At: az.MicrosOf(p.clock.now())}, Scope: benchScope, Public: true}
	b.ReportAllocs()
	b.ResetTimer()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		token, err := p.beginFamily(context.Background(), &grant{Client: c}, f, false)
		if err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			w := serveForm(b, h, p.names.Tenant, "grant_type=refresh_token&client_id="+cli+"&refresh_token="+token)
			var out struct {
				RefreshToken string `json:"refresh_token"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.RefreshToken == "" {
				b.Error(w.Body)
				return
			}
			token = out.RefreshToken
		}
	})
}

func BenchmarkOnBehalfOf(b *testing.B) {
	c := newChain(b, onSQLite(b))
	h := c.Surface().Handler()
	form := behalfForm(c.first, c.userToken(b, c.browser(b), "api://first/Use openid").text("access_token"), "api://next/Use").Encode()
	b.ReportAllocs()
	b.ResetTimer()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			serveForm(b, h, c.names.Tenant, form)
		}
	})
}
