package tdstest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Encryption is what the server says in its PRELOGIN.
type Encryption int

// What a server may want.
const (
	Required     Encryption = iota // TLS for the whole session, or no session
	NotSupported                   // no TLS at all
)

// Options of a Server. The zero value is a server that wants TLS and has the
// databases master and tempdb and no login.
type Options struct {
	Encryption Encryption
	// Databases besides master and tempdb.
	Databases []string
	// May says whether a login may open a database that is there; nil: every
	// login every one.
	May func(login, database string) bool
	// Exec is asked about every statement first; false leaves it to the built-in
	// ones. It is called by many sessions at once. ctx ends with the request.
	Exec func(ctx context.Context, s *Session, sql string, params []Param) (Result, bool)
	// Route sends each client that logged in elsewhere: ENVCHANGE 20.
	Route func() (host string, port uint16)
	// Lenient keeps breaches of the protocol from failing the test.
	Lenient bool
}

// Login is a SQL login.
type Login struct {
	Name       string
	Password   string
	Database   string // its default; "" for master
	SID        []byte
	Disabled   bool
	MustChange bool // answered with 18488
	Expired    bool // answered with 18487
	Locked     bool // answered with 18486
}

// Server is a running server.
type Server struct {
	options  Options
	listener net.Listener
	tls      *tls.Config
	pem      []byte
	work     sync.WaitGroup

	mu         sync.Mutex // guards all below
	logins     map[string]Login
	sessions   map[uint16]*Session
	conns      map[net.Conn]struct{}
	next       uint16
	complaints []string
	logged     []Login7
	closed     bool
}

// New starts a server on a free port of the loopback; Close ends it.
func New(o Options) (*Server, error) {
	cert, text, err := certificate()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, listener: l, pem: text, logins: map[string]Login{}, sessions: map[uint16]*Session{}, conns: map[net.Conn]struct{}{}, next: 51,
		tls: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}}
	s.work.Go(s.accept) // ends with the listener
	return s, nil
}

// Start is New, ended with the test, which fails if a client broke the
// protocol.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, c := range s.Complaints() {
			if !o.Lenient {
				t.Errorf("the SQL Server of the test complains: %s", c)
			}
		}
	})
	return s
}

// Close ends the server and all its sessions.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	_ = s.listener.Close()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Addr is host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// CA is the server's certificate in PEM; its names are localhost,
// sql.hawser.test and 127.0.0.1.
func (s *Server) CA() []byte { return slices.Clone(s.pem) }

// ClientTLS trusts the server under the name localhost.
func (s *Server) ClientTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.pem)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// DSN is how go-mssqldb reaches the server: encrypted, its certificate trusted
// unseen. more is further parameters, key=value, which win.
func (s *Server) DSN(user, password string, more ...string) string {
	q := url.Values{"encrypt": {"true"}, "trustservercertificate": {"true"}, "dial timeout": {"10"}}
	for _, m := range more {
		if key, value, ok := strings.Cut(m, "="); ok {
			q.Set(key, value)
		}
	}
	u := url.URL{Scheme: "sqlserver", User: url.UserPassword(user, password), Host: s.Addr(), RawQuery: strings.ReplaceAll(q.Encode(), "+", "%20")}
	return u.String()
}

// SetLogin adds or replaces a login.
func (s *Server) SetLogin(l Login) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins[strings.ToLower(l.Name)] = l
}

// Login returns a login; names are compared without case.
func (s *Server) Login(name string) (Login, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.logins[strings.ToLower(name)]
	return l, ok
}

// Logins returns all logins in order of name.
func (s *Server) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Login
	for _, l := range s.logins {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Login) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// DropLogin removes a login and leaves its sessions, as SQL Server does not:
// the statement that does so must refuse first if there are any.
func (s *Server) DropLogin(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, strings.ToLower(name))
}

// SetDatabases says which databases are there besides master and tempdb.
func (s *Server) SetDatabases(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Databases = slices.Clone(names)
}

// HasDatabase reports whether a database is there.
func (s *Server) HasDatabase(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(append([]string{"master", "tempdb"}, s.options.Databases...), func(d string) bool { return strings.EqualFold(d, name) })
}

// Sessions returns those that are logged in, in order of their ids.
func (s *Server) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Session
	for _, x := range s.sessions {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b *Session) int { return int(a.ID) - int(b.ID) })
	return out
}

// Resets is how often a session was reset.
func (s *Server) Resets(id uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[id]; x != nil {
		return int(x.resets.Load())
	}
	return 0
}

// Kill ends a session and reports whether there was one.
func (s *Server) Kill(id uint16) bool {
	s.mu.Lock()
	x := s.sessions[id]
	s.mu.Unlock()
	if x == nil {
		return false
	}
	x.stop()
	_ = x.raw.Close()
	return true
}

// Seen returns the LOGIN7 messages so far.
func (s *Server) Seen() []Login7 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logged)
}

// Complaints returns how clients broke the protocol.
func (s *Server) Complaints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.complaints)
}

func (s *Server) complain(err error) {
	var v violated
	if !errors.As(err, &v) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complaints = append(s.complaints, err.Error())
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.work.Go(func() { // ends with the connection
			s.complain(s.serve(c))
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// serve is one connection: TLS, login, requests.
func (s *Server) serve(raw net.Conn) error {
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second)) // a login takes milliseconds
	in := bufio.NewReader(raw)
	first, err := in.Peek(1)
	if err != nil {
		return nil
	}
	if first[0] == 0x16 {
		return s.serveStrict(raw, in)
	}
	m, err := readMessage(in, startPacket)
	if err != nil {
		return err
	}
	p, err := s.answerPrelogin(raw, m, false)
	if err != nil || p == nil {
		return err
	}
	if s.options.Encryption == NotSupported {
		return s.session(raw, &peeked{Conn: raw, in: in}, false)
	}
	conf := s.tls.Clone()
	conf.MaxVersion = tls.VersionTLS12 // TDS 7.4 knows no later one
	w := &wrapped{Conn: raw, in: in}
	t := tls.Server(w, conf)
	if err := t.Handshake(); err != nil {
		_ = w.flush() // the alert
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	return s.session(raw, &records{Conn: t}, false)
}

// serveStrict is TDS 8: TLS before the first packet.
func (s *Server) serveStrict(raw net.Conn, in *bufio.Reader) error {
	conf := s.tls.Clone()
	conf.NextProtos = []string{"tds/8.0"}
	t := tls.Server(&peeked{Conn: raw, in: in}, conf)
	if err := t.Handshake(); err != nil {
		return err
	}
	if t.ConnectionState().NegotiatedProtocol != "tds/8.0" {
		return violation("TLS first without ALPN tds/8.0")
	}
	m, err := readMessage(t, startPacket)
	if err != nil {
		return err
	}
	p, err := s.answerPrelogin(t, m, true)
	if err != nil || p == nil {
		return err
	}
	return s.session(raw, &records{Conn: t}, true)
}

// answerPrelogin returns nil where there is nothing to go on with.
func (s *Server) answerPrelogin(c net.Conn, m message, strict bool) (*prelogin, error) {
	if m.kind != kindPrelogin {
		return nil, violation("a message of type %d in the place of PRELOGIN", m.kind)
	}
	p, err := parsePrelogin(m.data)
	if err != nil {
		return nil, err
	}
	answer, goOn := byte(encryptOn), true
	switch {
	case strict && (p.encryption == encryptOn || p.encryption == encryptRequired):
		return nil, violation("PRELOGIN: TLS within TLS is asked for")
	case strict:
		answer = encryptNotSup
	case s.options.Encryption == NotSupported:
		answer = encryptNotSup
		goOn = p.encryption == encryptOff || p.encryption == encryptNotSup
	case p.encryption == encryptOff:
		answer = encryptRequired
	case p.encryption == encryptNotSup:
		answer, goOn = encryptRequired, false
	}
	w := &writer{w: c, size: startPacket, kind: kindReply}
	w.begin()
	_, _ = w.Write(encodePrelogin(answer))
	if err := w.end(); err != nil || !goOn {
		return nil, err
	}
	return &p, nil
}

// certificate makes a key and a certificate that signs itself.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SQL Server of a test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames: []string{"localhost", "sql.hawser.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, bytes.Clone(text), nil
}
