// Package site is Azure App Service as an app sees it: Microsoft.Web/sites
// with its identities, its settings and connection strings, Key Vault
// references in them, and the environment that a process of the app starts
// with. It is also where an app's token requests end.
//
// It does not run the app (run does), does not issue tokens (authority) and
// keeps no secret of a vault: a reference is read through vault.Get as the
// app's own identity, so the app gets what its roles allow and each read is in
// the audit log.
//
// Open site.go first, then environment.go (what runtimeEnvironment answers and
// how it waits) and settings.go. reference.go, variables.go and pick.go are
// pure: text in, text out.
package site
