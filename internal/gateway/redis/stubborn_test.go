package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/redis"
)

// stubborn lets everybody in and then neither answers nor closes.
func stubborn(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			_, _ = fmt.Fprintf(c, "+OK\r\n:7\r\n-ERR unknown command '%s'\r\n", markerName.Find(b[:n]))
			if bytes.Contains(b[:n], []byte("CLUSTER")) {
				_, _ = fmt.Fprint(c, "-ERR This instance has cluster support disabled\r\n")
			}
		}
	}()
	return l.Addr().String()
}

// A backend that does not let go of an ended session's connection is told to,
// by the connection's id; the client does not wait for that.
func TestStubbornBackend(t *testing.T) {
	addr := stubborn(t)
	d := open(t, func(c *redis.Config, d *door) {
		d.grant.Addr, d.grant.TLS = addr, nil
		c.Terminate = func(_ context.Context, _ az.ID, user string, id uint64) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if user != "hawser-"+appOID {
				t.Errorf("it is to end a connection of %q", user)
			}
			d.killed = append(d.killed, id)
			return nil
		}
	})
	c := d.enter(t)
	c.send(cmd("GET", "a"))
	begun := time.Now()
	if n := d.revoke(appOID); n != 1 {
		t.Errorf("%d sessions were ended", n)
	}
	c.ended()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %s", took)
	}
	eventually(t, "the connection is ended", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Equal(d.killed, []uint64{7})
	})
	if e := d.recorded(); len(e) != 2 || e[1].Reason != gateway.RightLost {
		t.Errorf("recorded is %+v", e)
	}
}
