package mysql_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/mysql"
)

// TestPromises: what every gateway promises, with go-sql-driver and a real
// MariaDB.
func TestPromises(t *testing.T) {
	s := server(t)
	gatewaytest.Run(t, gatewaytest.Protocol{
		Domain: domain, User: "app",
		Grant: gateway.Grant{Addr: s.Addr, User: "app", Password: az.NewSecret("app secret"), Database: "appdb"},
		New: func(c gatewaytest.Config) (gatewaytest.Gateway, error) {
			end := func(ctx context.Context, id az.ID, user string, thread uint64) error {
				return (&door{target: s}).terminate(ctx, id, user, thread)
			}
			return mysql.New(mysql.Config{Rules: c.Rules, TLS: c.TLS, Domain: c.Domain, Limits: c.Limits, Log: c.Log, Clock: c.Clock, Terminate: end})
		},
		Open: openPromised,
		Denied: func(err error) bool {
			var e *driver.MySQLError
			return errors.As(err, &e) && e.Number == 1045 && string(e.SQLState[:]) == "28000"
		},
		Secure: secure,
		Plain:  packet(1, response(loginFlags, "app", nil, "", "mysql_native_password")),
	})
}

// promised is a session of the driver.
type promised struct {
	db   *sql.DB
	conn *sql.Conn
}

func openPromised(ctx context.Context, at gatewaytest.At) (gatewaytest.Client, error) {
	c := driver.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName, c.AllowCleartextPasswords = "tcp", at.Addr, at.User, at.Token, "appdb", true
	c.TLS = &tls.Config{RootCAs: at.Roots, ServerName: at.Host}
	c.Logger = &driver.NopLogger{}
	c.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return at.Dial(ctx) }
	connector, err := driver.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return promised{db, conn}, nil
}

func (p promised) Ask(ctx context.Context) error {
	var n int
	return p.conn.QueryRowContext(ctx, "select 1").Scan(&n)
}

func (p promised) Sleep(ctx context.Context) error {
	var n int
	return p.conn.QueryRowContext(ctx, "select sleep(60)").Scan(&n)
}

func (p promised) Load(ctx context.Context, n int) error {
	rows, err := p.conn.QueryContext(ctx, fmt.Sprintf("select repeat('x', 65536) from seq_1_to_%d", n>>16+1))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row sql.RawBytes
		if err := rows.Scan(&row); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p promised) Close() error { return errors.Join(p.conn.Close(), p.db.Close()) }
