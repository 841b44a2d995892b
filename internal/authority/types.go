package authority

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

// identityProperties are those of a user-assigned identity. All are the
// plane's to say.
type identityProperties struct {
	TenantID    string `json:"tenantId"`
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
}

// federatedType is the ARM type of federated identity credentials.
const federatedType = directory.UserAssignedType + "/federatedIdentityCredentials"

// Types are the resource types of managed identities.
func (a *Authority) Types() []arm.AnyType {
	return []arm.AnyType{
		arm.Define(directory.UserAssignedType, []string{"2024-11-30", "2023-01-31", "2022-01-31-preview", "2018-11-30"}, arm.Hooks[identityProperties]{
			NoState: true, PutCreated: 201, Check: checkIdentity, Apply: a.applyIdentity,
			Delete: func(tx *store.Tx, r *arm.Resource[identityProperties]) error {
				return a.dir.DeleteIdentity(tx, r.Properties.PrincipalID)
			},
		}),
		arm.Define(federatedType, []string{"2024-11-30", "2023-01-31", "2022-01-31-preview"}, arm.Hooks[trust]{
			NoState: true, PutCreated: 201, Check: checkTrust, Apply: applyTrust,
		}),
	}
}

// Lengths of names, in characters. Source: Azure naming rules,
// Microsoft.ManagedIdentity.
const (
	minTypeName     = 3
	maxIdentityName = 128
	maxTrustName    = 120
)

// goodName reports whether s has from least to most letters, digits and others of
// the characters given, and begins with a letter or digit. A regular expression
// with such counts takes each start of a command longer than all else.
func goodName(s string, least, most int, others string) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		plain := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !plain && (i == 0 || strings.IndexByte(others, c) < 0) {
			return false
		}
	}
	return true
}

func checkIdentity(_ context.Context, _ *arm.Call, r, old *arm.Resource[identityProperties]) error {
	if !goodName(r.ID.Name(), minTypeName, maxIdentityName, "_-") {
		return az.Errorf(az.Invalid, "InvalidResourceName", "The name of an identity must have 3 to 128 letters, digits, hyphens and underscores, and begin with a letter or digit.")
	}
	if r.Location == "" {
		return az.Errorf(az.Invalid, "LocationRequired", "The location property is required for this definition.")
	}
	// What a body says of these is not believed.
	r.Properties = identityProperties{}
	if old != nil {
		r.Properties = old.Properties
	}
	return nil
}

func (a *Authority) applyIdentity(tx *store.Tx, r, old *arm.Resource[identityProperties]) error {
	if old != nil {
		return nil
	}
	oid, appID, err := a.dir.CreateIdentity(tx, r.ID, r.ID.Name())
	r.Properties = identityProperties{TenantID: a.names.Tenant, PrincipalID: oid, ClientID: appID}
	return err
}

// maxTrusts bounds the federated credentials of an identity. Source: Entra
// allows 20.
const maxTrusts = 20

func checkTrust(_ context.Context, _ *arm.Call, r, _ *arm.Resource[trust]) error {
	if !goodName(r.ID.Name(), minTypeName, maxTrustName, "_-") {
		return az.Errorf(az.Invalid, "InvalidResourceName", "The name of a federated identity credential must have 3 to 120 letters, digits, hyphens and underscores, and begin with a letter or digit.")
	}
	return directory.CheckFederated(r.Properties.Issuer, r.Properties.Subject, r.Properties.Audiences)
}

// applyTrust keeps an identity's trusts few and each pair of issuer and
// subject in one of them.
func applyTrust(tx *store.Tx, r, _ *arm.Resource[trust]) error {
	rows, err := tx.Resources(store.ResourceQuery{Type: federatedType, Parent: r.ID.Parent()})
	if err != nil {
		return err
	}
	n := 0
	for _, row := range rows {
		if row.ID.Equal(r.ID) {
			continue
		}
		var b struct {
			Properties trust `json:"properties"`
		}
		if err := json.Unmarshal(row.Body, &b); err != nil {
			return az.Errorf(az.Internal, "", "").Because(err)
		}
		if b.Properties.Issuer == r.Properties.Issuer && b.Properties.Subject == r.Properties.Subject {
			return az.Errorf(az.Conflict, "Conflict", "Issuer and subject combination already exists for this Managed Identity, in the credential '%s'.", row.ID.Name())
		}
		if n++; n >= maxTrusts {
			return az.Errorf(az.Invalid, "BadRequest", "Too many Federated Identity Credentials are already added on the identity: it can have at most %d.", maxTrusts)
		}
	}
	return nil
}
