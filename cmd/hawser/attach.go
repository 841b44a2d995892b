package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) attachCommand() *cobra.Command {
	var fromStdin bool
	cmd := &cobra.Command{
		Use: "attach NAME URL", Short: "Register a real backend with its owner credential, which is sealed", Args: cobra.ExactArgs(2),
		Long: "Register a real database server. The URL names the owner of the database; its password is sealed\nin the plane and used only to make and drop the roles that connections need.\n" +
			"A password on a command line can be seen by other users of the machine: --password-stdin avoids that.",
		Example: "  hawser attach pg1 'postgres://owner@db.internal:5432/app?sslmode=verify-full' --password-stdin < password.txt",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			u, err := url.Parse(args[1])
			if err != nil {
				return usageError{errors.New("the URL cannot be read; it should look like postgres://owner@host:5432/database")}
			}
			if fromStdin {
				line, err := bufio.NewReader(os.Stdin).ReadString('\n')
				if err != nil && line == "" {
					return errors.New("no password came on standard input")
				}
				u.User = url.UserPassword(u.User.Username(), strings.TrimRight(line, "\r\n"))
			} else if _, shown := u.User.Password(); shown {
				fmt.Fprintln(os.Stderr, "hawser: the password was on the command line, where other users of this machine can see it; --password-stdin avoids that")
			}
			switch u.Scheme {
			case "postgres", "postgresql":
				return a.attachPostgres(ctx, c, args[0], u)
			}
			if u.Scheme == "" {
				return usageError{errors.New("the URL names no kind of server; it should look like postgres://owner@host:5432/database")}
			}
			return fmt.Errorf("%s:// backends cannot be attached by this version; postgres:// can", u.Scheme)
		}),
	}
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the owner's password from standard input")
	return cmd
}

func (a *cli) attachPostgres(ctx context.Context, c *client.Client, name string, u *url.URL) error {
	password, _ := u.User.Password()
	port := 5432
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil {
			return usageError{errors.New("the port is no number")}
		}
		port = n
	}
	q := u.Query()
	backend := map[string]any{"host": u.Hostname(), "port": port, "sslMode": q.Get("sslmode")}
	if ca := q.Get("sslrootcert"); ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("cannot read the backend's CA: %w", err)
		}
		backend["caCertificate"] = string(b)
	}
	database := strings.TrimPrefix(u.Path, "/")
	if database != "" {
		backend["database"] = database
	}
	if h := q.Get("host"); h != "" { // a Unix socket directory
		backend["host"] = h
	}
	body := map[string]any{"location": location, "properties": map[string]any{
		"administratorLogin": u.User.Username(), "administratorLoginPassword": password, "hawser": backend,
		"authConfig": map[string]any{"activeDirectoryAuth": "Enabled", "passwordAuth": "Disabled", "tenantId": c.Plane().TenantID},
	}}
	var r resource
	server := id(c, typePostgres, name)
	if err := c.Put(ctx, server, body, &r); err != nil {
		return err
	}
	if database != "" {
		if err := c.Put(ctx, server+"/databases/"+url.PathEscape(database), map[string]any{"properties": map[string]any{}}, nil); err != nil {
			return err
		}
	}
	return a.fields(r, "name", r.Name, "host", r.text("fullyQualifiedDomainName"), "backend", net.JoinHostPort(u.Hostname(), strconv.Itoa(port)), "id", r.ID)
}
