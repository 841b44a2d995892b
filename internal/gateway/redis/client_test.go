package redis_test

import (
	"fmt"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

// TestGoRedis: what an app does, by RESP2 and RESP3.
func TestGoRedis(t *testing.T) {
	for _, proto := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", proto), func(t *testing.T) {
			d := open(t)
			c := d.client(t, func(o *goredis.Options) {
				o.Protocol = proto
				o.DisableIdentity = false
				o.ClientName = "tester"
				o.DB = 1
			})
			ctx := limited(t)
			if err := c.Set(ctx, key(t, "a"), "b", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Get(ctx, key(t, "a")).Result(); err != nil || got != "b" {
				t.Errorf("GET gives %q, %v", got, err)
			}
			if got, err := c.ClientGetName(ctx).Result(); err != nil || got != "tester" {
				t.Errorf("the connection is called %q, %v", got, err)
			}
			big := strings.Repeat("0123456789abcdef", 1<<16)
			pipe := c.Pipeline()
			for i := range 200 {
				pipe.Set(ctx, key(t, "p", i), i, 0)
			}
			pipe.Set(ctx, key(t, "big"), big, 0)
			gotten := pipe.Get(ctx, key(t, "big"))
			if _, err := pipe.Exec(ctx); err != nil || gotten.Val() != big {
				t.Errorf("a pipeline fails: %v", err)
			}
			if info, err := c.Do(ctx, "CLIENT", "INFO").Text(); err != nil || !strings.Contains(info, "user=hawser-"+appOID) || !strings.Contains(info, fmt.Sprintf("resp=%d", proto)) {
				t.Errorf("the backend's connection is %q, %v", info, err)
			}
		})
	}
}
