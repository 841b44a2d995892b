package rest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Access says how the caller of a route is known. The zero value admits
// nobody, so a route that forgets it is closed.
type Access struct {
	audience Audience
	nobody   string
}

// Audience names a surface for which a token must have been issued; what
// values of aud that means is for the verifier to know.
type Audience string

const (
	ARM        Audience = "arm"
	Vault      Audience = "vault"
	Graph      Audience = "graph"
	PostgreSQL Audience = "postgres" // MySQL's, too: Azure has one resource for both
	SQL        Audience = "sql"
	Redis      Audience = "redis"
)

// Token admits callers with a valid token for an audience.
func Token(a Audience) Access { return Access{audience: a} }

// Nobody admits callers without any token, and says why that is right.
func Nobody(reason string) Access { return Access{nobody: reason} }

// Route is one line of a surface's table.
type Route struct {
	Method string // "" serves every method
	Path   string // a net/http.ServeMux path pattern
	Access Access
	// MaxBody bounds the request's body in bytes; 0 means that the route
	// takes none (a body that comes all the same is not read).
	MaxBody int64
	// Timeout bounds the handler; 0 means DefaultTimeout.
	Timeout time.Duration
	Handle  func(context.Context, *Request) (any, error)
}

// DefaultTimeout bounds a handler. It is below the 60 s after which Azure's
// clients give up on a request.
const DefaultTimeout = 30 * time.Second

// Request is a request whose caller is known and whose body was read whole.
type Request struct {
	*http.Request
	Caller az.Principal
	Body   []byte
	// CorrelationID ties log lines and audit records to what the client saw.
	CorrelationID string
	// Log carries the correlation id.
	Log *slog.Logger
}

// Reply is a result that needs more than "200 with this JSON". A handler may
// also return any other value (200, JSON), nil (204), or []byte (200, as is).
type Reply struct {
	Status int // 0: 200, or 204 without a Body
	Header http.Header
	Body   any // marshalled to JSON; []byte is written as is
}

// VerifyFunc says who sent a request. It returns Unauthorized errors only for
// tokens; Unavailable if it cannot tell at the moment.
type VerifyFunc func(ctx context.Context, r *http.Request, a Audience) (az.Principal, error)

// Surface is one host's worth of routes with one form of errors.
type Surface struct {
	Name   string
	Form   Form
	Routes []Route
	Verify VerifyFunc
	// Challenge gives the WWW-Authenticate value of a 401; nil for none.
	Challenge func(r *http.Request, err *az.Error) string
	// Before may set headers of every reply, or refuse a request before its
	// caller is looked at; nil for none.
	Before func(w http.ResponseWriter, r *http.Request) error
	Log    *slog.Logger
	Clock  az.Clock
	// Served is called after every reply, for metrics; nil for none.
	Served func(surface, route string, status int, took time.Duration)
}

// Handler builds the surface's handler. It panics on a bad table, since that
// is a mistake in the program.
func (s *Surface) Handler() http.Handler {
	mux := http.NewServeMux()
	catchesAll := false
	for i := range s.Routes {
		rt := &s.Routes[i]
		if rt.Access == (Access{}) {
			panic("rest: route " + rt.Path + " of " + s.Name + " does not say who may use it")
		}
		mux.Handle(strings.TrimSpace(rt.Method+" "+rt.Path), s.endpoint(rt))
		catchesAll = catchesAll || rt.Method == "" && (rt.Path == "/" || strings.HasPrefix(rt.Path, "/{") && strings.HasSuffix(rt.Path, "...}"))
	}
	if !catchesAll {
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.unrouted(w, r, mux) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { mux.ServeHTTP(w, foldSlashes(r)) })
}

// foldSlashes makes //secrets/a into /secrets/a before routing: clients send
// such paths, and net/http would answer with a redirect that they don't follow.
func foldSlashes(r *http.Request) *http.Request {
	if !strings.Contains(r.URL.Path, "//") {
		return r
	}
	u := *r.URL
	for strings.Contains(u.Path, "//") {
		u.Path = strings.ReplaceAll(u.Path, "//", "/")
	}
	u.RawPath = ""
	c := *r
	c.URL = &u
	return &c
}

// unrouted answers what no route serves: 404, or 405 where another method
// would do, in the surface's own form.
func (s *Surface) unrouted(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	req := s.request(w, r)
	err := az.Errorf(az.NotFound, "NotFound", "There is nothing at this path; check the address and the api-version.")
	for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := *r
		probe.Method = m
		if _, pattern := mux.Handler(&probe); pattern != "" && pattern != "/" {
			err = az.Errorf(az.Unsupported, "MethodNotAllowed", "The method %s is not served at this path.", methodWord(r.Method))
			break
		}
	}
	s.fail(w, req, err)
}

func methodWord(m string) string {
	if len(m) > 16 || strings.ContainsFunc(m, func(c rune) bool { return c < 'A' || c > 'Z' }) {
		return "given"
	}
	return m
}

// Values of headers that every reply shares; nobody appends to them in place,
// since they have no room.
var (
	headerNoSniff = []string{"nosniff"}
	headerNoStore = []string{"no-store"}
)

// request wraps r and sets the headers that every reply has.
func (s *Surface) request(w http.ResponseWriter, r *http.Request) *Request {
	id := correlationID(r)
	h := w.Header()
	h["X-Ms-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = headerNoSniff
	h["Cache-Control"] = headerNoStore
	if c := r.Header.Get("X-Ms-Client-Request-Id"); validCorrelation(c) {
		h.Set("X-Ms-Client-Request-Id", c)
	}
	return &Request{Request: r, CorrelationID: id, Log: s.Log}
}

// correlationID takes the client's id if it is a plain one, else makes one.
func correlationID(r *http.Request) string {
	for _, name := range [...]string{"X-Ms-Correlation-Request-Id", "X-Ms-Client-Request-Id", "Client-Request-Id"} {
		if c := r.Header.Get(name); validCorrelation(c) {
			return c
		}
	}
	return az.NewGUID()
}

// validCorrelation keeps what clients send from forging log lines.
func validCorrelation(c string) bool {
	if c == "" || len(c) > 64 {
		return false
	}
	for i := 0; i < len(c); i++ {
		ok := c[i] >= '0' && c[i] <= '9' || c[i] >= 'a' && c[i] <= 'z' || c[i] >= 'A' && c[i] <= 'Z' || c[i] == '-'
		if !ok {
			return false
		}
	}
	return true
}

func (s *Surface) endpoint(rt *Route) http.Handler {
	timeout := rt.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.Clock()
		req := s.request(w, r)
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		ctx = az.WithCorrelation(ctx, req.CorrelationID)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("a handler panicked", "surface", s.Name, "route", rt.Path, "correlation", req.CorrelationID, "panic", p, "stack", stack())
				s.fail(w, req, az.Errorf(az.Internal, "", ""))
			}
		}()
		v, err := s.call(ctx, w, rt, req)
		status := s.write(w, req, v, err)
		if s.Served != nil {
			s.Served(s.Name, rt.Path, status, s.Clock().Sub(began))
		}
	})
}

// call knows the caller first and reads the body only then: clients of Key
// Vault send the first request without one, and strangers get nothing parsed.
func (s *Surface) call(ctx context.Context, w http.ResponseWriter, rt *Route, req *Request) (any, error) {
	if s.Before != nil {
		if err := s.Before(w, req.Request); err != nil {
			return nil, err
		}
	}
	if rt.Access.nobody == "" {
		caller, err := s.Verify(ctx, req.Request, rt.Access.audience)
		if err != nil {
			return nil, err
		}
		req.Caller = caller
	}
	if rt.MaxBody > 0 {
		body, err := readBody(w, req.Request, rt.MaxBody)
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	return rt.Handle(ctx, req)
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case err != nil:
		return nil, az.Errorf(az.Invalid, "BadRequest", "The request's body ended early.").Because(err)
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return az.Errorf(az.TooLarge, "RequestEntityTooLarge", "The request's body is larger than the %d bytes allowed here.", limit)
}

// JSON decodes the body into v. It refuses other content types, a missing body
// and anything after the value; unknown fields are ignored, as Azure does.
func (r *Request) JSON(v any) error {
	if len(r.Body) == 0 {
		return az.Errorf(az.Invalid, "BadParameter", "The request needs a JSON body.")
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		media, _, err := mime.ParseMediaType(ct)
		if err != nil || (media != "application/json" && media != "text/json" && !strings.HasSuffix(media, "+json")) {
			return az.Errorf(az.Unsupported, "UnsupportedMediaType", "The body must be sent as application/json.")
		}
	}
	return DecodeJSON(r.Body, v)
}

// NewCorrelation returns 16 random hex bytes for places without a request.
func NewCorrelation() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
