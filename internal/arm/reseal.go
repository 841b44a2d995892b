package arm

import (
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Reseal seals the secrets of resources anew that are not under the newest
// data key, as after a rotation, and returns how many.
func (a *API) Reseal(ctx context.Context) (resealed int, err error) {
	after := ""
	for {
		rows, err := a.cfg.Store.SealedResources(ctx, after, batch)
		if err != nil || len(rows) == 0 {
			return resealed, err
		}
		after = rows[len(rows)-1].ID.Key()
		for _, row := range rows {
			if !a.cfg.Sealer.NeedsReseal(row.Sealed) {
				continue
			}
			if err := a.reseal(ctx, row); err != nil {
				return resealed, err
			}
			resealed++
		}
	}
}

func (a *API) reseal(ctx context.Context, row store.Resource) error {
	at := place(row.ID, row.ETag)
	plain, err := a.cfg.Sealer.Open(at, row.Sealed)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	sealed, err := a.cfg.Sealer.Seal(at, plain)
	seal.Wipe(plain)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	return a.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.ResealResource(row, sealed) })
}
