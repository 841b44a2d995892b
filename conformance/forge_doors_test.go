package conformance

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/redis/go-redis/v9"
)

// The doors of the gateways, each tried with a token by its real driver. That
// the token is the subject here, the certificate is not looked at.

func (w *world) tryMySQL(db mysqlDatabase) func(string) (bool, string) {
	return func(token string) (bool, string) {
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		c := mysql.NewConfig()
		c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", w.env.Gateways["mysql"], db.role(), token, db.name
		c.TLS, c.AllowCleartextPasswords, c.Logger = &tls.Config{InsecureSkipVerify: true}, true, &mysql.NopLogger{}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			w.t.Fatal(err)
		}
		conn, err := connector.Connect(ctx)
		if err == nil {
			_ = conn.Close()
			return true, "connected"
		}
		var e *mysql.MySQLError
		if !errors.As(err, &e) || e.Number != 1045 {
			w.t.Errorf("the gateway did not refuse in MySQL's words: %v", err)
		}
		return false, err.Error()
	}
}

func (w *world) trySQL() func(string) (bool, string) {
	host, port, _ := strings.Cut(w.env.Gateways["tds"], ":")
	dsn := fmt.Sprintf("server=%s;port=%s;database=shop;encrypt=true;TrustServerCertificate=true;dial timeout=10", host, port)
	return func(token string) (bool, string) {
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		connector, err := mssql.NewAccessTokenConnector(dsn, func() (string, error) { return token, nil })
		if err != nil {
			w.t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		defer func() { _ = db.Close() }()
		if err = db.PingContext(ctx); err == nil {
			return true, "connected"
		}
		var e mssql.Error
		if !errors.As(err, &e) || e.Number != 18456 {
			w.t.Errorf("the gateway did not refuse in SQL Server's words: %v", err)
		}
		return false, err.Error()
	}
}

func (w *world) tryRedis() func(string) (bool, string) {
	return func(token string) (bool, string) {
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		c := redis.NewClient(&redis.Options{Addr: w.env.Gateways["redis"], Username: w.web.Identity.PrincipalID, Password: token,
			MaxRetries: -1, DisableIdentity: true, TLSConfig: &tls.Config{InsecureSkipVerify: true}})
		defer func() { _ = c.Close() }()
		err := c.Ping(ctx).Err()
		if err == nil {
			return true, "connected"
		}
		if !strings.HasPrefix(err.Error(), "WRONGPASS") {
			w.t.Errorf("the gateway did not refuse in Redis's words: %v", err)
		}
		return false, err.Error()
	}
}
