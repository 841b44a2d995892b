package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"

	"github.com/hawser/hawser/client"
)

func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", c) {
			return false
		}
	}
	return true
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// principalOf finds the object id behind what a person calls somebody: an
// object id, an app, a user-assigned identity, a user, a group, a service
// principal.
func principalOf(ctx context.Context, c *client.Client, who string) (string, error) {
	if isGUID(who) {
		return strings.ToLower(who), nil
	}
	var r resource
	if !strings.Contains(who, "@") {
		if err := c.Get(ctx, id(c, typeSite, who), &r); err == nil && r.Identity != nil && r.Identity.PrincipalID != "" {
			return r.Identity.PrincipalID, nil
		}
		if err := c.Get(ctx, id(c, typeIdentity, who), &r); err == nil && r.text("principalId") != "" {
			return r.text("principalId"), nil
		}
	}
	quoted := strings.ReplaceAll(who, "'", "''")
	for _, q := range []string{"users?$filter=userPrincipalName eq '" + quoted + "'", "groups?$filter=displayName eq '" + quoted + "'",
		"servicePrincipals?$filter=displayName eq '" + quoted + "'"} {
		path, filter, _ := strings.Cut(q, "=")
		var page struct {
			Value []struct {
				ID string `json:"id"`
			} `json:"value"`
		}
		if err := c.DoHost(ctx, "graph."+c.Plane().Domain, "GET", "/v1.0/"+path+"="+url.QueryEscape(filter), nil, &page); err != nil {
			if client.IsStatus(err, 404) {
				continue
			}
			return "", err
		}
		if len(page.Value) == 1 {
			return page.Value[0].ID, nil
		}
		if len(page.Value) > 1 {
			return "", fmt.Errorf("%q names %d principals; use the object id", who, len(page.Value))
		}
	}
	return "", fmt.Errorf("nobody is called %q: no app, identity, user, group or service principal", who)
}

// scopeOf finds the ARM id behind a short name of a scope.
func scopeOf(ctx context.Context, c *client.Client, scope string) (string, error) {
	if strings.HasPrefix(scope, "/") {
		return scope, nil
	}
	name, rest, _ := strings.Cut(scope, "/")
	var found []string
	for _, typ := range []string{typeVault, typePostgres, typeSite, typeIdentity} {
		var r resource
		if err := c.Get(ctx, id(c, typ, name), &r); err == nil {
			found = append(found, r.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("there is no vault, server, app or identity called %q; give a name or an ARM id", name)
	case 1:
		if rest != "" {
			return found[0] + "/" + rest, nil
		}
		return found[0], nil
	}
	return "", fmt.Errorf("%q is the name of several resources; give the ARM id, one of %s", name, strings.Join(found, ", "))
}
