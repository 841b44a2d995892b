package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
)

// Capabilities. Source: MySQL, mysql_com.h.
const (
	mysqlLongPassword = 1 << 0 // MariaDB: CLIENT_MYSQL; without it there are more capabilities
	mysqlWithDB       = 1 << 3
	mysqlProtocol41   = 1 << 9
	mysqlSSL          = 1 << 11
	mysqlSecure       = 1 << 15
	mysqlPluginAuth   = 1 << 19
	mysqlLenencAuth   = 1 << 21
)

// First bytes of packets, plugins, and a limit: no handshake is longer.
const (
	mysqlOK          = 0x00
	mysqlMore        = 0x01
	mysqlSwitch      = 0xfe
	mysqlERR         = 0xff
	mysqlNative      = "mysql_native_password"
	mysqlCachingSHA2 = "caching_sha2_password"
	mysqlClear       = "mysql_clear_password"
	mysqlMaxPacket   = 128 << 10 // connection attributes are 64 KiB at most
)

var errMySQL = errors.New("malformed packet")

// mysqlGreeting is HandshakeV10.
type mysqlGreeting struct {
	version []byte
	thread  []byte // 4 bytes: clients kill by it
	caps    uint32
	charset byte
	status  []byte // 2 bytes
	filler  []byte // 10 bytes; MariaDB has more capabilities in it
	plugin  string
}

func parseGreeting(m []byte) (*mysqlGreeting, error) {
	if len(m) < 2 || m[0] != 10 {
		return nil, errMySQL
	}
	g := &mysqlGreeting{}
	version, rest, ok := bytes.Cut(m[1:], []byte{0})
	if !ok || len(rest) < 4+8+1+2+1+2+2+1+10 {
		return nil, errMySQL
	}
	g.version, g.thread, rest = version, rest[:4], rest[13:]
	g.caps = uint32(binary.LittleEndian.Uint16(rest)) | uint32(binary.LittleEndian.Uint16(rest[5:]))<<16
	g.charset, g.status = rest[2], rest[3:5]
	g.filler, rest = rest[8:18], rest[18:]
	if g.caps&mysqlProtocol41 == 0 || g.caps&mysqlSecure == 0 {
		return nil, errMySQL
	}
	if g.caps&mysqlPluginAuth != 0 {
		if i := bytes.IndexByte(rest[min(13, len(rest)):], 0); i >= 0 {
			g.plugin = string(rest[13 : 13+i])
		}
	}
	return g, nil
}

// plain is the greeting without TLS and with a plugin that every client has.
func (g *mysqlGreeting) plain() []byte {
	caps := g.caps&^mysqlSSL | mysqlPluginAuth
	nonce := mysqlNonce()
	out := append(append([]byte{10}, g.version...), 0)
	out = append(append(append(out, g.thread...), nonce[:8]...), 0)
	out = binary.LittleEndian.AppendUint16(out, uint16(caps&math.MaxUint16))
	out = append(append(out, g.charset), g.status...)
	out = binary.LittleEndian.AppendUint16(out, uint16(caps>>16))
	out = append(append(out, byte(len(nonce)+1)), g.filler...)
	out = append(append(out, nonce[8:]...), 0)
	return append(append(out, mysqlNative...), 0)
}

// mysqlResponse is HandshakeResponse41.
type mysqlResponse struct {
	caps     uint32
	sizes    []byte // 4 bytes of the largest packet, one of the character set, 23 more
	user     []byte
	auth     []byte
	database []byte
	plugin   string
	rest     []byte // attributes and what else comes
}

func parseHandshake(m []byte) (*mysqlResponse, error) {
	if len(m) < 33 {
		return nil, errMySQL
	}
	h := &mysqlResponse{caps: binary.LittleEndian.Uint32(m), sizes: m[4:32]}
	if h.caps&mysqlProtocol41 == 0 {
		return nil, errors.New("the client speaks the protocol of before MySQL 4.1")
	}
	if h.caps&mysqlSSL != 0 {
		return nil, &refusal{text: "this port has no TLS: ask for none"}
	}
	var ok bool
	rest := m[32:]
	if h.user, rest, ok = bytes.Cut(rest, []byte{0}); !ok {
		return nil, errMySQL
	}
	if h.auth, rest, ok = h.readAuth(rest); !ok {
		return nil, errMySQL
	}
	if h.caps&mysqlWithDB != 0 {
		if h.database, rest, ok = cutString(rest); !ok {
			return nil, errMySQL
		}
	}
	if h.caps&mysqlPluginAuth != 0 {
		plugin, after, ok := cutString(rest)
		if !ok {
			return nil, errMySQL
		}
		h.plugin, rest = string(plugin), after
	}
	h.rest = rest
	return h, nil
}

// cutString takes a string that a zero ends; the last of a packet may lack it.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if s, rest, ok = bytes.Cut(b, []byte{0}); ok {
		return s, rest, true
	}
	return b, nil, true
}

func (h *mysqlResponse) readAuth(b []byte) (auth, rest []byte, ok bool) {
	switch {
	case h.caps&mysqlLenencAuth != 0:
		n, size := lenenc(b)
		if size == 0 || n > uint64(len(b)-size) {
			return nil, nil, false
		}
		return b[size : size+int(n)], b[size+int(n):], true
	case h.caps&mysqlSecure != 0:
		if len(b) == 0 || int(b[0]) > len(b)-1 {
			return nil, nil, false
		}
		return b[1 : 1+b[0]], b[1+b[0]:], true
	}
	return bytes.Cut(b, []byte{0})
}

// lenenc reads a length-encoded number; size is 0 if there is none.
func lenenc(b []byte) (n uint64, size int) {
	switch {
	case len(b) == 0:
		return 0, 0
	case b[0] < 0xfb:
		return uint64(b[0]), 1
	case b[0] == 0xfc && len(b) >= 3:
		return uint64(binary.LittleEndian.Uint16(b[1:])), 3
	case b[0] == 0xfd && len(b) >= 4:
		return uint64(b[1]) | uint64(b[2])<<8 | uint64(b[3])<<16, 4
	}
	return 0, 0 // eight bytes: nothing here is that long
}

func appendLenenc(b []byte, n int) []byte {
	switch {
	case n < 0xfb:
		return append(b, byte(n))
	case n <= math.MaxUint16:
		return binary.LittleEndian.AppendUint16(append(b, 0xfc), uint16(n))
	}
	return append(b, 0xfd, byte(n), byte(n>>8), byte(n>>16))
}

// become makes the response that of the role that logs in. The answer to the
// server's own plugin is none: the server asks for the token then.
func (h *mysqlResponse) become(user, database string, g *mysqlGreeting) {
	h.caps = h.caps&g.caps | mysqlSSL | mysqlSecure | mysqlPluginAuth | mysqlProtocol41 | h.caps&mysqlLongPassword
	if g.caps&mysqlLenencAuth != 0 {
		h.caps |= mysqlLenencAuth
	}
	if len(h.database) == 0 && database != "" {
		h.database = []byte(database)
	}
	h.caps &^= mysqlWithDB
	if len(h.database) > 0 {
		h.caps |= mysqlWithDB
	}
	h.user, h.auth, h.plugin = []byte(user), nil, g.plugin
	if h.plugin == mysqlClear && h.caps&mysqlLenencAuth == 0 {
		h.plugin = mysqlNative // a token is too long for the old form
	}
	if h.plugin == mysqlNative {
		h.auth = mysqlNonce() // as long as an answer is; none would mean no password
	}
}

// ask is the request for TLS, which is the response's beginning.
func (h *mysqlResponse) ask() []byte {
	return append(binary.LittleEndian.AppendUint32(nil, h.caps), h.sizes...)
}

func (h *mysqlResponse) encode() []byte {
	out := append(append(h.ask(), h.user...), 0)
	if h.caps&mysqlLenencAuth != 0 {
		out = appendLenenc(out, len(h.auth))
	} else {
		out = append(out, byte(len(h.auth)))
	}
	out = append(out, h.auth...)
	if h.caps&mysqlWithDB != 0 {
		out = append(append(out, h.database...), 0)
	}
	out = append(append(out, h.plugin...), 0)
	return append(out, h.rest...)
}

// mysqlPluginOf is the plugin that AuthSwitchRequest names, "" for another
// packet.
func mysqlPluginOf(m []byte) string {
	if len(m) < 2 || m[0] != mysqlSwitch {
		return ""
	}
	name, _, _ := bytes.Cut(m[1:], []byte{0})
	return string(name)
}

// mysqlErrorText is the message of an ERR packet, for the log.
func mysqlErrorText(m []byte) string {
	if len(m) < 3 {
		return "no reason given"
	}
	text := m[3:]
	if len(text) >= 6 && text[0] == '#' {
		text = text[6:]
	}
	return string(text)
}
