package mysql

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
)

const (
	cachingSHA2 = "caching_sha2_password"
	sha256Plain = "sha256_password"
	ed25519     = "client_ed25519"
)

// maxRounds bounds the packets of a login: MariaDB tries as many plugins as an
// account has, and the longest of them takes three.
const maxRounds = 12

// auth is the client's half of an authentication.
type auth struct {
	password string
	secure   bool // TLS, or a socket of this machine: the password may pass as it is

	plugin   string
	scramble []byte
	asked    bool // for the server's public key
}

// converse answers the server until it lets us in or does not, and returns the
// status it gives. seq is the next packet's.
func (a *auth) converse(c io.ReadWriter, seq byte) (status uint16, err error) {
	for range maxRounds {
		body, err := readPacket(c, seq, maxLogin)
		if err != nil {
			return 0, err
		}
		if len(body) == 0 {
			return 0, errFormat
		}
		var answer []byte
		switch body[0] {
		case markOK:
			status, ok := okStatus(body)
			if !ok {
				return 0, errFormat
			}
			return status & (statusAutocommit | statusNoBackslash), nil
		case markError:
			return 0, parseError(body)
		case markEOF:
			answer, err = a.change(body[1:])
		case markMore:
			answer, err = a.more(body[1:])
		default:
			err = errFormat
		}
		if err != nil {
			return 0, err
		}
		seq++
		if answer == nil {
			continue
		}
		if _, err := c.Write(appendPacket(nil, seq, answer)); err != nil {
			return 0, err
		}
		seq++
	}
	return 0, errors.New("the server does not come to an end with the login")
}

// change takes the body of an AuthSwitchRequest. An empty one asks for the
// password hash of MySQL 4.0, which is as good as the password.
func (a *auth) change(body []byte) ([]byte, error) {
	f := fields{b: body}
	plugin := f.cstring()
	if f.bad {
		return nil, errors.New("the server asks for a login in the way of MySQL 4.0, which is not safe")
	}
	answer := a.begin(plugin, bytes.TrimSuffix(f.b, []byte{0}))
	if answer == nil {
		return nil, fmt.Errorf("the server asks for a login by %q, which is not done: use %s, %s, %s or %s", clean(plugin), native, cachingSHA2, sha256Plain, ed25519)
	}
	return answer, nil
}

// begin returns the first answer of a plugin; nil: it is not done. The
// password itself leaves only where nobody on the way can read it.
func (a *auth) begin(plugin string, scramble []byte) []byte {
	a.plugin, a.scramble, a.asked = plugin, bytes.Clone(scramble), false
	switch plugin {
	case native:
		return scrambleNative(a.password, a.scramble)
	case cachingSHA2:
		return scrambleSHA2(a.password, a.scramble)
	case sha256Plain:
		if a.password == "" || a.secure {
			return append([]byte(a.password), 0)
		}
		a.asked = true
		return []byte{1} // for the public key
	case ed25519:
		return signEd25519(a.password, a.scramble)
	}
	return nil
}

// What caching_sha2_password says after the first answer.
const (
	fastAuth   = 3 // the hash was right: OK follows
	fullAuth   = 4 // the server has no hash yet: it needs the password
	requestKey = 2
)

// more takes the body of AuthMoreData. A nil answer means that there is none.
func (a *auth) more(body []byte) ([]byte, error) {
	switch {
	case a.asked:
		a.asked = false
		return a.encrypt(body)
	case a.plugin == cachingSHA2 && len(body) == 1 && body[0] == fastAuth:
		return nil, nil
	case a.plugin == cachingSHA2 && len(body) == 1 && body[0] == fullAuth:
		if a.secure {
			return append([]byte(a.password), 0), nil
		}
		a.asked = true
		return []byte{requestKey}, nil
	}
	return nil, errFormat
}

// encrypt hides the password for the holder of a public key: RSA-OAEP over the
// password, its NUL included, under the scramble.
func (a *auth) encrypt(key []byte) ([]byte, error) {
	block, _ := pem.Decode(key)
	if block == nil || len(a.scramble) == 0 {
		return nil, errFormat
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the server's public key is not an RSA key")
	}
	plain := append([]byte(a.password), 0)
	for i := range plain {
		plain[i] ^= a.scramble[i%len(a.scramble)]
	}
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, public, plain, nil)
}

// scrambleNative is SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password))).
func scrambleNative(password string, scramble []byte) []byte {
	if password == "" {
		return []byte{}
	}
	one := sha1.Sum([]byte(password))
	two := sha1.Sum(one[:])
	three := sha1.Sum(append(bytes.Clone(scramble), two[:]...))
	subtle.XORBytes(three[:], three[:], one[:])
	return three[:]
}

// scrambleSHA2 is SHA256(password) XOR SHA256(SHA256(SHA256(password)), scramble).
func scrambleSHA2(password string, scramble []byte) []byte {
	if password == "" {
		return []byte{}
	}
	one := sha256.Sum256([]byte(password))
	two := sha256.Sum256(one[:])
	three := sha256.Sum256(append(two[:], scramble...))
	subtle.XORBytes(three[:], three[:], one[:])
	return three[:]
}

// signEd25519 signs as RFC 8032 does, 5.1.6, but with a secret key of any
// length, the password; that is why crypto/ed25519 cannot do it.
func signEd25519(password string, message []byte) []byte {
	h := sha512.Sum512([]byte(password))
	s, err := edwards25519.NewScalar().SetBytesWithClamping(h[:32])
	if err != nil {
		return nil // it has 32 bytes
	}
	public := new(edwards25519.Point).ScalarBaseMult(s).Bytes()
	r := hashScalar(h[32:], message)
	head := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	k := hashScalar(head, public, message)
	return append(head, k.MultiplyAdd(k, s, r).Bytes()...)
}

func hashScalar(parts ...[]byte) *edwards25519.Scalar {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	s, err := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
	if err != nil {
		panic("mysql: a SHA-512 hash does not have 64 bytes")
	}
	return s
}
