package server

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/run"
	"github.com/hawser/hawser/internal/site"
)

// imdsAddress is where every VM of Azure finds its metadata.
const imdsAddress = "169.254.169.254:80"

// runTable knows which processes are supervisors (hawser run) of which app:
// they say so on the local socket, whose peer the kernel names.
type runTable struct {
	file string     // where it is kept for the plane's next start; "" keeps nothing
	mu   sync.Mutex // guards apps
	apps map[int]supervisor
}

// supervisor is the app that a process runs, and when the process was born:
// its number alone may be another's by now.
type supervisor struct {
	app  az.ID
	born string
}

// note remembers the supervisor behind a local request. An error says that it
// is not kept beyond this plane's end.
func (t *runTable) note(pid int, app az.ID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := supervisor{app, born(pid)}
	if t.apps[pid] == now {
		return nil
	}
	if t.apps == nil {
		t.apps = map[int]supervisor{}
	}
	for old, s := range t.apps {
		if s.born == "" || born(old) != s.born {
			delete(t.apps, old)
		}
	}
	t.apps[pid] = now
	return t.save()
}

// of finds the app that a process is part of: that of the nearest supervisor
// among its ancestors. A supervisor is not part of its own app.
func (t *runTable) of(pid int) (app az.ID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	nearest := 0
	for candidate, s := range t.apps {
		if candidate == pid || !run.IsDescendant(pid, candidate) || born(candidate) != s.born {
			continue
		}
		if nearest == 0 || run.IsDescendant(candidate, nearest) {
			nearest = candidate
		}
	}
	s, ok := t.apps[nearest]
	return s.app, ok
}

type connKey struct{}

// listenIMDS serves the real metadata address where this process may bind it.
// A process gets the identity of the app it runs under; others get none.
func (s *Server) listenIMDS() {
	if s.cfg.IMDS != "auto" {
		s.listens["imds"] = "off"
		return
	}
	l, undo, err := listenLinkLocal(imdsAddress)
	if err != nil {
		s.listens["imds"] = "off: " + err.Error()
		s.cfg.Log.Info("server: the metadata address is not served; hawser run --identity imds does without", "reason", err.Error())
		return
	}
	s.listens["imds"] = imdsAddress
	s.onClose(func(context.Context) { undo() })
	h := run.IMDSHandler(s.imdsToken, run.IMDSOptions{Name: "hawser", Logger: s.cfg.Log, Clock: s.cfg.Clock})
	srv := s.httpServer(h)
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	s.serve(srv, l, false)
}

var errNoIdentity = az.Errorf(az.Invalid, "IdentityNotFound", "Identity not found")

func (s *Server) imdsToken(ctx context.Context, r client.TokenRequest) (client.Token, error) {
	conn, _ := ctx.Value(connKey{}).(net.Conn)
	if conn == nil {
		return client.Token{}, errNoIdentity
	}
	pid, err := run.PeerProcess(conn)
	if err != nil {
		return client.Token{}, errNoIdentity.Because(err)
	}
	app, ok := s.runs.of(pid)
	if !ok {
		return client.Token{}, errNoIdentity
	}
	if err := s.store.Confirm(ctx); err != nil {
		return client.Token{}, err
	}
	t, err := s.parts.sites.Token(ctx, s.admin, app, site.IdentitySelector{ClientID: r.ClientID, ObjectID: r.ObjectID, ResourceID: r.ResourceID}, r.Resource, false)
	if err != nil {
		return client.Token{}, err
	}
	return client.Token{AccessToken: t.AccessToken.Reveal(), ExpiresOn: t.ExpiresOn.Unix(), NotBefore: t.NotBefore.Unix(),
		RefreshOn: t.RefreshOn.Unix(), Resource: r.Resource, ClientID: t.ClientID, ObjectID: t.ObjectID, ResourceID: t.ResourceID.String()}, nil
}

// supervised notes who asks for an app's environment over the local socket.
func (s *Server) supervised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, ok := isLocal(r.Context()); ok && p.pid > 0 {
			if id, err := az.ParseID(r.URL.Path); err == nil && id.IsType("Microsoft.Web/sites/runtimeEnvironment") {
				if err := s.runs.note(p.pid, id.Parent()); err != nil {
					s.cfg.Log.Warn("server: which processes run apps could not be kept for the next start", "error", err)
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}
