package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// Front says whether and how the plane stands in front of the app.
type Front struct {
	// Auth switches built-in authentication on before the app starts.
	Auth   bool
	Action string // redirect, 401, 403 or allow; "" keeps what is set
	Scope  string // of the sign-in; "" keeps what is set
	// Port is where the app listens; 0 takes the app's own WEBSITES_PORT or
	// PORT setting, or a free port.
	Port int
	// Upstream is where the plane reaches the app; "" is this machine's loopback.
	Upstream string
}

// asked reports whether the caller wants a front, whatever the app's settings
// say.
func (f *Front) asked() bool { return f.Auth || f.Port != 0 || f.Upstream != "" }

func (f *Front) check() error {
	if f.Port < 0 || f.Port > 65535 {
		return fmt.Errorf("cannot run: --port is 1 to 65535, not %d", f.Port)
	}
	if !f.Auth && (f.Action != "" || f.Scope != "") {
		return errors.New("cannot run: --auth-action and --auth-scope belong to --auth")
	}
	if f.Upstream != "" {
		u, err := url.Parse(f.Upstream)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Port() == "" {
			return errors.New("cannot run: --upstream-address must be http://host:port or https://host:port, as the plane reaches the app")
		}
	}
	return nil
}

const (
	// announceEvery is how often the plane is told that the app is there. It
	// forgets one that was silent for 35 s.
	announceEvery = 10 * time.Second
	// announceTimeout bounds telling it.
	announceTimeout = 5 * time.Second
)

// front keeps an app known to the plane while it runs.
type front struct {
	s    *session
	say  client.Upstream
	port int
	stop context.CancelFunc
	done chan struct{}
}

// enableAuth does what --auth asks for and reads the environment again, to
// which it adds.
func (s *session) enableAuth(ctx context.Context) (*client.Environment, error) {
	_, err := s.Client.EnableAuth(ctx, s.siteID, client.AuthRequest{Action: s.Front.Action, Scope: s.Front.Scope})
	if err != nil {
		return nil, fmt.Errorf("cannot switch on authentication for %s: %w", s.Site, err)
	}
	return s.firstEnvironment(ctx)
}

// startFront announces the app if anybody is to reach it through the plane:
// when the caller asks for it, or when the app's authentication is on.
func (s *session) startFront(ctx context.Context, env *client.Environment) error {
	if !s.Front.asked() && variable(env, "WEBSITE_AUTH_ENABLED") != "True" {
		return nil
	}
	port, err := s.frontPort(env)
	if err != nil {
		return err
	}
	f := &front{s: s, port: port, done: make(chan struct{}),
		say: client.Upstream{ID: az.NewGUID(), Address: s.Front.Upstream, Machine: Machine()}}
	if f.say.Address == "" {
		if !s.Client.Local() {
			return errors.New("cannot announce the app: the plane is on another machine, which cannot reach this one's loopback; say where it reaches the app with --upstream-address https://host:port")
		}
		f.say.Address = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	at, err := f.announce(ctx)
	if err != nil {
		return fmt.Errorf("cannot announce the app to the plane: %w", err)
	}
	if s.extra.front == nil {
		s.extra.front = map[string]string{}
	}
	s.extra.front["PORT"], s.extra.front["WEBSITES_PORT"] = strconv.Itoa(port), strconv.Itoa(port)
	fmt.Fprintf(s.Stderr, "hawser: the app is at %s (it listens on 127.0.0.1:%d)\n", at.URL, port)
	if !at.Authentication {
		s.Logger.Warn("nobody has to sign in to this app: its authentication is off", "url", at.URL)
	}
	ctx, f.stop = context.WithCancel(ctx)
	go f.keep(ctx)
	s.closers = append(s.closers, f)
	return nil
}

// frontPort finds the port that the app is to listen on.
func (s *session) frontPort(env *client.Environment) (int, error) {
	if s.Front.Port != 0 {
		return s.Front.Port, nil
	}
	for _, name := range []string{"WEBSITES_PORT", "PORT"} {
		if n, err := strconv.Atoi(strings.TrimSpace(variable(env, name))); err == nil && n > 0 && n < 65536 {
			return n, nil
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("cannot find a free port for the app: %w; name one with --port", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func (f *front) announce(ctx context.Context) (client.Front, error) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	return f.s.Client.Announce(ctx, f.s.siteID, f.say)
}

// keep says again and again that the app is there, until Close.
func (f *front) keep(ctx context.Context) {
	defer close(f.done)
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, err := f.announce(ctx)
		switch {
		case err == nil:
			lost = false
		case ctx.Err() == nil && !lost:
			lost = true
			f.s.Logger.Warn("the plane was not told that the app is there; trying again", "error", err)
		}
	}
}

// Close takes the app out of the plane's list.
func (f *front) Close() error {
	f.stop()
	<-f.done
	f.say.Remove = true
	_, err := f.announce(context.Background())
	return err
}

func variable(env *client.Environment, name string) string {
	for _, v := range env.Variables {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

func hostName() string {
	name, _ := os.Hostname()
	return name
}
