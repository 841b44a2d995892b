package authority

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

// trust is one federated identity credential: whose tokens are taken for the
// client's.
type trust struct {
	Issuer    string   `json:"issuer"`
	Subject   string   `json:"subject"`
	Audiences []string `json:"audiences"`
}

// trusts lists what a client trusts: on applications it is a credential, on
// user-assigned identities a child resource.
func (a *Authority) trusts(ctx context.Context, c *directory.Client) ([]trust, error) {
	var out []trust
	for _, cr := range c.Credentials {
		if cr.Kind == directory.Federated {
			out = append(out, trust{cr.Issuer, cr.Subject, cr.Audiences})
		}
	}
	if c.Principal == nil || !c.Principal.IsUserAssigned() {
		return out, nil
	}
	rows, err := a.store.Resources(ctx, store.ResourceQuery{Type: federatedType, Parent: c.Principal.Resource})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		var b struct {
			Properties trust `json:"properties"`
		}
		if err := json.Unmarshal(r.Body, &b); err != nil {
			return nil, az.Errorf(az.Internal, "", "").Because(err)
		}
		out = append(out, b.Properties)
	}
	return out, nil
}

// byFederation proves a client by an outside issuer's token. What the token
// says of itself must match a trust, byte for byte, before anything is
// fetched: so only issuers that an administrator named are ever asked.
func (a *Authority) byFederation(ctx context.Context, c *directory.Client, as *assertion) error {
	list, err := a.trusts(ctx, c)
	if err != nil {
		return err
	}
	if err := matchTrust(list, as); err != nil {
		return err
	}
	keys, err := a.outside.keys(ctx, as.claims.Issuer, as.header.KeyID)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Algorithm != "" && k.Algorithm != as.header.Algorithm {
			continue
		}
		if _, err := as.jws.Verify(k.Key); err == nil {
			return as.times(a.clock())
		}
	}
	return oauthError(az.Unauthorized, "invalid_client", 700027, "Client assertion failed signature validation with the keys of its issuer.")
}

func matchTrust(list []trust, as *assertion) error {
	none := func(number int, what, value string) error {
		return oauthError(az.Unauthorized, "invalid_client", number,
			"No matching federated identity record found for presented assertion %s '%s'. Compare it with the federated identity credentials of the client: the match is exact.", what, printable(value))
	}
	keep := func(in []trust, ok func(trust) bool) []trust {
		return slices.DeleteFunc(slices.Clone(in), func(t trust) bool { return !ok(t) })
	}
	if len(list) == 0 {
		return oauthError(az.Unauthorized, "invalid_client", 70021, "No matching federated identity record found for presented assertion: the client has none.")
	}
	if list = keep(list, func(t trust) bool { return t.Issuer == as.claims.Issuer }); len(list) == 0 {
		return none(700211, "issuer", as.claims.Issuer)
	}
	if list = keep(list, func(t trust) bool { return t.Subject == as.claims.Subject }); len(list) == 0 {
		return none(700213, "subject", as.claims.Subject)
	}
	list = keep(list, func(t trust) bool {
		return slices.ContainsFunc(as.claims.Audience, func(a string) bool { return slices.Contains(t.Audiences, a) })
	})
	if len(list) == 0 {
		first := ""
		if len(as.claims.Audience) > 0 {
			first = as.claims.Audience[0]
		}
		return none(700212, "audience", first)
	}
	return nil
}

// usable admits keys that an outside issuer may sign with.
func usable(k *jose.JSONWebKey) bool {
	return k.Valid() && k.IsPublic() && k.Use != "enc" && strongKey(k.Key)
}
