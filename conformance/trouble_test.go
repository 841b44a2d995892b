package conformance

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/store/storetest"
)

// TestLostDatabase: a plane whose database goes away says so, and goes on when
// it comes back; nothing acknowledged is missing.
func TestLostDatabase(t *testing.T) {
	pg := storetest.StartPostgres(t)
	w := newWorld(t, "--store", pg.CreateDatabase(t, "plane"))
	token := w.token(vaultScope, "web")
	get := func() string {
		status, _ := w.get(t, "kv1.vault."+domain, "/secrets/plain?api-version=7.4", token)
		return status
	}
	pg.Stop()
	eventually(t, startLimit, "503 without a database", func() bool { return get() == "503" })
	if status, body := w.send(t, w.caller(t), http.MethodPut, "kv1.vault."+domain, "/secrets/x?api-version=7.4", token, `{"value":"x"}`); status != "503" || !json.Valid([]byte(body)) {
		t.Errorf("a write without a database: status %s %s", status, body)
	}
	if err := pg.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, "200 with the database back", func() bool { return get() == "200" })
	w.cli("audit", "--verify")
}

// TestFullDisk: a plane whose disk is full refuses to write, and loses nothing.
func TestFullDisk(t *testing.T) {
	dir := newDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	w := &world{plane: &plane{t: t, dir: dir}}
	w.boot()
	t.Cleanup(func() { w.kill() })
	w.vault = w.make("vault", "kv1")
	admin, c := w.token(vaultScope, ""), w.caller(t)
	put := func(n int) string {
		status, _ := w.send(t, c, http.MethodPut, "kv1.vault."+domain, fmt.Sprintf("/secrets/d%d?api-version=7.4", n), admin,
			fmt.Sprintf(`{"value":"%d %s"}`, n, strings.Repeat("x", 20_000)))
		return status
	}
	filler := filepath.Join(dir, "filler")
	written := 0
	for ; written < 20; written++ {
		if s := put(written); s != "200" {
			t.Fatalf("with room left: status %s", s)
		}
	}
	fill(t, filler)
	refused := ""
	for n := written; n < written+2000 && refused == ""; n++ {
		if s := put(n); s != "200" {
			refused = s
		} else {
			written = n + 1
		}
	}
	if refused != "503" {
		t.Errorf("on a full disk: status %q, want 503", refused)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, "writes go on when there is room", func() bool { return put(written) == "200" })
	w.kill()
	w.boot()
	for n := range written {
		if v := w.cli("secret", "get", "kv1", fmt.Sprintf("d%d", n)); !strings.HasPrefix(v, fmt.Sprintf("%d x", n)) {
			t.Fatalf("secret %d of %d is lost", n, written)
		}
	}
	w.cli("audit", "--verify")
}

// fill writes a file until the disk has no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size >= 1<<10; size /= 2 {
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
	}
}

// TestBadInput: what strangers may send. Each gets an answer in the surface's
// own form, and the plane goes on.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	vault, arm := w.token(vaultScope, "web"), w.token(armScope, "")
	group := "/subscriptions/" + w.env.SubscriptionID + "/resourceGroups/hawser"
	const kv = "kv1.vault." + domain
	const management = "management." + domain
	for _, c := range []struct{ name, method, host, path, token, body, status, code string }{
		{"secret name with a dot", "PUT", kv, "/secrets/a.b?api-version=7.4", vault, `{"value":"x"}`, "400", "BadParameter"},
		{"no api-version", "GET", kv, "/secrets/plain", vault, "", "400", "BadParameter"},
		{"broken JSON", "PUT", kv, "/secrets/a?api-version=7.4", vault, `{"value":`, "400", "BadParameter"},
		{"JSON of another shape", "PUT", kv, "/secrets/a?api-version=7.4", vault, `[1,2]`, "400", "BadParameter"},
		{"two documents", "PUT", kv, "/secrets/a?api-version=7.4", vault, `{"value":"x"}{"value":"y"}`, "400", "BadParameter"},
		{"deep nesting", "PUT", kv, "/secrets/a?api-version=7.4", vault, strings.Repeat(`[`, 100_000), "400", "BadParameter"},
		{"a body past the limit", "PUT", kv, "/secrets/a?api-version=7.4", vault, `{"value":"` + strings.Repeat("x", 2<<20) + `"}`, "413", ""},
		{"maxresults past the limit", "GET", kv, "/secrets?api-version=7.4&maxresults=26", vault, "", "400", "BadParameter"},
		{"a page that nobody gave out", "GET", kv, "/secrets?api-version=7.4&$skiptoken=Zm9vYmFy", vault, "", "400", "BadParameter"},
		{"no such path", "GET", kv, "/nothing/here?api-version=7.4", vault, "", "404", ""},
		{"no such method", "DELETE", kv, "/secrets?api-version=7.4", vault, "", "405", ""},
		{"ARM without api-version", "GET", management, group, arm, "", "400", "MissingApiVersionParameter"},
		{"ARM with a malformed api-version", "GET", management, group + "?api-version=yesterday", arm, "", "400", ""},
		{"ARM, no such resource", "GET", management, group + "/providers/Microsoft.KeyVault/vaults/none?api-version=2023-07-01", arm, "", "404", "ResourceNotFound"},
		{"ARM, no such type", "GET", management, group + "/providers/Microsoft.Nothing/things/x?api-version=2023-07-01", arm, "", "404", ""},
		{"ARM, broken JSON", "PUT", management, group + "/providers/Microsoft.KeyVault/vaults/kvx?api-version=2023-07-01", arm, `{`, "400", ""},
		{"ARM, odd case and slashes", "GET", management, strings.ToUpper(group) + "//providers/MICROSOFT.KEYVAULT/Vaults/KV1/?api-version=2023-07-01", arm, "", "200", ""},
		{"ARM, a path that climbs", "GET", management, group + "/../../../../etc/passwd?api-version=2023-07-01", arm, "", "4", ""},
		{"token endpoint, another content type", "POST", "login." + domain, "/adfs/oauth2/token", "", `{}`, "415", "error_description"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := w.send(t, w.caller(t), c.method, c.host, c.path, c.token, c.body)
			if !strings.HasPrefix(status, c.status) || !strings.Contains(body, c.code) {
				t.Errorf("status %s, want %s with %s: %.300s", status, c.status, c.code, body)
			}
			if status != "200" && !json.Valid([]byte(body)) {
				t.Errorf("the refusal is no JSON: %.300s", body)
			}
		})
	}
	t.Run("bytes that are no protocol", func(t *testing.T) {
		for name, addr := range map[string]string{"https": "127.0.0.1:" + w.port(), "gateway": w.env.Gateways["pg"]} {
			for _, b := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, 64<<10), []byte("GET / HTTP/1.1\r\n\r\n"), {0, 0, 0, 8, 4, 210, 22, 47, 'x'}, {0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0},
				[]byte("\x00\x00\x00\x09\x00\x03\x00\x00"), {0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2}, {0x16, 3, 1, 0xff, 0xff, 1}} {
				poke(t, name, addr, b)
			}
		}
	})
	t.Run("HTTP inside TLS that is no HTTP", func(t *testing.T) {
		for _, s := range []string{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST / HTTP/1.1\r\nHost: " + kv + "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: " + kv + "\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", strings.Repeat("A", 100_000)} {
			c, err := tls.Dial("tcp", "127.0.0.1:"+w.port(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(startLimit))
			_, _ = io.WriteString(c, s)
			answer, _ := io.ReadAll(io.LimitReader(c, 64<<10))
			_ = c.Close()
			if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 5")) {
				t.Errorf("%.60q was answered with %.200q", s, answer)
			}
		}
	})
	lines(t, w.run("web", nil, ecosystems[0].program("read", "managed", w.vaultURL("kv1"), "plain")...), "get "+plainValue)
}

// poke sends bytes, reads what comes and wants the connection to end.
func poke(t *testing.T, name, addr string, b []byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("%s does not listen any more: %v", name, err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(startLimit))
	_, _ = c.Write(b)
	_ = c.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
		t.Errorf("%s kept a connection open that sent %.20q", name, b)
	}
}

// editLog turns one refusal, or else anything, into something else in the
// plane's audit log.
func editLog(t *testing.T, dir string) {
	t.Helper()
	edited := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".jsonl") || edited {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if changed := bytes.Replace(b, []byte(`"allowed"`), []byte(`"refused"`), 1); !bytes.Equal(changed, b) {
			edited = true
			return os.WriteFile(path, changed, 0o600)
		}
		return nil
	})
	if err != nil || !edited {
		t.Fatalf("there was no record to edit: %v", err)
	}
}
