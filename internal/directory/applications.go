package directory

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

func (d *Directory) applicationOperations() []operation {
	const one, fed = "/applications/{id}", "/applications/{id}/federatedIdentityCredentials"
	return []operation{
		{method: "GET", path: "/applications", need: &needs.apps, handle: d.listOf(Application)},
		{method: "POST", path: "/applications", need: &needs.createApps, handle: d.createApplication},
		{method: "GET", path: one, need: &needs.apps, handle: d.show},
		{method: "PATCH", path: one, need: &needs.writeApps, handle: d.patchApplication},
		{method: "DELETE", path: one, need: &needs.deleteApps, handle: d.deleteObject},
		{method: "POST", path: one + "/addPassword", need: &needs.credentials, handle: d.addPassword},
		{method: "POST", path: one + "/removePassword", need: &needs.credentials, handle: d.removePassword},
		{method: "POST", path: one + "/addKey", need: &needs.credentials, handle: refuseKeys},
		{method: "POST", path: one + "/removeKey", need: &needs.credentials, handle: refuseKeys},
		{method: "GET", path: one + "/owners", need: &needs.apps, handle: d.linked(store.LinkOwners)},
		{method: "POST", path: one + "/owners/$ref", need: &needs.appOwners, handle: d.addOwner},
		{method: "DELETE", path: one + "/owners/{owner}/$ref", need: &needs.appOwners, handle: d.removeOwner},
		{method: "GET", path: fed, need: &needs.apps, handle: d.listFederated},
		{method: "POST", path: fed, need: &needs.credentials, handle: d.createFederated},
		{method: "GET", path: fed + "/{credential}", need: &needs.apps, handle: d.showFederated},
		{method: "PATCH", path: fed + "/{credential}", need: &needs.credentials, handle: d.patchFederated},
		{method: "DELETE", path: fed + "/{credential}", need: &needs.credentials, handle: d.deleteFederated},
	}
}

type applicationBody struct {
	DisplayName    opt[string]           `json:"displayName"`
	Description    opt[string]           `json:"description"`
	Notes          opt[string]           `json:"notes"`
	SignInAudience opt[string]           `json:"signInAudience"`
	IdentifierURIs opt[[]string]         `json:"identifierUris"`
	Tags           opt[[]string]         `json:"tags"`
	AppRoles       opt[[]AppRole]        `json:"appRoles"`
	GroupClaims    opt[string]           `json:"groupMembershipClaims"`
	PublicClient   opt[bool]             `json:"isFallbackPublicClient"`
	Required       opt[[]RequiredAccess] `json:"requiredResourceAccess"`
	Keys           opt[[]KeyCredential]  `json:"keyCredentials"`
	Passwords      opt[[]passwordBody]   `json:"passwordCredentials"`
	API            struct {
		TokenVersion  opt[int]             `json:"requestedAccessTokenVersion"`
		Scopes        opt[[]Scope]         `json:"oauth2PermissionScopes"`
		Preauthorized opt[[]Preauthorized] `json:"preAuthorizedApplications"`
		Known         opt[[]string]        `json:"knownClientApplications"`
	} `json:"api"`
	Web struct {
		RedirectURIs opt[[]string] `json:"redirectUris"`
		LogoutURL    opt[string]   `json:"logoutUrl"`
		Implicit     struct {
			ID     opt[bool] `json:"enableIdTokenIssuance"`
			Access opt[bool] `json:"enableAccessTokenIssuance"`
		} `json:"implicitGrantSettings"`
	} `json:"web"`
	SPA struct {
		RedirectURIs opt[[]string] `json:"redirectUris"`
	} `json:"spa"`
	Native struct {
		RedirectURIs opt[[]string] `json:"redirectUris"`
	} `json:"publicClient"`
	Optional opt[struct {
		ID     []OptionalClaim `json:"idToken"`
		Access []OptionalClaim `json:"accessToken"`
	}] `json:"optionalClaims"`
}

// KeyCredential is a certificate of an application as Graph writes it.
type KeyCredential struct {
	DisplayName string   `json:"displayName"`
	Key         keyBytes `json:"key"`
	KeyID       string   `json:"keyId"`
	Type        string   `json:"type"`
	Usage       string   `json:"usage"`
}

type passwordBody struct {
	KeyID  string `json:"keyId"`
	Secret string `json:"secretText"`
}

func (b *applicationBody) into(o *Object) error {
	if b.Web.Implicit.Access.v {
		return az.Errorf(az.Invalid, "Request_BadRequest", "Access tokens are not issued by the implicit flow here (RFC 9700 §2.1.2): enableAccessTokenIssuance must be false.")
	}
	b.DisplayName.put(&o.Name)
	b.Description.put(&o.Description)
	b.Notes.put(&o.Notes)
	b.SignInAudience.put(&o.SignInAudience)
	b.IdentifierURIs.put(&o.IdentifierURIs)
	b.Tags.put(&o.Tags)
	b.AppRoles.put(&o.AppRoles)
	b.GroupClaims.put(&o.GroupClaims)
	b.PublicClient.put(&o.PublicClient)
	b.Required.put(&o.Required)
	b.API.TokenVersion.put(&o.TokenVersion)
	b.API.Scopes.put(&o.Scopes)
	b.API.Preauthorized.put(&o.Preauthorized)
	b.API.Known.put(&o.Known)
	b.Web.RedirectURIs.put(&o.WebURIs)
	b.Web.LogoutURL.put(&o.LogoutURL)
	b.Web.Implicit.ID.put(&o.ImplicitID)
	b.SPA.RedirectURIs.put(&o.SPAURIs)
	b.Native.RedirectURIs.put(&o.NativeURIs)
	if b.Optional.there {
		o.OptionalID, o.OptionalToken = b.Optional.v.ID, b.Optional.v.Access
	}
	return nil
}

func (d *Directory) createApplication(ctx context.Context, c *call) (any, error) {
	var b applicationBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(b.Passwords.v, func(p passwordBody) bool { return p.Secret != "" }) {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The text of a password credential cannot be given; make one with addPassword.")
	}
	var o Object
	if err := b.into(&o); err != nil {
		return nil, err
	}
	var made *Object
	var err error
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		if made, err = d.AddApplication(tx, o); err != nil {
			return err
		}
		if err := d.setCertificates(tx, made.ID, b.Keys.v); err != nil {
			return err
		}
		return d.ownMade(tx, c, made.ID)
	})
	if err != nil {
		return nil, err
	}
	return d.showAs(ctx, c, made, http.StatusCreated)
}

// ownMade makes the caller an owner of what he made: people, and applications
// that may manage only what they own.
func (d *Directory) ownMade(tx *store.Tx, c *call, id string) error {
	_, owned := holdsAny(c.Caller.Roles, ownedBy)
	if c.Caller.Kind != az.User && !owned {
		return nil
	}
	return d.AddOwner(tx, id, c.Caller.ObjectID)
}

func (d *Directory) patchApplication(ctx context.Context, c *call) (any, error) {
	var b applicationBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if b.Keys.there || b.Passwords.there {
		if err := d.permit(ctx, c, &needs.credentials); err != nil {
			return nil, err
		}
	}
	// Whoever says where an application's answers go, or who may be issued
	// tokens for it, could act in its place.
	if err := d.guardApplication(ctx, c, c.target); err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		o, err := existing(tx, Application, c.target.ID)
		if err != nil {
			return err
		}
		name := o.Name
		if err := b.into(o); err != nil {
			return err
		}
		if err := checkApplication(o); err != nil {
			return err
		}
		if err := d.Update(tx, o); err != nil {
			return err
		}
		if name != o.Name {
			if err := d.renamePrincipal(tx, o); err != nil {
				return err
			}
		}
		if b.Keys.there {
			if err := d.setCertificates(tx, o.ID, b.Keys.v); err != nil {
				return err
			}
		}
		if b.Passwords.there {
			return d.keepPasswords(tx, o.ID, b.Passwords.v)
		}
		return nil
	})
}

// renamePrincipal gives an application's service principal its new name.
func (d *Directory) renamePrincipal(tx *store.Tx, app *Object) error {
	r, ok, err := tx.ObjectByApp(string(az.ServicePrincipal), app.AppID)
	if err != nil || !ok {
		return err
	}
	sp, err := fromRow(r)
	if err != nil {
		return err
	}
	sp.Name = app.Name
	return d.Update(tx, sp)
}

// keepPasswords removes the passwords that a PATCH no longer names.
func (d *Directory) keepPasswords(tx *store.Tx, application string, want []passwordBody) error {
	keep := map[string]bool{}
	for _, w := range want {
		if w.Secret != "" {
			return az.Errorf(az.Invalid, "Request_BadRequest", "The text of a password credential cannot be given; make one with addPassword.")
		}
		keep[strings.ToLower(w.KeyID)] = true
	}
	rows, err := tx.Credentials(application)
	if err != nil {
		return err
	}
	for _, r := range rows {
		c, err := credentialFromRow(r)
		if err != nil {
			return err
		}
		if c.Kind == Secret && !c.Principal && !keep[r.ID] {
			if _, err := tx.DeleteCredential(application, r.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// setCertificates makes an application's certificates those that are given: a
// keyId keeps one that is there, a key adds one.
func (d *Directory) setCertificates(tx *store.Tx, application string, want []KeyCredential) error {
	rows, err := tx.Credentials(application)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, w := range want {
		if len(w.Key) == 0 {
			keep[w.KeyID] = true
		}
	}
	for _, r := range rows {
		if CredentialKind(r.Kind) == Certificate && !keep[r.ID] {
			if _, err := tx.DeleteCredential(application, r.ID); err != nil {
				return err
			}
		}
	}
	for _, w := range want {
		if len(w.Key) > 0 {
			if _, err := d.AddCertificate(tx, application, w.DisplayName, w.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyBytes is base64 in either alphabet, as clients send certificates.
type keyBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *keyBytes) UnmarshalText(b []byte) error {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(b), "="))
	out, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The key of a key credential must be base64.")
	}
	*k = out
	return nil
}

// passwordViews shows the secrets of an application, or those that were added
// to its service principal.
func passwordViews(creds []*Credential, principal bool) []any {
	out := []any{}
	for _, c := range creds {
		if c.Kind == Secret && c.Principal == principal {
			out = append(out, passwordView(c, az.Secret{}))
		}
	}
	return out
}

func passwordView(c *Credential, secret az.Secret) map[string]any {
	return map[string]any{"customKeyIdentifier": nil, "displayName": text(c.Name), "endDateTime": stamp(c.Expires), "hint": c.Hint,
		"keyId": c.ID, "secretText": text(secret.Reveal()), "startDateTime": stamp(c.Starts)}
}

func keyViews(creds []*Credential) []any {
	out := []any{}
	for _, c := range creds {
		if c.Kind == Certificate {
			out = append(out, map[string]any{"customKeyIdentifier": c.Thumbprint(), "displayName": text(c.Name), "endDateTime": stamp(c.Expires),
				"key": nil, "keyId": c.ID, "startDateTime": stamp(c.Starts), "type": "AsymmetricX509Cert", "usage": "Verify"})
		}
	}
	return out
}

func (d *Directory) addPassword(ctx context.Context, c *call) (any, error) {
	var b struct {
		Credential struct {
			DisplayName string    `json:"displayName"`
			Start       time.Time `json:"startDateTime"`
			End         time.Time `json:"endDateTime"`
		} `json:"passwordCredential"`
	}
	if len(c.Body) > 0 {
		if err := c.body(&b); err != nil {
			return nil, err
		}
	}
	app, err := d.registration(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := d.guardApplication(ctx, c, app); err != nil {
		return nil, err
	}
	p := b.Credential
	var made *Credential
	var secret az.Secret
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		if _, err := existing(tx, Application, app.ID); err != nil {
			return err
		}
		f := CredentialFacts{Name: p.DisplayName, Starts: az.MicrosOf(p.Start), Principal: c.target.Kind == az.ServicePrincipal}
		made, secret, err = d.addSecret(tx, app.ID, f, az.MicrosOf(p.End))
		return err
	})
	if err != nil {
		return nil, err
	}
	v := passwordView(made, secret)
	v["@odata.context"] = c.base + "/$metadata#microsoft.graph.passwordCredential"
	return v, nil
}

// registration is the application itself, or that of the service principal
// that was named: its credentials are kept with the application.
func (d *Directory) registration(ctx context.Context, c *call) (*Object, error) {
	if c.target.Kind == Application {
		return c.target, nil
	}
	cl, ok, err := d.Client(ctx, c.target.AppID)
	if err != nil {
		return nil, err
	}
	if !ok || cl.Application == nil {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "A managed identity and a service principal of the platform itself have no passwords.")
	}
	return cl.Application, nil
}

func (d *Directory) removePassword(ctx context.Context, c *call) (any, error) {
	var b struct {
		KeyID string `json:"keyId"`
	}
	if err := c.body(&b); err != nil {
		return nil, err
	}
	app, err := d.registration(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := d.guardApplication(ctx, c, app); err != nil {
		return nil, err
	}
	return nil, d.removeCredential(ctx, app.ID, Secret, b.KeyID, c.target.Kind == az.ServicePrincipal)
}

// removeCredential removes a credential of a kind by its id; a federated one
// may also be named by its name.
func (d *Directory) removeCredential(ctx context.Context, application string, kind CredentialKind, id string, principal bool) error {
	return d.store.Write(ctx, func(tx *store.Tx) error {
		c, err := credentialNamed(tx, application, kind, id)
		if err != nil {
			return err
		}
		if c.Principal != principal {
			return az.Errorf(az.NotFound, "Request_ResourceNotFound", "No password credential found with keyId '%s'; it may be the application's and not its service principal's, or the other way round.", c.ID)
		}
		_, err = tx.DeleteCredential(application, c.ID)
		return err
	})
}

func credentialNamed(tx *store.Tx, application string, kind CredentialKind, id string) (*Credential, error) {
	rows, err := tx.Credentials(application)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		c, err := credentialFromRow(r)
		if err != nil {
			return nil, err
		}
		if c.Kind == kind && (strings.EqualFold(c.ID, id) || kind == Federated && c.Name == id) {
			return c, nil
		}
	}
	return nil, az.Errorf(az.NotFound, "Request_ResourceNotFound", "The application has no credential with this id.")
}

func refuseKeys(context.Context, *call) (any, error) {
	return nil, az.Errorf(az.Invalid, "Request_BadRequest", "addKey and removeKey are not served here: change keyCredentials by a PATCH of the application.")
}
