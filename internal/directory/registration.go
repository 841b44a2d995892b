package directory

import (
	"net/url"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Bounds of a registration. Source: Entra allows 256 redirect URIs of 256
// characters; the other bounds are ours, below what would fit a token.
const (
	maxRedirects   = 256
	maxRedirect    = 256
	maxAppScopes   = 100
	maxClaims      = 100
	maxResources   = 50
	maxRequired    = 400
	maxConnections = 100
)

func badApplication(format string, args ...any) error {
	return az.Errorf(az.Invalid, "Request_BadRequest", format, args...)
}

// checkRegistration checks how an application signs people in and what it
// offers. The ids that are missing are made.
func (o *Object) checkRegistration() error {
	for _, c := range []func() error{o.checkRedirects, o.checkScopes, o.checkAppRoles, o.checkClaims, o.checkConnections} {
		if err := c(); err != nil {
			return err
		}
	}
	return nil
}

func (o *Object) checkRedirects() error {
	if len(o.WebURIs)+len(o.SPAURIs)+len(o.NativeURIs) > maxRedirects {
		return badApplication("An application can have at most %d redirect URIs.", maxRedirects)
	}
	for _, kind := range []struct {
		name   string
		uris   []string
		native bool
	}{{"web", o.WebURIs, false}, {"spa", o.SPAURIs, false}, {"publicClient", o.NativeURIs, true}} {
		for i, u := range kind.uris {
			if !isRedirect(u, kind.native) {
				return badApplication("A redirect URI of '%s' is not valid: it must be an absolute URI without fragment and wildcard, https (or http on the local machine) unless it is a public client's.", kind.name)
			}
			if slices.Contains(kind.uris[:i], u) {
				return badApplication("A redirect URI of '%s' is given twice.", kind.name)
			}
		}
	}
	if o.LogoutURL != "" && !isRedirect(o.LogoutURL, false) {
		return badApplication("The property 'logoutUrl' must be an https URL.")
	}
	return nil
}

// isRedirect admits what answers may be sent to. Source: RFC 9700 §2.1 (exact
// match, no wildcards), RFC 8252 §7 (private schemes and the loopback of
// native clients); scripts and documents in a URI are none of these.
func isRedirect(s string, native bool) bool {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxRedirect || u.Scheme == "" || u.User != nil || strings.ContainsAny(s, "#*\\ \t\r\n<>\"'`") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	switch u.Scheme {
	case "https":
		return u.Host != ""
	case "http":
		h := u.Hostname()
		return h == "localhost" || h == "127.0.0.1" || h == "::1" || strings.HasSuffix(h, ".localhost")
	case "javascript", "data", "vbscript", "file", "blob", "about", "view-source", "ws", "wss", "ftp":
		return false
	}
	return native
}

func (o *Object) checkScopes() error {
	if len(o.Scopes) > maxAppScopes {
		return badApplication("An application can offer at most %d scopes.", maxAppScopes)
	}
	o.Scopes = slices.Clone(o.Scopes)
	for i := range o.Scopes {
		s := &o.Scopes[i]
		s.ID = strings.ToLower(s.ID)
		if !az.IsGUID(s.ID) || s.ID == DefaultRole || !isScopeValue(s.Value) || strings.HasPrefix(s.Value, ".") {
			return badApplication("A scope of oauth2PermissionScopes needs a GUID as 'id' and a 'value' of at most %d characters that does not begin with a dot.", maxScope)
		}
		if s.Type == "" {
			s.Type = "User"
		}
		if s.Type != "User" && s.Type != "Admin" {
			return badApplication("A scope's 'type' must be User or Admin.")
		}
		for _, other := range o.Scopes[:i] {
			if other.ID == s.ID || other.Value == s.Value {
				return badApplication("Two scopes of oauth2PermissionScopes have the same 'id' or 'value'.")
			}
		}
		for _, t := range []string{s.AdminDisplayName, s.AdminDescription, s.UserDisplayName, s.UserDescription} {
			if err := checkText("oauth2PermissionScopes", t, 1024); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Object) checkAppRoles() error {
	if len(o.AppRoles) > maxAppRoles {
		return badApplication("An application can have at most %d app roles.", maxAppRoles)
	}
	o.AppRoles = slices.Clone(o.AppRoles)
	for i := range o.AppRoles {
		r := &o.AppRoles[i]
		r.ID = strings.ToLower(r.ID)
		if !az.IsGUID(r.ID) || r.ID == DefaultRole || r.Value != "" && (!isScopeValue(r.Value) || strings.HasPrefix(r.Value, ".")) {
			return badApplication("An app role needs a GUID as 'id' and a 'value' without spaces, of at most %d characters, that does not begin with a dot.", maxScope)
		}
		for _, m := range r.AllowedMemberTypes {
			if m != "User" && m != "Application" {
				return badApplication("The allowedMemberTypes of an app role are User and Application.")
			}
		}
		if len(r.AllowedMemberTypes) == 0 || len(r.AllowedMemberTypes) > 2 {
			return badApplication("An app role needs one or two allowedMemberTypes.")
		}
		for _, other := range o.AppRoles[:i] {
			if other.ID == r.ID || r.Value != "" && other.Value == r.Value {
				return badApplication("Two app roles have the same 'id' or 'value'.")
			}
		}
		if err := checkName("app role", r.DisplayName); err != nil {
			return err
		}
		if err := checkText("appRoles", r.Description, 1024); err != nil {
			return err
		}
	}
	return nil
}

// groupClaims are the words of groupMembershipClaims.
var groupClaims = []string{"None", "SecurityGroup", "ApplicationGroup", "DirectoryRole", "All"}

func (o *Object) checkClaims() error {
	for _, w := range strings.Split(o.GroupClaims, ",") {
		if w = strings.TrimSpace(w); w != "" && !slices.Contains(groupClaims, w) {
			return badApplication("The property 'groupMembershipClaims' holds %s, several parted by commas.", strings.Join(groupClaims, ", "))
		}
	}
	if len(o.OptionalID)+len(o.OptionalToken) > maxClaims {
		return badApplication("An application can ask for at most %d optional claims.", maxClaims)
	}
	for _, c := range slices.Concat(o.OptionalID, o.OptionalToken) {
		if c.Name == "" || len(c.Properties) > 20 {
			return badApplication("An optional claim needs a name, and has at most 20 additionalProperties.")
		}
		for _, t := range append([]string{c.Name, c.Source}, c.Properties...) {
			if err := checkText("optionalClaims", t, 256); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Object) checkConnections() error {
	if len(o.Preauthorized) > maxConnections || len(o.Known) > maxConnections || len(o.Required) > maxResources {
		return badApplication("An application can name at most %d known or preauthorized clients and %d resources.", maxConnections, maxResources)
	}
	for _, p := range o.Preauthorized {
		if !az.IsGUID(p.AppID) || slices.ContainsFunc(p.Scopes, func(id string) bool { return !o.offers(id) }) {
			return badApplication("preAuthorizedApplications must name an appId, and ids of the application's own oauth2PermissionScopes.")
		}
	}
	for _, k := range o.Known {
		if !az.IsGUID(k) {
			return badApplication("knownClientApplications must hold appIds.")
		}
	}
	n := 0
	for _, r := range o.Required {
		if n += len(r.Access); !az.IsGUID(r.Resource) || n > maxRequired {
			return badApplication("requiredResourceAccess must name each resource by its appId, and at most %d permissions in all.", maxRequired)
		}
		for _, a := range r.Access {
			if !az.IsGUID(a.ID) || a.Type != "Scope" && a.Type != "Role" {
				return badApplication("The resourceAccess of requiredResourceAccess needs an 'id', which is a GUID, and a 'type', which is Scope or Role.")
			}
		}
	}
	return nil
}

func (o *Object) offers(scope string) bool {
	return slices.ContainsFunc(o.Scopes, func(s Scope) bool { return strings.EqualFold(s.ID, scope) })
}
