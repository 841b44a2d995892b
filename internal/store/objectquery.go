package store

import (
	"context"
	"database/sql"
	"strings"
)

// Field is what objects can be sorted and compared by in the store.
type Field int

// The fields. Texts are compared folded, byte by byte.
const (
	FieldID Field = iota
	FieldName
	FieldUPN
	FieldMail
	FieldCreated // by Num
	FieldAppID
	FieldEnabled  // by Num: 0 or 1
	FieldResource // the ARM id of a managed identity
)

var fieldColumns = [...]string{FieldID: "id", FieldName: "name_sort", FieldUPN: "upn_sort", FieldMail: "mail_sort",
	FieldCreated: "created", FieldAppID: "app_id", FieldEnabled: "enabled", FieldResource: "resource_key"}

// isBytes tells the columns that hold folded texts as bytes.
func (f Field) isBytes() bool { return f == FieldName || f == FieldUPN || f == FieldMail }

// CondOp is how a Cond compares.
type CondOp int

// The operations of a Cond.
const (
	CondAll      CondOp = iota // all of Kids; without any: everything
	CondAny                    // any of Kids
	CondNot                    // not its one of Kids
	CondEq                     // Field is Text or Num
	CondLess                   // Field comes before
	CondMore                   // Field comes after
	CondPrefix                 // Field, of bytes, begins with Text
	CondContains               // FieldName or FieldUPN holds Text
)

// Cond is a condition on objects. Text must be folded.
type Cond struct {
	Op    CondOp
	Field Field
	Text  string
	Num   int64
	Kids  []Cond
}

// value is the argument that the condition's column is compared with.
func (c *Cond) value() any {
	switch {
	case c.Field == FieldCreated:
		return c.Num
	case c.Field == FieldEnabled:
		return c.Num != 0
	case c.Field.isBytes():
		return []byte(c.Text)
	}
	return c.Text
}

// cond writes a condition. What may be null is compared so that "not" of it
// is true.
func (w *where) cond(c *Cond) string {
	col := fieldColumns[c.Field]
	switch c.Op {
	case CondAll, CondAny:
		word, none := " and ", "1 = 1"
		if c.Op == CondAny {
			word, none = " or ", "1 = 0"
		}
		if len(c.Kids) == 0 {
			return none
		}
		parts := make([]string, len(c.Kids))
		for i := range c.Kids {
			parts[i] = w.cond(&c.Kids[i])
		}
		return "(" + strings.Join(parts, word) + ")"
	case CondNot:
		return "not coalesce(" + w.cond(&c.Kids[0]) + ", false)"
	case CondEq:
		return col + " = " + w.arg(c.value())
	case CondLess:
		return col + " < " + w.arg(c.value())
	case CondMore:
		return col + " > " + w.arg(c.value())
	case CondPrefix:
		if c.Text == "" || !c.Field.isBytes() {
			return "1 = 1"
		}
		end := []byte(c.Text)
		end[len(end)-1]++ // the bytes of UTF-8 stay below 0xff
		return "(" + col + " >= " + w.arg([]byte(c.Text)) + " and " + col + " < " + w.arg(end) + ")"
	}
	// Contains: the columns of text, which like can read.
	col = "name_key"
	if c.Field == FieldUPN {
		col = "upn_key"
	}
	// By the index alone: reading every row for its name would cost ten times as much.
	return "id in (select id from objects where " + col + " like " + w.arg("%"+escapeLike(c.Text)+"%") + " escape '!')"
}

// escapeLike makes a text stand for itself in a pattern with escape '!'.
func escapeLike(s string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s)
}

// Link selects objects by how they are tied to one.
type Link int

// The links; of is the object they start from.
const (
	LinkNone       Link = iota
	LinkMembers         // direct members of the group
	LinkAllMembers      // members of the group at any depth
	LinkMemberOf        // groups that hold the object directly
	LinkAllGroups       // groups that hold it at any depth
	LinkOwners          // owners of the object
	LinkOwned           // what the object owns
)

var linkQueries = [...]string{
	LinkMembers: `select member_id from members where group_id = $1`,
	LinkAllMembers: `with recursive below(id) as (select member_id from members where group_id = $1
		union select m.member_id from members m join below b on m.group_id = b.id) select id from below`,
	LinkMemberOf: `select group_id from members where member_id = $1`,
	LinkAllGroups: `with recursive above(id) as (select group_id from members where member_id = $1
		union select m.group_id from members m join above a on m.member_id = a.id) select id from above`,
	LinkOwners: `select owner from owners where object = $1`,
	LinkOwned:  `select object from owners where owner = $1`,
}

// ObjectList asks for a sorted page of objects.
type ObjectList struct {
	Kinds []string // any of; empty: all
	Link  Link
	Of    string // object the link starts from
	Where Cond   // the zero value is everything
	Sort  Field  // FieldID, FieldName, FieldUPN, FieldMail or FieldCreated; ties by id
	Desc  bool
	// After continues behind an object that a former page ended with.
	After *Object
	Limit int
}

// sortValue is what an object is sorted by.
func (q *ObjectList) sortValue(o *Object) any {
	switch q.Sort {
	case FieldName:
		return []byte(o.NameKey)
	case FieldUPN:
		return []byte(o.UPNKey)
	case FieldMail:
		return []byte(o.MailKey)
	}
	return int64(o.Created)
}

// conditions writes everything but order and page.
func (q *ObjectList) conditions() *where {
	w := &where{}
	if q.Link != LinkNone {
		w.arg(q.Of) // $1
		w.add("id in ("+linkQueries[q.Link]+")", true)
	}
	w.in("kind", q.Kinds)
	if q.Where.Op != CondAll || len(q.Where.Kids) > 0 {
		w.add(w.cond(&q.Where), true)
	}
	return w
}

func (q *ObjectList) sql() (string, []any) {
	w := q.conditions()
	than, dir := " > ", ""
	if q.Desc {
		than, dir = " < ", " desc"
	}
	order := " order by id" + dir
	if q.Sort != FieldID {
		order = " order by " + fieldColumns[q.Sort] + dir + ", id" + dir
	}
	if a := q.After; a != nil && q.Sort == FieldID {
		w.add("id"+than+w.arg(a.ID), true)
	} else if a != nil {
		w.add("("+fieldColumns[q.Sort]+", id)"+than+"("+w.arg(q.sortValue(a))+", "+w.arg(a.ID)+")", true)
	}
	return `select ` + objectColumns + ` from objects` + w.text() + order + w.limit(q.Limit), w.args
}

// ListObjects reads a page. Its SQL has as many forms as strangers can think
// of, so no statement is kept for it.
func (s *Store) ListObjects(ctx context.Context, q ObjectList) ([]Object, error) {
	text, args := q.sql()
	var out []Object
	err := s.rowsOnce(ctx, text, args, objectInto(&out))
	return out, err
}

// CountObjects counts what ListObjects would list without After and Limit.
func (s *Store) CountObjects(ctx context.Context, q ObjectList) (n int64, err error) {
	w := q.conditions()
	err = s.rowsOnce(ctx, `select count(*) from objects`+w.text(), w.args, func(r *sql.Rows) error { return r.Scan(&n) })
	return n, err
}

// rowsOnce is rows for a statement that is not worth keeping.
func (s *Store) rowsOnce(ctx context.Context, q string, args []any, each func(*sql.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, 4*readTimeout)
	defer cancel()
	rs, err := s.db.QueryContext(ctx, q, args...)
	return eachRow(rs, err, each)
}

// LinkedIDs lists the ids of one link's objects, in order; at most limit.
func (s *Store) LinkedIDs(ctx context.Context, link Link, of string, limit int) ([]string, error) {
	var out []string
	err := s.rows(ctx, `select id from objects where id in (`+linkQueries[link]+`) order by id limit $2`, []any{of, int64(limit)}, stringInto(&out))
	return out, err
}

// CredentialsOf lists the credentials of several objects, oldest first.
func (s *Store) CredentialsOf(ctx context.Context, owners []string) ([]Credential, error) {
	if len(owners) == 0 {
		return nil, nil
	}
	w := &where{}
	w.in("owner", owners)
	var out []Credential
	err := s.rowsOnce(ctx, `select owner, id, kind, hash, body, expires, created from credentials`+w.text()+` order by created, id`, w.args, credentialInto(&out))
	return out, err
}
