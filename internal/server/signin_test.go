package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What docs/operate.md says of people's settings is what a file may hold.
func TestSignInSettings(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	file := filepath.Join(dir, "hawser.toml")
	const text = "[sign-in]\nmfa = \"required\"\npassword-grant = true\n[sign-in.provider]\nissuer = \"https://id.example.com\"\nclient-id = \"hawser\"\n" +
		"client-secret-file = \"SECRET\"\ndomains = [\"example.com\"]\ncreate = true\ngroups-claim = \"groups\"\n[sign-in.provider.groups]\n\"engineering\" = \"engineers\"\n"
	read := func(text string) (*Server, error) {
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "SECRET", secret)), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &Server{keys: &keyring{}}
		return s, ReadConfig(file, &s.cfg)
	}
	s, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.signInConfig(); err == nil {
		t.Error("a provider without its secret is taken")
	}
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := s.signInConfig()
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Provider
	if !s.cfg.SignIn.PasswordGrant || cfg.Policy.MFA != "required" || p.Issuer != "https://id.example.com" || p.ClientSecret.Reveal() != "s3cret" ||
		!p.Create || p.TrustNames || p.Only || p.Groups["engineering"] != "engineers" || len(p.Domains) != 1 {
		t.Errorf("read %+v %+v", s.cfg.SignIn, p)
	}
	if _, err := read(text + "[sign-in.povider]\nx = 1\n"); err == nil {
		t.Error("a misspelt setting is taken")
	}
	if s, err = read(""); err != nil {
		t.Fatal(err)
	}
	if cfg, err := s.signInConfig(); err != nil || cfg.Provider != nil || s.cfg.SignIn.PasswordGrant {
		t.Errorf("without settings: %+v %v", cfg.Provider, err)
	}
}
