package authority

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

// A refresh token is the name of a family, a number, and a keyed hash of both.
// The store holds the family and the number of its newest token, and nothing
// that a token could be made of without the sealer's key. So each use costs one
// row, however often a family is refreshed, and an old token is known for one as
// long as its family lives: docs/decisions/0009-refresh-tokens.md.

const (
	// refreshLife is how long a refresh token that nobody uses holds, and
	// spaRefreshLife how long one of a script in a browser holds from sign-in.
	// Source: Entra, "Refresh tokens in the Microsoft identity platform".
	refreshLife    = 90 * 24 * time.Hour
	spaRefreshLife = 24 * time.Hour
	// reuseGrace is how long after its first use a token may come again from the
	// same address: clients that share a cache (several az at once) do that. It
	// gets the newest token of the family, so that no second line begins and a
	// thief is found out as before.
	reuseGrace = 30 * time.Second
	// maxRecent bounds the uses that are remembered for the grace.
	maxRecent = 64
	// sessionClientLife is how long a client is told of the end of a session:
	// as long as sessions of "stay signed in" last.
	sessionClientLife = 90 * 24 * time.Hour

	refreshHashed = 20 // bytes of family and number
)

// familyFacts is what all tokens of a family share.
type familyFacts struct {
	By       signed `json:"by"`
	Scope    string `json:"scope,omitempty"`
	Resource string `json:"resource,omitempty"`
	Public   bool   `json:"public,omitempty"`
	SPA      bool   `json:"spa,omitempty"`
}

// use is one use of a refresh token.
type use struct {
	N    int64     `json:"n"`
	At   az.Micros `json:"at"`
	Peer string    `json:"peer"`
}

// newFamily is a family with its first token; it is not stored yet.
func (a *Authority) newFamily(g *grant, f familyFacts) (store.TokenFamily, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return store.TokenFamily{}, az.Errorf(az.Internal, "", "").Because(err)
	}
	life := refreshLife
	if f.SPA {
		life = spaRefreshLife
	}
	return store.TokenFamily{ID: az.NewGUID(), User: f.By.User, Client: g.Client.AppID, Session: f.By.Session, N: 1, Recent: []byte("[]"), Body: body,
		Expires: az.MicrosOf(a.clock().Add(life))}, nil
}

// beginFamily stores a new family and returns its first token. There is none
// where the family is bound to a session that has ended: an access token holds
// a little longer than the sign-in, and nothing that lasts may come of it.
func (a *Authority) beginFamily(ctx context.Context, g *grant, f familyFacts, bound bool) (string, error) {
	fam, err := a.newFamily(g, f)
	if err != nil {
		return "", err
	}
	fam.Bound = bound
	stands := false
	err = a.store.Write(ctx, func(tx *store.Tx) (err error) {
		if stands, err = f.By.stands(tx); err != nil || bound && !stands {
			return err
		}
		return tx.AddTokenFamily(fam)
	})
	if err != nil || bound && !stands {
		return "", err
	}
	return a.refreshText(fam.ID, fam.N), nil
}

const refreshPurpose = "authority/refresh token"

// refreshText is a family's token with a number.
func (a *Authority) refreshText(family string, n int64) string {
	b := make([]byte, 0, 64)
	b, _ = hex.AppendDecode(b, []byte(strings.ReplaceAll(family, "-", ""))) // ours: a GUID
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return "1." + base64.RawURLEncoding.EncodeToString(append(b, a.cfg.Sealer.Hash(refreshPurpose, b)...))
}

// readRefresh returns what a token names, if it is one of ours.
func (a *Authority) readRefresh(text string) (family string, n int64, ok bool) {
	rest, ok := strings.CutPrefix(text, "1.")
	if !ok || len(text) > maxCode {
		return "", 0, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) <= refreshHashed || !a.cfg.Sealer.HashMatches(refreshPurpose, b[:refreshHashed], b[refreshHashed:]) {
		return "", 0, false
	}
	h := hex.EncodeToString(b[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], int64(binary.BigEndian.Uint32(b[16:])), true
}

// refreshGrant takes a refresh token for the sign-in that it descends from.
func (a *Authority) refreshGrant(ctx context.Context, t *tokenRequest, g *grant) (*evidence, error) {
	if t.Refresh.IsZero() {
		return nil, missing("refresh_token")
	}
	invalid := badGrant(70000, "The provided value for the 'refresh_token' parameter is not valid: it is not one of this authority for this client.")
	id, n, ok := a.readRefresh(t.Refresh.Reveal())
	if !ok {
		return nil, invalid
	}
	fam, ok, err := a.store.TokenFamily(ctx, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, a.lapsed(false)
	}
	var f familyFacts
	if err := json.Unmarshal(fam.Body, &f); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	shared, err := a.shares(ctx, g, fam.Client)
	if err != nil {
		return nil, err
	}
	if !shared {
		return nil, invalid.Because(incident("a refresh token of another client was presented"))
	}
	if g.Proof == unproven && !f.Public {
		return nil, noProof()
	}
	if _, err := a.judge(ctx, &fam, n, t.Peer, f.SPA); err != nil {
		return nil, err
	}
	return &evidence{By: f.By, Scope: f.Scope, Resource: f.Resource, Public: f.Public, SPA: f.SPA, settle: a.settleRefresh(id, n, t.Peer, f.SPA)}, nil
}

// shares reports whether the client may use another's refresh tokens: only the
// platform's own clients share theirs (az, PowerShell, Visual Studio Code).
func (a *Authority) shares(ctx context.Context, g *grant, owner string) (bool, error) {
	if owner == g.Client.AppID {
		return true, nil
	}
	if !isFamily(g.Client) {
		return false, nil
	}
	c, ok, err := a.dir.Client(ctx, owner)
	return ok && err == nil && isFamily(c), err
}

// isFamily tells the platform's clients from its resources, in whose name no
// token is had.
func isFamily(c *directory.Client) bool {
	return c.Principal != nil && c.Principal.FirstParty && c.Facts().PublicClient
}

// verdict is what is done with a refresh token that holds.
type verdict int

const (
	rotate verdict = iota // it is the newest: the next one takes its place
	replay                // it was the newest a moment ago: the newest once more
)

// judge decides by what the store says. A token that is neither the newest nor
// was so a moment ago has been copied: its family ends.
func (a *Authority) judge(ctx context.Context, fam *store.TokenFamily, n int64, peer string, spa bool) (verdict, error) {
	now := az.MicrosOf(a.clock())
	switch {
	case fam.Revoked != 0:
		return 0, badGrant(50173, "The refresh token was revoked: the user signed out, or it was used by somebody else. Sign in again.")
	case now >= fam.Expires:
		return 0, a.lapsed(spa)
	case n > fam.N: // the store was restored from a backup
		return 0, a.lapsed(false)
	case n == fam.N:
		return rotate, nil
	case recently(fam.Recent, n, peer, now):
		return replay, nil
	}
	if err := a.store.Write(ctx, func(tx *store.Tx) error { return tx.RevokeTokenFamily(fam.ID) }); err != nil {
		return 0, err
	}
	return 0, reused()
}

func reused() error {
	return badGrant(50173, "The refresh token was used before and another one was issued in its place. Since somebody may have copied it, all that came from this sign-in was revoked. Sign in again.").
		Because(incident("a refresh token came twice: its family was revoked"))
}

func (a *Authority) lapsed(spa bool) error {
	if spa {
		return badGrant(700084, "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of %s, which can't be extended. It is now expired and a new sign in request must be sent by the SPA to the sign in page.", spaRefreshLife)
	}
	return badGrant(700082, "The refresh token has expired due to inactivity. Send a new interactive authorization request for this user.")
}

func recently(recent []byte, n int64, peer string, now az.Micros) bool {
	var list []use
	if json.Unmarshal(recent, &list) != nil {
		return false
	}
	for _, u := range list {
		if u.N == n && u.Peer == peer && now-u.At <= az.Micros(reuseGrace.Microseconds()) {
			return true
		}
	}
	return false
}

// settleRefresh puts the next token in the place of the one that was shown. It
// judges again, by what the store says inside the transaction: of those who
// come at once, on any plane, one rotates and the others get its outcome.
func (a *Authority) settleRefresh(id string, n int64, peer string, spa bool) func(context.Context, *grant, bool) (string, error) {
	return func(ctx context.Context, _ *grant, _ bool) (string, error) {
		var next int64
		var fam store.TokenFamily
		now := az.MicrosOf(a.clock())
		err := a.store.Write(ctx, func(tx *store.Tx) error {
			var ok bool
			var err error
			next = 0
			if fam, ok, err = tx.TokenFamily(id); err != nil || !ok {
				return err
			}
			if fam.Revoked != 0 || n > fam.N || now >= fam.Expires {
				return nil
			}
			if n < fam.N {
				if !recently(fam.Recent, n, peer, now) {
					return tx.RevokeTokenFamily(id)
				}
				next = fam.N
				return nil
			}
			fam.N++
			fam.Recent = remember(fam.Recent, use{n, now, peer})
			if !spa {
				fam.Expires = az.MicrosOf(now.Time().Add(refreshLife))
			}
			next = fam.N
			return tx.RotateTokenFamily(fam)
		})
		switch {
		case err != nil:
			return "", err
		case next == 0 && fam.Revoked == 0 && n < fam.N:
			return "", reused()
		case next == 0:
			return "", badGrant(50173, "The refresh token was revoked. Sign in again.")
		}
		return a.refreshText(id, next), nil
	}
}

// remember adds a use and forgets those that the grace is over for.
func remember(recent []byte, u use) []byte {
	var list, kept []use
	_ = json.Unmarshal(recent, &list) // ours; an unreadable one gives no grace
	for _, x := range list {
		if u.At-x.At <= az.Micros(reuseGrace.Microseconds()) {
			kept = append(kept, x)
		}
	}
	if len(kept) >= maxRecent {
		kept = kept[1:]
	}
	b, err := json.Marshal(append(kept, u))
	if err != nil { // numbers and an address: cannot happen
		return []byte("[]")
	}
	return b
}
