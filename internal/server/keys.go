package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Where the store keeps the wrapped data keys.
const metaKeyset = "seal/keyset"

// Names under which a KEK may be given. Only the first that is there counts.
const (
	envKEK         = "HAWSER_KEK"          // base64 or hex of 32 bytes
	envKEKPrevious = "HAWSER_KEK_PREVIOUS" // the one before, for one start after a change
	envPassphrase  = "HAWSER_PASSPHRASE"   // argon2id makes a KEK of it
	credentialKEK  = "hawser-kek"          // systemd LoadCredential
)

// keyring holds the sealer and where its KEK came from.
type keyring struct {
	sealer *seal.Sealer
	kek    *seal.KEK
	file   string // the KEK's file, "" if it came from elsewhere
	store  *store.Store
	log    *slog.Logger
}

// loadKEK finds the KEK: environment, systemd credential, passphrase, or the
// file in the data directory, which the first start (create) makes.
func loadKEK(ctx context.Context, cfg *Config, st *store.Store, create bool) (kek, previous *seal.KEK, file string, err error) {
	if v := cfg.Getenv(envKEKPrevious); v != "" {
		if previous, err = seal.KEKFromEnv(v); err != nil {
			return nil, nil, "", fmt.Errorf("cannot use %s: %w", envKEKPrevious, err)
		}
	}
	if v := cfg.Getenv(envKEK); v != "" {
		kek, err = seal.KEKFromEnv(v)
		return kek, previous, "", err
	}
	if dir := cfg.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if _, serr := os.Stat(filepath.Join(dir, credentialKEK)); serr == nil {
			kek, err = seal.KEKFromCredential(dir, credentialKEK)
			return kek, previous, "", err
		}
	}
	if v := cfg.Getenv(envPassphrase); v != "" {
		salt, err := passphraseSalt(ctx, st)
		if err != nil {
			return nil, nil, "", err
		}
		kek, err = seal.KEKFromPassphrase([]byte(v), salt)
		return kek, previous, "", err
	}
	file = filepath.Join(cfg.Data, "kek")
	kek, err = seal.KEKFromFile(file, create)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("the store is sealed, and no key-encryption key is here: put its file at %s, or give it by %s, the systemd credential %s, or %s",
			file, envKEK, credentialKEK, envPassphrase)
	}
	return kek, previous, file, err
}

// metaSalt is where the store keeps the passphrase's salt: beside the keys that
// it helps to wrap. It is no secret; other planes of the store need it, and so
// does whoever has only a backup of the store and the passphrase.
const metaSalt = "seal/salt"

func passphraseSalt(ctx context.Context, st *store.Store) ([]byte, error) {
	salt, _, err := metaOnce(ctx, st, metaSalt, func() ([]byte, error) { return seal.NewSalt(), nil })
	return salt, err
}

// openKeyring opens the data keys, or makes them at the first start. Planes
// that start together on one store agree on the keys of whoever was first.
func openKeyring(ctx context.Context, cfg *Config, st *store.Store) (*keyring, error) {
	wrapped, ok, err := st.Meta(ctx, metaKeyset)
	if err != nil {
		return nil, err
	}
	kek, previous, file, err := loadKEK(ctx, cfg, st, !ok)
	if err != nil {
		return nil, err
	}
	k := &keyring{kek: kek, file: file, store: st, log: cfg.Log}
	if !ok {
		if wrapped, err = k.first(ctx); err != nil {
			return nil, err
		}
	}
	if k.sealer, err = seal.Load(kek, wrapped); err == nil {
		st.Listen(k.follow)
		return k, nil
	}
	return k.loadMoved(ctx, cfg, wrapped, previous, err)
}

// first makes data keys, unless another plane was faster.
func (k *keyring) first(ctx context.Context) (wrapped []byte, err error) {
	_, made, err := seal.New(k.kek)
	if err != nil {
		return nil, err
	}
	err = k.store.Write(ctx, func(tx *store.Tx) error {
		there, ok, err := tx.Meta(metaKeyset)
		if err != nil {
			return err
		}
		if wrapped = made; ok {
			wrapped = there
			return nil
		}
		return tx.PutMeta(metaKeyset, made)
	})
	return wrapped, err
}

// loadMoved opens keys that lie under another KEK than the one at hand: the
// next one, which a rotation wrote before it was interrupted, or the previous
// one, which the operator named for this start.
func (k *keyring) loadMoved(ctx context.Context, cfg *Config, wrapped []byte, previous *seal.KEK, cause error) (*keyring, error) {
	if k.file != "" {
		if next, err := seal.KEKFromFile(k.file+".next", false); err == nil {
			if s, err := seal.Load(next, wrapped); err == nil {
				if err := os.Rename(k.file+".next", k.file); err != nil {
					return nil, err
				}
				k.kek, k.sealer = next, s
				k.store.Listen(k.follow)
				return k, nil
			}
		}
	}
	if previous != nil {
		s, err := seal.Load(previous, wrapped)
		if err == nil {
			k.sealer = s
			if err := k.rewrap(ctx, k.kek); err != nil {
				return nil, err
			}
			k.store.Listen(k.follow)
			cfg.Log.Info("server: the data keys now lie under the new KEK; the previous one is not needed any more")
			return k, nil
		}
	}
	return nil, fmt.Errorf("cannot open the data keys in the store: %w; give this plane the KEK it was made with (the file kek in the data directory, %s, the systemd credential %s, or %s)",
		cause, envKEK, credentialKEK, envPassphrase)
}

// follow takes over keys that another plane rotated.
func (k *keyring) follow(changes []store.Change) {
	for _, c := range changes {
		if c.Topic == store.TopicReset || c.Topic == store.TopicMeta && c.Key == metaKeyset {
			// Here and now: what comes after this change in the feed may be
			// sealed under the new key. It is one small read, and rare.
			k.reload()
			return
		}
	}
}

func (k *keyring) reload() {
	ctx, cancel := context.WithTimeout(context.Background(), outsideTimeout)
	defer cancel()
	wrapped, ok, err := k.store.Meta(ctx, metaKeyset)
	if err == nil && ok {
		err = k.sealer.Reload(wrapped)
	}
	if err != nil {
		k.log.Error("server: the rotated data keys could not be taken over; restart this plane with the new KEK", "error", err)
	}
}

// rotate makes a new primary data key; older ones still open what they sealed.
func (k *keyring) rotate(ctx context.Context) error {
	wrapped, ok, err := k.store.Meta(ctx, metaKeyset)
	if err != nil || !ok {
		return errors.Join(err, errors.New("the store has no data keys"))
	}
	if err := k.sealer.Reload(wrapped); err != nil {
		return err
	}
	rotated, err := k.sealer.Rotate()
	if err != nil {
		return err
	}
	return k.replace(ctx, wrapped, rotated)
}

// rotateKEK puts the data keys under a new KEK in the KEK's file. The new KEK
// is on disk before the store needs it, so a kill at any point leaves a plane
// that starts.
func (k *keyring) rotateKEK(ctx context.Context) error {
	if k.file == "" {
		return errNoKEKFile
	}
	next := k.file + ".next"
	if err := k.settleNext(ctx, next); err != nil {
		return err
	}
	kek, err := seal.KEKFromFile(next, true)
	if err != nil {
		return err
	}
	if err := k.rewrap(ctx, kek); err != nil {
		return err
	}
	k.kek = kek
	return os.Rename(next, k.file)
}

// settleNext clears the way for a new KEK. What an earlier rotation left may be
// the only copy of the KEK that the data keys lie under: then it takes its
// place, and is not removed.
func (k *keyring) settleNext(ctx context.Context, next string) error {
	kek, err := seal.KEKFromFile(next, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	wrapped, ok, err := k.store.Meta(ctx, metaKeyset)
	if err != nil || !ok {
		return errors.Join(err, errors.New("the store's data keys cannot be read"))
	}
	by, err := seal.WrappedBy(wrapped)
	if err != nil {
		return err
	}
	if by == kek.ID() {
		return os.Rename(next, k.file)
	}
	return os.Remove(next)
}

func (k *keyring) rewrap(ctx context.Context, kek *seal.KEK) error {
	old, _, err := k.store.Meta(ctx, metaKeyset)
	if err != nil {
		return err
	}
	wrapped, err := k.sealer.Rewrap(kek)
	if err != nil {
		return err
	}
	return k.replace(ctx, old, wrapped)
}

// replace stores wrapped keys over those that were read, unless another plane
// rotated in between.
func (k *keyring) replace(ctx context.Context, old, wrapped []byte) error {
	err := k.store.Write(ctx, func(tx *store.Tx) error {
		there, _, err := tx.Meta(metaKeyset)
		if err != nil {
			return err
		}
		if string(there) != string(old) {
			return errRotatedElsewhere
		}
		return tx.PutMeta(metaKeyset, wrapped)
	})
	if err != nil {
		return err
	}
	return k.sealer.Reload(wrapped)
}

var (
	errRotatedElsewhere = errors.New("another plane rotated the keys at the same moment; try again")
	errNoKEKFile        = errors.New("this plane's KEK does not come from its file: start it with the new KEK, and with the old one in " + envKEKPrevious)
)

// reseal puts a sealed value under the newest data key.
func (k *keyring) reseal(place seal.Place, sealed *[]byte, n *int) error {
	if len(*sealed) == 0 || !k.sealer.NeedsReseal(*sealed) {
		return nil
	}
	plain, err := k.sealer.Open(place, *sealed)
	if err != nil {
		return err
	}
	defer seal.Wipe(plain)
	*sealed, err = k.sealer.Seal(place, plain)
	*n++
	return err
}
