package mysql_test

import (
	"context"
	"testing"

	driver "github.com/go-sql-driver/mysql"
)

// BenchmarkLoginWarm is a TLS login to a backend that is ready: the driver's
// side of the handshake is in the figure.
func BenchmarkLoginWarm(b *testing.B) {
	d := open(b)
	connector, err := driver.NewConnector(d.config())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := connector.Connect(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuery is one query there and back over TLS.
func BenchmarkQuery(b *testing.B) {
	d := open(b)
	w := d.raw(capDeprecateEOF)
	b.ReportAllocs()
	for b.Loop() {
		w.command(3, "DO 1")
		if _, err := w.answer(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBulk is 32 MiB of rows from the backend to the client.
func BenchmarkBulk(b *testing.B) {
	d := open(b)
	c := d.login()
	b.ReportAllocs()
	b.SetBytes(32 << 20)
	for b.Loop() {
		var row []byte
		if err := c.QueryRowContext(context.Background(), "SELECT REPEAT('x', 32 << 20)").Scan(&row); err != nil {
			b.Fatal(err)
		}
	}
}
