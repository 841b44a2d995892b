package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

func (a *cli) consentCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "consent CLIENT RESOURCE SCOPE…", Short: "Let an application act for people towards another, without asking them", Args: cobra.MinimumNArgs(3),
		Long:    "Let an application act for signed-in people towards another, for everybody or for one person. What it may do\nis limited to the scopes, and to what the person may do. It is safe to repeat: scopes are added.",
		Example: "  hawser consent web api user_impersonation\n  hawser consent api 'Microsoft Graph' User.Read --user ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.consent(ctx, c, args[0], args[1], user, args[2:])
		}),
	}
	cmd.Flags().StringVar(&user, "user", "", "for this person only (default: everybody)")
	return cmd
}

type permissionGrant struct {
	ID          string `json:"id,omitempty"`
	ClientID    string `json:"clientId"`
	ConsentType string `json:"consentType"`
	PrincipalID string `json:"principalId,omitempty"`
	ResourceID  string `json:"resourceId"`
	Scope       string `json:"scope"`
}

func (a *cli) consent(ctx context.Context, c *client.Client, from, to, user string, scopes []string) error {
	g := permissionGrant{ConsentType: "AllPrincipals", Scope: strings.Join(scopes, " ")}
	asking, err := serviceOf(ctx, c, from)
	if err != nil {
		return err
	}
	resource, err := serviceOf(ctx, c, to)
	if err != nil {
		return err
	}
	if err := resource.offers(to, scopes); err != nil {
		return err
	}
	g.ClientID, g.ResourceID = asking.ID, resource.ID
	if user != "" {
		p, err := c.Person(ctx, user)
		if err != nil {
			return err
		}
		g.ConsentType, g.PrincipalID = "Principal", p.ID
	}
	have, err := client.GraphList[permissionGrant](ctx, c, "/oauth2PermissionGrants?$filter="+url.QueryEscape("clientId eq '"+g.ClientID+"'"))
	if err != nil {
		return err
	}
	for _, x := range have {
		if x.ResourceID == g.ResourceID && x.ConsentType == g.ConsentType && x.PrincipalID == g.PrincipalID {
			g.ID, g.Scope = x.ID, joined(x.Scope, scopes)
			err = c.Graph(ctx, http.MethodPatch, "/oauth2PermissionGrants/"+x.ID, map[string]string{"scope": g.Scope}, nil)
		}
	}
	if g.ID == "" && err == nil {
		err = c.Graph(ctx, http.MethodPost, "/oauth2PermissionGrants", g, &g)
	}
	if err != nil {
		return err
	}
	whom := "everybody"
	if user != "" {
		whom = user
	}
	return a.fields(g, "client", from, "resource", to, "scope", g.Scope, "for", whom)
}

// joined adds what is missing to a list of scopes.
func joined(have string, more []string) string {
	out := strings.Fields(have)
	for _, m := range more {
		if !slices.ContainsFunc(out, func(h string) bool { return strings.EqualFold(h, m) }) {
			out = append(out, m)
		}
	}
	return strings.Join(out, " ")
}

// service is a service principal with the scopes that it offers.
type service struct {
	ID     string `json:"id"`
	AppID  string `json:"appId"`
	Type   string `json:"servicePrincipalType"`
	Scopes []struct {
		Value string `json:"value"`
	} `json:"oauth2PermissionScopes"`
}

// offers refuses scopes that a resource does not have: a misspelt one would be
// kept and give nothing.
func (s service) offers(name string, scopes []string) error {
	var known []string
	for _, x := range s.Scopes {
		known = append(known, x.Value)
	}
	for _, want := range scopes {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, want) }) {
			return fmt.Errorf("%s offers no scope %q; it offers %s", name, want, strings.Join(known, ", "))
		}
	}
	return nil
}

// serviceOf finds the service principal that people mean: by application id, by
// the name of a registration, else by its own name, as that of Microsoft Graph.
func serviceOf(ctx context.Context, c *client.Client, name string) (service, error) {
	if !isGUID(name) {
		quoted := url.QueryEscape("displayName eq '" + strings.ReplaceAll(name, "'", "''") + "'")
		found, err := client.GraphList[service](ctx, c, "/applications?$filter="+quoted)
		if err == nil && len(found) == 0 {
			found, err = client.GraphList[service](ctx, c, "/servicePrincipals?$filter="+quoted)
			// An app's managed identity often has the app's name, and acts for nobody.
			found = slices.DeleteFunc(found, func(s service) bool { return s.Type == "ManagedIdentity" })
		}
		switch {
		case err != nil:
			return service{}, err
		case len(found) == 0:
			return service{}, fmt.Errorf("there is no application with the name %q; give its name or its application id", name)
		case len(found) > 1:
			return service{}, fmt.Errorf("%d applications have the name %q; give the application id", len(found), name)
		}
		name = found[0].AppID
	}
	var sp service
	err := c.Graph(ctx, http.MethodGet, "/servicePrincipals(appId='"+name+"')", nil, &sp)
	return sp, err
}
