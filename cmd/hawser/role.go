package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

const authorization = "/providers/Microsoft.Authorization/"

func (a *cli) roleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "role", Short: "Role definitions and assignments (RBAC)"}
	var to, scope string
	assign := &cobra.Command{
		Use: "assign ROLE", Short: "Give somebody a role at a scope", Args: cobra.ExactArgs(1),
		Example: "  hawser role assign 'Key Vault Secrets User' --to web --scope kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.roleAssign(ctx, c, args[0], to, scope)
		}),
	}
	remove := &cobra.Command{
		Use: "remove ROLE", Short: "Take a role at a scope from somebody", Args: cobra.ExactArgs(1),
		Example: "  hawser role remove 'Key Vault Secrets User' --to web --scope kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.roleRemove(ctx, c, args[0], to, scope)
		}),
	}
	for _, x := range []*cobra.Command{assign, remove} {
		x.Flags().StringVar(&to, "to", "", "app, identity, user, group, or object id")
		x.Flags().StringVar(&scope, "scope", "", "vault, server or app by name, VAULT/secrets/NAME, or an ARM id")
		_ = x.MarkFlagRequired("to")
		_ = x.MarkFlagRequired("scope")
	}
	var at string
	list := &cobra.Command{
		Use: "list", Short: "List role definitions, or the assignments at a scope", Args: cobra.NoArgs,
		Example: "  hawser role list --scope kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if at != "" {
				return a.assignments(ctx, c, at)
			}
			return a.definitions(ctx, c)
		}),
	}
	list.Flags().StringVar(&at, "scope", "", "list the assignments that are effective here")
	cmd.AddCommand(assign, remove, list)
	return cmd
}

type definition struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		RoleName    string `json:"roleName"`
		Type        string `json:"type"`
		Description string `json:"description"`
	} `json:"properties"`
}

type assignment struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType"`
		Scope            string `json:"scope"`
	} `json:"properties"`
}

func (a *cli) definitions(ctx context.Context, c *client.Client) error {
	all, err := client.List[definition](ctx, c, "/subscriptions/"+c.Plane().SubscriptionID+authorization+"roleDefinitions")
	if err != nil {
		return err
	}
	var rows [][]string
	for _, d := range all {
		rows = append(rows, []string{d.Properties.RoleName, d.Properties.Type, d.Name})
	}
	return a.show(all, []string{"ROLE", "TYPE", "ID"}, rows)
}

func (a *cli) assignments(ctx context.Context, c *client.Client, at string) error {
	scope, err := scopeOf(ctx, c, at)
	if err != nil {
		return err
	}
	all, err := client.List[assignment](ctx, c, strings.TrimSuffix(scope, "/")+authorization+"roleAssignments?$filter="+url.QueryEscape("atScope()"))
	if err != nil {
		return err
	}
	names := map[string]string{}
	defs, err := client.List[definition](ctx, c, "/subscriptions/"+c.Plane().SubscriptionID+authorization+"roleDefinitions")
	if err != nil {
		return err
	}
	for _, d := range defs {
		names[strings.ToLower(d.Name)] = d.Properties.RoleName
	}
	var rows [][]string
	for _, x := range all {
		rows = append(rows, []string{names[strings.ToLower(last(x.Properties.RoleDefinitionID))], x.Properties.PrincipalID, x.Properties.PrincipalType, x.Properties.Scope})
	}
	return a.show(all, []string{"ROLE", "PRINCIPAL", "TYPE", "SCOPE"}, rows)
}

// definitionID finds a role by name or GUID.
func definitionID(ctx context.Context, c *client.Client, role string) (string, error) {
	base := "/subscriptions/" + c.Plane().SubscriptionID + authorization + "roleDefinitions"
	if isGUID(role) {
		return base + "/" + role, nil
	}
	all, err := client.List[definition](ctx, c, base+"?$filter="+url.QueryEscape("roleName eq '"+strings.ReplaceAll(role, "'", "''")+"'"))
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("there is no role %q; hawser role list shows them", role)
	}
	return all[0].ID, nil
}

// assignmentOf finds what people's words for role, principal and scope mean.
func assignmentOf(ctx context.Context, c *client.Client, role, to, at string) (def, who, scope string, err error) {
	if def, err = definitionID(ctx, c, role); err != nil {
		return "", "", "", err
	}
	if who, err = principalOf(ctx, c, to); err != nil {
		return "", "", "", err
	}
	scope, err = scopeOf(ctx, c, at)
	return def, who, scope, err
}

func (a *cli) roleAssign(ctx context.Context, c *client.Client, role, to, at string) error {
	def, who, scope, err := assignmentOf(ctx, c, role, to, at)
	if err != nil {
		return err
	}
	var out assignment
	body := map[string]any{"properties": map[string]any{"roleDefinitionId": def, "principalId": who}}
	path := strings.TrimSuffix(scope, "/") + authorization + "roleAssignments/" + newGUID()
	if err := c.Put(ctx, path, body, &out); err != nil {
		if client.IsStatus(err, 409) {
			return fmt.Errorf("%s has the role %q at %s already", to, role, scope)
		}
		return err
	}
	return a.fields(out, "role", role, "principal", who, "scope", scope, "id", out.ID)
}

func (a *cli) roleRemove(ctx context.Context, c *client.Client, role, to, at string) error {
	def, who, scope, err := assignmentOf(ctx, c, role, to, at)
	if err != nil {
		return err
	}
	all, err := client.List[assignment](ctx, c, strings.TrimSuffix(scope, "/")+authorization+"roleAssignments?$filter="+url.QueryEscape("principalId eq '"+who+"'"))
	if err != nil {
		return err
	}
	removed := 0
	for _, x := range all {
		if equalFold(last(x.Properties.RoleDefinitionID), last(def)) && equalFold(strings.TrimSuffix(x.Properties.Scope, "/"), strings.TrimSuffix(scope, "/")) {
			if err := c.Delete(ctx, x.ID); err != nil {
				return err
			}
			removed++
		}
	}
	if removed == 0 {
		return fmt.Errorf("%s does not have the role %q at exactly this scope; hawser role list --scope shows where it comes from", to, role)
	}
	return nil
}

func (a *cli) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why WHO ACTION WHERE", Short: "Say whether WHO may do ACTION at WHERE, and by which assignment", Args: cobra.ExactArgs(3),
		Example: "  hawser why web Microsoft.KeyVault/vaults/secrets/getSecret/action kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			who, err := principalOf(ctx, c, args[0])
			if err != nil {
				return err
			}
			scope, err := scopeOf(ctx, c, args[2])
			if err != nil {
				return err
			}
			var d struct {
				Allowed    bool   `json:"allowed"`
				Assignment string `json:"assignment,omitempty"`
				Role       string `json:"role,omitempty"`
				Via        string `json:"via,omitempty"`
				Reason     string `json:"reason"`
			}
			if err := c.Action(ctx, strings.TrimSuffix(scope, "/")+"/providers/Hawser.Authorization", "why",
				map[string]any{"principalId": who, "action": args[1]}, &d); err != nil {
				return err
			}
			answer := "denied"
			if d.Allowed {
				answer = "allowed"
			}
			if err := a.fields(d, "answer", answer, "reason", d.Reason, "role", d.Role, "assignment", d.Assignment, "through group", d.Via); err != nil {
				return err
			}
			return nil
		}),
	}
}
