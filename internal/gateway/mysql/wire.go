package mysql

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

const (
	headerSize = 4         // three bytes of length, one sequence number
	maxFrame   = 1<<24 - 1 // a packet of this length is continued by the next one
)

// Limits of what is read before a session begins.
const (
	maxToken    = 64 << 10          // tokens with groups pass 2 KiB; PostgreSQL's gateway has the same limit
	maxResponse = maxToken + 64<<10 // connection attributes have at most 64 KiB: performance_schema_session_connect_attrs_size
	maxLogin    = 16 << 10          // of one packet of a backend's login: the longest is an RSA key
)

// First bytes of packets from a server.
const (
	markOK    = 0x00
	markMore  = 0x01 // AuthMoreData
	markLocal = 0xfb // it asks for a file
	markEOF   = 0xfe // also AuthSwitchRequest, and OK at the end of rows
	markError = 0xff
)

var (
	errTooLong  = errors.New("a packet is longer than allowed")
	errSequence = errors.New("packets are out of order")
	errFormat   = errors.New("a packet is malformed")
)

// readPacket reads one packet of at most limit bytes, which is less than a
// frame, and no byte of what follows.
func readPacket(r io.Reader, seq byte, limit int) ([]byte, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	switch n := frameLength(h[:]); {
	case n > limit:
		return nil, errTooLong
	case h[3] != seq:
		return nil, errSequence
	default:
		return readBody(r, n)
	}
}

// readBody reads n bytes, and holds few more than have come: a stranger's
// header alone is to cost no memory.
func readBody(r io.Reader, n int) ([]byte, error) {
	body := make([]byte, 0, min(n, 4<<10))
	for len(body) < n {
		body = slices.Grow(body, min(n-len(body), max(len(body), 1)))
		had := len(body)
		body = body[:min(n, cap(body))]
		if _, err := io.ReadFull(r, body[had:]); err != nil {
			return nil, err
		}
	}
	return body, nil
}

func frameLength(h []byte) int { return int(h[0]) | int(h[1])<<8 | int(h[2])<<16 }

// appendPacket writes a packet of less than a frame.
func appendPacket(b []byte, seq byte, body []byte) []byte {
	n := len(body)
	b = append(b, byte(n), byte(n>>8), byte(n>>16), seq)
	return append(b, body...)
}

// fields reads a packet's fields. After the first that is not there, bad is
// set and all are empty.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) bytes(n uint64) []byte {
	if f.bad || n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) uint8() byte {
	if b := f.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) uint16() uint16 {
	if b := f.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if b := f.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// lenenc reads a length-encoded integer.
func (f *fields) lenenc() uint64 {
	size := uint64(0)
	switch first := f.uint8(); first {
	case 0xfc:
		size = 2
	case 0xfd:
		size = 3
	case 0xfe:
		size = 8
	case 0xfb, 0xff: // NULL and an error: no integers
		f.bad, f.b = true, nil
		return 0
	default:
		return uint64(first)
	}
	var n uint64
	for i, c := range f.bytes(size) {
		n |= uint64(c) << (8 * i)
	}
	return n
}

// cstring reads a string that a NUL ends.
func (f *fields) cstring() string {
	at := bytes.IndexByte(f.b, 0)
	if f.bad || at < 0 {
		f.bad, f.b = true, nil
		return ""
	}
	s := string(f.b[:at])
	f.b = f.b[at+1:]
	return s
}

// okStatus reads the status flags of an OK packet, also of one that ends rows.
func okStatus(body []byte) (status uint16, ok bool) {
	f := fields{b: body}
	f.uint8()
	f.lenenc() // affected rows
	f.lenenc() // last insert id
	status = f.uint16()
	return status, !f.bad
}
