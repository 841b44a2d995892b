package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// Topics of the change feed for what stands in this file.
const (
	TopicGrant   = "grant"   // key: client id "/" principal id, which is empty for everybody's
	TopicAppRole = "approle" // key: the principal's id
)

// Grant lets a client use scopes of a resource for a person, or for everybody
// if Principal is empty. All three are object ids; Client and Resource are
// service principals'.
type Grant struct {
	ID, Client, Principal, Resource string
	Scopes                          string // parted by spaces
}

const grantColumns = `id, client, principal, resource, scopes`

func grantInto(out *[]Grant) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var g Grant
		err := r.Scan(&g.ID, &g.Client, &g.Principal, &g.Resource, &g.Scopes)
		*out = append(*out, g)
		return err
	}
}

// GrantQuery selects grants by what is not empty, in the order of their ids.
type GrantQuery struct {
	ID, Client, Resource string
	Principal            *string // a pointer to "" selects those for everybody
	After                string
	Limit                int // 0: all
}

func (q GrantQuery) sql() (string, []any) {
	w := &where{}
	w.eq("id", q.ID)
	w.eq("client", q.Client)
	w.eq("resource", q.Resource)
	if q.Principal != nil {
		w.add("principal = "+w.arg(*q.Principal), true)
	}
	if q.After != "" {
		w.add("id > "+w.arg(q.After), true)
	}
	return `select ` + grantColumns + ` from permission_grants` + w.text() + ` order by id` + w.limit(q.Limit), w.args
}

// Grants lists permission grants.
func (s *Store) Grants(ctx context.Context, q GrantQuery) ([]Grant, error) {
	var out []Grant
	text, args := q.sql()
	err := s.rows(ctx, text, args, grantInto(&out))
	return out, err
}

// Grants is the same inside a transaction.
func (tx *Tx) Grants(q GrantQuery) ([]Grant, error) {
	var out []Grant
	text, args := q.sql()
	err := tx.rows(text, args, grantInto(&out))
	return out, err
}

// PutGrant adds a grant, or changes the scopes of the one for the same client,
// principal and resource.
func (tx *Tx) PutGrant(g Grant) error {
	tx.changed(TopicGrant, g.Client+"/"+g.Principal)
	_, err := tx.exec(`insert into permission_grants (id, client, principal, resource, scopes) values ($1, $2, $3, $4, $5)
		on conflict (client, principal, resource) do update set scopes = excluded.scopes`, g.ID, g.Client, g.Principal, g.Resource, g.Scopes)
	return err
}

// DeleteGrant removes a grant that was read before.
func (tx *Tx) DeleteGrant(g Grant) error {
	tx.changed(TopicGrant, g.Client+"/"+g.Principal)
	_, err := tx.exec(`delete from permission_grants where id = $1`, g.ID)
	return err
}

// AppRoleAssignment gives a role of an application to a principal. Resource is
// the application's service principal.
type AppRoleAssignment struct {
	ID, Principal, Resource, Role string
	Created                       az.Micros
}

const appRoleColumns = `id, principal, resource, role, created`

func appRoleInto(out *[]AppRoleAssignment) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var a AppRoleAssignment
		err := r.Scan(&a.ID, &a.Principal, &a.Resource, &a.Role, (*int64)(&a.Created))
		*out = append(*out, a)
		return err
	}
}

// AppRoleQuery selects app role assignments by what is not empty, in the order
// of their ids.
type AppRoleQuery struct {
	ID, Resource string
	Principals   []string // at most 1,000
	After        string
	Limit        int // 0: all
}

func (q AppRoleQuery) sql() (string, []any) {
	w := &where{}
	w.eq("id", q.ID)
	w.eq("resource", q.Resource)
	w.in("principal", q.Principals)
	if q.After != "" {
		w.add("id > "+w.arg(q.After), true)
	}
	return `select ` + appRoleColumns + ` from app_role_assignments` + w.text() + ` order by id` + w.limit(q.Limit), w.args
}

// AppRoleAssignments lists app role assignments.
func (s *Store) AppRoleAssignments(ctx context.Context, q AppRoleQuery) ([]AppRoleAssignment, error) {
	var out []AppRoleAssignment
	text, args := q.sql()
	err := s.rows(ctx, text, args, appRoleInto(&out))
	return out, err
}

// AppRoleAssignments is the same inside a transaction.
func (tx *Tx) AppRoleAssignments(q AppRoleQuery) ([]AppRoleAssignment, error) {
	var out []AppRoleAssignment
	text, args := q.sql()
	err := tx.rows(text, args, appRoleInto(&out))
	return out, err
}

// InsertAppRoleAssignment adds one; Conflict if the principal has the role.
func (tx *Tx) InsertAppRoleAssignment(a AppRoleAssignment) error {
	tx.changed(TopicAppRole, a.Principal)
	_, err := tx.exec(`insert into app_role_assignments (id, principal, resource, role, created) values ($1, $2, $3, $4, $5)`,
		a.ID, a.Principal, a.Resource, a.Role, int64(tx.now))
	return err
}

// DeleteAppRoleAssignment removes one that was read before.
func (tx *Tx) DeleteAppRoleAssignment(a AppRoleAssignment) error {
	tx.changed(TopicAppRole, a.Principal)
	_, err := tx.exec(`delete from app_role_assignments where id = $1`, a.ID)
	return err
}

// removePeople ends everything in this file that names an object, as when it
// is deleted.
func (tx *Tx) removePeople(object string) error {
	var grants []Grant
	if err := tx.rows(`select `+grantColumns+` from permission_grants where client = $1 or principal = $1 or resource = $1`, []any{object}, grantInto(&grants)); err != nil {
		return err
	}
	for _, g := range grants {
		if err := tx.DeleteGrant(g); err != nil {
			return err
		}
	}
	var roles []AppRoleAssignment
	if err := tx.rows(`select `+appRoleColumns+` from app_role_assignments where principal = $1 or resource = $1`, []any{object}, appRoleInto(&roles)); err != nil {
		return err
	}
	for _, a := range roles {
		if err := tx.DeleteAppRoleAssignment(a); err != nil {
			return err
		}
	}
	_, err := tx.exec(`delete from owners where object = $1 or owner = $1`, object)
	return err
}

const ownersOf = `select owner from owners where object = $1 order by owner`

// OwnersOf lists the owners of an object, in the order of their ids.
func (s *Store) OwnersOf(ctx context.Context, object string) ([]string, error) {
	var out []string
	err := s.rows(ctx, ownersOf, []any{object}, stringInto(&out))
	return out, err
}

// OwnersOf is the same inside a transaction.
func (tx *Tx) OwnersOf(object string) ([]string, error) {
	var out []string
	err := tx.rows(ownersOf, []any{object}, stringInto(&out))
	return out, err
}

// OwnedBy lists what somebody owns, in the order of ids.
func (s *Store) OwnedBy(ctx context.Context, owner string) ([]string, error) {
	var out []string
	err := s.rows(ctx, `select object from owners where owner = $1 order by object`, []any{owner}, stringInto(&out))
	return out, err
}

// IsOwner reports whether somebody owns an object.
func (s *Store) IsOwner(ctx context.Context, object, owner string) (bool, error) {
	var one int64
	return s.row(ctx, `select 1 from owners where object = $1 and owner = $2`, []any{object, owner}, &one)
}

// AddOwner makes somebody an owner; Conflict if he is one.
func (tx *Tx) AddOwner(object, owner string) error {
	_, err := tx.exec(`insert into owners (object, owner) values ($1, $2)`, object, owner)
	return err
}

// RemoveOwner ends an ownership.
func (tx *Tx) RemoveOwner(object, owner string) (removed bool, err error) {
	n, err := tx.exec(`delete from owners where object = $1 and owner = $2`, object, owner)
	return n > 0, err
}

func stringInto(out *[]string) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var v string
		err := r.Scan(&v)
		*out = append(*out, v)
		return err
	}
}

// where collects conditions with their arguments.
type where struct {
	conds []string
	args  []any
}

func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return "$" + itoa(len(w.args))
}

// add adds a condition if there is cause to.
func (w *where) add(cond string, cause bool) {
	if cause {
		w.conds = append(w.conds, cond)
	}
}

// eq compares a column unless v is empty.
func (w *where) eq(column, v string) {
	if v != "" {
		w.add(column+" = "+w.arg(v), true)
	}
}

// in compares a column with a list unless that is empty.
func (w *where) in(column string, list []string) {
	if len(list) == 0 {
		return
	}
	// Filled up to a power of two, so that there are few different statements.
	size := 1
	for size < len(list) {
		size *= 2
	}
	in := make([]string, size)
	for i := range in {
		in[i] = w.arg(list[min(i, len(list)-1)])
	}
	w.add(column+" in ("+strings.Join(in, ", ")+")", true)
}

func (w *where) text() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " where " + strings.Join(w.conds, " and ")
}

func (w *where) limit(n int) string {
	if n == 0 {
		return ""
	}
	return " limit " + w.arg(int64(n))
}
