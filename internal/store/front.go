package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Topics of what stands in front of apps.
const (
	TopicUpstream = "upstream"      // key: the site's folded id
	TopicFront    = "front-session" // key: the session's, or a site's folded id for all of its sessions
)

// Upstream is one process of an app that its front passes requests on to.
type Upstream struct {
	Site    string // folded id
	ID      string // the run's own
	Machine string // whose loopback the address is on; "" for an address of the network
	Address string // http://host:port or https://host:port
	Since   az.Micros
	Seen    az.Micros
}

// Upstreams lists an app's processes, the newest first.
func (s *Store) Upstreams(ctx context.Context, site string) ([]Upstream, error) {
	var out []Upstream
	err := s.rows(ctx, `select site, id, machine, address, since, seen from front_upstreams where site = $1 and address <> '' order by since desc, id`,
		[]any{site}, func(r *sql.Rows) error {
			var u Upstream
			err := r.Scan(&u.Site, &u.ID, &u.Machine, &u.Address, (*int64)(&u.Since), (*int64)(&u.Seen))
			out = append(out, u)
			return err
		})
	return out, err
}

// PutUpstream adds a process or says that it is still there. Of an app's
// processes that were not seen since the time given, nothing stays. More than
// limit of them are a Conflict.
func (tx *Tx) PutUpstream(u Upstream, stale az.Micros, limit int) error {
	n, err := tx.exec(`update front_upstreams set seen = $1 where site = $2 and id = $3 and machine = $4 and address = $5`,
		int64(tx.now), u.Site, u.ID, u.Machine, u.Address)
	if err != nil || n == 1 {
		return err
	}
	tx.changed(TopicUpstream, u.Site)
	if u.Machine != "" {
		if err := tx.takeAddress(u, stale); err != nil {
			return err
		}
	}
	if _, err := tx.exec(`delete from front_upstreams where site = $1 and seen < $2`, u.Site, int64(stale)); err != nil {
		return err
	}
	var there int64
	if _, err := tx.row(`select count(*) from front_upstreams where site = $1 and id <> $2`, []any{u.Site, u.ID}, &there); err != nil {
		return err
	}
	if there >= int64(limit) {
		return az.Errorf(az.Conflict, "Conflict", "The app has %d running processes already; end one first.", limit)
	}
	_, err = tx.exec(`insert into front_upstreams (site, id, machine, address, since, seen) values ($1, $2, $3, $4, $5, $6)
		on conflict (site, id) do update set machine = excluded.machine, address = excluded.address, since = excluded.since, seen = excluded.seen`,
		u.Site, u.ID, u.Machine, u.Address, int64(tx.now), int64(tx.now))
	return err
}

// takeAddress takes an address of a machine's own from whoever was said to
// listen there: only one process can, and it is the one that has come last. The
// other's row stays without an address, so that its next word is not taken for
// a newcomer's while that one is there.
func (tx *Tx) takeAddress(u Upstream, stale az.Micros) error {
	var lost, there int64
	_, err := tx.row(`select count(*) from front_upstreams where site = $1 and id = $2 and address = ''`, []any{u.Site, u.ID}, &lost)
	if err != nil {
		return err
	}
	var sites []string
	err = tx.rows(`select site from front_upstreams where machine = $1 and address = $2 and seen >= $3`, []any{u.Machine, u.Address, int64(stale)},
		func(r *sql.Rows) error {
			var site string
			err := r.Scan(&site)
			sites, there = append(sites, site), there+1
			return err
		})
	if err != nil {
		return err
	}
	if lost > 0 && there > 0 {
		return az.Errorf(az.Conflict, "Conflict", "Another program has taken the app's address on this machine. Start the app again, with another --port.")
	}
	for _, site := range sites {
		tx.changed(TopicUpstream, site)
	}
	_, err = tx.exec(`update front_upstreams set address = '' where machine = $1 and address = $2`, u.Machine, u.Address)
	return err
}

// DeleteUpstream forgets one process of an app.
func (tx *Tx) DeleteUpstream(site, id string) error {
	tx.changed(TopicUpstream, site)
	_, err := tx.exec(`delete from front_upstreams where site = $1 and id = $2`, site, id)
	return err
}

// FrontSession is one sign-in to an app. Sealed is sealed under
// Place{"front_sessions", Key, Version}.
type FrontSession struct {
	Key     string
	Site    string // folded id
	Client  string // application id that the sign-in was for
	Person  string // object id
	Version int64
	Sealed  []byte
	Created az.Micros // what ended before counts against it
	Used    az.Micros
	Expires az.Micros // it lets nobody in after this
	Gone    az.Micros // it cannot be renewed after this
}

const frontColumns = `key, site, client, person, version, sealed, created, used, expires, gone`

func scanFront(scan func(...any) error, f *FrontSession) error {
	return scan(&f.Key, &f.Site, &f.Client, &f.Person, &f.Version, &f.Sealed, (*int64)(&f.Created), (*int64)(&f.Used), (*int64)(&f.Expires), (*int64)(&f.Gone))
}

// FrontSession returns the session under a key; ok is false if there is none.
func (s *Store) FrontSession(ctx context.Context, key string) (f FrontSession, ok bool, err error) {
	err = s.rows(ctx, `select `+frontColumns+` from front_sessions where key = $1`, []any{key}, func(r *sql.Rows) error {
		ok = true
		return scanFront(r.Scan, &f)
	})
	return f, ok && err == nil, err
}

// AddFrontSession keeps a new session, and drops a few that nobody can use
// any more. Of those that its person has with the app, the newest stay.
func (tx *Tx) AddFrontSession(f FrontSession, newest int) error {
	tx.changed(TopicFront, f.Key)
	if _, err := tx.exec(`delete from front_sessions where key in (select key from front_sessions where gone < $1 order by gone limit 100)`, int64(tx.now)); err != nil {
		return err
	}
	_, err := tx.exec(`insert into front_sessions (`+frontColumns+`, refreshing) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)`,
		f.Key, f.Site, f.Client, f.Person, f.Version, f.Sealed, int64(f.Created), int64(tx.now), int64(f.Expires), int64(f.Gone))
	if err != nil {
		return err
	}
	var old []string
	err = tx.rows(`select key from front_sessions where site = $1 and person = $2 order by created desc, key limit 1000 offset $3`,
		[]any{f.Site, f.Person, newest}, func(r *sql.Rows) error {
			var key string
			err := r.Scan(&key)
			old = append(old, key)
			return err
		})
	if err != nil {
		return err
	}
	for _, key := range old {
		if err := tx.DeleteFrontSession(key); err != nil {
			return err
		}
	}
	return nil
}

// RenewFrontSession replaces what is sealed in a session, and its ends, if it
// is still the version before. ok is false if it is not, or is gone.
func (tx *Tx) RenewFrontSession(f FrontSession) (ok bool, err error) {
	tx.changed(TopicFront, f.Key)
	n, err := tx.exec(`update front_sessions set version = $1, sealed = $2, used = $3, expires = $4, gone = $5, refreshing = 0
		where key = $6 and version = $7`, f.Version, f.Sealed, int64(tx.now), int64(f.Expires), int64(f.Gone), f.Key, f.Version-1)
	return n == 1, err
}

// UseFrontSession notes that a session was used now. Nobody needs to hear.
func (tx *Tx) UseFrontSession(key string) error {
	_, err := tx.exec(`update front_sessions set used = $1 where key = $2`, int64(tx.now), key)
	return err
}

// BeginFrontRefresh lets one caller at a time renew a session's tokens: taken
// is false while another does, or when the session is not this version.
func (tx *Tx) BeginFrontRefresh(key string, version int64, until az.Micros) (taken bool, err error) {
	n, err := tx.exec(`update front_sessions set refreshing = $1 where key = $2 and version = $3 and refreshing < $4`,
		int64(until), key, version, int64(tx.now))
	return n == 1, err
}

// EndFrontRefresh gives that back without a renewal.
func (tx *Tx) EndFrontRefresh(key string) error {
	_, err := tx.exec(`update front_sessions set refreshing = 0 where key = $1`, key)
	return err
}

// DeleteFrontSession ends a session.
func (tx *Tx) DeleteFrontSession(key string) error {
	tx.changed(TopicFront, key)
	_, err := tx.exec(`delete from front_sessions where key = $1`, key)
	return err
}

// DeleteFront ends every session and process of an app, as when it is deleted.
func (tx *Tx) DeleteFront(site string) error {
	site = strings.ToLower(site)
	tx.changed(TopicUpstream, site)
	tx.changed(TopicFront, site) // a site's id stands for all of its sessions
	if _, err := tx.exec(`delete from front_upstreams where site = $1`, site); err != nil {
		return err
	}
	_, err := tx.exec(`delete from front_sessions where site = $1`, site)
	return err
}
