package vault

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/az"
)

// FuzzUnpack: no text that was not packed for the purpose opens.
func FuzzUnpack(f *testing.F) {
	r := sqliteRig(f)
	good := r.pack("skiptoken/7/secrets/false", []byte("s1"))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("")
	f.Add("====")
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := r.unpack("skiptoken/7/secrets/false", text)
		if err == nil && (text != good || string(plain) != "s1") {
			t.Errorf("%q opened as %q", text, plain)
		}
		if _, err := r.unpack("skiptoken/8/secrets/false", text); err == nil {
			t.Errorf("%q opened for another vault", text)
		}
	})
}

// FuzzRestore: whatever stands in a blob that opens is checked like a request.
func FuzzRestore(f *testing.F) {
	r := sqliteRig(f)
	f.Add([]byte(`{"name":"s1","versions":[{"version":"00000000000000000000000000000000","value":"dg==","enabled":true}]}`))
	f.Add([]byte(`{"name":"../x","versions":[]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		blob, err := r.openBackup(r.pack(r.backupPurpose(), plain))
		if err != nil {
			if !az.Is(err, az.Invalid) {
				t.Errorf("%v", err)
			}
			return
		}
		if !validName(blob.Name) || len(blob.Versions) == 0 {
			t.Errorf("accepted %q", plain)
		}
	})
}

// FuzzRequest: no path, query or host makes the surface panic, answer without
// JSON, or give the secret to who may not have it.
func FuzzRequest(f *testing.F) {
	r := sqliteRig(f)
	r.set("s1", "the-value")
	f.Add("/secrets/s1/", "api-version=7.4", kvHost)
	f.Add("//secrets//s1", "api%2Dversion=1", "KV1.vault.hawser.test.")
	f.Add("/secrets/s1/versions", "api-version=1&maxresults=-1&$skiptoken=%zz", "kv1.vault.azure.net")
	f.Add("/secrets/%2e%2e/x", "api-version", "kv1.vault.hawser.test:99999999")
	f.Fuzz(func(t *testing.T, path, query, host string) {
		for _, oid := range []string{reader, user} {
			req := httptest.NewRequest("GET", "https://x/", nil)
			req.URL = &url.URL{Path: path, RawQuery: query}
			req.Host = host
			req.Header.Set("Authorization", "Bearer "+oid)
			w := httptest.NewRecorder()
			r.h.ServeHTTP(w, req)
			if w.Body.Len() > 0 && w.Header().Get("Content-Type") != "" && !json.Valid(w.Body.Bytes()) && w.Code != 301 && w.Code != 307 {
				t.Errorf("%d: %q", w.Code, w.Body)
			}
			if w.Code >= 500 {
				t.Errorf("%d: %q", w.Code, w.Body)
			}
			if oid == reader && strings.Contains(w.Body.String(), "the-value") {
				t.Errorf("a reader got the value by %q", path)
			}
		}
	})
}

// FuzzAppendString: what is written by hand is what encoding/json reads.
func FuzzAppendString(f *testing.F) {
	f.Add("plain")
	f.Add("\"\\\n\x00\x7f\u2028\U0001f600\xff")
	f.Fuzz(func(t *testing.T, s string) {
		want, _ := json.Marshal(s)
		var got, ref string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(want, &ref)
		if got != ref {
			t.Errorf("%q became %q", s, got)
		}
		if err := json.Unmarshal(appendString(nil, []byte(s)), &got); err != nil || got != ref {
			t.Errorf("%q became %q: %v", s, got, err)
		}
	})
}

// FuzzLoneSurrogate: a body that passes is decoded without a replacement.
func FuzzLoneSurrogate(f *testing.F) {
	f.Add(`\ud83d\ude00`)
	f.Add(`\\ud83d`)
	f.Add(`\ud83d\`)
	f.Fuzz(func(t *testing.T, inner string) {
		body := []byte(`"` + inner + `"`)
		var s string
		lone := loneSurrogate(body)
		if !utf8.Valid(body) || json.Unmarshal(body, &s) != nil {
			return
		}
		literal := strings.Contains(inner, "\ufffd") || strings.Contains(strings.ToLower(inner), `\ufffd`)
		if got := strings.Contains(s, "\ufffd"); !literal && got != lone {
			t.Errorf("%q: replaced is %v, found is %v", inner, got, lone)
		}
	})
}
