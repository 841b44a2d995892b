package easyauth

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// caller is who asks: somebody with a session, or the holder of a token.
type caller struct {
	principal az.Principal
	claims    map[string]any
	session   *session // nil for a bearer token
	cookie    bool     // the session came by cookie, so a page elsewhere could use it
	ticket    ticket   // what the session was found by
}

// claim is one entry of X-MS-CLIENT-PRINCIPAL and /.auth/me.
type claim struct {
	Type  string `json:"typ"`
	Value string `json:"val"`
}

const (
	wsClaims = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
	msClaims = "http://schemas.microsoft.com/identity/claims/"
	nameType = wsClaims + "emailaddress"
	roleType = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
)

// claimTypes are the URIs that App Service gives to some claims. Source:
// wire/app-settings.md §4.
var claimTypes = map[string]string{
	"sub": wsClaims + "nameidentifier", "oid": msClaims + "objectidentifier", "tid": msClaims + "tenantid", "email": wsClaims + "emailaddress",
	"idp": msClaims + "identityprovider", "scp": msClaims + "scope", "upn": wsClaims + "upn", "given_name": wsClaims + "givenname",
	"family_name": wsClaims + "surname",
}

// claimList lists claims in the order of their names, one entry for each
// value.
func claimList(claims map[string]any) []claim {
	names := make([]string, 0, len(claims))
	for n := range claims {
		names = append(names, n)
	}
	slices.Sort(names)
	out := make([]claim, 0, len(names))
	for _, n := range names {
		typ := claimTypes[n]
		if typ == "" {
			typ = n
		}
		values, many := claims[n].([]any)
		if !many {
			values = []any{claims[n]}
		}
		for _, v := range values {
			out = append(out, claim{typ, claimText(v)})
		}
	}
	return out
}

func claimText(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case json.Number:
		return x.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// application is whose access token a caller came with, or opened a session
// with, in small letters. token is false for a sign-in through the app itself,
// whose id token names nobody else.
func (c *caller) application() (id string, token bool) {
	if c.session == nil {
		return strings.ToLower(c.principal.AppID), true
	}
	for _, name := range []string{"azp", "appid"} {
		if id, ok := c.claim(name); ok {
			return strings.ToLower(id), true
		}
	}
	return "", false
}

// claim is one of the caller's claims that is a text; there is none of nobody.
func (c *caller) claim(name string) (text string, ok bool) {
	if c == nil {
		return "", false
	}
	text, ok = c.claims[name].(string)
	return text, ok
}

// encoded is the value of X-MS-CLIENT-PRINCIPAL.
func (c *caller) encoded() string {
	if c.session != nil && c.session.encoded != "" {
		return c.session.encoded
	}
	return encodePrincipal(c.claims)
}

func encodePrincipal(claims map[string]any) string {
	b, err := json.Marshal(struct {
		Type   string  `json:"auth_typ"`
		Claims []claim `json:"claims"`
		Name   string  `json:"name_typ"`
		Role   string  `json:"role_typ"`
	}{provider, claimList(claims), nameType, roleType})
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}

// name is what the app is told a caller is called.
func (c *caller) name() string {
	for _, n := range []string{"preferred_username", "upn", "unique_name", "email", "name"} {
		if s, ok := c.claims[n].(string); ok && s != "" {
			return s
		}
	}
	if c.principal.Name != "" {
		return c.principal.Name
	}
	return strings.TrimSpace(c.principal.AppID)
}
