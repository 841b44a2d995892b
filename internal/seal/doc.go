// Package seal is encryption at rest: where the key-encryption key (KEK) comes
// from, the data keys under it, and sealing a value to its place.
//
// Three layers. The KEK lives outside the database: a file, an environment
// variable, a systemd credential or a passphrase (kek.go). It encrypts one
// blob, "wrapped", that the caller stores: a Tink keyset of AES-256-GCM data
// keys and one root for keyed hashes and derived keys (wrap.go). The data keys
// seal values, each bound to its table, id and version (sealer.go, open that
// first), so that a row's secret moved to another row does not open.
//
// The package stores nothing but the KEK file, knows no table, and imports
// nothing of ours.
//
// What Go cannot promise: the runtime may copy a key or a plaintext when it
// grows a stack or a slice, strings cannot be overwritten, and a freed buffer
// keeps its bytes until it is used again. Wipe clears the buffer it is given
// and no copy of it. Memory is not locked: swap must be encrypted or off.
// HardenProcess keeps keys out of core dumps and from debuggers of the same
// user, not from root.
package seal
