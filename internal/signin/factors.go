package signin

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image/png"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// The kinds of credentials that are kept here, in the store's credentials.
const (
	kindPassword = "password" // directory's
	kindTOTP     = "totp"
	kindPasskey  = "passkey"
)

// totpID is the id of a person's only secret for one-time codes.
const totpID = "totp"

const (
	// Source: RFC 6238 §4.1 and §5.2: 30 seconds, one step of delay; every
	// authenticator app knows six digits with SHA-1.
	codePeriod = 30
	codeSkew   = 1
	codeDigits = otp.DigitsSix
	// codeSecret is the secret's length. Source: RFC 4226 §4, 160 bits.
	codeSecret = 20
	// qrSize is the picture's edge in pixels.
	qrSize = 240
)

var codeOptions = totp.ValidateOpts{Period: codePeriod, Skew: 0, Digits: codeDigits, Algorithm: otp.AlgorithmSHA1}

// factors are a person's second factors, and what is to be known of their
// password.
type factors struct {
	totp     bool
	secret   []byte // sealed
	since    az.Micros
	passkeys []passkey
	password bool // they have one
}

func (f factors) any() bool { return f.totp || len(f.passkeys) > 0 }

func (s *SignIn) factors(ctx context.Context, user string) (factors, error) {
	rows, err := s.store.Credentials(ctx, user)
	if err != nil {
		return factors{}, err
	}
	var f factors
	for _, r := range rows {
		switch r.Kind {
		case kindTOTP:
			f.totp, f.secret, f.since = true, r.Hash, r.Created
		case kindPasskey:
			p, err := passkeyFromRow(r)
			if err != nil {
				return factors{}, err
			}
			f.passkeys = append(f.passkeys, p)
		case kindPassword:
			f.password = true
		}
	}
	return f, nil
}

func codePlace(user string) seal.Place {
	return seal.Place{Table: "credentials", ID: user + "/" + totpID}
}

func wrongCode() error {
	return az.Errorf(az.Unauthorized, "WrongCode", "The code is wrong or was used already. Wait for the next one in your app and enter it.")
}

// tryCode compares a one-time code with a person's, counted and recorded. A
// step of time is good once.
func (s *SignIn) tryCode(ctx context.Context, user *directory.Object, code, peer string, d device) error {
	a := s.attempt(tryCode, user.ID, peer, d.seen(user.ID))
	if err := s.begin(ctx, a); err != nil {
		return s.refused(ctx, user, actionCode, peer, err)
	}
	f, err := s.factors(ctx, user.ID)
	if err != nil {
		return err
	}
	if !f.totp {
		return s.refused(ctx, user, actionCode, peer, wrongCode())
	}
	secret, err := s.sealer.Open(codePlace(user.ID), f.secret)
	if err != nil {
		return fmt.Errorf("cannot open the one-time code secret of %s: %w", user.ID, err)
	}
	step, ok := matchCode(string(secret), code, s.clock())
	if !ok {
		return s.refused(ctx, user, actionCode, peer, wrongCode())
	}
	if err := s.useStep(ctx, user.ID, step); err != nil {
		if az.Is(err, az.Forbidden) {
			return s.refused(ctx, user, actionCode, peer, wrongCode())
		}
		return err
	}
	return s.succeeded(ctx, a)
}

// useStep takes a step of time of a person's codes. A step before one that was
// taken is refused too only if it was taken itself: two devices may be apart.
func (s *SignIn) useStep(ctx context.Context, user string, step int64) error {
	return s.useOnce(ctx, fmt.Sprintf("code %s %d", user, step))
}

// matchCode finds the step of time whose code it is.
func matchCode(secret, code string, now time.Time) (step int64, ok bool) {
	code = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, code)
	if len(code) != int(codeDigits) {
		return 0, false
	}
	at := now.Unix() / codePeriod
	for d := int64(-codeSkew); d <= codeSkew; d++ {
		good, err := totp.ValidateCustom(code, secret, time.Unix((at+d)*codePeriod, 0), codeOptions)
		if err == nil && good && !ok {
			step, ok = at+d, true
		}
	}
	return step, ok
}

// newCodeSecret makes a secret for one-time codes.
func (s *SignIn) newCodeSecret(user *directory.Object) (string, error) {
	key, err := s.codeKey(user, nil)
	if err != nil {
		return "", err
	}
	return key.Secret(), nil
}

// codeKey is what the QR code of a secret says; nil makes a secret.
func (s *SignIn) codeKey(user *directory.Object, secret []byte) (*otp.Key, error) {
	return totp.Generate(totp.GenerateOpts{Issuer: s.names.Domain, AccountName: user.UPN, Period: codePeriod, SecretSize: codeSecret,
		Secret: secret, Digits: codeDigits, Algorithm: otp.AlgorithmSHA1})
}

// qrCode is the picture of a secret, for an img element.
func (s *SignIn) qrCode(user *directory.Object, secret string) (string, error) {
	raw, err := b32.DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("cannot show the secret of one-time codes: %w", err)
	}
	key, err := s.codeKey(user, raw)
	if err != nil {
		return "", fmt.Errorf("cannot show the secret of one-time codes: %w", err)
	}
	img, err := key.Image(qrSize, qrSize)
	if err != nil {
		return "", fmt.Errorf("cannot draw the QR code: %w", err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return "", fmt.Errorf("cannot draw the QR code: %w", err)
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// addCode keeps a person's secret after its first code was right. That code's
// step is taken.
func (s *SignIn) addCode(ctx context.Context, user *directory.Object, secret, code, peer string) error {
	a := s.attempt(tryCode, user.ID, peer, "")
	if err := s.begin(ctx, a); err != nil {
		return s.refused(ctx, user, actionFactor, peer, err)
	}
	step, ok := matchCode(secret, code, s.clock())
	if secret == "" || !ok {
		return s.refused(ctx, user, actionFactor, peer, wrongCode())
	}
	sealed, err := s.sealer.Seal(codePlace(user.ID), []byte(secret))
	if err != nil {
		return fmt.Errorf("cannot seal the secret of one-time codes: %w", err)
	}
	if err := s.useStep(ctx, user.ID, step); err != nil {
		return s.refused(ctx, user, actionFactor, peer, wrongCode())
	}
	if err := s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: s.principal(user.ID, user.UPN), Action: actionFactor,
		Outcome: guard.Allowed, Peer: peer, Detail: "one-time codes set up"}); err != nil {
		return err
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		return tx.PutCredential(store.Credential{Owner: user.ID, ID: totpID, Kind: kindTOTP, Hash: sealed, Body: []byte("{}")})
	})
	if err != nil {
		return err
	}
	return s.succeeded(ctx, a)
}

// Reseal puts secrets of one-time codes that lie under older data keys under
// the newest.
func (s *SignIn) Reseal(ctx context.Context) (n int, err error) {
	const batch = 200
	for after := ""; ; {
		rows, err := s.store.CredentialsOfKind(ctx, kindTOTP, after, batch)
		if err != nil || len(rows) == 0 {
			return n, err
		}
		after = rows[len(rows)-1].Owner
		for _, r := range rows {
			did, err := s.resealOne(ctx, r)
			if err != nil {
				return n, err
			}
			if did {
				n++
			}
		}
	}
}

func (s *SignIn) resealOne(ctx context.Context, old store.Credential) (did bool, err error) {
	if !s.sealer.NeedsReseal(old.Hash) {
		return false, nil
	}
	secret, err := s.sealer.Open(codePlace(old.Owner), old.Hash)
	if err != nil {
		return false, fmt.Errorf("cannot open the one-time code secret of %s: %w", old.Owner, err)
	}
	sealed, err := s.sealer.Seal(codePlace(old.Owner), secret)
	if err != nil {
		return false, err
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		did = false
		rows, err := tx.Credentials(old.Owner)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.ID == old.ID && bytes.Equal(r.Hash, old.Hash) {
				r.Hash, did = sealed, true
				return tx.PutCredential(r)
			}
		}
		return nil // changed or removed meanwhile
	})
	return did, err
}
