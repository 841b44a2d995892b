package signin

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// An attempt is counted under several keys before anything is compared, so
// that a thousand at once, on any number of planes, are a thousand; what
// succeeds is taken back.
//
//   - an account from a network: slows down guessing at one account;
//   - an account from anywhere: slows down many networks guessing together;
//   - a network at any account: slows down one password tried on everybody.
//
// A browser in which the account signed in before (device.go) is counted under
// the account and itself alone: whatever others do, its person is not locked
// out. Nothing here ever refuses a passkey.
type limit struct {
	free  int64         // attempts that cost nothing
	first time.Duration // the wait after those; it doubles with each attempt
	most  time.Duration // but not beyond this
	keep  time.Duration // after which nothing is remembered
}

var (
	// Source: Entra's smart lockout, ten attempts and a minute, growing.
	limitNetwork = limit{10, time.Minute, time.Hour, 24 * time.Hour}
	limitDevice  = limit{10, time.Minute, time.Hour, 24 * time.Hour}
	// Ours: far above a person's mistakes; then at most one guess in five
	// minutes, about 300 a day, against any one account in all the world.
	limitAccount = limit{50, 5 * time.Second, 5 * time.Minute, 24 * time.Hour}
	// Ours: an office behind one address stays below it.
	limitAddress = limit{100, 10 * time.Second, 15 * time.Minute, time.Hour}
	// One-time codes have a million values and three are right at a time.
	// Ours: with five free guesses and these waits a year of guessing finds
	// one in ten thousand accounts, whose password was known before.
	limitCode        = limit{5, time.Minute, time.Hour, 24 * time.Hour}
	limitCodeAccount = limit{30, time.Minute, time.Hour, 24 * time.Hour}
)

const (
	// sweepOlder is when counters that nobody asks for are deleted: the longest keep.
	sweepOlder = 24 * time.Hour
	// maxWaits bounds the doubling.
	maxWaits = 30
)

// delay is the wait after n attempts.
func (l limit) delay(n int64) time.Duration {
	over := n - l.free
	if over < 0 {
		return 0
	}
	d := l.first << min(over, maxWaits)
	if d <= 0 || d > l.most {
		return l.most
	}
	return d
}

// attempt is what is counted of one try.
type attempt struct {
	keys   []string
	limits []limit
	own    int // how many of the keys, from the first, a success clears
}

// attempt says what a try at an account counts under. account is the name as it
// was typed, so that names nobody has are counted alike.
func (s *SignIn) attempt(what, account, peer, device string) attempt {
	account = strings.ToLower(account)
	key := func(parts ...string) string {
		return hex.EncodeToString(s.sealer.Hash(purposeCount, []byte(what+"\x00"+strings.Join(parts, "\x00"))))
	}
	near, wide := limitNetwork, limitAccount
	if what == tryCode {
		near, wide = limitCode, limitCodeAccount
	}
	if device != "" {
		if what != tryCode {
			near = limitDevice
		}
		return attempt{[]string{key("device", account, device)}, []limit{near}, 1}
	}
	net := network(peer)
	return attempt{[]string{key("network", account, net), key("account", account), key("address", net)}, []limit{near, wide, limitAddress}, 1}
}

// What is tried.
const (
	tryPassword = "password"
	tryCode     = "code"
)

// network is what one host may choose its address from. Source: RFC 4291
// §2.5.4: 64 bits.
func network(peer string) string {
	ip, err := netip.ParseAddr(peer)
	if err != nil {
		return peer
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// begin counts a try, or refuses it with TooMany.
func (s *SignIn) begin(ctx context.Context, a attempt) error {
	var wait time.Duration
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		wait = 0
		now := tx.Now()
		if err := tx.SweepFailures(now - az.Micros(sweepOlder.Microseconds())); err != nil {
			return err
		}
		counts := make([]store.Failures, len(a.keys))
		for i, k := range a.keys {
			f, err := tx.Failures(k)
			if err != nil {
				return err
			}
			if now-f.Since > az.Micros(a.limits[i].keep.Microseconds()) && f.Blocked <= now {
				f = store.Failures{Since: now}
			}
			if f.Blocked > now {
				wait = max(wait, time.Duration(f.Blocked-now)*time.Microsecond)
			}
			counts[i] = f
		}
		if wait > 0 {
			return nil
		}
		for i, k := range a.keys {
			f := counts[i]
			f.N++
			if d := a.limits[i].delay(f.N); d > 0 {
				f.Blocked = now + az.Micros(d.Microseconds())
			}
			if err := tx.SetFailures(k, f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if wait > 0 {
		e := az.Errorf(az.TooMany, "TooManyAttempts", "There were too many attempts to sign in. Wait %s, then try again.", sayWait(wait))
		e.RetryAfter = wait
		return e
	}
	return nil
}

// succeeded takes a try back: what is the person's own starts anew, what is
// shared with others loses one.
func (s *SignIn) succeeded(ctx context.Context, a attempt) error {
	return s.store.Write(ctx, func(tx *store.Tx) error {
		for i, k := range a.keys {
			f := store.Failures{}
			if i >= a.own {
				var err error
				if f, err = tx.Failures(k); err != nil {
					return err
				}
				f.N--
				if a.limits[i].delay(f.N) == 0 {
					f.Blocked = 0
				}
			}
			if err := tx.SetFailures(k, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func sayWait(d time.Duration) string {
	switch {
	case d <= time.Minute:
		return "a minute"
	case d <= 5*time.Minute:
		return "five minutes"
	case d <= 15*time.Minute:
		return "a quarter of an hour"
	}
	return "an hour"
}
