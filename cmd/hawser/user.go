package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hawser/hawser/client"
)

func (a *cli) userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "People who sign in"}
	list := &cobra.Command{
		Use: "list", Short: "List people", Args: cobra.NoArgs, Example: "  hawser user list",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.People(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, p := range all {
				rows = append(rows, []string{p.UserPrincipalName, p.DisplayName, fmt.Sprint(p.AccountEnabled), p.ID})
			}
			return a.show(all, []string{"NAME", "DISPLAY NAME", "ENABLED", "ID"}, rows)
		}),
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one person", Args: cobra.ExactArgs(1), Example: "  hawser user show ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Person(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showPerson(p, "")
		}),
	}
	del := &cobra.Command{
		Use: "delete NAME", Short: "Delete a person", Args: cobra.ExactArgs(1), Example: "  hawser user delete ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error { return c.DeletePerson(ctx, args[0]) }),
	}
	able := func(use, short string, enabled bool) *cobra.Command {
		return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1), Example: "  hawser user " + use + " ann",
			RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
				return c.ChangePerson(ctx, args[0], map[string]any{"accountEnabled": enabled})
			})}
	}
	cmd.AddCommand(a.userCreateCommand(), a.userPasswordCommand(), a.userFactorsCommand(), a.userResetCommand(), list, show, del,
		able("disable", "Let a person sign in no more, and end what was signed in for", false), able("enable", "Let a disabled person sign in again", true))
	return cmd
}

func (a *cli) userCreateCommand() *cobra.Command {
	var p client.NewPerson
	var stdin bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a person; the password is made and shown once, or read from standard input", Args: cobra.ExactArgs(1),
		Example: "  hawser user create ann --display-name \"Ann O'Hara\"\n  printf %s \"$PASSWORD\" | hawser user create ann --password-stdin",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
			made := ""
			if p.Password, made, err = newPassword(stdin); err != nil {
				return err
			}
			p.Name = args[0]
			person, err := c.CreatePerson(ctx, p)
			if err != nil {
				return err
			}
			return a.showPerson(person, made)
		}),
	}
	cmd.Flags().StringVar(&p.DisplayName, "display-name", "", "name that others see (default: the part before @)")
	cmd.Flags().StringVar(&p.Mail, "mail", "", "address")
	cmd.Flags().BoolVar(&p.ChangeAtOnce, "change", false, "ask for another password at the first sign-in")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

func (a *cli) userPasswordCommand() *cobra.Command {
	var stdin, change bool
	cmd := &cobra.Command{
		Use: "password NAME", Short: "Give a person a new password, and end what was signed in for with the old one", Args: cobra.ExactArgs(1),
		Example: "  hawser user password ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			password, made, err := newPassword(stdin)
			if err != nil {
				return err
			}
			err = c.ChangePerson(ctx, args[0], map[string]any{"passwordProfile": map[string]any{"password": password, "forceChangePasswordNextSignIn": change}})
			if err != nil || made == "" {
				return err
			}
			return a.fields(map[string]string{"password": made}, "password", made)
		}),
	}
	cmd.Flags().BoolVar(&change, "change", false, "ask for another password at the next sign-in")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

func (a *cli) userFactorsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "factors NAME", Short: "List the ways in which a person proves who they are", Args: cobra.ExactArgs(1), Example: "  hawser user factors ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Methods(ctx, args[0])
			if err != nil {
				return err
			}
			var rows [][]string
			for _, m := range all {
				kind := strings.TrimSuffix(strings.TrimPrefix(m.Type, "#microsoft.graph."), "AuthenticationMethod")
				rows = append(rows, []string{kind, m.DisplayName, m.Created})
			}
			return a.show(all, []string{"KIND", "NAME", "SINCE"}, rows)
		}),
	}
}

func (a *cli) userResetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reset-factors NAME", Short: "Take every second factor from a person who has lost theirs, and end what was signed in for", Args: cobra.ExactArgs(1),
		Example: "  hawser user reset-factors ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			n, err := c.ResetMethods(ctx, args[0])
			if err != nil {
				return err
			}
			return a.fields(map[string]int{"removed": n}, "removed", fmt.Sprint(n))
		}),
	}
}

// showPerson shows a person, and once the password that was made.
func (a *cli) showPerson(p client.Person, made string) error {
	v := struct {
		client.Person
		Password string `json:"password,omitempty"`
	}{p, made}
	pairs := []string{"name", p.UserPrincipalName, "displayName", p.DisplayName, "enabled", fmt.Sprint(p.AccountEnabled), "id", p.ID}
	if made != "" {
		pairs = append(pairs, "password", made)
	}
	return a.fields(v, pairs...)
}

// maxPassword is the directory's limit in characters, as bytes.
const maxPassword = 1024

// newPassword reads a password, or makes one, which is then to be shown.
func newPassword(stdin bool) (password, made string, err error) {
	if !stdin {
		var b [15]byte // 120 bits
		_, _ = rand.Read(b[:])
		made = strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
		return made, made, nil
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(os.Stderr, "Password: ")
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		return string(b), "", err
	}
	b, err := io.ReadAll(io.LimitReader(os.Stdin, maxPassword+1))
	if err != nil {
		return "", "", err
	}
	if len(b) > maxPassword {
		return "", "", errors.New("the password is too long")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), "", nil
}
