package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Form is how a surface words its errors.
type Form int

const (
	FormARM      Form = iota // {"error":{"code","message"}}
	FormKeyVault             // the same with innererror
	FormOAuth                // {"error","error_description","error_codes",…}
	FormGraph                // {"error":{"code","message","innerError":{…}}}
	FormIdentity             // {"error","error_description"}: IMDS
)

var statuses = [...]int{
	az.Internal:     http.StatusInternalServerError,
	az.Invalid:      http.StatusBadRequest,
	az.Unauthorized: http.StatusUnauthorized,
	az.Forbidden:    http.StatusForbidden,
	az.NotFound:     http.StatusNotFound,
	az.Conflict:     http.StatusConflict,
	az.Precondition: http.StatusPreconditionFailed,
	az.Gone:         http.StatusConflict,
	az.TooLarge:     http.StatusRequestEntityTooLarge,
	az.TooMany:      http.StatusTooManyRequests,
	az.Unavailable:  http.StatusServiceUnavailable,
	az.Unsupported:  http.StatusMethodNotAllowed,
}

// Status maps an error to an HTTP status; two codes stand for narrower ones.
func Status(e *az.Error) int {
	if e.Code == "UnsupportedMediaType" {
		return http.StatusUnsupportedMediaType
	}
	return statuses[e.Kind]
}

// AsError finds the az.Error of err or hides err behind an Internal one.
func AsError(err error) *az.Error {
	var e *az.Error
	if !errors.As(err, &e) {
		e = &az.Error{Kind: az.Internal, Cause: err}
	}
	if e.Kind == az.Internal {
		// What went wrong inside is for the log; a client can only report it.
		c := *e
		c.Code = "InternalServerError"
		c.Message = "Something went wrong inside the server. The correlation id of this reply finds it in the log."
		e = &c
	}
	return e
}

// write sends a handler's result and returns the status.
func (s *Surface) write(w http.ResponseWriter, req *Request, v any, err error) int {
	if err != nil {
		return s.fail(w, req, err)
	}
	reply, ok := v.(*Reply)
	if !ok {
		reply = &Reply{Body: v}
	}
	body, isBytes := reply.Body.([]byte)
	if !isBytes && reply.Body != nil {
		if body, err = marshal(reply.Body); err != nil {
			return s.fail(w, req, err)
		}
	}
	status := reply.Status
	if status == 0 {
		status = http.StatusOK
		if body == nil {
			status = http.StatusNoContent
		}
	}
	h := w.Header()
	for k, vs := range reply.Header {
		h[k] = vs
	}
	if body != nil && h.Get("Content-Type") == "" {
		h["Content-Type"] = contentJSON
	}
	send(w, req, status, body)
	return status
}

var contentJSON = []string{"application/json; charset=utf-8"}

func marshal(v any) ([]byte, error) {
	if m, ok := v.(json.Marshaler); ok {
		return m.MarshalJSON()
	}
	return json.Marshal(v)
}

func send(w http.ResponseWriter, req *Request, status int, body []byte) {
	if body != nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if body != nil && req.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left needs no reply
	}
}

// fail sends an error in the surface's form, logs its cause and returns the
// status.
func (s *Surface) fail(w http.ResponseWriter, req *Request, err error) int {
	e := AsError(err)
	status := Status(e)
	if left := req.Context().Err() != nil; !left && (e.Kind == az.Internal || e.Kind == az.Unavailable) {
		s.Log.Error("a request failed", "surface", s.Name, "correlation", req.CorrelationID, "method", methodWord(req.Method), "status", status, "error", e)
	} else {
		s.Log.Debug("a request was refused", "surface", s.Name, "correlation", req.CorrelationID, "status", status, "error", e)
	}
	h := w.Header()
	if status == http.StatusUnauthorized && s.Challenge != nil {
		if c := s.Challenge(req.Request, e); c != "" {
			h.Set("WWW-Authenticate", c)
		}
	}
	if e.RetryAfter > 0 || e.Kind == az.TooMany || e.Kind == az.Unavailable {
		h.Set("Retry-After", strconv.Itoa(max(1, int((e.RetryAfter+time.Second-1)/time.Second))))
	}
	if status >= 400 && req.ContentLength != 0 && req.Body == nil {
		// The body was not read: don't let the connection be reused for it.
		h.Set("Connection", "close")
	}
	h["Content-Type"] = contentJSON
	send(w, req, status, ErrorBody(s.Form, e, req.CorrelationID, s.Clock()))
	return status
}

type errorDetail struct {
	Code       string      `json:"code"`
	Message    string      `json:"message"`
	InnerError *innerError `json:"innererror,omitempty"`
	Inner      *graphInner `json:"innerError,omitempty"`
}

type innerError struct {
	Code string `json:"code"`
}

type graphInner struct {
	Date            string `json:"date"`
	RequestID       string `json:"request-id"`
	ClientRequestID string `json:"client-request-id"`
}

type oauthError struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes,omitempty"`
	Timestamp     string `json:"timestamp,omitempty"`
	TraceID       string `json:"trace_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	URI           string `json:"error_uri,omitempty"`
	Suberror      string `json:"suberror,omitempty"`
}

// ErrorBody words an error in a form. It is the only place that does.
func ErrorBody(form Form, e *az.Error, correlation string, now time.Time) []byte {
	code := e.Code
	if code == "" || form == FormOAuth && !isOAuthCode(code) {
		code = defaultCode(form, e.Kind)
	}
	var v any
	switch form {
	case FormOAuth:
		v = oauthBody(e, code, correlation, now)
	case FormIdentity:
		v = oauthError{Error: code, Description: e.Message}
	default:
		d := errorDetail{Code: code, Message: e.Message}
		if form == FormKeyVault && e.Inner != "" {
			d.InnerError = &innerError{e.Inner}
		}
		if form == FormGraph {
			d.Inner = &graphInner{now.UTC().Format("2006-01-02T15:04:05"), correlation, correlation}
		}
		v = struct {
			Error errorDetail `json:"error"`
		}{d}
	}
	b, err := json.Marshal(v)
	if err != nil { // strings only: cannot happen
		return []byte(`{}`)
	}
	return b
}

// oauthBody follows wire/entra.md §2: number, sentence, then the ids that a
// person quotes when asking for help.
func oauthBody(e *az.Error, code, correlation string, now time.Time) oauthError {
	stamp := now.UTC().Format("2006-01-02 15:04:05Z")
	b := oauthError{Error: code, Timestamp: stamp, TraceID: correlation, CorrelationID: correlation, Suberror: e.Inner}
	var text strings.Builder
	if e.Number != 0 {
		n := strconv.Itoa(e.Number)
		text.WriteString("AADSTS" + n + ": ")
		b.Codes = []int{e.Number}
		b.URI = "https://login.microsoftonline.com/error?code=" + n
	}
	text.WriteString(e.Message)
	text.WriteString(" Trace ID: " + correlation + " Correlation ID: " + correlation + " Timestamp: " + stamp)
	b.Description = text.String()
	return b
}

// isOAuthCode tells OAuth's words (RFC 6749 §5.2) from those of the other
// surfaces, which errors from below them may bring: a store that is away must
// be temporarily_unavailable for those who ask for tokens.
func isOAuthCode(code string) bool {
	return !strings.ContainsFunc(code, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
}

func defaultCode(form Form, k az.Kind) string {
	if form == FormOAuth || form == FormIdentity {
		switch k {
		case az.Unavailable, az.TooMany:
			return "temporarily_unavailable"
		case az.Internal:
			return "server_error"
		case az.Unauthorized:
			return "invalid_client"
		}
		return "invalid_request"
	}
	names := [...]string{az.Internal: "InternalServerError", az.Invalid: "BadRequest", az.Unauthorized: "Unauthorized",
		az.Forbidden: "Forbidden", az.NotFound: "NotFound", az.Conflict: "Conflict", az.Precondition: "PreconditionFailed",
		az.Gone: "Conflict", az.TooLarge: "RequestEntityTooLarge", az.TooMany: "TooManyRequests",
		az.Unavailable: "ServiceUnavailable", az.Unsupported: "MethodNotAllowed"}
	return names[k]
}
