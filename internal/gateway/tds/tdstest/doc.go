// Package tdstest is a small SQL Server for tests: the wire of TDS 7.4 and of
// TDS 8 (strict), SQL logins, and a handful of statements.
//
// It is written from [MS-TDS] alone and shares no code with the gateway, so
// that the two can't agree on a mistake. It is honest, in that it answers as
// the protocol says, and strict: what a client may not send ends the
// connection and fails the test, unless Options.Lenient.
//
// It is no database. Options.Exec is asked about each statement first, so that
// a test can give it state of its own; exec.go has what is known besides.
//
// Open server.go first (options, logins), then session.go (the life of a
// connection).
package tdstest
