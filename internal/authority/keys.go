package authority

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is a name for a certificate, not a proof
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

const (
	// DefaultRotateEvery is how long a signing key signs before the next takes
	// over.
	DefaultRotateEvery = 30 * 24 * time.Hour
	// keyBits is the size of signing keys. Source: RFC 7518 §3.3; Entra's are
	// of 2048 bits.
	keyBits = 2048
	// keepRetired is how long what a key signed is accepted after it stopped
	// signing: the longest life of a token, and clocks that differ.
	keepRetired = maxIdentityLife + 2*skew
	// checkKeysEvery is how often the ring is looked at. The next key is made
	// as soon as the one before it begins to sign, so it is published for a
	// whole period (at the least a day) before it signs.
	checkKeysEvery = time.Minute
	// keyLease bounds how long one plane holds the right to make keys.
	keyLease = 2 * time.Minute
	// minPublished is for how long a key must have been published before a
	// rotation by hand lets it sign at once; verifiers cache key sets that long.
	minPublished = 24 * time.Hour
)

// signingKey is one key of the ring, ready for use; it is never changed.
type signingKey struct {
	store.SigningKey
	private *rsa.PrivateKey
	header  string // the base64url JOSE header of v1 tokens, with its dot
	header2 string // of v2 tokens
	x5t     string
}

// ring is the keys at a moment, by the time from which they sign.
type ring struct {
	keys     []*signingKey
	byHeader map[string]*signingKey
}

// current returns the key that signs now.
func (r *ring) current(now az.Micros) *signingKey {
	var k *signingKey
	for _, c := range r.keys {
		if c.From <= now && (c.Until == 0 || now < c.Until) {
			k = c
		}
	}
	return k
}

// accepted reports whether what the key signed is still good.
func (k *signingKey) accepted(now az.Micros) bool { return k.Retired == 0 || now < k.Retired }

// keyring holds the ring read from the store and follows the feed.
type keyring struct {
	a    *Authority
	now  atomic.Pointer[ring]
	gen  atomic.Uint64
	load sync.Mutex // one reader of the store at a time
}

func newKeyring(a *Authority) *keyring { return &keyring{a: a} }

func (kr *keyring) forget() {
	kr.gen.Add(1)
	kr.now.Store(nil)
}

// ring returns the keys, read from the store if the feed said that they
// changed.
func (kr *keyring) ring(ctx context.Context) (*ring, error) {
	if r := kr.now.Load(); r != nil {
		return r, nil
	}
	kr.load.Lock()
	defer kr.load.Unlock()
	if r := kr.now.Load(); r != nil {
		return r, nil
	}
	gen := kr.gen.Load()
	rows, err := kr.a.store.SigningKeys(ctx)
	if err != nil {
		return nil, err
	}
	r := &ring{byHeader: map[string]*signingKey{}}
	for _, row := range rows {
		k, err := kr.open(row)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, k)
		r.byHeader[k.header], r.byHeader[k.header2] = k, k
	}
	if len(r.keys) > 0 {
		kr.now.Store(r)
		if kr.gen.Load() != gen { // changed while we read
			kr.now.CompareAndSwap(r, nil)
		}
	}
	return r, nil
}

func place(kid string) seal.Place { return seal.Place{Table: "signing_keys", ID: kid} }

func (kr *keyring) open(row store.SigningKey) (*signingKey, error) {
	bad := func(err error) error {
		return az.Errorf(az.Internal, "", "").Because(fmt.Errorf("cannot open signing key %s: %w", row.KID, err))
	}
	plain, err := kr.a.cfg.Sealer.Open(place(row.KID), row.Sealed)
	if err != nil {
		return nil, bad(err)
	}
	defer seal.Wipe(plain)
	private, err := x509.ParsePKCS1PrivateKey(plain)
	if err != nil {
		return nil, bad(err)
	}
	cert, err := x509.ParseCertificate(row.Certificate)
	if err != nil {
		return nil, bad(err)
	}
	if !private.PublicKey.Equal(cert.PublicKey) || thumbprint(row.Certificate) != row.KID {
		return nil, bad(fmt.Errorf("its certificate is another key's"))
	}
	k := &signingKey{SigningKey: row, private: private, x5t: row.KID}
	// Source: wire/entra.md §5: v1 tokens name x5t and kid, v2 tokens kid only.
	k.header = base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"RS256","x5t":"`+k.x5t+`","kid":"`+k.KID+`"}`)) + "."
	k.header2 = base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"RS256","kid":"`+k.KID+`"}`)) + "."
	return k, nil
}

func thumbprint(der []byte) string {
	sum := sha1.Sum(der) //nolint:gosec // see the import
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ensure makes the first keys if there are none.
func (kr *keyring) ensure(ctx context.Context) error {
	r, err := kr.ring(ctx)
	if err != nil || len(r.keys) > 0 {
		return err
	}
	var first, next store.SigningKey
	var g errgroup.Group
	g.Go(func() (err error) { first, err = kr.generate(); return err })
	g.Go(func() (err error) { next, err = kr.generate(); return err })
	if err := g.Wait(); err != nil {
		return err
	}
	return kr.a.store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.SigningKeys()
		if err != nil || len(rows) > 0 { // another plane was first
			return err
		}
		now := tx.Now()
		k, n := first, next
		k.From = now
		n.From = az.MicrosOf(now.Time().Add(kr.a.cfg.RotateEvery))
		end(&k, n.From)
		if err := tx.PutSigningKey(k); err != nil {
			return err
		}
		return tx.PutSigningKey(n)
	})
}

// end says from when a key no longer signs, and from when what it signed is
// no longer accepted.
func end(k *store.SigningKey, at az.Micros) {
	k.Until = at
	k.Retired = az.MicrosOf(at.Time().Add(keepRetired))
}

// generate makes a key that signs at no time yet.
func (kr *keyring) generate() (store.SigningKey, error) {
	bad := func(err error) (store.SigningKey, error) {
		return store.SigningKey{}, az.Errorf(az.Internal, "", "").Because(fmt.Errorf("cannot make a signing key: %w", err))
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return bad(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return bad(err)
	}
	now := kr.a.clock()
	// The certificate only carries the key: its name is what Entra's have, and
	// its dates leave room for long periods and planes that were switched off.
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "accounts.accesscontrol.windows.net"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(5 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return bad(err)
	}
	plain := x509.MarshalPKCS1PrivateKey(key)
	defer seal.Wipe(plain)
	kid := thumbprint(der)
	sealed, err := kr.a.cfg.Sealer.Seal(place(kid), plain)
	if err != nil {
		return bad(err)
	}
	return store.SigningKey{KID: kid, Algorithm: "RS256", Certificate: der, Sealed: sealed}, nil
}

// follow keeps a next key in the ring and deletes retired ones, until ctx ends.
func (kr *keyring) follow(ctx context.Context) {
	tick := time.NewTicker(checkKeysEvery)
	defer tick.Stop()
	for {
		if err := kr.maintain(ctx); err != nil && ctx.Err() == nil {
			kr.a.log.Warn("authority: the signing keys could not be looked after", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// maintain makes the next key once the newest has begun to sign.
func (kr *keyring) maintain(ctx context.Context) error {
	r, err := kr.ring(ctx)
	if err != nil {
		return err
	}
	now := az.MicrosOf(kr.a.clock())
	newest := r.keys[len(r.keys)-1]
	if newest.From > now && r.keys[0].accepted(now) {
		return nil
	}
	return kr.change(ctx, false)
}

// RotateKeys lets the next key sign from now on and makes another next one.
// What the old key signed is accepted until it ends. It is refused while the
// next key has not been published for a day, since verifiers elsewhere would
// not know it yet; force overrides that, for a key that may be known to others.
func (a *Authority) RotateKeys(ctx context.Context, force bool) error {
	r, err := a.keys.ring(ctx)
	if err != nil {
		return err
	}
	newest := r.keys[len(r.keys)-1]
	cert, err := x509.ParseCertificate(newest.Certificate)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	if made := cert.NotBefore.Add(time.Hour); !force && a.clock().Sub(made) < minPublished {
		return az.Errorf(az.Conflict, "Conflict", "The next signing key was published less than %s ago, so verifiers may not know it yet; wait, or force the rotation.", minPublished)
	}
	return a.keys.change(ctx, true)
}

// change makes a key and puts it at the ring's end. With now, the key that was
// there signs from this moment.
func (kr *keyring) change(ctx context.Context, now bool) error {
	until := az.MicrosOf(kr.a.clock().Add(keyLease))
	taken, err := kr.a.store.TakeLease(ctx, "signing keys", kr.a.cfg.Plane, until)
	if err != nil {
		return err
	}
	if !taken {
		if now {
			return az.Errorf(az.Conflict, "Conflict", "Another plane is changing the signing keys; try again in a moment.")
		}
		return nil
	}
	next, err := kr.generate()
	if err != nil {
		return err
	}
	changed := false
	err = kr.a.store.Write(ctx, func(tx *store.Tx) error {
		changed, err = kr.advance(tx, next, now)
		return err
	})
	if err != nil || !changed {
		return err
	}
	kr.a.log.Info("authority: a new signing key was published", "kid", next.KID)
	return kr.a.guard.Record(ctx, guard.Event{Kind: guard.EventSystem, Action: "rotate signing keys", Outcome: guard.Allowed, Detail: "published " + next.KID})
}

// advance writes one step of rotation, judged by what is in the store now.
func (kr *keyring) advance(tx *store.Tx, next store.SigningKey, now bool) (changed bool, err error) {
	rows, err := tx.SigningKeys()
	if err != nil || len(rows) == 0 {
		return false, err
	}
	at := tx.Now()
	for _, k := range rows {
		if k.Retired != 0 && k.Retired <= at {
			if err := tx.DeleteSigningKey(k.KID); err != nil {
				return false, err
			}
		}
	}
	newest := &rows[len(rows)-1]
	if now && newest.From > at {
		newest.From = at
		if len(rows) > 1 {
			before := rows[len(rows)-2]
			end(&before, at)
			if err := tx.PutSigningKey(before); err != nil {
				return false, err
			}
		}
	}
	if newest.From > at {
		return false, nil // another plane was first
	}
	next.From = az.MicrosOf(newest.From.Time().Add(kr.a.cfg.RotateEvery))
	if least := az.MicrosOf(at.Time().Add(minPublished)); next.From < least {
		next.From = least // the plane was off for long: publish first
	}
	end(newest, next.From)
	if err := tx.PutSigningKey(*newest); err != nil {
		return false, err
	}
	return true, tx.PutSigningKey(next)
}
