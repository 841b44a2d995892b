package easyauth

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// page is what the front itself says: a sentence, and where to go on.
var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{{if .Again}}<meta http-equiv="refresh" content="{{.Again}}">{{end}}<title>{{.Title}}</title>
<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.25rem}h1{font-size:1.35rem}small{opacity:.7}</style>
</head><body><main><h1>{{.Title}}</h1><p>{{.Text}}</p>{{if .Link}}<p><a href="{{.Link}}">{{.LinkText}}</a></p>{{end}}<small>{{.ID}}</small></main></body></html>
`))

// fragmentTemplate starts a sign-in that comes back to the part of the page
// (#…) that was asked for, which no server gets to see.
var fragmentTemplate = template.Must(template.New("fragment").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Signing in</title></head><body>
<noscript><a href="{{.Login}}">Sign in</a></noscript>
<script nonce="{{.Nonce}}">location.replace({{.Start}} + "?post_login_redirect_uri=" + encodeURIComponent({{.Path}} + location.hash));</script>
</body></html>
`))

type pageText struct {
	Title, Text, Link, LinkText, ID string
	Again                           int // seconds
}

func (v *visit) page(status int, title, text string) {
	v.show(status, pageText{Title: title, Text: text})
}

// ownHeaders are those of everything that the front itself says.
func (v *visit) ownHeaders() http.Header {
	h := v.w.Header()
	h.Set("X-Ms-Request-Id", az.Correlation(v.ctx))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	return h
}

// show writes a page, or its sentence as JSON to who prefers that.
func (v *visit) show(status int, p pageText) {
	h := v.ownHeaders()
	p.ID = h.Get("X-Ms-Request-Id")
	if accept := v.r.Header.Get("Accept"); strings.Contains(accept, "json") && !strings.Contains(accept, "html") {
		v.json(status, map[string]any{"code": status, "message": p.Text})
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_ = pageTemplate.Execute(v.w, p)
	}
}

func (v *visit) json(status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	v.ownHeaders().Set("Content-Type", "application/json; charset=utf-8")
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(b)
	}
}

// redirect sends a browser on. Only addresses that were checked come here.
func (v *visit) redirect(to string) {
	v.ownHeaders().Set("Location", to)
	v.w.WriteHeader(http.StatusFound)
}

// fail words an error. What is ours alone is for the log.
func (v *visit) fail(err error) {
	var e *az.Error
	if !errors.As(err, &e) || e.Kind == az.Internal {
		v.f.cfg.Log.Error("easyauth: a request failed", "correlation", az.Correlation(v.ctx), "error", err)
		v.page(http.StatusInternalServerError, "Something went wrong", "The number below finds it in the plane's log.")
		return
	}
	switch e.Kind {
	case az.Forbidden:
		v.page(http.StatusForbidden, "You may not use this app", e.Message)
	case az.Unauthorized:
		v.page(http.StatusUnauthorized, "Sign-in needed", e.Message)
	case az.TooMany:
		v.page(http.StatusTooManyRequests, "Too many requests", e.Message)
	case az.Unavailable:
		v.w.Header().Set("Retry-After", "2")
		v.page(http.StatusServiceUnavailable, "Try again in a moment", "The plane cannot answer at the moment.")
	default:
		v.page(http.StatusBadRequest, "The request cannot be answered", e.Message)
	}
}

func asError(err error, e **az.Error) bool { return errors.As(err, e) }
