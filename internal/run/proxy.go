package run

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// Limits of the proxy.
const (
	proxyDial     = 20 * time.Second
	proxyIdle     = time.Hour // no byte in either direction
	proxyTunnels  = 4096      // of one app at once
	proxyBuffer   = 32 << 10
	handshakeTime = 10 * time.Second
)

// proxy is the loopback CONNECT proxy of one app. It serves CONNECT and
// nothing else, and only to the app's processes: it holds no credential, but
// it is the way by which the app is known to ask.
type proxy struct {
	server   *http.Server
	addr     string
	domain   string
	listen   string // the plane's HTTPS listener; never its socket, where no token is asked for
	gateways map[string]string
	ca       *localCA // nil unless Azure's names are served
	roots    *x509.CertPool
	tree     *tree
	log      *slog.Logger
	clock    az.Clock
	outside  proxyFunc
	done     chan struct{}

	mu      sync.Mutex // guards tunnels and closed
	tunnels map[io.Closer]bool
	closed  bool
	wg      sync.WaitGroup // of tunnels
}

func startProxy(s *session, outside proxyFunc) (*proxy, error) {
	if s.plane.Listen == "" {
		return nil, errors.New("the plane's description names no HTTPS listener")
	}
	p := &proxy{domain: strings.ToLower(s.plane.Domain), listen: Dialable(s.plane.Listen), gateways: s.plane.Gateways,
		tree: s.child, log: s.Logger, clock: s.Clock, outside: outside, done: make(chan struct{}), tunnels: map[io.Closer]bool{}}
	if s.AzureNames {
		var err error
		if p.ca, err = newLocalCA(s.Clock()); err != nil {
			return nil, err
		}
		if p.roots, err = planeRoots(s.plane); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.addr = l.Addr().String()
	p.server = loopbackServer(p, s.Logger)
	go func() { defer close(p.done); _ = p.server.Serve(l) }()
	return p, nil
}

// planeRoots trusts the plane's CA alone where there is one.
func planeRoots(p client.Plane) (*x509.CertPool, error) {
	if p.CAFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plane's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("cannot use %s: it holds no certificate", p.CAFile)
	}
	return pool, nil
}

func (p *proxy) address() string { return p.addr }

// caPEM is the CA the app must trust for Azure's names; nil without them.
func (p *proxy) caPEM() []byte {
	if p.ca == nil {
		return nil
	}
	return p.ca.pem()
}

// Close ends the listener and every tunnel.
func (p *proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.tunnels {
		_ = c.Close()
	}
	p.mu.Unlock()
	_ = p.server.Close()
	<-p.done
	p.wg.Wait()
	return nil
}

// ServeHTTP checks who asks and for what, dials, and only then takes the
// connection over: until that moment errors are plain HTTP answers.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, _ := r.Context().Value(peerKey{}).(*peer)
	if who == nil || !p.tree.allowed(who) {
		p.tree.report(p.log, "refused the proxy to a process that the app did not start", who, p.clock())
		p.refuse(w, http.StatusForbidden, "Only processes started by this `hawser run` may use its proxy.")
		return
	}
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		p.refuse(w, http.StatusMethodNotAllowed, "This proxy serves CONNECT only.")
		return
	}
	host, port, err := authority(r.RequestURI)
	if err != nil || r.ContentLength > 0 || len(r.TransferEncoding) > 0 {
		p.refuse(w, http.StatusBadRequest, "The CONNECT request must name host:port and carry no body.")
		return
	}
	how, label := choose(host, p.domain, p.ca != nil)
	if how == refused {
		p.log.Warn("refused a connection to Azure: the plane does not serve this name", "host", host, "port", port)
		p.refuse(w, http.StatusForbidden, host+" belongs to Azure and this plane does not serve it.")
		return
	}
	out, err := p.dial(r.Context(), how, label, host, port)
	if err != nil {
		p.log.Warn("cannot connect", "host", host, "port", port, "error", err)
		p.refuse(w, http.StatusBadGateway, "Cannot connect to "+host+".")
		return
	}
	p.tunnel(w, how, host, out)
}

func (p *proxy) refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Connection", "close")
	http.Error(w, text, status)
}

// dial connects to where a name is served.
func (p *proxy) dial(ctx context.Context, how way, label, host string, port int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, proxyDial)
	defer cancel()
	var d net.Dialer
	switch how {
	case plane:
		return d.DialContext(ctx, "tcp", p.listen)
	case gateway:
		addr := p.gateways[label]
		if addr == "" {
			return nil, errors.New("the plane has no such gateway")
		}
		return d.DialContext(ctx, "tcp", Dialable(addr))
	case azure:
		// The server's name is the plane's: Azure's stays in the Host header.
		t := tls.Dialer{NetDialer: &d, Config: &tls.Config{ServerName: "management." + p.domain, RootCAs: p.roots,
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
		return t.DialContext(ctx, "tcp", p.listen)
	}
	return p.dialOutside(ctx, net.JoinHostPort(host, strconv.Itoa(port)))
}

// tunnel answers the CONNECT and copies until one side has ended.
func (p *proxy) tunnel(w http.ResponseWriter, how way, host string, out net.Conn) {
	in, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = out.Close()
		p.refuse(w, http.StatusInternalServerError, "Cannot take the connection over.")
		return
	}
	if !p.enter(in, out) {
		_, _ = io.WriteString(in, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		_, _ = in.Close(), out.Close()
		return
	}
	defer p.leave(in, out)
	_ = in.SetDeadline(time.Time{})
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var client net.Conn = &buffered{Conn: in, r: buf.Reader}
	if how == azure {
		if client, err = p.terminate(client, host); err != nil {
			p.log.Warn("the app did not accept this run's certificate: does it read the CA variables?", "host", host, "error", err)
			return
		}
	}
	splice(client, out)
}

// terminate ends the app's TLS with a certificate for exactly the name of the
// CONNECT.
func (p *proxy) terminate(c net.Conn, host string) (net.Conn, error) {
	t := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if name := strings.TrimSuffix(strings.ToLower(hello.ServerName), "."); name != "" && name != host {
				return nil, fmt.Errorf("the TLS name %q is not the CONNECT name", clip(name))
			}
			return p.ca.certificate(host, p.clock())
		}})
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	return t, t.HandshakeContext(ctx)
}

// enter counts a tunnel in, unless the proxy is closing or full.
func (p *proxy) enter(in, out net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.tunnels) >= 2*proxyTunnels {
		return false
	}
	p.tunnels[in], p.tunnels[out] = true, true
	p.wg.Add(1)
	return true
}

func (p *proxy) leave(in, out net.Conn) {
	_, _ = in.Close(), out.Close()
	p.mu.Lock()
	delete(p.tunnels, in)
	delete(p.tunnels, out)
	p.mu.Unlock()
	p.wg.Done()
}

// buffered is a connection of which some bytes were read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(to []byte) (int, error) {
	if b.r.Buffered() > 0 {
		return b.r.Read(to)
	}
	return b.Conn.Read(to)
}

// CloseWrite ends one direction, where the connection can.
func (b *buffered) CloseWrite() error { return closeWrite(b.Conn) }

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// splice copies both ways. An end in one direction is passed on as such; an
// error or a long silence ends both.
func splice(a, b net.Conn) {
	idle := time.AfterFunc(proxyIdle, func() { _, _ = a.Close(), b.Close() })
	defer idle.Stop()
	ended := make(chan struct{})
	go func() { defer close(ended); oneWay(a, b, idle) }()
	oneWay(b, a, idle)
	<-ended
}

func oneWay(to, from net.Conn, idle *time.Timer) {
	buf := make([]byte, proxyBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			idle.Reset(proxyIdle)
			if _, werr := to.Write(buf[:n]); werr != nil {
				_, _ = from.Close(), to.Close()
				return
			}
		}
		if err == io.EOF {
			if closeWrite(to) != nil {
				_ = from.Close()
			}
			return
		}
		if err != nil {
			_, _ = from.Close(), to.Close()
			return
		}
	}
}

var errAuthority = errors.New("not host:port")

// authority reads the target of a CONNECT: host:port, the host a name of
// ASCII letters, digits, dots, hyphens and underscores, or an address. What
// two readers could understand differently is refused, so that no spelling of
// Azure's names passes as another's.
func authority(s string) (host string, port int, err error) {
	host, ports, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, errAuthority
	}
	n, err := strconv.ParseUint(ports, 10, 16)
	if err != nil || n == 0 || ports[0] == '+' {
		return "", 0, errAuthority
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return "", 0, errAuthority
		}
		return ip.Unmap().String(), int(n), nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !validHost(host) {
		return "", 0, errAuthority
	}
	return host, int(n), nil
}

// validHost checks a name's form; 253 characters and 63 in a label are DNS's
// limits (RFC 1035 §2.3.4). A last label that is a number would be an address
// to some resolvers, such as 2852039166.
func validHost(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			if !nameByte(label[i]) {
				return false
			}
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 0, 64)
	return err != nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// Dialable turns a listener's address into one that can be dialled.
func Dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	switch host {
	case "", "0.0.0.0":
		return net.JoinHostPort("127.0.0.1", port)
	case "::":
		return net.JoinHostPort("::1", port)
	}
	return addr
}
