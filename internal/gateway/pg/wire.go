package pg

import (
	"encoding/binary"
	"errors"
	"io"
)

// Limits of what a stranger may send before it has logged in.
const (
	maxStartup  = 10000    // MAX_STARTUP_PACKET_LENGTH of PostgreSQL's libpq/pqcomm.h
	maxPassword = 64 << 10 // PG_MAX_AUTH_TOKEN_LENGTH of libpq/auth.h is 65535; tokens with groups pass 2 KiB
)

// Request codes in the place of a protocol version: libpq/pqcomm.h.
const (
	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSS    = 1234<<16 | 5680
	version30  = 3 << 16
	version32  = 3<<16 | 2
)

var (
	errTooLong   = errors.New("a message is longer than allowed")
	errTooShort  = errors.New("a message is shorter than its kind")
	errWrongType = errors.New("a message of another kind was expected")
)

// readMessage reads one message of kind want whose body is at most limit
// bytes. It reads exactly that message, so nothing of what follows is lost.
func readMessage(r io.Reader, want byte, limit int) ([]byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	if h[0] != want {
		return nil, errWrongType
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n < 4 {
		return nil, errTooShort
	}
	if n-4 > uint32(limit) {
		return nil, errTooLong
	}
	body := make([]byte, n-4)
	_, err := io.ReadFull(r, body)
	return body, err
}

// walker follows the borders of messages in a stream without decoding them.
// Each message is one type byte and a length that counts itself but not the
// type.
type walker struct {
	skip uint32  // bytes of the current body still to come
	have uint8   // bytes of a header that was cut by a chunk's end
	head [5]byte // that header
}

// atBorder reports whether the last byte walked over ended a message.
func (w *walker) atBorder() bool { return w.skip == 0 && w.have == 0 }

// next walks from chunk[at:] to the next message and returns its type, the
// length of its body and the offset where the body starts. ok is false when
// the chunk holds no further whole header. The caller may look at the part of
// the body that is in the chunk; the walker skips it by itself.
func (w *walker) next(chunk []byte, at int) (kind byte, body uint32, start int, ok bool, err error) {
	if w.skip > 0 {
		left := uint32(len(chunk) - at)
		if w.skip > left {
			w.skip -= left
			return 0, 0, len(chunk), false, nil
		}
		at += int(w.skip)
		w.skip = 0
	}
	if w.have == 0 && len(chunk)-at >= 5 {
		copy(w.head[:], chunk[at:at+5])
		at += 5
	} else {
		n := copy(w.head[w.have:], chunk[at:])
		at += n
		if w.have += uint8(n); w.have < 5 {
			return 0, 0, at, false, nil
		}
		w.have = 0
	}
	n := binary.BigEndian.Uint32(w.head[1:])
	if n < 4 {
		return 0, 0, at, false, errTooShort
	}
	w.skip = n - 4
	return w.head[0], w.skip, at, true, nil
}

// cstring splits b at its first NUL.
func cstring(b []byte) (s string, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", b, false
}
