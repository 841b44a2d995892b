// Package directory holds who there is: users, groups, applications and
// service principals (managed identities among them), the credentials by which
// they prove who they are, and the part of Microsoft Graph that shows and
// changes them.
//
// It decides no rights (guard does) and issues no tokens (authority does); it
// keeps secrets only as keyed hashes. Open object.go first, then directory.go.
package directory
