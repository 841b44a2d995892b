package proxy

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/hawser/hawser/internal/az"
)

// Packets. Source: MS-TDS, 2.2.3.1.
const (
	tdsPrelogin  = 0x12
	tdsLogin7    = 0x10
	tdsReply     = 0x04
	tdsHeader    = 8
	tdsLast      = 0x01
	tdsFirstSize = 4096      // until the login has agreed on another
	tdsMinSize   = 512       // of a packet
	tdsMaxLogin  = 256 << 10 // of a message: a token may have 64 Ki characters of two bytes
)

// Options of PRELOGIN and values of ENCRYPTION. Source: MS-TDS, 2.2.6.5.
const (
	tdsVersion    = 0x00
	tdsEncryption = 0x01
	tdsInstance   = 0x02
	tdsFedAuth    = 0x06
	tdsNonce      = 0x07
	tdsEnd        = 0xff
	tdsEncryptOn  = 0x01
	tdsEncryptNot = 0x02
)

var errTDS = errors.New("malformed message")

// preloginOptions are a PRELOGIN's options.
type preloginOptions map[byte][]byte

func parsePrelogin(m []byte) (preloginOptions, error) {
	out := preloginOptions{}
	for at := 0; ; at += 5 {
		if at >= len(m) {
			return nil, errTDS
		}
		if m[at] == tdsEnd {
			return out, nil
		}
		if at+5 > len(m) {
			return nil, errTDS
		}
		from, n := int(binary.BigEndian.Uint16(m[at+1:])), int(binary.BigEndian.Uint16(m[at+3:]))
		if from+n > len(m) {
			return nil, errTDS
		}
		out[m[at]] = m[from : from+n]
	}
}

func (o preloginOptions) encode() []byte {
	keys := slices.Sorted(maps.Keys(o))
	var head, data []byte
	for _, k := range keys {
		head = append(head, k)
		head = binary.BigEndian.AppendUint16(head, uint16(5*len(keys)+1+len(data)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o[k])))
		data = append(data, o[k]...)
	}
	return append(append(head, tdsEnd), data...)
}

// plain is a server's answer without TLS and federated logins.
func (o preloginOptions) plain() preloginOptions {
	out := maps.Clone(o)
	out[tdsEncryption] = []byte{tdsEncryptNot}
	delete(out, tdsFedAuth)
	delete(out, tdsNonce)
	return out
}

// federated is a client's question for a server that takes tokens over TLS.
func (o preloginOptions) federated() preloginOptions {
	out := maps.Clone(o)
	out[tdsEncryption], out[tdsFedAuth] = []byte{tdsEncryptOn}, []byte{1}
	out[tdsInstance] = []byte{0}
	delete(out, tdsNonce)
	return out
}

// Parts of LOGIN7. Source: MS-TDS, 2.2.6.4.
const (
	loginFixed     = 94
	loginSize      = 8  // requested packet size
	loginFlags2    = 25 // bit 0x80: integrated security
	loginFlags3    = 27 // bit 0x10: there are features; 0x01: a new password
	loginUser      = 40
	loginPassword  = 44
	loginServer    = 52
	loginExtension = 56
	loginDatabase  = 68
	loginSSPI      = 78
	loginNewPass   = 86
	featureFedAuth = 0x02
	featureEnd     = 0xff
	librarySecure  = 0x01 << 1 // SecurityToken
)

// loginFields are where LOGIN7 says position and length of each text.
var loginFields = []int{36, loginUser, loginPassword, 48, loginServer, loginExtension, 60, 64, loginDatabase, loginSSPI, 82, loginNewPass}

// login7 is what a program asks for.
type login7 struct {
	fixed    []byte
	fields   map[int][]byte // UTF-16LE, by position
	features [][]byte       // with id and length; nil for none
}

func parseLogin7(m []byte) (*login7, error) {
	if len(m) < loginFixed || uint64(binary.LittleEndian.Uint32(m)) != uint64(len(m)) {
		return nil, errTDS
	}
	l := &login7{fixed: m[:loginFixed], fields: map[int][]byte{}}
	for _, f := range loginFields {
		from, n := int(binary.LittleEndian.Uint16(m[f:])), int(binary.LittleEndian.Uint16(m[f+2:]))
		if f != loginExtension && f != loginSSPI {
			n *= 2
		}
		if n > 0 && (from < loginFixed || from+n > len(m)) {
			return nil, errTDS
		}
		if n > 0 {
			l.fields[f] = m[from : from+n]
		}
	}
	if m[loginFlags3]&0x10 == 0 {
		delete(l.fields, loginExtension)
		return l, nil
	}
	ext := l.fields[loginExtension]
	delete(l.fields, loginExtension)
	if len(ext) < 4 {
		return nil, errTDS
	}
	at := uint64(binary.LittleEndian.Uint32(ext))
	if at >= uint64(len(m)) {
		return nil, errTDS
	}
	var err error
	l.features, err = parseFeatures(m[at:])
	return l, err
}

// parseFeatures reads id, length and data until the end.
func parseFeatures(b []byte) ([][]byte, error) {
	out := [][]byte{}
	for {
		if len(b) == 0 {
			return nil, errTDS
		}
		if b[0] == featureEnd {
			return out, nil
		}
		if len(b) < 5 {
			return nil, errTDS
		}
		n := uint64(binary.LittleEndian.Uint32(b[1:])) + 5
		if n > uint64(len(b)) {
			return nil, errTDS
		}
		out, b = append(out, b[:n]), b[n:]
	}
}

// packetSize is that of the packets in which the answer is sent: no larger
// than what the program asked for.
func (l *login7) packetSize() int {
	n := binary.LittleEndian.Uint32(l.fixed[loginSize:])
	if n == 0 || n > tdsFirstSize {
		return tdsFirstSize
	}
	return max(int(n), tdsMinSize)
}

// encode writes the login of whoever the token names.
func (l *login7) encode(host, database string, token az.Secret, echo byte) []byte {
	out := slices.Clone(l.fixed)
	out[loginFlags2] &^= 0x80
	out[loginFlags3] = out[loginFlags3]&^0x01 | 0x10
	fields := maps.Clone(l.fields)
	for _, f := range []int{loginUser, loginPassword, loginSSPI, loginNewPass} {
		delete(fields, f)
	}
	fields[loginServer] = utf16LE(host)
	if len(fields[loginDatabase]) == 0 {
		fields[loginDatabase] = utf16LE(database)
	}
	fields[loginExtension] = make([]byte, 4)
	extension := 0
	for _, f := range loginFields {
		v := fields[f]
		n := len(v)
		if f == loginExtension {
			extension = len(out)
		} else if f != loginSSPI {
			n /= 2
		}
		binary.LittleEndian.PutUint16(out[f:], uint16(len(out)))
		binary.LittleEndian.PutUint16(out[f+2:], uint16(n))
		out = append(out, v...)
	}
	binary.LittleEndian.PutUint32(out[90:], 0) // no long SSPI
	binary.LittleEndian.PutUint32(out[extension:], uint32(len(out)))
	for _, f := range l.features {
		if f[0] != featureFedAuth {
			out = append(out, f...)
		}
	}
	text := utf16LE(token.Reveal())
	out = append(out, featureFedAuth)
	out = binary.LittleEndian.AppendUint32(out, uint32(5+len(text)))
	out = append(out, librarySecure|echo)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	out = append(append(out, text...), featureEnd)
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	return out
}

func utf16LE(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func fromUTF16LE(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

// Tokens of an answer to a login. Source: MS-TDS, 2.2.7.
const (
	tokenError      = 0xaa
	tokenInfo       = 0xab
	tokenLoginAck   = 0xad
	tokenFeatureAck = 0xae
	tokenEnvChange  = 0xe3
	tokenSession    = 0xe4
	tokenSSPI       = 0xed
	tokenFedAuth    = 0xee
	tokenDone       = 0xfd
	envRouting      = 20
)

// loginAnswer is an answer to a login as the program is to see it.
type loginAnswer struct {
	tokens  []byte
	in      bool   // there was a LOGINACK
	refused string // the message of an ERROR, for the log
	route   *route
}

type route struct {
	host string
	port int
}

// readLoginAnswer takes what a program without a token must not see out of an
// answer. asked says that the program has asked for features.
func readLoginAnswer(m []byte, asked bool) (*loginAnswer, error) {
	a := &loginAnswer{refused: "no reason given"}
	for len(m) > 0 {
		n, err := tokenSize(m)
		if err != nil {
			return nil, err
		}
		t := m[:n]
		m = m[n:]
		switch t[0] {
		case tokenFeatureAck:
			t = withoutFedAuth(t, asked)
		case tokenLoginAck:
			a.in = true
		case tokenError:
			if len(t) > 11 {
				if n := int(binary.LittleEndian.Uint16(t[9:])) * 2; 11+n <= len(t) {
					a.refused = fromUTF16LE(t[11 : 11+n])
				}
			}
		case tokenEnvChange:
			if len(t) > 3 && t[3] == envRouting {
				if a.route = parseRoute(t[4:]); a.route == nil {
					return nil, errTDS
				}
			}
		case tokenFedAuth:
			return nil, errTDS // the token was sent already
		}
		a.tokens = append(a.tokens, t...)
	}
	return a, nil
}

// tokenSize is how long a token is.
func tokenSize(m []byte) (int, error) {
	n := 0
	switch m[0] {
	case tokenError, tokenInfo, tokenLoginAck, tokenEnvChange, tokenSSPI:
		if len(m) < 3 {
			return 0, errTDS
		}
		n = 3 + int(binary.LittleEndian.Uint16(m[1:]))
	case tokenSession, tokenFedAuth:
		if len(m) < 5 || binary.LittleEndian.Uint32(m[1:]) > tdsMaxLogin {
			return 0, errTDS
		}
		n = 5 + int(binary.LittleEndian.Uint32(m[1:]))
	case tokenFeatureAck:
		all, err := parseFeatures(m[1:])
		if err != nil {
			return 0, err
		}
		n = 2
		for _, f := range all {
			n += len(f)
		}
	case tokenDone, tokenDone + 1, tokenDone + 2:
		n = 13
	}
	if n == 0 || n > len(m) {
		return 0, errTDS
	}
	return n, nil
}

// withoutFedAuth is FEATUREEXTACK for a program that gave no token.
func withoutFedAuth(t []byte, asked bool) []byte {
	all, err := parseFeatures(t[1:])
	if err != nil || !asked {
		return nil
	}
	out := []byte{tokenFeatureAck}
	for _, f := range all {
		if f[0] != featureFedAuth {
			out = append(out, f...)
		}
	}
	return append(out, featureEnd)
}

// parseRoute reads ENVCHANGE's routing: length, protocol (0 is TCP), port,
// host.
func parseRoute(b []byte) *route {
	if len(b) < 7 || b[2] != 0 {
		return nil
	}
	n := int(binary.LittleEndian.Uint16(b[5:])) * 2
	if n == 0 || 7+n > len(b) {
		return nil
	}
	return &route{host: fromUTF16LE(b[7 : 7+n]), port: int(binary.LittleEndian.Uint16(b[3:]))}
}

// cutInstance splits host\instance.
func cutInstance(s string) (host, instance string, ok bool) { return strings.Cut(s, `\`) }

// tdsError is an answer that refuses: ERROR and DONE.
func tdsError(number uint32, class byte, text string) []byte {
	body := binary.LittleEndian.AppendUint32(nil, number)
	body = append(body, 1, class)
	body = binary.LittleEndian.AppendUint16(body, uint16(len(utf16LE(text))/2))
	body = append(body, utf16LE(text)...)
	server := utf16LE("hawser")
	body = append(append(body, byte(len(server)/2)), server...)
	body = append(body, 0)                           // no procedure
	body = binary.LittleEndian.AppendUint32(body, 1) // line
	out := binary.LittleEndian.AppendUint16([]byte{tokenError}, uint16(len(body)))
	out = append(out, body...)
	return append(out, tokenDone, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // DONE_ERROR
}
