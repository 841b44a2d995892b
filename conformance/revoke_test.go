package conformance

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/store/storetest"
)

// revokeLimit is the promise: a role that is taken away ends what it allowed
// within a second, on every plane.
const revokeLimit = time.Second

// pair is two planes on one PostgreSQL store: the second has the KEK of the
// first, as two machines of one installation have.
func pair(t *testing.T) (a *world, b *plane) {
	t.Helper()
	store := storetest.Database(t)
	a = newWorld(t, "--store", store)
	b = &plane{t: t, dir: newDir(t), args: []string{"--store", store}}
	copyFile(t, a.dir+"/kek", b.dir+"/kek")
	b.boot()
	t.Cleanup(func() {
		if b.cmd != nil {
			b.kill()
		}
	})
	return a, b
}

// TestRevocation: two planes share a store; a role taken away at one of them
// ends vault reads and open database sessions at both.
func TestRevocation(t *testing.T) {
	a, b := pair(t)
	if a.env.TenantID != b.env.TenantID {
		t.Fatalf("two planes on one store have two tenants: %s and %s", a.env.TenantID, b.env.TenantID)
	}
	t.Run("a vault role", func(t *testing.T) {
		a.as(t)
		a.assign(secretsUser, "other", a.vault.ID)
		token := a.token(vaultScope, "other")
		get := func(p *plane) string {
			status, _ := p.get(t, "kv1.vault."+domain, "/secrets/plain?api-version=7.4", token)
			return status
		}
		for _, p := range []*plane{a.plane, b} {
			if s := get(p); s != "200" {
				t.Fatalf("before: status %s", s)
			}
		}
		a.cli("role", "remove", secretsUser, "--to", "other", "--scope", a.vault.ID)
		gone := time.Now()
		for i, p := range []*plane{a.plane, b} {
			eventually(t, 10*revokeLimit, "the vault refuses", func() bool { return get(p) == "403" })
			if d := time.Since(gone); d > revokeLimit {
				t.Errorf("plane %d went on for %s", i+1, d)
			}
		}
	})
	t.Run("an open database session", func(t *testing.T) {
		a.as(t)
		b.as(t)
		db := a.attach("pg1")
		a.cli("connect", "web", "pg1", "--database", db.name, "--client", "go", "--name", db.connection())
		still := []string{"--on-change", "none"} // the settings go too; the session must end by itself
		sessions := []*app{a.start("web", still, ecosystems[0].program("hold", "managed")...), b.start("web", still, ecosystems[0].program("hold", "managed")...)}
		for _, s := range sessions {
			s.wait(t, "connected")
		}
		a.cli("connection", "delete", "web", db.connection())
		gone := time.Now().UnixMicro()
		for i, s := range sessions {
			ended := strings.Fields(s.wait(t, "ended"))
			at, err := strconv.ParseInt(ended[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Duration(at-gone) * time.Microsecond; d > revokeLimit {
				t.Errorf("the session at plane %d went on for %s", i+1, d)
			}
		}
	})
}

// TestTwoPlanes: what one plane is told, the other serves at once.
func TestTwoPlanes(t *testing.T) {
	a, b := pair(t)
	for i, p := range []*plane{a.plane, b, a.plane, b} {
		value := "value " + strconv.Itoa(i)
		p.cli("secret", "set", "kv1", "shared", value)
		for _, q := range []*plane{a.plane, b} {
			if got := q.cli("secret", "get", "kv1", "shared"); got != value {
				t.Fatalf("got %q right after %q was set elsewhere", got, value)
			}
		}
	}
	b.cli("seal", "rotate")
	if got := a.cli("secret", "get", "kv1", "shared"); got != "value 3" {
		t.Errorf("after a rotation at the other plane: %q", got)
	}
	a.cli("audit", "--verify")
	b.cli("audit", "--verify")
}
