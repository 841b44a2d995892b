package gateway

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Time given to last things. All are far under the second within which a lost
// right must have effect.
const (
	lastReadWait  = 100 * time.Millisecond // for the end of a message that is already on its way
	lastWriteWait = 250 * time.Millisecond // for a client to take its last words
	drainWait     = 2 * time.Second        // for what a backend that stopped reading still has to say
)

// Hooks are what a protocol adds to the copy. They are called with whole
// chunks as read, never again for the same bytes, and each from one goroutine
// at a time: FromClient by the one that reads the client, the others by the
// one that reads the backend.
type Hooks struct {
	// FromClient looks at bytes on their way to the backend and says how many
	// to pass on. After anything but GoOn and Quit nothing more is read.
	FromClient func(chunk []byte) (pass int, next Next)
	// FromBackend looks at bytes on their way to the client, and returns the
	// offset of the last border between two messages, -1 for none; false stops.
	FromBackend func(chunk []byte) (border int, ok bool)
	// AtEnd is asked what it means that the client has closed its side, in a
	// protocol that has no word for goodbye: Release, or GoOn to pass the
	// half-close on, which is also what no AtEnd means. Only the goroutine of
	// FromClient calls it.
	AtEnd func() Next
	// LastWords returns what to tell the client at a border between messages;
	// nil for nothing.
	LastWords func(Reason) []byte
	// Interrupt is called once, in a goroutine of its own, when the session is
	// ended by us: it stops what the backend is doing.
	Interrupt func()
	// Finished is called once, when nothing of the copy runs any more and the
	// client is closed. It must close the backend or take it over; clean says
	// that the client left with Release.
	Finished func(reason Reason, clean bool)
}

// Next is what to do after a chunk of the client's.
type Next int

const (
	GoOn    Next = iota
	Release      // the client said goodbye and the backend stays usable
	Leave        // the client said goodbye: pass on what was said and close
	Break        // the client broke the protocol
	Quit         // the client said goodbye and is answered: the backend closes, which is then no loss
)

// Pump copies bytes between a client and a backend, and is the life of an
// admitted session. It runs two goroutines while bytes flow and none while the
// session is idle.
type Pump struct {
	Client, Backend net.Conn
	Hooks

	gate    *Gate
	session *live

	sent, received atomic.Int64
	seen           int64 // sent+received when the reaper last looked; the reaper's

	// Parking. A goroutine sets its reading flag around a read; the reaper sets
	// parkAsked and then looks at both flags. So either the reaper sees that
	// somebody does not read, and gives up, or that one sees parkAsked.
	upReading, downReading, parkAsked atomic.Bool

	mu       sync.Mutex // guards all below
	running  int        // goroutines
	gone     [2]bool    // directions that left in order to park
	parked   bool
	ticket   uint64
	half     bool   // the client has closed its side
	quit     bool   // the client said goodbye with Quit
	clean    bool   // the client said goodbye with Release
	drain    bool   // the backend takes no more; read what it has to say
	reason   Reason // why it ended; "" while it lives
	ended    bool   // ended by us
	dead     bool   // nothing more is to be moved either way
	finished bool
}

const (
	up   = 0 // client to backend
	down = 1 // backend to client
)

func (p *Pump) start() {
	_ = p.Client.SetDeadline(time.Time{})
	_ = p.Backend.SetDeadline(time.Time{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended { // between Admit and here
		p.kick()
	}
	p.run(up)
	p.run(down)
}

// run starts a direction; p.mu is held.
func (p *Pump) run(dir int) {
	p.running++
	p.gone[dir] = false
	if dir == up {
		go p.copyUp() // ends with either socket, or to park
	} else {
		go p.copyDown() // ends with either socket, or to park
	}
}

// copyUp moves the client's bytes to the backend.
func (p *Pump) copyUp() {
	b := p.gate.small.get()
	big := false
	defer func() { p.gate.putBuffer(b, big) }()
	for {
		p.upReading.Store(true)
		n, err := p.Client.Read(*b)
		p.upReading.Store(false)
		if n > 0 {
			if p.parkAsked.Load() {
				p.unpark()
			}
			if !p.passUp((*b)[:n]) {
				return
			}
			b, big = p.gate.fit(b, big, n)
		}
		if err != nil && p.leaveUp(err) {
			return
		}
	}
}

// passUp forwards a chunk and reports whether to go on.
func (p *Pump) passUp(chunk []byte) bool {
	pass, next := p.FromClient(chunk)
	if next == Quit { // before the backend hears it: it may close before this goroutine goes on
		p.mu.Lock()
		p.quit = true
		p.mu.Unlock()
	}
	if pass > 0 {
		n, err := p.Backend.Write(chunk[:pass])
		p.sent.Add(int64(n))
		if err != nil {
			p.exit(func() { p.because(BackendLost); p.startDrain() })
			return false
		}
	}
	switch next {
	case GoOn, Quit:
		return true
	case Release:
		p.exit(func() { p.because(ClientLeft); p.clean = true; _ = p.Backend.SetReadDeadline(past) })
	case Leave:
		p.exit(func() { p.because(ClientLeft); p.shut() })
	case Break:
		p.exit(func() { p.because(BadProtocol); p.ended = true; p.kick() })
	}
	return false
}

// leaveUp decides what a failed read of the client means and reports whether
// the goroutine is done.
func (p *Pump) leaveUp(err error) bool {
	if p.AtEnd != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && p.AtEnd() == Release {
		p.exit(func() { p.because(ClientLeft); p.clean = true; _ = p.Backend.SetReadDeadline(past) })
		return true
	}
	if errors.Is(err, io.EOF) {
		p.exit(func() {
			p.half = true
			if closeWrite(p.Backend) != nil {
				p.because(ClientLeft)
				p.shut()
			}
		})
		return true
	}
	if isTimeout(err) {
		if p.vote(up) {
			return true
		}
		p.mu.Lock()
		alive := p.reason == ""
		p.mu.Unlock()
		if alive {
			return false // parking was called off
		}
		p.exit(func() {})
		return true
	}
	p.exit(func() { p.because(ClientLost); p.shut() })
	return true
}

// copyDown moves the backend's bytes to the client.
func (p *Pump) copyDown() {
	b := p.gate.small.get()
	big := false
	defer func() { p.gate.putBuffer(b, big) }()
	border := true // the client has seen whole messages only
	for {
		p.downReading.Store(true)
		n, err := p.Backend.Read(*b)
		p.downReading.Store(false)
		if n > 0 {
			if p.parkAsked.Load() {
				p.unpark()
			}
			at, ok := p.FromBackend((*b)[:n])
			if !ok {
				p.exit(func() { p.because(BackendLost); p.shut() })
				return
			}
			border = at == n
			w, werr := p.Client.Write((*b)[:n])
			p.received.Add(int64(w))
			if werr != nil {
				p.exit(func() { p.because(ClientLost); p.shut() })
				return
			}
			b, big = p.gate.fit(b, big, n)
		}
		if err != nil && p.leaveDown(err, border) {
			return
		}
	}
}

// leaveDown is leaveUp for the backend. It also speaks the last words, because
// this goroutine is the only one that writes to the client.
func (p *Pump) leaveDown(err error, border bool) bool {
	if isTimeout(err) && p.vote(down) {
		return true
	}
	p.mu.Lock()
	reason, ended, half := p.reason, p.ended, p.half || p.quit
	over := p.dead || p.clean || p.drain
	p.mu.Unlock()
	switch {
	case ended:
		p.farewell(reason, border)
	case over:
	case isTimeout(err):
		return false // parking was called off
	case !half:
		p.farewell(BackendLost, border)
	}
	p.exit(func() {
		if p.half || p.quit {
			p.because(ClientLeft)
		}
		p.because(BackendLost)
		if !p.clean {
			p.shut()
		}
	})
	return true
}

// farewell tells the client why, if a border between messages can be reached
// without waiting for more than is on its way.
func (p *Pump) farewell(reason Reason, border bool) {
	words := p.LastWords(reason)
	if words == nil {
		return
	}
	_ = p.Client.SetWriteDeadline(time.Now().Add(lastWriteWait))
	if !border {
		b := p.gate.large.get()
		defer p.gate.large.put(b)
		_ = p.Backend.SetReadDeadline(time.Now().Add(lastReadWait))
		n, _ := p.Backend.Read(*b)
		at, ok := p.FromBackend((*b)[:n])
		if !ok || n == 0 || at < 0 {
			return
		}
		words = append((*b)[:at:at], p.LastWords(reason)...) // which may depend on what came before
	}
	n, _ := p.Client.Write(words)
	p.received.Add(int64(n))
}

// exit is a goroutine's last act. The last one out finishes the session.
func (p *Pump) exit(change func()) {
	p.mu.Lock()
	change()
	if p.parkAsked.Load() {
		p.parkAsked.Store(false) // nobody is left to park with
		if p.reason == "" {
			_ = p.Backend.SetReadDeadline(time.Time{})
		}
		for dir, gone := range p.gone {
			if gone {
				p.run(dir)
			}
		}
	}
	p.running--
	last := p.running == 0 && !p.finished
	p.finished = p.finished || last
	reason, clean := p.reason, p.clean
	p.mu.Unlock()
	if last {
		p.finish(reason, clean)
	}
}

func (p *Pump) finish(reason Reason, clean bool) {
	if reason == ClientLeft || reason == ClientLost {
		_ = Bottom(p.Client).Close() // nobody reads a TLS farewell
	} else {
		t := time.AfterFunc(lastWriteWait, func() { _ = Bottom(p.Client).Close() }) // crypto/tls would take five seconds
		_ = p.Client.Close()
		t.Stop()
	}
	p.Finished(reason, clean)
	p.gate.finished(p, reason)
}

// because sets the reason unless there is one; p.mu is held.
func (p *Pump) because(r Reason) {
	if p.reason == "" {
		p.reason = r
	}
}

// shut makes both directions fail at once; p.mu is held. The sockets are
// closed by finish and Finished.
func (p *Pump) shut() {
	p.dead = true
	_ = p.Client.SetDeadline(past)
	_ = p.Backend.SetDeadline(past)
}

// startDrain lets the backend's last words through; p.mu is held.
func (p *Pump) startDrain() {
	p.drain = true
	_ = p.Backend.SetReadDeadline(time.Now().Add(drainWait))
}

// kick interrupts both directions so that they see that the session was ended;
// p.mu is held. A client that does not read has a moment to do so.
func (p *Pump) kick() {
	_ = p.Client.SetReadDeadline(past)
	_ = p.Client.SetWriteDeadline(time.Now().Add(lastWriteWait))
	_ = p.Backend.SetDeadline(past)
}

// end ends the session from outside.
func (p *Pump) end(why Reason) {
	p.mu.Lock()
	if p.reason != "" || p.finished {
		p.mu.Unlock()
		return
	}
	p.reason, p.ended = why, true
	p.parkAsked.Store(false)
	if p.parked && p.gate.park.remove(p.ticket) {
		p.parked = false
		p.wakeLocked()
	} else {
		for dir, gone := range p.gone {
			if gone && !p.parked {
				p.run(dir)
			}
		}
	}
	p.kick()
	p.mu.Unlock()
	if p.Interrupt != nil {
		go p.Interrupt() // bounded by its own deadline
	}
}

// closeNow drops the sockets, for a shutdown that has no more time.
func (p *Pump) closeNow() {
	_ = Bottom(p.Client).Close()
	_ = Bottom(p.Backend).Close()
}

// past is a deadline that interrupts what is waiting.
var past = time.Unix(1, 0)

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
