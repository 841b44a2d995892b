package authority

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

const (
	// maxFailures per client and peer, and maxPeerFailures per peer whatever
	// the client, are allowed within failureWindow. Ours: a person's mistakes
	// and a rolling restart with a stale secret stay below, guessing does not.
	maxFailures     = 20
	maxPeerFailures = 200
	failureWindow   = time.Minute
	// maxThrottled bounds the memory; a full one is emptied.
	maxThrottled = 16 << 10
)

// throttle counts failed sign-ins of this plane.
type throttle struct {
	clock  az.Clock
	limits [2]int     // for a client and peer, and for a peer alone
	mu     sync.Mutex // guards m
	m      map[string]*failure
}

type failure struct {
	since time.Time
	n     int
}

func newThrottle(clock az.Clock, both, alone int) *throttle {
	return &throttle{clock: clock, limits: [2]int{both, alone}, m: map[string]*failure{}}
}

func throttleKeys(client, peer string) (both, alone string) {
	if len(client) > 64 {
		client = client[:64]
	}
	// An IPv6 host has 2^64 addresses to come from. Source: RFC 4291 §2.5.4.
	if ip, err := netip.ParseAddr(peer); err == nil && ip.Unmap().Is6() {
		if net, err := ip.WithZone("").Prefix(64); err == nil {
			peer = net.String()
		}
	}
	return peer + " " + strings.ToLower(client), peer
}

// check refuses a client and peer that have failed too often.
func (t *throttle) check(client, peer string) error {
	both, alone := throttleKeys(client, peer)
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, key := range [2]string{both, alone} {
		f := t.m[key]
		if f == nil || now.Sub(f.since) >= failureWindow || f.n < t.limits[i] {
			continue
		}
		e := oauthError(az.TooMany, "temporarily_unavailable", 90055, "Too many sign-ins of this client have failed; wait and check its credential.")
		e.RetryAfter = failureWindow - now.Sub(f.since)
		return e
	}
	return nil
}

// note counts a failure.
func (t *throttle) note(client, peer string) {
	both, alone := throttleKeys(client, peer)
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.m) >= maxThrottled {
		clear(t.m)
	}
	for _, key := range []string{both, alone} {
		if f := t.m[key]; f != nil && now.Sub(f.since) < failureWindow {
			f.n++
			continue
		}
		t.m[key] = &failure{since: now, n: 1}
	}
}
