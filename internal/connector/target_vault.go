package connector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// storeSecrets is the step that puts a connection's secrets into a vault, with
// the rights of whoever makes the connection.
func (p *plan) storeSecrets(caller az.Principal) []step {
	if p.vault.IsRoot() {
		return nil
	}
	m := p.linker.Properties.Made
	var old *made
	if p.old != nil {
		old = p.old.Properties.Made
	}
	if old == nil || !old.KeyVault.Equal(p.vault) {
		old = &made{}
	}
	return []step{{
		name: "put the secrets into the vault",
		do: func(ctx context.Context) error {
			_, ok, err := p.c.cfg.Vaults.ByPolicies(ctx, p.vault)
			if err == nil && !ok {
				err = az.Errorf(az.NotFound, "ResourceNotFound", "The vault '%s' was not found.", p.vault.Name())
			}
			if err != nil {
				return err
			}
			for _, s := range p.c.targetOf(p.linker).settings() {
				if s.Secret.IsZero() || isReference(s.Secret) {
					continue
				}
				name := old.Vaulted[s.Name]
				if name == "" {
					name = secretName(p.linker.ID, s.Name)
				}
				if m.Vaulted == nil {
					m.KeyVault, m.Vaulted = p.vault, map[string]string{}
				}
				m.Vaulted[s.Name] = name
				if _, err := p.c.cfg.Vaults.Put(ctx, caller, p.vault.Name(), name, s.Secret); err != nil {
					return err
				}
			}
			return nil
		},
		undo: func(ctx context.Context) error {
			return p.c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
				for setting, name := range m.Vaulted {
					if old.Vaulted[setting] == name {
						continue
					}
					if err := p.c.cfg.Vaults.Drop(tx, p.vault.Name(), name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}}
}

// secretName is a name that no secret had: one that was deleted keeps its own
// until it is purged.
func secretName(linker az.ID, setting string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, linker.Name()+"-"+setting)
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return plain[:min(len(plain), maxSecretName-9)] + "-" + hex.EncodeToString(b[:])
}

// maxSecretName is Key Vault's. Source: "Vault-name and object-name".
const maxSecretName = 127

func validSecretName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxSecretName
}
