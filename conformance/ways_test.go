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

// TestNoWayOut: with Azure's names, no request for one can leave for the real
// Azure; and a client is never left half pointed at the plane.
func TestNoWayOut(t *testing.T) {
	w := newWorld(t)
	for url, want := range map[string]string{
		"https://kv1.vault.azure.net/":              "200", // the plane's
		"https://kv1.vault.azure.cn/":               "200",
		"https://kv1.vault.usgovcloudapi.net/":      "200",
		"https://login.microsoftonline.com/":        "200",
		"https://login.microsoftonline.us/":         "200",
		"https://management.azure.com/":             "200",
		"https://graph.microsoft.com/":              "200",
		"https://account.queue.core.windows.net/":   "403", // Azure's, and not served
		"https://account.table.core.windows.net/":   "403",
		"https://bus.servicebus.windows.net/":       "403",
		"https://server.database.windows.net:1433/": "403",
		"https://www.example.com/":                  "502", // anybody's: there is no network here
	} {
		t.Run(url, func(t *testing.T) {
			w.as(t)
			r := w.run("web", []string{"--azure-names"}, "curl", "-s", "-o", "/dev/null", "-w", "%{http_connect}", url)
			if r.stdout != want {
				t.Errorf("the proxy answered %s, want %s", r.stdout, want)
			}
		})
	}
	t.Run("an inherited exception lets nothing out", func(t *testing.T) {
		w.as(t)
		env := append(clean(t), "NO_PROXY=*.azure.net,azure.net,microsoftonline.com", "no_proxy=*", "HAWSER_DATA="+w.dir)
		r := execute(t, env, hawser, "run", "web", "--azure-names", "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_connect}", "https://kv1.vault.azure.net/")
		if r.stdout != "200" {
			t.Errorf("the request did not go through the proxy: %q %s", r.stdout, r.stderr)
		}
	})
	t.Run("hawser env refuses to half-configure", func(t *testing.T) {
		hidden := start(t, "--domain", "nowhere.localhost")
		for _, args := range [][]string{{"env"}, {"env", "--as", "admin"}, {"env", "--azure-names"}} {
			r := hidden.try(args...)
			if r.code != 1 || r.stdout != "" || r.stderr == "" {
				t.Errorf("hawser %v: exit status %d, printed %q, said %q", args, r.code, r.stdout, r.stderr)
			}
		}
	})
}
