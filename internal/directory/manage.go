package directory

import (
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// The rights to change the directory, at the root scope: whoever owns the
// tenant has them all. To read it, see reading.
var (
	actionRead         = guard.Control("Hawser.Directory/objects/read")
	actionApplications = guard.Control("Hawser.Directory/applications/write")
	actionPrincipals   = guard.Control("Hawser.Directory/servicePrincipals/write")
	actionUsers        = guard.Control("Hawser.Directory/users/write")
	actionGroups       = guard.Control("Hawser.Directory/groups/write")
	actionMembers      = guard.Control("Hawser.Directory/groups/members/write")
	actionCredentials  = guard.Control("Hawser.Directory/applications/credentials/write")
	actionDelete       = map[az.PrincipalKind]guard.Action{
		Application:         guard.Control("Hawser.Directory/applications/delete"),
		az.ServicePrincipal: guard.Control("Hawser.Directory/servicePrincipals/delete"),
		az.User:             guard.Control("Hawser.Directory/users/delete"),
		az.Group:            guard.Control("Hawser.Directory/groups/delete"),
	}
	actionWrite = map[az.PrincipalKind]guard.Action{Application: actionApplications, az.ServicePrincipal: actionPrincipals,
		az.User: actionUsers, az.Group: actionGroups}
)

// change checks the caller's right and runs fn in a transaction.
func (d *Directory) change(ctx context.Context, caller az.Principal, a guard.Action, fn func(*store.Tx) error) error {
	if err := d.cfg.Guard.Check(ctx, caller, a, az.Root); err != nil {
		return err
	}
	return d.store.Write(ctx, fn)
}

// CreateApplication registers an application for a caller.
func (d *Directory) CreateApplication(ctx context.Context, caller az.Principal, o Object) (made *Object, err error) {
	err = d.change(ctx, caller, actionApplications, func(tx *store.Tx) error {
		made, err = d.AddApplication(tx, o)
		return err
	})
	return made, err
}

// CreateServicePrincipal gives an application its principal for a caller.
func (d *Directory) CreateServicePrincipal(ctx context.Context, caller az.Principal, appID string) (made *Object, err error) {
	err = d.change(ctx, caller, actionPrincipals, func(tx *store.Tx) error {
		made, err = d.AddServicePrincipal(tx, appID)
		return err
	})
	return made, err
}

// CreateUser adds a person for a caller.
func (d *Directory) CreateUser(ctx context.Context, caller az.Principal, o Object, password az.Secret) (made *Object, err error) {
	if err := d.cfg.Guard.Check(ctx, caller, actionUsers, az.Root); err != nil {
		return nil, err
	}
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	hash := HashPassword(password)
	err = d.store.Write(ctx, func(tx *store.Tx) error {
		made, err = d.AddUser(tx, o, hash)
		return err
	})
	return made, err
}

// CreateGroup adds a group for a caller.
func (d *Directory) CreateGroup(ctx context.Context, caller az.Principal, o Object) (made *Object, err error) {
	err = d.change(ctx, caller, actionGroups, func(tx *store.Tx) error {
		made, err = d.AddGroup(tx, o)
		return err
	})
	return made, err
}

// Change reads an object of a kind, lets fn change it, and writes it, for a
// caller. Credentials need a right of their own (SetCertificates).
func (d *Directory) Change(ctx context.Context, caller az.Principal, kind az.PrincipalKind, id string, fn func(*store.Tx, *Object) error) (out *Object, err error) {
	err = d.change(ctx, caller, actionWrite[kind], func(tx *store.Tx) error {
		if out, err = existing(tx, kind, id); err != nil {
			return err
		}
		if err := fn(tx, out); err != nil {
			return err
		}
		if err := check(out); err != nil {
			return err
		}
		return d.Update(tx, out)
	})
	return out, err
}

func check(o *Object) error {
	switch o.Kind {
	case Application:
		return checkApplication(o)
	case az.User:
		return checkUser(o)
	}
	return checkName("object", o.Name)
}

func existing(tx *store.Tx, kind az.PrincipalKind, id string) (*Object, error) {
	if !az.IsGUID(id) {
		return nil, notFound(id)
	}
	r, ok, err := tx.Object(id)
	if err != nil {
		return nil, err
	}
	if !ok || r.Kind != string(kind) {
		return nil, notFound(id)
	}
	return fromRow(r)
}

// Delete removes an object for a caller. A managed identity goes with its
// resource and in no other way.
func (d *Directory) Delete(ctx context.Context, caller az.Principal, kind az.PrincipalKind, id string) error {
	return d.change(ctx, caller, actionDelete[kind], func(tx *store.Tx) error {
		o, err := existing(tx, kind, id)
		if err != nil {
			return err
		}
		if o.IsManagedIdentity() {
			return az.Errorf(az.Invalid, "Request_BadRequest", "A managed identity cannot be deleted here: delete the resource that it belongs to, '%s', or take the identity off it.", o.Resource)
		}
		if o.AppID != "" && d.cfg.Keep == o.AppID {
			return az.Errorf(az.Invalid, "Request_BadRequest", "The plane's administrator cannot be deleted: the plane would not start again. Take away its credentials and its role assignments instead.")
		}
		return d.Remove(tx, id)
	})
}

// CreateSecret makes a client secret for a caller. The text is shown once.
func (d *Directory) CreateSecret(ctx context.Context, caller az.Principal, application, name string, starts, expires az.Micros) (c *Credential, text az.Secret, err error) {
	err = d.change(ctx, caller, actionCredentials, func(tx *store.Tx) error {
		if _, err := existing(tx, Application, application); err != nil {
			return err
		}
		c, text, err = d.AddSecret(tx, application, name, starts, expires)
		return err
	})
	return c, text, err
}

// CreateFederated adds a federated identity credential for a caller.
func (d *Directory) CreateFederated(ctx context.Context, caller az.Principal, application string, f CredentialFacts) (c *Credential, err error) {
	err = d.change(ctx, caller, actionCredentials, func(tx *store.Tx) error {
		if _, err := existing(tx, Application, application); err != nil {
			return err
		}
		c, err = d.AddFederated(tx, application, f)
		return err
	})
	return c, err
}

// DeleteCredential removes a credential of a kind from an application for a
// caller. A federated one may also be named by its name.
func (d *Directory) DeleteCredential(ctx context.Context, caller az.Principal, application string, kind CredentialKind, id string) error {
	return d.change(ctx, caller, actionCredentials, func(tx *store.Tx) error {
		if _, err := existing(tx, Application, application); err != nil {
			return err
		}
		rows, err := tx.Credentials(application)
		if err != nil {
			return err
		}
		for _, r := range rows {
			c, err := credentialFromRow(r)
			if err != nil {
				return err
			}
			if c.Kind == kind && (c.ID == id || kind == Federated && c.Name == id) {
				_, err := tx.DeleteCredential(application, c.ID)
				return err
			}
		}
		return az.Errorf(az.NotFound, "Request_ResourceNotFound", "The application has no credential with this id.")
	})
}

// SetCertificates makes an application's certificates those that are given, for
// a caller: a keyId keeps one that is there, a key adds one.
func (d *Directory) SetCertificates(ctx context.Context, caller az.Principal, application string, want []KeyCredential) error {
	return d.change(ctx, caller, actionCredentials, func(tx *store.Tx) error {
		if _, err := existing(tx, Application, application); err != nil {
			return err
		}
		return d.setCertificates(tx, application, want)
	})
}

func (d *Directory) setCertificates(tx *store.Tx, application string, want []KeyCredential) error {
	rows, err := tx.Credentials(application)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, w := range want {
		if len(w.Key) == 0 {
			keep[w.KeyID] = true
		}
	}
	for _, r := range rows {
		if CredentialKind(r.Kind) == Certificate && !keep[r.ID] {
			if _, err := tx.DeleteCredential(application, r.ID); err != nil {
				return err
			}
		}
	}
	for _, w := range want {
		if len(w.Key) > 0 {
			if _, err := d.AddCertificate(tx, application, w.DisplayName, w.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// JoinGroup makes an object a member of a group for a caller.
func (d *Directory) JoinGroup(ctx context.Context, caller az.Principal, group, member string) error {
	return d.change(ctx, caller, actionMembers, func(tx *store.Tx) error { return d.AddMember(tx, group, member) })
}

// LeaveGroup ends a membership for a caller.
func (d *Directory) LeaveGroup(ctx context.Context, caller az.Principal, group, member string) error {
	return d.change(ctx, caller, actionMembers, func(tx *store.Tx) error {
		if _, err := existing(tx, az.Group, group); err != nil {
			return err
		}
		removed, err := tx.RemoveMember(group, member)
		if err == nil && !removed {
			return notFound(member)
		}
		return err
	})
}

// checkPassword bounds what a person may have. Source: Entra's password
// policy, 8 to 256 characters.
func checkPassword(p az.Secret) error {
	if n := len([]rune(p.Reveal())); n < 8 || n > 256 {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The specified password does not comply with password complexity requirements: it must have 8 to 256 characters.")
	}
	return nil
}
