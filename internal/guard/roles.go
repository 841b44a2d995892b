package guard

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Action is an operation as RBAC names it. Control actions are what ARM does
// to a resource; data actions are what is done with what is inside it.
type Action struct {
	Name string
	Data bool
	key  string
}

// Control makes a control-plane action such as Microsoft.Web/sites/read.
func Control(name string) Action { return Action{Name: name, key: strings.ToLower(name)} }

// Data makes a data-plane action such as
// Microsoft.KeyVault/vaults/secrets/getSecret/action.
func Data(name string) Action { return Action{Name: name, Data: true, key: strings.ToLower(name)} }

// dataPrefixes are where data actions begin; below them those that end in
// /action or are no plain resource operation act on what is inside.
var dataPrefixes = []string{
	"microsoft.keyvault/vaults/secrets/", "microsoft.keyvault/vaults/keys/", "microsoft.keyvault/vaults/certificates/",
	"microsoft.dbforpostgresql/flexibleservers/login/",
}

// Named makes an action of a name alone, for people who ask about it: a data
// action if its name is one that data planes use.
func Named(name string) Action {
	key := strings.ToLower(name)
	for _, p := range dataPrefixes {
		if strings.HasPrefix(key, p) && strings.HasSuffix(key, "/action") {
			return Data(name)
		}
	}
	return Control(name)
}

// Permission is one block of a role definition.
type Permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

// Role is a role definition.
type Role struct {
	ID          string // GUID, lower case
	Name        string
	Description string
	BuiltIn     bool
	Permissions []Permission

	memo  sync.Map // Action → bool; bounded by maxMemo
	memos atomic.Int32
}

// Allows reports whether the role permits an action. NotActions take away from
// the same role only; they deny nothing that another assignment gives.
func (r *Role) Allows(a Action) bool {
	if v, ok := r.memo.Load(a); ok {
		return v.(bool)
	}
	v := false
	for i := range r.Permissions {
		p := &r.Permissions[i]
		yes, no := p.Actions, p.NotActions
		if a.Data {
			yes, no = p.DataActions, p.NotDataActions
		}
		if anyMatch(yes, a.key) && !anyMatch(no, a.key) {
			v = true
			break
		}
	}
	if len(a.key) <= maxActionLength && r.memos.Load() < maxMemo {
		if _, there := r.memo.LoadOrStore(a, v); !there {
			r.memos.Add(1)
		}
	}
	return v
}

// maxActionLength and maxMemo keep strangers' actions (hawser why) from
// filling memos: the plane's own actions are below 200.
const (
	maxActionLength = 256
	maxMemo         = 1024
)

func anyMatch(patterns []string, key string) bool {
	for _, p := range patterns {
		if matches(strings.ToLower(p), key) {
			return true
		}
	}
	return false
}

// matches compares an action with a pattern in which * stands for any run of
// characters, slashes too.
func matches(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
