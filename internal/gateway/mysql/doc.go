// Package mysql is the MySQL gateway: a client logs in with a token as its
// password and is passed on to a real MariaDB or MySQL under a user whose
// password it never sees.
//
// It owns the client/server protocol up to the login, on both sides, the warm
// backend connections and the thread ids that clients are told. It does not
// know who somebody is or what they may do (gateway.Rules says). After the
// login it follows which packet answers which command, and reads nothing else
// of them, but for the statements of administrators and KILL.
//
// The way of a login, top to bottom, is in login.go: open that first. Then
// capability.go and greeting.go (what is stated to a client), response.go
// (what it asks for), refuse.go (what it is told), backend.go and plugin.go
// (the other side), session.go with upstream.go and downstream.go (the copy),
// kill.go, statement.go and file.go (the commands that are looked at).
//
// # What the greeting says
//
// A server speaks first, before it can know which server the client wants. So
// the greeting states what MySQL since 5.7.5 and MariaDB since 10.2 all have
// (capability.go has the list), the client's choice of it is made at the
// backend too, and a backend that lacks something of it is refused. Compression,
// query attributes, optional metadata and the extended capabilities of MariaDB
// are not among it. The version is the real one while all servers reached so
// far say the same, and otherwise one that promises little: 5.7.44-hawser.
//
// The greeting names mysql_native_password, which every client knows, and the
// client is then asked for mysql_clear_password. A greeting that named the
// latter would save a round trip, and have clients without TLS send their
// token for everybody to read before they can be refused.
//
// # Thread ids
//
// The id in the greeting is the gateway's own, for the backend's is not known
// yet; CONNECTION_ID() gives the backend's. KILL takes both for sessions of
// the same principal, so that Ctrl-C of the shells works. It is no fence between
// those who share a user at the server, which lets them kill each other.
//
// # Choosing a server
//
// By host name in TLS (<server>.mysql.DOMAIN) or by user name <user>@<server>;
// two that differ are refused. A user whose own name ends in @word without a
// dot is written <user>@word@<server>.
//
// # Warm connections
//
// When a client says goodbye with its backend idle, the backend connection is
// reset by COM_RESET_CONNECTION, its character set, database and roles are made
// what they were at its login, and it is kept a while for the next login of the
// same principal to the same user, database, character set and capabilities.
// Connections of interactive clients, those that changed COM_SET_OPTION, those
// with a character set that the server does not know, those within an XA
// transaction, and those of servers with an init_connect or that activate all
// roles on login are not kept.
package mysql
