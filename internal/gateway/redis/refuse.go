package redis

import (
	"errors"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Answers in the words of Redis, whose first word is what clients look at.
const (
	wrongPass     = "WRONGPASS invalid username-password pair or user is disabled."
	noAuth        = "NOAUTH Authentication required."
	noAuthHello   = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
	noProto       = "NOPROTO unsupported protocol version"
	badVersion    = "ERR Protocol version is not an integer or out of range"
	badHello      = "ERR Syntax error in HELLO option"
	syntaxError   = "ERR syntax error"
	inTransaction = "ERR Command not allowed inside a transaction"
	useTLS        = "ERR this server takes TLS connections only: use rediss:// or your client's TLS option"
	unreachable   = "ERR the Redis server cannot be reached now: try again"
	undecided     = "ERR the login cannot be decided now: try again"
)

// refusal is an error reply to be.
type refusal struct {
	text   string
	cause  error  // for the log
	reason string // for the metrics; the first word when empty
	close  bool   // nothing more is read
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.cause }

// code is the first word.
func (r *refusal) code() string {
	code, _, _ := strings.Cut(r.text, " ")
	return code
}

// errorReply writes a line as an error.
func errorReply(text string) []byte { return []byte("-" + text + "\r\n") }

// tokenTexts are what is said of tokens that are no use: what to change, and
// nothing that the sender does not know.
var tokenTexts = map[string]string{
	gateway.InvalidAudience: "WRONGPASS the access token is for another resource: get one for https://redis.azure.com",
	gateway.ExpiredToken:    "WRONGPASS the access token has expired: get a new one",
}

// refuse turns an error of Verify, Authorize, Admit or the backend into what
// the client is told. verified: it has shown a valid token.
func refuse(err error, verified bool) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	var e *az.Error
	if !errors.As(err, &e) {
		return &refusal{text: undecided, cause: err}
	}
	if text := tokenTexts[e.Code]; text != "" {
		return &refusal{text: text, cause: err, reason: e.Code}
	}
	switch {
	case e.Kind == az.Invalid && verified:
		return &refusal{text: "ERR " + clean(e.Message), cause: err, reason: e.Code}
	case e.Kind == az.TooMany:
		return &refusal{text: "ERR max number of clients reached", cause: err, close: true}
	case e.Kind == az.Unavailable, e.Kind == az.Internal, e.Kind == az.Conflict:
		return &refusal{text: undecided, cause: err}
	}
	return &refusal{text: wrongPass, cause: err, reason: e.Code}
}

// clean makes a text fit for one line.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// notHere is the answer to a command that is not served: as if the user's
// rules forbade it, which they do as well.
func notHere(name string) string {
	return "NOPERM This user has no permissions to run the '" + clean(strings.ToLower(name)) + "' command through this gateway"
}

// lastWords are what a client that waits for an answer gets instead.
func lastWords(r gateway.Reason) string {
	switch r {
	case gateway.Expired:
		return "NOAUTH the access token has expired: get a new one and connect again"
	case gateway.RightLost:
		return "NOPERM the right to use this server was lost: ask for the access policy back, then connect again"
	case gateway.Asked, gateway.Stopping:
		return "ERR the connection was ended by an administrator: connect again"
	case gateway.BackendLost:
		return "ERR the connection to the Redis server was lost: connect again"
	}
	return ""
}
