package store

import (
	"context"
	"database/sql"

	"github.com/hawser/hawser/internal/az"
)

// AuthCode is an authorization code that was given out. Body is the JSON of
// what only the token authority reads.
type AuthCode struct {
	Key     string // keyed hash of the code
	Family  string // of the refresh tokens that come from it
	Body    []byte
	Expires az.Micros
	Used    az.Micros // 0: not yet
}

const authCode = `select key, family, body, expires, used from auth_codes where key = $1`

func (c *AuthCode) dest() []any {
	return []any{&c.Key, &c.Family, &c.Body, (*int64)(&c.Expires), (*int64)(&c.Used)}
}

// AddAuthCode keeps a code.
func (tx *Tx) AddAuthCode(c AuthCode) error {
	_, err := tx.exec(`insert into auth_codes (key, family, body, expires, used) values ($1, $2, $3, $4, 0)`,
		c.Key, c.Family, string(c.Body), int64(c.Expires))
	return err
}

// AuthCode reads a code; ok is false if there is none.
func (s *Store) AuthCode(ctx context.Context, key string) (c AuthCode, ok bool, err error) {
	ok, err = s.row(ctx, authCode, []any{key}, c.dest()...)
	return c, ok, err
}

// UseAuthCode marks a code as used. first is false if it was used before or is
// not there: of all who come at once, on any plane, one is first.
func (tx *Tx) UseAuthCode(key string) (first bool, err error) {
	n, err := tx.exec(`update auth_codes set used = $1 where key = $2 and used = 0`, int64(tx.now), key)
	return n > 0, err
}

// TokenFamily is all refresh tokens that descend from one sign-in.
type TokenFamily struct {
	ID      string // GUID
	User    string
	Client  string // application id
	Session string
	Bound   bool  // it ends with the session
	N       int64 // number of the newest token
	Recent  []byte
	Body    []byte
	Created az.Micros
	Expires az.Micros
	Revoked az.Micros // 0: not
}

const familyColumns = `id, user_id, client, session, bound, n, recent, body, created, expires, revoked`

const familyByID = `select ` + familyColumns + ` from token_families where id = $1`

func (f *TokenFamily) dest() []any {
	return []any{&f.ID, &f.User, &f.Client, &f.Session, &f.Bound, &f.N, &f.Recent, &f.Body, (*int64)(&f.Created), (*int64)(&f.Expires), (*int64)(&f.Revoked)}
}

// AddTokenFamily keeps a family.
func (tx *Tx) AddTokenFamily(f TokenFamily) error {
	_, err := tx.exec(`insert into token_families (`+familyColumns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)`,
		f.ID, f.User, f.Client, f.Session, f.Bound, f.N, string(f.Recent), string(f.Body), int64(tx.now), int64(f.Expires))
	return err
}

// TokenFamily reads a family; ok is false if there is none.
func (s *Store) TokenFamily(ctx context.Context, id string) (f TokenFamily, ok bool, err error) {
	ok, err = s.row(ctx, familyByID, []any{id}, f.dest()...)
	return f, ok, err
}

// TokenFamily is the same inside a transaction.
func (tx *Tx) TokenFamily(id string) (f TokenFamily, ok bool, err error) {
	ok, err = tx.row(familyByID, []any{id}, f.dest()...)
	return f, ok, err
}

// RotateTokenFamily makes f.N the number of the newest token, if the one before
// it still is.
func (tx *Tx) RotateTokenFamily(f TokenFamily) error {
	n, err := tx.exec(`update token_families set n = $1, recent = $2, expires = $3 where id = $4 and n = $5 and revoked = 0`,
		f.N, string(f.Recent), int64(f.Expires), f.ID, f.N-1)
	if err == nil && n == 0 {
		return az.Errorf(az.Conflict, "Conflict", "The refresh token was used at the same time elsewhere.")
	}
	return err
}

// RevokeTokenFamily ends a family. What has ended stays for a while, so that a
// token of it is known for what it is.
func (tx *Tx) RevokeTokenFamily(id string) error {
	_, err := tx.exec(`update token_families set revoked = $1 where id = $2 and revoked = 0`, int64(tx.now), id)
	return err
}

// EndTokensOfSession ends the families that are bound to a session.
func (tx *Tx) EndTokensOfSession(session string) error {
	_, err := tx.exec(`update token_families set revoked = $1 where session = $2 and bound and revoked = 0`, int64(tx.now), session)
	return err
}

// DeviceCode is a device's sign-in that waits for a person.
type DeviceCode struct {
	Key     string // keyed hash of the device's code
	UserKey string // keyed hash of the code that is typed
	Status  string
	Body    []byte
	Expires az.Micros
}

const (
	deviceColumns = `key, user_key, status, body, expires`
	deviceByKey   = `select ` + deviceColumns + ` from device_codes where key = $1`
	deviceByUser  = `select ` + deviceColumns + ` from device_codes where user_key = $1`
)

func (d *DeviceCode) dest() []any {
	return []any{&d.Key, &d.UserKey, &d.Status, &d.Body, (*int64)(&d.Expires)}
}

// AddDeviceCode keeps a device's sign-in; Conflict if the code that is typed is
// another's.
func (tx *Tx) AddDeviceCode(d DeviceCode) error {
	_, err := tx.exec(`insert into device_codes (`+deviceColumns+`) values ($1, $2, $3, $4, $5)`,
		d.Key, d.UserKey, d.Status, string(d.Body), int64(d.Expires))
	return err
}

// DeviceCode reads a device's sign-in; ok is false if there is none.
func (s *Store) DeviceCode(ctx context.Context, key string) (d DeviceCode, ok bool, err error) {
	ok, err = s.row(ctx, deviceByKey, []any{key}, d.dest()...)
	return d, ok, err
}

// DeviceCodeOf reads it by the code that is typed.
func (s *Store) DeviceCodeOf(ctx context.Context, userKey string) (d DeviceCode, ok bool, err error) {
	ok, err = s.row(ctx, deviceByUser, []any{userKey}, d.dest()...)
	return d, ok, err
}

// MoveDeviceCode gives a device's sign-in another status and body. moved is
// false if its status is not the one given: of all who come at once one moves it.
func (tx *Tx) MoveDeviceCode(key, from, to string, body []byte) (moved bool, err error) {
	n, err := tx.exec(`update device_codes set status = $1, body = $2 where key = $3 and status = $4`, to, string(body), key, from)
	return n > 0, err
}

// NoteSessionClient remembers that a client was signed in to with a session.
func (tx *Tx) NoteSessionClient(session, client string, until az.Micros) error {
	_, err := tx.exec(`insert into session_clients (session, client, expires) values ($1, $2, $3)
		on conflict (session, client) do update set expires = excluded.expires`, session, client, int64(until))
	return err
}

// SessionClients lists the clients that were signed in to with a session.
func (s *Store) SessionClients(ctx context.Context, session string) ([]string, error) {
	var out []string
	err := s.rows(ctx, `select client from session_clients where session = $1 order by client`, []any{session}, func(r *sql.Rows) error {
		var c string
		err := r.Scan(&c)
		out = append(out, c)
		return err
	})
	return out, err
}

// SweepTokens deletes what ended before a time, at most limit rows of each
// kind, and says how many were deleted.
func (tx *Tx) SweepTokens(before az.Micros, limit int) (deleted int64, err error) {
	for _, q := range [...]string{
		`delete from auth_codes where key in (select key from auth_codes where expires < $1 order by expires limit $2)`,
		`delete from device_codes where key in (select key from device_codes where expires < $1 order by expires limit $2)`,
		`delete from token_families where id in (select id from token_families where expires < $1 order by expires limit $2)`,
		`delete from session_clients where expires < $1 and session in (select session from session_clients where expires < $1 order by expires limit $2)`,
	} {
		n, err := tx.exec(q, int64(before), int64(limit))
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
	return deleted, nil
}
