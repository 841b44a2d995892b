package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Scopes asked for, by the host that is called. A plane accepts Azure's
// public names for its own surfaces.
const (
	armScope   = "https://management.azure.com/.default"
	vaultScope = "https://vault.azure.net/.default"
	graphScope = "https://graph.microsoft.com/.default"
)

// renewBefore is how long before its end a token is no longer used.
const renewBefore = 2 * time.Minute

type credentials struct{ id, secret, tenant string }

type cachedToken struct {
	text string
	ends time.Time
}

func (c *Client) scopeOf(host string) string {
	switch {
	case strings.HasPrefix(host, "login."), strings.HasPrefix(host, "portal."):
		return ""
	case strings.HasPrefix(host, "graph."):
		return graphScope
	case strings.HasSuffix(host, ".vault."+c.plane.Domain):
		return vaultScope
	}
	return armScope
}

// bearer returns a token for the scope, from memory or by client credentials.
// The lock is held over the request, so that many callers cause one sign-in.
func (c *Client) bearer(ctx context.Context, scope string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tokens[scope]; t != nil && time.Until(t.ends) > renewBefore {
		return t.text, nil
	}
	if c.secret.id == "" || c.secret.secret == "" {
		return "", errors.New("no sign-in: set HAWSER_CLIENT_ID and HAWSER_CLIENT_SECRET, or use --data on the plane's machine")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.secret.id},
		"client_secret": {c.secret.secret}, "scope": {scope}}
	tenant := c.secret.tenant
	if tenant == "" {
		tenant = c.plane.TenantID
	}
	path := "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
	if tenant == "adfs" {
		path = "/adfs/oauth2/token" // the alias has no v2.0 segment (wire/entra, ADFS mode)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, origin(c.plane.Authority)+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	t, err := c.signIn(req)
	if err != nil {
		return "", fmt.Errorf("cannot sign in to the plane: %w", err)
	}
	c.tokens[scope] = t
	return t.text, nil
}

// origin drops a path, such as a tenant, from an authority's address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}

func (c *Client) signIn(req *http.Request) (*cachedToken, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errorOf(resp, b)
	}
	var t struct {
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"`
	}
	if err := json.Unmarshal(b, &t); err != nil || t.AccessToken == "" {
		return nil, errors.New("the token endpoint's answer holds no token")
	}
	secs, _ := t.ExpiresIn.Int64()
	return &cachedToken{t.AccessToken, time.Now().Add(time.Duration(secs) * time.Second)}, nil
}

// forget drops a token that a surface refused, so that the next request signs
// in anew.
func (c *Client) forget(scope, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tokens[scope]; t != nil && t.text == text {
		delete(c.tokens, scope)
	}
}
