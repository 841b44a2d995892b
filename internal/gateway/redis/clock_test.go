package redis_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/redis"
)

// A machine that slept, or whose clock was set, has sessions whose tokens ended
// meanwhile: they end, and the others stay.
func TestClockLeaps(t *testing.T) {
	d := open(t)
	short := d.enter(t)
	d.mu.Lock()
	d.life = 3 * time.Hour
	d.mu.Unlock()
	long := d.enter(t)
	d.mu.Lock()
	d.ahead = 2 * time.Hour
	d.mu.Unlock()
	if said := short.ended(); said != "" {
		t.Errorf("the session whose token has ended says %q", said)
	}
	long.send(cmd("PING"))
	long.want("+PONG")
}

// A gateway that ends does not wait for servers that are away, however many
// sessions it had there.
func TestShutdownLeavesServers(t *testing.T) {
	addr := stubborn(t)
	var asked atomic.Int32
	d := open(t, func(c *redis.Config, d *door) {
		d.grant.Addr, d.grant.TLS = addr, nil
		c.Terminate = func(ctx context.Context, _ az.ID, _ string, _ uint64) error {
			asked.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	for range 12 {
		d.enter(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d.Shutdown(ctx)
	if n := asked.Load(); n == 0 || n > 4 {
		t.Errorf("the server was asked to end %d connections, want those that were begun before the time was over", n)
	}
	if strings.Contains(d.log.String(), "panic") {
		t.Error(d.log.String())
	}
}
