package site

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// shownSite is the properties of a site on the wire (wire/arm-graph.md §6).
type shownSite struct {
	Name                        string      `json:"name"`
	State                       string      `json:"state"`
	HostNames                   []string    `json:"hostNames"`
	RepositorySiteName          string      `json:"repositorySiteName"`
	UsageState                  string      `json:"usageState"`
	Enabled                     bool        `json:"enabled"`
	EnabledHostNames            []string    `json:"enabledHostNames"`
	AvailabilityState           string      `json:"availabilityState"`
	HostNameSSLStates           []hostState `json:"hostNameSslStates"`
	ServerFarmID                string      `json:"serverFarmId,omitempty"`
	Reserved                    bool        `json:"reserved"`
	LastModified                string      `json:"lastModifiedTimeUtc"`
	SiteConfig                  *siteConfig `json:"siteConfig"`
	KeyVaultReferenceIdentity   string      `json:"keyVaultReferenceIdentity"`
	ClientAffinityEnabled       bool        `json:"clientAffinityEnabled"`
	OutboundIPAddresses         string      `json:"outboundIpAddresses"`
	PossibleOutboundIPAddresses string      `json:"possibleOutboundIpAddresses"`
	ResourceGroup               string      `json:"resourceGroup"`
	DefaultHostName             string      `json:"defaultHostName"`
	HTTPSOnly                   bool        `json:"httpsOnly"`
}

type hostState struct {
	Name     string `json:"name"`
	SSLState string `json:"sslState"`
	HostType string `json:"hostType"`
}

func (s *Sites) view(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	p := &r.Properties
	host := s.cfg.Names.HostPort(s.cfg.Names.Of(az.SurfaceSites, r.ID.Name()))
	scm := s.cfg.Names.HostPort(s.cfg.Names.Of(az.SurfaceSites, r.ID.Name()+".scm"))
	config := p.SiteConfig
	if config == nil {
		config = &siteConfig{}
	}
	return &shownSite{
		Name: r.ID.Name(), State: p.State, HostNames: []string{host}, RepositorySiteName: r.ID.Name(), UsageState: "Normal",
		Enabled: p.Enabled == nil || *p.Enabled, EnabledHostNames: []string{host, scm}, AvailabilityState: "Normal",
		HostNameSSLStates: []hostState{{host, "Disabled", "Standard"}, {scm, "Disabled", "Repository"}},
		ServerFarmID:      p.ServerFarmID, Reserved: true, LastModified: r.Updated.Time().Format("2006-01-02T15:04:05.0000000"),
		SiteConfig: config, KeyVaultReferenceIdentity: p.KeyVaultReferenceIdentity,
		ClientAffinityEnabled: p.ClientAffinity != nil && *p.ClientAffinity, ResourceGroup: r.ID.ResourceGroup(),
		DefaultHostName: host, HTTPSOnly: p.HTTPSOnly,
	}, nil
}

// plan is an App Service plan: it is kept because clients make one before an
// app, and holds no machines.
type plan struct {
	Reserved   bool `json:"reserved,omitempty"`
	PerSite    bool `json:"perSiteScaling,omitempty"`
	Redundant  bool `json:"zoneRedundant,omitempty"`
	MaxWorkers int  `json:"maximumElasticWorkerCount,omitempty"`
}

func checkPlan(_ context.Context, _ *arm.Call, r, _ *arm.Resource[plan]) error {
	if r.Kind == "" {
		r.Kind = "linux"
	}
	if r.Location == "" {
		r.Location = arm.DefaultLocation
	}
	return nil
}

func viewPlan(_ context.Context, _ *arm.Call, r *arm.Resource[plan]) (any, error) {
	return struct {
		plan
		Name          string `json:"name"`
		Status        string `json:"status"`
		ResourceGroup string `json:"resourceGroup"`
		GeoRegion     string `json:"geoRegion"`
	}{r.Properties, r.ID.Name(), "Ready", r.ID.ResourceGroup(), r.Location}, nil
}
