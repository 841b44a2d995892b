package tds

import (
	"context"
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

	// pending counts messages of the client that no message has answered,
	// attentions too. It is raised before the bytes leave for the backend, so
	// zero means idle. The acknowledgement of an attention may come with the
	// answer to what it stopped, or after it: then all is answered.
	pending atomic.Int32
	stopped atomic.Bool // the last DONE acknowledged an attention, ours or the client's

	down  walker // the backend's goroutine only, as all below
	ended bool   // the last packet that began ends its message
}

func newSession(g *Gateway, l *login, grant gateway.Grant, b *backend) *session {
	s := &session{g: g, b: b, lane: &lane{Conn: b.conn, border: true}, up: walker{mars: b.mars}, down: walker{mars: b.mars}}
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
		if p.status&statusEnd != 0 {
			s.pending.Add(1)
		}
	}
}

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
	stopped := isAttentionDone(what[max(0, len(what)-doneSize):])
	if stopped {
		s.pending.Store(0)
	}
	for n := s.pending.Load(); n > 0 && !s.pending.CompareAndSwap(n, n-1); n = s.pending.Load() {
	}
	if stopped != s.stopped.Load() { // the write is dear where nothing changes
		s.stopped.Store(stopped)
	}
}

// atEnd is asked when the client has closed its side: whether its backend can
// serve another one.
func (s *session) atEnd() gateway.Next {
	if s.b.mars || s.pending.Load() != 0 || !s.up.atBorder() || s.b.welcome.acked(featureRecovery) {
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
	if s.pending.Load() != 0 {
		s.lane.attend()
	}
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

// endBackend sees to it that nothing a session began goes on in the server.
func (g *Gateway) endBackend(s *session) {
	defer g.recycling.Done()
	idle := s.pending.Load() == 0 && !s.b.mars
	stopped := idle || s.stopped.Load() || s.lane.attend() && s.lane.acknowledged(&s.down)
	s.b.Close()
	if stopped || g.terminate == nil {
		return
	}
	g.ending <- struct{}{}
	defer func() { <-g.ending }()
	ctx, cancel := context.WithTimeout(context.Background(), cancelWait)
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
