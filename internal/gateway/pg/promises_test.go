package pg_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/pg"
)

// TestPromises: what every gateway promises, with pgx and a real PostgreSQL.
func TestPromises(t *testing.T) {
	gatewaytest.Run(t, gatewaytest.Protocol{
		Domain: domain, User: "app",
		Grant: gateway.Grant{Addr: server.Addr(), User: "app", Password: az.NewSecret("app secret"), Database: "appdb"},
		New: func(c gatewaytest.Config) (gatewaytest.Gateway, error) {
			return pg.New(pg.Config{Rules: c.Rules, TLS: c.TLS, Domain: c.Domain, Limits: c.Limits, Log: c.Log, Clock: c.Clock})
		},
		Open: openPromised,
		Denied: func(err error) bool {
			var e *pgconn.PgError
			return errors.As(err, &e) && strings.HasPrefix(e.Code, "28")
		},
		Secure: func(c net.Conn, conf *tls.Config) (net.Conn, error) {
			if _, err := c.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)); err != nil { // SSLRequest
				return nil, err
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				return nil, err
			}
			t := tls.Client(c, conf)
			return t, t.Handshake()
		},
		Plain: append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 18}, 3<<16), "user\x00app\x00\x00"...),
	})
}

// promised is a pgx session.
type promised struct{ *pgx.Conn }

func openPromised(ctx context.Context, at gatewaytest.At) (gatewaytest.Client, error) {
	conf, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@%s/appdb?sslmode=require", at.User, at.Addr))
	if err != nil {
		return nil, err
	}
	conf.Password, conf.TLSConfig, conf.Fallbacks = at.Token, &tls.Config{RootCAs: at.Roots, ServerName: at.Host}, nil
	conf.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return at.Dial(ctx) }
	c, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	return promised{c}, nil
}

func (p promised) Ask(ctx context.Context) error {
	var n int
	return p.QueryRow(ctx, "select 1").Scan(&n)
}

func (p promised) Sleep(ctx context.Context) error {
	_, err := p.Exec(ctx, "select pg_sleep(60)")
	return err
}

func (p promised) Load(ctx context.Context, n int) error {
	_, err := p.PgConn().Exec(ctx, fmt.Sprintf("select repeat('x', 65536) from generate_series(1, %d)", n>>16+1)).ReadAll()
	return err
}

func (p promised) Close() error { return p.Conn.Close(context.Background()) }
