package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Dial opens the socket to a grant's Addr: host:port or the path of a Unix
// socket.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return Quick(c), nil
}

// BackendTLS returns the TLS configuration for libpq's sslmode, whose words
// all kinds of servers share here: nil for disable; require trusts any
// certificate, as libpq does without a root file; verify-ca checks the chain
// against roots (nil: the system's), verify-full the host name too.
func BackendTLS(mode, host string, roots *x509.CertPool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots}
	switch mode {
	case "disable":
		return nil, nil
	case "require":
		c.InsecureSkipVerify = true
	case "verify-ca":
		c.InsecureSkipVerify = true // the name only: VerifyConnection checks the chain
		c.VerifyConnection = func(s tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				opts.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(opts)
			return err
		}
	case "verify-full":
	default:
		return nil, fmt.Errorf("unknown sslmode %q: use disable, require, verify-ca or verify-full", mode)
	}
	return c, nil
}

// WarmKey tells apart the backend connections that must not stand in for each
// other. The password is in it, as a fingerprint, so that a rotated one can't
// be bypassed by an old connection. So is the principal: a reset leaves what
// extensions and languages keep, and the members of a group share a role.
// parameters are what the client chose at its start.
func (g *Gate) WarmKey(who az.Principal, grant Grant, parameters string) string {
	mac := hmac.New(sha256.New, g.hmac[:])
	mac.Write([]byte(grant.Password.Reveal()))
	return strings.Join([]string{who.ObjectID, grant.Server.Key(), grant.Addr, grant.User, grant.Database, string(mac.Sum(nil)), parameters}, "\x00")
}
