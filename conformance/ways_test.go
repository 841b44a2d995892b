package conformance

import "testing"

// TestWays: the same secret, read by unmodified clients that find the plane in
// each of the documented ways.
func TestWays(t *testing.T) {
	w := newWorld(t)
	read := func(e ecosystem, cred, vault string) []string { return e.program("read", cred, vault, "plain") }
	own, azure := w.vaultURL("kv1"), "https://kv1.vault.azure.net"
	guid := newWorld(t, "--challenge-tenant", "guid")
	hidden := newWorld(t, "--domain", "nowhere.localhost") // resolves for nobody
	// Code written for Azure: a service principal's credentials in settings.
	w.cli("app", "set", "web", "AZURE_AUTHORITY_HOST=https://login.microsoftonline.com", "AZURE_TENANT_ID="+w.env.TenantID,
		"AZURE_CLIENT_ID="+w.env.Admin.ClientID, "AZURE_CLIENT_SECRET="+w.env.Admin.ClientSecret)
	w.make("app", "plainapp")
	w.assign(secretsUser, "plainapp", w.vault.ID)

	for _, e := range ecosystems {
		for _, c := range []struct {
			name string
			run  func() result
		}{
			{"hawser run, managed identity", func() result { return w.run("plainapp", nil, read(e, "managed", own)...) }},
			{"hawser run, default credential", func() result { return w.run("plainapp", nil, read(e, "default", own)...) }},
			{"hawser run, names that do not resolve", func() result {
				return hidden.run("web", nil, read(e, "managed", hidden.vaultURL("kv1"))...)
			}},
			{"hawser env, alias tenant, default credential", func() result {
				return w.with([]string{"--as", "admin"}, read(e, "default", own)...)
			}},
			{"hawser env, alias tenant, client secret", func() result {
				return w.with([]string{"--as", "admin"}, read(e, "secret", own)...)
			}},
			{"hawser env, tenant GUID, no instance discovery", func() result {
				return guid.with([]string{"--as", "admin", "--tenant", "guid"}, read(e, "nodiscovery-secret", guid.vaultURL("kv1"))...)
			}},
			{"Azure's names, managed identity", func() result {
				return w.run("plainapp", []string{"--azure-names"}, read(e, "managed", azure)...)
			}},
			{"Azure's names, client secret", func() result {
				return w.run("web", []string{"--azure-names"}, read(e, "secret", azure)...)
			}},
		} {
			t.Run(e.name+"/"+c.name, func(t *testing.T) { w.as(t); lines(t, c.run(), "get "+plainValue) })
		}
	}
}
