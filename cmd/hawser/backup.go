package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/store"
)

func (a *cli) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Copy the plane's store to a new file while it runs", Args: cobra.ExactArgs(1),
		Long: "Copy the plane's SQLite store to a new file while it runs. What is sealed stays sealed: keep the\n" +
			"key-encryption key (the file kek in the data directory, or where yours comes from) apart from it.",
		Example: "  hawser backup /backup/plane-$(date +%F).db",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			file, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if err := c.Do(ctx, "POST", "/providers/Hawser.Status/backup", map[string]string{"file": file}, nil); err != nil {
				return err
			}
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			return a.fields(map[string]any{"file": file, "bytes": info.Size()}, "file", file, "bytes", fmt.Sprint(info.Size()))
		}),
	}
}

func (a *cli) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Put a backup into an empty data directory", Args: cobra.ExactArgs(1),
		Long: "Put a backup into an empty data directory, of a plane that does not run. Then give the plane the\n" +
			"key-encryption key that it had when the backup was made, and start it.",
		Example: "  hawser restore /backup/plane-2026-11-23.db --data ./plane\n  cp /safe/kek ./plane/kek && hawser up --data ./plane",
		RunE: func(_ *cobra.Command, args []string) error {
			dir := a.dataDir()
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("cannot make the data directory: %w", err)
			}
			if err := store.Restore(args[0], dir); err != nil {
				return fmt.Errorf("cannot restore: %w", err)
			}
			return a.fields(map[string]string{"data": dir}, "data", dir)
		},
	}
}
