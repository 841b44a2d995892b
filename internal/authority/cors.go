package authority

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
)

// checkOriginOf keeps codes and refresh tokens of scripts in browsers apart
// from all others: a script always has an origin, others never.
// Source: Entra, AADSTS9002326 and 9002327.
func checkOriginOf(t *tokenRequest, spa bool) error {
	switch {
	case spa && t.Origin == "":
		return oauthError(az.Invalid, "invalid_request", 9002327, "Tokens issued for the 'Single-Page Application' client-type may only be redeemed via cross-origin requests.")
	case !spa && t.Origin != "":
		return oauthError(az.Invalid, "invalid_request", 9002326, "Cross-origin token redemption is permitted only for the 'Single-Page Application' client-type.")
	case spa && !t.originOK:
		return oauthError(az.Invalid, "invalid_request", 9002326, "Cross-origin token redemption is permitted only from the origins of the client's registered single-page redirect URIs. Request origin: '%s'.", printable(t.Origin))
	}
	return nil
}

// isSPAOrigin reports whether an origin is one of the client's.
func isSPAOrigin(f *directory.Facts, origin string) bool {
	return origin != "" && origin != "null" && slices.ContainsFunc(f.SPAURIs, func(u string) bool { return originOf(u) == strings.ToLower(origin) })
}

// answer words a token request's outcome: with the claims that a client must
// ask for, and so that a script of the client's own may read it.
func (a *Authority) answer(_ context.Context, r *rest.Request, t *tokenRequest, v any, err error) (any, error) {
	if t.originOK {
		h := http.Header{"Access-Control-Allow-Origin": {t.Origin}, "Vary": {"Origin"}}
		if reply, ok := v.(*rest.Reply); ok && err == nil {
			for k, vs := range h {
				reply.Header[k] = vs
			}
			return reply, nil
		}
		if e := asAZ(err); e != nil && e.Kind != az.Internal && e.Kind != az.Unavailable {
			return a.worded(r, e, err, h)
		}
		return v, err
	}
	var ch *challengeError
	if errors.As(err, &ch) {
		return a.worded(r, ch.err, err, http.Header{})
	}
	return v, err
}

// worded is an error's reply with headers and claims of its own.
func (a *Authority) worded(r *rest.Request, e *az.Error, err error, h http.Header) (any, error) {
	var body map[string]any
	if bad := json.Unmarshal(rest.ErrorBody(rest.FormOAuth, e, r.CorrelationID, a.clock()), &body); bad != nil {
		return nil, err
	}
	var ch *challengeError
	if errors.As(err, &ch) {
		body["claims"] = ch.claims
	}
	if e.Kind == az.TooMany {
		h.Set("Retry-After", strconv.Itoa(max(1, int((e.RetryAfter+time.Second-1)/time.Second))))
	}
	r.Log.Debug("a token request was refused", "correlation", r.CorrelationID, "error", e)
	return &rest.Reply{Status: rest.Status(e), Header: h, Body: body}, nil
}

// preflight answers a browser's question before a script's request. It says
// nothing of who may: the reply to the request itself does.
func (a *Authority) preflight(_ context.Context, r *rest.Request) (any, error) {
	h := http.Header{"Access-Control-Allow-Methods": {"POST, OPTIONS"}, "Access-Control-Max-Age": {"600"}, "Vary": {"Origin"}}
	if o := r.Header["Origin"]; len(o) == 1 {
		h.Set("Access-Control-Allow-Origin", o[0])
	}
	if want := r.Header.Get("Access-Control-Request-Headers"); want != "" && len(want) < 1024 {
		h.Set("Access-Control-Allow-Headers", want)
	}
	return &rest.Reply{Status: http.StatusNoContent, Header: h}, nil
}
