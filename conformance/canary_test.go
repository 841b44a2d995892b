package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/hawser/hawser/internal/store/storetest"
)

// TestNothingInClear writes secrets of every kind, kills the plane, and looks
// for them in every file that the plane and PostgreSQL keep.
func TestNothingInClear(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		w := newWorld(t)
		canaries := plantCanaries(t, w)
		w.kill()
		search(t, canaries, w.dir)
	})
	t.Run("postgres", func(t *testing.T) {
		pg := storetest.StartPostgres(t, "log_statement=all", "logging_collector=off", "log_min_messages=debug1",
			"log_connections=on", "log_parameter_max_length=-1", "log_parameter_max_length_on_error=-1")
		w := newWorld(t, "--store", pg.CreateDatabase(t, "plane"))
		canaries := plantCanaries(t, w)
		pg.Exec(t, "plane", "checkpoint")
		w.kill()
		pg.Kill()
		// SocketDir holds the data directory and the log.
		search(t, canaries, w.dir, pg.SocketDir)
	})
}

// plantCanaries makes every kind of secret known and used.
func plantCanaries(t *testing.T, w *world) map[string]string {
	t.Helper()
	canaries := map[string]string{}
	plant := func(kind string) string {
		canaries[kind] = "canary/" + kind + "+" + strings.Repeat("Zq7", 4)
		return canaries[kind]
	}
	w.cli("secret", "set", "kv1", "s", plant("secret"))
	w.cli("secret", "set", "kv1", "s", plant("newer-secret"))
	w.cli("secret", "set", "kv1", "gone", plant("deleted-secret"))
	w.cli("secret", "delete", "kv1", "gone")
	w.cli("app", "set", "web", "SETTING="+plant("app-setting"), "REF=@Microsoft.KeyVault(VaultName=kv1;SecretName=s)")
	if err := w.arm().Put(t.Context(), w.web.ID+"/config/connectionstrings", map[string]any{"properties": map[string]any{
		"db": map[string]any{"type": "Custom", "value": plant("connection-string")}}}, nil); err != nil {
		t.Fatal(err)
	}
	db := w.attachAs(t, "pg1", plant("owner-password"))
	r := w.run("web", nil, ecosystems[0].program("database", "default", "things")...)
	lines(t, r, fmt.Sprintf("who %s %s\nselect ok\ninsert ok\ncreate 42501\nbecome 42501", db.role(), db.name))
	canaries["admin's client secret"] = w.env.Admin.ClientSecret
	for kind, token := range map[string]string{"identity's token": w.token(vaultScope, "web"), "administrator's token": w.token(armScope, "")} {
		canaries[kind] = token[strings.LastIndexByte(token, '.')+1:] // the signature: the rest is no secret
		if status, body := w.get(t, "kv1.vault."+domain, "/secrets/s?api-version=7.4", token); status == "" {
			t.Fatal(body)
		}
	}
	return canaries
}

// attachAs attaches a database whose owner has the given password, and
// connects web to it.
func (w *world) attachAs(t *testing.T, server, password string) database {
	t.Helper()
	d := database{url: storetest.Database(t)}
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	d.name = strings.TrimPrefix(u.Path, "/")
	owner := "owner_of_" + d.name
	d.exec(t, "create role "+owner+" superuser login password '"+password+"'; create table things (a int)")
	u.User = url.UserPassword(owner, password)
	w.cli("attach", server, u.String())
	w.cli("connect", "web", server, "--database", d.name, "--client", "go", "--access", "write", "--name", d.connection())
	return d
}

// search fails for each file that holds a canary in any spelling.
func search(t *testing.T, canaries map[string]string, dirs ...string) {
	t.Helper()
	forms := map[string][]byte{}
	for kind, value := range canaries {
		if value == "" {
			t.Fatalf("no canary for %s", kind)
		}
		for how, b := range spellings(value) {
			forms[kind+" "+how] = b
		}
	}
	files, size := 0, int64(0)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files, size = files+1, size+int64(len(b))
			for what, form := range forms {
				if bytes.Contains(b, form) {
					t.Errorf("%s holds the %s", strings.TrimPrefix(path, dir), what)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Fatal("there was nothing to search")
	}
	t.Logf("%d spellings of %d secrets not found in %d files, %d bytes", len(forms), len(canaries), files, size)
}

// spellings are the forms in which a leaked value may lie in a file. Base64 is
// looked for at each of its three alignments, without the ends, which depend
// on the neighbours.
func spellings(value string) map[string][]byte {
	v := []byte(value)
	var wide, wideBig []byte
	for _, u := range utf16.Encode([]rune(value)) {
		wide, wideBig = append(wide, byte(u), byte(u>>8)), append(wideBig, byte(u>>8), byte(u))
	}
	m := map[string][]byte{"in clear": v, "in hex": []byte(hex.EncodeToString(v)), "in upper-case hex": []byte(strings.ToUpper(hex.EncodeToString(v))),
		"in UTF-16": wide, "in big-endian UTF-16": wideBig, "in a URL": []byte(url.QueryEscape(value))}
	for shift := range 3 {
		padded := append(bytes.Repeat([]byte{0}, shift), v...)
		padded = padded[:len(padded)/3*3]
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			m[fmt.Sprintf("in %s at %d", name, shift)] = []byte(enc.EncodeToString(padded))[4:]
		}
	}
	return m
}

// TestSearch: the search finds a canary in every spelling, so that its silence
// means something.
func TestSearch(t *testing.T) {
	const value = "canary/it+Zq7Zq7Zq7"
	b64 := base64.StdEncoding.EncodeToString
	wide := []byte{}
	for _, u := range utf16.Encode([]rune(value)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	for name, file := range map[string]string{"clear": "x" + value + "y", "hex": hex.EncodeToString([]byte("x" + value)), "utf-16": string(wide), "url": url.QueryEscape(value),
		"base64": b64([]byte(value)), "base64 inside 1": b64([]byte("x" + value + "y")), "base64 inside 2": b64([]byte(`{"a":"` + value + `"}`)),
		"base64url": base64.URLEncoding.EncodeToString([]byte("xy" + value + "z"))} {
		found := false
		for _, form := range spellings(value) {
			found = found || bytes.Contains([]byte(file), form)
		}
		if !found {
			t.Errorf("not found in %s: %s", name, file)
		}
	}
}
