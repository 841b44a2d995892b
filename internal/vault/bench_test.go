package vault

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// BenchmarkGetSecret reads random secrets with the real decision, the real
// audit record and the real decryption; only the token is taken as checked.
func BenchmarkGetSecret(b *testing.B) {
	for _, n := range []int{1, 1000} {
		r := newRig(b, storetest.Open(b, store.Config{Dir: b.TempDir()})).withVault()
		for i := range n {
			r.set(fmt.Sprintf("secret-%06d", i), "postgres://app:correct-horse-battery-staple@db.example.org/app")
		}
		mux := http.NewServeMux()
		var handle func(context.Context, *rest.Request) (any, error)
		var req *rest.Request
		for _, rt := range r.routes() {
			if rt.Method == "GET" && rt.Path == "/secrets/{name}/{$}" {
				handle = rt.Handle
				mux.HandleFunc("GET /secrets/{name}/{$}", func(_ http.ResponseWriter, hr *http.Request) {
					req = &rest.Request{Request: hr, Caller: az.Principal{ObjectID: user, AppID: user, TenantID: tenant}}
				})
			}
		}
		reqs := make([]*rest.Request, n)
		for i := range reqs {
			mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", fmt.Sprintf("https://%s/secrets/secret-%06d/?api-version=7.4", kvHost, i), nil))
			reqs[i] = req
		}
		ctx := az.WithCorrelation(context.Background(), az.NewGUID())
		b.Run(fmt.Sprintf("handler/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := handle(ctx, reqs[i%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("surface/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var w discard
			hr := httptest.NewRequest("GET", "https://"+kvHost+"/secrets/secret-000000/?api-version=7.4", nil)
			hr.Header.Set("Authorization", "Bearer "+user)
			for b.Loop() {
				w.h = http.Header{}
				r.h.ServeHTTP(&w, hr)
				if w.status != 200 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// BenchmarkSetSecret writes durably, alone and with 15 others: the flush is
// shared.
func BenchmarkSetSecret(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers/%d", writers), func(b *testing.B) {
			r := newRig(b, storetest.Open(b, store.Config{Dir: b.TempDir()})).withVault()
			b.ReportAllocs()
			b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
			var n atomic.Int64
			set := func() {
				p := r.do(officer, "PUT", fmt.Sprintf("/secrets/s%d", n.Add(1)), `{"value":"correct-horse-battery-staple"}`)
				if p.Status != 200 {
					b.Error(p.Raw)
				}
			}
			b.ResetTimer()
			if writers == 1 {
				for range b.N {
					set()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					set()
				}
			})
		})
	}
}

type discard struct {
	h      http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(s int)           { d.status = s }
