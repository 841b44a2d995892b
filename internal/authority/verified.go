package authority

import (
	"crypto/sha256"
	"sync"
)

// maxVerified bounds the verified-token cache: at about 1 KiB each it stays
// below 16 MiB, and holds the tokens of many thousand running apps.
const maxVerified = 16 << 10

// tokenCache remembers tokens whose signature was found good, by their
// SHA-256. What can change (times, audience, principal) is checked each time.
type tokenCache[V any] struct {
	mu  sync.RWMutex // guards all below
	m   map[[sha256.Size]byte]*V
	gen uint64 // counts dropAll: what was found good before one is not kept

	buffers sync.Pool // *[]byte, for sum
}

func newTokenCache[V any]() *tokenCache[V] {
	return &tokenCache[V]{m: map[[sha256.Size]byte]*V{}}
}

// sum is the SHA-256 of a token, made without an allocation.
func (c *tokenCache[V]) sum(token string) [sha256.Size]byte {
	b, _ := c.buffers.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	*b = append((*b)[:0], token...)
	sum := sha256.Sum256(*b)
	c.buffers.Put(b)
	return sum
}

// get also returns the generation that put wants.
func (c *tokenCache[V]) get(sum [sha256.Size]byte) (v *V, gen uint64) {
	c.mu.RLock()
	v, gen = c.m[sum], c.gen
	c.mu.RUnlock()
	return v, gen
}

func (c *tokenCache[V]) generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gen
}

// put keeps v. A full cache loses an eighth, whichever the map yields first:
// random, so that no stranger chooses.
func (c *tokenCache[V]) put(gen uint64, sum [sha256.Size]byte, v *V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen != gen {
		return
	}
	if len(c.m) >= maxVerified {
		n := 0
		for k := range c.m {
			delete(c.m, k)
			if n++; n >= maxVerified/8 {
				break
			}
		}
	}
	c.m[sum] = v
}

func (c *tokenCache[V]) dropAll() {
	c.mu.Lock()
	clear(c.m)
	c.gen++
	c.mu.Unlock()
}
