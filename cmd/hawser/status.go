package main

import (
	"context"
	"fmt"
	"os"
	"sort"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the plane is", Args: cobra.NoArgs, Example: "  hawser status",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			var s map[string]any
			if err := c.Get(ctx, "/providers/Hawser.Status/status", &s); err != nil {
				return err
			}
			var keys []string
			for k := range s {
				keys = append(keys, k)
			}
			sort.Strings(keys)
			var pairs []string
			for _, k := range keys {
				pairs = append(pairs, k, fmt.Sprint(s[k]))
			}
			return a.fields(s, pairs...)
		}),
	}
}

func (a *cli) sealCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "seal", Short: "Encryption at rest"}
	var kek bool
	rotate := &cobra.Command{
		Use: "rotate", Short: "Make a new data key, or a new key-encryption key, without downtime", Args: cobra.NoArgs,
		Example: "  hawser seal rotate\n  hawser seal rotate --kek",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			var s struct {
				KEK      string `json:"kek"`
				DataKeys int    `json:"dataKeys"`
			}
			if err := c.Do(ctx, "POST", "/providers/Hawser.Seal/rotate", map[string]any{"kek": kek}, &s); err != nil {
				return err
			}
			return a.fields(s, "kek", s.KEK, "data keys", fmt.Sprint(s.DataKeys))
		}),
	}
	rotate.Flags().BoolVar(&kek, "kek", false, "replace the key-encryption key (its file) instead of the data key")
	cmd.AddCommand(rotate)
	return cmd
}

func (a *cli) trustCommand() *cobra.Command {
	return &cobra.Command{
		Use: "trust", Short: "Print the plane's CA certificate, to be added to a trust store", Args: cobra.NoArgs,
		Example: "  hawser trust | sudo tee /usr/local/share/ca-certificates/hawser.crt && sudo update-ca-certificates",
		RunE: a.with(func(_ context.Context, c *client.Client, _ []string) error {
			b, err := os.ReadFile(c.Plane().CAFile)
			if err != nil {
				return fmt.Errorf("cannot read the plane's CA: %w", err)
			}
			_, err = os.Stdout.Write(b)
			return err
		}),
	}
}
