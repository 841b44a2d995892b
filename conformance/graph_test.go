package conformance

import (
	"strings"
	"testing"
)

// TestGraphClient: Microsoft's own Graph client (JavaScript) against the
// directory, as the administrator.
func TestGraphClient(t *testing.T) {
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			p := start(t, "--store", s.url(t))
			base := strings.Replace(p.env.Authority, "login.", "graph.", 1)
			lines(t, p.with(nil, "node", "node/graph.mjs", strings.TrimSuffix(base, "/"), p.token("https://graph.microsoft.com", "")), `
user graph-ann@example.com
upn Graph bob
page Graph cy,Graph bob 3
all Graph cy,Graph bob,Graph ann
search 1
count 3
job Clerk
cycle 400 Request_BadRequest
members Graph ann
types #microsoft.graph.group,#microsoft.graph.user
memberOf 2
check true
expand true
secret 40 true
byAppId https://app.example/cb
assigned Graph bob
batch 200 201 404
beta Graph ann
missing 404 Request_ResourceNotFound
duplicate 400 Request_BadRequest
filter 400 Request_UnsupportedQuery
me 400 BadRequest
stranger 401 InvalidAuthenticationToken
deleted 404 Request_ResourceNotFound
`)
		})
	}
}
