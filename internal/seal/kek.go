package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/crypto/argon2"
)

// KEKLen is the length of a key-encryption key's material in bytes.
const KEKLen = 32

const redacted = "REDACTED"

var errNoKEK = errors.New("seal: no key-encryption key was given")

// KEK is a key-encryption key. It prints REDACTED; only ID may be shown.
//
// Its material is used for nothing itself: the wrapping key and the
// fingerprint are each derived from it.
type KEK struct {
	// A function, because fmt follows pointers in unexported fields under a
	// wrong verb, and asks no Format method there.
	secret func() kekSecret
	id     [kekIDLen]byte
}

type kekSecret struct {
	aead     cipher.AEAD // under the wrapping key
	material *[KEKLen]byte
}

func newKEK(material []byte) (*KEK, error) {
	if len(material) != KEKLen {
		return nil, fmt.Errorf("seal: a key-encryption key has %d bytes, this has %d", KEKLen, len(material))
	}
	if strings.Count(string(material), string(material[:1])) == KEKLen {
		return nil, errors.New("seal: the key-encryption key is one byte repeated; make a random one")
	}
	wrapKey := label(material, "hawser/kek/1/wrap")
	defer Wipe(wrapKey)
	aead, err := newGCM(wrapKey)
	if err != nil {
		return nil, err
	}
	inner := kekSecret{aead, (*[KEKLen]byte)(bytes.Clone(material))}
	k := &KEK{secret: func() kekSecret { return inner }}
	copy(k.id[:], label(material, "hawser/kek/1/id"))
	return k, nil
}

func label(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	_, _ = io.WriteString(m, text)
	return m.Sum(nil)
}

func (k *KEK) valid() bool { return k != nil && k.secret != nil }

// NewKEK makes a random KEK. Text gives it to whoever must keep it.
func NewKEK() (*KEK, error) {
	var b [KEKLen]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	defer Wipe(b[:])
	return newKEK(b[:])
}

// KEKFromEnv reads a KEK from the value of an environment variable: 32 bytes
// in base64 (standard or URL alphabet, padded or not) or hex.
func KEKFromEnv(value string) (*KEK, error) {
	b, err := decodeKEK(strings.TrimSpace(value))
	if err != nil {
		return nil, err
	}
	defer Wipe(b)
	return newKEK(b)
}

func decodeKEK(text string) ([]byte, error) {
	var b []byte
	var err error
	if len(text) == hex.EncodedLen(KEKLen) {
		b, err = hex.DecodeString(text)
	} else {
		t := strings.TrimRight(text, "=")
		t = strings.NewReplacer("-", "+", "_", "/").Replace(t)
		b, err = base64.RawStdEncoding.Strict().DecodeString(t)
	}
	if err != nil || len(b) != KEKLen { // the decoder's error would quote the key
		Wipe(b)
		return nil, fmt.Errorf("seal: a key-encryption key is %d bytes in base64 or hex; make one with: openssl rand -base64 %d", KEKLen, KEKLen)
	}
	return b, nil
}

// Argon2id's parameters are the second recommended option of RFC 9106, section
// 4 (3 passes, 64 MiB, 4 lanes, 128-bit salt); OWASP's Password Storage Cheat
// Sheet asks for at least 19 MiB and 2 passes. It takes about 0.1 s, once.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4

	// SaltLen is the shortest salt accepted. Source: RFC 9106, 3.1 and 4.
	SaltLen = 16
	// MinPassphrase is the shortest passphrase accepted, in bytes. Source: NIST
	// SP 800-63B-4, 3.1.1.2, for a password that stands alone.
	MinPassphrase = 15
)

// KEKFromPassphrase derives a KEK by argon2id. The salt is no secret but must
// be kept: random, at least SaltLen bytes, next to the wrapped keys. The caller
// may Wipe pass afterwards.
func KEKFromPassphrase(pass, salt []byte) (*KEK, error) {
	if len(pass) < MinPassphrase {
		return nil, fmt.Errorf("seal: the passphrase is shorter than %d characters; take a longer one", MinPassphrase)
	}
	if len(salt) < SaltLen {
		return nil, fmt.Errorf("seal: the salt is shorter than %d bytes", SaltLen)
	}
	b := argon2.IDKey(pass, salt, argonTime, argonMemory, argonThreads, KEKLen)
	defer Wipe(b)
	return newKEK(b)
}

// NewSalt makes a salt for KEKFromPassphrase.
func NewSalt() []byte {
	b := make([]byte, SaltLen)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// ID returns the public fingerprint: 16 hex digits that tell KEKs apart and
// say nothing about the key.
func (k *KEK) ID() string { return hex.EncodeToString(k.id[:]) }

// Text returns the key itself in base64, as KEKFromEnv reads it: for whoever
// must write it down, and for nobody else.
func (k *KEK) Text() string { return base64.StdEncoding.EncodeToString(k.secret().material[:]) }

// Encrypt makes KEK a tink.AEAD: it wraps keysets.
func (k *KEK) Encrypt(plain, ad []byte) ([]byte, error) {
	return k.secret().aead.Seal(nil, nil, plain, ad), nil
}

// Decrypt is Encrypt's inverse; every failure is ErrDamaged.
func (k *KEK) Decrypt(sealed, ad []byte) ([]byte, error) {
	out, err := k.secret().aead.Open(nil, nil, sealed, ad)
	if err != nil {
		return nil, ErrDamaged
	}
	return out, nil
}

// String and its kin keep the key out of every output.
func (k *KEK) String() string { return redacted }

// GoString is for %#v.
func (k *KEK) GoString() string { return redacted }

// Format is for every other verb.
func (k *KEK) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is for slog.
func (k *KEK) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is for encoders, JSON among them.
func (k *KEK) MarshalText() ([]byte, error) { return []byte(redacted), nil }
