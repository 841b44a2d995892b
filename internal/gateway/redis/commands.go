package redis

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	renewWait = 10 * time.Second // for a newer token to be verified and the session authorised again
	resetWait = 30 * time.Second // from RESET to AUTH, as from accept to login
	// renewTries is how often it may be overtaken by changes of rights.
	renewTries = 5
)

// fromClient walks over what the client says. A chunk in which nothing
// concerns the gateway passes as it is.
func (s *session) fromClient(chunk []byte) (int, gateway.Next) {
	if s.left {
		return 0, gateway.GoOn
	}
	n, f := 0, ours
	if s.held == nil {
		n, f = s.up.walk(chunk, 0)
		switch f {
		case nothing:
			s.count()
			return n, gateway.GoOn
		case cut:
			s.count()
			s.tailSize = copy(s.tail[:], chunk[n:])
			return n, gateway.GoOn
		}
	}
	s.swap, s.out = true, append(make([]byte, 0, len(chunk)+128), chunk[:n]...)
	in := chunk[n:]
	if s.held != nil {
		s.held = append(s.held, in...)
		in = s.held
	}
	next := s.closely(in, f)
	s.count()
	return len(chunk), next
}

// count tells the other goroutine how many answers are due, and avoids the
// write, which is dear, where nothing changes.
func (s *session) count() {
	if s.up.commands != s.counted {
		s.counted = s.up.commands
		s.asked.Store(s.counted)
	}
	if s.up.odd && !s.odd.Load() {
		s.odd.Store(true)
	}
}

// closely reads the commands of ours in a chunk and lets the others pass.
func (s *session) closely(in []byte, f found) gateway.Next {
	for {
		switch f {
		case nothing:
			s.held = nil
			return gateway.GoOn
		case cut:
			s.tailSize = copy(s.tail[:], in)
			s.held = nil
			return gateway.GoOn
		case broken:
			return gateway.Break
		}
		args, n, err := parseCommand(in, ofOurs)
		if err != nil {
			return s.breaks(err)
		}
		if n == 0 && len(in) > 0 {
			s.held = append(s.held[:0], in...)
			return gateway.GoOn
		}
		if len(args) > 0 {
			if next := s.command(args, in[:n]); next != gateway.GoOn {
				return next
			}
		}
		in = in[n:]
		n, f = s.up.walk(in, 0)
		s.out = append(s.out, in[:n]...)
		in = in[n:]
	}
}

// breaks ends the session because of what the client sent.
func (s *session) breaks(err error) gateway.Next {
	why := tooLong
	if errors.As(err, &why) && (why == tooMany || why == tooBig) {
		why = tooLong
	}
	s.up.why = why
	return gateway.Break
}

// command acts on one command; raw is its bytes.
func (s *session) command(args [][]byte, raw []byte) gateway.Next {
	s.up.commands++
	if raw[0] != '*' {
		raw = appendCommand(nil, args...)
	}
	act := actionOf(args[0])
	switch act {
	case auth:
		return s.auth(args)
	case hello:
		return s.hello(args, raw)
	case reset:
		return s.reset(args)
	case quit:
		s.pass(raw)
		s.left = true
		return gateway.Quit
	}
	switch {
	case s.up.gated:
		return s.answer(noAuth)
	case act == client:
		return s.client(args, raw)
	case act == cluster:
		return s.cluster(args, raw)
	case act == fenced:
		return s.answer(notHere(string(args[0])))
	}
	s.up.note(act, len(args))
	s.pass(raw)
	return gateway.GoOn
}

func (s *session) pass(raw []byte) { s.out = append(s.out, raw...) }

// flush writes what has been put in the place of the chunk so far.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.b.conn.Write(s.out)
	s.out = s.out[:0]
	return err
}

// answer sends an error of ours in the command's turn.
func (s *session) answer(text string) gateway.Next {
	return s.mark(mark{what: replace, reply: errorReply(text)})
}

// mark sends a marker, and notes what becomes of its answer.
func (s *session) mark(m mark) gateway.Next {
	s.last++
	m.n = s.last
	s.mu.Lock()
	s.marks = append(s.marks, m)
	full := len(s.marks) > maxMarks
	s.mu.Unlock()
	if full {
		return s.breaks(errProtocol("too many refused commands whose answers nobody reads"))
	}
	s.out = s.b.marker(s.out, s.last)
	return gateway.GoOn
}

// auth takes a newer token.
func (s *session) auth(args [][]byte) gateway.Next {
	switch {
	case s.up.multi:
		return s.answer(inTransaction)
	case len(args) == 1:
		return s.answer("ERR wrong number of arguments for 'auth' command")
	case len(args) == 2:
		return s.answer(wrongPass)
	case len(args) > 3:
		return s.answer(syntaxError)
	}
	if r := s.renew(string(args[1]), az.NewSecret(string(args[2]))); r != nil {
		return s.denied(r)
	}
	return s.mark(mark{what: replace, reply: []byte("+OK\r\n")})
}

// hello changes the protocol's version, and may bring a newer token. The
// backend answers it, without having seen the token.
func (s *session) hello(args [][]byte, raw []byte) gateway.Next {
	if len(args) <= 2 {
		if s.up.gated {
			return s.answer(noAuthHello)
		}
		s.pass(raw)
		return gateway.GoOn
	}
	h, r := parseHello(args)
	switch {
	case r != nil:
		return s.answer(r.text)
	case h.auth:
		if r := s.renew(h.user, h.token); r != nil {
			return s.denied(r)
		}
	case s.up.gated:
		return s.answer(noAuthHello)
	}
	s.pass(h.forward)
	return gateway.GoOn
}

// denied refuses a token; the session goes on as before.
func (s *session) denied(r *refusal) gateway.Next {
	s.g.Refused("renewal")
	s.g.log.Info("a session's newer token was refused", "session", s.info.ID, "principal", s.info.Who.ObjectID, "message", r.text, "cause", r.cause)
	if s.failures++; s.failures >= maxFailures {
		return s.breaks(errProtocol("too many failed logins"))
	}
	return s.answer(r.text)
}

// renew verifies a newer token of the same principal, sees that it may still
// be here, and lets the session live as long as the token.
func (s *session) renew(user string, token az.Secret) *refusal {
	ctx, cancel := context.WithTimeout(s.ctx, renewWait)
	defer cancel()
	who, err := s.g.identify(ctx, user, token)
	if err == nil && (who.ObjectID != s.info.Who.ObjectID || who.TenantID != s.info.Who.TenantID) {
		err = az.Errorf(az.Unauthorized, "OtherUser", "the token is another principal's")
	}
	if err == nil && s.up.gated {
		err = s.awaitBackend(ctx)
	}
	if err == nil {
		err = s.authorizeAgain(ctx, who)
	}
	if err != nil {
		return refuse(err, false)
	}
	s.up.gated = false
	s.until(who.Expires)
	return nil
}

// authorizeAgain asks whether the principal of a newer token may be here.
func (s *session) authorizeAgain(ctx context.Context, who az.Principal) error {
	now := s.info
	now.Who = who
	still := s.g.rules.Authorize.Still()
	for range renewTries {
		generation := s.g.Generation()
		if err := still(ctx, now); err != nil {
			return err
		}
		if err := s.g.Renew(&s.pump, who, generation); !errors.Is(err, gateway.ErrStale) {
			return err
		}
	}
	return gateway.ErrStale
}

// reset brings the connection back to what it was before the login. The
// backend must not be left as its default user: it is logged in again at once,
// and gets nothing of the client's until the client has shown a token.
func (s *session) reset(args [][]byte) gateway.Next {
	if len(args) != 1 {
		return s.answer("ERR wrong number of arguments for 'reset' command")
	}
	if s.muted { // the marker might go unanswered, and the replies to come not be found
		return s.breaks(errProtocol("RESET after CLIENT REPLY OFF is not served: connect again"))
	}
	s.back = make(chan struct{})
	s.mu.Lock()
	soon := s.g.clock().Add(resetWait)
	if s.expires.Before(soon) {
		soon = s.expires
	}
	s.mu.Unlock()
	if next := s.mark(mark{what: renew, done: s.back}); next != gateway.GoOn {
		return next
	}
	s.out = appendCommand(s.out, "RESET")
	s.out = appendCommand(s.out, "AUTH", s.info.Grant.User, s.info.Grant.Password.Reveal())
	s.up.gated, s.up.multi = true, false
	s.until(soon)
	return gateway.GoOn
}

// awaitBackend waits until the backend has been logged in again after RESET.
func (s *session) awaitBackend(ctx context.Context) error {
	if err := s.flush(); err != nil {
		return az.Errorf(az.Unavailable, "Backend", "the backend is lost").Because(err)
	}
	select {
	case <-s.back:
		return nil
	case <-ctx.Done():
		return az.Errorf(az.Unavailable, "Backend", "the backend did not log in again").Because(ctx.Err())
	}
}

// client serves CLIENT: only what is about one's own connections passes.
func (s *session) client(args [][]byte, raw []byte) gateway.Next {
	if len(args) < 2 {
		s.pass(raw)
		return gateway.GoOn
	}
	sub := string(upper(nil, args[1]))
	ok := clientPasses[sub]
	switch sub {
	case "REPLY":
		if ok = true; len(args) == 3 && !strings.EqualFold(string(args[2]), "ON") {
			s.muted, s.up.odd = true, true
		}
	case "TRACKING":
		ok = s.ownRedirect(args)
	case "UNBLOCK":
		ok = len(args) < 3 || s.owns(args[2])
	}
	if !ok {
		return s.answer(notHere("client|" + sub))
	}
	s.pass(raw)
	return gateway.GoOn
}

// ownRedirect reports whether invalidation messages go to a connection of the
// same principal.
func (s *session) ownRedirect(args [][]byte) bool {
	i := slices.IndexFunc(args, func(a []byte) bool { return strings.EqualFold(string(a), "REDIRECT") })
	for ; i >= 0 && i < len(args); i++ {
		if strings.EqualFold(string(args[i]), "REDIRECT") && i+1 < len(args) && !s.owns(args[i+1]) {
			return false
		}
	}
	return true
}

// owns reports whether a client id is of a session of the same principal at
// the same server.
func (s *session) owns(id []byte) bool {
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		return n == 0 // Redis refuses it
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	other := s.g.mine[connection{s.b.addr, n}]
	return other != nil && other.info.Who.ObjectID == s.info.Who.ObjectID
}

// cluster serves CLUSTER: where nodes are named, they are named as the client
// reaches them.
func (s *session) cluster(args [][]byte, raw []byte) gateway.Next {
	sub := ""
	if len(args) > 1 {
		sub = string(upper(nil, args[1]))
	}
	switch {
	case clusterNames[sub] && s.up.multi:
		return s.answer(inTransaction)
	case clusterNames[sub]:
		if next := s.mark(mark{what: rename}); next != gateway.GoOn {
			return next
		}
	case sub != "" && !clusterPasses[sub]:
		return s.answer(notHere("cluster|" + sub))
	}
	s.pass(raw)
	return gateway.GoOn
}
