package directory

import (
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

const (
	// maxURIs and maxURI bound identifier URIs. Source: Entra allows 50 per
	// application and 255 characters each.
	maxURIs = 50
	maxURI  = 255
	// maxAppRoles is our bound; a token carries an application's roles.
	maxAppRoles = 200
)

func checkApplication(o *Object) error {
	if err := checkName("application", o.Name); err != nil {
		return err
	}
	if !az.IsGUID(o.AppID) {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'appId' must be a GUID.")
	}
	o.AppID = strings.ToLower(o.AppID)
	if o.TokenVersion < 0 || o.TokenVersion > 2 {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'requestedAccessTokenVersion' must be null, 1 or 2.")
	}
	switch o.SignInAudience {
	case "", "AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount":
	default:
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'signInAudience' must be AzureADMyOrg or another of Entra's audiences.")
	}
	if err := o.checkRegistration(); err != nil {
		return err
	}
	for _, u := range o.IdentifierURIs {
		if !ownAPI(u, o.AppID) {
			return az.Errorf(az.Invalid, "Request_BadRequest", "An identifier URI of the form api://{appId} or api://{tenantId}/{appId} must hold the application's own appId.")
		}
	}
	return checkURIs(o.IdentifierURIs)
}

// ownAPI refuses api:// URIs that begin with the application id of another,
// whatever follows it: who checks tokens may look at the beginning only. Behind
// a GUID that is the tenant's, the application's own must follow.
func ownAPI(uri, appID string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(uri), "api://")
	if !ok {
		return true
	}
	first, rest, _ := strings.Cut(rest, "/")
	if !az.IsGUID(first) || first == appID {
		return true
	}
	second, _, _ := strings.Cut(rest, "/")
	return second == appID
}

func checkURIs(uris []string) error {
	if len(uris) > maxURIs {
		return az.Errorf(az.Invalid, "Request_BadRequest", "An application can have at most %d identifier URIs.", maxURIs)
	}
	seen := map[string]bool{}
	for _, u := range uris {
		p, err := url.Parse(u)
		bad := err != nil || len(u) > maxURI || p.Scheme == "" || p.Host == "" && p.Opaque == "" || p.User != nil ||
			p.RawQuery != "" || p.Fragment != "" || strings.ContainsAny(u, " \t\r\n")
		if bad {
			return az.Errorf(az.Invalid, "Request_BadRequest",
				"An identifier URI must be an absolute URI without query and fragment, such as api://name, of at most %d characters.", maxURI)
		}
		if key := strings.ToLower(u); seen[key] {
			return az.Errorf(az.Invalid, "Request_BadRequest", "An identifier URI is given twice.")
		} else {
			seen[key] = true
		}
		if p.Scheme == "https" && reservedHost(p.Hostname()) {
			return az.Errorf(az.Invalid, "Request_BadRequest", "An identifier URI must not use a name of Azure's own services.")
		}
	}
	return nil
}

// reservedHost keeps registrations from standing in for a platform resource:
// its tokens would be taken for ours.
func reservedHost(host string) bool {
	host = strings.TrimRight(strings.ToLower(host), ".")
	for _, suffix := range []string{".windows.net", ".azure.com", ".azure.net", ".azure.cn", ".azure.us", ".microsoft.com", ".microsoft.us",
		".microsoftonline.com", ".microsoftonline.us", ".chinacloudapi.cn", ".usgovcloudapi.net", ".cloudapi.de", ".microsoftazure.de", ".azconfig.io"} {
		if strings.HasSuffix(host, suffix) || host == suffix[1:] {
			return true
		}
	}
	return false
}
