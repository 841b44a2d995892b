package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser/hawser/hawsertest"
)

// A plane restored from a backup serves what was in it once it has the KEK, and
// does not start without.
func TestBackupAndRestore(t *testing.T) {
	p := hawsertest.Start(t)
	file := filepath.Join(t.TempDir(), "plane.db")
	for _, args := range [][]string{{"vault", "create", "kv1"}, {"secret", "set", "kv1", "s", "kept-4711-in-the-vault"}, {"backup", file}} {
		if r := command(t, p, args...); r.status != 0 {
			t.Fatalf("%v: %s", args, r.err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "kept-4711") {
		t.Errorf("the backup holds the secret in clear: %v", err)
	}
	p.Stop()
	dir, err := os.MkdirTemp("", "hawser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if r := command(t, nil, "restore", file, "--data", dir); r.status != 0 {
		t.Fatal(r.err)
	}
	if r := command(t, nil, "restore", file, "--data", dir); r.status != 1 {
		t.Errorf("over a store: exit status %d", r.status)
	}
	r := command(t, nil, "up", "--data", dir, "--listen", "127.0.0.1:0", "--pg", "off", "--mysql", "off", "--tds", "off", "--redis", "off", "--hosts", "off", "--imds", "off")
	if r.status != 1 || !strings.Contains(r.err, "key-encryption key") {
		t.Errorf("without the KEK: exit status %d, %s", r.status, r.err)
	}
	kek, err := os.ReadFile(filepath.Join(p.Data, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kek"), kek, 0o600); err != nil {
		t.Fatal(err)
	}
	again := hawsertest.Start(t, hawsertest.Dir(dir))
	if r := command(t, again, "secret", "get", "kv1", "s"); r.out != "kept-4711-in-the-vault\n" {
		t.Errorf("%q %s", r.out, r.err)
	}
}
