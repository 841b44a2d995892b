package easyauth

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// A site that is deleted takes its sessions along, also those in memory: one of
// the same name that comes after it is another.
func TestSessionsEndWithTheirSite(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	b := r.browser()
	b.signIn(r.user("alice"))
	if a := b.get("/"); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	r.write(func(tx *store.Tx) error { return tx.DeleteFront(az.MustParseID(siteID + "app1").Key()) })
	r.app("app1", echo)
	if a := b.get("/"); a.StatusCode != 302 {
		t.Errorf("%d", a.StatusCode)
	}
}

// What one plane is told counts on the other within a second.
func TestCachesOfTwoPlanes(t *testing.T) {
	t.Parallel()
	one, two := storetest.Pair(t)
	r := newRig(t, one, nil)
	r2 := newRig(t, two, r)
	r.auths("app1", on(nil))
	r.app("app1", echo)
	alice, b := r.user("alice"), r.browser()
	b.signIn(alice)
	cookie := sessionCookie + "=" + b.cookie(sessionCookie) + "; " + bindingCookie + "=" + b.cookie(bindingCookie)
	there := func() int { return r.browserAt(r2).get("/", "Cookie", cookie).StatusCode }
	eventually := func(what string, want int) {
		t.Helper()
		var got int
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if got = there(); got == want {
				return
			}
		}
		t.Errorf("%s: %d, want %d", what, got, want)
	}
	eventually("signed in", 200)
	r.auths("app1", on(func(m map[string]any) {
		at(m, "identityProviders", "azureActiveDirectory", "validation", "jwtClaimChecks")["allowedGroups"] = []string{az.NewGUID()}
	}))
	eventually("a group is needed", 403)
	r.site("app1", &Site{ID: az.MustParseID(siteID + "app1"), Stopped: true})
	eventually("stopped", 403)
	r.auths("app1", on(nil))
	eventually("back again", 200)
	r.write(func(tx *store.Tx) error {
		return tx.DeleteFrontSession(r.sessionKey(az.MustParseID(siteID+"app1"), b.cookie(sessionCookie), b.cookie(bindingCookie)))
	})
	if s := there(); s != 302 { // at once
		t.Errorf("the session is gone: %d", s)
	}
}

// Heartbeats and the use of a session are not in the feed: what is in memory
// must not make either look old.
func TestCachesGrowOld(t *testing.T) {
	r := plane(t)
	r.auths("app1", on(func(m map[string]any) { at(m, "login", "cookieExpiration")["timeToExpiration"] = "20.00:00:00" }))
	s := r.app("app1", echo)
	r.write(func(tx *store.Tx) error { return tx.DeleteFront(az.MustParseID(siteID + "app1").Key()) })
	id := az.NewGUID()
	beat := func() {
		t.Helper()
		if err := r.Announce(context.Background(), az.MustParseID(siteID+"app1"), Process{ID: id, Address: s.URL}, Announcer{Local: true}); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	b := r.browser()
	b.signIn(r.user("alice"))
	key := r.sessionKey(az.MustParseID(siteID+"app1"), b.cookie(sessionCookie), b.cookie(bindingCookie))
	cookie := sessionCookie + "=" + b.cookie(sessionCookie) + "; " + bindingCookie + "=" + b.cookie(bindingCookie)
	get := func() int { return r.browser().get("/", "Cookie", cookie).StatusCode }
	if s := get(); s != 200 {
		t.Fatal(s)
	}
	r.offset.Store(int64(30 * time.Second))
	beat()
	r.offset.Store(int64(50 * time.Second))
	if s := get(); s != 200 {
		t.Errorf("after a heartbeat: %d", s)
	}
	r.offset.Store(int64(5 * time.Hour))
	r.write(func(tx *store.Tx) error { return tx.UseFrontSession(key) }) // on another plane
	r.offset.Store(int64(10 * time.Hour))
	beat()
	if s := get(); s != 200 {
		t.Errorf("after use on another plane: %d", s)
	}
}

// What is read while it changes is not kept.
func TestCacheDropsWhatWasReadBefore(t *testing.T) {
	c := newCache[string](2, 0, time.Now)
	read := func(v string, during func()) string {
		got, _, err := c.get("k", func() (string, bool, error) { during(); return v, true, nil })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	read("old", func() { c.drop("k") })
	if got := read("new", func() {}); got != "new" {
		t.Error(got)
	}
	if got := read("newer", func() {}); got != "new" {
		t.Error("nothing is kept")
	}
	for _, k := range strings.Split("abcdefgh", "") {
		_, _, _ = c.get(k, func() (string, bool, error) { return k, true, nil })
	}
	if len(c.all) > c.limit {
		t.Errorf("%d entries", len(c.all))
	}
}

// A displaced process stays displaced while the other is there, and comes back
// when that one has gone.
func TestDisplacedProcess(t *testing.T) {
	r := plane(t)
	one, two := az.MustParseID(siteID+"app1"), az.MustParseID(siteID+"app2")
	p1, p2 := Process{ID: az.NewGUID(), Address: "http://127.0.0.1:1"}, Process{ID: az.NewGUID(), Address: "http://127.0.0.1:1"}
	say := func(site az.ID, p Process) error {
		return r.Announce(context.Background(), site, p, Announcer{Local: true})
	}
	count := func(site az.ID) int {
		t.Helper()
		all, err := r.processes(context.Background(), site)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if say(one, p1) != nil || say(two, p2) != nil || count(one) != 0 || count(two) != 1 {
		t.Fatal("the second did not take the place")
	}
	if err := say(one, p1); !az.Is(err, az.Conflict) || count(two) != 1 {
		t.Errorf("the first took it back: %v", err)
	}
	gone := p2
	gone.Remove = true
	if say(two, gone) != nil || say(one, p1) != nil || count(one) != 1 {
		t.Error("the first does not come back")
	}
}
