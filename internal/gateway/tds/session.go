package tds

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hawser/hawser/internal/gateway"
)

// session is the copy's view of one logged-in client: where messages end, and
// whether the backend is idle.
type session struct {
	g    *Gateway
	b    *backend
	lane *lane
	pump gateway.Pump

	up walker // the client's goroutine only

	// asked counts the client's messages, attentions too, and heard those that
	// are answered. asked is raised before the bytes leave for the backend, so
	// that equal means idle.
	asked, heard atomic.Int64

	mu sync.Mutex // guards all below
	// attentions are the numbers of those that are not acknowledged. That may
	// come with the answer to what one stopped, or after it: all up to the
	// attention is answered then, and nothing that was sent behind it.
	attentions []int64
	ours       bool // one of them is ours

	down  walker   // the backend's goroutine only, as all below
	ended bool     // the last packet that began ends its message
	tail  [12]byte // the last bytes before the chunk
}

// maxAttentions bounds those that are not acknowledged. Drivers send none
// while they wait for one: [MS-TDS] 2.2.1.7.
const maxAttentions = 16

func newSession(g *Gateway, l *login, grant gateway.Grant, b *backend) *session {
	s := &session{g: g, b: b, lane: newLane(b), up: walker{mars: b.mars, within: b.mars}, down: walker{mars: b.mars}}
	s.pump = gateway.Pump{Client: scribed(l.conn, grant, b), Backend: s.lane, Hooks: gateway.Hooks{
		FromClient: s.fromClient, FromBackend: s.fromBackend, AtEnd: s.atEnd, LastWords: s.lastWords, Interrupt: s.interrupt, Finished: s.finished}}
	return s
}

// fromClient counts what will be answered.
func (s *session) fromClient(chunk []byte) (int, gateway.Next) {
	for at := 0; ; {
		p, start, ok, err := s.up.next(chunk, at)
		if err != nil || ok && !mayFollow(p.kind) {
			return 0, gateway.Break
		}
		if !ok {
			s.lane.next = !s.b.mars && s.up.atBorder()
			return len(chunk), gateway.GoOn
		}
		at = start
		if !s.count(p) {
			return 0, gateway.Break
		}
	}
}

// count notes a packet that ends a message of the client's, and reports whether
// it may come now.
func (s *session) count(p packet) bool {
	if s.b.mars { // its sessions' messages are answered in any order
		return true
	}
	if p.kind != typeAttention {
		if p.status&statusEnd != 0 {
			s.asked.Add(1)
		}
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.status&statusEnd == 0 || len(s.attentions) >= maxAttentions {
		return false
	}
	s.attentions = append(s.attentions, s.asked.Add(1))
	return true
}

// busy reports whether the backend owes an answer. With MARS nobody knows.
func (s *session) busy() bool { return s.b.mars || s.heard.Load() < s.asked.Load() }

// mayFollow reports whether a packet of a type may come after the login. A
// second login on the backend's connection may not.
func mayFollow(kind byte) bool {
	switch kind {
	case typeBatch, typeRPC, typeAttention, typeBulk, typeTransaction:
		return true
	}
	return false
}

// Packet types that are only counted: bulk load and transaction manager.
const (
	typeBulk        = 7
	typeTransaction = 14
)

// fromBackend finds the ends of answers.
func (s *session) fromBackend(chunk []byte) (border int, ok bool) {
	border = -1
	if s.b.mars {
		return border, s.followFrames(chunk)
	}
	switch {
	case s.down.atBorder():
		border = 0
	case s.ended && s.down.have == 0 && s.down.skip <= uint32(len(chunk)) && s.down.skip > 0:
		border = int(s.down.skip)
		s.answered(chunk[:border])
	}
	defer s.remember(chunk)
	for at := 0; ; {
		p, start, found, err := s.down.next(chunk, at)
		if err != nil || found && p.kind != typeReply {
			return border, false
		}
		if !found {
			return border, true
		}
		at = start
		if s.ended = p.status&statusEnd != 0; s.ended && p.end <= len(chunk) {
			border = p.end
			s.answered(chunk[:border])
		}
	}
}

func (s *session) followFrames(chunk []byte) bool {
	_, _, _, err := s.down.next(chunk, 0)
	return err == nil
}

// answered counts the end of an answer, which stands at the end of what.
func (s *session) answered(what []byte) {
	s.ended = false
	last := what[max(0, len(what)-doneSize):]
	if n := doneSize - len(last); n > 0 { // a read ended within
		last = append(slices.Clone(s.tail[max(0, len(s.tail)-n):]), last...)
	}
	heard := s.heard.Load()
	if heard < s.asked.Load() {
		heard++
	}
	if isAttentionDone(last) {
		heard = max(heard, s.acknowledged())
	}
	s.heard.Store(heard)
}

// acknowledged takes the eldest attention and returns its number.
func (s *session) acknowledged() (number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.attentions) > 0 {
		number, s.attentions = s.attentions[0], s.attentions[1:]
	}
	return number
}

// remember keeps the end of a chunk for answered.
func (s *session) remember(chunk []byte) {
	n := min(len(chunk), len(s.tail))
	copy(s.tail[:], s.tail[n:])
	copy(s.tail[len(s.tail)-n:], chunk[len(chunk)-n:])
}

// atEnd is asked when the client has closed its side: whether its backend can
// serve another one.
func (s *session) atEnd() gateway.Next {
	if s.busy() || !s.up.atBorder() || s.b.welcome.acked(featureRecovery) {
		return gateway.GoOn
	}
	return gateway.Release
}

func (s *session) lastWords(why gateway.Reason) []byte {
	r := lastWords(why)
	if r == nil || s.b.mars {
		return nil
	}
	return appendMessage(nil, typeReply, 0, s.b.spid, s.b.welcome.packetSize, r.encode(version74, ""))
}

// interrupt stops the running request of a session that was ended.
func (s *session) interrupt() {
	if s.busy() {
		s.attend()
	}
}

// attend sends our attention, if one can be sent, and reports whether it was.
func (s *session) attend() bool {
	s.mu.Lock()
	if !s.ours {
		s.ours, s.attentions = true, append(s.attentions, s.asked.Load())
	}
	s.mu.Unlock()
	return s.lane.attend()
}

// finished keeps the backend for the next login or closes it.
func (s *session) finished(why gateway.Reason, clean bool) {
	if why == gateway.RightLost || why == gateway.Expired || why == gateway.Asked {
		s.g.recycling.Add(1)
		go s.g.endBackend(s) // ends by its own deadlines
		return
	}
	if !clean || !s.down.atBorder() || !s.g.pool.Room(s.b) {
		s.b.Close()
		return
	}
	s.g.recycling.Add(1)
	go s.g.recycle(s.b) // ends by resetWait
}

// endBackend sees to it that nothing a session began goes on in the server. A
// session that has to be ended there keeps its connection until it was: else
// its number could be another's by then, such as the one's that the client
// opened at once instead.
func (g *Gateway) endBackend(s *session) {
	defer g.recycling.Done()
	defer s.b.Close()
	if !s.busy() || s.attend() && s.lane.acknowledged(&s.down) || g.terminate == nil {
		return
	}
	select {
	case g.ending <- struct{}{}:
	case <-g.ctx.Done():
		return
	}
	defer func() { <-g.ending }()
	ctx, cancel := context.WithTimeout(g.ctx, cancelWait)
	defer cancel()
	if err := g.terminate(ctx, s.b.id, s.b.user, uint64(s.b.spid)); err != nil {
		g.log.Warn("cannot end the server's session of an ended one", "server", s.b.id.Name(), "user", s.b.user, "session", s.b.spid, "error", err)
	}
}

// recycle resets a connection and gives it to the pool.
func (g *Gateway) recycle(b *backend) {
	defer g.recycling.Done()
	if err := b.reset(); err != nil {
		g.log.Debug("a backend connection is not reused", "error", err)
		b.Close()
		return
	}
	if !g.pool.Put(b) {
		b.Close()
	}
}
