// Package tds is the SQL Server gateway: a client of TDS 7.4 or TDS 8 logs in
// with a token (federated authentication) and is passed on to a real SQL
// Server under a SQL login whose password it never sees.
//
// It owns [MS-TDS] up to the login, on both sides, and the warm backend
// connections. It does not know who somebody is or what they may do
// (gateway.Rules says), and after the login it reads nothing but packet
// headers, except in the sessions of administrators (statement.go).
//
// The way of a login, top to bottom, is in login.go: open that first. Then
// prelogin.go and secure.go (TLS), login7.go and fedauth.go (what a client may
// ask for and how it shows its token), refuse.go (what it is told), backend.go
// and response.go (the other side), session.go (the copy).
//
// # Encryption
//
// TLS covers the whole session, with every client. One that asks for none is
// told that it is required; its login is not read. TLS comes inside PRELOGIN
// packets, where it is 1.2 as with SQL Server, or before everything (strict,
// ALPN tds/8.0), where it may be 1.3. To the backend it is what the grant
// says: none, in PRELOGIN packets, or strict if its NextProtos name tds/8.0.
// A backend that suddenly knows no TLS is not logged in to.
//
// # Choosing a server
//
// By host name in TLS (<server>.database.DOMAIN), by the same name in LOGIN7,
// or by a single label there; two that differ are refused. Other host names
// and addresses name no server.
//
// # Multiple active result sets
//
// MARS goes through when client and backend both want it. Such a session has
// frames of a second protocol around its packets, whose sequence numbers are
// not ours to use: it ends without last words, no statement of it is looked
// at, and its backend is not kept warm. Of a client's frames the header of the
// packet within is looked at, so that no login comes to the backend in one.
//
// # Warm connections
//
// When a client closes with its backend idle, the connection is reset at once
// by a batch with RESETCONNECTION, so that no transaction and no lock outlives
// its session, and kept a while for the next login with the same LOGIN7, which
// is authorised afresh and hears what the first one heard. One that can recover
// itself elsewhere (SESSIONRECOVERY) is not kept.
package tds
