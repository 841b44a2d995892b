package directory

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// The directory of the targets page.
const (
	benchUsers  = 100_000
	benchGroups = 10_000
)

// benchGraph is Graph over a large directory, asked in process.
func benchGraph(b *testing.B) (http.Handler, *Directory) {
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	log := slog.New(slog.DiscardHandler)
	audit, err := guard.OpenLog(ctx, guard.LogConfig{Dir: b.TempDir(), Plane: "p", Key: []byte(strings.Repeat("a", 32)), Clock: time.Now, Logger: log,
		Checkpoint: guard.Checkpoint{Save: func(context.Context, []byte) error { return nil }, Load: func(context.Context) ([]byte, bool, error) { return nil, false, nil }}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = audit.Close() })
	kek, err := seal.NewKEK()
	if err != nil {
		b.Fatal(err)
	}
	sealer, _, err := seal.New(kek)
	if err != nil {
		b.Fatal(err)
	}
	d := New(Config{Store: st, Guard: guard.New(st, audit, log), Sealer: sealer, Log: log, Names: az.Names{Domain: "hawser.localhost", Tenant: az.NewGUID()}})
	grow(b, st)
	s := d.Surface()
	s.Verify = func(context.Context, *http.Request, rest.Audience) (az.Principal, error) {
		return az.Principal{ObjectID: "00000000-0000-4000-8000-000000000001", Kind: az.ServicePrincipal, Roles: []string{"Directory.Read.All"}}, nil
	}
	return s.Handler(), d
}

// grow fills a store in large steps.
func grow(b *testing.B, st *store.Store) {
	const step = 5000
	for from := 0; from < benchUsers+benchGroups; from += step {
		err := st.Write(context.Background(), func(tx *store.Tx) error {
			for i := from; i < from+step; i++ {
				o := Object{ID: benchID(i), Kind: az.User, Name: fmt.Sprintf("Person %06d", i*7919%benchUsers), UPN: fmt.Sprintf("p%06d@hawser.localhost", i), Enabled: i%10 != 0,
					Facts: Facts{Mail: fmt.Sprintf("p%06d@example.com", i), GivenName: "Given", Surname: fmt.Sprintf("Sur%d", i%1000), Profile: map[string]string{"department": fmt.Sprintf("D%d", i%50)}}}
				if i >= benchUsers {
					o = Object{ID: benchID(i), Kind: az.Group, Name: fmt.Sprintf("Group %05d", i-benchUsers), Enabled: true}
				}
				r, err := o.row()
				if err != nil {
					return err
				}
				if err := tx.InsertObject(r); err != nil {
					return err
				}
				if i >= benchUsers { // ten people each, and the group before
					for m := range 10 {
						if err := tx.AddMember(o.ID, benchID((i*31+m)%benchUsers)); err != nil {
							return err
						}
					}
					if i%200 != 0 {
						if err := tx.AddMember(o.ID, benchID(i-1)); err != nil && i > benchUsers {
							return err
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func benchID(i int) string {
	return fmt.Sprintf("%08x-1111-4111-8111-%012x", i*2654435761&0xffffffff, i)
}

// BenchmarkGraph asks what clients ask of a directory of 100,000 people and
// 10,000 groups.
func BenchmarkGraph(b *testing.B) {
	if testing.Short() {
		b.Skip("it fills a large directory first")
	}
	h, d := benchGraph(b)
	deep := benchID(benchUsers + 199)
	member, err := d.store.MembersOf(context.Background(), benchID(benchUsers+1))
	if err != nil || len(member) == 0 {
		b.Fatal(member, err)
	}
	for _, c := range []struct{ name, path string }{
		{"one", "/users/" + benchID(4711)},
		{"byUPN", "/users/p004711@hawser.localhost"},
		{"page100", "/users?$top=100"},
		{"page999selected", "/users?$top=999&$select=id,displayName"},
		{"eqUPN", "/users?$filter=" + escape("userPrincipalName eq 'p004711@hawser.localhost'")},
		{"eqMail", "/users?$filter=" + escape("mail eq 'p004711@example.com'")},
		{"prefix", "/users?$top=20&$filter=" + escape("startswith(displayName,'Person 0471')")},
		{"prefixOfThree", "/users?$top=20&$filter=" + escape("startswith(displayName,'p0047') or startswith(mail,'p0047') or startswith(userPrincipalName,'p0047')")},
		{"sorted", "/users?$top=100&$orderby=displayName%20desc"},
		{"count", "/users/$count"},
		{"search", "/users?$top=20&$search=" + escape(`"displayName:04711"`)},
		{"scan", "/users?$top=20&$filter=" + escape("department eq 'D7'")},
		{"groups", "/groups?$top=100"},
		{"groupByName", "/groups?$filter=" + escape("displayName eq 'Group 04711'")},
		{"members", "/groups/" + deep + "/members"},
		{"transitiveMembers", "/groups/" + deep + "/transitiveMembers?$top=100"},
		{"transitiveMemberOf", "/users/" + member[0] + "/transitiveMemberOf?$top=999&$select=id"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", "/v1.0"+c.path, nil)
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
	b.Run("deepPages", func(b *testing.B) { // the last pages cost as the first
		b.ReportAllocs()
		token := d.sealToken(&Object{ID: "f0000000-0000-4000-8000-000000000000"}, &query{binding: "/users\x00\x00\x00"})
		for b.Loop() {
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, httptest.NewRequest("GET", "/v1.0/users?$top=100&$skiptoken="+token, nil)); w.Code != 200 {
				b.Fatal(w.Code, w.Body)
			}
		}
	})
}
