package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hawser/hawser/client"
)

// vaultVersion is the Key Vault api-version that commands send.
const vaultVersion = "api-version=7.4"

func (a *cli) vaultCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vault", Short: "Key vaults"}
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a vault", Args: cobra.ExactArgs(1), Example: "  hawser vault create kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var r resource
			body := map[string]any{"location": location, "properties": map[string]any{"tenantId": c.Plane().TenantID,
				"sku": map[string]any{"family": "A", "name": "standard"}, "enableRbacAuthorization": true, "accessPolicies": []any{}}}
			if err := c.Put(ctx, id(c, typeVault, args[0]), body, &r); err != nil {
				return err
			}
			return a.fields(r, "name", r.Name, "vaultUri", r.text("vaultUri"), "id", r.ID)
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List vaults", Args: cobra.NoArgs, Example: "  hawser vault list",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := client.List[resource](ctx, c, "/subscriptions/"+c.Plane().SubscriptionID+"/providers/"+typeVault)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, r := range all {
				rows = append(rows, []string{r.Name, r.text("vaultUri")})
			}
			return a.show(all, []string{"NAME", "URI"}, rows)
		}),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one vault", Args: cobra.ExactArgs(1), Example: "  hawser vault show kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var r resource
			if err := c.Get(ctx, id(c, typeVault, args[0]), &r); err != nil {
				return err
			}
			return a.fields(r, "name", r.Name, "vaultUri", r.text("vaultUri"), "id", r.ID)
		}),
	}
	del := &cobra.Command{
		Use: "delete NAME", Short: "Delete a vault; it can be recovered until its retention ends", Args: cobra.ExactArgs(1), Example: "  hawser vault delete kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return c.Delete(ctx, id(c, typeVault, args[0]))
		}),
	}
	cmd.AddCommand(create, list, show, del)
	return cmd
}

// secretBundle is what commands read of a secret.
type secretBundle struct {
	ID          string            `json:"id"`
	Value       string            `json:"value,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Attributes  struct {
		Enabled bool  `json:"enabled"`
		Created int64 `json:"created"`
		Updated int64 `json:"updated"`
		Expires int64 `json:"exp,omitempty"`
	} `json:"attributes"`
	DeletedDate int64 `json:"deletedDate,omitempty"`
}

func vaultHost(c *client.Client, name string) string {
	return strings.ToLower(name) + ".vault." + c.Plane().Domain
}

func (a *cli) secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Secrets of a vault"}
	set := &cobra.Command{
		Use: "set VAULT NAME [VALUE]", Short: "Set a secret; without VALUE it is read from standard input", Args: cobra.RangeArgs(2, 3),
		Example: "  printf %s \"$PASSWORD\" | hawser secret set kv1 db-password",
		RunE:    a.with(a.secretSet),
	}
	var ver string
	get := &cobra.Command{
		Use: "get VAULT NAME", Short: "Print a secret's value", Args: cobra.ExactArgs(2), Example: "  hawser secret get kv1 db-password",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var b secretBundle
			if err := c.DoHost(ctx, vaultHost(c, args[0]), "GET", secretPath(args[1])+"/"+url.PathEscape(ver)+"?"+vaultVersion, nil, &b); err != nil {
				return err
			}
			if a.output == "json" {
				return printJSON(os.Stdout, b)
			}
			fmt.Println(b.Value)
			return nil
		}),
	}
	get.Flags().StringVar(&ver, "version", "", "a version instead of the current one")
	var deleted bool
	list := &cobra.Command{
		Use: "list VAULT", Short: "List a vault's secrets, without values", Args: cobra.ExactArgs(1), Example: "  hawser secret list kv1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.secretList(ctx, c, args[0], deleted)
		}),
	}
	list.Flags().BoolVar(&deleted, "deleted", false, "list deleted secrets that can be recovered")
	plain := func(use, short, method, path string) *cobra.Command {
		return &cobra.Command{Use: use + " VAULT NAME", Short: short, Args: cobra.ExactArgs(2), Example: "  hawser secret " + use + " kv1 db-password",
			RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
				p := strings.Replace(path, "{}", url.PathEscape(args[1]), 1)
				return c.DoHost(ctx, vaultHost(c, args[0]), method, p+"?"+vaultVersion, nil, nil)
			})}
	}
	cmd.AddCommand(set, get, list,
		plain("delete", "Delete a secret; it can be recovered until its retention ends", "DELETE", "/secrets/{}"),
		plain("recover", "Recover a deleted secret", "POST", "/deletedsecrets/{}/recover"),
		plain("purge", "Remove a deleted secret for ever", "DELETE", "/deletedsecrets/{}"))
	return cmd
}

func secretPath(name string) string { return "/secrets/" + url.PathEscape(name) }

// maxSecret is Key Vault's limit on a value: 25 KB.
const maxSecret = 25600

func (a *cli) secretSet(ctx context.Context, c *client.Client, args []string) error {
	value, err := secretValue(args[2:])
	if err != nil {
		return err
	}
	var b secretBundle
	if err := c.DoHost(ctx, vaultHost(c, args[0]), "PUT", secretPath(args[1])+"?"+vaultVersion, map[string]any{"value": value}, &b); err != nil {
		return err
	}
	b.Value = ""
	return a.fields(b, "id", b.ID)
}

// secretValue takes the value from the argument, a prompt, or standard input
// (all of it, less one line end).
func secretValue(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(os.Stderr, "Value: ")
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		return string(b), err
	}
	b, err := io.ReadAll(io.LimitReader(os.Stdin, maxSecret+2))
	if err != nil {
		return "", err
	}
	if len(b) > maxSecret+1 {
		return "", errors.New("the value is larger than the 25 KB that a secret may have")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

func (a *cli) secretList(ctx context.Context, c *client.Client, vault string, deleted bool) error {
	path := "/secrets"
	if deleted {
		path = "/deletedsecrets"
	}
	all := []secretBundle{}
	if err := pages(ctx, c, vaultHost(c, vault), path+"?"+vaultVersion, &all); err != nil {
		return err
	}
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{last(s.ID), fmt.Sprint(s.Attributes.Enabled), time.Unix(s.Attributes.Updated, 0).UTC().Format(time.DateTime)})
	}
	return a.show(all, []string{"NAME", "ENABLED", "UPDATED"}, rows)
}

// pages reads a whole list of any host.
func pages[T any](ctx context.Context, c *client.Client, host, path string, out *[]T) error {
	return c.Pages(ctx, host, path, func(page json.RawMessage) error {
		var part []T
		if len(page) == 0 {
			return nil
		}
		if err := json.Unmarshal(page, &part); err != nil {
			return fmt.Errorf("cannot read the list: %w", err)
		}
		*out = append(*out, part...)
		return nil
	})
}
