package mysql

import (
	"context"
	"net"

	"github.com/hawser/hawser/internal/gateway"
)

// upstream is the client's connection as the copy reads it: it finds the
// commands, notes them, and puts others in the place of some. Bytes that pass
// as they are, nearly all, stay where the copy has read them to; the others,
// and a header that is cut by a read's end, go through held and out. No byte
// of a command leaves before the command is known.
type upstream struct {
	net.Conn
	s   *session
	ask func(context.Context, string) (instead string, ok bool) // nil: no statement is looked at

	skip  uint32 // of the frame under way, still to pass
	more  bool   // the frame under way is continued by the next
	drop  bool   // it is not to pass
	held  []byte // the beginning of a frame: its header, or a whole command
	files files  // what was said of files
	want  int    // length of the whole command that is gathered; 0 for none
	out   []byte // to be passed on before more is read

	end  verdict // why nothing more is read
	left int     // bytes to be passed on before that
}

// verdict is why a client's stream ends.
type verdict byte

const (
	goesOn verdict = iota
	quits
	breaks
)

// NetConn returns what is below, for those who need the socket.
func (u *upstream) NetConn() net.Conn { return u.Conn }

// Read waits only when nothing is left to be passed on.
func (u *upstream) Read(p []byte) (int, error) {
	for len(u.out) == 0 {
		n, err := u.Conn.Read(p)
		if n := u.walk(p[:n]); n > 0 {
			return n, nil // an error comes again
		}
		if len(u.out) == 0 && err != nil {
			return 0, err
		}
	}
	n := copy(p, u.out)
	if u.out = u.out[n:]; len(u.out) == 0 {
		u.out = nil
	}
	return n, nil
}

// judge says how much of a chunk that Read returned passes, and what is next.
func (u *upstream) judge(chunk []byte) (pass int, next gateway.Next) {
	switch {
	case u.end == goesOn:
		return len(chunk), gateway.GoOn
	case u.left >= len(chunk):
		u.left -= len(chunk)
		return len(chunk), gateway.GoOn
	case u.end == breaks:
		return u.left, gateway.Break
	case u.s.busy():
		return u.left, gateway.Leave // closing says the goodbye
	}
	return u.left, gateway.Release
}

// stop ends the stream; before are the bytes in front of the packet that does.
func (u *upstream) stop(why verdict, before int) { u.end, u.left = why, before }

// walk goes over what was read and returns how much of it passes as it is;
// what follows that is in held or out.
func (u *upstream) walk(b []byte) int {
	if len(u.held) > 0 || u.drop {
		u.absorb(b)
		return 0
	}
	for at := 0; at < len(b); {
		if u.skip > 0 {
			n := min(int(u.skip), len(b)-at)
			u.files.look(u.s, b[at:at+n])
			at, u.skip = at+n, u.skip-uint32(n)
			continue
		}
		head := b[at:]
		if len(head) < headerSize || len(head) == headerSize && u.hasCommand(head) {
			u.absorb(head)
			return at
		}
		switch u.meet(head) {
		case passes:
			u.begin(head, false)
			at += headerSize
		case isLast:
			u.stop(u.end, at)
			return len(b)
		default:
			u.absorb(head)
			return at
		}
	}
	return len(b)
}

// hasCommand reports whether a frame with this header begins with a byte that
// has to be seen.
func (u *upstream) hasCommand(head []byte) bool { return !u.more && frameLength(head) > 0 }

// begin starts to pass a frame whose header has been dealt with.
func (u *upstream) begin(head []byte, drop bool) {
	n := frameLength(head)
	u.skip, u.more = uint32(n), n == maxFrame
	u.drop = drop && (u.skip > 0 || u.more)
}

// absorb is walk for what cannot stay where it is.
func (u *upstream) absorb(b []byte) {
	for len(b) > 0 && u.end == goesOn {
		if u.skip > 0 {
			n := min(int(u.skip), len(b))
			u.files.look(u.s, b[:n])
			if !u.drop {
				u.out = append(u.out, b[:n]...)
			}
			b, u.skip = b[n:], u.skip-uint32(n)
			u.drop = u.drop && (u.skip > 0 || u.more)
			continue
		}
		want := headerSize
		switch {
		case u.want > 0:
			want = u.want
		case len(u.held) >= headerSize && u.hasCommand(u.held):
			want++
		}
		n := min(want-len(u.held), len(b))
		u.held, b = append(u.held, b[:n]...), b[n:]
		if len(u.held) == want && (want > headerSize || !u.hasCommand(u.held)) {
			u.gathered()
		}
	}
}

// gathered deals with what is held: a whole command, or as much of a frame as
// tells what it is.
func (u *upstream) gathered() {
	held := u.held
	if u.want > 0 {
		u.want, u.held = 0, nil
		u.examine(held)
		return
	}
	switch u.meet(held) {
	case passes:
		if !u.drop {
			u.out = append(u.out, held...)
		}
		u.begin(held, u.drop)
		u.skip -= uint32(len(held) - headerSize)
		u.held = u.held[:0]
	case isLast:
		u.stop(u.end, len(u.out))
		u.out = append(u.out, held...)
	case isRefused:
		u.instead(refused(held[headerSize]))
		u.begin(held, true)
		u.skip -= uint32(len(held) - headerSize)
		u.drop = u.skip > 0 || u.more
		u.held = u.held[:0]
	case isWanted:
		u.want = headerSize + frameLength(held)
		if len(held) == u.want {
			u.gathered()
		}
	}
}

// fate is what becomes of a frame.
type fate byte

const (
	passes    fate = iota
	isLast         // nothing of it passes, and nothing after it is read
	isRefused      // the client is told that it is not served
	isWanted       // all of it has to be seen
)

// meet looks at the beginning of a frame: its header, its first byte if it has
// one, and whatever of it was read too.
func (u *upstream) meet(b []byte) fate {
	length, seq := frameLength(b), b[3]
	if u.more { // of the same command, or of the same piece of a file
		u.s.continued(seq)
		return passes
	}
	if u.s.inFile(seq, length) {
		return passes
	}
	if seq != 0 || length == 0 {
		u.end = breaks
		return isLast
	}
	u.files.looking = false
	command, p := b[headerSize], pending{}
	text := b[headerSize+1 : min(len(b), headerSize+length)]
	switch p.answer = answers[command]; {
	case command == comQuit:
		if u.end = quits; length > 1 {
			u.end = breaks
		}
		return isLast
	case p.answer == unserved, command == comProcessKill && length > maxKill:
		return isRefused
	case u.wants(command, length, text):
		return isWanted
	case command == comSetOption:
		u.s.setOdd() // a reset leaves it
	}
	p.local = u.s.local && u.files.mayLoad(command, text, len(text) == length-1)
	if !u.s.push(p) {
		u.end = breaks
		return isLast
	}
	return passes
}

// wants reports whether a command has to be seen whole.
func (u *upstream) wants(command byte, length int, text []byte) bool {
	switch command {
	case comProcessKill:
		return length <= maxKill
	case comQuery:
		return u.ask != nil && length <= maxStatement || length <= maxKill && (len(text) < length-1 || mayKill(text))
	case comStmtPrepare:
		return u.ask != nil && length <= maxStatement
	}
	return false
}

// examine passes a whole command, or another in its place.
func (u *upstream) examine(packet []byte) {
	command, text := packet[headerSize], packet[headerSize+1:]
	if command == comProcessKill || command == comQuery && mayKill(text) {
		var because *refusal
		if packet, because = u.s.kill(packet); because != nil {
			u.instead(because)
			return
		}
	} else if u.ask != nil {
		packet = u.consult(packet)
	}
	p := pending{answer: answers[command], local: u.s.local && u.files.mayLoad(command, text, true)}
	if !u.s.push(p) {
		u.stop(breaks, len(u.out))
	}
	u.out = append(u.out, packet...)
}

// instead has the server tell the client that a command was refused, which
// keeps the order of the answers: SIGNAL is an error and no more.
func (u *upstream) instead(r *refusal) {
	if !u.s.push(pending{answer: answerResults}) {
		u.stop(breaks, len(u.out))
	}
	u.out = appendPacket(u.out, 0, append([]byte{comQuery}, r.signal()...))
}
