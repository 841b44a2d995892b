package mysql

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// TestMentionOfAFile finds the word wherever it is and however the command is
// cut, and nothing else.
func TestMentionOfAFile(t *testing.T) {
	for text, want := range map[string]bool{
		"LOAD DATA LOCAL INFILE 'x' INTO TABLE t": true, "infile": true, "iinfile": true, "ininfilefile": true, "INFILinFiLe": true, "xxxxxINFILE": true,
		"": false, "infil": false, "nfile": false, "in file": false, "i\x0efile": false, "infilf infili": false, "\tnfile": false,
	} {
		if got := mentionsFile([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
		for size := 1; size < 8; size++ {
			s := fuzzed(false)
			s.push(pending{answer: answerResults})
			s.up.files.mayLoad(comQuery, nil, false)
			for b := []byte(text); len(b) > 0; b = b[min(size, len(b)):] {
				s.up.files.look(s, b[:min(size, len(b))])
			}
			if p, _ := s.current(); p.local != want || s.up.files.said != want {
				t.Errorf("%q in pieces of %d: %v", text, size, p.local)
			}
		}
	}
}

func BenchmarkMentionsFile(b *testing.B) {
	row := []byte(strings.Repeat("('a title of something', 12345, 'and a longer text, lines of it, with filler'),", 200))
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if mentionsFile(row) {
			b.Fatal("found")
		}
	}
}

// TestLongCommandsAndFiles cuts long commands at the borders of reads.
func TestLongCommandsAndFiles(t *testing.T) {
	for _, word := range []string{"INFILE", "nothing"} {
		for _, command := range []byte{comQuery, comStmtPrepare} {
			sql := append([]byte{command}, strings.Repeat("/* long */ ", 2000)+word+strings.Repeat(" ", 9000)...)
			in := appendPacket(nil, 0, sql)
			for _, size := range []int{1, 7, 4096, 1 << 20} {
				s := fuzzed(false)
				s.up.Conn = &stream{rest: in, size: size}
				out, err := io.ReadAll(&s.up)
				if err != nil || !bytes.Equal(out, in) {
					t.Fatalf("in pieces of %d: changed", size)
				}
				if p, _ := s.current(); p.local != (word == "INFILE") {
					t.Errorf("%#x %s in pieces of %d: %v", command, word, size, p.local)
				}
			}
		}
	}
}
