package server

import (
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var somewhere = seal.Place{Table: "t", ID: "1", Version: "1"}

func keysConfig(dir string, env map[string]string) *Config {
	return &Config{Data: dir, Log: slog.New(slog.DiscardHandler), Getenv: func(k string) string { return env[k] }}
}

func mustKeyring(t *testing.T, cfg *Config, st *store.Store) *keyring {
	t.Helper()
	k, err := openKeyring(context.Background(), cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustOpen(t *testing.T, k *keyring, sealed []byte) {
	t.Helper()
	if b, err := k.sealer.Open(somewhere, sealed); err != nil || string(b) != "secret" {
		t.Fatalf("what was sealed does not open: %v", err)
	}
}

func TestRotationOfBothKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := context.Background()
		dir := t.TempDir()
		k := mustKeyring(t, keysConfig(dir, nil), st)
		sealed, err := k.sealer.Seal(somewhere, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		other := mustKeyring(t, keysConfig(dir, nil), st) // a second plane
		if err := k.rotate(ctx); err != nil {
			t.Fatal(err)
		}
		if !k.sealer.NeedsReseal(sealed) {
			t.Error("the data key did not change")
		}
		mustOpen(t, k, sealed)
		newer, err := k.sealer.Seal(somewhere, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		other.reload()
		mustOpen(t, other, newer)
		before := k.sealer.KEKID()
		if err := k.rotateKEK(ctx); err != nil {
			t.Fatal(err)
		}
		if k.sealer.KEKID() == before {
			t.Error("the KEK did not change")
		}
		again := mustKeyring(t, keysConfig(dir, nil), st) // a restart
		mustOpen(t, again, sealed)
		mustOpen(t, again, newer)
	})
}

// A kill between the store's write and the rename leaves kek.next behind.
func TestRotationKilledInTheMiddle(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	ctx := context.Background()
	dir := t.TempDir()
	k := mustKeyring(t, keysConfig(dir, nil), st)
	sealed, err := k.sealer.Seal(somewhere, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.rotateKEK(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "kek"), filepath.Join(dir, "kek.next")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kek"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, mustKeyring(t, keysConfig(dir, nil), st), sealed)
	if _, err := os.Stat(filepath.Join(dir, "kek.next")); !os.IsNotExist(err) {
		t.Error("the new KEK was not put into its place")
	}
	mustOpen(t, mustKeyring(t, keysConfig(dir, nil), st), sealed)
}

func TestKEKFromElsewhere(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	ctx := context.Background()
	text := func(b byte) string {
		raw := make([]byte, 32)
		for i := range raw {
			raw[i] = b + byte(i)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	dir := t.TempDir()
	k := mustKeyring(t, keysConfig(dir, map[string]string{envKEK: text(1)}), st)
	sealed, err := k.sealer.Seal(somewhere, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kek")); err == nil {
		t.Error("a KEK file was made beside the environment's KEK")
	}
	if _, err := openKeyring(ctx, keysConfig(dir, map[string]string{envKEK: text(2)}), st); err == nil {
		t.Fatal("another KEK opened the data keys")
	}
	if _, err := openKeyring(ctx, keysConfig(dir, nil), st); err == nil {
		t.Fatal("no KEK opened the data keys")
	}
	mustOpen(t, mustKeyring(t, keysConfig(dir, map[string]string{envKEK: text(2), envKEKPrevious: text(1)}), st), sealed)
	mustOpen(t, mustKeyring(t, keysConfig(dir, map[string]string{envKEK: text(2)}), st), sealed)
	cred := t.TempDir()
	if err := os.WriteFile(filepath.Join(cred, credentialKEK), []byte(text(2)), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, mustKeyring(t, keysConfig(dir, map[string]string{"CREDENTIALS_DIRECTORY": cred}), st), sealed)
	mustOpen(t, mustKeyring(t, keysConfig(dir, map[string]string{envPassphrase: "correct horse battery staple", envKEKPrevious: text(2)}), st), sealed)
	mustOpen(t, mustKeyring(t, keysConfig(dir, map[string]string{envPassphrase: "correct horse battery staple"}), st), sealed)
}

// A second rotation after one that could not be finished must not remove the
// only copy of the KEK that the data keys lie under.
func TestInterruptedRotationKeepsTheOnlyKEK(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: t.TempDir()})
	dir := t.TempDir()
	file := filepath.Join(dir, "kek")
	k := mustKeyring(t, keysConfig(dir, nil), st)
	sealed, err := k.sealer.Seal(somewhere, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The new KEK cannot take its place.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.rotateKEK(context.Background()); err == nil {
		t.Fatal("the rotation should have failed")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	// The next one dies before it has written anything.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := k.rotateKEK(ended); err == nil {
		t.Fatal("the second rotation should have failed")
	}
	mustOpen(t, mustKeyring(t, keysConfig(dir, nil), st), sealed)
	// And a third one goes through.
	if err := k.rotateKEK(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, mustKeyring(t, keysConfig(dir, nil), st), sealed)
}

// What one plane seals after a rotation opens on another as soon as that one
// has seen the change, without a moment of errors.
func TestRotationIsSeenByOtherPlanesAtOnce(t *testing.T) {
	sa, sb := storetest.Pair(t)
	ctx := context.Background()
	env := map[string]string{envPassphrase: "correct horse battery staple"}
	a, b := mustKeyring(t, keysConfig(t.TempDir(), env), sa), mustKeyring(t, keysConfig(t.TempDir(), env), sb)
	for range 5 {
		if err := a.rotate(ctx); err != nil {
			t.Fatal(err)
		}
		sealed, err := a.sealer.Seal(somewhere, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if err := sb.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
		mustOpen(t, b, sealed)
	}
}
