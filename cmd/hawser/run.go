package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/internal/proxy"
	"github.com/hawser/hawser/internal/run"
	"github.com/hawser/hawser/internal/seal"
)

func (a *cli) runCommand() *cobra.Command {
	var cfg run.Config
	var onChange, dialect, doors string
	cmd := &cobra.Command{
		Use: "run APP [flags] -- COMMAND [ARG…]", Short: "Run a program as an app: with its identity, settings and secrets",
		Long: "Run a program with everything App Service would give it: the identity endpoint, the app's settings with\nKey Vault references resolved, its connections, and trust in the plane's certificates.",
		Example: "  hawser run web -- ./server --port 8080\n" +
			"  hawser run web --auth -- node server.js\n" +
			"  hawser run web --azure-names -- python3 app.py\n" +
			"  hawser run web --proxy -- psql",
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return errors.New("name the app, then -- and the program: hawser run APP -- COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			// The app is the same user's: it must not read out of its supervisor
			// by what right that one asks the plane.
			if err := seal.HideProcess(); err != nil {
				return err
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			cfg.Client, cfg.Site, cfg.Argv = c, args[0], args[1:]
			cfg.OnChange, cfg.Identity = run.OnChange(onChange), run.Dialect(dialect)
			cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
			// Signals are the program's: they are passed on and end nothing here,
			// but for one that comes before the program is there.
			cfg.Ended = cmd.Context().Done()
			if doors != "" {
				app, err := proxy.NewApp(proxy.Mode(doors))
				if err != nil {
					return usageError{err}
				}
				defer app.Close()
				cfg.Doors = app.Open
			}
			code, err := run.Run(context.WithoutCancel(cmd.Context()), cfg)
			if err != nil {
				fmt.Fprintf(os.Stderr, "hawser: %s\n", sentence(err))
			}
			if code != 0 {
				return exitStatus(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&onChange, "on-change", string(run.Restart), "when settings or secrets change: restart, signal (SIGHUP) or none")
	cmd.Flags().StringVar(&dialect, "identity", string(run.AppService), "form of the identity endpoint: app-service, imds, arc or cloud-shell")
	cmd.Flags().BoolVar(&cfg.AzureNames, "azure-names", false, "send Azure's own host names to the plane")
	cmd.Flags().DurationVar(&cfg.Grace, "grace", 0, "time from SIGTERM to SIGKILL at a restart (default 10s)")
	cmd.Flags().StringVar(&doors, "proxy", "", "open a port (tcp), a Unix socket (unix) or both (auto) to each database of the app that asks for no password")
	cmd.Flags().Lookup("proxy").NoOptDefVal = string(proxy.Auto)
	f := &cfg.Front
	cmd.Flags().BoolVar(&f.Auth, "auth", false, "let people in only who have signed in: built-in authentication in front of the app")
	cmd.Flags().StringVar(&f.Action, "auth-action", "", "who has not signed in gets: redirect (to the sign-in), 401, 403, or allow (default redirect)")
	cmd.Flags().StringVar(&f.Scope, "auth-scope", "", "scopes of the sign-in, such as \"openid profile offline_access api://…/user_impersonation\"")
	cmd.Flags().IntVar(&f.Port, "port", 0, "port that the app listens on; given to it as PORT (default a free one)")
	cmd.Flags().StringVar(&f.Upstream, "upstream-address", "", "where the plane reaches the app, if not on this machine's loopback: https://host:port")
	return cmd
}
