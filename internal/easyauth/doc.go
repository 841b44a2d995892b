// Package easyauth is the way into an app over HTTP: App Service's built-in
// authentication. It signs people in at this plane's authority, keeps their
// tokens, checks the bearer tokens of API callers, decides by the app's
// authsettingsV2 who may come in, tells the app who it is in headers that
// nobody else can set, and passes everything else on: streams, uploads of any
// size, WebSockets.
//
// It owns the settings' shape and rules (settings.go), sessions, and which
// processes of an app there are (upstream.go). It does not own where settings
// are kept (site) nor how people sign in (authority, signin): to the authority
// it is one more OAuth client. Open front.go first, then proxy.go and login.go.
package easyauth
