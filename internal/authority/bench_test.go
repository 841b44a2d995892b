package authority

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
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
