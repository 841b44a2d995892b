package tdstest

import (
	"encoding/binary"
	"unicode/utf16"
)

// prelogin is a client's PRELOGIN: [MS-TDS] 2.2.6.5.
type prelogin struct {
	encryption byte
	mars       byte
	fedauth    bool
}

// ENCRYPTION of a PRELOGIN.
const (
	encryptOff      = 0
	encryptOn       = 1
	encryptNotSup   = 2
	encryptRequired = 3
)

func parsePrelogin(b []byte) (p prelogin, err error) {
	seen, end := map[byte]bool{}, len(b)
	p.encryption = 0xff
	for at := 0; ; at += 5 {
		if at >= len(b) {
			return p, violation("PRELOGIN: no terminator")
		}
		if b[at] == 0xff {
			break
		}
		if at+5 > len(b) {
			return p, violation("PRELOGIN: an option is cut short")
		}
		off, n := int(binary.BigEndian.Uint16(b[at+1:])), int(binary.BigEndian.Uint16(b[at+3:]))
		if off+n > len(b) || off <= at+5 && n > 0 {
			return p, violation("PRELOGIN: option %d lies outside", b[at])
		}
		if at == 0 && b[at] != 0 {
			return p, violation("PRELOGIN: VERSION is not the first option")
		}
		if seen[b[at]] {
			return p, violation("PRELOGIN: option %d twice", b[at])
		}
		seen[b[at]], end = true, min(end, off)
		data := b[off : off+n]
		switch want := map[byte]int{0: 6, 1: 1, 4: 1, 5: 36, 6: 1, 7: 32}[b[at]]; {
		case want != 0 && n != want:
			return p, violation("PRELOGIN: option %d has %d bytes", b[at], n)
		case b[at] == 1:
			p.encryption = data[0]
		case b[at] == 4:
			p.mars = data[0]
		case b[at] == 6:
			p.fedauth = true
		}
	}
	if p.encryption == 0xff {
		return p, violation("PRELOGIN: no ENCRYPTION")
	}
	return p, nil
}

func encodePrelogin(encryption byte) []byte {
	options := []struct {
		id   byte
		data []byte
	}{{0, []byte{16, 0, 0x10, 0x2a, 0, 0}}, {1, []byte{encryption}}, {2, []byte{0}}, {3, nil}, {4, []byte{0}}}
	at := 5*len(options) + 1
	var head, body []byte
	for _, o := range options {
		head = append(head, o.id)
		head = binary.BigEndian.AppendUint16(head, uint16(at+len(body)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o.data)))
		body = append(body, o.data...)
	}
	return append(append(head, 0xff), body...)
}

// Feature is an entry of a LOGIN7's FeatureExt list.
type Feature struct {
	ID   byte
	Data []byte
}

// Login7 is what a client said in its LOGIN7: [MS-TDS] 2.2.6.4.
type Login7 struct {
	TDSVersion, PacketSize, ClientVersion, PID, LCID     uint32
	Flags1, Flags2, TypeFlags, Flags3                    byte
	TimeZone                                             int32
	Host, User, Password, App, Server, Library, Language string
	Database, NewPassword                                string
	ClientID                                             [6]byte
	Features                                             []Feature
}

// Versions of the protocol as LOGIN7 says them.
const (
	TDS74 = 0x74000004
	TDS80 = 0x08000000
)

// The fields of LOGIN7 that are an offset and a count of characters.
const (
	fieldHost = iota
	fieldUser
	fieldPassword
	fieldApp
	fieldServer
	fieldExtension
	fieldLibrary
	fieldLanguage
	fieldDatabase
)

const fixedLogin = 94 // bytes before the variable part

func parseLogin(b []byte) (*Login7, error) {
	if len(b) < fixedLogin || len(b) > largestLogin {
		return nil, violation("LOGIN7 of %d bytes", len(b))
	}
	le := binary.LittleEndian
	if int(le.Uint32(b)) != len(b) {
		return nil, violation("LOGIN7: says %d bytes and has %d", le.Uint32(b), len(b))
	}
	l := &Login7{TDSVersion: le.Uint32(b[4:]), PacketSize: le.Uint32(b[8:]), ClientVersion: le.Uint32(b[12:]), PID: le.Uint32(b[16:]),
		Flags1: b[24], Flags2: b[25], TypeFlags: b[26], Flags3: b[27], TimeZone: int32(le.Uint32(b[28:])), LCID: le.Uint32(b[32:])}
	if l.TDSVersion != TDS74 && l.TDSVersion != TDS80 {
		return nil, violation("LOGIN7: version %#x", l.TDSVersion)
	}
	text := func(at int, secret bool) (string, error) {
		off, n := int(le.Uint16(b[at:])), 2*int(le.Uint16(b[at+2:]))
		if n == 0 {
			return "", nil
		}
		if n > 2*128 || off < fixedLogin || off+n > len(b) {
			return "", violation("LOGIN7: the field at %d lies outside or is too long", at)
		}
		raw := append([]byte(nil), b[off:off+n]...)
		if secret {
			for i, c := range raw {
				c ^= 0xa5
				raw[i] = c<<4 | c>>4
			}
		}
		return fromUTF16(raw)
	}
	var err error
	for i, to := range []*string{&l.Host, &l.User, &l.Password, &l.App, &l.Server, nil, &l.Library, &l.Language, &l.Database} {
		if to == nil {
			continue
		}
		if *to, err = text(36+4*i, i == fieldPassword); err != nil {
			return nil, err
		}
	}
	copy(l.ClientID[:], b[72:])
	if le.Uint16(b[80:]) != 0 || le.Uint16(b[84:]) != 0 {
		return nil, violation("LOGIN7: SSPI or a database file to attach")
	}
	if l.NewPassword, err = text(86, true); err != nil {
		return nil, err
	}
	if (l.NewPassword != "") != (l.Flags3&1 != 0) {
		return nil, violation("LOGIN7: fChangePassword and the new password disagree")
	}
	l.Features, err = parseFeatures(b, l.Flags3&0x10 != 0)
	return l, err
}

func parseFeatures(b []byte, wanted bool) ([]Feature, error) {
	le := binary.LittleEndian
	off, n := int(le.Uint16(b[36+4*fieldExtension:])), int(le.Uint16(b[38+4*fieldExtension:]))
	if !wanted {
		return nil, nil
	}
	if n < 4 || off < fixedLogin || off+4 > len(b) {
		return nil, violation("LOGIN7: the extension lies outside")
	}
	at := uint64(le.Uint32(b[off:]))
	var all []Feature
	seen := map[byte]bool{}
	for {
		if at >= uint64(len(b)) {
			return nil, violation("LOGIN7: features without an end")
		}
		id := b[at]
		if id == 0xff {
			return all, nil
		}
		if at+5 > uint64(len(b)) || at+5+uint64(le.Uint32(b[at+1:])) > uint64(len(b)) {
			return nil, violation("LOGIN7: feature %#x is cut short", id)
		}
		if seen[id] {
			return nil, violation("LOGIN7: feature %#x twice", id)
		}
		seen[id] = true
		size := uint64(le.Uint32(b[at+1:]))
		all = append(all, Feature{ID: id, Data: b[at+5 : at+5+size]})
		at += 5 + size
	}
}

// fromUTF16 decodes UCS-2 little-endian text and refuses half a character.
func fromUTF16(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", violation("half a character")
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u)), nil
}

func toUTF16(s string) []byte {
	out := make([]byte, 2*len(s))
	for i := 0; i < len(s); i++ { // nearly all is ASCII
		if s[i] >= 0x80 {
			out = nil
			break
		}
		out[2*i] = s[i]
	}
	if out != nil {
		return out
	}
	u := utf16.Encode([]rune(s))
	b := make([]byte, 2*len(u))
	for i, c := range u {
		binary.LittleEndian.PutUint16(b[2*i:], c)
	}
	return b
}
