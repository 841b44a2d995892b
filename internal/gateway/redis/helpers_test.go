package redis_test

import (
	"bytes"
	"context"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

// repairing sets the right password, as the plane does.
func repairing(d *door, times *int) func(context.Context, az.ID, string) error {
	return func(context.Context, az.ID, string) error {
		d.mu.Lock()
		*times++
		d.grant.Password = az.NewSecret(appPass)
		d.mu.Unlock()
		return nil
	}
}

var markerName = regexp.MustCompile(`HAWSER-[0-9A-F]+-0`)

// liar answers whatever it is asked first with the same bytes, in which
// %marker% is an answer to the command that no server knows.
func liar(t testing.TB, says string) string {
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
			go func() { // ends with the connection
				defer c.Close()
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				marker := "-ERR unknown command '" + string(markerName.Find(b[:n])) + "'\r\n"
				_, _ = c.Write(bytes.ReplaceAll([]byte(says), []byte("%marker%"), []byte(marker)))
				for !strings.Contains(says, "MORE") {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
