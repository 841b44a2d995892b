package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hawser/hawser/client"
)

// accessPolicies are the built-in data access policies of a cache for the
// words of --access.
var accessPolicies = map[string]string{"read": "Data Reader", "write": "Data Contributor", "owner": "Data Owner"}

// policyAssignment gives somebody a data access policy of a cache.
type policyAssignment struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		Policy string `json:"accessPolicyName"`
		Object string `json:"objectId"`
		Alias  string `json:"objectIdAlias"`
		State  string `json:"provisioningState"`
	} `json:"properties"`
}

// policyAdd is principal add for a cache: who logs in there is named by object
// id, so there is no role, but a data access policy.
func (a *cli) policyAdd(ctx context.Context, c *client.Client, cache, who string, f principalFlags) error {
	if f.role != "" || f.database != "" {
		return usageError{errors.New("a cache has no roles and no rights by database: leave --role and --database out; --policy or --access says what may be done")}
	}
	policy := f.policy
	if policy == "" {
		if policy = accessPolicies[f.access]; policy == "" {
			return usageError{errors.New("--access must be read, write or owner")}
		}
	}
	oid, err := principalOf(ctx, c, who)
	if err != nil {
		return err
	}
	name := oid
	all, err := client.List[policyAssignment](ctx, c, cache+"/accessPolicyAssignments")
	if err != nil {
		return err
	}
	for _, one := range all { // one principal has one policy: this changes it
		if equalFold(one.Properties.Object, oid) {
			name = one.Name
		}
	}
	body := map[string]any{"properties": map[string]any{"accessPolicyName": policy, "objectId": oid, "objectIdAlias": who}}
	var made policyAssignment
	if err := c.Put(ctx, cache+"/accessPolicyAssignments/"+name, body, &made); err != nil {
		return err
	}
	return a.fields(made, "policy", made.Properties.Policy, "principal", oid, "cache", last(cache), "name", made.Name)
}

func (a *cli) policies(ctx context.Context, c *client.Client, cache string) error {
	all, err := client.List[policyAssignment](ctx, c, cache+"/accessPolicyAssignments")
	if err != nil {
		return err
	}
	var rows [][]string
	for _, p := range all {
		rows = append(rows, []string{p.Name, p.Properties.Alias, p.Properties.Object, p.Properties.Policy, p.Properties.State})
	}
	return a.show(all, []string{"NAME", "ALIAS", "PRINCIPAL", "MAY", "STATUS"}, rows)
}

func (a *cli) policyRemove(ctx context.Context, c *client.Client, cache, who string) error {
	all, err := client.List[policyAssignment](ctx, c, cache+"/accessPolicyAssignments")
	if err != nil {
		return err
	}
	for _, p := range all {
		if equalFold(p.Name, who) || equalFold(p.Properties.Alias, who) || equalFold(p.Properties.Object, who) {
			return c.Delete(ctx, p.ID)
		}
	}
	return fmt.Errorf("the cache %s has no access policy assignment %q; hawser principal list shows them", last(cache), strings.TrimSpace(who))
}
