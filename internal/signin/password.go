package signin

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
)

const (
	// maxQueue is how many wait for a password to be hashed, and queueWait how
	// long: beyond it the plane is busy and says so. Each hash takes 19 MiB.
	maxQueue  = 64
	queueWait = 5 * time.Second
	// maxPassword bounds what is hashed, in bytes. Source: Entra allows 256
	// characters.
	maxPassword = 1024
	// minPassword is for passwords people choose. Source: NIST SP 800-63B-4
	// §3.1.1.2 asks for 8 beside a second factor; Entra for 8.
	minPassword = 8
	// maxAccountName bounds a user principal name, as directory does.
	maxAccountName = 320
)

// hashing bounds how many passwords are hashed at a time.
type hashing struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newHashing() *hashing {
	return &hashing{slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
}

// enter waits for a turn; leave must be called after it.
func (h *hashing) enter(ctx context.Context) (leave func(), err error) {
	busy := func() error {
		e := az.Errorf(az.TooMany, "Busy", "Too many people are signing in at this moment. Wait a few seconds, then try again.")
		e.RetryAfter = queueWait
		return e
	}
	if h.waiting.Add(1) > maxQueue {
		h.waiting.Add(-1)
		return nil, busy()
	}
	defer h.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, queueWait)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, busy()
	}
}

// hashPassword is directory.HashPassword with bounded concurrency.
func (s *SignIn) hashPassword(ctx context.Context, p az.Secret) (string, error) {
	leave, err := s.hashing.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return directory.HashPassword(p), nil
}

// nobody is checked where no account has the name, so that it costs the same.
const nobody = "00000000-0000-0000-0000-000000000000"

// wrongPassword never says whether the account exists.
func wrongPassword() error {
	return az.Errorf(az.Unauthorized, "WrongPassword", "The account name or the password is wrong. Check both and try again.")
}

// account finds a person by the name they typed.
func (s *SignIn) account(ctx context.Context, name string) (*directory.Object, bool, error) {
	if name == "" || len(name) > maxAccountName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return nil, false, nil
	}
	return s.dir.UserByUPN(ctx, name)
}

// tryPassword compares a password with an account's, counted and recorded.
func (s *SignIn) tryPassword(ctx context.Context, name string, p az.Secret, peer string, d device) (*directory.Object, error) {
	user, known, err := s.account(ctx, name)
	if err != nil {
		return nil, err
	}
	oid, seen := nobody, ""
	if known {
		oid, seen = user.ID, d.seen(user.ID)
	}
	a := s.attempt(tryPassword, name, peer, seen)
	if err := s.begin(ctx, a); err != nil {
		return nil, s.refused(ctx, user, actionPassword, peer, err)
	}
	ok, err := s.comparePassword(ctx, oid, p)
	if err != nil {
		return nil, err
	}
	if !ok || !known {
		return nil, s.refused(ctx, user, actionPassword, peer, wrongPassword())
	}
	if s.cfg.Provider != nil && s.cfg.Provider.Only {
		return nil, s.refused(ctx, user, actionPassword, peer, az.Errorf(az.Forbidden, "PasswordsOff", "Passwords are turned off here. Sign in with %s.", s.cfg.Provider.Name))
	}
	if err := s.succeeded(ctx, a); err != nil {
		return nil, err
	}
	if !user.Enabled {
		return nil, s.refused(ctx, user, actionPassword, peer, disabled())
	}
	return user, nil
}

func disabled() error {
	return az.Errorf(az.Forbidden, "AccountDisabled", "This account is disabled. Ask your administrator.")
}

func (s *SignIn) comparePassword(ctx context.Context, oid string, p az.Secret) (bool, error) {
	if len(p.Reveal()) > maxPassword {
		p = az.NewSecret("") // no password is so long: compare with nothing, at the same cost
	}
	leave, err := s.hashing.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	return s.dir.CheckPassword(ctx, oid, p)
}

// Password checks a name and a password for clients that send them themselves
// (resource owner password credentials), under the same limits. factor says
// that the person has a second factor, so that a password is not enough.
func (s *SignIn) Password(ctx context.Context, upn string, p az.Secret, peer string) (oid string, factor bool, err error) {
	user, err := s.tryPassword(ctx, upn, p, peerOrSelf(peer), device{})
	if err != nil {
		return "", false, err
	}
	f, err := s.factors(ctx, user.ID)
	if err != nil {
		return "", false, err
	}
	if user.MustChange {
		return "", false, s.refused(ctx, user, actionPassword, peer, az.Errorf(az.Forbidden, "PasswordExpired", "The password must be changed first. Sign in with a browser to do so."))
	}
	if f.any() || s.cfg.Policy.MFA == MFARequired {
		return user.ID, true, nil
	}
	return user.ID, false, s.allowed(ctx, user, actionPassword, peer, []string{amrPassword})
}

func peerOrSelf(peer string) string {
	if p := peerOf(peer); p != "" {
		return p
	}
	return peer
}

// checkNewPassword says what a password that a person chose must be.
func checkNewPassword(user *directory.Object, old, fresh, again string) error {
	local, _, _ := strings.Cut(strings.ToLower(user.UPN), "@")
	switch n := utf8.RuneCountInString(fresh); {
	case fresh != again:
		return az.Errorf(az.Invalid, "PasswordsDiffer", "The two new passwords are not the same. Type the new password twice.")
	case n < minPassword || !utf8.ValidString(fresh):
		return az.Errorf(az.Invalid, "PasswordTooShort", "The new password must have at least %d characters.", minPassword)
	case len(fresh) > maxPassword:
		return az.Errorf(az.Invalid, "PasswordTooLong", "The new password can have at most %d bytes.", maxPassword)
	case fresh == old:
		return az.Errorf(az.Invalid, "PasswordSame", "The new password must not be the old one.")
	case strings.EqualFold(fresh, user.UPN) || strings.EqualFold(fresh, local) || strings.Count(fresh, fresh[:1]) == len(fresh):
		return az.Errorf(az.Invalid, "PasswordWeak", "The new password is too easy to guess. Choose several words, or let a password manager make one.")
	}
	return nil
}

// What the audit calls the ways to prove who one is.
const (
	actionPassword = "password"
	actionCode     = "one-time code"
	actionPasskey  = "passkey"
	actionOutside  = "outside provider"
	actionSession  = "sign-in"
	actionSignOut  = "sign-out"
	actionChange   = "password change"
	actionFactor   = "second factor"
)

func (s *SignIn) principal(oid, upn string) az.Principal {
	return az.Principal{ObjectID: oid, TenantID: s.names.Tenant, Kind: az.User, Name: upn}
}

// refused records a refusal and returns its error. What a stranger typed as an
// account's name is not recorded: people type passwords there.
func (s *SignIn) refused(ctx context.Context, user *directory.Object, action, peer string, why error) error {
	who := az.Principal{}
	if user != nil {
		who = s.principal(user.ID, user.UPN)
	}
	reason := "unknown account"
	if e := asAZ(why); e != nil && (user != nil || e.Code != "WrongPassword") {
		reason = e.Code
	}
	if err := s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: action, Outcome: guard.Refused, Reason: reason, Peer: peer}); err != nil {
		return err
	}
	return why
}

func (s *SignIn) allowed(ctx context.Context, user *directory.Object, action, peer string, amr []string) error {
	return s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: s.principal(user.ID, user.UPN), Action: action, Outcome: guard.Allowed,
		Peer: peer, Detail: strings.Join(amr, " ")})
}
