package seal

import (
	"crypto/subtle"
	"errors"
)

// ErrForeign is returned by Reload for keys of another plane's data.
var ErrForeign = errors.New("seal: these keys belong to another plane's data; the loaded keys stay in use")

// Rotate returns a wrapped blob with a new primary data key beside the old
// ones. It is not in use until the caller has stored it (only if the stored
// blob is still the one loaded: two planes may rotate at once) and called
// Reload, here and on every other plane.
func (s *Sealer) Rotate() (wrapped []byte, err error) {
	w, err := s.state.Load().wrap.rotated()
	if err != nil {
		return nil, err
	}
	return w.bytes()
}

// Prune returns a wrapped blob with the primary data key only. Call it when
// no stored value NeedsReseal: what is under a dropped key is lost. Like
// Rotate, it takes effect by Reload.
func (s *Sealer) Prune() (wrapped []byte, err error) {
	w, err := s.state.Load().wrap.pruned()
	if err != nil {
		return nil, err
	}
	return w.bytes()
}

// Rewrap returns the same keys under another KEK and remembers that KEK, so
// that Reload accepts the blob. Planes that have the old KEK only keep working
// on the keys they hold until AddKEK or a restart.
func (s *Sealer) Rewrap(newKEK *KEK) (wrapped []byte, err error) {
	if err := s.AddKEK(newKEK); err != nil {
		return nil, err
	}
	w := s.state.Load().wrap
	w.kek = newKEK
	w.seq++
	return w.bytes()
}

// AddKEK lets Reload accept blobs under one more KEK.
func (s *Sealer) AddKEK(kek *KEK) error {
	if !kek.valid() {
		return errNoKEK
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keks {
		if k.ID() == kek.ID() {
			return nil
		}
	}
	s.keks = append(s.keks, kek)
	return nil
}

// Reload puts the keys of a newer wrapped blob to use at once; calls under way
// finish with the keys they began with. A blob older than the loaded one is
// ignored, so that late news does no harm. On any error the old keys stay.
func (s *Sealer) Reload(wrapped []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := loadState(s.keks, wrapped)
	if err != nil {
		return err
	}
	now := s.state.Load()
	if subtle.ConstantTimeCompare(now.wrap.root, st.wrap.root) != 1 {
		return ErrForeign
	}
	if st.wrap.seq > now.wrap.seq {
		s.state.Store(st)
	}
	return nil
}

// KEKID returns the fingerprint of the KEK that wraps the loaded keys.
func (s *Sealer) KEKID() string { return s.state.Load().wrap.kek.ID() }

// Keys returns how many data keys are loaded; more than one means that a
// rotation has not been followed by resealing and Prune.
func (s *Sealer) Keys() int { return len(s.state.Load().keys) }
