package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
	words "github.com/hawser/hawser/internal/az"
)

type principalFlags struct{ database, access, role, policy string }

func (a *cli) principalCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "principal", Short: "Who is which role in a database: people, groups, apps"}
	var f principalFlags
	add := &cobra.Command{
		Use: "add SERVER WHO", Short: "Give a person, group or app a role in a database, and the right to log in", Args: cobra.ExactArgs(2),
		Long: "Give a person, group or app a role in a database, and the right to log in through the gateway. People of a\ngroup of a PostgreSQL server log in as themselves, with a token: each has a database role of the same name as the\naccount, which is a " +
			"member of the group's, so that row-level security tells them apart. On a cache, --policy or\n--access names the data access policy that is assigned. It is safe to repeat.",
		Example: "  hawser principal add pg1 sales --database shop --access read\n  hawser principal add pg1 ann@hawser.localhost --database shop --access write\n" +
			"  hawser principal add my1 sales --database shop --access write\n  hawser principal add cache1 worker --policy 'Data Reader'",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			k, server, err := serverNamed(ctx, c, args[0])
			if err != nil {
				return err
			}
			if k.typ == typeRedis {
				return a.policyAdd(ctx, c, server, args[1], f)
			}
			return a.principalAdd(ctx, c, k, server, args[1], f)
		}),
	}
	add.Flags().StringVar(&f.database, "database", "", "the database (default: the server's only one)")
	add.Flags().StringVar(&f.access, "access", "read", "read, write or owner")
	add.Flags().StringVar(&f.role, "role", "", "the role's name in the database (default: WHO)")
	add.Flags().StringVar(&f.policy, "policy", "", "of a cache: a data access policy, such as 'Data Contributor', or one of your own")
	list := &cobra.Command{
		Use: "list SERVER", Short: "List the roles of a server that are somebody's", Args: cobra.ExactArgs(1), Example: "  hawser principal list pg1\n  hawser principal list cache1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error { return a.principals(ctx, c, args[0]) }),
	}
	remove := &cobra.Command{
		Use: "remove SERVER ROLE", Short: "Take a role from whom it was given to; open sessions end", Args: cobra.ExactArgs(2), Example: "  hawser principal remove pg1 sales",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.principalRemove(ctx, c, args[0], args[1])
		}),
	}
	cmd.AddCommand(add, list, remove)
	return cmd
}

func (a *cli) principalRemove(ctx context.Context, c *client.Client, server, role string) error {
	k, base, err := serverNamed(ctx, c, server)
	if err != nil {
		return err
	}
	if k.typ == typeRedis {
		return a.policyRemove(ctx, c, base, role)
	}
	all, err := client.List[databaseRole](ctx, c, base+"/principals")
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Properties.RoleName == role {
			return c.Delete(ctx, r.ID)
		}
	}
	return fmt.Errorf("the server %s has no role %q that is somebody's; hawser principal list shows them", last(base), role)
}

// databaseRole is a role that is somebody's.
type databaseRole struct {
	ID         string `json:"id"`
	Properties struct {
		RoleName      string `json:"roleName"`
		PrincipalID   string `json:"principalId"`
		PrincipalType string `json:"principalType"`
		Status        string `json:"status"`
		Uses          []struct {
			Database string `json:"database"`
			Access   string `json:"access"`
		} `json:"uses"`
	} `json:"properties"`
}

// roleResource is the name of a role's resource: the role's own where that can
// stand in an id.
func roleResource(role string) string {
	if strings.Trim(role, "abcdefghijklmnopqrstuvwxyz0123456789_-.") == "" && !strings.HasPrefix(role, "role-") && !strings.HasPrefix(role, ".") {
		return role
	}
	return "role-" + words.NamedGUID("hawser/role", role)
}

func (a *cli) principalAdd(ctx context.Context, c *client.Client, k *serverKind, base, who string, f principalFlags) error {
	if f.policy != "" {
		return usageError{errors.New("--policy is for caches; --access says what a role may do in a database")}
	}
	if f.role == "" {
		if f.role = who; isGUID(who) {
			return usageError{errors.New("name the role that the object id is to have with --role")}
		}
	}
	oid, err := principalOf(ctx, c, who)
	if err != nil {
		return err
	}
	if f.database, err = databaseOf(ctx, c, base, "databases", f.database); err != nil {
		return err
	}
	body := map[string]any{"roleName": f.role, "principalId": oid, "database": f.database, "access": f.access}
	var made databaseRole
	if err := c.Put(ctx, base+"/principals/"+roleResource(f.role), map[string]any{"properties": body}, &made); err != nil {
		return err
	}
	def, err := definitionID(ctx, c, k.login)
	if err != nil {
		return err
	}
	grant := map[string]any{"properties": map[string]any{"roleDefinitionId": def, "principalId": oid}}
	if err := c.Put(ctx, base+authorization+"roleAssignments/"+newGUID(), grant, nil); err != nil && !client.IsStatus(err, http.StatusConflict) {
		return err
	}
	return a.fields(made, "role", made.Properties.RoleName, "principal", oid, "database", f.database, "access", f.access, "status", made.Properties.Status)
}

func (a *cli) principals(ctx context.Context, c *client.Client, server string) error {
	k, base, err := serverNamed(ctx, c, server)
	if err != nil {
		return err
	}
	if k.typ == typeRedis {
		return a.policies(ctx, c, base)
	}
	all, err := client.List[databaseRole](ctx, c, base+"/principals")
	if err != nil {
		return err
	}
	var rows [][]string
	for _, r := range all {
		var uses []string
		for _, u := range r.Properties.Uses {
			if use := strings.Trim(u.Database+":"+u.Access, ":"); use != "" {
				uses = append(uses, use)
			}
		}
		rows = append(rows, []string{r.Properties.RoleName, r.Properties.PrincipalType, r.Properties.PrincipalID, strings.Join(uses, " "), r.Properties.Status})
	}
	return a.show(all, []string{"ROLE", "OF", "PRINCIPAL", "MAY", "STATUS"}, rows)
}
