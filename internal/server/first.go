package server

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// defaultGroup is the resource group that commands use when none is named.
const defaultGroup = "hawser"

// loadTenant returns what the first start made, or decides it now. The objects
// behind it are made by firstStart.
func (s *Server) loadTenant(ctx context.Context) (tenant, error) {
	t, _, err := metaOnce(ctx, s.store, metaTenant, func() (tenant, error) {
		return tenant{TenantID: az.NewGUID(), SubscriptionID: az.NewGUID(), Domain: s.cfg.Domain,
			AdminClientID: az.NewGUID(), UserName: "admin@" + s.cfg.Domain}, checkDomain(s.cfg.Domain)
	})
	if err != nil {
		return t, err
	}
	if t.Domain != s.cfg.Domain {
		return t, fmt.Errorf("this store belongs to the domain %s, not %s: start the plane with --domain %s", t.Domain, s.cfg.Domain, t.Domain)
	}
	return t, nil
}

// firstStart makes the administrator, the first person and the default
// resource group, in one transaction, unless they are there.
func (s *Server) firstStart(ctx context.Context) error {
	if s.tenant.AdminObjectID == "" {
		password := newPassword()
		hash := directory.HashPassword(az.NewSecret(password))
		err := s.store.Write(ctx, func(tx *store.Tx) error { return s.makeFirst(tx, password, hash) })
		if err != nil {
			return err
		}
	}
	if err := s.parts.directory.Start(ctx); err != nil {
		return err
	}
	return s.parts.arm.EnsureGroup(ctx, defaultGroup)
}

// makeFirst runs inside the transaction; another plane may have been faster.
func (s *Server) makeFirst(tx *store.Tx, password, hash string) error {
	b, _, err := tx.Meta(metaTenant)
	if err != nil {
		return err
	}
	var t tenant
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	if t.AdminObjectID != "" {
		s.tenant = t
		return nil
	}
	d := s.parts.directory
	app, err := d.AddApplication(tx, directory.Object{AppID: t.AdminClientID, Name: "Hawser administrator"})
	if err != nil {
		return err
	}
	sp, err := d.AddServicePrincipal(tx, t.AdminClientID)
	if err != nil {
		return err
	}
	_, secret, err := d.AddSecret(tx, app.ID, "first start", 0, az.MicrosOf(s.cfg.Clock().AddDate(100, 0, 0)))
	if err != nil {
		return err
	}
	user, err := d.AddUser(tx, directory.Object{Name: "Administrator", UPN: t.UserName, Enabled: true}, hash)
	if err != nil {
		return err
	}
	t.AdminObjectID, t.UserObjectID = sp.ID, user.ID
	if t.AdminSecret, err = s.keys.sealer.Seal(tenantPlace("adminSecret"), []byte(secret.Reveal())); err != nil {
		return err
	}
	if t.UserPassword, err = s.keys.sealer.Seal(tenantPlace("userPassword"), []byte(password)); err != nil {
		return err
	}
	for _, who := range []struct {
		oid  string
		kind az.PrincipalKind
	}{{sp.ID, az.ServicePrincipal}, {user.ID, az.User}} {
		for _, role := range []string{guard.RoleOwner, guard.RoleKeyVaultAdmin, guard.RolePostgresLogin} {
			if _, _, err := s.parts.arm.AssignRole(tx, az.Root, who.oid, who.kind, role, sp.ID); err != nil {
				return err
			}
		}
	}
	if b, err = json.Marshal(t); err != nil {
		return err
	}
	s.tenant = t
	return tx.PutMeta(metaTenant, b)
}

// newPassword is 160 random bits in letters and digits.
func newPassword() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// findAdmin knows who stands behind the local socket.
func (s *Server) findAdmin(ctx context.Context) error {
	o, ok, err := s.parts.directory.Get(ctx, s.tenant.AdminObjectID)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the administrator of this store was deleted; restore a backup")
	}
	s.admin = az.Principal{ObjectID: o.ID, AppID: o.AppID, TenantID: s.names.Tenant, Kind: az.ServicePrincipal, Name: o.Name}
	return nil
}
