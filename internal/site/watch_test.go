package site

import (
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// TestWhatWakesWhom checks that a change finds those it concerns, and that one
// that does not concern an app leaves it asleep.
func TestWhatWakesWhom(t *testing.T) {
	site := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/App1")
	names := []string{onResource(site), onVault("kv1"), onSecret("kv1", "S1"), onAccess, onObject("oid")}
	const group = "/subscriptions/s/resourcegroups/g"
	const kv = group + "/providers/microsoft.keyvault/vaults/"
	for what, c := range map[string]struct {
		change store.Change
		wakes  bool
	}{
		"reset":                     {store.Change{Topic: store.TopicReset}, true},
		"the app":                   {store.Change{Topic: store.TopicResource, Key: site.Key()}, true},
		"another app":               {store.Change{Topic: store.TopicResource, Key: site.Key() + "2"}, false},
		"a part of the app":         {store.Change{Topic: store.TopicResource, Key: site.Key() + "/providers/microsoft.servicelinker/linkers/c"}, false},
		"the secret":                {store.Change{Topic: store.TopicSecret, Key: kv + "kv1/secrets/s1"}, true},
		"another secret":            {store.Change{Topic: store.TopicSecret, Key: kv + "kv1/secrets/s2"}, false},
		"a secret of that name":     {store.Change{Topic: store.TopicSecret, Key: kv + "kv2/secrets/s1"}, false},
		"the vault":                 {store.Change{Topic: store.TopicSecret, Key: kv + "kv1"}, true},
		"the vault's resource":      {store.Change{Topic: store.TopicResource, Key: kv + "kv1"}, true},
		"another vault":             {store.Change{Topic: store.TopicSecret, Key: kv + "kv2"}, false},
		"a member":                  {store.Change{Topic: store.TopicMember, Key: "g/m"}, true},
		"the principal":             {store.Change{Topic: store.TopicObject, Key: "oid"}, true},
		"another principal":         {store.Change{Topic: store.TopicObject, Key: "oid2"}, false},
		"assigned at the root":      {store.Change{Topic: store.TopicResource, Key: assignmentsPart + "1"}, true},
		"assigned at a group":       {store.Change{Topic: store.TopicResource, Key: group + assignmentsPart + "1"}, true},
		"assigned at the vault":     {store.Change{Topic: store.TopicResource, Key: kv + "kv1" + assignmentsPart + "1"}, true},
		"assigned at the secret":    {store.Change{Topic: store.TopicResource, Key: kv + "kv1/secrets/s1" + assignmentsPart + "1"}, true},
		"assigned at another vault": {store.Change{Topic: store.TopicResource, Key: kv + "kv2" + assignmentsPart + "1"}, false},
		"assigned at the app":       {store.Change{Topic: store.TopicResource, Key: site.Key() + assignmentsPart + "1"}, true},
		"a role":                    {store.Change{Topic: store.TopicResource, Key: "/subscriptions/s" + definitionsPart + "1"}, true},
		"a credential":              {store.Change{Topic: store.TopicCredential, Key: "oid/1"}, false},
		"a note":                    {store.Change{Topic: store.TopicMeta, Key: "x"}, false},
	} {
		h := newHub()
		wide, narrow := h.join(), h.join()
		h.narrow(narrow, names)
		h.changed([]store.Change{c.change})
		if narrow.over() != c.wakes {
			t.Errorf("%s: the one it concerns was woken: %v", what, narrow.over())
		}
		if c.wakes && !wide.over() {
			t.Errorf("%s: one that is not narrowed yet was not woken", what)
		}
		h.fire(wide)
		h.fire(narrow)
		h.fire(narrow)
		h.narrow(narrow, names) // too late: it must not come back
		if len(h.all)+len(h.wide)+len(h.names) != 0 {
			t.Errorf("%s: the hub keeps %d, %d, %d", what, len(h.all), len(h.wide), len(h.names))
		}
	}
}
