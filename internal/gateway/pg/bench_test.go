package pg_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// BenchmarkLoginWarm is a TLS login to a backend that is ready: pgx's side of
// the handshake is in the figure.
func BenchmarkLoginWarm(b *testing.B) {
	d := open(b)
	conf := d.mustConnect(b, "").Config()
	b.ReportAllocs()
	for b.Loop() {
		c, err := pgx.ConnectConfig(context.Background(), conf)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuery is one simple query there and back over TLS.
func BenchmarkQuery(b *testing.B) {
	d := open(b)
	f, _, _ := d.loginRaw(b)
	b.ReportAllocs()
	for b.Loop() {
		send(b, f, &pgproto3.Query{String: "SELECT 1"})
		for {
			if _, ok := receive(b, f).(*pgproto3.ReadyForQuery); ok {
				break
			}
		}
	}
}

// BenchmarkBulk is 32 MiB of rows from the backend to the client.
func BenchmarkBulk(b *testing.B) {
	d := open(b)
	c := d.mustConnect(b, "")
	b.ReportAllocs()
	b.SetBytes(32 << 20)
	for b.Loop() {
		var row []byte
		if err := c.QueryRow(context.Background(), "SELECT repeat('x', 32 << 20)").Scan(&row); err != nil {
			b.Fatal(err)
		}
	}
}
