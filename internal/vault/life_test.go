package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestUpdate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		v1 := r.set("s1", "one").version()
		v2 := r.must(200, r.do(officer, "PUT", "/secrets/s1", `{"value":"two","contentType":"text/plain","tags":{"a":"1","b":"2"},"attributes":{"nbf":10,"exp":20}}`)).version()
		p := r.must(200, r.do(officer, "PATCH", "/secrets/s1/"+v1, `{"attributes":{"enabled":false}}`))
		if p.Body.Value != nil || p.version() != v1 || p.Body.Attributes.Enabled {
			t.Errorf("update shows %s", p.Raw)
		}
		r.refused(r.do(user, "GET", "/secrets/s1/"+v1, ""), 403, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret.")
		// Outside nbf and exp a secret is still given, as Key Vault documents.
		p = r.must(200, r.do(user, "GET", "/secrets/s1/", ""))
		if p.text() != "two" || p.version() != v2 || p.Body.ContentType != "text/plain" || p.Body.Tags["b"] != "2" ||
			*p.Body.Attributes.NotBefore != 10 || *p.Body.Attributes.Expires != 20 {
			t.Errorf("get shows %s", p.Raw)
		}
		// What an update does not name stays; tags are replaced as a whole.
		r.must(200, r.do(officer, "PATCH", "/secrets/S1/", `{"tags":{"c":"3"}}`))
		p = r.must(200, r.do(user, "GET", "/secrets/s1/", ""))
		if p.Body.ContentType != "text/plain" || len(p.Body.Tags) != 1 || p.Body.Tags["c"] != "3" || p.text() != "two" || p.Body.Attributes.Expires == nil {
			t.Errorf("after an update of tags: %s", p.Raw)
		}
		r.must(200, r.do(officer, "PATCH", "/secrets/s1/"+v1, `{"attributes":{"enabled":true}}`))
		if got := r.must(200, r.do(user, "GET", "/secrets/s1/"+v1, "")).text(); got != "one" {
			t.Errorf("the first version is %q", got)
		}
	})
}

func TestSoftDelete(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		v := r.set("S1", "one").version()
		r.must(200, r.do(user, "GET", "/secrets/s1/", "")) // into the cache
		d := r.must(200, r.do(officer, "DELETE", "/secrets/s1", ""))
		if d.Body.RecoveryID != "https://"+kvHost+"/deletedsecrets/S1" || d.version() != v || d.Body.Value != nil ||
			d.Body.PurgeDate-d.Body.DeletedDate != 90*24*3600 {
			t.Errorf("delete shows %s", d.Raw)
		}
		for _, path := range []string{"/secrets/s1/", "/secrets/s1/" + v, "/secrets/s1/versions"} {
			r.refused(r.do(officer, "GET", path, ""), 404, "SecretNotFound", "", "was not found in this key vault")
		}
		const held = "Secret S1 is currently in a deleted but recoverable state, and its name cannot be reused"
		r.refused(r.do(officer, "PUT", "/secrets/s1", `{"value":"x"}`), 409, "Conflict", "ObjectIsDeletedButRecoverable", held)
		r.refused(r.do(officer, "DELETE", "/secrets/s1", ""), 404, "SecretNotFound", "", "")
		r.refused(r.do(officer, "PATCH", "/secrets/s1/", "{}"), 404, "SecretNotFound", "", "")
		r.refused(r.do(officer, "POST", "/secrets/s1/backup", ""), 404, "SecretNotFound", "", "")
		if got := r.must(200, r.do(reader, "GET", "/deletedsecrets/s1", "")); got.Body.RecoveryID != d.Body.RecoveryID {
			t.Errorf("the deleted secret shows %s", got.Raw)
		}
		p := r.must(200, r.do(officer, "POST", "/deletedsecrets/s1/recover", ""))
		if p.version() != v || p.Body.RecoveryID != "" || p.Body.Value != nil {
			t.Errorf("recover shows %s", p.Raw)
		}
		if got := r.must(200, r.do(user, "GET", "/secrets/s1/", "")).text(); got != "one" {
			t.Errorf("recovered %q", got)
		}
		r.must(200, r.do(officer, "DELETE", "/secrets/s1", ""))
		if p := r.must(204, r.do(officer, "DELETE", "/deletedsecrets/s1", "")); p.Raw != "" {
			t.Errorf("purge says %q", p.Raw)
		}
		r.refused(r.do(officer, "GET", "/deletedsecrets/s1", ""), 404, "SecretNotFound", "", "")
		r.gone("s1")
		if v2 := r.set("s1", "two").version(); v2 == v {
			t.Error("a version came twice")
		}
		r.refused(r.do(user, "GET", "/secrets/s1/"+v, ""), 404, "SecretNotFound", "", "s1/"+v)
	})
}

// gone fails the test if a row of the secret is left.
func (r *rig) gone(name string) {
	r.t.Helper()
	rows, err := r.st.SealedSecrets(context.Background(), store.SealedSecret{}, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, row := range rows {
		if row.Name == name {
			r.t.Errorf("a row of %s is left", name)
		}
	}
}

func TestPurgeProtection(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "one")
	r.must(200, r.do(officer, "DELETE", "/secrets/s1", ""))
	r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 7, RBAC: true, PurgeProtection: true})
	r.refused(r.do(officer, "DELETE", "/deletedsecrets/s1", ""), 403, "Forbidden", "", "purge protection")
	r.set("s2", "two")
	d := r.must(200, r.do(officer, "DELETE", "/secrets/s2", ""))
	if d.Body.Attributes.RecoveryLevel != "CustomizedRecoverable" || d.Body.Attributes.RecoverableDays != 7 || d.Body.PurgeDate-d.Body.DeletedDate != 7*24*3600 {
		t.Errorf("unexpected %s", d.Raw)
	}
}

func TestRetentionEnds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		ctx := context.Background()
		for _, n := range []string{"s1", "s2", "s3"} {
			r.set(n, "v")
			r.must(200, r.do(officer, "DELETE", "/secrets/"+n, ""))
		}
		r.must(200, r.do(officer, "POST", "/deletedsecrets/s3/recover", ""))
		r.now.Add(89 * 24 * time.Hour)
		if n, err := r.PurgeDue(ctx); n != 0 || err != nil {
			t.Fatalf("purged %d too early: %v", n, err)
		}
		r.must(200, r.do(reader, "GET", "/deletedsecrets/s1", ""))
		r.now.Add(25 * time.Hour)
		if n, err := r.PurgeDue(ctx); n != 2 || err != nil {
			t.Fatalf("purged %d, want 2: %v", n, err)
		}
		r.must(404, r.do(reader, "GET", "/deletedsecrets/s1", ""))
		r.gone("s1")
		r.must(200, r.do(user, "GET", "/secrets/s3/", ""))
		// A deleted vault ends with everything in it.
		r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, RBAC: true, Deleted: 1, PurgeAt: az.MicrosOf(r.now.Now())})
		r.refused(r.do(user, "GET", "/secrets/s3/", ""), 404, "VaultNotFound", "", "")
		if n, err := r.PurgeDue(ctx); n != 1 || err != nil {
			t.Fatalf("purged %d, want the vault: %v", n, err)
		}
		r.gone("s3")
		if _, ok, err := st.Vault(ctx, "kv1"); ok || err != nil {
			t.Errorf("the vault is left: %v", err)
		}
	})
}

// TestRun: the loop purges at its start, and ends with its context.
func TestRun(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "v")
	r.must(200, r.do(officer, "DELETE", "/secrets/s1", ""))
	r.now.Add(91 * 24 * time.Hour)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	for r.do(reader, "GET", "/deletedsecrets/s1", "").Status != 404 {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
}

func TestBackupAndRestore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		v1 := r.set("S1", "one").version()
		v2 := r.must(200, r.do(officer, "PUT", "/secrets/S1", `{"value":"two","contentType":"c","tags":{"a":"b"}}`)).version()
		blob := r.must(200, r.do(officer, "POST", "/secrets/S1/backup", "")).text()
		if strings.Contains(blob, "=") || blob == "" {
			t.Errorf("the blob is not base64url without padding: %q", blob)
		}
		in, _ := json.Marshal(map[string]string{"value": blob})
		r.refused(r.do(officer, "POST", "/secrets/restore", string(in)), 409, "Conflict", "", "already exists")
		r.must(200, r.do(officer, "DELETE", "/secrets/S1", ""))
		r.refused(r.do(officer, "POST", "/secrets/restore", string(in)), 409, "Conflict", "ObjectIsDeletedButRecoverable", "")
		r.must(204, r.do(officer, "DELETE", "/deletedsecrets/S1", ""))
		for _, bad := range []string{blob[:len(blob)-2], blob + "AA", flip(blob, 0), flip(blob, len(blob)/2), ""} {
			b, _ := json.Marshal(map[string]string{"value": bad})
			r.refused(r.do(officer, "POST", "/secrets/restore", string(b)), 400, "BadParameter", "", "")
		}
		// It may be restored into another vault of the subscription, too.
		other := az.MustParseID(strings.Replace(kvID.String(), "kv1", "kv2", 1))
		r.putVault(store.Vault{Name: "kv2", Serial: 9, ID: other, Location: "local", RetentionDays: 90, RBAC: true})
		r.grant(guard.RoleSecretsOfficer, officer, other)
		r.must(200, r.send(officer, "POST", "https://kv2.vault.hawser.test/secrets/restore?api-version=7.4", string(in)))
		p := r.must(200, r.do(officer, "POST", "/secrets/restore", string(in)))
		if p.version() != v2 || p.Body.ContentType != "c" || p.Body.Tags["a"] != "b" {
			t.Errorf("restore shows %s", p.Raw)
		}
		for _, host := range []string{"kv1", "kv2"} {
			for v, want := range map[string]string{v1: "one", v2: "two", "": "two"} {
				if got := r.must(200, r.send(officer, "GET", "https://"+host+".vault.hawser.test/secrets/s1/"+v+"?api-version=7.4", "")).text(); got != want {
					t.Errorf("%s/%s is %q, want %q", host, v, got, want)
				}
			}
		}
		// A plane of another tenant cannot open it, even with the same keys.
		elsewhere := &Vaults{box: r.box, names: az.Names{Tenant: subscription, Subscription: subscription}}
		if _, err := elsewhere.openBackup(blob); !az.Is(err, az.Invalid) {
			t.Errorf("opened elsewhere: %v", err)
		}
	})
}

// flip changes one character.
func flip(s string, at int) string {
	b := []byte(s)
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// pages follows a list's links and returns the ids, failing at a repetition.
func (r *rig) pages(oid, url string, between func(page int)) []string {
	r.t.Helper()
	var ids []string
	for n := 0; url != ""; n++ {
		p := r.must(200, r.send(oid, "GET", url, ""))
		var items []struct {
			ID    string          `json:"id"`
			Value json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(p.Body.Value, &items); err != nil {
			r.t.Fatal(err)
		}
		for _, it := range items {
			if it.Value != nil || slices.Contains(ids, it.ID) {
				r.t.Fatalf("%s comes twice or with its value", it.ID)
			}
			ids = append(ids, it.ID)
		}
		url = ""
		if p.Body.NextLink != nil {
			url = *p.Body.NextLink
			between(n)
		}
	}
	return ids
}

// TestPagingUnderChange: nothing that is there all the time is missing or
// repeated, whatever comes and goes between the pages.
func TestPagingUnderChange(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		for i := range 60 {
			r.set(fmt.Sprintf("s%02d", i), "v")
		}
		base := "https://" + kvHost
		got := r.pages(reader, base+"/secrets?api-version=7.4&maxresults=7", func(n int) {
			r.set(fmt.Sprintf("s%02d-new", n*5), "v")
			r.must(200, r.do(officer, "DELETE", fmt.Sprintf("/secrets/s%02d-new", n*5), ""))
			r.set(fmt.Sprintf("a%02d", n), "v")
		})
		for i := range 60 {
			if !slices.Contains(got, fmt.Sprintf("%s/secrets/s%02d", base, i)) {
				t.Errorf("s%02d is missing", i)
			}
		}
		if got := r.pages(reader, base+"/deletedsecrets?api-version=7.4", func(int) {}); len(got) != 8 {
			t.Errorf("%d deleted secrets, want 8: %v", len(got), got)
		}
		for range 30 {
			r.set("many", "v")
		}
		got = r.pages(reader, base+"/secrets/many/versions?api-version=7.4", func(int) { r.set("many", "v") })
		if len(got) != 31 || !strings.HasPrefix(got[0], base+"/secrets/many/") {
			t.Errorf("%d versions: %v", len(got), got)
		}
	})
}

// TestSkipTokensAreBound: a token of one list opens no other.
func TestSkipTokensAreBound(t *testing.T) {
	r := sqliteRig(t)
	for range 3 {
		r.set("s1", "v")
		r.set("s2", "v")
	}
	p := r.must(200, r.do(reader, "GET", "/secrets/s1/versions?maxresults=1", ""))
	_, token, _ := strings.Cut(*p.Body.NextLink, "$skiptoken=")
	for _, path := range []string{"/secrets/s2/versions", "/secrets", "/deletedsecrets"} {
		r.refused(r.do(reader, "GET", path+"?$skiptoken="+token, ""), 400, "BadParameter", "", "skiptoken")
	}
	r.must(200, r.do(reader, "GET", "/secrets/s1/versions?%24skiptoken="+token, ""))
}

// TestManyWriters: 16 writers on one name lose no version, and one of them
// made the latest.
func TestManyWriters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		const writers, each = 16, 10
		var mu sync.Mutex
		made := map[string]string{}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					val := fmt.Sprintf("%d-%d", w, i)
					p := r.do(officer, "PUT", "/secrets/s1", `{"value":"`+val+`"}`)
					if p.Status != 200 {
						t.Errorf("set: %s", p.Raw)
						return
					}
					mu.Lock()
					made[p.version()] = val
					mu.Unlock()
					if got := r.do(user, "GET", "/secrets/s1/", ""); got.Status != 200 {
						t.Errorf("get: %s", got.Raw)
					}
				}
			})
		}
		wg.Wait()
		ids := r.pages(reader, "https://"+kvHost+"/secrets/s1/versions?api-version=7.4", func(int) {})
		if len(ids) != writers*each || len(made) != writers*each {
			t.Fatalf("%d versions listed, %d made", len(ids), len(made))
		}
		for v, want := range made {
			if got := r.must(200, r.do(user, "GET", "/secrets/s1/"+v, "")).text(); got != want {
				t.Errorf("version %s is %q, want %q", v, got, want)
			}
		}
		latest := r.must(200, r.do(user, "GET", "/secrets/s1/", ""))
		if latest.Body.ID != ids[len(ids)-1] || latest.text() != made[latest.version()] {
			t.Errorf("the latest is %s, the last written %s", latest.Body.ID, ids[len(ids)-1])
		}
	})
}

// TestReadYourWrites: after a write was answered, nobody reads what was
// before, while others read the same secret all the time.
func TestReadYourWrites(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "0")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.do(user, "GET", "/secrets/s1/", "")
				}
			}
		})
	}
	for i := 1; i <= 60; i++ {
		r.set("s1", fmt.Sprint(i))
		if got := r.do(user, "GET", "/secrets/s1/", "").text(); got != fmt.Sprint(i) {
			t.Errorf("read %q after %d was written", got, i)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestTwoPlanes: what one plane writes, the other serves at once, cached or not.
func TestTwoPlanes(t *testing.T) {
	sa, sb := storetest.Pair(t)
	sealer := newSealer(t)
	a := newRigWith(t, sa, sealer).withVault()
	b := newRigWith(t, sb, sealer)
	for i := range 20 {
		a.set("s1", fmt.Sprint(i))
		if got := b.must(200, b.do(user, "GET", "/secrets/s1/", "")).text(); got != fmt.Sprint(i) {
			t.Fatalf("the other plane serves %q, want %d", got, i)
		}
	}
	b.must(200, b.do(officer, "DELETE", "/secrets/s1", ""))
	a.must(404, a.do(user, "GET", "/secrets/s1/", ""))
	a.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, RBAC: true, Deleted: 5, PurgeAt: 6})
	b.refused(b.do(user, "GET", "/secrets/s1/", ""), 404, "VaultNotFound", "", "")
}

// TestVaultGoneBeforeWrite: a vault deleted between check and write takes
// nothing in any more.
func TestVaultGoneBeforeWrite(t *testing.T) {
	r := sqliteRig(t)
	old := &store.Vault{Name: "kv1", Serial: 7, ID: kvID}
	r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, RBAC: true, Deleted: 5, PurgeAt: 6})
	err := r.add(context.Background(), old, &store.SecretVersion{Name: "s1", Version: newVersion()}, []byte("v"))
	if !az.Is(err, az.NotFound) {
		t.Errorf("written into a deleted vault: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	const limit = 64 << 10
	c := newCache(limit)
	want := store.SecretVersion{Version: newVersion(), Sealed: make([]byte, 100), ContentType: "c", Tags: "t", Enabled: true, NotBefore: 1, Expires: 1 << 60, Created: 3, Updated: 4}
	for i := range 10_000 {
		want.Name = fmt.Sprintf("S%d", i%9000)
		want.Sealed[0] = byte(i)
		c.putSecret(1, &want, 0)
		got, ok := c.secret(1, fold(want.Name), nil)
		if !ok {
			t.Fatal("what was just put is not there")
		}
		if i%500 == 0 {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
		if _, ok := c.secret(2, fold(want.Name), nil); ok {
			t.Fatal("another vault has it")
		}
	}
	if n := len(c.young) + len(c.old); n > limit/entrySize || c.size > limit/2 {
		t.Errorf("%d entries are held", n)
	}
	c.changed([]store.Change{{Topic: store.TopicReset}})
	if _, ok := c.secret(1, fold(want.Name), nil); ok {
		t.Error("a reset did not empty the cache")
	}
}
