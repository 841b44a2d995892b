package run

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/hawser/hawser/client"
)

// discard takes an answer as cheaply as the real writer.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(b []byte) (int, error) { return len(b), nil }

func longToken(context.Context, client.TokenRequest) (client.Token, error) {
	now := time.Now().Unix()
	b := make([]byte, 1500)
	for i := range b {
		b[i] = 'a'
	}
	return client.Token{AccessToken: string(b), ExpiresOn: now + 86400, RefreshOn: now + 43200, ClientID: "5e29463d-0000-4000-8000-00000000000a"}, nil
}

// BenchmarkWarmToken is the handler alone; compare BenchmarkWarmTokenHTTP with
// BenchmarkFloorHTTP for the whole way.
func BenchmarkWarmToken(b *testing.B) {
	for _, d := range []Dialect{AppService, IMDS} {
		b.Run(string(d), func(b *testing.B) {
			id := endpoint(b, d, longToken, Limits{Hits: 1 << 30})
			id.cache.clock, id.imds.clock = time.Now, time.Now
			req := warmRequest(id)
			w := discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				id.ServeHTTP(w, req)
			}
		})
	}
}

func warmRequest(id *identity) *http.Request {
	u, _ := url.Parse("http://" + id.addr + "/msi/token" + q2019)
	h := http.Header{"X-Identity-Header": {id.header}}
	if id.dialect == IMDS {
		u, _ = url.Parse("http://" + id.addr + imdsTokenPath + "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net")
		h = http.Header{"Metadata": {"true"}}
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Host: id.addr, Header: h}
	return r.WithContext(context.WithValue(context.Background(), peerKey{}, &peer{}))
}

func BenchmarkWarmTokenHTTP(b *testing.B) {
	id := endpoint(b, AppService, longToken, Limits{Hits: 1 << 30})
	id.cache.clock = time.Now
	loadHTTP(b, "http://"+id.addr+"/msi/token"+q2019, id.header)
}

// BenchmarkFloorHTTP is a bare server with an answer of the same size.
func BenchmarkFloorHTTP(b *testing.B) {
	body := make([]byte, 1700)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = jsonType
		_, _ = w.Write(body)
	}))
	defer s.Close()
	loadHTTP(b, s.URL+"/msi/token"+q2019, "x")
}

func loadHTTP(b *testing.B, address, header string) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer c.CloseIdleConnections()
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, _ := http.NewRequest(http.MethodGet, address, nil)
			req.Header.Set("X-IDENTITY-HEADER", header)
			resp, err := c.Do(req)
			if err != nil || resp.StatusCode != 200 {
				b.Error(err, resp)
				return
			}
			buf := make([]byte, 4096)
			for {
				if _, err := resp.Body.Read(buf); err != nil {
					break
				}
			}
			resp.Body.Close()
		}
	})
}
