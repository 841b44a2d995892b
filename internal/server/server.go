// Package server is where all parts of a plane meet: its configuration, the
// first start, hosts and listeners, lifetimes, and the files that tell clients
// where it is. It decides nothing itself. Open server.go first, then parts.go
// (what is made of what) and hosts.go (which host is which surface).
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// outsideTimeout bounds what the plane does on its own account.
const outsideTimeout = 10 * time.Second

// closeGrace is how long requests under way may go on when the plane stops.
const closeGrace = 5 * time.Second

// Server is a running plane.
type Server struct {
	cfg    Config
	names  az.Names
	tenant tenant
	store  *store.Store
	keys   *keyring
	parts  parts
	admin  az.Principal // who stands behind the local socket
	set    *metrics.Set
	began  time.Time
	id     string // the plane's id: one a data directory

	ca       *certAuthority
	azure    *azureNames  // nil unless cfg.AzureNames
	login    http.Handler // the authority's surface, for the front
	https    net.Listener
	runs     runTable
	replies  sync.Map          // reply → *counted
	listens  map[string]string // gateway → address
	socket   string            // the local socket's path
	run      context.Context   // ends when the plane stops
	stop     context.CancelFunc
	closers  []func(context.Context) // run in reverse
	work     sync.WaitGroup
	closing  sync.Once
	hostsOff string // why the hosts file is not kept, "" if it is
}

// Start starts a plane and returns when it serves.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, set: metrics.NewSet(), began: cfg.Clock(), listens: map[string]string{}}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.run, s.stop = run, stop
	if err := s.start(ctx, run); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx, run context.Context) error {
	if err := os.MkdirAll(s.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	dir, err := filepath.Abs(s.cfg.Data)
	if err != nil {
		return err
	}
	s.cfg.Data = dir
	if err := checkPrivate(dir); err != nil {
		return err
	}
	if s.https, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("cannot listen for HTTPS: %w; choose another address with --listen", err)
	}
	s.onClose(func(context.Context) { _ = s.https.Close() })
	if err := s.openState(ctx); err != nil {
		return err
	}
	if err := s.openParts(ctx, run); err != nil {
		return err
	}
	if err := s.firstStart(ctx); err != nil {
		return fmt.Errorf("cannot prepare the first start: %w", err)
	}
	if err := s.findAdmin(ctx); err != nil {
		return err
	}
	if err := s.listen(run); err != nil {
		return err
	}
	return s.announce(run)
}

// checkPrivate refuses a data directory that others may look into or that is
// another user's: it holds the local socket, which is the administrator's, and
// the KEK, and its owner can put links where the plane writes. An empty one,
// as mkdir makes it, is closed to others; one with anything in it might be no
// plane's at all, so its rights are left alone.
func checkPrivate(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // rights there are not in the mode
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if uid, ok := ownerOf(info); ok && uid != os.Geteuid() {
		return fmt.Errorf("the data directory %s belongs to another user (%d); run the plane as that user, or run chown -R on it", dir, uid)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	inside, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(inside) > 0 {
		return fmt.Errorf("the data directory %s can be read by other users; run chmod 700 on it", dir)
	}
	return os.Chmod(dir, 0o700)
}

// openState opens the store, the keys and the certificate authorities.
func (s *Server) openState(ctx context.Context) (err error) {
	s.store, err = store.Open(ctx, store.Config{URL: s.cfg.Store, Dir: s.cfg.Data, Clock: s.cfg.Clock, Log: s.cfg.Log})
	if err != nil {
		return err
	}
	s.onClose(func(context.Context) { _ = s.store.Close() })
	if s.keys, err = openKeyring(ctx, &s.cfg, s.store); err != nil {
		return err
	}
	if s.tenant, err = s.loadTenant(ctx); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.https.Addr().String())
	if err != nil {
		return err
	}
	s.names = s.tenant.names(&s.cfg, port)
	if s.id, err = planeID(s.cfg.Data); err != nil {
		return err
	}
	return s.openCAs(ctx)
}

// planeID names this plane in the audit log and in leases.
func planeID(dir string) (string, error) {
	path := filepath.Join(dir, "plane-id")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b = []byte(az.NewGUID())
		err = writeFileAtomic(path, b, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("cannot keep the plane's id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if !az.IsGUID(id) {
		return "", fmt.Errorf("the file %s does not hold a plane's id", path)
	}
	return id, nil
}

func (s *Server) openCAs(ctx context.Context) error {
	cert, key, err := loadCA(ctx, s.store, s.keys.sealer, metaRoot, func() ([]byte, []byte, error) {
		return newCA(s.tenant.Domain, s.cfg.Clock)
	})
	if err != nil {
		return err
	}
	if s.ca, err = openCA(cert, key, s.tenant.Domain, s.cfg.Clock); err != nil {
		return err
	}
	roots := [][]byte{cert}
	if s.cfg.AzureNames {
		cert, err := s.openAzureNames(ctx)
		if err != nil {
			return err
		}
		roots = append(roots, cert)
	}
	full, err := writeCAFiles(s.caFile(), s.caBundle(), "", roots...)
	if err == nil && !full {
		s.cfg.Log.Warn("server: no system roots were found, so the CA bundle holds this plane's certificate only")
	}
	return err
}

func (s *Server) openAzureNames(ctx context.Context) (cert []byte, err error) {
	for range 2 {
		cert, key, err := loadCA(ctx, s.store, s.keys.sealer, metaAzureCA, func() ([]byte, []byte, error) {
			return newAzureNamesCA(s.cfg.Clock)
		})
		if err != nil {
			return nil, err
		}
		s.azure, err = openAzureNames(cert, key, s.cfg.Clock)
		if !az.Is(err, az.Gone) {
			return cert, err
		}
		// Its list of names or its time ran out: the next round makes a new one.
		if err := s.store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteMeta(metaAzureCA) }); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the certificate authority for Azure's names cannot be made")
}

func (s *Server) caFile() string   { return filepath.Join(s.cfg.Data, "ca.pem") }
func (s *Server) caBundle() string { return filepath.Join(s.cfg.Data, "ca-bundle.pem") }

// URL is the base of the management surface.
func (s *Server) URL() string { return s.names.Origin(az.SurfaceManagement) }

// Plane is what plane.json says.
func (s *Server) Plane() client.Plane {
	n := s.names
	return client.Plane{
		PID: os.Getpid(), Socket: s.socket, Listen: s.https.Addr().String(), Domain: n.Domain, TenantID: n.Tenant,
		SubscriptionID: n.Subscription, ChallengeTenant: n.ChallengeTenant, Authority: n.Origin(az.SurfaceLogin),
		ResourceManager: n.Origin(az.SurfaceManagement), Graph: n.Origin(az.SurfaceGraph), Portal: n.Origin(az.SurfacePortal),
		Suffixes: suffixes(n), CAFile: s.caFile(), CABundle: s.caBundle(), AzureNames: s.cfg.AzureNames,
		Gateways: map[string]string{"pg": s.listens["pg"], "mysql": s.listens["mysql"], "tds": s.listens["tds"], "redis": s.listens["redis"]},
	}
}

// announce writes what clients on this machine look for.
func (s *Server) announce(run context.Context) error {
	if s.cfg.Hosts == "auto" {
		s.keepHosts(run)
	}
	return writePlaneFile(s.cfg.Data, s.Plane())
}

// Close stops the plane: no new requests, those under way may finish, then
// everything is closed in the reverse order of its start.
func (s *Server) Close() error {
	s.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		s.stop()
		for i := len(s.closers) - 1; i >= 0; i-- {
			s.closers[i](ctx)
		}
		s.work.Wait()
	})
	return nil
}

func (s *Server) onClose(fn func(context.Context)) { s.closers = append(s.closers, fn) }

// serve runs an HTTP server on a listener until Close.
func (s *Server) serve(srv *http.Server, l net.Listener, tls bool) {
	s.work.Go(func() {
		var err error
		if tls {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("server: a listener ended", "address", l.Addr().String(), "error", err)
		}
	})
	s.onClose(func(ctx context.Context) {
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	})
}
