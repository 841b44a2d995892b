package directory

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Parameters of argon2id for new hashes; each hash carries its own. Source:
// OWASP Password Storage Cheat Sheet, 19 MiB, two passes, one lane.
const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB
	argonLanes  = 1
	argonKey    = 32
	argonSalt   = 16
)

// NewPassword returns a random password for a person: 120 bits, without
// characters that a keyboard or a shell makes hard.
func NewPassword() az.Secret { return az.NewSecret(randomText(20)) }

// CheckNewPassword bounds what a person may have. Source: Entra's password
// policy, 8 to 256 characters.
func CheckNewPassword(p az.Secret) error {
	if n := len([]rune(p.Reveal())); n < 8 || n > 256 {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The specified password does not comply with password complexity requirements: it must have 8 to 256 characters.")
	}
	return nil
}

// HashPassword hashes a password in the PHC string form. It takes tens of
// milliseconds, so it stands outside any transaction.
func HashPassword(p az.Secret) string {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails: crypto/rand crashes the program instead
	key := argon2.IDKey([]byte(p.Reveal()), salt, argonTime, argonMemory, argonLanes, argonKey)
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		e.EncodeToString(salt), e.EncodeToString(key))
}

// passwordMatches compares in constant time with a hash of HashPassword.
func passwordMatches(p az.Secret, hash string) bool {
	var version, memory, passes, lanes int
	var tail string
	if n, err := fmt.Sscanf(hash, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &memory, &passes, &lanes, &tail); n != 5 || err != nil {
		return false
	}
	var salt, key []byte
	for i := range len(tail) {
		if tail[i] == '$' {
			salt, _ = base64.RawStdEncoding.DecodeString(tail[:i])
			key, _ = base64.RawStdEncoding.DecodeString(tail[i+1:])
			break
		}
	}
	if version != argon2.Version || len(salt) == 0 || len(key) != argonKey || passes < 1 || lanes < 1 || memory < 8 || memory > 1<<20 {
		return false
	}
	got := argon2.IDKey([]byte(p.Reveal()), salt, uint32(passes), uint32(memory), uint8(lanes), argonKey)
	return subtle.ConstantTimeCompare(got, key) == 1
}

// passwordID is the id of a person's only password.
const passwordID = "password"

func setPassword(tx *store.Tx, user, hash string) error {
	return tx.PutCredential(store.Credential{Owner: user, ID: passwordID, Kind: string(password), Hash: []byte(hash), Body: []byte("{}")})
}

// SetPassword gives a person a new password, as a hash of HashPassword, and
// ends what was signed in for with the old one: sessions, refresh tokens and
// access tokens.
func (d *Directory) SetPassword(tx *store.Tx, user, hash string) error {
	return d.setPassword(tx, user, hash, false)
}

func (d *Directory) setPassword(tx *store.Tx, user, hash string, mustChange bool) error {
	o, err := existing(tx, az.User, user)
	if err != nil {
		return err
	}
	o.ValidFrom, o.MustChange = tx.Now(), mustChange
	if err := d.Update(tx, o); err != nil {
		return err
	}
	return setPassword(tx, o.ID, hash)
}

// noPassword is compared with where there is no person, so that finding out
// who exists takes as long as failing.
var noPassword = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// CheckPassword says whether a password is a person's. An id without a
// password costs the same and is false.
func (d *Directory) CheckPassword(ctx context.Context, user string, p az.Secret) (bool, error) {
	rows, err := d.store.Credentials(ctx, user)
	if err != nil {
		return false, err
	}
	hash, ok := noPassword, false
	for _, r := range rows {
		if CredentialKind(r.Kind) == password {
			hash, ok = string(r.Hash), true
		}
	}
	return passwordMatches(p, hash) && ok, nil
}

// hash is HashPassword for requests of Graph, a few at a time.
func (d *Directory) hash(ctx context.Context, p az.Secret) (string, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return HashPassword(p), nil
}

// checkHashed is CheckPassword for requests of Graph, a few at a time.
func (d *Directory) checkHashed(ctx context.Context, user string, p az.Secret) (bool, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	return d.CheckPassword(ctx, user, p)
}

func (d *Directory) enter(ctx context.Context) (leave func(), err error) {
	select {
	case d.hashing <- struct{}{}:
		return func() { <-d.hashing }, nil
	case <-ctx.Done():
		return nil, az.Errorf(az.TooMany, "TooManyRequests", "Too many passwords are being set at this moment; try again.")
	}
}
