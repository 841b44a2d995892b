package authority

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

const (
	// codeLife is how long a code waits. Source: RFC 6749 §4.1.2, at most ten
	// minutes; wire/entra.md §4.
	codeLife = 10 * time.Minute
	// codeBytes is a code's length: 256 bits, so that none is guessed.
	codeBytes = 32
	// maxCode bounds what is taken for a code, refresh token or device code.
	maxCode = 512
	// minVerifier and maxVerifier bound a PKCE verifier. Source: RFC 7636 §4.1.
	minVerifier = 43
	maxVerifier = 128
)

// codeFacts is what an authorization code stands for.
type codeFacts struct {
	Client    string       `json:"client"`
	Redirect  string       `json:"redirect"`
	Named     bool         `json:"named"` // the request named the redirect URI
	Kind      redirectKind `json:"kind"`
	Challenge string       `json:"challenge,omitempty"`
	Scope     string       `json:"scope,omitempty"`
	Resource  string       `json:"resource,omitempty"`
	Nonce     string       `json:"nonce,omitempty"`
	By        signed       `json:"by"`
}

// keyOf is what is stored of a random secret.
func (a *Authority) keyOf(purpose, secret string) string {
	return base64.RawURLEncoding.EncodeToString(a.cfg.Sealer.Hash("authority/"+purpose, []byte(secret)))
}

// newCode gives out a code.
func (a *Authority) newCode(ctx context.Context, f codeFacts) (string, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return "", az.Errorf(az.Internal, "", "").Because(err)
	}
	code := "1." + opaque(codeBytes)
	now := a.clock()
	err = a.store.Write(ctx, func(tx *store.Tx) error {
		if f.By.Session != "" {
			if err := tx.NoteSessionClient(f.By.Session, f.Client, az.MicrosOf(now.Add(sessionClientLife))); err != nil {
				return err
			}
		}
		return tx.AddAuthCode(store.AuthCode{Key: a.keyOf("code", code), Family: az.NewGUID(), Body: body,
			Expires: az.MicrosOf(now.Add(codeLife))})
	})
	return code, err
}

func badGrant(number int, format string, args ...any) *az.Error {
	return oauthError(az.Invalid, "invalid_grant", number, format, args...)
}

// codeGrant redeems a code. What does not fit burns it: whoever brings a code
// to the wrong client, address or verifier does not hold it by right.
func (a *Authority) codeGrant(ctx context.Context, t *tokenRequest, g *grant) (*evidence, error) {
	code := t.Code.Reveal()
	if code == "" {
		return nil, missing("code")
	}
	unknown := badGrant(70000, "The provided value for the 'code' parameter is not valid: the code is not one of this authority.")
	if len(code) > maxCode {
		return nil, unknown
	}
	row, ok, err := a.store.AuthCode(ctx, a.keyOf("code", code))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, unknown
	}
	var f codeFacts
	if err := json.Unmarshal(row.Body, &f); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	if g.Proof == unproven && f.Kind == webRedirect {
		return nil, noProof()
	}
	if row.Used != 0 {
		return nil, a.codeAgain(ctx, row.Family)
	}
	if az.MicrosOf(a.clock()) >= row.Expires {
		return nil, badGrant(70008, "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.")
	}
	if err := a.fits(ctx, t, g, &f); err != nil {
		if burn := a.store.Write(ctx, func(tx *store.Tx) error { _, err := tx.UseAuthCode(row.Key); return err }); burn != nil {
			return nil, burn
		}
		return nil, err
	}
	public := f.Kind != webRedirect
	return &evidence{By: f.By, Scope: f.Scope, Resource: f.Resource, Nonce: f.Nonce, Public: public, SPA: f.Kind == spaRedirect,
		settle: a.settleCode(row, f)}, nil
}

// fits compares a request with the one that the code was given out for.
func (a *Authority) fits(ctx context.Context, t *tokenRequest, g *grant, f *codeFacts) error {
	if f.Client != g.Client.AppID {
		return badGrant(70000, "The provided value for the 'code' parameter is not valid: the code was issued to another client.").Because(incident("a code of another client was presented"))
	}
	if t.RedirectURI != f.Redirect && (t.RedirectURI != "" || f.Named) {
		return badGrant(500112, "The reply address '%s' does not match the reply address provided when requesting the authorization code.", printable(t.RedirectURI))
	}
	if err := checkVerifier(f.Challenge, t.Verifier.Reveal()); err != nil {
		return err
	}
	// Who took a redirect URI away did not want codes to be taken there any more.
	if kind, ok := matchRedirect(g.Client.Facts(), f.Redirect); !ok || kind != f.Kind {
		return badGrant(50011, "The redirect URI that the authorization code was sent to is not configured for the application '%s' any more.", g.Client.AppID)
	}
	return a.stillSignedIn(ctx, f.By)
}

// checkVerifier is PKCE's last step. Source: RFC 7636 §4.6; RFC 9700 §2.1.1: a
// verifier without a challenge is an attempt to do without.
func checkVerifier(challenge, verifier string) error {
	switch {
	case challenge == "" && verifier == "":
		return nil
	case challenge == "":
		return badGrant(501481, "The Code_Verifier does not match the code_challenge supplied in the authorization request: it had none.").Because(incident("a verifier for a code without a challenge"))
	case verifier == "":
		return badGrant(50148, "The code_verifier is missing: the authorization request had a code_challenge for PKCE.")
	case len(verifier) < minVerifier || len(verifier) > maxVerifier:
		return badGrant(50148, "The code_verifier must have %d to %d characters.", minVerifier, maxVerifier)
	}
	sum := sha256.Sum256([]byte(verifier))
	if !hmac.Equal([]byte(challenge), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) {
		return badGrant(501481, "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
	}
	return nil
}

// stillSignedIn refuses what a session that was ended meanwhile asked for.
func (a *Authority) stillSignedIn(ctx context.Context, by signed) error {
	if by.Session == "" {
		return nil
	}
	rows, err := a.store.SignInSessionsOf(ctx, by.User)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.ID == by.Session {
			return nil
		}
	}
	return signedOut()
}

func signedOut() error { return badGrant(50173, "The user has signed out since; sign in again.") }

// stands reports, inside a transaction, whether the session that something
// descends from has not ended. What knows no session has none to end with.
func (s signed) stands(tx *store.Tx) (bool, error) {
	if s.Session == "" {
		return true, nil
	}
	return tx.SignInSessionStands(s.User, s.Session)
}

// codeAgain answers a code that came before: somebody else has it, so nothing
// that came from it holds any longer. Source: RFC 6749 §4.1.2.
func (a *Authority) codeAgain(ctx context.Context, family string) error {
	if err := a.store.Write(ctx, func(tx *store.Tx) error { return tx.RevokeTokenFamily(family) }); err != nil {
		return err
	}
	return badGrant(54005, "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.").
		Because(incident("a code came twice: its refresh tokens were revoked"))
}

// settleCode makes a code used and begins its family of refresh tokens.
func (a *Authority) settleCode(row store.AuthCode, f codeFacts) func(context.Context, *grant, bool) (string, error) {
	return func(ctx context.Context, g *grant, offline bool) (string, error) {
		fam, err := a.newFamily(g, familyFacts{By: f.By, Scope: f.Scope, Resource: f.Resource, Public: f.Kind != webRedirect, SPA: f.Kind == spaRedirect})
		if err != nil {
			return "", err
		}
		fam.ID, fam.Bound = row.Family, f.Kind != nativeRedirect
		first := false
		err = a.store.Write(ctx, func(tx *store.Tx) error {
			if first, err = tx.UseAuthCode(row.Key); err != nil {
				return err
			}
			if !first {
				return tx.RevokeTokenFamily(fam.ID)
			}
			// A sign-out at this moment ends the family, or is seen here.
			if ok, err := f.By.stands(tx); err != nil || !ok {
				return cmp.Or(err, signedOut())
			}
			if !offline {
				return nil
			}
			return tx.AddTokenFamily(fam)
		})
		switch {
		case err != nil:
			return "", err
		case !first:
			return "", a.codeAgain(ctx, fam.ID)
		case !offline:
			return "", nil
		}
		return a.refreshText(fam.ID, fam.N), nil
	}
}
