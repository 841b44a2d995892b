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
	name, kind, database, identity, access, client, vault, user, role string
	secret, fromStdin, dryRun                                         bool
}

// targetKind is how a target's id goes on behind the group.
type targetKind struct{ account, child string }

// targetKinds are the words of --type, which are az's.
var targetKinds = map[string]targetKind{
	"postgres-flexible": {typePostgres, "databases"},
	"mysql-flexible":    {typeMySQL, "databases"},
	"sql":               {typeSQL, "databases"},
	"cosmos-sql":        {typeCosmos, "sqlDatabases"},
	"redis":             {typeRedis, "databases"},
	"storage-blob":      {typeStorage, "blobServices"},
	"storage-queue":     {typeStorage, "queueServices"},
	"storage-table":     {typeStorage, "tableServices"},
	"storage-file":      {typeStorage, "fileServices"},
	"keyvault":          {typeVault, ""},
}

func targetWords() []string { return slices.Sorted(maps.Keys(targetKinds)) }

// kindOfTarget says what a target is where --type does not.
func kindOfTarget(ctx context.Context, c *client.Client, name string) (string, error) {
	types := []string{typePostgres, typeMySQL, typeSQL, typeRedis, typeVault, typeCosmos, typeStorage}
	found, err := typesOf(ctx, c, name, types)
	if err != nil {
		return "", err
	}
	var words []string
	for _, w := range targetWords() {
		if slices.Contains(found, targetKinds[w].account) {
			words = append(words, w)
		}
	}
	switch len(words) {
	case 0:
		return "", fmt.Errorf("there is no server, vault or account %q to connect to; attach or create it, or check its name", name)
	case 1:
		return words[0], nil
	}
	return "", usageError{fmt.Errorf("%q can be several things; say which with --type: %s", last(name), strings.Join(words, ", "))}
}

// targetOf is the id of what a connection leads to.
func targetOf(ctx context.Context, c *client.Client, name string, f *connectFlags) (string, error) {
	if f.kind == "" {
		var err error
		if f.kind, err = kindOfTarget(ctx, c, name); err != nil {
			return "", err
		}
	}
	k, ok := targetKinds[f.kind]
	if !ok {
		return "", usageError{fmt.Errorf("--type %q is not served; use one of %s", f.kind, strings.Join(targetWords(), ", "))}
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
		Long: "Connect an app to a target: its identity is switched on, a database role, access policy or role assignment\nof its own gives exactly the access asked for, and the settings that client libraries read are set.\nIt is safe to repeat. What TARGET is, is found out by its name; --type says it where that is not enough.\n\n" +
			"With --secret the settings hold the login --user and the password from --password-stdin (a database),\nor the target's key (a cache, store or account); --vault puts them into a vault instead.",
		Example: "  hawser connect web pg1 --database app --access write\n" +
			"  hawser connect web pg1 --database app --client nodejs --dry-run\n" +
			"  hawser connect web my1 --database shop --access read --client python\n" +
			"  hawser connect web sql1 --database shop --client go --identity shared\n" +
			"  hawser connect web cache1 --access write --client nodejs\n" +
			"  hawser connect web my1 --database shop --secret --user shop --password-stdin --vault kv1 --client nodejs < password.txt\n" +
			"  hawser connect web kv1\n" +
			"  hawser connect web files --type storage-blob --access read",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.connect(ctx, c, args[0], args[1], f)
		}),
	}
	cmd.Flags().StringVar(&f.database, "database", "", "the database (default: the server's only one)")
	cmd.Flags().StringVar(&f.identity, "identity", "system", "system, or a user-assigned identity's name")
	cmd.Flags().StringVar(&f.access, "access", "", "read, write or owner (default: write; read for a vault)")
	cmd.Flags().StringVar(&f.kind, "type", "", "what TARGET is, if its name does not say: "+strings.Join(targetWords(), ", "))
	cmd.Flags().BoolVar(&f.secret, "secret", false, "by a password or the target's key instead of an identity")
	cmd.Flags().StringVar(&f.user, "user", "", "with --secret: the database's own login")
	cmd.Flags().BoolVar(&f.fromStdin, "password-stdin", false, "with --secret: read that login's password from standard input")
	cmd.Flags().StringVar(&f.role, "role", "", "name of the database role (default: aad_ and the connection's; SQL Server: the identity's)")
	cmd.Flags().StringVar(&f.vault, "vault", "", "put secrets into this vault; the settings become references to it")
	cmd.Flags().StringVar(&f.client, "client", "none", "form of the settings: none, go, nodejs, python, django, java, springBoot, dotnet, php, ruby")
	cmd.Flags().StringVar(&f.name, "name", "", "name of the connection (default: the target's name)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "print the steps and the SQL, and do nothing")
	return cmd
}

func (a *cli) connect(ctx context.Context, c *client.Client, app, target string, f connectFlags) error {
	if !f.secret && (f.user != "" || f.fromStdin) {
		return usageError{errors.New("--user and --password-stdin are for --secret; without it the app's identity logs in")}
	}
	to, err := targetOf(ctx, c, target, &f)
	if err != nil {
		return err
	}
	auth := map[string]any{"authType": "systemAssignedIdentity"}
	undo := func() error { return nil }
	switch {
	case f.secret:
		if auth, err = f.secretAuth(); err != nil {
			return err
		}
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
	if f.role != "" {
		auth["userName"] = f.role
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

// secretAuth is the authInfo of --secret.
func (f *connectFlags) secretAuth() (map[string]any, error) {
	auth := map[string]any{"authType": "secret"}
	if f.user != "" {
		auth["name"] = f.user
	}
	if !f.fromStdin || f.dryRun { // nothing is done with a password in a dry run
		return auth, nil
	}
	password, err := passwordFromStdin()
	if err != nil {
		return nil, err
	}
	auth["secretInfo"] = map[string]any{"secretType": "rawValue", "value": password}
	return auth, nil
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
	rotate := &cobra.Command{
		Use: "rotate APP NAME", Short: "Change the backend password of a connection's role now; the app and its sessions notice nothing", Args: cobra.ExactArgs(2),
		Long:    "Change the backend password of a connection's role now. Only the plane knows it, and it is changed on a schedule\nanyway: the app logs in with its identity's token as before, and open sessions go on.",
		Example: "  hawser connection rotate web my1",
		RunE:    a.with(a.connectionRotate),
	}
	cmd.AddCommand(list, validate, rotate, del)
	return cmd
}

func (a *cli) connectionRotate(ctx context.Context, c *client.Client, args []string) error {
	var r struct {
		Properties struct {
			Hawser struct {
				Role      string `json:"role"`
				User      string `json:"user"`
				Server    string `json:"server"`
				Principal string `json:"principalId"`
				Policy    string `json:"accessPolicyAssignment"`
			} `json:"hawser"`
		} `json:"properties"`
	}
	if err := c.Get(ctx, id(c, typeSite, args[0])+linkers+args[1], &r); err != nil {
		return err
	}
	made := r.Properties.Hawser
	if made.Role == "" && made.Policy != "" { // a cache: the user is the principal's
		made.User = "hawser-" + made.Principal
		made.Role = made.Server + "/principals/" + made.User
	}
	if made.Role == "" {
		return fmt.Errorf("the connection %s has no backend password of the plane's: it goes by a secret of yours, or to a target that has none", args[1])
	}
	if err := c.Action(ctx, made.Role, "rotate", nil, nil); err != nil {
		return err
	}
	return a.fields(map[string]any{"connection": args[1], "role": made.User, "rotated": true}, "connection", args[1], "role", made.User, "rotated", "yes")
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
