package site

import (
	"strings"
	"sync"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// hub tells who waits for a change of an environment when one of the things
// it was made of may have changed. It is the listener of the change feed, so
// it must be quick: a watch is found by the names it hangs on, not by asking
// every watch.
type hub struct {
	mu    sync.Mutex // guards everything below
	all   map[*watch]struct{}
	wide  map[*watch]struct{} // those of all that are not narrowed
	names map[string]map[*watch]struct{}
}

// watch fires once, and is then out of the hub. Until it is narrowed, every
// change that could matter to anybody fires it.
type watch struct {
	fired chan struct{}
	names []string // what it hangs on; nil while it is wide
	done  bool
}

func newHub() *hub {
	return &hub{all: map[*watch]struct{}{}, wide: map[*watch]struct{}{}, names: map[string]map[*watch]struct{}{}}
}

// The names by which watches are found. None holds what could be another.
func onResource(id az.ID) string           { return "resource " + id.Key() }
func onVault(name string) string           { return "vault " + name }
func onSecret(vault, secret string) string { return "secret " + vault + "/" + strings.ToLower(secret) }
func onObject(oid string) string           { return "object " + oid }

// onAccess is for what depends on roles that are held above single resources,
// directly or by groups.
const onAccess = "access"

// join begins a watch, wide. It is done before the things are read, so that
// no change falls between.
func (h *hub) join() *watch {
	w := &watch{fired: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[w], h.wide[w] = struct{}{}, struct{}{}
	return w
}

// narrow makes the watch hang on names only.
func (h *hub) narrow(w *watch, names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.done {
		return
	}
	w.names = names
	delete(h.wide, w)
	for _, n := range names {
		set := h.names[n]
		if set == nil {
			set = map[*watch]struct{}{}
			h.names[n] = set
		}
		set[w] = struct{}{}
	}
}

// fire ends a watch; those who wait on it look again.
func (h *hub) fire(w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end(w)
}

// end is fire with mu held.
func (h *hub) end(w *watch) {
	if w.done {
		return
	}
	w.done = true
	close(w.fired)
	delete(h.all, w)
	delete(h.wide, w)
	for _, n := range w.names {
		if set := h.names[n]; set != nil {
			if delete(set, w); len(set) == 0 {
				delete(h.names, n)
			}
		}
	}
}

// over reports whether the watch has fired.
func (w *watch) over() bool {
	select {
	case <-w.fired:
		return true
	default:
		return false
	}
}

// changed is the feed's listener.
func (h *hub) changed(changes []store.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return
	}
	for _, c := range changes {
		names, everybody, relevant := meaning(c)
		if !relevant {
			continue
		}
		if everybody {
			for w := range h.all {
				h.end(w)
			}
		}
		for w := range h.wide {
			h.end(w)
		}
		for _, n := range names {
			for w := range h.names[n] {
				h.end(w)
			}
		}
	}
}

const (
	assignmentsPart = "/providers/microsoft.authorization/roleassignments/"
	definitionsPart = "/providers/microsoft.authorization/roledefinitions/"
	vaultsPart      = "/providers/microsoft.keyvault/vaults/"
)

// meaning says whom a change may concern.
func meaning(c store.Change) (names []string, everybody, relevant bool) {
	switch c.Topic {
	case store.TopicReset:
		return nil, true, true
	case store.TopicMember:
		return []string{onAccess}, false, true
	case store.TopicObject:
		return []string{onObject(c.Key)}, false, true
	case store.TopicSecret:
		return secretNames(c.Key), false, true
	case store.TopicResource:
	default:
		return nil, false, false
	}
	if i := strings.LastIndex(c.Key, assignmentsPart); i >= 0 {
		return assignmentNames(c.Key[:i]), false, true
	}
	if strings.Contains(c.Key, definitionsPart) {
		return []string{onAccess}, false, true
	}
	return append(secretNames(c.Key), "resource "+c.Key), false, true
}

// secretNames reads a vault's folded id, with or without /secrets/{name}.
func secretNames(key string) []string {
	_, rest, ok := strings.Cut(key, vaultsPart)
	if !ok {
		return nil
	}
	vault, secret, inVault := strings.Cut(rest, "/secrets/")
	if inVault {
		return []string{onSecret(vault, secret)}
	}
	vault, _, _ = strings.Cut(vault, "/")
	return []string{onVault(vault)}
}

// assignmentNames says who may see a role assignment at a scope: those below.
func assignmentNames(scope string) []string {
	if names := secretNames(scope); names != nil {
		return names
	}
	if strings.Contains(scope, "/providers/") {
		return []string{"resource " + scope}
	}
	return []string{onAccess}
}
