package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Kind is a database's protocol, by the word of its URLs.
type Kind string

// The protocols.
const (
	Postgres  Kind = "postgres"
	MySQL     Kind = "mysql"
	SQLServer Kind = "sqlserver"
	Redis     Kind = "redis"
)

// protocol is what a kind of database adds to a door.
type protocol struct {
	audience string // of the tokens; wire: databases.md §1
	port     string // where servers listen
	// connect brings a client and the server together. stranger is why the
	// client is to be refused, in the protocol's words; nil for a welcome one.
	// An error has been told to the client.
	connect func(d *Door, ctx context.Context, c net.Conn, stranger error) (*gateway.Pump, error)
}

func protocolOf(k Kind) (protocol, bool) {
	switch k {
	case Postgres:
		return protocol{audience: "https://ossrdbms-aad.database.windows.net", port: "5432", connect: (*Door).postgres}, true
	case MySQL:
		return protocol{audience: "https://ossrdbms-aad.database.windows.net", port: "3306", connect: (*Door).mysql}, true
	case SQLServer:
		return protocol{audience: "https://database.windows.net/", port: "1433", connect: (*Door).tds}, true
	case Redis:
		return protocol{audience: "https://redis.azure.com", port: "6380", connect: (*Door).redis}, true
	}
	return protocol{}, false
}

// Source gives a token and when it ends. It is asked for each session and
// keeps tokens itself.
type Source func(context.Context) (az.Secret, time.Time, error)

// Upstream is the database behind a door.
type Upstream struct {
	Kind     Kind
	Name     string // for people
	Host     string // the name in its certificate
	Addr     string // host:port
	Roots    *x509.CertPool
	User     string // the role; Redis and SQL Server: not used, the token names it
	Database string // for clients that name none
	Token    Source
}

// Config makes a Door.
type Config struct {
	Upstream
	// Admit refuses a client by its connection; nil lets everybody in who
	// reaches the listener.
	Admit func(net.Conn) error
	// Stranger is what those are told who are refused.
	Stranger string
	Limits   gateway.Limits
	Log      *slog.Logger
	Clock    az.Clock
}

// Door is one database's way in. The embedded Gate has Sessions and End.
type Door struct {
	*gateway.Gate
	cfg      Config
	protocol protocol
	tls      *tls.Config

	strangers chan struct{} // room for those who are being told that they may not be here
	entering  atomic.Int64  // programs between the port and their session
	came      atomic.Int64  // programs so far
}

// How long a door tries for a server, of the gate's 30 s for a whole login.
const reachWait = 15 * time.Second

// Strangers are told in the protocol's words, which may take them having said
// something. They must not fill the places of those who may be here.
const (
	maxStrangers = 32
	strangerWait = 2 * time.Second
)

// New makes a door. Serve runs it, Shutdown ends it.
func New(c Config) (*Door, error) {
	p, ok := protocolOf(c.Kind)
	if !ok {
		return nil, fmt.Errorf("cannot open a door to %s: unknown kind of database %q", c.Name, c.Kind)
	}
	gate, err := gateway.New(gateway.Options{Protocol: "proxy-" + string(c.Kind), Limits: c.Limits, Log: c.Log, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	return &Door{Gate: gate, cfg: c, protocol: p, strangers: make(chan struct{}, maxStrangers),
		tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.Host, RootCAs: c.Roots, ClientSessionCache: tls.NewLRUClientSessionCache(8)}}, nil
}

// Serve accepts on l until Shutdown.
func (d *Door) Serve(l net.Listener) error { return d.Gate.Serve(l, d.accept) }

// accept is one connection from its first byte to its session's start.
func (d *Door) accept(ctx context.Context, c net.Conn) {
	stranger := d.admit(c)
	if stranger != nil {
		select {
		case d.strangers <- struct{}{}:
			defer func() { <-d.strangers }()
		default:
			d.Refused("refused")
			_ = c.Close()
			return
		}
		_ = c.SetDeadline(time.Now().Add(strangerWait))
	} else {
		d.came.Add(1)
		d.entering.Add(1)
		defer d.entering.Add(-1)
	}
	pump, err := d.protocol.connect(d, ctx, c, stranger)
	if err != nil {
		d.Refused("refused")
		level := slog.LevelWarn
		var known errStranger
		if errors.As(err, &known) || gone(err) {
			level = slog.LevelDebug
		}
		d.cfg.Log.Log(ctx, level, "a program was not let in to its database", "database", d.cfg.Name, "error", err)
		gateway.CloseSoon(c)
		return
	}
	if pump == nil { // a cancel request, done
		_ = c.Close()
		return
	}
	d.begin(ctx, pump)
}

// gone reports whether the client left, which nobody needs to be told.
func gone(err error) bool {
	var r *refusal
	return !errors.As(err, &r) && gateway.Gone(err)
}

// admit asks whether a client may be here.
func (d *Door) admit(c net.Conn) error {
	if d.cfg.Admit == nil {
		return nil
	}
	if err := d.cfg.Admit(gateway.Bottom(c)); err != nil {
		return &refusal{text: first(d.cfg.Stranger, strangerText), cause: errStranger{err}}
	}
	return nil
}

// errStranger marks a refusal that Admit has reported already.
type errStranger struct{ error }

// begin starts the copy.
func (d *Door) begin(ctx context.Context, p *gateway.Pump) {
	s := gateway.Session{ID: az.NewGUID(), Started: d.cfg.Clock(),
		Target: gateway.Target{User: d.cfg.User, Database: d.cfg.Database, Peer: p.Client.RemoteAddr()}}
	for {
		err := d.Admit(ctx, s, p, d.Generation())
		if err == nil {
			d.Start(p)
			return
		}
		if !errors.Is(err, gateway.ErrStale) {
			d.cfg.Log.Warn("a program was not let in to its database", "database", d.cfg.Name, "error", err)
			_ = p.Backend.Close()
			gateway.CloseSoon(p.Client)
			return
		}
	}
}

// pump makes the copy of two connections that are logged in.
func (d *Door) pump(client, backend net.Conn) *gateway.Pump {
	return &gateway.Pump{Client: client, Backend: backend, Hooks: gateway.Hooks{
		FromClient:  func(chunk []byte) (int, gateway.Next) { return len(chunk), gateway.GoOn },
		FromBackend: func([]byte) (int, bool) { return -1, true },
		LastWords:   func(gateway.Reason) []byte { return nil },
		Finished:    func(gateway.Reason, bool) { gateway.CloseSoon(backend) },
	}}
}

// dial opens the socket to the server. The connection is interrupted when the
// login's time is over or the door closes.
func (d *Door) dial(ctx context.Context) (net.Conn, func(), error) { return d.dialTo(ctx, d.cfg.Addr) }

func (d *Door) dialTo(ctx context.Context, addr string) (c net.Conn, release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	c, err = gateway.Dial(ctx, addr)
	if err != nil {
		cancel()
		return nil, nil, &refusal{text: "cannot reach " + d.cfg.Name + " now: try again", cause: err}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { stop(); cancel() }, nil
}

// secure puts a connection under TLS. A certificate that is not the server's
// is told in words that a program's owner can act on.
func (d *Door) secure(ctx context.Context, c net.Conn, protos ...string) (*tls.Conn, error) {
	conf := d.tls
	if protos != nil {
		conf = conf.Clone()
		conf.NextProtos = protos
	}
	t := tls.Client(c, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, &refusal{text: "cannot trust the server at " + d.cfg.Name + ": " + certificateText(err), cause: err}
	}
	return t, nil
}

func certificateText(err error) string {
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0 {
		return "its certificate is not valid for " + verify.UnverifiedCertificates[0].Subject.CommonName + " here"
	}
	return "no TLS"
}

// token asks for a token, in words for the client when there is none.
func (d *Door) token(ctx context.Context) (az.Secret, time.Time, error) {
	text, ends, err := d.cfg.Token(ctx)
	if err != nil {
		return text, ends, &refusal{text: "no token to log in to " + d.cfg.Name + " with: see the log of hawser", cause: err}
	}
	if !d.cfg.Clock().Before(ends) {
		return text, ends, &refusal{text: "the token for " + d.cfg.Name + " has ended: compare the clocks", cause: errors.New("expired token")}
	}
	return text, ends, nil
}

// user is the role that logs in: the one that was named, or the person's own.
func (d *Door) user(token az.Secret) (string, error) {
	if d.cfg.User != "" {
		return d.cfg.User, nil
	}
	c, err := claimsOf(token)
	if err == nil && c.user() == "" {
		err = errors.New("the token names no person")
	}
	if err != nil {
		return "", &refusal{text: "nobody said which role to log in as: start hawser proxy with --user", cause: err}
	}
	return c.user(), nil
}

// errRepeats is why a server's own words about a login are passed on to nobody.
var errRepeats = errors.New("what it says of the login holds the token")

// repeats reports whether a server's words hold the token or its beginning, in
// one byte or two for a character.
func repeats(words []byte, token az.Secret) bool {
	text := token.Reveal()
	text = text[:min(len(text), 16)]
	return text != "" && (bytes.Contains(words, []byte(text)) || bytes.Contains(words, utf16LE(text)))
}

// refusedTelling is the refusal in place of such words.
func (d *Door) refusedTelling() error {
	return &refusal{text: d.cfg.Name + " refused the login", cause: errRepeats}
}

// strangerText is what a process is told that may not use a door.
const strangerText = "only the programs that this port was opened for may use it: start yours with `hawser run APP --proxy`"

// refusal is why a client is not let in. The text is the client's, the cause
// the log's.
type refusal struct {
	text  string
	cause error
}

func (r *refusal) Error() string {
	if r.cause == nil {
		return r.text
	}
	return r.text + ": " + r.cause.Error()
}

func (r *refusal) Unwrap() error { return r.cause }

// textOf is what a client is told about an error.
func textOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return "hawser: " + r.text
	}
	return "hawser: the login failed: try again"
}
