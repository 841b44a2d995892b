package az

import (
	"errors"
	"fmt"
	"time"
)

// Kind is what an error means to a caller. Each surface maps kinds to its own
// statuses and codes; rest does it for HTTP, gateways for SQLSTATE and others.
type Kind int

const (
	Internal     Kind = iota // ours; the cause is logged, never shown
	Invalid                  // the request is wrong
	Unauthorized             // no valid token
	Forbidden                // a valid token without the right
	NotFound
	Conflict
	Precondition // an etag did not match
	Gone         // deleted; Conflict-like for names held by soft delete
	TooLarge
	TooMany     // throttled; RetryAfter says for how long
	Unavailable // a store or backend is away; safe to retry
	Unsupported // method, api-version or media type not served here
)

var kindNames = [...]string{"internal", "invalid", "unauthorized", "forbidden", "not found", "conflict",
	"precondition failed", "gone", "too large", "too many requests", "unavailable", "unsupported"}

func (k Kind) String() string { return kindNames[k] }

// Error is the one error struct that crosses package borders.
//
// Message goes to the client, so it must say what was refused and what to do
// and hold no secret and nothing of our insides. Cause goes to the log only.
type Error struct {
	Kind       Kind
	Code       string // the surface's own code, e.g. SecretNotFound, invalid_client
	Inner      string // innererror.code (Key Vault) or suberror (OAuth)
	Message    string
	Number     int           // AADSTS number, 0 if none
	RetryAfter time.Duration // with TooMany and Unavailable
	Cause      error         // for the log
}

// Error gives kind, code and message and the cause: for logs, not for clients.
func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = e.Kind.String()
	}
	if e.Code != "" {
		s = e.Code + ": " + s
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error of a kind with a code and a client-visible message.
func Errorf(k Kind, code, format string, args ...any) *Error {
	return &Error{Kind: k, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because returns a copy of e with a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// KindOf returns the kind of the first Error in err's chain, Internal for any
// other error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err's kind is k. A nil error is of no kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
