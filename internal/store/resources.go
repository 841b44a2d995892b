package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Resource is one ARM resource as stored. Body is the JSON of everything but
// id, name and type; Sealed holds what must not lie in clear, sealed by the
// owner of the type under Place{"resources", ID.Key(), …}.
type Resource struct {
	ID      az.ID
	ETag    string
	Body    []byte
	Sealed  []byte
	Created az.Micros
	Updated az.Micros
}

const resourceColumns = `id, etag, body, sealed, created, updated`

func scanResource(scan func(...any) error) (Resource, error) {
	var r Resource
	var id, body string
	if err := scan(&id, &r.ETag, &body, &r.Sealed, (*int64)(&r.Created), (*int64)(&r.Updated)); err != nil {
		return r, err
	}
	r.Body = []byte(body)
	var err error
	r.ID, err = az.ParseID(id)
	return r, err
}

// Resource reads one resource; ok is false if there is none.
func (s *Store) Resource(ctx context.Context, id az.ID) (r Resource, ok bool, err error) {
	ok, err = s.row(ctx, `select `+resourceColumns+` from resources where key = $1`, []any{id.Key()}, resourceDest(&r)...)
	return r, ok, err
}

// Resource reads one resource inside a transaction.
func (tx *Tx) Resource(id az.ID) (r Resource, ok bool, err error) {
	ok, err = tx.row(`select `+resourceColumns+` from resources where key = $1`, []any{id.Key()}, resourceDest(&r)...)
	return r, ok, err
}

func resourceDest(r *Resource) []any {
	return []any{(*idColumn)(&r.ID), &r.ETag, &r.Body, &r.Sealed, (*int64)(&r.Created), (*int64)(&r.Updated)}
}

// idColumn scans a text column into an az.ID.
type idColumn az.ID

// Scan implements sql.Scanner.
func (c *idColumn) Scan(v any) error {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case []byte:
		text = string(v)
	}
	id, err := az.ParseID(text)
	*c = idColumn(id)
	return err
}

// PutResource writes a resource: a new one if etag "" was expected, else only
// over the version that has that etag. It returns Precondition if another
// version is there. Created is kept from the first write.
func (tx *Tx) PutResource(r Resource, expected string) error {
	tx.changed(TopicResource, r.ID.Key())
	if expected == "" {
		_, err := tx.exec(`insert into resources
			(key, id, type_key, parent, group_key, subscription, etag, body, sealed, created, updated)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)`,
			r.ID.Key(), r.ID.String(), strings.ToLower(r.ID.Type()), r.ID.Parent().Key(), groupKey(r.ID),
			strings.ToLower(r.ID.Subscription()), r.ETag, string(r.Body), r.Sealed, int64(tx.now))
		return err
	}
	n, err := tx.exec(`update resources set etag = $1, body = $2, sealed = $3, updated = $4 where key = $5 and etag = $6`,
		r.ETag, string(r.Body), r.Sealed, int64(tx.now), r.ID.Key(), expected)
	if err == nil && n == 0 {
		return az.Errorf(az.Precondition, "PreconditionFailed", "The resource was changed by another request; read it again and repeat.")
	}
	return err
}

// groupKey is the folded id of the resource group that the id lies in, or "".
func groupKey(id az.ID) string {
	if id.ResourceGroup() == "" {
		return ""
	}
	return strings.ToLower("/subscriptions/" + id.Subscription() + "/resourcegroups/" + id.ResourceGroup())
}

// DeleteResource removes one resource; it is no error if there is none.
func (tx *Tx) DeleteResource(id az.ID) (deleted bool, err error) {
	n, err := tx.exec(`delete from resources where key = $1`, id.Key())
	if n > 0 {
		tx.changed(TopicResource, id.Key())
	}
	return n > 0, err
}

// ResourceQuery selects resources by equality on what is not empty. Results
// come in the order of their folded ids.
type ResourceQuery struct {
	Type          string // e.g. Microsoft.KeyVault/vaults
	Parent        az.ID  // the direct parent, unless Root
	ResourceGroup az.ID  // anywhere in the group, unless Root
	Subscription  string
	After         string // folded id after which to continue
	Limit         int    // 0: all
}

func (q ResourceQuery) sql() (string, []any) {
	var where []string
	var args []any
	add := func(cond string, v any) {
		args = append(args, v)
		where = append(where, strings.ReplaceAll(cond, "?", "$"+itoa(len(args))))
	}
	if q.Type != "" {
		add("type_key = ?", strings.ToLower(q.Type))
	}
	if !q.Parent.IsRoot() {
		add("parent = ?", q.Parent.Key())
	}
	if !q.ResourceGroup.IsRoot() {
		add("group_key = ?", q.ResourceGroup.Key())
	}
	if q.Subscription != "" {
		add("subscription = ?", strings.ToLower(q.Subscription))
	}
	if q.After != "" {
		add("key > ?", q.After)
	}
	text := `select ` + resourceColumns + ` from resources`
	if len(where) > 0 {
		text += ` where ` + strings.Join(where, " and ")
	}
	text += ` order by key`
	if q.Limit > 0 {
		args = append(args, int64(q.Limit))
		text += ` limit $` + itoa(len(args))
	}
	return text, args
}

// Resources lists resources.
func (s *Store) Resources(ctx context.Context, q ResourceQuery) ([]Resource, error) {
	text, args := q.sql()
	var out []Resource
	err := s.rows(ctx, text, args, func(rs *sql.Rows) error {
		r, err := scanResource(rs.Scan)
		out = append(out, r)
		return err
	})
	return out, err
}

// Resources lists resources inside a transaction.
func (tx *Tx) Resources(q ResourceQuery) ([]Resource, error) {
	text, args := q.sql()
	var out []Resource
	err := tx.rows(text, args, func(rs *sql.Rows) error {
		r, err := scanResource(rs.Scan)
		out = append(out, r)
		return err
	})
	return out, err
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}
