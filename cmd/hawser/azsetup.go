package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) azSetupCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "az-setup", Short: "Register the plane as a cloud of the installed az, and sign in as the administrator", Args: cobra.NoArgs,
		Long:    "Register and select the plane as a cloud of the installed az, and sign in as the administrator. What az\nkeeps goes where it always does: $AZURE_CONFIG_DIR, or ~/.azure. az trusts the plane's certificate\nthrough REQUESTS_CA_BUNDLE, which hawser env prints.",
		Example: "  export AZURE_CONFIG_DIR=$PWD/.azure\n  eval \"$(hawser env)\"\n  hawser az-setup && az group list",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			return a.azSetup(ctx, c, name)
		}),
	}
	cmd.Flags().StringVar(&name, "name", "Hawser", "name of the cloud")
	return cmd
}

func (a *cli) azSetup(ctx context.Context, c *client.Client, name string) error {
	if _, err := exec.LookPath("az"); err != nil {
		return errors.New("az is not installed; on Debian: apt-get install azure-cli")
	}
	e := planeEnv{}
	if err := c.Get(ctx, "/providers/Hawser.Status/environment", &e); err != nil {
		return err
	}
	p := c.Plane()
	if err := resolves(ctx, "login."+p.Domain); err != nil {
		return err
	}
	secret, err := secretFile(e.Admin.ClientSecret)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(secret)) }()
	cloud, err := cloudConfig(p)
	if err != nil {
		return err
	}
	register := "register"
	if exec.CommandContext(ctx, "az", "cloud", "show", "-n", name).Run() == nil {
		register = "update"
	}
	for _, args := range [][]string{
		{"cloud", register, "-n", name, "--cloud-config", cloud},
		{"cloud", "set", "-n", name},
		{"login", "--service-principal", "-u", e.Admin.ClientID, "--password=@" + secret /* it may begin with a dash */, "--tenant", p.TenantID},
	} {
		if err := az(ctx, p, args...); err != nil {
			return err
		}
	}
	return a.fields(map[string]string{"cloud": name, "subscription": p.SubscriptionID}, "cloud", name, "subscription", p.SubscriptionID)
}

// cloudConfig is the plane in az's own words (azure-cli core/cloud.py).
func cloudConfig(p client.Plane) (string, error) {
	u, err := url.Parse(p.ResourceManager)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{
		"endpoints": map[string]string{
			"management": p.ResourceManager + "/", "resource_manager": p.ResourceManager + "/", // az puts paths behind it
			"active_directory":                   p.Authority + "/adfs",
			"active_directory_resource_id":       "https://management.core.windows.net/",
			"active_directory_graph_resource_id": p.Graph + "/", "microsoft_graph_resource_id": p.Graph + "/",
			"ossrdbms_resource_id": "https://ossrdbms-aad.database.windows.net",
			"sql_management":       "https://management.core.windows.net:8443/", "gallery": "https://" + u.Host + "/", "portal": p.Portal,
		},
		"suffixes": map[string]string{
			"keyvault_dns": "." + p.Suffixes["vault"], "storage_endpoint": strings.TrimPrefix(p.Suffixes["blob"], "blob."),
			"sql_server_hostname": "." + p.Suffixes["sql"], "postgresql_server_endpoint": "." + p.Suffixes["postgres"],
			"mysql_server_endpoint": "." + p.Suffixes["mysql"],
		},
	})
	return string(b), err
}

// secretFile keeps the secret out of the process list: az reads @FILE.
func secretFile(secret string) (string, error) {
	dir, err := os.MkdirTemp("", "hawser-az-") // 0700
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "secret")
	return path, os.WriteFile(path, []byte(secret), 0o600)
}

func az(ctx context.Context, p client.Plane, args ...string) error {
	cmd := exec.CommandContext(ctx, "az", append(args, "--only-show-errors", "--output", "none")...)
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+p.CABundle, "AZURE_CORE_COLLECT_TELEMETRY=no")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("az %s failed: %s", strings.Join(args[:2], " "), strings.TrimSpace(string(out)))
	}
	return nil
}
