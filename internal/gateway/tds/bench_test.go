package tds_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// BenchmarkLoginWarm is a TLS login to a backend that is ready: go-mssqldb's
// side of the handshake is in the figure.
func BenchmarkLoginWarm(b *testing.B) {
	d := open(b, tdstest.Options{})
	c := d.connector(b, how{})
	b.ReportAllocs()
	for b.Loop() {
		conn, err := c.Connect(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuery is one batch there and back over TLS.
func BenchmarkQuery(b *testing.B) {
	d := open(b, tdstest.Options{})
	s := d.secured(b, helloWith(nil, 0))
	_, _ = s.Write(packet(16, 1, login7(withToken(3, appTok, nil))))
	if _, err := readPacket(s); err != nil {
		b.Fatal(err)
	}
	ask := packet(1, 1, append([]byte{22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, utf16le("SELECT 1")...))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(ask); err != nil {
			b.Fatal(err)
		}
		if _, err := readPacket(s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBulk is 32 MiB of rows from the backend to the client, which only
// reads.
func BenchmarkBulk(b *testing.B) {
	d := open(b, tdstest.Options{})
	s := d.secured(b, helloWith(nil, 0))
	_, _ = s.Write(packet(16, 1, login7(withToken(3, appTok, nil))))
	if _, err := readPacket(s); err != nil {
		b.Fatal(err)
	}
	const rows = 4190 // of 8,008 bytes
	ask := packet(1, 1, append([]byte{22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0},
		utf16le(fmt.Sprintf("SELECT value, REPLICATE('x', 4000) FROM GENERATE_SERIES(1, %d)", rows))...))
	b.ReportAllocs()
	b.SetBytes(32 << 20)
	for b.Loop() {
		_, _ = s.Write(ask)
		for last := false; !last; {
			var h [8]byte
			if _, err := io.ReadFull(s, h[:]); err != nil {
				b.Fatal(err)
			}
			last = h[1]&1 != 0
			if _, err := io.CopyN(io.Discard, s, int64(h[2])<<8|int64(h[3])-8); err != nil {
				b.Fatal(err)
			}
		}
	}
}
