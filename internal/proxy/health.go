package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Limits of the health endpoints.
const (
	healthHeader = 8 << 10
	healthWait   = 5 * time.Second // for a request, and for reaching a server
	healthStop   = time.Second     // for answers under way at the end
)

// startHealth serves what orchestrators ask for.
func (s *standing) startHealth() (stop func(), err error) {
	if s.Health == "" {
		return func() {}, nil
	}
	host, _, err := net.SplitHostPort(s.Health)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %q: --health is host:port", s.Health)
	}
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	if s.QuitPath && !local {
		return nil, fmt.Errorf("cannot let %s end this: --quitquitquit wants --health on the loopback interface", s.Health)
	}
	l, err := net.Listen("tcp", s.Health)
	if err != nil {
		return nil, fmt.Errorf("cannot serve health at %s: %w", s.Health, err)
	}
	server := &http.Server{Handler: s.healthRoutes(), ReadHeaderTimeout: healthWait, ReadTimeout: healthWait, WriteTimeout: 2 * healthWait, MaxHeaderBytes: healthHeader,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, socketKey{}, c) }}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with stop
	s.Log.Info("health", "address", l.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), healthStop) // whoever asked for the end gets an answer
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-done
	}, nil
}

func (s *standing) healthRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /startup", func(w http.ResponseWriter, _ *http.Request) { say(w, s.is() != "", "starting") })
	mux.HandleFunc("GET /liveness", func(w http.ResponseWriter, _ *http.Request) { say(w, true, "") })
	mux.HandleFunc("GET /readiness", func(w http.ResponseWriter, r *http.Request) {
		err := s.ready(r.Context())
		say(w, err == nil, fmt.Sprint(err))
	})
	if s.QuitPath {
		once := sync.OnceFunc(func() { close(s.quit) })
		mux.HandleFunc("POST /quitquitquit", func(w http.ResponseWriter, r *http.Request) {
			if err := s.mayQuit(r); err != nil {
				s.Log.Warn("refused to end", "from", r.RemoteAddr, "reason", err)
				http.Error(w, "forbidden", http.StatusForbidden)
				return
			}
			say(w, true, "")
			once()
		})
	}
	return mux
}

// socketKey marks a request's connection in its context.
type socketKey struct{}

// mayQuit refuses those who may not end this: web pages, by whatever name of a
// host they come, and programs of other users.
func (s *standing) mayQuit(r *http.Request) error {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return errors.New("a web page asks for it")
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("it is asked for by another name than this machine's own")
	}
	c, _ := r.Context().Value(socketKey{}).(net.Conn)
	if admit := s.admit(); admit != nil {
		return admit(c)
	}
	return nil
}

func say(w http.ResponseWriter, ok bool, why string) {
	if !ok {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// ready reports why a new program would not be let in: no token is fetched for
// it.
func (s *standing) ready(ctx context.Context) error {
	if s.is() != "started" {
		return fmt.Errorf("not serving")
	}
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	for _, o := range s.doors {
		if s.Sessions > 0 && len(o.Sessions()) >= s.Sessions {
			return fmt.Errorf("%s has as many connections as it may", o.cfg.Name)
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", o.cfg.Addr)
		if err != nil {
			return fmt.Errorf("cannot reach %s", o.cfg.Name)
		}
		_ = c.Close()
	}
	return nil
}
