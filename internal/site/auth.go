package site

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// An app's authentication settings are kept as the client wrote them, sealed,
// in the form of authsettingsV2; authsettings (v1) is a view of the same.
// What they mean is for the front to know (Config.CheckAuth).

// authSecret is the name of the settings among the resource's secrets.
const authSecret = "auth"

// maxAuth bounds them in bytes.
const maxAuth = 128 << 10

var (
	actionListConfig = guard.Control(Type + "/config/list/action")
	authDocument     = "config/authsettingsV2"
)

// authDocuments are those of built-in authentication. GET of authsettingsV2
// is an exact route, since it shows less than POST …/list.
func (s *Sites) authDocuments(all map[string]siteDocument) map[string]siteDocument {
	all[authDocument] = siteDocument{Secret: true, Read: readAuth, Write: s.writeAuth}
	all["config/authsettings"] = siteDocument{Secret: true, Read: readAuthV1, Write: s.writeAuthV1}
	return all
}

// authRoutes adds what no document can be: a GET with values hidden, and the
// GET …/list that newer clients send.
func (s *Sites) authRoutes(api *arm.API) {
	api.Handle("GET", "{scope}/"+authDocument, actionReadConfig, s.showAuth(true))
	api.Handle("GET", "{scope}/"+authDocument+"/list", actionListConfig, s.showAuth(false))
}

// tree is a JSON object whose unknown members are kept.
type tree map[string]any

// authOf reads a site's authentication settings; an empty tree if it has none.
// r must have its Secrets.
func authOf(r *arm.Resource[properties]) (tree, error) {
	t := tree{}
	if text, ok := r.Secrets[authSecret]; ok {
		d := json.NewDecoder(strings.NewReader(text.Reveal()))
		d.UseNumber()
		if err := d.Decode(&t); err != nil {
			return nil, az.Errorf(az.Internal, "", "").Because(err)
		}
	}
	return t, nil
}

// putAuth checks the settings and keeps them in r.
func (s *Sites) putAuth(r *arm.Resource[properties], t tree) error {
	if s.cfg.CheckAuth == nil {
		return az.Errorf(az.Unsupported, "MethodNotAllowed", "This plane has no front that could authenticate an app's callers.")
	}
	b, err := json.Marshal(t)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	if len(b) > maxAuth {
		return badSetting("The authentication settings would be %d bytes; they may be %d.", len(b), maxAuth)
	}
	if err := s.cfg.CheckAuth(b); err != nil {
		return err
	}
	if r.Secrets == nil {
		r.Secrets = map[string]az.Secret{}
	}
	r.Secrets[authSecret] = az.NewSecret(string(b))
	return nil
}

// defaultAuth is what a site without settings shows.
func defaultAuth() tree {
	return tree{"platform": map[string]any{"enabled": false, "runtimeVersion": "~1"},
		"globalValidation": map[string]any{"requireAuthentication": false, "unauthenticatedClientAction": "AllowAnonymous"},
		"identityProviders": map[string]any{"azureActiveDirectory": map[string]any{"registration": map[string]any{},
			"validation": map[string]any{"jwtClaimChecks": map[string]any{}, "allowedAudiences": []any{}}}},
		"login":        map[string]any{"tokenStore": map[string]any{"enabled": false, "tokenRefreshExtensionHours": 72}},
		"httpSettings": map[string]any{"requireHttps": true, "routes": map[string]any{"apiPrefix": "/.auth"}, "forwardProxy": map[string]any{"convention": "NoProxy"}}}
}

func readAuth(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	t, err := authOf(r)
	if err == nil && len(t) == 0 {
		t = defaultAuth()
	}
	return t, err
}

func (s *Sites) writeAuth(_ context.Context, call *arm.Call, r *arm.Resource[properties]) error {
	var raw json.RawMessage
	if err := call.DecodeProperties(&raw); err != nil {
		return err
	}
	t := tree{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&t); err != nil {
		return badSetting("The properties of authsettingsV2 must be a JSON object.")
	}
	return s.putAuth(r, t)
}

// showAuth answers GET, with or without what could be secret. The right was
// checked by the front door.
func (s *Sites) showAuth(hide bool) func(context.Context, *arm.Call) (any, error) {
	return func(ctx context.Context, call *arm.Call) (any, error) {
		r, err := s.load(ctx, call.ID)
		if err != nil {
			return nil, err
		}
		v, err := readAuth(ctx, call, r)
		if err != nil {
			return nil, err
		}
		if hide {
			v = hidden(map[string]any(v.(tree)))
		}
		id := r.ID.Child("config", "authsettingsV2")
		return map[string]any{"id": id, "name": "authsettingsV2", "type": Type + "/config", "location": r.Location, "properties": v}, nil
	}
}

// secretName finds members that could hold a secret. The settings name other
// settings where one is needed, so there should be none, but unknown members
// are kept as they came.
var secretName = regexp.MustCompile(`(?i)(secret|password|sasurl|key)$`)

func hidden(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, inner := range x {
			if text, ok := inner.(string); ok && text != "" && secretName.MatchString(k) {
				out[k] = nil
				continue
			}
			out[k] = hidden(inner)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = hidden(x[i])
		}
		return out
	}
	return v
}

// at returns what stands at a path of members, nil if nothing does.
func (t tree) at(path string) any {
	var v any = map[string]any(t)
	for p := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func (t tree) text(path string) string {
	s, _ := t.at(path).(string)
	return s
}

func (t tree) truth(path string) bool {
	b, _ := t.at(path).(bool)
	return b
}

// set puts a value at a path of members; nil takes it away.
func (t tree) set(path string, value any) {
	m := map[string]any(t)
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		next, ok := m[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[p] = next
		}
		m = next
	}
	if last := parts[len(parts)-1]; value == nil {
		delete(m, last)
	} else {
		m[last] = value
	}
}

// The paths that the plane itself reads.
const (
	authAAD      = "identityProviders.azureActiveDirectory."
	authClient   = authAAD + "registration.clientId"
	authIssuer   = authAAD + "registration.openIdIssuer"
	authSetting  = authAAD + "registration.clientSecretSettingName"
	authEnabled  = "platform.enabled"
	authProvider = "globalValidation.redirectToProvider"
)

// authFacts are what the process of an app behind authentication sees.
func authFacts(r *arm.Resource[properties], names az.Names) ([]Variable, error) {
	t, err := authOf(r)
	if err != nil || !t.truth(authEnabled) {
		return nil, err
	}
	vars := []Variable{{"WEBSITE_AUTH_ENABLED", "True"}, {"WEBSITE_AUTH_DEFAULT_PROVIDER", "AzureActiveDirectory"}, {"WEBSITE_AUTH_AUTO_AAD", "False"}}
	issuer := t.text(authIssuer)
	if issuer == "" { // as the front takes it
		issuer = names.Origin(az.SurfaceLogin) + "/" + names.Tenant + "/v2.0"
	}
	for _, f := range [][2]string{{"WEBSITE_AUTH_CLIENT_ID", t.text(authClient)}, {"WEBSITE_AUTH_OPENID_ISSUER", issuer},
		{"WEBSITE_AUTH_LOGOUT_PATH", t.text("login.routes.logoutEndpoint")}} {
		if f[1] != "" {
			vars = append(vars, Variable{f[0], f[1]})
		}
	}
	return vars, nil
}

// FrontView is what the front in front of an app must know of it.
type FrontView struct {
	ID      az.ID
	Stopped bool
	Auth    []byte // authsettingsV2's properties; empty for none
}

// Front finds the app of a host name's label, for the plane's own needs; nil
// without an error is none.
func (s *Sites) Front(ctx context.Context, name string) (*FrontView, error) {
	if !validSiteName(name) {
		return nil, nil
	}
	holder, ok, err := s.cfg.Store.Meta(ctx, nameKey(name))
	if err != nil || !ok || len(holder) == 0 {
		return nil, err
	}
	id, err := az.ParseID(string(holder))
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	r, err := s.sites.Load(ctx, id)
	if err != nil || r == nil {
		return nil, err
	}
	v := &FrontView{ID: r.ID, Stopped: r.Properties.State == stateStopped}
	if text, ok := r.Secrets[authSecret]; ok {
		v.Auth = []byte(text.Reveal())
	}
	return v, nil
}

// Setting reads one app setting for the plane's own needs, in the app's name:
// a reference is read as the app's own identity. An unresolved one is an
// error, for its text is no value here.
func (s *Sites) Setting(ctx context.Context, site az.ID, name string) (az.Secret, error) {
	r, err := s.load(ctx, site)
	if err != nil {
		return az.Secret{}, err
	}
	d, err := documentOf(r)
	if err != nil {
		return az.Secret{}, err
	}
	only := &document{App: map[string]string{}}
	only.init()
	value, ok := d.App[name]
	if !ok {
		return az.Secret{}, nil
	}
	only.App[name] = value
	who, err := s.identities(ctx, r)
	if err != nil {
		return az.Secret{}, err
	}
	by, no := referenceIdentity(r, who)
	for _, ref := range s.resolve(ctx, r.ID, only, who, by, no) {
		if ref.Status != Resolved {
			return az.Secret{}, az.Errorf(az.Forbidden, "Misconfigured", "The app's setting '%s' refers to a secret that could not be read: %s", name, ref.Status)
		}
	}
	return az.NewSecret(only.App[name]), nil
}

// upstream notes where a process of the app listens, for hawser run.
func (s *Sites) upstream(ctx context.Context, call *arm.Call, r *arm.Resource[properties]) (any, error) {
	if s.cfg.Announce == nil {
		return nil, az.Errorf(az.Unsupported, "MethodNotAllowed", "This plane has no front that could pass requests on.")
	}
	var body json.RawMessage
	if err := call.Decode(&body); err != nil {
		return nil, err
	}
	if err := s.cfg.Announce(ctx, r.ID, body); err != nil {
		return nil, err
	}
	t, err := authOf(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"url": s.frontOrigin(r.ID), "authentication": t.truth(authEnabled)}, nil
}

// frontOrigin is where browsers find an app.
func (s *Sites) frontOrigin(id az.ID) string {
	return "https://" + s.cfg.Names.HostPort(s.cfg.Names.Of(az.SurfaceSites, id.Name()))
}

// dropFront ends sessions and processes of a site that is deleted.
func dropFront(tx *store.Tx, id az.ID) error { return tx.DeleteFront(id.Key()) }
