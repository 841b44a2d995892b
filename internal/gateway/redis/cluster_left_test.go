package redis_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/gateway/redis"
)

// sender is a node that sends every command to another one, which it names as a
// member as long as that has not left. It counts its connections.
func sender(t *testing.T, other func() string, left *atomic.Bool) (addr string, came *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	came = &atomic.Int32{}
	addr = l.Addr().String()
	node := func(id, addr, flags string) string {
		return strings.Repeat(id, 40) + " " + addr + "@1 " + flags + " - 0 0 1 connected\n"
	}
	serve := func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		_, _ = fmt.Fprintf(c, "+OK\r\n:7\r\n-ERR unknown command '%s'\r\n", markerName.Find(b[:n]))
		if bytes.Contains(b[:n], []byte("CLUSTER")) {
			text := node("a", addr, "myself,master")
			if !left.Load() {
				text += node("b", other(), "master")
			}
			_, _ = fmt.Fprintf(c, "$%d\r\n%s\r\n", len(text), text)
		}
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "-MOVED 1 %s\r\n", other())
		}
	}
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			go serve(c) // ends with c
		}
	}()
	return addr, came
}

// The port of a node that has left the cluster leads nowhere: its address may be
// somebody else's, who would be shown the user's password.
func TestNodeThatLeft(t *testing.T) {
	var first, second string
	var left atomic.Bool
	second, came := sender(t, func() string { return first }, &atomic.Bool{})
	first, _ = sender(t, func() string { return second }, &left)
	d := open(t, func(_ *redis.Config, d *door) { d.grant.Addr, d.grant.TLS = first, nil })
	c := d.enter(t)
	c.send(cmd("GET", "a"))
	said, err := c.reply()
	at := strings.LastIndexByte(said, ':')
	if err != nil || !strings.HasPrefix(said, "-MOVED 1 ") || strings.HasSuffix(second, said[at:]) {
		t.Fatalf("the redirection is %q, %v", said, err)
	}
	to := "127.0.0.1" + said[at:]
	n := d.dialAt(t, to, "localhost")
	n.send(cmd("AUTH", appOID, appTok))
	n.want("+OK")
	before := came.Load()
	left.Store(true)
	d.mu.Lock()
	d.ahead = time.Minute // what is known of the cluster is old
	d.mu.Unlock()
	d.enter(t)
	n = d.dialAt(t, to, "localhost")
	n.send(cmd("AUTH", appOID, appTok))
	n.want("-ERR the Redis server cannot be reached now: try again")
	if came.Load() != before {
		t.Error("the node that has left was shown the password")
	}
}
