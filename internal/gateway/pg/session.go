package pg

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net"
	"sync/atomic"

	"github.com/hawser/hawser/internal/gateway"
)

// session is the copy's view of one logged-in client: where messages end, and
// whether the backend is idle.
type session struct {
	g    *Gateway
	b    *backend
	pump gateway.Pump

	pid    uint32 // the cancel key the client was given; guarded by Gateway.mu
	secret []byte

	up walker // the client's goroutine only
	// unsynced: extended-query messages since the last Sync. The client's
	// goroutine alone sets it.
	unsynced atomic.Bool

	// pending counts Query, Sync and FunctionCall messages that no
	// ReadyForQuery has answered. It is raised before the bytes leave for the
	// backend, so zero means idle. PostgreSQL drops some of these messages
	// (after an error, during COPY), which leaves the count too high: then the
	// backend is not reused, no more.
	pending  atomic.Int32
	txStatus atomic.Int32 // of the last ReadyForQuery: I, T or E

	down     walker // the backend's goroutine only, as all below
	wantZ    bool   // a ReadyForQuery's status is the next byte
	lastKind byte
	odd      bool // the backend said something we did not follow: don't reuse it
}

func newSession(g *Gateway, client net.Conn, b *backend) *session {
	s := &session{g: g, b: b}
	s.txStatus.Store('I')
	s.pump = gateway.Pump{Client: client, Backend: b.conn, Hooks: gateway.Hooks{
		FromClient: s.fromClient, FromBackend: s.fromBackend, LastWords: s.lastWords, Interrupt: s.interrupt, Finished: s.finished}}
	return s
}

// fromClient looks for Terminate and counts what will be answered.
func (s *session) fromClient(chunk []byte) (int, gateway.Next) {
	for at := 0; ; {
		cut := s.up.have > 0 // this header began in an earlier chunk
		kind, body, start, ok, err := s.up.next(chunk, at)
		if err != nil {
			return 0, gateway.Break
		}
		if !ok {
			return len(chunk), gateway.GoOn
		}
		at = start
		switch kind {
		case 'Q', 'S', 'F':
			s.pending.Add(1)
			s.setUnsynced(false)
		case 'P', 'B', 'D', 'E', 'C':
			s.setUnsynced(true)
		case 'X':
			if !cut && body == 0 && !s.busy() {
				return start - 5, gateway.Release
			}
			return start, gateway.Leave
		}
	}
}

// fromBackend looks for ReadyForQuery and ParameterStatus.
func (s *session) fromBackend(chunk []byte) (border int, ok bool) {
	if s.wantZ {
		s.ready(chunk[0])
	}
	border = s.firstBorder(len(chunk))
	for at := 0; ; {
		kind, body, start, found, err := s.down.next(chunk, at)
		if err != nil {
			return border, false
		}
		if !found {
			return border, true
		}
		at = start
		end := uint64(start) + uint64(body)
		whole := end <= uint64(len(chunk))
		if whole {
			border = int(end)
		}
		s.lastKind = kind
		switch {
		case kind == 'Z' && start < len(chunk):
			s.ready(chunk[start])
		case kind == 'Z':
			s.wantZ = true
		case kind == 'S' && whole:
			s.b.setStatus(chunk[start:end])
		case kind == 'S':
			s.odd = true
		}
	}
}

// firstBorder returns the first offset in the next n bytes where a message
// ends, as far as the walker knows before it walks them.
func (s *session) firstBorder(n int) int {
	switch {
	case s.down.atBorder():
		return 0
	case s.down.have == 0 && s.down.skip <= uint32(n):
		return int(s.down.skip)
	}
	return -1
}

func (s *session) ready(status byte) {
	s.wantZ = false
	s.txStatus.Store(int32(status))
	s.pending.Add(-1)
}

func (s *session) lastWords(r gateway.Reason) []byte {
	if r == gateway.BackendLost && s.lastKind == 'E' {
		return nil // the backend has said why itself
	}
	return lastWords(r)
}

// setUnsynced avoids the write, which is dear, where nothing changes.
func (s *session) setUnsynced(v bool) {
	if s.unsynced.Load() != v {
		s.unsynced.Store(v)
	}
}

// busy reports whether the backend may have something to do.
func (s *session) busy() bool { return s.pending.Load() != 0 || s.unsynced.Load() }

// interrupt stops the running query of a session that was ended. One that is
// idle needs none: when thousands end together, that is thousands of
// connections to the server less.
func (s *session) interrupt() {
	if !s.busy() {
		return
	}
	if err := s.b.cancel(context.Background()); err != nil {
		s.g.log.Warn("cannot cancel the query of an ended session", "error", err)
	}
}

// finished keeps the backend for the next login or closes it.
func (s *session) finished(why gateway.Reason, clean bool) {
	s.g.unregister(s)
	if why == gateway.RightLost || why == gateway.Asked {
		s.g.recycling.Add(1)
		go s.g.endBackend(s.b) // ends by its own deadlines
		return
	}
	if !clean || s.odd || !s.down.atBorder() || !s.g.pool.Room(s.b) {
		s.b.Close()
		return
	}
	s.g.recycling.Add(1)
	go s.g.recycle(s.b, s.txStatus.Load() != 'I') // ends by resetWait
}

// endBackend sees to it that nothing a session began goes on in the server.
func (g *Gateway) endBackend(b *backend) {
	defer g.recycling.Done()
	if b.end() || g.terminate == nil {
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
	if err := g.terminate(ctx, b.id, b.user, uint64(b.pid)); err != nil {
		g.log.Warn("cannot end the server's process of an ended session", "server", b.id.Name(), "user", b.user, "pid", b.pid, "error", err)
	}
}

// recycle resets a connection and gives it to the pool.
func (g *Gateway) recycle(b *backend, inTransaction bool) {
	defer g.recycling.Done()
	b.mu.Lock() // waits for a cancel request that is on its way
	b.released = true
	b.mu.Unlock()
	if err := b.reset(inTransaction); err != nil {
		g.log.Debug("a backend connection is not reused", "error", err)
		b.Close()
		return
	}
	if !g.pool.Put(b) {
		b.Close()
	}
}

// register gives the session a cancel key of our own, so that the backend's
// stays here, and returns the greeting that tells the client.
func (g *Gateway) register(s *session, st *startup) []byte {
	size := 4 // protocol 3.0 has no other
	if 3<<16|st.minor >= version32 {
		size = 32 // PostgreSQL 18's MAX_CANCEL_KEY_LENGTH
	}
	s.secret = make([]byte, size)
	_, _ = rand.Read(s.secret)
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		s.pid = binary.BigEndian.Uint32(b[:]) >> 1 // clients keep it in a signed int
		if _, taken := g.keys[s.pid]; !taken && s.pid != 0 {
			break
		}
	}
	g.keys[s.pid] = s
	return greeting(s.b, s.pid, s.secret)
}

func (g *Gateway) unregister(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.keys, s.pid)
}

// cancel serves a cancel request: process id and key. Like PostgreSQL it
// answers nothing, right or wrong.
func (g *Gateway) cancel(ctx context.Context, body []byte) {
	if len(body) < 8 {
		g.Refused("cancel")
		return
	}
	pid, secret := binary.BigEndian.Uint32(body), body[4:]
	g.mu.Lock()
	s := g.keys[pid]
	g.mu.Unlock()
	if s == nil || subtle.ConstantTimeCompare(s.secret, secret) != 1 {
		g.Refused("cancel")
		return
	}
	if err := s.b.cancel(ctx); err != nil {
		g.log.Warn("cannot pass on a cancel request", "error", err)
	}
}
