package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) identityCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "identity", Short: "User-assigned identities"}
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a user-assigned identity", Args: cobra.ExactArgs(1), Example: "  hawser identity create shared",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var r resource
			if err := c.Put(ctx, id(c, typeIdentity, args[0]), map[string]any{"location": location}, &r); err != nil {
				return err
			}
			return a.showIdentity(r)
		}),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one identity", Args: cobra.ExactArgs(1), Example: "  hawser identity show shared",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var r resource
			if err := c.Get(ctx, id(c, typeIdentity, args[0]), &r); err != nil {
				return err
			}
			return a.showIdentity(r)
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List user-assigned identities", Args: cobra.NoArgs, Example: "  hawser identity list",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := client.List[resource](ctx, c, "/subscriptions/"+c.Plane().SubscriptionID+"/providers/"+typeIdentity)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, r := range all {
				rows = append(rows, []string{r.Name, r.text("principalId"), r.text("clientId")})
			}
			return a.show(all, []string{"NAME", "PRINCIPAL", "CLIENT"}, rows)
		}),
	}
	assign := &cobra.Command{
		Use: "assign APP NAME", Short: "Give an app a user-assigned identity", Args: cobra.ExactArgs(2), Example: "  hawser identity assign web shared",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return changeIdentities(ctx, c, args[0], id(c, typeIdentity, args[1]), true)
		}),
	}
	remove := &cobra.Command{
		Use: "remove APP NAME", Short: "Take a user-assigned identity from an app", Args: cobra.ExactArgs(2), Example: "  hawser identity remove web shared",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return changeIdentities(ctx, c, args[0], id(c, typeIdentity, args[1]), false)
		}),
	}
	del := &cobra.Command{
		Use: "delete NAME", Short: "Delete a user-assigned identity", Args: cobra.ExactArgs(1), Example: "  hawser identity delete shared",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return c.Delete(ctx, id(c, typeIdentity, args[0]))
		}),
	}
	cmd.AddCommand(create, show, list, assign, remove, del)
	return cmd
}

func (a *cli) showIdentity(r resource) error {
	return a.fields(r, "name", r.Name, "principalId", r.text("principalId"), "clientId", r.text("clientId"), "id", r.ID)
}

// changeIdentities patches the app's identity block; null takes one away.
func changeIdentities(ctx context.Context, c *client.Client, app, identity string, add bool) error {
	var r resource
	site := id(c, typeSite, app)
	if err := c.Get(ctx, site, &r); err != nil {
		return err
	}
	system, users := false, map[string]any{}
	if r.Identity != nil {
		system = r.Identity.PrincipalID != ""
		for known := range r.Identity.User {
			users[known] = map[string]any{}
		}
	}
	left := len(users)
	if add {
		users[identity] = map[string]any{}
		left++
	} else {
		for known := range users {
			if equalFold(known, identity) {
				users[known] = nil
				left--
			}
		}
	}
	typ := "None"
	switch {
	case system && left > 0:
		typ = "SystemAssigned, UserAssigned"
	case system:
		typ = "SystemAssigned"
	case left > 0:
		typ = "UserAssigned"
	}
	block := map[string]any{"type": typ}
	if left > 0 {
		block["userAssignedIdentities"] = users
	}
	return c.Patch(ctx, site, map[string]any{"identity": block}, nil)
}
