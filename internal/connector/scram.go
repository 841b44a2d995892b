package connector

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

const (
	// passwordBytes is the length of a backend password before its encoding:
	// as much as SHA-256 can keep.
	passwordBytes = 32
	// saltBytes is what PostgreSQL itself uses. Source: SCRAM_DEFAULT_SALT_LEN
	// in PostgreSQL's src/include/common/scram-common.h.
	saltBytes = 16
	// iterations is 1 and not PostgreSQL's 4096 (RFC 7677, 4): stretching
	// protects passwords that can be guessed, and this one is 256 random bits,
	// so it would only cost the gateway a millisecond for each login.
	iterations = 1
)

// newPassword makes a random backend password. It is plain ASCII, so SASLprep
// (RFC 5802, 5.1) leaves it as it is.
func newPassword() az.Secret {
	var b [passwordBytes]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	// The end satisfies policies that want letters of each kind, a digit and a
	// sign. Source: SQL Server, "Password Policy"; MySQL, validate_password.
	return az.NewSecret(base64.RawURLEncoding.EncodeToString(b[:]) + ".Aa1")
}

// passwordTries bounds the search of one: of 64 signs a name of three comes up
// in one password of 800.
const passwordTries = 100

// passwordFor is newPassword for a role. Servers with a policy refuse one that
// holds the role's name, or a part of three signs or more.
// Source: SQL Server, "Password Policy"; Windows, "Password must meet
// complexity requirements".
func passwordFor(role string) (password az.Secret) {
	parts := strings.FieldsFunc(strings.ToLower(role), func(r rune) bool { return strings.ContainsRune(",.-_# \t@", r) })
	for range passwordTries {
		password = newPassword()
		lower := strings.ToLower(password.Reveal())
		if !slices.ContainsFunc(parts, func(p string) bool { return len(p) >= 3 && strings.Contains(lower, p) }) {
			break
		}
	}
	return password
}

// scramVerifier makes what PostgreSQL keeps in pg_authid, so that the password
// itself is never sent to the server and stands in none of its logs.
// Source: PostgreSQL documentation, 53.8 (pg_authid); RFC 5802, 3.
func scramVerifier(password az.Secret) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password.Reveal(), salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(keyed(salted, "Server Key"))), nil
}

func keyed(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
