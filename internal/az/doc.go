// Package az holds the words every other package speaks: ARM ids, principals,
// errors with a kind, secrets that refuse to print, and the clock.
//
// It imports the standard library only and knows no wire format: how an Error
// becomes a body is decided in rest. Open id.go first.
package az
