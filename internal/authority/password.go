package authority

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

// passwordGrant is for clients that ask for the password themselves. It is off
// unless the plane's configuration turns it on. Source: RFC 9700 §2.4.
func (a *Authority) passwordGrant(ctx context.Context, t *tokenRequest, g *grant) (*evidence, error) {
	if !a.cfg.Password || a.signin == nil {
		return nil, oauthError(az.Invalid, "unsupported_grant_type", 70003,
			"The app requested an unsupported grant type 'password': this tenant does not let apps ask for passwords. Sign in with a browser or a device code.")
	}
	if t.Username == "" || t.Password.IsZero() {
		return nil, missing("username' and 'password")
	}
	public := g.Client.Facts().PublicClient
	if g.Proof == unproven && !public {
		return nil, noProof()
	}
	at := az.MicrosOf(a.clock())
	oid, factor, err := a.signin.Password(ctx, t.Username, t.Password, t.Peer)
	if err != nil {
		return nil, passwordError(err)
	}
	by := signed{User: oid, At: at, AMR: []string{"pwd"}, Peer: t.Peer}
	if factor {
		return nil, a.tooWeak("")
	}
	return &evidence{By: by, Public: public, settle: func(ctx context.Context, g *grant, offline bool) (string, error) {
		if !offline {
			return "", nil
		}
		return a.beginFamily(ctx, g, familyFacts{By: by, Scope: t.Scope, Resource: t.Resource, Public: g.Proof == unproven}, false)
	}}, nil
}

// passwordError gives signin's refusals the numbers that clients know.
func passwordError(err error) error {
	e := asAZ(err)
	if e == nil || e.Kind == az.Internal || e.Kind == az.Unavailable {
		return err
	}
	switch {
	case e.Kind == az.TooMany:
		return badGrant(50053, "The account is locked, you've tried to sign in too many times with an incorrect user ID or password. Wait, then try again.")
	case e.Code == "PasswordExpired":
		out := badGrant(50055, "The password is expired.")
		out.Inner = "user_password_expired"
		return out
	case e.Code == "AccountDisabled":
		return badGrant(50057, "The user account is disabled.")
	}
	return badGrant(50126, "Error validating credentials due to invalid username or password.")
}

// realm says how an account signs in. It is the same for every name, so that
// nobody learns who exists. Source: wire/entra.md §4.
type realm struct {
	Ver       string `json:"ver"`
	Type      string `json:"account_type"`
	Domain    string `json:"domain_name"`
	CloudName string `json:"cloud_instance_name"`
	Audience  string `json:"cloud_audience_urn"`
}

func (a *Authority) userRealm(_ context.Context, r *rest.Request) (any, error) {
	name := r.PathValue("name")
	_, domain, ok := strings.Cut(name, "@")
	if !ok || !tenantForm(domain) {
		domain = a.names.Domain
	}
	return realm{"1.0", "Managed", domain, "microsoftonline.com", "urn:federation:MicrosoftOnline"}, nil
}
