package run

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// Paths of the instance metadata service.
const (
	imdsTokenPath    = "/metadata/identity/oauth2/token"
	imdsComputePath  = "/metadata/instance/compute"
	imdsLocationPath = "/metadata/instance/compute/location"
)

// imdsHosts are the Host headers of the real address.
var imdsHosts = []string{"169.254.169.254", "169.254.169.254:80"}

// imdsVersion is the form of an api-version; IMDS takes any known date, and
// new SDKs bring new ones, so only the form is checked.
var imdsVersion = regexp.MustCompile(`^20[0-9]{2}-[01][0-9]-[0-3][0-9](-preview)?$`)

// imds serves the instance metadata dialect, and with another form Arc's.
type imds struct {
	get   func(context.Context, *request) (*answer, error)
	clock az.Clock
	hosts []string
	form  form
	site  string
	log   *slog.Logger
}

// IMDSOptions are the settings of IMDSHandler.
type IMDSOptions struct {
	Hosts  []string // accepted Host headers besides 169.254.169.254
	Name   string   // the machine's name in /metadata/instance/compute
	Logger *slog.Logger
	Clock  az.Clock
}

// IMDSHandler serves the instance metadata dialect with tokens from a
// function, for a listener on the real 169.254.169.254. Who asks is for the
// function to find out: put the connection into the request's context with
// http.Server.ConnContext and use PeerProcess. Its refusals are *client.Error
// or *az.Error with the codes IdentityNotFound and InvalidResource. The
// handler keeps no cache.
func IMDSHandler(tokens func(ctx context.Context, r client.TokenRequest) (client.Token, error), o IMDSOptions) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &imds{clock: o.Clock, hosts: append(o.Hosts, imdsHosts...), site: o.Name, log: o.Logger, form: formIMDS,
		get: func(ctx context.Context, q *request) (*answer, error) {
			t, err := tokens(ctx, q.wire(false))
			if err != nil {
				return nil, err
			}
			return newAnswer(t, q.resource), nil
		}}
}

// ServeHTTP answers at once in every case: SDKs probe this address with a
// request that lacks everything and give it a second (wire §4).
func (m *imds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if no := guard(r, m.hosts); no != nil {
		if no.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", "GET, POST")
		}
		no.write(w, m.form)
		return
	}
	if v := r.Header["Metadata"]; len(v) != 1 || v[0] != "true" {
		(&refusal{status: http.StatusBadRequest, code: "invalid_request", text: textNoMetadata}).write(w, m.form)
		return
	}
	switch strings.TrimSuffix(r.URL.Path, "/") {
	case imdsTokenPath:
		m.token(w, r)
	case imdsComputePath:
		m.compute(w)
	case imdsLocationPath:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(location))
	default:
		(&refusal{status: http.StatusNotFound, code: "unknown_source", text: "Unknown Source " + clip(r.URL.Path)}).write(w, m.form)
	}
}

func (m *imds) token(w http.ResponseWriter, r *http.Request) {
	var q request
	err := parseRequest(r, &q)
	if err == nil && !imdsVersion.MatchString(q.version) {
		err = badRequest("The api-version " + strconv.Quote(clip(q.version)) + " is not supported. Use 2018-02-01.")
	}
	m.answer(w, r, &q, err)
}

// answer gets the token, unless there is an error already, and writes what
// came out.
func (m *imds) answer(w http.ResponseWriter, r *http.Request, q *request, err error) {
	if err == nil && q.resource == "" {
		err = badRequest("The parameter resource is missing.")
	}
	var a *answer
	if err == nil {
		a, err = m.get(r.Context(), q)
	}
	if err == nil {
		writeToken(w, m.form, q, a, m.clock())
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		no = refuse(err, m.form, q)
	}
	no.write(w, m.form)
}

// cloudShell serves the form POST of Cloud Shell: the same answer without
// an api-version.
func (m *imds) cloudShell(w http.ResponseWriter, r *http.Request) {
	no := guard(r, m.hosts)
	switch v := r.Header["Metadata"]; {
	case no != nil:
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		no = &refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", text: "Only POST is served."}
	case len(v) != 1 || v[0] != "true":
		no = &refusal{status: http.StatusBadRequest, code: "invalid_request", text: textNoMetadata}
	case strings.TrimSuffix(r.URL.Path, "/") != "/oauth2/token":
		no = &refusal{status: http.StatusNotFound, code: "unknown_source", text: "Unknown Source " + clip(r.URL.Path)}
	}
	if no != nil {
		no.write(w, m.form)
		return
	}
	var q request
	m.answer(w, r, &q, parseRequest(r, &q))
}

// location is the region of everything: MSAL asks for it and takes any label.
const location = "hawser"

// compute answers the little that region discovery reads.
func (m *imds) compute(w http.ResponseWriter) {
	w.Header()["Content-Type"] = jsonType
	_, _ = w.Write([]byte(`{"azEnvironment":"AzurePublicCloud","location":"` + location + `","name":` + quote(m.site) + `,"provider":"Microsoft.Compute"}`))
}

// formFor is the form of errors before a dialect's own code has been reached.
func (m *imds) formFor(d Dialect) form {
	if d == AppService {
		return formAppService
	}
	return m.form
}
