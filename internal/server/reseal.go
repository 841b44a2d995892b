package server

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// reseal puts what lies under older data keys under the newest, in the
// background: both open meanwhile.
func (s *Server) reseal() {
	s.work.Go(func() {
		for what, do := range map[string]func(context.Context) (int, error){"secrets": s.parts.vaults.Reseal,
			"resources": s.parts.arm.Reseal, "signing keys": s.parts.authority.Reseal, "one-time codes": s.parts.signin.Reseal, "the plane's own": s.resealOwn} {
			n, err := do(s.run)
			if err != nil && s.run.Err() == nil {
				s.cfg.Log.Error("server: not everything was sealed again; rotate again to repeat it", "what", what, "error", err)
				continue
			}
			s.cfg.Log.Info("server: sealed again under the newest data key", "what", what, "rows", n)
		}
	})
}

// resealOwn seals the authorities' keys and the first start's credentials anew.
func (s *Server) resealOwn(ctx context.Context) (n int, err error) {
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		n = 0
		for _, key := range []string{metaRoot, metaAzureCA} {
			place := seal.Place{Table: "meta", ID: key, Version: "1"}
			if err := resealMeta(tx, key, func(rec *caRecord) error { return s.keys.reseal(place, &rec.Key, &n) }); err != nil {
				return err
			}
		}
		return resealMeta(tx, metaTenant, func(t *tenant) error {
			return errors.Join(s.keys.reseal(tenantPlace("adminSecret"), &t.AdminSecret, &n), s.keys.reseal(tenantPlace("userPassword"), &t.UserPassword, &n))
		})
	})
	return n, err
}

// resealMeta changes the JSON under a meta key, if there is any.
func resealMeta[T any](tx *store.Tx, key string, change func(*T) error) error {
	b, ok, err := tx.Meta(key)
	if err != nil || !ok {
		return err
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if err := change(&v); err != nil {
		return err
	}
	if b, err = json.Marshal(v); err != nil {
		return err
	}
	return tx.PutMeta(key, b)
}
