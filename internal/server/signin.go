package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/signin"
)

// SignIn is the [sign-in] table of the TOML file: what the plane asks of people.
type SignIn struct {
	// MFA is "enrolled" (default): a second factor is asked of whoever has one;
	// or "required": whoever has none must set one up.
	MFA string `toml:"mfa"`
	// PasswordGrant lets clients send a person's password to the token endpoint
	// (OAuth's resource owner password credentials). Default off: RFC 9700 §2.4.
	PasswordGrant bool `toml:"password-grant"`
	// Provider hands sign-in to a company's own OpenID Connect provider.
	Provider *SignInProvider `toml:"provider"`
}

// SignInProvider is [sign-in.provider]; the names are those of signin.Provider.
type SignInProvider struct {
	Issuer           string            `toml:"issuer"`
	ClientID         string            `toml:"client-id"`
	ClientSecretFile string            `toml:"client-secret-file"`
	CA               string            `toml:"ca"` // file of CAs trusted besides the system's
	Name             string            `toml:"name"`
	Scopes           []string          `toml:"scopes"`
	UserClaim        string            `toml:"user-claim"`
	TrustEmail       bool              `toml:"trust-email"`
	Domains          []string          `toml:"domains"`
	TrustNames       bool              `toml:"trust-names"`
	Create           bool              `toml:"create"`
	Only             bool              `toml:"only"`
	GroupsClaim      string            `toml:"groups-claim"`
	Groups           map[string]string `toml:"groups"`
}

// providerTimeout bounds one request to the outside provider.
const providerTimeout = 10 * time.Second

// signInConfig is what sign-in is made of, by the configuration.
func (s *Server) signInConfig() (signin.Config, error) {
	cfg := signin.Config{Store: s.store, Directory: s.parts.directory, Guard: s.parts.guard, Sealer: s.keys.sealer,
		Names: s.names, Clock: s.cfg.Clock, Log: s.cfg.Log, Policy: signin.Policy{MFA: s.cfg.SignIn.MFA}}
	p := s.cfg.SignIn.Provider
	if p == nil {
		return cfg, nil
	}
	cfg.Provider = &signin.Provider{Issuer: p.Issuer, ClientID: p.ClientID, Name: p.Name, Scopes: p.Scopes, UserClaim: p.UserClaim,
		TrustEmail: p.TrustEmail, Domains: p.Domains, TrustNames: p.TrustNames, Create: p.Create, Only: p.Only,
		GroupsClaim: p.GroupsClaim, Groups: p.Groups}
	if p.ClientSecretFile == "" {
		return cfg, errors.New("the outside provider needs its client secret: name the file with client-secret-file in [sign-in.provider]")
	}
	b, err := os.ReadFile(p.ClientSecretFile)
	if err != nil {
		return cfg, fmt.Errorf("cannot read the outside provider's client secret: %w", err)
	}
	cfg.Provider.ClientSecret = az.NewSecret(strings.TrimSpace(string(b)))
	roots, err := federationRoots(p.CA)
	if err != nil || roots == nil {
		return cfg, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	cfg.HTTP = &http.Client{Transport: t, Timeout: providerTimeout}
	return cfg, nil
}
