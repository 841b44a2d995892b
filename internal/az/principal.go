package az

import "time"

// PrincipalKind says what sort of directory object a principal is. The values
// are ARM's principalType words.
type PrincipalKind string

const (
	User             PrincipalKind = "User"
	Group            PrincipalKind = "Group"
	ServicePrincipal PrincipalKind = "ServicePrincipal" // applications and managed identities
)

// Principal is a verified caller: whoever holds a Principal has already had
// the token's signature, issuer, audience, times and tenant checked.
type Principal struct {
	ObjectID string // oid; lower-case GUID; the only thing rights hang on
	AppID    string // appid or azp: the client that asked for the token
	TenantID string // tid
	Kind     PrincipalKind
	Name     string   // for people only: display name or UPN
	Identity ID       // ARM id behind a managed identity (xms_mirid); Root otherwise
	Scopes   []string // scp: delegated permissions; nil for app tokens
	Roles    []string // roles: app roles
	MFA      bool     // amr holds "mfa"
	TokenID  string   // uti
	Expires  time.Time
}

// IsZero reports whether nobody is behind the principal.
func (p Principal) IsZero() bool { return p.ObjectID == "" }

// Issuer returns the v1 issuer of the principal's tenant, as error texts of
// Key Vault name it.
func (p Principal) Issuer() string { return "https://sts.windows.net/" + p.TenantID + "/" }
