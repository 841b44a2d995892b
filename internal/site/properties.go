package site

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// properties is what a body brings and the store keeps of a site, in clear.
// Settings come in SiteConfig and move to the resource's Secrets before
// anything is stored.
type properties struct {
	State                     string      `json:"state,omitempty"`
	Enabled                   *bool       `json:"enabled,omitempty"`
	ServerFarmID              string      `json:"serverFarmId,omitempty"`
	KeyVaultReferenceIdentity string      `json:"keyVaultReferenceIdentity,omitempty"`
	HTTPSOnly                 bool        `json:"httpsOnly,omitempty"`
	ClientAffinity            *bool       `json:"clientAffinityEnabled,omitempty"`
	SiteConfig                *siteConfig `json:"siteConfig,omitempty"`
	// Restarted is when somebody asked for a restart; a body cannot set it.
	Restarted az.Micros `json:"hawserRestarted,omitempty"`
}

// siteConfig is the part of an app's configuration that clients set and read
// back. What is not here is forgotten: some of it could be a secret.
type siteConfig struct {
	LinuxFxVersion    string          `json:"linuxFxVersion,omitempty"`
	AppCommandLine    string          `json:"appCommandLine,omitempty"`
	AlwaysOn          *bool           `json:"alwaysOn,omitempty"`
	HTTP20            *bool           `json:"http20Enabled,omitempty"`
	MinTLS            string          `json:"minTlsVersion,omitempty"`
	FTPS              string          `json:"ftpsState,omitempty"`
	Workers           *int            `json:"numberOfWorkers,omitempty"`
	HealthCheck       string          `json:"healthCheckPath,omitempty"`
	AppSettings       []nameValue     `json:"appSettings,omitempty"`
	ConnectionStrings []nameTypeValue `json:"connectionStrings,omitempty"`
}

type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type nameTypeValue struct {
	Name  string `json:"name"`
	Value string `json:"connectionString"`
	Type  string `json:"type"`
}

// States of a site.
const (
	stateRunning = "Running"
	stateStopped = "Stopped"
)

// systemAssigned is the word for the system-assigned identity in
// keyVaultReferenceIdentity.
const systemAssigned = "SystemAssigned"

// maxConfigText bounds each text of siteConfig; a command line is the longest.
const maxConfigText = 4096

func (s *Sites) siteHooks() arm.Hooks[properties] {
	return arm.Hooks[properties]{
		NoState:   true,
		Check:     s.check,
		Apply:     s.apply,
		Delete:    s.remove,
		View:      s.view,
		Actions:   s.actions(),
		Documents: s.documents(),
	}
}

// check validates a site and moves its settings to where they are sealed.
func (s *Sites) check(ctx context.Context, _ *arm.Call, r, old *arm.Resource[properties]) error {
	p := &r.Properties
	p.State, p.Restarted = stateRunning, 0
	if old != nil {
		p.State, p.Restarted = old.Properties.State, old.Properties.Restarted
		if p.SiteConfig == nil {
			p.SiteConfig = old.Properties.SiteConfig
		}
	} else if !validSiteName(r.ID.Name()) {
		return az.Errorf(az.Invalid, "BadRequest", "The app's name must have 2 to 60 letters, digits and dashes, with no dash at either end: it becomes a host name.")
	}
	if r.Kind == "" {
		r.Kind = "app,linux"
	}
	if r.Location == "" {
		r.Location = arm.DefaultLocation
	}
	if err := s.checkServerFarm(ctx, p, old); err != nil {
		return err
	}
	if err := checkReferenceIdentity(r, old); err != nil {
		return err
	}
	return takeConfig(r, p.SiteConfig)
}

func (s *Sites) checkServerFarm(ctx context.Context, p *properties, old *arm.Resource[properties]) error {
	if p.ServerFarmID == "" || old != nil && strings.EqualFold(p.ServerFarmID, old.Properties.ServerFarmID) {
		return nil
	}
	id, err := az.ParseID(p.ServerFarmID)
	if err != nil || !id.IsType(PlanType) || id.IsCollection() {
		return az.Errorf(az.Invalid, "BadRequest", "The property serverFarmId must be the id of an App Service plan.")
	}
	there, err := s.plans.Load(ctx, id)
	if err != nil {
		return err
	}
	if there == nil {
		return az.Errorf(az.Invalid, "BadRequest", "Cannot find serverFarm with name %s. Create the App Service plan first, or leave serverFarmId out.", id.Name())
	}
	return nil
}

// checkReferenceIdentity admits an identity of the site. One that was admitted
// and is taken from the site later stays named, and the references say so.
func checkReferenceIdentity(r, old *arm.Resource[properties]) error {
	v := &r.Properties.KeyVaultReferenceIdentity
	if *v == "" || strings.EqualFold(*v, systemAssigned) {
		*v = systemAssigned
		return nil
	}
	id, ok := looseID(*v)
	if !ok || !id.IsType(arm.UserAssignedType) {
		return az.Errorf(az.Invalid, "BadRequest", "keyVaultReferenceIdentity must be 'SystemAssigned' or the id of a user-assigned identity.")
	}
	*v = id.String()
	if old != nil && strings.EqualFold(*v, old.Properties.KeyVaultReferenceIdentity) {
		return nil
	}
	if r.Identity.User() {
		for k := range r.Identity.UserAssigned {
			if strings.EqualFold(k, *v) {
				return nil
			}
		}
	}
	return az.Errorf(az.Invalid, "BadRequest", "The identity '%s' named by keyVaultReferenceIdentity is not assigned to the app. Assign it first.", id.Name())
}

// takeConfig moves settings out of a siteConfig into the sealed document.
func takeConfig(r *arm.Resource[properties], c *siteConfig) error {
	if c == nil {
		return nil
	}
	for _, text := range []string{c.LinuxFxVersion, c.AppCommandLine, c.MinTLS, c.FTPS, c.HealthCheck} {
		if len(text) > maxConfigText {
			return az.Errorf(az.Invalid, "BadRequest", "A value of siteConfig is longer than %d characters.", maxConfigText)
		}
	}
	if c.AppSettings == nil && c.ConnectionStrings == nil {
		return nil
	}
	kept := *c // the one given may be another resource's
	kept.AppSettings, kept.ConnectionStrings = nil, nil
	r.Properties.SiteConfig = &kept
	d, err := documentOf(r)
	if err != nil {
		return err
	}
	if c.AppSettings != nil {
		all := make(map[string]string, len(c.AppSettings))
		for _, s := range c.AppSettings {
			all[s.Name] = s.Value
		}
		d.replaceApp(all)
	}
	if c.ConnectionStrings != nil {
		all := make(map[string]ConnectionString, len(c.ConnectionStrings))
		for _, s := range c.ConnectionStrings {
			all[s.Name] = ConnectionString{s.Value, s.Type}
		}
		d.replaceConnections(all)
	}
	return putDocument(r, d)
}

// apply makes and ends the system-assigned identity, which lives and dies with
// the app, and takes the app's name, which is a host name of the plane.
func (s *Sites) apply(tx *store.Tx, r, old *arm.Resource[properties]) error {
	if old == nil {
		if err := takeName(tx, r.ID); err != nil {
			return err
		}
	}
	had := old != nil && old.Identity.System()
	switch has := r.Identity.System(); {
	case has:
		oid, _, err := s.cfg.Directory.CreateIdentity(tx, r.ID, r.ID.Name())
		if err != nil {
			return err
		}
		r.Identity.PrincipalID, r.Identity.TenantID = oid, s.cfg.Names.Tenant
	case had:
		if err := s.cfg.Directory.DeleteIdentity(tx, old.Identity.PrincipalID); err != nil {
			return err
		}
		if r.Identity != nil {
			r.Identity.PrincipalID, r.Identity.TenantID = "", ""
		}
	}
	return nil
}

// remove ends what belonged to a site.
func (s *Sites) remove(tx *store.Tx, r *arm.Resource[properties]) error {
	if r.Identity.System() {
		if err := s.cfg.Directory.DeleteIdentity(tx, r.Identity.PrincipalID); err != nil {
			return err
		}
	}
	if err := dropFront(tx, r.ID); err != nil {
		return err
	}
	return tx.DeleteMeta(nameKey(r.ID.Name()))
}

// nameKey is where the store keeps whose an app's name is.
func nameKey(name string) string { return "site/" + strings.ToLower(name) }

func takeName(tx *store.Tx, id az.ID) error {
	holder, _, err := tx.Meta(nameKey(id.Name()))
	if err != nil {
		return err
	}
	if len(holder) > 0 && string(holder) != id.Key() {
		return az.Errorf(az.Conflict, "Conflict", "Website with given name %s already exists. App names are host names, so each is there once on a plane; choose another.", id.Name())
	}
	return tx.PutMeta(nameKey(id.Name()), []byte(id.Key()))
}

// validSiteName: the name is a label of a host name.
// Source: Azure naming rules, Microsoft.Web/sites.
func validSiteName(s string) bool {
	return len(s) >= 2 && len(s) <= 60 && s[0] != '-' && s[len(s)-1] != '-' &&
		only(s, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' })
}

// settingsSecret is the name of the document among the resource's secrets.
const settingsSecret = "settings"

// documentOf reads a site's settings. r must have its Secrets.
func documentOf(r *arm.Resource[properties]) (*document, error) {
	d := &document{}
	if text, ok := r.Secrets[settingsSecret]; ok {
		if err := json.Unmarshal([]byte(text.Reveal()), d); err != nil {
			return nil, az.Errorf(az.Internal, "", "").Because(err)
		}
	}
	d.init()
	return d, nil
}

// putDocument checks a site's settings and keeps them in r.
func putDocument(r *arm.Resource[properties], d *document) error {
	if err := d.check(); err != nil {
		return err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	if r.Secrets == nil {
		r.Secrets = map[string]az.Secret{}
	}
	r.Secrets[settingsSecret] = az.NewSecret(string(text))
	return nil
}
