package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Object is one directory object as stored. Body is the JSON of what only the
// directory itself reads; the other columns are what objects are found by.
type Object struct {
	ID       string // lower-case GUID
	Kind     string
	AppID    string // lower-case GUID; "" for people and groups
	NameKey  string // folded display name
	UPNKey   string // folded user principal name; "" if none
	Resource string // folded ARM id behind a managed identity; "" if none
	Enabled  bool
	Body     []byte
	Created  az.Micros
	Updated  az.Micros
}

const objectColumns = `id, kind, coalesce(app_id, ''), name_key, coalesce(upn_key, ''), coalesce(resource_key, ''), enabled, body, created, updated`

func (o *Object) dest() []any {
	return []any{&o.ID, &o.Kind, &o.AppID, &o.NameKey, &o.UPNKey, &o.Resource, &o.Enabled, &o.Body, (*int64)(&o.Created), (*int64)(&o.Updated)}
}

// orNull keeps "" out of unique indexes.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

const (
	objectByID       = `select ` + objectColumns + ` from objects where id = $1`
	objectByApp      = `select ` + objectColumns + ` from objects where kind = $1 and app_id = $2`
	objectByResource = `select ` + objectColumns + ` from objects where resource_key = $1`
	objectByName     = `select ` + objectColumns + ` from objects where id = (select object from object_names where name = $1)`
)

// Object reads one object; ok is false if there is none.
func (s *Store) Object(ctx context.Context, id string) (o Object, ok bool, err error) {
	ok, err = s.row(ctx, objectByID, []any{id}, o.dest()...)
	return o, ok, err
}

// Object reads one object inside a transaction.
func (tx *Tx) Object(id string) (o Object, ok bool, err error) {
	ok, err = tx.row(objectByID, []any{id}, o.dest()...)
	return o, ok, err
}

// ObjectByApp reads the application or service principal of an application id.
func (s *Store) ObjectByApp(ctx context.Context, kind, appID string) (o Object, ok bool, err error) {
	ok, err = s.row(ctx, objectByApp, []any{kind, appID}, o.dest()...)
	return o, ok, err
}

// ObjectByApp is the same inside a transaction.
func (tx *Tx) ObjectByApp(kind, appID string) (o Object, ok bool, err error) {
	ok, err = tx.row(objectByApp, []any{kind, appID}, o.dest()...)
	return o, ok, err
}

// ObjectByResource reads the managed identity of an ARM resource.
func (tx *Tx) ObjectByResource(id az.ID) (o Object, ok bool, err error) {
	ok, err = tx.row(objectByResource, []any{id.Key()}, o.dest()...)
	return o, ok, err
}

// ObjectByName reads the object that has a further name.
func (s *Store) ObjectByName(ctx context.Context, name string) (o Object, ok bool, err error) {
	ok, err = s.row(ctx, objectByName, []any{strings.ToLower(name)}, o.dest()...)
	return o, ok, err
}

// InsertObject adds an object; Conflict if its id, application id (within its
// kind), user principal name or resource is taken.
func (tx *Tx) InsertObject(o Object) error {
	tx.changed(TopicObject, o.ID)
	_, err := tx.exec(`insert into objects (id, kind, app_id, name_key, upn_key, resource_key, enabled, body, created, updated)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`,
		o.ID, o.Kind, orNull(o.AppID), o.NameKey, orNull(o.UPNKey), orNull(o.Resource), o.Enabled, string(o.Body), int64(tx.now))
	return err
}

// UpdateObject writes what may change of an object: names, state and body.
func (tx *Tx) UpdateObject(o Object) error {
	tx.changed(TopicObject, o.ID)
	_, err := tx.exec(`update objects set name_key = $1, upn_key = $2, enabled = $3, body = $4, updated = $5 where id = $6`,
		o.NameKey, orNull(o.UPNKey), o.Enabled, string(o.Body), int64(tx.now), o.ID)
	return err
}

// DeleteObject removes an object with its further names and credentials. It is
// no error if there is none.
func (tx *Tx) DeleteObject(id string) (deleted bool, err error) {
	tx.changed(TopicObject, id)
	if _, err := tx.exec(`delete from object_names where object = $1`, id); err != nil {
		return false, err
	}
	if _, err := tx.exec(`delete from credentials where owner = $1`, id); err != nil {
		return false, err
	}
	n, err := tx.exec(`delete from objects where id = $1`, id)
	return n > 0, err
}

// SetNames replaces an object's further names; Conflict if another has one.
func (tx *Tx) SetNames(object string, names []string) error {
	tx.changed(TopicObject, object)
	if _, err := tx.exec(`delete from object_names where object = $1`, object); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := tx.exec(`insert into object_names (name, object) values ($1, $2)`, strings.ToLower(name), object); err != nil {
			return err
		}
	}
	return nil
}

// ObjectQuery selects objects by what is not empty, in the order of their ids.
type ObjectQuery struct {
	Kind     string
	Name     string // display name, without regard to case
	Prefix   string // of the display name
	UPN      string
	AppID    string
	Resource az.ID
	IDs      []string // at most 1,000; the result has those that exist
	After    string   // id after which to continue
	Limit    int      // 0: all
}

func (q ObjectQuery) sql() (string, []any) {
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + itoa(len(args))
	}
	for _, c := range []struct{ cond, v string }{{"kind = ", q.Kind}, {"name_key = ", strings.ToLower(q.Name)},
		{"upn_key = ", strings.ToLower(q.UPN)}, {"app_id = ", strings.ToLower(q.AppID)}, {"id > ", q.After}} {
		if c.v != "" {
			where = append(where, c.cond+arg(c.v))
		}
	}
	if q.Prefix != "" {
		// substr counts characters in both databases; like would need its
		// wildcards escaped, and ranges depend on the collation.
		p := strings.ToLower(q.Prefix)
		where = append(where, "substr(name_key, 1, "+itoa(len([]rune(p)))+") = "+arg(p))
	}
	if !q.Resource.IsRoot() {
		where = append(where, "resource_key = "+arg(q.Resource.Key()))
	}
	if len(q.IDs) > 0 {
		in := make([]string, len(q.IDs))
		for i, id := range q.IDs {
			in[i] = arg(id)
		}
		where = append(where, "id in ("+strings.Join(in, ", ")+")")
	}
	text := `select ` + objectColumns + ` from objects`
	if len(where) > 0 {
		text += ` where ` + strings.Join(where, " and ")
	}
	text += ` order by id`
	if q.Limit > 0 {
		text += ` limit ` + arg(int64(q.Limit))
	}
	return text, args
}

// Objects lists objects.
func (s *Store) Objects(ctx context.Context, q ObjectQuery) ([]Object, error) {
	text, args := q.sql()
	var out []Object
	err := s.rows(ctx, text, args, func(r *sql.Rows) error {
		var o Object
		err := r.Scan(o.dest()...)
		out = append(out, o)
		return err
	})
	return out, err
}
