// Package redis is the Redis gateway: a client logs in with its object id and
// a token (AUTH oid token, or HELLO 3 AUTH oid token) and is passed on to a
// real Redis under an ACL user whose password it never sees.
//
// It owns the Redis protocol: what may be said before the login, the borders
// of commands and replies after it, in RESP2 and RESP3, and the few commands
// that it answers itself. It does not know who somebody is or what they may do
// (gateway.Rules says), and it never looks at keys and values.
//
// The way of a login, top to bottom, is in login.go: open that first. Then
// resp.go (commands), refuse.go (what a client is told), backend.go (the other
// side), session.go (a logged-in client), client.go and commands.go (what it
// says), reply.go and server.go (what it hears), cluster.go (several nodes).
//
// # Commands the gateway answers
//
// After the login the stream passes as it is, but for commands that act on the
// connection itself: AUTH and HELLO … AUTH (a newer token), RESET, QUIT, what
// would show or disturb others' connections, and what names cluster nodes. In
// place of a command that the gateway answers, the backend gets a command
// that it cannot know, made of a random word; the error it answers with comes
// back in the right place among the replies and is replaced by our answer. So
// no reply has to be counted, whatever transactions, subscriptions, blocking
// commands and CLIENT REPLY do; and in a transaction a refused command makes
// EXEC fail, as it does in Redis.
//
// # The end of a token
//
// A session ends when its token does, unless the client has shown a newer one
// of the same principal before.
//
// # What the backend's ACL must do
//
// The fence is the ACL user of the backend, whose rules connector writes; the
// gateway's list in commands.go only comes before it. Relied on are: the user
// has no @admin, no ACL, CONFIG, MODULE, MIGRATE, DEBUG, REPLICAOF, SHUTDOWN
// and SYNC commands, so that scripts can't call them either (redis.call runs
// under the user's rules). On a cluster it has CLUSTER NODES, which the gateway
// asks as that user, on every node. The backend's "default" user, which a
// connection is for the instant between RESET and AUTH, never gets a client's
// command.
//
// # Clusters
//
// A cluster client must reach each node by an address of its own. As Azure
// does for its clustered caches, the gateway serves each node at a port of its
// own under the same host name, opened when the node is first named, and
// rewrites MOVED, ASK, CLUSTER SLOTS, SHARDS, NODES and REPLICAS to these. Only
// nodes that the gateway itself was told by the cluster are served: an address
// in a reply that a script made leads nowhere.
package redis
