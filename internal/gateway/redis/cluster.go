package redis

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	// topologyAge is how long what a server says of its nodes is believed at
	// a login.
	topologyAge = 10 * time.Second
	// topologyWait bounds asking it again because of an unknown node.
	topologyWait = 2 * time.Second
	// maxNodes bounds the doors of one server: the Redis cluster
	// specification recommends at most 1,000 nodes.
	maxNodes = 1000
)

// node is one of a cluster's servers and its door here.
type node struct {
	of   az.ID
	addr string // host:port, as the cluster calls it
	port string // of its door; "" while it has none
}

// topology is what a server says of its nodes.
type topology struct {
	g      *Gateway
	server az.ID

	mu    sync.Mutex // guards all below
	asked time.Time  // the server, by its own address; zero: what is known counts no more
	heard time.Time  // the same of any node
	nodes map[string]*node
	doors map[string]*node // those that have a door, also when they have left
}

// topologyOf returns what is known of a server.
func (g *Gateway) topologyOf(server az.ID) *topology {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.clusters[server.Key()]
	if t == nil {
		t = &topology{g: g, server: server, doors: map[string]*node{}}
		g.clusters[server.Key()] = t
	}
	return t
}

// outdated reports whether to ask again. Only who asks the server by its own
// address hears which nodes have left: one that has may know of itself alone.
func (t *topology) outdated(own bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.heard
	if own {
		last = t.asked
	}
	return last.IsZero() || t.g.clock().Sub(last) > topologyAge
}

// has reports whether an address is one of a node that has not left.
func (t *topology) has(addr string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[addr] != nil
}

func (t *topology) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked, t.heard = time.Time{}, time.Time{}
}

// learn takes the answer of CLUSTER NODES; from is the address that gave it, the
// server's own or a node's. A server that is no cluster gives an error.
func (t *topology) learn(answer value, from string, own bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = t.g.clock()
	if own {
		t.asked = t.heard
	}
	if own && answer.kind == '-' && bytes.Contains(answer.text, []byte("cluster support disabled")) {
		t.nodes = nil
	}
	if answer.kind != '$' && answer.kind != '=' {
		return // a server that starts says nothing of its nodes: what was known stays
	}
	if own || t.nodes == nil {
		t.nodes = map[string]*node{}
	}
	for line := range bytes.Lines(answer.text) {
		d, ok := parseNode(string(line))
		if !ok || len(t.nodes) >= 2*maxNodes {
			continue
		}
		addr := net.JoinHostPort(hostOr(d.ip, from), d.port)
		n := t.doors[addr]
		if n == nil {
			n = &node{of: t.server, addr: addr}
		}
		t.nodes[addr] = n
		if d.name != "" {
			t.nodes[net.JoinHostPort(d.name, d.port)] = n
		}
	}
}

// hostOr returns a node's host, which a node leaves open when it does not know
// how it is reached: then it is the one that was reached.
func hostOr(host, from string) string {
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(from)
	}
	return host
}

// described is a line of CLUSTER NODES: id ip:port@busport,name flags …
type described struct{ id, ip, port, bus, name, rest string }

func parseNode(line string) (d described, ok bool) {
	id, rest, ok := strings.Cut(line, " ")
	if !ok {
		return d, false
	}
	where, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return d, false
	}
	where, names, _ := strings.Cut(where, ",")
	name, _, _ := strings.Cut(names, ",")
	addr, bus, ok := strings.Cut(where, "@")
	colon := strings.LastIndexByte(addr, ':')
	if !ok || colon < 0 || !isPort(addr[colon+1:]) {
		return d, false
	}
	if strings.ContainsRune(name, '=') { // a field of Redis 7.2 and later, no name
		name = ""
	}
	return described{id, addr[:colon], addr[colon+1:], bus, name, rest}, true
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// door returns the port here of a node, and opens its door if it has none;
// "" for what is no node of the server.
func (t *topology) door(host, port string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[net.JoinHostPort(host, port)]
	if n == nil {
		return ""
	}
	if n.port == "" && len(t.doors) < maxNodes {
		if err := t.g.openDoor(n); err != nil {
			t.g.log.Warn("cannot open a port for a node of a cluster", "server", t.server.Name(), "node", n.addr, "error", err)
			return ""
		}
		t.doors[n.addr] = n
	}
	return n.port
}

// isCluster reports whether the server said that it has nodes.
func (t *topology) isCluster() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes != nil
}

// openDoor listens for a node's clients beside the server's own door.
func (g *Gateway) openDoor(n *node) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return net.ErrClosed
	}
	l, err := net.Listen("tcp", net.JoinHostPort(g.host, "0"))
	if err != nil {
		return err
	}
	_, n.port, _ = net.SplitHostPort(l.Addr().String())
	at := &node{of: n.of, addr: n.addr}
	g.work.Add(1)
	go func() { // ends with Shutdown, which closes l
		defer g.work.Done()
		if err := g.Gate.Serve(l, func(ctx context.Context, c net.Conn) { g.accept(ctx, c, at) }); err != nil {
			_ = l.Close()
			g.log.Error("the port of a cluster's node is closed", "server", n.of.Name(), "node", n.addr, "error", err)
		}
	}()
	g.log.Info("a port is open for a node of a cluster", "server", n.of.Name(), "node", n.addr, "address", l.Addr().String())
	return nil
}

// reachedAs is the host by which the client reaches the gateway: the name it
// used in TLS, or the address it dialled.
func (l *login) reachedAs() string {
	if l.host != "" {
		return l.host
	}
	host, _, _ := net.SplitHostPort(gateway.Bottom(l.conn).LocalAddr().String())
	return host
}

// doorOf is door, and asks the server about a node that is not known yet.
func (s *session) doorOf(host, port string) string {
	host = hostOr(host, s.b.addr)
	if p := s.t.door(host, port); p != "" {
		return p
	}
	s.t.mu.Lock()
	recent := s.g.clock().Sub(s.t.heard) < time.Second
	s.t.mu.Unlock()
	if recent {
		return ""
	}
	s.t.forget() // so that the login asks
	ctx, cancel := context.WithTimeout(s.ctx, topologyWait)
	defer cancel()
	b, err := s.g.connect(ctx, s.info.Grant, s.b.addr)
	if err != nil {
		s.g.log.Warn("cannot ask a cluster about its nodes", "server", s.t.server.Name(), "error", err)
		return ""
	}
	b.close()
	return s.t.door(host, port)
}

// redirected gives a MOVED or ASK the address of the node's door; nil for
// anything else, and for an address that is no node's.
func (s *session) redirected(line []byte) []byte {
	if !isRedirection(line) || !s.t.isCluster() {
		return nil
	}
	host, port, ok := redirection(line)
	if !ok {
		return nil
	}
	door := s.doorOf(host, port)
	if door == "" {
		return nil
	}
	at := bytes.LastIndexByte(line, ' ')
	return append(slices.Clone(line[:at+1]), s.host+":"+door+"\r\n"...)
}

// redirection reads where -MOVED slot host:port leads.
func redirection(line []byte) (host, port string, ok bool) {
	words := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if len(words) != 3 {
		return "", "", false
	}
	colon := strings.LastIndexByte(words[2], ':')
	if colon < 0 || !isPort(words[2][colon+1:]) {
		return "", "", false
	}
	return words[2][:colon], words[2][colon+1:], true
}

// rename appends the answer to CLUSTER SLOTS, SHARDS, NODES or REPLICAS with
// the nodes' addresses here; an answer that is none of these as it came.
func (s *session) rename(out, raw []byte) []byte {
	v, n, err := parseValue(raw, maxDepth)
	if err != nil || n != len(raw) || !s.t.isCluster() {
		return append(out, raw...)
	}
	switch v.kind {
	case '$', '=':
		s.renameLines(&v)
	case '*', '~':
		for i := range v.list {
			s.renameItem(&v.list[i])
		}
	}
	return v.appendTo(out)
}

// renameItem renames in one item of a list: a line of REPLICAS, a range of
// SLOTS or a shard.
func (s *session) renameItem(v *value) {
	switch {
	case v.kind == '$' || v.kind == '=':
		s.renameLines(v)
	case len(v.list) > 2 && v.list[0].kind == ':':
		for i := range v.list[2:] {
			s.renameSlotNode(&v.list[2+i])
		}
	default: // a shard: slots … nodes …
		for i := 0; i+1 < len(v.list); i += 2 {
			if string(v.list[i].text) == "nodes" {
				for j := range v.list[i+1].list {
					s.renameShardNode(&v.list[i+1].list[j])
				}
			}
		}
	}
}

// renameLines renames in the text of CLUSTER NODES.
func (s *session) renameLines(v *value) {
	var out strings.Builder
	for line := range strings.Lines(string(v.text)) {
		kind := "" // a verbatim string begins with its kind
		if v.kind == '=' && out.Len() == 0 && strings.HasPrefix(line, "txt:") {
			kind, line = "txt:", line[4:]
		}
		if d, ok := parseNode(line); ok {
			if door := s.doorOf(d.ip, d.port); door != "" {
				line = d.id + " " + s.host + ":" + door + "@" + d.bus + " " + d.rest
			}
		}
		out.WriteString(kind + line)
	}
	v.text = []byte(out.String())
}

// renameSlotNode renames host, port, id and metadata.
func (s *session) renameSlotNode(v *value) {
	if len(v.list) < 2 || v.list[1].kind != ':' {
		return
	}
	door := s.doorOf(string(v.list[0].text), string(v.list[1].text))
	if door == "" {
		return
	}
	v.list[0] = value{kind: '$', text: []byte(s.host)}
	v.list[1].text = []byte(door)
	if len(v.list) > 3 {
		v.list[3].list = nil // the metadata holds its other names
	}
}

// renameShardNode renames a node of CLUSTER SHARDS: names and values in turn.
func (s *session) renameShardNode(v *value) {
	field := func(name string) *value {
		for i := 0; i+1 < len(v.list); i += 2 {
			if string(v.list[i].text) == name {
				return &v.list[i+1]
			}
		}
		return nil
	}
	ip, port := field("ip"), field("tls-port")
	if port == nil || s.info.Grant.TLS == nil {
		port = field("port")
	}
	if ip == nil || port == nil {
		return
	}
	door := s.doorOf(string(ip.text), string(port.text))
	if door == "" {
		return
	}
	for _, name := range []string{"ip", "endpoint", "hostname"} {
		if f := field(name); f != nil {
			*f = value{kind: '$', text: []byte(s.host)}
		}
	}
	for _, name := range []string{"port", "tls-port"} {
		if f := field(name); f != nil {
			f.text = []byte(door)
		}
	}
}
