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

const urlForms = "postgres://owner@host:5432/database, mysql://owner@host:3306/database, sqlserver://owner@host:1433/database or redis://owner@host:6379"

func (a *cli) attachCommand() *cobra.Command {
	var fromStdin bool
	cmd := &cobra.Command{
		Use: "attach NAME URL", Short: "Register a real backend with its owner credential, which is sealed", Args: cobra.ExactArgs(2),
		Long: "Register a real database server. The URL names the owner of the database; its password is sealed\nin the plane and used only to make and drop the roles that connections need.\n" +
			"A password on a command line can be seen by other users of the machine: --password-stdin avoids that.\n\n" +
			"The kind of server is that of the URL: " + urlForms + "\n(rediss:// for TLS; the owner may be left out there). Behind it can stand:\n" +
			"  sslmode=disable|prefer|require|verify-ca|verify-full   how the plane talks to the server (default: prefer, pinned to\n" +
			"                                                         what the server does today; verify-full for rediss://)\n" +
			"  sslrootcert=FILE                                       the CA of the server's certificate\n" +
			"  encrypt=strict                                         SQL Server: TDS 8, TLS before anything else",
		Example: "  hawser attach pg1 'postgres://owner@db.internal:5432/app?sslmode=verify-full' --password-stdin < password.txt\n" +
			"  hawser attach my1 'mysql://owner@db.internal:3306/shop?sslmode=require' --password-stdin < password.txt\n" +
			"  hawser attach sql1 'sqlserver://sa@db.internal:1433/shop?encrypt=strict&sslrootcert=ca.pem' --password-stdin < password.txt\n" +
			"  hawser attach cache1 'rediss://db.internal:6380' --password-stdin < password.txt",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			u, err := url.Parse(args[1])
			if err != nil {
				return usageError{errors.New("the URL cannot be read; it should look like " + urlForms)}
			}
			k := kindOfScheme(u.Scheme)
			if k == nil {
				return usageError{errors.New("the URL names no kind of server that can be attached; it should look like " + urlForms)}
			}
			if fromStdin {
				password, err := passwordFromStdin()
				if err != nil {
					return err
				}
				u.User = url.UserPassword(u.User.Username(), password)
			} else if _, shown := u.User.Password(); shown {
				fmt.Fprintln(os.Stderr, "hawser: the password was on the command line, where other users of this machine can see it; --password-stdin avoids that")
			}
			return a.attach(ctx, c, k, args[0], u)
		}),
	}
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the owner's password from standard input")
	return cmd
}

// passwordFromStdin reads one line.
func passwordFromStdin() (string, error) {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && line == "" {
		return "", errors.New("no password came on standard input")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// attach writes the server's resource, and its database's if the URL names one.
func (a *cli) attach(ctx context.Context, c *client.Client, k *serverKind, name string, u *url.URL) error {
	backend, err := backendOf(k, u)
	if err != nil {
		return err
	}
	password, _ := u.User.Password()
	properties := map[string]any{"administratorLogin": u.User.Username(), "administratorLoginPassword": password, "hawser": backend}
	switch k.typ {
	case typePostgres:
		properties["authConfig"] = map[string]any{"activeDirectoryAuth": "Enabled", "passwordAuth": "Disabled", "tenantId": c.Plane().TenantID}
	case typeRedis:
		properties["sku"] = map[string]any{"name": "Standard", "family": "C", "capacity": 0}
	}
	var r resource
	server := id(c, k.typ, name)
	if err := c.Put(ctx, server, map[string]any{"location": location, "properties": properties}, &r); err != nil {
		return err
	}
	if database, _ := backend["database"].(string); database != "" {
		if err := c.Put(ctx, server+"/databases/"+url.PathEscape(database), map[string]any{"location": location, "properties": map[string]any{}}, nil); err != nil {
			return err
		}
	}
	host := r.text("fullyQualifiedDomainName")
	if host == "" {
		host = r.text("hostName")
	}
	return a.fields(r, "name", r.Name, "kind", k.what, "host", host, "backend", net.JoinHostPort(u.Hostname(), strconv.Itoa(backend["port"].(int))), "id", r.ID)
}

// backendOf is the hawser object of a server: where the real one is.
func backendOf(k *serverKind, u *url.URL) (map[string]any, error) {
	port := k.port
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil {
			return nil, usageError{errors.New("the port is no number")}
		}
		port = n
	}
	q := u.Query()
	backend := map[string]any{"host": u.Hostname(), "port": port, "sslMode": q.Get("sslmode")}
	if ca := q.Get("sslrootcert"); ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("cannot read the backend's CA: %w", err)
		}
		backend["caCertificate"] = string(b)
	}
	database := strings.TrimPrefix(u.Path, "/")
	if k.typ == typeSQL && database == "" {
		database = q.Get("database")
	}
	if database != "" && k.hasDatabases() { // those of a cache are numbers, which a connection names
		backend["database"] = database
	}
	if h := q.Get("host"); h != "" && k.typ == typePostgres { // a Unix socket directory
		backend["host"] = h
	}
	if u.Scheme == "rediss" && q.Get("sslmode") == "" {
		backend["sslMode"] = "verify-full"
	}
	switch e := q.Get("encrypt"); {
	case e == "":
	case k.typ == typeSQL && strings.EqualFold(e, "strict"):
		backend["encrypt"] = "strict"
	default:
		return nil, usageError{errors.New("encrypt can be strict, for SQL Server; sslmode says the rest")}
	}
	return backend, nil
}
