package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

// planeEnv is what GET /providers/Hawser.Status/environment adds to plane.json.
type planeEnv struct {
	client.Plane
	Admin *struct {
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
		ObjectID     string `json:"objectId"`
	} `json:"admin,omitempty"`
	User *struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	} `json:"user,omitempty"`
}

func (a *cli) envCommand() *cobra.Command {
	var as, tenant string
	var asJSON, azureNames bool
	cmd := &cobra.Command{
		Use: "env", Short: "Print shell exports that point unmodified Azure clients at the plane", Args: cobra.NoArgs,
		Example: "  eval \"$(hawser env --as admin)\"\n  hawser env --json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if as != "" && as != "admin" {
				return usageError{errors.New("--as knows only admin")}
			}
			if tenant != "alias" && tenant != "guid" {
				return usageError{errors.New("--tenant is alias or guid")}
			}
			e := planeEnv{Plane: c.Plane()}
			if as == "admin" || asJSON {
				if err := c.Get(ctx, "/providers/Hawser.Status/environment", &e); err != nil {
					return err
				}
			}
			if asJSON || a.output == "json" {
				return printJSON(os.Stdout, e)
			}
			return printExports(ctx, e, as == "admin", tenant, azureNames)
		}),
	}
	cmd.Flags().StringVar(&as, "as", "", "admin: add the administrator's client id and secret")
	cmd.Flags().StringVar(&tenant, "tenant", "alias", "alias (adfs: SDKs skip instance discovery) or guid")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&azureNames, "azure-names", false, "for a plane started with --azure-names: clients keep Azure's own names")
	return cmd
}

func printExports(ctx context.Context, e planeEnv, admin bool, tenant string, azureNames bool) error {
	vars := [][2]string{}
	add := func(k, v string) { vars = append(vars, [2]string{k, v}) }
	origin, _, _ := strings.Cut(strings.TrimPrefix(e.Authority, "https://"), "/")
	switch {
	case azureNames && !e.AzureNames:
		return errors.New("this plane does not answer as Azure's names: start it with hawser up --azure-names, or use hawser run APP --azure-names")
	case azureNames:
		add("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com")
		add("AZURE_TENANT_ID", e.TenantID)
	default:
		if err := resolves(ctx, "login."+e.Domain); err != nil {
			return err
		}
		add("AZURE_AUTHORITY_HOST", "https://"+origin)
		if tenant == "guid" {
			add("AZURE_TENANT_ID", e.TenantID)
		} else {
			add("AZURE_TENANT_ID", "adfs")
		}
	}
	add("AZURE_SUBSCRIPTION_ID", e.SubscriptionID)
	add("SSL_CERT_FILE", e.CABundle)
	add("NODE_EXTRA_CA_CERTS", e.CAFile)
	add("REQUESTS_CA_BUNDLE", e.CABundle)
	add("CURL_CA_BUNDLE", e.CABundle)
	if admin && e.Admin != nil {
		add("AZURE_CLIENT_ID", e.Admin.ClientID)
		add("AZURE_CLIENT_SECRET", e.Admin.ClientSecret)
	}
	for _, v := range vars {
		fmt.Printf("export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return nil
}

// resolves refuses to point a client at names that this machine cannot find:
// half-configured, it might ask the real Azure.
func resolves(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
		return fmt.Errorf("the name %s does not resolve here, so clients could not reach the plane; start it with --hosts auto as a user who may write the hosts file, name it in DNS, install libnss-myhostname, or use hawser run", host)
	}
	return nil
}

func (a *cli) tokenCommand() *cobra.Command {
	var app string
	cmd := &cobra.Command{
		Use: "token RESOURCE", Short: "Print a token of an app's identity for a resource", Args: cobra.ExactArgs(1),
		Example: "  hawser token https://vault.azure.net --app web",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if app == "" {
				var out struct {
					AccessToken string `json:"accessToken"`
					ExpiresOn   int64  `json:"expiresOn"`
				}
				if err := c.Do(ctx, "POST", "/providers/Hawser.Status/token", map[string]any{"resource": args[0]}, &out); err != nil {
					return err
				}
				return a.printToken(out, out.AccessToken)
			}
			t, err := c.RuntimeToken(ctx, c.SiteID(app), client.TokenRequest{Resource: args[0]})
			if err != nil {
				return err
			}
			return a.printToken(map[string]any{"accessToken": t.AccessToken, "expiresOn": t.ExpiresOn, "resource": args[0], "clientId": t.ClientID}, t.AccessToken)
		}),
	}
	cmd.Flags().StringVar(&app, "app", "", "the app whose system-assigned identity asks (default: the administrator)")
	return cmd
}

func (a *cli) printToken(v any, token string) error {
	if a.output == "json" {
		return printJSON(os.Stdout, v)
	}
	fmt.Println(token)
	return nil
}
