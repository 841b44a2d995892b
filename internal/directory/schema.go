package directory

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// property is one property of a kind of object as Graph shows it.
type property struct {
	name    string
	get     func(*viewer, *Object) any // string, nil, bool, int, []string, az.Micros, or anything else for JSON
	filter  bool                       // $filter may compare it
	list    bool                       // a collection of texts: compared by any and all
	indexed bool                       // the store can find and sort by field
	field   store.Field
	basic   bool // shown to who may read basic profiles only
	hidden  bool // shown only where $select names it
}

// schema is what Graph knows of a kind.
type schema struct {
	typ    string // microsoft.graph's name
	set    string // the collection's
	kind   az.PrincipalKind
	props  []property
	byName map[string]*property // in lower case
}

func newSchema(typ, set string, kind az.PrincipalKind, props []property) *schema {
	s := &schema{typ: typ, set: set, kind: kind, props: append(commonProperties(), props...), byName: map[string]*property{}}
	for i := range s.props {
		s.byName[strings.ToLower(s.props[i].name)] = &s.props[i]
	}
	return s
}

// newSchemas are the four kinds that have collections of their own.
func newSchemas() map[az.PrincipalKind]*schema {
	return map[az.PrincipalKind]*schema{
		az.User:             newSchema("user", "users", az.User, userProperties()),
		az.Group:            newSchema("group", "groups", az.Group, groupProperties()),
		Application:         newSchema("application", "applications", Application, applicationProperties()),
		az.ServicePrincipal: newSchema("servicePrincipal", "servicePrincipals", az.ServicePrincipal, principalProperties()),
		// What lists of several kinds can be filtered and sorted by.
		"": newSchema("directoryObject", "directoryObjects", "", nil),
	}
}

func commonProperties() []property {
	return []property{
		{name: "id", get: func(_ *viewer, o *Object) any { return o.ID }, filter: true, indexed: true, field: store.FieldID, basic: true},
		{name: "displayName", get: func(_ *viewer, o *Object) any { return o.Name }, filter: true, indexed: true, field: store.FieldName, basic: true},
		{name: "createdDateTime", get: func(_ *viewer, o *Object) any { return o.Created }, filter: true, indexed: true, field: store.FieldCreated},
	}
}

// textOf is a property of a text of Facts; empty is null.
func textOf(name string, f func(*Object) string) property {
	return property{name: name, get: func(_ *viewer, o *Object) any { return text(f(o)) }, filter: true}
}

// fixed is a property that always has one value here.
func fixed(name string, v any) property {
	return property{name: name, get: func(*viewer, *Object) any { return v }}
}

// plainOf is a property that is shown but not compared.
func plainOf(name string, f func(*Object) any) property {
	return property{name: name, get: func(_ *viewer, o *Object) any { return f(o) }}
}

func basic(p property) property { p.basic = true; return p }

// profileTexts are the texts of a person that the directory keeps and nobody
// decides by.
var profileTexts = []string{"jobTitle", "department", "companyName", "officeLocation", "mobilePhone", "preferredLanguage", "employeeId",
	"usageLocation", "city", "country", "state", "streetAddress", "postalCode"}

func userProperties() []property {
	mail := basic(textOf("mail", func(o *Object) string { return o.Mail }))
	mail.indexed, mail.field = true, store.FieldMail
	out := []property{
		{name: "userPrincipalName", get: func(_ *viewer, o *Object) any { return o.UPN }, filter: true, indexed: true, field: store.FieldUPN, basic: true},
		{name: "accountEnabled", get: func(_ *viewer, o *Object) any { return o.Enabled }, filter: true, indexed: true, field: store.FieldEnabled},
		mail,
		textOf("mailNickname", func(o *Object) string { return o.MailNickname }),
		basic(textOf("givenName", func(o *Object) string { return o.GivenName })),
		basic(textOf("surname", func(o *Object) string { return o.Surname })),
		plainOf("businessPhones", func(o *Object) any { return list(o.BusinessPhones) }),
		{name: "userType", get: func(*viewer, *Object) any { return "Member" }, filter: true},
		{name: "signInSessionsValidFromDateTime", get: func(_ *viewer, o *Object) any { return max(o.ValidFrom, o.Created) }, hidden: true},
		{name: "passwordProfile", get: func(*viewer, *Object) any { return nil }, hidden: true},
		{name: "identities", hidden: true, get: func(v *viewer, o *Object) any {
			return []any{map[string]any{"signInType": "userPrincipalName", "issuer": v.d.cfg.Names.Domain, "issuerAssignedId": o.UPN}}
		}},
	}
	for _, name := range profileTexts {
		p := textOf(name, func(o *Object) string { return o.Profile[name] })
		switch name {
		case "jobTitle", "officeLocation", "mobilePhone", "preferredLanguage":
		default:
			p.hidden = true
		}
		out = append(out, p)
	}
	return out
}

func groupProperties() []property {
	return []property{
		textOf("description", func(o *Object) string { return o.Description }),
		textOf("mailNickname", func(o *Object) string { return o.MailNickname }),
		fixed("mail", nil),
		{name: "mailEnabled", get: func(*viewer, *Object) any { return false }, filter: true},
		{name: "securityEnabled", get: func(*viewer, *Object) any { return true }, filter: true},
		{name: "groupTypes", get: func(*viewer, *Object) any { return []string{} }, filter: true, list: true},
		{name: "isAssignableToRole", get: func(*viewer, *Object) any { return nil }},
		fixed("visibility", nil), fixed("membershipRule", nil), fixed("onPremisesSyncEnabled", nil),
		{name: "proxyAddresses", get: func(*viewer, *Object) any { return []string{} }, filter: true, list: true},
		{name: "securityIdentifier", get: func(*viewer, *Object) any { return nil }, hidden: true},
	}
}

func applicationProperties() []property {
	return []property{
		{name: "appId", get: func(_ *viewer, o *Object) any { return o.AppID }, filter: true, indexed: true, field: store.FieldAppID},
		textOf("description", func(o *Object) string { return o.Description }),
		textOf("notes", func(o *Object) string { return o.Notes }),
		{name: "identifierUris", get: func(_ *viewer, o *Object) any { return list(o.IdentifierURIs) }, filter: true, list: true},
		{name: "tags", get: func(_ *viewer, o *Object) any { return list(o.Tags) }, filter: true, list: true},
		{name: "signInAudience", get: func(_ *viewer, o *Object) any { return o.audience() }, filter: true},
		{name: "publisherDomain", get: func(v *viewer, _ *Object) any { return v.d.cfg.Names.Domain }},
		plainOf("appRoles", func(o *Object) any { return list(o.AppRoles) }),
		plainOf("api", func(o *Object) any { return apiView(o) }),
		plainOf("web", func(o *Object) any {
			return map[string]any{"homePageUrl": nil, "logoutUrl": text(o.LogoutURL), "redirectUris": list(o.WebURIs), "redirectUriSettings": uriSettings(o.WebURIs),
				"implicitGrantSettings": map[string]bool{"enableAccessTokenIssuance": false, "enableIdTokenIssuance": o.ImplicitID}}
		}),
		plainOf("spa", func(o *Object) any { return map[string]any{"redirectUris": list(o.SPAURIs)} }),
		plainOf("publicClient", func(o *Object) any { return map[string]any{"redirectUris": list(o.NativeURIs)} }),
		plainOf("isFallbackPublicClient", func(o *Object) any {
			if o.PublicClient {
				return true
			}
			return nil
		}),
		textOf("groupMembershipClaims", func(o *Object) string { return o.GroupClaims }),
		plainOf("optionalClaims", func(o *Object) any {
			if o.OptionalID == nil && o.OptionalToken == nil {
				return nil
			}
			return map[string]any{"idToken": list(o.OptionalID), "accessToken": list(o.OptionalToken), "saml2Token": []any{}}
		}),
		plainOf("requiredResourceAccess", func(o *Object) any { return list(o.Required) }),
		{name: "passwordCredentials", get: func(v *viewer, o *Object) any { return passwordViews(v.credentials(o.ID), false) }},
		{name: "keyCredentials", get: func(v *viewer, o *Object) any { return keyViews(v.credentials(o.ID)) }},
		fixed("info", map[string]any{"logoUrl": nil, "marketingUrl": nil, "privacyStatementUrl": nil, "supportUrl": nil, "termsOfServiceUrl": nil}),
		fixed("addIns", []any{}), fixed("parentalControlSettings", map[string]any{"countriesBlockedForMinors": []any{}, "legalAgeGroupRule": "Allow"}),
		fixed("verifiedPublisher", map[string]any{"displayName": nil, "verifiedPublisherId": nil, "addedDateTime": nil}),
		fixed("isDeviceOnlyAuthSupported", nil), fixed("disabledByMicrosoftStatus", nil), fixed("tokenEncryptionKeyId", nil),
	}
}

// uriSettings is beta's and v1.0's longer form of web.redirectUris.
func uriSettings(uris []string) []any {
	out := []any{}
	for _, u := range uris {
		out = append(out, map[string]any{"uri": u, "index": nil})
	}
	return out
}

func apiView(o *Object) any {
	var version any
	if o.TokenVersion != 0 {
		version = o.TokenVersion
	}
	return map[string]any{"requestedAccessTokenVersion": version, "acceptMappedClaims": nil, "oauth2PermissionScopes": list(o.Scopes),
		"knownClientApplications": list(o.Known), "preAuthorizedApplications": list(o.Preauthorized)}
}

func (o *Object) audience() string {
	if o.SignInAudience == "" {
		return "AzureADMyOrg"
	}
	return o.SignInAudience
}

func principalProperties() []property {
	return []property{
		{name: "appId", get: func(_ *viewer, o *Object) any { return o.AppID }, filter: true, indexed: true, field: store.FieldAppID},
		{name: "appDisplayName", get: func(_ *viewer, o *Object) any { return o.Name }, filter: true, indexed: true, field: store.FieldName},
		{name: "accountEnabled", get: func(_ *viewer, o *Object) any { return o.Enabled }, filter: true, indexed: true, field: store.FieldEnabled},
		{name: "servicePrincipalType", get: func(_ *viewer, o *Object) any { return o.principalType() }, filter: true},
		{name: "servicePrincipalNames", get: func(v *viewer, o *Object) any { return v.names(o) }, filter: true, list: true},
		{name: "alternativeNames", get: func(_ *viewer, o *Object) any { return o.alternativeNames() }, filter: true, list: true},
		{name: "appOwnerOrganizationId", filter: true, get: func(v *viewer, o *Object) any {
			switch {
			case o.IsManagedIdentity():
				return nil
			case o.FirstParty:
				return microsoftTenant
			}
			return v.d.cfg.Names.Tenant
		}},
		{name: "appRoleAssignmentRequired", get: func(_ *viewer, o *Object) any { return o.Assigned }, filter: true},
		{name: "appRoles", get: func(v *viewer, o *Object) any { return list(v.facts(o).AppRoles) }},
		{name: "oauth2PermissionScopes", get: func(v *viewer, o *Object) any { return list(v.facts(o).Scopes) }},
		{name: "replyUrls", get: func(v *viewer, o *Object) any {
			f := v.facts(o)
			return slices.Concat([]string{}, f.WebURIs, f.SPAURIs, f.NativeURIs)
		}},
		{name: "signInAudience", get: func(v *viewer, o *Object) any {
			if o.IsManagedIdentity() {
				return nil
			}
			return "AzureADMyOrg"
		}},
		{name: "tags", get: func(_ *viewer, o *Object) any { return list(o.Tags) }, filter: true, list: true},
		textOf("description", func(o *Object) string { return o.Description }),
		textOf("notes", func(o *Object) string { return o.Notes }),
		textOf("loginUrl", func(*Object) string { return "" }), fixed("homepage", nil), fixed("logoutUrl", nil), fixed("preferredSingleSignOnMode", nil),
		{name: "passwordCredentials", get: func(v *viewer, o *Object) any { return passwordViews(v.principalCredentials(o), true) }},
		fixed("keyCredentials", []any{}), fixed("addIns", []any{}),
		fixed("notificationEmailAddresses", []any{}), fixed("info", nil), fixed("disabledByMicrosoftStatus", nil),
	}
}

// microsoftTenant owns the platform's own applications. Source: every first-
// party service principal's appOwnerOrganizationId.
const microsoftTenant = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"

// viewer reads the properties of the objects of one reply. What goes wrong
// stays in err.
type viewer struct {
	ctx   context.Context
	d     *Directory
	creds map[string][]*Credential
	err   error
}

func (d *Directory) viewer(ctx context.Context) *viewer { return &viewer{ctx: ctx, d: d} }

// value is one property of an object, by its name in lower case.
func (v *viewer) value(o *Object, name string) any {
	p := v.d.schemas[o.Kind].byName[name]
	if p == nil {
		return nil
	}
	return p.get(v, o)
}

// prepare reads the credentials of a page's applications in one go.
func (v *viewer) prepare(page []*Object) {
	var owners []string
	for _, o := range page {
		if o.Kind == Application {
			owners = append(owners, o.ID)
		}
	}
	rows, err := v.d.store.CredentialsOf(v.ctx, owners)
	v.keep(err)
	v.creds = map[string][]*Credential{}
	for _, id := range owners {
		v.creds[id] = nil
	}
	for _, r := range rows {
		c, err := credentialFromRow(r)
		v.keep(err)
		if err == nil {
			v.creds[r.Owner] = append(v.creds[r.Owner], c)
		}
	}
}

func (v *viewer) keep(err error) {
	if v.err == nil {
		v.err = err
	}
}

func (v *viewer) credentials(owner string) []*Credential {
	if c, ok := v.creds[owner]; ok {
		return c
	}
	c, err := v.d.credentials(v.ctx, owner)
	v.keep(err)
	return c
}

// facts are those of a service principal's application.
func (v *viewer) facts(o *Object) *Facts {
	if o.IsManagedIdentity() || o.FirstParty {
		return &o.Facts
	}
	c, ok, err := v.d.Client(v.ctx, o.AppID)
	v.keep(err)
	if !ok || err != nil {
		return &o.Facts
	}
	return c.Facts()
}

// principalCredentials are those of a service principal's application, where
// its own are kept too.
func (v *viewer) principalCredentials(o *Object) []*Credential {
	if o.IsManagedIdentity() || o.FirstParty {
		return nil
	}
	c, ok, err := v.d.Client(v.ctx, o.AppID)
	v.keep(err)
	if !ok || err != nil {
		return nil
	}
	return c.Credentials
}

// names are the names that a service principal can be asked for by.
func (v *viewer) names(o *Object) []string {
	names := []string{o.AppID}
	if o.IsManagedIdentity() {
		return names
	}
	return append(names, v.facts(o).IdentifierURIs...)
}

// selection is what a reply shows of each object.
type selection struct {
	names []string // in lower case; nil: everything that is not hidden
	typed bool     // write @odata.type
	basic bool     // basic profiles only
	// peopleBasic is basic for people among objects of other kinds.
	peopleBasic bool
}

func (s *selection) shows(p *property) bool {
	if s.basic && !p.basic {
		return false
	}
	if s.names == nil {
		return !p.hidden
	}
	return slices.Contains(s.names, strings.ToLower(p.name))
}

// append writes an object's JSON without its closing brace.
func (v *viewer) append(b []byte, o *Object, sel *selection) []byte {
	s := v.d.schemas[o.Kind]
	b = append(b, '{')
	first := true
	if sel.peopleBasic && o.Kind == az.User && !sel.basic {
		limited := *sel
		limited.basic = true
		sel = &limited
	}
	if sel.typed {
		b = append(b, `"@odata.type":"#microsoft.graph.`...)
		b = append(b, s.typ...)
		b = append(b, '"')
		first = false
	}
	for i := range s.props {
		p := &s.props[i]
		if !sel.shows(p) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, p.name...)
		b = append(b, '"', ':')
		b = v.appendValue(b, p.get(v, o))
	}
	return b
}

func (v *viewer) appendValue(b []byte, x any) []byte {
	switch x := x.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		if x {
			return append(b, "true"...)
		}
		return append(b, "false"...)
	case az.Micros:
		if x == 0 {
			return append(b, "null"...)
		}
		b = append(b, '"')
		b = x.Time().AppendFormat(b, time.RFC3339)
		return append(b, '"')
	case string:
		if isPlain(x) {
			b = append(b, '"')
			b = append(b, x...)
			return append(b, '"')
		}
	case []string:
		if len(x) == 0 {
			return append(b, "[]"...)
		}
	}
	j, err := json.Marshal(x)
	v.keep(err)
	return append(b, j...)
}

// isPlain reports whether a text is its own JSON.
func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// The views below are parts that both lists and single objects show.

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
// Source: recorded answers of Azure.
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
