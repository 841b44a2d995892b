package authority

import (
	"context"
	"crypto/x509"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/signin"
	"github.com/hawser/hawser/internal/store"
)

// Config is what an authority is made of.
type Config struct {
	Store     *store.Store
	Directory *directory.Directory
	Guard     *guard.Guard
	Sealer    *seal.Sealer
	Names     az.Names
	Clock     az.Clock     // nil means the real one
	Log       *slog.Logger // nil discards
	Plane     string       // the plane's id, for leases; "" makes one

	// SignIn is how people prove who they are; nil lets only applications and
	// managed identities have tokens.
	SignIn *signin.SignIn
	// Password lets clients send a person's password themselves (RFC 6749
	// §4.3). It is off unless an operator needs it for what knows nothing else.
	Password bool

	// IdentityLife is the life of managed identities' tokens; 0 means
	// DefaultIdentityLife.
	IdentityLife time.Duration
	// RotateEvery is how long a signing key signs; 0 means DefaultRotateEvery.
	RotateEvery time.Duration
	// Workers is how many signatures are made at a time; 0 means GOMAXPROCS.
	Workers int
	// FederationRoots are the authorities trusted when the keys of outside
	// issuers are fetched; nil means the system's.
	FederationRoots *x509.CertPool
}

const (
	// DefaultIdentityLife is the life of managed identities' tokens.
	// Source: wire/managed-identity.md §10, "about 24 h".
	DefaultIdentityLife = 24 * time.Hour
	// maxIdentityLife bounds the setting: retired keys are kept this long.
	maxIdentityLife = 24 * time.Hour
	// appLifeMin and appLifeMax bound the life of applications' tokens, which
	// is drawn between them so that clients don't renew in step.
	// Source: wire/entra.md §2, 60 to 90 minutes.
	appLifeMin = 60 * time.Minute
	appLifeMax = 90 * time.Minute
	// skew is how far a stranger's clock may be off. Source: RFC 7519 §4.1.5
	// ("a few minutes"); Entra allows five.
	skew = 5 * time.Minute
)

// Authority issues and verifies. Its methods may be called concurrently.
type Authority struct {
	cfg       Config
	names     az.Names
	store     *store.Store
	dir       *directory.Directory
	guard     *guard.Guard
	clock     az.Clock
	log       *slog.Logger
	keys      *keyring
	signer    *signer
	verified  *tokenCache[verified]
	claimed   *tokenCache[claimed] // for VerifyFor
	issued    *issuedCache
	resources resourceTable
	issuers   map[string]bool
	failures  *throttle // of clients
	devices   *throttle // sign-ins that devices begin
	guesses   *throttle // codes that people type
	polls     *polls
	signin    *signin.SignIn // nil where people cannot sign in
	outside   *issuerCache

	stop context.CancelFunc
	done sync.WaitGroup // the rotation goroutine and the signer's workers; Close waits for them
}

// New makes an authority; Start makes it ready.
func New(cfg Config) *Authority {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Plane == "" {
		cfg.Plane = az.NewGUID()
	}
	if cfg.IdentityLife <= 0 || cfg.IdentityLife > maxIdentityLife {
		cfg.IdentityLife = DefaultIdentityLife
	}
	if cfg.RotateEvery <= 0 {
		cfg.RotateEvery = DefaultRotateEvery
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	a := &Authority{cfg: cfg, names: cfg.Names, store: cfg.Store, dir: cfg.Directory, guard: cfg.Guard, clock: cfg.Clock, log: cfg.Log}
	a.keys = newKeyring(a)
	a.signer = newSigner()
	a.verified, a.claimed = newTokenCache[verified](), newTokenCache[claimed]()
	a.issued = newIssuedCache()
	a.resources = newResourceTable(cfg.Names)
	a.issuers = a.acceptedIssuers()
	a.failures = newThrottle(cfg.Clock, maxFailures, maxPeerFailures)
	a.devices = newThrottle(cfg.Clock, maxDevices, maxDevices)
	a.guesses = newThrottle(cfg.Clock, maxGuesses, maxPeerGuesses)
	a.polls = newPolls()
	a.signin = cfg.SignIn
	a.outside = newIssuerCache(cfg.FederationRoots, cfg.Clock)
	cfg.Store.Listen(a.note)
	return a
}

// Start reads the signing keys, makes them at the plane's first start, and
// starts the signer's workers and the rotation, which Close stops.
func (a *Authority) Start(ctx context.Context) error {
	if err := a.keys.ensure(ctx); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	for range a.cfg.Workers {
		a.done.Go(func() { a.signer.work(run) })
	}
	a.done.Go(func() { a.keys.follow(run) })
	a.done.Go(func() { a.sweep(run) })
	return nil
}

// Close stops what Start started.
func (a *Authority) Close() {
	if a.stop != nil {
		a.stop()
	}
	a.done.Wait()
}

// note is the feed's listener.
func (a *Authority) note(changes []store.Change) {
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			a.keys.forget()
			a.issued.dropAll()
			a.verified.dropAll()
			a.claimed.dropAll()
		case store.TopicKeys:
			a.keys.forget()
			a.issued.dropAll()
			a.verified.dropAll()
			a.claimed.dropAll()
		case store.TopicObject, store.TopicAppRole: // of a principal: its roles are in its tokens
			a.issued.drop(c.Key)
		}
	}
}
