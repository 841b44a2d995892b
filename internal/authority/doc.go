// Package authority issues tokens and checks them: the OAuth 2.0 endpoints of
// login.D, managed identities' tokens, the signing keys with their rotation,
// and Verify, the only way in which any door of the plane trusts a token.
//
// Every grant passes the same steps (grant.go): the request is parsed once,
// the client proves itself, the resource is known, the grant authorises, the
// token is issued and recorded; no grant can skip one. Who exists is
// directory's to know, and what a principal may do is guard's.
//
// Open verify.go first, then grant.go and issue.go.
package authority
