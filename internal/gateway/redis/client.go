package redis

// longestName is the length of the longest name in actions; longer commands
// pass without their names being looked at.
const longestName = 14

// tailSize bounds what a clientWalker leaves for the next chunk: the head of a
// command, which is a count, a length and a name.
const tailSize = 64

// found is why a clientWalker stopped.
type found int

const (
	nothing found = iota // all of the chunk may pass
	cut                  // the rest of the chunk is the beginning of something: walk it again with what follows
	ours                 // at the offset begins a command that the gateway must read
	broken               // what is at the offset is no command
)

// clientWalker follows the borders of commands in what a client sends,
// without looking at arguments.
type clientWalker struct {
	gated bool   // every command is ours
	args  uint64 // of the command under way, still to come
	skip  uint64 // bytes of the argument under way and its CRLF

	commands uint64 // that began so far
	multi    bool   // between MULTI and EXEC
	odd      bool   // there was a command whose replies are more or fewer than one
	why      errProtocol
}

// walk goes from chunk[at:] as far as bytes may pass unread.
func (w *clientWalker) walk(b []byte, at int) (int, found) {
	for at < len(b) {
		switch {
		case w.skip > 0:
			left := uint64(len(b) - at)
			if w.skip > left {
				w.skip -= left
				return len(b), nothing
			}
			at += int(w.skip)
			w.skip = 0
			if b[at-1] != '\n' { // Redis would not look
				w.why = noNewline
				return at, broken
			}
		case w.args > 0:
			size, start, err := argument(b, at)
			if err != "" {
				w.why = err
				return at, broken
			}
			if start == 0 {
				return at, cut
			}
			at, w.skip = start, uint64(size)+2
			w.args--
		default:
			next, f := w.command(b, at)
			if f != nothing {
				return next, f
			}
			at = next
		}
	}
	return at, nothing
}

// argument reads the head of an argument; start is 0 when bytes are missing.
func argument(b []byte, at int) (size int64, start int, bad errProtocol) {
	if at >= len(b) {
		return 0, 0, ""
	}
	if b[at] != '$' {
		return 0, 0, noDollar
	}
	size, start, err := number(b, at+1)
	if err != nil || size < 0 || size > maxBulk {
		return 0, 0, badBulk
	}
	return size, start, ""
}

// command reads the head of a command at b[at:].
func (w *clientWalker) command(b []byte, at int) (int, found) {
	if w.gated || b[at] != '*' {
		return at, ours
	}
	count, next, err := number(b, at+1)
	switch {
	case err != nil || count > maxArgs:
		w.why = badCount
		return at, broken
	case next == 0:
		return at, cut
	case count <= 0:
		return next, nothing // Redis answers nothing
	}
	size, start, bad := argument(b, next)
	if bad != "" {
		w.why = bad
		return at, broken
	}
	if start == 0 {
		return at, cut
	}
	if size <= longestName {
		end := start + int(size)
		if end > len(b) {
			return at, cut
		}
		if act := actionOf(b[start:end]); act != pass {
			if act.ours() {
				return at, ours
			}
			w.note(act, int(count))
		}
	}
	w.commands++
	w.args, w.skip = uint64(count)-1, uint64(size)+2
	return start, nothing
}

// note keeps what a passing command changes.
func (w *clientWalker) note(act action, args int) {
	switch {
	case act == subscribe:
		w.odd = true
	case args != 1:
	case act == multi:
		w.multi = true
	case act == exec:
		w.multi = false
	}
}
