package client

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// DefaultGroup is the resource group of apps that name none.
const DefaultGroup = "hawser"

// MaxWait is the longest a plane holds a request for a change, in seconds.
const MaxWait = 30

// SiteID returns the ARM id of an app: a full id is kept, a name is put into
// the default resource group of the plane's subscription.
func (c *Client) SiteID(nameOrID string) string {
	if strings.HasPrefix(nameOrID, "/") {
		return strings.TrimSuffix(nameOrID, "/")
	}
	return "/subscriptions/" + c.plane.SubscriptionID + "/resourceGroups/" + DefaultGroup +
		"/providers/Microsoft.Web/sites/" + nameOrID
}

// Environment is what an app's process sees at one moment. Its values are
// secret: it prints only names.
type Environment struct {
	ETag       string      `json:"etag"`
	Unchanged  bool        `json:"unchanged"`
	Site       string      `json:"site"`
	SiteID     string      `json:"siteId"`
	TenantID   string      `json:"tenantId"`
	Variables  []Variable  `json:"environment"`
	References []Reference `json:"references"`
	Identities Identities  `json:"identities"`
	Authority  string      `json:"authority"`
	Tenant     string      `json:"tenant"` // what AZURE_TENANT_ID should say: the alias or the GUID
	State      string      `json:"state"`
	Restarted  int64       `json:"restarted"` // when somebody asked for a restart, 0 for never
}

// Stopped reports whether somebody has stopped the app: it should not run.
func (e *Environment) Stopped() bool { return strings.EqualFold(e.State, "Stopped") }

// Variable is one environment variable; it prints its name only.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Format prints the name and hides the value under every verb.
func (v Variable) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.Name+"=REDACTED") }

// LogValue hides the value from slog.
func (v Variable) LogValue() slog.Value { return slog.StringValue(v.Name + "=REDACTED") }

// Reference is a setting that names a secret, and how its resolving went.
type Reference struct {
	Name      string `json:"name"`
	Reference string `json:"reference"`
	Status    string `json:"status"` // Resolved, or why not
	Details   string `json:"details"`
}

// Identities are the managed identities of an app.
type Identities struct {
	System *Identity  `json:"system"`
	User   []Identity `json:"user"`
}

// Identity is one managed identity; ID is empty for the system-assigned one.
type Identity struct {
	ID          string `json:"id,omitempty"`
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
}

// RuntimeEnvironment reads an app's environment. With an etag and a wait it
// returns when the environment differs or after waitSeconds (at most MaxWait),
// then with Unchanged set.
func (c *Client) RuntimeEnvironment(ctx context.Context, siteID, etag string, waitSeconds int) (*Environment, error) {
	in := struct {
		ETag string `json:"etag"`
		Wait int    `json:"waitSeconds"`
	}{etag, min(waitSeconds, MaxWait)}
	var out Environment
	if err := c.Action(ctx, siteID, "runtimeEnvironment", in, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// TokenRequest asks for a managed-identity token. At most one of ClientID,
// ObjectID and ResourceID is set; none means the system-assigned identity.
type TokenRequest struct {
	Resource   string `json:"resource"`
	ClientID   string `json:"clientId,omitempty"`
	ObjectID   string `json:"objectId,omitempty"`
	ResourceID string `json:"resourceId,omitempty"`
	Refresh    bool   `json:"refresh"`
}

// Token is a managed-identity token; times are seconds since 1970. It prints
// without the token itself.
type Token struct {
	AccessToken string `json:"accessToken"`
	ExpiresOn   int64  `json:"expiresOn"`
	NotBefore   int64  `json:"notBefore"`
	RefreshOn   int64  `json:"refreshOn"`
	Resource    string `json:"resource"`
	ClientID    string `json:"clientId"`
	ObjectID    string `json:"objectId"`
	ResourceID  string `json:"resourceId"`
}

// Format hides the token under every verb.
func (t Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "token of "+t.ObjectID+" for "+t.Resource+" REDACTED")
}

// LogValue hides the token from slog.
func (t Token) LogValue() slog.Value {
	return slog.StringValue("token of " + t.ObjectID + " for " + t.Resource + " REDACTED")
}

// RuntimeToken gets a token for one of the app's managed identities.
func (c *Client) RuntimeToken(ctx context.Context, siteID string, r TokenRequest) (Token, error) {
	var t Token
	err := c.Action(ctx, siteID, "runtimeToken", r, &t)
	return t, err
}
