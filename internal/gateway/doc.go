// Package gateway is what all database gateways share: accepting connections
// within limits, the sessions that are open and how they are ended, and the
// copy of bytes between a client and a backend.
//
// It owns the life of a connection and decides nothing: who somebody is and
// what they may reach comes from the two functions in Rules, which the server
// supplies. It knows no protocol; each has a package below this one and hands
// in Hooks. It sees no authority, guard, vault, store or SQL, so that the code
// that reads bytes from strangers can reach no secret by any import.
//
// Open rules.go first, then gate.go (accepting), session.go (ending) and
// pump.go (copying).
package gateway
