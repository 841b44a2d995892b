package main

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) appCommand() *cobra.Command {
	app := &cobra.Command{Use: "app", Short: "Apps: identity, settings, Key Vault references"}
	var reveal bool
	var identity string
	create := &cobra.Command{
		Use: "create NAME", Short: "Make an app with a system-assigned identity", Args: cobra.ExactArgs(1),
		Example: "  hawser app create web",
		RunE:    a.with(a.appCreate),
	}
	set := &cobra.Command{
		Use: "set NAME KEY=VALUE…", Short: "Set app settings; a value may be a Key Vault reference", Args: cobra.MinimumNArgs(2),
		Example: "  hawser app set web COLOR=blue 'DB_PASS=@Microsoft.KeyVault(VaultName=kv1;SecretName=db)'",
		RunE:    a.with(func(ctx context.Context, c *client.Client, args []string) error { return a.appSet(ctx, c, args) }),
	}
	unset := &cobra.Command{
		Use: "unset NAME KEY…", Short: "Remove app settings", Args: cobra.MinimumNArgs(2),
		Example: "  hawser app unset web COLOR",
		RunE:    a.with(a.appUnset),
	}
	settings := &cobra.Command{
		Use: "settings NAME", Short: "List app settings", Args: cobra.ExactArgs(1),
		Example: "  hawser app settings web --reveal",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.appSettings(ctx, c, args[0], reveal)
		}),
	}
	settings.Flags().BoolVar(&reveal, "reveal", false, "show the values")
	references := &cobra.Command{
		Use: "references NAME", Short: "Show how the app's Key Vault references were resolved", Args: cobra.ExactArgs(1),
		Example: "  hawser app references web",
		RunE:    a.with(a.appReferences),
	}
	update := &cobra.Command{
		Use: "reference-identity NAME", Short: "Choose the identity that resolves Key Vault references", Args: cobra.ExactArgs(1),
		Example: "  hawser app reference-identity web --identity shared",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			which := "SystemAssigned"
			if identity != "" && identity != "system" {
				which = id(c, typeIdentity, identity)
			}
			return c.Patch(ctx, id(c, typeSite, args[0]), map[string]any{"properties": map[string]any{"keyVaultReferenceIdentity": which}}, nil)
		}),
	}
	update.Flags().StringVar(&identity, "identity", "system", "system, or a user-assigned identity's name")
	list := &cobra.Command{Use: "list", Short: "List apps", Args: cobra.NoArgs, Example: "  hawser app list", RunE: a.with(a.appList)}
	show := &cobra.Command{Use: "show NAME", Short: "Show one app", Args: cobra.ExactArgs(1), Example: "  hawser app show web", RunE: a.with(a.appShow)}
	del := &cobra.Command{Use: "delete NAME", Short: "Delete an app, its identity and its connections", Args: cobra.ExactArgs(1),
		Example: "  hawser app delete web",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return c.Delete(ctx, id(c, typeSite, args[0]))
		})}
	app.AddCommand(create, set, unset, settings, references, update, list, show, del)
	return app
}

func (a *cli) appCreate(ctx context.Context, c *client.Client, args []string) error {
	var r resource
	body := map[string]any{"location": location, "kind": "app,linux", "identity": map[string]any{"type": "SystemAssigned"}, "properties": map[string]any{}}
	site := id(c, typeSite, args[0])
	if err := c.Get(ctx, site, &r); err == nil {
		return fmt.Errorf("the app %s exists already; see hawser app show %s", args[0], args[0])
	}
	if err := c.Put(ctx, site, body, &r); err != nil {
		return err
	}
	return a.showApp(r)
}

func (a *cli) showApp(r resource) error {
	who := ""
	if r.Identity != nil {
		who = r.Identity.PrincipalID
	}
	return a.fields(r, "name", r.Name, "principalId", who, "id", r.ID)
}

func (a *cli) appShow(ctx context.Context, c *client.Client, args []string) error {
	var r resource
	if err := c.Get(ctx, id(c, typeSite, args[0]), &r); err != nil {
		return err
	}
	return a.showApp(r)
}

func (a *cli) appList(ctx context.Context, c *client.Client, _ []string) error {
	all, err := client.List[resource](ctx, c, "/subscriptions/"+c.Plane().SubscriptionID+"/providers/"+typeSite)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, r := range all {
		who := "-"
		if r.Identity != nil && r.Identity.PrincipalID != "" {
			who = r.Identity.PrincipalID
		}
		rows = append(rows, []string{r.Name, who, r.text("state")})
	}
	return a.show(all, []string{"NAME", "PRINCIPAL", "STATE"}, rows)
}

type settingsDocument struct {
	Properties map[string]string `json:"properties"`
}

// changeSettings reads the whole set, changes it and writes it back: ARM knows
// no other way.
func changeSettings(ctx context.Context, c *client.Client, app string, change func(map[string]string)) error {
	doc := settingsDocument{}
	site := id(c, typeSite, app)
	if err := c.Action(ctx, site+"/config/appsettings", "list", nil, &doc); err != nil {
		return err
	}
	if doc.Properties == nil {
		doc.Properties = map[string]string{}
	}
	change(doc.Properties)
	return c.Put(ctx, site+"/config/appsettings", doc, nil)
}

func (a *cli) appSet(ctx context.Context, c *client.Client, args []string) error {
	pairs := map[string]string{}
	for _, p := range args[1:] {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return usageError{fmt.Errorf("%q is not KEY=VALUE", k)}
		}
		pairs[k] = v
	}
	return changeSettings(ctx, c, args[0], func(all map[string]string) {
		for k, v := range pairs {
			all[k] = v
		}
	})
}

func (a *cli) appUnset(ctx context.Context, c *client.Client, args []string) error {
	return changeSettings(ctx, c, args[0], func(all map[string]string) {
		for _, k := range args[1:] {
			delete(all, k)
		}
	})
}

func (a *cli) appSettings(ctx context.Context, c *client.Client, app string, reveal bool) error {
	var doc settingsDocument
	if err := c.Action(ctx, id(c, typeSite, app)+"/config/appsettings", "list", nil, &doc); err != nil {
		return err
	}
	var names []string
	for k := range doc.Properties {
		names = append(names, k)
	}
	sort.Strings(names)
	type setting struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	out := []setting{}
	var rows [][]string
	for _, k := range names {
		v := doc.Properties[k]
		if !reveal && !strings.HasPrefix(v, "@Microsoft.KeyVault(") {
			v = "(hidden; --reveal shows it)"
			if a.output != "table" {
				v = ""
			}
		}
		out = append(out, setting{k, v})
		rows = append(rows, []string{k, v})
	}
	return a.show(out, []string{"NAME", "VALUE"}, rows)
}

func (a *cli) appReferences(ctx context.Context, c *client.Client, args []string) error {
	var all []resource
	for _, kind := range []string{"appsettings", "connectionstrings"} {
		some, err := client.List[resource](ctx, c, id(c, typeSite, args[0])+"/config/configreferences/"+kind)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	var rows [][]string
	for _, r := range all {
		rows = append(rows, []string{r.Name, r.text("status"), r.text("vaultName"), r.text("secretName"), r.text("details")})
	}
	return a.show(all, []string{"SETTING", "STATUS", "VAULT", "SECRET", "DETAILS"}, rows)
}
