package site

import (
	"context"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

type siteDocument = arm.Document[properties]

// documents are sites/{name}/config/… (wire/app-settings.md §1). Values are
// read by POST …/list only, for which Reader has no right.
func (s *Sites) documents() map[string]siteDocument {
	return s.authDocuments(map[string]siteDocument{
		"config/appsettings":       {Secret: true, Read: readSettings, Write: writeSettings},
		"config/connectionstrings": {Secret: true, Read: readConnections, Write: writeConnections},
		"config/slotConfigNames":   {Read: readSlotNames, Write: writeSlotNames},
		"config/web":               {Read: readWeb, Write: writeWeb},
	})
}

func readSettings(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	d, err := documentOf(r)
	if err != nil {
		return nil, err
	}
	return d.App, nil
}

func writeSettings(_ context.Context, call *arm.Call, r *arm.Resource[properties]) error {
	all := map[string]string{}
	if err := call.DecodeProperties(&all); err != nil {
		return err
	}
	d, err := documentOf(r)
	if err != nil {
		return err
	}
	d.replaceApp(all)
	return putDocument(r, d)
}

func readConnections(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	d, err := documentOf(r)
	if err != nil {
		return nil, err
	}
	return d.Connections, nil
}

func writeConnections(_ context.Context, call *arm.Call, r *arm.Resource[properties]) error {
	all := map[string]ConnectionString{}
	if err := call.DecodeProperties(&all); err != nil {
		return err
	}
	d, err := documentOf(r)
	if err != nil {
		return err
	}
	d.replaceConnections(all)
	return putDocument(r, d)
}

func readSlotNames(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	d, err := documentOf(r)
	if err != nil {
		return nil, err
	}
	return d.Slot, nil
}

func writeSlotNames(_ context.Context, call *arm.Call, r *arm.Resource[properties]) error {
	var names SlotNames
	if err := call.DecodeProperties(&names); err != nil {
		return err
	}
	d, err := documentOf(r)
	if err != nil {
		return err
	}
	d.Slot = names
	return putDocument(r, d)
}

func readWeb(_ context.Context, _ *arm.Call, r *arm.Resource[properties]) (any, error) {
	if r.Properties.SiteConfig == nil {
		return &siteConfig{}, nil
	}
	return r.Properties.SiteConfig, nil
}

// writeWeb merges: az sends the whole configuration, others only what they
// change.
func writeWeb(_ context.Context, call *arm.Call, r *arm.Resource[properties]) error {
	var c siteConfig
	if old := r.Properties.SiteConfig; old != nil {
		c = *old
		// What is decoded is written through pointers; these are not ours.
		c.AlwaysOn, c.HTTP20, c.Workers = copied(c.AlwaysOn), copied(c.HTTP20), copied(c.Workers)
	}
	if err := call.DecodeProperties(&c); err != nil {
		return err
	}
	r.Properties.SiteConfig = &c
	return takeConfig(r, &c)
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// SetSettings makes the settings that a connection of Service Connector has
// written exactly all, inside a transaction. Settings of other names stay;
// those of another connection are a Conflict. What was there under a name is
// put back when the connection goes. The caller has checked the right
// Microsoft.Web/sites/config/write.
func (s *Sites) SetSettings(tx *store.Tx, site, connection az.ID, all Settings) error {
	return s.change(tx, site, func(d *document) (bool, error) { return true, d.give(connection, all) })
}

// RemoveSettings takes away what a connection has written. It is no error if
// there is nothing, or no site.
func (s *Sites) RemoveSettings(tx *store.Tx, site, connection az.ID) error {
	err := s.change(tx, site, func(d *document) (bool, error) {
		return d.take(connection, func(string) bool { return true }), nil
	})
	if az.Is(err, az.NotFound) {
		return nil
	}
	return err
}

// SettingsOf returns what a connection has written, to validate it. The
// caller has checked the right to read values.
func (s *Sites) SettingsOf(ctx context.Context, site, connection az.ID) (Settings, error) {
	r, err := s.load(ctx, site)
	if err != nil {
		return Settings{}, err
	}
	d, err := documentOf(r)
	if err != nil {
		return Settings{}, err
	}
	return d.ownedBy(connection), nil
}

// change rewrites a site's settings inside a transaction.
func (s *Sites) change(tx *store.Tx, site az.ID, fn func(*document) (bool, error)) error {
	return s.rewrite(tx, site, func(r *arm.Resource[properties]) (bool, error) {
		d, err := documentOf(r)
		if err != nil {
			return false, err
		}
		if changed, err := fn(d); err != nil || !changed {
			return false, err
		}
		return true, putDocument(r, d)
	})
}

// rewrite changes a stored site inside a transaction, without rights.
func (s *Sites) rewrite(tx *store.Tx, site az.ID, fn func(*arm.Resource[properties]) (bool, error)) error {
	r, err := s.sites.Read(tx, site)
	if err != nil {
		return err
	}
	if r == nil {
		return az.Errorf(az.NotFound, "ResourceNotFound", "The app '%s' was not found. Create it, or check its name and resource group.", site.Name())
	}
	if changed, err := fn(r); err != nil || !changed {
		return err
	}
	return s.sites.Write(tx, r)
}
