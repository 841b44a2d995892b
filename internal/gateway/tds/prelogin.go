package tds

import (
	"encoding/binary"
)

// Options of a PRELOGIN: [MS-TDS] 2.2.6.5.
const (
	optVersion    = 0
	optEncryption = 1
	optInstance   = 2
	optThread     = 3
	optMARS       = 4
	optFedAuth    = 6
	optNonce      = 7
	optEnd        = 0xff
)

// Values of ENCRYPTION: ibid.
const (
	encryptOff      = 0 // the login only
	encryptOn       = 1
	encryptNotSup   = 2
	encryptRequired = 3
)

const nonceSize = 32

// hello is what a PRELOGIN says, a client's or a server's.
type hello struct {
	encryption byte
	mars       bool
	fedauth    bool // the option is there
	nonce      []byte
}

// parsePrelogin reads a PRELOGIN. Options that it does not know are not looked
// at, but must lie within the message like all.
func parsePrelogin(b []byte) (h hello, err error) {
	bad := protocolError("the PRELOGIN message is malformed")
	seen := [256]bool{}
	for at := 0; ; at += 5 {
		if at >= len(b) {
			return h, bad
		}
		id := b[at]
		if id == optEnd {
			break
		}
		if len(b)-at < 5 || seen[id] || at == 0 && id != optVersion {
			return h, bad
		}
		seen[id] = true
		off, n := int(binary.BigEndian.Uint16(b[at+1:])), int(binary.BigEndian.Uint16(b[at+3:]))
		if n > 0 && off < at+6 || off+n > len(b) { // 6: the end mark follows at the least
			return h, bad
		}
		if !h.take(id, b[off:off+n]) {
			return h, bad
		}
	}
	if !seen[optVersion] || !seen[optEncryption] {
		return h, bad
	}
	return h, nil
}

// take notes an option and reports whether it has the size it must have.
func (h *hello) take(id byte, data []byte) bool {
	switch id {
	case optVersion:
		return len(data) == 6
	case optEncryption:
		if len(data) != 1 {
			return false
		}
		h.encryption = data[0]
	case optMARS:
		if len(data) != 1 {
			return false
		}
		h.mars = data[0] == 1
	case optFedAuth:
		if len(data) != 1 {
			return false
		}
		h.fedauth = true
	case optNonce:
		if len(data) != nonceSize {
			return false
		}
		h.nonce = data
	}
	return true
}

// option is one entry of a PRELOGIN to be.
type option struct {
	id   byte
	data []byte
}

func encodePrelogin(options []option) []byte {
	at := 5*len(options) + 1
	var head, body []byte
	for _, o := range options {
		head = append(head, o.id)
		head = binary.BigEndian.AppendUint16(head, uint16(at+len(body)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o.data)))
		body = append(body, o.data...)
	}
	return append(append(head, optEnd), body...)
}

// serverVersion is what Azure SQL Database calls itself, 12.0.2000.8; the
// backend's own stands in its LOGINACK.
var serverVersion = []byte{12, 0, 0x07, 0xd0, 0, 0}

// answer is our PRELOGIN to a client's. FEDAUTHREQUIRED is answered where it
// was asked about only, and says that nothing but a token counts. strict: it is
// within TLS already, where a client may say that it does no other (JDBC's ends
// the connection if it is told to then).
func (h *hello) answer(nonce []byte, strict bool) []byte {
	encryption := byte(encryptRequired)
	if h.encryption == encryptOn || strict && h.encryption == encryptNotSup {
		encryption = h.encryption
	}
	options := []option{{optVersion, serverVersion}, {optEncryption, []byte{encryption}}, {optInstance, []byte{0}}, {optThread, nil}, {optMARS, []byte{flag(h.mars)}}}
	if h.fedauth {
		options = append(options, option{optFedAuth, []byte{1}})
	}
	if h.nonce != nil {
		options = append(options, option{optNonce, nonce})
	}
	return encodePrelogin(options)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
