package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/connector"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/mysql"
	"github.com/hawser/hawser/internal/gateway/pg"
	"github.com/hawser/hawser/internal/gateway/redis"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// door is a gateway as the server runs it.
type door interface {
	Serve(net.Listener) error
	Shutdown(context.Context)
	Forget(server az.ID)
}

// opening says how a door is opened.
type opening struct {
	name     string // of the flag, and in what the plane tells of itself
	what     string // for people
	addr     string // "" for the usual one
	usual    string
	audience rest.Audience
	kind     connector.Kind
	login    string // the action of a session, in the audit log
	open     func(gateway.Rules) (door, *gateway.Gate, error)
}

// openings are the doors to databases.
func (s *Server) openings() []opening {
	c := s.parts.connector
	return []opening{
		{name: "pg", what: "PostgreSQL", addr: s.cfg.PG, audience: rest.PostgreSQL, kind: connector.PostgreSQL, login: guard.ActionPostgresLogin,
			open: func(r gateway.Rules) (door, *gateway.Gate, error) {
				g, err := pg.New(pg.Config{Rules: r, TLS: s.gatewayTLS(), Domain: s.names.Suffix(az.SurfacePostgres),
					OAuth: pg.OAuth{Discovery: s.names.Origin(az.SurfaceLogin) + "/" + s.names.Tenant + "/v2.0/.well-known/openid-configuration",
						Scope: "https://ossrdbms-aad.database.windows.net/.default"},
					Terminate: c.Terminate, Repair: c.Repair, Log: s.cfg.Log, Metrics: s.set, Clock: s.cfg.Clock})
				if err != nil {
					return nil, nil, err
				}
				return g, g.Gate, nil
			}},
		{name: "mysql", what: "MySQL", addr: s.cfg.MySQL, usual: "127.0.0.1:13306", audience: rest.PostgreSQL, kind: connector.MySQL, login: guard.ActionMySQLLogin,
			open: func(r gateway.Rules) (door, *gateway.Gate, error) {
				g, err := mysql.New(mysql.Config{Rules: r, TLS: s.gatewayTLS(), Domain: s.names.Suffix(az.SurfaceMySQL),
					Terminate: c.Terminate, Repair: c.Repair, Log: s.cfg.Log, Metrics: s.set, Clock: s.cfg.Clock})
				if err != nil {
					return nil, nil, err
				}
				return g, g.Gate, nil
			}},
		{name: "tds", what: "SQL Server", addr: s.cfg.TDS, usual: "127.0.0.1:11433", audience: rest.SQL, kind: connector.SQLServer, login: guard.ActionSQLLogin,
			open: func(r gateway.Rules) (door, *gateway.Gate, error) {
				g, err := tds.New(tds.Config{Rules: r, TLS: s.gatewayTLS(), Domain: s.names.Suffix(az.SurfaceSQL),
					STSURL:    s.names.Origin(az.SurfaceLogin) + "/" + s.names.ChallengeTenant, // clients take the tenant from it
					Terminate: c.Terminate, Repair: c.Repair, Log: s.cfg.Log, Metrics: s.set, Clock: s.cfg.Clock})
				if err != nil {
					return nil, nil, err
				}
				return g, g.Gate, nil
			}},
		{name: "redis", what: "Redis", addr: s.cfg.Redis, usual: "127.0.0.1:16380", audience: rest.Redis, kind: connector.Redis, login: guard.ActionRedisLogin,
			open: func(r gateway.Rules) (door, *gateway.Gate, error) {
				g, err := redis.New(redis.Config{Rules: r, TLS: s.gatewayTLS(), Domain: s.names.Suffix(az.SurfaceRedis),
					Terminate: c.Terminate, Repair: c.Repair, Log: s.cfg.Log, Metrics: s.set, Clock: s.cfg.Clock})
				if err != nil {
					return nil, nil, err
				}
				return g, g.Gate, nil
			}},
	}
}

// listenGateways opens the doors to databases.
func (s *Server) listenGateways(run context.Context) error {
	for _, o := range s.openings() {
		if o.addr == "off" {
			continue
		}
		if err := s.openDoor(run, o); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) openDoor(run context.Context, o opening) error {
	l, err := s.listenDoor(o)
	if err != nil {
		return fmt.Errorf("cannot listen for %s clients: %w; choose another address with --%s, or --%s off", o.what, err, o.name, o.name)
	}
	s.listens[o.name] = l.Addr().String()
	ask := s.authorizer(o)
	d, gate, err := o.open(gateway.Rules{Verify: s.verifier(o.audience), Authorize: ask})
	if err != nil {
		_ = l.Close()
		return err
	}
	s.work.Go(func() {
		if err := d.Serve(l); err != nil && run.Err() == nil {
			s.cfg.Log.Error("server: a gateway ended", "gateway", o.name, "error", err)
		}
	})
	s.onClose(d.Shutdown)
	s.forget(o.kind, d)
	s.recheck(run, gate, ask)
	return nil
}

// forget has a door drop what it keeps of a server that was changed or deleted:
// connections that wait for their next login, and where its nodes are.
func (s *Server) forget(kind connector.Kind, d door) {
	s.store.Listen(func(changes []store.Change) {
		for _, c := range changes {
			if c.Topic != store.TopicResource {
				continue
			}
			if id, err := az.ParseID(c.Key); err == nil && id.IsType(string(kind)) {
				d.Forget(id)
			}
		}
	})
}

// listenDoor takes a free port where the usual one is taken: two planes on one
// machine are no reason not to start.
func (s *Server) listenDoor(o opening) (net.Listener, error) {
	if o.addr != "" {
		return net.Listen("tcp", o.addr)
	}
	l, err := net.Listen("tcp", o.usual)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
		s.cfg.Log.Warn("server: the usual address of a gateway is taken; it listens on a free port", "gateway", o.name, "usual", o.usual, "address", l.Addr().String())
	}
	return l, err
}

func (s *Server) verifier(audience rest.Audience) gateway.Verify {
	return func(ctx context.Context, token az.Secret) (az.Principal, error) {
		return s.parts.authority.Verify(ctx, token.Reveal(), audience)
	}
}

// authorizer asks the connector, which decides through the guard, and gives
// the gateway what it needs to log in at the backend.
func (s *Server) authorizer(o opening) gateway.Authorize {
	return func(ctx context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
		ctx = az.WithCorrelation(ctx, want.CorrelationID)
		ask := s.parts.connector.Authorize
		if want.Again {
			ask = s.parts.connector.Recheck
		}
		b, err := ask(ctx, who, connector.Login{Kind: o.kind, Server: want.Server, Database: want.Database, User: want.User})
		if err != nil {
			return gateway.Grant{}, err
		}
		conf, err := gateway.BackendTLS(b.TLS.Mode, b.TLS.Host, b.TLS.Roots)
		if err != nil {
			return gateway.Grant{}, err
		}
		if conf != nil && b.TLS.Strict {
			conf.NextProtos = []string{"tds/8.0"}
		}
		g := gateway.Grant{Server: b.Server, Addr: b.Addr, TLS: conf, User: b.User, Password: b.Password, Database: b.Database, Unproved: b.Unproved,
			Record: func(ctx context.Context, e gateway.Event) { s.recordSession(ctx, o.login, b.Server, e) }}
		if b.Admin {
			g.Statement = func(ctx context.Context, sql string) (string, bool) {
				return s.parts.connector.Statement(az.WithCorrelation(ctx, want.CorrelationID), who, b, sql)
			}
		}
		return g, nil
	}
}

// recordSession writes the start or end of a database session.
func (s *Server) recordSession(ctx context.Context, action string, server az.ID, e gateway.Event) {
	ev := guard.Event{Kind: guard.EventSession, Caller: e.Session.Who, Action: action, Where: server.String(),
		Outcome: guard.Allowed, Correlation: e.Session.Target.CorrelationID,
		Detail: fmt.Sprintf("database=%s role=%s", e.Session.Grant.Database, e.Session.Grant.User)}
	if e.Session.Target.Peer != nil {
		ev.Peer = e.Session.Target.Peer.String()
	}
	if e.Ended {
		ev.Outcome, ev.Reason = guard.Ended, string(e.Reason)
		ev.Detail += fmt.Sprintf(" seconds=%.3f sent=%d received=%d", e.Duration.Seconds(), e.Sent, e.Received)
	}
	if err := s.parts.guard.Record(ctx, ev); err != nil {
		s.cfg.Log.Error("server: a database session could not be recorded", "error", err)
	}
}
