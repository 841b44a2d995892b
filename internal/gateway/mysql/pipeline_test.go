package mysql

import "testing"

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
