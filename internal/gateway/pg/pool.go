package pg

import (
	"sync"
	"time"
)

// pool keeps warm backend connections, the newest first in line.
type pool struct {
	perKey int
	total  int
	idle   time.Duration

	mu     sync.Mutex // guards all below
	warm   map[string][]*backend
	count  int
	epochs map[string]uint64 // by server; a backend of an older one is not taken back
	sweep  *time.Timer       // runs while there is a warm connection
	closed bool
}

func newPool(w Warm) *pool {
	p := &pool{perKey: w.PerKey, total: w.Total, idle: w.Idle, warm: map[string][]*backend{}, epochs: map[string]uint64{}}
	if p.perKey == 0 {
		p.perKey = 32
	}
	if p.total <= 0 {
		p.total = 256
	}
	if p.idle <= 0 {
		p.idle = time.Minute
	}
	return p
}

// take returns the connection that was used last, or nil.
func (p *pool) take(key string) *backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.warm[key]
	if len(line) == 0 {
		return nil
	}
	b := line[len(line)-1]
	line[len(line)-1] = nil
	p.setLine(key, line[:len(line)-1])
	p.count--
	b.released = false
	return b
}

func (p *pool) setLine(key string, line []*backend) {
	if len(line) == 0 {
		delete(p.warm, key)
	} else {
		p.warm[key] = line
	}
}

// room reports whether a connection may come back, so that none is reset in
// vain.
func (p *pool) room(b *backend) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roomLocked(b)
}

func (p *pool) roomLocked(b *backend) bool {
	return !p.closed && p.epochs[b.server] == b.epoch && len(p.warm[b.key]) < p.perKey && p.count < p.total
}

// put takes a reset connection and reports whether there was room.
func (p *pool) put(b *backend) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.roomLocked(b) {
		return false
	}
	b.idleAt = time.Now()
	p.warm[b.key] = append(p.warm[b.key], b)
	p.count++
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.idle, p.expire)
	}
	return true
}

// expire closes what nobody took for a while.
func (p *pool) expire() {
	old := p.remove(func(b *backend) bool { return time.Since(b.idleAt) >= p.idle })
	for _, b := range old {
		b.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == 0 || p.closed {
		p.sweep = nil
		return
	}
	p.sweep.Reset(p.idle / 4)
}

// remove takes out the connections that are chosen.
func (p *pool) remove(choose func(*backend) bool) []*backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*backend
	for key, line := range p.warm {
		var keep []*backend
		for _, b := range line {
			if choose(b) {
				out = append(out, b)
			} else {
				keep = append(keep, b)
			}
		}
		p.setLine(key, keep)
	}
	p.count -= len(out)
	return out
}

// drop closes a server's warm connections and says how many there were.
func (p *pool) drop(server string) int {
	out := p.remove(func(b *backend) bool { return b.server == server })
	for _, b := range out {
		b.close()
	}
	return len(out)
}

// forget is drop, and refuses those of the server that are in use now.
func (p *pool) forget(server string) {
	p.mu.Lock()
	p.epochs[server]++
	p.mu.Unlock()
	p.drop(server)
}

func (p *pool) epochOf(server string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epochs[server]
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, b := range p.remove(func(*backend) bool { return true }) {
		b.close()
	}
}
