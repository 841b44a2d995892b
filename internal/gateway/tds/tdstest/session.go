package tdstest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Session is a login under way. Its fields are the session's own goroutine's;
// others may read ID, Login and Host.
type Session struct {
	Server *Server
	ID     uint16
	Login  string
	Host   string
	App    string

	Database string
	Context  map[string]any // sp_set_session_context
	Temp     map[string]bool
	Level    string       // of isolation
	Tran     uint64       // 0 for none
	resets   atomic.Int32 // how often RESETCONNECTION came

	raw      net.Conn
	conn     net.Conn
	packet   int
	version  uint32
	first    string // the database of the login
	prepared map[int64]string
	handles  int64
	trans    uint64
	requests chan message
	stop     context.CancelFunc // of all

	mu      sync.Mutex // guards all below
	cancel  context.CancelFunc
	running bool
	asked   bool // an attention came while running
}

// session is a connection after its PRELOGIN.
func (s *Server) session(raw, c net.Conn, strict bool) error {
	m, err := readMessage(c, maxPacket)
	if err != nil {
		return err
	}
	if m.kind != kindLogin {
		return violation("a message of type %d in the place of LOGIN7", m.kind)
	}
	l, err := parseLogin(m.data)
	if err != nil {
		return err
	}
	if want := uint32(TDS74); strict != (l.TDSVersion == TDS80) {
		return violation("LOGIN7: version %#x where %#x or TDS 8 over strict TLS was expected", l.TDSVersion, want)
	}
	for _, f := range l.Features {
		if f.ID == 2 {
			return violation("LOGIN7: federated authentication at a server that has SQL logins only")
		}
	}
	s.mu.Lock()
	s.logged = append(s.logged, *l)
	s.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	x := &Session{Server: s, Login: l.User, Host: l.Host, App: l.App, raw: raw, stop: stop, conn: c, version: l.TDSVersion, packet: startPacket}
	refused := s.admit(x, l)
	w := x.writer()
	if refused != nil {
		for _, m := range refused {
			_, _ = w.Write(encodeMessage(m, "tdstest"))
		}
		_, _ = w.Write(encodeDone(tokenDone, doneError, 0))
		return w.end()
	}
	defer s.forget(x)
	x.greet(w, l)
	if err := w.end(); err != nil {
		return err
	}
	_ = raw.SetDeadline(time.Time{})
	return x.serve(ctx)
}

// admit decides a login.
func (s *Server) admit(x *Session, l *Login7) []Message {
	failed := func(number int32, why string) []Message {
		return []Message{{Number: number, State: 1, Class: 14, Text: fmt.Sprintf("Login failed for user '%s'.%s", l.User, why)}}
	}
	login, ok := s.Login(l.User)
	switch {
	case !ok || login.Password != l.Password || l.User == "":
		return failed(18456, "")
	case login.Disabled:
		return failed(18470, " Reason: The account is disabled.")
	case login.Locked:
		return failed(18486, " Reason: The account is locked.")
	case l.NewPassword != "":
		login.Password, login.MustChange, login.Expired = l.NewPassword, false, false
		s.SetLogin(login)
	case login.MustChange:
		return failed(18488, "  Reason: The password of the account must be changed.")
	case login.Expired:
		return failed(18487, "  Reason: The password of the account has expired.")
	}
	x.Login, x.Database = login.Name, l.Database
	if x.Database == "" {
		x.Database = login.Database
	}
	if x.Database == "" {
		x.Database = "master"
	}
	if !s.HasDatabase(x.Database) || s.options.May != nil && !s.options.May(login.Name, x.Database) {
		return append([]Message{{Number: 4060, State: 1, Class: 11, Text: fmt.Sprintf(`Cannot open database "%s" requested by the login. The login failed.`, x.Database)}}, failed(18456, "")...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sessions[s.next] != nil {
		s.next++
	}
	x.ID = s.next
	s.next++
	x.first = x.Database
	s.sessions[x.ID] = x
	x.fresh()
	return nil
}

func (s *Server) forget(x *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x.ID)
}

// fresh is the state after a login or a reset.
func (x *Session) fresh() {
	x.Context, x.Temp, x.prepared = map[string]any{}, map[string]bool{}, map[int64]string{}
	x.Database, x.Tran = x.first, 0
	if x.Level == "" {
		x.Level = "READ COMMITTED" // a reset leaves it as it is
	}
}

func (x *Session) writer() *writer {
	w := &writer{w: x.conn, size: x.packet, spid: x.ID, kind: kindReply}
	w.begin()
	return w
}

// greet is the login response.
func (x *Session) greet(w *writer, l *Login7) {
	send := func(b []byte) { _, _ = w.Write(b) }
	send(encodeEnv(1, x.Database, "master"))
	send(encodeMessage(Message{Number: 5701, State: 2, Class: 0, Text: "Changed database context to '" + x.Database + "'."}, "tdstest"))
	send(encodeEnvBytes(7, collation, nil))
	send(encodeEnv(2, "us_english", ""))
	send(encodeMessage(Message{Number: 5703, State: 1, Class: 0, Text: "Changed language setting to us_english."}, "tdstest"))
	send(encodeLoginAck(l.TDSVersion))
	x.packet = int(min(max(l.PacketSize, smallPacket), 16383)) // the most under TLS
	if l.PacketSize == 0 {
		x.packet = startPacket
	}
	send(encodeEnv(4, strconv.Itoa(x.packet), strconv.Itoa(startPacket)))
	if r := x.Server.options.Route; r != nil {
		host, port := r()
		u := toUTF16(host)
		b := []byte{0}
		b = binary.LittleEndian.AppendUint16(b, port)
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(u)/2)), u...)
		b = append(binary.LittleEndian.AppendUint16([]byte{20}, uint16(len(b))), b...)
		send(withLength(tokenEnvChange, append(b, 0, 0)))
	}
	if len(l.Features) > 0 {
		send(acknowledge(l.Features))
	}
	send(encodeDone(tokenDone, 0, 0))
}

// acks are the features the server knows, and its answers.
var acks = map[byte][]byte{0x01: {}, 0x04: {1}, 0x05: {1}, 0x08: {0}, 0x09: {2, 1}, 0x0a: {1}, 0x0d: {1}, 0x0e: {1}}

func acknowledge(features []Feature) []byte {
	b := []byte{tokenFeatureAck}
	for _, f := range features {
		if data, ok := acks[f.ID]; ok {
			b = append(binary.LittleEndian.AppendUint32(append(b, f.ID), uint32(len(data))), data...)
		}
	}
	return append(b, 0xff)
}

// serve takes requests until the client leaves.
func (x *Session) serve(ctx context.Context) error {
	x.requests = make(chan message, 1)
	done := make(chan error, 1)
	go func() { // ends with the connection, which it closes
		err := x.read()
		x.interrupt(false)
		x.stop()
		done <- err
		close(x.requests)
	}()
	var err error
	for m := range x.requests {
		if err == nil {
			if err = x.answer(ctx, m); err != nil {
				_ = x.raw.Close()
			}
		}
	}
	if rerr := <-done; err == nil {
		err = rerr
	}
	return err
}

// read hands requests on and lets attentions overtake them.
func (x *Session) read() error {
	for {
		m, err := readMessage(x.conn, x.packet)
		if err != nil {
			return err
		}
		if m.kind == kindAttention {
			if len(m.data) != 0 {
				return violation("an attention with data")
			}
			if x.interrupt(true) {
				continue
			}
		} else if !x.begin() {
			return violation("a request of type %d before the answer to the last one", m.kind)
		}
		x.requests <- m
	}
}

// begin marks a request as running; false: there is one.
func (x *Session) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running {
		return false
	}
	x.running, x.asked = true, false
	return true
}

// interrupt stops what runs and reports whether anything did.
func (x *Session) interrupt(asked bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cancel != nil {
		x.cancel()
	}
	x.asked = x.asked || asked && x.running
	return x.running
}

// answer runs one request and sends all of its answer.
func (x *Session) answer(ctx context.Context, m message) error {
	w := x.writer()
	if m.kind == kindAttention { // nothing was running
		_, _ = w.Write(encodeDone(tokenDone, doneAttention, 0))
		return w.end()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x.mu.Lock()
	x.cancel = cancel
	if x.asked {
		cancel()
	}
	x.mu.Unlock()
	fatal, err := x.request(ctx, w, m)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.cancel, x.running = nil, false
	asked := x.asked
	x.mu.Unlock()
	if err := w.end(); err != nil {
		return err
	}
	if asked { // a message of its own: drivers wait for one after the request's
		w.begin()
		_, _ = w.Write(encodeDone(tokenDone, doneAttention, 0))
		if err := w.end(); err != nil {
			return err
		}
	}
	if fatal {
		return net.ErrClosed
	}
	return nil
}

// request decodes and runs a request. fatal ends the connection.
func (x *Session) request(ctx context.Context, w *writer, m message) (fatal bool, err error) {
	c := &cursor{b: m.data}
	if m.kind == 0 { // taken back
		_, err := w.Write(encodeDone(tokenDone, 0, 0))
		return false, err
	}
	if m.kind == kindBulk {
		_, err := w.Write(encodeDone(tokenDone, doneCount, 0))
		return false, err
	}
	if !slices.Contains([]byte{kindBatch, kindRPC, kindTransaction}, m.kind) {
		return false, violation("a request of type %d", m.kind)
	}
	if m.status&(statusReset|statusResetSkipTran) != 0 {
		x.resets.Add(1)
		tran := x.Tran
		x.fresh()
		if m.status&statusResetSkipTran != 0 {
			x.Tran = tran
		}
		_, _ = w.Write(encodeEnvBytes(18, nil, nil))
	}
	tran, err := c.allHeaders()
	if err != nil {
		return false, err
	}
	if tran != x.Tran && m.status&(statusReset|statusResetSkipTran) == 0 {
		return false, violation("ALL_HEADERS name transaction %d where %d is open", tran, x.Tran)
	}
	switch m.kind {
	case kindTransaction:
		return false, x.transaction(w, c)
	case kindRPC:
		return x.calls(ctx, w, c)
	}
	sql, err := fromUTF16(c.b)
	if err != nil {
		return false, err
	}
	return x.run(ctx, w, sql, nil, tokenDone), nil
}

// run runs a statement and writes its tokens; fatal ends the connection.
func (x *Session) run(ctx context.Context, w *writer, sql string, params []Param, done byte) (fatal bool) {
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \r\n\t")
	var r Result
	ok := false
	tran := x.Tran
	if x.Server.options.Exec != nil {
		r, ok = x.Server.options.Exec(ctx, x, sql, params)
	}
	if !ok {
		r = x.builtin(ctx, sql, params)
	}
	if r.Wait != nil {
		r.Wait()
	}
	x.tellChanges(w, &r, tran)
	sets := r.Sets
	if r.Err == nil && len(sets) == 0 {
		sets = []Set{{Affected: -1}}
	}
	for i, set := range sets {
		status := doneInTranIf(x)
		if i < len(sets)-1 || r.Err != nil {
			status |= doneMore
		}
		x.writeSet(ctx, w, set, status, done)
	}
	if r.Err == nil {
		return false
	}
	_, _ = w.Write(encodeMessage(*r.Err, "tdstest"))
	status := doneError | doneInTranIf(x)
	if r.Err.Class >= 20 {
		status |= doneFatal
	}
	_, _ = w.Write(encodeDone(done, status, 0))
	return r.Err.Class >= 20
}

// tellChanges sends what a statement has changed for the client.
func (x *Session) tellChanges(w *writer, r *Result, tran uint64) {
	if r.Database != "" && r.Database != x.Database {
		_, _ = w.Write(encodeEnv(1, r.Database, x.Database))
		x.Database = r.Database
	}
	le := binary.LittleEndian
	switch {
	case tran == 0 && x.Tran != 0:
		_, _ = w.Write(encodeEnvBytes(8, le.AppendUint64(nil, x.Tran), nil))
	case tran != 0 && x.Tran == 0:
		_, _ = w.Write(encodeEnvBytes(9, nil, le.AppendUint64(nil, tran)))
	}
	for _, m := range r.Infos {
		_, _ = w.Write(encodeMessage(m, "tdstest"))
	}
}

func (x *Session) writeSet(ctx context.Context, w *writer, set Set, status uint16, done byte) {
	if set.Columns == nil {
		if set.Affected >= 0 {
			status |= doneCount
		}
		_, _ = w.Write(encodeDone(done, status, max(set.Affected, 0)))
		return
	}
	_, _ = w.Write(encodeColumns(set.Columns))
	count := int64(0)
	if set.Rows != nil {
		var row []byte
		for r := range set.Rows {
			if ctx.Err() != nil || w.err != nil {
				break
			}
			row = encodeRow(row[:0], set.Columns, r)
			_, _ = w.Write(row)
			count++
		}
	}
	_, _ = w.Write(encodeDone(done, status|doneCount, count))
}
