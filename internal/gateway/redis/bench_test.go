package redis_test

import (
	"io"
	"strings"
	"testing"
)

// BenchmarkLogin is TLS and AUTH at the gateway and at the backend; the
// client's side of both is in the figure.
func BenchmarkLogin(b *testing.B) {
	d := open(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = d.enter(b).Close()
	}
}

// BenchmarkCopy is commands there and back over TLS, one at a time and 16 at
// once.
func BenchmarkCopy(b *testing.B) {
	d := open(b)
	k := key(b)
	for name, n := range map[string]int{"P1": 1, "P16": 16} {
		b.Run(name, func(b *testing.B) {
			c := d.enter(b)
			c.send(cmd("SET", k, strings.Repeat("x", 64)))
			c.want("+OK")
			ask := strings.Repeat(cmd("GET", k), n)
			answer := make([]byte, n*len("$64\r\n"+strings.Repeat("x", 64)+"\r\n"))
			b.ReportAllocs()
			for b.Loop() {
				c.send(ask)
				if _, err := io.ReadFull(c.r, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
