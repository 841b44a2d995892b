package site

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// identitySet is the identities of a site as they are now.
type identitySet struct {
	all []Assigned // those that exist, the system-assigned one first
	// gone are principals that the site names and that no longer exist or are
	// disabled.
	gone map[string]bool
	// names are the principals' display names.
	names map[string]string
}

// identities looks up which of a site's identities are alive. The site's own
// record is not enough: a user-assigned identity may be deleted, or a
// principal disabled, without the site being written.
func (s *Sites) identities(ctx context.Context, r *arm.Resource[properties]) (identitySet, error) {
	set := identitySet{gone: map[string]bool{}, names: map[string]string{}}
	add := func(id az.ID, oid string) error {
		if oid == "" {
			return nil
		}
		o, ok, err := s.cfg.Directory.Get(ctx, oid)
		if err != nil {
			return err
		}
		if !ok || !o.Enabled || !o.IsManagedIdentity() {
			set.gone[oid] = true
			return nil
		}
		set.all = append(set.all, Assigned{ID: id, PrincipalID: o.ID, ClientID: o.AppID})
		set.names[oid] = o.Name
		return nil
	}
	if r.Identity.System() {
		if err := add(az.Root, r.Identity.PrincipalID); err != nil {
			return set, err
		}
	}
	if r.Identity.User() {
		for _, key := range sortedKeys(r.Identity.UserAssigned) {
			id, err := az.ParseID(key)
			if err != nil {
				return set, az.Errorf(az.Internal, "", "").Because(err)
			}
			if err := add(id, r.Identity.UserAssigned[key].PrincipalID); err != nil {
				return set, err
			}
		}
	}
	return set, nil
}

// principals lists what the site's identities hang on in the directory.
func principals(i *arm.Identity) []string {
	var out []string
	if i.System() && i.PrincipalID != "" {
		out = append(out, i.PrincipalID)
	}
	if i.User() {
		for _, u := range i.UserAssigned {
			if u.PrincipalID != "" {
				out = append(out, u.PrincipalID)
			}
		}
	}
	return out
}

// referenceIdentity is who reads the site's Key Vault references: the
// system-assigned identity, or the one that keyVaultReferenceIdentity names.
// Without one, it says which status all references have and why.
func referenceIdentity(r *arm.Resource[properties], set identitySet) (Assigned, *refused) {
	named := r.Properties.KeyVaultReferenceIdentity
	system := named == "" || strings.EqualFold(named, systemAssigned)
	for _, a := range set.all {
		if system && a.ID.IsRoot() || !system && strings.EqualFold(a.ID.String(), named) {
			return a, nil
		}
	}
	switch {
	case system && r.Identity.System(), !system && assignedTo(r.Identity, named):
		return Assigned{}, &refused{UnauthorizedClient, "The identity that reads the app's references is disabled or was deleted."}
	case system:
		return Assigned{}, &refused{MSINotEnabled, "The app has no system-assigned identity. Switch it on, or set keyVaultReferenceIdentity to a user-assigned one."}
	}
	return Assigned{}, &refused{MSINotEnabled, "The identity named by keyVaultReferenceIdentity is not assigned to the app."}
}

func assignedTo(i *arm.Identity, id string) bool {
	if i.User() {
		for k := range i.UserAssigned {
			if strings.EqualFold(k, id) {
				return true
			}
		}
	}
	return false
}

// principal is the identity as a caller. Whoever makes one has looked it up
// in the directory: it stands for a token that was verified.
func (s *Sites) principal(site az.ID, a Assigned, name string) az.Principal {
	p := az.Principal{ObjectID: a.PrincipalID, AppID: a.ClientID, TenantID: s.cfg.Names.Tenant, Kind: az.ServicePrincipal,
		Name: name, Identity: a.ID}
	if a.ID.IsRoot() {
		p.Identity = site
	}
	return p
}
