package store

import (
	"context"
	"database/sql"

	"github.com/hawser/hawser/internal/az"
)

// SignInSession is one person signed in in one browser.
type SignInSession struct {
	ID       string // GUID
	Browser  string // keyed hash of the browser's session cookie
	User     string
	AuthTime az.Micros // when the person proved who they are
	Used     az.Micros // when the session was last seen, to a few minutes
	Idle     az.Micros // ends when it was not used for so long
	Ends     az.Micros // ends in any case
	Body     []byte    // JSON
}

const sessionColumns = `id, browser, user_id, auth_time, used, idle, ends, body`

func sessionInto(out *[]SignInSession) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var s SignInSession
		err := r.Scan(&s.ID, &s.Browser, &s.User, (*int64)(&s.AuthTime), (*int64)(&s.Used), (*int64)(&s.Idle), (*int64)(&s.Ends), &s.Body)
		*out = append(*out, s)
		return err
	}
}

const (
	sessionsOfBrowser = `select ` + sessionColumns + ` from signin_sessions where browser = $1 and ends > $2 and used + idle > $2 order by auth_time desc, id`
	sessionsOfUser    = `select ` + sessionColumns + ` from signin_sessions where user_id = $1 and ends > $2 and used + idle > $2 order by auth_time desc, id`
)

// SignInSessions lists a browser's sessions that have not ended by time,
// newest first.
func (s *Store) SignInSessions(ctx context.Context, browser string) ([]SignInSession, error) {
	var out []SignInSession
	err := s.rows(ctx, sessionsOfBrowser, []any{browser, int64(az.MicrosOf(s.clock()))}, sessionInto(&out))
	return out, err
}

// SignInSessions is the same inside a transaction.
func (tx *Tx) SignInSessions(browser string) ([]SignInSession, error) {
	var out []SignInSession
	err := tx.rows(sessionsOfBrowser, []any{browser, int64(tx.now)}, sessionInto(&out))
	return out, err
}

// SignInSessionsOf lists a person's sessions in all browsers.
func (s *Store) SignInSessionsOf(ctx context.Context, user string) ([]SignInSession, error) {
	var out []SignInSession
	err := s.rows(ctx, sessionsOfUser, []any{user, int64(az.MicrosOf(s.clock()))}, sessionInto(&out))
	return out, err
}

// SignInSessionStands reports whether a person's session has not ended.
func (tx *Tx) SignInSessionStands(user, id string) (bool, error) {
	var found string
	return tx.row(`select id from signin_sessions where id = $1 and user_id = $2 and ends > $3 and used + idle > $3`, []any{id, user, int64(tx.now)}, &found)
}

// AddSignInSession begins a session and sweeps those that ended by time.
func (tx *Tx) AddSignInSession(s SignInSession) error {
	return tx.execAll(
		statement{`delete from signin_sessions where ends < $1`, []any{int64(tx.now)}},
		statement{`insert into signin_sessions (` + sessionColumns + `) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
			[]any{s.ID, s.Browser, s.User, int64(s.AuthTime), int64(s.Used), int64(s.Idle), int64(s.Ends), string(s.Body)}})
}

// MoveSignInSessions gives a browser's sessions to its next cookie.
func (tx *Tx) MoveSignInSessions(from, to string) error {
	_, err := tx.exec(`update signin_sessions set browser = $1 where browser = $2`, to, from)
	return err
}

// UseSignInSessions notes that a browser's sessions are in use.
func (tx *Tx) UseSignInSessions(browser string) error {
	_, err := tx.exec(`update signin_sessions set used = $1 where browser = $2 and used < $1`, int64(tx.now), browser)
	return err
}

// EndSignInSession ends one session of a person.
func (tx *Tx) EndSignInSession(user, id string) (ended bool, err error) {
	n, err := tx.exec(`delete from signin_sessions where id = $1 and user_id = $2`, id, user)
	return n > 0, err
}

// EndSignInSessionsOf ends every session of a person.
func (tx *Tx) EndSignInSessionsOf(user string) error {
	_, err := tx.exec(`delete from signin_sessions where user_id = $1`, user)
	return err
}

// UseOnce notes that something was used; first is false if it was before.
func (tx *Tx) UseOnce(key string, until az.Micros) (first bool, err error) {
	if _, err := tx.exec(`delete from signin_once where until < $1`, int64(tx.now)); err != nil {
		return false, err
	}
	n, err := tx.exec(`insert into signin_once (key, until) values ($1, $2) on conflict (key) do nothing`, key, int64(until))
	return n > 0, err
}

// Failures is how often something was tried in vain.
type Failures struct {
	N       int64
	Since   az.Micros // when counting began
	Blocked az.Micros // until when nothing more is tried
}

// Failures reads a counter; the zero value if nothing was counted.
func (tx *Tx) Failures(key string) (f Failures, err error) {
	_, err = tx.row(`select n, since, blocked from signin_failures where key = $1`, []any{key}, &f.N, (*int64)(&f.Since), (*int64)(&f.Blocked))
	return f, err
}

// SetFailures writes a counter; N of 0 removes it.
func (tx *Tx) SetFailures(key string, f Failures) error {
	if f.N <= 0 {
		_, err := tx.exec(`delete from signin_failures where key = $1`, key)
		return err
	}
	_, err := tx.exec(`insert into signin_failures (key, n, since, blocked) values ($1, $2, $3, $4)
		on conflict (key) do update set n = excluded.n, since = excluded.since, blocked = excluded.blocked`,
		key, f.N, int64(f.Since), int64(f.Blocked))
	return err
}

// SweepFailures forgets counters that began before a time.
func (tx *Tx) SweepFailures(before az.Micros) error {
	_, err := tx.exec(`delete from signin_failures where since < $1 and blocked < $1`, int64(before))
	return err
}

// SignInLink returns the user that an outside subject is.
func (s *Store) SignInLink(ctx context.Context, subject string) (user string, ok bool, err error) {
	ok, err = s.row(ctx, `select user_id from signin_links where subject = $1`, []any{subject}, &user)
	return user, ok, err
}

// SignInLink is the same inside a transaction.
func (tx *Tx) SignInLink(subject string) (user string, ok bool, err error) {
	ok, err = tx.row(`select user_id from signin_links where subject = $1`, []any{subject}, &user)
	return user, ok, err
}

// PutSignInLink says which user an outside subject is.
func (tx *Tx) PutSignInLink(subject, user string) error {
	_, err := tx.exec(`insert into signin_links (subject, user_id) values ($1, $2) on conflict (subject) do update set user_id = excluded.user_id`, subject, user)
	return err
}

// CredentialsOfKind lists every object's credentials of a kind, in the order of
// their owners, after one of them ("" from the start).
func (s *Store) CredentialsOfKind(ctx context.Context, kind, after string, limit int) ([]Credential, error) {
	var out []Credential
	err := s.rows(ctx, `select owner, id, kind, hash, body, expires, created from credentials where kind = $1 and owner > $2 order by owner, id limit $3`,
		[]any{kind, after, int64(limit)}, credentialInto(&out))
	return out, err
}
