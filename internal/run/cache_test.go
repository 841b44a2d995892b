package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/client"
)

// movable is a clock that tests move.
type movable struct{ at atomic.Int64 }

func (m *movable) now() time.Time       { return time.Unix(0, m.at.Load()) }
func (m *movable) move(d time.Duration) { m.at.Add(int64(d)) }

// source is a plane that counts, waits and fails as told.
type source struct {
	clock *movable
	n     atomic.Int64
	fail  atomic.Bool
	gate  chan struct{} // nil: no waiting
}

func (s *source) fetch(ctx context.Context, r client.TokenRequest) (client.Token, error) {
	n := s.n.Add(1)
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return client.Token{}, ctx.Err()
		}
	}
	if s.fail.Load() {
		return client.Token{}, errors.New("away")
	}
	now := s.clock.now().Unix()
	return client.Token{AccessToken: fmt.Sprint("t", n), ExpiresOn: now + 3600, RefreshOn: now + 1800}, nil
}

func cacheWith(t *testing.T) (*cache, *source) {
	m := &movable{}
	m.at.Store(testNow.UnixNano())
	s := &source{clock: m}
	c := newCache(t.Context(), m.now, Limits{Misses: 1 << 20}, s.fetch, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = c.Close() })
	return c, s
}

func (c *cache) token(t *testing.T, resource string) string {
	t.Helper()
	a, err := c.get(t.Context(), &request{resource: resource})
	if err != nil {
		t.Fatal(err)
	}
	return a.token
}

func TestManyWaitForOneRequest(t *testing.T) {
	c, s := cacheWith(t)
	s.gate = make(chan struct{})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got := c.token(t, "r"); got != `"t1"` {
				t.Error(got)
			}
		})
	}
	for s.n.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(s.gate)
	wg.Wait()
	if s.n.Load() != 1 {
		t.Errorf("%d requests", s.n.Load())
	}
}

func TestIdentitiesAndResourcesAreKeptApart(t *testing.T) {
	c, s := cacheWith(t)
	seen := map[string]bool{}
	for _, r := range []*request{{resource: "r"}, {resource: "r/"}, {resource: "r", kind: byClient, id: "a"}, {resource: "r", kind: byObject, id: "a"}, {resource: "r", kind: byResource, id: "a"}} {
		a, err := c.get(t.Context(), r)
		if err != nil || seen[a.token] {
			t.Fatal(err, a)
		}
		seen[a.token] = true
	}
	if _, err := c.get(t.Context(), &request{resource: "r", kind: byClient, id: "A"}); err != nil || s.n.Load() != 5 {
		t.Errorf("the same id in capitals: %d requests, %v", s.n.Load(), err)
	}
}

func TestRefreshBehindTheCallersBack(t *testing.T) {
	c, s := cacheWith(t)
	c.token(t, "r")
	s.clock.move(1800 * time.Second)
	s.gate = make(chan struct{})
	for range 50 { // all get the old one while the one refresh is under way
		if got := c.token(t, "r"); got != `"t1"` {
			t.Fatal(got)
		}
	}
	close(s.gate)
	c.wg.Wait()
	if got := c.token(t, "r"); got != `"t2"` || s.n.Load() != 2 {
		t.Errorf("%s after %d requests", got, s.n.Load())
	}
}

func TestOldTokenServesWhileRefreshFails(t *testing.T) {
	c, s := cacheWith(t)
	c.token(t, "r")
	s.fail.Store(true)
	for range 179 { // until one second before the end
		s.clock.move(20 * time.Second)
		if s.clock.now().Unix() >= testNow.Unix()+3600 {
			break
		}
		if got := c.token(t, "r"); got != `"t1"` {
			t.Fatal(got)
		}
		c.wg.Wait()
	}
	if n := s.n.Load(); n < 50 || n > 100 {
		t.Errorf("%d requests: a failed refresh should be tried again, with pauses", n)
	}
	s.clock.move(20 * time.Second)
	s.clock.move(20 * time.Second)
	if _, err := c.get(t.Context(), &request{resource: "r"}); err == nil {
		t.Error("a token was served after its end")
	}
	s.fail.Store(false)
	s.clock.move(negativeFor)
	if got := c.token(t, "r"); got == `"t1"` {
		t.Error("no new token after the plane came back")
	}
}

func TestFailuresAreRememberedForASecond(t *testing.T) {
	c, s := cacheWith(t)
	s.fail.Store(true)
	for range 10 {
		if _, err := c.get(t.Context(), &request{resource: "r"}); err == nil {
			t.Fatal("no error")
		}
	}
	if s.n.Load() != 1 {
		t.Errorf("%d requests in one second", s.n.Load())
	}
	s.clock.move(negativeFor)
	s.fail.Store(false)
	c.token(t, "r")
}

func TestResetForgetsEvenWhatIsUnderWay(t *testing.T) {
	c, s := cacheWith(t)
	c.token(t, "kept")
	s.gate = make(chan struct{})
	done := make(chan string)
	go func() { done <- c.token(t, "r") }()
	for s.n.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	c.reset()
	close(s.gate)
	<-done
	if got := c.token(t, "kept"); got != `"t3"` {
		t.Error(got)
	}
	if got := c.token(t, "r"); got != `"t4"` {
		t.Error(got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, _ := cacheWith(t)
	for i := range maxTokens + 500 {
		c.token(t, fmt.Sprint("r", i))
	}
	if len(c.slots) > maxTokens {
		t.Errorf("%d entries", len(c.slots))
	}
}

func TestACallerMayGoAway(t *testing.T) {
	c, s := cacheWith(t)
	s.gate = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.get(ctx, &request{resource: "r"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(s.gate)
	if got := c.token(t, "r"); got != `"t1"` {
		t.Errorf("%s: the request of one who left should serve the next", got)
	}
}
