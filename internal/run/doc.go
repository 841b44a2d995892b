// Package run is the supervisor behind `hawser run`: it starts an app with
// the environment its site has, keeps the identity endpoint the app asks for
// tokens, and restarts or signals the app when the environment changes.
//
// It owns the child process and its process group, the loopback listeners and
// the token cache that all of the app's processes share. It decides nothing
// about rights: every token and every secret comes from the plane, which
// checks. It uses package client for that and knows no other part of ours.
//
// Who may use the loopback listeners: on Linux the process at the other end
// of each connection is looked up in the kernel and must be one this run
// started, or a descendant of one. Elsewhere the random header value of the
// App Service dialect is the only proof, so the dialects without one (IMDS and
// Cloud Shell) are refused there, and the CONNECT proxy, which hands out no
// credential, is open to the machine's other users. On Linux too, a process of
// the app that this process may not look into (one with another user or with
// capabilities of its own, started by a run without privilege) is refused.
//
// Open run.go first; supervise.go for the child, identity.go for the token
// endpoints, proxy.go for the ways to be found.
package run
