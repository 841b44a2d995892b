package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Limits of this client.
const (
	dialTimeout     = 5 * time.Second
	openTimeout     = 10 * time.Second // metadata and first sign-in together
	responseMax     = 32 << 20         // a list page of ARM is far smaller
	idleConnections = 64               // an app's token misses come in bursts
)

// Options say which plane to use. Empty fields are filled from the
// environment: HAWSER_DATA, HAWSER_URL, HAWSER_CA, HAWSER_CLIENT_ID,
// HAWSER_CLIENT_SECRET, HAWSER_TENANT_ID, HAWSER_DOMAIN and
// HAWSER_SUBSCRIPTION_ID. A field set here beats the environment, and a data
// directory beats a URL of the same origin.
type Options struct {
	Data         string // data directory of a plane on this machine
	URL          string // https address of a plane anywhere
	CA           string // file with the CA of the plane at URL; empty means the system's roots
	ClientID     string
	ClientSecret string
	TenantID     string
	Domain       string // the plane's domain, if URL does not tell it
	Subscription string
	Getenv       func(string) string // nil means os.Getenv
}

// Client talks to one plane. It is safe for use by many goroutines.
type Client struct {
	plane   Plane
	http    *http.Client
	socket  bool // the unix socket: its peer credentials are the sign-in
	secret  credentials
	mu      sync.Mutex              // guards tokens
	tokens  map[string]*cachedToken // by scope
	caFile  string
	address string // what is dialled, whatever the host name
}

// Open finds the plane and checks that it can be used. It sends nothing to a
// plane on this machine; a plane at a URL is asked for its names.
func Open(o Options) (*Client, error) {
	o.fill()
	switch {
	case o.Data != "":
		p, err := ReadPlane(o.Data)
		if err != nil {
			return nil, err
		}
		return openSocket(p)
	case o.URL != "":
		return openURL(o)
	}
	return nil, errors.New("no plane named: pass --data DIR, or set HAWSER_DATA, or HAWSER_URL with a sign-in")
}

func (o *Options) fill() {
	get := o.Getenv
	if get == nil {
		get = os.Getenv
	}
	if o.Data == "" && o.URL == "" {
		o.Data = get("HAWSER_DATA")
		if o.Data == "" {
			o.URL = get("HAWSER_URL")
		}
	}
	for _, f := range []struct {
		to   *string
		name string
	}{
		{&o.CA, "HAWSER_CA"}, {&o.ClientID, "HAWSER_CLIENT_ID"}, {&o.ClientSecret, "HAWSER_CLIENT_SECRET"},
		{&o.TenantID, "HAWSER_TENANT_ID"}, {&o.Domain, "HAWSER_DOMAIN"}, {&o.Subscription, "HAWSER_SUBSCRIPTION_ID"},
	} {
		if *f.to == "" {
			*f.to = get(f.name)
		}
	}
}

func openSocket(p Plane) (*Client, error) {
	if p.Domain == "" {
		return nil, errors.New("cannot use plane.json: it names no domain; start the plane again")
	}
	p.names(portOf(p.Listen))
	c := &Client{plane: p, socket: true, caFile: p.CAFile}
	d := net.Dialer{Timeout: dialTimeout}
	c.http = &http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", p.Socket)
		},
		MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
	return c, nil
}

func openURL(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("cannot use the plane's address %q: it must be https://host[:port]", redactURL(o.URL))
	}
	roots, err := loadCA(o.CA)
	if err != nil {
		return nil, err
	}
	c := &Client{
		address: hostPort(u), caFile: o.CA, tokens: map[string]*cachedToken{},
		secret: credentials{id: o.ClientID, secret: o.ClientSecret, tenant: o.TenantID},
	}
	c.http = &http.Client{CheckRedirect: noRedirect, Transport: c.transport(u.Hostname(), roots)}
	c.plane = Plane{Listen: c.address, CAFile: o.CA, TenantID: o.TenantID, SubscriptionID: o.Subscription, Domain: o.Domain}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if d, ok := strings.CutPrefix(u.Hostname(), "management."); ok && c.plane.Domain == "" {
		c.plane.Domain = d
	}
	if c.plane.Domain == "" {
		if err := c.discover(ctx, u); err != nil {
			return nil, err
		}
	}
	c.plane.names(portOf(c.address))
	return c, c.findSubscription(ctx)
}

// findSubscription asks the plane which subscription (and tenant) is meant
// when the caller did not say.
func (c *Client) findSubscription(ctx context.Context) error {
	if c.plane.SubscriptionID != "" && c.plane.TenantID != "" {
		return nil
	}
	if c.plane.TenantID == "" {
		c.secret.tenant = "adfs" // the alias under which a plane's default tenant always answers
	}
	var l struct {
		Value []struct {
			SubscriptionID string `json:"subscriptionId"`
			TenantID       string `json:"tenantId"`
		} `json:"value"`
	}
	if err := c.Do(ctx, http.MethodGet, "/subscriptions", nil, &l); err != nil {
		return fmt.Errorf("cannot list the plane's subscriptions: %w", err)
	}
	if len(l.Value) == 0 {
		return errors.New("the plane shows this sign-in no subscription: assign it a role")
	}
	if c.plane.SubscriptionID == "" {
		c.plane.SubscriptionID = l.Value[0].SubscriptionID
	}
	if c.plane.TenantID == "" {
		c.plane.TenantID = l.Value[0].TenantID
	}
	return nil
}

// transport dials the plane's one address for its own names, which may
// resolve nowhere; the certificate is checked against the name asked for.
// The plane is never reached through a proxy.
func (c *Client) transport(urlHost string, roots *x509.CertPool) *http.Transport {
	d := net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if host != urlHost && (c.plane.Domain == "" || !strings.HasSuffix(host, "."+c.plane.Domain)) {
				return nil, fmt.Errorf("%s is not a name of the plane", host)
			}
			return d.DialContext(ctx, network, c.address)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: time.Minute,
		DisableCompression: true, ForceAttemptHTTP2: true,
	}
}

// Plane returns what is known of the plane.
func (c *Client) Plane() Plane { return c.plane }

// Local reports whether the plane is reached over its unix socket.
func (c *Client) Local() bool { return c.socket }

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A redirect would carry the sign-in to a place nobody named.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func loadCA(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plane's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("cannot use %s as the plane's CA: it holds no PEM certificate", file)
	}
	return pool, nil
}

func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}

// portOf returns ":port" of an address, or "" where https needs none.
func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "443" {
		return ""
	}
	return ":" + port
}

// redactURL drops user information before an address is printed.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(unreadable)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
