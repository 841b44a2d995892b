package arm

import (
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

type cloudAuthentication struct {
	LoginEndpoint    string   `json:"loginEndpoint"`
	Audiences        []string `json:"audiences"`
	Tenant           string   `json:"tenant,omitempty"`
	IdentityProvider string   `json:"identityProvider,omitempty"`
}

// cloud is the plane as clients register it, in the 2019-05-01 form and later.
// Source: wire/arm-graph.md §2.
type cloud struct {
	Name                   string              `json:"name"`
	Portal                 string              `json:"portal"`
	Authentication         cloudAuthentication `json:"authentication"`
	ResourceManager        string              `json:"resourceManager"`
	Media                  string              `json:"media"`
	Graph                  string              `json:"graph"`
	GraphAudience          string              `json:"graphAudience"`
	MicrosoftGraph         string              `json:"microsoftGraphResourceId"`
	Batch                  string              `json:"batch"`
	Gallery                string              `json:"gallery"`
	SQLManagement          string              `json:"sqlManagement"`
	ImageAliases           string              `json:"vmImageAliasDoc"`
	DataLake               string              `json:"activeDirectoryDataLake"`
	AppInsights            string              `json:"appInsightsResourceId"`
	AppInsightsTelemetry   string              `json:"appInsightsTelemetryChannelResourceId"`
	LogAnalytics           string              `json:"logAnalyticsResourceId"`
	Attestation            string              `json:"attestationResourceId"`
	Synapse                string              `json:"synapseAnalyticsResourceId"`
	OpenSourceDatabases    string              `json:"ossrDbmsResourceId"`
	OpenSourceDatabasesOld string              `json:"ossrdbmsResourceId"` // az 2.45 reads this spelling
	Suffixes               map[string]string   `json:"suffixes"`
}

type cloud2015 struct {
	Gallery        string              `json:"galleryEndpoint"`
	Graph          string              `json:"graphEndpoint"`
	Portal         string              `json:"portalEndpoint"`
	Authentication cloudAuthentication `json:"authentication"`
}

// metadata answers GET /metadata/endpoints, which clients ask before they can
// have a token: one object (2022-09-01), an array (2019-05-01), or the short
// form of az cloud register (2015-01-01).
func (a *API) metadata(_ context.Context, req *rest.Request) (any, error) {
	version, err := apiVersion(req.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	c := a.cloud()
	if version >= "2022" {
		return c, nil
	}
	// az signs in here without asking Microsoft about the authority only if
	// its address ends in the alias tenant (wire/clients.md).
	c.Authentication.LoginEndpoint = a.azLogin()
	c.ResourceManager += "/" // az puts paths behind it as it is, as Azure's own ends
	if version >= "2018" {
		return []cloud{c}, nil
	}
	return cloud2015{Gallery: c.Gallery, Graph: c.Graph, Portal: c.Portal,
		Authentication: cloudAuthentication{LoginEndpoint: c.Authentication.LoginEndpoint, Audiences: c.Authentication.Audiences}}, nil
}

func (a *API) azLogin() string {
	n := a.cfg.Names
	if n.ChallengeTenant == "" || n.ChallengeTenant == az.AliasTenant {
		return n.Origin(az.SurfaceLogin) + "/" + az.AliasTenant
	}
	return n.Origin(az.SurfaceLogin)
}

func (a *API) cloud() cloud {
	n := a.cfg.Names
	manage, graph := n.Origin(az.SurfaceManagement), n.Origin(az.SurfaceGraph)
	return cloud{
		Name:   "Hawser",
		Portal: n.Origin(az.SurfacePortal),
		Authentication: cloudAuthentication{
			LoginEndpoint: n.Origin(az.SurfaceLogin),
			Audiences:     []string{manage + "/", "https://management.core.windows.net/", "https://management.azure.com/"},
			Tenant:        "common", IdentityProvider: "AAD",
		},
		ResourceManager: manage,
		Graph:           graph, GraphAudience: graph, MicrosoftGraph: graph + "/",
		Gallery: manage, SQLManagement: manage, Batch: manage, Media: manage,
		OpenSourceDatabases: "https://ossrdbms-aad.database.windows.net", OpenSourceDatabasesOld: "https://ossrdbms-aad.database.windows.net",
		Suffixes: map[string]string{
			"keyVaultDns":              a.suffix(az.SurfaceVault),
			"storage":                  n.HostPort(n.Domain),
			"sqlServerHostname":        n.Suffix(az.SurfaceSQL),
			"mysqlServerEndpoint":      n.Suffix(az.SurfaceMySQL),
			"postgresqlServerEndpoint": n.Suffix(az.SurfacePostgres),
			"mariadbServerEndpoint":    "mariadb." + n.Domain,
		},
	}
}

// suffix is a DNS suffix as clients append it to a name to make a URL, so it
// has the port.
func (a *API) suffix(s az.Surface) string {
	return a.cfg.Names.HostPort(a.cfg.Names.Suffix(s))
}
