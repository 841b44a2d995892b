package proxy

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
)

// Limits of what a program sends. Source: Redis, server.h and networking.c.
const (
	respMaxLine    = 64 << 10 // PROTO_INLINE_MAX_SIZE
	respMaxArgs    = 1 << 20
	respMaxBulk    = 512 << 20 // proto-max-bulk-len
	respMaxCapture = 64 << 10  // of a command that is read whole: logins
	respNameMax    = 16        // no command that is looked at has a longer name
	respMaxHeader  = 32        // of a length's line
	respMaxReplies = 1 << 32   // elements of one reply
)

// errHTTP ends a connection that speaks HTTP, as Redis does: a browser of this
// user's may connect, and the page in it says what comes after the headers.
var errHTTP = errors.New("the bytes are a request of HTTP")

var errResp = errors.New("the bytes are no Redis commands")

// commands follows the borders of a program's commands.
type commands struct {
	args int    // arguments of the command under way that are still to come
	skip int    // bytes of the argument under way, with its line end
	held []byte // a beginning that could not be read yet
}

// border reports whether the server has seen whole commands only.
func (c *commands) border() bool { return c.args == 0 && c.skip == 0 }

// walk returns what is to be sent of the bytes kept and the ones given; at is
// called for each command.
func (c *commands) walk(p []byte, at func(name string, args []string) ([]byte, error)) ([]byte, error) {
	data := p
	if len(c.held) > 0 {
		data = append(c.held, p...)
		c.held = nil
	}
	var out []byte // made when something is not sent as it is
	start, pos := 0, 0
	for pos < len(data) {
		switch {
		case c.skip > 0:
			n := min(c.skip, len(data)-pos)
			pos += n
			if c.skip -= n; c.skip == 0 {
				c.args--
			}
			continue
		case c.args > 0:
			n, size, err := respLength(data[pos:], '$', respMaxBulk)
			if err != nil {
				return append(out, data[start:pos]...), err
			}
			if size == 0 {
				return c.hold(out, data, start, pos), nil
			}
			pos, c.skip = pos+size, n+2
			continue
		}
		n, name, args, err := c.next(data[pos:])
		if err != nil {
			return append(out, data[start:pos]...), err
		}
		if n == 0 {
			return c.hold(out, data, start, pos), nil
		}
		instead, err := at(name, args)
		if err != nil {
			return append(out, data[start:pos]...), err
		}
		if instead != nil {
			out = append(append(out, data[start:pos]...), instead...)
			start = pos + n
		}
		pos += n
	}
	if start == 0 {
		return data, nil
	}
	return append(out, data[start:]...), nil
}

func (c *commands) hold(out, data []byte, start, pos int) []byte {
	c.held = bytes.Clone(data[pos:])
	return append(out, data[start:pos]...)
}

// next reads the beginning of a command up to its name, or all of one that is
// wanted whole. n is 0 if there is too little of it.
func (c *commands) next(b []byte) (n int, name string, args []string, err error) {
	if b[0] != '*' {
		return nextInline(b)
	}
	count, n, err := respLength(b, '*', respMaxArgs)
	if err != nil || n == 0 || count <= 0 {
		return n, "", nil, err
	}
	size, head, err := respLength(b[n:], '$', respMaxBulk)
	if err != nil || head == 0 {
		return 0, "", nil, err
	}
	if size > respNameMax { // no name that is looked at
		c.args, c.skip = count, size+2
		return n + head, "", nil, nil
	}
	if len(b) < n+head+size+2 {
		return 0, "", nil, nil
	}
	name = strings.ToUpper(string(b[n+head : n+head+size]))
	if !wanted(name) {
		c.args = count - 1
		return n + head + size + 2, name, nil, nil
	}
	return whole(b, n, count, name)
}

// wanted are the commands whose arguments are looked at.
func wanted(name string) bool {
	return name == "AUTH" || name == "HELLO" || name == "CLIENT" || name == "RESET"
}

// whole reads all arguments of a command.
func whole(b []byte, pos, count int, name string) (int, string, []string, error) {
	var args []string
	for range count {
		size, head, err := respLength(b[pos:], '$', respMaxCapture)
		if err != nil {
			return 0, "", nil, err
		}
		if pos+size > respMaxCapture {
			return 0, "", nil, errResp
		}
		if head == 0 || len(b) < pos+head+size+2 {
			return 0, "", nil, nil
		}
		args = append(args, string(b[pos+head:pos+head+size]))
		pos += head + size + 2
	}
	return pos, name, args, nil
}

// nextInline reads a command that is a line of words.
func nextInline(b []byte) (int, string, []string, error) {
	line, _, ok := bytes.Cut(b, []byte{'\n'})
	if len(line) > respMaxLine {
		return 0, "", nil, errResp
	}
	if !ok {
		return 0, "", nil, nil
	}
	args := strings.Fields(string(line))
	if len(args) == 0 {
		return len(line) + 1, "", nil, nil
	}
	name := strings.ToUpper(strings.Trim(args[0], `"'`))
	if name == "POST" || name == "HOST:" {
		return 0, "", nil, errHTTP
	}
	return len(line) + 1, name, args, nil
}

// respLength reads a line of a mark and a number. size is 0 if the line is not
// complete.
func respLength(b []byte, mark byte, limit int) (n, size int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if b[0] != mark {
		return 0, 0, errResp
	}
	end := bytes.IndexByte(b[:min(len(b), respMaxHeader)], '\n')
	if end < 0 {
		if len(b) >= respMaxHeader {
			return 0, 0, errResp
		}
		return 0, 0, nil
	}
	if end < 2 || b[end-1] != '\r' {
		return 0, 0, errResp
	}
	n, err = strconv.Atoi(string(b[1 : end-1]))
	if err != nil || n > limit || n < -1 || n < 0 && mark == '$' {
		return 0, 0, errResp
	}
	return n, end + 1, nil
}

// replies follows the borders of a server's replies and takes those out that
// belong to a login of ours: "+OK", then the marker.
type replies struct {
	marker    []byte // a whole reply
	need      int64  // elements of the reply under way that are still to come
	skip      int64  // bytes of the string under way, with its line end
	ok        bool   // an "+OK" is held back: a marker behind it makes it ours
	release   bool   // it was not
	held      []byte // a beginning that could not be read yet
	ready     []byte // what is to be read next
	untouched bool   // the last bytes are for the program as they are
}

func (r *replies) take(p []byte) int {
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n
}

var errReply = errors.New("the server does not speak Redis's protocol")

// errRenewal ends a session whose login could not be renewed: the server's
// refusal has gone to the program as the reply to something else.
var errRenewal = errors.New("the server refused to renew the session's login")

var replyOK = []byte("+OK\r\n")

// walk follows the bytes. Unless untouched is set after it, what the program
// is to see is in ready.
func (r *replies) walk(p []byte, awaited *atomic.Int32) error {
	data := p
	r.untouched = len(r.held) == 0 && !r.ok
	if len(r.held) > 0 {
		data = append(r.held, p...)
		r.held = nil
	}
	start, pos := 0, 0
	pass := func() { // what was walked is for the program
		r.ready, r.untouched = append(r.ready, data[start:pos]...), false
		start = pos
	}
	for pos < len(data) {
		if r.skip > 0 {
			n := min(r.skip, int64(len(data)-pos))
			pos += int(n)
			r.skip -= n
			continue
		}
		n, drop, err := r.step(data[pos:], awaited)
		if err != nil {
			return err
		}
		if r.release { // the OK was the program's after all
			pass()
			r.ready, r.release = append(r.ready, replyOK...), false
		}
		if n == 0 { // too little to say
			pass()
			r.held = bytes.Clone(data[pos:])
			return nil
		}
		if drop {
			pass()
			start = pos + n
		}
		pos += n
	}
	if !r.untouched {
		pass()
	}
	return nil
}

// step reads one line, or the marker. n is 0 if there is too little of it;
// drop says that it is not for the program.
func (r *replies) step(b []byte, awaited *atomic.Int32) (n int, drop bool, err error) {
	if r.need == 0 && awaited.Load() > 0 {
		n, ours, err := r.ours(b)
		if err != nil || ours {
			if ours && !r.ok && n > 0 {
				awaited.Add(-1)
			}
			return n, ours && n > 0, err
		}
	}
	border := r.need == 0
	if border {
		r.need = 1
	}
	n, err = r.element(b)
	if n == 0 && border {
		r.need = 0
	}
	return n, false, err
}

// ours reports whether a reply is of a login of ours; with n = 0 it may be.
func (r *replies) ours(b []byte) (n int, ours bool, err error) {
	switch {
	case r.ok && b[0] == '>': // a message may come in between
		return 0, false, nil
	case bytes.HasPrefix(b, r.marker):
		if !r.ok {
			return 0, false, errRenewal
		}
		r.ok = false
		return len(r.marker), true, nil
	case bytes.HasPrefix(r.marker, b):
		return 0, true, nil
	case r.ok && b[0] == '-': // who may not ECHO is told so
		end := bytes.IndexByte(b, '\n')
		if end < 0 && len(b) < respMaxHeader*8 {
			return 0, true, nil
		}
		if bytes.HasPrefix(b, []byte("-NOPERM")) && bytes.Contains(b[:end+1], []byte("'echo'")) {
			r.ok = false
			return end + 1, true, nil
		}
	}
	r.release, r.ok = r.ok, false
	switch {
	case bytes.HasPrefix(b, replyOK):
		r.ok = true
		return len(replyOK), true, nil
	case bytes.HasPrefix(replyOK, b):
		return 0, true, nil
	}
	return 0, false, nil
}

// element reads one line: a value, or the length of what follows. It returns 0
// if the line is not complete.
func (r *replies) element(b []byte) (int, error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > respMaxLine {
			return 0, errReply
		}
		return 0, nil
	}
	if end < 1 {
		return 0, errReply
	}
	line := strings.TrimSuffix(string(b[1:end]), "\r")
	each := int64(0)
	switch b[0] {
	case '+', '-', ':', ',', '#', '_', '(':
		r.need--
		return end + 1, nil
	case '$', '=', '!':
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil || n < -1 || n > respMaxBulk {
			return 0, errReply
		}
		r.need--
		if n >= 0 {
			r.skip = n + 2
		}
		return end + 1, nil
	case '*', '~', '>':
		each = 1
		r.need--
	case '%':
		each = 2
		r.need--
	case '|': // attributes stand before the value
		each = 2
	default:
		return 0, errReply
	}
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil || n < -1 || n > respMaxReplies {
		return 0, errReply
	}
	r.need += each * max(n, 0)
	if r.need > respMaxReplies {
		return 0, errReply
	}
	return end + 1, nil
}
