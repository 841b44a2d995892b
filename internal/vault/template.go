package vault

import (
	"context"
	"net/http"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// SecretsType is secrets as ARM has them: templates set values through it, and
// nothing reads one back. As in Azure this is the control plane: it takes
// Microsoft.KeyVault/vaults/secrets/write, whether the vault goes by roles or
// by policies, and gives no right to read.
const SecretsType = Type + "/secrets"

var (
	actWriteSecret = guard.Control(SecretsType + "/write")
	actReadSecret  = guard.Control(SecretsType + "/read")
)

// handleSecrets adds the secrets' addresses at the front door. They are no
// resources of the store: the data plane's tables have them.
func (v *Vaults) handleSecrets(api *arm.API) {
	const at = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/{vault}/secrets/{secret}"
	api.HandleOwn(http.MethodPut, at, v.putSecret)
	api.HandleOwn(http.MethodGet, at, v.showSecret)
}

// armSecret is a secret on ARM's wire.
type armSecret struct {
	ID         az.ID             `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags,omitempty"`
	Properties armSecretShown    `json:"properties"`
}

type armSecretShown struct {
	Attributes     armAttributes `json:"attributes"`
	ContentType    string        `json:"contentType,omitempty"`
	URI            string        `json:"secretUri"`
	URIWithVersion string        `json:"secretUriWithVersion"`
}

type armAttributes struct {
	Enabled   bool  `json:"enabled"`
	NotBefore int64 `json:"nbf,omitempty"`
	Expires   int64 `json:"exp,omitempty"`
	Created   int64 `json:"created"`
	Updated   int64 `json:"updated"`
}

// vaultAt is the live vault that an address of the front door names.
func (v *Vaults) vaultAt(ctx context.Context, c *arm.Call) (*live, error) {
	id := c.Path().Parent()
	vt, err := v.vault(ctx, id.Name())
	if err == nil && !vt.ID.Equal(id) || az.Is(err, az.NotFound) {
		err = az.Errorf(az.NotFound, "ParentResourceNotFound", "Failed to perform the requested operation on nested resource. Parent resource '%s' not found.", id.Name())
	}
	return vt, err
}

func (v *Vaults) putSecret(ctx context.Context, c *arm.Call) (any, error) {
	if err := c.Check(ctx, actWriteSecret, c.Path()); err != nil {
		return nil, err
	}
	vt, err := v.vaultAt(ctx, c)
	if err != nil {
		return nil, err
	}
	var body struct {
		Tags       *map[string]string `json:"tags"`
		Properties change             `json:"properties"`
	}
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	name := c.Path().Name()
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if body.Properties.Value == nil {
		return nil, armInvalid("BadRequest", "The property 'value' is required: secrets are set here, and cannot be read.")
	}
	value := []byte(*body.Properties.Value)
	defer seal.Wipe(value)
	if len(value) > maxValue {
		return nil, badParameter("The secret's value is longer than the %d bytes allowed.", maxValue)
	}
	body.Properties.Tags = body.Tags
	r := store.SecretVersion{Name: name, Version: newVersion(), Enabled: true}
	if err := body.Properties.apply(&r); err != nil {
		return nil, err
	}
	if err := v.add(ctx, &vt.Vault, &r, value); err != nil {
		return nil, err
	}
	return v.armSecret(vt, &r)
}

func (v *Vaults) showSecret(ctx context.Context, c *arm.Call) (any, error) {
	if err := c.Check(ctx, actReadSecret, c.Path()); err != nil {
		return nil, err
	}
	vt, err := v.vaultAt(ctx, c)
	if err != nil {
		return nil, err
	}
	r, ok, err := v.store.Secret(ctx, &vt.Vault, fold(c.Path().Name()), "")
	if err != nil {
		return nil, err
	}
	if !ok || r.Deleted != 0 {
		return nil, az.Errorf(az.NotFound, "ResourceNotFound", "The secret '%s' was not found in the vault '%s'.", c.Path().Name(), vt.Name)
	}
	return v.armSecret(vt, &r)
}

func (v *Vaults) armSecret(vt *live, r *store.SecretVersion) (*armSecret, error) {
	tags, err := tagsOf(r.Tags)
	if err != nil {
		return nil, err
	}
	seconds := func(t az.Micros) int64 { return int64(t) / int64(time.Second/time.Microsecond) }
	uri := v.names.VaultURL(vt.Name) + "secrets/" + r.Name
	return &armSecret{ID: vt.ID.Child("secrets", r.Name), Name: r.Name, Type: SecretsType, Location: vt.Location, Tags: tags,
		Properties: armSecretShown{ContentType: r.ContentType, URI: uri, URIWithVersion: uri + "/" + r.Version,
			Attributes: armAttributes{r.Enabled, seconds(r.NotBefore), seconds(r.Expires), seconds(r.Created), seconds(r.Updated)}}}, nil
}
