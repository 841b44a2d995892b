package arm

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// Hooks is what a type does at each step. All are optional.
type Hooks[P any] struct {
	// Extension lets the type sit on any resource:
	// {resource}/providers/{namespace}/{type}/{name}.
	Extension bool
	// NoState keeps properties.provisioningState out of replies.
	NoState bool
	// PutCreated is the status of a PUT that made a resource; 0 means 200,
	// the one that all of az 2.45's clients take (wire/arm-graph.md §1).
	PutCreated int
	// Status is the status of every PUT; 0 means 200.
	Status int
	// Poll names in a PUT's reply an operation, which has ended: clients that
	// were made for a service which takes its time read a bare reply wrongly.
	Poll bool
	// DeleteStatus is the status of a DELETE that deleted; 0 means 200.
	DeleteStatus int

	// Check validates, defaults and normalises, outside any transaction; old
	// is nil on create. It may change r. It is where the secrets in a body move
	// to r.Secrets: what stays in r.Properties lies in clear.
	Check func(ctx context.Context, call *Call, r, old *Resource[P]) error
	// Apply writes what belongs to the resource, in its transaction, and may
	// change r (set Identity.PrincipalID, say). It may be run again with a
	// fresh copy of r, except that what r.Properties points to is shared: it
	// must not write through that.
	Apply func(tx *store.Tx, r, old *Resource[P]) error
	// After runs when the resource is committed; it cannot fail.
	After func(ctx context.Context, r, old *Resource[P])
	// Work makes the PUT a long operation: it runs after the commit, while
	// clients poll. Nil: the resource is ready at once. A changed r is saved.
	Work func(ctx context.Context, r, old *Resource[P]) error

	// Deleting runs before the transaction and may refuse.
	Deleting func(ctx context.Context, call *Call, r *Resource[P]) error
	// Delete removes what belongs to the resource, in its transaction.
	Delete func(tx *store.Tx, r *Resource[P]) error
	// Deleted runs when the deletion is committed.
	Deleted func(ctx context.Context, r *Resource[P])

	// View makes the properties that a reply shows; nil shows them as stored.
	// It sees no Secrets.
	View func(ctx context.Context, call *Call, r *Resource[P]) (any, error)
	// Actions are what POST {id}/{name} does, by name.
	Actions map[string]ResourceAction[P]
	// Documents are parts of the resource with addresses of their own, by path
	// below the resource, e.g. "config/appsettings".
	Documents map[string]Document[P]
}

// ResourceAction is a POST on a resource.
type ResourceAction[P any] struct {
	// Right is the RBAC suffix behind the type's name; "" means
	// "{name}/action".
	Right string
	// Run does it. r has its Secrets. A *rest.Reply sets status and headers.
	Run func(ctx context.Context, call *Call, r *Resource[P]) (any, error)
}

// Document is a part of a resource. Rights are those of
// {type}/{first word of its path}: read, write, and list/action for Secret.
type Document[P any] struct {
	// Read gives the document's properties. r has its Secrets.
	Read func(ctx context.Context, call *Call, r *Resource[P]) (any, error)
	// Write takes call.Properties into r, which is then saved as by a PUT of
	// the resource (Check is not run); nil: it cannot be written. It is run
	// again when somebody else wrote at the same time.
	Write func(ctx context.Context, call *Call, r *Resource[P]) error
	// Secret documents are read by POST {document}/list only.
	Secret bool
}

// Type is a resource type whose properties are a P.
type Type[P any] struct {
	about info
	hooks Hooks[P]
	api   *API
}

// AnyType is a *Type of any properties.
type AnyType interface {
	info() *info
	bind(*API)
	get(ctx context.Context, call *Call) (any, error)
	put(ctx context.Context, call *Call, patch bool) (any, error)
	remove(ctx context.Context, call *Call, row store.Resource) error
	view(ctx context.Context, call *Call, row store.Resource) (any, error)
	act(ctx context.Context, call *Call, action string) (any, error)
	document(ctx context.Context, call *Call, path, action string) (any, error)
	documents(ctx context.Context, call *Call, word string) (any, error)
}

// info is what is known of a type without its properties.
type info struct {
	name      string // Microsoft.KeyVault/vaults
	rights    string // what stands before /read in RBAC; the name but for groups
	versions  []string
	extension bool
	read      guard.Action
	write     guard.Action
	delete    guard.Action
	deleted   int             // status of a DELETE that deleted
	docs      map[string]bool // folded paths of documents
	// What a type of this package does in its own way; nil for all others.
	list    func(ctx context.Context, call *Call, scope az.ID) (any, error)
	head    func(ctx context.Context, call *Call) (any, error)
	fetch   func(ctx context.Context, call *Call) (any, error)
	put     func(ctx context.Context, call *Call) (any, error)
	discard func(ctx context.Context, call *Call) (any, error)
}

// namespace is the part before the first slash.
func (i *info) namespace() string {
	ns, _, _ := strings.Cut(i.name, "/")
	return ns
}

// depth is how many names an id of the type has behind its namespace.
func (i *info) depth() int { return strings.Count(i.name, "/") }

// Define makes a type. versions are for the providers list only: any
// well-formed api-version is served.
func Define[P any](name string, versions []string, h Hooks[P]) *Type[P] {
	t := &Type[P]{hooks: h, about: info{name: name, versions: versions, extension: h.Extension, deleted: h.DeleteStatus, docs: map[string]bool{}}}
	t.about.setRights(name)
	for path := range h.Documents {
		t.about.docs[strings.ToLower(path)] = true
	}
	return t
}

func (i *info) setRights(prefix string) {
	i.rights = prefix
	i.read, i.write, i.delete = guard.Control(prefix+"/read"), guard.Control(prefix+"/write"), guard.Control(prefix+"/delete")
}

func (t *Type[P]) info() *info { return &t.about }
func (t *Type[P]) bind(a *API) { t.api = a }

// Name is the type's name, e.g. Microsoft.KeyVault/vaults.
func (t *Type[P]) Name() string { return t.about.name }
