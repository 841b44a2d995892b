package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/run"
)

// idleLook is how often a proxy that ends when idle looks whether it is.
const idleLook = 250 * time.Millisecond

// StandAlone is what hawser proxy was asked to do.
type StandAlone struct {
	URLs     []string
	Listen   []string // host:port for each URL in turn; "" and missing ones have the usual port
	Unix     []string // paths for each URL in turn, in place of a port
	User     string   // the role, where a URL names none
	AnyUser  bool     // not only this user of the machine
	CAFile   string   // trusted in place of the system's roots
	Health   string   // host:port; "" for none
	QuitPath bool     // POST /quitquitquit on Health ends it
	Idle     time.Duration
	Drain    time.Duration
	Sessions int // at once, at each database

	Credential azcore.TokenCredential
	Log        *slog.Logger
	Clock      az.Clock
	Ready      func(addresses []string) // called once, when every door is open
}

// standing is a running StandAlone.
type standing struct {
	StandAlone
	doors     []*opened
	listeners []net.Listener
	ended     sync.WaitGroup // Serve loops

	mu    sync.Mutex // guards both
	quit  chan struct{}
	state string // "", started or stopping
}

// Serve opens the doors and stays until ctx ends, until it has been idle for
// long enough, or until a door is lost.
func Serve(ctx context.Context, c StandAlone) error {
	s := &standing{StandAlone: c, quit: make(chan struct{})}
	defer s.close()
	addresses, err := s.open()
	if err != nil {
		return err
	}
	health, err := s.startHealth()
	if err != nil {
		return err
	}
	defer health()
	s.enter("started")
	if s.Ready != nil {
		s.Ready(addresses)
	}
	lost := make(chan error, len(s.doors))
	for i, o := range s.doors {
		s.ended.Go(func() { // ends with its listener
			if err := o.Serve(s.listeners[i]); err != nil && !errors.Is(err, net.ErrClosed) {
				lost <- fmt.Errorf("the port to %s was lost: %w", o.cfg.Name, err)
			}
		})
	}
	err = s.wait(ctx, lost)
	s.enter("stopping")
	s.drain()
	return err
}

// open opens every door.
func (s *standing) open() (addresses []string, err error) {
	roots, err := rootsOf(s.CAFile)
	if err != nil {
		return nil, err
	}
	if len(s.URLs) == 0 {
		return nil, errors.New("name a database: " + urlForms)
	}
	if len(s.Listen) > len(s.URLs) || len(s.Unix) > len(s.URLs) {
		return nil, errors.New("there are more addresses to listen at than databases: give one --listen or --unix for each URL, in their order")
	}
	for i, text := range s.URLs {
		up, err := ParseURL(text)
		if err != nil {
			return nil, err
		}
		up.Roots, up.User = roots, first(up.User, s.User)
		up.Token = sourceOf(s.Credential, up.audience(), s.Clock)
		l, err := s.listen(i, text)
		if err != nil {
			return nil, err
		}
		s.listeners = append(s.listeners, l)
		d, err := New(Config{Upstream: up, Admit: s.admit(), Stranger: "only the user who started hawser proxy may use this port (--any-user lets others in)",
			Limits: gateway.Limits{Sessions: s.Sessions}, Log: s.Log, Clock: s.Clock})
		if err != nil {
			return nil, err
		}
		s.doors = append(s.doors, &opened{Door: d})
		addresses = append(addresses, l.Addr().String())
		s.Log.Info("a port that asks for no password", "address", l.Addr().String(), "database", up.Name, "kind", up.Kind)
	}
	return addresses, nil
}

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("cannot use %s: it holds no certificate", file)
	}
	return pool, nil
}

// listen opens the i-th database's socket or port.
func (s *standing) listen(i int, text string) (net.Listener, error) {
	at := func(list []string) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	if path := at(s.Unix); path != "" {
		if s.AnyUser {
			return listenShared(path)
		}
		return listenPrivate(path)
	}
	up, err := ParseURL(text)
	if err != nil {
		return nil, err
	}
	addr := at(s.Listen)
	if addr == "" {
		addr = net.JoinHostPort("127.0.0.1", localPort(up.Kind))
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %q: give host:port", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && !s.AnyUser {
		return nil, fmt.Errorf("cannot listen at %s: whoever reaches that port has the database; --any-user says that this is meant", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for programs of %s: %w; choose another address with --listen", up.Name, err)
	}
	return l, nil
}

func localPort(k Kind) string {
	for _, s := range kindsOfSchemes {
		if s.kind == k {
			return s.local
		}
	}
	return "0"
}

// admit lets this user in and nobody else.
func (s *standing) admit() func(net.Conn) error {
	if s.AnyUser {
		return nil
	}
	me := uint32(os.Getuid())
	return func(c net.Conn) error {
		if _, ok := c.(*net.UnixConn); ok { // the socket's own mode keeps others out
			return nil
		}
		user, err := run.ClientUser(c)
		if err == nil && user != me {
			err = fmt.Errorf("user %d is not %d", user, me)
		}
		if err != nil {
			s.Log.Warn("refused a program of another user", "from", c.RemoteAddr().String(), "reason", err)
		}
		return err
	}
}

// wait returns when it is time to end.
func (s *standing) wait(ctx context.Context, lost <-chan error) error {
	tick := time.NewTicker(idleLook)
	defer tick.Stop()
	busy, came := s.Clock(), int64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-lost:
			return err
		case <-s.quit:
			return nil
		case <-tick.C:
		}
		if now := s.came(); now != came || s.inside() > 0 { // also those that left between two looks
			busy, came = s.Clock(), now
		}
		if s.Idle > 0 && s.Clock().Sub(busy) >= s.Idle {
			s.Log.Info("nobody was connected for long enough: ending", "idle", s.Idle)
			return nil
		}
	}
}

func (s *standing) sessions() (n int) {
	for _, o := range s.doors {
		n += len(o.Sessions())
	}
	return n
}

// inside is how many programs there are, those that log in with them.
func (s *standing) inside() int {
	n := s.sessions()
	for _, o := range s.doors {
		n += int(o.entering.Load())
	}
	return n
}

// came is how many programs there were so far.
func (s *standing) came() (n int64) {
	for _, o := range s.doors {
		n += o.Door.came.Load()
	}
	return n
}

// drain lets no more programs in and gives those that are there some time.
func (s *standing) drain() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.ended.Wait()
	for deadline := s.Clock().Add(s.Drain); s.inside() > 0 && s.Clock().Before(deadline); {
		time.Sleep(idleLook / 5)
	}
}

func (s *standing) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for _, o := range s.doors {
		o.close()
	}
}

func (s *standing) enter(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

func (s *standing) is() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
