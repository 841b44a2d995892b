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
	Registration

	// ValidFrom is the time before which nothing that a user signed in for holds:
	// sessions, refresh tokens and access tokens. Source: Graph's
	// signInSessionsValidFromDateTime.
	ValidFrom az.Micros `json:"validFrom,omitempty"`
	// Profile holds a person's texts that nothing is decided by, by Graph's names.
	Profile        map[string]string `json:"profile,omitempty"`
	BusinessPhones []string          `json:"businessPhones,omitempty"`
	// MustChange asks for a new password at the next sign-in. Source: Graph's
	// passwordProfile.forceChangePasswordNextSignIn.
	MustChange bool `json:"mustChange,omitempty"`
	// Assigned lets in only whom the application is assigned to (a service
	// principal's appRoleAssignmentRequired).
	Assigned bool `json:"assigned,omitempty"`
	// FirstParty is a service principal of the platform itself: one of its
	// resources (Graph, Key Vault …) or of its command line clients. It has no
	// application here; its Registration stands for one.
	FirstParty bool `json:"firstParty,omitempty"`
	// From says which outside provider a user was matched or made from: its
	// issuer and the subject there, parted by a space.
	From string `json:"from,omitempty"`
}

// Registration is how an application signs people in and what it offers to
// others. The fields are Graph's: web.redirectUris, spa.redirectUris,
// publicClient.redirectUris and so on.
type Registration struct {
	WebURIs      []string `json:"webUris,omitempty"`
	SPAURIs      []string `json:"spaUris,omitempty"`
	NativeURIs   []string `json:"nativeUris,omitempty"`
	LogoutURL    string   `json:"logoutUrl,omitempty"`
	ImplicitID   bool     `json:"implicitId,omitempty"`   // enableIdTokenIssuance
	PublicClient bool     `json:"publicClient,omitempty"` // isFallbackPublicClient
	// GroupClaims is groupMembershipClaims: "", None, SecurityGroup, All,
	// ApplicationGroup or DirectoryRole, several parted by commas.
	GroupClaims   string           `json:"groupClaims,omitempty"`
	OptionalID    []OptionalClaim  `json:"optionalId,omitempty"`     // optionalClaims.idToken
	OptionalToken []OptionalClaim  `json:"optionalAccess,omitempty"` // optionalClaims.accessToken
	Scopes        []Scope          `json:"scopes,omitempty"`         // api.oauth2PermissionScopes
	Preauthorized []Preauthorized  `json:"preauthorized,omitempty"`  // api.preAuthorizedApplications
	Known         []string         `json:"known,omitempty"`          // api.knownClientApplications
	Required      []RequiredAccess `json:"required,omitempty"`       // requiredResourceAccess
}

// OptionalClaim is a claim that an application asks for in its tokens.
type OptionalClaim struct {
	Name       string   `json:"name"`
	Source     string   `json:"source,omitempty"`
	Essential  bool     `json:"essential"`
	Properties []string `json:"additionalProperties"`
}

// Scope is a delegated permission that an application offers.
type Scope struct {
	ID               string `json:"id"`
	Value            string `json:"value"`
	Type             string `json:"type"` // User, or Admin where only an administrator may consent
	Enabled          bool   `json:"isEnabled"`
	AdminDisplayName string `json:"adminConsentDisplayName,omitempty"`
	AdminDescription string `json:"adminConsentDescription,omitempty"`
	UserDisplayName  string `json:"userConsentDisplayName,omitempty"`
	UserDescription  string `json:"userConsentDescription,omitempty"`
}

// Preauthorized is a client that needs no consent for some scopes.
type Preauthorized struct {
	AppID  string   `json:"appId"`
	Scopes []string `json:"delegatedPermissionIds"` // ids of scopes
}

// RequiredAccess is what an application says that it needs of a resource.
type RequiredAccess struct {
	Resource string         `json:"resourceAppId"`
	Access   []RequiredRole `json:"resourceAccess"`
}

// RequiredRole is one scope ("Scope") or app role ("Role") of RequiredAccess.
type RequiredRole struct {
	ID   string `json:"id"`
	Type string `json:"type"`
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
		UPNKey: strings.ToLower(o.UPN), MailKey: strings.ToLower(o.Mail), Enabled: o.Enabled, Body: b}
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
