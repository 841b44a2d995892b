package site

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// The rights in the directory that making a registration takes, as elsewhere.
var (
	actionAddApplication = guard.Control("Hawser.Directory/applications/write")
	actionAddPrincipal   = guard.Control("Hawser.Directory/servicePrincipals/write")
	actionAddCredential  = guard.Control("Hawser.Directory/applications/credentials/write")
)

// clientActions are the words of hawser run --auth-action.
var clientActions = map[string]string{"redirect": "RedirectToLoginPage", "401": "Return401", "403": "Return403", "allow": "AllowAnonymous"}

// enableAuth switches built-in authentication on in one go, for hawser run
// --auth: it makes or finds the app's registration, its secret, and the
// settings. Asked again, it changes only what is not so.
func (s *Sites) enableAuth(ctx context.Context, call *arm.Call, r *arm.Resource[properties]) (any, error) {
	var in struct {
		Action string `json:"action"`
		Scope  string `json:"scope"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	if in.Action != "" && clientActions[in.Action] == "" {
		return nil, az.Errorf(az.Invalid, "BadRequest", "The action for who has not signed in must be redirect, 401, 403 or allow.")
	}
	if err := call.Check(ctx, actionWriteConfig, r.ID); err != nil {
		return nil, err
	}
	t, err := authOf(r)
	if err != nil {
		return nil, err
	}
	e := &enabling{s: s, id: r.ID, prefix: t.text("httpSettings.routes.apiPrefix"), action: in.Action, scope: in.Scope}
	if e.prefix == "" {
		e.prefix = "/.auth"
	}
	if err := e.prepare(ctx, call, r, t); err != nil {
		return nil, err
	}
	if err := s.cfg.Store.Write(ctx, e.write); err != nil {
		return nil, err
	}
	return map[string]any{"clientId": e.client, "created": e.app == nil, "url": s.frontOrigin(r.ID)}, nil
}

// enabling is one call of enableAuth.
type enabling struct {
	s             *Sites
	id            az.ID
	prefix        string
	action, scope string

	app       *directory.Object // the registration there is; nil: one is made
	client    string
	mayChange bool // the caller may write registrations
	principal bool // it has a service principal
	secret    bool // the app's settings have a secret that holds
}

// prepare finds out what there is and checks the rights that the rest takes.
func (e *enabling) prepare(ctx context.Context, call *arm.Call, r *arm.Resource[properties], t tree) error {
	if client := t.text(authClient); client != "" {
		c, ok, err := e.s.cfg.Directory.Client(ctx, client)
		if err != nil {
			return err
		}
		if ok && c.Application != nil {
			// Who names a registration in an app's settings need have no right to it,
			// and whoever runs this may: it must not hand a strange registration's
			// secret to the app, nor its sign-ins.
			if !e.ours(c.Application) {
				return az.Errorf(az.Conflict, "RegistrationOfAnother", "The app's authentication settings name the registration %s, which has no redirect address of this app. If it is meant to be this app's, add %s to its redirect addresses; if not, take registration.clientId out of the app's authentication settings. Then ask again.",
					c.Application.AppID, e.s.frontOrigin(e.id)+e.prefix+"/login/aad/callback")
			}
			app := *c.Application
			e.app, e.principal, e.client = &app, c.Principal != nil, app.AppID
			d, err := documentOf(r)
			if err != nil {
				return err
			}
			name := t.text(authSetting)
			if name == "" {
				name = providerSecret
			}
			text := d.App[name]
			e.secret = looksLikeReference(text) || e.s.cfg.Directory.MatchSecret(c, text) == directory.SecretRight
		}
	}
	var need []guard.Action
	if e.app == nil || e.registration(e.app) {
		need, e.mayChange = append(need, actionAddApplication), true
	}
	if !e.principal {
		need = append(need, actionAddPrincipal)
	}
	if !e.secret {
		need = append(need, actionAddCredential)
	}
	for _, a := range need {
		if err := call.Check(ctx, a, az.Root); err != nil {
			return err
		}
	}
	return nil
}

// ours reports whether somebody with a right to a registration has given it a
// redirect address of this app.
func (e *enabling) ours(o *directory.Object) bool {
	return slices.ContainsFunc(o.WebURIs, func(text string) bool {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.User != nil {
			return false
		}
		h := e.s.cfg.Names.Classify(u.Host)
		return h.Surface == az.SurfaceSites && strings.EqualFold(h.Name, e.id.Name())
	})
}

// registration brings an application to what the front needs, and reports
// whether anything was missing.
func (e *enabling) registration(o *directory.Object) (changed bool) {
	origin := e.s.frontOrigin(e.id)
	wanted := []string{origin + e.prefix + "/login/aad/callback", origin + e.prefix + "/logout/complete"}
	// Those of another port were for a plane that listened elsewhere.
	host := e.s.cfg.Names.Of(az.SurfaceSites, e.id.Name())
	uris := slices.DeleteFunc(slices.Clone(o.WebURIs), func(text string) bool {
		u, err := url.Parse(text)
		return err == nil && u.Hostname() == host && strings.HasPrefix(u.Path, e.prefix+"/") && !slices.Contains(wanted, text)
	})
	for _, w := range wanted {
		if !slices.Contains(uris, w) {
			uris = append(uris, w)
		}
	}
	if !slices.Equal(uris, o.WebURIs) {
		o.WebURIs, changed = uris, true
	}
	if name := "api://" + o.AppID; !slices.ContainsFunc(o.IdentifierURIs, func(u string) bool { return strings.EqualFold(u, name) }) {
		o.IdentifierURIs, changed = append(slices.Clone(o.IdentifierURIs), name), true
	}
	if !slices.ContainsFunc(o.Scopes, func(sc directory.Scope) bool { return sc.Value == "user_impersonation" }) {
		o.Scopes = append(slices.Clone(o.Scopes), directory.Scope{ID: az.NewGUID(), Value: "user_impersonation", Type: "User", Enabled: true,
			AdminDisplayName: "Access " + e.id.Name(), AdminDescription: "Allow the application to access " + e.id.Name() + " on behalf of the signed-in user.",
			UserDisplayName: "Access " + e.id.Name(), UserDescription: "Allow the application to access " + e.id.Name() + " on your behalf."})
		changed = true
	}
	if o.TokenVersion != 2 {
		o.TokenVersion, changed = 2, true
	}
	return changed
}

// bring is registration for an application that may have changed since prepare
// looked at it, and at the caller's rights.
func (e *enabling) bring(o *directory.Object) (bool, error) {
	if changed := e.registration(o); !changed || e.mayChange {
		return changed, nil
	}
	return false, az.Errorf(az.Conflict, "Conflict", "The app's registration was changed by another request. Ask again.")
}

// write does all of it in one transaction, which may be run again.
func (e *enabling) write(tx *store.Tx) error {
	d := e.s.cfg.Directory
	var app *directory.Object
	if e.app == nil {
		fresh := directory.Object{AppID: az.NewGUID(), Name: e.id.Name(), Facts: directory.Facts{SignInAudience: "AzureADMyOrg"}}
		e.registration(&fresh)
		made, err := d.AddApplication(tx, fresh)
		if err != nil {
			return err
		}
		app, e.client = made, made.AppID
	} else {
		known, err := d.ReviseApplication(tx, e.app.ID, e.bring)
		if err != nil {
			return err
		}
		app = known
	}
	if !e.principal {
		if _, err := d.AddServicePrincipal(tx, app.AppID); err != nil {
			return err
		}
	}
	return e.s.rewrite(tx, e.id, func(r *arm.Resource[properties]) (bool, error) {
		doc, err := documentOf(r)
		if err != nil {
			return false, err
		}
		if !e.secret {
			_, secret, err := d.AddSecret(tx, app.ID, "hawser run --auth", 0, 0)
			if err != nil {
				return false, err
			}
			doc.App[providerSecret] = secret.Reveal()
		}
		doc.App["WEBSITE_AUTH_CLIENT_ID"] = app.AppID
		if err := putDocument(r, doc); err != nil {
			return false, err
		}
		t, err := authOf(r)
		if err != nil {
			return false, err
		}
		e.settings(t, app.AppID)
		return true, e.s.putAuth(r, t)
	})
}

// settings switches authentication on; what somebody has chosen stays.
func (e *enabling) settings(t tree, client string) {
	first := t.text(authClient) == ""
	t.set(authEnabled, true)
	t.set("platform.runtimeVersion", "~1")
	if e.action != "" || first || t.text("globalValidation.unauthenticatedClientAction") == "" {
		action := clientActions[e.action]
		if action == "" {
			action = "RedirectToLoginPage"
		}
		t.set("globalValidation.unauthenticatedClientAction", action)
		t.set("globalValidation.requireAuthentication", action != "AllowAnonymous")
	}
	t.set(authProvider, "azureactivedirectory")
	t.set(authAAD+"enabled", true)
	t.set(authIssuer, e.s.cfg.Names.Origin(az.SurfaceLogin)+"/"+e.s.cfg.Names.Tenant+"/v2.0")
	t.set(authClient, client)
	if t.text(authSetting) == "" || !e.secret {
		t.set(authSetting, providerSecret)
	}
	if t.at(authAAD+"validation.allowedAudiences") == nil || first {
		t.set(authAAD+"validation.allowedAudiences", []any{"api://" + client})
	}
	if e.scope != "" {
		t.set(authAAD+"login.loginParameters", []any{"scope=" + strings.ReplaceAll(e.scope, "{clientId}", client)})
	}
	if t.at("login.tokenStore") == nil {
		t.set("login.tokenStore.enabled", true)
	}
}
