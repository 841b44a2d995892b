package authority

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"

	"github.com/hawser/hawser/internal/az"
)

// queueLimit bounds the signatures that wait: at 0.7 ms each on two cores it
// is under two seconds of work, more than which no client waits for.
const queueLimit = 4096

// signer makes RSA signatures first in, first out, with one worker a core:
// left to the scheduler, 16 callers at once would all take as long as the
// slowest (targets, "RSA under 16 callers").
type signer struct{ queue chan *signing }

type signing struct {
	ctx  context.Context // of the caller: nobody signs for one who has left
	key  *rsa.PrivateKey
	hash [sha256.Size]byte
	out  chan signature // buffered, so that no worker waits for a caller
}

type signature struct {
	bytes []byte
	err   error
}

func newSigner() *signer { return &signer{queue: make(chan *signing, queueLimit)} }

// work signs until ctx ends.
func (s *signer) work(ctx context.Context) {
	for {
		select {
		case j := <-s.queue:
			if j.ctx.Err() != nil {
				continue
			}
			b, err := rsa.SignPKCS1v15(nil, j.key, crypto.SHA256, j.hash[:])
			j.out <- signature{b, err}
		case <-ctx.Done():
			return
		}
	}
}

// sign returns the RS256 signature of text. A full queue is refused at once:
// whoever comes later must not make those who wait lose.
func (s *signer) sign(ctx context.Context, key *rsa.PrivateKey, text []byte) ([]byte, error) {
	j := &signing{ctx: ctx, key: key, hash: sha256.Sum256(text), out: make(chan signature, 1)}
	select {
	case s.queue <- j:
	default:
		return nil, az.Errorf(az.Unavailable, "temporarily_unavailable", "Too many tokens are being asked for at the moment; try again.")
	}
	select {
	case r := <-j.out:
		if r.err != nil {
			return nil, az.Errorf(az.Internal, "", "").Because(r.err)
		}
		return r.bytes, nil
	case <-ctx.Done():
		return nil, az.Errorf(az.Unavailable, "temporarily_unavailable", "The token could not be signed in time; try again.").Because(ctx.Err())
	}
}
