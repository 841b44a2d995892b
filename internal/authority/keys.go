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
	return kr.begin(ctx, func(*store.Tx) error { return nil })
}

// begin puts a key that signs now and a next one into an empty ring, which
// empty makes of it. A ring that still has keys then is left alone: another
// plane was first.
func (kr *keyring) begin(ctx context.Context, empty func(*store.Tx) error) error {
	var first, next store.SigningKey
	var g errgroup.Group
	g.Go(func() (err error) { first, err = kr.generate(); return err })
	g.Go(func() (err error) { next, err = kr.generate(); return err })
	if err := g.Wait(); err != nil {
		return err
	}
	return kr.a.store.Write(ctx, func(tx *store.Tx) error {
		if err := empty(tx); err != nil {
			return err
		}
		rows, err := tx.SigningKeys()
		if err != nil || len(rows) > 0 {
			return err
		}
		k, n := first, next
		k.From = tx.Now()
		n.From = az.MicrosOf(k.From.Time().Add(kr.a.cfg.RotateEvery))
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
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return store.SigningKey{}, az.Errorf(az.Internal, "", "").Because(fmt.Errorf("cannot make a signing key: %w", err))
	}
	return kr.certify(key)
}

// certify gives a key its name, and seals it.
func (kr *keyring) certify(key *rsa.PrivateKey) (store.SigningKey, error) {
	bad := func(err error) (store.SigningKey, error) {
		return store.SigningKey{}, az.Errorf(az.Internal, "", "").Because(fmt.Errorf("cannot make a signing key: %w", err))
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
