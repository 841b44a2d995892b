// Package client is the Go client of a plane's HTTP API: how hawser's own
// commands, the supervisor and the portal reach a plane, and how other
// programs may.
//
// It finds a plane (plane.json in a data directory, or a URL with client
// credentials), signs in, and carries JSON; it knows no rule of the plane and
// keeps no secret on disk. Open client.go first, then do.go for requests and
// site.go for what a supervisor of an app needs.
package client
