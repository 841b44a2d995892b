package pg

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// oauthBearer is the SASL mechanism of RFC 7628.
const oauthBearer = "OAUTHBEARER"

// askToken asks the client for its token in the way it chose.
func (g *Gateway) askToken(c net.Conn, s *startup) (az.Secret, error) {
	ask := negotiateVersion(s)
	if s.oauth {
		ask, _ = (&pgproto3.AuthenticationSASL{AuthMechanisms: []string{oauthBearer}}).Encode(ask)
	} else {
		ask, _ = (&pgproto3.AuthenticationCleartextPassword{}).Encode(ask)
	}
	if _, err := c.Write(ask); err != nil {
		return az.Secret{}, err
	}
	body, err := readMessage(c, 'p', maxPassword)
	if err != nil {
		return az.Secret{}, authError(err)
	}
	if s.oauth {
		return g.readBearer(c, body)
	}
	return readPassword(body, s.user)
}

// negotiateVersion declines what we don't know: a minor version after 3.2 and
// options of the protocol.
func negotiateVersion(s *startup) []byte {
	if s.minor <= version32&0xffff && len(s.unknown) == 0 {
		return nil
	}
	s.minor = min(s.minor, version32&0xffff)
	out, _ := (&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 3<<16 | s.minor, UnrecognizedOptions: s.unknown}).Encode(nil)
	return out
}

// authError words a message that is not the answer to our question.
func authError(err error) error {
	switch {
	case errors.Is(err, errWrongType):
		return errUnread("expected password response")
	case errors.Is(err, errTooLong), errors.Is(err, errTooShort):
		return errUnread("invalid password packet size")
	}
	return err
}

// readPassword takes the body of a PasswordMessage: one string and nothing
// behind it.
func readPassword(body []byte, user string) (az.Secret, error) {
	token, rest, ok := cstring(body)
	if !ok || len(rest) != 0 {
		return az.Secret{}, errStartup(protocolViolation, "invalid password packet size")
	}
	if token == "" {
		return az.Secret{}, badPassword(user, errors.New("the client sent an empty password"))
	}
	return az.NewSecret(token), nil
}

// readBearer takes the body of a SASLInitialResponse.
func (g *Gateway) readBearer(c net.Conn, body []byte) (az.Secret, error) {
	token, err := parseBearer(body)
	if err != nil {
		return az.Secret{}, err
	}
	if token == "" { // the client wants to know where to get a token
		g.sayInvalidToken(c)
		return az.Secret{}, &refusal{code: invalidAuthorization, reason: "discovery", message: "OAuth bearer authentication failed: get a token and try again"}
	}
	return az.NewSecret(token), nil
}

// parseBearer reads mechanism, length and the client's first message of
// RFC 7628: gs2-header, then key=value pairs, each ended by 0x01, and one 0x01
// more. An empty token asks for discovery.
func parseBearer(body []byte) (string, error) {
	bad := errStartup(protocolViolation, "malformed OAUTHBEARER message")
	mechanism, rest, ok := cstring(body)
	if !ok || len(rest) < 4 {
		return "", bad
	}
	if mechanism != oauthBearer {
		return "", errStartup(protocolViolation, "client selected an invalid SASL authentication mechanism")
	}
	if n := binary.BigEndian.Uint32(rest); uint64(n) != uint64(len(rest)-4) {
		return "", bad
	}
	header, pairs, ok := bytes.Cut(rest[4:], []byte{1})
	if !ok || string(header) != "n,," && string(header) != "y,," {
		return "", bad // p= asks for channel binding, a= for another's name: neither is offered
	}
	auth, seen := "", false
	for {
		pair, more, ok := bytes.Cut(pairs, []byte{1})
		if !ok {
			return "", bad
		}
		pairs = more
		if len(pair) == 0 {
			break
		}
		key, value, ok := strings.Cut(string(pair), "=")
		if !ok || key == "" || key == "auth" && seen {
			return "", bad
		}
		if key == "auth" {
			auth, seen = value, true
		}
	}
	if !seen || len(pairs) != 0 {
		return "", bad
	}
	return bearer(auth)
}

// bearer takes the token out of "Bearer <token>"; RFC 6750, 2.1 has its
// alphabet.
func bearer(auth string) (string, error) {
	if auth == "" {
		return "", nil
	}
	scheme, token, _ := strings.Cut(auth, " ")
	token = strings.TrimLeft(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsFunc(token, notTokenByte) {
		return "", az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a bearer token")
	}
	return token, nil
}

func notTokenByte(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~+/=", r)
}

// sayInvalidToken sends the error challenge of RFC 7628, 3.2.2 and waits for
// the client's dummy answer, after which the FATAL error may follow. A client
// that leaves instead is fine.
func (g *Gateway) sayInvalidToken(c net.Conn) {
	challenge, _ := json.Marshal(struct {
		Status    string `json:"status"`
		Scope     string `json:"scope,omitempty"`
		Discovery string `json:"openid-configuration,omitempty"`
	}{"invalid_token", g.oauth.Scope, g.oauth.Discovery})
	out, _ := (&pgproto3.AuthenticationSASLContinue{Data: challenge}).Encode(nil)
	if _, err := c.Write(out); err == nil {
		_, _ = readMessage(c, 'p', 64) // one byte 0x01
	}
}
