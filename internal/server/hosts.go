package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// handler tells the surfaces apart by host: the plane's own names, Azure's
// names for the same, and this machine's addresses for management.
func (s *Server) handler() http.Handler {
	surfaces := map[az.Surface]http.Handler{}
	for kind, surface := range s.parts.surfaces() {
		surface.Log, surface.Clock = s.cfg.Log, s.cfg.Clock
		surface.Served = s.served
		if surface.Verify == nil {
			surface.Verify = s.verify
		}
		surfaces[kind] = surface.Handler()
		if kind == az.SurfaceManagement {
			surfaces[kind] = s.supervised(surfaces[kind])
		}
	}
	s.login = surfaces[az.SurfaceLogin]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := s.names.Classify(r.Host)
		if h.Surface == az.SurfaceNone {
			switch {
			case r.URL.Path == "/healthz":
				health(w, r)
				return
			case r.URL.Path == "/readyz":
				s.ready(w, r)
				return
			case s.isThisMachine(r.Host):
				h.Surface = az.SurfaceManagement
			}
		}
		if h.Surface == az.SurfaceSites {
			s.parts.front.ServeHTTP(w, r)
			return
		}
		if served, ok := surfaces[h.Surface]; ok {
			served.ServeHTTP(w, r)
			return
		}
		misdirected(w, s.cfg.Clock())
	})
}

// isThisMachine accepts addresses for what has no name of its own.
func (s *Server) isThisMachine(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return isLoopback(strings.Trim(host, "[]")) || strings.EqualFold(host, s.names.Domain)
}

// misdirected answers for hosts that this plane is not.
func misdirected(w http.ResponseWriter, now time.Time) {
	e := az.Errorf(az.NotFound, "HostNotFound", "This plane has no surface of that name; check the host of the address.")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusMisdirectedRequest)
	_, _ = w.Write(rest.ErrorBody(rest.FormARM, e, "", now))
}

// verify says who sent a request: the holder of a token, or, on the local
// socket and without one, the administrator.
func (s *Server) verify(ctx context.Context, r *http.Request, a rest.Audience) (az.Principal, error) {
	if _, local := isLocal(ctx); local && r.Header["Authorization"] == nil {
		if err := s.store.Confirm(ctx); err != nil {
			return az.Principal{}, err
		}
		return s.admin, nil
	}
	return s.parts.authority.VerifyRequest(ctx, r, a)
}

// keepHosts keeps the plane's names in the hosts file until the plane stops.
func (s *Server) keepHosts(run context.Context) {
	if err := s.updateHosts(run); err != nil {
		s.hostsOff = describeHostsFailure(err)
		s.cfg.Log.Info("server: " + s.hostsOff)
		return
	}
	again := make(chan struct{}, 1)
	s.store.Listen(func(changes []store.Change) {
		for _, c := range changes {
			if c.Topic == store.TopicReset || c.Topic == store.TopicResource && namedResource(c.Key) {
				select {
				case again <- struct{}{}:
				default:
				}
				return
			}
		}
	})
	s.work.Go(func() {
		for {
			select {
			case <-again:
				if err := s.updateHosts(run); err != nil && run.Err() == nil {
					s.cfg.Log.Warn("server: the hosts file could not be brought up to date", "error", err)
				}
			case <-run.Done():
				address, _, _ := net.SplitHostPort(s.https.Addr().String())
				if err := keepHosts(s.cfg.HostsFile, s.cfg.Data, address, nil); err != nil && !os.IsPermission(err) {
					s.cfg.Log.Warn("server: the plane's names could not be taken out of the hosts file", "error", err)
				}
				return
			}
		}
	})
}

// namedTypes are the resources that have host names.
var namedTypes = map[string]az.Surface{
	"Microsoft.KeyVault/vaults":                 az.SurfaceVault,
	"Microsoft.DBforPostgreSQL/flexibleServers": az.SurfacePostgres,
	"Microsoft.Web/sites":                       az.SurfaceSites,
	"Microsoft.Storage/storageAccounts":         az.SurfaceBlob,
	"Microsoft.DocumentDB/databaseAccounts":     az.SurfaceDocuments,
	"Microsoft.DBforMySQL/flexibleServers":      az.SurfaceMySQL,
	"Microsoft.Sql/servers":                     az.SurfaceSQL,
	"Microsoft.Cache/redis":                     az.SurfaceRedis,
}

func namedResource(key string) bool {
	for t := range namedTypes {
		if i := strings.Index(key, "/providers/"+strings.ToLower(t)+"/"); i >= 0 {
			return true
		}
	}
	return false
}

func (s *Server) updateHosts(ctx context.Context) error {
	names := []string{}
	for _, k := range []az.Surface{az.SurfaceLogin, az.SurfaceManagement, az.SurfaceGraph, az.SurfacePortal} {
		names = append(names, string(k)+"."+s.names.Domain)
	}
	if s.cfg.AzureNames {
		hosts, _ := az.AzureNames()
		names = append(names, hosts...)
	}
	for t, surface := range namedTypes {
		all, err := s.store.Resources(ctx, store.ResourceQuery{Type: t})
		if err != nil {
			return err
		}
		for _, r := range all {
			names = append(names, s.names.Of(surface, r.ID.Name()))
			if s.cfg.AzureNames {
				names = append(names, azureNamesOf(surface, r.ID.Name())...)
			}
		}
	}
	address, _, err := net.SplitHostPort(s.https.Addr().String())
	if err != nil {
		return err
	}
	if ip := net.ParseIP(address); ip == nil || ip.IsUnspecified() {
		address = "127.0.0.1"
	}
	return keepHosts(s.cfg.HostsFile, s.cfg.Data, address, names)
}

// azureNamesOf gives a resource's names in Azure's clouds.
func azureNamesOf(surface az.Surface, name string) []string {
	var out []string
	_, suffixes := az.AzureNames()
	for _, suffix := range suffixes {
		host := strings.ToLower(name) + "." + suffix
		if (az.Names{}).Classify(host).Surface == surface {
			out = append(out, host)
		}
	}
	return out
}
