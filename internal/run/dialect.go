package run

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// form is how a dialect writes answers and errors.
type form int

const (
	formAppService form = iota // 2019-08-01 and 2017-09-01
	formIMDS
	formArc
)

// buffers are for answers: a token is 1 to 4 KiB.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

var jsonType = []string{"application/json; charset=utf-8"}
var noStore = []string{"no-store"}

// writeToken writes a token in the dialect's form. Every number is a string:
// the one form all clients of all dialects read (wire/managed-identity §2-4).
func writeToken(w http.ResponseWriter, f form, r *request, a *answer, now time.Time) {
	p := buffers.Get().(*[]byte)
	b := (*p)[:0]
	b = append(b, `{"access_token":`...)
	b = append(b, a.token...)
	b = append(b, `,"expires_on":"`...)
	b = strconv.AppendInt(b, a.expires, 10)
	b = append(b, `","not_before":"`...)
	b = strconv.AppendInt(b, a.notBefore, 10)
	b = append(b, `","resource":`...)
	b = append(b, a.resource...)
	b = append(b, `,"token_type":"Bearer","client_id":`...)
	switch f {
	case formAppService:
		b = append(b, a.clientUpper...) // as the real service prints it
	default:
		b = appendIMDS(b, f, r, a, now)
	}
	b = append(b, '}')
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonType, noStore
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	_, _ = w.Write(b)
	clear(b) // a token does not stay in memory that others reuse
	*p = b
	buffers.Put(p)
}

// appendIMDS adds what IMDS has more. Arc clients that asked for a
// user-assigned identity want their own words back (wire §5).
func appendIMDS(b []byte, f form, r *request, a *answer, now time.Time) []byte {
	if f == formArc && r.kind == byClient {
		b = append(b, quote(r.id)...)
	} else {
		b = append(b, a.client...)
	}
	left := max(a.expires-now.Unix(), 0)
	b = append(b, `,"expires_in":"`...)
	b = strconv.AppendInt(b, left, 10)
	b = append(b, `","ext_expires_in":"`...)
	b = strconv.AppendInt(b, left, 10)
	b = append(b, '"')
	if f == formArc && (r.kind == byObject || r.kind == byResource) {
		b = append(b, ',')
		b = append(b, quote(r.key)...)
		b = append(b, ':')
		b = append(b, quote(r.id)...)
	}
	return b
}

// refusal is an error on its way to the client, before a dialect has given it
// a form.
type refusal struct {
	status int
	code   string // IMDS's error
	text   string
	retry  time.Duration
}

// Texts of the real endpoints, from wire/managed-identity §2 and §4.
const (
	textNoIdentity = "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
	textIMDSNone   = "Identity not found"
	textNoMetadata = "Required metadata header not specified"
)

// refuse turns the error of a token source into a refusal.
func refuse(err error, f form, r *request) *refusal {
	var asked badRequest
	if errors.As(err, &asked) {
		return &refusal{status: http.StatusBadRequest, code: "invalid_request", text: string(asked)}
	}
	e := sourceError(err)
	switch {
	case e.Status == http.StatusTooManyRequests:
		return &refusal{e.Status, "too_many_requests", "Too many requests. Retry after the time given.", max(e.RetryAfter, time.Second)}
	case e.Code == "IdentityNotFound":
		text := textNoIdentity
		if f != formAppService {
			text = textIMDSNone
		}
		return &refusal{status: http.StatusBadRequest, code: "invalid_request", text: text}
	case e.Code == "InvalidResource":
		return &refusal{status: http.StatusBadRequest, code: "invalid_resource", text: badResource(e.Message, r.resource)}
	case e.Status == http.StatusForbidden, e.Status == http.StatusNotFound:
		return &refusal{status: http.StatusForbidden, code: "forbidden", text: first(e.Message, "The plane refused this identity a token.")}
	case e.Status >= 400 && e.Status < 500 && e.Status != http.StatusUnauthorized && e.Status != http.StatusRequestTimeout:
		return &refusal{status: http.StatusBadRequest, code: "invalid_request", text: first(e.Message, "The request was refused.")}
	}
	return &refusal{http.StatusServiceUnavailable, "unknown", "Failed to retrieve token from the plane. For details see the log of hawser run.", max(e.RetryAfter, time.Second)}
}

// badResource says it in the words Entra uses, for clients that look for the
// number.
func badResource(message, resource string) string {
	if strings.HasPrefix(message, "AADSTS") {
		return message
	}
	return "AADSTS50001: The application named " + resource + " was not found in the tenant. " + message
}

// sourceError brings the two error structs a token source may use to one.
func sourceError(err error) *client.Error {
	var c *client.Error
	if errors.As(err, &c) {
		return c
	}
	var e *az.Error
	if !errors.As(err, &e) {
		return &client.Error{Status: http.StatusServiceUnavailable}
	}
	status := map[az.Kind]int{az.Invalid: 400, az.Forbidden: 403, az.NotFound: 404, az.TooMany: 429, az.Unsupported: 400}[e.Kind]
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	return &client.Error{Status: status, Code: e.Code, Message: e.Message, RetryAfter: e.RetryAfter}
}

// write sends the refusal in the dialect's form.
func (r *refusal) write(w http.ResponseWriter, f form) {
	var b []byte
	if f == formAppService {
		b = append(b, `{"statusCode":`+strconv.Itoa(r.status)+`,"message":`+quote(r.text)+`,"correlationId":"`+az.NewGUID()+`"}`...)
	} else {
		b = append(b, `{"error":`+quote(r.code)+`,"error_description":`+quote(r.text)+`}`...)
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonType, noStore
	if r.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int((r.retry+time.Second-1)/time.Second)))
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(b)
}
