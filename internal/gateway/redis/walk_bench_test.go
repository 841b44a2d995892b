package redis

import (
	"strings"
	"testing"
)

// BenchmarkClientWalker is the look at 16 commands of a pipeline.
func BenchmarkClientWalker(b *testing.B) {
	chunk := []byte(strings.Repeat("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$64\r\n"+strings.Repeat("x", 64)+"\r\n", 16))
	var w clientWalker
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if n, f := w.walk(chunk, 0); n != len(chunk) || f != nothing {
			b.Fatal(n, f)
		}
	}
}

// BenchmarkReplyWalker is the look at 16 replies of 64 bytes.
func BenchmarkReplyWalker(b *testing.B) {
	chunk := []byte(strings.Repeat("$64\r\n"+strings.Repeat("x", 64)+"\r\n", 16))
	var w replyWalker
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		w.begin()
		if n, ev, err := w.walk(chunk, 0, false); n != len(chunk) || ev != allRead || err != nil {
			b.Fatal(n, ev, err)
		}
	}
}
