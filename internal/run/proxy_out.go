package run

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// dialOutside connects to the world, through the proxy the parent had if it
// had one for this host.
func (p *proxy) dialOutside(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	up, err := p.outside(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}})
	if err != nil {
		return nil, errors.New("cannot use HTTPS_PROXY: it is not a URL") // err may quote a password
	}
	if up == nil || up.Host == p.addr {
		return d.DialContext(ctx, "tcp", addr)
	}
	port := up.Port()
	switch {
	case up.Scheme != "http" && up.Scheme != "https":
		return nil, fmt.Errorf("cannot go through the proxy %s: only http and https proxies are known", up.Host)
	case port == "" && up.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(up.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if up.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: up.Hostname(), MinVersion: tls.VersionTLS12})
	}
	through, err := connect(ctx, c, up, addr)
	if err != nil {
		_ = c.Close()
	}
	return through, err
}

// connect asks another proxy for a tunnel.
func connect(ctx context.Context, c net.Conn, up *url.URL, addr string) (net.Conn, error) {
	if t, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(t)
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if up.User != nil {
		pass, _ := up.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(up.User.Username()+":"+pass)))
	}
	if err := req.Write(c); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the proxy %s answered %s", up.Host, resp.Status)
	}
	return &buffered{Conn: c, r: r}, c.SetDeadline(time.Time{})
}
