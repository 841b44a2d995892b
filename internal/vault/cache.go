package vault

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hawser/hawser/internal/store"
)

const (
	// DefaultCacheBytes bounds the cache of sealed secrets. It holds 100,000
	// short secrets, the figure of the read target, and keeps the plane small.
	DefaultCacheBytes = 32 << 20
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
	vaults     map[string]*store.Vault
	young, old map[cacheKey]*entry // young becomes old when it is full; old is then dropped
	size       int                 // of young
}

type cacheKey struct {
	vault int64
	name  string
}

type entry struct {
	store.SecretVersion
	gen uint32
}

// entrySize is what an entry costs beside its texts: the struct, its map slot
// and the allocator's rounding, measured.
const entrySize = 340

func newCache(limit int) *cache {
	if limit == 0 {
		limit = DefaultCacheBytes
	}
	return &cache{seed: maphash.MakeSeed(), limit: limit / 2, vaults: map[string]*store.Vault{},
		young: map[cacheKey]*entry{}, old: map[cacheKey]*entry{}}
}

func (c *cache) stripe(name string) *atomic.Uint32 {
	return &c.gens[maphash.String(c.seed, name)%stripes]
}

// changed is the feed's listener.
func (c *cache) changed(changes []store.Change) {
	for i := range changes {
		switch ch := &changes[i]; ch.Topic {
		case store.TopicSecret:
			if at := strings.LastIndex(ch.Key, "/secrets/"); at >= 0 {
				c.stripe(ch.Key[at+len("/secrets/"):]).Add(1)
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

func (c *cache) forgetVaults() {
	c.vaultGen.Add(1)
	c.mu.Lock()
	clear(c.vaults)
	c.mu.Unlock()
}

func (c *cache) vault(name string) *store.Vault {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.vaults[name]
}

// putVault remembers a vault unless a change came since gen was read.
func (c *cache) putVault(name string, vt *store.Vault, gen uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vaultGen.Load() == gen && len(c.vaults) < maxVaults {
		c.vaults[name] = vt
	}
}

// secret returns what is remembered of a secret's latest version, or nil.
func (c *cache) secret(vault int64, name string) *store.SecretVersion {
	k := cacheKey{vault, name}
	c.mu.RLock()
	e := c.young[k]
	aged := e == nil
	if aged {
		e = c.old[k]
	}
	c.mu.RUnlock()
	if e == nil || e.gen != c.stripe(name).Load() {
		return nil
	}
	if aged {
		c.put(k, e)
	}
	return &e.SecretVersion
}

// putSecret remembers what was read after gen was.
func (c *cache) putSecret(vault int64, name string, r *store.SecretVersion, gen uint32) {
	c.put(cacheKey{vault, name}, &entry{SecretVersion: *r, gen: gen})
}

func (c *cache) put(k cacheKey, e *entry) {
	size := entrySize + len(k.name) + len(e.Sealed) + len(e.Version) + len(e.ContentType) + len(e.Tags)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+size > c.limit {
		c.young, c.old, c.size = map[cacheKey]*entry{}, c.young, 0
	}
	if _, there := c.young[k]; !there {
		c.size += size
	}
	c.young[k] = e
}
