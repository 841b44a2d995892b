package mysql

import (
	"context"
	"sync"

	"github.com/hawser/hawser/internal/gateway"
)

// maxPipelined bounds the commands that wait for an answer. Clients send one
// at a time; a few pipeline some.
const maxPipelined = 1 << 14

// session is the copy's view of one logged-in client: which command the
// backend is answering, and where its packets end.
type session struct {
	g     *Gateway
	b     *backend
	pump  gateway.Pump
	who   string     // the principal's object id, for KILL
	id    uint32     // the thread id the client was told
	local bool       // the client takes requests for files
	up    upstream   // the client's goroutine only
	down  downstream // the backend's goroutine only

	mu      sync.Mutex // guards all below
	waiting []pending  // commands without an answer, the oldest first, from first on
	first   int
	file    bool // the client is sending a file, not commands
	upSeq   byte // of the client's last packet
	odd     bool // it is not what a reset makes good: don't reuse the backend
}

// pending is a command that waits for its answer.
type pending struct {
	answer answer
	local  bool // a query that may ask the client for a file
}

func newSession(g *Gateway, v *visitor, b *backend, info gateway.Session) *session {
	s := &session{g: g, b: b, who: info.Who.ObjectID, id: v.id, local: b.flags&capLocalFiles != 0, odd: b.flags&capInteractive != 0}
	s.up = upstream{Conn: v.c, s: s, ask: info.Grant.Statement}
	s.down = downstream{s: s, short: b.flags&capDeprecateEOF != 0}
	s.pump = gateway.Pump{Client: &s.up, Backend: b.conn, Hooks: gateway.Hooks{
		FromClient: s.up.judge, FromBackend: s.down.walk, LastWords: s.lastWords, Finished: s.finished}}
	return s
}

// push notes a command before it leaves for the backend, so that no answer can
// come before its command.
func (s *session) push(p pending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upSeq = 0
	if p.answer == answerNone {
		return true
	}
	if len(s.waiting)-s.first >= maxPipelined {
		return false
	}
	if len(s.waiting) >= 2*maxPipelined { // a client that always has a command under way
		s.waiting, s.first = s.waiting[:copy(s.waiting, s.waiting[s.first:])], 0
	}
	s.waiting = append(s.waiting, p)
	return true
}

// current is the command that the backend is to answer next.
func (s *session) current() (pending, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == len(s.waiting) {
		return pending{}, false
	}
	return s.waiting[s.first], true
}

// answered takes the current command off.
func (s *session) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file { // the server has not waited for the end, and takes what follows for commands
		s.file, s.odd = false, true
	}
	if s.first++; s.first == len(s.waiting) {
		s.waiting, s.first, s.upSeq = s.waiting[:0], 0, 0
	}
}

// expectFile lets the client send a file, if it was told of nothing else to
// do: what it had sent ahead would be taken for the file.
func (s *session) expectFile() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file || len(s.waiting)-s.first != 1 {
		return false
	}
	s.file = true
	return true
}

// inFile reports whether a packet of the client's is part of a file, which an
// empty one ends.
func (s *session) inFile(seq byte, length int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.file {
		return false
	}
	s.upSeq = seq
	s.file = length > 0
	return true
}

// busy reports whether the backend may have something to do.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first < len(s.waiting) || s.file
}

func (s *session) setOdd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = true
}

func (s *session) reusable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.odd && s.first == len(s.waiting) && !s.file
}

// lastWords is called by the backend's goroutine.
func (s *session) lastWords(r gateway.Reason) []byte {
	if r == gateway.BackendLost && s.down.failed {
		return nil // the backend has said why itself
	}
	words := lastWords(r, isMaria(s.b.version))
	if words == nil {
		return nil
	}
	if at := s.down.borderAt; at != idle && at != afterFile {
		return words.encode(s.down.borderSeq + 1)
	}
	// An idle client reads this as the answer to its next command, whose
	// number is 1: servers send 0, which some drivers take for disorder.
	s.mu.Lock()
	defer s.mu.Unlock()
	return words.encode(s.upSeq + 1)
}

// finished keeps the backend for the next login or closes it.
func (s *session) finished(why gateway.Reason, clean bool) {
	s.g.unregister(s)
	busy := s.busy()
	switch {
	case clean && s.reusable() && s.down.atBorder() && s.g.pool.Room(s.b):
		s.g.recycling.Add(1)
		go s.g.recycle(s.b) // ends by resetWait
		return
	case busy && s.g.terminate != nil && (why == gateway.RightLost || why == gateway.Expired || why == gateway.Asked || why == gateway.Stopping):
		s.g.recycling.Add(1)
		go s.g.endThread(s.b) // ends by endWait
	}
	s.b.Close()
}

// endThread ends what a session's statement does in the server, which looks at
// its connection only when it has something to send.
func (g *Gateway) endThread(b *backend) {
	defer g.recycling.Done()
	select {
	case g.ending <- struct{}{}:
	case <-g.ctx.Done():
		return
	}
	defer func() { <-g.ending }()
	ctx, cancel := context.WithTimeout(g.ctx, endWait)
	defer cancel()
	if err := g.terminate(ctx, b.server, b.user, uint64(b.id)); err != nil {
		g.log.Warn("cannot end the server's thread of an ended session", "server", b.server.Name(), "user", b.user, "thread", b.id, "error", err)
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

// register makes a session known to KILL by the id that its client was told.
func (g *Gateway) register(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[s.id] = s
}

func (g *Gateway) unregister(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, s.id)
}
