package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// Packet types: [MS-TDS] 2.2.3.1.1.
const (
	typeBatch     = 1
	typeRPC       = 3
	typeReply     = 4
	typeAttention = 6
	typeToken     = 8
	typeLogin     = 16
	typePrelogin  = 18
)

// Status bits: [MS-TDS] 2.2.3.1.2.
const (
	statusEnd    = 0x01
	statusIgnore = 0x02
	statusReset  = 0x08
)

// Limits of what a stranger may send before it has logged in.
const (
	headerSize   = 8
	firstPacket  = 4096           // the size until a login settles another: [MS-TDS] 2.2.6.4
	maxPacket    = 32767          // the largest: ibid.
	minPacket    = 512            // the smallest: ibid.
	maxPrelogin  = 4096           // one packet; what clients send has 100 bytes
	maxLogin     = 128<<10 - 1    // ibid.: LOGIN7 is no longer than 128K-1 bytes
	maxTokenMsg  = 128<<10 - 1    // of a token alone: as if it stood in LOGIN7
	maxGreeting  = 256 << 10      // of a backend's answer to a login; usual are 500 bytes
	maxHandshake = 256 << 10      // of TLS in PRELOGIN packets: certificate chains have 10 KiB
	maxPieces    = maxLogin / 256 // packets a message before login may come in
)

var (
	errShort = errors.New("a packet is shorter than its header")
	errBig   = errors.New("a message is longer than allowed")
)

// errKind says that a message of another type was expected.
type errKind struct{ got, want byte }

func (e errKind) Error() string {
	return fmt.Sprintf("a packet of type %d came where one of type %d was expected", e.got, e.want)
}

// header is a packet's header: type, status, length, process id, number and
// window.
type header [headerSize]byte

func (h *header) kind() byte   { return h[0] }
func (h *header) last() bool   { return h[1]&statusEnd != 0 }
func (h *header) size() int    { return int(binary.BigEndian.Uint16(h[2:])) }
func (h *header) spid() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// readMessage reads one message of type want whose data are at most limit
// bytes. It reads exactly that message, so nothing of what follows is lost.
func readMessage(r io.Reader, want byte, limit int) (data []byte, spid uint16, err error) {
	var h header
	for range maxPieces {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return nil, 0, err
		}
		if h.kind() != want {
			return nil, 0, errKind{h.kind(), want}
		}
		n := h.size() - headerSize
		if n < 0 {
			return nil, 0, errShort
		}
		if n > limit-len(data) || h.size() > maxPacket {
			return nil, 0, errBig
		}
		at := len(data)
		data = append(data, make([]byte, n)...)
		if _, err := io.ReadFull(r, data[at:]); err != nil {
			return nil, 0, err
		}
		if h.last() {
			return data, h.spid(), nil
		}
	}
	return nil, 0, errBig
}

// appendMessage splits data into packets of at most size bytes.
func appendMessage(out []byte, kind, status byte, spid uint16, size int, data []byte) []byte {
	for id := byte(1); ; id++ {
		n := min(len(data), size-headerSize)
		st := status
		if n == len(data) {
			st |= statusEnd
		}
		out = append(out, kind, st)
		out = binary.BigEndian.AppendUint16(out, uint16(n+headerSize))
		out = binary.BigEndian.AppendUint16(out, spid)
		out = append(append(out, id, 0), data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return out
		}
		status &^= statusReset | statusResetSkip // on the first packet only
	}
}

// statusResetSkip is RESETCONNECTIONSKIPTRAN.
const statusResetSkip = 0x10

// fields reads little-endian fields; the first that lies beyond the end spoils
// all that follow, so that one look at bad is enough.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.b, f.bad = nil, true
		return nil
	}
	out := f.b[:n:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) u8() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) u16() int {
	if b := f.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// block takes as many bytes as the 4-byte length before them says.
func (f *fields) block() []byte {
	n := f.u32()
	if uint64(n) > uint64(len(f.b)) {
		f.b, f.bad = nil, true
		return nil
	}
	return f.take(int(n))
}

// text takes n characters of UTF-16.
func (f *fields) text(n int) string { return fromUTF16(f.take(2 * n)) }

// fromUTF16 decodes little-endian UTF-16; half a surrogate pair becomes the
// replacement character.
func fromUTF16(b []byte) string {
	if s, ok := asciiOf(b); ok {
		return s
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

// asciiOf is fromUTF16 for what nearly all is: tokens, statements, names.
func asciiOf(b []byte) (string, bool) {
	out := make([]byte, len(b)/2)
	for i := range out {
		if b[2*i] >= utf8.RuneSelf || b[2*i+1] != 0 {
			return "", false
		}
		out[i] = b[2*i]
	}
	return string(out), true
}

func appendUTF16(b []byte, s string) []byte {
	for _, r := range s {
		if r1, r2 := utf16.EncodeRune(r); r1 != 0xfffd || r2 != 0xfffd {
			b = binary.LittleEndian.AppendUint16(b, uint16(r1))
			b = binary.LittleEndian.AppendUint16(b, uint16(r2))
			continue
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(r))
	}
	return b
}
