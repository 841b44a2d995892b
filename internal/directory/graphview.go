package directory

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

// graphBody is what a request may say of an object of any kind. What is not
// here is ignored, as Graph's newer properties must be.
type graphBody struct {
	AppID             string           `json:"appId"`
	DisplayName       *string          `json:"displayName"`
	Description       *string          `json:"description"`
	Notes             *string          `json:"notes"`
	Mail              *string          `json:"mail"`
	MailNickname      *string          `json:"mailNickname"`
	GivenName         *string          `json:"givenName"`
	Surname           *string          `json:"surname"`
	UserPrincipalName *string          `json:"userPrincipalName"`
	SignInAudience    *string          `json:"signInAudience"`
	IdentifierURIs    *[]string        `json:"identifierUris"`
	Tags              *[]string        `json:"tags"`
	AppRoles          *[]AppRole       `json:"appRoles"`
	API               *graphAPI        `json:"api"`
	KeyCredentials    *[]KeyCredential `json:"keyCredentials"`
	AccountEnabled    *bool            `json:"accountEnabled"`
	MailEnabled       *bool            `json:"mailEnabled"`
	SecurityEnabled   *bool            `json:"securityEnabled"`
	PasswordProfile   *struct {
		Password string `json:"password"`
	} `json:"passwordProfile"`
}

type graphAPI struct {
	TokenVersion *int `json:"requestedAccessTokenVersion"`
}

// KeyCredential is a certificate of an application as Graph writes it.
type KeyCredential struct {
	Identifier  string   `json:"customKeyIdentifier,omitempty"`
	DisplayName string   `json:"displayName"`
	End         string   `json:"endDateTime,omitempty"`
	Key         keyBytes `json:"key"`
	KeyID       string   `json:"keyId"`
	Start       string   `json:"startDateTime,omitempty"`
	Type        string   `json:"type"`
	Usage       string   `json:"usage"`
}

// into puts what was said over an object.
func (b *graphBody) into(o *Object) {
	for _, f := range []struct {
		from *string
		to   *string
	}{{b.DisplayName, &o.Name}, {b.Description, &o.Description}, {b.Notes, &o.Notes}, {b.Mail, &o.Mail}, {b.MailNickname, &o.MailNickname},
		{b.GivenName, &o.GivenName}, {b.Surname, &o.Surname}, {b.UserPrincipalName, &o.UPN}, {b.SignInAudience, &o.SignInAudience}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if b.IdentifierURIs != nil {
		o.IdentifierURIs = *b.IdentifierURIs
	}
	if b.Tags != nil {
		o.Tags = *b.Tags
	}
	if b.AppRoles != nil {
		o.AppRoles = *b.AppRoles
	}
	if b.API != nil && b.API.TokenVersion != nil {
		o.TokenVersion = *b.API.TokenVersion
	}
}

func deref[T any](p *[]T) []T {
	if p == nil {
		return nil
	}
	return *p
}

func list[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func stamp(m az.Micros) any {
	if m == 0 {
		return nil
	}
	return m.Time().Format(time.RFC3339)
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// graphType is the type's name as @odata.type and getByIds write it.
func graphType(o *Object) string {
	switch o.Kind {
	case Application:
		return "application"
	case az.ServicePrincipal:
		return "servicePrincipal"
	case az.Group:
		return "group"
	}
	return "user"
}

func (o *Object) principalType() string {
	switch {
	case o.IsManagedIdentity():
		return "ManagedIdentity"
	case o.Kind == az.ServicePrincipal:
		return "Application"
	}
	return ""
}

// alternativeNames says which resource a managed identity belongs to.
// Source: wire/arm-graph.md §7.
func (o *Object) alternativeNames() []string {
	if !o.IsManagedIdentity() {
		return []string{}
	}
	explicit := "isExplicit=False"
	if o.IsUserAssigned() {
		explicit = "isExplicit=True"
	}
	return []string{explicit, o.Resource.String()}
}

// graphView shows an object as Graph does.
func (d *Directory) graphView(ctx context.Context, o *Object) (any, error) {
	v := map[string]any{"@odata.type": "#microsoft.graph." + graphType(o), "id": o.ID, "displayName": o.Name, "createdDateTime": stamp(o.Created)}
	switch o.Kind {
	case Application:
		creds, err := d.credentials(ctx, o.ID)
		if err != nil {
			return nil, err
		}
		applicationView(v, o, creds)
		v["publisherDomain"] = d.cfg.Names.Domain
	case az.ServicePrincipal:
		return v, d.principalView(ctx, v, o)
	case az.Group:
		v["description"], v["mailNickname"], v["mail"] = text(o.Description), text(o.MailNickname), nil
		v["mailEnabled"], v["securityEnabled"], v["groupTypes"] = false, true, []string{}
	default:
		v["userPrincipalName"], v["accountEnabled"], v["mail"], v["mailNickname"] = o.UPN, o.Enabled, text(o.Mail), text(o.MailNickname)
		v["givenName"], v["surname"], v["businessPhones"], v["userType"] = text(o.GivenName), text(o.Surname), []string{}, "Member"
	}
	return v, nil
}

func applicationView(v map[string]any, o *Object, creds []*Credential) {
	v["appId"], v["description"], v["notes"] = o.AppID, text(o.Description), text(o.Notes)
	v["identifierUris"], v["tags"], v["appRoles"] = list(o.IdentifierURIs), list(o.Tags), list(o.AppRoles)
	v["signInAudience"] = "AzureADMyOrg"
	if o.SignInAudience != "" {
		v["signInAudience"] = o.SignInAudience
	}
	var version any
	if o.TokenVersion != 0 {
		version = o.TokenVersion
	}
	v["api"] = map[string]any{"requestedAccessTokenVersion": version, "oauth2PermissionScopes": []any{}, "knownClientApplications": []any{}, "preAuthorizedApplications": []any{}}
	v["web"] = map[string]any{"redirectUris": []any{}, "implicitGrantSettings": map[string]bool{"enableAccessTokenIssuance": false, "enableIdTokenIssuance": false}}
	v["requiredResourceAccess"] = []any{}
	v["passwordCredentials"], v["keyCredentials"] = passwordViews(creds), keyViews(creds)
}

func passwordViews(creds []*Credential) []any {
	out := []any{}
	for _, c := range creds {
		if c.Kind == Secret {
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

func (d *Directory) principalView(ctx context.Context, v map[string]any, o *Object) error {
	names := []string{o.AppID}
	v["appRoles"], v["tags"], v["description"] = []AppRole{}, list(o.Tags), text(o.Description)
	if !o.IsManagedIdentity() {
		c, ok, err := d.Client(ctx, o.AppID)
		if err != nil {
			return err
		}
		if ok && c.Application != nil {
			names = append(names, c.Application.IdentifierURIs...)
			v["appRoles"] = list(c.Application.AppRoles)
		}
		v["appOwnerOrganizationId"] = d.cfg.Names.Tenant
	}
	v["appId"], v["appDisplayName"], v["accountEnabled"] = o.AppID, o.Name, o.Enabled
	v["servicePrincipalType"], v["servicePrincipalNames"], v["alternativeNames"] = o.principalType(), names, o.alternativeNames()
	v["keyCredentials"], v["passwordCredentials"], v["oauth2PermissionScopes"] = []any{}, []any{}, []any{}
	return nil
}

func (d *Directory) graphAddPassword(ctx context.Context, r *rest.Request) (any, error) {
	var b struct {
		Credential struct {
			DisplayName string    `json:"displayName"`
			Start       time.Time `json:"startDateTime"`
			End         time.Time `json:"endDateTime"`
		} `json:"passwordCredential"`
	}
	if len(r.Body) > 0 {
		if err := r.JSON(&b); err != nil {
			return nil, err
		}
	}
	p := b.Credential
	c, secret, err := d.CreateSecret(ctx, r.Caller, strings.ToLower(r.PathValue("id")), p.DisplayName, az.MicrosOf(p.Start), az.MicrosOf(p.End))
	if err != nil {
		return nil, err
	}
	v := passwordView(c, secret)
	v["@odata.context"] = d.graphBase(r) + "/$metadata#microsoft.graph.passwordCredential"
	return v, nil
}

func (d *Directory) graphRemovePassword(ctx context.Context, r *rest.Request) (any, error) {
	var b struct {
		KeyID string `json:"keyId"`
	}
	if err := r.JSON(&b); err != nil {
		return nil, err
	}
	return nil, d.DeleteCredential(ctx, r.Caller, strings.ToLower(r.PathValue("id")), Secret, b.KeyID)
}

func federatedView(c *Credential) map[string]any {
	return map[string]any{"id": c.ID, "name": c.Name, "issuer": c.Issuer, "subject": c.Subject, "audiences": list(c.Audiences), "description": text(c.Description)}
}

func (d *Directory) federated(ctx context.Context, r *rest.Request) ([]*Credential, error) {
	app, err := d.find(ctx, graphKinds[0], r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	creds, err := d.credentials(ctx, app.ID)
	var out []*Credential
	for _, c := range creds {
		if c.Kind == Federated {
			out = append(out, c)
		}
	}
	return out, err
}

func (d *Directory) graphFederatedList(ctx context.Context, r *rest.Request) (any, error) {
	creds, err := d.federated(ctx, r)
	if err != nil {
		return nil, err
	}
	page := graphPage{Context: d.graphBase(r) + "/$metadata#federatedIdentityCredentials", Value: []any{}}
	for _, c := range creds {
		page.Value = append(page.Value, federatedView(c))
	}
	return page, nil
}

func (d *Directory) graphFederatedGet(ctx context.Context, r *rest.Request) (any, error) {
	creds, err := d.federated(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, c := range creds {
		if word := r.PathValue("credential"); c.ID == word || c.Name == word {
			return federatedView(c), nil
		}
	}
	return nil, notFound(r.PathValue("credential"))
}

func (d *Directory) graphFederatedCreate(ctx context.Context, r *rest.Request) (any, error) {
	var b struct {
		Name        string   `json:"name"`
		Issuer      string   `json:"issuer"`
		Subject     string   `json:"subject"`
		Audiences   []string `json:"audiences"`
		Description string   `json:"description"`
	}
	if err := r.JSON(&b); err != nil {
		return nil, err
	}
	c, err := d.CreateFederated(ctx, r.Caller, strings.ToLower(r.PathValue("id")), CredentialFacts{Name: b.Name, Issuer: b.Issuer, Subject: b.Subject, Audiences: b.Audiences, Description: b.Description})
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Status: http.StatusCreated, Body: federatedView(c)}, nil
}

func (d *Directory) graphFederatedDelete(ctx context.Context, r *rest.Request) (any, error) {
	return nil, d.DeleteCredential(ctx, r.Caller, strings.ToLower(r.PathValue("id")), Federated, r.PathValue("credential"))
}
