package redis

import (
	"bytes"
	"errors"
	"strconv"
)

// limits bound one command that is read as a whole.
type limits struct {
	args  int // its arguments, the name included
	bulk  int // bytes of one argument
	total int // bytes of all of it
}

var (
	// beforeLogin: stock Redis lets 10 arguments of 16 KiB in before AUTH
	// (networking.c, authRequired); a token with groups needs more.
	beforeLogin = limits{args: 10, bulk: 64 << 10, total: 80 << 10}
	// ofOurs bounds the commands of a session that the gateway reads itself:
	// the longest is a HELLO with a token, or a CLIENT TRACKING with prefixes.
	ofOurs = limits{args: 1024, bulk: 64 << 10, total: 80 << 10}
)

const (
	maxArgs = 1<<31 - 1 // INT_MAX: what Redis 7 takes in one command (networking.c, processMultibulkBuffer)
	maxBulk = 512 << 20 // proto-max-bulk-len of redis.conf
)

// errProtocol is what Redis calls a protocol error; the text is for the
// client.
type errProtocol string

func (e errProtocol) Error() string { return "Protocol error: " + string(e) }

const (
	badCount  errProtocol = "invalid multibulk length"
	badBulk   errProtocol = "invalid bulk length"
	badInline errProtocol = "too big inline request"
	badQuotes errProtocol = "unbalanced quotes in request"
	noDollar  errProtocol = "expected '$'"
	noNewline errProtocol = "expected the end of a line"
	tooMany   errProtocol = "unauthenticated multibulk length"
	tooBig    errProtocol = "unauthenticated bulk length"
	tooLong   errProtocol = "a command that the gateway answers is too long"
)

var errNumber = errors.New("not a number")

// number reads a number and its CRLF at b[at:]. next is where it ends, 0 when
// bytes are missing. Only the shortest way to write a number counts, so that
// nobody behind the gateway can read another one.
func number(b []byte, at int) (v int64, next int, err error) {
	i := at
	if i < len(b) && b[i] == '-' {
		i++
	}
	first := i
	for ; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		v = v*10 + int64(c)
		if i-first >= 18 {
			return 0, 0, errNumber
		}
	}
	if i-first > 1 && b[first] == '0' {
		return 0, 0, errNumber
	}
	if i+1 >= len(b) {
		if i == len(b) || i > first && b[i] == '\r' {
			return 0, 0, nil
		}
		return 0, 0, errNumber
	}
	if i == first || b[i] != '\r' || b[i+1] != '\n' {
		return 0, 0, errNumber
	}
	if first > at {
		if v == 0 {
			return 0, 0, errNumber
		}
		v = -v
	}
	return v, i + 2, nil
}

// parseCommand reads the command at the start of b. n is its length, 0 when
// bytes are missing. The arguments are parts of b; there are none in an empty
// line and in an empty array, which Redis does not answer.
func parseCommand(b []byte, lim limits) (args [][]byte, n int, err error) {
	if len(b) == 0 {
		return nil, 0, nil
	}
	if b[0] != '*' {
		return parseInline(b, lim)
	}
	count, at, err := number(b, 1)
	switch {
	case err != nil || count > maxArgs:
		return nil, 0, badCount
	case at == 0:
		return nil, 0, nil
	case count <= 0:
		return nil, at, nil
	case count > int64(lim.args):
		return nil, 0, tooMany
	}
	args = make([][]byte, 0, count)
	for range count {
		arg, next, err := bulk(b, at, lim)
		if err != nil || next == 0 {
			return nil, 0, err
		}
		args, at = append(args, arg), next
	}
	return args, at, nil
}

// bulk reads one argument at b[at:].
func bulk(b []byte, at int, lim limits) (arg []byte, next int, err error) {
	if at >= len(b) {
		return nil, 0, nil
	}
	if b[at] != '$' {
		return nil, 0, noDollar
	}
	size, start, err := number(b, at+1)
	switch {
	case err != nil || size < 0:
		return nil, 0, badBulk
	case start == 0:
		return nil, 0, nil
	case size > int64(lim.bulk) || start+int(size) > lim.total:
		return nil, 0, tooBig
	}
	end := start + int(size)
	if end+2 > len(b) {
		return nil, 0, nil
	}
	if b[end] != '\r' || b[end+1] != '\n' {
		return nil, 0, noNewline
	}
	return b[start:end], end + 2, nil
}

// parseInline reads a command that somebody typed: words on a line.
func parseInline(b []byte, lim limits) (args [][]byte, n int, err error) {
	end := bytes.IndexByte(b, '\n')
	if end > lim.bulk || end < 0 && len(b) > lim.bulk {
		return nil, 0, badInline
	}
	if end < 0 {
		return nil, 0, nil
	}
	args, ok := splitWords(bytes.TrimSuffix(b[:end], []byte{'\r'}))
	if !ok {
		return nil, 0, badQuotes
	}
	if len(args) > lim.args {
		return nil, 0, tooMany
	}
	return args, end + 1, nil
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

// splitWords splits a line as Redis does (sds.c, sdssplitargs): words in
// double quotes know escapes, words in single quotes only \'.
func splitWords(line []byte) (words [][]byte, ok bool) {
	for {
		for len(line) > 0 && isSpace(line[0]) {
			line = line[1:]
		}
		if len(line) == 0 {
			return words, true
		}
		var word []byte
		if word, line, ok = oneWord(line); !ok {
			return nil, false
		}
		words = append(words, word)
	}
}

func oneWord(line []byte) (word, rest []byte, ok bool) {
	word = []byte{}
	for len(line) > 0 && !isSpace(line[0]) {
		if c := line[0]; c != '"' && c != '\'' {
			word, line = append(word, c), line[1:]
			continue
		}
		var part []byte
		if part, line, ok = quoted(line); !ok || len(line) > 0 && !isSpace(line[0]) {
			return nil, nil, false
		}
		return append(word, part...), line, true
	}
	return word, line, true
}

// quoted reads a quoted part; line starts with its quote.
func quoted(line []byte) (part, rest []byte, ok bool) {
	quote := line[0]
	for i := 1; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			return part, line[i+1:], true
		case quote == '\'' && c == '\\' && i+1 < len(line) && line[i+1] == '\'':
			i++
			c = '\''
		case quote == '"' && c == '\\' && i+3 < len(line) && line[i+1] == 'x' && isHex(line[i+2]) && isHex(line[i+3]):
			v, _ := strconv.ParseUint(string(line[i+2:i+4]), 16, 8)
			c = byte(v)
			i += 3
		case quote == '"' && c == '\\' && i+1 < len(line):
			i++
			c = unescape(line[i])
		}
		part = append(part, c)
	}
	return nil, nil, false
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

// appendCommand writes a command.
func appendCommand[T string | []byte](out []byte, args ...T) []byte {
	out = append(out, '*')
	out = strconv.AppendInt(out, int64(len(args)), 10)
	out = append(out, "\r\n"...)
	for _, a := range args {
		out = appendBulk(out, a)
	}
	return out
}

func appendBulk[T string | []byte](out []byte, text T) []byte {
	out = append(out, '$')
	out = strconv.AppendInt(out, int64(len(text)), 10)
	out = append(out, "\r\n"...)
	out = append(out, text...)
	return append(out, "\r\n"...)
}
