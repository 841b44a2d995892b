// Package arm is the front door of a plane: the one handler through which
// every managed thing is created, read, changed, deleted and listed.
//
// It owns ids in paths, api-versions, etags, paging, long operations, the
// identity block, cascades, and the types that belong to no other package:
// subscriptions, resource groups, role definitions and role assignments. What
// a vault or a site is, it does not know: their packages say so in one value,
//
//	var vaults = arm.Define("Microsoft.KeyVault/vaults", versions, arm.Hooks[Vault]{Check: …})
//
// and give it to API.Register: no SQL, no route. A child type has its parent in
// its name ("Microsoft.DBforPostgreSQL/flexibleServers/databases"), an
// extension type (Hooks.Extension) sits on any resource, and a document
// (Hooks.Documents) is a part of its resource with an address of its own, such
// as sites/{name}/config/appsettings: it is read from and written to the same
// row, so that two writers cannot tear them apart.
//
// Every door here begins with guard.Check, before anything is read: who may not
// know, learns nothing, not even whether a thing exists.
//
// Deployments of templates (deployment*.go) come back to the same door: each
// resource is put as the caller, with the checks that a request has. The
// language of templates is in internal/arm/template.
//
// Open define.go first, then write.go for what happens on a PUT, then
// dispatch.go for how a path becomes a call.
package arm
