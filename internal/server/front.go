package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/easyauth"
	"github.com/hawser/hawser/internal/run"
	"github.com/hawser/hawser/internal/site"
)

// openFront makes what stands in front of apps. It sees sites and the
// authority by these functions only.
func (s *Server) openFront() {
	p := &s.parts
	p.front = easyauth.New(easyauth.Config{
		Store: s.store, Guard: p.guard, Sealer: s.keys.sealer, Directory: p.directory, Names: s.names, Clock: s.cfg.Clock, Log: s.cfg.Log,
		Site: s.frontSite, Setting: p.sites.Setting, Verify: s.verifyFor, Login: inProcess{s}, Machine: run.Machine(), Served: s.served,
		Owner: func(c net.Conn) error { return mayBeApp(c, os.Geteuid()) },
	})
	s.onClose(func(context.Context) { p.front.Close() })
}

// frontHooks are what sites ask of the front, which is made after them.
func (s *Server) frontHooks(c site.Config) site.Config {
	c.CheckAuth = func(raw []byte) error { return easyauth.Check(s.names, raw) }
	c.Announce = func(ctx context.Context, id az.ID, body []byte) error {
		var p easyauth.Process
		if err := json.Unmarshal(body, &p); err != nil {
			return az.Errorf(az.Invalid, "BadRequest", "The body must say id and address of a process.")
		}
		_, local := isLocal(ctx)
		return s.parts.front.Announce(ctx, id, p, easyauth.Announcer{Local: local, From: peerOf(ctx)})
	}
	return c
}

// mayBeApp refuses programs of users who can have no app on this machine's
// loopback: only the plane's own user and root can announce one. Where that is
// root its apps may have given their rights up, so anybody's could be one. What
// the kernel does not tell passes.
func mayBeApp(c net.Conn, plane int) error {
	if plane <= 0 {
		return nil
	}
	users, err := run.PeerUsers(c)
	if err != nil {
		return nil
	}
	for _, u := range users {
		if u != 0 && int(u) != plane {
			return fmt.Errorf("the program's user is %d, the plane's %d", u, plane)
		}
	}
	return nil
}

// peerKey marks the address of a connection's other end in a request's context.
type peerKey struct{}

// withPeer is a listener's ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return context.WithValue(ctx, peerKey{}, ap.Addr())
	}
	return ctx
}

// peerOf is the other end's address; none over the local socket.
func peerOf(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(peerKey{}).(netip.Addr)
	return a
}

func (s *Server) frontSite(ctx context.Context, name string) (*easyauth.Site, error) {
	v, err := s.parts.sites.Front(ctx, name)
	if err != nil || v == nil {
		return nil, err
	}
	return &easyauth.Site{ID: v.ID, Stopped: v.Stopped, Auth: v.Auth}, nil
}

// verifyFor checks a token that an app's caller brought, or that the authority
// gave the front.
func (s *Server) verifyFor(ctx context.Context, token string, want easyauth.Expect) (easyauth.Token, error) {
	audiences := want.Audiences
	if audiences == nil { // whatever it says it is for; the signature is checked all the same
		audiences = []string{audienceOf(token)}
	}
	c, err := s.parts.authority.VerifyFor(ctx, token, audiences, want.Peer)
	if err != nil {
		return easyauth.Token{}, err
	}
	if c.ID != want.ID {
		return easyauth.Token{}, az.Errorf(az.Unauthorized, "InvalidAuthenticationToken", "The token is of the wrong kind: an access token is needed to call an app, an id token to sign in.")
	}
	c.Principal.Expires = c.Expires
	return easyauth.Token{Principal: c.Principal, Claims: c.All}, nil
}

// audienceOf reads aud out of a token that nobody has checked; "" if there is
// none.
func audienceOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	var c struct {
		Aud string `json:"aud"`
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &c) != nil {
		return ""
	}
	return c.Aud
}

// inProcess carries the front's requests to this plane's own token authority:
// the same OAuth as from anywhere else, without a network between.
type inProcess struct{ s *Server }

// RoundTrip serves only the authority's surface. The context is a new one: a
// request of the local socket must not make this one the administrator's.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.s.names.Classify(r.URL.Host).Surface != az.SurfaceLogin {
		return nil, az.Errorf(az.Internal, "", "the front asked another surface than the authority's")
	}
	ctx, cancel := context.WithCancel(az.WithCorrelation(context.Background(), az.Correlation(r.Context())))
	defer cancel()
	defer context.AfterFunc(r.Context(), cancel)()
	in := r.Clone(ctx)
	in.Host, in.RequestURI, in.RemoteAddr = r.URL.Host, r.URL.RequestURI(), "127.0.0.1:0"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	w := &kept{header: http.Header{}}
	t.s.login.ServeHTTP(w, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: w.code(), Status: http.StatusText(w.code()), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

// kept is a reply kept in memory: those of the token endpoint are small.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *kept) Header() http.Header { return w.header }

func (w *kept) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *kept) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *kept) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
