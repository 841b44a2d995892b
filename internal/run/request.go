package run

import (
	"net/url"
	"strings"

	"github.com/hawser/hawser/client"
)

// selector says how a request names the identity it wants.
type selector int

const (
	bySystem selector = iota
	byClient
	byObject
	byResource
)

func (s selector) String() string {
	return [...]string{"system-assigned", "client id", "object id", "resource id"}[s]
}

// Limits of a token request. A resource is a URI or a GUID; an ARM id has at
// most 2,048 characters.
const (
	maxQuery    = 8 << 10
	maxResource = 2048
)

// request is a token request, whatever the dialect.
type request struct {
	version  string
	resource string
	kind     selector
	key      string // the parameter that named the identity, as it was spelt
	id       string
}

// wire is the request as the plane takes it.
func (r *request) wire(refresh bool) client.TokenRequest {
	t := client.TokenRequest{Resource: r.resource, Refresh: refresh}
	switch r.kind {
	case byClient:
		t.ClientID = r.id
	case byObject:
		t.ObjectID = r.id
	case byResource:
		t.ResourceID = r.id
	}
	return t
}

// badRequest is why a request cannot be understood; the text goes to the
// client.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// parse reads the parameters of a token request. Unknown ones are passed
// over, as the real endpoints do; one that counts and comes twice is refused,
// so that no two readers can understand the request differently.
func (r *request) parse(query string) error {
	if len(query) > maxQuery {
		return badRequest("The request is too long.")
	}
	*r = request{}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		name, err := unescape(name)
		if err == nil {
			value, err = unescape(value)
		}
		if err != nil {
			return badRequest("The request's parameters are not correctly encoded.")
		}
		if err := r.set(name, value); err != nil {
			return err
		}
	}
	return r.check()
}

func (r *request) set(name, value string) error {
	switch strings.ToLower(name) {
	case "api-version":
		return once(&r.version, value, name)
	case "resource":
		return once(&r.resource, value, name)
	case "client_id", "clientid":
		return r.choose(byClient, name, value)
	case "object_id", "principal_id":
		return r.choose(byObject, name, value)
	case "mi_res_id", "msi_res_id":
		return r.choose(byResource, name, value)
	}
	return nil
}

func once(to *string, value, name string) error {
	if *to != "" {
		return badRequest("The parameter " + name + " was given twice.")
	}
	*to = value
	return nil
}

// choose notes the identity. An empty value is no choice: Azure ML clients
// send clientid= for the default identity.
func (r *request) choose(k selector, name, value string) error {
	if value == "" {
		return nil
	}
	if r.kind != bySystem {
		return badRequest("Only one of client_id, object_id, principal_id, mi_res_id may be given.")
	}
	r.kind, r.key, r.id = k, name, value
	return nil
}

func (r *request) check() error {
	switch {
	case len(r.resource) > maxResource || len(r.id) > maxResource:
		return badRequest("A parameter is too long.")
	case hasControl(r.resource) || hasControl(r.id):
		return badRequest("A parameter holds a control character.")
	}
	return nil
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// unescape is url.QueryUnescape without the copy where there is nothing to do.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}
