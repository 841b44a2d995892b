package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

const linkers = "/providers/Microsoft.ServiceLinker/linkers/"

type connectFlags struct {
	name, kind, database, identity, access, client, vault string
	secret, dryRun                                        bool
}

// targetKind is how a target's id goes on behind the group.
type targetKind struct{ account, child string }

// targetKinds are the words of --type, which are az's.
var targetKinds = map[string]targetKind{
	"postgres-flexible": {typePostgres, "databases"},
	"mysql-flexible":    {"Microsoft.DBforMySQL/flexibleServers", "databases"},
	"sql":               {"Microsoft.Sql/servers", "databases"},
	"cosmos-sql":        {"Microsoft.DocumentDB/databaseAccounts", "sqlDatabases"},
	"redis":             {"Microsoft.Cache/redis", "databases"},
	"storage-blob":      {"Microsoft.Storage/storageAccounts", "blobServices"},
	"storage-queue":     {"Microsoft.Storage/storageAccounts", "queueServices"},
	"storage-table":     {"Microsoft.Storage/storageAccounts", "tableServices"},
	"storage-file":      {"Microsoft.Storage/storageAccounts", "fileServices"},
	"keyvault":          {typeVault, ""},
}

// targetOf is the id of what a connection leads to.
func targetOf(ctx context.Context, c *client.Client, name string, f connectFlags) (string, error) {
	k, ok := targetKinds[f.kind]
	if !ok {
		return "", usageError{fmt.Errorf("--type %q is not served; use one of %s", f.kind, strings.Join(slices.Sorted(maps.Keys(targetKinds)), ", "))}
	}
	account := id(c, k.account, name)
	switch {
	case k.child == "":
		return account, nil
	case strings.HasPrefix(f.kind, "storage-"):
		return account + "/" + k.child + "/default", nil
	case f.kind == "redis":
		return account + "/" + k.child + "/" + cmp.Or(f.database, "0"), nil
	}
	database, err := databaseOf(ctx, c, account, k.child, f.database)
	return account + "/" + k.child + "/" + database, err
}

func (a *cli) connectCommand() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "connect APP TARGET", Short: "Connect an app to a database, vault or store without a password", Args: cobra.ExactArgs(2),
		Long: "Connect an app to a target: its identity is switched on, a database role or role assignment of its own\ngives exactly the access asked for, and the settings that client libraries read are set. It is safe to repeat.",
		Example: "  hawser connect web pg1 --database app --access write\n" +
			"  hawser connect web pg1 --database app --client nodejs --dry-run\n" +
			"  hawser connect web kv1 --type keyvault\n" +
			"  hawser connect web files --type storage-blob --access read",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.connect(ctx, c, args[0], args[1], f)
		}),
	}
	cmd.Flags().StringVar(&f.database, "database", "", "the database (default: the server's only one)")
	cmd.Flags().StringVar(&f.identity, "identity", "system", "system, or a user-assigned identity's name")
	cmd.Flags().StringVar(&f.access, "access", "", "read, write or owner (default: write; read for a vault)")
	cmd.Flags().StringVar(&f.kind, "type", "postgres-flexible", "what TARGET is: "+strings.Join(slices.Sorted(maps.Keys(targetKinds)), ", "))
	cmd.Flags().BoolVar(&f.secret, "secret", false, "by the target's key instead of an identity, where it has keys")
	cmd.Flags().StringVar(&f.vault, "vault", "", "put secrets into this vault; the settings become references to it")
	cmd.Flags().StringVar(&f.client, "client", "none", "form of the settings: none, go, nodejs, python, django, java, springBoot, dotnet, php, ruby")
	cmd.Flags().StringVar(&f.name, "name", "", "name of the connection (default: the target's name)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "print the steps and the SQL, and do nothing")
	return cmd
}

func (a *cli) connect(ctx context.Context, c *client.Client, app, target string, f connectFlags) error {
	to, err := targetOf(ctx, c, target, f)
	if err != nil {
		return err
	}
	auth := map[string]any{"authType": "systemAssignedIdentity"}
	undo := func() error { return nil }
	switch {
	case f.secret:
		auth = map[string]any{"authType": "secret"}
	case f.identity != "system" && f.identity != "":
		var r resource
		if err := c.Get(ctx, id(c, typeIdentity, f.identity), &r); err != nil {
			return err
		}
		if !f.dryRun {
			if undo, err = ensureIdentity(ctx, c, app, r.ID); err != nil {
				return err
			}
		}
		auth = map[string]any{"authType": "userAssignedIdentity", "clientId": r.text("clientId"), "subscriptionId": c.Plane().SubscriptionID}
	}
	if f.name == "" {
		f.name = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
				return r
			}
			return '_'
		}, last(target))
	}
	linker := id(c, typeSite, app) + linkers + f.name
	properties := map[string]any{
		"targetService": map[string]any{"type": "AzureResource", "id": to},
		"authInfo":      auth, "clientType": f.client, "hawser": map[string]any{"access": f.access},
	}
	if f.vault != "" {
		properties["secretStore"] = map[string]any{"keyVaultId": id(c, typeVault, f.vault)}
	}
	body := map[string]any{"properties": properties}
	if f.dryRun {
		return a.dryRun(ctx, c, linker, body)
	}
	var r resource
	if err := c.Put(ctx, linker, body, &r); err != nil {
		return errors.Join(err, undo())
	}
	var conf configurations
	if err := c.Action(ctx, linker, "listConfigurations", nil, &conf); err != nil {
		return err
	}
	var rows [][]string
	for i, x := range conf.Configurations {
		if f.secret && !strings.HasPrefix(x.Value, "@Microsoft.KeyVault(") { // hawser app settings --reveal shows it
			x.Value = "(hidden)"
			conf.Configurations[i] = x
		}
		rows = append(rows, []string{x.Name, x.Value})
	}
	return a.show(map[string]any{"id": r.ID, "name": r.Name, "properties": r.Properties, "configurations": conf.Configurations}, []string{"SETTING", "VALUE"}, rows)
}

// ensureIdentity gives an app a user-assigned identity if it has not got it;
// undo takes it away again if it was given.
func ensureIdentity(ctx context.Context, c *client.Client, app, identity string) (undo func() error, err error) {
	nothing := func() error { return nil }
	var site resource
	if err := c.Get(ctx, id(c, typeSite, app), &site); err != nil {
		return nothing, err
	}
	if site.Identity != nil {
		for known := range site.Identity.User {
			if equalFold(known, identity) {
				return nothing, nil
			}
		}
	}
	undo = func() error { return changeIdentities(context.WithoutCancel(ctx), c, app, identity, false) }
	return undo, changeIdentities(ctx, c, app, identity, true)
}

type configurations struct {
	Configurations []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"configurations"`
}

// databaseOf names the database, or finds the only one of the server.
func databaseOf(ctx context.Context, c *client.Client, server, child, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	all, err := client.List[resource](ctx, c, server+"/"+child)
	if err != nil {
		return "", err
	}
	if len(all) == 1 {
		return all[0].Name, nil
	}
	return "", usageError{fmt.Errorf("%s has %d databases; name one with --database", last(server), len(all))}
}

func (a *cli) dryRun(ctx context.Context, c *client.Client, linker string, body any) error {
	var plan struct {
		Steps []struct {
			Name string   `json:"name"`
			Does string   `json:"does"`
			SQL  []string `json:"sql,omitempty"`
		} `json:"steps"`
	}
	if err := c.Action(ctx, linker, "dryrun", body, &plan); err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(os.Stdout, plan)
	}
	for i, s := range plan.Steps {
		fmt.Printf("%d. %s: %s\n", i+1, plain(s.Name), plain(s.Does))
		for _, q := range s.SQL {
			fmt.Printf("     %s\n", plain(q)) // it holds names that anybody in the database may have chosen
		}
	}
	return nil
}

func (a *cli) connectionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "connection", Short: "Connections of an app (Service Connector)"}
	list := &cobra.Command{
		Use: "list APP", Short: "List an app's connections", Args: cobra.ExactArgs(1), Example: "  hawser connection list web",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := client.List[resource](ctx, c, strings.TrimSuffix(id(c, typeSite, args[0])+linkers, "/"))
			if err != nil {
				return err
			}
			var rows [][]string
			for _, r := range all {
				target, _ := r.Properties["targetService"].(map[string]any)
				auth, _ := r.Properties["authInfo"].(map[string]any)
				rows = append(rows, []string{r.Name, fmt.Sprint(target["id"]), fmt.Sprint(auth["authType"]), r.text("clientType")})
			}
			return a.show(all, []string{"NAME", "TARGET", "AUTH", "CLIENT"}, rows)
		}),
	}
	validate := &cobra.Command{
		Use: "validate APP NAME", Short: "Check that a connection works", Args: cobra.ExactArgs(2), Example: "  hawser connection validate web pg1",
		RunE: a.with(a.connectionValidate),
	}
	del := &cobra.Command{
		Use: "delete APP NAME", Short: "Undo a connection: settings, role and grants", Args: cobra.ExactArgs(2), Example: "  hawser connection delete web pg1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return c.Delete(ctx, id(c, typeSite, args[0])+linkers+args[1])
		}),
	}
	cmd.AddCommand(list, validate, del)
	return cmd
}

func (a *cli) connectionValidate(ctx context.Context, c *client.Client, args []string) error {
	var raw json.RawMessage
	if err := c.Action(ctx, id(c, typeSite, args[0])+linkers+args[1], "validateLinker", nil, &raw); err != nil {
		return err
	}
	var v struct {
		Properties struct {
			Available bool `json:"isConnectionAvailable"`
			Detail    []struct {
				Name    string `json:"name"`
				Result  string `json:"result"`
				Message string `json:"errorMessage"`
			} `json:"validationDetail"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range v.Properties.Detail {
		rows = append(rows, []string{d.Result, d.Name, d.Message})
	}
	if err := a.show(raw, []string{"RESULT", "CHECK", "MESSAGE"}, rows); err != nil {
		return err
	}
	if !v.Properties.Available {
		return errors.New("the connection does not work; see the checks that failed")
	}
	return nil
}
