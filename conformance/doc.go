// Package conformance lets Microsoft's clients and PostgreSQL's own judge the
// hawser binary: every test starts real planes, real databases and unmodified
// clients in Go, Node and Python, with all of their checks switched on.
//
// It owns no rule of the plane. It sees the plane as a user does: the commands,
// the wire, the files in the data directory. The one exception is
// forge_test.go, where the forger is given the plane's own signing key.
//
// People are played by two browsers: Chromium (browser/story.mjs, which keeps a
// picture of each page in bin/artefacts), and visitor_test.go, which follows
// redirects and sends the plain forms as a browser without JavaScript does.
//
// Open main_test.go first (how the machine is prepared), then plane_test.go
// (how a plane is started and asked), then the file of the promise you want.
package conformance
