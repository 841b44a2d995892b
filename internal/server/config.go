package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/hawser/hawser/internal/az"
)

// Config is how a plane is run. The same names, in lower case with dashes, are
// the flags of "hawser up" and the keys of its TOML file. Everything that is
// not about the process is a resource and has no place here.
type Config struct {
	// Data is the directory that holds the plane: SQLite's file, the KEK's
	// file, the audit log, the CA's certificate. 0700, made if it is not there.
	Data string `toml:"data"`
	// Listen is where every HTTPS surface is served. Default 127.0.0.1:8443.
	Listen string `toml:"listen"`
	// Domain is D of every host name. Default hawser.localhost.
	Domain string `toml:"domain"`
	// Store is "sqlite" (default: a file in Data) or postgres://…. A URL with
	// a password should come from a file: "file:/path".
	Store string `toml:"store"`
	// PG is where the PostgreSQL gateway listens. Default 127.0.0.1:15432;
	// "off" for none.
	PG string `toml:"pg"`
	// MySQL, TDS and Redis are where the other gateways listen. Defaults
	// 127.0.0.1:13306, :11433 and :16380; "off" for none. A default that is
	// taken gives way to a free port.
	MySQL string `toml:"mysql"`
	TDS   string `toml:"tds"`
	Redis string `toml:"redis"`
	// Admin is where /metrics is served; loopback only. Default 127.0.0.1:0,
	// a free port, told by plane.json.
	Admin string `toml:"admin"`
	// IMDS "auto" serves http://169.254.169.254 where the process may bind it.
	IMDS string `toml:"imds"`
	// Hosts "auto" keeps a marked block of the hosts file in step with the
	// plane's names, where the process may write it.
	Hosts string `toml:"hosts"`
	// LocalServers "auto" lets the plane run PostgreSQL servers itself, in Data,
	// for servers that are created with nothing to adopt, where PostgreSQL is
	// installed; "off" runs none.
	LocalServers string `toml:"local-servers"`
	// HostsFile is the file that Hosts keeps. Default the system's.
	HostsFile string `toml:"hosts-file"`
	// AzureNames answers as Azure's own names too: Listen must have port 443
	// and Hosts must be auto.
	AzureNames bool `toml:"azure-names"`
	// ChallengeTenant is what challenges name: "adfs" (default) or "guid".
	ChallengeTenant string `toml:"challenge-tenant"`
	// IdentityTokenLife is how long managed-identity tokens last. Default 24h,
	// as Azure's do; at least 10m, since clients renew 5 minutes before the end.
	IdentityTokenLife Duration `toml:"identity-token-life"`
	// FederationCA is a file of certificate authorities trusted, besides the
	// system's, when the keys of outside token issuers are fetched: a cluster's
	// issuer often has a CA of its own.
	FederationCA string `toml:"federation-ca"`
	// SignIn is what the plane asks of people who sign in; in the file only.
	SignIn SignIn `toml:"sign-in"`
	// LogFormat is "text" (default) or "json"; LogLevel debug, info, warn, error.
	LogFormat string `toml:"log-format"`
	LogLevel  string `toml:"log-level"`

	Clock  az.Clock            `toml:"-"`
	Log    *slog.Logger        `toml:"-"`
	Getenv func(string) string `toml:"-"` // nil means os.Getenv
}

// Duration is a time.Duration that TOML writes as "24h".
type Duration time.Duration

// UnmarshalText parses "24h".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// minIdentityTokenLife: SDKs treat a token with 5 minutes left as expired.
const minIdentityTokenLife = 10 * time.Minute

// ReadConfig reads a TOML file into cfg. Unknown keys are errors, so that a
// misspelt limit is not silently none.
func ReadConfig(path string, cfg *Config) error {
	md, err := toml.DecodeFile(path, cfg)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	if extra := md.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("cannot read the configuration: %s is no setting; see hawser up --help", extra[0])
	}
	return nil
}

func (c *Config) fill() error {
	def := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	def(&c.Listen, "127.0.0.1:8443")
	def(&c.Domain, "hawser.localhost")
	def(&c.Store, "sqlite")
	def(&c.PG, "127.0.0.1:15432")
	def(&c.Admin, "127.0.0.1:0")
	def(&c.IMDS, "auto")
	def(&c.Hosts, "auto")
	def(&c.LocalServers, "auto")
	def(&c.HostsFile, systemHostsFile)
	def(&c.ChallengeTenant, az.AliasTenant)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if path, ok := strings.CutPrefix(c.Store, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("cannot read the store's address: %w", err)
		}
		c.Store = strings.TrimSpace(string(b))
	}
	c.Domain = strings.ToLower(strings.TrimSuffix(c.Domain, "."))
	return c.check()
}

func (c *Config) check() error {
	if c.Data == "" {
		return errors.New("no data directory was given; name one with --data")
	}
	if strings.Contains(c.Domain, "token") {
		// MSAL for Go replaces every "token" of the token endpoint's URL to
		// find the device code endpoint.
		return errors.New("the domain must not contain the word token: MSAL for Go cannot use such a name")
	}
	for name, v := range map[string]string{"imds": c.IMDS, "hosts": c.Hosts, "local-servers": c.LocalServers} {
		if v != "auto" && v != "off" {
			return fmt.Errorf("--%s must be auto or off", name)
		}
	}
	if c.ChallengeTenant != az.AliasTenant && c.ChallengeTenant != "guid" {
		return errors.New("--challenge-tenant must be adfs or guid")
	}
	host, _, err := net.SplitHostPort(c.Admin)
	if err != nil || !isLoopback(host) {
		return errors.New("the admin listener must be on a loopback address, such as 127.0.0.1:9100")
	}
	if c.IdentityTokenLife == 0 {
		c.IdentityTokenLife = Duration(24 * time.Hour)
	}
	if time.Duration(c.IdentityTokenLife) < minIdentityTokenLife {
		return fmt.Errorf("identity tokens must last at least %s: clients renew them 5 minutes before they end", minIdentityTokenLife)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
