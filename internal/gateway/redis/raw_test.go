package redis_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// raw is a client that writes bytes and reads replies.
type raw struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// dial opens a connection under TLS that has not logged in.
func (d *door) dial(t testing.TB, host string) *raw {
	t.Helper()
	return d.dialAt(t, d.addr, host)
}

func (d *door) dialAt(t testing.TB, addr, host string) *raw {
	t.Helper()
	c, err := tls.Dial("tcp", addr, d.clientTLS(host))
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, c)
}

func wrap(t testing.TB, c net.Conn) *raw {
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &raw{t, c, bufio.NewReader(c)}
}

// enter opens a connection that has logged in by AUTH.
func (d *door) enter(t testing.TB) *raw {
	t.Helper()
	c := d.dial(t, "s1."+domain)
	c.send(cmd("AUTH", appOID, appTok))
	c.want("+OK")
	return c
}

// cmd encodes a command.
func cmd(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

func (c *raw) send(parts ...string) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, strings.Join(parts, "")); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply as a line: aggregates in brackets, strings as they
// are.
func (c *raw) reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[0] {
	case '$', '=':
		n, _ := strconv.Atoi(line[1:])
		if n < 0 {
			return "nil", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return string(b[:n]), err
	case '*', '~', '>', '%':
		n, _ := strconv.Atoi(line[1:])
		if line[0] == '%' {
			n *= 2
		}
		if n < 0 {
			return "nil", nil
		}
		var items []string
		for range n {
			s, err := c.reply()
			if err != nil {
				return "", err
			}
			items = append(items, s)
		}
		return line[:1] + "[" + strings.Join(items, " ") + "]", nil
	}
	return line, nil
}

// want reads replies; one that ends in … may go on.
func (c *raw) want(replies ...string) {
	c.t.Helper()
	for i, want := range replies {
		got, err := c.reply()
		if err != nil {
			c.t.Fatalf("reply %d: %v, want %q", i, err, want)
		}
		if start, cut := strings.CutSuffix(want, "…"); got != want && !(cut && strings.HasPrefix(got, start)) {
			c.t.Fatalf("reply %d is %q, want %q", i, got, want)
		}
	}
}

// ended reports what the server still says before it closes.
func (c *raw) ended() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Error("the connection stays open")
	}
	return string(b)
}
