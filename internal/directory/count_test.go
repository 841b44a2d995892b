package directory

import "testing"

// TestCountFollowsChanges: counts are remembered, and forgotten with every
// object that comes or goes.
func TestCountFollowsChanges(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		w.user("ann")
		count := func(path, want string) {
			t.Helper()
			for range 2 { // the second is remembered
				if got := g.text(path); got != want {
					t.Errorf("%s is %s, want %s", path, got, want)
				}
			}
		}
		count("/users/$count", "1")
		count("/groups/$count", "0")
		bob, _ := w.user("bob")
		group := w.group("crew")
		count("/users/$count", "2")
		count("/groups/$count", "1")
		count("/users/$count?$filter="+escape("displayName eq 'BOB'"), "1")
		w.addMembers(group, bob)
		count("/groups/"+group+"/members/$count", "1")
		g.want(204, "DELETE", "/users/"+bob, nil)
		count("/users/$count", "1")
		count("/groups/"+group+"/members/$count", "0")
		if got := g.want(200, "GET", "/users?$count=true", nil)["@odata.count"]; got != 1.0 {
			t.Errorf("@odata.count is %v", got)
		}
	})
}
