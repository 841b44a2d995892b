package easyauth

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

const (
	// answerTimeout is how long an app may think after it has a request. Source:
	// App Service's load balancer gives up after 230 s.
	answerTimeout = 230 * time.Second
	// stallTimeout ends a body that neither side moves on: any upload may take
	// for ever, but not stand still.
	stallTimeout = 5 * time.Minute
	// stallStep is how often a deadline is moved while bytes flow.
	stallStep   = 15 * time.Second
	dialTimeout = 3 * time.Second
	// maxIdle bounds the connections kept to one process of an app.
	maxIdle = 128
	// keepIdle is how long. Source: Node ends what is idle for 5 s, so that a
	// request sent on a connection kept for longer could meet its end.
	keepIdle = 4 * time.Second
	// lateBody bounds reading what a client still sends after the answer.
	lateBody = 3 * time.Second
	copySize = 32 << 10
	// maxAnswerHeader bounds the headers of an app's answer. Source: App Service
	// takes 64 KiB.
	maxAnswerHeader = 64 << 10
)

// proxy passes requests on to the apps' processes.
type proxy struct {
	reverse   *httputil.ReverseProxy
	near, far *http.Transport
	f         *Front
}

type visitKey struct{}

func newProxy(f *Front) *proxy {
	p := &proxy{f: f, near: transport(nearOnly), far: transport(farOnly)}
	if f.cfg.Owner != nil {
		p.near.DialContext = owned(p.near.DialContext, f.cfg.Owner)
	}
	p.reverse = &httputil.ReverseProxy{Rewrite: rewrite, Transport: p, FlushInterval: -1, BufferPool: newBuffers(),
		ErrorHandler: failed, ErrorLog: log.New(slogWriter{f.cfg.Log}, "", 0)}
	return p
}

func transport(control func(network, address string) error) *http.Transport {
	d := &net.Dialer{Timeout: dialTimeout, Control: dialControl(control)}
	return &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: keepIdle,
		ResponseHeaderTimeout: answerTimeout, ExpectContinueTimeout: time.Second, DisableCompression: true,
		TLSHandshakeTimeout: dialTimeout, MaxResponseHeaderBytes: maxAnswerHeader}
}

// errStranger is a port that another user's program has taken.
var errStranger = errors.New("a program of another user listens on the app's port")

// owned looks at who is at the other end before anything is sent there.
func owned(dial func(ctx context.Context, network, address string) (net.Conn, error), owner func(net.Conn) error) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := owner(c); err != nil {
			_ = c.Close()
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.Join(errStranger, err)}
		}
		return c, nil
	}
}

func (p *proxy) close() {
	p.near.CloseIdleConnections()
	p.far.CloseIdleConnections()
}

// pass sends the request on. Nothing bounds how long it takes or how much it
// carries as long as something moves.
func (v *visit) pass() {
	ctx, done := v.f.live.begin(v)
	defer done()
	r := v.r.WithContext(context.WithValue(ctx, visitKey{}, v))
	if !webSocket(r) {
		r.Header.Del("Upgrade")
	}
	// The server's own limits are for short requests; a listener without any has
	// none to be lifted. They are lifted here only: who is not let in, and the
	// front's own endpoints, have no use for it.
	_ = v.w.control.SetReadDeadline(time.Time{})
	_ = v.w.control.SetWriteDeadline(time.Time{})
	defer func() { _ = v.w.control.SetReadDeadline(time.Now().Add(lateBody)) }()
	_ = v.w.control.EnableFullDuplex() // apps may answer before they have read all
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{ReadCloser: r.Body, w: v.w}
	}
	v.f.proxy.reverse.ServeHTTP(v.w, r)
}

// webSocket reports whether a request opens a WebSocket. No other protocol is
// switched to: in a tunnel of clear-text HTTP/2 an app's server would read
// whatever headers a stranger writes. Source: RFC 6455 §4.1.
func webSocket(r *http.Request) bool {
	up := r.Header["Upgrade"]
	return len(up) == 1 && strings.EqualFold(up[0], "websocket") && r.Method == http.MethodGet && r.ContentLength == 0 && r.Header.Get("Sec-Websocket-Key") != ""
}

// rewrite makes the request that the app gets. ReverseProxy has taken out the
// headers of the connection before, so none that is set here can be removed
// by a client's Connection header.
func rewrite(pr *httputil.ProxyRequest) {
	v := pr.In.Context().Value(visitKey{}).(*visit)
	// RoundTrip finds the process. Nothing but path and query goes into the line.
	pr.Out.URL = &url.URL{Scheme: "http", Host: "app", Path: pr.In.URL.Path, RawPath: pr.In.URL.RawPath,
		RawQuery: plainQuery(pr.In.URL.RawQuery), ForceQuery: pr.In.URL.ForceQuery}
	pr.Out.Host = v.own
	v.forward(pr.In, pr.Out)
	// Trailers come after the body. Those that were announced under reserved
	// names are never passed on, nor are any others that such names hide behind.
	pr.Out.Trailer = nil
	if pr.In.Trailer != nil && pr.Out.Body != nil {
		pr.Out.Trailer = http.Header{}
		for name := range pr.In.Trailer {
			if !isReserved(name) && !headOnly[name] {
				pr.Out.Trailer[name] = nil
			}
		}
		pr.Out.Body = &trailing{ReadCloser: pr.Out.Body, in: pr.In, out: pr.Out.Trailer}
	}
}

// headOnly are headers that never come after a body: nobody checked them there.
var headOnly = map[string]bool{"Authorization": true, "Cookie": true, "Host": true, "Forwarded": true, "Connection": true, "Upgrade": true,
	"Expect": true, "Te": true, "Origin": true, "Content-Type": true}

// trailing copies the announced trailers once the body has been read.
type trailing struct {
	io.ReadCloser
	in  *http.Request
	out http.Header
}

func (t *trailing) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	if err == io.EOF {
		for name := range t.out {
			t.out[name] = t.in.Trailer[name]
		}
	}
	return n, err
}

// RoundTrip sends a request to the first process of the app that takes the
// connection. Nothing has been sent when one does not, so the next is asked.
func (p *proxy) RoundTrip(req *http.Request) (*http.Response, error) {
	v := req.Context().Value(visitKey{}).(*visit)
	processes, err := p.f.processes(req.Context(), v.site.ID)
	if err != nil {
		return nil, err
	}
	last := error(errNoProcess)
	for _, up := range processes {
		u, err := url.Parse(up.Address)
		if err != nil {
			continue
		}
		out := *req
		out.URL = new(url.URL)
		*out.URL = *req.URL
		out.URL.Scheme, out.URL.Host = u.Scheme, u.Host
		if req.Body != nil {
			out.Body = io.NopCloser(req.Body) // ReverseProxy closes it
		}
		via := p.far
		if up.Machine != "" {
			via = p.near
		}
		resp, err := via.RoundTrip(&out)
		if err == nil {
			return resp, nil
		}
		last = err
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" {
			return nil, err
		}
	}
	return nil, last
}

var (
	errNoProcess = errors.New("no process of the app is known")
	errElsewhere = errors.New("the app's processes are on other machines' loopback")
)

// failed answers when the app did not.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	v := r.Context().Value(visitKey{}).(*visit)
	var op *net.OpError
	var timeout net.Error
	var known *az.Error
	switch {
	case v.r.Context().Err() != nil: // the client has gone
		v.w.status = 499
	case v.w.wrote:
		panic(http.ErrAbortHandler)
	case errors.Is(err, errElsewhere):
		v.notUp("The app runs on another machine and listens on its loopback only. Start it there with 'hawser run … --upstream-address', or ask that machine's plane.")
	case errors.Is(err, errNoProcess):
		v.notUp("Nobody has started it: 'hawser run APP' does.")
	case errors.Is(err, errStranger):
		v.f.cfg.Log.Warn("easyauth: a program of another user has an app's port", "app", v.site.ID.Name(), "error", err)
		v.notUp("A program of another user has its port. Start the app again, with another --port, as the user that the plane runs as.")
	case errors.As(err, &op) && op.Op == "dial":
		v.notUp("It has been started and does not take connections yet. It must listen on 127.0.0.1 and the port that the variable PORT names.")
	case errors.As(err, &known):
		v.fail(err)
	case errors.As(err, &timeout) && timeout.Timeout():
		v.page(http.StatusGatewayTimeout, "The app did not answer", "It took the request and has not answered in time.")
	default:
		v.f.cfg.Log.Info("easyauth: an app did not answer", "app", v.site.ID.Name(), "error", err)
		v.page(http.StatusBadGateway, "The app did not answer", "It ended the connection before it had answered.")
	}
}

func (v *visit) notUp(text string) {
	v.w.Header().Set("Retry-After", "3")
	p := pageText{Title: "This app isn't up", Text: text}
	if v.r.Method == http.MethodGet {
		p.Again = 3
	}
	v.show(http.StatusServiceUnavailable, p)
}

// writer is a reply whose deadline moves on while bytes flow.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	wrote   bool
	moved   time.Time // of the real clock, as deadlines are
}

func newWriter(w http.ResponseWriter) *writer {
	return &writer{ResponseWriter: w, control: http.NewResponseController(w)}
}

// Unwrap lets ReverseProxy flush and take over the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if w.status = status; status >= 200 || status == http.StatusSwitchingProtocols {
		w.wrote = true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if !w.wrote {
		w.status, w.wrote = http.StatusOK, true
	}
	if now := time.Now(); now.Sub(w.moved) > stallStep {
		w.moved = now
		_ = w.control.SetWriteDeadline(now.Add(stallTimeout))
	}
	return w.ResponseWriter.Write(b)
}

// body is a request's body whose deadline moves on while bytes flow, and is
// lifted at its end: the connection is then watched for the client's leaving.
type body struct {
	io.ReadCloser
	w     *writer
	moved time.Time
}

func (b *body) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(b.moved) > stallStep {
		b.moved = now
		_ = b.w.control.SetReadDeadline(now.Add(stallTimeout))
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.w.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// buffers are for copying bodies.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([copySize]byte) }}}
}

func (b *buffers) Get() []byte  { return b.pool.Get().(*[copySize]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[copySize]byte)(p)) }

type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(b []byte) (int, error) {
	w.log.Debug("easyauth: proxy", "message", string(b))
	return len(b), nil
}
