// Package pg is the PostgreSQL gateway: a client logs in with a token as its
// password and is passed on to a real PostgreSQL under a role whose password
// it never sees.
//
// It owns the PostgreSQL protocol up to the login, on both sides, the cancel
// keys and the warm backend connections. It does not know who somebody is or
// what they may do (gateway.Rules says), and after the login it reads nothing
// but message headers.
//
// The way of a login, top to bottom, is in login.go: open that first. Then
// startup.go (what a client may ask for), auth.go (how it shows its token),
// refuse.go (what it is told), backend.go and pool.go (the other side),
// session.go (the copy).
//
// # Choosing a server
//
// By host name in TLS (<server>.postgres.DOMAIN), by options=endpoint=<server>,
// or by user name <role>@<server>; two that differ are refused. A role whose
// own name ends in @word without a dot is written <role>@word@<server>.
//
// # Choosing OAUTHBEARER
//
// A server names one authentication method and libpq before 18, pgx and
// node-pg know only the cleartext password, so that is the default. A client
// that wants SASL OAUTHBEARER (libpq 18, pgx with OAuthTokenProvider) says
// options=-c hawser.auth=oauthbearer; the option goes no further than here.
//
// # Warm connections
//
// When a client says goodbye with its backend idle, the backend connection is
// reset by ROLLBACK and DISCARD ALL and kept a while for the next login to the
// same role, database and startup parameters, which is authorised afresh. What
// DISCARD ALL leaves (the PL/Python and PL/Perl session dictionaries, loaded
// libraries, the random seed) can be seen by a later session of the same role.
package pg
