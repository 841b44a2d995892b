package signin

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"strings"
	"unicode"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

var b32 = base32.StdEncoding.WithPadding(base32.NoPadding)

const (
	// maxPasskeys bounds a person's. Source: Entra, ten.
	maxPasskeys = 10
	// maxPasskeyAnswer bounds what a browser says of a passkey.
	maxPasskeyAnswer = 32 << 10
	// maxLabel bounds the name that a person gives a passkey.
	maxLabel = 60
)

// passkey is one of a person's.
type passkey struct {
	ID    string // of the row: the credential's id in base64url
	Label string
	Made  az.Micros
	cred  webauthn.Credential
}

// passkeyBody is the JSON in the store's body column. A passkey holds nothing
// secret.
type passkeyBody struct {
	Label      string              `json:"label"`
	Credential webauthn.Credential `json:"credential"`
}

func passkeyFromRow(r store.Credential) (passkey, error) {
	var b passkeyBody
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return passkey{}, fmt.Errorf("cannot read passkey %s: %w", r.ID, err)
	}
	return passkey{r.ID, b.Label, r.Created, b.Credential}, nil
}

func passkeyRow(user, label string, c webauthn.Credential) (store.Credential, error) {
	body, err := json.Marshal(passkeyBody{label, c})
	if err != nil {
		return store.Credential{}, fmt.Errorf("cannot write a passkey: %w", err)
	}
	return store.Credential{Owner: user, ID: passkeyID(c.ID), Kind: kindPasskey, Body: body}, nil
}

func passkeyID(id []byte) string { return "passkey-" + base64.RawURLEncoding.EncodeToString(id) }

// passkeyUser is a person as the library wants one.
type passkeyUser struct {
	*directory.Object
	keys []passkey
}

// WebAuthnID is the object id, which a passkey gives back at sign-in.
func (u *passkeyUser) WebAuthnID() []byte { return []byte(u.ID) }

// WebAuthnName is the account's name.
func (u *passkeyUser) WebAuthnName() string { return u.UPN }

// WebAuthnDisplayName is the person's name.
func (u *passkeyUser) WebAuthnDisplayName() string { return u.Name }

// WebAuthnCredentials are the person's passkeys.
func (u *passkeyUser) WebAuthnCredentials() []webauthn.Credential {
	out := make([]webauthn.Credential, len(u.keys))
	for i, k := range u.keys {
		out[i] = k.cred
	}
	return out
}

// party is the relying party of the host that the browser sees: the plane's
// own login name, or one of Azure's. A passkey holds for one of them only.
func (s *SignIn) party(r *rest.Request) (*webauthn.WebAuthn, error) {
	h := s.names.Classify(r.Host)
	if h.Surface != az.SurfaceLogin {
		return nil, az.Errorf(az.Invalid, "BadHost", "Passkeys work at the login host only.")
	}
	w, err := webauthn.New(&webauthn.Config{RPID: h.Suffix, RPDisplayName: s.names.Domain, RPOrigins: []string{s.origin(r)},
		AttestationPreference: protocol.PreferNoAttestation})
	if err != nil {
		return nil, fmt.Errorf("cannot set up passkeys: %w", err)
	}
	return w, nil
}

// passkeyOptions are what a browser needs to ask for a passkey: any of this
// host, or one of a person's. The challenge goes into the flow.
func (c *call) passkeyOptions(user *passkeyUser) (string, error) {
	w, err := c.s.party(c.Request)
	if err != nil {
		return "", err
	}
	verify := webauthn.WithUserVerification(protocol.VerificationRequired)
	var options *protocol.CredentialAssertion
	if user == nil {
		options, c.flow.Passkey, err = w.BeginDiscoverableLogin(verify)
	} else {
		options, c.flow.Passkey, err = w.BeginLogin(user, verify)
	}
	if err != nil {
		return "", fmt.Errorf("cannot ask for a passkey: %w", err)
	}
	return toJSON(options.Response)
}

func passkeyRefused(cause error) error {
	return az.Errorf(az.Unauthorized, "PasskeyRefused", "The passkey was not accepted. Try again, or sign in another way.").Because(cause)
}

// stepPasskey takes a passkey's answer: as the only proof, or as the second.
func stepPasskey(ctx context.Context, c *call) (*rest.Reply, error) {
	user, err := c.tryPasskey(ctx)
	if err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) {
			if c.flow.User == "" {
				return c.namePage(status, p)
			}
			o, err := c.user(ctx)
			if err != nil {
				return nil, err
			}
			f, err := c.s.factors(ctx, o.ID)
			if err != nil {
				return nil, err
			}
			return c.codePage(ctx, status, o, f, p)
		})
	}
	if c.flow.User == "" {
		c.prove(user, c.s.now())
	}
	c.flow.add(amrPasskey, amrMulti)
	return c.proceed(ctx)
}

// tryPasskey says whose passkey answered.
func (c *call) tryPasskey(ctx context.Context) (*directory.Object, error) {
	s := c.s
	if err := s.store.Confirm(ctx); err != nil {
		return nil, err
	}
	known := (*directory.Object)(nil)
	if c.flow.User != "" {
		user, err := c.user(ctx)
		if err != nil {
			return nil, err
		}
		known = user
	}
	user, cred, err := c.checkPasskey(ctx, known)
	if err != nil {
		return nil, s.refused(ctx, orKnown(user, known), actionPasskey, c.peer(), passkeyRefused(err))
	}
	if !user.Enabled {
		return nil, s.refused(ctx, user, actionPasskey, c.peer(), disabled())
	}
	if err := s.useOnce(ctx, "challenge "+c.flow.Passkey.Challenge); err != nil {
		if az.Is(err, az.Forbidden) {
			return nil, s.refused(ctx, user, actionPasskey, c.peer(), passkeyRefused(err))
		}
		return nil, err
	}
	if err := s.countPasskey(ctx, user.ID, cred); err != nil {
		return nil, s.refused(ctx, user, actionPasskey, c.peer(), passkeyRefused(err))
	}
	return user, nil
}

func orKnown(user, known *directory.Object) *directory.Object {
	if user != nil {
		return user
	}
	return known
}

// checkPasskey verifies the answer in the form.
func (c *call) checkPasskey(ctx context.Context, known *directory.Object) (*directory.Object, *webauthn.Credential, error) {
	answer := c.form.Get("response")
	if c.flow.Passkey == nil || answer == "" || len(answer) > maxPasskeyAnswer {
		return nil, nil, errors.New("no challenge or no answer")
	}
	w, err := c.s.party(c.Request)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return nil, nil, err
	}
	if known != nil {
		f, err := c.s.factors(ctx, known.ID)
		if err != nil {
			return nil, nil, err
		}
		cred, err := w.ValidateLogin(&passkeyUser{known, f.passkeys}, *c.flow.Passkey, parsed)
		return known, cred, err
	}
	var user *directory.Object
	find := func(_, handle []byte) (webauthn.User, error) {
		if !az.IsGUID(string(handle)) {
			return nil, errors.New("the user handle is none of ours")
		}
		o, ok, err := c.s.dir.Get(ctx, string(handle))
		if err != nil || !ok || o.Kind != az.User {
			return nil, errors.Join(errors.New("nobody has the user handle"), err)
		}
		f, err := c.s.factors(ctx, o.ID)
		if err != nil {
			return nil, err
		}
		user = o
		return &passkeyUser{o, f.passkeys}, nil
	}
	_, cred, err := w.ValidatePasskeyLogin(find, *c.flow.Passkey, parsed)
	if err != nil {
		return nil, nil, err
	}
	return user, cred, nil
}

// countPasskey keeps the sign counter. A counter that went back is a copy.
func (s *SignIn) countPasskey(ctx context.Context, user string, used *webauthn.Credential) error {
	if used.Authenticator.CloneWarning {
		return errors.New("the passkey's counter went back")
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.Credentials(user)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Kind != kindPasskey || r.ID != passkeyID(used.ID) {
				continue
			}
			p, err := passkeyFromRow(r)
			if err != nil {
				return err
			}
			was, is := p.cred.Authenticator.SignCount, used.Authenticator.SignCount
			if is <= was && (is != 0 || was != 0) {
				return az.Errorf(az.Forbidden, "PasskeyCopied", "The passkey's counter went back.")
			}
			row, err := passkeyRow(user, p.Label, *used)
			if err != nil {
				return err
			}
			return tx.PutCredential(row)
		}
		return az.Errorf(az.Forbidden, "PasskeyGone", "The passkey was removed.")
	})
}

// creationOptions are what a browser needs to make a passkey.
func (c *call) creationOptions(user *directory.Object, keys []passkey) (string, error) {
	w, err := c.s.party(c.Request)
	if err != nil {
		return "", err
	}
	u := &passkeyUser{user, keys}
	options, session, err := w.BeginRegistration(u, webauthn.WithExclusions(webauthn.Credentials(u.WebAuthnCredentials()).CredentialDescriptors()),
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired,
			RequireResidentKey: protocol.ResidentKeyRequired(), UserVerification: protocol.VerificationRequired}))
	if err != nil {
		return "", fmt.Errorf("cannot ask for a new passkey: %w", err)
	}
	c.flow.Passkey = session
	return toJSON(options.Response)
}

// addPasskey keeps the passkey that the browser made.
func (c *call) addPasskey(ctx context.Context, user *directory.Object) error {
	s := c.s
	answer := c.form.Get("response")
	if c.flow.Passkey == nil || answer == "" || len(answer) > maxPasskeyAnswer {
		return passkeyRefused(errors.New("no challenge or no answer"))
	}
	w, err := s.party(c.Request)
	if err != nil {
		return err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return s.refused(ctx, user, actionFactor, c.peer(), passkeyRefused(err))
	}
	cred, err := w.CreateCredential(&passkeyUser{user, nil}, *c.flow.Passkey, parsed)
	if err != nil {
		return s.refused(ctx, user, actionFactor, c.peer(), passkeyRefused(err))
	}
	if err := s.useOnce(ctx, "challenge "+c.flow.Passkey.Challenge); err != nil {
		return passkeyRefused(err)
	}
	row, err := passkeyRow(user.ID, label(c.form.Get("label")), *cred)
	if err != nil {
		return err
	}
	if err := s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: s.principal(user.ID, user.UPN), Action: actionFactor,
		Outcome: guard.Allowed, Peer: c.peer(), Detail: "passkey added"}); err != nil {
		return err
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.Credentials(user.ID)
		if err != nil {
			return err
		}
		n := 0
		for _, r := range rows {
			if r.ID == row.ID {
				return passkeyRefused(errors.New("the passkey is known"))
			}
			if r.Kind == kindPasskey {
				n++
			}
		}
		if n >= maxPasskeys {
			return az.Errorf(az.Invalid, "TooManyPasskeys", "You have %d passkeys already; remove one first.", maxPasskeys)
		}
		return tx.PutCredential(row)
	})
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// label is what a person calls a passkey.
func label(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text))
	if text == "" {
		return "Passkey"
	}
	if runes := []rune(text); len(runes) > maxLabel {
		return string(runes[:maxLabel])
	}
	return text
}

// enrolPage asks somebody without a second factor to set one up.
func (c *call) enrolPage(status int, user *directory.Object, p *problem) (*rest.Reply, error) {
	return c.codeSetup(status, user, p, stageEnrol, "/signin/enrol", "/signin/enrol-passkey")
}

// codeSetup shows a new secret for one-time codes, and where passkeys may be
// added instead, the way to it.
func (c *call) codeSetup(status int, user *directory.Object, p *problem, st stage, action, passkeyAction string) (*rest.Reply, error) {
	var err error
	if c.flow.Secret == "" {
		if c.flow.Secret, err = c.s.newCodeSecret(user); err != nil {
			return nil, err
		}
	}
	page := enrolPage{App: c.flow.Ask.App, Name: user.UPN, Secret: c.flow.Secret, Problem: p.text(), Action: action, PasskeyAction: passkeyAction,
		Forced: st == stageEnrol}
	picture, err := c.s.qrCode(user, c.flow.Secret)
	if err != nil {
		return nil, err
	}
	page.QR = template.URL(picture) // ours: base64 of a PNG
	if passkeyAction != "" {
		if page.Passkey, err = c.creationOptions(user, nil); err != nil {
			return nil, err
		}
	}
	if page.State, err = c.hide(st); err != nil {
		return nil, err
	}
	return c.page(status, page), nil
}

// enrolling is the person who sets up a first second factor while signing in.
// Whoever has one by now must use it.
func (c *call) enrolling(ctx context.Context) (*directory.Object, error) {
	if err := c.s.store.Confirm(ctx); err != nil {
		return nil, err
	}
	user, err := c.user(ctx)
	if err != nil {
		return nil, err
	}
	f, err := c.s.factors(ctx, user.ID)
	if err != nil {
		return nil, err
	}
	if f.any() {
		return nil, stalePage()
	}
	return user, nil
}

func stepEnrol(ctx context.Context, c *call) (*rest.Reply, error) {
	user, err := c.enrolling(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.s.addCode(ctx, user, c.flow.Secret, c.form.Get("otc"), c.peer()); err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) { return c.enrolPage(status, user, p) })
	}
	c.flow.Secret = ""
	c.flow.add(amrCode, amrMulti)
	return c.proceed(ctx)
}

func stepEnrolPasskey(ctx context.Context, c *call) (*rest.Reply, error) {
	user, err := c.enrolling(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.addPasskey(ctx, user); err != nil {
		return mend(err, func(status int, p *problem) (*rest.Reply, error) { return c.enrolPage(status, user, p) })
	}
	c.flow.Secret = ""
	c.flow.add(amrPasskey, amrMulti)
	return c.proceed(ctx)
}
