package vault

import (
	"encoding/json"
	"math/bits"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// accessPolicy lets an object (a person, an application's principal or a
// group) do something in a vault that goes by policies. With an application
// id it holds only for requests that this application makes for the object.
type accessPolicy struct {
	TenantID      string      `json:"tenantId"`
	ObjectID      string      `json:"objectId"`
	ApplicationID string      `json:"applicationId,omitempty"`
	Permissions   permissions `json:"permissions"`
}

type permissions struct {
	Keys         []string `json:"keys,omitempty"`
	Secrets      []string `json:"secrets,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	Storage      []string `json:"storage,omitempty"`
}

// maxPolicies is Key Vault's limit of access policies in a vault.
// Source: "Assign a Key Vault access policy", up to 1024 entries.
const maxPolicies = 1024

// The words of permissions. Source: Permissions of the Key Vault management
// REST API, 2023-07-01. Every list knows allWord too.
var (
	secretWords      = []string{"get", "list", "set", "delete", "backup", "restore", "recover", "purge"}
	keyWords         = strings.Fields("get list update create import delete recover backup restore decrypt encrypt unwrapKey wrapKey verify sign purge release rotate getrotationpolicy setrotationpolicy")
	certificateWords = strings.Fields("get list delete create import update managecontacts getissuers listissuers setissuers deleteissuers manageissuers recover purge backup restore")
	storageWords     = strings.Fields("get list delete set update regeneratekey recover purge backup restore setsas listsas getsas deletesas")
)

const allWord = "all"

// kinds are the lists of permissions with the words that each may hold.
func (p *permissions) kinds() []struct {
	name  string
	list  *[]string
	words []string
} {
	return []struct {
		name  string
		list  *[]string
		words []string
	}{{"keys", &p.Keys, keyWords}, {"secrets", &p.Secrets, secretWords}, {"certificates", &p.Certificates, certificateWords}, {"storage", &p.Storage, storageWords}}
}

// same reports whether two entries are about the same holder.
func (a *accessPolicy) same(b *accessPolicy) bool {
	return strings.EqualFold(a.ObjectID, b.ObjectID) && strings.EqualFold(a.ApplicationID, b.ApplicationID)
}

// check validates a policy and writes ids and words as Azure does.
func (a *accessPolicy) check(tenant string) error {
	if a.TenantID == "" || strings.EqualFold(a.TenantID, az.AliasTenant) {
		a.TenantID = tenant
	}
	if !az.IsGUID(a.ObjectID) || a.ApplicationID != "" && !az.IsGUID(a.ApplicationID) {
		return armInvalid("BadRequest", "An access policy must have a GUID as its 'objectId', and as 'applicationId' if it is given.")
	}
	if !strings.EqualFold(a.TenantID, tenant) {
		return armInvalid("BadRequest", "An access policy must have the vault's own tenant, '%s', as its 'tenantId'.", tenant)
	}
	a.TenantID, a.ObjectID, a.ApplicationID = tenant, fold(a.ObjectID), fold(a.ApplicationID)
	for _, k := range a.Permissions.kinds() {
		if err := checkWords(k.name, k.list, k.words); err != nil {
			return err
		}
	}
	return nil
}

// checkWords refuses words that no permission has: one that was misspelt would
// be a right that its giver believes in. Each word is kept once.
func checkWords(name string, list *[]string, words []string) error {
	var out []string
	for _, given := range *list {
		word, ok := allWord, strings.EqualFold(given, allWord)
		for i := 0; !ok && i < len(words); i++ {
			word, ok = words[i], strings.EqualFold(given, words[i])
		}
		if !ok {
			return armInvalid("BadRequest", "The permission '%.40s' is not one that '%s' can have. It can have: %s, %s.", given, name, allWord, strings.Join(words, ", "))
		}
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	*list = out
	return nil
}

// checkPolicies validates all policies of a vault.
func checkPolicies(list []accessPolicy, tenant string) error {
	if len(list) > maxPolicies {
		return armInvalid("BadRequest", "A vault can have at most %d access policies. Give rights to groups instead.", maxPolicies)
	}
	seen := make(map[[2]string]bool, len(list))
	for i := range list {
		a := &list[i]
		if err := a.check(tenant); err != nil {
			return err
		}
		holder := [2]string{a.ObjectID, a.ApplicationID}
		if seen[holder] {
			return armInvalid("BadRequest", "The access policies have more than one entry for the object '%s'. Put its permissions into one.", a.ObjectID)
		}
		seen[holder] = true
	}
	return nil
}

// secretRights are permissions for secrets, as bits.
type secretRights uint16

const (
	mayGet secretRights = 1 << iota
	mayList
	maySet
	mayDelete
	mayBackup
	mayRestore
	mayRecover
	mayPurge
	mayAll secretRights = 1<<iota - 1
)

// word names a right of one bit.
func (r secretRights) word() string { return secretWords[bits.TrailingZeros16(uint16(r))] }

func bitsOf(words []string) (r secretRights) {
	for _, w := range words {
		if w == allWord {
			return mayAll
		}
		if i := slices.Index(secretWords, w); i >= 0 {
			r |= 1 << i
		}
	}
	return r
}

// policyIndex is a vault's policies, ready to decide with: by object id.
type policyIndex map[string][]policyEntry

type policyEntry struct {
	app    string // "": through any application
	rights secretRights
	record string // what an audit record names
}

// live is a vault that can be asked, with its policies if it goes by those.
type live struct {
	store.Vault
	policies policyIndex
}

// newLive reads a stored vault. Its body holds the policies.
func newLive(row store.Vault) (*live, error) {
	l := &live{Vault: row}
	if row.RBAC || len(row.Body) == 0 {
		return l, nil
	}
	var list []accessPolicy
	if err := json.Unmarshal(row.Body, &list); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	l.policies = make(policyIndex, len(list))
	for i := range list {
		a := &list[i]
		rights := bitsOf(a.Permissions.Secrets)
		if rights == 0 {
			continue
		}
		record := row.ID.String() + "/accessPolicies/" + a.ObjectID
		if a.ApplicationID != "" {
			record += "/" + a.ApplicationID
		}
		l.policies[a.ObjectID] = append(l.policies[a.ObjectID], policyEntry{a.ApplicationID, rights, record})
	}
	return l, nil
}

// holds returns the entry by which an object may do what need says, through
// the application that asks.
func (p policyIndex) holds(holder, app string, need secretRights) (record string, ok bool) {
	for _, e := range p[holder] {
		if e.rights&need == need && (e.app == "" || strings.EqualFold(e.app, app)) {
			return e.record, true
		}
	}
	return "", false
}

// storedPolicies is what the data plane's row keeps of a vault's policies.
func storedPolicies(p *properties) ([]byte, error) {
	if p.rbac() {
		return nil, nil
	}
	return json.Marshal(p.AccessPolicies)
}
