package signin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Config is what sign-in is made of.
type Config struct {
	Store     *store.Store
	Directory *directory.Directory
	Guard     *guard.Guard
	Sealer    *seal.Sealer
	Names     az.Names
	Clock     az.Clock     // nil means the real one
	Log       *slog.Logger // nil discards
	Policy    Policy
	Provider  *Provider    // a company's own OpenID Connect provider; nil for none
	HTTP      *http.Client // reaches Provider; nil means one with a deadline
}

// Policy is what the plane asks of everybody who signs in.
type Policy struct {
	// MFA is "enrolled" (the default): whoever has a second factor must use it;
	// or "required": whoever has none must set one up when they sign in next.
	MFA string
}

// The values of Policy.MFA.
const (
	MFAEnrolled = "enrolled"
	MFARequired = "required"
)

// How people proved who they are, as tokens' amr says it.
// Source: RFC 8176 §2; wire/entra.md §5.
const (
	amrPassword = "pwd"
	amrCode     = "otp"
	amrPasskey  = "fido"
	amrMulti    = "mfa"
	amrOutside  = "fed"
)

const (
	// Life and idle life of a session. Source: Entra's session without "stay
	// signed in" ends after 24 hours; OWASP asks for hours, not days, of idling.
	sessionLife = 24 * time.Hour
	sessionIdle = 8 * time.Hour
	// keptLife is of a session of "stay signed in". Source: Entra, 90 days.
	keptLife = 90 * 24 * time.Hour
	// usedEvery is how exactly the last use of a session is kept.
	usedEvery = 5 * time.Minute
	// maxAccounts bounds the people signed in at a time in one browser.
	maxAccounts = 10
)

// Session is a person who is signed in in a browser.
type Session struct {
	ID       string // GUID; public
	User     string // object id
	AuthTime time.Time
	AMR      []string // of "pwd", "otp", "fido", "mfa", "fed"
	Provider string   // the outside provider's issuer, "" for people of this plane
}

// MFA reports whether the session holds more than one proof.
func (s Session) MFA() bool { return slices.Contains(s.AMR, amrMulti) }

// sessionBody is the JSON in the store's body column.
type sessionBody struct {
	AMR      []string `json:"amr"`
	Provider string   `json:"provider,omitempty"`
	Agent    string   `json:"agent,omitempty"` // the browser's own words, for /account
	Peer     string   `json:"peer,omitempty"`
	Keep     bool     `json:"keep,omitempty"`
}

// SignIn serves the pages and holds the sessions. Its methods may be called
// concurrently.
type SignIn struct {
	cfg     Config
	store   *store.Store
	dir     *directory.Directory
	guard   *guard.Guard
	sealer  *seal.Sealer
	names   az.Names
	clock   az.Clock
	log     *slog.Logger
	pages   *pages
	hashing *hashing
	outside *outside // nil without a provider
}

// New makes the sign-in of a plane. It refuses a policy or provider that
// cannot be right.
func New(cfg Config) (*SignIn, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch cfg.Policy.MFA {
	case "":
		cfg.Policy.MFA = MFAEnrolled
	case MFAEnrolled, MFARequired:
	default:
		return nil, errors.New("the policy for second factors must be enrolled or required")
	}
	s := &SignIn{cfg: cfg, store: cfg.Store, dir: cfg.Directory, guard: cfg.Guard, sealer: cfg.Sealer, names: cfg.Names,
		clock: cfg.Clock, log: cfg.Log, hashing: newHashing()}
	var err error
	if s.pages, err = newPages(); err != nil {
		return nil, err
	}
	if cfg.Provider != nil {
		if s.outside, err = newOutside(cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *SignIn) now() az.Micros { return az.MicrosOf(s.clock()) }

// Sessions lists who is signed in in the request's browser and still may be,
// newest first.
func (s *SignIn) Sessions(ctx context.Context, r *rest.Request) ([]Session, error) {
	cookie, ok := readCookie(r, sessionCookie)
	if !ok {
		return nil, nil
	}
	browser := s.hash(purposeSession, cookie)
	rows, err := s.store.SignInSessions(ctx, browser)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	if err := s.store.Confirm(ctx); err != nil {
		return nil, err
	}
	var out []Session
	stale := false
	for _, row := range rows {
		one, holds, err := s.holds(ctx, row)
		if err != nil {
			return nil, err
		}
		if holds {
			out = append(out, one)
			stale = stale || s.now()-row.Used > az.Micros(usedEvery.Microseconds())
		}
	}
	if stale {
		err = s.store.Write(ctx, func(tx *store.Tx) error { return tx.UseSignInSessions(browser) })
	}
	return out, err
}

// holds says whether a session's person may still be signed in by it.
func (s *SignIn) holds(ctx context.Context, row store.SignInSession) (Session, bool, error) {
	o, ok, err := s.dir.Get(ctx, row.User)
	if err != nil {
		return Session{}, false, err
	}
	if !ok || o.Kind != az.User || !o.Enabled || row.AuthTime < o.ValidFrom {
		return Session{}, false, nil
	}
	var b sessionBody
	if err := json.Unmarshal(row.Body, &b); err != nil {
		return Session{}, false, nil
	}
	return Session{ID: row.ID, User: row.User, AuthTime: row.AuthTime.Time(), AMR: b.AMR, Provider: b.Provider}, true, nil
}

// SignOut ends the sessions of one person, or with "" of everybody, in the
// request's browser. The header belongs into the reply.
func (s *SignIn) SignOut(ctx context.Context, r *rest.Request, user string) (ended []Session, header http.Header, err error) {
	header = http.Header{}
	cookie, ok := readCookie(r, sessionCookie)
	if !ok {
		return nil, header, nil
	}
	browser := s.hash(purposeSession, cookie)
	var gone []store.SignInSession
	left := 0
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		gone, left = nil, 0
		rows, err := tx.SignInSessions(browser)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if user != "" && row.User != user {
				left++
				continue
			}
			if _, err := tx.EndSignInSession(row.User, row.ID); err != nil {
				return err
			}
			if err := tx.EndTokensOfSession(row.ID); err != nil {
				return err
			}
			gone = append(gone, row)
		}
		return nil
	})
	if err != nil {
		return nil, header, err
	}
	for _, row := range gone {
		var b sessionBody
		_ = json.Unmarshal(row.Body, &b)
		ended = append(ended, Session{ID: row.ID, User: row.User, AuthTime: row.AuthTime.Time(), AMR: b.AMR, Provider: b.Provider})
		if err := s.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: s.principal(row.User, ""), Action: actionSignOut,
			Outcome: guard.Ended, Peer: peerOf(r.RemoteAddr)}); err != nil {
			return nil, header, err
		}
	}
	if left == 0 {
		dropCookie(header, sessionCookie)
	}
	// Whoever comes to this browser next finds no half-done sign-in either.
	s.newBrowser(r, header)
	return ended, header, nil
}
