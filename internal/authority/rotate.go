package authority

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// follow keeps a next key in the ring and deletes retired ones, until ctx ends.
func (kr *keyring) follow(ctx context.Context) {
	tick := time.NewTicker(checkKeysEvery)
	defer tick.Stop()
	for {
		if err := kr.maintain(ctx); err != nil && ctx.Err() == nil {
			kr.a.log.Warn("authority: the signing keys could not be looked after", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// maintain makes the next key once the newest has begun to sign.
func (kr *keyring) maintain(ctx context.Context) error {
	r, err := kr.ring(ctx)
	if err != nil {
		return err
	}
	if len(r.keys) == 0 {
		return kr.ensure(ctx)
	}
	now := az.MicrosOf(kr.a.clock())
	newest := r.keys[len(r.keys)-1]
	if newest.From > now && r.keys[0].accepted(now) {
		return nil
	}
	return kr.change(ctx, false)
}

// RotateKeys lets the next key sign from now on and makes another next one.
// What the old key signed is accepted until it ends. It is refused while the
// next key has not been published for a day, since verifiers elsewhere would
// not know it yet; force overrides that. RevokeKeys is for stolen keys.
func (a *Authority) RotateKeys(ctx context.Context, force bool) error {
	r, err := a.keys.ring(ctx)
	if err != nil {
		return err
	}
	if len(r.keys) == 0 {
		return a.keys.ensure(ctx)
	}
	newest := r.keys[len(r.keys)-1]
	cert, err := x509.ParseCertificate(newest.Certificate)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	if made := cert.NotBefore.Add(time.Hour); !force && a.clock().Sub(made) < minPublished {
		return az.Errorf(az.Conflict, "Conflict", "The next signing key was published less than %s ago, so verifiers may not know it yet; wait, or force the rotation.", minPublished)
	}
	return a.keys.change(ctx, true)
}

// change makes a key and puts it at the ring's end. With now, the key that was
// there signs from this moment.
func (kr *keyring) change(ctx context.Context, now bool) error {
	until := az.MicrosOf(kr.a.clock().Add(keyLease))
	taken, err := kr.a.store.TakeLease(ctx, "signing keys", kr.a.cfg.Plane, until)
	if err != nil {
		return err
	}
	if !taken {
		if now {
			return az.Errorf(az.Conflict, "Conflict", "Another plane is changing the signing keys; try again in a moment.")
		}
		return nil
	}
	next, err := kr.generate()
	if err != nil {
		return err
	}
	changed := false
	err = kr.a.store.Write(ctx, func(tx *store.Tx) error {
		changed, err = kr.advance(tx, next, now)
		return err
	})
	if err != nil || !changed {
		return err
	}
	kr.a.log.Info("authority: a new signing key was published", "kid", next.KID)
	return kr.a.guard.Record(ctx, guard.Event{Kind: guard.EventSystem, Action: "rotate signing keys", Outcome: guard.Allowed, Detail: "published " + next.KID})
}

// advance writes one step of rotation, judged by what is in the store now.
func (kr *keyring) advance(tx *store.Tx, next store.SigningKey, now bool) (changed bool, err error) {
	rows, err := tx.SigningKeys()
	if err != nil || len(rows) == 0 {
		return false, err
	}
	at := tx.Now()
	for _, k := range rows {
		if k.Retired != 0 && k.Retired <= at {
			if err := tx.DeleteSigningKey(k.KID); err != nil {
				return false, err
			}
		}
	}
	newest := &rows[len(rows)-1]
	if now && newest.From > at {
		newest.From = at
		if len(rows) > 1 {
			before := rows[len(rows)-2]
			end(&before, at)
			if err := tx.PutSigningKey(before); err != nil {
				return false, err
			}
		}
	}
	if newest.From > at {
		return false, nil // another plane was first
	}
	next.From = az.MicrosOf(newest.From.Time().Add(kr.a.cfg.RotateEvery))
	if least := az.MicrosOf(at.Time().Add(minPublished)); next.From < least {
		next.From = least // the plane was off for long: publish first
	}
	end(newest, next.From)
	if err := tx.PutSigningKey(*newest); err != nil {
		return false, err
	}
	return true, tx.PutSigningKey(next)
}

// RevokeKeys makes new keys and deletes all others: for keys that may be known
// to others. Every token that was issued ends with them, and verifiers
// elsewhere must fetch the key set again.
func (a *Authority) RevokeKeys(ctx context.Context) error {
	err := a.keys.begin(ctx, func(tx *store.Tx) error {
		rows, err := tx.SigningKeys()
		if err != nil {
			return err
		}
		for _, k := range rows {
			if err := tx.DeleteSigningKey(k.KID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.guard.Record(ctx, guard.Event{Kind: guard.EventSystem, Action: "revoke signing keys", Outcome: guard.Allowed})
}

// Reseal seals the private keys anew that are not under the newest data key,
// as after a rotation of data keys.
func (a *Authority) Reseal(ctx context.Context) (resealed int, err error) {
	err = a.store.Write(ctx, func(tx *store.Tx) error {
		resealed = 0
		rows, err := tx.SigningKeys()
		if err != nil {
			return err
		}
		for _, k := range rows {
			if !a.cfg.Sealer.NeedsReseal(k.Sealed) {
				continue
			}
			if k.Sealed, err = a.keys.reseal(k); err != nil {
				return err
			}
			if err := tx.PutSigningKey(k); err != nil {
				return err
			}
			resealed++
		}
		return nil
	})
	return resealed, err
}

func (kr *keyring) reseal(k store.SigningKey) ([]byte, error) {
	plain, err := kr.a.cfg.Sealer.Open(place(k.KID), k.Sealed)
	if err == nil {
		defer seal.Wipe(plain)
		var sealed []byte
		if sealed, err = kr.a.cfg.Sealer.Seal(place(k.KID), plain); err == nil {
			return sealed, nil
		}
	}
	return nil, az.Errorf(az.Internal, "", "").Because(fmt.Errorf("cannot seal signing key %s anew: %w", k.KID, err))
}
