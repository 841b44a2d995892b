package main

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
	"golang.org/x/sync/errgroup"

	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

const sqlResource = "https://database.windows.net"

// sqlOwner is the password of sa.
const sqlOwner = "only-a-benchmark-1"

// tdsPart measures the SQL Server gateway beside a TDS peer with TLS and
// beside HAProxy, which passes the client's TLS on to the peer. There is no
// SQL Server here: the peer answers the same to all, in this process, and does
// next to nothing, so that a door shows more than it would before a database.
func tdsPart(b *bench) error {
	sessions := envInt("BENCH_SESSIONS", 1000)
	straight, err := b.tdsPeer(tdstest.Options{Encryption: tdstest.Required})
	if err != nil {
		return err
	}
	behind, err := b.tdsPeer(tdstest.Options{Encryption: tdstest.NotSupported}) // the gateway's side of it
	if err != nil {
		return err
	}
	direct := dbDoor{name: "direct", addr: straight.Addr(), user: "sa", password: sqlOwner}
	ours, err := b.tdsGateway(behind)
	if err != nil {
		return err
	}
	peer, missing := b.haproxy(direct, "")
	doors := allDoors(ours, direct, peer)
	if err := b.idleAt(sessions, ours, peer, tdsOpen); err != nil {
		return err
	}
	for _, c := range copies {
		rs, err := b.inTurns(doors, func(d dbDoor) (result, error) { return b.tdsQueries(d, c.clients) })
		if err != nil {
			return err
		}
		b.against(fmt.Sprintf("select 1, TLS, %d clients", c.clients), "q/s", rs, c.target, missing)
	}
	return b.dbLogins(doors, "login and one query", tdsOpen, missing)
}

// tdsPeer starts a peer that ends with the part.
func (b *bench) tdsPeer(o tdstest.Options) (*tdstest.Server, error) {
	s, _, err := tdstest.NewCatalog(o, sqlOwner, "bench")
	if err == nil {
		b.after(s.Close)
	}
	return s, err
}

func (b *bench) tdsGateway(s *tdstest.Server) (dbDoor, error) {
	p, err := b.startPlane("plane")
	if err != nil {
		return dbDoor{}, err
	}
	u := url.URL{Scheme: "sqlserver", User: url.UserPassword("sa", sqlOwner), Host: s.Addr(), Path: "/bench", RawQuery: "sslmode=disable"}
	if err := p.each([]string{"attach", "sql1", u.String()}, []string{"app", "create", "web"},
		[]string{"connect", "web", "sql1", "--database", "bench", "--access", "read", "--name", "bench"}); err != nil {
		return dbDoor{}, err
	}
	token, err := p.cli("token", sqlResource, "--app", "web")
	return dbDoor{name: "ours", addr: p.about.Gateways["tds"], password: token, pid: p.server.pid()}, err
}

// tdsConnect logs in: with a token where no user is named.
func tdsConnect(ctx context.Context, d dbDoor) (sqldriver.Conn, error) {
	conf, err := msdsn.Parse("sqlserver://" + d.addr + "?database=bench&encrypt=true&trustservercertificate=true&dial+timeout=20")
	if err != nil {
		return nil, err
	}
	if d.user != "" {
		conf.User, conf.Password = d.user, d.password
		return mssql.NewConnectorConfig(conf).Connect(ctx)
	}
	connector, err := mssql.NewSecurityTokenConnector(conf, func(context.Context) (string, error) { return d.password, nil })
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

// tdsOpen logs in and asks once.
func tdsOpen(d dbDoor) (end func(), err error) {
	conn, err := tdsConnect(context.Background(), d)
	if err != nil {
		return nil, err
	}
	if err := tdsAsk(context.Background(), conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() { _ = conn.Close() }, nil
}

// tdsAsk is one batch, SELECT 1, there and back.
func tdsAsk(ctx context.Context, conn sqldriver.Conn) error { return conn.(sqldriver.Pinger).Ping(ctx) }

// tdsQueries returns batches a second; P50 and P99 in microseconds.
func (b *bench) tdsQueries(d dbDoor, clients int) (r result, err error) {
	conns := make([]sqldriver.Conn, clients)
	for i := range conns {
		if conns[i], err = tdsConnect(b.ctx, d); err != nil {
			return r, err
		}
		defer func() { _ = conns[i].Close() }()
	}
	took := make([][]float64, clients)
	began := time.Now()
	var g errgroup.Group
	for i, conn := range conns {
		g.Go(func() error {
			for at := time.Now(); at.Sub(began) < b.time && b.ctx.Err() == nil; {
				if err := tdsAsk(context.Background(), conn); err != nil {
					return err
				}
				now := time.Now()
				took[i] = append(took[i], float64(now.Sub(at).Nanoseconds())/1000)
				at = now
			}
			return nil
		})
	}
	err = g.Wait()
	all := slices.Concat(took...)
	return result{N: len(all), Rate: float64(len(all)) / time.Since(began).Seconds(), P50: quantile(all, 0.5), P99: quantile(all, 0.99)}, err
}
