// Command floor is the limits' side of the benchmarks: servers on net/http
// that do what no server of their kind can leave out, and nothing more. It
// knows nothing of the product. Every server says "ready ADDR".
package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// start serves "bare", "token FILE" (a cached reply), "secret N FILE CERT
// TOKENS" (N sealed values, a reply to make of each, the certificate to
// write, and a file of good tokens), "sized CERT" (/N is a reply of N bytes),
// "app" (a small one, on PORT) or "proxy URL CERT".
func start(args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port(args))
	if err != nil {
		return err
	}
	switch {
	case len(args) == 1 && args[0] == "bare":
		return serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }))
	case len(args) == 2 && args[0] == "token":
		h, err := cachedToken(args[1])
		if err != nil {
			return err
		}
		return serve(l, h)
	case len(args) == 5 && args[0] == "secret":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		h, err := newSecrets(n, args[2], args[4])
		if err != nil {
			return err
		}
		cert, err := leaf(args[3])
		if err != nil {
			return err
		}
		return serveTLS(l, cert, h)
	case len(args) == 2 && args[0] == "sized":
		cert, err := leaf(args[1])
		if err != nil {
			return err
		}
		return serveTLS(l, cert, http.HandlerFunc(sized))
	case len(args) == 1 && args[0] == "app":
		return serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, 300) }))
	case len(args) == 3 && args[0] == "proxy":
		to, err := url.Parse(args[1])
		if err != nil {
			return err
		}
		cert, err := leaf(args[2])
		if err != nil {
			return err
		}
		return serveTLS(l, cert, plainProxy(to))
	}
	return errors.New("usage: bare | token FILE | secret N FILE CERT TOKENS | sized CERT | app | proxy URL CERT")
}

// port is the one that an app was told to listen on; any other server takes a
// free one.
func port(args []string) string {
	if p := os.Getenv("PORT"); len(args) == 1 && args[0] == "app" && p != "" {
		return p
	}
	return "0"
}

func serveTLS(l net.Listener, cert tls.Certificate, h http.Handler) error {
	return serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{tls.X25519}}), h)
}

// maxSized bounds a reply of the sized server.
const maxSized = 4 << 20

var filler = []byte(strings.Repeat("a", maxSized))

func sized(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || n < 0 || n > maxSized {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer(w, n)
}

func answer(w http.ResponseWriter, n int) {
	w.Header()["Content-Type"] = jsonType
	w.Header()["Content-Length"] = []string{strconv.Itoa(n)}
	_, _ = w.Write(filler[:n])
}

// plainProxy is the standard library's, with as many connections kept as there
// are clients.
func plainProxy(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}}
}

func serve(l net.Listener, h http.Handler) error {
	fmt.Println("ready " + l.Addr().String())
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

var jsonType = []string{"application/json"}

// cachedToken compares the header's secret, looks the request up and writes
// the reply that is there.
func cachedToken(file string) (http.Handler, error) {
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	secret := []byte(strings.Repeat("A", 64))
	var mu sync.RWMutex
	replies := map[string][]byte{"api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net": body}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Identity-Header")), secret) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.RLock()
		reply, ok := replies[r.URL.RawQuery]
		mu.RUnlock()
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header()["Content-Type"] = jsonType
		_, _ = w.Write(reply)
	}), nil
}

// secrets is a map of sealed values and the set of good tokens.
type secrets struct {
	aead          cipher.AEAD
	mu            sync.RWMutex // guards tokens and sealed
	tokens        map[[32]byte]bool
	sealed        map[string][]byte
	before, after string // of the value, in the reply
	buffers       sync.Pool
}

func newSecrets(n int, reply, tokens string) (*secrets, error) {
	text, err := os.ReadFile(reply)
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(string(text), `{"value":"`)
	value, after, found := strings.Cut(rest, `"`)
	if !ok || !found {
		return nil, errors.New("the reply does not start with a value")
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	s := &secrets{tokens: map[[32]byte]bool{}, sealed: make(map[string][]byte, n), before: `{"value":"`, after: `"` + after,
		buffers: sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	for i := range n {
		name := "s" + strconv.Itoa(1000000 + i)[1:]
		nonce := make([]byte, s.aead.NonceSize())
		_, _ = rand.Read(nonce)
		s.sealed[name] = s.aead.Seal(nonce, nonce, []byte(value), []byte(name))
	}
	f, err := os.Open(tokens)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	for r := bufio.NewScanner(f); r.Scan(); {
		s.tokens[sha256.Sum256(r.Bytes())] = true
	}
	return s, nil
}

// ServeHTTP knows the token by its hash, opens the value and writes the reply
// from one buffer.
func (s *secrets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	hash := sha256.Sum256([]byte(token))
	name := strings.TrimPrefix(r.URL.Path, "/secrets/")
	s.mu.RLock()
	ok := s.tokens[hash]
	sealed := s.sealed[name]
	s.mu.RUnlock()
	if !ok || sealed == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	buf := s.buffers.Get().(*[]byte)
	out := append((*buf)[:0], s.before...)
	n := s.aead.NonceSize()
	out, err := s.aead.Open(out, sealed[:n], sealed[n:], []byte(name))
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	out = append(out, s.after...)
	w.Header()["Content-Type"] = jsonType
	_, _ = w.Write(out)
	*buf = out
	s.buffers.Put(buf)
}

// leaf makes a P-256 certificate for localhost and writes it to file.
func leaf(file string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(file, text, 0o644)
}
