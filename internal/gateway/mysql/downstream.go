package mysql

// peek is how much of a packet's beginning is looked at: an OK packet up to
// its status flags has 21 bytes.
const peek = 24

// downstream follows a backend's answers. What is not the answer to a command
// ends the session: the client could be asked for a file, or be told that of
// another command.
type downstream struct {
	s     *session
	short bool // rows end with an OK packet and columns with nothing: CLIENT_DEPRECATE_EOF

	head [headerSize + peek]byte // the beginning of a packet that was cut by a chunk's end
	have int                     // bytes of it
	skip int                     // bytes of the frame under way, still to come
	more bool                    // that frame is continued by the next
	seq  byte                    // its number

	state     state
	cmd       pending // that is being answered
	left      int     // packets until the next state
	failed    bool    // the last packet is an error
	borderSeq byte    // number of the last whole packet
	borderAt  state   // after it
}

// state is what the next packet is.
type state byte

const (
	idle       state = iota // nothing was asked, or the first of an answer
	begun                   // the first of a further result
	afterFile               // the first after the client has sent a file
	inColumns               // a column's description
	endColumns              // the end of those
	inRows                  // a row, or the end
	inPrepare               // a part of a statement's description
	inFields                // a column's description, or the end
)

// atBorder reports whether the last byte walked over ended a packet.
func (d *downstream) atBorder() bool { return d.skip == 0 && d.have == 0 && !d.more }

// walk is the pump's FromBackend.
func (d *downstream) walk(chunk []byte) (border int, ok bool) {
	border = -1
	if d.atBorder() {
		border = 0
	}
	for at := 0; at < len(chunk); {
		switch {
		case d.skip > 0:
			n := min(d.skip, len(chunk)-at)
			at, d.skip = at+n, d.skip-n
		case d.state == inRows && d.have == 0 && !d.more:
			if n := d.rows(chunk[at:]); n > 0 {
				at += n
				break
			}
			fallthrough
		default:
			head, n := d.begin(chunk[at:])
			if at += n; head == nil {
				return border, true
			}
			continued := d.more
			length := frameLength(head)
			d.seq, d.skip, d.more = head[3], length-(len(head)-headerSize), length == maxFrame
			if !continued && !d.packet(length, head[headerSize:]) {
				return border, false
			}
		}
		if d.skip == 0 && !d.more {
			border, d.borderSeq, d.borderAt = at, d.seq, d.state
		}
	}
	return border, true
}

// rows goes over whole rows, which is most of what servers say, and returns
// their length. It stops at anything else.
func (d *downstream) rows(b []byte) (at int) {
	for len(b)-at > headerSize {
		n := frameLength(b[at:])
		if mark := b[at+headerSize]; mark >= markEOF || n == 0 || n == maxFrame || at+headerSize+n > len(b) {
			return at
		}
		d.seq = b[at+3]
		at += headerSize + n
	}
	return at
}

// begin returns a frame's header and the beginning of its body, and how much
// of b that took. nil: more has to come.
func (d *downstream) begin(b []byte) (head []byte, n int) {
	if d.have == 0 && len(b) >= headerSize {
		if want := d.wanted(b); len(b) >= want {
			return b[:want], want
		}
	}
	for {
		want := headerSize
		if d.have >= headerSize {
			want = d.wanted(d.head[:])
		}
		if d.have >= want {
			d.have = 0
			return d.head[:want], n
		}
		c := copy(d.head[d.have:want], b[n:])
		if c == 0 {
			return nil, n
		}
		n, d.have = n+c, d.have+c
	}
}

func (d *downstream) wanted(head []byte) int {
	if d.more {
		return headerSize
	}
	return headerSize + min(peek, frameLength(head))
}

// packet takes the beginning of a packet and reports whether it may be there.
func (d *downstream) packet(length int, b []byte) bool {
	if length == 0 {
		return false
	}
	d.failed = b[0] == markError
	switch d.state {
	case idle:
		var asked bool
		if d.cmd, asked = d.s.current(); !asked {
			d.s.setOdd()
			return d.failed // it was killed, or waited too long, and says so
		}
		return d.first(length, b)
	case begun, afterFile:
		return d.result(length, b)
	case inColumns:
		if d.left--; d.left == 0 {
			d.state = endColumns
			if d.short {
				d.state = inRows
			}
		}
		return !d.failed || d.done()
	case endColumns:
		return d.endOfColumns(length, b)
	case inRows:
		return d.row(length, b)
	case inPrepare:
		if d.left--; d.left == 0 {
			return d.done()
		}
		return !d.failed || d.done()
	case inFields:
		if d.failed || d.isEnd(length, b) {
			return d.done()
		}
		return true
	}
	return false
}

// done takes the command off: its answer is whole.
func (d *downstream) done() bool {
	d.state = idle
	d.s.answered()
	return true
}

// first takes the first packet of a command's answer.
func (d *downstream) first(length int, b []byte) bool {
	switch d.cmd.answer {
	case answerOK:
		return (b[0] == markOK || b[0] == markEOF || d.failed) && d.done()
	case answerText:
		return d.done()
	case answerPrepare:
		return d.prepared(b)
	case answerRows:
		d.state = inRows
		return d.row(length, b)
	case answerFields:
		d.state = inFields
		return d.packet(length, b)
	}
	return d.result(length, b)
}

// result takes the first packet of a result.
func (d *downstream) result(length int, b []byte) bool {
	switch b[0] {
	case markError:
		return d.done()
	case markOK:
		return d.ended(b)
	case markLocal:
		d.state = afterFile
		return d.cmd.local && d.s.expectFile()
	}
	f := fields{b: b}
	n := f.lenenc()
	if f.bad || n == 0 || n > 1<<16 || len(f.b) != 0 || length > peek {
		return false
	}
	d.state, d.left = inColumns, int(n)
	return true
}

// ended takes an OK packet: more results may follow.
func (d *downstream) ended(b []byte) bool {
	status, ok := okStatus(b)
	if !ok {
		return false
	}
	if status&statusMoreResults != 0 {
		d.state = begun
		return true
	}
	return d.done()
}

// isEnd reports whether a packet ends rows. A row may begin like it, with a
// value of 16 MiB or more.
func (d *downstream) isEnd(length int, b []byte) bool {
	if d.short {
		return b[0] == markEOF && length < maxFrame
	}
	return b[0] == markEOF && length < 9
}

// eofStatus reads the status flags of an EOF packet.
func (d *downstream) eofStatus(b []byte) (status uint16, ok bool) {
	f := fields{b: b}
	f.bytes(3) // mark and warnings
	status = f.uint16()
	return status, !f.bad
}

func (d *downstream) endOfColumns(length int, b []byte) bool {
	if d.failed {
		return d.done()
	}
	status, ok := d.eofStatus(b)
	if !ok || !d.isEnd(length, b) {
		return false
	}
	if status&statusCursor != 0 { // the rows are fetched later
		return d.done()
	}
	d.state = inRows
	return true
}

func (d *downstream) row(length int, b []byte) bool {
	switch {
	case d.failed:
		return d.done()
	case !d.isEnd(length, b):
		return true
	case d.short:
		return d.ended(b)
	}
	status, ok := d.eofStatus(b)
	if !ok {
		return false
	}
	if status&statusMoreResults != 0 {
		d.state = begun
		return true
	}
	return d.done()
}

// prepared takes COM_STMT_PREPARE_OK: parameters and columns follow, each kind
// with an end.
func (d *downstream) prepared(b []byte) bool {
	if d.failed {
		return d.done()
	}
	f := fields{b: b}
	mark := f.uint8()
	f.uint32() // the statement's id
	columns, parameters := int(f.uint16()), int(f.uint16())
	if f.bad || mark != markOK {
		return false
	}
	d.left = columns + parameters
	if !d.short {
		d.left += min(columns, 1) + min(parameters, 1)
	}
	if d.left == 0 {
		return d.done()
	}
	d.state = inPrepare
	return true
}
