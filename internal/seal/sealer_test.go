package seal

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
)

var here = Place{Table: "secrets", ID: "v1/db", Version: "0a"}

func newSealer(t testing.TB) (*Sealer, *KEK, []byte) {
	t.Helper()
	kek, err := NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	s, wrapped, err := New(kek)
	if err != nil {
		t.Fatal(err)
	}
	return s, kek, wrapped
}

func mustSeal(t testing.TB, s *Sealer, p Place, plain string) []byte {
	t.Helper()
	b, err := s.Seal(p, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpen(t testing.TB, s *Sealer, p Place, sealed []byte, want string) {
	t.Helper()
	got, err := s.Open(p, sealed)
	if err != nil || string(got) != want {
		t.Fatalf("Open = %q, %v; want %q", got, err, want)
	}
}

func TestSealOpens(t *testing.T) {
	s, kek, wrapped := newSealer(t)
	for _, plain := range []string{"", "x", strings.Repeat("long ", 5000)} {
		sealed := mustSeal(t, s, here, plain)
		if len(sealed) != len(plain)+Overhead || sealed[0] != sealedVersion {
			t.Fatalf("sealed form: %d bytes, version %d", len(sealed), sealed[0])
		}
		if len(plain) > 9 && bytes.Contains(sealed, []byte(plain[:9])) {
			t.Fatal("the plain text shows")
		}
		if cap(sealed) != len(sealed) {
			t.Fatal("the result leaves room that an append could spill into")
		}
		mustOpen(t, s, here, sealed, plain)
		again, err := Load(kek, wrapped)
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, again, here, sealed, plain)
	}
	if a, b := mustSeal(t, s, here, "same"), mustSeal(t, s, here, "same"); bytes.Equal(a, b) {
		t.Fatal("two seals of one value are equal")
	}
}

// Every change of a byte, of the length or of the place gives the same error.
func TestOpenRefusesAlike(t *testing.T) {
	s, _, _ := newSealer(t)
	other, _, _ := newSealer(t)
	sealed := mustSeal(t, s, here, "the secret")
	refused := func(what string, s *Sealer, p Place, b []byte) {
		t.Helper()
		before := bytes.Clone(b)
		if out, err := s.Open(p, b); err != ErrOpen || out != nil { //nolint:errorlint // the very value, no detail around it
			t.Errorf("%s: %q, %v", what, out, err)
		}
		if !bytes.Equal(before, b) {
			t.Errorf("%s: the input was changed", what)
		}
	}
	for i := range sealed {
		for _, flip := range []byte{1, 0x80} {
			b := bytes.Clone(sealed)
			b[i] ^= flip
			refused(fmt.Sprint("byte ", i), s, here, b)
		}
		refused(fmt.Sprint("cut at ", i), s, here, sealed[:i])
	}
	refused("longer", s, here, append(bytes.Clone(sealed), 0))
	refused("other keys", other, here, sealed)
	for _, p := range []Place{{}, {"secrets", "v1/db", ""}, {"secrets", "v1/d", "b0a"}, {"secret", "sv1/db", "0a"}, {"secrets", "v1/db0", "a"}, {"SECRETS", "v1/db", "0a"}} {
		refused(fmt.Sprint(p), s, p, sealed)
	}
}

func TestSealNeedsPlaceAndBound(t *testing.T) {
	s, _, _ := newSealer(t)
	for _, p := range []Place{{}, {Table: "t"}, {ID: "i"}, {Version: "v"}} {
		if _, err := s.Seal(p, nil); !errors.Is(err, ErrPlace) {
			t.Errorf("%v: %v", p, err)
		}
	}
	if _, err := s.Seal(here, make([]byte, MaxPlain+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestPlacesNeverCollide(t *testing.T) {
	parts := []string{"", "a", "b", "ab", "a\x00", "\x00\x00\x00\x01a", "\x00\x00\x00\x00"}
	seen := map[string]Place{}
	for _, a := range parts {
		for _, b := range parts {
			for _, c := range parts {
				p := Place{a, b, c}
				enc := string(p.appendTo(nil))
				if len(enc) != p.size() {
					t.Fatalf("%q: size %d, want %d", p, len(enc), p.size())
				}
				if q, dup := seen[enc]; dup {
					t.Fatalf("%q and %q share an encoding", p, q)
				}
				seen[enc] = p
			}
		}
	}
}

// Behind the version byte stands a Tink ciphertext, both ways.
func TestTinkReadsAndWritesTheSame(t *testing.T) {
	s, _, _ := newSealer(t)
	e, err := s.state.Load().wrap.keys.Primary()
	if err != nil {
		t.Fatal(err)
	}
	tk, err := aesgcm.NewAEAD(e.Key().(*aesgcm.Key))
	if err != nil {
		t.Fatal(err)
	}
	got, err := tk.Decrypt(mustSeal(t, s, here, "hello")[1:], here.appendTo(nil))
	if err != nil || string(got) != "hello" {
		t.Fatalf("Tink reads %q, %v", got, err)
	}
	ct, err := tk.Encrypt([]byte("hello back"), here.appendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, s, here, append([]byte{sealedVersion}, ct...), "hello back")
}

func TestAppendOpen(t *testing.T) {
	s, _, _ := newSealer(t)
	sealed := mustSeal(t, s, here, "world")
	for _, room := range []int{0, 1, 5, 6, 40, 60, 61, 62, 300} {
		dst := append(make([]byte, 0, 6+room), "hello "...)
		got, err := s.AppendOpen(dst, here, sealed)
		if err != nil || string(got) != "hello world" {
			t.Fatalf("room %d: %q, %v", room, got, err)
		}
		sealed[len(sealed)-1] ^= 1
		if got, err := s.AppendOpen(dst, here, sealed); err == nil || string(got) != "hello " {
			t.Fatalf("room %d, tampered: %q, %v", room, got, err)
		}
		sealed[len(sealed)-1] ^= 1
	}
}

func TestHash(t *testing.T) {
	s, kek, wrapped := newSealer(t)
	other, _, _ := newSealer(t)
	h := s.Hash("client-secret", []byte("abc"))
	if len(h) != HashLen || !s.HashMatches("client-secret", []byte("abc"), h) {
		t.Fatal("a hash does not match itself")
	}
	again, err := Load(kek, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if !again.HashMatches("client-secret", []byte("abc"), h) {
		t.Fatal("another plane's hash differs")
	}
	for _, c := range []struct {
		s       *Sealer
		purpose string
		data    string
		stored  []byte
	}{
		{s, "client-secret", "abd", h}, {s, "code", "abc", h}, {s, "client-secreta", "bc", h}, {other, "client-secret", "abc", h},
		{s, "client-secret", "abc", nil}, {s, "client-secret", "abc", h[:HashLen-1]}, {s, "client-secret", "abc", h[1:]},
		{s, "client-secret", "abc", append([]byte{2}, h[1:]...)},
	} {
		if c.s.HashMatches(c.purpose, []byte(c.data), c.stored) {
			t.Errorf("%s/%s matches %x", c.purpose, c.data, c.stored)
		}
	}
}

func TestDerive(t *testing.T) {
	s, _, _ := newSealer(t)
	a, b, long := s.Derive("audit", 32), s.Derive("cookie", 32), s.Derive("audit", 64)
	if len(a) != 32 || bytes.Equal(a, b) || !bytes.Equal(a, s.Derive("audit", 32)) || !bytes.Equal(long[:32], a) {
		t.Fatalf("derived %x %x %x", a, b, long)
	}
	if bytes.Equal(a, s.state.Load().hashKey) {
		t.Fatal("a derived key is the hash key")
	}
}

func TestRotateRewrapPrune(t *testing.T) {
	s, kek, wrapped := newSealer(t)
	other, err := Load(kek, wrapped) // a second plane
	if err != nil {
		t.Fatal(err)
	}
	old := mustSeal(t, s, here, "old")
	hash, derived := s.Hash("p", []byte("d")), s.Derive("audit", 32)

	rotated, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if b := mustSeal(t, s, here, "x"); s.Keys() != 1 || s.NeedsReseal(b) || b[2] != old[2] {
		t.Fatal("a key that is not stored yet is in use")
	}
	reload(t, s, rotated)
	fresh := mustSeal(t, s, here, "fresh")
	if s.Keys() != 2 || !s.NeedsReseal(old) || s.NeedsReseal(fresh) || !s.NeedsReseal(nil) || !s.Knows(old) {
		t.Fatal("the new key is not the primary")
	}
	mustOpen(t, s, here, old, "old")
	if _, err := other.Open(here, fresh); err == nil || other.Knows(fresh) || other.Knows(nil) {
		t.Fatal("the other plane knows a key it was not told")
	}
	reload(t, other, rotated)
	mustOpen(t, other, here, fresh, "fresh")

	kek2, err := NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	rewrapped, err := s.Rewrap(kek2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(kek, rewrapped); !errors.Is(err, ErrWrongKEK) {
		t.Fatalf("the old KEK still opens: %v", err)
	}
	if err := other.Reload(rewrapped); !errors.Is(err, ErrWrongKEK) {
		t.Fatalf("Reload without the KEK: %v", err)
	}
	mustOpen(t, other, here, fresh, "fresh") // still at work
	if err := other.AddKEK(kek2); err != nil {
		t.Fatal(err)
	}
	reload(t, other, rewrapped)
	reload(t, s, rewrapped)
	if s.KEKID() != kek2.ID() || other.KEKID() != kek2.ID() {
		t.Fatal("the new KEK is not in use")
	}

	pruned, err := s.Prune()
	if err != nil {
		t.Fatal(err)
	}
	if by, err := WrappedBy(pruned); err != nil || by != kek2.ID() {
		t.Fatalf("wrapped by %s, %v", by, err)
	}
	reload(t, s, pruned)
	if _, err := s.Open(here, old); err == nil || s.Keys() != 1 {
		t.Fatal("a pruned key opens")
	}
	mustOpen(t, s, here, fresh, "fresh")
	if !bytes.Equal(hash, s.Hash("p", []byte("d"))) || !bytes.Equal(derived, s.Derive("audit", 32)) {
		t.Fatal("rotation changed hashes or derived keys")
	}
}

func reload(t *testing.T, s *Sealer, wrapped []byte) {
	t.Helper()
	if err := s.Reload(wrapped); err != nil {
		t.Fatal(err)
	}
}

func TestReloadIgnoresOldAndForeign(t *testing.T) {
	s, kek, first := newSealer(t)
	second, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	reload(t, s, second)
	sealed := mustSeal(t, s, here, "x")
	reload(t, s, first) // late news
	mustOpen(t, s, here, sealed, "x")
	_, foreign, err := New(kek)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(foreign); !errors.Is(err, ErrForeign) {
		t.Fatalf("foreign keys: %v", err)
	}
	if err := s.Reload(second[:len(second)-1]); !errors.Is(err, ErrDamaged) {
		t.Fatalf("damaged: %v", err)
	}
	mustOpen(t, s, here, sealed, "x")
}

func TestLoadRefuses(t *testing.T) {
	_, kek, wrapped := newSealer(t)
	kek2, err := NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(kek2, wrapped); !errors.Is(err, ErrWrongKEK) || !strings.Contains(err.Error(), kek.ID()) {
		t.Fatalf("wrong KEK: %v", err)
	}
	for _, k := range []*KEK{nil, {}} {
		if _, err := Load(k, wrapped); err == nil {
			t.Fatal("no KEK loads")
		}
		if _, _, err := New(k); err == nil {
			t.Fatal("no KEK makes keys")
		}
	}
	for i := range wrapped {
		b := bytes.Clone(wrapped)
		b[i] ^= 4
		if s, err := Load(kek, b); err == nil && !sameKeys(s, kek, wrapped) {
			t.Fatalf("byte %d changed: loads other keys", i)
		} else if err == nil && i < rootEnd {
			t.Fatalf("byte %d changed: loads", i)
		}
		if _, err := Load(kek, wrapped[:i]); err == nil {
			t.Fatalf("cut at %d: loads", i)
		}
	}
	if _, err := Load(kek, make([]byte, maxWrapped+1)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("too long: %v", err)
	}
}

// sameKeys allows changes to the unauthenticated description that Tink puts
// beside the encrypted keyset and never reads back.
func sameKeys(s *Sealer, kek *KEK, wrapped []byte) bool {
	want, err := Load(kek, wrapped)
	return err == nil && s.state.Load().keys[0].id == want.state.Load().keys[0].id
}

// Two halves of different blobs must not make a third.
func TestLoadRefusesMixedHalves(t *testing.T) {
	s, kek, a := newSealer(t)
	b, err := s.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(kek, slices.Concat(b[:rootEnd], a[rootEnd:])); !errors.Is(err, ErrDamaged) {
		t.Fatalf("mixed: %v", err)
	}
}

func TestTooManyKeys(t *testing.T) {
	s, _, _ := newSealer(t)
	w := s.state.Load().wrap
	var err error
	for range 1000 {
		if w, err = w.rotated(); err != nil {
			t.Fatal(err)
		}
		if _, err = w.bytes(); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "prune") || w.keys.Len() < 100 {
		t.Fatalf("%d keys: %v", w.keys.Len(), err)
	}
}

func TestConcurrentReload(t *testing.T) {
	s, _, _ := newSealer(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			p := Place{"t", fmt.Sprint(g), ""}
			for range 300 {
				b, err := s.Seal(p, []byte("v"))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Open(p, b); err != nil || !s.HashMatches("x", b, s.Hash("x", b)) {
					t.Errorf("during a reload: %v", err)
					return
				}
			}
		})
	}
	for range 20 {
		w, err := s.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		reload(t, s, w)
	}
	wg.Wait()
}

func TestAllocations(t *testing.T) {
	s, _, _ := newSealer(t)
	plain := make([]byte, 1024)
	sealed := mustSeal(t, s, here, string(plain))
	buf := make([]byte, 0, 2048)
	for _, c := range []struct {
		name string
		max  float64
		f    func()
	}{
		{"Seal", 1, func() { _, _ = s.Seal(here, plain) }},
		{"Open", 1, func() { _, _ = s.Open(here, sealed) }},
		{"AppendOpen", 0, func() { _, _ = s.AppendOpen(buf, here, sealed) }},
	} {
		if n := math.Floor(testing.AllocsPerRun(200, c.f)); n > c.max && !raceEnabled {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, c.max)
		}
	}
}

func BenchmarkSeal1K(b *testing.B) {
	s, _, _ := newSealer(b)
	plain := make([]byte, 1024)
	b.ReportAllocs()
	b.SetBytes(1024)
	for b.Loop() {
		_, _ = s.Seal(here, plain)
	}
}

func BenchmarkOpen1K(b *testing.B) {
	s, _, _ := newSealer(b)
	sealed := mustSeal(b, s, here, strings.Repeat("x", 1024))
	b.ReportAllocs()
	b.SetBytes(1024)
	for b.Loop() {
		_, _ = s.Open(here, sealed)
	}
}

func BenchmarkAppendOpen1K(b *testing.B) {
	s, _, _ := newSealer(b)
	sealed := mustSeal(b, s, here, strings.Repeat("x", 1024))
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	b.SetBytes(1024)
	for b.Loop() {
		_, _ = s.AppendOpen(buf, here, sealed)
	}
}

func BenchmarkHash(b *testing.B) {
	s, _, _ := newSealer(b)
	secret := []byte("a client secret of forty characters.....")
	b.ReportAllocs()
	for b.Loop() {
		_ = s.Hash("client-secret", secret)
	}
}

func FuzzOpen(f *testing.F) {
	s, _, _ := newSealer(f)
	f.Add("t", "i", "v", mustSeal(f, s, Place{"t", "i", "v"}, "plain"))
	f.Add("", "", "", []byte{sealedVersion, tinkPrefix})
	known := mustSeal(f, s, here, "plain")
	f.Fuzz(func(t *testing.T, table, id, version string, b []byte) {
		// A fresh key each run: nothing an input holds can open.
		if _, err := s.Open(Place{table, id, version}, b); err != nil && err != ErrOpen { //nolint:errorlint // the very value
			t.Fatal(err)
		}
		forged := append(bytes.Clone(known[:prefixLen]), b...)
		if _, err := s.Open(here, forged); err == nil && !bytes.Equal(forged, known) {
			t.Fatal("a forgery opens")
		}
	})
}

func FuzzLoad(f *testing.F) {
	kek, err := newKEK([]byte("an unchanging key for the corpus"))
	if err != nil {
		f.Fatal(err)
	}
	_, wrapped, err := New(kek)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add(wrapped[:rootEnd])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Load(kek, b); err == nil {
			mustOpen(t, s, here, mustSeal(t, s, here, "x"), "x")
		} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongKEK) {
			t.Fatal(err)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	_, kek, wrapped := newSealer(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(kek, wrapped); err != nil {
			b.Fatal(err)
		}
	}
}
