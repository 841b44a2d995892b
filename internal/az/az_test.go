package az

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestID(t *testing.T) {
	const sub = "/subscriptions/S"
	for _, c := range []struct {
		in, typ, name, parent string
		collection            bool
	}{
		{"/", "", "", "/", false},
		{sub, "Microsoft.Resources/subscriptions", "S", "/", false},
		{sub + "/resourceGroups/G", "Microsoft.Resources/resourceGroups", "G", sub, false},
		{sub + "/resourceGroups/G/providers/Microsoft.KeyVault/vaults/kv", "Microsoft.KeyVault/vaults", "kv", sub + "/resourceGroups/G", false},
		{sub + "/resourceGroups/G/providers/Microsoft.KeyVault/vaults", "Microsoft.KeyVault/vaults", "vaults", sub + "/resourceGroups/G", true},
		{sub + "/resourceGroups/G/providers/A.B/x/1/y/2", "A.B/x/y", "2", sub + "/resourceGroups/G/providers/A.B/x/1", false},
		{sub + "/resourceGroups/G/providers/A.B/x/1/y", "A.B/x/y", "y", sub + "/resourceGroups/G/providers/A.B/x/1", true},
		{sub + "/resourceGroups/G/providers/A.B/x/1/providers/C.D/z/3", "C.D/z", "3", sub + "/resourceGroups/G/providers/A.B/x/1", false},
		{"/providers/Microsoft.Authorization/roleAssignments/1", "Microsoft.Authorization/roleAssignments", "1", "/", false},
	} {
		id := MustParseID(c.in)
		got := []string{id.String(), id.Type(), id.Name(), id.Parent().String(), fmt.Sprint(id.IsCollection())}
		want := []string{c.in, c.typ, c.name, c.parent, fmt.Sprint(c.collection)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", c.in, diff)
		}
	}
}

func TestIDRefusesWhatIsNone(t *testing.T) {
	for _, s := range []string{"", "a", "subscriptions/x", "/a/../b", "/a/./b", "/a\x00b", "/a%2fb", "/a?b", "/a#b", `/a\b`, "/a\xff", "/subscription\u017f/S",
		"/providers/Microsoft.\u212aeyVault", "/resourceGroups/\u0130", "/" + strings.Repeat("a", MaxIDLength)} {
		if id, err := ParseID(s); !errors.Is(err, ErrBadID) {
			t.Errorf("%q parsed as %s", s, id)
		}
	}
}

func TestIDWithin(t *testing.T) {
	kv := MustParseID("/subscriptions/s/resourceGroups/g/providers/a.b/vaults/kv1")
	for scope, want := range map[string]bool{
		"/": true, "/subscriptions/S": true, "/subscriptions/S/resourcegroups/G": true, "/subscriptions/s/resourceGroups/g/providers/A.B/Vaults/KV1/": true,
		"/subscriptions/s/resourceGroups/g2": false, "/subscriptions/s/resourceGroups/g/providers/a.b/vaults/kv": false,
		"/subscriptions/s/resourceGroups/g/providers/a.b/vaults/kv1/secrets/x": false,
	} {
		if got := kv.Within(MustParseID(scope)); got != want {
			t.Errorf("within %s: %v", scope, got)
		}
	}
}

func TestChildIsWhatParsingGives(t *testing.T) {
	for _, base := range []string{"/", "/subscriptions/S/resourceGroups/G"} {
		id := MustParseID(base).Child("providers", "Microsoft.KeyVault", "vaults", "KV1")
		again := MustParseID(id.String())
		if id != again {
			t.Errorf("%#v is not %#v", id, again)
		}
	}
}

// A secret must not print, wherever it hides.
func TestSecretsDoNotPrint(t *testing.T) {
	s := NewSecret("hunter2")
	type inner struct{ s Secret }
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "in", inner{s}, "p", &s)
	js, err := json.Marshal(map[string]any{"s": s, "in": struct{ S Secret }{s}, "p": &s})
	if err != nil {
		t.Fatal(err)
	}
	out := []string{log.String(), string(js)}
	for _, v := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		out = append(out, fmt.Sprintf(v, s), fmt.Sprintf(v, &s), fmt.Sprintf(v, inner{s}), fmt.Sprintf(v, []Secret{s}), fmt.Sprintf(v, map[string]Secret{"a": s}))
	}
	for _, text := range out {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("it printed: %s", text)
		}
	}
	if s.Reveal() != "hunter2" || s.IsZero() || !NewSecret("").IsZero() {
		t.Error("Reveal does not give it back")
	}
}

func TestClassify(t *testing.T) {
	n := Names{Domain: "hawser.localhost", Port: "8443"}
	for in, want := range map[string]Host{
		"login.hawser.localhost:8443":      {Surface: SurfaceLogin, Suffix: "login.hawser.localhost"},
		"KV1.Vault.Hawser.Localhost":       {Surface: SurfaceVault, Name: "kv1", Suffix: "vault.hawser.localhost"},
		"kv1.vault.azure.net":              {Surface: SurfaceVault, Name: "kv1", Suffix: "vault.azure.net", Azure: true, Cloud: Public},
		"kv1.vault.azure.net.evil.com":     {},
		"evil.com":                         {},
		"a.b.vault.hawser.localhost":       {},
		"login.microsoftonline.com.":       {Surface: SurfaceLogin, Suffix: "login.microsoftonline.com", Azure: true, Cloud: Public},
		"vault.hawser.localhost":           {},
		"xlogin.hawser.localhost":          {},
		"login.microsoftonline.us:443":     {Surface: SurfaceLogin, Suffix: "login.microsoftonline.us", Azure: true, Cloud: USGov},
		"pg1.postgres.database.azure.com.": {Surface: SurfacePostgres, Name: "pg1", Suffix: "postgres.database.azure.com", Azure: true, Cloud: Public},
		"":                                 {},
	} {
		if diff := cmp.Diff(want, n.Classify(in)); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestGUIDs(t *testing.T) {
	if a, b := NewGUID(), NewGUID(); a == b || !IsGUID(a) || a[14] != '4' {
		t.Error(a, b)
	}
	if a, b := NamedGUID("a", "b"), NamedGUID("ab"); a == b || !IsGUID(a) || a != NamedGUID("a", "b") {
		t.Error(a, b)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("/subscriptions/s/resourceGroups/g/providers/a.b/c/d")
	f.Add("//a//b/")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		again, err := ParseID(id.String())
		if err != nil || again != id || !id.Within(id) || !id.Within(id.Parent()) || !id.Equal(again) {
			t.Errorf("%q became %q, then %q: %v", s, id, again, err)
		}
	})
}

func FuzzClassify(f *testing.F) {
	f.Add("kv1.vault.azure.net:443")
	f.Add(" .vAult.AZure.net")
	f.Fuzz(func(t *testing.T, s string) {
		h := Names{Domain: "hawser.localhost"}.Classify(s)
		if strings.ContainsAny(h.Name, "./ ") {
			t.Errorf("%q has the label %q", s, h.Name)
		}
	})
}
