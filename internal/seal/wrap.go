package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// ErrWrongKEK says that other key material wrapped the keys than was given.
var ErrWrongKEK = errors.New("wrong key-encryption key")

// ErrDamaged says that a wrapped blob is not as it was written.
var ErrDamaged = errors.New("the wrapped keys are damaged: restore them from a backup")

// A wrapped blob is a header, which is authenticated with both parts, and the
// two parts, each encrypted by the KEK:
//
//	version (1) | KEK id (8) | sequence (8) | nonce, root, tag (60) | Tink's encrypted keyset
//
// The sequence grows with every change, so that a plane can tell old from new.
const (
	wrapVersion = 1
	kekIDLen    = 8
	headerLen   = 1 + kekIDLen + 8
	rootLen     = 32
	rootEnd     = headerLen + nonceLen + rootLen + tagLen

	// maxWrapped bounds a blob: about 150 bytes per data key; this leaves
	// room for hundreds of rotations that nobody pruned.
	maxWrapped = 64 << 10
)

// wrapping is the content of a wrapped blob.
type wrapping struct {
	kek  *KEK
	seq  uint64
	root []byte
	keys *keyset.Handle
}

func newWrapping(kek *KEK) (wrapping, error) {
	if !kek.valid() {
		return wrapping{}, errNoKEK
	}
	w := wrapping{kek: kek, root: make([]byte, rootLen)}
	_, _ = rand.Read(w.root) // never fails: crypto/rand ends the program instead
	return w.addKey(keyset.NewManager())
}

// rotated has one more data key, which is the primary.
func (w wrapping) rotated() (wrapping, error) { return w.addKey(keyset.NewManagerFromHandle(w.keys)) }

func (w wrapping) addKey(m *keyset.Manager) (wrapping, error) {
	params, err := aesgcm.NewParameters(aesgcm.ParametersOpts{
		KeySizeInBytes: 32, IVSizeInBytes: nonceLen, TagSizeInBytes: tagLen, Variant: aesgcm.VariantTink,
	})
	if err != nil {
		return wrapping{}, fmt.Errorf("seal: data key parameters: %w", err)
	}
	id, err := m.AddNewKeyFromParameters(params)
	if err != nil {
		return wrapping{}, fmt.Errorf("seal: making a data key: %w", err)
	}
	if err := m.SetPrimary(id); err != nil {
		return wrapping{}, fmt.Errorf("seal: making a data key primary: %w", err)
	}
	return w.with(m)
}

// pruned has the primary data key only.
func (w wrapping) pruned() (wrapping, error) {
	m := keyset.NewManagerFromHandle(w.keys)
	for i := range w.keys.Len() {
		e, err := w.keys.Entry(i)
		if err != nil {
			return wrapping{}, fmt.Errorf("seal: reading the keyset: %w", err)
		}
		if e.IsPrimary() {
			continue
		}
		if err := m.Delete(e.KeyID()); err != nil {
			return wrapping{}, fmt.Errorf("seal: dropping an old data key: %w", err)
		}
	}
	return w.with(m)
}

func (w wrapping) with(m *keyset.Manager) (wrapping, error) {
	h, err := m.Handle()
	if err != nil {
		return wrapping{}, fmt.Errorf("seal: reading the keyset: %w", err)
	}
	w.keys = h
	w.seq++
	return w, nil
}

// bytes encrypts and encodes.
func (w wrapping) bytes() ([]byte, error) {
	b := append([]byte{wrapVersion}, w.kek.id[:]...)
	b = binary.BigEndian.AppendUint64(b, w.seq)
	header := bytes.Clone(b)
	root, err := w.kek.Encrypt(w.root, header)
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(append(b, root...))
	if err := w.keys.WriteWithAssociatedData(keyset.NewBinaryWriter(buf), w.kek, header); err != nil {
		return nil, fmt.Errorf("seal: writing the keyset: %w", err)
	}
	if buf.Len() > maxWrapped {
		return nil, errors.New("seal: too many data keys: reseal what is stored and prune before the next rotation")
	}
	return buf.Bytes(), nil
}

// WrappedBy returns the fingerprint of the KEK that wrapped the blob, to find
// the right one among several.
func WrappedBy(wrapped []byte) (kekID string, err error) {
	if len(wrapped) <= rootEnd || len(wrapped) > maxWrapped || wrapped[0] != wrapVersion {
		return "", ErrDamaged
	}
	return hex.EncodeToString(wrapped[1 : 1+kekIDLen]), nil
}

// readWrapping opens a blob with whichever of the KEKs wrapped it.
func readWrapping(keks []*KEK, b []byte) (wrapping, error) {
	id, err := WrappedBy(b)
	if err != nil {
		return wrapping{}, err
	}
	kek, err := pickKEK(keks, id)
	if err != nil {
		return wrapping{}, err
	}
	header := b[:headerLen]
	w := wrapping{kek: kek, seq: binary.BigEndian.Uint64(header[1+kekIDLen:])}
	if w.root, err = kek.Decrypt(b[headerLen:rootEnd], header); err != nil {
		return wrapping{}, ErrDamaged
	}
	w.keys, err = keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(b[rootEnd:])), kek, header)
	if err != nil {
		return wrapping{}, ErrDamaged // Tink's words may quote what it read
	}
	return w, nil
}

func pickKEK(keks []*KEK, id string) (*KEK, error) {
	given := ""
	for _, k := range keks {
		if !k.valid() {
			return nil, errNoKEK
		}
		if k.ID() == id {
			return k, nil
		}
		given += " " + k.ID()
	}
	return nil, fmt.Errorf("%w: the keys are wrapped by %s, given was%s", ErrWrongKEK, id, given)
}

// dataKeys returns the keys ready for use, the primary first.
//
// They are the standard library's ciphers over Tink's keys: Tink's own wrapper
// looks keys up by prefix in a map of slices, reports to a monitor, and cannot
// append to a buffer. The bytes written are the same; a test opens them with
// Tink.
func (w wrapping) dataKeys() ([]dataKey, error) {
	keys := make([]dataKey, 0, w.keys.Len())
	for i := range w.keys.Len() {
		e, err := w.keys.Entry(i)
		if err != nil {
			return nil, ErrDamaged
		}
		k, ok := e.Key().(*aesgcm.Key)
		if !ok || e.KeyStatus() != keyset.Enabled {
			return nil, ErrDamaged
		}
		a, err := newGCM(k.KeyBytes().Data(insecuresecretdataaccess.Token{}))
		if err != nil {
			return nil, err
		}
		keys = append(keys, dataKey{e.KeyID(), a})
		if e.IsPrimary() {
			keys[0], keys[i] = keys[i], keys[0]
		}
	}
	return keys, nil
}

// newGCM returns AES-256-GCM with a random nonce in front of the text.
func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, ErrDamaged
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
