package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser/hawser/internal/az"
)

const (
	// headerTimeout ends clients that send their headers drop by drop.
	headerTimeout = 10 * time.Second
	// requestTimeout bounds reading a whole request; bodies are at most 4 MiB.
	requestTimeout = 60 * time.Second
	// replyTimeout bounds a request from its headers to the end of the reply;
	// a long poll of an app's environment waits 30 s.
	replyTimeout = 90 * time.Second
	idleTimeout  = 120 * time.Second
	// maxHeader is ours: a token of 16 KiB and room beside it. Source: Azure's
	// front ends answer 431 above 32 KiB.
	maxHeader = 32 << 10
)

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: replyTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
}

// listen opens every listener.
func (s *Server) listen(run context.Context) error {
	h := s.handler()
	get := s.ca.getCertificate
	if s.azure != nil {
		get = s.azure.or(get)
	}
	srv := s.httpServer(h)
	srv.TLSConfig = tlsConfig(get, s.cfg.Clock, "h2", "http/1.1")
	srv.ConnContext = withPeer
	s.serve(srv, s.https, true)
	if err := s.listenLocal(h); err != nil {
		return err
	}
	if err := s.listenAdmin(); err != nil {
		return err
	}
	if err := s.listenGateways(run); err != nil {
		return err
	}
	s.listenIMDS()
	return nil
}

// maxSocketPath bounds a Unix socket's path. Source: sun_path has 104 bytes on
// BSD and macOS, 108 on Linux, the zero at the end included.
const maxSocketPath = 103

// socketPath is in the data directory; where that lies too deep for a socket, in
// a short directory of its own, which plane.json names.
func (s *Server) socketPath() (string, error) {
	s.socket = filepath.Join(s.cfg.Data, "hawser.sock")
	if len(s.socket) <= maxSocketPath {
		return s.socket, nil
	}
	dir, err := os.MkdirTemp("", "hawser-") // 0700
	if err != nil {
		return "", fmt.Errorf("cannot make a place for the local socket: %w", err)
	}
	s.onClose(func(context.Context) { _ = os.RemoveAll(dir) })
	s.socket = filepath.Join(dir, "hawser.sock")
	return s.socket, nil
}

// localKey marks connections of the local socket in a request's context.
type localKey struct{}

// localPeer is who is at the other end of the local socket.
type localPeer struct{ pid int }

// listenLocal serves the same surfaces on a Unix socket in the data directory.
// Whoever may connect is the plane's own user or root, and is the
// administrator; the kernel says so, no secret is needed.
func (s *Server) listenLocal(h http.Handler) error {
	s.runs.load(filepath.Join(s.cfg.Data, "runs.json"))
	path, err := s.socketPath()
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot replace the local socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("cannot listen on the local socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	srv := s.httpServer(h)
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		pid, err := ownPeer(c)
		if err != nil {
			s.cfg.Log.Warn("server: a stranger connected to the local socket", "error", err)
			return ctx
		}
		if app, supervised := s.runs.of(pid); supervised {
			// An app must not become the administrator, even where it runs as
			// the plane's own user: what reaches out by its hand may be a stranger's.
			s.cfg.Log.Warn("server: an app under hawser run connected to the local socket; it is nobody there", "app", app.Name())
			return ctx
		}
		return context.WithValue(ctx, localKey{}, localPeer{pid})
	}
	s.serve(srv, l, false)
	return nil
}

// listenAdmin serves metrics on loopback: what they tell is for operators.
func (s *Server) listenAdmin() error {
	l, err := net.Listen("tcp", s.cfg.Admin)
	if err != nil {
		return fmt.Errorf("cannot listen for metrics: %w; choose another address with --admin", err)
	}
	s.listens["admin"] = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		s.set.WritePrometheus(w)
		writeProcessMetrics(w)
	})
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("GET /readyz", s.ready)
	s.serve(s.httpServer(loopbackOnly(mux)), l, false)
	return nil
}

// loopbackOnly refuses requests with a foreign Host: a web page that rebinds
// its name to 127.0.0.1 must not read what is meant for this machine.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLoopback(host) {
			http.Error(w, "this address is for the machine itself", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte("ok\n"))
}

// ready is 200 when the store answers.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.store.Ping(r.Context()); err != nil {
		s.cfg.Log.Warn("server: not ready", "error", err)
		http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		return
	}
	health(w, r)
}

// gatewayTLS is the TLS of database gateways: the plane's leaf, without HTTP's
// protocols.
func (s *Server) gatewayTLS() *tls.Config { return tlsConfig(s.ca.getCertificate, s.cfg.Clock) }

// isLocal reports whether the request came over the local socket.
func isLocal(ctx context.Context) (localPeer, bool) {
	p, ok := ctx.Value(localKey{}).(localPeer)
	return p, ok
}

var errNotLocal = az.Errorf(az.Forbidden, "AuthorizationFailed",
	"This is answered only over the plane's local socket: run the command on the plane's machine with --data.")
