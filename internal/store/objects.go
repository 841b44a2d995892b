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
	MailKey  string // folded address, written only; "" if none
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
	objectByUPN      = `select ` + objectColumns + ` from objects where upn_key = $1`
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

// ObjectByUPN reads the user with a user principal name.
func (s *Store) ObjectByUPN(ctx context.Context, upn string) (o Object, ok bool, err error) {
	ok, err = s.row(ctx, objectByUPN, []any{strings.ToLower(upn)}, o.dest()...)
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
	_, err := tx.exec(`insert into objects (id, kind, app_id, name_key, upn_key, resource_key, enabled, body, created, updated, name_sort, upn_sort, mail_sort)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12)`,
		o.ID, o.Kind, orNull(o.AppID), o.NameKey, orNull(o.UPNKey), orNull(o.Resource), o.Enabled, string(o.Body), int64(tx.now),
		[]byte(o.NameKey), []byte(o.UPNKey), []byte(o.MailKey))
	return err
}

// UpdateObject writes what may change of an object: names, state and body.
func (tx *Tx) UpdateObject(o Object) error {
	tx.changed(TopicObject, o.ID)
	_, err := tx.exec(`update objects set name_key = $1, upn_key = $2, enabled = $3, body = $4, updated = $5,
		name_sort = $6, upn_sort = $7, mail_sort = $8 where id = $9`,
		o.NameKey, orNull(o.UPNKey), o.Enabled, string(o.Body), int64(tx.now), []byte(o.NameKey), []byte(o.UPNKey), []byte(o.MailKey), o.ID)
	return err
}

// UnsortedObjects returns some objects that were written before objects could
// be sorted: UpdateObject makes each whole.
func (tx *Tx) UnsortedObjects(limit int) (out []Object, err error) {
	for _, kind := range []string{"User", "Group", "ServicePrincipal", "Application"} {
		err = tx.rows(`select `+objectColumns+` from objects where kind = $1 and name_sort is null limit $2`, []any{kind, int64(limit)}, objectInto(&out))
		if err != nil || len(out) > 0 {
			break
		}
	}
	return out, err
}

func objectInto(out *[]Object) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var o Object
		err := r.Scan(o.dest()...)
		*out = append(*out, o)
		return err
	}
}

// DeleteObject removes an object with its further names, its credentials, its
// ownerships and what it was granted or grants. It is no error if there is none.
func (tx *Tx) DeleteObject(id string) (deleted bool, err error) {
	tx.changed(TopicObject, id)
	if err := tx.removePeople(id); err != nil {
		return false, err
	}
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
	w := &where{}
	w.eq("kind", q.Kind)
	w.eq("name_key", strings.ToLower(q.Name))
	w.eq("upn_key", strings.ToLower(q.UPN))
	w.eq("app_id", strings.ToLower(q.AppID))
	if q.After != "" {
		w.add("id > "+w.arg(q.After), true)
	}
	if q.Prefix != "" {
		w.prefix("name_sort", strings.ToLower(q.Prefix))
	}
	if !q.Resource.IsRoot() {
		w.eq("resource_key", q.Resource.Key())
	}
	w.in("id", q.IDs)
	return `select ` + objectColumns + ` from objects` + w.text() + ` order by id` + w.limit(q.Limit), w.args
}

// prefix selects what begins with p in a column of bytes.
func (w *where) prefix(column, p string) {
	end := []byte(p)
	end[len(end)-1]++ // the bytes of UTF-8 stay below 0xff
	w.add(column+" >= "+w.arg([]byte(p))+" and "+column+" < "+w.arg(end), true)
}

// Objects lists objects.
func (s *Store) Objects(ctx context.Context, q ObjectQuery) ([]Object, error) {
	text, args := q.sql()
	var out []Object
	err := s.rows(ctx, text, args, objectInto(&out))
	return out, err
}
