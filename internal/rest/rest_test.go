package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func surface(log io.Writer, form rest.Form, routes ...rest.Route) http.Handler {
	s := &rest.Surface{Name: "test", Form: form, Routes: routes, Log: slog.New(slog.NewTextHandler(log, nil)), Clock: func() time.Time { return now },
		Verify: func(_ context.Context, r *http.Request, a rest.Audience) (az.Principal, error) {
			if r.Header.Get("Authorization") != "Bearer "+string(a) {
				return az.Principal{}, az.Errorf(az.Unauthorized, "Unauthorized", "no")
			}
			return az.Principal{ObjectID: "me"}, nil
		},
		Challenge: func(*http.Request, *az.Error) string { return "Bearer x" },
	}
	return s.Handler()
}

func do(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRouteWithoutAccessIsAMistake(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a table with an open route was accepted")
		}
	}()
	surface(io.Discard, rest.FormARM, rest.Route{Path: "/", Handle: nil})
}

func TestCallerIsKnownBeforeAnythingIsRead(t *testing.T) {
	reached := false
	h := surface(io.Discard, rest.FormARM, rest.Route{Method: "PUT", Path: "/a", Access: rest.Token(rest.ARM), MaxBody: 10,
		Handle: func(_ context.Context, r *rest.Request) (any, error) {
			reached = true
			return map[string]string{"caller": r.Caller.ObjectID, "body": string(r.Body)}, nil
		}})
	if w := do(h, "PUT", "/a", strings.Repeat("x", 100)); w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer x" || reached {
		t.Errorf("without a token: %d, reached %v", w.Code, reached)
	}
	if w := do(h, "PUT", "/a", "x", "Authorization", "Bearer vault"); w.Code != 401 || reached {
		t.Errorf("with another audience's token: %d", w.Code)
	}
	if w := do(h, "PUT", "/a", strings.Repeat("x", 11), "Authorization", "Bearer arm"); w.Code != 413 || reached {
		t.Errorf("too large: %d", w.Code)
	}
	// The same without a length.
	r := httptest.NewRequest("PUT", "/a", struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 11))})
	r.ContentLength = -1
	r.Header.Set("Authorization", "Bearer arm")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 413 || reached {
		t.Errorf("too large and chunked: %d", w.Code)
	}
	if w := do(h, "PUT", "/a", "0123456789", "Authorization", "Bearer arm"); w.Code != 200 || w.Body.String() != `{"body":"0123456789","caller":"me"}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestUnroutedInTheSurfacesForm(t *testing.T) {
	h := surface(io.Discard, rest.FormKeyVault, rest.Route{Method: "GET", Path: "/a/{n}", Access: rest.Nobody("test"),
		Handle: func(_ context.Context, r *rest.Request) (any, error) { return r.PathValue("n"), nil }})
	for _, c := range []struct {
		method, path string
		want         int
		code         string
	}{{"GET", "/b", 404, "NotFound"}, {"POST", "/a/x", 405, "MethodNotAllowed"}, {"GET", "/a/", 404, "NotFound"}} {
		w := do(h, c.method, c.path, "")
		var body struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != c.want || body.Error.Code != c.code || body.Error.Message == "" {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
	if w := do(h, "GET", "//a//x", ""); w.Code != 200 || w.Body.String() != `"x"` {
		t.Errorf("doubled slashes: %d %s", w.Code, w.Body)
	}
}

func TestErrorForms(t *testing.T) {
	e := &az.Error{Kind: az.Forbidden, Code: "Code", Inner: "Inner", Message: "Sentence.", Number: 7000215, Cause: errors.New("private")}
	for form, want := range map[rest.Form]string{
		rest.FormARM:      `{"error":{"code":"Code","message":"Sentence."}}`,
		rest.FormKeyVault: `{"error":{"code":"Code","message":"Sentence.","innererror":{"code":"Inner"}}}`,
		rest.FormGraph:    `{"error":{"code":"Code","message":"Sentence.","innerError":{"date":"2026-01-02T03:04:05","request-id":"id","client-request-id":"id"}}}`,
		rest.FormIdentity: `{"error":"Code","error_description":"Sentence."}`,
		rest.FormOAuth: `{"error":"invalid_request","error_description":"AADSTS7000215: Sentence. Trace ID: id Correlation ID: id Timestamp: 2026-01-02 03:04:05Z","error_codes":[7000215],` +
			`"timestamp":"2026-01-02 03:04:05Z","trace_id":"id","correlation_id":"id","error_uri":"https://login.microsoftonline.com/error?code=7000215","suberror":"Inner"}`,
	} {
		if diff := cmp.Diff(want, string(rest.ErrorBody(form, e, "id", now))); diff != "" {
			t.Errorf("form %d: %s", form, diff)
		}
	}
}

// Errors from below a surface have words of their own; OAuth's clients know
// OAuth's only.
func TestOAuthErrorsHaveOAuthCodes(t *testing.T) {
	for kind, want := range map[az.Kind]string{az.Unavailable: "temporarily_unavailable", az.Internal: "server_error", az.NotFound: "invalid_request"} {
		b := string(rest.ErrorBody(rest.FormOAuth, &az.Error{Kind: kind, Code: "SomethingElse"}, "id", now))
		if !strings.HasPrefix(b, `{"error":"`+want+`"`) {
			t.Errorf("%v: %s", kind, b)
		}
	}
	if b := string(rest.ErrorBody(rest.FormOAuth, &az.Error{Kind: az.Invalid, Code: "invalid_scope"}, "id", now)); !strings.HasPrefix(b, `{"error":"invalid_scope"`) {
		t.Error(b)
	}
}

// What went wrong inside reaches the log and never the client.
func TestInternalErrorsAndPanicsStayInside(t *testing.T) {
	for name, handle := range map[string]func(context.Context, *rest.Request) (any, error){
		"error": func(context.Context, *rest.Request) (any, error) { return nil, errors.New("private detail") },
		"panic": func(context.Context, *rest.Request) (any, error) { panic("private detail") },
		"cause": func(context.Context, *rest.Request) (any, error) {
			return nil, az.Errorf(az.Unavailable, "X", "Try again.").Because(errors.New("private detail"))
		},
	} {
		var log bytes.Buffer
		w := do(surface(&log, rest.FormARM, rest.Route{Path: "/", Access: rest.Nobody("test"), Handle: handle}), "GET", "/", "", "X-Ms-Client-Request-Id", "my-id")
		if w.Code < 500 || strings.Contains(w.Body.String(), "private") || !strings.Contains(log.String(), "private detail") || !strings.Contains(log.String(), "my-id") {
			t.Errorf("%s: %d %s; log %s", name, w.Code, w.Body, &log)
		}
		if name == "cause" && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

func TestCorrelationCannotForgeLogLines(t *testing.T) {
	h := surface(io.Discard, rest.FormARM, rest.Route{Path: "/", Access: rest.Nobody("test"), Handle: func(ctx context.Context, r *rest.Request) (any, error) {
		if r.CorrelationID != az.Correlation(ctx) {
			t.Error("the context has another id")
		}
		return r.CorrelationID, nil
	}})
	for in, keep := range map[string]bool{"abc-1": true, "a b": false, "a\"b": false, strings.Repeat("a", 65): false} {
		w := do(h, "GET", "/", "", "X-Ms-Client-Request-Id", in)
		if got := strings.Trim(w.Body.String(), `"`); (got == in) != keep {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestJSONBodies(t *testing.T) {
	h := surface(io.Discard, rest.FormARM, rest.Route{Path: "/", Access: rest.Nobody("test"), MaxBody: 1 << 20, Handle: func(_ context.Context, r *rest.Request) (any, error) {
		var v struct{ A int }
		err := r.JSON(&v)
		return v.A, err
	}})
	for _, c := range []struct {
		body, contentType string
		want              int
	}{
		{`{"a":1}`, "application/json", 200}, {`{"a":1}`, "application/json; charset=utf-8", 200}, {`{"a":1}`, "", 200}, {`{"a":1,"later":2}`, "text/json", 200},
		{``, "application/json", 400}, {`{"a":"x"}`, "application/json", 400}, {`{"a":1}{"a":2}`, "application/json", 400}, {`{"a":1`, "application/json", 400},
		{strings.Repeat("[", 100000), "application/json", 400}, {`{"a":1}`, "text/plain", 415}, {`{"a":1}`, "application/x-www-form-urlencoded", 415},
	} {
		if w := do(h, "POST", "/", c.body, "Content-Type", c.contentType); w.Code != c.want {
			t.Errorf("%.20q as %q: %d %s", c.body, c.contentType, w.Code, w.Body)
		}
	}
}

func TestReplies(t *testing.T) {
	for name, c := range map[string]struct {
		v      any
		status int
		body   string
	}{
		"nil":   {nil, 204, ""},
		"value": {map[string]int{"a": 1}, 200, `{"a":1}`},
		"bytes": {[]byte("raw"), 200, "raw"},
		"reply": {&rest.Reply{Status: 202, Header: http.Header{"Location": {"x"}}}, 202, ""},
	} {
		h := surface(io.Discard, rest.FormARM, rest.Route{Path: "/", Access: rest.Nobody("test"), Handle: func(context.Context, *rest.Request) (any, error) { return c.v, nil }})
		w := do(h, "GET", "/", "")
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %q %v", name, w.Code, w.Body, w.Header())
		}
		if w := do(h, "HEAD", "/", ""); w.Body.Len() != 0 {
			t.Errorf("%s: HEAD has a body", name)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"\u0000\""}]}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if err := rest.DecodeJSON(b, &v); err == nil && !json.Valid(b) {
			t.Errorf("%q was accepted", b)
		} else if err != nil && !az.Is(err, az.Invalid) {
			t.Errorf("%q: %v", b, err)
		}
	})
}
