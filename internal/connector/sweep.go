package connector

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// pendingFor is how long a connection may be in the making: longer than any
// request lives.
const pendingFor = 2 * time.Minute

// principalRow is a role without its password.
type principalRow struct {
	ID         az.ID
	ETag       string
	Properties principalProperties
}

func readPrincipal(row store.Resource) (principalRow, error) {
	p := principalRow{ID: row.ID, ETag: row.ETag}
	var b struct {
		Properties *principalProperties `json:"properties"`
	}
	b.Properties = &p.Properties
	if err := json.Unmarshal(row.Body, &b); err != nil {
		return p, az.Errorf(az.Internal, "", "").Because(err)
	}
	return p, nil
}

// principalRows lists the roles of a server, or of all with Root.
func (c *Connector) principalRows(ctx context.Context, server az.ID) ([]principalRow, error) {
	var rows []store.Resource
	for _, f := range families {
		if !server.IsRoot() && familyOf(server) != f {
			continue
		}
		some, err := c.cfg.Store.Resources(ctx, store.ResourceQuery{Type: f.principals(), Parent: server})
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	out := make([]principalRow, 0, len(rows))
	for _, row := range rows {
		p, err := readPrincipal(row)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Sweep undoes what was begun and never finished, and drops the roles that
// nobody uses any more. It goes on with the next role when one fails.
func (c *Connector) Sweep(ctx context.Context) error { return c.sweep(ctx, true) }

// sweep is Sweep; without full only for roles that say themselves that there
// is something to do.
func (c *Connector) sweep(ctx context.Context, full bool) error {
	all, err := c.principalRows(ctx, az.Root)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		person := p.Properties.members(p.ID)
		if person {
			if err := c.sweepPerson(ctx, p); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if !person && !full && !p.Properties.unfinished() {
			continue
		}
		if err := c.sweepOne(ctx, p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unfinished reports whether something is still to be done for the role.
func (p *principalProperties) unfinished() bool {
	return p.Status != roleReady || p.Stale || p.Rotating || slices.ContainsFunc(p.Uses, func(u roleUse) bool { return u.Pending })
}

func (c *Connector) sweepOne(ctx context.Context, p principalRow) error {
	old := az.MicrosOf(c.cfg.Clock().Add(-pendingFor))
	var over []roleUse
	for _, u := range p.Properties.Uses {
		if u.Since > old || u.By.Equal(p.ID) && !u.Pending || u.membership(p.ID) {
			continue
		}
		_, there, err := c.cfg.Store.Resource(ctx, u.By)
		if err != nil {
			return err
		}
		if !there || u.Pending {
			over = append(over, u)
		}
	}
	if len(over) > 0 {
		err := c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			return c.releaseTx(tx, p.ID, func(u roleUse) bool { return slices.Contains(over, u) })
		})
		if err != nil {
			return err
		}
	}
	if f := familyOf(p.ID); f.kind == MySQL && p.Properties.IsAdmin && p.Properties.Status == roleReady && len(over) == 0 {
		// An administrator's rights are those in each database that is there.
		if err := c.Repair(ctx, p.ID.Parent(), p.Properties.RoleName); err != nil {
			return err
		}
	}
	if p.Properties.Rotating {
		if err := c.locked(ctx, p.ID, func(ctx context.Context) error { return c.rotate(ctx, p.ID) }); err != nil {
			return err
		}
	}
	return c.finish(ctx, p.ID)
}

// releaseTx takes uses from a role. From its commit on nobody gets in through
// them; finish does the rest on the server.
func (c *Connector) releaseTx(tx *store.Tx, role az.ID, drop func(roleUse) bool) error {
	p, err := c.principals.Read(tx, role)
	if err != nil || p == nil {
		return err
	}
	kept := p.Properties.without(drop)
	if len(kept) == len(p.Properties.Uses) {
		return nil
	}
	p.Properties.Uses = kept
	p.Properties.settle(role)
	return c.principals.Write(tx, p)
}

// finish brings a role on its server into line with what its resource says:
// dropped if nobody uses it, with less access if some use has ended.
func (c *Connector) finish(ctx context.Context, role az.ID) error {
	p, err := c.principals.Load(ctx, role)
	if err != nil || p == nil || p.Properties.Status != roleRemoving && !p.Properties.Stale {
		return err
	}
	return c.locked(ctx, role, func(ctx context.Context) error { return c.finishLocked(ctx, role) })
}

func (c *Connector) finishLocked(ctx context.Context, role az.ID) error {
	p, err := c.principals.Load(ctx, role)
	if err != nil || p == nil {
		return err
	}
	srv, err := c.engine(ctx, role.Parent())
	if err != nil {
		return err
	}
	switch {
	case p.Properties.Status == roleRemoving:
		if err := srv.drop(ctx, c.spec(p)); err != nil {
			return err
		}
		return c.ifUnchanged(ctx, p, func(tx *store.Tx) error {
			_, err := tx.DeleteResource(role)
			return err
		})
	case p.Properties.Stale:
		if err := c.shrink(ctx, srv, p); err != nil {
			return err
		}
		return c.ifUnchanged(ctx, p, func(tx *store.Tx) error {
			p.Properties.Stale = false
			return c.principals.Write(tx, p)
		})
	}
	return nil
}

// ifUnchanged runs fn if the role's resource is still as p; else whoever
// changed it, or the next Sweep, does what is left.
func (c *Connector) ifUnchanged(ctx context.Context, p *arm.Resource[principalProperties], fn func(*store.Tx) error) error {
	etag := p.ETag
	return c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		row, ok, err := tx.Resource(p.ID)
		if err != nil || !ok || row.ETag != etag {
			return err
		}
		p.ETag = etag
		return fn(tx)
	})
}

// shrink takes everything from a role that still has uses and gives it what
// those need.
func (c *Connector) shrink(ctx context.Context, srv engine, p *arm.Resource[principalProperties]) error {
	made, err := srv.shrink(ctx, c.spec(p))
	if err != nil {
		return err
	}
	p.Properties.Syncing = p.Properties.Syncing || made && p.Properties.members(p.ID) // finishLocked writes it
	return c.regrant(ctx, srv, p, "")
}

// RotateBackendPasswords gives every backend password that is too old a new
// one. Open sessions are not touched. Of several planes one does it.
func (c *Connector) RotateBackendPasswords(ctx context.Context) error {
	taken, err := c.cfg.Store.TakeLease(ctx, "connector/rotate", az.NewGUID(), az.MicrosOf(c.cfg.Clock().Add(fullEvery/2)))
	if err != nil || !taken {
		return err
	}
	all, err := c.principalRows(ctx, az.Root)
	if err != nil {
		return err
	}
	old := az.MicrosOf(c.cfg.Clock().Add(-c.cfg.RotateAfter))
	var errs []error
	for _, p := range all {
		if p.Properties.Status == roleReady && p.Properties.Rotated < old {
			if err := c.locked(ctx, p.ID, func(ctx context.Context) error { return c.rotate(ctx, p.ID) }); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// rotate changes one password: first the new one is kept as "next", then the
// server is told, then it becomes the password. Whatever ends it in between,
// the next rotation goes on with the same "next".
func (c *Connector) rotate(ctx context.Context, id az.ID) error {
	p, err := c.principals.Load(ctx, id)
	if err != nil || p == nil || p.Properties.Status != roleReady {
		return err
	}
	srv, err := c.engine(ctx, id.Parent())
	if err != nil {
		return err
	}
	if p.Secrets[nextSecret].IsZero() {
		p.Secrets[nextSecret], p.Properties.Rotating = passwordFor(p.Properties.RoleName), true
		if err := c.save(ctx, p); err != nil {
			return err
		}
	}
	spec := c.spec(p)
	spec.Password = p.Secrets[nextSecret]
	made, err := srv.setPassword(ctx, spec)
	if err != nil {
		return err
	}
	if made { // somebody dropped it, and with it what it may
		current := *p
		current.Secrets = map[string]az.Secret{passwordSecret: spec.Password}
		if err := c.regrant(ctx, srv, &current, ""); err != nil {
			return err
		}
	}
	p.Properties.Syncing = p.Properties.Syncing || made && p.Properties.members(p.ID)
	p.Secrets = map[string]az.Secret{passwordSecret: spec.Password}
	p.Properties.Rotated, p.Properties.Rotating = az.MicrosOf(c.cfg.Clock()), false
	if err := c.save(ctx, p); err != nil {
		return err
	}
	if e, ok := srv.(overlapping); ok {
		return e.settled(ctx, spec)
	}
	return nil
}

// save writes a role; it fails if somebody else wrote it since it was read.
func (c *Connector) save(ctx context.Context, p *arm.Resource[principalProperties]) error {
	etag := p.ETag
	return c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		p.ETag = etag
		return c.principals.Write(tx, p)
	})
}
