// Package connector is Service Connector, for PostgreSQL above all: it knows the
// real servers, makes a database role for an identity with the access that was
// asked for and no more, links a site to it, and says for each login which
// role a principal may take.
//
// It owns the resource types of Microsoft.DBforPostgreSQL and
// Microsoft.ServiceLinker, the statements that run on real servers under their
// administrator login, and the passwords of the roles it made, which nobody
// else ever sees. It does not own the site's identity and settings (package
// site), the decision itself (package guard) or a byte of the PostgreSQL
// protocol (package gateway/pg).
//
// Open connector.go first. Then: authorize.go (the gateway's question),
// linker.go and plan.go (a connection, and how it is undone), server.go (the
// resource types of a server), roles.go and grants.go (what runs on the real
// server), names.go (the settings an app finds), person.go (people of a mapped
// group as themselves), aad.go (what an administrator may say in the database),
// target_kind.go (the other things a connection can lead to).
package connector
