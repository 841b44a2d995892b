package server

import (
	"context"
	"fmt"
	"net"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/pg"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// listenGateways opens the doors to databases.
func (s *Server) listenGateways(run context.Context) error {
	if s.cfg.PG == "off" {
		return nil
	}
	l, err := net.Listen("tcp", s.cfg.PG)
	if err != nil {
		return fmt.Errorf("cannot listen for PostgreSQL clients: %w; choose another address with --pg, or --pg off", err)
	}
	s.listens["pg"] = l.Addr().String()
	g, err := pg.New(pg.Config{
		Rules:  gateway.Rules{Verify: s.verifyDatabaseToken, Authorize: s.authorizePostgres},
		TLS:    s.gatewayTLS(),
		Domain: s.names.Suffix(az.SurfacePostgres),
		OAuth: pg.OAuth{Discovery: s.names.Origin(az.SurfaceLogin) + "/" + s.names.Tenant + "/v2.0/.well-known/openid-configuration",
			Scope: "https://ossrdbms-aad.database.windows.net/.default"},
		Terminate: s.parts.connector.Terminate, Repair: s.parts.connector.Repair,
		Log: s.cfg.Log, Metrics: s.set, Clock: s.cfg.Clock,
	})
	if err != nil {
		_ = l.Close()
		return err
	}
	s.work.Go(func() {
		if err := g.Serve(l); err != nil && run.Err() == nil {
			s.cfg.Log.Error("server: the PostgreSQL gateway ended", "error", err)
		}
	})
	s.onClose(g.Shutdown)
	s.recheck(run, g)
	return nil
}

func (s *Server) verifyDatabaseToken(ctx context.Context, token az.Secret) (az.Principal, error) {
	return s.parts.authority.Verify(ctx, token.Reveal(), rest.PostgreSQL)
}

// authorizePostgres asks the connector, which decides through the guard, and
// gives the gateway what it needs to log in at the backend.
func (s *Server) authorizePostgres(ctx context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
	ctx = az.WithCorrelation(ctx, want.CorrelationID)
	ask := s.parts.connector.Authorize
	if want.Again {
		ask = s.parts.connector.Recheck
	}
	b, err := ask(ctx, who, want.Server, want.Database, want.User)
	if err != nil {
		return gateway.Grant{}, err
	}
	conf, err := pg.BackendTLS(b.TLS.Mode, b.TLS.Host, b.TLS.Roots)
	if err != nil {
		return gateway.Grant{}, err
	}
	g := gateway.Grant{Server: b.Server, Addr: b.Addr, TLS: conf, User: b.User, Password: b.Password, Database: b.Database,
		Record: func(ctx context.Context, e gateway.Event) { s.recordSession(ctx, b.Server, e) }}
	if b.Admin {
		g.Statement = func(ctx context.Context, sql string) (string, bool) {
			return s.parts.connector.Statement(az.WithCorrelation(ctx, want.CorrelationID), who, b, sql)
		}
	}
	return g, nil
}

// recordSession writes the start or end of a database session.
func (s *Server) recordSession(ctx context.Context, server az.ID, e gateway.Event) {
	ev := guard.Event{Kind: guard.EventSession, Caller: e.Session.Who, Action: guard.ActionPostgresLogin, Where: server.String(),
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
