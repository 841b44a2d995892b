package guard

// vaultRoles are the built-in roles of keys and certificates in vaults.
// Source: learn.microsoft.com, Azure built-in roles for security.
func vaultRoles(role func(id, name, about string, p Permission) *Role, with func(...string) []string, reads []string) []*Role {
	const vault = "Microsoft.KeyVault/vaults/"
	const keys, secrets = vault + "keys/", vault + "secrets/"
	return []*Role{
		role("14b46e9e-c2b7-41b4-b07b-48a6ebf60603", "Key Vault Crypto Officer", "Perform any action on the keys of a key vault, except manage permissions.",
			Permission{Actions: with(reads...), DataActions: []string{keys + "*", vault + "keyrotationpolicies/*"}}),
		role("12338af0-0e69-4776-bea7-57ae8d297424", "Key Vault Crypto User", "Perform cryptographic operations using keys.",
			Permission{DataActions: []string{keys + "read", keys + "update/action", keys + "backup/action", keys + "encrypt/action", keys + "decrypt/action",
				keys + "wrap/action", keys + "unwrap/action", keys + "sign/action", keys + "verify/action"}}),
		role("e147488a-f6f5-4113-8e2d-b22465e65bf6", "Key Vault Crypto Service Encryption User", "Read metadata of keys and perform wrap/unwrap operations.",
			Permission{DataActions: []string{keys + "read", keys + "wrap/action", keys + "unwrap/action"}}),
		role("a4417e6f-fecd-4de8-b567-7b0420556985", "Key Vault Certificates Officer", "Perform any action on the certificates of a key vault, except manage permissions.",
			Permission{Actions: with(reads...), DataActions: []string{vault + "certificatecas/*", vault + "certificates/*", vault + "certificatecontacts/write"}}),
		role("db79e9a7-68ee-4b58-9aeb-b90e7c24fcba", "Key Vault Certificate User", "Read certificate contents.",
			Permission{DataActions: []string{vault + "certificates/read", secrets + "getSecret/action", secrets + "readMetadata/action", keys + "read"}}),
	}
}
