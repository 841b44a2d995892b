package arm

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Resource is an ARM resource with properties P.
type Resource[P any] struct {
	ID         az.ID
	Location   string
	Tags       map[string]string
	Kind       string
	SKU        json.RawMessage
	Identity   *Identity
	Properties P
	// Secrets are sealed at rest and never shown.
	Secrets map[string]az.Secret
	// State is the provisioning state; "" means StateSucceeded.
	State   string
	ETag    string
	Created az.Micros
	Updated az.Micros
}

// envelope is a resource as it lies in the store, and as a body brings it.
type envelope[P any] struct {
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	SKU        json.RawMessage   `json:"sku,omitempty"`
	Identity   *Identity         `json:"identity,omitempty"`
	Properties P                 `json:"properties"`
	State      string            `json:"hawserState,omitempty"`
}

// sealedTable is the table in the Place of what is sealed here.
const sealedTable = "resources"

func place(id az.ID, etag string) seal.Place {
	return seal.Place{Table: sealedTable, ID: id.Key(), Version: etag}
}

// decode reads a stored row. Secrets are opened only if asked for: a list or a
// view needs none.
func decode[P any](sealer *seal.Sealer, row store.Resource, secrets bool) (*Resource[P], error) {
	var e envelope[P]
	if err := json.Unmarshal(row.Body, &e); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	r := &Resource[P]{ID: row.ID, Location: e.Location, Tags: e.Tags, Kind: e.Kind, SKU: e.SKU, Identity: e.Identity,
		Properties: e.Properties, State: e.State, ETag: row.ETag, Created: row.Created, Updated: row.Updated}
	if !secrets || len(row.Sealed) == 0 {
		return r, nil
	}
	plain, err := sealer.Open(place(row.ID, row.ETag), row.Sealed)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	defer seal.Wipe(plain)
	var texts map[string]string
	if err := json.Unmarshal(plain, &texts); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	r.Secrets = make(map[string]az.Secret, len(texts))
	for k, v := range texts {
		r.Secrets[k] = az.NewSecret(v)
	}
	return r, nil
}

// encode makes the row of a resource under its ETag.
func encode[P any](sealer *seal.Sealer, r *Resource[P]) (store.Resource, error) {
	row := store.Resource{ID: r.ID, ETag: r.ETag, Created: r.Created, Updated: r.Updated}
	var err error
	row.Body, err = json.Marshal(envelope[P]{r.Location, r.Tags, r.Kind, r.SKU, r.Identity, r.Properties, r.State})
	if err != nil {
		return row, az.Errorf(az.Internal, "", "").Because(err)
	}
	if len(r.Secrets) == 0 {
		return row, nil
	}
	texts := make(map[string]string, len(r.Secrets))
	for k, v := range r.Secrets {
		texts[k] = v.Reveal()
	}
	plain, err := json.Marshal(texts)
	if err != nil {
		return row, az.Errorf(az.Internal, "", "").Because(err)
	}
	defer seal.Wipe(plain)
	row.Sealed, err = sealer.Seal(place(r.ID, r.ETag), plain)
	return row, err
}

// clone copies a resource for a transaction that may be run again.
func (r *Resource[P]) clone() *Resource[P] {
	c := *r
	c.Tags, c.Secrets, c.Identity = maps.Clone(r.Tags), maps.Clone(r.Secrets), r.Identity.clone()
	return &c
}

// shown is a resource on the wire, in ARM's order of members.
type shown struct {
	ID         az.ID             `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Kind       string            `json:"kind,omitempty"`
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	SKU        json.RawMessage   `json:"sku,omitempty"`
	Identity   *Identity         `json:"identity,omitempty"`
	Properties json.RawMessage   `json:"properties,omitempty"`
}

// withState adds provisioningState to a JSON object that has none.
func withState(properties []byte, state string) []byte {
	if len(properties) < 2 || properties[0] != '{' || bytes.Contains(properties, []byte(`"provisioningState"`)) {
		return properties
	}
	if state == "" {
		state = StateSucceeded
	}
	out := append([]byte(nil), properties[:len(properties)-1]...)
	if len(properties) > 2 {
		out = append(out, ',')
	}
	out = append(out, `"provisioningState":"`...)
	out = append(out, state...)
	return append(out, '"', '}')
}
