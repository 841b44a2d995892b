package redis

import (
	"bytes"
	"errors"
)

// heldLine bounds a line that is held back until its end has come: all that
// the gateway looks for is shorter.
const heldLine = 512

// streamed is the count of values of an aggregate whose end is marked.
const streamed = 1 << 62

// maxStreams bounds aggregates with a marked end within each other; Redis
// sends none.
const maxStreams = 32

var errReply = errors.New("the server's answer is not of the Redis protocol")

// event is why a replyWalker stopped.
type event int

const (
	allRead    event = iota
	half             // the rest of the chunk is the beginning of something: walk it again with what follows
	wholeLine        // an error (or, if each was asked for, a simple string) that is a reply of its own
	wholeReply       // another reply, if each was asked for
)

// replyWalker follows the borders of replies in what a server sends, RESP2 and
// RESP3, without looking at values. How deep they are nested costs nothing:
// what counts is how many values are still to come.
type replyWalker struct {
	pending int64   // values of the reply under way still to come; 0 at a border
	skip    uint64  // bytes of the value under way and its CRLF
	line    bool    // within a line,
	cr      bool    // of which the last byte was CR
	chunk   bool    // the bytes to skip are a part of a string
	streams []int64 // pending around each aggregate whose end is marked

	kind    byte   // of the reply under way or last seen
	start   int    // where it began in the chunk, 0 if in an earlier one
	border  int    // the last border in the chunk, -1 for none
	replies uint64 // so far, pushes not counted
}

func (w *replyWalker) atBorder() bool { return w.pending == 0 }

// begin starts a chunk.
func (w *replyWalker) begin() {
	w.start, w.border = 0, -1
	if w.atBorder() {
		w.border = 0
	}
}

// walk goes through b[at:] until there is something to look at; each says that
// every reply is.
func (w *replyWalker) walk(b []byte, at int, each bool) (int, event, error) {
	for at < len(b) {
		switch {
		case w.skip > 0:
			left := uint64(len(b) - at)
			if w.skip > left {
				w.skip -= left
				return len(b), allRead, nil
			}
			at += int(w.skip)
			w.skip = 0
			if b[at-1] != '\n' {
				return at, allRead, errReply
			}
			if w.chunk {
				w.chunk = false
				continue
			}
			w.value(at)
		case w.line:
			end := bytes.IndexByte(b[at:], '\n')
			if end < 0 {
				w.cr = b[len(b)-1] == '\r'
				return len(b), allRead, nil
			}
			if end > 0 {
				w.cr = b[at+end-1] == '\r'
			}
			if !w.cr {
				return at, allRead, errReply
			}
			at += end + 1
			w.line, w.cr = false, false
			w.value(at)
		default:
			next, ev, err := w.head(b, at, each)
			if err != nil || ev != allRead {
				return next, ev, err
			}
			at = next
		}
		if each && w.pending == 0 {
			return at, wholeReply, nil
		}
	}
	return at, allRead, nil
}

// value counts one value that ended at an offset.
func (w *replyWalker) value(at int) {
	if w.pending--; w.pending == 0 {
		w.border = at
		if w.kind != '>' {
			w.replies++
		}
	}
}

// head reads what begins a value at b[at:].
func (w *replyWalker) head(b []byte, at int, each bool) (next int, ev event, err error) {
	top := w.pending == 0
	if top {
		w.pending, w.kind, w.start = 1, b[at], at
	}
	switch b[at] {
	case '+', '-', ':', ',', '(', '#', '_':
		if top && (b[at] == '-' || each && b[at] == '+') {
			return w.topLine(b, at)
		}
		w.line = true
		return at + 1, allRead, nil
	case '$', '=', '!', '*', '~', '>', '%', '|', ';':
		next, err = w.sized(b, at)
	case '.':
		next, err = w.endStream(b, at)
	default:
		return at, allRead, errReply
	}
	if err == nil && next == 0 {
		if top {
			w.pending = 0
		}
		return at, half, nil
	}
	return next, allRead, err
}

// topLine reads a line that is a reply, whole or, if it is too long to matter,
// without looking.
func (w *replyWalker) topLine(b []byte, at int) (int, event, error) {
	end := bytes.IndexByte(b[at:min(len(b), at+heldLine)], '\n')
	if end < 0 {
		if len(b)-at < heldLine {
			w.pending = 0
			return at, half, nil
		}
		w.line = true
		return at + 1, allRead, nil
	}
	if b[at+end-1] != '\r' { // the kind's byte, at the least, comes before
		return at, allRead, errReply
	}
	at += end + 1
	w.value(at)
	return at, wholeLine, nil
}

// sized reads a head with a number; next is 0 when bytes are missing.
func (w *replyWalker) sized(b []byte, at int) (next int, err error) {
	kind := b[at]
	if at+1 < len(b) && b[at+1] == '?' {
		return w.beginStream(b, at)
	}
	n, next, err := number(b, at+1)
	switch {
	case err != nil || n < -1:
		return at, errReply
	case next == 0:
		return 0, nil
	case n == -1 && (kind == '$' || kind == '*'): // nil in RESP2
		w.value(next)
		return next, nil
	case n == -1:
		return at, errReply
	}
	switch kind {
	case '$', '=', '!':
		w.skip = uint64(n) + 2
	case ';':
		return next, w.part(n, next)
	default:
		err = w.aggregate(kind, n, next)
	}
	return next, err
}

// aggregate counts the values of an array, set, map, push or attribute.
func (w *replyWalker) aggregate(kind byte, n int64, at int) error {
	if n > 1<<40 || w.pending > streamed+1<<60 {
		return errReply
	}
	if kind == '%' || kind == '|' {
		n *= 2
	}
	w.pending += n
	if kind != '|' { // what an attribute is about is still to come
		w.value(at)
	}
	return nil
}

// beginStream reads the head of something whose end is marked.
func (w *replyWalker) beginStream(b []byte, at int) (int, error) {
	if at+4 > len(b) {
		return 0, nil
	}
	if b[at+2] != '\r' || b[at+3] != '\n' || len(w.streams) == maxStreams {
		return at, errReply
	}
	switch b[at] {
	case '$':
		w.streams = append(w.streams, -1) // its parts follow
	case '*', '~', '%':
		w.streams = append(w.streams, w.pending)
		w.pending = streamed
	default:
		return at, errReply
	}
	return at + 4, nil
}

// part reads the head of a part of a string; an empty one is the last.
func (w *replyWalker) part(n int64, at int) error {
	top := len(w.streams) - 1
	if top < 0 || w.streams[top] != -1 {
		return errReply
	}
	if n > 0 {
		w.skip, w.chunk = uint64(n)+2, true
		return nil
	}
	w.streams = w.streams[:top]
	w.value(at)
	return nil
}

// endStream reads the mark at the end of an aggregate.
func (w *replyWalker) endStream(b []byte, at int) (int, error) {
	if at+3 > len(b) {
		return 0, nil
	}
	top := len(w.streams) - 1
	if top < 0 || w.streams[top] == -1 || b[at+1] != '\r' || b[at+2] != '\n' {
		return at, errReply
	}
	w.pending, w.streams = w.streams[top], w.streams[:top]
	w.value(at + 3)
	return at + 3, nil
}
