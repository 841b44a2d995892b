package store_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestObjectsAreFoundByWhatTheyHave(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		res := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/A")
		objects := []store.Object{
			{ID: "1", Kind: "Application", AppID: "a", NameKey: "50%_app", Enabled: true, Body: []byte(`{"n":1}`)},
			{ID: "2", Kind: "ServicePrincipal", AppID: "a", NameKey: "50%_app", Enabled: true, Body: []byte(`{}`)},
			{ID: "3", Kind: "ServicePrincipal", AppID: "b", NameKey: "straße", Resource: res.Key(), Enabled: false, Body: []byte(`{}`)},
			{ID: "4", Kind: "User", NameKey: "ann", UPNKey: "ann@x", Enabled: true, Body: []byte(`{}`)},
		}
		put := func(o store.Object) error {
			return st.Write(ctx, func(tx *store.Tx) error { return tx.InsertObject(o) })
		}
		for _, o := range objects {
			if err := put(o); err != nil {
				t.Fatal(err)
			}
		}
		for _, clash := range []store.Object{{ID: "1", Kind: "User", Body: []byte(`{}`)}, {ID: "9", Kind: "Application", AppID: "a", Body: []byte(`{}`)},
			{ID: "9", Kind: "User", UPNKey: "ann@x", Body: []byte(`{}`)}, {ID: "9", Kind: "ServicePrincipal", AppID: "c", Resource: res.Key(), Body: []byte(`{}`)}} {
			if err := put(clash); !az.Is(err, az.Conflict) {
				t.Errorf("%+v: %v", clash, err)
			}
		}
		for _, c := range []struct {
			q    store.ObjectQuery
			want []string
		}{
			{store.ObjectQuery{}, []string{"1", "2", "3", "4"}},
			{store.ObjectQuery{Kind: "ServicePrincipal"}, []string{"2", "3"}},
			{store.ObjectQuery{Prefix: "50%"}, []string{"1", "2"}},
			{store.ObjectQuery{Prefix: "%"}, nil},
			{store.ObjectQuery{Prefix: "STRAß"}, []string{"3"}},
			{store.ObjectQuery{Name: "Ann"}, []string{"4"}},
			{store.ObjectQuery{UPN: "ANN@x"}, []string{"4"}},
			{store.ObjectQuery{AppID: "a", Kind: "Application"}, []string{"1"}},
			{store.ObjectQuery{Resource: res}, []string{"3"}},
			{store.ObjectQuery{IDs: []string{"4", "1", "7"}}, []string{"1", "4"}},
			{store.ObjectQuery{After: "1", Limit: 2}, []string{"2", "3"}},
		} {
			list, err := st.Objects(ctx, c.q)
			var got []string
			for _, o := range list {
				got = append(got, o.ID)
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%+v: %v %v, want %v", c.q, got, err, c.want)
			}
		}
		got, ok, err := st.Object(ctx, "3")
		got.Created, got.Updated = 0, 0
		if d := cmp.Diff(objects[2], got); !ok || err != nil || d != "" {
			t.Errorf("%v %v %s", ok, err, d)
		}
		err = st.Write(ctx, func(tx *store.Tx) error {
			if err := tx.SetNames("1", []string{"api://X"}); err != nil {
				return err
			}
			return tx.SetNames("1", []string{"api://X", "api://y"})
		})
		if err != nil {
			t.Fatal(err)
		}
		if o, ok, err := st.ObjectByName(ctx, "API://x"); err != nil || !ok || o.ID != "1" {
			t.Errorf("%+v %v %v", o, ok, err)
		}
		if err := st.Write(ctx, func(tx *store.Tx) error { return tx.SetNames("2", []string{"API://Y"}) }); !az.Is(err, az.Conflict) {
			t.Errorf("a name twice: %v", err)
		}
		err = st.Write(ctx, func(tx *store.Tx) error { _, err := tx.DeleteObject("1"); return err })
		if _, ok, _ := st.ObjectByName(ctx, "api://x"); err != nil || ok {
			t.Errorf("a deleted object's name is kept: %v", err)
		}
	})
}

func TestAnAssertionHasOneFirstUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		until := az.MicrosOf(time.Now().Add(time.Hour))
		var mu sync.Mutex
		firsts := map[string]int{}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				proof := string(rune('a' + i))
				var first string
				err := st.Write(ctx, func(tx *store.Tx) (err error) {
					first, err = tx.UseAssertion("k", proof, until)
					return err
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				firsts[first]++
			})
		}
		wg.Wait()
		if len(firsts) != 1 {
			t.Errorf("first uses: %v", firsts)
		}
		for proof := range firsts {
			if got, ok, err := st.Assertion(ctx, "k"); got != proof || !ok || err != nil {
				t.Errorf("%q %v %v", got, ok, err)
			}
		}
		// One that has ended is forgotten.
		past := az.MicrosOf(time.Now().Add(-time.Second))
		_ = st.Write(ctx, func(tx *store.Tx) error { _, err := tx.UseAssertion("old", "p", past); return err })
		if _, ok, err := st.Assertion(ctx, "old"); ok || err != nil {
			t.Errorf("an ended one is known: %v", err)
		}
		var first string
		err := st.Write(ctx, func(tx *store.Tx) (err error) { first, err = tx.UseAssertion("old", "q", until); return err })
		if first != "q" || err != nil {
			t.Errorf("got %q, %v", first, err)
		}
	})
}

func TestCredentials(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		c := store.Credential{Owner: "o", ID: "1", Kind: "secret", Hash: []byte{0, 1, 2}, Body: []byte(`{"a":1}`), Expires: 5}
		bare := store.Credential{Owner: "o", ID: "2", Kind: "federated", Body: []byte(`{}`)}
		err := st.Write(ctx, func(tx *store.Tx) error {
			if err := tx.PutCredential(c); err != nil {
				return err
			}
			return tx.PutCredential(bare)
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := st.Credentials(ctx, "o")
		for i := range got {
			got[i].Created = 0
		}
		if d := cmp.Diff([]store.Credential{c, bare}, got); d != "" || err != nil {
			t.Error(d, err)
		}
		var deleted bool
		err = st.Write(ctx, func(tx *store.Tx) (err error) { deleted, err = tx.DeleteCredential("o", "1"); return err })
		if left, _ := st.Credentials(ctx, "o"); !deleted || err != nil || len(left) != 1 {
			t.Errorf("%v %v %v", deleted, err, left)
		}
	})
}
