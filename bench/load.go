package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load says what to send and for how long. The generator is HTTP/1.1 written
// by hand, since net/http's client costs more than the servers under test; it
// runs in a process of its own.
type load struct {
	Addr     string        `json:"addr"`
	TLS      string        `json:"tls,omitempty"` // the server's name; "" for none
	CA       string        `json:"ca,omitempty"`  // its file
	Requests []string      `json:"requests"`      // whole ones; each connection takes any at random
	Names    int           `json:"names"`         // "{n}" in a request becomes s000000 … below it
	Each     bool          `json:"each"`          // every name once, in order, instead of at random for Time
	Conns    int           `json:"conns"`
	Time     time.Duration `json:"time"`
	PIDs     []int         `json:"pids"`     // whose processor time is counted
	Identity string        `json:"identity"` // a resource: Addr and the request are the identity endpoint's, PIDs the parent's

	Values  string    `json:"values,omitempty"` // a file of lines: "{v}" in a request becomes one of them, and each is used once
	Carry   bool      `json:"carry,omitempty"`  // what is caught in a reply takes the place of the value, which is never used up then
	Between [2]string `json:"between"`          // what is caught stands between these, in the body or the Location
	Keep    string    `json:"keep,omitempty"`   // the file for what was caught
	Status  int       `json:"status,omitempty"` // of a good reply; 0: any 2xx
}

// result is what one load found; times in microseconds.
type result struct {
	Rate   float64 `json:"rate"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	CPU    float64 `json:"cpu"` // microseconds of PIDs per request
	N      int     `json:"n"`
	Failed int     `json:"failed"` // replies other than 2xx
	First  string  `json:"first"`  // the first such reply
	Body   string  `json:"body"`   // one good reply's
}

// run loads in a child process, started by prefix if there is one.
func (b *bench) run(l load, prefix ...string) (result, error) {
	if l.Time == 0 {
		l.Time = b.time
	}
	text, err := json.Marshal(l)
	if err != nil {
		return result{}, err
	}
	spec := filepath.Join(b.dir, "load-"+strconv.FormatInt(time.Now().UnixNano(), 36)+".json")
	if err := os.WriteFile(spec, text, 0o600); err != nil {
		return result{}, err
	}
	defer func() { _ = os.Remove(spec) }()
	argv := append(slices.Clone(prefix), b.self, "load", spec)
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("the load generator failed: %w\n%s", err, &errs)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if r.Failed*100 > r.N {
		return r, fmt.Errorf("%d of %d requests failed, first: %s", r.Failed, r.N, r.First)
	}
	return r, nil
}

func loadMain(args []string) error {
	if len(args) != 1 {
		return errors.New("load takes one file")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var l load
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if l.Identity != "" {
		if err := l.findIdentity(); err != nil {
			return err
		}
	}
	r, err := l.drive()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// findIdentity aims at the endpoint that hawser run gave this process.
func (l *load) findIdentity() error {
	u, err := url.Parse(os.Getenv("IDENTITY_ENDPOINT"))
	if err != nil || u.Host == "" {
		return errors.New("there is no IDENTITY_ENDPOINT: not started by hawser run")
	}
	l.Addr = u.Host
	l.Requests = []string{get(u.Host, u.Path+"?api-version=2019-08-01&resource="+url.QueryEscape(l.Identity), "X-IDENTITY-HEADER: "+os.Getenv("IDENTITY_HEADER"))}
	l.PIDs = []int{os.Getppid()}
	return nil
}

// get is a GET request as it goes over the wire.
func get(host, path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// send is a request with a body.
func send(method, host, path, contentType, body string, headers ...string) string {
	h := append([]string{"Content-Type: " + contentType, "Content-Length: " + strconv.Itoa(len(body))}, headers...)
	return method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(h, ""), "\r\n") + "\r\n" + body
}

// driver is one load under way.
type driver struct {
	*load
	next  atomic.Int64
	until time.Time
	ready sync.WaitGroup
	start chan struct{}
}

// lane is one connection.
type lane struct {
	d      *driver
	conn   net.Conn
	r      *bufio.Reader
	buf    []byte
	rng    *rand.Rand
	took   []float64
	failed int
	first  string
	body   string
	err    error

	values []string // this connection's part of Values
	at     int      // the next of them
	place  string   // Location of the latest reply
	caught []string
}

func (l *load) drive() (result, error) {
	d := &driver{load: l, start: make(chan struct{})}
	lanes := make([]*lane, l.Conns)
	values, err := l.deal()
	if err != nil {
		return result{}, err
	}
	var done sync.WaitGroup
	d.ready.Add(l.Conns)
	for i := range lanes {
		lanes[i] = &lane{d: d, rng: rand.New(rand.NewPCG(uint64(i), 1)), took: make([]float64, 0, 1<<16), values: values[i]}
		done.Go(lanes[i].run)
	}
	d.ready.Wait()
	cpu, began := processorTime(l.PIDs), time.Now()
	d.until = began.Add(l.Time)
	close(d.start)
	done.Wait()
	took := time.Since(began)
	used := processorTime(l.PIDs) - cpu
	if l.Keep != "" {
		var all []string
		for _, n := range lanes {
			all = append(all, n.caught...)
		}
		if err := os.WriteFile(l.Keep, []byte(strings.Join(all, "\n")), 0o600); err != nil {
			return result{}, err
		}
	}
	return collect(lanes, took, used)
}

// deal gives each connection its part of the values.
func (l *load) deal() ([][]string, error) {
	out := make([][]string, l.Conns)
	if l.Values == "" {
		return out, nil
	}
	text, err := os.ReadFile(l.Values)
	if err != nil {
		return nil, err
	}
	all := strings.Fields(string(text))
	if len(all) < 2*l.Conns {
		return nil, fmt.Errorf("%d values are too few for %d connections", len(all), l.Conns)
	}
	for i, v := range all {
		if len(v) != len(all[0]) { // the requests' Content-Length stands
			return nil, errors.New("the values differ in length")
		}
		out[i%l.Conns] = append(out[i%l.Conns], v)
	}
	return out, nil
}

func collect(lanes []*lane, took, used time.Duration) (result, error) {
	var r result
	var all []float64
	for _, n := range lanes {
		if n.err != nil {
			return r, n.err
		}
		all = append(all, n.took...)
		r.Failed += n.failed
		if n.first != "" {
			r.First = n.first
		}
		if n.body != "" {
			r.Body = n.body
		}
	}
	r.N = len(all)
	if r.N == 0 {
		return r, errors.New("no request was answered")
	}
	slices.Sort(all)
	r.Rate = float64(r.N) / took.Seconds()
	r.P50, r.P99 = all[r.N/2], all[min(r.N-1, r.N*99/100)]
	r.CPU = float64(used.Microseconds()) / float64(r.N)
	return r, nil
}

// run connects, sends one request that does not count, waits for the others,
// and goes on until the time is over.
func (n *lane) run() {
	n.err = n.connect()
	if n.err == nil && !n.d.Each {
		_, n.err = n.one(n.request())
		n.failed, n.first, n.caught = 0, "", nil
	}
	n.d.ready.Done()
	<-n.d.start
	if n.err != nil {
		return
	}
	defer func() { _ = n.conn.Close() }()
	for last := time.Now(); n.d.Each || last.Before(n.d.until); {
		req := n.request()
		if req == nil {
			return
		}
		now, err := n.one(req)
		if err != nil {
			n.err = err
			return
		}
		n.took = append(n.took, float64(now.Sub(last).Nanoseconds())/1e3)
		last = now
	}
}

func (n *lane) connect() error {
	c, err := net.DialTimeout("tcp", n.d.Addr, 10*time.Second)
	if err != nil {
		return err
	}
	if n.d.TLS != "" {
		roots := x509.NewCertPool()
		pem, err := os.ReadFile(n.d.CA)
		if err != nil {
			return err
		}
		roots.AppendCertsFromPEM(pem)
		t := tls.Client(c, &tls.Config{ServerName: n.d.TLS, RootCAs: roots})
		if err := t.HandshakeContext(context.Background()); err != nil {
			return err
		}
		c = t
	}
	n.conn, n.r = c, bufio.NewReaderSize(c, 16<<10)
	return c.SetDeadline(time.Now().Add(5 * time.Minute))
}

// request is the next one; nil when every name was sent.
func (n *lane) request() []byte {
	text := n.d.Requests[0]
	if len(n.d.Requests) > 1 {
		text = n.d.Requests[n.rng.IntN(len(n.d.Requests))]
	}
	n.buf = n.buf[:0]
	if n.values != nil {
		return n.withValue(text)
	}
	if n.d.Names == 0 {
		return append(n.buf, text...)
	}
	var i int
	if n.d.Each {
		if i = int(n.d.next.Add(1)) - 1; i >= n.d.Names {
			return nil
		}
	} else {
		i = n.rng.IntN(n.d.Names)
	}
	before, after, _ := strings.Cut(text, "{n}")
	n.buf = append(n.buf, before...)
	n.buf = append(n.buf, secretName(i)...)
	n.buf = append(n.buf, after...)
	return n.buf
}

// withValue puts the next value into a request; nil when all were used.
func (n *lane) withValue(text string) []byte {
	if n.d.Carry {
		n.at %= len(n.values)
	} else if n.at == len(n.values) {
		return nil
	}
	before, after, _ := strings.Cut(text, "{v}")
	n.buf = append(append(append(n.buf, before...), n.values[n.at]...), after...)
	n.at++
	return n.buf
}

func secretName(i int) string { return "s" + strconv.Itoa(1000000 + i)[1:] }

// one sends a request and reads its reply.
func (n *lane) one(req []byte) (time.Time, error) {
	if _, err := n.conn.Write(req); err != nil {
		return time.Time{}, err
	}
	status, body, err := n.reply()
	now := time.Now()
	if err != nil {
		return now, fmt.Errorf("a reply could not be read: %w", err)
	}
	if good := status == n.d.Status || n.d.Status == 0 && status/100 == 2; !good || !n.catch(body) {
		if n.failed++; n.first == "" {
			n.first = strconv.Itoa(status) + " " + n.place + " " + string(body)
		}
	} else if n.body == "" {
		n.body = string(body)
	}
	return now, nil
}

// catch takes what the load asks for out of a reply; false if it is not there.
func (n *lane) catch(body []byte) bool {
	if n.d.Between[0] == "" {
		return true
	}
	text := body
	if n.place != "" {
		text = []byte(n.place)
	}
	_, rest, ok := bytes.Cut(text, []byte(n.d.Between[0]))
	value, _, end := bytes.Cut(rest, []byte(n.d.Between[1]))
	if !ok || !end {
		return false
	}
	if n.d.Carry {
		n.values[n.at-1] = string(value)
	}
	if n.d.Keep != "" {
		n.caught = append(n.caught, string(value))
	}
	return true
}

// reply reads one HTTP/1.1 reply; the body is good until the next one.
func (n *lane) reply() (status int, body []byte, err error) {
	line, err := n.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, errors.New("no status line")
	}
	status, _ = strconv.Atoi(string(line[9:12]))
	length, chunked := 0, false
	n.place = ""
	for {
		if line, err = n.r.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := header(line, "content-length:"); ok {
			if length, err = strconv.Atoi(v); err != nil {
				return 0, nil, err
			}
		} else if v, ok := header(line, "transfer-encoding:"); ok {
			chunked = v == "chunked"
		} else if n.d.Status/100 == 3 {
			if v, ok := header(line, "location:"); ok {
				n.place = v
			}
		}
	}
	if chunked {
		body, err = n.chunks()
		return status, body, err
	}
	if length <= n.r.Size() {
		body, err = n.r.Peek(length)
		if err == nil {
			_, err = n.r.Discard(length)
		}
		return status, body, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(n.r, body)
	return status, body, err
}

func header(line []byte, name string) (string, bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return "", false
	}
	return string(bytes.TrimSpace(line[len(name):])), true
}

func (n *lane) chunks() ([]byte, error) {
	var all []byte
	for {
		line, err := n.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return nil, err
		}
		at := len(all)
		all = append(all, make([]byte, size+2)...)
		if _, err := io.ReadFull(n.r, all[at:]); err != nil {
			return nil, err
		}
		all = all[:at+int(size)]
		if size == 0 {
			return all, nil
		}
	}
}
