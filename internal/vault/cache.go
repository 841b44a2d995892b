package vault

import (
	"encoding/binary"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

const (
	// DefaultCacheBytes bounds the cache of sealed secrets. Half of it holds 100,000
	// short secrets, the figure of the read target, and keeps the plane small.
	DefaultCacheBytes = 52 << 20
	// stripes is how finely a change empties the cache: it takes with it the
	// secrets whose names fall into the same stripe.
	stripes = 4096
	// maxVaults bounds the vaults that are remembered.
	maxVaults = 10_000
)

// cache remembers vaults and the latest versions of secrets as they are
// stored: values stay sealed. The change feed empties it; what is read while a
// change arrives is not served, since its stripe has moved on.
type cache struct {
	seed     maphash.Seed
	gens     [stripes]atomic.Uint32
	vaultGen atomic.Uint32
	limit    int // bytes that each half may hold

	mu         sync.RWMutex // guards everything below
	vaults     map[string]*live
	young, old map[cacheKey]entry // young becomes old when it is full; old is then dropped
	size       int                // of young
}

type cacheKey struct {
	vault int64
	name  string
}

// entry is a version packed into one string: the cache holds 100,000 of them
// in a process that is to stay small.
type entry struct {
	packed string
	gen    uint32
}

// entrySize is what an entry costs beside its texts: its map slot and the
// allocator's rounding, measured.
const entrySize = 110

func newCache(limit int) *cache {
	if limit == 0 {
		limit = DefaultCacheBytes
	}
	return &cache{seed: maphash.MakeSeed(), limit: limit / 2, vaults: map[string]*live{},
		young: map[cacheKey]entry{}, old: map[cacheKey]entry{}}
}

func (c *cache) stripe(name string) *atomic.Uint32 {
	return &c.gens[maphash.String(c.seed, name)%stripes]
}

// changed is the feed's listener.
func (c *cache) changed(changes []store.Change) {
	for i := range changes {
		switch ch := &changes[i]; ch.Topic {
		case store.TopicSecret:
			if name, ok := secretOf(ch.Key); ok {
				c.stripe(name).Add(1)
			} else {
				c.forgetVaults()
			}
		case store.TopicReset:
			for i := range c.gens {
				c.gens[i].Add(1)
			}
			c.forgetVaults()
		}
	}
}

// secretOf returns the folded name of the secret that a change's key names; ok
// is false for a vault's own key. Only what follows the vault counts: a
// resource group may be called "secrets" too.
func secretOf(key string) (name string, ok bool) {
	const vaults = "/providers/microsoft.keyvault/vaults/"
	_, name, ok = strings.Cut(key[strings.LastIndex(key, vaults)+1:], "/secrets/")
	return name, ok
}

func (c *cache) forgetVaults() {
	c.vaultGen.Add(1)
	c.mu.Lock()
	clear(c.vaults)
	c.mu.Unlock()
}

func (c *cache) vault(name string) *live {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.vaults[name]
}

// putVault remembers a vault unless a change came since gen was read.
func (c *cache) putVault(name string, vt *live, gen uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vaultGen.Load() == gen && len(c.vaults) < maxVaults {
		c.vaults[name] = vt
	}
}

// secret returns what is remembered of a secret's latest version. Its sealed
// value is appended to buf.
func (c *cache) secret(vault int64, name string, buf []byte) (r store.SecretVersion, ok bool) {
	k := cacheKey{vault, name}
	c.mu.RLock()
	e, ok := c.young[k]
	aged := !ok
	if aged {
		e, ok = c.old[k]
	}
	c.mu.RUnlock()
	if !ok || e.gen != c.stripe(name).Load() {
		return r, false
	}
	if aged {
		c.put(e)
	}
	return unpack(e.packed, buf), true
}

// putSecret remembers what was read after gen was.
func (c *cache) putSecret(vault int64, r *store.SecretVersion, gen uint32) {
	c.put(entry{pack(vault, r), gen})
}

func (c *cache) put(e entry) {
	size := entrySize + len(e.packed)
	k := keyOf(e.packed)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+size > c.limit {
		c.young, c.old, c.size = map[cacheKey]entry{}, c.young, 0
	}
	if was, there := c.young[k]; there {
		c.size -= entrySize + len(was.packed)
		delete(c.young, k) // its key is a part of the string that goes
	}
	c.young[k] = e
	c.size += size
}

// pack writes a version into one string: the vault, the folded name (which the
// map's key shares), the rest.
func pack(vault int64, r *store.SecretVersion) string {
	b := make([]byte, 0, 64+2*len(r.Name)+len(r.Version)+len(r.ContentType)+len(r.Tags)+len(r.Sealed))
	b = binary.AppendUvarint(b, uint64(vault))
	b = appendText(b, fold(r.Name))
	b = appendText(b, r.Version)
	if r.Name == fold(r.Name) {
		b = appendText(b, "")
	} else {
		b = appendText(b, r.Name)
	}
	b = appendText(b, r.ContentType)
	b = appendText(b, r.Tags)
	enabled := uint64(0)
	if r.Enabled {
		enabled = 1
	}
	b = binary.AppendUvarint(b, enabled)
	for _, t := range [...]az.Micros{r.Created, r.Updated, r.NotBefore, r.Expires} {
		b = binary.AppendUvarint(b, uint64(t))
	}
	return string(append(b, r.Sealed...))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// packed is read from its front.
type packed string

func (p *packed) uint() (n uint64) {
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		c := (*p)[i]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			*p = (*p)[i+1:]
			return n
		}
	}
}

func (p *packed) text() string {
	n := p.uint()
	s := (*p)[:n]
	*p = (*p)[n:]
	return string(s)
}

func keyOf(s string) cacheKey {
	p := packed(s)
	vault := int64(p.uint())
	return cacheKey{vault, p.text()}
}

func unpack(s string, buf []byte) (r store.SecretVersion) {
	p := packed(s)
	p.uint()
	folded := p.text()
	r.Version, r.Name, r.ContentType, r.Tags = p.text(), p.text(), p.text(), p.text()
	if r.Name == "" {
		r.Name = folded
	}
	r.Enabled = p.uint() == 1
	r.Created, r.Updated, r.NotBefore, r.Expires = az.Micros(p.uint()), az.Micros(p.uint()), az.Micros(p.uint()), az.Micros(p.uint())
	r.Sealed = append(buf, p...)
	return r
}
