package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// OnChange says what happens to the app when its environment changes.
type OnChange string

// What a change does: a new process with the complete new environment, SIGHUP
// to the running one, or nothing.
const (
	Restart OnChange = "restart"
	Signal  OnChange = "signal"
	None    OnChange = "none"
)

// Dialect is the form of the identity endpoint the app is shown.
type Dialect string

// The dialects, as managed-identity clients tell them apart.
const (
	AppService Dialect = "app-service" // 2019-08-01 and 2017-09-01, both always
	IMDS       Dialect = "imds"
	Arc        Dialect = "arc"
	CloudShell Dialect = "cloud-shell"
)

// ProxyMode says whether the app gets the loopback CONNECT proxy.
type ProxyMode string

// The proxy is there when the plane's names do not resolve (auto), always, or
// never. Azure's names need it, so with them off is an error.
const (
	ProxyAuto ProxyMode = "auto"
	ProxyOn   ProxyMode = "on"
	ProxyOff  ProxyMode = "off"
)

// Exit statuses of a shell, which Run uses for a program it cannot start.
const (
	exitFailed        = 1
	exitUsage         = 2 // a setting of the run itself is wrong
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

const (
	defaultGrace = 10 * time.Second
	startWait    = 10 * time.Second // for a plane that is just being restarted
)

// Config is what Run needs. Client, Site and Argv must be set.
type Config struct {
	Client     *client.Client
	Site       string   // an app's name or its ARM id
	Argv       []string // the program and its arguments
	OnChange   OnChange // default Restart
	Grace      time.Duration
	Identity   Dialect // default AppService
	ArcDir     string  // where Arc clients look for key files; default as Azure's agent has it
	AzureNames bool    // send Azure's own host names to the plane
	Proxy      ProxyMode
	Front      Front  // how the plane stands in front of the app
	Doors      Doors  // further ways in for the app; nil for none
	Limits     Limits // of the identity endpoint; zero fields have defaults
	Logger     *slog.Logger
	Clock      az.Clock

	Stdin, Stdout, Stderr *os.File // default: this process's own
	Environ               []string // the parent's environment; default os.Environ()

	// Ended is closed when this process is told to end. It counts only until
	// there is a program that signals can be passed on to; nil never ends.
	Ended <-chan struct{}

	// SharedProcess is set when this process has other children than the app,
	// as a test has. Run then adopts no orphans of the app: a process whose
	// parent died is no longer known as the app's.
	SharedProcess bool
}

func (c *Config) fill() error {
	if c.Client == nil || c.Site == "" {
		return errors.New("cannot run: no plane or no app named")
	}
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return errors.New("cannot run: no program named; write it after --")
	}
	set(&c.OnChange, Restart)
	set(&c.Identity, AppService)
	set(&c.Proxy, ProxyAuto)
	set(&c.Grace, defaultGrace)
	set(&c.ArcDir, arcDir())
	set(&c.Stdin, os.Stdin)
	set(&c.Stdout, os.Stdout)
	set(&c.Stderr, os.Stderr)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Environ == nil {
		c.Environ = os.Environ()
	}
	c.Limits.fill()
	return c.check()
}

// check refuses settings that cannot be, or would not be safe.
func (c *Config) check() error {
	switch c.OnChange {
	case Restart, Signal, None:
	default:
		return fmt.Errorf("cannot run: --on-change is restart, signal or none, not %q", c.OnChange)
	}
	switch c.Identity {
	case AppService, Arc:
	case IMDS, CloudShell:
		if !peersKnown {
			return fmt.Errorf("cannot run: the %s form has no secret, and this system cannot tell who asks; use app-service", c.Identity)
		}
	default:
		return fmt.Errorf("cannot run: the identity form is app-service, imds, arc or cloud-shell, not %q", c.Identity)
	}
	if c.AzureNames && c.Proxy == ProxyOff {
		return errors.New("cannot run: Azure's names need the loopback proxy, which is switched off")
	}
	return c.Front.check()
}

func set[T comparable](to *T, v T) {
	var zero T
	if *to == zero {
		*to = v
	}
}

// session is one call of Run: what its parts share.
type session struct {
	Config
	siteID  string
	plane   client.Plane
	child   *tree // who may use the loopback listeners
	cache   *cache
	extra   extras
	doors   atomic.Pointer[[]Variables]
	closers []io.Closer
	tempDir string
}

// Run starts the app and stays until it has ended; the app's exit status is
// returned, 128+n if signal n ended it. An error means that the app could not
// be started at all; the status then is a shell's.
func Run(ctx context.Context, cfg Config) (int, error) {
	if err := cfg.fill(); err != nil {
		return exitUsage, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{Config: cfg, siteID: cfg.Client.SiteID(cfg.Site), plane: cfg.Client.Plane(), child: newTree(cfg.SharedProcess)}
	defer s.close()
	resolves := s.namesResolve(ctx) // runs beside the next request
	env, err := s.firstEnvironment(ctx)
	if err == nil && s.Front.Auth {
		env, err = s.enableAuth(ctx)
	}
	if err != nil {
		return exitFailed, err
	}
	s.cache = newCache(ctx, cfg.Clock, cfg.Limits, func(ctx context.Context, r client.TokenRequest) (client.Token, error) {
		return cfg.Client.RuntimeToken(ctx, s.siteID, r)
	}, cfg.Logger)
	s.closers = append(s.closers, s.cache)
	if err := s.listen(<-resolves); err != nil {
		return exitFailed, err
	}
	if err := s.startFront(ctx, env); err != nil {
		return exitFailed, err
	}
	if err := s.openDoors(ctx, env); err != nil {
		return exitFailed, err
	}
	s.warn(env)
	return s.supervise(ctx, env)
}

// listen opens the loopback listeners and writes the files the child is
// pointed to.
func (s *session) listen(resolves bool) error {
	id, err := startIdentity(s)
	if err != nil {
		return fmt.Errorf("cannot open the identity endpoint: %w", err)
	}
	s.closers = append(s.closers, id)
	s.extra.identity = id.environment()
	if s.Proxy == ProxyOff || (!s.AzureNames && s.Proxy == ProxyAuto && resolves) {
		return s.trust(nil)
	}
	p, err := startProxy(s, http.ProxyFromEnvironment)
	if err != nil {
		return fmt.Errorf("cannot open the loopback proxy: %w", err)
	}
	s.closers = append(s.closers, p)
	s.extra.proxy = p.address()
	return s.trust(p.caPEM())
}

// firstEnvironment asks for the environment, waiting a little for a plane
// that is not there yet. A refusal is final.
func (s *session) firstEnvironment(ctx context.Context) (*client.Environment, error) {
	var b backoff
	deadline := s.Clock().Add(startWait)
	for {
		env, err := s.Client.RuntimeEnvironment(ctx, s.siteID, "", 0)
		if err == nil {
			return env, nil
		}
		var refused *client.Error
		if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests ||
			ctx.Err() != nil || s.Clock().After(deadline) {
			return nil, fmt.Errorf("cannot read the environment of %s: %w", s.Site, err)
		}
		if b.n == 0 {
			s.Logger.Warn("waiting for the plane", "error", err)
		}
		sleep(ctx, b.next())
	}
}

// warn names every reference that did not resolve: its variable holds the
// literal text, as on App Service, and the app will not know.
func (s *session) warn(env *client.Environment) {
	for _, r := range env.References {
		if r.Status != "Resolved" {
			s.Logger.Warn("Key Vault reference not resolved: the app sees the literal text",
				"setting", r.Name, "status", r.Status, "reason", r.Details)
		}
	}
}

// tempFile writes a public file into this run's own directory, which is made
// at the first call and removed at the end. Others may read it by name (the
// app may have changed its user) but not write or list.
func (s *session) tempFile(name string, content []byte) (string, error) {
	if s.tempDir == "" {
		dir, err := os.MkdirTemp("", "hawser-run-")
		if err != nil {
			return "", fmt.Errorf("cannot make a directory for certificates: %w", err)
		}
		s.tempDir = dir
		if err := os.Chmod(dir, 0o711); err != nil {
			return "", fmt.Errorf("cannot make a directory for certificates: %w", err)
		}
	}
	path := filepath.Join(s.tempDir, name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return "", fmt.Errorf("cannot write the certificates: %w", err)
	}
	return path, nil
}

func (s *session) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		_ = s.closers[i].Close()
	}
	if s.tempDir != "" {
		_ = os.RemoveAll(s.tempDir)
	}
}

// proxyFunc finds the proxy of the world outside for a request, as
// http.ProxyFromEnvironment does.
type proxyFunc func(*http.Request) (*url.URL, error)
