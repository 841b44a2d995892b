package directory

import (
	"sync"
	"sync/atomic"
)

// cacheLimit bounds a cache's entries; a full one is emptied. It holds the
// 10^5 identities of the growth target with room.
const cacheLimit = 200_000

// cache holds what was read from the store until the change feed says it
// changed. Reads take no lock.
type cache[V any] struct {
	entries atomic.Pointer[sync.Map]
	gen     atomic.Uint64 // counts drops: a value read before one is not kept

	mu sync.Mutex // serialises put and drop
	n  int
}

func newCache[V any]() *cache[V] {
	c := &cache[V]{}
	c.entries.Store(new(sync.Map))
	return c
}

func (c *cache[V]) get(key string) (v V, ok bool) {
	x, ok := c.entries.Load().Load(key)
	if !ok {
		return v, false
	}
	return x.(V), true
}

// put keeps v unless something was dropped since gen was read.
func (c *cache[V]) put(gen uint64, key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen.Load() != gen {
		return
	}
	if c.n >= cacheLimit {
		c.clear()
	}
	if _, there := c.entries.Load().Swap(key, v); !there {
		c.n++
	}
}

func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen.Add(1)
	if _, there := c.entries.Load().LoadAndDelete(key); there {
		c.n--
	}
}

func (c *cache[V]) dropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen.Add(1)
	c.clear()
}

func (c *cache[V]) clear() {
	c.entries.Store(new(sync.Map))
	c.n = 0
}
