package vault

import (
	"context"
	"slices"

	"github.com/hawser/hawser/internal/arm"
)

// policyDocuments are PUT {vault}/accessPolicies/add, replace and remove. As in
// Azure they need Microsoft.KeyVault/vaults/accessPolicies/write, and a PUT of
// the whole vault vaults/write: whoever manages a vault that goes by policies
// can let anybody into it. Vaults that go by roles are not open to that.
func (v *Vaults) policyDocuments() map[string]arm.Document[properties] {
	out := map[string]arm.Document[properties]{}
	for word, change := range map[string]func(list []accessPolicy, given accessPolicy) []accessPolicy{
		"add": addPolicy, "replace": replacePolicy, "remove": removePolicy,
	} {
		out["accessPolicies/"+word] = arm.Document[properties]{
			Read: func(_ context.Context, _ *arm.Call, r *resource) (any, error) {
				return policyBody{r.Properties.AccessPolicies}, nil
			},
			Write: func(_ context.Context, c *arm.Call, r *resource) error { return v.changePolicies(c, r, change) },
		}
	}
	return out
}

type policyBody struct {
	AccessPolicies []accessPolicy `json:"accessPolicies"`
}

func (v *Vaults) changePolicies(c *arm.Call, r *resource, change func([]accessPolicy, accessPolicy) []accessPolicy) error {
	var given policyBody
	if err := c.DecodeProperties(&given); err != nil {
		return err
	}
	if given.AccessPolicies == nil {
		return armInvalid("BadRequest", "The property 'accessPolicies' is required.")
	}
	if err := checkPolicies(given.AccessPolicies, v.names.Tenant); err != nil {
		return err
	}
	list := slices.Clone(r.Properties.AccessPolicies) // what r points to is shared
	for _, a := range given.AccessPolicies {
		list = change(list, a)
	}
	if err := checkPolicies(list, v.names.Tenant); err != nil {
		return err
	}
	r.Properties.AccessPolicies = list
	return nil
}

func find(list []accessPolicy, of *accessPolicy) int {
	return slices.IndexFunc(list, func(a accessPolicy) bool { return a.same(of) })
}

// addPolicy adds permissions to those that the holder has.
func addPolicy(list []accessPolicy, given accessPolicy) []accessPolicy {
	i := find(list, &given)
	if i < 0 {
		return append(list, given)
	}
	was := list[i].Permissions
	more := given.Permissions.kinds()
	for n, k := range was.kinds() {
		*k.list = slices.Clone(*k.list)
		for _, word := range *more[n].list {
			if !slices.Contains(*k.list, word) {
				*k.list = append(*k.list, word)
			}
		}
	}
	list[i].Permissions = was
	return list
}

// replacePolicy gives the holder these permissions instead of its own.
func replacePolicy(list []accessPolicy, given accessPolicy) []accessPolicy {
	i := find(list, &given)
	if i < 0 {
		return append(list, given)
	}
	list[i] = given
	return list
}

// removePolicy takes permissions from the holder; without any left, its entry
// goes too. "all" in the request takes all of a kind; of "all" in the entry
// stays what is not named.
func removePolicy(list []accessPolicy, given accessPolicy) []accessPolicy {
	i := find(list, &given)
	if i < 0 {
		return list
	}
	was, left := list[i].Permissions, 0
	less := given.Permissions.kinds()
	for n, k := range was.kinds() {
		gone := *less[n].list
		var kept []string
		for _, word := range *k.list {
			if word == allWord && len(gone) > 0 && !slices.Contains(gone, allWord) {
				kept = append(kept, without(k.words, gone)...)
			} else if !slices.Contains(gone, word) && !slices.Contains(gone, allWord) {
				kept = append(kept, word)
			}
		}
		*k.list = kept
		left += len(kept)
	}
	if left == 0 {
		return slices.Delete(list, i, i+1)
	}
	list[i].Permissions = was
	return list
}

// without is the words that are not in gone: what is left of "all".
func without(words, gone []string) (out []string) {
	for _, w := range words {
		if !slices.Contains(gone, w) {
			out = append(out, w)
		}
	}
	return out
}
