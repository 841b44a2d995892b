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

func FuzzParseAuthorize(f *testing.F) {
	for _, s := range []string{"client_id=a&redirect_uri=https%3A%2F%2Fx&scope=openid&state=%26", "a=b&a=c", "max_age=-1", "max_age=99999999999", "prompt=none+login&ticket=x",
		"request=x", "claims=%7B%22access_token%22%3A%7B%22acrs%22%3A%7B%22value%22%3A%22c1%22%7D%7D%7D", "%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := parseAuthorize("/t/oauth2/v2.0/authorize", s)
		if err != nil {
			if !az.Is(err, az.Invalid) || q != nil {
				t.Fatal(err)
			}
			return
		}
		// Its own address leads to the same request, and nowhere else.
		path, query, ok := strings.Cut(q.Ret, "?")
		if !ok || path != "/t/oauth2/v2.0/authorize" || strings.ContainsFunc(q.Ret, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q", q.Ret)
		}
		again, err := parseAuthorize(path, query)
		if err != nil && len(query) <= maxAuthorize {
			t.Fatal(err)
		}
		if err == nil && (again.Ret != q.Ret || again.State != q.State || again.RedirectURI != q.RedirectURI || again.Ticket != "") {
			t.Fatalf("%+v\n%+v", q, again)
		}
		_, _ = parseClaims(q.Claims)
		_ = q.check(spaRedirect)
	})
}

func FuzzRefreshToken(f *testing.F) {
	p := onSQLite(f)
	id := az.NewGUID()
	good := p.refreshText(id, 7)
	for _, s := range []string{good, "1.", "1.AAAA", strings.ToLower(good), good + "A", "0." + good[2:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, n, ok := p.readRefresh(s); ok && (s != good || got != id || n != 7) {
			t.Fatalf("%q was taken for %s %d", s, got, n)
		}
	})
}

func FuzzParseAsk(f *testing.F) {
	p := onSQLite(f)
	for _, s := range []string{"openid", "https://management.core.windows.net//.default", "User.Read api://x/y", "a/", "/", "https://graph.microsoft.com/User.Read User.Read"} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, s, resource string) {
		k, err := p.parseAsk(s, resource, resource != "")
		if err == nil && (k.Resource == "" || len(k.Names) > maxScopes) {
			t.Fatalf("%q: %+v", s, k)
		}
	})
}
