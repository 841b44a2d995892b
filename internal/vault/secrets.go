package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// action is something that can be done to secrets: as roles name it, and as
// access policies do.
type action struct {
	guard.Action
	policy secretRights
}

func secretAction(name string, policy secretRights) action {
	return action{guard.Data(guard.ActionVaultSecretsRoot + name + "/action"), policy}
}

// The data actions. Update is a kind of set, as Key Vault has it.
var (
	actGet     = secretAction("getSecret", mayGet)
	actSet     = secretAction("setSecret", maySet)
	actLook    = secretAction("readMetadata", mayList)
	actLookOne = secretAction("readMetadata", mayGet) // a deleted secret: policies name it get
	actDelete  = secretAction("delete", mayDelete)
	actBackup  = secretAction("backup", mayBackup)
	actRestore = secretAction("restore", mayRestore)
	actRecover = secretAction("recover", mayRecover)
	actPurge   = secretAction("purge", mayPurge)
)

// read checks, then loads, then looks whether the version is enabled. A secret
// outside its nbf and exp is given all the same. Source: "About secrets",
// date-time controlled operations: get works for secrets that are not yet
// valid or expired.
//
// The sealed value may lie in buf, which is scratch space.
func (v *Vaults) read(ctx context.Context, caller az.Principal, vt *live, name, version string, buf []byte) (store.SecretVersion, seal.Place, error) {
	scope := vt.ID.Child("secrets", name)
	if err := v.allow(ctx, caller, actGet, vt, scope); err != nil {
		return store.SecretVersion{}, seal.Place{}, err
	}
	r, err := v.load(ctx, &vt.Vault, name, fold(version), buf)
	if err != nil {
		return r, seal.Place{}, err
	}
	if !r.Enabled {
		return r, seal.Place{}, disabled()
	}
	// The scope's key is store.SecretKey, already made.
	return r, seal.Place{Table: sealedTable, ID: scope.Key(), Version: r.Version}, nil
}

const sealedTable = "secrets"

// load finds a version of a live secret, from the cache if it can.
func (v *Vaults) load(ctx context.Context, vt *store.Vault, name, version string, buf []byte) (store.SecretVersion, error) {
	key := fold(name)
	if r, ok := v.cache.secret(vt.Serial, key, buf); ok && (version == "" || version == r.Version) {
		return r, nil
	}
	gen := v.cache.stripe(key).Load()
	r, ok, err := v.store.Secret(ctx, vt, key, version)
	switch {
	case err != nil:
		return r, err
	case !ok || r.Deleted != 0:
		return r, v.whatIsMissing(ctx, vt, name, version)
	case version == "":
		v.cache.putSecret(vt.Serial, &r, gen)
	}
	return r, nil
}

// whatIsMissing tells a missing secret from a missing version.
func (v *Vaults) whatIsMissing(ctx context.Context, vt *store.Vault, name, version string) error {
	if version == "" {
		return secretNotFound(name, "")
	}
	n, there, err := v.store.SecretName(ctx, vt, name)
	if err != nil {
		return err
	}
	if !there || n.Deleted != 0 {
		version = ""
	}
	return secretNotFound(name, version)
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// open decrypts a version, appending to dst.
func (v *Vaults) open(dst []byte, place seal.Place, r *store.SecretVersion) ([]byte, error) {
	plain, err := v.sealer.AppendOpen(dst, place, r.Sealed)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	return plain, nil
}

// buffers are for a sealed value and the same value opened; the latter is
// wiped before they are used again.
type buffers struct{ sealed, plain []byte }

var scratch = sync.Pool{New: func() any { return &buffers{make([]byte, 0, 1<<10), make([]byte, 0, 1<<10)} }}

func (b *buffers) done() {
	seal.Wipe(b.plain[:cap(b.plain)])
	scratch.Put(b)
}

func (v *Vaults) get(ctx context.Context, c call) (any, error) {
	name, version := c.PathValue("name"), c.PathValue("version")
	if err := checkName(name, version); err != nil {
		return nil, err
	}
	buf := scratch.Get().(*buffers)
	defer buf.done()
	r, place, err := v.read(ctx, c.Caller, c.live, name, version, buf.sealed[:0])
	if err != nil {
		return nil, err
	}
	buf.sealed = r.Sealed
	buf.plain, err = v.open(buf.plain[:0], place, &r)
	if err != nil {
		return nil, err
	}
	return c.show(&r, buf.plain), nil
}

// show is the reply of operations that change a secret: the version without
// its value.
func (c *call) show(r *store.SecretVersion, value []byte) []byte {
	b := c.bundle(r)
	return b.appendTo(make([]byte, 0, b.size(len(value))), value)
}

// decode reads the request's body. Go's decoder would replace what is not
// Unicode, and a secret must come back as it was sent.
func (c *call) decode(v any) error {
	if !utf8.Valid(c.Body) || loneSurrogate(c.Body) {
		return badParameter("The request's body is not valid UTF-8, or holds half of a UTF-16 pair.")
	}
	return c.JSON(v)
}

func (v *Vaults) set(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actSet, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	var body change
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	if body.Value == nil {
		return nil, badParameter("The property 'value' is required.")
	}
	value := []byte(*body.Value)
	defer seal.Wipe(value)
	if len(value) > maxValue {
		return nil, badParameter("The secret's value is longer than the %d bytes allowed.", maxValue)
	}
	r := store.SecretVersion{Name: name, Version: newVersion(), Enabled: true}
	if err := body.apply(&r); err != nil {
		return nil, err
	}
	if err := v.add(ctx, c.vault, &r, value); err != nil {
		return nil, err
	}
	return c.show(&r, value), nil
}

func newVersion() string {
	var b [versionLength / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// add seals a value and makes it the latest version. The name's spelling is
// that of the first version.
func (v *Vaults) add(ctx context.Context, vt *store.Vault, r *store.SecretVersion, value []byte) error {
	var err error
	r.Sealed, err = v.sealer.Seal(seal.Place{Table: sealedTable, ID: store.SecretKey(vt, r.Name), Version: r.Version}, value)
	if err != nil {
		return err
	}
	return v.store.Write(ctx, func(tx *store.Tx) error {
		n, there, err := tx.SecretName(vt, r.Name)
		switch {
		case err != nil:
			return err
		case there && n.Deleted != 0:
			return deletedConflict(n.Name)
		case there:
			r.Name = n.Name
		}
		r.Created = tx.Now()
		r.Updated = r.Created
		return tx.AddSecretVersion(vt, n, *r)
	})
}

func (v *Vaults) update(ctx context.Context, c call) (any, error) {
	name, version := c.PathValue("name"), fold(c.PathValue("version"))
	if err := checkName(name, version); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actSet, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	var body change
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	if body.Value != nil {
		return nil, badParameter("The property 'value' cannot be updated; set the secret to make a new version.")
	}
	var r store.SecretVersion
	err := v.store.Write(ctx, func(tx *store.Tx) error {
		var ok bool
		var err error
		r, ok, err = tx.Secret(c.vault, name, version)
		if err != nil {
			return err
		}
		if !ok || r.Deleted != 0 {
			return secretNotFound(name, version)
		}
		if err := body.apply(&r); err != nil {
			return err
		}
		r.Updated = tx.Now()
		return tx.UpdateSecretVersion(c.vault, r)
	})
	if err != nil {
		return nil, err
	}
	return c.show(&r, nil), nil
}

func (v *Vaults) delete(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actDelete, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	var r store.SecretVersion
	err := v.store.Write(ctx, func(tx *store.Tx) error {
		var ok bool
		var err error
		r, ok, err = tx.Secret(c.vault, name, "")
		if err != nil {
			return err
		}
		if !ok || r.Deleted != 0 {
			return secretNotFound(name, "")
		}
		r.Deleted = tx.Now()
		r.PurgeAt = after(r.Deleted, c.vault.RetentionDays)
		return tx.MarkSecretDeleted(c.vault, name, r.Deleted, r.PurgeAt)
	})
	if err != nil {
		return nil, err
	}
	return c.showDeleted(&r, true), nil
}

func after(t az.Micros, days int) az.Micros {
	return t + az.Micros(time.Duration(days)*24*time.Hour/time.Microsecond)
}

func (c *call) showDeleted(r *store.SecretVersion, version bool) []byte {
	b := c.bundle(r)
	b.version, b.deleted = version, true
	return b.appendTo(make([]byte, 0, b.size(0)), nil)
}

// deletedSecret finds a deleted secret.
func deletedSecret(r store.SecretVersion, ok bool, err error, name string) (store.SecretVersion, error) {
	if err == nil && (!ok || r.Deleted == 0) {
		err = deletedNotFound(name)
	}
	return r, err
}

func (v *Vaults) getDeleted(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actLookOne, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	r, ok, err := v.store.Secret(ctx, c.vault, name, "")
	if r, err = deletedSecret(r, ok, err, name); err != nil {
		return nil, err
	}
	return c.showDeleted(&r, true), nil
}

func (v *Vaults) recover(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actRecover, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	var r store.SecretVersion
	err := v.store.Write(ctx, func(tx *store.Tx) error {
		got, ok, err := tx.Secret(c.vault, name, "")
		if r, err = deletedSecret(got, ok, err, name); err != nil {
			return err
		}
		r.Deleted, r.PurgeAt = 0, 0
		return tx.MarkSecretDeleted(c.vault, name, 0, 0)
	})
	if err != nil {
		return nil, err
	}
	return c.show(&r, nil), nil
}

func (v *Vaults) purge(ctx context.Context, c call) (any, error) {
	name := c.PathValue("name")
	if err := checkName(name, ""); err != nil {
		return nil, err
	}
	if err := v.allow(ctx, c.Caller, actPurge, c.live, c.scope(name)); err != nil {
		return nil, err
	}
	err := v.store.Write(ctx, func(tx *store.Tx) error {
		got, ok, err := tx.Secret(c.vault, name, "")
		r, err := deletedSecret(got, ok, err, name)
		if err != nil {
			return err
		}
		// The vault is read again: protection may have come meanwhile.
		vt, ok, err := tx.Vault(c.vault.Name)
		if err != nil || !ok || vt.Serial != c.vault.Serial {
			return errOr(err, vaultNotFound())
		}
		if vt.PurgeProtection {
			return forbidden("", "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.\r\nVault: %s;location=%s", vt.Name, vt.Location)
		}
		return purgeSecret(tx, c.vault, r.Name)
	})
	if err != nil {
		return nil, err
	}
	return &rest.Reply{Status: 204}, nil
}

// purgeSecret takes along the roles that were assigned at the secret: another
// one of the same name is another secret.
func purgeSecret(tx *store.Tx, vt *store.Vault, name string) error {
	if err := tx.PurgeSecret(vt, name); err != nil {
		return err
	}
	return arm.DeleteAssignmentsAt(tx, vt.ID.Child("secrets", name))
}
