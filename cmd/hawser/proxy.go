package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/internal/proxy"
)

func (a *cli) proxyCommand() *cobra.Command {
	var c proxy.StandAlone
	var clientID string
	cmd := &cobra.Command{
		Use: "proxy URL…", Short: "Stand in front of databases that take tokens, for programs that know none", Args: cobra.MinimumNArgs(1),
		Long: "Open a port on this machine for each database, that asks for no password: whoever connects is logged in with a token\n" +
			"of the environment's identity, found as Azure's SDKs find it. The databases are Azure's or a plane's; TLS to them is verified.",
		Example: "  hawser proxy postgres://web@srv1.postgres.database.azure.com/app\n" +
			"  hawser proxy 'sqlserver://srv1.database.windows.net?database=app' --listen 127.0.0.1:14330\n" +
			"  hawser proxy rediss://cache1.redis.cache.windows.net:6380 --unix /run/app/redis.sock\n" +
			"  hawser proxy postgres://job@srv1.postgres.database.azure.com/app --health 127.0.0.1:9090 --quit-on-idle 10m",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if c.Credential, err = proxy.AzureCredential(clientID); err != nil {
				return err
			}
			c.URLs, c.Clock = args, time.Now
			c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
			c.Ready = func(addresses []string) { fmt.Println("ready " + strings.Join(addresses, " ")) }
			return proxy.Serve(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&c.Listen, "listen", nil, "where programs connect, host:port; one for each URL in turn (default the usual port on 127.0.0.1)")
	f.StringArrayVar(&c.Unix, "unix", nil, "a Unix socket in place of a port; one for each URL in turn")
	f.StringVar(&c.User, "user", "", "the role to log in as, where the URL names none (default the person's own)")
	f.StringVar(&clientID, "client-id", "", "client id of a user-assigned managed identity")
	f.BoolVar(&c.AnyUser, "any-user", false, "let every user in who reaches the port, not only the one who started this")
	f.StringVar(&c.CAFile, "ca", "", "file with the certificates to trust in place of the system's")
	f.StringVar(&c.Health, "health", "", "serve /startup, /liveness and /readiness at host:port")
	f.BoolVar(&c.QuitPath, "quitquitquit", false, "let POST /quitquitquit at --health end it")
	f.DurationVar(&c.Idle, "quit-on-idle", 0, "end, with success, when nobody was connected for so long")
	f.DurationVar(&c.Drain, "drain", 10*time.Second, "time that open connections have after SIGTERM")
	f.IntVar(&c.Sessions, "max-connections", 0, "connections at once to each database (default 5000)")
	return cmd
}
