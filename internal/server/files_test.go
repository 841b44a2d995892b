package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHostsFileKeepsWhatIsNotOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	keep := func(dir string, names ...string) {
		t.Helper()
		if err := keepHosts(path, dir, "127.0.0.1", names); err != nil {
			t.Fatal(err)
		}
	}
	const before = "127.0.0.1 localhost\n# a comment without an end of line"
	write(before)
	keep("/a", "login.x", "kv1.vault.x")
	keep("/b", "login.y")
	keep("/a", "login.x")
	want := before + "\n# hawser begin /b\n127.0.0.1 login.y\n# hawser end /b\n# hawser begin /a\n127.0.0.1 login.x\n# hawser end /a\n"
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Error(diff)
	}
	keep("/a")
	keep("/b")
	if diff := cmp.Diff(before+"\n", read()); diff != "" {
		t.Error(diff)
	}
	// Somebody removed the end mark: nothing before the block may be lost.
	keep("/a", "login.x")
	write(strings.Replace(read(), "# hawser end /a\n", "", 1))
	keep("/a")
	if diff := cmp.Diff(before+"\n", read()); diff != "" {
		t.Error(diff)
	}
	// Nor may what stands behind it: another plane's block, a person's lines.
	const after = "\n10.0.0.7 db db.internal\n"
	keep("/a", "login.x")
	keep("/b", "login.y")
	write(strings.Replace(read(), "# hawser end /a\n", "", 1) + after)
	keep("/a")
	want = before + "\n# hawser begin /b\n127.0.0.1 login.y\n# hawser end /b\n" + after
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Error(diff)
	}
}

func TestConfigRefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]Config{
		"no data":           {},
		"token in domain":   {Data: "d", Domain: "token.example"},
		"public metrics":    {Data: "d", Admin: "0.0.0.0:9100"},
		"odd hosts":         {Data: "d", Hosts: "yes"},
		"odd challenge":     {Data: "d", ChallengeTenant: "common"},
		"short-lived token": {Data: "d", IdentityTokenLife: 1},
	} {
		if err := c.fill(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	file := filepath.Join(t.TempDir(), "hawser.toml")
	if err := os.WriteFile(file, []byte("listn = \"127.0.0.1:1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadConfig(file, new(Config)); err == nil || !strings.Contains(err.Error(), "listn") {
		t.Errorf("a misspelt setting: %v", err)
	}
}

func TestDataDirectoryMustBeOurs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := checkPrivate(dir); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := checkPrivate(dir); err != nil {
		t.Errorf("an empty directory as mkdir makes it: %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("it was not closed to others: %v %v", info.Mode(), err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "something"), nil, 0o600), os.Chmod(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	if checkPrivate(dir) == nil {
		t.Error("a directory with something in it that a group may read was accepted")
	}
	if os.Geteuid() != 0 {
		return // only root can give a directory away
	}
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if checkPrivate(dir) == nil {
		t.Error("a directory of another user was accepted")
	}
}
