package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Where the store keeps what a tenant is, and its certificate authorities.
const (
	metaTenant  = "plane/tenant"
	metaRoot    = "ca/root"
	metaAzureCA = "ca/azure-names"
)

// tenant is what the first start makes once for every plane of a store.
type tenant struct {
	TenantID       string `json:"tenantId"`
	SubscriptionID string `json:"subscriptionId"`
	Domain         string `json:"domain"`
	AdminClientID  string `json:"adminClientId"`
	AdminObjectID  string `json:"adminObjectId"`
	AdminSecret    []byte `json:"adminSecret"` // sealed: "hawser env --as admin" shows it
	UserName       string `json:"userName"`
	UserObjectID   string `json:"userObjectId"`
	UserPassword   []byte `json:"userPassword"` // sealed, for the same
}

func tenantPlace(field string) seal.Place {
	return seal.Place{Table: "meta", ID: metaTenant, Version: field}
}

// caRecord is a certificate authority as stored.
type caRecord struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"` // sealed PKCS #8
}

// metaOnce returns the JSON under a meta key, made by make if there is none;
// planes that start together agree on the first one.
func metaOnce[T any](ctx context.Context, st *store.Store, key string, make func() (T, error)) (v T, made bool, err error) {
	b, ok, err := st.Meta(ctx, key)
	if err != nil {
		return v, false, err
	}
	if ok {
		return v, false, json.Unmarshal(b, &v)
	}
	fresh, err := make()
	if err != nil {
		return v, false, err
	}
	if b, err = json.Marshal(fresh); err != nil {
		return v, false, err
	}
	err = st.Write(ctx, func(tx *store.Tx) error {
		there, ok, err := tx.Meta(key)
		if err != nil {
			return err
		}
		made = !ok
		if ok {
			return json.Unmarshal(there, &v)
		}
		v = fresh
		return tx.PutMeta(key, b)
	})
	return v, made, err
}

// loadCA opens a stored authority or makes it.
func loadCA(ctx context.Context, st *store.Store, sealer *seal.Sealer, key string, make func() (cert, key []byte, err error)) (certDER, keyDER []byte, err error) {
	place := seal.Place{Table: "meta", ID: key, Version: "1"}
	rec, _, err := metaOnce(ctx, st, key, func() (caRecord, error) {
		cert, plain, err := make()
		if err != nil {
			return caRecord{}, err
		}
		defer seal.Wipe(plain)
		sealed, err := sealer.Seal(place, plain)
		return caRecord{cert, sealed}, err
	})
	if err != nil {
		return nil, nil, err
	}
	keyDER, err = sealer.Open(place, rec.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the key of %s: %w", key, err)
	}
	return rec.Certificate, keyDER, nil
}

// names gives the plane's names once its port is known.
func (t tenant) names(cfg *Config, port string) az.Names {
	n := az.Names{Domain: t.Domain, Port: port, Tenant: t.TenantID, Subscription: t.SubscriptionID, ChallengeTenant: az.AliasTenant}
	if cfg.ChallengeTenant == "guid" {
		n.ChallengeTenant = t.TenantID
	}
	return n
}
