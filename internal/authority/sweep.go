package authority

import (
	"context"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

const (
	// sweepEvery is how often what ended is deleted, and keepEnded how long it
	// stays: a code that comes again within it is known for one, and ends what
	// came from it.
	sweepEvery = 10 * time.Minute
	keepEnded  = time.Hour
	// sweepAtOnce bounds the rows of each kind that one transaction deletes, and
	// sweepRounds the transactions of one sweep, so that requests find room.
	sweepAtOnce = 500
	sweepRounds = 100
)

// sweep deletes codes and families that have ended, until ctx ends.
func (a *Authority) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := a.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("authority: codes and refresh tokens that ended could not be deleted", "error", err)
		}
	}
}

func (a *Authority) sweepOnce(ctx context.Context) error {
	before := az.MicrosOf(a.clock().Add(-keepEnded))
	for range sweepRounds {
		var n int64
		err := a.store.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.SweepTokens(before, sweepAtOnce)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}
