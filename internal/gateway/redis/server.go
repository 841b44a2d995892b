package redis

import (
	"bytes"
	"errors"
	"net"
)

// maxRenamed bounds a reply that is held to name nodes in it: as maxGreeting.
const maxRenamed = maxGreeting

// server is the session's view of what the backend says.
type server struct {
	down    replyWalker
	cutOff  []byte // the cut-off end of a chunk
	ready   []byte // changed, and not yet read by the pump
	border  int    // the last one in what the pump has just read, -1 for none
	readyAt int    // the last one in ready
	stage   stage
	resumed chan struct{} // closed when RESET is done with
	naming  bool          // the next reply names nodes
	named   []byte        // that reply, as far as it has come
	failed  error         // what was found wrong behind what is ready
}

// stage is how far a RESET has come.
type stage uint8

const (
	steady    stage = iota
	wantReset       // the answer to RESET is to come
	wantOK          // the answer to our AUTH is to come
)

// errLogin says that the backend is no more, or not as we need it.
var errLogin = errors.New("the server did not take the connection back after RESET")

// readBackend reads from the backend, and changes what is to be changed.
func (s *session) readBackend(c net.Conn, p []byte) (int, error) {
	for {
		if len(s.ready) > 0 {
			return s.takeReady(p), nil
		}
		if s.failed != nil {
			return 0, s.failed
		}
		at := copy(p, s.cutOff)
		n, err := c.Read(p[at:])
		if n == 0 {
			return 0, err
		}
		s.cutOff = s.cutOff[:0]
		n, werr := s.look(p[:at+n])
		if werr != nil {
			s.failed = werr
		}
		if n > 0 {
			return n, err
		}
	}
}

func (s *session) takeReady(p []byte) int {
	n := copy(p, s.ready)
	s.border = -1
	if s.readyAt <= n {
		s.border = s.readyAt
	}
	s.readyAt -= n
	if s.ready = s.ready[n:]; len(s.ready) == 0 {
		s.ready = nil
	}
	return n
}

// fromBackend says where the last border is in what the pump has just read.
func (s *session) fromBackend([]byte) (border int, ok bool) { return s.border, true }

// change is a chunk being changed.
type change struct {
	b       []byte
	from    int // what begins here has not been copied
	out     []byte
	changed bool
}

// put puts something in the place of b[start:end].
func (c *change) put(start, end int, instead []byte) {
	c.out = append(append(c.out, c.b[c.from:start]...), instead...)
	c.from, c.changed = end, true
}

// look walks over a chunk. It returns how much of it may be read as it is; if
// something was changed, that is nothing, and the new bytes are in s.ready.
func (s *session) look(b []byte) (int, error) {
	c := change{b: b}
	s.down.begin()
	at, ev := 0, allRead
	var err error
	for err == nil {
		at, ev, err = s.down.walk(b, at, s.naming || s.stage != steady)
		if err != nil || ev == allRead || ev == half {
			break
		}
		if ev == wholeLine {
			err = s.takeLine(&c, b[s.down.start:at], at)
		} else {
			err = s.takeReply(&c, at)
		}
		if at == len(b) {
			break
		}
	}
	if s.naming && !s.down.atBorder() && s.down.kind != '>' && err == nil {
		s.collect(&c, at)
	}
	if ev == half {
		s.cutOff = append(s.cutOff[:0], b[at:]...)
	} else if err == nil {
		at = len(b)
	}
	if !c.changed {
		s.border = s.down.border
		return at, err
	}
	s.readyAt = len(c.out)
	if s.down.border >= c.from {
		s.readyAt += s.down.border - c.from
	} else if len(c.out) == 0 {
		s.readyAt = 0
	}
	s.ready = append(c.out, b[c.from:at]...)
	return 0, err
}

// takeLine looks at an error, or at any line where all replies are looked at.
func (s *session) takeLine(c *change, line []byte, end int) error {
	start := end - len(line)
	if n, ok := s.b.marked(line); ok && line[0] == '-' {
		s.down.replies--
		return s.takeMark(c, n, start, end)
	}
	switch {
	case s.stage == wantReset:
		if string(line) != "+RESET\r\n" {
			return errLogin
		}
		s.stage = wantOK
	case s.stage == wantOK:
		if string(line) != "+OK\r\n" {
			return errLogin
		}
		s.down.replies--
		c.put(start, end, nil)
		s.stage = steady
		close(s.resumed)
	default:
		s.naming = false
		if instead := s.redirected(line); instead != nil {
			c.put(start, end, instead)
		}
	}
	return nil
}

// takeMark does what the marker of a number was for. Older ones got no answer,
// because the client wanted none.
func (s *session) takeMark(c *change, n uint64, start, end int) error {
	s.mu.Lock()
	i := 0
	for i < len(s.marks) && s.marks[i].n < n {
		i++
	}
	if i == len(s.marks) || s.marks[i].n != n {
		s.mu.Unlock()
		return errReply
	}
	m := s.marks[i]
	if s.marks = s.marks[i+1:]; len(s.marks) == 0 {
		s.marks = nil
	}
	s.mu.Unlock()
	c.put(start, end, m.reply)
	s.naming = false
	switch m.what {
	case replace:
		s.down.replies++
	case renew:
		s.stage, s.resumed = wantReset, m.done
	case rename:
		s.naming = true
	}
	return nil
}

// takeReply looks at a whole reply that is no error.
func (s *session) takeReply(c *change, end int) error {
	switch {
	case s.stage == wantOK:
		return errLogin // after RESET nothing comes unasked
	case s.naming && s.down.kind != '>':
		s.collect(c, end)
		c.out = s.rename(c.out, s.named)
		s.naming, s.named = false, nil
	}
	return nil
}

// collect keeps the part of a reply that has come, up to an offset.
func (s *session) collect(c *change, end int) {
	start := max(s.down.start, c.from)
	s.named = append(s.named, c.b[start:end]...)
	c.put(start, end, nil)
	if len(s.named) > maxRenamed { // too long to name nodes: let it pass
		c.out = append(c.out, s.named...)
		s.naming, s.named = false, nil
	}
}

// isRedirection reports whether an error sends the client to another node.
func isRedirection(line []byte) bool {
	return bytes.HasPrefix(line, []byte("-MOVED ")) || bytes.HasPrefix(line, []byte("-ASK "))
}
