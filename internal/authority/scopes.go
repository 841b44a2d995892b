package authority

import (
	"context"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
)

// maxScopes bounds the scopes of one request; Graph has about 600, a request
// of a real client names below 30.
const maxScopes = 100

// graphResource is the resource of scopes that name none.
// Source: Entra, "Scopes and permissions".
const graphResource = "https://graph.microsoft.com"

// ask is what a request of a person's client wants, parsed: scopes of one
// resource, and OpenID Connect's own.
type ask struct {
	Resource string   // as the client named it; Graph if it named none
	Prefix   string   // what stood before the scopes' values, for the reply
	Names    []string // scopes of the resource
	Default  bool     // all that was consented to
	Words    []string // of openid, profile, email, offline_access
	Text     []string // all, as the client wrote them
}

func (k *ask) has(word string) bool { return slices.Contains(k.Words, word) }

var openIDWords = []string{"openid", "profile", "email", "offline_access"}

// parseAsk reads a scope parameter, or a resource of the v1 endpoint, which
// means all that was consented to.
func (a *Authority) parseAsk(scope, resource string, v1 bool) (*ask, error) {
	k := &ask{}
	words := strings.Fields(scope)
	if len(words) > maxScopes {
		return nil, badScope("it names more than %d scopes", maxScopes)
	}
	for _, s := range words {
		if !isScopeToken(s) {
			return nil, badScope("it holds characters that a scope cannot have")
		}
		if low := strings.ToLower(s); slices.Contains(openIDWords, low) {
			k.Words, k.Text = append(k.Words, low), append(k.Text, s)
		} else if resource == "" {
			if err := a.addScope(k, s); err != nil {
				return nil, err
			}
		}
	}
	if resource != "" {
		k.Resource, k.Default = resource, true
	}
	if k.Resource == "" {
		k.Resource, k.Default = graphResource, v1 && len(words) == 0
	}
	if v1 && !k.has("openid") { // v1 endpoints always speak OpenID Connect
		k.Words = append(k.Words, "openid", "profile", "offline_access")
	}
	return k, nil
}

// addScope takes one scope that names its resource, or is Graph's.
func (a *Authority) addScope(k *ask, s string) error {
	resource, name := graphResource, s
	if i := strings.LastIndexByte(s, '/'); i > 0 {
		resource, name = s[:i], s[i+1:]
		k.Prefix = s[:i+1]
	}
	if name == "" {
		return badScope("'%s' names no scope of its resource", printable(s))
	}
	if k.Resource != "" && !a.sameResource(k.Resource, resource) {
		return badScope("it contains more than one resource; ask for one token after the other")
	}
	k.Text = append(k.Text, s)
	if k.Resource == "" {
		k.Resource = resource
	}
	if name == ".default" {
		k.Default = true
	} else {
		k.Names = append(k.Names, name)
	}
	return nil
}

func (a *Authority) sameResource(x, y string) bool {
	if strings.EqualFold(strings.TrimSuffix(x, "/"), strings.TrimSuffix(y, "/")) {
		return true
	}
	class := a.resources.class(x)
	return class == rest.Graph && class == a.resources.class(y)
}

func badScope(format string, args ...any) error {
	e := oauthError(az.Invalid, "invalid_scope", 70011, format, args...)
	e.Message = "The provided value for the input parameter 'scope' is not valid: " + e.Message + "."
	return e
}

// isScopeToken admits RFC 6749 §3.3 scope-tokens.
func isScopeToken(s string) bool {
	return len(s) <= maxResource && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// familyScopes are what the platform's own clients may do at Graph without
// asking; each still only as far as the person may. Source: the tokens of az.
var familyScopes = []string{"openid", "profile", "email", "offline_access", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All",
	"DelegatedPermissionGrant.ReadWrite.All", "Directory.AccessAsUser.All", "Group.ReadWrite.All", "User.Read.All", "User.ReadWrite.All"}

// impersonation is the scope of the platform's resources.
const impersonation = "user_impersonation"

// impliedWords come with any consent: an administrator who grants User.Read for
// everybody has everybody signed in without a further question, as at Entra.
var impliedWords = []string{"openid", "profile", "offline_access"}

// allowed lists the scopes of a resource that a client may use for a person:
// what was consented to, and what needs no consent. Scopes that the resource
// no longer offers don't count.
func (a *Authority) allowed(ctx context.Context, c *directory.Client, user string, t target) ([]string, error) {
	if t.SP == nil {
		if c.Principal.FirstParty {
			return []string{impersonation}, nil
		}
		return nil, nil
	}
	have := a.unasked(c, t)
	grants, err := a.dir.Grants(ctx, c.Principal.ID, user)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		if g.Resource == t.SP.ID {
			have = append(have, g.Scopes...)
		}
	}
	if t.Audience == rest.Graph && len(grants) > 0 {
		have = append(have, impliedWords...)
	}
	var out []string
	for _, s := range t.facts().Scopes {
		if s.Enabled && slices.Contains(have, s.Value) && !slices.Contains(out, s.Value) {
			out = append(out, s.Value)
		}
	}
	return out, nil
}

// unasked lists the scopes that a client has without anybody's consent.
func (a *Authority) unasked(c *directory.Client, t target) (out []string) {
	if c.Principal.FirstParty && t.SP.FirstParty {
		if t.Audience == rest.Graph {
			return slices.Clone(familyScopes)
		}
		return []string{impersonation}
	}
	f := t.facts()
	for _, p := range f.Preauthorized {
		if !strings.EqualFold(p.AppID, c.AppID) {
			continue
		}
		for _, s := range f.Scopes {
			if slices.ContainsFunc(p.Scopes, func(id string) bool { return strings.EqualFold(id, s.ID) }) {
				out = append(out, s.Value)
			}
		}
	}
	return out
}

// need is consent that is missing: scopes of one resource for one client.
type need struct {
	Client   string // service principal
	Resource string // service principal
	Scopes   []directory.Scope
}

// need finds what is missing before a request may be served. With all, what
// was consented to before is asked for again.
func (a *Authority) need(ctx context.Context, c *directory.Client, user string, k *ask, t target, all bool) ([]need, error) {
	if err := a.offers(t, k); err != nil {
		return nil, err
	}
	out, err := a.missing(ctx, nil, c, user, t, k.Names, all)
	if err != nil || !k.Default {
		return out, err
	}
	return a.needDefault(ctx, out, c, user, t, all)
}

// needWords adds what is missing of OpenID Connect's own scopes, which are
// Graph's.
func (a *Authority) needWords(ctx context.Context, out []need, c *directory.Client, user string, k *ask, all bool) ([]need, error) {
	if c.Principal.FirstParty || len(k.Words) == 0 {
		return out, nil
	}
	graph, err := a.target(ctx, graphResource)
	if err != nil {
		return nil, err
	}
	return a.missing(ctx, out, c, user, graph, k.Words, all)
}

// words are those of OpenID Connect's scopes that a client asked for and has.
func (a *Authority) words(ctx context.Context, c *directory.Client, user string, k *ask) ([]string, error) {
	if c.Principal.FirstParty || len(k.Words) == 0 {
		return k.Words, nil
	}
	graph, err := a.target(ctx, graphResource)
	if err != nil {
		return nil, err
	}
	have, err := a.allowed(ctx, c, user, graph)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(k.Words), func(w string) bool { return !slices.Contains(have, w) }), nil
}

// offers refuses scopes that the resource does not have.
func (a *Authority) offers(t target, k *ask) error {
	for _, n := range k.Names {
		known := slices.ContainsFunc(t.facts().Scopes, func(s directory.Scope) bool { return s.Enabled && strings.EqualFold(s.Value, n) })
		if !known && (t.SP != nil || n != impersonation) {
			return oauthError(az.Invalid, "invalid_scope", 650053, "The application asked for scope '%s' that doesn't exist on the resource '%s'. Contact the app vendor.", printable(n), printable(t.Aud))
		}
	}
	return nil
}

// missing adds those of the names that are not allowed yet.
func (a *Authority) missing(ctx context.Context, out []need, c *directory.Client, user string, t target, names []string, all bool) ([]need, error) {
	have, err := a.allowed(ctx, c, user, t)
	if err != nil {
		return nil, err
	}
	for _, s := range t.facts().Scopes {
		asked := slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, s.Value) })
		if s.Enabled && asked && (all || !slices.Contains(have, s.Value)) {
			out = addNeed(out, c.Principal.ID, t.SP.ID, s)
		}
	}
	return out, nil
}

func addNeed(out []need, client, resource string, s directory.Scope) []need {
	for i := range out {
		if n := &out[i]; n.Client == client && n.Resource == resource {
			if !slices.ContainsFunc(n.Scopes, func(x directory.Scope) bool { return x.Value == s.Value }) {
				n.Scopes = append(n.Scopes, s)
			}
			return out
		}
	}
	return append(out, need{client, resource, []directory.Scope{s}})
}

// needDefault is what /.default means: all that was consented to for the
// resource; where that is nothing, all that the client registered that it
// needs. A client that the resource knows brings the resource's own needs
// along, so that it can go on on behalf of the person.
func (a *Authority) needDefault(ctx context.Context, out []need, c *directory.Client, user string, t target, all bool) ([]need, error) {
	have, err := a.allowed(ctx, c, user, t)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(have, notWord) || all {
		if out, err = a.registeredNeeds(ctx, out, c, user, all); err != nil {
			return nil, err
		}
		if t.App != nil && t.App.AppID == c.AppID && !slices.ContainsFunc(have, notWord) {
			for _, s := range t.App.Scopes { // its own interface
				if s.Enabled && s.Type != "Admin" {
					out = addNeed(out, c.Principal.ID, t.SP.ID, s)
				}
			}
		}
		found := t.SP != nil && slices.ContainsFunc(out, func(n need) bool { return n.Resource == t.SP.ID })
		if len(have) == 0 && !found {
			return nil, notListed(c, t)
		}
	}
	if t.App == nil || !slices.ContainsFunc(t.App.Known, func(id string) bool { return strings.EqualFold(id, c.AppID) }) {
		return out, nil
	}
	middle, ok, err := a.dir.Client(ctx, t.App.AppID)
	if err != nil || !ok || middle.Principal == nil {
		return out, err
	}
	return a.registeredNeeds(ctx, out, middle, user, all)
}

func notListed(c *directory.Client, t target) error {
	return oauthError(az.Invalid, "invalid_resource", 650057,
		"Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration. Client app ID: %s. Resource value from request: %s.",
		c.AppID, printable(t.Aud))
}

// notWord tells a resource's own scopes from OpenID Connect's, which Graph has.
func notWord(s string) bool { return !slices.Contains(openIDWords, s) }

// registeredNeeds adds what a client's registration says that it needs.
func (a *Authority) registeredNeeds(ctx context.Context, out []need, c *directory.Client, user string, all bool) ([]need, error) {
	for _, r := range c.Facts().Required {
		t, err := a.target(ctx, strings.ToLower(r.Resource))
		if az.Is(err, az.Invalid) || t.SP == nil && err == nil {
			continue // not in this tenant
		}
		if err != nil {
			return nil, err
		}
		var names []string
		for _, s := range t.facts().Scopes {
			if slices.ContainsFunc(r.Access, func(x directory.RequiredRole) bool { return x.Type == "Scope" && strings.EqualFold(x.ID, s.ID) }) {
				names = append(names, s.Value)
			}
		}
		if out, err = a.missing(ctx, out, c, user, t, names, all); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// permit is the step that no person's token passes without: it says which
// scopes the token has, or what consent is missing.
func (a *Authority) permit(ctx context.Context, g *grant, k *ask) error {
	needs, err := a.need(ctx, g.Client, g.Person.ID, k, g.Target, false)
	if err != nil {
		return err
	}
	if len(needs) > 0 {
		return consentMissing(g.Client)
	}
	have, err := a.allowed(ctx, g.Client, g.Person.ID, g.Target)
	if err != nil {
		return err
	}
	g.Scopes = slices.DeleteFunc(have, func(s string) bool { return s == "offline_access" })
	if len(g.Scopes) == 0 {
		return consentMissing(g.Client)
	}
	g.Words, err = a.words(ctx, g.Client, g.Person.ID, k)
	return err
}

func consentMissing(c *directory.Client) error {
	e := oauthError(az.Invalid, "invalid_grant", 65001,
		"The user or administrator has not consented to use the application with ID '%s' named '%s'. Send an interactive authorization request for this user and resource.",
		c.AppID, printable(c.Principal.Name))
	e.Inner = "consent_required"
	return e
}

// assigned refuses people whom an application that wants assignment was not
// assigned to, and returns their roles in it.
func (a *Authority) assigned(ctx context.Context, who *directory.Object, groups []string, sp *directory.Object) ([]string, error) {
	if sp == nil {
		return nil, nil
	}
	roles, is, err := a.dir.AppRoles(ctx, sp.ID, append([]string{who.ID}, groups...))
	if err != nil {
		return nil, err
	}
	if !sp.Assigned || is {
		return roles, nil
	}
	if who.Kind == az.User {
		return nil, oauthError(az.Invalid, "invalid_grant", 50105,
			"Your administrator has configured the application %s ('%s') to block users unless they are specifically granted ('assigned') access to the application. The signed-in user '%s' is blocked because they are not a direct member of a group with access, nor had access directly assigned by an administrator.",
			printable(sp.Name), sp.AppID, printable(who.UPN))
	}
	return nil, oauthError(az.Invalid, "invalid_grant", 501051, "Application '%s'(%s) is not assigned to a role for the application '%s'(%s).",
		who.AppID, printable(who.Name), sp.AppID, printable(sp.Name))
}

// granted is the reply's scope: what was asked for, in the client's own words,
// by which MSALs find the token again, and all else that the token has.
func (k *ask) granted(g *grant) string {
	out := slices.DeleteFunc(slices.Clone(k.Text), func(s string) bool {
		low := strings.ToLower(s)
		return slices.Contains(openIDWords, low) && !slices.Contains(g.Words, low)
	})
	for _, s := range g.Scopes {
		if notWord(s) {
			s = k.Prefix + s
		}
		if !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, s) }) {
			out = append(out, s)
		}
	}
	for _, w := range g.Words {
		if w != "offline_access" && !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, w) }) {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}
