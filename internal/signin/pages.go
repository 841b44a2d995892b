package signin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/rest"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed assets/*
var assetFiles embed.FS

// Page is what one page shows. The structs that implement it name their
// template and what its policy must allow beyond the rest.
type Page interface{ about() about }

// about is what the frame of a page needs to know.
type about struct {
	template string
	title    string
	script   string   // file of its script, "" for none
	actions  []string // addresses its forms go to beside our own
	frames   []string // addresses it shows in frames
	images   bool     // it holds pictures as data: addresses
	referrer string   // Referrer-Policy, "" for the usual
	refresh  string   // where the browser goes by itself
	wide     bool
}

// ScopeLine is one thing that an app may do if the person consents.
type ScopeLine struct{ Title, Text string }

// ConsentPage asks whether an app may act for the person. The answer is the
// field answer: accept or decline; and admin, if an administrator accepted for
// everybody.
type ConsentPage struct {
	App, Publisher, User string
	Verified             bool
	Scopes               []ScopeLine
	Admin                bool // the person may consent for everybody
	State, Action        string
}

// DevicePage asks for a device's code (user_code), or, once Code is known and
// State names it, whether the device may be signed in (answer: accept,
// decline).
type DevicePage struct {
	Code          string // shown to be compared; "" asks for it
	App, IP       string
	User          string
	Problem       string
	State, Action string
	Done          bool // the device was let in (or not: Declined)
	Declined      bool
}

// FormPostPage brings an answer to a client by POST, by itself or by a button.
type FormPostPage struct {
	Action string
	Fields [][2]string
}

// SignedOutPage says that the person is signed out and tells the apps that
// want to know by their addresses (front-channel logout).
type SignedOutPage struct {
	Frames   []string
	Continue string
}

// ErrorPage says what went wrong. Correlation and Time are filled in when they
// are empty.
type ErrorPage struct{ Code, Message, Correlation, Time string }

// ContinuePage sends the browser on without a redirect, for the end of a form.
type ContinuePage struct{ URL string }

type (
	namePage struct {
		State, App, Name, Problem, Passkey, Provider string
		Only                                         bool
	}
	passwordPage struct {
		State, App, Name, Problem string
		Keep                      bool
	}
	codePage struct {
		State, App, Name, Problem, Passkey string
		Code                               bool
	}
	account  struct{ ID, UPN, Name string }
	pickPage struct {
		State, App string
		Accounts   []account
	}
	changePage struct {
		State, Name, Problem, Action string
		Forced                       bool
	}
	enrolPage struct {
		State, App, Name, Secret, Passkey, Problem, Action, PasskeyAction string
		QR                                                                template.URL // a data: address, which templates refuse as text
		Forced                                                            bool
	}
)

const passkeyScript = "passkey.js"

func (p ConsentPage) about() about {
	return about{template: "consent", title: "Permissions requested", wide: true}
}

func (p DevicePage) about() about { return about{template: "device", title: "Sign in a device"} }

func (p FormPostPage) about() about {
	return about{template: "formpost", title: "Going back to the app", script: "submit.js", actions: []string{p.Action}, referrer: "strict-origin"}
}

func (p SignedOutPage) about() about {
	return about{template: "signedout", title: "Signed out", frames: p.Frames}
}

func (p ErrorPage) about() about { return about{template: "error", title: "Something went wrong"} }

func (p ContinuePage) about() about {
	return about{template: "continue", title: "Going on", refresh: string(p.Href())}
}

// Href is the address for a link. Native apps have schemes of their own, so all
// are served but those that a browser would run or read from its own machine.
func (p ContinuePage) Href() template.URL {
	u, err := url.Parse(p.URL)
	if err != nil || slices.Contains([]string{"javascript", "data", "vbscript", "file", "blob", "about"}, strings.ToLower(u.Scheme)) {
		return "/account"
	}
	return template.URL(p.URL) //nolint:gosec // see above
}

func (p namePage) about() about {
	return about{template: "name", title: "Sign in", script: passkeyScript}
}

func (p passwordPage) about() about { return about{template: "password", title: "Enter your password"} }

func (p codePage) about() about {
	a := about{template: "code", title: "Prove that it is you"}
	if p.Passkey != "" {
		a.script = passkeyScript
	}
	return a
}

func (p pickPage) about() about   { return about{template: "pick", title: "Choose an account"} }
func (p changePage) about() about { return about{template: "change", title: "Change your password"} }

func (p enrolPage) about() about {
	a := about{template: "enrol", title: "Set up a second factor", images: true}
	if p.Passkey != "" {
		a.script = passkeyScript
	}
	return a
}

// pages are the templates and files, read once.
type pages struct {
	sets  map[string]*template.Template
	files map[string]asset // by file name
}

type asset struct {
	path, media string // path holds a hash of the body: it never changes
	body        []byte
}

func newPages() (*pages, error) {
	p := &pages{sets: map[string]*template.Template{}, files: map[string]asset{}}
	names, err := pageFiles.ReadDir("pages")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		name := strings.TrimSuffix(n.Name(), ".html")
		if name == "layout" {
			continue
		}
		if p.sets[name], err = template.ParseFS(pageFiles, "pages/layout.html", "pages/"+n.Name()); err != nil {
			return nil, fmt.Errorf("cannot read the page %s: %w", name, err)
		}
	}
	media := map[string]string{"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		body, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			return nil, err
		}
		base, ext, _ := strings.Cut(e.Name(), ".")
		sum := sha256.Sum256(body)
		p.files[e.Name()] = asset{"/signin/" + base + "-" + hex.EncodeToString(sum[:8]) + "." + ext, media[ext], body}
	}
	return p, nil
}

// routes serve the style sheet and the scripts.
func (p *pages) routes() []rest.Route {
	var out []rest.Route
	for _, f := range p.files {
		reply := &rest.Reply{Header: http.Header{"Content-Type": {f.media}, "Cache-Control": {"public, max-age=31536000, immutable"},
			"Cross-Origin-Resource-Policy": {"same-origin"}}, Body: f.body}
		out = append(out, rest.Route{Method: http.MethodGet, Path: f.path, Access: rest.Nobody("the pages' style and scripts"),
			Handle: handleStatic(reply)})
	}
	return out
}

// view is what a template gets.
type view struct {
	Title, Style, Script, Plane string
	Wide                        bool
	Page                        Page
}

// Page renders a page.
func (s *SignIn) Page(r *rest.Request, status int, p Page) *rest.Reply {
	if e, ok := p.(ErrorPage); ok {
		if e.Correlation == "" {
			e.Correlation = r.CorrelationID
		}
		if e.Time == "" {
			e.Time = s.clock().UTC().Format("2006-01-02 15:04:05Z")
		}
		p = e
	}
	a := p.about()
	v := view{Title: a.title, Style: s.pages.files["style.css"].path, Plane: s.names.Domain, Wide: a.wide, Page: p}
	if a.script != "" {
		v.Script = s.pages.files[a.script].path
	}
	var b bytes.Buffer
	if err := s.pages.sets[a.template].ExecuteTemplate(&b, "layout", v); err != nil {
		s.log.Error("signin: a page could not be made", "page", a.template, "correlation", r.CorrelationID, "error", err)
		return &rest.Reply{Status: http.StatusInternalServerError, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
			Body: []byte("Something went wrong inside the server. Correlation id: " + r.CorrelationID + "\n")}
	}
	return &rest.Reply{Status: status, Header: s.headers(r, a, v), Body: b.Bytes()}
}

// headers keep a page from being framed, kept, or made to load or send
// anything that it does not need.
func (s *SignIn) headers(r *rest.Request, a about, v view) http.Header {
	own := s.origin(r)
	policy := []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "style-src " + own + v.Style}
	if a.script != "" {
		policy = append(policy, "script-src "+own+v.Script)
	}
	if a.images {
		policy = append(policy, "img-src data:")
	}
	actions := "form-action 'self'"
	for _, to := range a.actions {
		if o := originOf(to); o != "" {
			actions += " " + o
		}
	}
	policy = append(policy, actions)
	if frames := origins(a.frames); len(frames) > 0 {
		policy = append(policy, "frame-src "+strings.Join(frames, " "))
	}
	// no-referrer would take the Origin from our own forms (Fetch, "append a
	// request Origin header"); same-origin tells nobody else anything either.
	// There is no Cross-Origin-Opener-Policy: MSAL.js signs people in in a popup,
	// and the window that opened it must see where it ends.
	h := http.Header{"Content-Type": {"text/html; charset=utf-8"}, "Content-Security-Policy": {strings.Join(policy, "; ")},
		"Referrer-Policy": {"same-origin"}, "Cross-Origin-Resource-Policy": {"same-origin"},
		"X-Content-Type-Options": {"nosniff"}, "X-Frame-Options": {"DENY"}, "Cache-Control": {"no-store"},
		"Permissions-Policy": {"publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()"}}
	if a.referrer != "" {
		h.Set("Referrer-Policy", a.referrer)
	}
	if a.refresh != "" {
		h.Set("Refresh", "0; url="+a.refresh)
	}
	return h
}

// originOf is the origin of an http address, "" of anything else.
func originOf(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(u.Host, " ;,'\"*") {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func origins(list []string) []string {
	var out []string
	for _, to := range list {
		if o := originOf(to); o != "" {
			out = append(out, o)
		}
	}
	return out
}

func handleStatic(reply *rest.Reply) func(context.Context, *rest.Request) (any, error) {
	return func(context.Context, *rest.Request) (any, error) { return reply, nil }
}
