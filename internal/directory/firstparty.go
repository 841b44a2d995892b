package directory

import (
	"bytes"
	"context"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Application ids of Microsoft's own resources and clients, which unmodified
// clients name. Source: learn.microsoft.com, "Verify first-party Microsoft
// applications in sign-in reports".
const (
	AppGraph      = "00000003-0000-0000-c000-000000000000"
	AppARM        = "797f4846-ba00-4fd7-ba43-dac1f8f63013"
	AppKeyVault   = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"
	AppStorage    = "e406a681-f3d4-42a8-90b6-c2b029497af1"
	AppOSSRDBMS   = "123cd850-d9df-40bd-94d5-c9f07b7fa203"
	AppSQL        = "022907d3-0f1b-48f7-badc-1ba6abab6d66"
	AppCosmos     = "a232010e-820c-4083-83bb-3ace5fc29d0b"
	AppRedis      = "acca5fbb-b7e4-4009-81f1-37e38fd66d78"
	AppAzureCLI   = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
	AppPowerShell = "1950a258-227b-4e31-a9cf-717495945fc2"
	AppVSCode     = "aebc6443-996d-45c2-90f0-388ff96faa56"
)

// permission is one of Graph's permissions: the ids are those of Microsoft
// Graph, since applications name them in requiredResourceAccess. Source:
// learn.microsoft.com, Microsoft Graph permissions reference.
type permission struct {
	value     string
	scope     string // id of the delegated permission; "" if there is none
	role      string // id of the app role; "" if there is none
	admin     bool   // only an administrator may consent to the delegated one
	about     string
	aboutRole string
}

var graphPermissions = []permission{
	{"openid", "37f7f235-527c-4136-accd-4a02d197296e", "", false, "Sign you in", ""},
	{"profile", "14dad69e-099b-42c9-810b-d002981feec1", "", false, "View your basic profile", ""},
	{"email", "64a6cdd6-aab1-4aaf-94b8-3cc8405e90d0", "", false, "View your email address", ""},
	{"offline_access", "7427e0e9-2fba-42fe-b0c0-848c9e6a8182", "", false, "Keep access to what you have given it access to", ""},
	{"User.Read", "e1fe6dd8-ba31-4d61-89e7-88639da4683d", "", false, "Sign you in and read your profile", ""},
	{"User.ReadWrite", "b4e74841-8e56-480b-be8b-910348b18b4c", "", false, "Read and update your profile", ""},
	{"User.ReadBasic.All", "b340eb25-3456-403f-be2f-af7a0d370277", "97235f07-e226-4f63-ace3-39588e11d3a1", false, "Read everybody's basic profile", "Read everybody's basic profile"},
	{"User.Read.All", "a154be20-db9c-4678-8ab7-66f6cc099a59", "df021288-bdef-4463-88db-98f22de89214", true, "Read everybody's full profile", "Read everybody's full profile"},
	{"User.ReadWrite.All", "204e0828-b5ca-4ad8-b9f3-f32a958e7cc4", "741f803b-c850-494e-b5df-cde7c675a1ca", true, "Read and write everybody's full profile", "Read and write everybody's full profile"},
	{"UserAuthenticationMethod.ReadWrite.All", "b7887744-6746-4312-813d-72daeaee7e2d", "50483e42-d915-4231-9639-7fdb7fd190e5", true, "See and remove everybody's ways to sign in", "See and remove everybody's ways to sign in"},
	{"Group.Read.All", "5f8c59db-677d-491f-a6b8-5f174b11ec1d", "5b567255-7703-4780-807c-7be8301ae99b", true, "Read all groups", "Read all groups"},
	{"Group.ReadWrite.All", "4e46008b-f24c-477d-8fff-7bb4ec7aafe0", "62a82d76-70ea-41e2-9197-370581804d09", true, "Read and write all groups", "Read and write all groups"},
	{"Group.Create", "", "bf7b1a76-6e77-406b-b258-bf5c7720e98f", true, "", "Create groups"},
	{"GroupMember.Read.All", "bc024368-1153-4739-b217-4326f2e966d0", "98830695-27a2-44f7-8c18-0c3ebc9698f6", true, "Read group memberships", "Read group memberships"},
	{"GroupMember.ReadWrite.All", "f81125ac-d3b7-4573-a3b2-7099cc39df9e", "dbaae8cf-10b5-4b86-a4a1-f871c94c6695", true, "Read and write group memberships", "Read and write group memberships"},
	{"Directory.Read.All", "06da0dbc-49e2-44d2-8312-53f166ab848a", "7ab1d382-f21e-4acd-a863-ba3e13f7da61", true, "Read the directory", "Read the directory"},
	{"Directory.ReadWrite.All", "c5366453-9fb0-48a5-a156-24f0c49a4b84", "19dbc75e-c2e2-444c-a770-ec69d8559fc7", true, "Read and write the directory", "Read and write the directory"},
	{"Directory.AccessAsUser.All", "0e263e50-5827-48a4-b97c-d940288653c7", "", true, "Use the directory as you", ""},
	{"Application.Read.All", "c79f8feb-a9db-4090-85f9-90d820caa0eb", "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30", true, "Read applications", "Read all applications"},
	{"Application.ReadWrite.All", "bdfbf15f-ee85-4955-8675-146e8e5296b5", "1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9", true, "Read and write applications", "Read and write all applications"},
	{"Application.ReadWrite.OwnedBy", "", "18a4783c-866b-4cc7-a460-3d5e5662c884", true, "", "Manage the applications that this one creates or owns"},
	{"AppRoleAssignment.ReadWrite.All", "84bccea3-f856-4a8a-967b-dbe0a3d53a64", "06b708a9-e830-4db3-a914-8e69da51d44f", true, "Manage app role assignments", "Manage app role assignments"},
	{"DelegatedPermissionGrant.ReadWrite.All", "41ce6ca6-6826-4807-84f1-1c82854f7ee5", "8e8e4742-1d95-4f68-9d56-6ee75648c72a", true, "Manage all delegated permission grants", "Manage all delegated permission grants"},
}

// firstParty is what every tenant holds from the start.
func firstParty() []Object {
	out := []Object{{AppID: AppGraph, Name: "Microsoft Graph", Facts: Facts{IdentifierURIs: []string{"https://graph.microsoft.com"}}}}
	for _, p := range graphPermissions {
		f := &out[0].Facts
		if p.scope != "" {
			kind := "User"
			if p.admin {
				kind = "Admin"
			}
			f.Scopes = append(f.Scopes, Scope{ID: p.scope, Value: p.value, Type: kind, Enabled: true,
				AdminDisplayName: p.about, AdminDescription: p.about, UserDisplayName: p.about, UserDescription: p.about})
		}
		if p.role != "" {
			f.AppRoles = append(f.AppRoles, AppRole{ID: p.role, Value: p.value, DisplayName: p.aboutRole, Description: p.aboutRole,
				AllowedMemberTypes: []string{"Application"}, Enabled: true})
		}
	}
	for _, r := range []struct{ app, name, uri, scope string }{
		{AppARM, "Windows Azure Service Management API", "https://management.azure.com/", "41094075-9dad-400e-a0bd-54e686782033"},
		{AppKeyVault, "Azure Key Vault", "https://vault.azure.net", "f53da476-18e3-4152-8e01-aec403e6edc0"},
		{AppStorage, "Azure Storage", "https://storage.azure.com/", "03e0da56-190b-40ad-a80c-ea378c433f7f"},
		{AppOSSRDBMS, "OSSRDBMS", "https://ossrdbms-aad.database.windows.net", "cef99a3a-4cd3-4408-8143-4375d1e38a17"},
		{AppSQL, "Azure SQL Database", "https://database.windows.net/", "c39ef2d1-04ce-46dc-8b5f-e9a5c60f0fc9"},
		{AppCosmos, "Azure Cosmos DB", "https://cosmos.azure.com", az.NamedGUID("scope", AppCosmos)},
		{AppRedis, "Azure Cache for Redis", "https://redis.azure.com/", az.NamedGUID("scope", AppRedis)},
	} {
		about := "Use " + r.name + " as you"
		out = append(out, Object{AppID: r.app, Name: r.name, Facts: Facts{IdentifierURIs: []string{r.uri}, Registration: Registration{Scopes: []Scope{{ID: r.scope,
			Value: "user_impersonation", Type: "User", Enabled: true, AdminDisplayName: about, AdminDescription: about, UserDisplayName: about, UserDescription: about}}}}})
	}
	for _, c := range []struct{ app, name string }{{AppAzureCLI, "Microsoft Azure CLI"}, {AppPowerShell, "Microsoft Azure PowerShell"}, {AppVSCode, "Visual Studio Code"}} {
		out = append(out, Object{AppID: c.app, Name: c.name, Facts: Facts{Registration: Registration{PublicClient: true,
			NativeURIs: []string{"http://localhost", "https://login.microsoftonline.com/common/oauth2/nativeclient"}}}})
	}
	for i := range out {
		out[i].Kind, out[i].Enabled, out[i].FirstParty = az.ServicePrincipal, true, true
	}
	return out
}

// EnsureFirstParty makes the service principals of the platform's own resources
// and clients, or brings them up to date. It may run at every start of every
// plane: where nothing is new it writes nothing.
func (d *Directory) EnsureFirstParty(tx *store.Tx) error {
	for _, o := range firstParty() {
		o.ID = az.NamedGUID("first party", d.cfg.Names.Tenant, o.AppID)
		r, ok, err := tx.Object(o.ID)
		if err != nil {
			return err
		}
		if !ok {
			if _, err := d.insert(tx, &o); err != nil {
				return err
			}
			continue
		}
		old, err := fromRow(r)
		if err != nil {
			return err
		}
		o.Enabled, o.Assigned = old.Enabled, old.Assigned // an administrator's choice
		now, err := o.row()
		if err != nil {
			return err
		}
		if !bytes.Equal(now.Body, r.Body) {
			if err := tx.UpdateObject(now); err != nil {
				return err
			}
		}
	}
	return nil
}

// sortAtOnce is how many old objects one transaction brings up to date.
const sortAtOnce = 1000

// Start makes the directory of an older plane whole, and what every tenant
// holds. The plane calls it before it serves anybody.
func (d *Directory) Start(ctx context.Context) error {
	for more := true; more; {
		err := d.store.Write(ctx, func(tx *store.Tx) error {
			rows, err := tx.UnsortedObjects(sortAtOnce)
			if err != nil {
				return err
			}
			more = len(rows) > 0
			for _, r := range rows {
				o, err := fromRow(r)
				if err != nil {
					return err
				}
				if r, err = o.row(); err != nil {
					return err
				}
				if err := tx.UpdateObject(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return d.store.Write(ctx, d.EnsureFirstParty)
}
