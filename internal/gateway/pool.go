package gateway

import (
	"sync"
	"time"
)

// Warm bounds the backend connections kept for the next login. A zero field
// takes the default named beside it; a negative PerKey keeps none.
type Warm struct {
	PerKey int           // 32 for one principal, role, database and set of startup parameters
	Total  int           // 256
	Idle   time.Duration // 60 s
}

// Waiting is what a Pool must know of a backend connection; a protocol's type
// has one within it.
type Waiting struct {
	Key    string // of those that may stand in for each other: Gate.WarmKey
	Server string // the server's folded id, for Forget
	Epoch  uint64 // Pool.Epoch before the login

	since time.Time
}

// Warmth returns the connection's place in a pool.
func (w *Waiting) Warmth() *Waiting { return w }

// Pool keeps warm backend connections, the newest first in line. A protocol
// resets a connection before it gives it back, and looks whether it is still
// alive when it takes it.
type Pool[B interface {
	comparable
	Warmth() *Waiting
	Close()
}] struct {
	perKey int
	total  int
	idle   time.Duration

	mu     sync.Mutex // guards all below
	warm   map[string][]B
	count  int
	epochs map[string]uint64 // by server; a backend of an older one is not taken back
	sweep  *time.Timer       // runs while there is a warm connection
	closed bool
}

// NewPool makes a pool. Close ends it.
func NewPool[B interface {
	comparable
	Warmth() *Waiting
	Close()
}](w Warm) *Pool[B] {
	p := &Pool[B]{perKey: w.PerKey, total: w.Total, idle: w.Idle, warm: map[string][]B{}, epochs: map[string]uint64{}}
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

// Take returns the connection that was used last; false: there is none.
func (p *Pool[B]) Take(key string) (b B, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.warm[key]
	if len(line) == 0 {
		return b, false
	}
	var none B
	b = line[len(line)-1]
	line[len(line)-1] = none
	p.setLine(key, line[:len(line)-1])
	p.count--
	return b, true
}

func (p *Pool[B]) setLine(key string, line []B) {
	if len(line) == 0 {
		delete(p.warm, key)
	} else {
		p.warm[key] = line
	}
}

// Room reports whether a connection may come back, so that none is reset in
// vain.
func (p *Pool[B]) Room(b B) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roomLocked(b)
}

func (p *Pool[B]) roomLocked(b B) bool {
	w := b.Warmth()
	return !p.closed && p.epochs[w.Server] == w.Epoch && len(p.warm[w.Key]) < p.perKey && p.count < p.total
}

// Put takes a reset connection and reports whether there was room.
func (p *Pool[B]) Put(b B) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.roomLocked(b) {
		return false
	}
	w := b.Warmth()
	w.since = time.Now()
	p.warm[w.Key] = append(p.warm[w.Key], b)
	p.count++
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.idle, p.expire)
	}
	return true
}

// expire closes what nobody took for a while.
func (p *Pool[B]) expire() {
	old := p.remove(func(b B) bool { return time.Since(b.Warmth().since) >= p.idle })
	for _, b := range old {
		b.Close()
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
func (p *Pool[B]) remove(choose func(B) bool) []B {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []B
	for key, line := range p.warm {
		var keep []B
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

// Drop closes a server's warm connections and says how many there were.
func (p *Pool[B]) Drop(server string) int {
	out := p.remove(func(b B) bool { return b.Warmth().Server == server })
	for _, b := range out {
		b.Close()
	}
	return len(out)
}

// Forget is Drop, and refuses those of the server that are in use now.
func (p *Pool[B]) Forget(server string) {
	p.mu.Lock()
	p.epochs[server]++
	p.mu.Unlock()
	p.Drop(server)
}

// Len is how many connections wait.
func (p *Pool[B]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Epoch is to be noted in a backend's Waiting before it logs in.
func (p *Pool[B]) Epoch(server string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epochs[server]
}

// Close closes all and takes none any more.
func (p *Pool[B]) Close() {
	p.mu.Lock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, b := range p.remove(func(B) bool { return true }) {
		b.Close()
	}
}
