package tds

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"unicode/utf16"

	"github.com/hawser/hawser/internal/gateway"
)

// Versions as LOGIN7 says them: [MS-TDS] 2.2.6.4.
const (
	version72 = 0x72090002 // from here on tokens have the lengths that we write
	version74 = 0x74000004
	version80 = 0x08000000
)

// The fixed part of LOGIN7: ibid. Fields that are an offset and a count of
// characters begin at 36.
const (
	fixedSize   = 94
	oldFixed    = 86  // before TDS 7.2: no password to change to
	maxName     = 128 // characters of each text
	offText     = 36
	offClientID = 72
	offSSPI     = 78
	offAttach   = 82
	offChange   = 86
)

// Places of the texts behind offText, four bytes each.
const (
	textHost = iota
	textUser
	textPassword
	textApp
	textServer
	textExtension
	textLibrary
	textLanguage
	textDatabase
)

// Option bits of LOGIN7: ibid.
const (
	flags1Order      = 0x0f // byte order, EBCDIC, floats of a VAX
	flags1FailDB     = 0x40 // fDatabase: no login where the database cannot be opened
	flags2Integrated = 0x80
	flags2UserType   = 0x70 // fUserType: replication and the server itself
	typeFlagsKept    = 0x31 // language, OLEDB, read-only intent
	flags3Change     = 0x01
	flags3Instance   = 0x04
	flags3Extension  = 0x10
)

// login7 is what a client asks for. password and what changes it are not read:
// they are no use here.
type login7 struct {
	version, packetSize, progVersion, pid, lcid uint32
	flags1, flags2, typeFlags, flags3           byte
	timeZone                                    uint32
	host, user, app, server, library, language  string
	database                                    string
	clientID                                    [6]byte
	integrated                                  bool // wants SSPI
	password                                    bool // has one
	features                                    []feature
}

// feature is an entry of the FeatureExt list.
type feature struct {
	id   byte
	data []byte
}

var errLogin = protocolError("the LOGIN7 message is malformed")

// parseLogin reads a LOGIN7. Every offset must lie behind the fixed part and
// within the message.
func parseLogin(b []byte) (*login7, error) {
	le := binary.LittleEndian
	if len(b) < oldFixed || int(le.Uint32(b)) != len(b) {
		return nil, errLogin
	}
	fixed := fixedSize
	if old(le.Uint32(b[4:])) { // it is refused later, in words
		fixed = oldFixed
	}
	if len(b) < fixed {
		return nil, errLogin
	}
	l := &login7{version: le.Uint32(b[4:]), packetSize: le.Uint32(b[8:]), progVersion: le.Uint32(b[12:]), pid: le.Uint32(b[16:]),
		flags1: b[24], flags2: b[25], typeFlags: b[26], flags3: b[27], timeZone: le.Uint32(b[28:]), lcid: le.Uint32(b[32:])}
	copy(l.clientID[:], b[offClientID:])
	for i, to := range []*string{textHost: &l.host, textUser: &l.user, textPassword: nil, textApp: &l.app, textServer: &l.server,
		textExtension: nil, textLibrary: &l.library, textLanguage: &l.language, textDatabase: &l.database} {
		if to == nil {
			continue
		}
		raw, ok := within(b, fixed, offText+4*i, 2)
		if !ok || len(raw) > 2*maxName {
			return nil, errLogin
		}
		if *to = fromUTF16(raw); strings.ContainsRune(*to, 0) {
			return nil, errLogin
		}
	}
	if !l.credentials(b, fixed) {
		return nil, errLogin
	}
	if l.flags1&flags1Order != 0 {
		return nil, protocolError("only little-endian ASCII clients with IEEE floats are served")
	}
	return l, l.extension(b)
}

// old reports whether a version is from before TDS 7.2, which changed the
// lengths of much.
func old(version uint32) bool {
	return version != 0 && version < version72 && version != version80
}

// within returns the bytes that an offset and a count of units at a place
// name; none for a place that the fixed part does not have.
func within(b []byte, fixed, at, unit int) ([]byte, bool) {
	if at+4 > fixed {
		return nil, true
	}
	off, n := int(binary.LittleEndian.Uint16(b[at:])), unit*int(binary.LittleEndian.Uint16(b[at+2:]))
	if n == 0 {
		return nil, true
	}
	if off < fixed || off+n > len(b) {
		return nil, false
	}
	return b[off : off+n], true
}

// credentials notes which other ways of logging in the client tries.
func (l *login7) credentials(b []byte, fixed int) bool {
	password, ok1 := within(b, fixed, offText+4*textPassword, 2)
	sspi, ok2 := within(b, fixed, offSSPI, 1)
	attach, ok3 := within(b, fixed, offAttach, 2)
	change, ok4 := within(b, fixed, offChange, 2)
	l.password = len(password) > 0 || len(change) > 0
	l.integrated = l.flags2&flags2Integrated != 0 || len(sspi) > 0
	return ok1 && ok2 && ok3 && ok4 && len(attach) == 0 && len(password) <= 2*maxName && len(change) <= 2*maxName
}

// extension reads the FeatureExt list.
func (l *login7) extension(b []byte) error {
	if l.flags3&flags3Extension == 0 {
		return nil
	}
	ext, ok := within(b, fixedSize, offText+4*textExtension, 1)
	if !ok || len(ext) < 4 {
		return errLogin
	}
	at := binary.LittleEndian.Uint32(ext)
	if at < fixedSize || uint64(at) > uint64(len(b)) {
		return errLogin
	}
	var err error
	l.features, err = parseFeatures(b[at:])
	return err
}

// maxFeatures is more than twice what is defined.
const maxFeatures = 32

// parseFeatures reads entries up to the end mark. What follows that may be
// anything that an offset names.
func parseFeatures(b []byte) ([]feature, error) {
	f := fields{b: b}
	var all []feature
	seen := [256]bool{}
	for {
		id := f.u8()
		if f.bad || len(all) > maxFeatures {
			return nil, errLogin
		}
		if id == optEnd {
			return all, nil
		}
		data := f.block()
		if f.bad || seen[id] {
			return nil, errLogin
		}
		seen[id] = true
		all = append(all, feature{id, data})
	}
}

func appendFeatures(b []byte, all []feature) []byte {
	for _, f := range all {
		b = append(b, f.id)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.data)))
		b = append(b, f.data...)
	}
	return append(b, optEnd)
}

// serverName returns the server that the client's ServerName means, "" for
// none: "tcp:s1.database.D,1433", "s1" and `s1\instance` mean s1.
func serverName(name, domain string) (string, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, p := range []string{"tcp:", "admin:"} {
		name = strings.TrimPrefix(name, p)
	}
	if i := strings.IndexAny(name, `,\`); i >= 0 {
		name = name[:i]
	}
	name = strings.TrimSuffix(strings.TrimSpace(name), ".")
	if server, err := gateway.ServerOfHost(name, domain); server != "" || err != nil {
		return server, err
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil || name == "localhost" || !gateway.IsServerName(name) {
		return "", nil
	}
	return name, nil
}

// backendLogin is the LOGIN7 for a backend: what the client asked for, with
// the grant's role and without anything that would make more of it.
type backendLogin struct {
	login7
	user, password string
}

// forBackend copies what is the client's to choose.
func (l *login7) forBackend() login7 {
	out := *l
	out.user, out.password = "", false
	out.flags1 |= flags1FailDB
	out.flags2 &^= flags2Integrated | flags2UserType
	out.typeFlags &= typeFlagsKept
	out.flags3 &^= flags3Change | flags3Instance | flags3Extension
	out.features = nil
	for _, f := range l.features {
		if passes(f.id) {
			out.features = append(out.features, f)
		}
	}
	return out
}

// parameters tells apart the logins that may not share a warm connection: all
// of LOGIN7 but the number of the client's process.
func (l *login7) parameters() string {
	c := l.forBackend()
	c.pid = 0
	return string((&backendLogin{login7: c}).encode())
}

// encode writes the message.
func (l *backendLogin) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, fixedSize, 512)
	le.PutUint32(b[4:], l.version)
	le.PutUint32(b[8:], l.packetSize)
	le.PutUint32(b[12:], l.progVersion)
	le.PutUint32(b[16:], l.pid)
	b[24], b[25], b[26], b[27] = l.flags1, l.flags2, l.typeFlags, l.flags3
	le.PutUint32(b[28:], l.timeZone)
	le.PutUint32(b[32:], l.lcid)
	copy(b[offClientID:], l.clientID[:])
	put := func(at int, raw []byte, unit int) {
		le.PutUint16(b[at:], uint16(len(b)))
		le.PutUint16(b[at+2:], uint16(len(raw)/unit))
		b = append(b, raw...)
	}
	for i, s := range []string{textHost: l.host, textUser: l.user, textPassword: l.password, textApp: l.app, textServer: l.server,
		textExtension: "", textLibrary: l.library, textLanguage: l.language, textDatabase: l.database} {
		raw := appendUTF16(nil, s)
		if i == textPassword {
			obfuscate(raw)
		}
		put(offText+4*i, raw, 2)
	}
	for _, at := range []int{offSSPI, offAttach, offChange} {
		put(at, nil, 1)
	}
	if len(l.features) > 0 {
		b[27] |= flags3Extension
		put(offText+4*textExtension, le.AppendUint32(nil, uint32(len(b)+4)), 1)
		b = appendFeatures(b, l.features)
	}
	le.PutUint32(b, uint32(len(b)))
	return b
}

// obfuscate is what the protocol does to passwords: [MS-TDS] 2.2.6.4. It keeps
// nothing secret, TLS does.
func obfuscate(b []byte) {
	for i, c := range b {
		b[i] = (c<<4 | c>>4) ^ 0xa5
	}
}

// fits reports whether a text can stand in a LOGIN7.
func fits(s string) bool { return len(utf16.Encode([]rune(s))) <= maxName }
