package authority

import (
	"context"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

func FuzzParseForm(f *testing.F) {
	for _, s := range []string{"a=b&c=d", "a=b&a=c", "%zz", "a", "&&&", "a=%00&%00=b", "client_id=x&client_secret=%26%3D"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		form, err := parseForm(s)
		if err != nil {
			if !az.Is(err, az.Invalid) || form != nil {
				t.Fatal(err)
			}
			return
		}
		if n := strings.Count(s, "&") + 1; len(form) > n || len(form) > maxParameters {
			t.Fatalf("%d parameters in %q", len(form), s)
		}
	})
}

func FuzzVerify(f *testing.F) {
	p := onSQLite(f)
	good := p.token(f, "https://vault.azure.net/.default")
	segs := strings.Split(good, ".")
	for _, s := range []string{good, segs[0] + "." + segs[1] + ".", "a.b.c", "..", segs[0] + ".e30." + segs[2], strings.Repeat(".", 9)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		who, err := p.Verify(context.Background(), s, rest.Vault)
		if err == nil {
			// Base64 without canonical form lets a signature's last character
			// vary; what is signed cannot.
			if !strings.HasPrefix(s, segs[0]+"."+segs[1]+".") || who.ObjectID != p.admin.ID {
				t.Fatalf("%q was accepted as %+v", s, who)
			}
			return
		}
		if !az.Is(err, az.Unauthorized) {
			t.Fatal(err)
		}
	})
}

func FuzzAssertion(f *testing.F) {
	p := onSQLite(f)
	c := newCertified(f, rsaKey(f), 1<<40)
	p.addCertificate(f, c)
	for _, s := range []string{c.sign(f, "RS256", nil, p.own()), c.sign(f, "PS256", nil, p.own("aud", []string{"a", "b"})), "a.b.c", "e30.e30.", ""} {
		f.Add(s)
	}
	client, _, err := p.dir.Client(context.Background(), p.appID)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		err := p.byAssertion(context.Background(), &tokenRequest{ClientID: p.appID, Peer: "x", Assertion: az.NewSecret(s)}, client)
		if !az.Is(err, az.Unauthorized) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
