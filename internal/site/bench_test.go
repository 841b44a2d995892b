package site

import (
	"context"
	"fmt"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// BenchmarkEnvironment is a start of an app with 20 references: everything is
// read, decided and recorded anew.
func BenchmarkEnvironment(b *testing.B) {
	for name, cfg := range map[string]func() store.Config{
		"sqlite":   func() store.Config { return store.Config{Dir: b.TempDir()} },
		"postgres": func() store.Config { return store.Config{URL: storetest.Database(b)} },
	} {
		b.Run(name, func(b *testing.B) {
			r, id := benchPlane(b, cfg())
			b.ReportAllocs()
			for b.Loop() {
				env, err := r.Environment(context.Background(), as(owner), id, "", 0)
				if err != nil || env.status("K19") != Resolved {
					b.Fatal(env, err)
				}
			}
		})
	}
}

// BenchmarkUnchanged is what an app that runs asks again and again.
func BenchmarkUnchanged(b *testing.B) {
	r, id := benchPlane(b, store.Config{Dir: b.TempDir()})
	env, err := r.Environment(context.Background(), as(owner), id, "", 0)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if again, err := r.Environment(context.Background(), as(owner), id, env.ETag, 0); err != nil || !again.Unchanged {
			b.Fatal(again, err)
		}
	}
}

// BenchmarkToken is a token that the authority remembers.
func BenchmarkToken(b *testing.B) {
	r, id := benchPlane(b, store.Config{Dir: b.TempDir()})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Token(context.Background(), as(owner), id, IdentitySelector{}, vaultAudience, false); err != nil {
			b.Fatal(err)
		}
	}
}

func benchPlane(b *testing.B, cfg store.Config) (*rig, az.ID) {
	r := newPlane(b, storetest.Open(b, cfg), func(c *Config) { c.TokenRate = -1 }).withTokens()
	oid := text(r.create(systemIdentity, nil), "identity", "principalId")
	r.grant(guard.RoleSecretsUser, oid, vaultID)
	all := map[string]string{}
	for i := range 20 {
		r.secret(fmt.Sprint("s", i), fmt.Sprint("value ", i))
		all[fmt.Sprint("K", i)] = ref(fmt.Sprint("s", i))
	}
	r.settings(all)
	return r, az.MustParseID(app1)
}
