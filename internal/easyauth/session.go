package easyauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// A session is known by two cookies, and neither is worth anything alone. The
// first has Azure's name. The second has the __Host- prefix: browsers take it
// from this very host only, so another app of the plane, which can set cookies
// for all of them (Domain=sites.D), cannot put its own session into somebody's
// browser here.
const (
	sessionCookie = "AppServiceAuthSession"
	bindingCookie = "__Host-AppServiceAuthSession"
	loginCookie   = "__Host-AppServiceAuthLogin-"
	logoutCookie  = "__Host-AppServiceAuthLogout"
)

const (
	// idleLimit ends a session that nobody uses, where the settings let one
	// live longer than a working day.
	idleLimit = 8 * time.Hour
	// useEvery is how often the use of a session is noted.
	useEvery = 10 * time.Minute
	// maxTried bounds how many cookies of the session's name are looked at:
	// a browser has one, another app of the plane may have added its own.
	maxTried = 4
	// maxSessions bounds what one person has open with one app: browsers and
	// clients on every device, and no more than the store can do without.
	maxSessions = 50
	// secretBytes of randomness make an id that cannot be guessed.
	secretBytes = 32
	// maxTokens bounds what is kept of one session; headers must carry it.
	maxTokens = 48 << 10
)

// secrets are what is sealed of a session.
type secrets struct {
	Claims       json.RawMessage `json:"claims"`
	Name         string          `json:"name,omitempty"`
	IDToken      string          `json:"id,omitempty"`
	AccessToken  string          `json:"access,omitempty"`
	RefreshToken string          `json:"refresh,omitempty"`
	Hint         string          `json:"hint,omitempty"` // an id token for the sign-out, where none is kept for the app
	TokenExpires az.Micros       `json:"tokenExpires,omitempty"`
}

// String hides the tokens.
func (secrets) String() string { return az.Redacted }

// GoString hides the tokens.
func (secrets) GoString() string { return az.Redacted }

// session is an open sign-in. It is shared by requests and not changed.
type session struct {
	store.FrontSession
	secrets secrets
	claims  map[string]any
	encoded string // X-MS-CLIENT-PRINCIPAL
}

func random() string {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// sessionKey is under what a session is kept: a keyed hash that holds the
// plane's domain and the app, so that what a browser has opens nothing
// elsewhere. An authenticationToken is no cookie, and a cookie no token.
func (f *Front) sessionKey(site az.ID, id, binding string) string {
	text := strings.Join([]string{f.cfg.Names.Domain, site.Key(), id, binding}, "\x00")
	return base64.RawURLEncoding.EncodeToString(f.cfg.Sealer.Hash("easyauth/session", []byte(text)))
}

func sessionPlace(key string, version int64) seal.Place {
	return seal.Place{Table: "front_sessions", ID: key, Version: strconv.FormatInt(version, 10)}
}

// ticket is what a session is found by.
type ticket struct{ key, id, binding string }

// String hides it.
func (ticket) String() string { return az.Redacted }

// GoString hides it.
func (ticket) GoString() string { return az.Redacted }

// present returns the sessions that a request may mean.
func (v *visit) present() (all []ticket, cookie bool) {
	if v.zumo != "" {
		return []ticket{{v.f.sessionKey(v.site.ID, v.zumo, ""), v.zumo, ""}}, false
	}
	var ids, bindings []string
	for _, c := range v.r.Cookies() {
		switch {
		case c.Name == sessionCookie && len(ids) < maxTried && c.Value != "":
			ids = append(ids, c.Value)
		case c.Name == bindingCookie && len(bindings) < maxTried && c.Value != "":
			bindings = append(bindings, c.Value)
		}
	}
	for _, b := range bindings {
		for _, id := range ids {
			all = append(all, ticket{v.f.sessionKey(v.site.ID, id, b), id, b})
		}
	}
	return all, true
}

// find opens the session that a request has; nil without an error if there is
// none that stands. With renewable, one that has ended but can still be
// renewed is found too.
func (v *visit) find(renewable bool) (c *caller, err error) {
	all, cookie := v.present()
	if len(all) == 0 {
		return nil, nil
	}
	// A sign-out on another plane counts at once.
	if err := v.f.cfg.Store.Confirm(v.ctx); err != nil {
		return nil, err
	}
	for _, t := range all {
		s, err := v.f.cached(v.ctx, t.key)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		c, err := v.stands(s, renewable)
		if c != nil {
			c.cookie, c.ticket = cookie, t
		}
		if c != nil || err != nil {
			return c, err
		}
	}
	return nil, nil
}

// open reads a session; nil if there is none.
func (f *Front) open(ctx context.Context, key string) (*session, error) {
	row, ok, err := f.cfg.Store.FrontSession(ctx, key)
	if err != nil || !ok {
		return nil, err
	}
	s := &session{FrontSession: row}
	plain, err := f.cfg.Sealer.Open(sessionPlace(key, row.Version), row.Sealed)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	defer seal.Wipe(plain)
	if err := json.Unmarshal(plain, &s.secrets); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	s.Sealed = nil
	if s.claims, err = decodeObject(s.secrets.Claims); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	s.encoded = encodePrincipal(s.claims)
	return s, nil
}

// stands checks everything that can end a session: its site, its times, the
// registration that it was made for, and the person.
func (v *visit) stands(s *session, renewable bool) (*caller, error) {
	now := az.MicrosOf(v.f.cfg.Clock())
	end := min(s.Expires, az.MicrosOf(s.Used.Time().Add(idleLimit)))
	if renewable {
		end = s.Gone
	}
	if s.Site != v.site.ID.Key() || s.Client != v.set.Client || !v.set.AAD || now >= end {
		return nil, nil
	}
	live, err := v.f.personStands(v.ctx, s)
	if err != nil || !live {
		return nil, err
	}
	if !renewable && now.Time().Sub(s.Used.Time()) > useEvery {
		err := v.f.cfg.Store.Write(v.ctx, func(tx *store.Tx) error { return tx.UseFrontSession(s.Key) })
		if err != nil {
			return nil, err
		}
		v.f.sessions.drop(s.Key)
	}
	return v.f.callerOf(s), nil
}

// personStands reports whether the person of a session may still have one:
// there, enabled, and not signed out everywhere since.
func (f *Front) personStands(ctx context.Context, s *session) (bool, error) {
	if err := f.cfg.Store.Fresh(ctx); err != nil {
		return false, err
	}
	o, ok, err := f.cfg.Directory.Get(ctx, s.Person)
	if err != nil || !ok || !o.Enabled {
		return false, err
	}
	return s.Created >= o.ValidFrom, nil
}

// principalStands reports whether the holder of a token that was good at a time
// is still there, and was not signed out everywhere since.
func (f *Front) principalStands(ctx context.Context, p az.Principal, then time.Time) (bool, error) {
	if err := f.cfg.Store.Fresh(ctx); err != nil {
		return false, err
	}
	o, ok, err := f.cfg.Directory.Get(ctx, p.ObjectID)
	return err == nil && ok && o.Enabled && o.ValidFrom <= az.MicrosOf(then), err
}

func (f *Front) callerOf(s *session) *caller {
	return &caller{claims: s.claims, session: s,
		principal: az.Principal{ObjectID: s.Person, AppID: s.Client, TenantID: f.cfg.Names.Tenant, Kind: az.User, Name: s.secrets.Name}}
}

// seal puts a session's secrets into its row.
func (f *Front) seal(s *session) error {
	plain, err := json.Marshal(&s.secrets)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	defer seal.Wipe(plain)
	if len(plain) > maxTokens {
		return az.Errorf(az.Invalid, "BadRequest", "The tokens of this sign-in are larger than %d bytes together. Ask for fewer claims or scopes.", maxTokens)
	}
	s.Sealed, err = f.cfg.Sealer.Seal(sessionPlace(s.Key, s.Version), plain)
	return err
}

// ends sets when a session ends.
func (v *visit) ends(s *session, idExpires time.Time) {
	now := v.f.cfg.Clock()
	end := now.Add(v.set.Session)
	if v.set.ByToken && !idExpires.IsZero() {
		end = idExpires
	}
	s.Expires, s.Gone = az.MicrosOf(end), az.MicrosOf(end.Add(v.set.Extension))
}

// begin keeps a new session for whom a token names. The id is always new:
// nothing that a browser brought becomes one.
func (v *visit) begin(t Token, tokens tokens, cookie bool) (id, binding string, s *session, err error) {
	id = random()
	if cookie {
		binding = random()
	}
	claims, err := json.Marshal(t.Claims)
	if err != nil {
		return "", "", nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	s = &session{secrets: secrets{Claims: claims, Name: (&caller{principal: t.Principal, claims: t.Claims}).name()}}
	s.Key, s.Version = v.f.sessionKey(v.site.ID, id, binding), 1
	s.Site, s.Client, s.Person = v.site.ID.Key(), v.set.Client, t.Principal.ObjectID
	// From when the request came, so that who is signed out everywhere while the
	// tokens are fetched is out.
	s.Created = az.MicrosOf(v.began)
	v.ends(s, t.Principal.Expires)
	if v.set.Store {
		s.secrets.take(tokens)
	} else {
		s.secrets.Hint = tokens.ID
	}
	if err := v.f.seal(s); err != nil {
		return "", "", nil, err
	}
	err = v.f.cfg.Store.Write(v.ctx, func(tx *store.Tx) error { return tx.AddFrontSession(s.FrontSession, maxSessions) })
	return id, binding, s, err
}

func (s *secrets) take(t tokens) {
	s.IDToken, s.AccessToken, s.TokenExpires = t.ID, t.Access, az.MicrosOf(t.Expires)
	if t.Refresh != "" {
		s.RefreshToken = t.Refresh
	}
}

// setSession gives the browser its session.
func (v *visit) setSession(id, binding string, gone az.Micros) {
	life := int(gone.Time().Sub(v.f.cfg.Clock()).Seconds())
	v.setCookie(sessionCookie, id, life, http.SameSiteLaxMode)
	v.setCookie(bindingCookie, binding, life, http.SameSiteLaxMode)
}

// dropSession ends the sessions that a request has, here and in the browser.
func (v *visit) dropSession() error {
	all, _ := v.present()
	for _, t := range all {
		if err := v.f.cfg.Store.Write(v.ctx, func(tx *store.Tx) error { return tx.DeleteFrontSession(t.key) }); err != nil {
			return err
		}
	}
	v.setCookie(sessionCookie, "", -1, http.SameSiteLaxMode)
	v.setCookie(bindingCookie, "", -1, http.SameSiteLaxMode)
	return nil
}

// setCookie sets a cookie of the front. A life below zero removes it.
func (v *visit) setCookie(name, value string, life int, same http.SameSite) {
	http.SetCookie(v.w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: life, Secure: true, HttpOnly: true, SameSite: same})
}

// hideCookies keeps the front's cookies from the app: it needs none of them,
// and what it logs or reflects must not open a session.
func hideCookies(h http.Header) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "AppServiceAuth") }) {
		return
	}
	var left []string
	for _, line := range lines {
		var parts []string
		for part := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(strings.TrimSpace(part), "=")
			if name = strings.TrimSpace(name); name == sessionCookie || strings.HasPrefix(name, "__Host-AppServiceAuth") {
				continue
			}
			parts = append(parts, strings.TrimSpace(part))
		}
		if len(parts) > 0 {
			left = append(left, strings.Join(parts, "; "))
		}
	}
	if delete(h, "Cookie"); len(left) > 0 {
		h["Cookie"] = left
	}
}
