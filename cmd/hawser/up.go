package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/server"
)

func (a *cli) upCommand() *cobra.Command {
	var cfg server.Config
	var file string
	var life time.Duration
	cmd := &cobra.Command{
		Use: "up", Short: "Run a plane", Args: cobra.NoArgs,
		Long: "Run a plane: token authority, vaults, apps, RBAC, audit and gateways in one process. The first start makes\nthe key-encryption key, the certificate authority, a tenant, a subscription and an administrator.",
		Example: "  hawser up --data ./plane\n" +
			"  hawser up --data /var/lib/hawser --store file:/etc/hawser/store --config /etc/hawser/hawser.toml",
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "", "HTTPS address of every HTTP surface (default 127.0.0.1:8443)")
	f.StringVar(&cfg.Domain, "domain", "", "domain of the plane's names (default hawser.localhost)")
	f.StringVar(&cfg.Store, "store", "", "sqlite, postgres://…, or file:PATH with such a URL (default sqlite)")
	f.StringVar(&cfg.PG, "pg", "", "address of the PostgreSQL gateway, or off (default 127.0.0.1:15432)")
	f.StringVar(&cfg.MySQL, "mysql", "", "address of the MySQL gateway, or off (default 127.0.0.1:13306, or a free port)")
	f.StringVar(&cfg.TDS, "tds", "", "address of the SQL Server gateway, or off (default 127.0.0.1:11433, or a free port)")
	f.StringVar(&cfg.Redis, "redis", "", "address of the Redis gateway, or off (default 127.0.0.1:16380, or a free port)")
	f.StringVar(&cfg.Admin, "admin", "", "loopback address of /metrics (default a free port)")
	f.StringVar(&cfg.IMDS, "imds", "", "auto or off: serve 169.254.169.254 where that is allowed (default auto)")
	f.StringVar(&cfg.Hosts, "hosts", "", "auto or off: keep the plane's names in the hosts file (default auto)")
	f.StringVar(&cfg.LocalServers, "local-servers", "", "auto or off: run PostgreSQL servers in the data directory where PostgreSQL is installed (default auto)")
	f.BoolVar(&cfg.AzureNames, "azure-names", false, "answer as Azure's own names too (needs port 443 and the hosts file)")
	f.StringVar(&cfg.ChallengeTenant, "challenge-tenant", "", "what challenges name: adfs or guid (default adfs)")
	f.DurationVar(&life, "identity-token-life", 0, "lifetime of managed-identity tokens (default 24h)")
	f.StringVar(&cfg.FederationCA, "federation-ca", "", "file of CAs trusted for outside token issuers, besides the system's")
	f.StringVar(&cfg.LogFormat, "log-format", "", "text or json (default text)")
	f.StringVar(&cfg.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&file, "config", "", "TOML file with the same settings; flags win")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		merged, err := mergeConfig(file, cfg)
		if err != nil {
			return usageError{err}
		}
		if life != 0 {
			merged.IdentityTokenLife = server.Duration(life)
		}
		if a.data != "" || merged.Data == "" {
			merged.Data = a.dataDir()
		}
		merged.Log, err = logger(merged.LogFormat, merged.LogLevel)
		if err != nil {
			return usageError{err}
		}
		if err := seal.HardenProcess(); err != nil {
			merged.Log.Warn("up: the process could not be protected from core dumps", "error", err)
		}
		s, err := server.Start(cmd.Context(), merged)
		if err != nil {
			return err
		}
		fmt.Printf("ready %s\n", s.URL())
		<-cmd.Context().Done()
		return s.Close()
	}
	return cmd
}

// mergeConfig reads the file and lays the flags over it.
func mergeConfig(file string, flags server.Config) (server.Config, error) {
	cfg := server.Config{}
	if file != "" {
		if err := server.ReadConfig(file, &cfg); err != nil {
			return cfg, err
		}
	}
	for _, p := range [][2]*string{{&cfg.Listen, &flags.Listen}, {&cfg.Domain, &flags.Domain}, {&cfg.Store, &flags.Store}, {&cfg.PG, &flags.PG},
		{&cfg.MySQL, &flags.MySQL}, {&cfg.TDS, &flags.TDS}, {&cfg.Redis, &flags.Redis},
		{&cfg.Admin, &flags.Admin}, {&cfg.IMDS, &flags.IMDS}, {&cfg.Hosts, &flags.Hosts}, {&cfg.LocalServers, &flags.LocalServers}, {&cfg.ChallengeTenant, &flags.ChallengeTenant},
		{&cfg.FederationCA, &flags.FederationCA}, {&cfg.LogFormat, &flags.LogFormat}, {&cfg.LogLevel, &flags.LogLevel}} {
		if *p[1] != "" {
			*p[0] = *p[1]
		}
	}
	cfg.AzureNames = cfg.AzureNames || flags.AzureNames
	return cfg, nil
}

func logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("--log-level is debug, info, warn or error, not %q", level)
		}
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return nil, fmt.Errorf("--log-format is text or json, not %q", format)
}
