package proxy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// maxToken bounds a token that is looked into; tokens with many groups reach
// some KiB.
const maxToken = 64 << 10

// claims are what a login needs to know of its own token. Nothing is decided
// by them: the server checks the token.
type claims struct {
	ObjectID  string `json:"oid"`
	UPN       string `json:"upn"`
	Preferred string `json:"preferred_username"`
	Unique    string `json:"unique_name"`
}

// user is the name that a person's role has.
func (c claims) user() string { return first(c.UPN, c.Preferred, c.Unique) }

var errClaims = errors.New("the token is no JWT")

func claimsOf(token az.Secret) (claims, error) {
	var c claims
	text := token.Reveal()
	if len(text) > maxToken {
		return c, errClaims
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return c, errClaims
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &c) != nil {
		return claims{}, errClaims
	}
	return c, nil
}
