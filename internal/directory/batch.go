package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

const (
	// maxBatch is how many requests a batch may hold. Source: Microsoft Graph,
	// JSON batching, "up to 20 individual requests".
	maxBatch = 20
	// maxBatchURL bounds one request's address.
	maxBatchURL = 8 << 10
)

// batchItem is one request of a batch.
type batchItem struct {
	ID        string            `json:"id"`
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers"`
	Body      json.RawMessage   `json:"body"`
	DependsOn []string          `json:"dependsOn"`
}

type batchAnswer struct {
	ID      string            `json:"id"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    json.RawMessage   `json:"body,omitempty"`
}

func badBatch(format string, args ...any) error {
	return az.Errorf(az.Invalid, "BadRequest", format, args...)
}

// parseBatch reads a batch and puts its requests into an order in which each
// comes after those it depends on.
func parseBatch(body []byte) ([]batchItem, error) {
	var b struct {
		Requests []batchItem `json:"requests"`
	}
	if err := rest.DecodeJSON(body, &b); err != nil {
		return nil, err
	}
	if len(b.Requests) == 0 || len(b.Requests) > maxBatch {
		return nil, badBatch("A batch must hold 1 to %d requests.", maxBatch)
	}
	byID := map[string]int{}
	for i := range b.Requests {
		r := &b.Requests[i]
		r.Method = strings.ToUpper(r.Method)
		if _, twice := byID[r.ID]; r.ID == "" || len(r.ID) > 64 || twice {
			return nil, badBatch("Each request of a batch needs an 'id' of its own, of at most 64 characters.")
		}
		if !slices.Contains([]string{"GET", "POST", "PATCH", "DELETE", "PUT"}, r.Method) {
			return nil, badBatch("A request of a batch has a 'method' that is not served.")
		}
		if len(r.URL) == 0 || len(r.URL) > maxBatchURL || len(r.Body) > maxGraphBody || len(r.DependsOn) > maxBatch {
			return nil, badBatch("A request of a batch needs a relative 'url' of at most %d bytes, and has a body of at most %d.", maxBatchURL, maxGraphBody)
		}
		byID[r.ID] = i
	}
	return orderBatch(b.Requests, byID)
}

func orderBatch(items []batchItem, byID map[string]int) ([]batchItem, error) {
	out := make([]batchItem, 0, len(items))
	done := map[string]bool{}
	for len(out) < len(items) {
		before := len(out)
		for _, r := range items {
			if done[r.ID] {
				continue
			}
			ready := true
			for _, dep := range r.DependsOn {
				if _, known := byID[dep]; !known {
					return nil, badBatch("A request of a batch depends on one that is not in it.")
				}
				ready = ready && done[dep]
			}
			if ready {
				out = append(out, r)
				done[r.ID] = true
			}
		}
		if len(out) == before {
			return nil, badBatch("The requests of a batch depend on one another in a circle.")
		}
	}
	return out, nil
}

// batch answers many requests of one caller in one. Each is permitted and
// recorded as if it had come alone.
func (g *graphTable) batch(ctx context.Context, r *rest.Request, version string) (any, error) {
	if len(r.Body) == 0 {
		return nil, badBatch("The request needs a JSON body.")
	}
	items, err := parseBatch(r.Body)
	if err != nil {
		return nil, err
	}
	answers := make([]batchAnswer, 0, len(items))
	failed := map[string]bool{}
	for i := range items {
		it := &items[i]
		var a batchAnswer
		if slices.ContainsFunc(it.DependsOn, func(id string) bool { return failed[id] }) {
			a = g.batchError(r, it, http.StatusFailedDependency, az.Errorf(az.Invalid, "FailedDependency", "A request that this one depends on failed."))
		} else {
			a = g.batchOne(ctx, r, it, version)
		}
		failed[it.ID] = a.Status >= 400
		answers = append(answers, a)
	}
	return map[string]any{"responses": answers}, nil
}

func (g *graphTable) batchOne(ctx context.Context, r *rest.Request, it *batchItem, version string) batchAnswer {
	u, err := url.Parse("/" + strings.TrimLeft(it.URL, "/"))
	if err != nil || u.Host != "" || strings.HasPrefix(u.Path, "/$") {
		e := az.Errorf(az.Invalid, "BadRequest", "The 'url' of a request of a batch must be relative, such as /users, and no batch itself.")
		return g.batchError(r, it, http.StatusBadRequest, e)
	}
	for _, v := range []string{"/v1.0", "/beta"} { // some clients write it
		if after, ok := strings.CutPrefix(u.Path, v+"/"); ok {
			u.Path, version = "/"+after, v
		}
	}
	u.Path, u.RawPath = version+u.Path, ""
	h := http.Header{}
	for k, v := range it.Headers {
		h.Set(k, v)
	}
	one := &http.Request{Method: it.Method, URL: u, Host: r.Host, Header: h, ContentLength: int64(len(it.Body))}
	req := &rest.Request{Request: one.WithContext(ctx), Caller: r.Caller, CorrelationID: r.CorrelationID, Log: r.Log}
	if b := bytes.TrimSpace(it.Body); len(b) > 0 && !bytes.Equal(b, []byte("null")) {
		req.Body = b
	}
	v, err := g.serve(ctx, req, version)
	return g.batchReply(r, it, v, err)
}

func (g *graphTable) batchError(r *rest.Request, it *batchItem, status int, e *az.Error) batchAnswer {
	return batchAnswer{ID: it.ID, Status: status, Headers: map[string]string{"Content-Type": "application/json"},
		Body: rest.ErrorBody(rest.FormGraph, e, r.CorrelationID, g.d.cfg.Clock())}
}

// batchReply turns a handler's result into an answer.
func (g *graphTable) batchReply(r *rest.Request, it *batchItem, v any, err error) batchAnswer {
	if err != nil {
		e := rest.AsError(err)
		if e.Kind == az.Internal || e.Kind == az.Unavailable {
			g.d.cfg.Log.Error("a request of a batch failed", "correlation", r.CorrelationID, "error", err)
		}
		return g.batchError(r, it, rest.Status(e), e)
	}
	reply, ok := v.(*rest.Reply)
	if !ok {
		reply = &rest.Reply{Body: v}
	}
	a := batchAnswer{ID: it.ID, Status: reply.Status, Headers: map[string]string{"Content-Type": "application/json"}}
	if reply.Body == nil {
		if a.Status == 0 {
			a.Status = http.StatusNoContent
		}
		a.Headers = nil
		return a
	}
	body, isBytes := reply.Body.([]byte)
	if !isBytes {
		if body, err = json.Marshal(reply.Body); err != nil {
			return g.batchReply(r, it, nil, err)
		}
	}
	if ct := reply.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "application/json") {
		a.Headers["Content-Type"] = ct
		body = []byte(strconv.Quote(string(body)))
	}
	if a.Body = body; a.Status == 0 {
		a.Status = http.StatusOK
	}
	return a
}
