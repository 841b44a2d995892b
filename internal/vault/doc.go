// Package vault is Key Vault: the vaults as ARM resources, and the data plane
// that their hosts serve to unmodified SDKs.
//
// It owns the secrets with their versions, soft delete, backup and the clock
// that ends retention, and every error text of that surface. It does not know
// how a token is checked (the surface's Verify does) or what a role allows
// (guard does). Nothing is read before the check, and nothing is decrypted
// before it was found enabled. Keys and certificates are not served yet.
//
// Open vaults.go first, then secrets.go, one function for each operation.
package vault
