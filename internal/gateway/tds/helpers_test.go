package tds_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// dialer reaches the gateway whatever the driver thinks its name is.
func (d *door) dialer() func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var n net.Dialer
		return n.DialContext(ctx, "tcp", d.addr)
	}
}

// raw opens a connection without a client.
func (d *door) raw(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// secured opens a connection under TLS without a client.
func (d *door) secured(t testing.TB, hello []byte) net.Conn {
	t.Helper()
	c := d.raw(t)
	_, _ = c.Write(packet(18, 1, hello))
	if _, err := readPacket(c); err != nil {
		t.Fatal(err)
	}
	in := &inPackets{Conn: c}
	s := tls.Client(in, &tls.Config{RootCAs: d.pool, ServerName: "s1." + domain})
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	in.over = true
	return s
}

// byPassword logs in with go-mssqldb as to a server with SQL logins.
func (d *door) byPassword(t testing.TB, user, password string) error {
	t.Helper()
	conf, err := msdsn.Parse(fmt.Sprintf("server=127.0.0.1;port=%s;database=appdb;encrypt=true;certificate=%s;hostnameincertificate=s1.%s;dial timeout=10", d.port, d.ca, domain))
	if err != nil {
		t.Fatal(err)
	}
	conf.User, conf.Password = user, password
	db := sql.OpenDB(mssql.NewConnectorConfig(conf))
	defer db.Close()
	return db.PingContext(background(t))
}

// repairer sets the login as the grant has it, or only says so.
func (d *door) repairer(times *atomic.Int64, honest bool) func(context.Context, az.ID, string) error {
	return func(_ context.Context, server az.ID, user string) error {
		times.Add(1)
		if !server.Equal(serverID) {
			return fmt.Errorf("repair of %s", server)
		}
		if honest {
			d.sql.SetLogin(tdstest.Login{Name: user, Password: secret})
		}
		return nil
	}
}

// text16 shows UTF-16 among other bytes.
func text16(b []byte) string {
	var out []uint16
	for i := 0; i+1 < len(b); i++ {
		if u := binary.LittleEndian.Uint16(b[i:]); u >= 32 && u < 127 {
			out = append(out, u)
			i++
		}
	}
	return string(utf16.Decode(out))
}

// encryptionAt is where ENCRYPTION stands in a PRELOGIN.
func encryptionAt(b []byte) int {
	for at := 0; b[at] != 0xff; at += 5 {
		if b[at] == 1 {
			return int(binary.BigEndian.Uint16(b[at+1:]))
		}
	}
	return 0
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
