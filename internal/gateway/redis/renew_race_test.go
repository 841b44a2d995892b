package redis_test

import (
	"context"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/gateway"
)

// Newer tokens and changes of rights at once: no session is lost, and none
// goes on without its right.
func TestRenewalsAmongRechecks(t *testing.T) {
	d := open(t)
	stop := make(chan struct{})
	var rechecks, clients sync.WaitGroup
	rechecks.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				d.Recheck(context.Background(), gateway.Authorize(d.authorize).Still())
			}
		}
	})
	for range 4 {
		c := d.enter(t)
		clients.Go(func() {
			for range 50 {
				c.send(cmd("AUTH", appOID, nextTok), cmd("PING"))
				if said, err := c.reply(); err != nil || said != "+OK" && said != "-ERR the login cannot be decided now: try again" {
					t.Errorf("AUTH gives %q, %v", said, err)
					return
				}
				c.want("+PONG")
			}
		})
	}
	clients.Wait()
	close(stop)
	rechecks.Wait()
	if n := d.revoke(appOID); n != 4 {
		t.Errorf("%d sessions were ended, want 4", n)
	}
}
