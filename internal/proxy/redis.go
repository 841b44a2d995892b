package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

const (
	redisMaxLine = 4 << 10 // of a server's answer to AUTH
	// redisRenew is how long before its end a session's token is replaced; the
	// server cuts a session whose token has ended.
	redisRenew = 3 * time.Minute
	redisRetry = 10 * time.Second // between tries to replace it
)

// redis lets one program in to a Redis. The session's token is replaced before
// it ends, on the open connection, and what the program says of users and
// passwords is replaced by the token.
func (d *Door) redis(ctx context.Context, c net.Conn, stranger error) (*gateway.Pump, error) {
	if stranger != nil {
		return nil, redisSay(c, "NOPERM", stranger)
	}
	r, err := d.redisLogin(ctx)
	if err != nil {
		return nil, redisSay(c, "ERR", err)
	}
	p := d.pump(c, r)
	closed := p.Finished
	p.Finished = func(why gateway.Reason, clean bool) {
		r.stop()
		closed(why, clean)
	}
	return p, nil
}

// redisSay tells the client why, as the answer to its first command.
func redisSay(c net.Conn, code string, err error) error {
	gateway.Refuse(c, []byte("-"+code+" "+oneLine(textOf(err))+"\r\n"), true)
	return err
}

// oneLine makes a text fit where a line end would end it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// redisLogin logs in at the server.
func (d *Door) redisLogin(ctx context.Context) (*redisConn, error) {
	user, token, ends, err := d.redisCredentials(ctx)
	if err != nil {
		return nil, err
	}
	raw, release, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	t, err := d.secure(ctx, raw)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	if err = d.redisTell(t, "AUTH", user, token); err == nil && d.cfg.Database != "" && d.cfg.Database != "0" {
		err = d.redisTell(t, "SELECT", d.cfg.Database)
	}
	if err != nil {
		_ = t.Close()
		return nil, err
	}
	return newRedisConn(d, t, ends), nil
}

// redisCredentials are the user and password that stand for the token.
func (d *Door) redisCredentials(ctx context.Context) (user, token string, ends time.Time, err error) {
	secret, ends, err := d.token(ctx)
	if err != nil {
		return "", "", ends, err
	}
	c, err := claimsOf(secret)
	if err == nil && c.ObjectID == "" {
		err = errors.New("the token has no oid")
	}
	if err != nil {
		return "", "", ends, &refusal{text: "the token for " + d.cfg.Name + " names nobody", cause: err}
	}
	return c.ObjectID, secret.Reveal(), ends, nil
}

// redisTell sends a command that is answered by OK.
func (d *Door) redisTell(c io.ReadWriter, command ...string) error {
	if _, err := c.Write(redisCommand(command...)); err != nil {
		return d.lost(err)
	}
	line, err := redisLine(c)
	if err != nil {
		return d.lost(err)
	}
	if command[0] == "AUTH" && repeats([]byte(line), az.NewSecret(command[len(command)-1])) {
		return d.refusedTelling()
	}
	if line[0] == '-' {
		return &refusal{text: d.cfg.Name + " refused the login: " + line[1:], cause: errors.New(command[0])}
	}
	if line[0] != '+' {
		return &refusal{text: d.cfg.Name + " does not speak Redis's protocol"}
	}
	return nil
}

// redisLine reads one line and not a byte more.
func redisLine(r io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < redisMaxLine {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			if s := strings.TrimSuffix(string(line), "\r"); s != "" {
				return s, nil
			}
			return "", errors.New("an empty line")
		}
		line = append(line, b[0])
	}
	return "", errors.New("a line that does not end")
}

// redisCommand writes a command as an array of strings.
func redisCommand(args ...string) []byte {
	out := append(strconv.AppendInt([]byte{'*'}, int64(len(args)), 10), '\r', '\n')
	for _, a := range args {
		out = append(strconv.AppendInt(append(out, '$'), int64(len(a)), 10), '\r', '\n')
		out = append(append(out, a...), '\r', '\n')
	}
	return out
}
