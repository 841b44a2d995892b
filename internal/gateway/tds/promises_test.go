package tds_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// TestPromises: what every gateway promises, with go-mssqldb and a TDS peer.
func TestPromises(t *testing.T) {
	server := tdstest.Start(t, tdstest.Options{Databases: []string{"appdb"}, Lenient: true}) // drivers that are cut off leave packets unfinished
	server.SetLogin(tdstest.Login{Name: "app", Password: secret})
	gatewaytest.Run(t, gatewaytest.Protocol{
		Domain: domain,
		Grant:  gateway.Grant{Addr: server.Addr(), TLS: server.ClientTLS(), User: "app", Password: az.NewSecret(secret), Database: "appdb"},
		New: func(c gatewaytest.Config) (gatewaytest.Gateway, error) {
			return tds.New(tds.Config{Rules: c.Rules, TLS: c.TLS, Domain: c.Domain, Limits: c.Limits, Log: c.Log, Clock: c.Clock, STSURL: stsURL})
		},
		Open:   openPromised,
		Denied: func(err error) bool { return number(err) == 18456 },
		Secure: secure,
		Plain:  packet(18, 1, plainHello(1)),
	})
}

// packet is one packet.
func packet(kind, status byte, data []byte) []byte {
	return append(append(binary.BigEndian.AppendUint16([]byte{kind, status}, uint16(len(data)+8)), 0, 0, 1, 0), data...)
}

// plainHello is a PRELOGIN with VERSION and ENCRYPTION.
func plainHello(encryption byte) []byte {
	return []byte{0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 1, 2, 3, 4, 5, 6, encryption}
}

// inPackets is a client's side of TLS in PRELOGIN packets.
type inPackets struct {
	net.Conn
	left int
	over bool
}

func (c *inPackets) Read(p []byte) (int, error) {
	for !c.over && c.left == 0 {
		var h [8]byte
		if _, err := io.ReadFull(c.Conn, h[:]); err != nil {
			return 0, err
		}
		c.left = int(binary.BigEndian.Uint16(h[2:])) - 8
	}
	if c.over {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *inPackets) Write(p []byte) (int, error) {
	if c.over {
		return c.Conn.Write(p)
	}
	_, err := c.Conn.Write(packet(18, 1, p))
	return len(p), err
}

// secure does a PRELOGIN and TLS within.
func secure(c net.Conn, conf *tls.Config) (net.Conn, error) {
	if _, err := c.Write(packet(18, 1, plainHello(1))); err != nil {
		return nil, err
	}
	if _, err := readPacket(c); err != nil {
		return nil, err
	}
	in := &inPackets{Conn: c}
	t := tls.Client(in, conf)
	err := t.Handshake()
	in.over = true
	return t, err
}

func readPacket(r io.Reader) ([]byte, error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	b := make([]byte, int(binary.BigEndian.Uint16(h[2:]))-8)
	_, err := io.ReadFull(r, b)
	return b, err
}

// promised is a go-mssqldb session.
type promised struct {
	db *sql.DB
	*sql.Conn
}

func openPromised(ctx context.Context, at gatewaytest.At) (gatewaytest.Client, error) {
	conf, err := msdsn.Parse(fmt.Sprintf("sqlserver://%s?database=appdb&encrypt=true&dial+timeout=20", at.Addr))
	if err != nil {
		return nil, err
	}
	conf.TLSConfig = &tls.Config{RootCAs: at.Roots, ServerName: at.Host, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	c, err := mssql.NewSecurityTokenConnector(conf, func(context.Context) (string, error) { return at.Token, nil })
	if err != nil {
		return nil, err
	}
	c.Dialer = how{dial: at.Dial}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return promised{db, conn}, nil
}

func (p promised) Ask(ctx context.Context) error {
	var n int
	return p.QueryRowContext(ctx, "select 1").Scan(&n)
}

func (p promised) Sleep(ctx context.Context) error {
	_, err := p.ExecContext(ctx, "WAITFOR DELAY '00:01:00'")
	return err
}

func (p promised) Load(ctx context.Context, n int) error {
	rows, err := p.QueryContext(ctx, fmt.Sprintf("SELECT value, REPLICATE('x', 4000) FROM GENERATE_SERIES(1, %d)", n/8000+1))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var raw, text sql.RawBytes
		if err := rows.Scan(&raw, &text); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p promised) Close() error {
	_ = p.Conn.Close()
	return p.db.Close()
}
