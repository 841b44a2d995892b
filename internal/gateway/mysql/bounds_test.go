package mysql

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
)

// TestLongPipeline: only the commands that wait for an answer are counted, also
// where there is always one.
func TestLongPipeline(t *testing.T) {
	s := fuzzed(false)
	s.push(pending{answer: answerOK})
	for i := range 5 * maxPipelined {
		p := pending{answer: answerOK, local: i%3 == 0}
		if !s.push(p) {
			t.Fatalf("cut off after %d commands", i)
		}
		s.answered()
		if got, asked := s.current(); !asked || got != p {
			t.Fatalf("after %d commands: %v", i, got)
		}
	}
	if n := cap(s.waiting); n > 4*maxPipelined {
		t.Errorf("%d are kept", n)
	}
	for range maxPipelined - 1 {
		if !s.push(pending{answer: answerOK}) {
			t.Fatal("cut off too early")
		}
	}
	if s.push(pending{answer: answerOK}) {
		t.Error("not cut off")
	}
}

// TestHeadersCostNoMemory: what a header promises is kept only once it comes.
func TestHeadersCostNoMemory(t *testing.T) {
	for _, n := range []int{0, 1, 4 << 10, 4<<10 + 1, 100_000, maxResponse} {
		want := bytes.Repeat([]byte{7}, n)
		got, err := readPacket(bytes.NewReader(appendPacket(nil, 1, want)), 1, maxResponse)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	header := appendPacket(nil, 1, make([]byte, maxResponse))[:headerSize+100]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := readPacket(bytes.NewReader(header), 1, maxResponse); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / 100; each > 8<<10 {
		t.Errorf("%d bytes each", each)
	}
}
