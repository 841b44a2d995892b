package site

import (
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Assigned is one managed identity of a site.
type Assigned struct {
	ID          az.ID // of a user-assigned identity; Root for the system-assigned one
	PrincipalID string
	ClientID    string
}

// IdentitySelector says which identity of a site is meant: at most one of its
// fields is set; none means the system-assigned one.
type IdentitySelector struct{ ClientID, ObjectID, ResourceID string }

// pick selects among a site's identities. site is the site's own id, under
// which the system-assigned identity may be asked for as a resource.
func pick(site az.ID, all []Assigned, by IdentitySelector) (Assigned, error) {
	given := 0
	for _, s := range []string{by.ClientID, by.ObjectID, by.ResourceID} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		return Assigned{}, az.Errorf(az.Invalid, "InvalidRequest", "Name the identity once: by clientId, objectId or resourceId.")
	}
	resource, isID := looseID(by.ResourceID)
	for _, a := range all {
		system := a.ID.IsRoot()
		switch {
		case given == 0:
			if system {
				return a, nil
			}
		case by.ClientID != "" && strings.EqualFold(strings.TrimSpace(by.ClientID), a.ClientID),
			by.ObjectID != "" && strings.EqualFold(strings.TrimSpace(by.ObjectID), a.PrincipalID),
			isID && !system && resource.Equal(a.ID),
			isID && system && resource.Equal(site):
			return a, nil
		}
	}
	return Assigned{}, identityNotFound(site, given == 0)
}

// looseID reads a resource id as people write it in settings: without the
// first slash, with doubled or trailing ones, with spaces around it.
func looseID(s string) (az.ID, bool) {
	if s = strings.TrimSpace(s); s == "" {
		return az.ID{}, false
	}
	id, err := az.ParseID("/" + s)
	return id, err == nil && !id.IsRoot()
}

func identityNotFound(site az.ID, system bool) error {
	if system {
		return az.Errorf(az.Invalid, "IdentityNotFound",
			"The app '%s' has no system-assigned identity. Switch it on, or name one of its user-assigned identities.", site.Name())
	}
	return az.Errorf(az.Invalid, "IdentityNotFound",
		"No identity of the app '%s' is the one asked for. Assign it to the app, or ask for one that is.", site.Name())
}
