package arm

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// Call is one request to the front door, or one made by another package on
// somebody's behalf.
type Call struct {
	Caller  az.Principal
	Version string // api-version; "" when another package calls
	Method  string
	ID      az.ID // the resource, or the scope of a list or an exact route
	Header  http.Header
	Query   url.Values
	Body    []byte
	Host    az.Host // the host that the client used
	BaseURL string  // https://host[:port] as the client used it, for links
	Log     *slog.Logger

	api    *API
	path   az.ID             // the whole path
	right  guard.Action      // what was allowed to come here
	params map[string]string // of an exact route
	req    *rest.Request     // nil when another package calls
	// mustExist makes a missing resource an error where a PUT would make one:
	// a PUT of a document does not make its site.
	mustExist bool
}

// Path is the whole path that was asked for.
func (c *Call) Path() az.ID { return c.path }

// Param returns a part of the path of an exact route, by its name there.
func (c *Call) Param(name string) string { return c.params[name] }

// Direct reports whether the call is about its resource itself: a deletion of
// what lies above reaches it, too, and may take along what cannot go alone.
func (c *Call) Direct() bool { return c.ID.Equal(c.path) }

// Action is the last word of a POST's path.
func (c *Call) Action() string { return c.path.Name() }

// Decode decodes the body into v.
func (c *Call) Decode(v any) error {
	if c.req != nil {
		return c.req.JSON(v)
	}
	if len(c.Body) == 0 {
		return az.Errorf(az.Invalid, "BadParameter", "The request needs a JSON body.")
	}
	return rest.DecodeJSON(c.Body, v)
}

// setBody replaces the body by what a PATCH of a document makes of it.
func (c *Call) setBody(b []byte) {
	c.Body = b
	if c.req != nil {
		r := *c.req
		r.Body = b
		c.req = &r
	}
}

// DecodeProperties decodes the properties member of the body into v.
func (c *Call) DecodeProperties(v any) error {
	var b struct {
		Properties json.RawMessage `json:"properties"`
	}
	if err := c.Decode(&b); err != nil {
		return err
	}
	if len(b.Properties) == 0 || string(b.Properties) == "null" {
		return az.Errorf(az.Invalid, "InvalidRequestContent", "The request's body has no properties.")
	}
	return rest.DecodeJSON(b.Properties, v)
}

// Check asks for a right of the caller and records the answer.
func (c *Call) Check(ctx context.Context, need guard.Action, scope az.ID) error {
	return c.api.cfg.Guard.Check(ctx, c.Caller, need, scope)
}

// internalCall is a Call for a package that acts for caller.
func (a *API) internalCall(caller az.Principal, method string, id az.ID) *Call {
	return &Call{Caller: caller, Method: method, ID: id, path: id, Header: http.Header{}, Query: url.Values{},
		BaseURL: a.cfg.Names.Origin(az.SurfaceManagement), Log: a.cfg.Log, api: a}
}

// newCall reads what every request has. The id is not looked at yet.
func (a *API) newCall(req *rest.Request) (*Call, error) {
	version, err := apiVersion(req.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	path, err := az.ParseID(req.URL.Path)
	if err != nil {
		return nil, az.Errorf(az.Invalid, "InvalidResourceId", "The path of the request is not a resource id that can be used here: it is too long or holds characters that ids cannot have.").Because(err)
	}
	host := a.cfg.Names.Classify(req.Host)
	base := a.cfg.Names.Origin(az.SurfaceManagement)
	if host.Surface == az.SurfaceManagement {
		base = "https://" + req.Host
	}
	return &Call{Caller: req.Caller, Version: version, Method: req.Method, ID: path, path: path, Header: req.Header,
		Query: req.URL.Query(), Body: req.Body, Host: host, BaseURL: base, Log: req.Log, api: a, req: req}, nil
}

// versionForm is a date, with or without "-preview" and the like.
// Source: Azure REST API guidelines, "api-version".
var versionForm = regexp.MustCompile(`^(\d{4}-\d{2}-\d{2})(-[A-Za-z]{1,20})?$`)

// apiVersion takes the api-version out of a query. Any date is accepted: types
// are served in one form that all the versions that clients use have in common.
func apiVersion(raw string) (string, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return "", az.Errorf(az.Invalid, "BadRequest", "The query of the request is not well-formed.")
	}
	var given []string
	for k, v := range q {
		if len(k) == len("api-version") && foldASCII(k) == "api-version" {
			given = append(given, v...)
		}
	}
	if len(given) == 0 || given[0] == "" {
		return "", az.Errorf(az.Invalid, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	m := versionForm.FindStringSubmatch(given[0])
	if m == nil || len(given) > 1 {
		return "", badVersion()
	}
	if _, err := time.Parse(time.DateOnly, m[1]); err != nil {
		return "", badVersion()
	}
	return given[0], nil
}

func badVersion() error {
	return az.Errorf(az.Invalid, "InvalidApiVersionParameter", "The api-version is invalid. It must be given once, as a date such as 2022-09-01, optionally followed by '-preview'.")
}

func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// query returns a query parameter whatever its case: OData's $filter, $top and
// $skiptoken are written in several.
func (c *Call) query(name string) string {
	if v, ok := c.Query[name]; ok && len(v) > 0 {
		return v[0]
	}
	for k, v := range c.Query {
		if foldASCII(k) == name && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}
