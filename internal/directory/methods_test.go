package directory

import (
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

func TestMethods(t *testing.T) {
	w, g := sqlite(t)
	root, asRoot := w.user("root", "Directory.AccessAsUser.All")
	w.role(root, guard.RoleOwner, "/")
	ann, asAnn := w.user("ann", "User.ReadWrite.All", "User.Read")
	bob, _ := w.user("bob")
	w.role(bob, guard.RoleReader, "/")
	w.write(func(tx *store.Tx) error {
		for _, who := range []string{ann, bob} {
			for id, kind := range map[string]string{"totp": kindOneTimeCode, "passkey-AbC_1": kindPasskey} {
				if err := tx.PutCredential(store.Credential{Owner: who, ID: id, Kind: kind, Hash: []byte("sealed"), Body: []byte(`{"label":"phone"}`)}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	g.as = asAnn
	g.want(403, "GET", "/users/"+bob+"/authentication/methods", nil)
	g.want(403, "DELETE", "/users/"+ann+"/authentication/softwareOathMethods/totp", nil)
	g.as = az.Principal{ObjectID: az.NewGUID(), AppID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: []string{"UserAuthenticationMethod.ReadWrite.All"}}
	if got := g.want(200, "GET", "/users/"+ann+"/authentication/methods", nil)["value"].([]any); len(got) != 3 {
		t.Errorf("Ann's methods: %v", got)
	}
	g.want(403, "DELETE", "/users/"+bob+"/authentication/softwareOathMethods/totp", nil) // Bob holds a role; the app hands out none
	g.want(404, "DELETE", "/users/"+ann+"/authentication/softwareOathMethods/password", nil)
	g.want(404, "DELETE", "/users/"+ann+"/authentication/fido2Methods/totp", nil)
	g.want(204, "DELETE", "/users/"+ann+"/authentication/fido2Methods/passkey-AbC_1", nil)
	if o, _, _ := w.Get(t.Context(), ann); o.ValidFrom == 0 {
		t.Error("what Ann signed in for goes on")
	}
	g.as = asRoot
	g.want(204, "DELETE", "/users/"+bob+"/authentication/softwareOathMethods/totp", nil)
	if got := g.want(200, "GET", "/users/"+ann+"/authentication/methods", nil)["value"].([]any); len(got) != 2 {
		t.Errorf("Ann's methods: %v", got)
	}
}
