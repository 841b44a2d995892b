// Package proxy lets programs into databases that know nothing of tokens: a
// port or Unix socket on this machine that asks for no password, logs in at
// the real server with TLS and an identity's token, and then copies bytes.
//
// It owns the doors (a listener for one database each), the half of each
// protocol that greets a program without asking who it is, and the half that
// logs in with a token. It decides nothing about rights: who may use a door
// says Config.Admit, what the token is good for says the server behind. It
// sees no store and no key.
//
// Behind a door is a gateway of a plane (hawser run APP --proxy) or a database
// of Azure's (hawser proxy URL). What happens to a connection is in door.go:
// open that first. Then pg.go, mysql.go, redis.go and tds.go, one protocol
// each; app.go (the doors of an app), urls.go and serve.go (hawser proxy).
package proxy
