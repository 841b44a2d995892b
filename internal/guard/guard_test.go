package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const sub = "/subscriptions/5aaaaaaa-0000-4000-8000-000000000001"

var (
	group     = az.MustParseID(sub + "/resourceGroups/G")
	kv        = az.MustParseID(sub + "/resourceGroups/G/providers/Microsoft.KeyVault/vaults/kv1")
	kvSecret  = kv.Child("secrets", "s1")
	getSecret = guard.Data("Microsoft.KeyVault/vaults/secrets/getSecret/action")
	setSecret = guard.Data("Microsoft.KeyVault/vaults/secrets/setSecret/action")
	readSite  = guard.Control("Microsoft.Web/sites/read")
	assign    = guard.Control("Microsoft.Authorization/roleAssignments/write")
)

func newGuard(t testing.TB, st *store.Store) *guard.Guard {
	t.Helper()
	return newGuardIn(t, st, t.TempDir())
}

func newGuardIn(t testing.TB, st *store.Store, dir string) *guard.Guard {
	t.Helper()
	log, err := guard.OpenLog(context.Background(), logConfig(st, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return guard.New(st, log, slog.New(slog.DiscardHandler))
}

func logConfig(st *store.Store, dir string) guard.LogConfig {
	return guard.LogConfig{Dir: dir, Plane: "p1", Key: bytes.Repeat([]byte{7}, 32), Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
		Checkpoint: guard.Checkpoint{
			Save: func(ctx context.Context, head []byte) error {
				return st.Write(ctx, func(tx *store.Tx) error { return tx.PutMeta("audit/p1", head) })
			},
			Load: func(ctx context.Context) ([]byte, bool, error) { return st.Meta(ctx, "audit/p1") },
		}}
}

func who(oid string) az.Principal {
	return az.Principal{ObjectID: oid, AppID: "app-" + oid, TenantID: "t", Kind: az.ServicePrincipal}
}

func grant(t testing.TB, st *store.Store, role, oid string, scope az.ID) az.ID {
	t.Helper()
	id := scope.Child("providers", "Microsoft.Authorization", "roleAssignments", az.NewGUID())
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":%q}}`, role, oid)
	if err := st.Write(context.Background(), func(tx *store.Tx) error {
		return tx.PutResource(store.Resource{ID: id, ETag: "1", Body: []byte(body)}, "")
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func revoke(t testing.TB, st *store.Store, id az.ID) {
	t.Helper()
	if err := st.Write(context.Background(), func(tx *store.Tx) error { _, err := tx.DeleteResource(id); return err }); err != nil {
		t.Fatal(err)
	}
}

func member(t testing.TB, st *store.Store, group, oid string) {
	t.Helper()
	if err := st.Write(context.Background(), func(tx *store.Tx) error { return tx.AddMember(group, oid) }); err != nil {
		t.Fatal(err)
	}
}

func TestRights(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		g := newGuard(t, st)
		grant(t, st, guard.RoleSecretsUser, "reader", kv)
		grant(t, st, guard.RoleSecretsOfficer, "one-secret", kvSecret)
		grant(t, st, guard.RoleContributor, "contributor", group)
		grant(t, st, guard.RoleOwner, "owner", az.Root)
		grant(t, st, guard.RoleSecretsUser, "outer", group)
		member(t, st, "outer", "inner")
		member(t, st, "inner", "outer") // a cycle must not hang
		member(t, st, "inner", "nested")
		other := az.MustParseID(sub + "/resourceGroups/G2/providers/Microsoft.KeyVault/vaults/kv1")
		twin := az.MustParseID(sub + "/resourceGroups/G/providers/Microsoft.KeyVault/vaults/kv10")
		for _, c := range []struct {
			who   string
			do    guard.Action
			where az.ID
			want  bool
		}{
			{"reader", getSecret, kvSecret, true},
			{"reader", getSecret, az.MustParseID(strings.ToUpper(kvSecret.String())), true},
			{"reader", setSecret, kvSecret, false},
			{"reader", getSecret, other, false},
			{"reader", getSecret, twin, false}, // kv1 is a prefix of kv10
			{"reader", getSecret, group, false},
			{"one-secret", setSecret, kvSecret, true},
			{"one-secret", setSecret, kv.Child("secrets", "s2"), false},
			{"contributor", readSite, group.Child("providers", "Microsoft.Web", "sites", "a"), true},
			{"contributor", assign, group, false},       // notActions
			{"contributor", getSecret, kvSecret, false}, // no data actions
			{"owner", assign, group, true},
			{"owner", getSecret, kvSecret, false}, // Azure's Owner has none either
			{"nested", getSecret, kvSecret, true},
			{"stranger", readSite, group, false},
		} {
			err := g.Check(context.Background(), who(c.who), c.do, c.where)
			if (err == nil) != c.want {
				t.Errorf("%s %s at %s: %v, want allowed %v", c.who, c.do.Name, c.where, err, c.want)
			}
			if err != nil && !az.Is(err, az.Forbidden) {
				t.Errorf("a refusal is of kind %v", az.KindOf(err))
			}
		}
		d, ok := guard.AsDenied(g.Check(context.Background(), who("stranger"), getSecret, kvSecret))
		if !ok || d.Suggest != "Key Vault Secrets User" || !strings.Contains(d.Error(), "stranger") {
			t.Errorf("the refusal does not say what is missing: %v", d)
		}
	})
}

func TestChangesTakeEffectAtOnce(t *testing.T) {
	a, b := storetest.Pair(t)
	ga, gb := newGuard(t, a), newGuard(t, b)
	ctx := context.Background()
	for range 5 {
		id := grant(t, a, guard.RoleSecretsUser, "x", kv)
		for i, g := range []*guard.Guard{ga, gb} {
			if err := b.Confirm(ctx); err != nil {
				t.Fatal(err)
			}
			if err := g.Check(ctx, who("x"), getSecret, kvSecret); err != nil {
				t.Errorf("plane %d after the grant: %v", i, err)
			}
		}
		revoke(t, b, id)
		if err := a.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
		for i, g := range []*guard.Guard{ga, gb} {
			if err := g.Check(ctx, who("x"), getSecret, kvSecret); err == nil {
				t.Errorf("plane %d still allows after the revocation", i)
			}
		}
	}
}

func TestCustomRoleFollowsItsDefinition(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		g := newGuard(t, st)
		ctx := context.Background()
		id := az.MustParseID(sub + "/providers/Microsoft.Authorization/roleDefinitions/" + az.NewGUID())
		define := func(etag, expected, actions string) {
			t.Helper()
			if err := st.Write(ctx, func(tx *store.Tx) error {
				return tx.PutResource(store.Resource{ID: id, ETag: etag, Body: []byte(
					`{"properties":{"roleName":"mine","permissions":[{"actions":[` + actions + `],"notActions":["*/delete"]}]}}`)}, expected)
			}); err != nil {
				t.Fatal(err)
			}
		}
		define("1", "", `"Microsoft.Web/*"`)
		grant(t, st, id.Name(), "x", group)
		if err := g.Check(ctx, who("x"), readSite, group); err != nil {
			t.Error(err)
		}
		if err := g.Check(ctx, who("x"), guard.Control("Microsoft.Web/sites/delete"), group); err == nil {
			t.Error("notActions did not count")
		}
		define("2", "1", `"Microsoft.Sql/*"`)
		if err := g.Check(ctx, who("x"), readSite, group); err == nil {
			t.Error("the old definition still counts")
		}
		revoke(t, st, id)
		if err := g.Check(ctx, who("x"), guard.Control("Microsoft.Sql/servers/read"), group); err == nil {
			t.Error("an assignment outlived its role")
		}
	})
}

func TestRecordsHoldOnlyWhatTheyShould(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	g := newGuard(t, st)
	ctx := az.WithCorrelation(context.Background(), "c-1")
	grant(t, st, guard.RoleSecretsUser, "x", kv)
	_ = g.Check(ctx, who("x"), getSecret, kvSecret)
	_ = g.Check(ctx, who("y\"\n\x00é\xff"), getSecret, kvSecret)
	var got []guard.Record
	if err := g.Audit().Each(ctx, 0, func(line []byte, r guard.Record) bool {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
		got = append(got, r)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Outcome != guard.Allowed || got[1].Outcome != guard.Refused || got[0].Assignment == "" ||
		got[0].Correlation != "c-1" || got[0].Role != "Key Vault Secrets User" || got[0].Where != kvSecret.String() || got[0].Who != "x" {
		t.Errorf("%+v", got)
	}
}

func TestVerifyFindsEveryEdit(t *testing.T) {
	ctx := context.Background()
	line := func(s string, n int) (int, int) {
		at := 0
		for range n {
			at += strings.IndexByte(s[at:], '\n') + 1
		}
		return at, at + strings.IndexByte(s[at:], '\n') + 1
	}
	for name, edit := range map[string]func(string) string{
		"none":          func(s string) string { return s },
		"changed":       func(s string) string { return strings.Replace(s, `"who":"u3"`, `"who":"u4"`, 1) },
		"removed":       func(s string) string { a, b := line(s, 4); return s[:a] + s[b:] },
		"first removed": func(s string) string { _, b := line(s, 0); return s[b:] },
		"swapped": func(s string) string {
			a, b := line(s, 2)
			_, c := line(s, 3)
			return s[:a] + s[b:c] + s[a:b] + s[c:]
		},
		"doubled": func(s string) string { a, b := line(s, 4); return s[:b] + s[a:] },
		"cut off": func(s string) string { a, _ := line(s, 8); return s[:a] },
		"emptied": func(string) string { return "" },
		"appended": func(s string) string {
			a, b := line(s, 9)
			return s + strings.Replace(s[a:b], `"seq":10`, `"seq":11`, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := storetest.Open(t, store.Config{Dir: t.TempDir()})
			dir := t.TempDir()
			log, err := guard.OpenLog(ctx, logConfig(st, dir))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				if err := log.Append(guard.Event{Kind: guard.EventDecision, Caller: who(fmt.Sprint("u", i)), Action: "a", Outcome: guard.Allowed}); err != nil {
					t.Fatal(err)
				}
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "audit-000001.jsonl")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(edit(string(b))), 0o600); err != nil {
				t.Fatal(err)
			}
			log, err = guard.OpenLog(ctx, logConfig(st, dir))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			v, err := log.Verify(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if (v.Fault == "") != (name == "none") {
				t.Errorf("fault %q after the log was %s", v.Fault, name)
			}
		})
	}
}

// A killed process may leave half a line. It was never answered for, so it is
// cut off and the chain goes on.
func TestTornLastLine(t *testing.T) {
	ctx := context.Background()
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	dir := t.TempDir()
	for round := range 3 {
		log, err := guard.OpenLog(ctx, logConfig(st, dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Append(guard.Event{Kind: guard.EventSystem, Action: "x", Outcome: guard.Allowed}); err != nil {
			t.Fatal(err)
		}
		if v, err := log.Verify(ctx); err != nil || v.Fault != "" || v.Records != int64(round+1) {
			t.Fatalf("round %d: %+v %v", round, v, err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "audit-000001.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString(`{"seq":99,"at":"20`)
		_ = f.Close()
	}
}

func TestConcurrentChecksKeepTheChain(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	g := newGuard(t, st)
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				oid := fmt.Sprint("u", i)
				if n == 25 {
					grant(t, st, guard.RoleSecretsUser, oid, kv)
				}
				if err := g.Check(ctx, who(oid), getSecret, kvSecret); (err == nil) != (n >= 25) {
					t.Errorf("%s at %d: %v", oid, n, err)
				}
			}
		})
	}
	wg.Wait()
	if v, err := g.Audit().Verify(ctx); err != nil || v.Fault != "" || v.Records != 400 {
		t.Errorf("%+v %v", v, err)
	}
}

func FuzzActionPattern(f *testing.F) {
	f.Add("Microsoft.KeyVault/vaults/*/read", "microsoft.keyvault/vaults/a/b/read")
	f.Add("*", "")
	f.Add("**a*", "ba")
	f.Fuzz(func(t *testing.T, pattern, action string) {
		r := &guard.Role{Permissions: []guard.Permission{{Actions: []string{pattern}, NotActions: []string{pattern}}}}
		if r.Allows(guard.Control(action)) {
			t.Errorf("a role that takes back what it gives allowed %q", action)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	st := storetest.Open(b, store.Config{Dir: b.TempDir()})
	g := newGuard(b, st)
	ctx := context.Background()
	err := st.Write(ctx, func(tx *store.Tx) error {
		for i := range 10000 {
			scope := az.MustParseID(fmt.Sprintf("%s/resourceGroups/G%d", sub, i%500))
			id := scope.Child("providers", "Microsoft.Authorization", "roleAssignments", az.NewGUID())
			body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/x/%s","principalId":"g%d"}}`, guard.RoleReader, i%1000)
			if err := tx.PutResource(store.Resource{ID: id, ETag: "1", Body: []byte(body)}, ""); err != nil {
				return err
			}
		}
		for i := range 200 {
			m := "me"
			if i > 0 {
				m = fmt.Sprint("g", i-1)
			}
			if err := tx.AddMember(fmt.Sprint("g", i), m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	grant(b, st, guard.RoleSecretsUser, "g199", kv)
	me := who("me")
	b.Run("decide", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d, err := g.Explain(ctx, "me", getSecret, kvSecret); err != nil || !d.Allowed {
				b.Fatal(d, err)
			}
		}
	})
	b.Run("decide and record", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := g.Check(ctx, me, getSecret, kvSecret); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestLogCutOffWhileThePlaneWasDownStaysFound(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, dir := context.Background(), t.TempDir()
		write := func(n int) *guard.Log {
			log, err := guard.OpenLog(ctx, logConfig(st, dir))
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := log.Append(guard.Event{Kind: guard.EventSystem, Action: "test", Outcome: guard.Allowed}); err != nil {
					t.Fatal(err)
				}
			}
			return log
		}
		if err := write(5).Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "audit-000001.jsonl")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(b, []byte("\n"))
		if err := os.WriteFile(path, bytes.Join(lines[:3], nil), 0o600); err != nil {
			t.Fatal(err)
		}
		// The plane goes on for longer than the log was, and notes its new head.
		if err := write(9).Close(); err != nil {
			t.Fatal(err)
		}
		log := write(0)
		defer func() { _ = log.Close() }()
		v, err := log.Verify(ctx)
		if err != nil || v.Fault == "" || v.Records != 3 {
			t.Errorf("after the cut: %+v, %v; want a fault behind record 3", v, err)
		}
	})
}

// What strangers send must not make a record that cannot be read again: it
// would hide all that follow it.
func TestRecordsOfAnyTextCanBeReadAgain(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	log, err := guard.OpenLog(context.Background(), logConfig(st, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	for _, s := range []string{strings.Repeat("\x01", 5000), strings.Repeat("\xff", 5000), strings.Repeat(`"`, 5000), strings.Repeat("ü", 5000), "\"}\n{\"seq\":1"} {
		e := guard.Event{Kind: s, Caller: az.Principal{ObjectID: s, Name: s, AppID: s}, Action: s, Where: s, Outcome: s, Assignment: s, Role: s,
			Reason: s, Correlation: s, Peer: s, Detail: s}
		if err := log.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	v, err := log.Verify(context.Background())
	if err != nil || v.Fault != "" || v.Records != 5 {
		t.Errorf("verified %+v, %v; want 5 records", v, err)
	}
}

// Contributor, at the root too, must not reach the directory: a credential for
// an owner's application is the owner's rights.
func TestContributorHasNoWayIntoTheDirectory(t *testing.T) {
	for _, r := range guard.BuiltIn() {
		if r.ID != guard.RoleContributor {
			continue
		}
		for _, a := range []string{"applications/credentials/write", "applications/write", "groups/members/write", "users/delete"} {
			if r.Allows(guard.Control("Hawser.Directory/" + a)) {
				t.Errorf("Contributor may Hawser.Directory/%s", a)
			}
		}
	}
}

func TestRolesRememberFewActions(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	g := newGuard(t, st)
	grant(t, st, guard.RoleReader, "00000000-0000-4000-8000-000000000001", group)
	var before, after runtime.MemStats
	ask := func(n int) {
		for range n {
			if _, err := g.Explain(context.Background(), az.NewGUID(), guard.Control("X/"+az.NewGUID()), group); err != nil {
				t.Fatal(err)
			}
			if _, err := g.Explain(context.Background(), "00000000-0000-4000-8000-000000000001", guard.Control("X/"+az.NewGUID()), group); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
	}
	ask(2000)
	runtime.ReadMemStats(&before)
	ask(10000)
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("20,000 questions about inventions left %d bytes", grown)
	}
}

// A verification that was cut short has found no fault.
func TestVerifyCutShortAccusesNobody(t *testing.T) {
	log, err := guard.OpenLog(context.Background(), guard.LogConfig{Dir: t.TempDir(), Plane: "p1", Key: bytes.Repeat([]byte{7}, 32), Clock: time.Now,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if err := log.Append(guard.Event{Kind: guard.EventSystem, Action: "test", Outcome: guard.Allowed}); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if v, err := log.Verify(ended); !az.Is(err, az.Unavailable) || v.Fault != "" {
		t.Errorf("%+v, %v; want Unavailable and no fault", v, err)
	}
}
