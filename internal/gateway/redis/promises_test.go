package redis_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/redis"
)

// TestPromises: what every gateway promises, with go-redis and a real Redis.
func TestPromises(t *testing.T) {
	real := dbtest.Redis(t)
	users(t, real.Addr, real.Password, real.TLS())
	gatewaytest.Run(t, gatewaytest.Protocol{
		Domain: domain, User: gatewaytest.App,
		Grant: gateway.Grant{Addr: real.Addr, TLS: real.TLS(), User: "hawser-" + appOID, Password: az.NewSecret(appPass)},
		New: func(c gatewaytest.Config) (gatewaytest.Gateway, error) {
			return redis.New(redis.Config{Rules: c.Rules, TLS: c.TLS, Domain: c.Domain, Limits: c.Limits, Log: c.Log, Clock: c.Clock})
		},
		Open:   openPromised,
		Denied: func(err error) bool { return strings.HasPrefix(err.Error(), "WRONGPASS ") },
		Secure: func(c net.Conn, conf *tls.Config) (net.Conn, error) {
			t := tls.Client(c, conf)
			return t, t.Handshake()
		},
		Plain: []byte("*2\r\n$4\r\nAUTH\r\n$3\r\nfoo\r\n"),
	})
}

// promised is one connection of go-redis.
type promised struct {
	*goredis.Conn
	pool *goredis.Client
}

func openPromised(ctx context.Context, at gatewaytest.At) (gatewaytest.Client, error) {
	var dialled atomic.Bool
	conf := &tls.Config{RootCAs: at.Roots, ServerName: at.Host, MinVersion: tls.VersionTLS12}
	pool := goredis.NewClient(&goredis.Options{Addr: at.Addr, Username: at.User, Password: at.Token, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		ReadTimeout: -1, ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errors.New("the session has ended")
			}
			c, err := at.Dial(ctx)
			if err != nil {
				return nil, err
			}
			s := tls.Client(c, conf)
			return s, s.HandshakeContext(ctx)
		}})
	p := promised{pool.Conn(), pool}
	if err := p.Ask(ctx); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

func (p promised) Ask(ctx context.Context) error { return p.Ping(ctx).Err() }

func (p promised) Sleep(ctx context.Context) error {
	err := p.BLPop(ctx, 0, "nobody pushes here").Err()
	return err
}

func (p promised) Load(ctx context.Context, n int) error {
	return p.Eval(ctx, "return string.rep('x', tonumber(ARGV[1]))", nil, n).Err()
}

func (p promised) Close() error {
	_ = p.Conn.Close()
	return p.pool.Close()
}
