package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Error numbers: share/errmsg-utf8.txt of MySQL and share/errmsg.txt of
// MariaDB, which agree on all but the two of a killed connection.
const (
	erTooMany          = 1040
	erBadHandshake     = 1043
	erAccessDB         = 1044
	erAccessDenied     = 1045
	erUnknownCommand   = 1047
	erBadDatabase      = 1049
	erShutdown         = 1053
	erNotOwner         = 1095
	erWrongDatabase    = 1102
	erUnknown          = 1105
	erTooLarge         = 1153
	erReadError        = 1158
	erOutOfOrder       = 1156
	erUserLimit        = 1203 // of the server
	erResourceLimit    = 1226 // of the user
	erDenied           = 1227
	erWrongValue       = 1231
	erUnknownCollation = 1273
	erForeign          = 1429
	erNoPassword       = 1698
	erPasswordOver     = 1862
	erKilledMaria      = 1927
	erInsecure         = 3159
	erKilledMySQL      = 3169
)

// refusal is an ERR packet to be: number, SQLSTATE and the client's sentence.
type refusal struct {
	errno   uint16
	state   string
	message string
	cause   error  // for the log
	reason  string // for the metrics; the number when empty
	unread  bool   // the client has sent more than was read
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.cause }

// encode returns the wire form.
func (r *refusal) encode(seq byte) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{markError}, r.errno)
	b = append(append(b, '#'), r.state...)
	return appendPacket(nil, seq, append(b, r.message...))
}

// errHandshake is the refusal of what is not a login.
func errHandshake(more string) *refusal {
	return &refusal{errno: erBadHandshake, state: "08S01", message: "Bad handshake" + more}
}

// errAccess is a refusal that is not about the token.
func errAccess(format string, args ...any) *refusal {
	return &refusal{errno: erNoPassword, state: "28000", message: fmt.Sprintf(format, args...)}
}

func errDatabaseName(name string) *refusal {
	return &refusal{errno: erWrongDatabase, state: "42000", message: fmt.Sprintf("Incorrect database name '%s'", clean(named(name)))}
}

// denied is the answer to everything that must look alike: an unknown user,
// one that is not mapped to the principal, a forged token.
func denied(user, host string, cause error) *refusal {
	return &refusal{errno: erAccessDenied, state: "28000", cause: cause,
		message: fmt.Sprintf("Access denied for user '%s'@'%s' (using password: YES)", clean(named(user)), host)}
}

// noToken is the answer to an empty password.
func noToken(user, host string) *refusal {
	r := denied(user, host, errors.New("the client sent an empty password"))
	r.message = strings.Replace(r.message, "YES", "NO", 1)
	return r
}

// tokenTexts follow the server's own text where they say what to change and
// nothing that the sender does not know.
var tokenTexts = map[string]string{
	gateway.InvalidFormat:   "The access token has invalid format. Please ensure the token is passed exactly as returned by the authentication endpoint and retry.",
	gateway.InvalidAudience: `The access token does not have a valid audience claim. Please acquire a new token for the resource "https://ossrdbms-aad.database.windows.net".`,
	gateway.MissingOid:      "The access token doesn't have a valid oid claim. Acquire a new token and try again",
	gateway.ExpiredToken:    "The access token has expired. Acquire a new token and try again",
}

// refuse turns an error of a login into what the client is told.
func refuse(err error, user, host string) *refusal {
	var r *refusal
	var e *az.Error
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, errTooLong):
		return &refusal{errno: erTooLarge, state: "08S01", message: "Got a packet bigger than 'max_allowed_packet' bytes", unread: true}
	case errors.Is(err, errSequence):
		return &refusal{errno: erOutOfOrder, state: "08S01", message: "Got packets out of order", unread: true}
	case !errors.As(err, &e):
		return undecided(err)
	}
	if text := tokenTexts[e.Code]; text != "" {
		r = denied(user, host, err)
		r.message, r.reason = r.message+": "+text, e.Code
		return r
	}
	switch e.Kind {
	case az.Invalid:
		r = errAccess("%s", e.Message)
		r.cause = err
		return r
	case az.TooMany:
		return &refusal{errno: erTooMany, state: "08004", message: "Too many connections", cause: err}
	case az.Unavailable, az.Internal, az.Conflict:
		return undecided(err)
	}
	return denied(user, host, err)
}

func undecided(err error) *refusal {
	return &refusal{errno: erUnknown, state: "HY000", message: "the login cannot be decided now: try again", cause: err}
}

// insecure is what servers say that require TLS.
func insecure() *refusal {
	return &refusal{errno: erInsecure, state: "HY000", reason: "no encryption",
		message: "Connections using insecure transport are prohibited while --require_secure_transport=ON."}
}

// lastWords are what a client is told whose session ends by our doing; maria
// says whose numbers its server speaks.
func lastWords(r gateway.Reason, maria bool) *refusal {
	switch r {
	case gateway.RightLost, gateway.Expired, gateway.Asked:
		out := &refusal{errno: erKilledMySQL, state: "HY000", message: "The session was killed"}
		if maria {
			out = &refusal{errno: erKilledMaria, state: "70100", message: "Connection was killed"}
		}
		if r == gateway.RightLost {
			out.message += ": the right to be here was lost. Ask for the role assignment or group membership back, then connect again"
		}
		return out
	case gateway.Stopping:
		return &refusal{errno: erShutdown, state: "08S01", message: "Server shutdown in progress"}
	case gateway.BackendLost:
		return &refusal{errno: erReadError, state: "08S01", message: "the connection to the database server was lost"}
	case gateway.BadProtocol:
		return &refusal{errno: erOutOfOrder, state: "08S01", message: "Got packets out of order"}
	}
	return nil
}

// hostOf is a client's address as servers write it.
func hostOf(a net.Addr) string {
	if h, _, err := net.SplitHostPort(a.String()); err == nil {
		return h
	}
	return a.String()
}

// named is a name for logs and messages, which are logged: one that is too long for a name, or begins as
// tokens do, may be a token in the wrong place.
func named(name string) string {
	if len(name) > maxName || strings.HasPrefix(name, "eyJ") {
		return "(a token?)"
	}
	return name
}

// clean makes a stranger's text fit for a message: short and printable.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
	for i := range s {
		if i > 128 {
			return s[:i] + "…"
		}
	}
	return s
}
