package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) groupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "Groups of people, apps and other groups"}
	var description string
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a group", Args: cobra.ExactArgs(1), Example: "  hawser group create readers",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.CreateGroup(ctx, args[0], description)
			if err != nil {
				return err
			}
			return a.showGroup(g)
		}),
	}
	create.Flags().StringVar(&description, "description", "", "what it is for")
	list := &cobra.Command{
		Use: "list", Short: "List groups", Args: cobra.NoArgs, Example: "  hawser group list",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Groups(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, g := range all {
				rows = append(rows, []string{g.DisplayName, g.Description, g.ID})
			}
			return a.show(all, []string{"NAME", "DESCRIPTION", "ID"}, rows)
		}),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one group", Args: cobra.ExactArgs(1), Example: "  hawser group show readers",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.Group(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showGroup(g)
		}),
	}
	del := &cobra.Command{
		Use: "delete NAME", Short: "Delete a group", Args: cobra.ExactArgs(1), Example: "  hawser group delete readers",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error { return c.DeleteGroup(ctx, args[0]) }),
	}
	add := &cobra.Command{
		Use: "add GROUP MEMBER", Short: "Put a person, an app's identity or a group into a group", Args: cobra.ExactArgs(2), Example: "  hawser group add readers ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return c.AddMember(ctx, args[0], args[1])
		}),
	}
	remove := &cobra.Command{
		Use: "remove GROUP MEMBER", Short: "Take a member out of a group", Args: cobra.ExactArgs(2), Example: "  hawser group remove readers ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return c.RemoveMember(ctx, args[0], args[1])
		}),
	}
	members := &cobra.Command{
		Use: "members GROUP", Short: "List what a group holds", Args: cobra.ExactArgs(1), Example: "  hawser group members readers",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Members(ctx, args[0])
			if err != nil {
				return err
			}
			var rows [][]string
			for _, m := range all {
				name := m.UserPrincipalName
				if name == "" {
					name = m.DisplayName
				}
				rows = append(rows, []string{name, strings.TrimPrefix(m.Type, "#microsoft.graph."), m.ID})
			}
			return a.show(all, []string{"NAME", "TYPE", "ID"}, rows)
		}),
	}
	cmd.AddCommand(create, list, show, del, add, remove, members)
	return cmd
}

func (a *cli) showGroup(g client.Group) error {
	return a.fields(g, "name", g.DisplayName, "description", g.Description, "id", g.ID)
}
