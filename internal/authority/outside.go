package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hawser/hawser/internal/az"
)

const (
	// outsideTimeout bounds one visit at an issuer, both documents.
	outsideTimeout = 5 * time.Second
	// maxDocument bounds a document. GitHub's key set has 10 KiB.
	maxDocument = 256 << 10
	// maxOutsideKeys bounds an issuer's keys; real ones have below 20.
	maxOutsideKeys = 100
	// keysFresh is how long keys are used without asking, keysStale how long
	// while the issuer does not answer.
	keysFresh = time.Hour
	keysStale = 6 * time.Hour
	// An unknown kid causes a visit once in unknownEvery, and unknown kids
	// together maxUnknown visits in it; a visit that failed is repeated after
	// failedEvery.
	unknownEvery = time.Minute
	maxUnknown   = 5
	failedEvery  = 30 * time.Second
	// maxIssuers bounds the memory; a full one is emptied.
	maxIssuers = 1024
	// maxRedirects within the issuer's own host.
	maxRedirects = 3
)

// issuerCache fetches and remembers the keys of outside issuers.
type issuerCache struct {
	client *http.Client
	clock  az.Clock
	mu     sync.Mutex // guards m
	m      map[string]*outsideIssuer
}

// outsideIssuer is what is known of one; turn is held while it is asked.
type outsideIssuer struct {
	turn    chan struct{}
	set     []jose.JSONWebKey
	fetched time.Time
	tried   time.Time
	failed  error                // of the newest try
	unknown map[string]time.Time // kids that were not found, and when; at most maxUnknown
}

func newIssuerCache(roots *x509.CertPool, clock az.Clock) *issuerCache {
	dialer := &net.Dialer{Timeout: outsideTimeout, Control: refuseLocalServices}
	return &issuerCache{clock: clock, m: map[string]*outsideIssuer{}, client: &http.Client{
		Timeout: outsideTimeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: outsideTimeout,
			MaxResponseHeaderBytes: 32 << 10, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Scheme != "https" || req.URL.Host != via[0].URL.Host || len(via) > maxRedirects {
				return errors.New("it redirects to another place")
			}
			return nil
		},
	}}
}

// refuseLocalServices keeps an issuer's name from leading to the addresses at
// which clouds serve credentials to their machines. Private networks are
// allowed: that is where a cluster's issuer lives.
func refuseLocalServices(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	// 169.254.0.0/16, fe80::/10, multicast, unspecified; AWS's and Alibaba's
	// metadata addresses outside of those.
	ip := ap.Addr().Unmap()
	if translated := netip.MustParsePrefix("64:ff9b::/96"); translated.Contains(ip) { // to IPv4, RFC 6052
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip == netip.MustParseAddr("fd00:ec2::254") || ip == netip.MustParseAddr("100.100.100.200") {
		return errors.New("the address is not one that an issuer may have")
	}
	return nil
}

// keys returns the issuer's keys that a kid may mean.
func (c *issuerCache) keys(ctx context.Context, issuer, kid string) ([]jose.JSONWebKey, error) {
	is := c.issuer(issuer)
	select {
	case is.turn <- struct{}{}:
		defer func() { <-is.turn }()
	case <-ctx.Done():
		return nil, az.Errorf(az.Unavailable, "temporarily_unavailable", "The keys of the assertion's issuer could not be fetched in time; try again.").Because(ctx.Err())
	}
	now := c.clock()
	found := is.find(kid)
	if len(found) > 0 && now.Sub(is.fetched) < keysFresh {
		return found, nil
	}
	if is.mayVisit(kid, now, len(found) > 0) {
		is.visit(ctx, c, issuer, now)
		found = is.find(kid)
	}
	switch {
	case len(found) > 0 && now.Sub(is.fetched) < keysStale:
		return found, nil
	case is.failed != nil:
		return nil, az.Errorf(az.Unavailable, "temporarily_unavailable", "The keys of the assertion's issuer could not be fetched; see that the plane can reach it, and try again.").Because(is.failed)
	}
	return nil, oauthError(az.Unauthorized, "invalid_client", 700027, "Client assertion failed signature validation: its issuer has no key of the id that it names.")
}

func (c *issuerCache) issuer(name string) *outsideIssuer {
	c.mu.Lock()
	defer c.mu.Unlock()
	is := c.m[name]
	if is == nil {
		if len(c.m) >= maxIssuers {
			clear(c.m)
		}
		is = &outsideIssuer{turn: make(chan struct{}, 1)}
		c.m[name] = is
	}
	return is
}

// find returns the keys with the id. Without one an issuer must have one key
// only: trying all of them would let a stranger choose.
func (is *outsideIssuer) find(kid string) []jose.JSONWebKey {
	if kid == "" {
		if len(is.set) == 1 {
			return is.set
		}
		return nil
	}
	var out []jose.JSONWebKey
	for _, k := range is.set {
		if k.KeyID == kid {
			out = append(out, k)
		}
	}
	return out
}

// mayVisit says whether the issuer may be asked now for a kid that is not known
// or known from too long ago.
func (is *outsideIssuer) mayVisit(kid string, now time.Time, known bool) bool {
	if is.failed != nil {
		return now.Sub(is.tried) >= failedEvery
	}
	if known || is.tried.IsZero() {
		return true
	}
	for k, at := range is.unknown {
		if now.Sub(at) >= unknownEvery {
			delete(is.unknown, k)
		}
	}
	if _, missed := is.unknown[kid]; missed || len(is.unknown) >= maxUnknown {
		return false
	}
	if is.unknown == nil {
		is.unknown = map[string]time.Time{}
	}
	is.unknown[kid] = now
	return true
}

// visit asks the issuer; its turn is held. The first caller may leave: the
// answer is for all.
func (is *outsideIssuer) visit(ctx context.Context, c *issuerCache, issuer string, now time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outsideTimeout)
	defer cancel()
	set, err := c.fetch(ctx, issuer)
	is.tried, is.failed = now, err
	if err == nil {
		is.set, is.fetched = set, now
	}
}

func (c *issuerCache) fetch(ctx context.Context, issuer string) ([]jose.JSONWebKey, error) {
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := c.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &doc); err != nil {
		return nil, err
	}
	if doc.Issuer != issuer {
		return nil, errors.New("the issuer's discovery document names another issuer")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := c.get(ctx, doc.JWKS, &set); err != nil {
		return nil, err
	}
	var out []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) == nil && usable(&k) && len(out) < maxOutsideKeys {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the issuer publishes no key that can be used")
	}
	return out, nil
}

// get fetches one JSON document over https.
func (c *issuerCache) get(ctx context.Context, address string, v any) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("a document's address is not an https URL")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("a document's address is not an https URL")
	}
	req.Header.Set("Accept", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot fetch %s: %w", u.Redacted(), err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot fetch %s: status %d", u.Redacted(), res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err != nil || len(b) > maxDocument {
		return fmt.Errorf("cannot fetch %s: it ends early or is larger than %d bytes", u.Redacted(), maxDocument)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cannot read %s: it is not JSON of the expected form", u.Redacted())
	}
	return nil
}

// strongKey refuses RSA keys below 2048 bits (RFC 7518 §3.3) and other kinds.
func strongKey(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		return true
	}
	return false
}
