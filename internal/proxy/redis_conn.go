package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// redisConn is a logged-in connection to a Redis. What is written to it is a
// program's commands: those that log in are written with the token in their
// place. What is read from it are the server's replies, without those to a
// login that the program did not ask for: "+OK" and a marker.
type redisConn struct {
	net.Conn
	d *Door

	mu    sync.Mutex // guards the writing side
	in    commands
	proto string // of the session: 2 or 3
	multi bool   // within a transaction, where nothing may be put in between
	mute  bool   // replies no longer follow commands one by one: nothing is put in
	due   bool   // a token is to be replaced as soon as it can be
	next  []byte // the login with that token
	later time.Time
	ends  time.Time
	timer *time.Timer
	over  bool

	awaited atomic.Int32 // markers that were sent and not seen again
	marker  string
	out     replies // the reading side's
}

func newRedisConn(d *Door, c net.Conn, ends time.Time) *redisConn {
	r := &redisConn{Conn: c, d: d, proto: "2", ends: ends, marker: strings.ReplaceAll(az.NewGUID(), "-", "")}
	r.out.marker = []byte("$32\r\n" + r.marker + "\r\n")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = time.AfterFunc(max(ends.Sub(d.cfg.Clock())-redisRenew, redisRetry), r.renew) // ended by stop
	return r
}

// NetConn returns what is below, for those who need the socket.
func (r *redisConn) NetConn() net.Conn { return r.Conn }

// CloseWrite passes a half-close on.
func (r *redisConn) CloseWrite() error {
	if w, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (r *redisConn) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.timer.Stop()
}

// renew replaces the session's token if there is a later one, or tries again.
func (r *redisConn) renew() {
	ctx, cancel := context.WithTimeout(context.Background(), tokenWait)
	defer cancel()
	user, token, ends, err := r.d.redisCredentials(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if err == nil && ends.After(r.ends) {
		r.due, r.next, r.later = true, redisCommand("AUTH", user, token), ends
		err = r.flushDue()
	}
	if err != nil {
		r.d.cfg.Log.Warn("cannot renew a session's login", "database", r.d.cfg.Name, "error", err)
	}
	r.timer.Reset(max(r.ends.Sub(r.d.cfg.Clock())-redisRenew, redisRetry))
}

// tokenWait bounds the asking for a token in the middle of a session.
const tokenWait = 10 * time.Second

// flushDue logs in again where that is due and possible now; r.mu is held.
func (r *redisConn) flushDue() error {
	if !r.due || r.multi || r.mute || !r.in.border() {
		return nil
	}
	r.ends, r.due = r.later, false
	_, err := r.Conn.Write(r.marked(r.next))
	r.next = nil
	return err
}

// marked adds to a login what tells its reply from the program's: a word that
// comes back behind it.
func (r *redisConn) marked(login []byte) []byte {
	r.awaited.Add(1)
	return append(login, redisCommand("ECHO", r.marker)...)
}

// Write takes a program's bytes.
func (r *redisConn) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out, err := r.in.walk(p, r.command)
	if len(out) > 0 {
		if _, werr := r.Conn.Write(out); werr != nil {
			return 0, werr
		}
	}
	if err != nil {
		return 0, err
	}
	return len(p), r.flushDue() // the timer may have found the program in the middle of something
}

// command looks at one of the program's commands. args is nil but for those
// that wanted says, whose bytes instead replaces; nil leaves them.
func (r *redisConn) command(name string, args []string) (instead []byte, err error) {
	switch name {
	case "AUTH":
		return r.login("AUTH", func(user, token string) []string { return []string{user, token} })
	case "HELLO":
		return r.hello(args)
	case "CLIENT":
		r.mute = r.mute || len(args) > 1 && strings.EqualFold(args[1], "REPLY")
	case "MONITOR":
		r.mute = true
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE":
		r.mute = r.mute || r.proto == "2"
	case "MULTI":
		r.multi = true
	case "EXEC", "DISCARD":
		r.multi = false
	case "RESET": // it logs out: in again, before anything else
		r.multi, r.mute, r.proto = false, false, "2"
		login, err := r.login("AUTH", func(user, token string) []string { return []string{user, token} })
		if err != nil {
			return nil, err
		}
		return append(redisCommand("RESET"), r.marked(login)...), nil
	}
	return nil, nil
}

// hello replaces HELLO's AUTH, or adds it.
func (r *redisConn) hello(args []string) ([]byte, error) {
	if len(args) < 2 {
		return nil, nil
	}
	rest := []string(nil)
	for i := 2; i < len(args); i++ {
		switch {
		case strings.EqualFold(args[i], "AUTH") && i+2 < len(args):
			i += 2
		case strings.EqualFold(args[i], "SETNAME") && i+1 < len(args):
			rest = append(rest, args[i], args[i+1])
			i++
		default:
			rest = append(rest, args[i])
		}
	}
	if args[1] == "2" || args[1] == "3" {
		r.proto = args[1]
	}
	return r.login("HELLO", func(user, token string) []string { return append([]string{args[1], "AUTH", user, token}, rest...) })
}

// login writes a command with the token; r.mu is held.
func (r *redisConn) login(name string, form func(user, token string) []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenWait)
	defer cancel()
	user, token, ends, err := r.d.redisCredentials(ctx)
	if err != nil {
		return nil, err
	}
	r.ends = ends
	return redisCommand(append([]string{name}, form(user, token)...)...), nil
}

// Read gives the replies that the program is to see.
func (r *redisConn) Read(p []byte) (int, error) {
	for {
		if n := r.out.take(p); n > 0 {
			return n, nil
		}
		n, err := r.Conn.Read(p)
		if n > 0 {
			if werr := r.out.walk(p[:n], &r.awaited); werr != nil {
				return 0, werr
			}
			if r.out.untouched {
				return n, err
			}
			if got := r.out.take(p); got > 0 {
				return got, nil // an error comes again
			}
		}
		if err != nil {
			return 0, err
		}
	}
}
