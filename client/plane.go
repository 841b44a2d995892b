package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// PlaneFile is the name of the file that describes a plane in its data
// directory.
const PlaneFile = "plane.json"

// planeFileMax bounds plane.json; a real one is about 2 KiB.
const planeFileMax = 1 << 20

// Plane describes a plane: where it listens, how its names end, who it trusts.
// Nothing in it is secret.
type Plane struct {
	PID             int               `json:"pid,omitempty"`
	Socket          string            `json:"socket,omitempty"` // unix socket; its owner is the administrator
	Listen          string            `json:"listen,omitempty"` // host:port of the HTTPS listener
	Domain          string            `json:"domain"`
	TenantID        string            `json:"tenantId"`
	SubscriptionID  string            `json:"subscriptionId"`
	ChallengeTenant string            `json:"challengeTenant,omitempty"`
	Authority       string            `json:"authority"`
	ResourceManager string            `json:"resourceManager"`
	Graph           string            `json:"graph,omitempty"`
	Portal          string            `json:"portal,omitempty"`
	Suffixes        map[string]string `json:"suffixes,omitempty"`
	CAFile          string            `json:"caFile,omitempty"`   // the plane's CA alone
	CABundle        string            `json:"caBundle,omitempty"` // system roots and the plane's CA
	Gateways        map[string]string `json:"gateways,omitempty"` // pg, mysql, tds, redis: host:port
	AzureNames      bool              `json:"azureNames,omitempty"`
}

// ReadPlane reads DIR/plane.json, which a plane writes when it starts.
func ReadPlane(dir string) (Plane, error) {
	path := filepath.Join(dir, PlaneFile)
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return Plane{}, fmt.Errorf("no plane in %s: start one with `hawser up --data %s`", dir, dir)
	}
	if err != nil {
		return Plane{}, fmt.Errorf("cannot read the plane's description: %w", err)
	}
	if fi.Size() > planeFileMax {
		return Plane{}, fmt.Errorf("cannot use %s: larger than %d bytes", path, planeFileMax)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Plane{}, fmt.Errorf("cannot read the plane's description: %w", err)
	}
	var p Plane
	if err := json.Unmarshal(b, &p); err != nil {
		return Plane{}, fmt.Errorf("cannot use %s: %w", path, err)
	}
	if p.Socket == "" {
		p.Socket = filepath.Join(dir, "hawser.sock")
	}
	return p, nil
}

// metadata is the part of ARM's cloud metadata document that tells a remote
// client how the plane's names end.
type metadata struct {
	ResourceManager string `json:"resourceManager"`
	Portal          string `json:"portal"`
	Graph           string `json:"microsoftGraphResourceId"`
	Authentication  struct {
		LoginEndpoint string `json:"loginEndpoint"`
	} `json:"authentication"`
	Suffixes map[string]string `json:"suffixes"`
}

// discover fills the plane's description from the cloud metadata document,
// the same one Terraform and az read.
func (c *Client) discover(ctx context.Context, base *url.URL) error {
	var m metadata
	err := c.send(ctx, http.MethodGet, base.JoinPath("/metadata/endpoints").String()+"?api-version=2022-09-01", "", nil, &m)
	if err != nil {
		return fmt.Errorf("cannot learn the plane's names from %s: %w", base.Host, err)
	}
	arm, err := url.Parse(m.ResourceManager)
	if err != nil || !strings.HasPrefix(arm.Hostname(), "management.") {
		return fmt.Errorf("cannot use the plane at %s: its metadata names no management host", base.Host)
	}
	c.plane.Domain = strings.TrimPrefix(arm.Hostname(), "management.")
	c.plane.ResourceManager = strings.TrimSuffix(m.ResourceManager, "/")
	c.plane.Authority = strings.TrimSuffix(m.Authentication.LoginEndpoint, "/")
	c.plane.Graph = strings.TrimSuffix(m.Graph, "/")
	c.plane.Portal, c.plane.Suffixes = m.Portal, m.Suffixes
	return nil
}

// names fills in the addresses that follow from the domain.
func (p *Plane) names(port string) {
	set := func(s *string, host string) {
		if *s == "" {
			*s = "https://" + host + "." + p.Domain + port
		}
	}
	set(&p.Authority, "login")
	set(&p.ResourceManager, "management")
	set(&p.Graph, "graph")
	set(&p.Portal, "portal")
}
