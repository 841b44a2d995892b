package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Codes that Verify and Authorize may put in an az.Error, besides its Kind,
// where a protocol has a text of its own for the case.
const (
	InvalidFormat   = "InvalidFormat"   // not a token at all
	InvalidAudience = "InvalidAudience" // a token for something else
	ExpiredToken    = "ExpiredToken"
	MissingOid      = "MissingOid"
	WrongTokenType  = "WrongTokenType" // an app's token for a person's role, or the reverse
	NoSecondFactor  = "NoSecondFactor" // the role is for tokens that show one
)

// Verify checks a token: signature, issuer, tenant, audience, times, oid. Its
// error is an *az.Error.
type Verify func(ctx context.Context, token az.Secret) (az.Principal, error)

// Authorize decides whether a verified principal may reach a target, records
// the decision, and says how the backend is reached. Its error is an
// *az.Error; an Invalid one has a Message for the client (no such server, or
// none named where there are several), every other refusal is told to the
// client in the protocol's words for a wrong password.
type Authorize func(ctx context.Context, who az.Principal, want Target) (Grant, error)

// Rules are the two questions a gateway asks.
type Rules struct {
	Verify    Verify
	Authorize Authorize
}

// Target is what a client asks for.
type Target struct {
	Server        string // the server's name as the client gave it; "" if it gave none
	Database      string
	User          string // the role it names
	Peer          net.Addr
	CorrelationID string // the session's id, in every record about it
	Again         bool   // an open session is being checked again
}

// Grant is how to reach the backend.
type Grant struct {
	Server   az.ID
	Addr     string      // host:port, or the absolute path of a Unix socket
	TLS      *tls.Config // nil for none
	User     string      // the backend's role
	Password az.Secret
	Database string
	// Unproved: the backend may let the role in without asking for the password.
	// Else one that does is another server than the one that was registered.
	Unproved bool
	// Statement is asked about the plain queries of an administrator's session
	// that call the plane, and gives the query to be run in such a one's place.
	// Nil for everybody else: then no statement is looked at.
	Statement func(ctx context.Context, sql string) (instead string, ok bool)
	// Record writes a session's start and end to the audit log; nil for none.
	Record func(context.Context, Event)
}

// Event is a session's start or end.
type Event struct {
	Session  Session
	Ended    bool
	Reason   Reason // why it ended
	Duration time.Duration
	Sent     int64 // bytes from the client to the backend
	Received int64 // bytes from the backend to the client
}

// Reason is why a session ended.
type Reason string

// Why sessions end.
const (
	ClientLeft  Reason = "the client left"
	ClientLost  Reason = "the connection to the client was lost"
	BackendLost Reason = "the connection to the backend was lost"
	RightLost   Reason = "the right to be here was lost"
	Expired     Reason = "the token expired"
	Asked       Reason = "an administrator ended it"
	Stopping    Reason = "the gateway is stopping"
	BadProtocol Reason = "the client broke the protocol"
)

// Still returns a check for Gate.Recheck: the session's principal must still be
// granted the same role, database and server it was granted at login.
func (a Authorize) Still() func(context.Context, Session) error {
	return func(ctx context.Context, s Session) error {
		want := s.Target
		want.Again = true
		// A client that named no server is held to the one it got: another that
		// comes later must not make its session ambiguous.
		want.Server = s.Grant.Server.Name()
		g, err := a(ctx, s.Who, want)
		if err != nil {
			return err
		}
		if !g.Server.Equal(s.Grant.Server) || g.Addr != s.Grant.Addr || g.User != s.Grant.User || g.Database != s.Grant.Database {
			return errors.New("the grant now leads elsewhere")
		}
		return nil
	}
}
