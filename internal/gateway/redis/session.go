package redis

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/gateway"
)

// maxMarks bounds the answers of ours that wait for their turn: a client gets
// there only by sending as many without reading.
const maxMarks = 4096

// session is a logged-in client.
type session struct {
	g    *Gateway
	b    *backend
	info gateway.Session // as it began
	pump gateway.Pump
	host string // by which the client reaches the gateway
	t    *topology

	ctx    context.Context // ends with the session: bounds what is asked about it
	cancel context.CancelFunc

	// The client's goroutine only.
	head     []byte         // what was read with the login and is still to be walked
	tail     [tailSize]byte // the cut-off end of a chunk,
	tailSize int            // so many bytes
	up       clientWalker
	held     []byte        // the beginning of a command of ours
	out      []byte        // in the place of the chunk under way,
	swap     bool          // if this is set
	failures int           // tokens that were no use
	muted    bool          // there was a CLIENT REPLY OFF or SKIP
	left     bool          // the client said QUIT
	last     uint64        // the newest mark's number
	counted  uint64        // of up.commands, those in asked
	back     chan struct{} // of the last RESET: closed when the backend is logged in again

	asked atomic.Uint64 // commands that will be answered
	odd   atomic.Bool   // they can't be counted

	mu       sync.Mutex // guards all below
	marks    []mark     // in the order of their numbers
	expires  time.Time
	timer    *time.Timer
	finished bool

	server // the backend's goroutine only
}

// mark is what becomes of the answer to a marker.
type mark struct {
	n     uint64
	what  marking
	reply []byte
	done  chan struct{} // of renew: closed when the backend is logged in again
}

type marking uint8

const (
	replace marking = iota // our reply goes to the client instead
	renew                  // nothing goes; the replies to RESET and to our AUTH follow
	rename                 // nothing goes; in the next reply nodes are named
)

func newSession(l *login, info gateway.Session, b *backend, head []byte) *session {
	s := &session{g: l.g, b: b, info: info, head: head, host: l.reachedAs(), t: l.g.topologyOf(info.Grant.Server), expires: info.Who.Expires}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.pump = gateway.Pump{Client: &clientSide{l.conn, s}, Backend: &backendSide{b.conn, s}, Hooks: gateway.Hooks{
		FromClient: s.fromClient, FromBackend: s.fromBackend, LastWords: s.lastWords, Interrupt: s.cancel, Finished: s.end}}
	return s
}

// begin starts the copy of an admitted session, and the clock of its token.
func (s *session) begin() {
	s.mu.Lock()
	s.timer = time.AfterFunc(s.expires.Sub(s.g.clock()), s.expire) // ends with the session
	s.mu.Unlock()
	s.g.mu.Lock()
	s.g.mine[connection{s.b.addr, s.b.id}] = s
	s.g.timed[s] = struct{}{}
	s.g.mu.Unlock()
	s.g.Start(&s.pump)
}

// expire ends the session if its token has: the timer knows the system's clock
// only.
func (s *session) expire() {
	s.mu.Lock()
	left := s.expires.Sub(s.g.clock())
	if left > 0 && !s.finished {
		s.timer.Reset(left)
	}
	s.mu.Unlock()
	if left <= 0 {
		s.g.End(s.info.ID, gateway.Expired)
	}
}

// until sets when the session ends unless there is a newer token.
func (s *session) until(end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires = end
	if !s.finished {
		s.timer.Reset(end.Sub(s.g.clock()))
	}
}

// end is the session's last act.
func (s *session) end(why gateway.Reason, _ bool) {
	s.cancel()
	s.mu.Lock()
	s.finished = true
	s.timer.Stop()
	s.mu.Unlock()
	key := connection{s.b.addr, s.b.id}
	s.g.mu.Lock()
	if s.g.mine[key] == s {
		delete(s.g.mine, key)
	}
	delete(s.g.timed, s)
	s.g.mu.Unlock()
	if why == gateway.ClientLeft || why == gateway.BackendLost || s.g.terminate == nil {
		s.b.close() // Redis lets go of a closed connection, also of one that waits
		return
	}
	s.g.work.Add(1)
	go s.g.endBackend(s.b, s.info.Grant) // ends by its own deadlines
}

// endBackend sees to it that a connection whose session was ended is ended in
// the server too.
func (g *Gateway) endBackend(b *backend, grant gateway.Grant) {
	defer g.work.Done()
	if b.end() || b.id == 0 {
		return
	}
	select {
	case g.ending <- struct{}{}:
	case <-g.ctx.Done():
		return
	}
	defer func() { <-g.ending }()
	if g.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, terminateWait)
	defer cancel()
	if err := g.terminate(ctx, grant.Server, grant.User, b.id); err != nil {
		g.log.Warn("cannot end the server's connection of an ended session", "server", grant.Server.Name(), "user", grant.User, "id", b.id, "error", err)
	}
}

// lastWords answers the command that waits, if one does: a client that waits
// for nothing would take an error for the answer to its next command, or fail
// on an answer to none.
func (s *session) lastWords(r gateway.Reason) []byte {
	if r == gateway.BadProtocol {
		return errorReply("ERR " + s.up.why.Error())
	}
	text := lastWords(r)
	if text == "" || s.odd.Load() || s.asked.Load() <= s.down.replies {
		return nil
	}
	return errorReply(text)
}

// clientSide puts what was left of the last chunk before the next one.
type clientSide struct {
	net.Conn
	s *session
}

// NetConn returns what is below, for those who need the socket.
func (c *clientSide) NetConn() net.Conn { return c.Conn }

// Read reads from the client.
func (c *clientSide) Read(p []byte) (int, error) {
	s := c.s
	at := copy(p, s.tail[:s.tailSize])
	var n int
	var err error
	if len(s.head) > 0 {
		n = copy(p[at:], s.head)
		if s.head = s.head[n:]; len(s.head) == 0 {
			s.head = nil
		}
	} else if n, err = c.Conn.Read(p[at:]); n == 0 {
		return 0, err
	}
	s.tailSize = 0
	return at + n, err
}

// backendSide changes what passes, where there is something to change.
type backendSide struct {
	net.Conn
	s *session
}

// NetConn returns what is below, for those who need the socket.
func (b *backendSide) NetConn() net.Conn { return b.Conn }

// CloseWrite passes a half-close on.
func (b *backendSide) CloseWrite() error {
	if w, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return net.ErrClosed
}

// Write writes a chunk that fromClient has seen, or what it put in its place.
func (b *backendSide) Write(p []byte) (int, error) {
	s := b.s
	if !s.swap {
		return b.Conn.Write(p)
	}
	s.swap = false
	err := s.flush()
	s.out = nil
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read reads from the backend.
func (b *backendSide) Read(p []byte) (int, error) { return b.s.readBackend(b.Conn, p) }
