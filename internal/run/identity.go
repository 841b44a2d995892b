package run

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Limits of the loopback listeners.
const (
	maxHeader     = 64 << 10 // wide of any SDK's few hundred bytes
	maxBody       = 8 << 10  // the form of a POST
	headerTimeout = 5 * time.Second
	idleTimeout   = 3 * time.Minute // longer than the pools of the SDKs keep a connection
	closeTimeout  = time.Second
)

// App Service's two api-versions.
const (
	version2019 = "2019-08-01"
	version2017 = "2017-09-01"
)

// identity is the token endpoint of one app on 127.0.0.1.
type identity struct {
	server  *http.Server
	addr    string // host:port
	dialect Dialect
	header  string // the secret; IDENTITY_HEADER and MSI_SECRET
	cache   *cache
	tree    *tree
	log     *slog.Logger
	imds    *imds
	arc     *arc // nil but in the Arc dialect
	failing *limiter
	done    chan struct{}
}

func startIdentity(s *session) (*identity, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	id := &identity{addr: l.Addr().String(), dialect: s.Identity, header: newSecret(), cache: s.cache,
		tree: s.child, log: s.Logger, failing: newLimiter(s.Limits.Misses), done: make(chan struct{})}
	id.imds = &imds{get: s.cache.get, clock: s.Clock, hosts: loopbackHosts(id.addr), form: formIMDS, site: s.Site, log: s.Logger}
	if s.Identity == Arc {
		if id.arc, err = newArc(s.ArcDir); err != nil {
			_ = l.Close()
			return nil, err
		}
		id.imds.form = formArc
	}
	id.server = loopbackServer(id, s.Logger)
	go func() { defer close(id.done); _ = id.server.Serve(l) }()
	return id, nil
}

// loopbackServer makes a server with the limits of a loopback listener, that
// lets handlers ask who is at the other end.
func loopbackServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: 2 * headerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, &peer{conn: c})
		},
	}
}

// Close stops listening and waits a moment for answers under way.
func (id *identity) Close() error {
	closeServer(id.server, id.done)
	if id.arc != nil {
		return id.arc.Close()
	}
	return nil
}

func closeServer(s *http.Server, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		_ = s.Close()
	}
	<-done
}

// environment is what the app must see to find this endpoint: exactly the
// variables by which clients choose the dialect (wire/managed-identity §1).
func (id *identity) environment() map[string]string {
	base := "http://" + id.addr
	token := base + imdsTokenPath
	switch id.dialect {
	case IMDS:
		return map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": base, "MSAL_MANAGED_IDENTITY_ENDPOINT": token}
	case Arc:
		return map[string]string{"IDENTITY_ENDPOINT": token, "IMDS_ENDPOINT": base}
	case CloudShell:
		return map[string]string{"MSI_ENDPOINT": base + "/oauth2/token"}
	}
	return map[string]string{"IDENTITY_ENDPOINT": base + "/msi/token", "IDENTITY_HEADER": id.header,
		"MSI_ENDPOINT": base + "/msi/token", "MSI_SECRET": id.header}
}

// ServeHTTP checks in the order of cost: who is at the other end (once per
// connection), then what the request says.
func (id *identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, _ := r.Context().Value(peerKey{}).(*peer)
	if p == nil || !id.tree.allowed(p) {
		id.stranger(w, p)
		return
	}
	if id.dialect == AppService {
		id.appService(w, r)
		return
	}
	if id.arc != nil && !id.arc.passed(w, r, id.imds) {
		return
	}
	if id.dialect == CloudShell {
		id.imds.cloudShell(w, r)
		return
	}
	id.imds.ServeHTTP(w, r)
}

// stranger refuses a process that is not the app's and ends the connection.
func (id *identity) stranger(w http.ResponseWriter, p *peer) {
	id.tree.report(id.log, "refused the identity endpoint to a process that the app did not start", p, id.cache.clock())
	w.Header().Set("Connection", "close")
	(&refusal{status: http.StatusForbidden, code: "forbidden",
		text: "Only processes started by this `hawser run` may ask for its tokens."}).write(w, id.imds.formFor(id.dialect))
}

// appService serves both api-versions of App Service. Everything but a token
// counts against the limit of failures.
func (id *identity) appService(w http.ResponseWriter, r *http.Request) {
	var q request
	a, err := id.appServiceToken(r, &q)
	if err == nil {
		writeToken(w, formAppService, &q, a, id.cache.clock())
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		no = refuse(err, formAppService, &q)
	}
	if wait := id.failing.take(id.cache.clock()); wait > 0 && no.status < 500 {
		no = &refusal{http.StatusTooManyRequests, "", "Too many failed requests. Retry after the time given.", max(wait, time.Second)}
	}
	if no.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, POST")
	}
	no.write(w, formAppService)
}

func (r *refusal) Error() string { return r.text }

func (id *identity) appServiceToken(r *http.Request, q *request) (*answer, error) {
	if no := guard(r, id.imds.hosts); no != nil {
		return nil, no
	}
	if strings.Trim(r.URL.Path, "/") != "msi/token" {
		return nil, &refusal{status: http.StatusNotFound, text: "There is nothing here. The token endpoint is /msi/token."}
	}
	if err := parseRequest(r, q); err != nil {
		return nil, err
	}
	name := "X-Identity-Header"
	switch q.version {
	case version2019:
	case version2017:
		name = "Secret"
	default:
		return nil, badRequest("The api-version " + strconv.Quote(clip(q.version)) + " is not supported. Use " + version2019 + " or " + version2017 + ".")
	}
	if given := r.Header[name]; len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), []byte(id.header)) != 1 {
		return nil, &refusal{status: http.StatusUnauthorized, text: "The header " + strings.ToUpper(name) +
			" is missing or wrong. Send the value of IDENTITY_HEADER (or MSI_SECRET)."}
	}
	if q.resource == "" {
		return nil, badRequest("The parameter resource is missing.")
	}
	return id.cache.get(r.Context(), q)
}

// guard refuses what a server-side request forgery or a rebound DNS name would
// look like: a forwarded request, or one for another host.
func guard(r *http.Request, hosts []string) *refusal {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return &refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", text: "Only GET and POST are served."}
	}
	for _, h := range [...]string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded"} {
		if _, ok := r.Header[h]; ok {
			return &refusal{status: http.StatusBadRequest, code: "invalid_request", text: "A forwarded request gets no token."}
		}
	}
	for _, h := range hosts {
		if strings.EqualFold(r.Host, h) {
			return nil
		}
	}
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", text: "The Host header names another server."}
}

// parseRequest reads the parameters from the query, and from the form of a
// POST: together they must not name anything twice.
func parseRequest(r *http.Request, q *request) error {
	query := r.URL.RawQuery
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		if err != nil || len(b) > maxBody {
			return badRequest("The form cannot be read or is too long.")
		}
		if query != "" && len(b) > 0 {
			query += "&"
		}
		query += string(b)
	}
	return q.parse(query)
}

// loopbackHosts are the Host headers under which clients reach a listener on
// 127.0.0.1.
func loopbackHosts(addr string) []string {
	_, port, _ := net.SplitHostPort(addr)
	return []string{addr, "localhost:" + port, "[::1]:" + port}
}

// newSecret is 256 random bits, in the upper-case form App Service's header
// has.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return strings.ToUpper(hex.EncodeToString(b[:]))
}

// clip shortens a stranger's text before it is repeated.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// arcDir is where Azure's agent keeps key files, and where clients insist on
// finding them (wire/managed-identity §5).
func arcDir() string {
	if os.PathSeparator == '\\' {
		return filepath.Join(os.Getenv("ProgramData"), "AzureConnectedMachineAgent", "Tokens")
	}
	return "/var/opt/azcmagent/tokens"
}
