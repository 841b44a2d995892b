// Package connector is Service Connector, for databases above all: it knows the
// real servers, makes a database role for an identity with the access that was
// asked for and no more, links a site to it, and says for each login which
// role a principal may take.
//
// It owns the resource types of servers (Microsoft.DBforPostgreSQL,
// Microsoft.DBforMySQL, Microsoft.Sql, Microsoft.Cache) and of
// Microsoft.ServiceLinker, the statements that run on real servers under their
// administrator login, and the passwords of the roles it made, which nobody
// else ever sees. It does not own the site's identity and settings (package
// site), the decision itself (package guard) or a byte of a
// database's protocol (packages below gateway).
//
// Open connector.go first. Then: authorize.go (the gateway's question),
// linker.go and plan.go (a connection, and how it is undone), server.go (the
// resource types of a server), engine.go (what a real server of any kind does),
// roles.go and grants.go (what runs on PostgreSQL), mysql_users.go (on MySQL),
// names.go (the settings an app finds), person.go (people of a mapped
// group as themselves), aad.go (what an administrator may say in the database),
// target_kind.go (the other things a connection can lead to).
package connector
