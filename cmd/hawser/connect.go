package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

const linkers = "/providers/Microsoft.ServiceLinker/linkers/"

type connectFlags struct {
	name, database, identity, access, client string
	dryRun                                   bool
}

func (a *cli) connectCommand() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "connect APP TARGET", Short: "Connect an app to a database server without a password", Args: cobra.ExactArgs(2),
		Long: "Connect an app to a target: its identity is switched on, a database role of its own gets exactly the\naccess asked for, and the settings that client libraries read are set. It is safe to repeat.",
		Example: "  hawser connect web pg1 --database app --access write\n" +
			"  hawser connect web pg1 --database app --client nodejs --dry-run",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.connect(ctx, c, args[0], args[1], f)
		}),
	}
	cmd.Flags().StringVar(&f.database, "database", "", "the database (default: the server's only one)")
	cmd.Flags().StringVar(&f.identity, "identity", "system", "system, or a user-assigned identity's name")
	cmd.Flags().StringVar(&f.access, "access", "write", "read, write or owner")
	cmd.Flags().StringVar(&f.client, "client", "none", "form of the settings: none, go, nodejs, python, django, java, springBoot, dotnet, php, ruby")
	cmd.Flags().StringVar(&f.name, "name", "", "name of the connection (default: the target's name)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "print the steps and the SQL, and do nothing")
	return cmd
}

func (a *cli) connect(ctx context.Context, c *client.Client, app, target string, f connectFlags) error {
	server := id(c, typePostgres, target)
	database, err := databaseOf(ctx, c, server, f.database)
	if err != nil {
		return err
	}
	auth := map[string]any{"authType": "systemAssignedIdentity"}
	undo := func() error { return nil }
	if f.identity != "system" && f.identity != "" {
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
	body := map[string]any{"properties": map[string]any{
		"targetService": map[string]any{"type": "AzureResource", "id": server + "/databases/" + database},
		"authInfo":      auth, "clientType": f.client, "hawser": map[string]any{"access": f.access},
	}}
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
	for _, x := range conf.Configurations {
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
func databaseOf(ctx context.Context, c *client.Client, server, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	all, err := client.List[resource](ctx, c, server+"/databases")
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
