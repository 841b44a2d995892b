package vault

import (
	"context"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

const (
	// retentionEvery is how often deleted secrets and vaults whose time has
	// come are looked for. Retention is counted in days.
	retentionEvery = 10 * time.Minute
	// retentionLease keeps other planes from doing the same work; it is
	// longer than the interval, so that one plane goes on with it.
	retentionLease = 15 * time.Minute
	retentionBatch = 100
)

// Run purges what its retention ended, until ctx ends. One plane at a time
// does it.
func (v *Vaults) Run(ctx context.Context) {
	tick := time.NewTicker(retentionEvery)
	defer tick.Stop()
	for {
		until := az.MicrosOf(v.clock().Add(retentionLease))
		mine, err := v.store.TakeLease(ctx, "vault/retention", v.holder, until)
		if err == nil && mine {
			_, err = v.PurgeDue(ctx)
		}
		if err != nil && ctx.Err() == nil {
			v.log.Warn("vault: what was deleted long ago could not be purged; it will be tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// PurgeDue purges every deleted secret and vault whose retention has ended by
// the plane's clock, and returns how many.
func (v *Vaults) PurgeDue(ctx context.Context) (purged int, err error) {
	now := az.MicrosOf(v.clock())
	for {
		due, err := v.store.DueSecrets(ctx, now, retentionBatch)
		if err != nil {
			return purged, err
		}
		for _, d := range due {
			if err := v.purgeDueSecret(ctx, d, now); err != nil {
				return purged, err
			}
			purged++
		}
		if len(due) < retentionBatch {
			break
		}
	}
	vaults, err := v.store.Vaults(ctx, store.VaultQuery{Deleted: true, PurgeDue: now})
	if err != nil {
		return purged, err
	}
	for _, vt := range vaults {
		if err := v.purgeDueVault(ctx, vt, now); err != nil {
			return purged, err
		}
		purged++
	}
	return purged, nil
}

// purgeDueSecret looks again inside the transaction: it may have been
// recovered meanwhile.
func (v *Vaults) purgeDueSecret(ctx context.Context, d store.DueSecret, now az.Micros) error {
	return v.store.Write(ctx, func(tx *store.Tx) error {
		n, ok, err := tx.SecretName(&d.Vault, d.Name)
		if err != nil || !ok || n.Deleted == 0 || n.PurgeAt > now {
			return err
		}
		return purgeSecret(tx, &d.Vault, d.Name)
	})
}

func (v *Vaults) purgeDueVault(ctx context.Context, old store.Vault, now az.Micros) error {
	return v.store.Write(ctx, func(tx *store.Tx) error {
		vt, ok, err := tx.Vault(old.Name)
		if err != nil || !ok || vt.Serial != old.Serial || vt.Deleted == 0 || vt.PurgeAt > now {
			return err
		}
		return tx.PurgeVault(vt)
	})
}

// Reseal seals every value anew that is not under the newest data key, as
// after a rotation, and returns how many.
func (v *Vaults) Reseal(ctx context.Context) (resealed int, err error) {
	var last store.SealedSecret
	for {
		rows, err := v.store.SealedSecrets(ctx, last, retentionBatch)
		if err != nil || len(rows) == 0 {
			return resealed, err
		}
		last = rows[len(rows)-1]
		for _, r := range rows {
			if !v.sealer.NeedsReseal(r.Sealed) {
				continue
			}
			if err := v.reseal(ctx, r); err != nil {
				return resealed, err
			}
			resealed++
		}
	}
}

func (v *Vaults) reseal(ctx context.Context, r store.SealedSecret) error {
	row := store.SecretVersion{Name: r.Name, Version: r.Version, Sealed: r.Sealed}
	plain, err := v.open(nil, v.place(&r.Vault, &row), &row)
	if err != nil {
		return err
	}
	sealed, err := v.sealer.Seal(v.place(&r.Vault, &row), plain)
	clear(plain)
	if err != nil {
		return err
	}
	return v.store.Write(ctx, func(tx *store.Tx) error { return tx.Reseal(r, sealed) })
}
