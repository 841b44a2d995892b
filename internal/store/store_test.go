package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const scope = "/subscriptions/S/resourceGroups/G"

func vault(name string) az.ID {
	return az.MustParseID(scope + "/providers/Microsoft.KeyVault/vaults/" + name)
}

func put(st *store.Store, id az.ID, etag, expected string) error {
	return st.Write(context.Background(), func(tx *store.Tx) error {
		return tx.PutResource(store.Resource{ID: id, ETag: etag, Body: json.RawMessage(`{"n":1}`), Sealed: []byte{0, 1}}, expected)
	})
}

func TestResourceLife(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		if err := put(st, vault("Kv1"), "e1", ""); err != nil {
			t.Fatal(err)
		}
		if err := put(st, vault("kV1"), "e2", ""); !az.Is(err, az.Conflict) {
			t.Errorf("second create in another case: %v, want Conflict", err)
		}
		if err := put(st, vault("kv1"), "e2", "stale"); !az.Is(err, az.Precondition) {
			t.Errorf("write over another etag: %v, want Precondition", err)
		}
		if err := put(st, vault("kv1"), "e2", "e1"); err != nil {
			t.Fatal(err)
		}
		r, ok, err := st.Resource(ctx, vault("KV1"))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if r.ID.String() != vault("Kv1").String() || r.ETag != "e2" || string(r.Body) != `{"n":1}` || len(r.Sealed) != 2 {
			t.Errorf("read back %+v", r)
		}
		_ = put(st, vault("a"), "x", "")
		var names []string
		for _, q := range []store.ResourceQuery{{Type: "microsoft.keyvault/VAULTS"}, {ResourceGroup: az.MustParseID(scope)}, {Subscription: "s", Limit: 1}, {Parent: az.MustParseID(scope), After: vault("a").Key()}} {
			rs, err := st.Resources(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				names = append(names, r.ID.Name())
			}
			names = append(names, "|")
		}
		if diff := cmp.Diff([]string{"a", "Kv1", "|", "a", "Kv1", "|", "a", "|", "Kv1", "|"}, names); diff != "" {
			t.Error(diff)
		}
	})
}

// One function of a shared transaction that fails after it wrote must take
// nothing of its neighbours with it, and leave nothing of its own.
func TestWritersShareATransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		boom := az.Errorf(az.Invalid, "Boom", "no")
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				err := st.Write(ctx, func(tx *store.Tx) error {
					if err := tx.PutMeta(fmt.Sprint("k", i), []byte{byte(i)}); err != nil {
						return err
					}
					if i%8 == 0 {
						return boom
					}
					return nil
				})
				if (i%8 == 0) != errors.Is(err, boom) {
					t.Errorf("write %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		for i := range 64 {
			v, ok, err := st.Meta(ctx, fmt.Sprint("k", i))
			if err != nil || ok != (i%8 != 0) || ok && v[0] != byte(i) {
				t.Errorf("key %d: %v %v %v", i, v, ok, err)
			}
		}
	})
}

func TestFeedTellsBeforeWriteReturns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var mu sync.Mutex
		var seen []store.Change
		st.Listen(func(cs []store.Change) { mu.Lock(); seen = append(seen, cs...); mu.Unlock() })
		for i := range 20 {
			if err := put(st, vault(fmt.Sprint("v", i)), "e", ""); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			if len(seen) != i+1 || seen[i].Key != vault(fmt.Sprint("v", i)).Key() || seen[i].Seq != st.Seq() {
				t.Fatalf("after write %d: %v", i, seen)
			}
			mu.Unlock()
		}
	})
}

// Two planes write at once; each must see every change once, in order.
func TestTwoPlanesFollowOneAnother(t *testing.T) {
	a, b := storetest.Pair(t)
	ctx := context.Background()
	type log struct {
		sync.Mutex
		seqs []int64
	}
	var logs [2]log
	for i, st := range []*store.Store{a, b} {
		st.Listen(func(cs []store.Change) {
			logs[i].Lock()
			defer logs[i].Unlock()
			for _, c := range cs {
				logs[i].seqs = append(logs[i].seqs, c.Seq)
			}
		})
	}
	var wg sync.WaitGroup
	for i := range 100 {
		st, other := a, b
		if i%2 == 1 {
			st, other = b, a
		}
		wg.Go(func() {
			if err := put(st, vault(fmt.Sprint("v", i)), "e", ""); err != nil {
				t.Error(err)
				return
			}
			if err := other.Confirm(ctx); err != nil {
				t.Error(err)
			}
			if _, ok, err := other.Resource(ctx, vault(fmt.Sprint("v", i))); !ok || err != nil {
				t.Errorf("the other plane does not see write %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i, st := range []*store.Store{a, b} {
		if err := st.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
		logs[i].Lock()
		for n, seq := range logs[i].seqs {
			if seq != int64(n+1) {
				t.Fatalf("plane %d: change %d has number %d", i, n, seq)
			}
		}
		if len(logs[i].seqs) != 100 {
			t.Errorf("plane %d saw %d changes, want 100", i, len(logs[i].seqs))
		}
		logs[i].Unlock()
	}
}

// The bell: an idle plane hears of a change without asking.
func TestIdlePlaneHearsTheBell(t *testing.T) {
	a, b := storetest.Pair(t)
	heard := make(chan struct{}, 8)
	b.Listen(func([]store.Change) { heard <- struct{}{} })
	if err := put(a, vault("v"), "e", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Fatal("no change was heard")
	}
}

// With the database gone, writes and confirmations fail as Unavailable, and
// both work again when it is back.
func TestLostDatabase(t *testing.T) {
	pg := storetest.StartPostgres(t)
	st := storetest.Open(t, store.Config{URL: pg.URL("postgres")})
	ctx := context.Background()
	if err := put(st, vault("v1"), "e", ""); err != nil {
		t.Fatal(err)
	}
	pg.Kill()
	if err := put(st, vault("v2"), "e", ""); !az.Is(err, az.Unavailable) {
		t.Errorf("write without a database: %v, want Unavailable", err)
	}
	if err := st.Confirm(ctx); !az.Is(err, az.Unavailable) {
		t.Errorf("confirm without a database: %v, want Unavailable", err)
	}
	if err := pg.Restart(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; ; n++ {
		err := put(st, vault(fmt.Sprint("w", n)), "e", "")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store did not recover: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, ok, err := st.Resource(ctx, vault("v1")); !ok || err != nil {
		t.Errorf("what was acknowledged is gone: %v %v", ok, err)
	}
}

// A write that comes while the store closes must not wait for nobody.
func TestWriteAfterClose(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- put(st, vault("v"), "e", "") }()
		select {
		case err := <-done:
			if !az.Is(err, az.Unavailable) {
				t.Errorf("%v, want Unavailable", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("the write hangs")
		}
	})
}

// One caller's mistake is that caller's failure: the plane goes on, nothing of
// it is written, and those who share its transaction lose nothing.
func TestPanicInsideAWrite(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := put(st, vault(fmt.Sprint("good", i)), "e", ""); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				err := st.Write(context.Background(), func(tx *store.Tx) error {
					if err := tx.PutResource(store.Resource{ID: vault(fmt.Sprint("bad", i)), ETag: "e", Body: []byte("{}")}, ""); err != nil {
						return err
					}
					var nobody *store.Resource
					nobody.ETag = "x"
					return nil
				})
				if !az.Is(err, az.Internal) {
					t.Errorf("%v, want Internal", err)
				}
			})
		}
		all.Wait()
		rows, err := st.Resources(context.Background(), store.ResourceQuery{})
		if err != nil || len(rows) != 20 {
			t.Errorf("%d rows, %v; want 20", len(rows), err)
		}
	})
}

// A text that a database cannot hold is the request's fault, and does not
// spoil the transaction for the others in it.
func TestTextThatCannotBeStored(t *testing.T) {
	st := storetest.Open(t, store.Config{URL: storetest.Database(t)})
	ctx := context.Background()
	if _, _, err := st.Vault(ctx, "a\x00b"); !az.Is(err, az.Invalid) {
		t.Errorf("outside a write: %v, want Invalid", err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := put(st, vault(fmt.Sprint("good", i)), "e", ""); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			err := st.Write(ctx, func(tx *store.Tx) error {
				_, _, err := tx.Vault("a\xffb\x00")
				return err
			})
			if !az.Is(err, az.Invalid) {
				t.Errorf("inside a write: %v, want Invalid", err)
			}
		})
	}
	all.Wait()
}

func TestLeases(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		now := time.Now()
		take := func(who string, until time.Time) bool {
			ok, err := st.TakeLease(ctx, "rotate", who, az.MicrosOf(until))
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		got := []bool{take("a", now.Add(time.Hour)), take("b", now.Add(time.Hour)), take("a", now.Add(-time.Second)), take("b", now.Add(time.Hour))}
		if diff := cmp.Diff([]bool{true, false, true, true}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSecondPlaneInOneDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	storetest.Open(t, store.Config{Dir: dir})
	if st, err := store.Open(context.Background(), store.Config{Dir: dir}); err == nil {
		_ = st.Close()
		t.Fatal("two planes opened one SQLite store")
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, kind := range []string{"sqlite", "postgres"} {
		b.Run(kind, func(b *testing.B) {
			cfg := store.Config{Dir: b.TempDir()}
			if kind == "postgres" {
				cfg = store.Config{URL: storetest.Database(b)}
			}
			st := storetest.Open(b, cfg)
			b.ReportAllocs()
			b.ResetTimer()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := put(st, vault(az.NewGUID()), "e", ""); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
