package gateway

import "time"

// parkIfIdle asks a session that moved no byte since the last call, and whose
// two goroutines both wait to read, to park. Only the reaper calls it.
func (p *Pump) parkIfIdle() {
	moved := p.sent.Load() + p.received.Load()
	idle := moved == p.seen
	p.seen = moved
	if !idle || !p.upReading.Load() || !p.downReading.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != 2 || p.parked || p.reason != "" || p.half {
		return
	}
	p.parkAsked.Store(true)
	if !p.upReading.Load() || !p.downReading.Load() {
		p.parkAsked.Store(false)
		return
	}
	_ = p.Client.SetReadDeadline(past)
	_ = p.Backend.SetReadDeadline(past)
}

// vote is called by a direction whose read was interrupted. It reports whether
// the goroutine has left the session in order to park and must return.
func (p *Pump) vote(dir int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.parkAsked.Load() || p.reason != "" {
		return false
	}
	p.gone[dir] = true
	p.running--
	if p.running > 0 {
		return true
	}
	p.parkAsked.Store(false)
	p.clearReadDeadlines()
	p.parked = true
	ticket, err := p.gate.park.add(p.wake, p.Client, p.Backend)
	if err != nil { // no socket below: it keeps its goroutines
		p.parked = false
		p.wakeLocked()
		return true
	}
	p.ticket = ticket
	return true
}

// unpark calls parking off: there are bytes after all.
func (p *Pump) unpark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.parkAsked.Load() {
		return
	}
	p.parkAsked.Store(false)
	if p.reason == "" {
		p.clearReadDeadlines()
	}
	for dir, gone := range p.gone {
		if gone {
			p.run(dir)
		}
	}
}

func (p *Pump) clearReadDeadlines() {
	_ = p.Client.SetReadDeadline(time.Time{})
	_ = p.Backend.SetReadDeadline(time.Time{})
}

// wake is called by the parker, once, when either socket has something.
func (p *Pump) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked = false
	p.wakeLocked()
}

func (p *Pump) wakeLocked() {
	p.run(up)
	p.run(down)
}
