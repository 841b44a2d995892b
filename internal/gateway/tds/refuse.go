package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Error numbers: sys.messages of SQL Server, and for 4xxxx and 109xx the list
// of errors of Azure SQL Database.
const (
	numLoginFailed   = 18456
	numProtocol      = 17836 // length of a packet or structure of a message
	numNoEncryption  = 17835
	numNoDatabase    = 4060
	numUnavailable   = 40613 // what every driver tries again after
	numNoServer      = 40532
	numLimit         = 10928
	numKilled        = 596
	numShutdown      = 6005
	numBackendBroken = 40197
)

// Classes: from 20 on the connection is over.
const (
	classLogin    = 14
	classResource = 16
	classBusy     = 17
	classFatal    = 20
)

// message is one ERROR token.
type message struct {
	number int32
	state  byte
	class  byte
	text   string
}

// refusal is what a client is told that is not let in.
type refusal struct {
	all    []message
	cause  error  // for the log
	reason string // for the metrics; the first number when empty
	unread bool   // the client has sent more than was read
}

func (r *refusal) Error() string { return r.all[0].text }
func (r *refusal) Unwrap() error { return r.cause }

func refused(number int32, state, class byte, cause error, format string, args ...any) *refusal {
	return &refusal{all: []message{{number, state, class, fmt.Sprintf(format, args...)}}, cause: cause}
}

// protocolError is the answer to bytes that are no TDS as it should be.
func protocolError(text string) *refusal {
	r := refused(numProtocol, 1, classFatal, nil, "The connection has been closed: %s.", text)
	r.unread = true
	return r
}

// noEncryption is SQL Server's text for clients without TLS.
func noEncryption() *refusal {
	r := refused(numNoEncryption, 1, classFatal, nil, "Encryption is required to connect to this server but the client library does not support encryption; the connection has been closed. Turn encryption on in the client.")
	r.reason, r.unread = "no encryption", true
	return r
}

// clientError words what readMessage says about a client's message; a lost
// connection stays what it is.
func clientError(err error) error {
	var k errKind
	switch {
	case errors.As(err, &k) && k.got == typeLogin && k.want == typePrelogin:
		return noEncryption()
	case errors.As(err, &k), errors.Is(err, errShort), errors.Is(err, errBig):
		return protocolError(err.Error())
	}
	return err
}

var (
	errOtherLogin = errors.New("the client tried a password or Windows instead of a token")
	errNoToken    = errors.New("the client sent no token")
)

// badLogin is the answer to a login by name, whoever it names.
func badLogin(user string, cause error) *refusal {
	return refused(numLoginFailed, 1, classLogin, cause, "Login failed for user '%s'.", shown(user))
}

// tokenUser is what Azure SQL Database writes in a user's place.
const tokenUser = "<token-identified principal>"

// badToken is the answer to everything about a token and its principal that
// must look alike.
func badToken(cause error) *refusal { return badLogin(tokenUser, cause) }

// Suffixes of Azure SQL Database, and the states that go with them.
var tokenTexts = map[string]struct {
	text  string
	state byte
}{
	gateway.InvalidFormat:   {" Incorrect or invalid token.", 1},
	gateway.InvalidAudience: {" Incorrect or invalid token.", 1},
	gateway.MissingOid:      {" Incorrect or invalid token.", 1},
	gateway.ExpiredToken:    {" Token is expired.", 233},
	"NoAdministrator":       {" The server is not currently configured to accept this token.", 1},
}

// Codes of the connector for a server that is not there.
const (
	codeServerNotFound = "ServerNotFound"
	codeServerNotNamed = "ServerNotNamed"
)

// refuse turns an error of Verify, Authorize or Admit into what the client is
// told.
func refuse(err error, server, database string) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	var e *az.Error
	if !errors.As(err, &e) {
		return unavailable(server, database, err)
	}
	if t, ok := tokenTexts[e.Code]; ok {
		r := refused(numLoginFailed, t.state, classLogin, err, "Login failed for user '%s'.%s", tokenUser, t.text)
		r.reason = e.Code
		return r
	}
	switch {
	case e.Code == codeServerNotFound:
		return refused(numNoServer, 1, classFatal, err, "Cannot open server %q requested by the login. The login failed.", clean(server))
	case e.Code == codeServerNotNamed:
		return refused(numNoServer, 1, classFatal, err, "Cannot open server requested by the login. The login failed. %s", e.Message)
	case e.Kind == az.Invalid:
		return noDatabase(database, err, e.Message)
	case e.Kind == az.TooMany:
		return refused(numLimit, 1, classResource, err, "Resource ID: 2. The session limit for the gateway has been reached. Close some sessions and try again.")
	case e.Kind == az.Unavailable, e.Kind == az.Internal, e.Kind == az.Conflict:
		return unavailable(server, database, err)
	}
	return badToken(err)
}

// noDatabase is SQL Server's two errors for a database that a login may not
// open; why is one sentence more.
func noDatabase(database string, cause error, why string) *refusal {
	text := fmt.Sprintf("Cannot open database \"%s\" requested by the login. The login failed.", clean(database))
	if why != "" {
		text += " " + why
	}
	return &refusal{cause: cause, reason: "database", all: []message{{numNoDatabase, 1, 11, text}, {numLoginFailed, 1, classLogin, "Login failed for user '" + tokenUser + "'."}}}
}

func unavailable(server, database string, cause error) *refusal {
	r := refused(numUnavailable, 1, classBusy, cause, "Database '%s' on server '%s' is not currently available. Please retry the connection later.", clean(database), clean(server))
	r.reason = "unavailable"
	return r
}

// shown is clean for what stands in a field where a token may stand by mistake.
func shown(s string) string {
	if strings.HasPrefix(strings.TrimSpace(s), "ey") && len(s) > len(tokenUser) { // so begins each JWT: {"
		return tokenUser
	}
	return clean(s)
}

// clean keeps a client's text from breaking out of a message or a log.
func clean(s string) string {
	r := []rune(s)
	if len(r) > maxName {
		r = r[:maxName]
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, string(r))
}

// Tokens of a reply: [MS-TDS] 2.2.4.
const (
	tokenError      = 0xaa
	tokenInfo       = 0xab
	tokenLoginAck   = 0xad
	tokenFeatureAck = 0xae
	tokenEnvChange  = 0xe3
	tokenDone       = 0xfd
)

// Status bits of DONE: [MS-TDS] 2.2.7.6.
const (
	doneError     = 0x02
	doneAttention = 0x20
	doneFatal     = 0x100
)

// encode writes the errors and a DONE. Clients before TDS 7.2 have shorter
// fields.
func (r *refusal) encode(version uint32, server string) []byte {
	le := binary.LittleEndian
	short := old(version)
	status := uint16(doneError)
	var b []byte
	for _, m := range r.all {
		body := le.AppendUint32(nil, uint32(m.number))
		body = append(body, m.state, m.class)
		body = appendUTF16(le.AppendUint16(body, uint16(units(m.text))), m.text)
		body = appendUTF16(append(body, byte(units(server))), server)
		body = append(body, 0) // no procedure
		if short {
			body = le.AppendUint16(body, 1)
		} else {
			body = le.AppendUint32(body, 1)
		}
		b = append(le.AppendUint16(append(b, tokenError), uint16(len(body))), body...)
		if m.class >= classFatal {
			status |= doneFatal
		}
	}
	b = le.AppendUint16(append(b, tokenDone), status)
	b = le.AppendUint16(b, 0)
	if short {
		return le.AppendUint32(b, 0)
	}
	return le.AppendUint64(b, 0)
}

// units counts UTF-16 units.
func units(s string) int {
	n := 0
	for _, r := range s {
		if n++; r > 0xffff {
			n++
		}
	}
	return n
}

// gone reports whether there is nobody left to tell.
func gone(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return false
	}
	return gateway.Gone(err)
}

// lastWords are what a client is told whose session ends by our doing.
func lastWords(why gateway.Reason) *refusal {
	switch why {
	case gateway.RightLost, gateway.Expired:
		r := refused(numLoginFailed, 1, classFatal, nil, "Login failed for user '%s'. The session is terminated: the right to be here was lost.", tokenUser)
		return r
	case gateway.Asked:
		return refused(numKilled, 1, classFatal+1, nil, "Cannot continue the execution because the session is in the kill state.")
	case gateway.Stopping:
		return refused(numShutdown, 1, classFatal, nil, "SHUTDOWN is in progress.")
	case gateway.BackendLost:
		return refused(numBackendBroken, 1, classFatal, nil, "The service has encountered an error processing your request. Please try again.")
	case gateway.BadProtocol:
		return protocolError("a packet is malformed")
	}
	return nil
}
