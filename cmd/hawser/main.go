// Command hawser is a plane (hawser up), what runs an app on one (hawser run),
// and the commands that look after it. One file per noun; every command but up
// talks to the plane through package client only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

// version is set when a release is built.
var version = "dev"

// Exit statuses. Source: contract, "Commands".
const (
	exitRefused = 1
	exitUsage   = 2
)

// cli is what every command shares: the global flags.
type cli struct {
	data   string
	output string
	c      *client.Client
}

// exitStatus ends the program with a status of its own (hawser run).
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a mistake in the words of a command.
type usageError struct{ error }

func main() { os.Exit(execute(os.Args[1:])) }

func execute(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli{}
	root := app.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var status exitStatus
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "hawser: %s\nSee '%s --help'.\n", sentence(usage.error), cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "hawser: %s\n", sentence(err))
	return exitRefused
}

func (a *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "hawser",
		Short:         "Managed identity, Key Vault and passwordless connections for any app, anywhere",
		Long:          "Hawser gives an app anywhere the App Service way of connecting to other services:\nan identity instead of secrets. Azure-compatible; not affiliated with Microsoft.",
		Example:       "  hawser up --data ./plane &\n  hawser app create web --data ./plane\n  hawser run web --data ./plane -- ./server",
		Version:       buildVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&a.data, "data", "", "data directory of the plane (default $HAWSER_DATA)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "table, json or tsv")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		switch a.output {
		case "table", "json", "tsv":
		default:
			return usageError{fmt.Errorf("--output is table, json or tsv, not %q", a.output)}
		}
		if err := cmd.ValidateRequiredFlags(); err != nil { // cobra's own check comes later and is no usageError
			return usageError{err}
		}
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.upCommand(), a.envCommand(), a.runCommand(), a.proxyCommand(), a.appCommand(), a.identityCommand(), a.vaultCommand(),
		a.secretCommand(), a.roleCommand(), a.userCommand(), a.groupCommand(), a.consentCommand(), a.principalCommand(), a.whyCommand(), a.attachCommand(), a.connectCommand(), a.connectionCommand(),
		a.tokenCommand(), a.auditCommand(), a.statusCommand(), a.doctorCommand(), a.sealCommand(), a.trustCommand(), a.azSetupCommand(),
		a.backupCommand(), a.restoreCommand())
	wrapUsage(root)
	return root
}

// wrapUsage makes wrong arguments and unknown commands usage errors.
func wrapUsage(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.Run == nil && c.RunE == nil {
		c.Args = func(cmd *cobra.Command, given []string) error {
			if len(given) > 0 {
				return usageError{fmt.Errorf("%q is no command of %s", given[0], cmd.CommandPath())}
			}
			return nil
		}
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range c.Commands() {
		wrapUsage(sub)
	}
}

func buildVersion() string {
	if version == "dev" {
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
			return info.Main.Version
		}
	}
	return version
}

// dataDir is where a plane lives when nobody says.
func (a *cli) dataDir() string {
	if a.data != "" {
		return a.data
	}
	if d := os.Getenv("HAWSER_DATA"); d != "" {
		return d
	}
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "hawser")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "hawser-data"
	}
	return filepath.Join(home, ".local", "share", "hawser")
}

// open finds the plane.
func (a *cli) open() (*client.Client, error) {
	if a.c != nil {
		return a.c, nil
	}
	o := client.Options{Data: a.data}
	if o.Data == "" && os.Getenv("HAWSER_URL") == "" {
		o.Data = a.dataDir()
	}
	c, err := client.Open(o)
	a.c = c
	return c, err
}

// with opens the plane and runs fn.
func (a *cli) with(fn func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.open()
		if err != nil {
			return err
		}
		return fn(cmd.Context(), c, args)
	}
}
