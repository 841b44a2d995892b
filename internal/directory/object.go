package directory

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Application is the kind of an application registration. It is no principal:
// its service principal is.
const Application az.PrincipalKind = "Application"

// Object is one entry of the directory.
type Object struct {
	ID       string // lower-case GUID
	Kind     az.PrincipalKind
	AppID    string // of applications and service principals
	Name     string // display name
	UPN      string // of users
	Enabled  bool
	Resource az.ID // ARM resource behind a managed identity; Root otherwise
	Created  az.Micros
	Facts
}

// Facts are what the directory keeps about an object beside what it is found
// by. Each kind uses some of them.
type Facts struct {
	Description    string    `json:"description,omitempty"`
	Mail           string    `json:"mail,omitempty"`
	MailNickname   string    `json:"mailNickname,omitempty"`
	GivenName      string    `json:"givenName,omitempty"`
	Surname        string    `json:"surname,omitempty"`
	SignInAudience string    `json:"signInAudience,omitempty"`
	IdentifierURIs []string  `json:"identifierUris,omitempty"`
	TokenVersion   int       `json:"tokenVersion,omitempty"` // requestedAccessTokenVersion: 0 and 1 mean v1, 2 means v2
	AppRoles       []AppRole `json:"appRoles,omitempty"`
	Tags           []string  `json:"tags,omitempty"`
	Notes          string    `json:"notes,omitempty"`
}

// AppRole is a role that an application declares for its own use.
type AppRole struct {
	ID                 string   `json:"id"`
	Value              string   `json:"value"`
	DisplayName        string   `json:"displayName"`
	Description        string   `json:"description"`
	AllowedMemberTypes []string `json:"allowedMemberTypes"`
	Enabled            bool     `json:"isEnabled"`
}

// objectBody is the JSON in the store's body column.
type objectBody struct {
	Name     string `json:"name"`
	UPN      string `json:"upn,omitempty"`
	Resource az.ID  `json:"resource,omitzero"`
	Facts
}

// UserAssignedType is the ARM type of identities with a life of their own.
const UserAssignedType = "Microsoft.ManagedIdentity/userAssignedIdentities"

// IsManagedIdentity reports whether the object is a managed identity.
func (o *Object) IsManagedIdentity() bool {
	return o.Kind == az.ServicePrincipal && !o.Resource.IsRoot()
}

// IsUserAssigned reports whether it is one with a life of its own.
func (o *Object) IsUserAssigned() bool {
	return o.IsManagedIdentity() && o.Resource.IsType(UserAssignedType)
}

func (o *Object) row() (store.Object, error) {
	b, err := json.Marshal(objectBody{o.Name, o.UPN, o.Resource, o.Facts})
	if err != nil {
		return store.Object{}, fmt.Errorf("cannot write directory object %s: %w", o.ID, err)
	}
	r := store.Object{ID: o.ID, Kind: string(o.Kind), AppID: o.AppID, NameKey: strings.ToLower(o.Name),
		UPNKey: strings.ToLower(o.UPN), Enabled: o.Enabled, Body: b}
	if !o.Resource.IsRoot() {
		r.Resource = o.Resource.Key()
	}
	return r, nil
}

func fromRow(r store.Object) (*Object, error) {
	var b objectBody
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return nil, fmt.Errorf("cannot read directory object %s: %w", r.ID, err)
	}
	return &Object{ID: r.ID, Kind: az.PrincipalKind(r.Kind), AppID: r.AppID, Name: b.Name, UPN: b.UPN, Enabled: r.Enabled,
		Resource: b.Resource, Created: r.Created, Facts: b.Facts}, nil
}
