package gateway

import "sync"

// A wait costs a small buffer; only a stream of full reads gets a large one.
// Measured: for single queries 2 to 128 KiB are alike, for bulk less than
// 32 KiB costs up to a third of the throughput.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

// bufferPool holds buffers of one size. A buffer holds a session's bytes only
// between two calls and is never read beyond what was just written to it.
type bufferPool struct{ pool sync.Pool }

func newBufferPool(size int) *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

func (p *bufferPool) get() *[]byte  { return p.pool.Get().(*[]byte) }
func (p *bufferPool) put(b *[]byte) { p.pool.Put(b) }

// fit returns the buffer for the next read after one of n bytes into b.
func (g *Gate) fit(b *[]byte, big bool, n int) (*[]byte, bool) {
	switch {
	case !big && n == smallBuffer:
		g.small.put(b)
		return g.large.get(), true
	case big && n < smallBuffer:
		g.large.put(b)
		return g.small.get(), false
	}
	return b, big
}

func (g *Gate) putBuffer(b *[]byte, big bool) {
	if big {
		g.large.put(b)
	} else {
		g.small.put(b)
	}
}
