package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrOpen is the only answer of Open when it fails: damaged, truncated, sealed
// for another place, or under a key that is not ours. It says no more on
// purpose.
var ErrOpen = errors.New("the sealed value cannot be opened")

// ErrPlace is returned by Seal for a Place that names no row.
var ErrPlace = errors.New("seal: a place needs a table and an id")

// ErrTooLarge is returned by Seal for more than MaxPlain bytes.
var ErrTooLarge = errors.New("seal: the value is too large to be sealed in one piece")

// MaxPlain bounds what Seal takes. AES-GCM itself ends at 2^36-32 bytes (NIST
// SP 800-38D, 5.2.1.1); nothing a row holds comes near this bound.
const MaxPlain = 64 << 20

// A sealed value is the version byte and then exactly what Tink's AES-GCM
// writes with its TINK prefix: 0x01, key id (4), nonce (12), text, tag (16).
const (
	sealedVersion = 1
	tinkPrefix    = 1
	prefixLen     = 1 + 1 + 4
	nonceLen      = 12
	tagLen        = 16

	// Overhead is how much longer a sealed value is than its plain text.
	Overhead = prefixLen + nonceLen + tagLen
)

const (
	hashVersion = 1
	// HashLen is the length of what Hash returns.
	HashLen = 1 + sha256.Size
)

// Place is where a sealed value lives. It is authenticated with the value: a
// value opens only under the Place it was sealed for.
type Place struct{ Table, ID, Version string }

// placeTag keeps sealed rows apart from anything else a data key might ever
// authenticate.
const placeTag = "hawser/seal/place/1"

func (p Place) size() int { return len(placeTag) + 12 + len(p.Table) + len(p.ID) + len(p.Version) }

// appendTo encodes the place; each part carries its length, so no two places
// share an encoding.
func (p Place) appendTo(b []byte) []byte {
	b = append(b, placeTag...)
	for _, s := range [...]string{p.Table, p.ID, p.Version} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

// Sealer seals and opens. All methods may be called from many goroutines.
//
// Nothing but Reload changes its keys: Rotate, Rewrap and Prune return a new
// wrapped blob for the caller to store first. A key that lives only in memory
// would take everything sealed under it to its grave.
type Sealer struct {
	state atomic.Pointer[state]

	mu   sync.Mutex // guards keks and serialises Reload
	keks []*KEK
}

// state is one loaded wrapped blob; it is never changed.
type state struct {
	wrap    wrapping
	keys    []dataKey // the primary first
	hashKey []byte
}

type dataKey struct {
	id   uint32
	aead cipher.AEAD // its Seal draws a random nonce and puts it in front
}

func (st *state) key(id uint32) cipher.AEAD {
	for i := range st.keys {
		if st.keys[i].id == id {
			return st.keys[i].aead
		}
	}
	return nil
}

// New makes fresh keys. The caller must store wrapped before it seals.
func New(kek *KEK) (s *Sealer, wrapped []byte, err error) {
	w, err := newWrapping(kek)
	if err != nil {
		return nil, nil, err
	}
	if wrapped, err = w.bytes(); err != nil {
		return nil, nil, err
	}
	s, err = Load(kek, wrapped)
	return s, wrapped, err
}

// Load opens the keys of a wrapped blob. The error wraps ErrWrongKEK when
// another KEK wrapped it, and ErrDamaged when it is not as it was written.
func Load(kek *KEK, wrapped []byte) (*Sealer, error) {
	st, err := loadState([]*KEK{kek}, wrapped)
	if err != nil {
		return nil, err
	}
	s := &Sealer{keks: []*KEK{kek}}
	s.state.Store(st)
	return s, nil
}

func loadState(keks []*KEK, wrapped []byte) (*state, error) {
	w, err := readWrapping(keks, wrapped)
	if err != nil {
		return nil, err
	}
	keys, err := w.dataKeys()
	if err != nil {
		return nil, err
	}
	return &state{wrap: w, keys: keys, hashKey: expand(w.root, "hash", sha256.Size)}, nil
}

// Seal encrypts plain for a place. The nonce is random: one data key is good
// for 2^32 values (NIST SP 800-38D, 8.3); Rotate long before.
func (s *Sealer) Seal(place Place, plain []byte) ([]byte, error) {
	if place.Table == "" || place.ID == "" {
		return nil, ErrPlace
	}
	if len(plain) > MaxPlain {
		return nil, ErrTooLarge
	}
	primary := &s.state.Load().keys[0]
	n := len(plain) + Overhead
	// One allocation: the place stands behind the room for the result.
	buf := make([]byte, 0, n+place.size())
	ad := place.appendTo(buf[n:n])
	buf = append(buf, sealedVersion, tinkPrefix)
	buf = binary.BigEndian.AppendUint32(buf, primary.id)
	return primary.aead.Seal(buf[:prefixLen:n], nil, plain, ad), nil
}

// Open decrypts what Seal made for the same place. Every failure is ErrOpen.
func (s *Sealer) Open(place Place, sealed []byte) ([]byte, error) {
	out, err := s.AppendOpen(nil, place, sealed)
	if err != nil {
		return nil, err
	}
	return out[:len(out):len(out)], nil
}

// AppendOpen is Open that appends to dst, without an allocation when dst has
// room for the plain text and about 100 bytes more, which it uses for scratch.
// dst and sealed must not overlap. On failure it returns dst.
func (s *Sealer) AppendOpen(dst []byte, place Place, sealed []byte) ([]byte, error) {
	id, ok := keyID(sealed)
	if !ok {
		return dst, ErrOpen
	}
	aead := s.state.Load().key(id)
	if aead == nil {
		return dst, ErrOpen
	}
	end := len(dst) + len(sealed) - Overhead
	buf := slices.Grow(dst, len(sealed)-Overhead+place.size())
	ad := place.appendTo(buf[end:end])
	out, err := aead.Open(buf[:len(dst):end], nil, sealed[prefixLen:], ad)
	if err != nil {
		return dst, ErrOpen
	}
	return out, nil
}

// keyID reads the key's id from the front of a sealed value.
func keyID(sealed []byte) (uint32, bool) {
	if len(sealed) < Overhead || sealed[0] != sealedVersion || sealed[1] != tinkPrefix {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[2:prefixLen]), true
}

// NeedsReseal reports whether sealed is not under the primary key.
func (s *Sealer) NeedsReseal(sealed []byte) bool {
	id, ok := keyID(sealed)
	return !ok || id != s.state.Load().keys[0].id
}

// Knows reports whether sealed names a data key that is loaded. When it does
// not, another plane may have rotated: fetch the wrapped blob, Reload, retry.
func (s *Sealer) Knows(sealed []byte) bool {
	id, ok := keyID(sealed)
	return ok && s.state.Load().key(id) != nil
}

// Hash returns a keyed hash of data: a version byte and HMAC-SHA256. It is the
// same on every plane and after every rotation, so it may be an index. It is
// for random secrets and codes; a password a person chose needs a slow hash.
func (s *Sealer) Hash(purpose string, data []byte) []byte {
	m := hmac.New(sha256.New, s.state.Load().hashKey)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(purpose)))
	m.Write(n[:])
	_, _ = io.WriteString(m, purpose)
	m.Write(data)
	out := make([]byte, 1, HashLen)
	out[0] = hashVersion
	return m.Sum(out)
}

// HashMatches reports in constant time whether stored is the Hash of data.
func (s *Sealer) HashMatches(purpose string, data, stored []byte) bool {
	return hmac.Equal(s.Hash(purpose, data), stored)
}

// Derive returns n bytes of key for a purpose (audit chain, cookies, …): the
// same on every plane and after every rotation, and independent between
// purposes. n is at most 8160 (255 blocks, RFC 5869).
func (s *Sealer) Derive(purpose string, n int) []byte {
	return expand(s.state.Load().wrap.root, "derive/"+purpose, n)
}

func expand(root []byte, info string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, root, "hawser/seal/1/"+info, n)
	if err != nil {
		panic(fmt.Sprintf("seal: deriving %d bytes: %v", n, err)) // a caller's constant is wrong
	}
	return out
}

// Wipe overwrites b. Copies the runtime made are out of reach; see the
// package's comment.
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(&b)
}

// Format prints REDACTED under every verb.
func (s *Sealer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }
