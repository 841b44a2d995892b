package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var material = []byte("\x00\x01\x02\xf3\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\xff")

func TestKEKFromEnv(t *testing.T) {
	want, err := newKEK(material)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{
		hex.EncodeToString(material), strings.ToUpper(hex.EncodeToString(material)), want.Text(), " " + want.Text() + "\n",
		base64.RawStdEncoding.EncodeToString(material), base64.URLEncoding.EncodeToString(material), base64.RawURLEncoding.EncodeToString(material),
	}
	for _, v := range good {
		if k, err := KEKFromEnv(v); err != nil || k.ID() != want.ID() {
			t.Errorf("%q: %v", v, err)
		}
	}
	bad := []string{
		"", "password", string(material), hex.EncodeToString(material[1:]), base64.StdEncoding.EncodeToString(material[:31]),
		strings.Repeat("zz", 32), strings.Repeat("00", 32), hex.EncodeToString(material) + "00",
	}
	for _, v := range bad {
		_, err := KEKFromEnv(v)
		if err == nil {
			t.Errorf("%q is taken", v)
		} else if len(v) > 8 && strings.Contains(err.Error(), v[:8]) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}

func TestKEKFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	if _, err := KEKFromFile(path, false); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing: %v", err)
	}
	first, err := KEKFromFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, create := range []bool{true, false} {
		if k, err := KEKFromFile(path, create); err != nil || k.ID() != first.ID() {
			t.Fatalf("second start: %v", err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	for _, bad := range []string{"", "short", "exactly thirty-two letters, text", strings.Repeat("A", 300)} {
		p := filepath.Join(t.TempDir(), "bad")
		write(t, p, bad, 0o600)
		if _, err := KEKFromFile(p, true); err == nil {
			t.Errorf("%q is taken", bad)
		}
		if b, _ := os.ReadFile(p); string(b) != bad {
			t.Errorf("a bad file was overwritten with %q", b)
		}
	}
	raw := filepath.Join(t.TempDir(), "raw")
	write(t, raw, string(material), 0o600)
	if k, err := KEKFromFile(raw, false); err != nil || k.Text() != base64.StdEncoding.EncodeToString(material) {
		t.Errorf("raw bytes: %v", err)
	}
	if _, err := KEKFromFile(t.TempDir(), true); err == nil {
		t.Error("a directory is taken")
	}
	if _, err := KEKFromFile(filepath.Join(path, "below", "a file"), true); err == nil {
		t.Error("no directory, no error")
	}
}

func TestKEKFileIsForItsOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // modes mean nothing there
	}
	path := filepath.Join(t.TempDir(), "kek")
	if _, err := KEKFromFile(path, true); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("made with %v, %v", info.Mode(), err)
	}
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false, 0o601: false, 0o777: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := KEKFromFile(path, true); (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		if _, err := KEKFromFile(path, true); err == nil {
			t.Error("another user's file is taken")
		}
	}
}

func TestKEKFileMadeByManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			k, err := KEKFromFile(path, true)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = k.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("different keys: %v", ids)
		}
	}
}

func TestKEKFromCredential(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, CredentialName), hex.EncodeToString(material), 0o440) // as systemd's ACL looks
	k, err := KEKFromCredential(dir, CredentialName)
	if err != nil || k.Text() != base64.StdEncoding.EncodeToString(material) {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		write(t, filepath.Join(dir, "open"), hex.EncodeToString(material), 0o444)
		if _, err := KEKFromCredential(dir, "open"); err == nil {
			t.Error("a credential the world may read is taken")
		}
	}
	for _, c := range [][2]string{{"", CredentialName}, {dir, ""}, {dir, ".."}, {dir, "."}, {dir, "../" + filepath.Base(dir) + "/" + CredentialName}, {dir, "none"}} {
		if _, err := KEKFromCredential(c[0], c[1]); err == nil {
			t.Errorf("%q is taken", c)
		}
	}
}

func TestKEKFromPassphrase(t *testing.T) {
	pass, salt := []byte("correct horse battery staple"), NewSalt()
	a, err := KEKFromPassphrase(pass, salt)
	if err != nil {
		t.Fatal(err)
	}
	b, err := KEKFromPassphrase(pass, salt)
	if err != nil || a.ID() != b.ID() {
		t.Fatal("not the same twice")
	}
	if c, err := KEKFromPassphrase(pass, NewSalt()); err != nil || c.ID() == a.ID() {
		t.Fatal("the salt does not matter")
	}
	if _, err := KEKFromPassphrase([]byte("fourteen chars"), salt); err == nil {
		t.Error("a short passphrase is taken")
	}
	if _, err := KEKFromPassphrase(pass, salt[1:]); err == nil {
		t.Error("a short salt is taken")
	}
}

func TestKEKShowsOnlyItsID(t *testing.T) {
	k, err := newKEK(material)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := New(k)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "kek", k, "sealer", s, "holder", struct{ K *KEK }{k})
	j, err := json.Marshal(map[string]any{"k": k})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(j) + k.String() + k.GoString()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		out += fmt.Sprintf(verb, k) + fmt.Sprintf(verb, struct{ k *KEK }{k}) + fmt.Sprintf(verb, *s.state.Load().wrap.kek) + fmt.Sprintf(verb, s)
	}
	if !strings.Contains(out, redacted) {
		t.Error("nothing says REDACTED")
	}
	for _, leak := range []string{hex.EncodeToString(material[8:16]), k.Text()[8:20], string(material[8:16]), fmt.Sprint(material)[8:40]} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(leak)) {
			t.Errorf("the key shows as %q", leak)
		}
	}
	if len(k.ID()) != 16 || strings.Contains(hex.EncodeToString(material), k.ID()) {
		t.Errorf("fingerprint %s", k.ID())
	}
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}
