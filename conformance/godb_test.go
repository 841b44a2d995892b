package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-sql-driver/mysql"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/azuread"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
)

// The Go clients of MySQL, SQL Server and Redis; see goclients_test.go.

const (
	sqlScope   = "https://database.windows.net/.default"
	redisScope = "https://redis.azure.com/.default"
)

// appRoots are the CAs that the app was told of: some drivers take no
// environment variable.
func appRoots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool, nil
}

// goMySQL: CREDENTIAL TABLE, as the tutorial.
func goMySQL(ctx context.Context, args []string) error {
	cred, err := goCredential(args[0])
	if err != nil {
		return err
	}
	config, err := mysql.ParseDSN(os.Getenv("AZURE_MYSQL_CONNECTIONSTRING"))
	if err != nil {
		return err
	}
	config.AllowCleartextPasswords = true
	err = config.Apply(mysql.BeforeConnect(func(ctx context.Context, c *mysql.Config) error {
		token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{pgScope}})
		c.Passwd = token.Token
		return err
	}))
	if err != nil {
		return err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	var user, database string
	if err := db.QueryRowContext(ctx, "select substring_index(current_user(), '@', 1), database()").Scan(&user, &database); err != nil {
		return err
	}
	say("who", user, database)
	for _, q := range [][2]string{{"select", "select * from " + args[1]}, {"insert", "insert into " + args[1] + " values (1)"},
		{"create", "create table made_by_the_app (a int)"}, {"become", "select * from mysql.user"}} {
		_, err := db.ExecContext(ctx, q[1])
		var e *mysql.MySQLError
		switch {
		case err == nil:
			say(q[0], "ok")
		case errors.As(err, &e):
			say(q[0], e.Number)
		default:
			return err
		}
	}
	return nil
}

// goSQL: FEDAUTH [PARAMETERS]. go-mssqldb's azuread driver with one of its
// ways of authentication.
func goSQL(ctx context.Context, args []string) error {
	// The connector wrote fedauth=ActiveDirectoryDefault; the last of two wins.
	dsn := os.Getenv("AZURE_SQL_CONNECTIONSTRING")
	dsn = strings.Replace(dsn, "fedauth=ActiveDirectoryDefault", "fedauth="+args[0], 1)
	for _, more := range args[1:] {
		dsn += ";" + os.ExpandEnv(more)
	}
	db, err := sql.Open(azuread.DriverName, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var login, database string
	err = db.QueryRowContext(ctx, "SELECT SUSER_SNAME() AS login, DB_NAME() AS db").Scan(&login, &database)
	var e mssql.Error
	switch {
	case errors.As(err, &e):
		say("refused", e.Number, e.State, e.Message)
		return nil
	case err != nil:
		return err
	}
	say("who", login, database)
	return nil
}

// renewing is what a go-redis credentials provider for Entra does: it hands out
// a token as the password of the principal's object id, and a new one before
// the old one ends.
type renewing struct {
	ctx   context.Context
	cred  azcore.TokenCredential
	every time.Duration
}

type credentials struct{ user, password string }

func (c credentials) BasicAuth() (string, string) { return c.user, c.password }
func (c credentials) RawCredentials() string      { return c.user + ":" + c.password }

func (t renewing) get() (auth.Credentials, error) {
	token, err := t.cred.GetToken(t.ctx, policy.TokenRequestOptions{Scopes: []string{redisScope}})
	if err != nil {
		return nil, err
	}
	var claims struct {
		Oid string `json:"oid"`
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token.Token, ".")[1])
	if err == nil {
		err = json.Unmarshal(body, &claims)
	}
	return credentials{claims.Oid, token.Token}, err
}

// Subscribe gives the first credentials and renews them until it is ended.
func (t renewing) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	first, err := t.get()
	ctx, stop := context.WithCancel(t.ctx)
	go func() { // ends with the subscription
		tick := time.NewTicker(t.every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if c, err := t.get(); err != nil {
					l.OnError(err)
				} else {
					l.OnNext(c)
				}
			}
		}
	}()
	return first, func() error { stop(); return nil }, err
}

func goRedisClient(ctx context.Context, cred string, every time.Duration) (*redis.Client, error) {
	c, err := goCredential(cred)
	if err != nil {
		return nil, err
	}
	roots, err := appRoots()
	if err != nil {
		return nil, err
	}
	port := os.Getenv("AZURE_REDIS_PORT")
	if port == "" {
		port = "6380"
	}
	return redis.NewClient(&redis.Options{Addr: os.Getenv("AZURE_REDIS_HOST") + ":" + port, MaxRetries: -1, PoolSize: 2,
		TLSConfig:                    &tls.Config{RootCAs: roots, ServerName: os.Getenv("AZURE_REDIS_HOST"), MinVersion: tls.VersionTLS12},
		StreamingCredentialsProvider: renewing{ctx, c, every}}), nil
}

// goRedis: CREDENTIAL.
func goRedis(ctx context.Context, args []string) error {
	client, err := goRedisClient(ctx, args[0], time.Minute)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	for _, q := range [][]any{{"get", "GET", "thing"}, {"set", "SET", "made", "1"}, {"flush", "FLUSHALL"}, {"become", "ACL", "LIST"}} {
		v, err := client.Do(ctx, q[1:]...).Result()
		var e redis.Error
		switch {
		case errors.Is(err, redis.Nil):
			say(fmt.Sprint(q[0]), "nothing")
		case errors.As(err, &e):
			code, _, _ := strings.Cut(e.Error(), " ")
			say(fmt.Sprint(q[0]), code)
		case err != nil:
			return err
		default:
			say(fmt.Sprint(q[0]), v)
		}
	}
	return nil
}
