package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"log/slog"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Config is what the vaults stand on.
type Config struct {
	Store  *store.Store
	Guard  *guard.Guard
	Sealer *seal.Sealer
	Clock  az.Clock
	Log    *slog.Logger
	Names  az.Names
	// CacheBytes bounds the cache of sealed secrets; 0 means
	// DefaultCacheBytes.
	CacheBytes int
}

// Vaults is all Key Vaults of a plane. Its methods may be called concurrently.
type Vaults struct {
	store  *store.Store
	guard  *guard.Guard
	sealer *seal.Sealer
	clock  az.Clock
	log    *slog.Logger
	names  az.Names
	cache  *cache
	hosts  hosts
	box    cipher.AEAD // of skip tokens and backups
	holder string      // of the retention lease

	resources *arm.Type[properties]
}

// New makes the vaults of a plane.
func New(cfg Config) *Vaults {
	v := &Vaults{store: cfg.Store, guard: cfg.Guard, sealer: cfg.Sealer, clock: cfg.Clock, log: cfg.Log, names: cfg.Names,
		cache: newCache(cfg.CacheBytes), hosts: hosts{names: cfg.Names}, holder: az.NewGUID()}
	// The key is the same on every plane and outlives the rotation of data
	// keys: backups are kept for years.
	block, err := aes.NewCipher(cfg.Sealer.Derive("vault/box", 32))
	if err == nil {
		v.box, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil { // the key's length is a constant above
		panic(err)
	}
	v.resources = v.resourceType()
	cfg.Store.Listen(v.cache.changed)
	return v
}

// Codes of errors that Get returns, for callers that tell them apart.
const (
	CodeVaultNotFound         = "VaultNotFound"
	CodeSecretNotFound        = "SecretNotFound"
	CodeSecretVersionNotFound = "SecretVersionNotFound"
	CodeForbidden             = "Forbidden"
	CodeDisabled              = "SecretDisabled"
	codeBadParameter          = "BadParameter"
	codeConflict              = "Conflict"
)

// Secret is a version of a secret with its value.
type Secret struct {
	Name      string
	Version   string
	Value     az.Secret
	NotBefore az.Micros // 0: none
	Expires   az.Micros // 0: none
	Updated   az.Micros
}

// Get reads a secret for a caller whose token was checked elsewhere, as when a
// site's Key Vault reference is resolved; version "" is the latest. Errors are
// az.Errors whose Code is one of the Code constants; with a denial,
// guard.AsDenied finds what was missing.
func (v *Vaults) Get(ctx context.Context, caller az.Principal, vaultName, secret, version string) (Secret, error) {
	if err := v.store.Fresh(ctx); err != nil {
		return Secret{}, err
	}
	vt, err := v.vault(ctx, vaultName)
	if err != nil {
		return Secret{}, err
	}
	if err := checkName(secret, version); err != nil {
		return Secret{}, err
	}
	r, place, err := v.read(ctx, caller, vt, secret, version, nil)
	if err != nil {
		return Secret{}, err
	}
	plain, err := v.open(nil, place, &r)
	if err != nil {
		return Secret{}, err
	}
	defer seal.Wipe(plain)
	return Secret{Name: r.Name, Version: r.Version, Value: az.NewSecret(string(plain)), NotBefore: r.NotBefore,
		Expires: r.Expires, Updated: r.Updated}, nil
}

// vault finds a live vault by name.
func (v *Vaults) vault(ctx context.Context, name string) (*live, error) {
	name = fold(name)
	if vt := v.cache.vault(name); vt != nil {
		return vt, nil
	}
	gen := v.cache.vaultGen.Load()
	row, ok, err := v.store.Vault(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ok || row.Deleted != 0 {
		return nil, vaultNotFound()
	}
	vt, err := newLive(row)
	if err != nil {
		return nil, err
	}
	v.cache.putVault(name, vt, gen)
	return vt, nil
}

// Surface serves https://{vault}.vault.D. The caller sets Verify.
func (v *Vaults) Surface() *rest.Surface {
	return &rest.Surface{Name: "vault", Form: rest.FormKeyVault, Routes: v.routes(), Challenge: v.challenge,
		Before: v.before, Log: v.log, Clock: v.clock}
}
