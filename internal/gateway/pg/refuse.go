package pg

import (
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// SQLSTATEs: PostgreSQL documentation, appendix A.
const (
	invalidAuthorization  = "28000"
	invalidPassword       = "28P01"
	protocolViolation     = "08P01"
	connectionFailure     = "08006"
	featureNotSupported   = "0A000"
	invalidParameter      = "22023"
	insufficientPrivilege = "42501"
	tooManyConnections    = "53300"
	adminShutdown         = "57P01"
	cannotConnectNow      = "57P03"
	invalidCatalogName    = "3D000"
)

// refusal is an ErrorResponse to be: FATAL, a SQLSTATE and the client's
// sentence.
type refusal struct {
	code    string
	message string
	hint    string
	cause   error  // for the log
	reason  string // for the metrics; the code when empty
	unread  bool   // the client has sent more than was read
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.cause }

// encode returns the wire form.
func (r *refusal) encode() []byte {
	m := pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: r.code, Message: r.message, Hint: r.hint}
	b, _ := m.Encode(nil) // fails only past 1 GB
	return b
}

// badPassword is the answer to everything that must look alike: an unknown
// role, one that is not mapped to the principal, one that has its own password,
// a forged token.
func badPassword(user string, cause error) *refusal {
	return &refusal{code: invalidPassword, message: fmt.Sprintf("password authentication failed for user %q", clean(user)), cause: cause}
}

// tokenTexts are the sentences of Azure's servers for tokens that are no use:
// they say what to change and nothing that the sender does not know.
var tokenTexts = map[string]string{
	gateway.InvalidFormat:   "The access token has invalid format. Please ensure the token is passed exactly as returned by the authentication endpoint and retry.",
	gateway.InvalidAudience: `The access token does not have a valid audience claim. Please acquire a new token for the resource "https://ossrdbms-aad.database.windows.net".`,
	gateway.MissingOid:      "The access token doesn't have a valid oid claim. Acquire a new token and try again",
	gateway.ExpiredToken:    "The access token has expired. Acquire a new token and try again",
}

// refuse turns an error of Verify, Authorize or Admit into what the client is
// told.
func refuse(err error, user string) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	var e *az.Error
	if !errors.As(err, &e) {
		return &refusal{code: cannotConnectNow, message: "the login cannot be decided now: try again", cause: err}
	}
	if text := tokenTexts[e.Code]; text != "" {
		return &refusal{code: invalidAuthorization, message: text, cause: err, reason: e.Code}
	}
	if e.Code == gateway.WrongTokenType {
		return &refusal{code: invalidAuthorization, cause: err, reason: e.Code,
			message: fmt.Sprintf("Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[%s]", clean(user))}
	}
	if e.Code == gateway.NoSecondFactor {
		return &refusal{code: invalidAuthorization, cause: err, reason: e.Code,
			message: fmt.Sprintf("The access token doesn't have a valid mfa claim for role[%s]. Acquire a new token with multi-factor authentication and try again", clean(user))}
	}
	switch e.Kind {
	case az.Invalid:
		return &refusal{code: invalidAuthorization, message: e.Message, cause: err}
	case az.TooMany:
		return &refusal{code: tooManyConnections, message: "sorry, too many clients already", cause: err}
	case az.Unavailable, az.Internal, az.Conflict:
		return &refusal{code: cannotConnectNow, message: "the login cannot be decided now: try again", cause: err}
	}
	return badPassword(user, err)
}

// noEncryption is PostgreSQL's text for a plain connection that its rules do
// not let in.
func noEncryption(peer net.Addr, user, database string) *refusal {
	host := peer.String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return &refusal{code: invalidAuthorization, reason: "no encryption",
		message: fmt.Sprintf("no pg_hba.conf entry for host %q, user %q, database %q, no encryption", host, clean(user), clean(database))}
}

// lastWords are what a client is told whose session ends by our doing.
func lastWords(r gateway.Reason) []byte {
	switch r {
	case gateway.RightLost:
		return (&refusal{code: adminShutdown, message: "terminating connection: the right to be here was lost",
			hint: "Ask for the role assignment or group membership back, then connect again."}).encode()
	case gateway.Asked, gateway.Stopping:
		return (&refusal{code: adminShutdown, message: "terminating connection due to administrator command"}).encode()
	case gateway.BackendLost:
		return (&refusal{code: connectionFailure, message: "the connection to the database server was lost"}).encode()
	case gateway.BadProtocol:
		return (&refusal{code: protocolViolation, message: "invalid frontend message: terminating connection"}).encode()
	}
	return nil
}
